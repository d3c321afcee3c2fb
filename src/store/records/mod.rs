//! What must survive a restart, as plain rows behind traits that name no engine.
//!
//! Times are milliseconds since the Unix epoch, money is nano-USD, counts are not negative. Documents are JSON texts that
//! the store keeps without parsing.

mod details;
mod journal;
mod keys;
mod more;
mod outbox;
mod packed;
mod principals;
mod statements;
mod usage;

pub use journal::{Journal, JournalEntry};
pub use keys::{Grant, KeyChange, KeyFilter, KeyOwner, KeyRow, NewKey, Resource, Rotation, RotationRow, VirtualKeys};
pub use more::{More, run, tag};
pub use outbox::{Depth, MessageFilter, MessageLease, MessageRow, NewMessage, Origin, Outbox, OutboxMessage, Settled, Standing};
pub use packed::{Billing, Details, Parts, Usage, UsageBatch};
pub use principals::{MemberRow, ModelRow, OrganisationRow, Principals};
pub use statements::{SqlValue, Statements};
pub use usage::{UsageBy, UsageFilter, UsageRecord, UsageRecords, UsageSum};

use std::borrow::Cow;

use async_trait::async_trait;

/// A record store failed. None of these errors says anything about the caller. Texts contain no value of a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The store does not answer. Trying again may help; the store reconnects by itself.
    #[error("the record store is unavailable: {0}")]
    Unavailable(Cow<'static, str>),
    /// A row that should be new exists already.
    #[error("already there: {0}")]
    Conflict(&'static str),
    /// The store answered with an error, or what it holds is malformed.
    #[error("the record store refused: {0}")]
    Refused(Cow<'static, str>),
    /// The store answered and refused a value, such as a text with a NUL: without it the rest may be taken.
    #[error("the record store refused a value: {0}")]
    Value(Cow<'static, str>),
    /// The call itself makes no sense, whatever the store.
    #[error("invalid use of the record store: {0}")]
    Invalid(&'static str),
}

/// One page of a listing that is sorted by key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The key of the last row of the previous page.
    pub after: Option<String>,
    /// Most rows on the page, at least 1.
    pub limit: u32,
}

impl Page {
    /// The first page, with `limit` rows.
    pub fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }
}

/// All kinds of records as one store.
#[async_trait]
pub trait RecordStore: Principals + VirtualKeys + UsageRecords + Journal + Outbox {
    /// Brings the schema up to date. Several processes may call it at once: one migrates, the others wait.
    ///
    /// # Errors
    /// When the store does not answer, or was written by a newer build.
    async fn migrate(&self) -> Result<Migrated, RecordError>;

    /// Checks that the store answers.
    ///
    /// # Errors
    /// When it does not.
    async fn ping(&self) -> Result<(), RecordError>;
}

/// What a migration found and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The version before; 0 for an empty store.
    pub from: i64,
    /// The version now.
    pub to: i64,
}
