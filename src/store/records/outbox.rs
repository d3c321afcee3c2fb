//! Messages that must leave the gateway at least once: webhooks, mail.

use async_trait::async_trait;

use super::RecordError;

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// Who sends it.
    pub topic: String,
    /// What makes it unique under its topic: while it waits, the same message put again is there once.
    pub dedup: String,
    /// What is sent.
    pub body: Vec<u8>,
    /// Not before.
    pub due: i64,
}

/// A message that was leased to a sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxMessage {
    /// Identifier, growing in the order of putting.
    pub id: i64,
    /// Who sends it.
    pub topic: String,
    /// What makes it unique; also its idempotency key on the way.
    pub dedup: String,
    /// What is sent.
    pub body: Vec<u8>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
}

/// A message that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadMessage {
    /// The message, with its last attempt.
    pub message: OutboxMessage,
    /// Why, for people.
    pub why: String,
}

/// How much waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// To be sent, or being sent.
    pub pending: u64,
    /// Given up.
    pub dead: u64,
}

/// The outbox. A sender leases messages, and says of each what became of it before the lease runs out; otherwise another
/// sender gets it.
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// Puts messages, all or nothing. Says how many were new.
    ///
    /// # Errors
    /// When the store does not answer: repeat it then.
    async fn put_messages(&self, messages: &[NewMessage]) -> Result<u64, RecordError>;
    /// Leases up to `limit` due messages of a topic to a sender until a time, oldest first. No two senders have one.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn lease_messages(&self, topic: &str, sender: &str, now: i64, until: i64, limit: u32) -> Result<Vec<OutboxMessage>, RecordError>;
    /// It was sent. `false`: this sender no longer has it.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn acknowledge(&self, id: i64, sender: &str) -> Result<bool, RecordError>;
    /// It is to be tried again at a time. `false`: this sender no longer has it.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn retry_message(&self, id: i64, sender: &str, due: i64, why: &str) -> Result<bool, RecordError>;
    /// It is given up. `false`: this sender no longer has it.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn bury_message(&self, id: i64, sender: &str, why: &str) -> Result<bool, RecordError>;
    /// What was given up, oldest first, after an id.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn dead_messages(&self, topic: &str, after: i64, limit: u32) -> Result<Vec<DeadMessage>, RecordError>;
    /// Sends a given-up message anew, from its first attempt. `false`: there is none of this id.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn revive_message(&self, id: i64, due: i64) -> Result<bool, RecordError>;
    /// How much waits under a topic.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn depth(&self, topic: &str) -> Result<Depth, RecordError>;
}
