//! Messages that must leave the gateway at least once: webhooks, mail, exported events.

use async_trait::async_trait;

use super::RecordError;

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// Who sends it.
    pub topic: String,
    /// What makes it unique under its topic: while it is there, the same message put again is there once.
    pub dedup: String,
    /// Which receiver.
    pub destination: String,
    /// Messages of a topic with the same key are leased in the order of putting.
    pub ordering: Option<String>,
    /// Of the body.
    pub content_type: String,
    /// The request it speaks of.
    pub request: Option<String>,
    /// What is sent.
    pub body: Vec<u8>,
    /// When it came to be.
    pub created: i64,
    /// Not before.
    pub due: i64,
}

/// From where messages were taken over, and how far: kept with them, so that none is taken over twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    /// Whose they were.
    pub run: &'a str,
    /// The number of the last.
    pub number: u64,
    /// When.
    pub at: i64,
}

/// What a sender asks for.
#[derive(Debug, Clone, Copy)]
pub struct MessageLease<'a> {
    /// Messages of this topic,
    pub topic: &'a str,
    /// for no destination of these, or
    pub except: &'a [&'a str],
    /// for this one alone.
    pub only: Option<&'a str>,
    /// Who asks.
    pub sender: &'a str,
    /// Due by now.
    pub now: i64,
    /// Until when it has them.
    pub until: i64,
    /// How many at most.
    pub limit: u32,
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
    /// Which receiver.
    pub destination: String,
    /// What keeps it in order.
    pub ordering: Option<String>,
    /// Of the body.
    pub content_type: String,
    /// The request it speaks of.
    pub request: Option<String>,
    /// What is sent.
    pub body: Vec<u8>,
    /// When it came to be.
    pub created: i64,
    /// Which attempt this is, from 1.
    pub attempt: u32,
}

/// What became of a leased message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It arrived: it is gone.
    Sent,
    /// To be tried again at a time, and why.
    Retry(i64, String),
    /// Given up at a time, and why.
    Dead(i64, String),
    /// It was not attempted.
    Back,
}

/// How a message stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It waits for its first attempt.
    Pending,
    /// It waits for another.
    Retrying,
    /// A sender has it.
    Leased,
    /// It was given up.
    Dead,
}

impl Standing {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Retrying => "retrying",
            Self::Leased => "leased",
            Self::Dead => "dead",
        }
    }
}

/// A message as it stands, without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRow {
    /// Identifier.
    pub id: i64,
    /// Who sends it.
    pub topic: String,
    /// What makes it unique.
    pub dedup: String,
    /// Which receiver.
    pub destination: String,
    /// What keeps it in order.
    pub ordering: Option<String>,
    /// The request it speaks of.
    pub request: Option<String>,
    /// When it came to be.
    pub created: i64,
    /// When it is tried next; of one that was given up, when that was.
    pub due: i64,
    /// Attempts so far.
    pub attempts: u32,
    /// How it stands.
    pub standing: Standing,
    /// What the last attempt said.
    pub why: String,
    /// Bytes of its body.
    pub size: u64,
}

/// Which messages; a field that is empty asks for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageFilter {
    /// Of this topic.
    pub topic: Option<String>,
    /// For this destination.
    pub destination: Option<String>,
    /// Known by this id.
    pub dedup: Option<String>,
    /// That stand so.
    pub standing: Option<Standing>,
}

/// How much waits under a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Depth {
    /// Who sends.
    pub topic: String,
    /// To be sent, or being sent.
    pub pending: u64,
    /// Given up.
    pub dead: u64,
    /// When the oldest that waits came to be.
    pub oldest: Option<i64>,
}

/// The outbox. A sender leases messages, and says of each what became of it before the lease runs out; otherwise another
/// sender gets it.
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// Puts messages, all or nothing, and how far their origin was taken over with them. Says how many were new.
    ///
    /// # Errors
    /// When the store does not answer: repeat it then.
    async fn put_messages(&self, messages: &[NewMessage], origin: Option<Origin<'_>>) -> Result<u64, RecordError>;
    /// The number of the last message that was taken over from an origin; 0 if none was.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn taken_over(&self, run: &str) -> Result<u64, RecordError>;
    /// Forgets an origin that has no more, and those that nobody took over from since a time.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn forget_origin(&self, run: &str, before: i64) -> Result<(), RecordError>;
    /// Leases due messages, oldest first. No two senders have one. Of messages with one key, a sender gets the first ones
    /// that are there, and while it has them nobody gets later ones.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn lease_messages(&self, lease: MessageLease<'_>) -> Result<Vec<OutboxMessage>, RecordError>;
    /// Says what became of messages. Those that this sender no longer has are left alone; how many it had.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn settle_messages(&self, sender: &str, settled: &[(i64, Settled)]) -> Result<u64, RecordError>;
    /// Gives back, unattempted, everything that a sender has which is gone.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn release_messages(&self, sender: &str) -> Result<u64, RecordError>;
    /// When the next message of these topics becomes due after a time; `None` if none waits for its time.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn next_due(&self, topics: &[&str], after: i64) -> Result<Option<i64>, RecordError>;
    /// Messages in the order of putting, after an id.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn messages(&self, filter: &MessageFilter, now: i64, after: i64, limit: u32) -> Result<Vec<MessageRow>, RecordError>;
    /// Sends messages anew that nobody has, from their first attempt.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn retry_messages(&self, filter: &MessageFilter, now: i64) -> Result<u64, RecordError>;
    /// Gives messages up that wait for an attempt.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn bury_messages(&self, filter: &MessageFilter, now: i64, why: &str) -> Result<u64, RecordError>;
    /// Removes messages that nobody has.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn drop_messages(&self, filter: &MessageFilter, now: i64) -> Result<u64, RecordError>;
    /// Removes the oldest messages that wait and that nobody has, and says which.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn drop_oldest(&self, now: i64, limit: u32) -> Result<Vec<MessageRow>, RecordError>;
    /// Removes messages that were given up before a time, the oldest first, and says which.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn drop_dead(&self, before: i64, limit: u32) -> Result<Vec<MessageRow>, RecordError>;
    /// How much waits, by topic.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn depths(&self) -> Result<Vec<Depth>, RecordError>;
}
