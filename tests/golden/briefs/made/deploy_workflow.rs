//! In our private MCP workflow the deploy tool runs only for calls that the change system knows.
//!
//! Begun by `odock-edge plugins new` from `brief.yaml`; from here on it is its owner's.

use odock_edge::plugin::prelude::*;

/// Its refusals, where the configuration says nothing else.
const REFUSED: Code = Code {
    code: "no_change_ticket",
    status: 403,
    message: "a rule of this gateway refuses the request",
    meaning: "In our private MCP workflow the deploy tool runs only for calls that the change system knows.",
    remedy: "Ask release-management; the evidence record of the request id has what `deploy_workflow` noted.",
};

/// What `plugins show deploy_workflow` prints.
pub static MANIFEST: Manifest = Manifest {
    name: "deploy_workflow",
    version: "0.1.0",
    author: "release-management",
    category: "custom",
    kind: "policy",
    summary: "In our private MCP workflow the deploy tool runs only for calls that the change system knows.",
    gates: &[Gate::PreUpstream],
    styles: &[Style::Sequential],
    needs: &[Need::ReadRequest, Need::Block, Need::Network, Need::Secrets],
    streams: false,
    evidence: &[("answer", "what the system that was asked said")],
    codes: &[REFUSED],
    config_schema: schema_of::<Config>,
    build: |cx| Ok(Arc::new(DeployWorkflow::build(cx.parse()?, cx.host.clone())?)),
};

/// Configuration of `deploy_workflow`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// The tools whose calls it is about; every request without.
    tools: Vec<String>,
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
        Self { tools: Vec::new(), ask: None, status: REFUSED.status, code: REFUSED.code.to_owned(), message: REFUSED.message.to_owned() }
    }
}

struct DeployWorkflow {
    config: Config,
    ask: Destination,
    host: Host,
}

impl DeployWorkflow {
    fn build(config: Config, host: Host) -> Result<Self, BuildError> {
        let ask = config.ask.as_ref().ok_or_else(|| BuildError::at("ask", "names no system"))?.open("ask", &host)?;
        Ok(Self { config, ask, host })
    }

    /// Asks changes: whether the request may go on.
    async fn ask(&self, cx: &View<'_>, text: Option<String>) -> Result<bool, PluginError> {
        let caller = cx.caller();
        let document = json!({
            "request_id": cx.request_id().to_string(),
            "team": caller.and_then(|caller| caller.team.as_ref()).map(|team| team.name.to_string()),
            "user": caller.and_then(|caller| caller.user.as_ref()).map(|user| user.name.to_string()),
            "text": text,
        });
        let answer = self.host.fetch(self.ask.post(document.to_string())).await?;
        if answer.status != 200 {
            return Err(PluginError::failed(format!("{} answered {}", self.ask.system(), answer.status)));
        }
        let answer: Value = serde_json::from_slice(&answer.body).map_err(|_| PluginError::failed("its answer is not JSON"))?;
        cx.external("changes", answer.get("id").and_then(Value::as_str).map(str::to_owned));
        // An answer that says neither is no permission.
        let allow = answer.get("allow").and_then(Value::as_bool).ok_or_else(|| PluginError::failed("its answer has no `allow`"))?;
        cx.note("answer", if allow { "allow" } else { "deny" });
        Ok(allow)
    }

    fn refuse(&self) -> Verdict {
        let Config { status, code, message, .. } = &self.config;
        Verdict::Abort(Box::new(Denial::custom(*status, code, message)))
    }

    /// Whether the request calls a tool it is about.
    fn concerns(&self, body: &Bytes) -> bool {
        if self.config.tools.is_empty() {
            return true;
        }
        let call: Value = serde_json::from_slice(body).unwrap_or_default();
        let tool = call.pointer("/params/name").and_then(Value::as_str).unwrap_or_default();
        call.get("method").and_then(Value::as_str) == Some("tools/call") && self.config.tools.iter().any(|known| known == tool)
    }
}

#[async_trait]
impl Plugin for DeployWorkflow {
    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        if !self.concerns(cx.body()?) {
            return Ok(Verdict::Next);
        }
        let parts = texts(cx, cx.body()?, cx.header("content-type"))?;
        if !self.ask(cx, Some(said(&parts))).await? {
            return Ok(self.refuse());
        }
        Ok(Verdict::Next)
    }
}

/// The texts of a body: of JSON, of plain text, or of a stream that was held.
fn texts(cx: &View<'_>, body: &Bytes, media: Option<&str>) -> Result<wire::Parts, PluginError> {
    let events = media.is_some_and(|media| wire::sse::is_event_stream(media.as_bytes()));
    let form = wire::Form::of(cx.dialect(), media, body);
    let parts = wire::Parts::of(body, form, events, 16_384, |kind| kind != wire::Kind::Structural);
    parts.map_err(|why| PluginError::failed(why.to_string()))
}

/// All of it, one text a line.
fn said(parts: &wire::Parts) -> String {
    parts.parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join("\n")
}
