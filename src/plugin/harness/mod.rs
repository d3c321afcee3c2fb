//! Runs the cases of a plugin's folder with the gateway's own runner, so that a case shows what a request would see.
//!
//! A case is data (`plugins/<name>/cases/*.yaml`); [`Case::run`] returns the differences from its expectation. Only the
//! network is not real: its answers are in the case.

mod caller;
mod case;
mod compare;
mod outside;
mod shelf;
mod used;

pub use case::*;
use outside::{Outside, Sent, Somewhere};
use shelf::Shelf;
pub use used::Used;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use parking_lot::Mutex;
use serde_json::Value;

use super::delivery::{Delivery, Notice};
use super::host::SharedHost;
use super::network::HostRule;
use super::{Granted, Instance, InstanceSpec, Manifest, Need, OwnedFrame, Verdict};
use crate::error::Denial;
use crate::gate::{
    self, Background, Chain, ChainSpec, Exchange, Execution, Facts, Finished, FrameVerdict, Gate, Ledger, RequestId, Response, StreamChain,
    Style,
};
use crate::identity::{Caller, Secret};
use crate::telemetry::Metrics;
use crate::wire::{Endpoint, sse};

impl Case {
    /// Reads the cases of a folder (`*.yaml`), in the order of file names.
    ///
    /// # Errors
    /// The folder cannot be read, or a file is not a case; a message for people.
    pub fn read_folder(folder: &Path) -> Result<Vec<(String, Self)>, String> {
        let entries = std::fs::read_dir(folder).map_err(|error| error.to_string())?;
        let mut files: Vec<_> =
            entries.flatten().map(|entry| entry.path()).filter(|file| file.extension().is_some_and(|x| x == "yaml")).collect();
        files.sort();
        let read = |file: &PathBuf| {
            let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let text = std::fs::read_to_string(file).map_err(|error| format!("{name}: {error}"))?;
            let case = serde_yaml::from_str(&text).map_err(|error| format!("{name}: {error}"))?;
            Ok((name, case))
        };
        files.iter().map(read).collect()
    }

    /// Runs every case of a folder and returns the differences from the expectations. Also meant for testing a plugin in a
    /// crate of its own.
    pub async fn run_folder(manifest: &'static Manifest, folder: &Path) -> Vec<String> {
        let cases = match Self::read_folder(folder) {
            Ok(cases) if cases.is_empty() => return vec![format!("{}: no case", folder.display())],
            Ok(cases) => cases,
            Err(error) => return vec![format!("{}: {error}", folder.display())],
        };
        let mut wrong = Vec::new();
        for (file, case) in cases {
            wrong.extend(case.run(manifest).await.into_iter().map(|told| format!("{}/{file} ({}): {told}", manifest.name, case.name)));
        }
        wrong
    }

    /// Runs the case and returns the differences from its expectation.
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
        let outside = Arc::new(Outside::new(&self.replies));
        let queue = Background::start(64, 1, None);
        let shelf = Arc::new(Shelf::default());
        let shared = SharedHost::new(outside.clone(), queue.clone()).with_resolver(Arc::new(Somewhere)).with_dispatch(shelf.clone());
        let caller = self.caller.build();
        let instance = Instance::build(manifest, self.spec(manifest)?, &shared, Arc::new(self.caller.directory(&caller)))
            .map_err(|error| Refused::Build(error.to_string()))?;
        let chain = self.chain(manifest, &instance)?;
        let (facts, headers, body) = self.request(&caller)?;
        let mut ex = Exchange::new(facts);
        ex.draft.body = body;
        // As in the proxy: the caller's head is not available any more when the answer arrives.
        let gone = HeaderMap::new();
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
                        safety: Vec::new(),
                        outcome: ex.outcome.clone(),
                    };
                    gate::post_response(&chain, Arc::new(finished), &queue, ledger);
                    queue.drain(Duration::from_secs(5)).await;
                    ex.executions = std::mem::take(&mut *kept.lock());
                }
                _ if seen.denial.is_some() => {}
                gate => {
                    let response = self.response.as_ref().filter(|_| *gate == Gate::PostUpstream);
                    // As in the proxy, a stream is held for a step that reads answers and does not filter streams. The same if
                    // that need is withheld: holding alone must not look like a use of the need.
                    let withheld = self.withheld == Some(super::Need::ReadResponse) && !manifest.streams;
                    let held = withheld || chain.needs_response_body();
                    if let Some(response) = response {
                        ex.draft.response = Some(response.build(held)?);
                        ex.facts.stream |= response.stream.is_some();
                    }
                    if let Verdict::Abort(denial) =
                        gate::run(&chain, *gate, &mut ex, if *gate == Gate::PostUpstream { &gone } else { &headers }).await
                    {
                        seen.denial = Some(denial);
                    } else if held && response.is_some_and(|r| r.stream.is_some()) {
                        let body = ex.draft.response.as_ref().and_then(|r| r.body.clone()).unwrap_or_default();
                        seen.frames = frames_of(&body);
                    } else if let Some(frames) = response.and_then(|r| r.stream.as_ref()) {
                        seen.stream(&chain, &mut ex, frames);
                    }
                }
            }
        }
        for notice in &self.notices {
            // As in the gateway: only instances with the need get notices.
            if instance.needs.contains(Need::Notices)
                && let Err(error) = instance.plugin.notice(&notice.build()).await
            {
                seen.notices.push(error.to_string());
            }
        }
        seen.deliveries = shelf.sent_by(&*instance.plugin).await;
        seen.sent = outside.sent();
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
        if let Some(need) = self.withheld {
            granted = granted.without(need);
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
            let style = self.style_at(manifest, *gate);
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

    /// The style in which the plugin is listed at a gate: that of the case, or the first that its manifest has for the gate.
    fn style_at(&self, manifest: &Manifest, gate: Gate) -> Style {
        let style = self.style.filter(|style| *style != Style::Background || gate == Gate::PostResponse);
        let fits = |style: &&Style| gate::placement(manifest, gate, **style).is_ok();
        style.or_else(|| manifest.styles.iter().find(fits).copied()).unwrap_or(Style::Sequential)
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
}

impl ResponseCase {
    fn build(&self, held: bool) -> Result<Response, Refused> {
        let mut headers = head(&self.headers)?;
        let body = match &self.stream {
            None => Some(bytes(&self.body)),
            Some(frames) => {
                headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("text/event-stream"));
                let events = frames.iter().flat_map(|frame| sse::encode(frame.event.as_deref(), &frame.data));
                held.then(|| events.collect())
            }
        };
        Ok(Response { status: self.status.unwrap_or(200), headers, body })
    }
}

impl NoticeCase {
    fn build(&self) -> Notice {
        Notice {
            id: self.id.clone(),
            event: if self.event == "quota.threshold" { "quota.threshold" } else { "budget.threshold" },
            at: SystemTime::UNIX_EPOCH,
            organisation: self.organisation.clone(),
            subject: self.subject.clone(),
            facts: self.facts.clone(),
        }
    }
}

/// The events of a held stream.
fn frames_of(body: &[u8]) -> Vec<OwnedFrame> {
    let mut parser = sse::Parser::new(body.len() + 1);
    let mut events: Vec<_> = parser.push(body).flatten().collect();
    events.extend(parser.finish());
    events.into_iter().map(|event| (event.event, event.data)).collect()
}

/// Why a case could not be run.
enum Refused {
    Build(String),
    Case(String),
}

/// The result of a run.
#[derive(Default)]
struct Seen {
    exchange: Option<Exchange>,
    denial: Option<Box<Denial>>,
    frames: Vec<OwnedFrame>,
    sent: Vec<Sent>,
    deliveries: Vec<(Delivery, &'static str)>,
    /// Errors of the plugin's `notice`.
    notices: Vec<String>,
}

impl Seen {
    fn stream(&mut self, chain: &Chain, ex: &mut Exchange, frames: &[FrameCase]) {
        let Some(mut filters) = StreamChain::start(chain, ex) else {
            self.frames = frames.iter().map(|f| (f.event.clone(), f.data.clone())).collect();
            return;
        };
        for frame in frames {
            let own = |data: &str| (frame.event.clone(), data.to_owned());
            if frame.data == "[DONE]" {
                // As in the proxy: held frames are sent first, and the end mark is not filtered.
                self.frames.extend(filters.finish());
                if filters.denial().is_none() {
                    self.frames.push(own(&frame.data));
                }
                continue;
            }
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
        gate::close(chain, &mut ex.executions);
    }
}

/// A ledger that keeps the executions.
#[derive(Default)]
struct Kept(Arc<Mutex<Vec<Execution>>>);

impl Ledger for Kept {
    fn close(&self, finished: Arc<Finished>) {
        self.0.lock().clone_from(&finished.executions);
    }

    fn add(&self, _: RequestId, execution: Execution) {
        self.0.lock().push(execution);
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

#[cfg(test)]
#[path = "test.rs"]
mod tests;
