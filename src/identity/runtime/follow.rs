//! Follows changes of keys in the record store: at once when the bus announces them, and by polling in any case.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::task::JoinHandle;

use super::file;
use super::keeping::Keeping;
use super::keyring::Keyring;
use crate::store::records::{RecordError, RecordStore};
use crate::store::{InvalidationBus, Notice, Subscription};

/// The message on the bus that keys have changed.
pub const CHANGED: &str = "keys";
/// The message on the bus that all keys have to be read again.
pub const ALL_AGAIN: &str = "keys:*";

/// The interval of polling. With the bus cut, a revocation takes effect after this time plus the timeout of the store.
const POLL: Duration = Duration::from_secs(1);
/// Keys read per query.
const PAGE: u32 = 10_000;

/// How far this process has followed the store.
struct Position {
    /// The version up to which changes have been read.
    version: i64,
    migrated: bool,
    /// Whether all keys have been read from the store.
    complete: bool,
    /// The file for a start without the store.
    kept: Keeping,
}

/// Follows the store for as long as the process runs.
pub(super) async fn follow(ring: Arc<Keyring>, records: Arc<dyn RecordStore>, bus: Arc<dyn InvalidationBus>, path: PathBuf) {
    let mut heard = bus.subscribe();
    let mut at = Position { version: 0, migrated: false, complete: false, kept: Keeping::at(path.clone()) };
    let mut listening = true;
    let mut told = false;
    loop {
        match read(&ring, records.as_ref(), &mut at).await {
            Ok(()) => {
                if told {
                    log::info!(target: "keys", keys = ring.table().len(); "the record store answers again");
                }
                told = false;
                ring.reached();
                at.kept.keep(&ring);
            }
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    log::warn!(target: "keys", "keys made at run time are as they were: {error}");
                }
                if !ring.is_loaded() {
                    from_file(&ring, path.clone()).await;
                }
                ring.missed();
            }
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            notice = next(&mut heard, listening) => match notice {
                Some(Notice::Message(message)) if &*message == ALL_AGAIN => at = Position { version: 0, complete: false, ..at },
                Some(_) => {}
                None => listening = false,
            },
        }
    }
}

/// The next notice; waits for ever once the bus has closed.
async fn next(heard: &mut Subscription, listening: bool) -> Option<Notice> {
    match listening {
        true => heard.next().await,
        false => std::future::pending().await,
    }
}

/// Reads all keys, or those that have changed.
async fn read(ring: &Arc<Keyring>, records: &dyn RecordStore, at: &mut Position) -> Result<(), RecordError> {
    if !at.migrated {
        records.migrate().await?;
        at.migrated = true;
    }
    let all = !at.complete;
    if all {
        at.version = 0;
        ring.table().begin_reading();
    }
    // Each page is put into the table while the next is read. `at.version` advances only when a page is in the table.
    let mut putting: Option<Putting> = None;
    let mut from = at.version;
    loop {
        let read = records.keys_since(from, PAGE).await;
        if let Some(putting) = putting.take() {
            at.version = putting.done().await?;
        }
        let keys = read?;
        let Some(last) = keys.last() else { break };
        from = from.max(last.version);
        at.kept.changed();
        let more = keys.len() >= PAGE as usize;
        let ring = Arc::clone(ring);
        let task = tokio::task::spawn_blocking(move || keys.into_iter().for_each(|key| ring.table().put(key.into())));
        putting = Some(Putting { task, up_to: from });
        if !more {
            break;
        }
    }
    if let Some(putting) = putting {
        at.version = putting.done().await?;
    }
    if all {
        ring.table().end_reading();
        at.complete = true;
        at.kept.changed();
    }
    Ok(())
}

/// A page of keys that is being put into the table.
struct Putting {
    task: JoinHandle<()>,
    /// The version of the last key of the page.
    up_to: i64,
}

impl Putting {
    /// Waits until the page is in the table, and returns its last version.
    async fn done(self) -> Result<i64, RecordError> {
        match self.task.await {
            Ok(()) => Ok(self.up_to),
            // The panic's payload is not logged: it may quote a key's record.
            Err(_) => Err(RecordError::Unavailable("keys that were read could not be taken".into())),
        }
    }
}

/// Starts with what was known when the store answered last.
pub(super) async fn from_file(ring: &Arc<Keyring>, path: PathBuf) {
    let reader = Arc::clone(ring);
    let shown = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || file::load(&path, reader.table(), reader.hasher())).await;
    match read {
        Ok(Ok(as_of)) => {
            ring.loaded_as_of(as_of);
            let age = SystemTime::now().duration_since(as_of).unwrap_or_default().as_secs();
            log::warn!(target: "keys", keys = ring.table().len(), age_seconds = age; "keys are those of {shown}");
        }
        Ok(Err(error)) if error.kind() == std::io::ErrorKind::NotFound => {}
        Ok(Err(error)) => log::error!(target: "keys", "{shown}: {error}"),
        Err(error) => log::error!(target: "keys", "{shown}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_that_were_not_taken_are_read_again() {
        let done = Putting { task: tokio::task::spawn_blocking(|| ()), up_to: 7 }.done().await;
        assert!(matches!(done, Ok(7)));
        let broken = tokio::task::spawn_blocking(|| std::panic::resume_unwind(Box::new("a defect")));
        let error = Putting { task: broken, up_to: 7 }.done().await;
        assert!(matches!(error, Err(RecordError::Unavailable(_))), "{error:?}");
    }
}
