//! Scans one answer as it arrives.

use std::ops::Range;
use std::sync::Arc;

use super::canary::{self, Canaries, Lookout};
use super::reader::{Look, Reader};
use super::trail::Piece;
use super::values::Watch;
use super::{NAME, Rules};
use crate::safety::fingerprint::Fingerprints;
use crate::safety::{Finding, Findings, Passage, Scanner, Settled};

/// The category of repeated system text.
const LEAK: &str = "system_prompt_leak";

/// The score of an echo, far below the decision threshold.
const ECHO: f32 = 0.2;

/// Levels of nested islands that are read.
const DEPTH: u8 = 2;

/// Most reported pieces of leaks in one text; further ones are reported only if surer than all before.
const MOST: u16 = 64;
/// How much surer a further piece must be.
const SURER: f32 = 0.01;

/// What was reported for one text, so that an endlessly repetitive one has a bounded number of findings.
#[derive(Debug, Default)]
struct Tally {
    pieces: u16,
    surest: f32,
}

impl Tally {
    /// Removes those findings after the first `known` that exceed the bound.
    fn thin(&mut self, out: &mut Findings, known: usize) {
        if out.len() == known {
            return;
        }
        let mut place = 0;
        out.retain(|finding| {
            place += 1;
            place <= known || finding.category != LEAK || self.keeps(finding.score)
        });
    }

    fn keeps(&mut self, score: f32) -> bool {
        let keeps = self.pieces < MOST || score > self.surest + SURER;
        if keeps {
            self.pieces = self.pieces.saturating_add(1);
            self.surest = self.surest.max(score);
        }
        keeps
    }
}

/// Looks for leaks in a text. A whole text is scanned by the same steps, so it gives the same findings.
#[derive(Debug)]
pub struct LeakScanner {
    rules: Arc<Rules>,
    asked: Option<Arc<Fingerprints>>,
    reader: Option<Reader>,
    /// Looks for the operator's canaries.
    theirs: Lookout,
    codes: Canaries,
    sure: Vec<bool>,
    ours: Lookout,
    /// Looks for personal data and secrets; not used for whole texts, where they are known from the passage.
    values: Option<Watch>,
    at: usize,
    pieces: Vec<Piece>,
    /// Whether the text comes in one piece.
    whole: bool,
    tally: Tally,
}

impl LeakScanner {
    /// A scanner for an arriving answer that begins with this passage.
    pub fn new(rules: &Arc<Rules>, first: &Passage<'_>) -> Self {
        let values = rules.values.as_ref().map(|detector| Watch::new(first.arriving(detector)));
        Self { values, whole: false, ..Self::of_a_whole(rules, first.asked) }
    }

    /// A scanner for an answer that comes in one piece, without personal data and secrets.
    pub fn of_a_whole(rules: &Arc<Rules>, asked: Option<&Arc<Fingerprints>>) -> Self {
        let asked = asked.filter(|asked| !asked.is_empty());
        if let Some(asked) = asked {
            asked.recall(&rules.memory);
        }
        let (codes, sure) = asked.map(|asked| canary::of_request(asked)).unwrap_or_default();
        Self {
            rules: Arc::clone(rules),
            asked: asked.cloned(),
            reader: asked.map(|_| Reader::new(DEPTH)),
            theirs: Lookout::default(),
            codes,
            sure,
            ours: Lookout::default(),
            values: None,
            at: 0,
            pieces: Vec::new(),
            whole: true,
            tally: Tally::default(),
        }
    }
}

impl Scanner for LeakScanner {
    fn feed(&mut self, fragment: &str, out: &mut Findings) -> Settled {
        let known = out.len();
        let Self { rules, asked, reader, theirs, codes, sure, ours, at: before, pieces, values, whole, .. } = self;
        let (watched, coded) = (!rules.canaries.is_empty(), !codes.is_empty());
        let mut at = 0;
        while at < fragment.len() {
            let rest = &fragment[at..];
            let taken = match (asked.as_ref(), reader.as_mut()) {
                (Some(asked), Some(reader)) => {
                    let look = Look { asked, public: &rules.public };
                    let mut taken = reader.dismiss(rest, *before + at, *whole, &look);
                    if taken == 0 {
                        taken = reader.some(rest, *before + at, &look, pieces);
                    }
                    if !pieces.is_empty() {
                        out.extend(pieces.drain(..).map(leak));
                    }
                    out.extend(reader.echoed().map(echo));
                    taken
                }
                _ => rest.len(),
            };
            // Kept in step with the reader, so that findings of both are in the same order however the text is cut.
            let (passed, place) = (&rest[..taken], *before + at);
            if watched {
                theirs.read(passed, place, &rules.canaries, |which, at| out.push(secret(which, at, None)));
            }
            if coded {
                ours.read(passed, place, codes, |which, at| out.push(secret(which, at, Some(sure))));
            }
            at += taken;
        }
        let open = values.as_mut().map(|values| values.feed(fragment, asked.as_deref(), out));
        self.tally.thin(out, known);
        self.at += fragment.len();
        let now = self.reader.as_ref().map_or(self.at, |reader| reader.settled(self.at));
        let now = now.min(open.unwrap_or(self.at));
        now.min(self.theirs.settled(self.at)).min(self.ours.settled(self.at))
    }

    fn finish(&mut self, out: &mut Findings) {
        let known = out.len();
        if let (Some(asked), Some(reader)) = (&self.asked, &mut self.reader) {
            let look = Look { asked, public: &self.rules.public };
            reader.finish(self.at, &look, &mut self.pieces);
            out.extend(self.pieces.drain(..).map(leak));
            out.extend(reader.echoed().map(echo));
        }
        self.theirs.finish(&self.rules.canaries, |which, at| out.push(secret(which, at, None)));
        let sure = &self.sure;
        self.ours.finish(&self.codes, |which, at| out.push(secret(which, at, Some(sure))));
        if let Some(values) = &mut self.values {
            values.finish(self.asked.as_deref(), out);
        }
        self.tally.thin(out, known);
    }
}

/// A leak: the score is 0.5 for just enough text, and approaches 1 for many times that.
fn leak(piece: Piece) -> Finding {
    Finding { module: NAME, category: LEAK.into(), span: piece.span, score: 1.0 - 0.5 / piece.ratio, redact: false }
}

/// An echo of the caller's words: a note without a span, since the words are the caller's own.
fn echo(at: usize) -> Finding {
    Finding { module: NAME, category: "request_echo".into(), span: at..at, score: ECHO, redact: false }
}

/// A canary of the operator, or a code of the request, which may be sure or not.
fn secret(which: usize, span: Range<usize>, sure: Option<&Vec<bool>>) -> Finding {
    let (category, score) = match sure.map(|sure| sure.get(which).copied().unwrap_or(false)) {
        None => ("canary", 0.98),
        Some(true) => ("secret_of_system_text", 0.9),
        Some(false) => ("secret_of_system_text", 0.6),
    };
    Finding { module: NAME, category: category.into(), span, score, redact: false }
}

#[cfg(test)]
#[path = "scan_test.rs"]
mod tests;
