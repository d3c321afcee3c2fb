//! Messages that must be delivered at least once: webhooks, mail, exported events.

use async_trait::async_trait;

use super::RecordError;

/// A message to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// The plugin instance that sends it.
    pub topic: String,
    /// Unique among the messages of its topic: putting a message again while it is stored has no effect.
    pub dedup: String,
    /// The receiver.
    pub destination: String,
    /// Messages of a topic with the same key are leased in the order in which they were put.
    pub ordering: Option<String>,
    /// Content type of the body.
    pub content_type: String,
    /// Id of the request that caused it.
    pub request: Option<String>,
    /// The payload.
    pub body: Vec<u8>,
    /// When it was made.
    pub created: i64,
    /// It is not sent before this time.
    pub due: i64,
}

/// The spool from which messages were taken over, and how far. Stored together with the messages, so that none is taken
/// over twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The process that wrote the spool.
    pub run: &'a str,
    /// The number of the last message taken over.
    pub number: u64,
    /// When it was taken over.
    pub at: i64,
}

/// A sender's request for messages.
#[derive(Debug, Clone, Copy)]
pub struct MessageLease<'a> {
    /// Topic of the messages.
    pub topic: &'a str,
    /// Destinations to leave out.
    pub except: &'a [&'a str],
    /// The only destination to serve, if given.
    pub only: Option<&'a str>,
    /// The process that asks.
    pub sender: &'a str,
    /// The current time: only messages due by now are leased.
    pub now: i64,
    /// When the lease runs out.
    pub until: i64,
    /// Most messages to lease.
    pub limit: u32,
}

/// A message that is leased to a sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxMessage {
    /// Identifier, increasing in the order of putting.
    pub id: i64,
    /// The plugin instance that sends it.
    pub topic: String,
    /// Unique within its topic; also its idempotency key at the receiver.
    pub dedup: String,
    /// The receiver.
    pub destination: String,
    /// The ordering key.
    pub ordering: Option<String>,
    /// Content type of the body.
    pub content_type: String,
    /// Id of the request that caused it.
    pub request: Option<String>,
    /// The payload.
    pub body: Vec<u8>,
    /// When it was made.
    pub created: i64,
    /// Number of this attempt, from 1.
    pub attempt: u32,
}

/// The outcome of a leased message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It was delivered, and is removed.
    Sent,
    /// It is to be tried again at this time, for this reason.
    Retry(i64, String),
    /// Given up at a time, and why.
    Dead(i64, String),
    /// It was not attempted.
    Back,
}

/// The state of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It waits for its first attempt.
    Pending,
    /// It waits for another attempt.
    Retrying,
    /// It is leased to a sender.
    Leased,
    /// It was given up.
    Dead,
}

impl Standing {
    /// Its name, as shown to people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Retrying => "retrying",
            Self::Leased => "leased",
            Self::Dead => "dead",
        }
    }
}

/// A message without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageRow {
    /// Identifier.
    pub id: i64,
    /// The plugin instance that sends it.
    pub topic: String,
    /// Unique within its topic.
    pub dedup: String,
    /// The receiver.
    pub destination: String,
    /// The ordering key.
    pub ordering: Option<String>,
    /// Id of the request that caused it.
    pub request: Option<String>,
    /// When it was made.
    pub created: i64,
    /// When it is tried next; of one that was given up, when that was.
    pub due: i64,
    /// Number of attempts so far.
    pub attempts: u32,
    /// Its state.
    pub standing: Standing,
    /// The error of the last attempt.
    pub why: String,
    /// Bytes of its body.
    pub size: u64,
}

/// Which messages to select; a field that is `None` matches all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessageFilter {
    /// Only of this topic.
    pub topic: Option<String>,
    /// Only for this destination.
    pub destination: Option<String>,
    /// Only the one with this dedup key.
    pub dedup: Option<String>,
    /// Only those in this state.
    pub standing: Option<Standing>,
}

/// The backlog of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Depth {
    /// The plugin instance that sends.
    pub topic: String,
    /// Messages that wait or are being sent.
    pub pending: u64,
    /// Messages that were given up.
    pub dead: u64,
    /// When the oldest waiting message was made.
    pub oldest: Option<i64>,
}

/// The outbox. A sender leases messages and settles each before its lease runs out; otherwise another sender gets it.
#[async_trait]
pub trait Outbox: Send + Sync + 'static {
    /// Stores messages and, with them, how far their origin was taken over; all or nothing. Returns how many were new.
    ///
    /// # Errors
    /// When the store does not answer; then repeat it.
    async fn put_messages(&self, messages: &[NewMessage], origin: Option<Origin<'_>>) -> Result<u64, RecordError>;
    /// The number of the last message taken over from an origin; 0 if none was.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn taken_over(&self, run: &str) -> Result<u64, RecordError>;
    /// Forgets an origin that is taken over completely, and all origins from which nothing was taken over since a time.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn forget_origin(&self, run: &str, before: i64) -> Result<(), RecordError>;
    /// Leases due messages, oldest first. A message is leased to one sender at a time. Of the messages with one ordering
    /// key a sender gets the first ones, and while it holds them no sender gets later ones.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn lease_messages(&self, lease: MessageLease<'_>) -> Result<Vec<OutboxMessage>, RecordError>;
    /// Stores the outcomes of messages. Messages that are no longer leased to this sender are left alone. Returns how many
    /// were settled.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn settle_messages(&self, sender: &str, settled: &[(i64, Settled)]) -> Result<u64, RecordError>;
    /// Gives all messages that are leased to a dead sender back, as not attempted. Returns how many.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn release_messages(&self, sender: &str) -> Result<u64, RecordError>;
    /// When the next message of these topics becomes due after a time; `None` if none does.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn next_due(&self, topics: &[&str], after: i64) -> Result<Option<i64>, RecordError>;
    /// Messages with an id above `after`, in the order in which they were put.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn messages(&self, filter: &MessageFilter, now: i64, after: i64, limit: u32) -> Result<Vec<MessageRow>, RecordError>;
    /// Makes messages that are not leased due now, with their attempts counted anew. Returns how many.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn retry_messages(&self, filter: &MessageFilter, now: i64) -> Result<u64, RecordError>;
    /// Gives up messages that wait for an attempt. Returns how many.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn bury_messages(&self, filter: &MessageFilter, now: i64, why: &str) -> Result<u64, RecordError>;
    /// Removes messages that are not leased. Returns how many.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn drop_messages(&self, filter: &MessageFilter, now: i64) -> Result<u64, RecordError>;
    /// Removes the oldest messages that wait and are not leased, and returns them.
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
