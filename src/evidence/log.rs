//! The files of one log: append, checkpoint, rotate, and continue where an earlier process stopped.
//!
//! Written bytes are never changed. What a kill left behind stays in the file, and the next line records its length and
//! hash.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::Serialize;

use super::entry::{Anchor, Checkpoint, Head, Open, Reason, Resume};
use super::key::Signer;
use super::line::{Hash, Line, Link, hex, sha256_hex};
use super::overlap::Overlap;
use super::show::logs;
use crate::telemetry::time::Rfc3339;

/// Most logs beside the main one. A process that finds the directory in use (during an upgrade, while the old process
/// drains) writes a log of its own in `overlap-N` below it.
const OVERLAPS: u32 = 8;

/// How much one process has written and dropped so far.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    /// Records written.
    pub records: u64,
    /// Records dropped.
    pub dropped: u64,
}

/// An open log.
#[derive(Debug)]
pub struct Log {
    directory: PathBuf,
    signer: Arc<Signer>,
    file: File,
    index: u32,
    size: u64,
    lines: u64,
    link: Link,
    buffer: Vec<u8>,
    buffered: u64,
}

/// A write that was refused, perhaps half way.
#[derive(Debug)]
pub struct Refused {
    /// What the file system says.
    pub error: io::Error,
    /// Entries of the buffer that were written whole before.
    pub whole: u64,
}

/// The exclusive right to write in a directory; ends with the process.
#[derive(Debug)]
pub struct Claim {
    /// The directory to write in.
    pub directory: PathBuf,
    _lock: File,
}

impl Claim {
    /// Claims the directory or, if another process writes there, the first free `overlap-N` below it.
    ///
    /// # Errors
    /// Errors of the file system.
    pub fn take(directory: &Path) -> io::Result<Self> {
        let overlaps = (1..=OVERLAPS).map(|n| directory.join(format!("overlap-{n}")));
        for candidate in std::iter::once(directory.to_owned()).chain(overlaps) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&candidate)?;
            let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(candidate.join("lock"))?;
            match lock.try_lock() {
                Ok(()) => return Ok(Self { directory: candidate, _lock: lock }),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::Error::other(format!("{} processes write there already", OVERLAPS + 1)))
    }
}

impl Log {
    /// Opens the log in a claimed directory and writes a first signed checkpoint.
    ///
    /// # Errors
    /// Errors of the file system.
    pub fn open(directory: &Path, signer: Arc<Signer>, totals: Totals) -> io::Result<Self> {
        let files = files(directory)?;
        let mut found = None;
        for (index, path) in files.iter().rev() {
            let bytes = fs::read(path)?;
            if let Some(tail) = Tail::of(&bytes) {
                found = Some((*index, tail));
                break;
            }
        }
        let last = files.last();
        let mut log = match (found, last) {
            (Some((index, tail)), Some((last, _))) if index == *last => Self::resume(directory, signer, index, &tail)?,
            (found, last) => {
                let link = found.as_ref().map_or(Link::START, |(_, tail)| tail.link);
                let previous = found.map(|(index, _)| file_name(index));
                let junk = last.map(|(_, path)| fs::read(path)).transpose()?.filter(|bytes| !bytes.is_empty());
                let index = last.map_or(1, |(index, _)| index + u32::from(junk.is_some()));
                let mut log = Self::begin(directory, signer, index, link, previous)?;
                if let Some(junk) = junk {
                    log.push(|seq, key| Resume::recovered(seq, key, &junk))?;
                }
                log
            }
        };
        log.checkpoint(Reason::Open, totals)?;
        Ok(log)
    }

    fn begin(directory: &Path, signer: Arc<Signer>, index: u32, link: Link, previous: Option<String>) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(directory.join(file_name(index)))?;
        let buffer = Vec::with_capacity(64 * 1024);
        let mut log = Self { directory: directory.to_owned(), signer, file, index, size: 0, lines: 0, link, buffer, buffered: 0 };
        let previous_hash = hex(&link.hash);
        log.push(|seq, key| Open {
            at: now(),
            key,
            kind: "open".to_owned(),
            previous_file: previous,
            previous_hash,
            seq,
            software: concat!("odock-edge ", env!("CARGO_PKG_VERSION")).to_owned(),
        })?;
        log.flush()?;
        Ok(log)
    }

    fn resume(directory: &Path, signer: Arc<Signer>, index: u32, tail: &Tail) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).open(directory.join(file_name(index)))?;
        let mut log = Self {
            directory: directory.to_owned(),
            signer,
            file,
            index,
            size: tail.size,
            lines: tail.lines,
            link: tail.link,
            buffer: Vec::with_capacity(64 * 1024),
            buffered: 0,
        };
        if tail.broken {
            log.buffer.push(b'\n');
        }
        if tail.closed && tail.lost.is_empty() && !tail.broken {
            log.push(|seq, key| Resume { at: now(), key, kind: "resumed".to_owned(), lost_bytes: 0, lost_sha256: None, seq })?;
        } else {
            log.push(|seq, key| Resume::recovered(seq, key, &tail.lost))?;
        }
        log.flush()?;
        Ok(log)
    }

    /// Appends an entry to the buffer, made from its number and the public key.
    ///
    /// # Errors
    /// None in practice, see [`Link::push`].
    pub fn push<E: Serialize>(&mut self, entry: impl FnOnce(u64, String) -> E) -> io::Result<()> {
        let entry = entry(self.link.next, self.signer.public().to_hex());
        self.push_entry(&entry)
    }

    /// Appends an entry that writes itself, given its number, to the buffer.
    pub fn push_with(&mut self, entry: impl FnOnce(u64, &mut Vec<u8>)) {
        self.link.push_with(&mut self.buffer, entry);
        self.buffered += 1;
    }

    /// Appends an entry that already has its number to the buffer.
    ///
    /// # Errors
    /// None in practice, see [`Link::push`].
    fn push_entry(&mut self, entry: &impl Serialize) -> io::Result<()> {
        self.link.push(&mut self.buffer, entry)?;
        self.buffered += 1;
        Ok(())
    }

    /// Bytes in the buffer.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Size of the current file in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Writes the buffer. After an error this log must be dropped and opened again, which goes on behind what was written.
    ///
    /// # Errors
    /// Errors of the file system.
    pub fn flush(&mut self) -> io::Result<()> {
        self.flush_counted().map_err(|refused| refused.error)
    }

    /// The same; an error says how many entries of the buffer were written whole.
    ///
    /// # Errors
    /// What the file system says.
    pub fn flush_counted(&mut self) -> Result<(), Refused> {
        let mut written = 0;
        while let Some(rest) = self.buffer.get(written..).filter(|rest| !rest.is_empty()) {
            match self.file.write(rest) {
                Ok(0) => return Err(self.refused(written, io::ErrorKind::WriteZero.into())),
                Ok(more) => written += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.refused(written, error)),
            }
        }
        self.size += self.buffer.len() as u64;
        self.lines += self.buffered;
        self.buffer.clear();
        self.buffered = 0;
        Ok(())
    }

    /// An entry that only lacks its line feed is whole: whoever goes on with the file adds it.
    fn refused(&self, written: usize, error: io::Error) -> Refused {
        let ends = memchr::memchr_iter(b'\n', &self.buffer).filter(|end| (1..=written).contains(end));
        Refused { error, whole: ends.count() as u64 }
    }

    /// Signs for everything up to here, brings it to the disk and replaces the anchor.
    ///
    /// # Errors
    /// Errors of the file system.
    pub fn checkpoint(&mut self, reason: Reason, totals: Totals) -> io::Result<()> {
        if matches!(reason, Reason::Open | Reason::Close) {
            self.name_overlaps()?;
        }
        let previous = self.link.hash;
        let checkpoint = Checkpoint {
            at: now(),
            dropped: totals.dropped,
            key: self.signer.public().to_hex(),
            kind: "checkpoint".to_owned(),
            reason,
            records: totals.records,
            seq: self.link.next,
            signature: None,
        };
        let checkpoint = checkpoint.sign(&previous, &self.signer)?;
        self.push_entry(&checkpoint)?;
        self.flush()?;
        self.file.sync_data()?;
        if let Err(error) = self.anchor(&checkpoint, &previous) {
            // The log holds the checkpoint. Only the detection of a truncation before it suffers, until the next anchor is
            // written.
            log::error!(target: "evidence", "the last checkpoint could not be written beside the log: {error}");
        }
        // The journal is a second place besides this directory: a change of the log cannot change the copy there.
        log::info!(
            target: "evidence", directory = &*self.directory.to_string_lossy(), file = file_name(self.index).as_str(), line = self.lines, seq = checkpoint.seq,
            hash = hex(&self.link.hash).as_str(); "checkpoint"
        );
        Ok(())
    }

    /// Names the logs of overlapping processes, so that one of them that is taken away is missed.
    fn name_overlaps(&mut self) -> io::Result<()> {
        for directory in logs(&self.directory)? {
            if directory != self.directory && !files(&directory)?.is_empty() {
                let overlap = Overlap::of(now(), &directory, &self.signer.public(), self.link.next);
                self.push_entry(&overlap)?;
            }
        }
        Ok(())
    }

    fn anchor(&self, checkpoint: &Checkpoint, previous: &Hash) -> io::Result<()> {
        let anchor = Anchor {
            checkpoint: serde_json::to_string(checkpoint)?,
            file: file_name(self.index),
            line: self.lines,
            previous: hex(previous),
        };
        let new = self.directory.join(".checkpoint.json.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(&anchor)?)?;
        file.sync_data()?;
        fs::rename(new, self.directory.join(Anchor::FILE))
    }

    /// Ends the current file with a checkpoint and begins the next one.
    ///
    /// # Errors
    /// Errors of the file system.
    pub fn rotate(&mut self, totals: Totals) -> io::Result<()> {
        self.checkpoint(Reason::Rotate, totals)?;
        let previous = Some(file_name(self.index));
        *self = Self::begin(&self.directory, self.signer.clone(), self.index + 1, self.link, previous)?;
        Ok(())
    }
}

impl Resume {
    fn recovered(seq: u64, key: String, lost: &[u8]) -> Self {
        Self {
            at: now(),
            key,
            kind: "recovered".to_owned(),
            lost_bytes: lost.len() as u64,
            lost_sha256: (!lost.is_empty()).then(|| sha256_hex(lost)),
            seq,
        }
    }
}

/// The end of the valid part of a file.
#[derive(Debug)]
struct Tail {
    link: Link,
    closed: bool,
    size: u64,
    /// Number of lines, including a last one without line feed.
    lines: u64,
    /// The last line has no line feed.
    broken: bool,
    /// The bytes after the last valid line.
    lost: Vec<u8>,
}

impl Tail {
    fn of(bytes: &[u8]) -> Option<Self> {
        let mut stated: Option<Hash> = None;
        let mut holds = None;
        let (mut end, mut lines) = (0, 0);
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            end += piece.len();
            lines += 1;
            let Some(line) = Line::parse(piece.strip_suffix(b"\n").unwrap_or(piece)) else { continue };
            if stated.is_none_or(|previous| line.follows(&previous))
                && let Some(head) = Head::parse(line.entry)
            {
                holds = Some((Link { hash: line.hash, next: head.seq.saturating_add(1) }, line.entry, end));
            }
            stated = Some(line.hash);
        }
        let (link, entry, end) = holds?;
        let closed = serde_json::from_slice::<Checkpoint>(entry).is_ok_and(|point| point.reason == Reason::Close);
        let lost = bytes.get(end..).unwrap_or_default().to_vec();
        Some(Self { link, closed, size: bytes.len() as u64, lines, broken: bytes.last() != Some(&b'\n'), lost })
    }
}

/// The files of a log with their numbers, ascending.
///
/// # Errors
/// Errors of the file system.
pub fn files(directory: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let digits = name.to_str().and_then(|name| name.strip_prefix("evidence-")?.strip_suffix(".jsonl"));
        if let Some(index) = digits.and_then(|digits| digits.parse().ok()) {
            files.push((index, entry.path()));
        }
    }
    files.sort_unstable();
    Ok(files)
}

fn file_name(index: u32) -> String {
    format!("evidence-{index:06}.jsonl")
}

fn now() -> String {
    Rfc3339(SystemTime::now()).to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::SigningKey;

    /// What a disk takes before it is full is written, and only the rest is lost.
    #[test]
    fn a_refused_write_says_what_was_written_whole() {
        let dir = tempfile::tempdir().unwrap();
        let signer = Arc::new(Signer::load(&SigningKey::File(dir.path().join("signing.pk8"))).unwrap());
        let mut log = Log::open(dir.path(), signer, Totals::default()).unwrap();
        log.buffer.extend_from_slice(b"one\ntwo\nthree\n");
        let whole = |written| log.refused(written, io::ErrorKind::StorageFull.into()).whole;
        assert_eq!([0, 2, 3, 4, 6, 7, 8, 12, 13, 14].map(whole), [0, 0, 1, 1, 1, 2, 2, 2, 3, 3]);
        // A disk that is always full.
        log.file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let refused = log.flush_counted().unwrap_err();
        assert_eq!((refused.whole, refused.error.kind()), (0, io::ErrorKind::StorageFull));
    }
}
