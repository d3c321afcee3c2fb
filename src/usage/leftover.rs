//! What a process that is gone left in its files. It may be more than memory holds, as after a long time without the store: the
//! files are read a piece at a time, once for who never ended and once for what is to be kept.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::spool::{Kind, PIECE, Scan, tail};

/// A record that a process left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The request.
    pub id: u128,
    /// What was written of it.
    pub payload: Vec<u8>,
    /// Its process died before it ended: `payload` is what it began with.
    pub orphan: bool,
}

/// The files of a process that is gone.
#[derive(Debug)]
pub struct Leftover {
    /// In their order. Held so that no other process takes them at the same time.
    files: Vec<(PathBuf, File)>,
    /// Requests that began and did not end in what was surveyed. No more than were under way at once.
    open: HashSet<u128>,
    surveyed: Position,
    read: Position,
    broken: u64,
}

/// How far the files were gone through.
#[derive(Debug, Clone, Copy, Default)]
struct Position {
    file: usize,
    offset: u64,
}

impl Leftover {
    /// What is in these files, by their numbers; `None` if their process lives.
    pub(super) fn of(paths: Vec<(u64, PathBuf)>) -> io::Result<Option<Self>> {
        let mut files = Vec::new();
        for (_, path) in paths {
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            // A file without a name was deleted by its process a moment ago: that one lives, and there are others by now.
            if file.try_lock().is_err() || file.metadata()?.nlink() == 0 {
                return Ok(None);
            }
            files.push((path, file));
        }
        if files.is_empty() {
            return Ok(None);
        }
        let (surveyed, read) = Default::default();
        Ok(Some(Self { files, open: HashSet::new(), surveyed, read, broken: 0 }))
    }

    /// Reads one piece for who never ended; says whether there is more. It has to come to its end before [`Self::next`].
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn survey(&mut self) -> io::Result<bool> {
        let Some((path, _)) = self.files.get(self.surveyed.file) else { return Ok(false) };
        let bytes = tail(path, self.surveyed.offset, None)?;
        let mut scan = Scan { bytes: &bytes, at: 0 };
        for frame in scan.by_ref() {
            match frame.kind {
                Kind::Begin => self.open.insert(frame.id),
                Kind::End => self.open.remove(&frame.id),
            };
        }
        let at = scan.at;
        if self.surveyed.goes_on(&bytes, at) {
            return Ok(true);
        }
        // A file is made at its full size: behind the last frame there is nothing but zeros.
        let mut unread = bytes.get(at..).unwrap_or_default().to_vec();
        let mut offset = self.surveyed.offset + at as u64;
        while !unread.is_empty() {
            if unread.iter().any(|byte| *byte != 0) {
                self.broken += 1;
                log::error!(
                    target: "usage", file = path.display().to_string().as_str(), offset = self.surveyed.offset + at as u64;
                    "a kill, a full disk or a fault ended this file in the middle of a record: what stands behind is not read"
                );
                break;
            }
            offset += unread.len() as u64;
            unread = tail(path, offset, None)?;
        }
        self.surveyed = Position { file: self.surveyed.file + 1, offset: 0 };
        Ok(self.surveyed.file < self.files.len())
    }

    /// The next of its records and orphans, at most `limit`; none when all were read.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn next(&mut self, limit: usize) -> io::Result<Vec<Pending>> {
        let mut found = Vec::new();
        while found.is_empty()
            && let Some((path, _)) = self.files.get(self.read.file)
        {
            let bytes = tail(path, self.read.offset, None)?;
            let mut scan = Scan { bytes: &bytes, at: 0 };
            while found.len() < limit
                && let Some(frame) = scan.next()
            {
                let orphan = frame.kind == Kind::Begin;
                if !orphan || self.open.contains(&frame.id) {
                    found.push(Pending { id: frame.id, payload: frame.payload.to_vec(), orphan });
                }
            }
            let at = scan.at;
            if found.len() >= limit {
                self.read.offset += at as u64;
            } else if !self.read.goes_on(&bytes, at) {
                self.read = Position { file: self.read.file + 1, offset: 0 };
            }
        }
        Ok(found)
    }

    /// Files of it that could not be read to their end.
    pub fn broken(&self) -> u64 {
        self.broken
    }

    /// The store has everything: the files are deleted.
    ///
    /// # Errors
    /// A file cannot be deleted; the records are offered again then, and written once, because their ids are known.
    pub fn done(self) -> io::Result<()> {
        for (path, _) in &self.files {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

impl Position {
    /// Moves behind the whole frames of a piece; `false` when there are no more in this file.
    fn goes_on(&mut self, piece: &[u8], whole: usize) -> bool {
        let more = piece.len() == PIECE && whole > 0;
        if more {
            self.offset += whole as u64;
        }
        more
    }
}
