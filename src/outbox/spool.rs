//! Append-only files in which deliveries wait for the record store, so that a crash of the process loses none.
//!
//! Every process has its own files and locks them for as long as it lives. The files of a dead process are taken over by
//! the process that finds them. Entries are numbered; the store keeps, in the transaction that stores the messages, the
//! number of the last entry taken, so that no entry is stored twice wherever a process dies.
//!
//! An entry is `length u32 | crc32 u32 | number u64 | payload`, little endian; the checksum covers everything behind
//! itself. A file is read up to its first incomplete entry: that is where a kill or a full disk ended it.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::plugin::delivery::MAX_BODY;

/// Bytes before the payload of an entry.
const HEAD: usize = 4 + 4 + 8;
/// Longest payload: the largest body and its header.
const MAX_PAYLOAD: usize = MAX_BODY + (8 << 10);
/// Size in bytes at which a file is full and the next one begins.
const SEGMENT: u64 = 8 << 20;
/// Bytes read at once. Not less than the largest entry, so that one read always yields an entry.
const PIECE: u64 = 1 << 20;
/// The extension of the files.
const SUFFIX: &str = "out";

/// An entry that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// Its number in the spool of its process, from 1.
    pub number: u64,
    /// As given to [`Spool::append`].
    pub payload: Vec<u8>,
}

/// The files of this process.
pub(super) struct Spool {
    dir: PathBuf,
    run: String,
    writer: Mutex<Writer>,
    /// Places at which a file could not be read on and that nobody was told of.
    broken: AtomicU64,
}

struct Writer {
    file: File,
    /// Number of the current file.
    segment: u64,
    /// Bytes of complete entries in the current file.
    written: u64,
    /// Number of the last entry.
    number: u64,
    /// Number of the last entry that the store has taken.
    taken: u64,
    /// Half an entry stands behind the whole ones and could not be taken away: what follows goes into another file.
    torn: bool,
    /// Files that are full and still have something for the store, with their lock, and the bytes of their whole entries.
    full: BTreeMap<u64, (File, u64)>,
    /// Where reading goes on: file and offset.
    read: Place,
}

/// A position in the spool: file and offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    segment: u64,
    offset: u64,
}

impl Spool {
    /// Starts new files in a directory, which is created if missing.
    pub fn open(dir: &Path, run: &str) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        let file = create(dir, run, 0)?;
        let writer =
            Writer { file, segment: 0, written: 0, number: 0, taken: 0, torn: false, full: BTreeMap::new(), read: Place::default() };
        Ok(Self { dir: dir.to_owned(), run: run.to_owned(), writer: Mutex::new(writer), broken: AtomicU64::new(0) })
    }

    /// Appends an entry. Once this returns, a kill of the process does not lose it.
    ///
    /// # Errors
    /// When it could not be written. Then no part of it is left in the file.
    pub fn append(&self, payload: &[u8]) -> io::Result<()> {
        if payload.len() > MAX_PAYLOAD {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "longer than an entry may be"));
        }
        let mut bytes = Vec::with_capacity(HEAD + payload.len());
        bytes.extend_from_slice(&((payload.len() + 8) as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        let mut writer = self.writer.lock();
        let number = writer.number + 1;
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(payload);
        let sum = crc32fast::hash(&bytes[8..]);
        bytes[4..8].copy_from_slice(&sum.to_le_bytes());
        if writer.written >= SEGMENT || writer.torn {
            let next = create(&self.dir, &self.run, writer.segment + 1)?;
            let (segment, full) = (writer.segment, std::mem::replace(&mut writer.file, next));
            let written = writer.written;
            writer.full.insert(segment, (full, written));
            (writer.segment, writer.written, writer.torn) = (segment + 1, 0, false);
        }
        if let Err(error) = writer.file.write_all(&bytes) {
            // An incomplete entry would hide all entries behind it.
            let whole = writer.written;
            writer.torn = writer.file.set_len(whole).is_err();
            return Err(error);
        }
        writer.written += bytes.len() as u64;
        writer.number = number;
        Ok(())
    }

    /// Number of entries that the store has not taken.
    pub fn waiting(&self) -> u64 {
        let writer = self.writer.lock();
        writer.number.saturating_sub(writer.taken)
    }

    /// The next entries in order, at most `limit` and about 4 MiB, and the place behind them, to be passed to
    /// [`Self::taken`].
    pub fn next(&self, limit: usize) -> io::Result<(Vec<Entry>, Place)> {
        let (mut at, end, lengths) = {
            let writer = self.writer.lock();
            let lengths: BTreeMap<u64, u64> = writer.full.iter().map(|(segment, (_, written))| (*segment, *written)).collect();
            (writer.read, Place { segment: writer.segment, offset: writer.written }, lengths)
        };
        let mut entries = Vec::new();
        let mut bytes = 0;
        loop {
            let until = if at.segment == end.segment { end.offset } else { lengths.get(&at.segment).copied().unwrap_or(0) };
            let more = read_some(&path(&self.dir, &self.run, at.segment), &mut at.offset, until, limit, &mut bytes, &mut entries)?;
            if !more && at.offset < until {
                if !entries.is_empty() {
                    // Those first: when they are taken, this is where reading begins.
                    return Ok((entries, at));
                }
                self.passed_over(&mut at, until);
            }
            if entries.len() >= limit || bytes >= 4 * PIECE as usize || (!more && at.segment == end.segment) {
                return Ok((entries, at));
            }
            if !more {
                at = Place { segment: at.segment + 1, offset: 0 };
            }
        }
    }

    /// What cannot be read is lost, and told once.
    fn passed_over(&self, at: &mut Place, until: u64) {
        self.broken.fetch_add(1, Ordering::Relaxed);
        log::error!(
            target: "outbox", file = at.segment, offset = at.offset, bytes = until - at.offset;
            "deliveries that were written can not be read"
        );
        at.offset = until;
        let mut writer = self.writer.lock();
        writer.read = *at;
        if *at == (Place { segment: writer.segment, offset: writer.written }) {
            writer.taken = writer.number;
        }
    }

    /// How many places could not be read since this was asked last.
    pub fn take_broken(&self) -> u64 {
        self.broken.swap(0, Ordering::Relaxed)
    }

    /// The store has entries up to this one. Files that nobody needs any more are deleted.
    pub fn taken(&self, number: u64, place: Place) -> io::Result<()> {
        let mut writer = self.writer.lock();
        (writer.taken, writer.read) = (number, place);
        let done: Vec<u64> = writer.full.keys().copied().take_while(|segment| *segment < place.segment).collect();
        for segment in done {
            fs::remove_file(path(&self.dir, &self.run, segment))?;
            writer.full.remove(&segment);
        }
        Ok(())
    }

    /// For an orderly shutdown: deletes the files if the store has taken everything, otherwise syncs them to the disk.
    pub fn close(&self) -> io::Result<()> {
        let writer = self.writer.lock();
        if writer.taken < writer.number {
            return writer.file.sync_data();
        }
        for segment in writer.full.keys().chain([&writer.segment]) {
            fs::remove_file(path(&self.dir, &self.run, *segment))?;
        }
        Ok(())
    }

    /// The files of dead processes.
    pub fn leftovers(&self) -> io::Result<Vec<Leftover>> {
        let mut runs: BTreeMap<String, Vec<(u64, PathBuf)>> = BTreeMap::new();
        for (run, segment, path) in listed(&self.dir)? {
            if run != self.run {
                runs.entry(run).or_default().push((segment, path));
            }
        }
        let mut found = Vec::new();
        for (run, mut files) in runs {
            files.sort();
            if let Some(leftover) = Leftover::of(run, files)? {
                found.push(leftover);
            }
        }
        Ok(found)
    }
}

/// Whether the directory holds files of any process.
pub(super) fn any(dir: &Path) -> bool {
    listed(dir).is_ok_and(|found| !found.is_empty())
}

fn listed(dir: &Path) -> io::Result<Vec<(String, u64, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().and_then(|suffix| suffix.to_str()) == Some(SUFFIX)
            && let Some((run, segment)) = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.rsplit_once('-'))
            && let Ok(segment) = segment.parse()
        {
            found.push((run.to_owned(), segment, path.clone()));
        }
    }
    Ok(found)
}

/// The files of a dead process.
#[derive(Debug)]
pub(super) struct Leftover {
    /// The process that wrote them.
    pub run: String,
    /// Each file with the handle that locks it, so that no other process takes over the same files.
    files: Vec<(PathBuf, File)>,
    unread: VecDeque<PathBuf>,
    offset: u64,
    /// Files of it that could not be read to their end.
    pub broken: u64,
}

impl Leftover {
    /// Locks the files of a process; `None` if that process lives.
    fn of(run: String, paths: Vec<(u64, PathBuf)>) -> io::Result<Option<Self>> {
        let mut files = Vec::new();
        for (_, path) in paths {
            let file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            // A file without a link was deleted a moment ago by its process, which therefore lives.
            if file.try_lock().is_err() || file.metadata()?.nlink() == 0 {
                return Ok(None);
            }
            files.push((path, file));
        }
        if files.is_empty() {
            return Ok(None);
        }
        let unread = files.iter().map(|(path, _)| path.clone()).collect();
        Ok(Some(Self { run, files, unread, offset: 0, broken: 0 }))
    }

    /// The next entries with a number above `after`, in order; empty when all were read.
    pub fn next(&mut self, after: u64, limit: usize) -> io::Result<Vec<Entry>> {
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while let Some(path) = self.unread.front() {
            let more = read_some(path, &mut self.offset, u64::MAX, limit, &mut bytes, &mut entries)?;
            entries.retain(|entry| entry.number > after);
            if entries.len() >= limit || bytes >= 4 * PIECE as usize && !entries.is_empty() {
                break;
            }
            if !more {
                if self.offset < fs::metadata(path)?.len() {
                    self.broken += 1;
                    log::error!(
                        target: "outbox", file = path.display().to_string().as_str(), offset = self.offset;
                        "a kill, a full disk or a fault ended this file in the middle of a delivery: what stands behind is not read"
                    );
                }
                self.unread.pop_front();
                self.offset = 0;
            }
        }
        Ok(entries)
    }

    /// Deletes the files: the store has taken everything.
    pub fn done(self) -> io::Result<()> {
        for (path, _) in &self.files {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// Reads complete entries from `offset`, and advances it. Returns whether the file may hold more.
fn read_some(path: &Path, offset: &mut u64, end: u64, limit: usize, bytes: &mut usize, out: &mut Vec<Entry>) -> io::Result<bool> {
    let mut file = File::open(path)?;
    file.seek(io::SeekFrom::Start(*offset))?;
    let mut piece = Vec::new();
    file.take(end.saturating_sub(*offset).min(PIECE)).read_to_end(&mut piece)?;
    let mut at = 0;
    while out.len() < limit
        && let Some((entry, length)) = piece.get(at..).and_then(entry)
    {
        *bytes += length;
        at += length;
        out.push(entry);
    }
    *offset += at as u64;
    Ok(out.len() >= limit || (piece.len() as u64 == PIECE && at > 0))
}

/// The entry at the beginning of `bytes` and its length, if it is complete and its checksum is right.
fn entry(bytes: &[u8]) -> Option<(Entry, usize)> {
    let word = |at: usize| bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map(u32::from_le_bytes);
    let (length, sum) = (word(0)? as usize, word(4)?);
    if !(8..=MAX_PAYLOAD + 8).contains(&length) {
        return None;
    }
    let body = bytes.get(8..8 + length)?;
    if crc32fast::hash(body) != sum {
        return None;
    }
    let (number, payload) = body.split_first_chunk::<8>()?;
    Some((Entry { number: u64::from_le_bytes(*number), payload: payload.to_vec() }, 8 + length))
}

fn path(dir: &Path, run: &str, segment: u64) -> PathBuf {
    dir.join(format!("{run}-{segment:08}.{SUFFIX}"))
}

/// Creates a file that is locked before it gets the name that other processes look for: none can mistake it for a leftover.
fn create(dir: &Path, run: &str, segment: u64) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let path = path(dir, run, segment);
    let unnamed = path.with_extension("new");
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&unnamed)?;
    file.try_lock().map_err(|error| io::Error::other(format!("a new file is locked by another process: {error}")))?;
    fs::rename(&unnamed, &path)?;
    Ok(file)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn numbers(entries: &[Entry]) -> Vec<u64> {
        entries.iter().map(|entry| entry.number).collect()
    }

    #[test]
    fn entries_come_back_in_their_order_and_files_go() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), "a").unwrap();
        let big = vec![7; MAX_PAYLOAD];
        for n in 0..100_u8 {
            spool.append(if n % 2 == 0 { &big } else { std::slice::from_ref(&n) }).unwrap();
        }
        assert!(spool.append(&vec![0; MAX_PAYLOAD + 1]).is_err());
        assert_eq!(listed(dir.path()).unwrap().len(), 2, "more than one segment");
        let mut seen = Vec::new();
        while spool.waiting() > 0 {
            let (entries, place) = spool.next(7).unwrap();
            assert!(entries.len() <= 7 && spool.next(7).unwrap().0 == entries, "until it is taken it is there");
            seen.extend(numbers(&entries));
            spool.taken(*seen.last().unwrap(), place).unwrap();
        }
        assert_eq!(seen, (1..=100).collect::<Vec<_>>());
        assert_eq!(listed(dir.path()).unwrap().len(), 1);
        spool.close().unwrap();
        assert!(!any(dir.path()));
    }

    #[test]
    fn what_a_killed_process_left_is_taken_over_behind_a_number() {
        let dir = tempfile::tempdir().unwrap();
        let dead = Spool::open(dir.path(), "dead").unwrap();
        (0..50_u8).for_each(|n| dead.append(&[n]).unwrap());
        let other = Spool::open(dir.path(), "other").unwrap();
        assert!(other.leftovers().unwrap().is_empty(), "it lives");
        // An incomplete entry, as a kill leaves it.
        dead.writer.lock().file.write_all(&[20, 0, 0, 0, 1, 2]).unwrap();
        drop(dead);
        let mut found = other.leftovers().unwrap();
        assert_eq!(found.len(), 1);
        assert!(other.leftovers().unwrap().is_empty(), "it is in hand");
        let leftover = &mut found[0];
        assert_eq!(numbers(&leftover.next(40, 6).unwrap()), (41..=46).collect::<Vec<_>>());
        assert_eq!(numbers(&leftover.next(40, 6).unwrap()), (47..=50).collect::<Vec<_>>());
        assert!(leftover.next(40, 6).unwrap().is_empty());
        assert_eq!(leftover.broken, 1);
        found.remove(0).done().unwrap();
        assert_eq!(listed(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn what_cannot_be_read_hides_nothing_behind_it_and_is_told_once() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), "a").unwrap();
        (0..3).for_each(|n| spool.append(&[n]).unwrap());
        // The second of three changed on the disk.
        let file = path(dir.path(), "a", 0);
        let mut bytes = fs::read(&file).unwrap();
        bytes[HEAD + 1 + HEAD] ^= 1;
        fs::write(&file, bytes).unwrap();
        let (entries, place) = spool.next(10).unwrap();
        assert_eq!((numbers(&entries), spool.take_broken()), (vec![1], 0));
        spool.taken(1, place).unwrap();
        assert!(spool.next(10).unwrap().0.is_empty() && spool.next(10).unwrap().0.is_empty());
        assert_eq!((spool.waiting(), spool.take_broken()), (0, 1));
        // A write that failed half, where not even that could be taken back.
        spool.writer.lock().file.write_all(&[20, 0, 0, 0, 1, 2]).unwrap();
        spool.writer.lock().torn = true;
        (3..5).for_each(|n| spool.append(&[n]).unwrap());
        let (entries, place) = spool.next(10).unwrap();
        assert_eq!((numbers(&entries), spool.take_broken()), (vec![4, 5], 0));
        spool.taken(5, place).unwrap();
        spool.close().unwrap();
        assert!(!any(dir.path()));
    }

    #[test]
    fn a_write_that_cannot_be_taken_back_begins_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let spool = Spool::open(dir.path(), "a").unwrap();
        // Neither written to nor cut.
        let good = std::mem::replace(&mut spool.writer.lock().file, File::open(path(dir.path(), "a", 0)).unwrap());
        assert!(spool.append(&[1]).is_err());
        assert!(spool.writer.lock().torn);
        spool.writer.lock().file = good;
        spool.append(&[2]).unwrap();
        assert_eq!(listed(dir.path()).unwrap().len(), 2);
        assert_eq!(numbers(&spool.next(10).unwrap().0), [1]);
    }
}
