//! What a plugin sees of a request, and how it may change it.
//!
//! A view refers to the exchange and the instance's grant. Every read of a body and every write is checked against the grant;
//! views of parallel siblings refuse all writes. What a step did is noted in the view's trail, so that evidence records what
//! happened, not what a plugin claims.

use std::net::IpAddr;
use std::ops::Range;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;

mod after;
mod gates;

pub use after::PostResponse;
pub use gates::{PostUpstream, PreRoute, PreUpstream};

use super::PluginError;
use super::manifest::{Need, NeedSet};
use crate::gate::{Draft, External, Facts, HeaderEdit, RequestId};
use crate::identity::Caller;
use crate::wire::{self, Dialect, Endpoint};

/// Headers that carry credentials, which no plugin reads or writes.
const CREDENTIALS: [&str; 6] = ["authorization", "proxy-authorization", "x-api-key", "x-goog-api-key", "api-key", "cookie"];

/// Headers that frame or route a message, and the gateway's own, which no plugin writes in either direction.
const RESERVED: [&str; 15] = [
    "host",
    "content-length",
    "content-encoding",
    "transfer-encoding",
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "x-request-id",
    "x-forwarded-for",
    "forwarded",
    "http2-settings",
];

/// Whether a header is a credential, frames or routes a message, or is the gateway's own: no plugin writes it, in either
/// direction, so that a configuration that wants to can be refused when it is loaded.
pub fn is_the_gateways(name: &str) -> bool {
    CREDENTIALS.iter().chain(&RESERVED).any(|known| known.eq_ignore_ascii_case(name))
}

/// What a step did, beside its verdict.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    pub(crate) notes: Vec<(&'static str, String)>,
    pub(crate) external: Option<External>,
    pub(crate) changed_request: bool,
    pub(crate) changed_response: bool,
}

/// A step's access to the draft.
pub(crate) enum Access<'a> {
    /// A sequential step writes in place. With `keep`, the draft is saved before the first write, so that observe mode and
    /// `on_error: allow` can restore it; a step that writes nothing costs nothing.
    Own { draft: &'a mut Draft, keep: bool, undo: Option<Box<Draft>> },
    /// A parallel step only reads.
    Shared(&'a Draft),
}

impl Access<'_> {
    pub(crate) fn draft(&self) -> &Draft {
        match self {
            Self::Own { draft, .. } => draft,
            Self::Shared(draft) => draft,
        }
    }
}

/// What a plugin sees at every gate on the request's path.
pub struct View<'a> {
    facts: &'a Facts,
    headers: &'a HeaderMap,
    access: Access<'a>,
    granted: NeedSet,
    trail: Mutex<Trail>,
}

impl<'a> View<'a> {
    pub(crate) fn new(facts: &'a Facts, headers: &'a HeaderMap, access: Access<'a>, granted: NeedSet) -> Self {
        Self { facts, headers, access, granted, trail: Mutex::new(Trail::default()) }
    }

    /// Ends the view. With `revert`, the draft is restored to its state before the step.
    pub(crate) fn close(self, revert: bool) -> Trail {
        if revert && let Access::Own { draft, undo: Some(before), .. } = self.access {
            *draft = *before;
        }
        self.trail.into_inner()
    }

    fn draft(&self) -> &Draft {
        self.access.draft()
    }

    fn need(&self, need: Need) -> Result<(), PluginError> {
        if self.granted.contains(need) { Ok(()) } else { Err(PluginError::NotGranted(need.as_str())) }
    }

    fn write(&mut self, need: Need) -> Result<&mut Draft, PluginError> {
        self.need(need)?;
        match &mut self.access {
            Access::Shared(_) => Err(PluginError::NotGranted("writing from a parallel step")),
            Access::Own { draft, keep, undo } => {
                if *keep && undo.is_none() {
                    *undo = Some(Box::new(draft.clone()));
                }
                Ok(draft)
            }
        }
    }

    /// The gateway's id of the request.
    pub fn request_id(&self) -> RequestId {
        self.facts.id
    }

    /// The trace id of the caller's `traceparent`: 32 hex digits.
    pub fn trace_id(&self) -> Option<&str> {
        self.facts.trace_id.as_deref()
    }

    /// The caller, if the route authenticates.
    pub fn caller(&self) -> Option<&Caller> {
        self.facts.caller.as_deref()
    }

    /// The route's name.
    pub fn route(&self) -> &str {
        &self.facts.route
    }

    /// The API endpoint that was called.
    pub fn endpoint(&self) -> &Endpoint {
        &self.facts.endpoint
    }

    /// The API family of the endpoint.
    pub fn dialect(&self) -> Dialect {
        self.facts.dialect
    }

    /// The path, without its query.
    pub fn path(&self) -> &str {
        &self.facts.path
    }

    /// The method.
    pub fn method(&self) -> &http::Method {
        &self.facts.method
    }

    /// The model in use.
    pub fn model(&self) -> Option<&str> {
        self.draft().model.as_deref()
    }

    /// The provider, once it is chosen.
    pub fn provider(&self) -> Option<&str> {
        self.facts.provider.as_deref()
    }

    /// The caller's address.
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.facts.client_ip
    }

    /// Whether the answer is, or will be, a stream.
    pub fn streaming(&self) -> bool {
        self.facts.stream
    }

    /// A header of the request, including edits of earlier steps; never a credential.
    pub fn header(&self, name: &str) -> Option<&str> {
        if CREDENTIALS.iter().any(|hidden| hidden.eq_ignore_ascii_case(name)) {
            return None;
        }
        edited(&self.draft().request_edits, self.headers, name)
    }

    /// The request body as it will be sent.
    ///
    /// # Errors
    /// Without `read_request`.
    pub fn body(&self) -> Result<&Bytes, PluginError> {
        self.need(Need::ReadRequest)?;
        Ok(&self.draft().body)
    }

    /// The tags attached so far.
    pub fn tags(&self) -> &[(String, String)] {
        &self.draft().tags
    }

    /// Attaches a tag, which goes to evidence and usage; a second value for a key replaces the first.
    ///
    /// # Errors
    /// Without `tags`, from a parallel step, for a key that is not 1–64 of `[A-Za-z0-9_.-]`, a value over 256 bytes or
    /// with control characters, or a 33rd tag.
    pub fn tag(&mut self, key: impl Into<String>, value: impl Into<String>) -> Result<(), PluginError> {
        let (key, value) = (key.into(), value.into());
        let draft = self.write(Need::Tags)?;
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if key.is_empty() || key.len() > 64 || !key.bytes().all(plain) {
            return Err(PluginError::NotPossible("a tag's key is 1-64 characters of [A-Za-z0-9_.-]"));
        }
        if value.len() > 256 || value.chars().any(char::is_control) {
            return Err(PluginError::NotPossible("a tag's value is at most 256 bytes without control characters"));
        }
        let known = draft.tags.iter().position(|(known, _)| *known == key);
        match known {
            Some(at) => draft.tags[at].1 = value,
            None if draft.tags.len() >= 32 => return Err(PluginError::NotPossible("more than 32 tags")),
            None => draft.tags.push((key, value)),
        }
        Ok(())
    }

    /// Adds a note to the evidence record, under a key of the manifest. It must not contain anything of the traffic.
    pub fn note(&self, key: &'static str, value: impl Into<String>) {
        note(&self.trail, key, value.into());
    }

    /// Records the external system that the step called, and the id that this system gave the delivery.
    pub fn external(&self, system: impl Into<String>, delivery_id: Option<String>) {
        self.trail.lock().external = Some(External { system: system.into(), delivery_id });
    }

    fn replace_body(&mut self, body: Bytes) -> Result<(), PluginError> {
        let draft = self.write(Need::WriteRequest)?;
        if draft.body != body {
            (draft.body, draft.model_span) = (body, None);
            self.trail.get_mut().changed_request = true;
        }
        Ok(())
    }

    fn patch_body(&mut self, edits: &[(Range<usize>, String)]) -> Result<(), PluginError> {
        let draft = self.write(Need::WriteRequest)?;
        let body = wire::patch(&draft.body, edits).ok_or(PluginError::NotPossible("an edit that does not fit the body"))?;
        if draft.body != body {
            let span = draft.model_span.take().and_then(|span| wire::moved(&draft.body, span, edits));
            (draft.body, draft.model_span) = (Bytes::from(body), span);
            self.trail.get_mut().changed_request = true;
        }
        Ok(())
    }

    fn edit_request(&mut self, name: &str, value: Option<&str>) -> Result<(), PluginError> {
        let edit = header_edit(name, value)?;
        self.write(Need::Headers)?.request_edits.push(edit);
        self.trail.get_mut().changed_request = true;
        Ok(())
    }
}

fn note(trail: &Mutex<Trail>, key: &'static str, mut value: String) {
    let mut trail = trail.lock();
    if trail.notes.len() >= 32 {
        return;
    }
    if value.len() > 512 {
        let end = (0..=512).rev().find(|at| value.is_char_boundary(*at)).unwrap_or(0);
        value.truncate(end);
    }
    trail.notes.push((key, value));
}

fn edited<'h>(edits: &'h [HeaderEdit], headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let value = match edits.iter().rev().find(|edit| edit.name().as_str().eq_ignore_ascii_case(name)) {
        Some(HeaderEdit::Remove(_)) => None,
        Some(HeaderEdit::Set(_, value)) => Some(value),
        // The header asked for most: its constant name saves parsing a text into a header name.
        None if name == CONTENT_TYPE.as_str() => headers.get(CONTENT_TYPE),
        None => headers.get(name),
    };
    value.and_then(|value| value.to_str().ok())
}

fn header_edit(name: &str, value: Option<&str>) -> Result<HeaderEdit, PluginError> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| PluginError::NotPossible("malformed header name"))?;
    if is_the_gateways(name.as_str()) {
        return Err(PluginError::NotPossible("this header is the gateway's own"));
    }
    match value {
        None => Ok(HeaderEdit::Remove(name)),
        Some(value) => {
            let value = HeaderValue::from_str(value).map_err(|_| PluginError::NotPossible("malformed header value"))?;
            Ok(HeaderEdit::Set(name, value))
        }
    }
}
