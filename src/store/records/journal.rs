//! The journal of open reservations, from which they are settled after a crash.

use async_trait::async_trait;

use super::RecordError;
use crate::store::LeaseId;

/// A request under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalEntry {
    /// The id of the request.
    pub lease: LeaseId,
    /// The process that handles it.
    pub replica: String,
    /// When it was opened.
    pub opened: i64,
    /// From when it counts as abandoned, unless it is extended.
    pub expires: i64,
    /// What is needed to write its usage record and to settle its reservations: a JSON object.
    pub body: String,
}

/// The journal of reservations.
#[async_trait]
pub trait Journal: Send + Sync + 'static {
    /// Writes entries, all or nothing. For an entry that exists already only the expiry is updated.
    ///
    /// # Errors
    /// When the store does not answer; then repeat it.
    async fn open_entries(&self, entries: &[JournalEntry]) -> Result<(), RecordError>;
    /// Removes entries whose requests are recorded. Entries that do not exist are ignored.
    ///
    /// # Errors
    /// When the store does not answer; then repeat it.
    async fn close_entries(&self, leases: &[LeaseId]) -> Result<(), RecordError>;
    /// Entries that expired before a time and, if `replica` is given, all entries of that replica (its own, after a
    /// restart), oldest first, at most `limit`.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn abandoned(&self, before: i64, replica: Option<&str>, limit: u32) -> Result<Vec<JournalEntry>, RecordError>;
}
