//! Asks an external system about a request or an answer: a policy decision point that takes OPA's input document, or a data
//! loss prevention service that scans the texts. The system may allow, refuse, redact, or make changes that the operator
//! permits.

use std::time::Instant;

use crate::plugin::prelude::*;

mod config;
mod document;
mod ruling;
mod transform;

use config::{Config, Rules, Send, Streams};
use document::{Phase, Texts};
use ruling::Ruling;
use wire::{Form, Parts};

/// The manifest, as printed by `plugins show http_callout`.
pub static MANIFEST: Manifest = Manifest {
    name: "http_callout",
    version: "1.0.0",
    author: "Odock",
    category: "policy",
    kind: "policy",
    summary: "Asks a policy or data loss prevention service over HTTP about requests and answers, and does what it says.",
    gates: &[Gate::PreRoute, Gate::PreUpstream, Gate::PostUpstream],
    styles: &[Style::Sequential, Style::Parallel],
    needs: &[
        Need::ReadRequest,
        Need::WriteRequest,
        Need::ReadResponse,
        Need::WriteResponse,
        Need::Block,
        Need::Tags,
        Need::Headers,
        Need::Network,
        Need::Secrets,
    ],
    // The system needs the whole answer, so the gateway holds streams for it.
    streams: false,
    evidence: &[
        ("ruling", "what was ruled: `allow`, `deny`, `redact`, `transform`, or `redact transform`"),
        ("remembered", "`true` where the ruling was remembered and nobody was asked"),
        ("texts", "how many texts were shown"),
        ("redactions", "how many spans were redacted"),
        ("changes", "how many members, headers and tags were changed"),
    ],
    codes: &[DENIED, NO_STREAMS],
    config_schema: schema_of::<Config>,
    build: |cx| Ok(Arc::new(HttpCallout { rules: cx.parse::<Config>()?.compile(cx)?, host: cx.host.clone() })),
};

/// Larger rulings are applied, but not cached. In bytes.
const LARGEST_REMEMBERED: usize = 16 << 10;
/// A body with more texts is not sent.
const MOST_TEXTS: usize = 16_384;

/// The system refused without naming a code.
const DENIED: Code = Code {
    code: "callout_denied",
    status: 403,
    message: "denied by policy",
    meaning: "The policy or data loss prevention service that was asked refuses the request or the answer, and named no code of its own.",
    remedy: "The text is the service's reason where it is shown; the evidence record of the request id has its decision id.",
};
/// Streams cannot be judged as a whole.
const NO_STREAMS: Code = Code {
    code: "stream_not_allowed",
    status: 403,
    message: "answers on this route are checked as a whole: ask without `stream`",
    meaning: "A service judges whole answers on this route, and `streams: refuse` is set.",
    remedy: "Ask without `stream`, or let the gateway hold streams with `streams: hold`.",
};

struct HttpCallout {
    rules: Rules,
    host: Host,
}

/// The changes to the body, the head and the tags.
struct Outcome {
    ruling: Arc<Ruling>,
    body: Option<Bytes>,
}

impl HttpCallout {
    /// The texts of a body, if they or their digests are sent.
    fn texts(&self, body: &Bytes, form: Form, events: bool) -> Result<Option<Parts>, PluginError> {
        if self.rules.send == Send::Facts {
            return Ok(None);
        }
        let parts = Parts::of(body, form, events, MOST_TEXTS, |kind| self.rules.takes(kind));
        let parts = parts.map_err(|error| PluginError::failed(error.to_string()))?;
        let shown: usize = parts.parts.iter().map(|part| part.text.len()).sum();
        if self.rules.send == Send::Content && shown > self.rules.most_content {
            return Err(PluginError::failed("the body has more text than max_content lets out"));
        }
        Ok(Some(parts))
    }

    async fn ask(&self, cx: &View<'_>, phase: Phase<'_>, body: &Bytes, parts: Option<Parts>) -> Result<Outcome, PluginError> {
        let texts = parts.as_ref().map(|parts| Texts { parts, content: self.rules.send == Send::Content });
        let input = document::input(cx, &self.rules, phase, body, texts);
        if let Some(parts) = &parts {
            cx.note("texts", parts.parts.len().to_string());
        }
        let ruling = self.ruling(cx, input).await?;
        cx.note("ruling", ruling.summary());
        let mut outcome = Outcome { body: None, ruling };
        if !outcome.ruling.allow || outcome.ruling.redact.is_empty() {
            return Ok(outcome);
        }
        let Some(parts) = parts else { return Err(PluginError::failed("spans to redact, and no text was shown")) };
        let edits = outcome.ruling.edits(&parts, self.rules.offsets, &self.rules.replacement).map_err(PluginError::failed)?;
        cx.note("redactions", edits.iter().map(|(_, edits)| edits.len()).sum::<usize>().to_string());
        outcome.body = Some(parts.rewrite(&edits).map_err(|error| PluginError::failed(error.to_string()))?);
        Ok(outcome)
    }

    async fn ruling(&self, cx: &View<'_>, input: Value) -> Result<Arc<Ruling>, PluginError> {
        let key = self.rules.digester.of(&[input.to_string().as_bytes()]);
        let now = Instant::now();
        if let Some(kept) = self.rules.memory.as_ref().and_then(|memory| memory.kept.get(&key, now)) {
            cx.note("remembered", "true");
            return Ok(kept);
        }
        let document = document::with_id(input, cx.request_id(), self.host.instance());
        let system = self.rules.destination.system();
        cx.external(system, None);
        let answer = self.host.fetch(self.rules.destination.post(document.to_string())).await?;
        if answer.status != 200 {
            return Err(PluginError::failed(format!("the callout answered with status {}", answer.status)));
        }
        let (ruling, id) = Ruling::read(&answer.body).map_err(PluginError::failed)?;
        if id.is_some() {
            cx.external(system, id);
        }
        let ruling = Arc::new(ruling);
        if let Some(memory) = self.rules.memory.as_ref().filter(|_| answer.body.len() <= LARGEST_REMEMBERED) {
            memory.kept.keep(key, Arc::clone(&ruling), now, memory.ttl);
        }
        Ok(ruling)
    }

    fn refuses_streams(&self) -> Option<Verdict> {
        (self.rules.streams == Streams::Refuse).then(|| Verdict::Abort(Box::new(Denial::of(&NO_STREAMS))))
    }

    fn denial(&self, ruling: &Ruling) -> Verdict {
        let code = ruling.code.as_deref().unwrap_or(DENIED.code);
        let reason = ruling.reason.as_deref().filter(|_| self.rules.show_reason).unwrap_or(DENIED.message);
        let status = ruling.status.filter(|status| (400..=499).contains(status)).unwrap_or(DENIED.status);
        let mut denial = Denial::custom(status, code, reason);
        if denial.code == "plugin_blocked" {
            denial.code = DENIED.code.into();
        }
        Verdict::Abort(Box::new(denial))
    }
}

macro_rules! on_request {
    ($self:ident, $cx:ident, $model:expr) => {{
        if $cx.streaming()
            && let Some(refusal) = $self.refuses_streams()
        {
            return Ok(refusal);
        }
        let body = $cx.body()?.clone();
        let form = Form::of($cx.dialect(), $cx.header("content-type"), &body);
        let parts = $self.texts(&body, form, false)?;
        let phase = Phase::Request { gate: $model };
        let outcome = $self.ask($cx, phase, &body, parts).await?;
        if !outcome.ruling.allow {
            return Ok($self.denial(&outcome.ruling));
        }
        let mut changes = transform::plan(&$self.rules.permit, &outcome.ruling, outcome.body, &body, $model == Gate::PreRoute)?;
        for (name, value) in &changes.headers {
            $cx.set_header(name, value)?;
        }
        for (key, value) in std::mem::take(&mut changes.tags) {
            $cx.tag(key, value)?;
        }
        if let Some(body) = changes.body.take() {
            $cx.set_body(body)?;
        }
        if changes.count > 0 {
            $cx.note("changes", changes.count.to_string());
        }
        changes
    }};
}

#[async_trait]
impl Plugin for HttpCallout {
    async fn pre_route(&self, cx: &mut PreRoute<'_>) -> PluginResult {
        let changes = on_request!(self, cx, Gate::PreRoute);
        if let Some(model) = changes.model {
            cx.set_model(model)?;
        }
        Ok(Verdict::Next)
    }

    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        on_request!(self, cx, Gate::PreUpstream);
        Ok(Verdict::Next)
    }

    async fn post_upstream(&self, cx: &mut PostUpstream<'_>) -> PluginResult {
        let Some(body) = cx.response_body()?.cloned() else {
            return Err(PluginError::NotPossible("the answer is streamed and was not held"));
        };
        let media = cx.response_header("content-type");
        let events = media.is_some_and(|media| wire::sse::is_event_stream(media.as_bytes()));
        if events && let Some(refusal) = self.refuses_streams() {
            return Ok(refusal);
        }
        let form = Form::of(cx.dialect(), media, &body);
        let parts = self.texts(&body, form, events)?;
        let phase = Phase::Response { status: cx.status(), content_type: media };
        let outcome = self.ask(cx, phase, &body, parts).await?;
        if !outcome.ruling.allow {
            return Ok(self.denial(&outcome.ruling));
        }
        let changes = transform::plan(&self.rules.permit, &outcome.ruling, outcome.body, &body, false)?;
        if changes.sets_members && events {
            return Err(PluginError::failed("members of a streamed answer cannot be set"));
        }
        for (name, value) in &changes.headers {
            cx.set_response_header(name, value)?;
        }
        for (key, value) in changes.tags {
            cx.tag(key, value)?;
        }
        if let Some(body) = changes.body {
            cx.set_response_body(body)?;
        }
        if changes.count > 0 {
            cx.note("changes", changes.count.to_string());
        }
        Ok(Verdict::Next)
    }
}
