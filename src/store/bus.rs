//! The bus on which replicas tell one another which cached entries to forget.
//!
//! It is fast and not reliable: a replica misses every message that is sent while it is disconnected. A listener is
//! therefore notified of gaps, after which it must read everything anew.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::StateError;

/// Messages that may wait for a slow listener; beyond this the listener gets a gap.
pub(super) const WAITING: usize = 1024;

/// What a listener receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A message as it was published. The publisher receives its own messages, too.
    Message(Arc<str>),
    /// Messages may have been missed: the listener was too slow, or the connection was lost or has only just been made.
    Gap,
}

/// A listener. It receives everything published after it was made.
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
    /// Sends a message to all replicas.
    ///
    /// # Errors
    /// When the store does not answer. The message may have reached some replicas, or none.
    async fn publish(&self, message: &str) -> Result<(), StateError>;

    /// Makes a listener. Must be called within a Tokio runtime, on which the task that listens is spawned.
    fn subscribe(&self) -> Subscription;
}
