//! Shows one body to the engine: every text in it becomes a passage, and every redaction an edit of its bytes.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::file::File;
use super::joint::{self, Joint};
use super::named::Named;
use crate::safety::fingerprint::Fingerprints;
use crate::safety::{Admitted, Category, Embedded, Engine, Judgement, Order as Style, Passage, Phase, Side, redact};
use crate::wire::{self, Kind, Role, Text, without_probabilities};

/// The engine's result for one body.
#[derive(Debug)]
pub(super) struct Look {
    pub judgement: Judgement,
    /// The redacted body, if anything is redacted.
    pub redacted: Option<Bytes>,
    /// Fingerprints of the request, if its answer will be compared with them.
    pub asked: Option<Arc<Fingerprints>>,
}

/// The body is not JSON, or cannot be edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable;

/// Which engine reads a body, and under which conditions.
pub(super) struct Order<'a> {
    pub engine: &'a Engine,
    pub phase: Phase,
    pub side: Side,
    pub admitted: Admitted,
    /// The server of tools answers: whatever it says, a tool says.
    pub tools: bool,
    /// What the request said, for an answer.
    pub asked: Option<Arc<Fingerprints>>,
    /// Whether the answer to this request will be compared with it, so that its fingerprints must be kept.
    pub keep: bool,
}

impl Order<'_> {
    /// Reads a JSON body. An answer may also consist of JSON lines.
    pub fn json(&self, body: &[u8]) -> Result<Look, Unreadable> {
        let mut words = Words::default();
        let whole = words.read(body, 0);
        if let (Err(_), Side::Response) = (whole, self.side) {
            words = Words::lines(body)?;
        } else {
            whole?;
        }
        let Words { texts, files, embedded, named } = &words;
        let file = |number: usize| of_text(files, number);
        let embedded = |number: usize| of_text(embedded, number);
        let named = |number: usize| of_text(named, number);
        let joints = if self.side == Side::Request { joint::joints(body, texts, |n| file(n).is_some()) } else { Vec::new() };
        let turn = latest_turn(texts);
        let before = |number: usize, kind, role| match self.side {
            Side::Request => number < turn || standing(kind, role),
            Side::Response => self.tools && standing(kind, Role::Tool),
        };
        let mut passages: Vec<Passage<'_>> = texts
            .iter()
            .enumerate()
            .map(|(number, text)| self.passage(&text.text, text.kind, text.role).said_before(before(number, text.kind, text.role)))
            .collect();
        for joint in &joints {
            // The first passage stands for all texts of the joint; the others become empty, and modules skip empty passages.
            for (number, passage) in joint.range().zip(passages.get_mut(joint.range()).unwrap_or_default()) {
                let text = if number == joint.first { &*joint.text } else { "" };
                *passage = self.passage(text, passage.kind, passage.role).said_before(passage.before);
            }
        }
        let mut judgement = self.engine.judge_for(self.phase, &passages, self.admitted);
        self.score_spaced(&joints, &passages, &mut judgement);
        let asked = self.keep.then(|| Arc::new(Fingerprints::of(&passages).named(judgement.name)));
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        let mut edit = |number: usize, spans: &[(Range<usize>, Category)]| {
            let Some(text) = texts.get(number) else { return };
            let of_value = named(number).map(|named| (named.value(&text.text), named.spans(spans)));
            let (value, spans) = of_value.as_ref().map_or((&*text.text, spans), |(value, spans)| (*value, &**spans));
            if spans.is_empty() {
                return;
            }
            let new = match embedded(number) {
                Some(embedded) => redact::redacted_json(&embedded.written, &embedded.spans(spans)),
                None if !text.key && quoted(body, text) => redact::redacted_json(value, spans),
                None => redact::redacted(value, spans),
            };
            let new = file(number).map(|file| file.written(&new)).unwrap_or(new);
            edits.push((text.span.clone(), new));
        };
        for (number, findings) in judgement.found.iter().enumerate() {
            let spans = self.engine.spans(findings);
            if spans.is_empty() {
                continue;
            }
            match joints.binary_search_by_key(&number, |joint| joint.first).ok().and_then(|at| joints.get(at)) {
                Some(joint) => joint.shares(&spans).for_each(|(number, spans)| edit(number, &spans)),
                None => edit(number, &spans),
            }
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

    /// Shows joined texts once more, with spaces between the parts, to the modules that score.
    fn score_spaced(&self, joints: &[Joint], read: &[Passage<'_>], judgement: &mut Judgement) {
        let spaced = joints.iter().filter_map(|joint| Some((joint.spaced.as_deref()?, read.get(joint.first)?)));
        let passages: Vec<_> = spaced.map(|(text, first)| self.passage(text, first.kind, first.role).said_before(first.before)).collect();
        if passages.is_empty() {
            return;
        }
        let scorers = self.engine.at(self.phase).filter(|(_, member)| member.built.module.order() == Style::Parallel);
        let scorers = scorers.fold(0, |admitted, (place, _)| admitted | 1 << place);
        for run in self.engine.judge_for(self.phase, &passages, self.admitted & scorers).runs {
            if let Some(mine) = judgement.runs.iter_mut().find(|mine| mine.member == run.member) {
                let counted = !mine.found();
                mine.absorb(run, counted);
            }
        }
    }

    /// Reads a text that is not JSON, as one passage.
    pub fn plain(&self, text: &str, kind: Kind, role: Role) -> Look {
        let judgement = self.engine.judge_for(self.phase, &[self.passage(text, kind, role)], self.admitted);
        let redacted = judgement.found.first().and_then(|findings| self.engine.redacted(text, findings)).map(Bytes::from);
        Look { judgement, redacted, asked: None }
    }

    fn passage<'t>(&'t self, text: &'t str, kind: Kind, role: Role) -> Passage<'t> {
        let role = if self.tools { Role::Tool } else { role };
        let passage = Passage::new(text, self.side, kind, role);
        match &self.asked {
            Some(asked) => passage.answering(asked),
            None => passage,
        }
    }
}

/// The number of the text with which the latest turn of a conversation begins: after the model's last message that was
/// answered. A message of the model at the very end, which it is to continue, is part of the turn.
fn latest_turn(texts: &[Text<'_>]) -> usize {
    let last = texts.iter().rposition(|text| matches!(text.role, Role::User | Role::Tool)).unwrap_or(0);
    texts.iter().take(last).rposition(|text| text.role == Role::Assistant).map_or(0, |answer| answer + 1)
}

/// What an application says with every request, whoever asks, and a server of tools whenever it tells of them.
pub(super) fn standing(kind: Kind, role: Role) -> bool {
    role == Role::System || matches!(kind, Kind::Instruction | Kind::ToolDefinition)
}

/// Whether a text is a JSON string, as opposed to a number.
pub(super) fn quoted(body: &[u8], text: &Text<'_>) -> bool {
    text.span.start.checked_sub(1).and_then(|before| body.get(before)) == Some(&b'"')
}

/// The entry of a text in a list ordered by the texts' places. A body may have hundreds of thousands of entries, and each is
/// looked up.
fn of_text<T>(list: &[(usize, T)], number: usize) -> Option<&T> {
    let at = list.binary_search_by_key(&number, |(place, _)| *place).ok()?;
    list.get(at).map(|(_, entry)| entry)
}

/// The texts of a body.
#[derive(Default)]
struct Words<'a> {
    texts: Vec<Text<'a>>,
    /// The texts that were decoded from files, by number.
    files: Vec<(usize, File)>,
    /// Which of them are JSON themselves and stand here with their escapes decoded.
    embedded: Vec<(usize, Embedded)>,
    /// Which of them stand here behind the name of their member.
    named: Vec<(usize, Named)>,
}

impl<'a> Words<'a> {
    /// Collects the texts of one JSON document that begins at byte `at` of the body.
    fn read(&mut self, json: &'a [u8], at: usize) -> Result<(), Unreadable> {
        let mut keep = |mut text: Text<'a>| {
            if text.kind == Kind::Structural {
                let Some(file) = File::read(&text.text).filter(|file| !file.text.is_empty()) else { return };
                (text.text, text.kind) = (Cow::Owned(file.text.clone()), Kind::Content);
                self.files.push((self.texts.len(), file));
            }
            if let Some((decoded, embedded)) = Embedded::read(&text.text) {
                text.text = Cow::Owned(decoded);
                self.embedded.push((self.texts.len(), embedded));
            }
            text.span = text.span.start + at..text.span.end + at;
            let last = self.texts.last().filter(|last| last.key);
            if let Some((behind, named)) = last.and_then(|name| Named::read(json, at, name, &text)) {
                text.text = Cow::Owned(behind);
                self.named.push((self.texts.len(), named));
            }
            if !text.text.is_empty() {
                self.texts.push(text);
            }
        };
        wire::texts_and_numbers(json, &mut keep).map_err(|_| Unreadable)
    }

    /// Collects the texts of a body of JSON lines.
    fn lines(body: &'a [u8]) -> Result<Self, Unreadable> {
        let mut this = Self::default();
        let mut at = 0;
        for line in body.split_inclusive(|b| *b == b'\n') {
            if !line.iter().all(u8::is_ascii_whitespace) {
                this.read(line, at)?;
            }
            at += line.len();
        }
        Ok(this)
    }
}

#[cfg(test)]
#[path = "fields_test.rs"]
mod fields;
