//! Runs the cases of a plugin's folder through the real runner: what a case expects is what a request would see.
//!
//! A case is data (`plugins/<name>/cases/*.yaml`); [`Case::run`] says what came out otherwise than expected. The only
//! thing that is not real is the network, whose answers the case holds.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;

use super::host::{Egress, HostError, HttpResponse, Outbound, Resolver, SharedHost};
use super::network::HostRule;
use super::{Granted, Instance, InstanceSpec, Manifest, Mode, OnError, OwnedFrame, StorageScope, Verdict};
use crate::error::Denial;
use crate::gate::{
    self, Background, Chain, ChainSpec, Exchange, Execution, Facts, Finished, FrameVerdict, Gate, HeaderEdit, Ledger,
    RequestId, Response, StreamChain, Style,
};
use crate::identity::{Caller, Directory, KeyEntry, KeyKind, ModelEntry, Organisation, Secret, Team, User};
use crate::telemetry::Metrics;
use crate::wire::Endpoint;

/// One request for one instance, and what should come of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What the case shows.
    pub name: String,
    /// The instance's `config`.
    #[serde(default)]
    pub config: Value,
    /// What the operator grants.
    #[serde(default)]
    pub grant: Grants,
    /// Storage scopes the operator grants.
    #[serde(default)]
    pub storage_access: Vec<StorageScope>,
    /// `deny` or `allow`.
    #[serde(default)]
    pub on_error: OnError,
    /// `enforce` or `observe`.
    #[serde(default)]
    pub mode: Mode,
    /// Milliseconds; 1000 without.
    pub timeout_ms: Option<u64>,
    /// How it is listed; `sequential`, or what the manifest has.
    pub style: Option<Style>,
    /// Who calls.
    #[serde(default)]
    pub caller: CallerCase,
    /// The route's name.
    pub route: Option<String>,
    /// The provider that was chosen.
    pub provider: Option<String>,
    /// The request.
    #[serde(default)]
    pub request: RequestCase,
    /// The gates to run, in order; all of the manifest's without.
    pub gates: Option<Vec<Gate>>,
    /// The provider's answer.
    pub response: Option<ResponseCase>,
    /// What systems outside answer, call by call; none is reachable when they run out.
    #[serde(default)]
    pub replies: Vec<Reply>,
    /// What should come of it.
    #[serde(default)]
    pub expect: Expect,
}

/// `grant:` of a case.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// As in a configuration.
    pub network: Vec<String>,
    /// Secrets with their values.
    pub secrets: BTreeMap<String, String>,
    /// `false` takes the need away.
    pub headers: Option<bool>,
}

/// Who calls.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallerCase {
    /// `true`: a route without authentication.
    pub anonymous: bool,
    /// Name and id of the key; `key-1` without.
    pub key: Option<String>,
    /// Name and id of the organisation; `acme` without.
    pub organisation: Option<String>,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// Name and id of the team.
    pub team: Option<String>,
    /// Name and id of the user.
    pub user: Option<String>,
    /// The models it may use.
    pub models: Vec<String>,
}

/// The request.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RequestCase {
    /// `POST` without.
    pub method: Option<String>,
    /// `/v1/chat/completions` without.
    pub path: Option<String>,
    /// The head.
    pub headers: BTreeMap<String, String>,
    /// A text is taken as it is, anything else as JSON; `model` and `stream` of JSON become facts.
    pub body: Value,
}

/// The answer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResponseCase {
    /// 200 without.
    pub status: Option<u16>,
    /// The head.
    pub headers: BTreeMap<String, String>,
    /// The body, as for requests.
    pub body: Value,
    /// The events, of a streamed answer.
    pub stream: Option<Vec<FrameCase>>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameCase {
    /// `event:`.
    pub event: Option<String>,
    /// `data:`.
    pub data: String,
}

/// What a system outside answers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The head.
    pub headers: BTreeMap<String, String>,
    /// The body, as for requests.
    pub body: Value,
    /// Milliseconds before it answers.
    pub after_ms: u64,
    /// It cannot be reached.
    pub unreachable: bool,
}

/// What should come of it; what is left out may be anything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// `next` (without) or `abort`.
    pub verdict: Option<String>,
    /// The code of the refusal.
    pub code: Option<String>,
    /// The status of the refusal.
    pub status: Option<u16>,
    /// A part of why the configuration is refused; then nothing runs.
    pub build_error: Option<String>,
    /// The decision of the last entry.
    pub decision: Option<String>,
    /// The request body: a text byte for byte, anything else as JSON.
    pub body: Option<Value>,
    /// The model in force.
    pub model: Option<String>,
    /// Edits of the head towards the provider, all of them; `null` is a removal.
    pub headers: Option<BTreeMap<String, Option<String>>>,
    /// Edits of the head towards the caller, all of them.
    pub response_headers: Option<BTreeMap<String, Option<String>>>,
    /// Tags, all of them.
    pub tags: Option<BTreeMap<String, String>>,
    /// The answer's body.
    pub response_body: Option<Value>,
    /// The answer's events.
    pub response_stream: Option<Vec<FrameCase>>,
    /// Notes, at least these.
    pub notes: BTreeMap<String, String>,
    /// What was sent outside, call by call.
    pub sent: Option<Vec<SentCase>>,
}

/// One call to a system outside.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SentCase {
    /// The whole URL.
    pub url: String,
    /// Fields, at least these.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Option<Value>,
}

impl Case {
    /// Runs the case. What it returns is what came out otherwise than expected; nothing, if all is well.
    pub async fn run(&self, manifest: &'static Manifest) -> Vec<String> {
        match self.outcome(manifest).await {
            Ok(seen) => self.compare(&seen),
            Err(Refused::Build(error)) => match &self.expect.build_error {
                Some(part) if error.contains(part.as_str()) => Vec::new(),
                _ => vec![format!("the configuration is refused: {error}")],
            },
            Err(Refused::Case(error)) => vec![format!("the case itself: {error}")],
        }
    }

    async fn outcome(&self, manifest: &'static Manifest) -> Result<Seen, Refused> {
        let outside = Arc::new(Outside { replies: Mutex::new(self.replies.clone().into()), sent: Mutex::default() });
        let queue = Background::start(64, 1, None);
        let shared = SharedHost::new(outside.clone(), queue.clone()).with_resolver(Arc::new(Somewhere));
        let caller = self.caller.build();
        let instance = Instance::build(manifest, self.spec(manifest)?, &shared, Arc::new(self.caller.directory(&caller)))
            .map_err(|error| Refused::Build(error.to_string()))?;
        let chain = self.chain(manifest, &instance)?;
        let (facts, headers, body) = self.request(&caller)?;
        let mut ex = Exchange::new(facts);
        ex.draft.body = body;
        let mut seen = Seen::default();
        for gate in self.gates.as_deref().unwrap_or(manifest.gates) {
            match gate {
                Gate::PostResponse => {
                    ex.outcome.status = self.response.as_ref().and_then(|r| r.status).unwrap_or(200);
                    ex.outcome.denial = seen.denial.as_deref().cloned();
                    let ledger = Kept::default();
                    let kept = Arc::clone(&ledger.0);
                    let finished = Finished {
                        facts: ex.facts.clone(),
                        model: ex.draft.model.clone(),
                        tags: ex.draft.tags.clone(),
                        executions: std::mem::take(&mut ex.executions),
                        outcome: ex.outcome.clone(),
                    };
                    gate::post_response(&chain, Arc::new(finished), &queue, ledger);
                    queue.drain(Duration::from_secs(5)).await;
                    ex.executions = std::mem::take(&mut *kept.lock());
                }
                _ if seen.denial.is_some() => {}
                gate => {
                    let response = self.response.as_ref().filter(|_| *gate == Gate::PostUpstream);
                    if let Some(response) = response {
                        ex.draft.response = Some(response.build()?);
                        ex.facts.stream |= response.stream.is_some();
                    }
                    if let Verdict::Abort(denial) = gate::run(&chain, *gate, &mut ex, &headers).await {
                        seen.denial = Some(denial);
                    } else if let Some(frames) = response.and_then(|r| r.stream.as_ref()) {
                        seen.stream(&chain, &mut ex, frames);
                    }
                }
            }
        }
        seen.sent = std::mem::take(&mut *outside.sent.lock());
        seen.exchange = Some(ex);
        Ok(seen)
    }

    fn spec(&self, manifest: &Manifest) -> Result<InstanceSpec, Refused> {
        let mut granted = Granted::new();
        for entry in &self.grant.network {
            granted = granted.network(HostRule::parse(entry).map_err(Refused::Case)?);
        }
        for (name, value) in &self.grant.secrets {
            granted = granted.secret(name, Secret::new(value.clone()));
        }
        for scope in &self.storage_access {
            granted = granted.storage(*scope);
        }
        if self.grant.headers == Some(false) {
            granted = granted.without(super::Need::Headers);
        }
        let mut spec = InstanceSpec::new(manifest.name);
        if !self.config.is_null() {
            spec.config = self.config.clone();
        }
        spec.granted = granted;
        spec.on_error = self.on_error;
        spec.mode = self.mode;
        spec.timeout = self.timeout_ms.map_or(spec.timeout, Duration::from_millis);
        Ok(spec)
    }

    fn chain(&self, manifest: &Manifest, instance: &Arc<Instance>) -> Result<Arc<Chain>, Refused> {
        let mut spec = ChainSpec::default();
        for gate in manifest.gates {
            let style = self.style.filter(|style| *style != Style::Background || *gate == Gate::PostResponse);
            let fits = |style: &&Style| gate::placement(manifest, *gate, **style).is_ok();
            let style = style.or_else(|| manifest.styles.iter().find(fits).copied()).unwrap_or(Style::Sequential);
            let stage = spec.stage(*gate);
            match style {
                Style::Sequential => stage.sequential.push(Arc::clone(instance)),
                Style::Parallel => stage.parallel.push(Arc::clone(instance)),
                Style::Background => stage.background.push(Arc::clone(instance)),
            }
        }
        let metrics = Metrics::new().map_err(|error| Refused::Case(error.to_string()))?;
        Chain::compile(spec, &metrics).map(Arc::new).map_err(|error| Refused::Case(error.message))
    }

    fn request(&self, caller: &Option<Arc<Caller>>) -> Result<(Facts, HeaderMap, Bytes), Refused> {
        let request = &self.request;
        let method = request.method.as_deref().unwrap_or("POST");
        let method = Method::from_bytes(method.as_bytes()).map_err(|error| Refused::Case(error.to_string()))?;
        let path = request.path.as_deref().unwrap_or("/v1/chat/completions");
        let (endpoint, dialect) = Endpoint::of(&method, path);
        let body = bytes(&request.body);
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
        let headers = head(&request.headers)?;
        let facts = Facts {
            id: RequestId([7; 16]),
            trace_id: None,
            caller_request_id: None,
            received: Instant::now(),
            received_at: SystemTime::now(),
            route: self.route.as_deref().unwrap_or("default").into(),
            endpoint,
            dialect,
            method,
            path: path.to_owned(),
            client_ip: Some([192, 0, 2, 1].into()),
            user_agent: request.headers.get("user-agent").cloned(),
            caller: caller.clone(),
            requested_model: json.get("model").and_then(Value::as_str).map(str::to_owned),
            provider: self.provider.as_deref().map(Into::into),
            slug: None,
            stream: json.get("stream").and_then(Value::as_bool).unwrap_or(false),
        };
        Ok((facts, headers, body))
    }

    fn compare(&self, seen: &Seen) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut check = |what: &str, want: String, got: String| {
            if want != got {
                wrong.push(format!("{what}: expected {want}, got {got}"));
            }
        };
        let Some(ex) = &seen.exchange else { return vec!["nothing ran".to_owned()] };
        let expect = &self.expect;
        if let Some(part) = &expect.build_error {
            check("configuration", format!("refused for {part}"), "accepted".to_owned());
        }
        let denial = seen.denial.as_deref();
        let verdict = if denial.is_some() { "abort" } else { "next" };
        check("verdict", expect.verdict.clone().unwrap_or_else(|| "next".to_owned()), verdict.to_owned());
        if let Some(code) = &expect.code {
            check("code", code.clone(), denial.map(|d| d.code.to_string()).unwrap_or_default());
        }
        if let Some(status) = expect.status {
            check("status", status.to_string(), denial.map_or(0, Denial::status).to_string());
        }
        if let Some(decision) = &expect.decision {
            let last = ex.executions.last().map(|e| e.decision.as_str()).unwrap_or_default();
            check("decision", decision.clone(), last.to_owned());
        }
        if let Some(body) = &expect.body {
            let (want, got) = comparable(body, &ex.draft.body);
            check("body", want, got);
        }
        if let Some(model) = &expect.model {
            check("model", model.clone(), ex.draft.model.clone().unwrap_or_default());
        }
        if let Some(want) = &expect.headers {
            check("headers", format!("{want:?}"), format!("{:?}", edits(&ex.draft.request_edits)));
        }
        if let Some(want) = &expect.response_headers {
            check("response_headers", format!("{want:?}"), format!("{:?}", edits(&ex.draft.response_edits)));
        }
        if let Some(want) = &expect.tags {
            let got: BTreeMap<_, _> = ex.draft.tags.iter().cloned().collect();
            check("tags", format!("{want:?}"), format!("{got:?}"));
        }
        if let Some(body) = &expect.response_body {
            let held = ex.draft.response.as_ref().and_then(|r| r.body.clone()).unwrap_or_default();
            let (want, got) = comparable(body, &held);
            check("response_body", want, got);
        }
        if let Some(want) = &expect.response_stream {
            let want: Vec<OwnedFrame> = want.iter().map(|f| (f.event.clone(), f.data.clone())).collect();
            check("response_stream", format!("{want:#?}"), format!("{:#?}", seen.frames));
        }
        for (key, value) in &expect.notes {
            let notes = ex.executions.iter().flat_map(|e| &e.notes);
            let got: Vec<_> = notes.filter(|(k, _)| k == key).map(|(_, v)| v.as_str()).collect();
            if !got.contains(&value.as_str()) {
                check(&format!("note {key}"), value.clone(), format!("{got:?}"));
            }
        }
        if let Some(want) = &expect.sent {
            check("calls", want.len().to_string(), seen.sent.len().to_string());
            for (want, (url, headers, body)) in want.iter().zip(&seen.sent) {
                check("url", want.url.clone(), url.clone());
                for (name, value) in &want.headers {
                    let got = headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
                    check(&format!("sent {name}"), value.clone(), got.to_owned());
                }
                if let Some(expected) = &want.body {
                    let (want, got) = comparable(expected, body);
                    check("sent body", want, got);
                }
            }
        }
        wrong
    }
}

impl CallerCase {
    fn build(&self) -> Option<Arc<Caller>> {
        if self.anonymous {
            return None;
        }
        let organisation: Arc<str> = self.organisation.as_deref().unwrap_or("acme").into();
        let key: Arc<str> = self.key.as_deref().unwrap_or("key-1").into();
        let named = |name: &String| -> Arc<str> { name.as_str().into() };
        let team = self.team.as_ref().map(named).map(|name| Team {
            id: name.clone(),
            name,
            organisation: organisation.clone(),
            metadata: BTreeMap::new(),
        });
        let user = self.user.as_ref().map(named).map(|name| User {
            id: name.clone(),
            name,
            organisation: organisation.clone(),
            metadata: BTreeMap::new(),
        });
        let kind = match (&team, &user) {
            (Some(_), _) => KeyKind::Team,
            (None, Some(_)) => KeyKind::User,
            (None, None) => KeyKind::Organisation,
        };
        Some(Arc::new(Caller {
            key_id: key.clone(),
            key_name: key,
            kind,
            organisation: Arc::new(Organisation {
                id: organisation.clone(),
                name: organisation,
                metadata: self.metadata.clone(),
            }),
            team: team.map(Arc::new),
            user: user.map(Arc::new),
            models: self.models.iter().cloned().collect(),
            mcp_servers: Default::default(),
        }))
    }

    fn directory(&self, caller: &Option<Arc<Caller>>) -> Directory {
        let Some(caller) = caller else { return Directory::default() };
        let model = |name: &String| {
            Arc::new(ModelEntry {
                name: name.as_str().into(),
                slug: name.as_str().into(),
                provider: "provider".into(),
                organisation: caller.organisation.id.clone(),
            })
        };
        Directory::new(
            vec![caller.organisation.clone()],
            caller.team.iter().cloned().collect(),
            caller.user.iter().cloned().collect(),
            vec![KeyEntry { caller: caller.clone(), revoked: false }],
            self.models.iter().map(model).collect(),
        )
    }
}

impl ResponseCase {
    fn build(&self) -> Result<Response, Refused> {
        Ok(Response {
            status: self.status.unwrap_or(200),
            headers: head(&self.headers)?,
            body: if self.stream.is_some() { None } else { Some(bytes(&self.body)) },
        })
    }
}

/// Why a case did not run.
enum Refused {
    Build(String),
    Case(String),
}

/// What came of it.
#[derive(Default)]
struct Seen {
    exchange: Option<Exchange>,
    denial: Option<Box<Denial>>,
    frames: Vec<OwnedFrame>,
    sent: Vec<(String, HeaderMap, Bytes)>,
}

impl Seen {
    fn stream(&mut self, chain: &Chain, ex: &mut Exchange, frames: &[FrameCase]) {
        let Some(mut filters) = StreamChain::start(chain, ex) else {
            self.frames = frames.iter().map(|f| (f.event.clone(), f.data.clone())).collect();
            return;
        };
        for frame in frames {
            let own = |data: &str| (frame.event.clone(), data.to_owned());
            match filters.frame(&frame.data, frame.event.as_deref()) {
                FrameVerdict::Pass => self.frames.push(own(&frame.data)),
                FrameVerdict::Replace(data) => self.frames.push(own(&data)),
                FrameVerdict::Hold => {}
                FrameVerdict::Emit(out) => self.frames.extend(out),
                FrameVerdict::Abort(_) => break,
            }
        }
        self.frames.extend(filters.finish());
        self.denial = filters.denial().cloned().map(Box::new);
        filters.settle(&mut ex.executions);
    }
}

/// The record of a finished request, kept.
#[derive(Default)]
struct Kept(Arc<Mutex<Vec<Execution>>>);

impl Ledger for Kept {
    fn close(&self, finished: Arc<Finished>) {
        self.0.lock().clone_from(&finished.executions);
    }
}

/// Systems outside: answers from the case, and notes what it was sent.
struct Outside {
    replies: Mutex<VecDeque<Reply>>,
    sent: Mutex<Vec<(String, HeaderMap, Bytes)>>,
}

#[async_trait]
impl Egress for Outside {
    async fn send(&self, _: SocketAddr, tls: Option<&str>, out: Outbound) -> Result<HttpResponse, HostError> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        self.sent.lock().push((format!("{scheme}://{}{}", out.authority, out.path_and_query), out.headers, out.body));
        let reply = self.replies.lock().pop_front().filter(|reply| !reply.unreachable);
        let reply = reply.ok_or(HostError::Unreachable)?;
        tokio::time::sleep(Duration::from_millis(reply.after_ms)).await;
        let headers = head(&reply.headers).map_err(|_| HostError::Broken("the case's headers"))?;
        Ok(HttpResponse { status: reply.status, headers, body: bytes(&reply.body) })
    }
}

/// Every name has one public address.
struct Somewhere;

#[async_trait]
impl Resolver for Somewhere {
    async fn resolve(&self, _: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(vec![SocketAddr::from(([8, 8, 8, 8], port))])
    }
}

fn bytes(value: &Value) -> Bytes {
    match value {
        Value::Null => Bytes::new(),
        Value::String(text) => Bytes::from(text.clone()),
        json => Bytes::from(json.to_string()),
    }
}

fn head(fields: &BTreeMap<String, String>) -> Result<HeaderMap, Refused> {
    let mut head = HeaderMap::new();
    for (name, value) in fields {
        let wrong = || Refused::Case(format!("malformed header {name}"));
        let field = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
        head.insert(field, HeaderValue::from_str(value).map_err(|_| wrong())?);
    }
    Ok(head)
}

fn edits(edits: &[HeaderEdit]) -> BTreeMap<String, Option<String>> {
    let value = |edit: &HeaderEdit| match edit {
        HeaderEdit::Set(_, value) => value.to_str().ok().map(str::to_owned),
        HeaderEdit::Remove(_) => None,
    };
    edits.iter().map(|edit| (edit.name().to_string(), value(edit))).collect()
}

/// Both sides as texts: byte for byte where a text is expected, as JSON otherwise.
fn comparable(want: &Value, got: &Bytes) -> (String, String) {
    let raw = String::from_utf8_lossy(got).into_owned();
    match want {
        Value::String(text) => (text.clone(), raw),
        json => (json.to_string(), serde_json::from_slice::<Value>(got).map_or(raw, |value| value.to_string())),
    }
}

#[cfg(test)]
#[path = "harness_test.rs"]
mod tests;
