//! Decides whether a request is allowed by what is known of it: rules over caller, organisation, team, user, model and
//! request; the first one that applies decides.

use crate::plugin::prelude::*;

mod condition;
mod config;

use config::{Config, Rules, Ruling};

/// The manifest, as printed by `plugins show tenant_eligibility`.
pub static MANIFEST: Manifest = Manifest {
    name: "tenant_eligibility",
    version: "1.0.0",
    author: "Odock",
    category: "policy",
    kind: "policy",
    summary: "Lets requests pass or refuses them by rules over caller, organisation, team, user and model metadata.",
    gates: &[Gate::PreRoute, Gate::PreUpstream],
    styles: &[Style::Sequential, Style::Parallel],
    needs: &[
        Need::Block,
        Need::Storage(StorageScope::Organisations),
        Need::Storage(StorageScope::Teams),
        Need::Storage(StorageScope::Users),
        Need::Storage(StorageScope::Models),
    ],
    streams: false,
    evidence: &[("rule", "name of the rule that decided, or `default`"), ("eligible", "`true` or `false`")],
    codes: &[config::NOT_ELIGIBLE],
    config_schema: schema_of::<Config>,
    build: |cx| Ok(Arc::new(TenantEligibility { rules: cx.parse::<Config>()?.compile(&cx.host)?, host: cx.host.clone() })),
};

struct TenantEligibility {
    rules: Rules,
    host: Host,
}

impl TenantEligibility {
    fn judge(&self, cx: &View<'_>) -> PluginResult {
        let mut decided = None;
        for rule in &self.rules.rules {
            if rule.when.holds(cx, &self.host)? {
                decided = Some(rule);
                break;
            }
        }
        let (name, ruling) = decided.map_or(("default", &self.rules.otherwise), |rule| (rule.name.as_str(), &rule.then));
        cx.note("rule", name);
        cx.note("eligible", if matches!(ruling, Ruling::Allow) { "true" } else { "false" });
        Ok(match ruling {
            Ruling::Allow => Verdict::Next,
            Ruling::Deny(denial) => Verdict::Abort(denial.clone()),
        })
    }
}

#[async_trait]
impl Plugin for TenantEligibility {
    async fn pre_route(&self, cx: &mut PreRoute<'_>) -> PluginResult {
        self.judge(cx)
    }

    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        self.judge(cx)
    }
}
