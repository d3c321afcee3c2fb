//! Walks over the lines of a log from first to last. After a fault it continues with the next line that can be placed, so
//! that a report names every damaged place and not only the first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::entry::{Anchor, Checkpoint, Head, Open, Reason, Resume};
use super::key::PublicKey;
use super::line::{GENESIS, Hash, Line, hex, linked, sha256_hex, unhex};
use super::overlap::Overlap;
use super::verify::{End, Fault, Finding, Log, Report};

/// Bytes that are not valid lines, until a later line accounts for them.
struct Torn {
    file: PathBuf,
    line: u64,
    lines: u64,
    bytes: Vec<u8>,
}

/// A range of missing sequence numbers; they may still turn up later, out of order.
struct Gap {
    finding: usize,
    from: u64,
    to: u64,
}

/// The state of the walk, and what it found so far.
pub struct Walk {
    report: Report,
    keys: Vec<PublicKey>,
    believe: bool,
    from_start: bool,
    file: PathBuf,
    line: u64,
    /// The hashes that the next line may link to: the one that the last line states and, if that line was edited, the one
    /// that it should have.
    previous: Vec<Hash>,
    next: Option<u64>,
    torn: Option<Torn>,
    gaps: Vec<Gap>,
    late: BTreeSet<u64>,
    last: Option<Reason>,
    unanchored: u64,
    anchor: Option<(Checkpoint, Hash)>,
    anchor_seen: Option<Hash>,
    /// Lines that another log says are here, and that have not come yet.
    marks: BTreeMap<u64, Hash>,
    /// What the last checkpoint of a process that has not closed the log says was written and dropped.
    open: (u64, u64),
}

impl Walk {
    /// Starts before the first line, and verifies the anchor.
    pub fn new(log: &Log) -> Self {
        let report = Report {
            files: log.files.len(),
            lines: 0,
            requests: 0,
            executions: 0,
            deliveries: 0,
            checkpoints: 0,
            findings: Vec::new(),
            notes: Vec::new(),
            overlaps: Vec::new(),
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
            marks: log.marks.iter().copied().collect(),
            open: (0, 0),
        };
        if let Some(anchor) = &log.anchor {
            // Without trusted keys the log's own keys are used; these are not read yet, so the anchor is checked with its
            // own.
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

    /// Walks over the next file.
    pub fn file(&mut self, path: &Path, bytes: &[u8]) {
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
        if head.seq > expected.saturating_add(torn) {
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

    /// Handles the first line. Its statement about the previous file is accepted unless the log must be complete from its
    /// start.
    fn first(&mut self, line: &Line<'_>, head: &Head) {
        let open = serde_json::from_slice::<Open>(line.entry).ok();
        let claimed = open.and_then(|open| unhex(open.previous_hash.as_bytes()));
        if head.seq == 0 || self.from_start {
            self.previous = vec![GENESIS];
            self.next = Some(0);
        } else {
            self.previous = claimed.into_iter().collect();
            self.next = Some(head.seq);
            self.report.notes.push(format!("begins with number {}; what came before is not here", head.seq));
        }
    }

    /// Decides whether bytes that were not valid lines are accounted for by this line, or are edits. Returns how many lines
    /// they may have been.
    fn settle(&mut self, line: &Line<'_>, head: &Head, follows: bool) -> u64 {
        let Some(torn) = self.torn.take() else { return 0 };
        if head.kind == "open" && follows && torn.file != self.file {
            // A file without any valid line; the line after this one accounts for it.
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
                    "{}:{}: {} bytes of a line that was not written to its end, accounted for by the line after them",
                    torn.file.display(),
                    torn.line,
                    resume.lost_bytes
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
        if self.marks.get(&head.seq) == Some(&line.hash) {
            self.marks.remove(&head.seq);
        }
        match head.kind.as_str() {
            "overlap" => match serde_json::from_slice::<Overlap>(line.entry) {
                Ok(overlap) => self.report.overlaps.push(overlap),
                Err(_) => self.find(Fault::Edited, "the entry about another log cannot be read".to_owned()),
            },
            "request" => self.report.requests += 1,
            "execution" => self.report.executions += 1,
            "delivery" => self.report.deliveries += 1,
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
                    self.dropped(&point);
                }
                Some(Err(reason)) => self.find(Fault::Signature, reason.to_owned()),
                // The line before it is damaged, which was reported already.
                None => {}
            },
            "open" | "resumed" | "recovered" => {}
            _ => self.find(Fault::Edited, "an entry of a kind that is not ours".to_owned()),
        }
    }

    /// Counts begin anew with each process: one that was killed has said in its last checkpoint what it had dropped by then.
    fn dropped(&mut self, point: &Checkpoint) {
        if point.records < self.open.0 || point.dropped < self.open.1 {
            self.dropped_unclosed();
        }
        self.open = (point.records, point.dropped);
        if point.reason == Reason::Close {
            if point.dropped > 0 {
                self.report.notes.push(format!("{} records were dropped and are not in the log", point.dropped));
            }
            self.open = (0, 0);
        }
    }

    fn dropped_unclosed(&mut self) {
        if self.open.1 > 0 {
            let told = "by the last checkpoint of a process that did not close it";
            self.report.notes.push(format!("{} records were dropped and are not in the log, {told}", self.open.1));
        }
    }

    /// What was found, the end included.
    pub fn finish(mut self, log: &Log) -> Report {
        // Lines that were missing and turned up later were moved, not deleted.
        for gap in &self.gaps {
            if (gap.from..gap.to).take(1 << 16).all(|seq| self.late.contains(&seq))
                && let Some(finding) = self.report.findings.get_mut(gap.finding)
            {
                finding.fault = Fault::Reordered;
                finding.detail = format!("{} stands further down", numbers(gap.from, gap.to));
            }
        }
        self.dropped_unclosed();
        let torn = self.torn.take();
        self.report.end = match self.last {
            Some(Reason::Close) if torn.is_none() => End::Closed,
            Some(Reason::Rotate) if torn.is_none() => End::Rotated,
            _ => End::Open { unanchored: self.unanchored },
        };
        let reached = self.reached(log);
        let ends = self.next.unwrap_or(0);
        for seq in std::mem::take(&mut self.marks).into_keys() {
            let fault = if ends <= seq { Fault::Truncated } else { Fault::Edited };
            self.find(fault, format!("number {seq} is missing or another: the log above it names it with its hash"));
        }
        if let Some(torn) = torn {
            self.report.notes.push(format!("{}:{}: the last {} bytes are no whole line", torn.file.display(), torn.line, torn.bytes.len()));
            // An interrupted write leaves one piece without a line feed; anything else was added by other means.
            if torn.lines > 1 || torn.bytes.ends_with(b"\n") {
                self.line = torn.line;
                self.find(Fault::Edited, "this is no line of an evidence log".to_owned());
            }
        }
        if let End::Open { unanchored } = self.report.end {
            self.report.notes.push(format!(
                "unanchored tail: {unanchored} lines after the last checkpoint, not closed; a cut among them could not be seen"
            ));
            if log.to_end && reached.is_none() {
                self.line += 1;
                self.find(Fault::Truncated, "the log is not closed, and no checkpoint beside it says how far it goes".to_owned());
            }
        }
        if log.anchor.is_none() && self.report.end != (End::Open { unanchored: self.unanchored }) {
            self.report.notes.push(format!("no {} beside it: a log that went on after this end would look the same", Anchor::FILE));
        }
        if self.believe && !self.keys.is_empty() {
            self.report.notes.push("the public key is the log's own claim: this shows that nothing broke, not who wrote it".to_owned());
        }
        self.report
    }

    /// Whether the log reaches its anchor; `None` if there is no anchor.
    fn reached(&mut self, log: &Log) -> Option<bool> {
        let (point, hash) = self.anchor.take()?;
        let ends = self.next.unwrap_or(0);
        if ends <= point.seq {
            if log.from_start || self.report.end != End::Rotated {
                self.line += 1;
                let anchor = log.anchor.as_ref().map(|anchor| format!(" (line {} of {})", anchor.line, anchor.file)).unwrap_or_default();
                self.find(
                    Fault::Truncated,
                    format!(
                        "{} missing at the end: the last checkpoint is number {}{anchor}",
                        numbers(ends, point.seq.saturating_add(1)),
                        point.seq
                    ),
                );
            }
            return Some(false);
        }
        if self.anchor_seen != Some(hash) {
            self.find(Fault::Edited, format!("number {} is not the last checkpoint, whose hash is {}", point.seq, hex(&hash)));
        } else if point.reason == Reason::Close && ends > point.seq.saturating_add(1) {
            self.find(Fault::Edited, format!("{} were added after the log was closed", numbers(point.seq.saturating_add(1), ends)));
        }
        Some(true)
    }
}

fn numbers(from: u64, to: u64) -> String {
    if to == from.saturating_add(1) { format!("number {from}") } else { format!("numbers {from} to {}", to.saturating_sub(1)) }
}
