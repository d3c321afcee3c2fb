//! The file of keys, kept current beside the reading: writing a million keys takes seconds, in which revocations must still
//! arrive.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::FutureExt as _;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::file;
use super::keyring::Keyring;

/// Between two writings of the file, at least, and as a multiple of what the last one took.
const SAVING: (Duration, u32) = (Duration::from_secs(2), 20);
/// Between two notes that the file is still true.
const TOUCHING: Duration = Duration::from_secs(5);

/// The file, and how it stands to what is known.
pub(super) struct Keeping {
    path: PathBuf,
    /// Something has changed that no writing has begun with.
    unsaved: bool,
    /// The writing that is under way, and when it began.
    under_way: Option<(JoinHandle<std::io::Result<()>>, Instant)>,
    /// When the last writing ended and what it took; none has, when there is nothing.
    last: Option<(Instant, Duration)>,
    touched: Instant,
    /// The last writing failed, and that was told.
    failing: bool,
}

impl Keeping {
    /// At this path; nothing is known of what is there.
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path, unsaved: false, under_way: None, last: None, touched: Instant::now(), failing: false }
    }

    /// Keys have changed.
    pub(super) fn changed(&mut self) {
        self.unsaved = true;
    }

    /// The store has just said everything: begins to write what is not in the file, or notes that all of it is. Waits for
    /// nothing.
    pub(super) fn keep(&mut self, ring: &Arc<Keyring>) {
        self.look();
        if self.under_way.is_some() {
            return;
        }
        let due = self.last.is_none_or(|(ended, took)| ended.elapsed() >= SAVING.0.max(took * SAVING.1));
        if self.unsaved && due {
            let (ring, path, as_of) = (Arc::clone(ring), self.path.clone(), SystemTime::now());
            let writing = tokio::task::spawn_blocking(move || file::save(&path, ring.table(), ring.hasher(), as_of));
            self.under_way = Some((writing, Instant::now()));
            // What changes from here on may not be in it.
            self.unsaved = false;
        } else if !self.unsaved && self.touched.elapsed() >= TOUCHING {
            self.touched = Instant::now();
            // A file that is not there is told about when it is written.
            let _ = file::touch(&self.path);
        }
    }

    /// Takes note of a writing that has ended. A file that could not be written still lacks what it was to hold, a revocation
    /// perhaps, and must not look as good as new.
    fn look(&mut self) {
        let Some((writing, began)) = &mut self.under_way else { return };
        let Some(written) = writing.now_or_never() else { return };
        self.last = Some((Instant::now(), began.elapsed()));
        self.touched = Instant::now();
        self.under_way = None;
        // Nothing of a panic's payload: it may quote a key's record.
        match written.unwrap_or_else(|_| Err(std::io::Error::other("the writing broke off, which is a defect"))) {
            Ok(()) => self.failing = false,
            Err(error) => {
                self.unsaved = true;
                if !std::mem::replace(&mut self.failing, true) {
                    log::warn!(target: "keys", "keys are not kept for a start without the record store: {error}");
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::identity::KeyHasher;

    async fn ended(keeping: &mut Keeping) {
        while keeping.under_way.is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
            keeping.look();
        }
    }

    fn long_ago() -> Instant {
        Instant::now().checked_sub(TOUCHING * 2).unwrap()
    }

    #[tokio::test]
    async fn a_file_that_lacks_a_change_does_not_look_new() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let ring = Arc::new(Keyring::new(KeyHasher::new(&[7; 32]), Arc::default(), Duration::from_secs(900)));
        let age = || std::fs::metadata(&path).unwrap().modified().unwrap().elapsed().unwrap();
        let mut keeping = Keeping::at(path.clone());
        keeping.changed();
        keeping.keep(&ring);
        ended(&mut keeping).await;
        let back = || std::fs::File::options().write(true).open(&path).unwrap().set_modified(SystemTime::now() - Duration::from_secs(600));
        back().unwrap();
        // A folder in the place of the draft: nothing can be written.
        let draft = file::draft(&path);
        std::fs::create_dir(&draft).unwrap();
        keeping.changed();
        keeping.last = None;
        keeping.keep(&ring);
        ended(&mut keeping).await;
        keeping.touched = long_ago();
        keeping.keep(&ring);
        assert!(age() >= Duration::from_secs(600), "touched without the change in it");
        assert!(keeping.unsaved && keeping.failing);
        // Once it is written it is as good as new, and stays so.
        std::fs::remove_dir(&draft).unwrap();
        keeping.last = None;
        keeping.keep(&ring);
        ended(&mut keeping).await;
        assert!(age() < Duration::from_secs(60) && !keeping.failing);
        back().unwrap();
        keeping.touched = long_ago();
        keeping.keep(&ring);
        assert!(age() < Duration::from_secs(60), "not touched");
    }

    #[tokio::test]
    async fn nobody_waits_for_a_writing_and_one_is_enough() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("keys");
        let ring = Arc::new(Keyring::new(KeyHasher::new(&[7; 32]), Arc::default(), Duration::from_secs(900)));
        let mut keeping = Keeping::at(path.clone());
        keeping.under_way = Some((tokio::spawn(std::future::pending()), Instant::now()));
        keeping.changed();
        keeping.touched = long_ago();
        keeping.keep(&ring);
        assert!(keeping.unsaved && keeping.under_way.is_some());
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(!path.exists());
    }
}
