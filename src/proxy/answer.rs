//! The answer's half of the path: what passes through, what is held until it has been judged, and what is scanned as it streams.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::{ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora::Result;
use pingora_http::ResponseHeader;

use super::context::{Context, Destination, rpc_id};
use super::fields::{BYTES, apply_edits, clean_head, fields, forget_bytes, is_part};
use super::inflate::{self, Inflate, decoded};
use super::tap::{Answer, Judge, Overflow};
use super::upstream::same;
use super::watch::Watched;
use super::{mcp, receipt, respond};
use crate::error::{Denial, codes};
use crate::gate::guard::{Claim, Flow, StreamGuard};
use crate::gate::{self, End, Exchange, FrameVerdict, Gate, Guard, RequestId, Response, StreamChain, Turn, Verdict};
use crate::route::{self, McpServer, Route};
use crate::wire::{self, Dialect, Endpoint, Usage, UsageSource, sse, usage::UsageStream};

/// One SSE event may be this large; a provider's largest carry a whole tool call.
const MAX_EVENT: usize = 4 * 1024 * 1024;
/// The headers in which providers send their own request id.
const PROVIDER_IDS: [HeaderName; 2] = [HeaderName::from_static("x-request-id"), HeaderName::from_static("request-id")];

/// `response_filter`: the head has arrived; decides how the body travels.
///
/// # Errors
/// A plugin refused on the head alone, or the answer cannot be inspected. Nothing has been sent to the caller yet.
pub async fn head(head: &mut ResponseHeader, cx: &mut Context) -> Result<()> {
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        // No upgrade was forwarded, so none was requested; and no gate could inspect a connection that is not HTTP any more.
        return cx.refuse(Denial::of(mcp::code_of_failure(cx.destination.as_ref())));
    }
    let elsewhere = head.status.is_redirection() && head.status != StatusCode::NOT_MODIFIED;
    if elsewhere && !matches!(cx.destination, Some(Destination::Upstream(_))) {
        // SDKs would follow the redirect with the request as the caller wrote it, past all gates.
        log::warn!(target: "proxy", request_id = cx.id.to_string().as_str(), status = head.status.as_u16(); "a provider's redirect is not passed on: its base_url is another");
        return cx.refuse(Denial::of(mcp::code_of_failure(cx.destination.as_ref())));
    }
    if head.status.is_informational() {
        return fields(head, |fields| drop(fields.remove(receipt::RECEIPT)));
    }
    let (Some(exchange), Some(route), Some(tap)) = (&mut cx.exchange, &cx.route, &cx.tap) else {
        return Ok(());
    };
    cx.upstream_status = head.status.as_u16();
    cx.upstream_took = cx.upstream_started.map(|at| at.elapsed());
    let provider_id = PROVIDER_IDS.iter().find_map(|name| head.headers.get(name)).and_then(|v| v.to_str().ok());
    exchange.outcome.provider_request_id = provider_id.map(|v| v.get(..128).unwrap_or(v).to_owned());
    let from_provider = matches!(cx.destination, Some(Destination::Provider { .. } | Destination::Mcp(_)));
    clean_head(head, from_provider, &cx.id_value, |fields| match &cx.governed {
        Some(governed) => governed.insert_headers(fields, exchange.facts.dialect),
        None => Ok(()),
    })?;

    let streamed = is_event_stream(head);
    let chain = &route.chain;
    let guarded = !chain.is_empty(Gate::PostUpstream);
    let readers = chain.readers(&exchange.facts, &exchange.draft, streamed);
    // What only observes must not make a difference: it looks where it can.
    let mut guard = cx.live.guard(route.index).filter(|guard| guard.reads_answers_of(exchange.facts.dialect));
    let enforcing = guard.is_some_and(|guard| guard.enforces());
    // Tools that the server's rules forbid are removed from its tool lists too.
    let offer = match &cx.destination {
        Some(Destination::Mcp(called)) if !called.server.tools.is_empty() => Some(Arc::clone(&called.server)),
        _ => None,
    };
    let strict = readers.enforces || enforcing || offer.is_some();
    if strict && is_part(head) {
        // What is to be found may begin in another part, and nobody here sees both.
        return cx.refuse(Denial::of(codes::ANSWER_UNREADABLE));
    }
    let mut inflate = None;
    let mut follows = readers.follows;
    if streamed && (strict || follows || guard.is_some()) && head.headers.contains_key(CONTENT_ENCODING) {
        let mut encodings = head.headers.get_all(CONTENT_ENCODING).iter();
        inflate = encodings.next().and_then(Inflate::of).filter(|_| encodings.next().is_none());
        if inflate.is_none() {
            if strict {
                return cx.refuse(Denial::of(codes::ANSWER_UNREADABLE));
            }
            for (who, _) in [("safety", guard.take().is_some()), ("plugins", std::mem::take(&mut follows))].iter().filter(|(_, due)| *due) {
                exchange.draft.tags.push(((*who).to_owned(), "answer_unread".to_owned()));
            }
        }
    }
    let cap = cx.live.snapshot.server.max_held_response;
    let claimed = |head: &ResponseHeader| head.headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    let bodiless = exchange.facts.method == http::Method::HEAD || matches!(cx.upstream_status, 204 | 304);
    if readers.holds || (enforcing || offer.is_some()) && !streamed {
        if !bodiless && claimed(head).is_some_and(|n| n > cap as u64) && route.held_overflow == route::Overflow::Deny {
            return cx.refuse(Denial::of(codes::ANSWER_TOO_LARGE));
        }
        // The judge meters an answer that it is certain to see whole; one that may be released unread is metered here.
        cx.unmetered = route.held_overflow == route::Overflow::Deny;
        if let Some(exchange) = cx.exchange.take() {
            let guard = guard.cloned();
            tap.hold(cap, AnswerJudge { exchange, route: route.clone(), guard, offer, unasked: cx.usage_unasked, cap });
        }
        return Ok(());
    }
    // Of no body there is no copy to wait for.
    let bodiless = bodiless || (readers.watches || guard.is_some()) && claimed(head) == Some(0);
    let watches = readers.watches && !bodiless;
    if guarded {
        let body = (readers.watches && bodiless).then(Bytes::new);
        exchange.draft.response = Some(Response { status: cx.upstream_status, headers: head.headers.clone(), body });
        let turn = if watches { Turn::Head { streamed } } else { Turn::All };
        if let Verdict::Abort(denial) = gate::run_turn(chain, Gate::PostUpstream, exchange, &HeaderMap::new(), turn).await {
            exchange.outcome.denial = Some((*denial).clone());
            return cx.refuse(*denial);
        }
        apply_edits(head, &exchange.draft.response_edits)?;
    }
    let watcher = guard.filter(|_| !streamed && !bodiless).cloned();
    if streamed {
        let scanner = if guarded && (strict || follows) { StreamChain::start(chain, exchange) } else { None };
        let guard = guard.and_then(|guard| guard.stream(exchange));
        let aside = !strict;
        if inflate.is_some() && !aside {
            head.remove_header(&CONTENT_ENCODING);
        }
        // A compressed stream that nothing needs to read passes unchanged.
        let unasked = cx.usage_unasked && !head.headers.contains_key(CONTENT_ENCODING);
        let streaming = Streaming::new(exchange.facts.dialect, exchange.facts.endpoint, cx.id, scanner, guard);
        let theirs = rpc_id(exchange.facts.dialect, exchange);
        let streaming = Streaming { offer, inflate, aside, unasked, theirs, ..streaming };
        if unasked || streaming.inflate.is_some() && !aside || streaming.acts() {
            forget_bytes(head)?;
            // What leaves may be longer or shorter than what came.
            head.remove_header(&CONTENT_LENGTH);
            if cx.attempts > 0 && head.version != http::Version::HTTP_2 {
                head.insert_header(http::header::TRANSFER_ENCODING, "chunked")?;
            }
        }
        cx.streaming = Some(Box::new(parking_lot::Mutex::new(streaming)));
    }
    cx.watched = Watched::of(head, watcher, watches.then(|| Arc::clone(route)), streamed, cap);
    receipt::write(head, route, exchange)
}

/// What an answer's head says of its body.
fn claim(head: &ResponseHeader, must_read: bool) -> Claim<'_> {
    let content_type = head.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    Claim { status: head.status.as_u16(), content_type, must_read }
}

fn is_event_stream(head: &ResponseHeader) -> bool {
    head.headers.get(CONTENT_TYPE).is_some_and(|media| sse::is_event_stream(media.as_bytes()))
}

/// `response_body_filter`: the next chunk of an answer that is not held.
pub fn body(body: &mut Option<Bytes>, end: bool, cx: &mut Context) {
    if end {
        cx.upstream_ended.get_or_insert_with(Instant::now);
    }
    cx.bytes_received += body.as_ref().map_or(0, Bytes::len) as u64;
    let Some(streaming) = &mut cx.streaming else { return cx.keep(body.as_ref(), end) };
    let streaming = streaming.get_mut();
    let passed = streaming.push(body.take().unwrap_or_default(), end);
    if let Some(denial) = streaming.denied.take() {
        if let Some(tap) = &cx.tap {
            tap.end_early();
        }
        cx.denial = Some(denial);
    }
    if cx.watched.is_some() {
        cx.keep(Some(&passed), end && cx.denial.is_none());
    }
    *body = Some(passed);
}

/// One streamed answer on its way: events are metered, and scanned if a guard or plugin of the chain reads them.
pub struct Streaming {
    parser: sse::Parser,
    /// Decodes the provider's `content-encoding`, if a stream that must be read has one.
    inflate: Option<Inflate>,
    /// Who reads it decoded only looks: the caller gets it as it came.
    aside: bool,
    guard: Option<StreamGuard>,
    scanner: Option<StreamChain>,
    /// The MCP server whose rules say which tools an event may list.
    offer: Option<Arc<McpServer>>,
    usage: UsageStream,
    /// Whether the gateway, not the caller, asked for the usage event, which is then removed from the stream.
    unasked: bool,
    /// Whether an event was too large to be parsed; the rest of the stream passes unread.
    unread: bool,
    dialect: Dialect,
    endpoint: Endpoint,
    id: RequestId,
    /// The id of the caller's JSON-RPC message, as it stands in the body.
    theirs: Option<String>,
    denied: Option<Denial>,
    cut: bool,
}

impl Streaming {
    fn new(dialect: Dialect, endpoint: Endpoint, id: RequestId, scanner: Option<StreamChain>, guard: Option<StreamGuard>) -> Self {
        Self {
            parser: sse::Parser::new(MAX_EVENT),
            inflate: None,
            aside: false,
            guard,
            scanner,
            offer: None,
            usage: UsageStream::new(dialect),
            unasked: false,
            unread: false,
            dialect,
            endpoint,
            id,
            theirs: None,
            denied: None,
            cut: false,
        }
    }

    /// The usage that the stream has reported so far.
    pub fn usage(&self) -> Usage {
        self.usage.usage()
    }

    /// A part of it was not read by those who only observe.
    pub fn unread(&self) -> bool {
        self.unread && (self.guard.is_some() || self.scanner.is_some())
    }

    /// Whether an event told that the provider failed.
    pub fn failed(&self) -> bool {
        self.usage.failed()
    }

    /// What the stream's filters and its guard did, once it is over.
    pub fn into_parts(self) -> (Option<StreamChain>, Option<StreamGuard>) {
        (self.scanner, self.guard)
    }

    /// Whether anything may change the stream's bytes.
    fn acts(&self) -> bool {
        self.scanner.as_ref().is_some_and(StreamChain::acts) || self.offer.is_some() || self.guard.as_ref().is_some_and(StreamGuard::acts)
    }

    fn push(&mut self, chunk: Bytes, end: bool) -> Bytes {
        let Some(mut inflate) = self.inflate.take() else { return self.read(chunk, end) };
        let mut out = Vec::new();
        if self.aside {
            if !self.unread && inflate.each(&chunk, |piece| drop(self.read(piece.into(), false))).is_err() {
                self.unread = true;
            }
            if end && !self.unread {
                self.read(Bytes::new(), true);
            }
            self.inflate = Some(inflate);
            return chunk;
        }
        let inflated = inflate.each(&chunk, |piece| out.extend(self.read(piece.into(), false)));
        self.inflate = Some(inflate);
        match inflated {
            Ok(()) if end => out.extend(self.read(Bytes::new(), true)),
            Ok(()) => {}
            Err(inflate::Broken) if self.cut => {}
            Err(inflate::Broken) => out = self.cut_off(out, Denial::of(codes::ANSWER_UNREADABLE)).into(),
        }
        out.into()
    }

    /// Reads the next chunk of the decoded stream and returns the bytes to send instead.
    fn read(&mut self, chunk: Bytes, end: bool) -> Bytes {
        if self.cut {
            return Bytes::new();
        }
        if self.unread {
            return chunk;
        }
        let acts = self.acts();
        // A chunk of whole events of which none is removed is passed on without copying it.
        let (mut out, mut as_it_is) = (Vec::new(), self.parser.held() == 0);
        let mut events: Vec<_> = self.parser.push(&chunk).collect();
        if end {
            // At the end of the stream a last event without its blank line counts as well.
            events.extend(self.parser.finish().map(Ok));
        }
        for event in events {
            // An event above the cap cannot be read: a stream that nothing acts on passes unmetered, any other is cut off here.
            let Ok(event) = event else {
                if acts {
                    return self.cut_off(out, Denial::of(codes::ANSWER_UNREADABLE));
                }
                self.unread = true;
                let rest = self.parser.give_up();
                return if self.unasked { [&out[..], &rest].concat().into() } else { chunk };
            };
            if self.usage.event(event.event.as_deref(), &event.data) && self.unasked && wire::usage::stands_alone(&event.data) {
                as_it_is = false;
                continue;
            }
            if !acts {
                if self.unasked {
                    out.extend_from_slice(&event.raw);
                }
                self.look(&event);
                continue;
            }
            if event.data.is_empty() && !event.is_well_formed() {
                return self.cut_off(out, Denial::of(codes::ANSWER_UNREADABLE));
            }
            let event = match self.beside(event) {
                Ok(event) => event,
                Err(denial) => return self.cut_off(out, *denial),
            };
            if event.data.is_empty() {
                out.extend_from_slice(&event.raw);
                continue;
            }
            let done = event.data == "[DONE]";
            let passed = if done { self.finish(&mut out) } else { self.frame(&event, &mut out) };
            if let Err(denial) = passed {
                return self.cut_off(out, *denial);
            }
            if done {
                out.extend_from_slice(&event.raw);
            }
        }
        if end && let Err(denial) = self.finish(&mut out) {
            return self.cut_off(out, *denial);
        }
        let whole = as_it_is && self.parser.held() == 0;
        if acts || self.unasked && !whole { Bytes::from(out) } else { chunk }
    }

    /// Shows an event to those who only observe.
    fn look(&mut self, event: &sse::Event) {
        if event.data.is_empty() {
            return;
        }
        if let Some(guard) = &mut self.guard {
            guard.frame(event.event.as_deref(), &event.data);
        }
        match &mut self.scanner {
            Some(scanner) if event.data == "[DONE]" => drop(scanner.finish()),
            Some(scanner) => drop(scanner.frame(&event.data, event.event.as_deref())),
            None => {}
        }
    }

    /// Looks at what stands beside the data of an event: fields that no reader knows go, and so do a name, an id and comments
    /// in which anything is to be redacted.
    fn beside(&mut self, event: sse::Event) -> std::result::Result<sse::Event, Box<Denial>> {
        let Some(guard) = self.guard.as_mut().filter(|guard| guard.acts()) else { return Ok(event) };
        if event.is_plain() {
            return Ok(event);
        }
        let mut refused = None;
        let kept = event.kept(|said| match guard.beside(said) {
            Ok(clean) => clean,
            Err(denial) => {
                refused.get_or_insert(denial);
                false
            }
        });
        refused.map_or(Ok(kept), Err)
    }

    /// Passes one event through SafetySec and then, with what SafetySec leaves of it, through the plugins' filters.
    fn frame(&mut self, event: &sse::Event, out: &mut Vec<u8>) -> std::result::Result<(), Box<Denial>> {
        let data = match &self.offer {
            Some(server) => mcp::offered_in_event(server, &event.data),
            None => Cow::Borrowed(&*event.data),
        };
        let flow = self.guard.as_mut().map_or(Flow::Pass, |guard| guard.frame(event.event.as_deref(), &data));
        match flow {
            Flow::Stop(denial) => Err(denial),
            Flow::Pass => filtered(&mut self.scanner, event.event.as_deref(), &data, Some(event), out),
            Flow::Frames(frames) => frames.iter().try_for_each(|(name, data)| {
                filtered(&mut self.scanner, name.as_deref(), data, (*name == event.event).then_some(event), out)
            }),
        }
    }

    /// Appends what the guard and the filters still hold back.
    fn finish(&mut self, out: &mut Vec<u8>) -> std::result::Result<(), Box<Denial>> {
        let rest = self.guard.as_mut().map_or_else(|| Ok(Vec::new()), StreamGuard::finish)?;
        for (name, data) in &rest {
            filtered(&mut self.scanner, name.as_deref(), data, None, out)?;
        }
        let Some(scanner) = &mut self.scanner else { return Ok(()) };
        for (name, data) in scanner.finish() {
            out.extend_from_slice(&sse::encode(name.as_deref(), &data));
        }
        scanner.denial().cloned().map_or(Ok(()), |denial| Err(Box::new(denial)))
    }

    /// Ends the stream with one well-formed error event in the caller's dialect and without `[DONE]`.
    fn cut_off(&mut self, mut out: Vec<u8>, denial: Denial) -> Bytes {
        self.cut = true;
        out.extend_from_slice(&wire::envelope::stream_error(
            self.dialect,
            self.endpoint,
            &denial,
            &self.id.to_string(),
            self.theirs.as_deref(),
        ));
        self.denied = Some(denial);
        Bytes::from(out)
    }
}

/// Passes one frame through the plugins' filters. The other fields of its event are kept.
fn filtered(
    scanner: &mut Option<StreamChain>,
    name: Option<&str>,
    data: &str,
    event: Option<&sse::Event>,
    out: &mut Vec<u8>,
) -> std::result::Result<(), Box<Denial>> {
    let verdict = scanner.as_mut().map_or(FrameVerdict::Pass, |scanner| scanner.frame(data, name));
    match (verdict, event) {
        (FrameVerdict::Pass, Some(event)) if event.data == data => out.extend_from_slice(&event.raw),
        (FrameVerdict::Pass, Some(event)) => out.extend_from_slice(&event.with_data(name, data)),
        (FrameVerdict::Pass, None) => out.extend_from_slice(&sse::encode(name, data)),
        (FrameVerdict::Replace(data), Some(event)) => out.extend_from_slice(&event.with_data(name, &data)),
        (FrameVerdict::Replace(data), None) => out.extend_from_slice(&sse::encode(name, &data)),
        (FrameVerdict::Hold, _) => {}
        (FrameVerdict::Emit(frames), _) => {
            for (name, data) in frames {
                out.extend_from_slice(&sse::encode(name.as_deref(), &data));
            }
        }
        (FrameVerdict::Abort(denial), _) => return Err(denial),
    }
    Ok(())
}

/// Judges held answers: SafetySec and the plugins at `post_upstream` see head and whole body before a byte is sent.
pub struct AnswerJudge {
    exchange: Box<Exchange>,
    route: Arc<Route>,
    guard: Option<Arc<Guard>>,
    /// The MCP server whose rules say which tools the answer may list.
    offer: Option<Arc<McpServer>>,
    /// See [`Streaming::unasked`].
    unasked: bool,
    cap: usize,
}

impl AnswerJudge {
    /// Returns the exchange, which the judge owns while it holds the answer.
    pub fn into_exchange(self) -> Box<Exchange> {
        self.exchange
    }

    async fn decide(&mut self, head: &mut ResponseHeader, body: Bytes) -> std::result::Result<Bytes, Box<Denial>> {
        let encodings: Vec<HeaderValue> = head.headers.get_all(CONTENT_ENCODING).iter().cloned().collect();
        let plain = body.is_empty() || encodings.iter().all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
        let came = body.clone();
        let body = decoded(&encodings, body, self.cap)?;
        if !plain {
            head.remove_header(&CONTENT_ENCODING);
        }
        let mut body = self.read(head, body)?;
        if let Some(server) = self.offer.as_ref().filter(|_| !is_event_stream(head)) {
            body = mcp::offered(server, body);
        }
        let exchange = &mut *self.exchange;
        if let Some(guard) = self.guard.as_ref().filter(|_| !is_event_stream(head)) {
            let claim = claim(head, self.route.guard_unparsed);
            body = guard.answer(exchange, body, claim).await.map_err(Box::new)?;
        }
        let broken = |_| Box::new(Denial::of(codes::INTERNAL));
        // Moved to the steps and back, not copied.
        let own = fields(head, std::mem::take).map_err(broken)?;
        exchange.draft.response = Some(Response { status: head.status.as_u16(), headers: own, body: Some(body) });
        let verdict = gate::run(&self.route.chain, Gate::PostUpstream, exchange, &HeaderMap::new()).await;
        if let Verdict::Abort(denial) = verdict {
            exchange.draft.response = None;
            return Err(denial);
        }
        let seen = exchange.draft.response.take();
        let (mut own, body) = seen.map(|seen| (seen.headers, seen.body.unwrap_or_default())).unwrap_or_default();
        let changed = !same(&came, &body) && came != body;
        if exchange.facts.method == http::Method::HEAD && head.status != StatusCode::NOT_MODIFIED {
            // Of what a GET would bring it says nothing: that might be changed.
            BYTES.iter().chain([&CONTENT_LENGTH]).for_each(|name| drop(own.remove(name)));
        } else if changed {
            BYTES.iter().for_each(|name| drop(own.remove(name)));
        }
        own.remove(ACCEPT_RANGES);
        fields(head, |fields| *fields = own).map_err(broken)?;
        let edited = apply_edits(head, &exchange.draft.response_edits);
        let written = edited.and_then(|()| receipt::write(head, &self.route, exchange));
        written.map(|()| body).map_err(broken)
    }

    /// Meters the answer. A held stream is also scanned frame by frame, for the steps that read frames: text that is split over
    /// two frames stands whole in neither.
    fn read(&mut self, head: &ResponseHeader, body: Bytes) -> std::result::Result<Bytes, Box<Denial>> {
        let exchange = &mut *self.exchange;
        let dialect = exchange.facts.dialect;
        if !is_event_stream(head) {
            exchange.outcome.usage = usage_of(dialect, head, &body);
            return Ok(body);
        }
        let scanner = StreamChain::start(&self.route.chain, exchange);
        let guard = self.guard.as_ref().and_then(|guard| guard.stream(exchange));
        let streaming = Streaming::new(dialect, exchange.facts.endpoint, exchange.facts.id, scanner, guard);
        let theirs = rpc_id(dialect, exchange);
        let mut streaming = Streaming { offer: self.offer.clone(), unasked: self.unasked, theirs, ..streaming };
        let body = streaming.push(body, true);
        exchange.outcome.usage = streaming.usage();
        if streaming.failed() {
            exchange.outcome.end = End::UpstreamError;
        }
        let denied = streaming.denied.take();
        let (scanner, watched) = streaming.into_parts();
        if let Some(scanner) = scanner {
            scanner.settle(&mut exchange.executions);
        }
        if let (Some(guard), Some(watched)) = (&self.guard, watched) {
            guard.streamed(exchange, watched);
        }
        match denied {
            Some(denial) => Err(Box::new(denial)),
            None => Ok(body),
        }
    }

    /// Records a refusal in the exchange and renders it.
    fn refuse(&mut self, denial: Denial) -> Answer {
        let facts = &self.exchange.facts;
        let theirs = rpc_id(facts.dialect, &self.exchange);
        let answer = match respond::render(&denial, facts.dialect, (&facts.id, theirs.as_deref())) {
            Ok((mut head, body)) => {
                let _ = receipt::write(&mut head, &self.route, &self.exchange);
                Answer { head: Box::new(head), body }
            }
            Err(_) => Answer { head: Box::new(bare(denial.status())), body: Bytes::new() },
        };
        self.exchange.outcome.denial = Some(denial);
        answer
    }
}

fn bare(status: u16) -> ResponseHeader {
    ResponseHeader::build(status, None).unwrap_or_else(|_| pingora::protocols::http::ServerSession::generate_error(502))
}

impl Judge for AnswerJudge {
    async fn judge(&mut self, mut head: Box<ResponseHeader>, body: Bytes) -> Answer {
        match self.decide(&mut head, body).await {
            Ok(body) => Answer { head, body },
            Err(denial) => self.refuse(*denial),
        }
    }

    fn overflow(&mut self, _head: &ResponseHeader) -> Overflow {
        if self.route.held_overflow == route::Overflow::Allow {
            self.exchange.draft.tags.push(("held_response".to_owned(), "released_unread".to_owned()));
            return Overflow::Release;
        }
        Overflow::Replace(self.refuse(Denial::of(codes::ANSWER_TOO_LARGE)))
    }
}

/// The usage that a provider's JSON answer reports; none for errors and for answers that are not JSON.
pub fn usage_of(dialect: Dialect, head: &ResponseHeader, body: &[u8]) -> Usage {
    let json = head
        .headers
        .get(CONTENT_TYPE)
        .is_some_and(|v: &HeaderValue| v.as_bytes().get(..16).is_some_and(|t| t.eq_ignore_ascii_case(b"application/json")));
    if !json || !head.status.is_success() {
        return Usage { source: UsageSource::None, ..Usage::default() };
    }
    wire::usage::from_body(dialect, body)
}

/// How the request ended, as far as its answer tells.
pub fn end_of(cx: &Context, failed: bool) -> End {
    match &cx.denial {
        _ if cx.caller_gone => End::ClientAbort,
        // Compared by code, not by status: a plugin may refuse with any status.
        Some(denial) if [codes::UPSTREAM_TIMEOUT.code, codes::REQUEST_TIMEOUT.code].contains(&&*denial.code) => End::Timeout,
        Some(denial) if [codes::UPSTREAM_FAILED.code, codes::MCP_UPSTREAM_FAILED.code].contains(&&*denial.code) => End::UpstreamError,
        Some(_) => End::Blocked,
        None if failed => End::UpstreamError,
        // The answer was complete, but it was a provider's error.
        None if cx.upstream_status >= 400 && !matches!(cx.destination, Some(Destination::Upstream(_))) => End::UpstreamError,
        None => End::Complete,
    }
}
