//! Only tenants whose contract includes the premium tier are eligible for the reasoning models.
//!
//! Begun by `odock-edge plugins new` from `brief.yaml`; from here on it is its owner's.

use std::collections::BTreeMap;

use odock_edge::plugin::prelude::*;

/// Its refusals, where the configuration says nothing else.
const REFUSED: Code = Code {
    code: "not_in_contract",
    status: 403,
    message: "your contract does not include this model",
    meaning: "Only tenants whose contract includes the premium tier are eligible for the reasoning models.",
    remedy: "Ask commercial-operations; the evidence record of the request id has what `tenant_eligibility` noted.",
};

/// What `plugins show tenant_eligibility` prints.
pub static MANIFEST: Manifest = Manifest {
    name: "tenant_eligibility",
    version: "0.1.0",
    author: "commercial-operations",
    category: "custom",
    kind: "policy",
    summary: "Only tenants whose contract includes the premium tier are eligible for the reasoning models.",
    gates: &[Gate::PreUpstream],
    styles: &[Style::Sequential],
    needs: &[Need::Block, Need::Storage(StorageScope::Organisations)],
    streams: false,
    evidence: &[("rule", "which rule refused")],
    codes: &[REFUSED],
    config_schema: schema_of::<Config>,
    build: |cx| Ok(Arc::new(TenantEligibility::build(cx.parse()?, cx.host.clone())?)),
};

/// Configuration of `tenant_eligibility`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Templates with the values one of which each must have, such as `"{organisation.metadata.plan}": [enterprise]`.
    require: BTreeMap<String, Vec<String>>,
    /// Status of a refusal.
    status: u16,
    /// Code of a refusal.
    code: String,
    /// Text of a refusal.
    message: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { require: BTreeMap::new(), status: REFUSED.status, code: REFUSED.code.to_owned(), message: REFUSED.message.to_owned() }
    }
}

struct TenantEligibility {
    config: Config,
    require: Vec<(Template, Vec<String>)>,
    host: Host,
}

impl TenantEligibility {
    fn build(config: Config, host: Host) -> Result<Self, BuildError> {
        if config.require.is_empty() {
            return Err(BuildError::at("require", "names nothing that a caller must have"));
        }
        let mut require = Vec::new();
        for (text, values) in &config.require {
            require.push((compiled(&format!("require.{text}"), text, &host)?, values.clone()));
        }
        Ok(Self { config, require, host })
    }

    fn refuse(&self) -> Verdict {
        let Config { status, code, message, .. } = &self.config;
        Verdict::Abort(Box::new(Denial::custom(*status, code, message)))
    }

    /// The first thing the caller must have and has not.
    fn missing(&self, cx: &View<'_>) -> Result<Option<String>, PluginError> {
        for (place, (template, values)) in self.require.iter().enumerate() {
            let value = template.render(cx, &self.host)?;
            if !value.is_some_and(|value| values.contains(&value)) {
                return Ok(Some(format!("require.{place}")));
            }
        }
        Ok(None)
    }
}

#[async_trait]
impl Plugin for TenantEligibility {
    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        if let Some(rule) = self.missing(cx)? {
            cx.note("rule", rule);
            return Ok(self.refuse());
        }
        Ok(Verdict::Next)
    }
}

fn compiled(at: &str, text: &str, host: &Host) -> Result<Template, BuildError> {
    Template::compile(text, host).map_err(|why| BuildError::at(at, why))
}
