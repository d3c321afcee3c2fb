//! The spool: files through which usage records pass on their way to the store, so that nothing is lost while the store is
//! unavailable or when the process is killed.
//!
//! A request writes a *begin* frame before anything of it leaves, and an *end* frame with its record when it is over. A begin
//! without an end, in the files of a process that is gone, is an orphan: the record in its begin frame counts. Every process
//! has files of its own and keeps them locked as long as it lives, so that the two processes of an upgrade do not take each
//! other for dead.
//!
//! A frame is `length u32 | crc32 u32 | kind u8 | id u128 | payload`, little endian; length and checksum cover everything after
//! the checksum. A file is created at its full size and filled from the front, which costs the file system less than growing
//! it. It is read up to the first frame that is incomplete, where a kill or a full disk has ended it.
//!
//! Writing is the main cost. Requests that begin in the same turn of their thread are written together with the records that
//! have gathered since. Records on their way to the store are handed over in memory; they are read back from the files only
//! after the store was unavailable.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::leftover::Leftover;
use crate::store::records::UsageBatch;

/// The length of a frame without its payload (bytes).
const HEAD: usize = 4 + 4 + 1 + 16;
/// The longest payload (bytes).
const MAX_PAYLOAD: usize = 1 << 20;
/// Frames are gathered in memory and written at the latest when there are so many (bytes).
const GATHER: usize = 64 << 10;
/// The most that is gathered while the disk takes nothing (bytes).
const MAX_GATHERED: usize = 64 << 20;
/// After the disk refused, so much that waits is not written again for so long: everybody would write all of it to no avail.
const REST: Duration = Duration::from_millis(200);
/// Records that are handed over in memory, bytes. Beyond, they are read from the file.
const MAX_RECENT: usize = 4 << 20;
/// Bytes read at once; several frames of any length fit.
pub(super) const PIECE: usize = 4 << 20;
/// With so many requests under way it is worth waiting for others that begin in the same turn.
const COMPANY: u64 = 4;
/// The extension of the files.
const SUFFIX: &str = "spool";

/// The kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Begin = 1,
    End = 2,
}

/// One frame of a file.
pub(super) struct Frame<'a> {
    pub kind: Kind,
    pub id: u128,
    pub payload: &'a [u8],
}

/// What became of a record that is not on disk.
#[derive(Debug, thiserror::Error)]
pub enum EndError {
    /// The disk refused it; it is written with those that follow.
    #[error("a usage record waits in memory: {0}")]
    Waits(io::Error),
    /// It is longer than a frame may be, or too much waits already.
    #[error("a usage record is lost: {0}")]
    Lost(io::Error),
}

/// A request with a begin frame, to be passed to [`Spool::end`].
#[derive(Debug)]
#[must_use = "a file with a request that is not over is never deleted"]
pub struct Begun {
    file: u64,
    turn: u64,
    /// Whether other requests are under way.
    company: bool,
}

/// The spool files of this process.
pub struct Spool {
    dir: PathBuf,
    /// The prefix that tells the files of this process from all others.
    run: String,
    segment: u64,
    writer: Mutex<Writer>,
    /// Places at which a file could not be read on.
    broken: AtomicU64,
}

struct Writer {
    file: Arc<File>,
    number: u64,
    written: u64,
    gathered: Vec<u8>,
    /// The offsets in `gathered` at which begin frames start, with their turns.
    beginnings: Vec<(usize, u64)>,
    /// The turn of the last request that began; of the last whose write was attempted; and the turns whose write failed and
    /// whose requests have not been told yet.
    turn: u64,
    durable: u64,
    failed: BTreeSet<u64>,
    /// The disk refused a moment ago.
    rests_until: Option<Instant>,
    /// Requests that began and are not over: those that this file says so of, and those of files before by their number.
    open_here: u64,
    open: BTreeMap<u64, u64>,
    under_way: u64,
    /// Earlier files that were not read completely or contain an open request; keeping them open keeps their locks.
    sealed: BTreeMap<u64, Arc<File>>,
    /// Where the next read begins: file and offset.
    read: (u64, u64),
    /// The records from this place on, in memory, unless there were too many.
    recent: UsageBatch,
    recent_from: Option<(u64, u64)>,
    /// Records that the store has not taken yet, for the gauge.
    waiting: u64,
}

impl Spool {
    /// Creates files in a directory, which is created if necessary. A file is complete at about `segment` bytes.
    ///
    /// # Errors
    /// The directory cannot be created or written.
    pub fn open(dir: &Path, run: &str, segment: u64) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let file = Arc::new(create(dir, run, 0, segment)?);
        let writer = Writer {
            file,
            number: 0,
            written: 0,
            gathered: Vec::with_capacity(GATHER + 4096),
            beginnings: Vec::new(),
            turn: 0,
            durable: 0,
            failed: BTreeSet::new(),
            rests_until: None,
            open_here: 0,
            open: BTreeMap::new(),
            under_way: 0,
            sealed: BTreeMap::new(),
            read: (0, 0),
            recent: UsageBatch::default(),
            recent_from: Some((0, 0)),
            waiting: 0,
        };
        Ok(Self { dir: dir.to_owned(), run: run.to_owned(), segment, writer: Mutex::new(writer), broken: AtomicU64::new(0) })
    }

    /// Gathers the begin frame of a request. The request must not go on before [`Self::confirm`].
    ///
    /// # Errors
    /// The record is longer than a frame may be.
    pub fn begin(&self, id: u128, payload: &[u8]) -> io::Result<Begun> {
        let mut writer = self.writer.lock();
        let at = writer.gathered.len();
        writer.gather(Kind::Begin, id, payload)?;
        writer.turn += 1;
        writer.under_way += 1;
        let begun = Begun { file: writer.number, turn: writer.turn, company: writer.under_way >= COMPANY };
        writer.beginnings.push((at, begun.turn));
        writer.open_here += 1;
        Ok(begun)
    }

    /// Makes sure that the begin frame is in the file: when this returns, a kill of the process does not lose the request.
    ///
    /// # Errors
    /// The frame could not be written. The request must not go on, and counts as over.
    pub async fn confirm(&self, begun: Begun) -> io::Result<Begun> {
        if begun.company {
            // Requests that are ready to begin do so now, and one write serves all of them.
            tokio::task::yield_now().await;
        }
        self.confirm_now(begun)
    }

    fn confirm_now(&self, begun: Begun) -> io::Result<Begun> {
        let mut writer = self.writer.lock();
        let mut why = None;
        if writer.durable < begun.turn && !writer.failed.contains(&begun.turn) {
            if writer.rests() {
                writer.refuse();
            } else {
                why = writer.write().err();
            }
        }
        if !writer.failed.remove(&begun.turn) {
            return Ok(begun);
        }
        writer.over(begun);
        Err(why.unwrap_or_else(|| io::Error::other("the write that it was part of failed")))
    }

    /// Gathers the end frame of a request; it is written with the next write.
    ///
    /// # Errors
    /// It is not on disk and waits in memory, as long as there is little of that; or it is lost.
    pub fn end(&self, id: u128, begun: Option<Begun>, payload: &[u8]) -> Result<(), EndError> {
        let mut writer = self.writer.lock();
        if let Some(begun) = begun {
            writer.over(begun);
        }
        if writer.gathered.len() >= MAX_GATHERED {
            return Err(EndError::Lost(io::Error::new(io::ErrorKind::StorageFull, "too many wait for the disk")));
        }
        writer.gather(Kind::End, id, payload).map_err(EndError::Lost)?;
        writer.waiting += 1;
        if writer.recent.bytes().len() > MAX_RECENT {
            writer.recent = UsageBatch::default();
            writer.recent_from = None;
        } else if writer.recent_from.is_some() {
            writer.recent.push(id, payload);
        }
        match writer.gathered.len() >= GATHER {
            true if writer.rests() => Err(EndError::Waits(io::Error::other("the disk refused a moment ago"))),
            true => writer.write().map_err(EndError::Waits),
            false => Ok(()),
        }
    }

    /// Writes what has gathered, and begins a new file when this one is complete.
    ///
    /// # Errors
    /// The disk is full or gone. What has gathered stays in memory.
    pub fn flush(&self) -> io::Result<()> {
        let full = self.flushed(&mut self.writer.lock())?;
        forced(full);
        Ok(())
    }

    /// Like [`Self::flush`]. Returns the completed file, if any, for the caller to sync after it has released the lock.
    fn flushed(&self, writer: &mut Writer) -> io::Result<Option<Arc<File>>> {
        writer.write()?;
        if writer.written < self.segment {
            return Ok(None);
        }
        // Steps that can fail come first: the current file is used until the next one exists.
        writer.file.set_len(writer.written)?;
        let next = Arc::new(create(&self.dir, &self.run, writer.number + 1, self.segment)?);
        let full = std::mem::replace(&mut writer.file, next);
        let number = writer.number;
        writer.sealed.insert(number, Arc::clone(&full));
        if writer.open_here > 0 {
            writer.open.insert(number, std::mem::take(&mut writer.open_here));
        }
        writer.number += 1;
        writer.written = 0;
        Ok(Some(full))
    }

    /// Syncs everything to the disk, for an orderly shutdown.
    ///
    /// # Errors
    /// As [`Self::flush`].
    pub fn sync(&self) -> io::Result<()> {
        let file = {
            let mut writer = self.writer.lock();
            writer.write()?;
            Arc::clone(&writer.file)
        };
        file.sync_data()
    }

    /// How often a file could not be read on so far; the records after such a place are lost.
    pub fn broken(&self) -> u64 {
        self.broken.load(Ordering::Relaxed)
    }

    fn is_broken(&self, file: u64, offset: u64, unread: usize) {
        self.broken.fetch_add(1, Ordering::Relaxed);
        log::error!(target: "usage", file, offset, bytes = unread; "usage records that were written can not be read");
    }

    /// How many records the store has not taken yet.
    pub fn waiting(&self) -> u64 {
        self.writer.lock().waiting
    }

    /// The next records in the order of their ends, with the place to pass to [`Self::taken`]. At most `limit` records if they
    /// have to be read from a file; all there are if they are still in memory.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn next(&self, limit: usize) -> io::Result<(UsageBatch, Place)> {
        let (full, known) = {
            let mut writer = self.writer.lock();
            let full = self.flushed(&mut writer)?;
            let current = (writer.number, writer.written);
            let recent = std::mem::take(&mut writer.recent);
            // Records in memory start over from here. If these are not taken, the next call reads them from the file.
            match writer.recent_from.replace(current) == Some(writer.read) {
                true => (full, Ok((recent, Place(current)))),
                false => (full, Err((writer.read, current))),
            }
        };
        forced(full);
        let (mut at, current) = match known {
            Ok(recent) => return Ok(recent),
            Err(files) => files,
        };
        let mut records = UsageBatch::default();
        loop {
            let (file, offset) = at;
            let bytes = tail(&path(&self.dir, &self.run, file), offset, if file == current.0 { Some(current.1) } else { None })?;
            let mut scan = Scan { bytes: &bytes, at: 0 };
            while records.len() < limit
                && let Some(frame) = scan.next()
            {
                if frame.kind == Kind::End {
                    records.push(frame.id, frame.payload);
                }
            }
            at = (file, offset + scan.at as u64);
            let more = bytes.len() == PIECE && scan.at > 0;
            if records.len() < limit && !more && scan.at < bytes.len() {
                self.is_broken(file, at.1, bytes.len() - scan.at);
                // Skips the unreadable rest, so that records written after it are reached.
                at.1 = offset + bytes.len() as u64;
            }
            if records.len() >= limit || (file >= current.0 && !more) {
                return Ok((records, Place(at)));
            }
            if !more {
                at = (file + 1, 0);
            }
        }
    }

    /// Notes that the store has the records up to this place. Files that are not needed any more are deleted.
    ///
    /// # Errors
    /// A file cannot be deleted; the next call tries again.
    pub fn taken(&self, place: Place, records: usize) -> io::Result<()> {
        let mut writer = self.writer.lock();
        writer.read = place.0;
        writer.waiting = writer.waiting.saturating_sub(records as u64);
        let oldest = writer.open.keys().next().copied().unwrap_or(u64::MAX);
        let done: Vec<u64> = writer.sealed.keys().copied().take_while(|n| *n < place.0.0 && *n < oldest).collect();
        for number in done {
            fs::remove_file(path(&self.dir, &self.run, number))?;
            writer.sealed.remove(&number);
        }
        Ok(())
    }

    /// What processes that are gone left behind: their records that the store may not have, and their orphans. Nothing is read
    /// yet, and nothing deleted but by [`Leftover::done`].
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn leftovers(&self) -> io::Result<Vec<Leftover>> {
        let mut runs: BTreeMap<String, Vec<(u64, PathBuf)>> = BTreeMap::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if let Some((run, number)) = parse(&path)
                && run != self.run
            {
                runs.entry(run).or_default().push((number, path));
            }
        }
        let mut found = Vec::new();
        for mut files in runs.into_values() {
            files.sort();
            if let Some(leftover) = Leftover::of(files)? {
                found.push(leftover);
            }
        }
        Ok(found)
    }
}

/// A position in the files: file and offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place((u64, u64));

impl Writer {
    /// Appends a frame.
    fn gather(&mut self, kind: Kind, id: u128, payload: &[u8]) -> io::Result<()> {
        if payload.len() > MAX_PAYLOAD {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a record is longer than a frame may be"));
        }
        let start = self.gathered.len();
        let length = (payload.len() + HEAD - 8) as u32;
        self.gathered.extend_from_slice(&length.to_le_bytes());
        self.gathered.extend_from_slice(&[0; 4]);
        self.gathered.push(kind as u8);
        self.gathered.extend_from_slice(&id.to_le_bytes());
        self.gathered.extend_from_slice(payload);
        let sum = crc32fast::hash(&self.gathered[start + 8..]);
        self.gathered[start + 4..start + 8].copy_from_slice(&sum.to_le_bytes());
        Ok(())
    }

    /// Notes that a request is over, or must not go on.
    fn over(&mut self, begun: Begun) {
        self.under_way = self.under_way.saturating_sub(1);
        if begun.file == self.number {
            self.open_here = self.open_here.saturating_sub(1);
        } else if let Some(open) = self.open.get_mut(&begun.file) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(&begun.file);
            }
        }
    }

    fn write(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        match self.file.write_all_at(&self.gathered, self.written) {
            Ok(()) => {
                self.written += self.gathered.len() as u64;
                self.gathered.clear();
                self.beginnings.clear();
                self.durable = self.turn;
                self.rests_until = None;
                Ok(())
            }
            Err(error) => {
                // A half-written frame must not be read as a whole one, nor together with the next attempt.
                let _ = self.file.set_len(self.written);
                self.refuse();
                self.rests_until = Some(Instant::now() + REST);
                Err(error)
            }
        }
    }

    /// Much waits for a disk that refused a moment ago.
    fn rests(&self) -> bool {
        self.gathered.len() >= GATHER && self.rests_until.is_some_and(|until| Instant::now() < until)
    }

    /// Requests that could not be written do not go on: what is not on disk of them must not come back as killed. What
    /// ended stays, for the next try.
    #[cold]
    fn refuse(&mut self) {
        for (at, turn) in std::mem::take(&mut self.beginnings).into_iter().rev() {
            let length = self.gathered.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes) as usize;
            self.gathered.drain(at..at + 8 + length);
            self.failed.insert(turn);
        }
        self.durable = self.turn;
    }
}

/// Reads frames up to the first that is not whole.
pub(super) struct Scan<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl<'a> Iterator for Scan<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let rest = self.bytes.get(self.at..)?;
        let word = |at: usize| rest.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
        let (length, sum) = (word(0)? as usize, word(4)?);
        if !(HEAD - 8..=MAX_PAYLOAD + HEAD - 8).contains(&length) {
            return None;
        }
        let body = rest.get(8..8 + length)?;
        if crc32fast::hash(body) != sum {
            return None;
        }
        let kind = match body[0] {
            1 => Kind::Begin,
            2 => Kind::End,
            _ => return None,
        };
        let id = body.get(1..17).and_then(|b| b.try_into().ok()).map(u128::from_le_bytes)?;
        self.at += 8 + length;
        Some(Frame { kind, id, payload: &body[17..] })
    }
}

fn path(dir: &Path, run: &str, number: u64) -> PathBuf {
    dir.join(format!("{run}-{number:08}.{SUFFIX}"))
}

fn parse(path: &Path) -> Option<(String, u64)> {
    if path.extension()?.to_str()? != SUFFIX {
        return None;
    }
    let (run, number) = path.file_stem()?.to_str()?.rsplit_once('-')?;
    Some((run.to_owned(), number.parse().ok()?))
}

/// Creates a file. It is locked before it gets the name that other processes look for, so that none of them takes it over.
fn create(dir: &Path, run: &str, number: u64, segment: u64) -> io::Result<File> {
    let path = path(dir, run, number);
    let unnamed = path.with_extension("new");
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&unnamed)?;
    file.try_lock().map_err(|error| io::Error::other(format!("a new file is locked by another process: {error}")))?;
    file.set_len(segment)?;
    fs::rename(&unnamed, &path)?;
    Ok(file)
}

/// Syncs a completed file to the disk, in case the machine stops; a kill of the process alone loses nothing without it.
fn forced(full: Option<Arc<File>>) {
    if let Some(full) = full
        && let Err(error) = full.sync_data()
    {
        log::error!(target: "usage", "a full file of the usage spool is not on the disk itself: {error}");
    }
}

/// What stands in a file from an offset on, at most up to `end`: what is behind it is being written.
pub(super) fn tail(path: &Path, offset: u64, end: Option<u64>) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let there = end.map_or_else(|| file.metadata().map(|meta| meta.len()), Ok)?.saturating_sub(offset);
    let mut bytes = vec![0; usize::try_from(there).unwrap_or(PIECE).min(PIECE)];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "spool_test.rs"]
mod tests;
