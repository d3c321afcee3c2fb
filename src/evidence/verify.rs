//! Whether a log is what was written: no line changed, removed, moved or cut off.
//!
//! The bytes are checked from first to last. After a fault the check goes on with the next line that can be placed, so
//! that a report names every damaged place and not only the first.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::entry::{Anchor, Checkpoint, Head, Open, Reason, Resume};
use super::key::{PUBLIC_FILE, PublicKey};
use super::line::{Hash, Line, hex, linked, sha256_hex, unhex};
use super::log::files;
use super::show::logs;

/// What is to be verified.
#[derive(Debug, Clone)]
pub struct Log {
    /// Its files in the order in which they were written.
    pub files: Vec<PathBuf>,
    /// The last checkpoint as it is known beside the log.
    pub anchor: Option<Anchor>,
    /// The keys that may have signed. Without any, the log's own claim is believed, which a note says.
    pub keys: Vec<PublicKey>,
    /// The files must begin with the first line ever written.
    pub from_start: bool,
    /// The files must reach the anchor or end with a closing checkpoint.
    pub to_end: bool,
}

/// What kind of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Bytes are other than what was written.
    Edited,
    /// Lines are missing.
    Deleted,
    /// A line stands where another was written, or twice.
    Reordered,
    /// The end is missing.
    Truncated,
    /// A checkpoint is not signed by the key for what stands before it.
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
    /// Where.
    pub file: PathBuf,
    /// The line, counted from 1; where something is missing, the line before which it is.
    pub line: u64,
    /// What.
    pub fault: Fault,
    /// For people.
    pub detail: String,
}

/// How the log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With a closing checkpoint.
    Closed,
    /// With the checkpoint before a next file.
    Rotated,
    /// A process still writes, or was killed: so many lines after the last checkpoint are linked and not signed.
    Open {
        /// Lines after the last checkpoint.
        unanchored: u64,
    },
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Report {
    /// Files read.
    pub files: usize,
    /// Lines that hold.
    pub lines: u64,
    /// Records of requests among them.
    pub requests: u64,
    /// Later executions among them.
    pub executions: u64,
    /// Signed checkpoints among them.
    pub checkpoints: u64,
    /// Damage, in the order of the log.
    pub findings: Vec<Finding>,
    /// What is worth knowing and no damage.
    pub notes: Vec<String>,
    /// How it ends.
    pub end: End,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn intact(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Verifies the log of a directory and those of overlapping processes below it.
///
/// # Errors
/// What the file system says.
pub fn verify_directory(directory: &Path, keys: Option<&[PublicKey]>, partial: bool) -> io::Result<Vec<(PathBuf, Report)>> {
    let published = match keys {
        Some(keys) => keys.to_vec(),
        None => published(directory)?,
    };
    let mut reports = Vec::new();
    for log in logs(directory)? {
        let anchor = anchor(&log)?;
        let files: Vec<PathBuf> = files(&log)?.into_iter().map(|(_, path)| path).collect();
        let mut report = verify(&Log { files, anchor: anchor.clone(), keys: published.clone(), from_start: !partial, to_end: !partial })?;
        if !partial && anchor.is_none() {
            report.missing(log.join(Anchor::FILE), "the last checkpoint is missing, a cut could not be seen");
        }
        if !partial && published.is_empty() {
            report.missing(directory.join(PUBLIC_FILE), "the public key is missing, nobody knows who signed");
        }
        reports.push((log, report));
    }
    Ok(reports)
}

/// Verifies some files of one log. The anchor and the public keys beside them are used where they exist.
///
/// # Errors
/// What the file system says.
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
    let files = ordered.into_iter().map(|(_, path)| path).collect();
    verify(&Log { files, anchor, keys, from_start: false, to_end: !partial })
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
        // An anchor that cannot be read stands for one that no log can reach.
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes).unwrap_or_else(|_| Anchor::unreadable()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Verifies a log.
///
/// # Errors
/// What the file system says.
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

/// Bytes that are no lines, until a later line accounts for them.
struct Torn {
    file: PathBuf,
    line: u64,
    lines: u64,
    bytes: Vec<u8>,
}

/// Lines that should stand before a place.
struct Gap {
    finding: usize,
    from: u64,
    to: u64,
}

struct Walk {
    report: Report,
    keys: Vec<PublicKey>,
    believe: bool,
    from_start: bool,
    file: PathBuf,
    line: u64,
    /// What the next line may follow: the last line's stated hash and, if that line was edited, the one it should have.
    previous: Vec<Hash>,
    next: Option<u64>,
    torn: Option<Torn>,
    gaps: Vec<Gap>,
    late: BTreeSet<u64>,
    last: Option<Reason>,
    unanchored: u64,
    anchor: Option<(Checkpoint, Hash)>,
    anchor_seen: Option<Hash>,
}

impl Walk {
    fn new(log: &Log) -> Self {
        let report = Report {
            files: log.files.len(),
            lines: 0,
            requests: 0,
            executions: 0,
            checkpoints: 0,
            findings: Vec::new(),
            notes: Vec::new(),
            end: End::Open { unanchored: 0 },
        };
        let mut walk = Self {
            report,
            keys: log.keys.clone(),
            believe: log.keys.is_empty(),
            from_start: log.from_start,
            file: PathBuf::new(),
            line: 0,
            previous: Vec::new(),
            next: None,
            torn: None,
            gaps: Vec::new(),
            late: BTreeSet::new(),
            last: None,
            unanchored: 0,
            anchor: None,
            anchor_seen: None,
        };
        if let Some(anchor) = &log.anchor {
            // With keys that are only claimed, the claim is not read yet: the anchor's own must do.
            let claimed: Option<Checkpoint> = serde_json::from_str(&anchor.checkpoint).ok();
            let own: Vec<PublicKey> = claimed.and_then(|point| PublicKey::from_hex(&point.key)).into_iter().collect();
            match anchor.verify(if walk.believe { &own } else { &log.keys }) {
                Ok(verified) => walk.anchor = Some(verified),
                Err(reason) => {
                    walk.file = log.files.first().and_then(|path| path.parent()).unwrap_or(Path::new("")).join(Anchor::FILE);
                    walk.line = 1;
                    walk.find(Fault::Signature, format!("the last checkpoint is not ours: {reason}"));
                }
            }
        }
        walk
    }

    fn find(&mut self, fault: Fault, detail: String) {
        self.report.findings.push(Finding { file: self.file.clone(), line: self.line, fault, detail });
    }

    fn file(&mut self, path: &Path, bytes: &[u8]) {
        self.file = path.to_owned();
        self.line = 0;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line += 1;
            let line = piece.strip_suffix(b"\n").and_then(Line::parse);
            match line.and_then(|line| Some((line, Head::parse(line.entry)?))) {
                Some((line, head)) => self.step(&line, &head),
                None => self.tear(piece),
            }
        }
    }

    fn tear(&mut self, piece: &[u8]) {
        let torn = self.torn.get_or_insert_with(|| Torn { file: self.file.clone(), line: self.line, lines: 0, bytes: Vec::new() });
        torn.lines += 1;
        torn.bytes.extend_from_slice(piece);
    }

    fn step(&mut self, line: &Line<'_>, head: &Head) {
        if self.next.is_none() {
            self.first(line, head);
        }
        let expected = self.next.unwrap_or(head.seq);
        let previous = self.previous.iter().copied().find(|previous| line.follows(previous));
        let torn = self.settle(line, head, previous.is_some());
        if head.seq < expected {
            self.late.insert(head.seq);
            self.find(Fault::Reordered, format!("number {} stands after number {}", head.seq, expected - 1));
            return;
        }
        if head.seq > expected + torn {
            self.gaps.push(Gap { finding: self.report.findings.len(), from: expected, to: head.seq });
            self.find(Fault::Deleted, format!("{} missing before this line", numbers(expected, head.seq)));
        } else if previous.is_none() && torn == 0 && !self.previous.is_empty() {
            self.find(Fault::Edited, "the hash does not fit this line and the one before it".to_owned());
        } else if previous.is_some() && head.seq != expected {
            self.find(Fault::Edited, format!("number {} where {expected} was due", head.seq));
        } else if previous.is_some() {
            self.report.lines += 1;
        }
        self.content(line, head, previous);
        let computed = self.previous.iter().map(|previous| linked(previous, line.entry)).find(|hash| *hash != line.hash);
        self.previous = std::iter::once(line.hash).chain(computed).collect();
        self.next = Some(head.seq.saturating_add(1));
    }

    /// The first line there is: what it says of its past is believed if files before it are not asked for.
    fn first(&mut self, line: &Line<'_>, head: &Head) {
        let open = serde_json::from_slice::<Open>(line.entry).ok();
        let claimed = open.and_then(|open| unhex(open.previous_hash.as_bytes()));
        if head.seq == 0 || self.from_start {
            self.previous = vec![super::line::GENESIS];
            self.next = Some(0);
        } else {
            self.previous = claimed.into_iter().collect();
            self.next = Some(head.seq);
            self.report.notes.push(format!("begins with number {}; what came before is not here", head.seq));
        }
    }

    /// Bytes that were no lines are either accounted for by this line, or edits. Gives how many lines they may have been.
    fn settle(&mut self, line: &Line<'_>, head: &Head, follows: bool) -> u64 {
        let Some(torn) = self.torn.take() else { return 0 };
        if head.kind == "open" && follows && torn.file != self.file {
            // A file of which nothing holds; the next line accounts for it.
            self.torn = Some(torn);
            return 0;
        }
        let resume = serde_json::from_slice::<Resume>(line.entry).ok().filter(|resume| resume.kind == "recovered");
        if let Some(resume) = resume.filter(|_| follows) {
            let lost = usize::try_from(resume.lost_bytes).ok().and_then(|length| torn.bytes.get(..length));
            let rest = lost.map(|lost| torn.bytes.get(lost.len()..).unwrap_or_default());
            let whole = rest.is_some_and(|rest| rest.is_empty() || rest == b"\n");
            if whole && lost.map(sha256_hex) == resume.lost_sha256 {
                self.report.notes.push(format!(
                    "{}:{}: {} bytes that a process left when it was killed, accounted for by the line after them",
                    torn.file.display(), torn.line, resume.lost_bytes
                ));
                return 0;
            }
        }
        for number in torn.line..torn.line + torn.lines {
            let detail = "this is no line of an evidence log".to_owned();
            self.report.findings.push(Finding { file: torn.file.clone(), line: number, fault: Fault::Edited, detail });
        }
        torn.lines
    }

    fn content(&mut self, line: &Line<'_>, head: &Head, previous: Option<Hash>) {
        self.unanchored += 1;
        self.last = None;
        if self.anchor.as_ref().is_some_and(|(point, _)| point.seq == head.seq) {
            self.anchor_seen = Some(line.hash);
        }
        match head.kind.as_str() {
            "request" => self.report.requests += 1,
            "execution" => self.report.executions += 1,
            "open" | "resumed" | "recovered" if self.believe => {
                let open = serde_json::from_slice::<Open>(line.entry).map(|open| open.key);
                let key = open.or_else(|_| serde_json::from_slice::<Resume>(line.entry).map(|resume| resume.key));
                self.keys.extend(key.ok().and_then(|key| PublicKey::from_hex(&key)));
            }
            "checkpoint" => match previous.map(|previous| Checkpoint::verify(line.entry, &previous, &self.keys)) {
                Some(Ok(point)) => {
                    self.report.checkpoints += 1;
                    self.unanchored = 0;
                    self.last = Some(point.reason);
                    if point.dropped > 0 && point.reason == Reason::Close {
                        self.report.notes.push(format!("{} records were dropped and are not in the log", point.dropped));
                    }
                }
                Some(Err(reason)) => self.find(Fault::Signature, reason.to_owned()),
                // The line before it is damaged, which is a finding already.
                None => {}
            },
            "open" | "resumed" | "recovered" => {}
            _ => self.find(Fault::Edited, "an entry of a kind that is not ours".to_owned()),
        }
    }

    fn finish(mut self, log: &Log) -> Report {
        // What was missed and came later was moved, not deleted.
        for gap in &self.gaps {
            if (gap.from..gap.to).take(1 << 16).all(|seq| self.late.contains(&seq)) {
                if let Some(finding) = self.report.findings.get_mut(gap.finding) {
                    finding.fault = Fault::Reordered;
                    finding.detail = format!("{} stands further down", numbers(gap.from, gap.to));
                }
            }
        }
        let torn = self.torn.take();
        self.report.end = match self.last {
            Some(Reason::Close) if torn.is_none() => End::Closed,
            Some(Reason::Rotate) if torn.is_none() => End::Rotated,
            _ => End::Open { unanchored: self.unanchored },
        };
        let reached = self.reached(log);
        if let Some(torn) = torn {
            self.report.notes.push(format!("{}:{}: the last {} bytes are no whole line", torn.file.display(), torn.line, torn.bytes.len()));
            if reached != Some(false) && log.to_end && torn.lines > 1 {
                self.line = torn.line;
                self.find(Fault::Edited, "lines of no evidence log at the end".to_owned());
            }
        }
        if let End::Open { unanchored } = self.report.end {
            self.report.notes.push(format!("unanchored tail: {unanchored} lines after the last checkpoint, not closed; a cut among them could not be seen"));
            if log.to_end && reached.is_none() {
                self.line += 1;
                self.find(Fault::Truncated, "the log is not closed, and no checkpoint beside it says how far it goes".to_owned());
            }
        }
        if self.believe && !self.keys.is_empty() {
            self.report.notes.push("the public key is the log's own claim: this shows that nothing broke, not who wrote it".to_owned());
        }
        self.report
    }

    /// Whether the log reaches its anchor; `None` if there is none.
    fn reached(&mut self, log: &Log) -> Option<bool> {
        let (point, hash) = self.anchor.take()?;
        let ends = self.next.unwrap_or(0);
        if ends <= point.seq {
            if log.from_start || self.report.end != End::Rotated {
                self.line += 1;
                let anchor = log.anchor.as_ref().map(|anchor| format!(" (line {} of {})", anchor.line, anchor.file)).unwrap_or_default();
                self.find(Fault::Truncated, format!("{} missing at the end: the last checkpoint is number {}{anchor}", numbers(ends, point.seq + 1), point.seq));
            }
            return Some(false);
        }
        if self.anchor_seen != Some(hash) {
            self.find(Fault::Edited, format!("number {} is not the last checkpoint, whose hash is {}", point.seq, hex(&hash)));
        } else if point.reason == Reason::Close && ends > point.seq + 1 {
            self.find(Fault::Edited, format!("{} were added after the log was closed", numbers(point.seq + 1, ends)));
        }
        Some(true)
    }
}

fn numbers(from: u64, to: u64) -> String {
    if to == from + 1 { format!("number {from}") } else { format!("numbers {from} to {}", to.saturating_sub(1)) }
}
