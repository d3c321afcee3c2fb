//! One body before the engine: every text of it becomes a passage, and what is to be redacted an edit of its bytes.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::safety::fingerprint::Fingerprints;
use crate::safety::{Admitted, Engine, Judgement, Passage, Phase, Side, redact};
use crate::wire::{self, Kind, Role, Text, without_probabilities};

/// What the engine made of one body.
#[derive(Debug)]
pub(super) struct Look {
    pub judgement: Judgement,
    /// The body as it is to leave, where anything is to be redacted.
    pub redacted: Option<Bytes>,
    /// What the request said, where an answer will be compared with it.
    pub asked: Option<Arc<Fingerprints>>,
}

/// Why a body cannot be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable;

/// What to look at, and how.
pub(super) struct Order<'a> {
    pub engine: &'a Engine,
    pub phase: Phase,
    pub side: Side,
    pub admitted: Admitted,
    /// What the request said, for an answer.
    pub asked: Option<Arc<Fingerprints>>,
    /// The answer to this request will be compared with it.
    pub keep: bool,
}

impl Order<'_> {
    /// Looks at a JSON body. An answer may also be JSON texts, one a line.
    pub fn json(&self, body: &[u8]) -> Result<Look, Unreadable> {
        let mut texts: Vec<Text<'_>> = Vec::new();
        let whole = read(body, 0, &mut texts);
        if let (Err(_), Side::Response) = (whole, self.side) {
            texts.clear();
            lines(body, &mut texts)?;
        } else {
            whole?;
        }
        let passages: Vec<Passage<'_>> = texts.iter().map(|text| self.passage(&text.text, text.kind, text.role)).collect();
        let judgement = self.engine.judge_for(self.phase, &passages, self.admitted);
        let asked = self.keep.then(|| Arc::new(Fingerprints::of(&passages)));
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        for (text, findings) in texts.iter().zip(&judgement.found) {
            let spans = self.engine.spans(findings);
            if spans.is_empty() {
                continue;
            }
            let new = if text.kind == Kind::ToolArguments && !text.key {
                redact::redacted_json(&text.text, &spans)
            } else {
                redact::redacted(&text.text, &spans)
            };
            edits.push((text.span.clone(), new));
        }
        drop(passages);
        let redacted = match edits.is_empty() {
            true => None,
            false => {
                let spliced = wire::splice(body, &edits).map_err(|_| Unreadable)?;
                Some(without_probabilities(&spliced).map_or(spliced, Bytes::from))
            }
        };
        Ok(Look { judgement, redacted, asked })
    }

    /// Looks at a text that is no JSON, as one passage.
    pub fn plain(&self, text: &str, kind: Kind, role: Role) -> Look {
        let judgement = self.engine.judge_for(self.phase, &[self.passage(text, kind, role)], self.admitted);
        let redacted = judgement.found.first().and_then(|findings| self.engine.redacted(text, findings)).map(Bytes::from);
        Look { judgement, redacted, asked: None }
    }

    fn passage<'t>(&'t self, text: &'t str, kind: Kind, role: Role) -> Passage<'t> {
        let passage = Passage::new(text, self.side, kind, role);
        match &self.asked {
            Some(asked) => passage.answering(asked),
            None => passage,
        }
    }
}

/// Collects the texts of one JSON text that stands `at` in a body.
fn read<'a>(json: &'a [u8], at: usize, texts: &mut Vec<Text<'a>>) -> Result<(), Unreadable> {
    let mut keep = |mut text: Text<'a>| {
        if text.kind != Kind::Structural && !text.text.is_empty() {
            text.span = text.span.start + at..text.span.end + at;
            texts.push(text);
        }
    };
    wire::texts(json, &mut keep).map_err(|_| Unreadable)
}

/// Collects the texts of a body of JSON lines.
fn lines<'a>(body: &'a [u8], texts: &mut Vec<Text<'a>>) -> Result<(), Unreadable> {
    let mut at = 0;
    for line in body.split_inclusive(|b| *b == b'\n') {
        if !line.iter().all(u8::is_ascii_whitespace) {
            read(line, at, texts)?;
        }
        at += line.len();
    }
    Ok(())
}

#[cfg(test)]
#[path = "fields_test.rs"]
mod fields;
