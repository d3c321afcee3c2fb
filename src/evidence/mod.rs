//! Evidence: one record per request, in a tamper-evident log.
//!
//! [`Evidence`] takes records from the request path; a thread of its own writes them as hash-linked lines ([`mod@line`])
//! and signs a checkpoint now and then ([`entry`]). [`verify()`] finds edits, deletions, reorderings and truncations.
//!
//! What it can prove: without the signing key, nothing before the last checkpoint was changed, provided that this
//! checkpoint is also known from elsewhere (`checkpoint.json`, the journal, a copy on another machine). Lines after it are
//! linked but not signed yet. Dropped records are counted in the next checkpoint.

mod entry;
mod key;
mod line;
mod log;
mod overlap;
mod read;
mod record;
mod show;
mod summary;
#[cfg(test)]
mod tests;
mod verify;
mod walk;
mod writer;

pub use entry::{Anchor, Checkpoint, Reason};
pub use key::{KeyError, PUBLIC_FILE, PublicKey, Signer};
pub use read::{Written, entries, files_below};
pub use record::DeliveryEntry;
pub use show::{Found, show};
pub use summary::summary;
pub use verify::{End, Fault, Finding, Log as VerifiedLog, Report, verify, verify_directory, verify_files};
pub use writer::{Evidence, EvidenceError, Policy};
