//! Our own DLP service has to see every prompt before egress and every answer before it reaches the caller.
//!
//! Begun by `odock-edge plugins new` from `brief.yaml`; from here on it is its owner's.

use odock_edge::plugin::prelude::*;

/// Its refusals, where the configuration says nothing else.
const REFUSED: Code = Code {
    code: "dlp_refused",
    status: 403,
    message: "a rule of this gateway refuses the request",
    meaning: "Our own DLP service has to see every prompt before egress and every answer before it reaches the caller.",
    remedy: "Ask data-protection; the evidence record of the request id has what `corporate_dlp` noted.",
};

/// What `plugins show corporate_dlp` prints.
pub static MANIFEST: Manifest = Manifest {
    name: "corporate_dlp",
    version: "0.1.0",
    author: "data-protection",
    category: "custom",
    kind: "policy",
    summary: "Our own DLP service has to see every prompt before egress and every answer before it reaches the caller.",
    gates: &[Gate::PreUpstream, Gate::PostUpstream],
    styles: &[Style::Sequential],
    needs: &[Need::ReadRequest, Need::ReadResponse, Need::Block, Need::Network, Need::Secrets],
    streams: false,
    evidence: &[("answer", "what the system that was asked said")],
    codes: &[REFUSED],
    config_schema: schema_of::<Config>,
    build: |cx| Ok(Arc::new(CorporateDlp::build(cx.parse()?, cx.host.clone())?)),
};

/// Configuration of `corporate_dlp`.
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

struct CorporateDlp {
    config: Config,
    ask: Destination,
    host: Host,
}

impl CorporateDlp {
    fn build(config: Config, host: Host) -> Result<Self, BuildError> {
        let ask = config.ask.as_ref().ok_or_else(|| BuildError::at("ask", "names no system"))?.open("ask", &host)?;
        Ok(Self { config, ask, host })
    }

    /// Asks dlp: whether the request may go on.
    async fn ask(&self, cx: &View<'_>, text: Option<String>) -> Result<bool, PluginError> {
        let caller = cx.caller();
        let document = json!({
            "request_id": cx.request_id().to_string(),
            "team": caller.and_then(|caller| caller.team.as_ref()).map(|team| team.name.to_string()),
            "model": cx.model(),
            "text": text,
        });
        let answer = self.host.fetch(self.ask.post(document.to_string())).await?;
        if answer.status != 200 {
            return Err(PluginError::failed(format!("{} answered {}", self.ask.system(), answer.status)));
        }
        let answer: Value = serde_json::from_slice(&answer.body).map_err(|_| PluginError::failed("its answer is not JSON"))?;
        cx.external("dlp", answer.get("id").and_then(Value::as_str).map(str::to_owned));
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
impl Plugin for CorporateDlp {
    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        let parts = texts(cx, cx.body()?, cx.header("content-type"))?;
        if !self.ask(cx, Some(said(&parts))).await? {
            return Ok(self.refuse());
        }
        Ok(Verdict::Next)
    }

    async fn post_upstream(&self, cx: &mut PostUpstream<'_>) -> PluginResult {
        let Some(answer) = cx.response_body()?.cloned() else { return Ok(Verdict::Next) };
        let parts = texts(cx, &answer, cx.response_header("content-type"))?;
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
