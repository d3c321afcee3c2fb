//! Asks the enterprise's approval system before sensitive models or tools are used, and tells the caller clearly what to
//! wait for.

use std::time::Instant;

use crate::plugin::prelude::*;

mod answer;
mod config;
mod tools;

use answer::{Answer, State};
use config::{Config, Rules, Want};
use wire::{Form, Kind, Parts};

/// The manifest, as printed by `plugins show approval`.
pub static MANIFEST: Manifest = Manifest {
    name: "approval",
    version: "1.0.0",
    author: "Odock",
    category: "policy",
    kind: "approval",
    summary: "Asks an approval system before sensitive models or tools are used; remembers what it decided.",
    gates: &[Gate::PreRoute, Gate::PreUpstream],
    styles: &[Style::Sequential, Style::Parallel],
    needs: &[Need::ReadRequest, Need::Block, Need::Network, Need::Secrets],
    streams: false,
    evidence: &[
        ("rule", "name of the rule that wants an approval"),
        ("approval", "`approved`, `denied` or `pending`"),
        ("remembered", "`true` where the decision was remembered and nobody was asked"),
        ("asked", "how often the approval system was asked"),
    ],
    codes: &[DENIED, PENDING],
    config_schema: schema_of::<Config>,
    build: |cx| Ok(Arc::new(Approval { rules: cx.parse::<Config>()?.compile(cx)?, host: cx.host.clone() })),
};

/// A request with more text, in bytes, is not sent to the approval system.
const MOST_CONTENT: usize = 256 << 10;
/// A body with more texts is not sent to the approval system.
const MOST_TEXTS: usize = 4096;

/// The approval system refused.
const DENIED: Code = Code {
    code: "approval_denied",
    status: 403,
    message: "approval was denied",
    meaning: "The approval system of the enterprise denied this use of a sensitive model or tool.",
    remedy: "Ask who decides there; the evidence record of the request id names the rule that wants an approval.",
};
/// The approval is still pending.
const PENDING: Code = Code {
    code: "approval_pending",
    status: 403,
    message: "this use needs an approval, which is pending",
    meaning: "This use of a sensitive model or tool was handed to the approval system, and nobody has decided yet.",
    remedy: "Send the same request again after the time in Retry-After; the text names the approval that is waited for.",
};

struct Approval {
    rules: Rules,
    host: Host,
}

/// The use for which an approval is needed.
struct Use<'a> {
    want: &'a Want,
    /// The tools that make it sensitive, sorted.
    tools: Vec<String>,
}

impl Approval {
    async fn judge(&self, cx: &View<'_>) -> PluginResult {
        let body = cx.body()?;
        // Parsed once, and only if a rule depends on tools.
        let tools = if self.rules.wants.iter().any(Want::names_tools) { tools::of(body).map_err(PluginError::failed)? } else { Vec::new() };
        let sensitive = self.rules.wants.iter().find_map(|want| Some(Use { want, tools: want.meets(cx.model(), &tools, cx.tags())? }));
        let Some(sensitive) = sensitive else { return Ok(Verdict::Next) };
        cx.note("rule", sensitive.want.name.as_str());
        let key = self.digest(cx, &sensitive, body);
        let now = Instant::now();
        let answer = match self.rules.memory.get(&key, now) {
            Some(answer) => {
                cx.note("remembered", "true");
                answer
            }
            None => self.ask_until_decided(cx, &sensitive, body, key).await?,
        };
        cx.note("approval", answer.state.as_str());
        Ok(self.verdict(&answer))
    }

    /// A digest that identifies the question: caller, model, tools and, if approvals are for single requests, the body.
    fn digest(&self, cx: &View<'_>, sensitive: &Use<'_>, body: &Bytes) -> [u8; 32] {
        let caller = cx.caller();
        let mut parts: Vec<&[u8]> = vec![
            sensitive.want.name.as_bytes(),
            caller.map_or(&b""[..], |caller| caller.organisation.id.as_bytes()),
            caller.map_or(&b""[..], |caller| caller.key_id.as_bytes()),
            cx.route().as_bytes(),
            cx.model().unwrap_or_default().as_bytes(),
            if self.rules.of_request { body } else { b"" },
        ];
        parts.extend(sensitive.tools.iter().map(|tool| tool.as_bytes()));
        self.rules.digester.of(&parts)
    }

    async fn ask_until_decided(&self, cx: &View<'_>, sensitive: &Use<'_>, body: &Bytes, key: [u8; 32]) -> Result<Answer, PluginError> {
        let document = self.document(cx, sensitive, body, &key)?;
        let started = Instant::now();
        let mut asked = 0u32;
        loop {
            let answer = self.ask(cx, &document, &key).await?;
            asked += 1;
            let waited = started.elapsed();
            if answer.state == State::Pending && waited + self.rules.poll <= self.rules.wait {
                self.host.pause(self.rules.poll).await;
                continue;
            }
            cx.note("asked", asked.to_string());
            self.rules.memory.keep(key, answer.clone(), Instant::now(), self.rules.ttl(&answer));
            return Ok(answer);
        }
    }

    async fn ask(&self, cx: &View<'_>, document: &Bytes, key: &[u8; 32]) -> Result<Answer, PluginError> {
        let system = self.rules.destination.system();
        let mut request = self.rules.destination.post(document.clone());
        let id = HeaderValue::from_str(&hex(key)).map_err(|_| PluginError::failed("the digest is not a header value"))?;
        request.headers.insert(HeaderName::from_static("idempotency-key"), id);
        cx.external(system, None);
        let answer = self.host.fetch(request).await?;
        if !(200..=299).contains(&answer.status) {
            return Err(PluginError::failed(format!("the approval system answered with status {}", answer.status)));
        }
        let answer = Answer::read(&answer.body).map_err(PluginError::failed)?;
        cx.external(system, answer.id.clone());
        Ok(answer)
    }

    fn document(&self, cx: &View<'_>, sensitive: &Use<'_>, body: &Bytes, key: &[u8; 32]) -> Result<Bytes, PluginError> {
        let tags: serde_json::Map<String, Value> = cx.tags().iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
        let mut document = json!({
            "version": 1,
            "request_id": cx.request_id().to_string(),
            "instance": self.host.instance(),
            "digest": hex(key),
            "rule": sensitive.want.name,
            "per": if self.rules.of_request { "request" } else { "use" },
            "caller": cx.caller().map(Subject::of),
            "route": cx.route(),
            "endpoint": cx.endpoint().as_str(),
            "model": cx.model(),
            "provider": cx.provider(),
            "tools": sensitive.tools,
            "tags": tags,
        });
        if self.rules.send_content {
            let form = Form::of(cx.dialect(), cx.header("content-type"), body);
            let parts = Parts::of(body, form, false, MOST_TEXTS, |kind| kind != Kind::Structural);
            let parts = parts.map_err(|error| PluginError::failed(error.to_string()))?.parts;
            if parts.iter().map(|part| part.text.len()).sum::<usize>() > MOST_CONTENT {
                return Err(PluginError::failed("the request has more text than may be shown for an approval"));
            }
            document["texts"] =
                parts.iter().map(|part| json!({"path": part.path, "kind": part.kind.as_str(), "text": part.text})).collect();
        }
        Ok(Bytes::from(document.to_string()))
    }

    fn verdict(&self, answer: &Answer) -> Verdict {
        let refusal = match answer.state {
            State::Approved => return Verdict::Next,
            State::Denied => {
                let reason = answer.reason.as_deref().filter(|_| self.rules.show_reason);
                let message = reason.map_or(DENIED.message.to_owned(), |reason| format!("{}: {reason}", DENIED.message));
                Denial::custom(DENIED.status, DENIED.code, &message)
            }
            State::Pending => {
                let id = answer.id.as_deref().map(|id| format!(" ({id})")).unwrap_or_default();
                let message = format!("{}{id}: send the request again later", PENDING.message);
                let again = answer.retry_after.unwrap_or(self.rules.retry_after);
                Denial::custom(PENDING.status, PENDING.code, &message).with_retry_after(again)
            }
        };
        Verdict::Abort(Box::new(refusal))
    }
}

#[async_trait]
impl Plugin for Approval {
    async fn pre_route(&self, cx: &mut PreRoute<'_>) -> PluginResult {
        self.judge(cx).await
    }

    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        self.judge(cx).await
    }
}
