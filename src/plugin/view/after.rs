//! What a plugin is shown when everything is over.

use std::net::IpAddr;

use parking_lot::Mutex;

use super::{Trail, note};
use crate::gate::{Execution, External, Finished, Outcome, RequestId};
use crate::identity::Caller;
use crate::wire::{Dialect, Endpoint};

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

    /// Everything that is known of the request: no bodies, no headers.
    pub fn finished(&self) -> &Finished {
        self.finished
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
