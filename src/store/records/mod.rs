//! What must survive a restart, as plain rows: what engines keep it is not seen from here.
//!
//! Times are milliseconds since the Unix epoch, money is nano-USD, counts are not negative. Documents are JSON texts that
//! the store keeps and does not read.

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

/// A record store failed. None of these says anything about the caller. Texts contain no value of a row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The store does not answer. Trying again may help; connections are made again by themselves.
    #[error("the record store is unavailable: {0}")]
    Unavailable(Cow<'static, str>),
    /// What should be new is there already.
    #[error("already there: {0}")]
    Conflict(&'static str),
    /// The store answered and refused, or what it holds is not what was written.
    #[error("the record store refused: {0}")]
    Refused(Cow<'static, str>),
    /// The store answered and refused a value, such as a text with a NUL: without it the rest may be taken.
    #[error("the record store refused a value: {0}")]
    Value(Cow<'static, str>),
    /// The call itself makes no sense, whatever the store.
    #[error("invalid use of the record store: {0}")]
    Invalid(&'static str),
}

/// One page of a listing in the order of its keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The last row of the page before.
    pub after: Option<String>,
    /// Rows on a page, at least 1.
    pub limit: u32,
}

impl Page {
    /// The first page of so many rows.
    pub fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }
}

/// Everything that is recorded, as one store.
#[async_trait]
pub trait RecordStore: Principals + VirtualKeys + UsageRecords + Journal + Outbox {
    /// Brings the schema up to date. Several processes may do it at once: one does, the others wait.
    ///
    /// # Errors
    /// When the store does not answer, or was written by a newer build.
    async fn migrate(&self) -> Result<Migrated, RecordError>;

    /// Asks the store whether it is there.
    ///
    /// # Errors
    /// When it does not answer.
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
