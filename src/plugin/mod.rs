//! The contract of plugins: the [`Plugin`] trait, the views that its methods get, the [`Host`] that it may use, and the
//! [`Manifest`] that declares its needs. A plugin is a folder under `plugins/` and imports [`prelude`] only.

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

/// A step's decision about the request or the answer.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The request goes on.
    Next,
    /// The request is refused with this denial.
    Abort(Box<Denial>),
}

/// The result of a gate method. An error is not a verdict; the instance's `on_error` decides what it means.
pub type PluginResult = Result<Verdict, PluginError>;

/// Why a step failed. The text goes to evidence and logs, so it must not contain anything of the traffic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PluginError {
    /// The manifest, the operator's grant or the style does not allow the operation.
    #[error("not granted: {0}")]
    NotGranted(&'static str),
    /// The operation is impossible at this moment (no body on a stream, a malformed header).
    #[error("not possible: {0}")]
    NotPossible(&'static str),
    /// A failure of the plugin itself.
    #[error("{0}")]
    Failed(Cow<'static, str>),
}

impl PluginError {
    /// A failure with a safe text: no prompt, answer or credential. Control characters are removed, 200 characters are kept.
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

/// A step of a chain: one method for each gate. By default each lets everything pass.
///
/// A method runs under the instance's timeout and a panic guard. It must not block the thread: long computations have to
/// yield (`tokio::task::yield_now`), because a timeout can only end a method that yields.
#[async_trait]
pub trait Plugin: Send + Sync + 'static {
    /// The request is decoded and no provider is chosen yet: the model may still be changed.
    async fn pre_route(&self, _cx: &mut PreRoute<'_>) -> PluginResult {
        Ok(Verdict::Next)
    }

    /// Grants are checked and the provider is known; the last gate before the request is sent.
    async fn pre_upstream(&self, _cx: &mut PreUpstream<'_>) -> PluginResult {
        Ok(Verdict::Next)
    }

    /// The provider has answered and nothing has been sent to the caller. A streamed answer has no body here, see
    /// [`Self::stream`].
    async fn post_upstream(&self, _cx: &mut PostUpstream<'_>) -> PluginResult {
        Ok(Verdict::Next)
    }

    /// A filter for one streamed answer, or `None` to leave it alone.
    fn stream(&self, _cx: &PostUpstream<'_>) -> Option<Box<dyn StreamFilter>> {
        None
    }

    /// Whether [`Self::post_response`] never waits and takes only a few microseconds. If this holds for all steps after the
    /// answer, they run where the request ended, which is cheaper than queueing them.
    fn is_prompt(&self) -> bool {
        false
    }

    /// The request is over. Runs from the queue, unless [`Self::is_prompt`], and cannot refuse anything.
    ///
    /// # Errors
    /// Errors are recorded in evidence and metrics only.
    async fn post_response(&self, _cx: &PostResponse<'_>) -> Result<(), PluginError> {
        Ok(())
    }

    /// Sends a delivery that the plugin submitted with [`Host::deliver`]. Runs beside the traffic, under the outbox's timeout;
    /// the outbox decides when, in which order and how often attempts are made.
    async fn deliver(&self, _delivery: &Delivery) -> Delivered {
        Delivered::dead("this plugin sends nothing")
    }

    /// The most deliveries for one destination that [`Self::deliver_all`] should get at once.
    fn batch(&self) -> usize {
        1
    }

    /// Sends several deliveries for one destination, in their order, and returns the result of each. Deliveries without a result
    /// are tried again.
    async fn deliver_all(&self, deliveries: &[Delivery]) -> Vec<Delivered> {
        let mut all = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            all.push(self.deliver(delivery).await);
        }
        all
    }

    /// Something occurred that concerns no single request, such as a crossed budget threshold. Called for every instance with the
    /// need `notices`, whether or not it is in a chain.
    ///
    /// # Errors
    /// Errors are logged only.
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
    /// The API family that the events belong to.
    pub dialect: Dialect,
}

/// An event that a filter sends: `event:` and `data:`.
pub type OwnedFrame = (Option<String>, String);

/// A filter's decision about a frame. `Replace`, `Hold` and `Emit` need `write_response` and a sequential step; `Abort` needs
/// `block`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamVerdict {
    /// Send the frame as it came.
    Pass,
    /// Send this `data` in its place, under the same `event`.
    Replace(String),
    /// Send nothing yet: the frame is held, up to 1 MiB in all, until an `Emit` or the end of the stream.
    Hold,
    /// Send these frames in place of this one and all that are held; an empty list drops them.
    Emit(Vec<OwnedFrame>),
    /// End the stream with an error event.
    Abort(Box<Denial>),
}

/// A filter for one stream. It is synchronous, because it runs between two network reads.
pub trait StreamFilter: Send {
    /// Decides about one frame.
    ///
    /// # Errors
    /// `on_error` decides whether the stream ends, or goes on without this filter, with all frames that it held.
    fn frame(&mut self, frame: Frame<'_>) -> Result<StreamVerdict, PluginError>;

    /// The end of the stream: returns what to send in place of the frames still held.
    ///
    /// # Errors
    /// As for [`Self::frame`].
    fn finish(&mut self) -> Result<Vec<OwnedFrame>, PluginError> {
        Ok(Vec::new())
    }

    /// The notes for evidence, under keys of the manifest. Called once, at the end of the stream or after it broke off. They must
    /// not contain anything of the traffic.
    fn notes(&mut self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}
