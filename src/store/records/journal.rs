//! What was reserved and is not yet settled, for whom comes after a crash.

use async_trait::async_trait;

use super::RecordError;
use crate::store::LeaseId;

/// A request on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// The request.
    pub lease: LeaseId,
    /// The process that carries it.
    pub replica: String,
    /// When it was opened.
    pub opened: i64,
    /// When nobody carries it any more unless it is extended.
    pub expires: i64,
    /// What is needed to write its usage record and to settle: a JSON object.
    pub body: String,
}

/// The journal of reservations.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// Writes entries, all or nothing. An entry that is there already is extended to the new expiry.
    ///
    /// # Errors
    /// When the store does not answer: repeat it then.
    async fn open_entries(&self, entries: &[JournalEntry]) -> Result<(), RecordError>;
    /// Takes entries out: what they stood for is recorded. Those that are gone already are no failure.
    ///
    /// # Errors
    /// When the store does not answer: repeat it then.
    async fn close_entries(&self, leases: &[LeaseId]) -> Result<(), RecordError>;
    /// Entries that ran out before a time, and all of one replica if it is named (its own, after its restart), oldest
    /// first, at most `limit`.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn abandoned(&self, before: i64, replica: Option<&str>, limit: u32) -> Result<Vec<JournalEntry>, RecordError>;
}
