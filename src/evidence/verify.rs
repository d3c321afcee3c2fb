//! Verification of a log: no line changed, removed, moved or truncated.
//!
//! This file holds the question and the report; [`super::walk`] reads the lines.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::entry::{Anchor, Head};
use super::key::{PUBLIC_FILE, PublicKey};
use super::line::{Hash, Line};
use super::log::files;
use super::overlap::Overlap;
use super::show::logs;
use super::walk::Walk;

/// A log to be verified.
#[derive(Debug, Clone)]
pub struct Log {
    /// Its files, in the order in which they were written.
    pub files: Vec<PathBuf>,
    /// The copy of the last checkpoint beside the log.
    pub anchor: Option<Anchor>,
    /// The public keys that are trusted. If there are none, the keys that the log itself states are used, and the report
    /// notes that.
    pub keys: Vec<PublicKey>,
    /// Whether the files must begin with the very first line of the log.
    pub from_start: bool,
    /// Whether the files must reach the anchor or end with a closing checkpoint.
    pub to_end: bool,
    /// Lines that must be there, by number and hash: another log says so.
    pub marks: Vec<(u64, Hash)>,
}

/// The kind of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Bytes were changed.
    Edited,
    /// Lines are missing.
    Deleted,
    /// A line is out of place, or present twice.
    Reordered,
    /// The end is missing.
    Truncated,
    /// A checkpoint has no valid signature for the lines before it.
    Signature,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Edited => "edited",
            Self::Deleted => "deleted",
            Self::Reordered => "reordered",
            Self::Truncated => "truncated",
            Self::Signature => "signature",
        })
    }
}

/// One damaged place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; for missing lines, the one that follows them.
    pub line: u64,
    /// The kind of damage.
    pub fault: Fault,
    /// An explanation for people.
    pub detail: String,
}

/// How the log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With a closing checkpoint.
    Closed,
    /// With the checkpoint before a next file.
    Rotated,
    /// A process still writes, or was killed. The lines after the last checkpoint are linked, but not signed.
    Open {
        /// Number of lines after the last checkpoint.
        unanchored: u64,
    },
}

/// The result of a verification.
#[derive(Debug, Clone)]
pub struct Report {
    /// Files read.
    pub files: usize,
    /// Number of valid lines.
    pub lines: u64,
    /// Request records among them.
    pub requests: u64,
    /// Later executions among them.
    pub executions: u64,
    /// Delivery entries among them.
    pub deliveries: u64,
    /// Signed checkpoints among them.
    pub checkpoints: u64,
    /// Damage, in the order of the log.
    pub findings: Vec<Finding>,
    /// Remarks that are not damage.
    pub notes: Vec<String>,
    /// What it says of logs below its directory.
    pub overlaps: Vec<Overlap>,
    /// How it ends.
    pub end: End,
}

impl Report {
    /// Whether no damage was found.
    pub fn intact(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Verifies the log of a directory and those of overlapping processes below it.
///
/// # Errors
/// Errors of the file system.
pub fn verify_directory(directory: &Path, keys: Option<&[PublicKey]>, partial: bool) -> io::Result<Vec<(PathBuf, Report)>> {
    let published = match keys {
        Some(keys) => keys.to_vec(),
        None => published(directory)?,
    };
    let mut reports: Vec<(PathBuf, Report)> = Vec::new();
    let mut named: Vec<Overlap> = Vec::new();
    for log in logs(directory)? {
        let anchor = anchor(&log)?;
        let files: Vec<PathBuf> = files(&log)?.into_iter().map(|(_, path)| path).collect();
        let is = |overlap: &&Overlap| !partial && log != directory && log.ends_with(&overlap.directory);
        let marks = named.iter().filter(is).filter_map(Overlap::mark).collect();
        let mut report =
            verify(&Log { files, anchor: anchor.clone(), keys: published.clone(), from_start: !partial, to_end: !partial, marks })?;
        if !partial && anchor.is_none() {
            report.missing(log.join(Anchor::FILE), "the last checkpoint is missing, a cut could not be seen");
        }
        if !partial && published.is_empty() {
            report.missing(directory.join(PUBLIC_FILE), "the public key is missing, nobody knows who signed");
        }
        named.extend_from_slice(&report.overlaps);
        reports.push((log, report));
    }
    named.sort_by(|a, b| a.directory.cmp(&b.directory));
    named.dedup_by(|a, b| a.directory == b.directory);
    let gone: Vec<PathBuf> = named.iter().map(|overlap| directory.join(&overlap.directory)).filter(|path| !path.is_dir()).collect();
    if let Some((_, report)) = reports.first_mut().filter(|_| !partial) {
        for path in gone {
            report.missing(path, "the log of an overlapping process is missing, which this log names");
        }
    }
    Ok(reports)
}

/// Verifies some files of one log, with the anchor and the public keys beside them if they exist.
///
/// # Errors
/// Errors of the file system.
pub fn verify_files(paths: &[PathBuf], keys: Option<&[PublicKey]>, partial: bool) -> io::Result<Report> {
    let beside = paths.first().and_then(|path| path.parent()).unwrap_or(Path::new("."));
    let keys = match keys {
        Some(keys) => keys.to_vec(),
        None => match published(beside)? {
            keys if keys.is_empty() => published(&beside.join(".."))?,
            keys => keys,
        },
    };
    let mut ordered = Vec::new();
    for path in paths {
        let bytes = fs::read(path)?;
        let first = bytes.split(|byte| *byte == b'\n').find_map(|line| Head::parse(Line::parse(line)?.entry));
        ordered.push((first.map_or(u64::MAX, |head| head.seq), path.clone()));
    }
    ordered.sort();
    let anchor = anchor(beside)?;
    let directory = if beside.as_os_str().is_empty() { Path::new(".") } else { beside };
    let given = |path: &PathBuf| paths.iter().any(|other| other.file_name() == path.file_name());
    // If all existing files are named, the whole log is meant, and a missing first file must be noticed.
    let whole = anchor.is_some() && files(directory)?.iter().all(|(_, path)| given(path));
    let files = ordered.into_iter().map(|(_, path)| path).collect();
    verify(&Log { files, anchor, keys, from_start: whole && !partial, to_end: !partial, marks: Vec::new() })
}

fn published(directory: &Path) -> io::Result<Vec<PublicKey>> {
    match fs::read_to_string(directory.join(PUBLIC_FILE)) {
        Ok(text) => Ok(PublicKey::list(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn anchor(directory: &Path) -> io::Result<Option<Anchor>> {
    match fs::read(directory.join(Anchor::FILE)) {
        // An unreadable anchor counts as one that the log does not reach.
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).unwrap_or_else(|_| Anchor::unreadable()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Verifies a log.
///
/// # Errors
/// Errors of the file system.
pub fn verify(log: &Log) -> io::Result<Report> {
    let mut walk = Walk::new(log);
    for path in &log.files {
        walk.file(path, &fs::read(path)?);
    }
    Ok(walk.finish(log))
}

impl Anchor {
    fn unreadable() -> Self {
        Self { checkpoint: String::new(), file: String::new(), line: 1, previous: String::new() }
    }
}

impl Report {
    fn missing(&mut self, file: PathBuf, detail: &str) {
        self.findings.push(Finding { file, line: 1, fault: Fault::Deleted, detail: detail.to_owned() });
    }
}
