//! The enterprise policy engine decides about each call, by rules that other departments write.
//!
//! Begun by `odock-edge plugins new` from `brief.yaml`; from here on it is its owner's.

use odock_edge::plugin::prelude::*;

/// Its refusals, where the configuration says nothing else.
const REFUSED: Code = Code {
    code: "policy_denied",
    status: 403,
    message: "a rule of this gateway refuses the request",
    meaning: "The enterprise policy engine decides about each call, by rules that other departments write.",
    remedy: "Ask enterprise-architecture; the evidence record of the request id has what `policy_engine` noted.",
};

/// What `plugins show policy_engine` prints.
pub static MANIFEST: Manifest = Manifest {
    name: "policy_engine",
    version: "0.1.0",
    author: "enterprise-architecture",
    category: "custom",
    kind: "policy",
    summary: "The enterprise policy engine decides about each call, by rules that other departments write.",
    gates: &[Gate::PreUpstream],
    styles: &[Style::Sequential],
    needs: &[Need::Block, Need::Network],
    streams: false,
    evidence: &[("answer", "what the system that was asked said")],
    codes: &[REFUSED],
    config_schema: schema_of::<Config>,
    build: |cx| Ok(Arc::new(PolicyEngine::build(cx.parse()?, cx.host.clone())?)),
};

/// Configuration of `policy_engine`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// The system that is asked.
    ask: Option<Receiver>,
    /// Status of a refusal.
    status: u16,
    /// Code of a refusal.
    code: String,
    /// Text of a refusal.
    message: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { ask: None, status: REFUSED.status, code: REFUSED.code.to_owned(), message: REFUSED.message.to_owned() }
    }
}

struct PolicyEngine {
    config: Config,
    ask: Destination,
    host: Host,
}

impl PolicyEngine {
    fn build(config: Config, host: Host) -> Result<Self, BuildError> {
        let ask = config.ask.as_ref().ok_or_else(|| BuildError::at("ask", "names no system"))?.open("ask", &host)?;
        Ok(Self { config, ask, host })
    }

    /// Asks opa: whether the request may go on.
    async fn ask(&self, cx: &View<'_>) -> Result<bool, PluginError> {
        let caller = cx.caller();
        let document = json!({
            "request_id": cx.request_id().to_string(),
            "organisation": caller.map(|caller| caller.organisation.name.to_string()),
            "team": caller.and_then(|caller| caller.team.as_ref()).map(|team| team.name.to_string()),
            "api_key": caller.map(|caller| caller.key_name.to_string()),
            "model": cx.model(),
            "endpoint": cx.endpoint().as_str(),
            "route": cx.route(),
        });
        let answer = self.host.fetch(self.ask.post(document.to_string())).await?;
        if answer.status != 200 {
            return Err(PluginError::failed(format!("{} answered {}", self.ask.system(), answer.status)));
        }
        let answer: Value = serde_json::from_slice(&answer.body).map_err(|_| PluginError::failed("its answer is not JSON"))?;
        cx.external("opa", answer.get("id").and_then(Value::as_str).map(str::to_owned));
        // An answer that says neither is no permission.
        let allow = answer.get("allow").and_then(Value::as_bool).ok_or_else(|| PluginError::failed("its answer has no `allow`"))?;
        cx.note("answer", if allow { "allow" } else { "deny" });
        Ok(allow)
    }

    fn refuse(&self) -> Verdict {
        let Config { status, code, message, .. } = &self.config;
        Verdict::Abort(Box::new(Denial::custom(*status, code, message)))
    }
}

#[async_trait]
impl Plugin for PolicyEngine {
    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        if !self.ask(cx).await? {
            return Ok(self.refuse());
        }
        Ok(Verdict::Next)
    }
}
