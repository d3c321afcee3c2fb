//! The bus on which replicas tell one another what to forget.
//!
//! It is fast and not reliable: a message sent while a replica was away is lost to it. Who listens is therefore told of
//! gaps, and reads everything anew then.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::StateError;

/// Messages that may wait for a slow listener. What is beyond becomes a gap.
pub(super) const WAITING: usize = 1024;

/// What a listener hears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A message, as it was published; also to whom published it.
    Message(Arc<str>),
    /// Messages may have been missed: the listener was slow, or the connection was lost or only now made.
    Gap,
}

/// A listener. It hears what is published from its making on.
#[derive(Debug)]
pub struct Subscription(broadcast::Receiver<Notice>);

impl Subscription {
    pub(super) fn new(receiver: broadcast::Receiver<Notice>) -> Self {
        Self(receiver)
    }

    /// Waits for the next notice; `None` when the store is gone. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Notice> {
        match self.0.recv().await {
            Ok(notice) => Some(notice),
            Err(RecvError::Lagged(_)) => Some(Notice::Gap),
            Err(RecvError::Closed) => None,
        }
    }
}

/// The channel `odock:cache-invalidation`.
#[async_trait]
pub trait InvalidationBus: Send + Sync + 'static {
    /// Tells all replicas.
    ///
    /// # Errors
    /// When the store does not answer: then some heard it or none.
    async fn publish(&self, message: &str) -> Result<(), StateError>;

    /// Listens. Must be called within a Tokio runtime, which then keeps the connection.
    fn subscribe(&self) -> Subscription;
}
