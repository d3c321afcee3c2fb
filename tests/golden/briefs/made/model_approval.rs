//! A request to a sensitive model goes on only if the approval system holds a valid approval for this user.
//!
//! Begun by `odock-edge plugins new` from `brief.yaml`; from here on it is its owner's.

use odock_edge::plugin::prelude::*;

/// Its refusals, where the configuration says nothing else.
const REFUSED: Code = Code {
    code: "approval_missing",
    status: 403,
    message: "ask your manager for an approval of this model",
    meaning: "A request to a sensitive model goes on only if the approval system holds a valid approval for this user.",
    remedy: "Ask governance-office; the evidence record of the request id has what `model_approval` noted.",
};

/// What `plugins show model_approval` prints.
pub static MANIFEST: Manifest = Manifest {
    name: "model_approval",
    version: "0.1.0",
    author: "governance-office",
    category: "custom",
    kind: "policy",
    summary: "A request to a sensitive model goes on only if the approval system holds a valid approval for this user.",
    gates: &[Gate::PreUpstream],
    styles: &[Style::Sequential],
    needs: &[Need::Block, Need::Network, Need::Secrets],
    streams: false,
    evidence: &[("answer", "what the system that was asked said")],
    codes: &[REFUSED],
    config_schema: schema_of::<Config>,
    build: |cx| Ok(Arc::new(ModelApproval::build(cx.parse()?, cx.host.clone())?)),
};

/// Configuration of `model_approval`.
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

struct ModelApproval {
    config: Config,
    ask: Destination,
    host: Host,
}

impl ModelApproval {
    fn build(config: Config, host: Host) -> Result<Self, BuildError> {
        let ask = config.ask.as_ref().ok_or_else(|| BuildError::at("ask", "names no system"))?.open("ask", &host)?;
        Ok(Self { config, ask, host })
    }

    /// Asks approvals: whether the request may go on.
    async fn ask(&self, cx: &View<'_>) -> Result<bool, PluginError> {
        let caller = cx.caller();
        let document = json!({
            "request_id": cx.request_id().to_string(),
            "user": caller.and_then(|caller| caller.user.as_ref()).map(|user| user.name.to_string()),
            "team": caller.and_then(|caller| caller.team.as_ref()).map(|team| team.name.to_string()),
            "model": cx.model(),
        });
        let answer = self.host.fetch(self.ask.post(document.to_string())).await?;
        if answer.status != 200 {
            return Err(PluginError::failed(format!("{} answered {}", self.ask.system(), answer.status)));
        }
        let answer: Value = serde_json::from_slice(&answer.body).map_err(|_| PluginError::failed("its answer is not JSON"))?;
        cx.external("approvals", answer.get("id").and_then(Value::as_str).map(str::to_owned));
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
impl Plugin for ModelApproval {
    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        if !self.ask(cx).await? {
            return Ok(self.refuse());
        }
        Ok(Verdict::Next)
    }
}
