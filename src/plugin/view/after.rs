//! The view at the end of a request.

use std::net::IpAddr;

use parking_lot::Mutex;

use super::{Trail, note};
use crate::gate::{Execution, External, Finished, Outcome, RequestId};
use crate::identity::Caller;
use crate::wire::{Dialect, Endpoint};

/// The view at `post_response`: everything that happened, read-only and without bodies.
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

    /// Everything known about the request, except bodies and headers.
    pub fn finished(&self) -> &Finished {
        self.finished
    }

    /// The gateway's id of the request.
    pub fn request_id(&self) -> RequestId {
        self.finished.facts.id
    }

    /// The authenticated caller.
    pub fn caller(&self) -> Option<&Caller> {
        self.finished.facts.caller.as_deref()
    }

    /// The route's name.
    pub fn route(&self) -> &str {
        &self.finished.facts.route
    }

    /// The API endpoint that was called.
    pub fn endpoint(&self) -> &Endpoint {
        &self.finished.facts.endpoint
    }

    /// The API family of the endpoint.
    pub fn dialect(&self) -> Dialect {
        self.finished.facts.dialect
    }

    /// The model in use at the end.
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

    /// The tags that steps attached.
    pub fn tags(&self) -> &[(String, String)] {
        &self.finished.tags
    }

    /// The status sent to the caller, 0 if none was.
    pub fn status(&self) -> u16 {
        self.finished.outcome.status
    }

    /// How the request ended: tokens, times, bytes, the refusal.
    pub fn outcome(&self) -> &Outcome {
        &self.finished.outcome
    }

    /// The executions of the steps at earlier gates.
    pub fn executions(&self) -> &[Execution] {
        &self.finished.executions
    }

    /// Adds a note to the evidence record, under a key of the manifest. It must not contain anything of the traffic.
    pub fn note(&self, key: &'static str, value: impl Into<String>) {
        note(&self.trail, key, value.into());
    }

    /// Records the external system that the step called, and the id that this system gave the delivery.
    pub fn external(&self, system: impl Into<String>, delivery_id: Option<String>) {
        self.trail.lock().external = Some(External { system: system.into(), delivery_id });
    }
}
