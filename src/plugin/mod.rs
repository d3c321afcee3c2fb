//! The contract plugins are written against: the [`Plugin`] trait, the views it is handed, the [`Host`] it may ask,
//! and the [`Manifest`] that says what it needs. A plugin is a folder under `plugins/` and uses [`prelude`] alone.

use std::borrow::Cow;

use async_trait::async_trait;

pub mod brief;
pub mod delivery;
mod destination;
mod digest;
pub mod event;
mod glob;
mod grant;
pub mod harness;
pub mod host;
pub mod instance;
pub mod manifest;
pub mod network;
pub mod outlet;
pub mod prelude;
mod remembered;
pub mod roster;
mod scope;
#[cfg(test)]
mod ssrf;
pub mod storage;
mod subject;
mod template;
pub mod view;
mod words;

use crate::error::Denial;
use crate::wire::Dialect;
pub use delivery::{Delivered, Delivery, DeliveryId, Dispatch, Notice};
pub use destination::{Destination, Receiver};
pub use digest::{Digester, hex};
pub use event::{EVENTS, Event};
pub use glob::Glob;
pub use grant::Granted;
pub use host::{Egress, Host, HostError, HttpRequest, HttpResponse, SharedHost};
pub use instance::{Instance, InstanceSpec, Mode, OnError};
pub use manifest::{BuildContext, BuildError, Manifest, Need, NeedSet, StorageScope};
pub use remembered::Remembered;
pub use roster::{BUNDLED, Roster};
pub use scope::Scope;
pub use storage::{Storage, Stores};
pub use subject::{Named, Subject};
pub use template::Template;
pub use view::{PostResponse, PostUpstream, PreRoute, PreUpstream, View};
pub use words::{Tail, Words};

/// What a step says about the request or the answer it was shown.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    Next,
    /// Refuse, with this answer for the caller.
    Abort(Box<Denial>),
}

/// What a gate method returns. An error is not a verdict: `on_error` of the instance decides what it means.
pub type PluginResult = Result<Verdict, PluginError>;

/// A step that could not do its work. The text goes to evidence and logs and so holds nothing of the traffic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PluginError {
    /// The manifest, the operator's grant or the style does not allow what was tried.
    #[error("not granted: {0}")]
    NotGranted(&'static str),
    /// What was asked for does not exist at this moment (no body on a stream, a malformed header).
    #[error("not possible: {0}")]
    NotPossible(&'static str),
    /// The plugin's own failure.
    #[error("{0}")]
    Failed(Cow<'static, str>),
}

impl PluginError {
    /// A failure with a safe text: no prompt, no answer, no credential. Control characters go, 200 characters stay.
    pub fn failed(text: impl Into<Cow<'static, str>>) -> Self {
        let text = text.into();
        if text.len() <= 200 && !text.chars().any(char::is_control) {
            return Self::Failed(text);
        }
        Self::Failed(Cow::Owned(text.chars().filter(|c| !c.is_control()).take(200).collect()))
    }
}

impl From<HostError> for PluginError {
    fn from(error: HostError) -> Self {
        Self::failed(error.to_string())
    }
}

/// A step of a chain: one method for each gate, each of which lets everything pass unless it is written.
///
/// A method runs under the instance's timeout and a panic guard. It must not block the thread: work that computes for
/// long yields (`tokio::task::yield_now`), because a timeout can only end what gives way.
#[async_trait]
pub trait Plugin: Send + Sync + 'static {
    /// The request is decoded, nothing is chosen yet: the model may still change.
    async fn pre_route(&self, _cx: &mut PreRoute<'_>) -> PluginResult {
        Ok(Verdict::Next)
    }

    /// Grants hold and the provider is known; the last look before bytes leave.
    async fn pre_upstream(&self, _cx: &mut PreUpstream<'_>) -> PluginResult {
        Ok(Verdict::Next)
    }

    /// The provider answered and the caller has seen nothing. On a stream the body is not there, see [`Self::stream`].
    async fn post_upstream(&self, _cx: &mut PostUpstream<'_>) -> PluginResult {
        Ok(Verdict::Next)
    }

    /// A filter for one streamed answer, or nothing if this answer is of no interest.
    fn stream(&self, _cx: &PostUpstream<'_>) -> Option<Box<dyn StreamFilter>> {
        None
    }

    /// Whether [`Self::post_response`] never waits and is over in a few microseconds. Where that holds for all steps after
    /// the answer they run where the request ended, which is cheaper than a place in the queue.
    fn is_prompt(&self) -> bool {
        false
    }

    /// Everything is over; runs from the queue, unless [`Self::is_prompt`], and can refuse nothing.
    ///
    /// # Errors
    /// Go to evidence and metrics alone.
    async fn post_response(&self, _cx: &PostResponse<'_>) -> Result<(), PluginError> {
        Ok(())
    }

    /// Sends what the plugin handed over with [`Host::deliver`], through the host. Runs beside the traffic, under the outbox'
    /// timeout; when to try again, in which order and how often is the outbox' business.
    async fn deliver(&self, _delivery: &Delivery) -> Delivered {
        Delivered::dead("this plugin sends nothing")
    }

    /// How many deliveries for one destination [`Self::deliver_all`] wants to be given at once, at most.
    fn batch(&self) -> usize {
        1
    }

    /// Sends several deliveries for one destination, in their order, and says of each what became of it; of those it says
    /// nothing about, that they are to be tried again.
    async fn deliver_all(&self, deliveries: &[Delivery]) -> Vec<Delivered> {
        let mut all = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            all.push(self.deliver(delivery).await);
        }
        all
    }

    /// Something happened that no request shows: a threshold of a budget was crossed. Told to every instance with the need
    /// `notices`, whether or not it stands in a chain.
    ///
    /// # Errors
    /// Go to the log alone.
    async fn notice(&self, _notice: &Notice) -> Result<(), PluginError> {
        Ok(())
    }
}

/// One server-sent event of a streamed answer.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The `event:` field, where the dialect has one.
    pub event: Option<&'a str>,
    /// The `data:` field.
    pub data: &'a str,
    /// Whose events these are.
    pub dialect: Dialect,
}

/// An event a filter sends: `event:` and `data:`.
pub type OwnedFrame = (Option<String>, String);

/// What a filter wants to happen with the frame it was shown. `Replace`, `Hold` and `Emit` need `write_response` and an
/// ordered step, `Abort` needs `block`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamVerdict {
    /// Send it as it came.
    Pass,
    /// Send this `data` in its place, under the same `event`.
    Replace(String),
    /// Send nothing yet; the frame stays held, up to 1 MiB in all, until an `Emit` or the end.
    Hold,
    /// Send these in place of this frame and of all that are held; nothing, to drop them.
    Emit(Vec<OwnedFrame>),
    /// End the stream with an error event.
    Abort(Box<Denial>),
}

/// A filter over one stream. Synchronous: it runs between two network reads.
pub trait StreamFilter: Send {
    /// Sees one frame.
    ///
    /// # Errors
    /// `on_error` decides: the stream ends, or goes on without this filter and with all that it held.
    fn frame(&mut self, frame: Frame<'_>) -> Result<StreamVerdict, PluginError>;

    /// The stream is over: what leaves in place of all that is still held.
    ///
    /// # Errors
    /// As for [`Self::frame`].
    fn finish(&mut self) -> Result<Vec<OwnedFrame>, PluginError> {
        Ok(Vec::new())
    }

    /// What evidence should say of the stream, under keys of the manifest; asked once, at the end or after a broken-off
    /// stream. Nothing of the traffic may be in it.
    fn notes(&mut self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}
