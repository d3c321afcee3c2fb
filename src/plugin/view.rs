//! What a plugin is shown of a request, and through what it may change it.
//!
//! A view holds references into the exchange and the instance's grant. Every read of a body and every write asks the
//! grant; a view handed to joined siblings refuses all writes. What a step did is noted in the view's trail, so that
//! evidence says what happened and not what a plugin claims.

use std::net::IpAddr;
use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;

use super::PluginError;
use super::manifest::{Need, NeedSet};
use crate::gate::{Draft, Execution, External, Facts, Finished, HeaderEdit, Outcome, RequestId, Response};
use crate::identity::Caller;
use crate::wire::{Dialect, Endpoint};

/// Request fields that carry credentials: no plugin reads or writes them.
const CREDENTIALS: [&str; 6] =
    ["authorization", "proxy-authorization", "x-api-key", "x-goog-api-key", "api-key", "cookie"];

/// Fields that frame or route a message, and the gateway's own: no plugin writes them, in either direction.
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

/// What a step left behind.
#[derive(Debug, Default)]
pub(crate) struct Trail {
    pub(crate) notes: Vec<(&'static str, String)>,
    pub(crate) external: Option<External>,
    pub(crate) changed_request: bool,
    pub(crate) changed_response: bool,
}

/// The draft of a step: its own, with a way back, or shared with siblings.
pub(crate) enum Access<'a> {
    /// Ordered steps write in place. With `keep` the state before the first write is saved, so that observe mode and
    /// `on_error: allow` can put it back; a step that writes nothing costs nothing.
    Own { draft: &'a mut Draft, keep: bool, undo: Option<Box<Draft>> },
    /// Joined steps read.
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

/// What every gate before the end shows.
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

    /// Ends the view. With `revert` the draft is as it was before the step.
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

    /// Who calls, if the route authenticates.
    pub fn caller(&self) -> Option<&Caller> {
        self.facts.caller.as_deref()
    }

    /// The route's name.
    pub fn route(&self) -> &str {
        &self.facts.route
    }

    /// Which API was called.
    pub fn endpoint(&self) -> &Endpoint {
        &self.facts.endpoint
    }

    /// Whose API that is.
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

    /// The model in force.
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

    /// A field of the request head, edits of earlier steps included; never a credential.
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

    /// Leaves a note in the evidence record, under a key of the manifest; nothing of the traffic may be in it.
    pub fn note(&self, key: &'static str, value: impl Into<String>) {
        note(&self.trail, key, value.into());
    }

    /// Says which system outside the step spoke to, and that system's id of what it was given.
    pub fn external(&self, system: impl Into<String>, delivery_id: Option<String>) {
        self.trail.lock().external = Some(External { system: system.into(), delivery_id });
    }

    fn replace_body(&mut self, body: Bytes) -> Result<(), PluginError> {
        let draft = self.write(Need::WriteRequest)?;
        if draft.body != body {
            draft.body = body;
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
        None => headers.get(name),
    };
    value.and_then(|value| value.to_str().ok())
}

fn header_edit(name: &str, value: Option<&str>) -> Result<HeaderEdit, PluginError> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| PluginError::NotPossible("malformed header name"))?;
    if CREDENTIALS.contains(&name.as_str()) || RESERVED.contains(&name.as_str()) {
        return Err(PluginError::NotPossible("this header is the gateway's own"));
    }
    match value {
        None => Ok(HeaderEdit::Remove(name)),
        Some(value) => {
            let value =
                HeaderValue::from_str(value).map_err(|_| PluginError::NotPossible("malformed header value"))?;
            Ok(HeaderEdit::Set(name, value))
        }
    }
}

macro_rules! gate_view {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name<'a>(pub(crate) View<'a>);

        impl<'a> Deref for $name<'a> {
            type Target = View<'a>;
            fn deref(&self) -> &View<'a> {
                &self.0
            }
        }

        impl DerefMut for $name<'_> {
            fn deref_mut(&mut self) -> &mut Self::Target {
                &mut self.0
            }
        }
    };
}

gate_view! {
    /// The view at `pre_route`: the model may still change.
    PreRoute
}
gate_view! {
    /// The view at `pre_upstream`: the provider is known, the model is settled.
    PreUpstream
}
gate_view! {
    /// The view at `post_upstream`: the request as it was sent, and the answer.
    PostUpstream
}

impl PreRoute<'_> {
    /// Asks for another model of the caller's organisation; grants are checked afterwards, for this one.
    ///
    /// # Errors
    /// Without `write_request`, or from a parallel step.
    pub fn set_model(&mut self, model: impl Into<String>) -> Result<(), PluginError> {
        let model = model.into();
        let draft = self.0.write(Need::WriteRequest)?;
        if draft.model.as_deref() != Some(model.as_str()) {
            draft.model = Some(model);
            self.0.trail.get_mut().changed_request = true;
        }
        Ok(())
    }
}

macro_rules! request_writes {
    ($($name:ident)*) => {$(
        impl $name<'_> {
            /// Replaces the request body.
            ///
            /// # Errors
            /// Without `write_request`, or from a parallel step.
            pub fn set_body(&mut self, body: impl Into<Bytes>) -> Result<(), PluginError> {
                self.0.replace_body(body.into())
            }

            /// Sets a field of the head towards the provider.
            ///
            /// # Errors
            /// Without `headers`, from a parallel step, for a malformed field, a credential or a framing field.
            pub fn set_header(&mut self, name: &str, value: &str) -> Result<(), PluginError> {
                self.0.edit_request(name, Some(value))
            }

            /// Removes a field from the head towards the provider.
            ///
            /// # Errors
            /// As for [`Self::set_header`].
            pub fn remove_header(&mut self, name: &str) -> Result<(), PluginError> {
                self.0.edit_request(name, None)
            }
        }
    )*};
}
request_writes!(PreRoute PreUpstream);

impl PostUpstream<'_> {
    fn response(&self) -> Option<&Response> {
        self.0.draft().response.as_ref()
    }

    /// The provider's status. It is the provider's to say: a step refuses, it does not rewrite.
    pub fn status(&self) -> u16 {
        self.response().map_or(0, |response| response.status)
    }

    /// A field of the answer's head, edits of earlier steps included; never `set-cookie`.
    pub fn response_header(&self, name: &str) -> Option<&str> {
        let response = self.response()?;
        if name.eq_ignore_ascii_case("set-cookie") {
            return None;
        }
        edited(&self.0.draft().response_edits, &response.headers, name)
    }

    /// The whole answer, or `None` if it is streamed.
    ///
    /// # Errors
    /// Without `read_response`.
    pub fn response_body(&self) -> Result<Option<&Bytes>, PluginError> {
        self.0.need(Need::ReadResponse)?;
        Ok(self.response().and_then(|response| response.body.as_ref()))
    }

    /// Replaces the whole answer.
    ///
    /// # Errors
    /// Without `write_response`, from a parallel step, or on a stream.
    pub fn set_response_body(&mut self, body: impl Into<Bytes>) -> Result<(), PluginError> {
        let body = body.into();
        let draft = self.0.write(Need::WriteResponse)?;
        let Some(held) = draft.response.as_mut().and_then(|response| response.body.as_mut()) else {
            return Err(PluginError::NotPossible("the answer is streamed"));
        };
        if *held != body {
            *held = body;
            self.0.trail.get_mut().changed_response = true;
        }
        Ok(())
    }

    /// Sets a field of the head towards the caller.
    ///
    /// # Errors
    /// Without `headers`, from a parallel step, for a malformed field, a credential or a framing field.
    pub fn set_response_header(&mut self, name: &str, value: &str) -> Result<(), PluginError> {
        self.edit_response(name, Some(value))
    }

    /// Removes a field from the head towards the caller.
    ///
    /// # Errors
    /// As for [`Self::set_response_header`].
    pub fn remove_response_header(&mut self, name: &str) -> Result<(), PluginError> {
        self.edit_response(name, None)
    }

    fn edit_response(&mut self, name: &str, value: Option<&str>) -> Result<(), PluginError> {
        let edit = header_edit(name, value)?;
        self.0.write(Need::Headers)?.response_edits.push(edit);
        self.0.trail.get_mut().changed_response = true;
        Ok(())
    }
}

/// The view at `post_response`: what happened, read-only, without bodies.
pub struct PostResponse<'a> {
    finished: &'a Finished,
    trail: Mutex<Trail>,
}

impl<'a> PostResponse<'a> {
    pub(crate) fn new(finished: &'a Finished) -> Self {
        Self { finished, trail: Mutex::new(Trail::default()) }
    }

    pub(crate) fn close(self) -> Trail {
        self.trail.into_inner()
    }

    /// The gateway's id of the request.
    pub fn request_id(&self) -> RequestId {
        self.finished.facts.id
    }

    /// Who called.
    pub fn caller(&self) -> Option<&Caller> {
        self.finished.facts.caller.as_deref()
    }

    /// The route's name.
    pub fn route(&self) -> &str {
        &self.finished.facts.route
    }

    /// Which API was called.
    pub fn endpoint(&self) -> &Endpoint {
        &self.finished.facts.endpoint
    }

    /// Whose API that is.
    pub fn dialect(&self) -> Dialect {
        self.finished.facts.dialect
    }

    /// The model in force at the end.
    pub fn model(&self) -> Option<&str> {
        self.finished.model.as_deref()
    }

    /// The provider that was chosen.
    pub fn provider(&self) -> Option<&str> {
        self.finished.facts.provider.as_deref()
    }

    /// The caller's address.
    pub fn client_ip(&self) -> Option<IpAddr> {
        self.finished.facts.client_ip
    }

    /// Whether the answer was a stream.
    pub fn streaming(&self) -> bool {
        self.finished.facts.stream
    }

    /// The tags steps attached.
    pub fn tags(&self) -> &[(String, String)] {
        &self.finished.tags
    }

    /// The status the caller got, 0 if none.
    pub fn status(&self) -> u16 {
        self.finished.outcome.status
    }

    /// How it ended: tokens, times, bytes, the refusal.
    pub fn outcome(&self) -> &Outcome {
        &self.finished.outcome
    }

    /// What the steps of the earlier gates did.
    pub fn executions(&self) -> &[Execution] {
        &self.finished.executions
    }

    /// Leaves a note in the evidence record, under a key of the manifest; nothing of the traffic may be in it.
    pub fn note(&self, key: &'static str, value: impl Into<String>) {
        note(&self.trail, key, value.into());
    }

    /// Says which system outside the step spoke to, and that system's id of what it was given.
    pub fn external(&self, system: impl Into<String>, delivery_id: Option<String>) {
        self.trail.lock().external = Some(External { system: system.into(), delivery_id });
    }
}
