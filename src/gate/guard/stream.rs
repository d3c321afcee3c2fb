//! Reads a streamed answer. Every text of the stream has a scanner per module. Text that all scanners have settled leaves in the
//! frame in which it came; only a tail that may still become a finding is held, and leaves with the next frame of its text.
//! Frames are never delayed: only text is, and never more of it than the longest open candidate.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::body::standing;
use super::frame::{alone, ended};
use super::named::Named;
use super::{Guard, SessionKey};
use crate::error::{Denial, codes};
use crate::safety::fingerprint::Fingerprints;
use crate::safety::{
    Action, Admitted, Category, Decision, Decoder, Embedded, Findings, Judgement, Mode, Opening, Passage, Phase, Risk, Run, SafetyAction,
    Scanner, Side, redact,
};
use crate::wire::{self, Channel, Ends, Kind, Lane, Role, Text, without_probabilities};

/// The most texts in one stream; no real provider opens more.
const MOST_LINES: usize = 4096;
/// The longest tail that is held (bytes): a longer one is no candidate, but a scanner that never settles.
const MOST_HELD: usize = 1 << 20;

/// What is sent for one event.
#[derive(Debug, PartialEq)]
pub enum Flow {
    /// The event as it came.
    Pass,
    /// These frames in its place: `event` and `data` of each.
    Frames(Vec<(Option<String>, String)>),
    /// Nothing more: the stream ends with an error event.
    Stop(Box<Denial>),
}

/// One text of the stream, in fragments.
struct Line {
    channel: Channel,
    kind: Kind,
    scanners: Vec<Watch>,
    /// The text that has not been sent yet, before redaction.
    tail: String,
    /// The offset in the text at which the tail begins.
    sent: usize,
    /// The parts of the tail to redact, by offsets in the text.
    spans: Vec<(Range<usize>, Category)>,
    /// Whether the text is JSON itself. Scanners read such a text with its escapes decoded.
    opening: Opening,
    decoder: Decoder,
    /// Whether what leaves next stands inside a string of a text that is JSON.
    quotes: redact::Quotes,
    /// The last frame with a fragment of this text while a tail waits.
    template: Option<(Option<String>, String, Range<usize>)>,
    /// Whether text is held; otherwise it is sent as it comes and only observed.
    keeps: bool,
    over: bool,
}

struct Watch {
    /// The index among the stream's runs.
    run: usize,
    scanner: Box<dyn Scanner>,
    /// Whether its findings may be acted on, so that text it has not settled must be held.
    holds: bool,
    settled: usize,
}

/// The guard of one stream.
pub struct StreamGuard {
    guard: Arc<Guard>,
    admitted: Admitted,
    /// The server of tools answers: whatever it says, a tool says.
    tools: bool,
    asked: Option<Arc<Fingerprints>>,
    session: SessionKey,
    /// The session's score before the stream, once the store has answered.
    known: Option<Arc<Mutex<f64>>>,
    lines: Vec<Line>,
    runs: Vec<Run>,
    /// The risk that was added to the session so far.
    told: Risk,
    score: Option<f64>,
    acts: bool,
    blocked: Option<Box<Denial>>,
    finished: bool,
    /// Whether something was found that is not yet part of a decision.
    news: bool,
    began: Duration,
}

impl StreamGuard {
    pub(super) fn new(
        guard: Arc<Guard>,
        admitted: Admitted,
        tools: bool,
        asked: Option<Arc<Fingerprints>>,
        session: SessionKey,
        known: Option<Arc<Mutex<f64>>>,
        began: Duration,
    ) -> Self {
        let judgement = guard.engine.judge_for(Phase::PostUpstream, &[], admitted);
        let acts = guard.engine.acts(Phase::PostUpstream, admitted);
        Self {
            guard,
            admitted,
            tools,
            asked,
            session,
            known,
            lines: Vec::new(),
            runs: judgement.runs,
            told: Risk::default(),
            score: None,
            acts,
            blocked: None,
            finished: false,
            news: false,
            began,
        }
    }

    /// Whether the stream may be changed on its way.
    pub fn acts(&self) -> bool {
        self.acts
    }

    /// Reads one event that has data.
    pub fn frame(&mut self, event: Option<&str>, data: &str) -> Flow {
        if let Some(denial) = &self.blocked {
            return Flow::Stop(denial.clone());
        }
        if self.finished {
            return if self.acts { Flow::Frames(Vec::new()) } else { Flow::Pass };
        }
        let mut texts: Vec<Text<'_>> = Vec::new();
        let read = wire::stream_texts(data.as_bytes(), &mut |text| texts.push(text));
        if read.is_err() {
            return self.unread(event, data);
        }
        let mut ends = if self.acts && !wire::goes_on(data) { wire::ends(data) } else { Ends::default() };
        // Held text came before the error, so it is sent before it.
        let waits = self.lines.iter().any(|line| !line.tail.is_empty());
        ends.everything |= waits && (event == Some("error") || wire::tells_error(data));
        let mut edits: Vec<(Range<usize>, String)> = Vec::new();
        for (number, text) in texts.iter().enumerate().filter(|(_, text)| text.kind != Kind::Structural) {
            let before = number.checked_sub(1).and_then(|before| texts.get(before));
            let result = match text.channel.filter(|_| !text.key) {
                Some(channel) => self.fragment(event, data, text, channel, &ends, &mut edits),
                None => self.whole(text, before.and_then(|name| Named::read(data.as_bytes(), 0, name, text)), &mut edits),
            };
            if let Err(denial) = result {
                return self.stop(denial);
            }
        }
        let mut before = Vec::new();
        if let Err(denial) = self.end(&ends, &mut before).and_then(|()| self.weigh()) {
            return self.stop(denial);
        }
        let changed = match self.edited(data, &edits) {
            Ok(changed) => changed,
            Err(denial) => return self.stop(denial),
        };
        if before.is_empty() && changed.is_none() {
            return Flow::Pass;
        }
        before.push((event.map(str::to_owned), changed.unwrap_or_else(|| data.to_owned())));
        Flow::Frames(before)
    }

    /// Reads a text beside an event's data, such as its id. Returns whether it may be sent.
    ///
    /// # Errors
    /// The stream must end.
    pub fn beside(&mut self, text: &str) -> Result<bool, Box<Denial>> {
        if let Some(denial) = &self.blocked {
            return Err(denial.clone());
        }
        let text = Text { span: 0..text.len(), text: text.into(), kind: Kind::Metadata, role: Role::Unknown, key: false, channel: None };
        let mut edits = Vec::new();
        if let Err(denial) = self.whole(&text, None, &mut edits).and_then(|()| self.weigh()) {
            self.blocked = Some(denial.clone());
            return Err(denial);
        }
        Ok(edits.is_empty())
    }

    /// The end of the stream: returns the text that is still held, in frames of its own.
    ///
    /// # Errors
    /// The held text is refused.
    pub fn finish(&mut self) -> Result<Vec<(Option<String>, String)>, Box<Denial>> {
        if let Some(denial) = &self.blocked {
            return Err(denial.clone());
        }
        let mut out = Vec::new();
        if std::mem::replace(&mut self.finished, true) {
            return Ok(out);
        }
        let all = Ends { everything: true, outer: Vec::new() };
        if let Err(denial) = self.end(&all, &mut out).and_then(|()| self.weigh()) {
            self.blocked = Some(denial.clone());
            return Err(denial);
        }
        Ok(out)
    }

    /// The results, once the stream is over: judgement, decision, the session's score if it was asked, and when the guard began.
    pub(super) fn settle(mut self) -> (Judgement, Decision, Option<Option<f64>>, Duration) {
        // A stream that broke off is finished here: nothing can be sent any more, but its findings count.
        if self.blocked.is_none() && !self.finished {
            let _ = self.finish();
        }
        let engine = &self.guard.engine;
        let score = self.score.or(if self.told.is_none() { None } else { Some(0.0) });
        let mut decision = engine.decide_runs(&self.runs, score.unwrap_or_default());
        if self.blocked.is_none() && decision.action == SafetyAction::Block {
            // Decided after everything had been sent, so nothing was blocked.
            decision.action = SafetyAction::Observe;
        }
        let asked = (!self.told.is_none()).then_some(self.score);
        let judgement = Judgement { phase: Phase::PostUpstream, found: Vec::new(), runs: self.runs, read: 0, remembered: 0, name: 0 };
        (judgement, decision, asked, self.began)
    }

    fn stop(&mut self, denial: Box<Denial>) -> Flow {
        self.blocked = Some(denial.clone());
        Flow::Stop(denial)
    }

    /// Handles an event whose data are not JSON.
    fn unread(&mut self, event: Option<&str>, data: &str) -> Flow {
        if !self.acts {
            return Flow::Pass;
        }
        if data.trim() != "[DONE]" {
            return self.stop(Box::new(Denial::of(codes::ANSWER_UNREADABLE)));
        }
        match self.finish() {
            Ok(frames) if frames.is_empty() => Flow::Pass,
            Ok(mut frames) => {
                frames.push((event.map(str::to_owned), data.to_owned()));
                Flow::Frames(frames)
            }
            Err(denial) => Flow::Stop(denial),
        }
    }

    /// A text that stands whole in one event, perhaps behind the name of its member.
    fn whole(
        &mut self,
        text: &Text<'_>,
        named: Option<(String, Named)>,
        edits: &mut Vec<(Range<usize>, String)>,
    ) -> Result<(), Box<Denial>> {
        let embedded = Embedded::read(&text.text).filter(|_| named.is_none());
        let shown = match (&named, &embedded) {
            (Some((behind, _)), _) => behind,
            (None, Some((decoded, _))) => decoded,
            (None, None) => &*text.text,
        };
        let passage = self.passage(shown, text);
        let engine = Arc::clone(&self.guard.engine);
        let judgement = engine.judge_for(Phase::PostUpstream, &[passage], self.admitted);
        // Some dialects repeat the streamed text at the end; its findings must not be counted twice.
        let again = !self.lines.is_empty();
        self.news = true;
        for (mine, run) in self.runs.iter_mut().zip(judgement.runs) {
            mine.absorb(run, !again);
        }
        self.failed()?;
        let Some(spans) = judgement.found.first().map(|findings| engine.spans(findings)).filter(|spans| !spans.is_empty()) else {
            return Ok(());
        };
        let spans = named.map_or_else(|| spans.clone(), |(_, named)| named.spans(&spans));
        if spans.is_empty() {
            return Ok(());
        }
        let new = match embedded {
            Some((_, embedded)) => redact::redacted_json(&embedded.written, &embedded.spans(&spans)),
            None if !text.key => redact::redacted_json(&text.text, &spans),
            None => redact::redacted(&text.text, &spans),
        };
        edits.push((text.span.clone(), new));
        Ok(())
    }

    fn passage<'p>(&'p self, shown: &'p str, text: &Text<'_>) -> Passage<'p> {
        let role = if self.tools { Role::Tool } else { text.role };
        let passage = Passage::new(shown, Side::Response, text.kind, role).said_before(self.tools && standing(text.kind, role));
        match &self.asked {
            Some(asked) => passage.answering(asked),
            None => passage,
        }
    }

    fn fragment(
        &mut self,
        event: Option<&str>,
        data: &str,
        text: &Text<'_>,
        channel: Channel,
        ends: &Ends,
        edits: &mut Vec<(Range<usize>, String)>,
    ) -> Result<(), Box<Denial>> {
        let place = match self.lines.iter().position(|line| line.channel == channel && !line.over) {
            Some(place) => place,
            None if text.text.is_empty() => return Ok(()),
            None if self.lines.len() >= MOST_LINES => return Err(Box::new(Denial::of(codes::ANSWER_UNREADABLE))),
            None => {
                let line = self.open(text, channel, data);
                self.lines.push(line);
                self.lines.len() - 1
            }
        };
        let last = ended(ends, channel);
        let Self { lines, runs, guard, .. } = self;
        let Some(line) = lines.get_mut(place) else { return Ok(()) };
        let mut news = line.feed(&text.text, runs, guard);
        if last {
            news |= line.finish(runs, guard);
        }
        if news {
            self.news = true;
            self.failed()?;
        }
        if !self.acts {
            return Ok(());
        }
        let Some(line) = self.lines.get_mut(place) else { return Ok(()) };
        let leaves = line.release(last);
        line.frame(event, data, text.span.clone());
        if line.tail.len() > MOST_HELD {
            return Err(Box::new(Denial::of(codes::ANSWER_UNREADABLE)));
        }
        if leaves != *text.text {
            edits.push((text.span.clone(), leaves));
        }
        Ok(())
    }

    fn open(&self, text: &Text<'_>, channel: Channel, data: &str) -> Line {
        let passage = self.passage(&text.text, text);
        let engine = &self.guard.engine;
        let mut scanners = Vec::new();
        for (place, member) in engine.at(Phase::PostUpstream) {
            let Some(run) = self.runs.iter().position(|run| run.member == place) else { continue };
            if !member.reads(&passage) {
                continue;
            }
            if let Some(scanner) = member.built.module.scanner(&passage) {
                let holds = engine.mode_of(member) == Mode::Security && member.policy.action != Action::Observe;
                scanners.push(Watch { run, scanner, holds, settled: 0 });
            }
        }
        let free = ["\"custom\":", "custom_tool_call_input", "call_code"].iter().any(|mark| data.contains(mark));
        let json = channel.lane == Lane::Arguments && !free;
        Line {
            channel,
            kind: text.kind,
            scanners,
            tail: String::new(),
            sent: 0,
            spans: Vec::new(),
            opening: if json { Opening::Json } else { Opening::Unknown },
            decoder: Decoder::default(),
            quotes: redact::Quotes::default(),
            template: None,
            keeps: self.acts,
            over: false,
        }
    }

    /// Releases the tails of all texts that end here, each in a frame of its own.
    fn end(&mut self, ends: &Ends, out: &mut Vec<(Option<String>, String)>) -> Result<(), Box<Denial>> {
        if !ends.everything && ends.outer.is_empty() {
            return Ok(());
        }
        let Self { lines, runs, guard, news, .. } = self;
        for line in lines.iter_mut().filter(|line| !line.over && ended(ends, line.channel)) {
            *news |= line.finish(runs, guard);
        }
        self.failed()?;
        for line in self.lines.iter_mut().filter(|line| line.over && !line.tail.is_empty()) {
            let text = line.release(true);
            if let Some((event, data, span)) = line.template.take()
                && !text.is_empty()
            {
                out.push((event, alone(&data, &span, line.channel, &text)));
            }
        }
        Ok(())
    }

    /// Refuses if a module failed that must not.
    fn failed(&self) -> Result<(), Box<Denial>> {
        let gone = self.runs.iter().any(|run| run.failure.is_some() && self.guard.must_hold(run.member));
        if gone { Err(Box::new(Denial::of(codes::PLUGIN_UNAVAILABLE))) } else { Ok(()) }
    }

    /// Adds new findings to the session, and refuses if its score is too high.
    fn weigh(&mut self) -> Result<(), Box<Denial>> {
        if !std::mem::take(&mut self.news) {
            return Ok(());
        }
        let engine = &self.guard.engine;
        let risk = engine.risk_of(&self.runs);
        let more = Risk { add: risk.add - self.told.add, faint: risk.faint - self.told.faint, ..risk };
        if more.add > 1e-9 || more.faint > 1e-9 || risk.before > self.told.before + 1e-9 {
            let more = Risk { add: more.add.max(0.0), faint: more.faint.max(0.0), ..more };
            let known = self.score.unwrap_or_else(|| self.known.as_ref().map_or(0.0, |known| *known.lock()));
            self.score = Some(self.guard.sessions.add_now(self.session, more, known, engine.rule()));
            self.told = Risk { add: risk.add.max(self.told.add), faint: risk.faint.max(self.told.faint), ..risk };
        }
        if self.acts && engine.decide_runs(&self.runs, self.score.unwrap_or_default()).action == SafetyAction::Block {
            return Err(Box::new(Denial::of(codes::SAFETY_BLOCKED)));
        }
        Ok(())
    }

    /// The event's data with the edits applied; `None` if there are none.
    fn edited(&self, data: &str, edits: &[(Range<usize>, String)]) -> Result<Option<String>, Box<Denial>> {
        if edits.is_empty() {
            return Ok(None);
        }
        let spliced = wire::splice(data.as_bytes(), edits).map_err(|_| Box::new(Denial::of(codes::INTERNAL)))?;
        let bytes = without_probabilities(&spliced).unwrap_or_else(|| spliced.into());
        String::from_utf8(bytes).map(Some).map_err(|_| Box::new(Denial::of(codes::INTERNAL)))
    }
}

impl Line {
    /// Shows a fragment to the scanners. Returns whether anything was found or a scanner failed.
    fn feed(&mut self, fragment: &str, runs: &mut [Run], guard: &Guard) -> bool {
        if self.keeps {
            self.tail.push_str(fragment);
        }
        self.opening.read(fragment);
        let fragment = if self.opening == Opening::Text { Cow::Borrowed(fragment) } else { self.decoder.feed(fragment) };
        let mut found = Findings::new();
        let mut failed = false;
        let mut since = Instant::now();
        let kind = self.kind;
        self.scanners.retain_mut(|watch| {
            let Some(run) = runs.get_mut(watch.run) else { return false };
            let before = found.len();
            let result = crate::safety::guarded(|| Ok(watch.scanner.feed(&fragment, &mut found)));
            found.iter().skip(before).for_each(|finding| run.note(finding, kind));
            match result {
                Ok(settled) => watch.settled = settled.max(watch.settled),
                Err(failure) => run.failure = Some(failure),
            }
            let now = Instant::now();
            run.took += now - std::mem::replace(&mut since, now);
            failed |= run.failure.is_some();
            run.failure.is_none()
        });
        let news = self.keep(found, guard) || failed;
        if !self.keeps {
            self.decoder.forget(usize::MAX);
        }
        news
    }

    /// Ends the text. Returns whether anything was found or a scanner failed.
    fn finish(&mut self, runs: &mut [Run], guard: &Guard) -> bool {
        let mut found = Findings::new();
        let mut failed = false;
        let unfinished = self.decoder.finish();
        let kind = self.kind;
        for mut watch in self.scanners.drain(..) {
            let Some(run) = runs.get_mut(watch.run) else { continue };
            let before = found.len();
            let result = crate::safety::guarded(|| {
                if !unfinished.is_empty() {
                    watch.scanner.feed(&unfinished, &mut found);
                }
                watch.scanner.finish(&mut found);
                Ok(())
            });
            found.iter().skip(before).for_each(|finding| run.note(finding, kind));
            if let Err(failure) = result {
                run.failure = Some(failure);
                failed = true;
            }
        }
        self.over = true;
        self.keep(found, guard) || failed
    }

    /// Keeps a copy of the current frame as template, as long as a tail is held.
    fn frame(&mut self, event: Option<&str>, data: &str, span: Range<usize>) {
        if self.tail.is_empty() {
            self.template = None;
            return;
        }
        let (name, kept, place) = self.template.get_or_insert_default();
        if name.as_deref() != event {
            *name = event.map(str::to_owned);
        }
        kept.clear();
        kept.push_str(data);
        *place = span;
    }

    fn keep(&mut self, found: Findings, guard: &Guard) -> bool {
        if found.is_empty() {
            return false;
        }
        let (from, to) = (self.sent, self.sent + self.tail.len());
        let wanted = found.iter().filter(|finding| guard.engine.redacts(finding));
        self.spans.extend(wanted.map(|finding| {
            let written = self.decoder.span(&finding.span);
            (written.start.clamp(from, to)..written.end.clamp(from, to), finding.category.clone())
        }));
        true
    }

    /// Takes from the tail what may be sent unchanged.
    fn plain(&mut self, mut until: usize) -> String {
        while !self.tail.is_char_boundary(until - self.sent) {
            until -= 1;
        }
        let length = until - self.sent;
        self.sent = until;
        let leaves: String = self.tail.drain(..length).collect();
        self.left(&leaves);
        leaves
    }

    /// Goes on behind what has left.
    fn left(&mut self, leaves: &str) {
        self.decoder.forget(self.sent);
        if self.opening == Opening::Json {
            self.quotes.read(leaves);
        }
    }

    /// Takes from the tail what may leave, with markers in the place of what may not.
    fn release(&mut self, last: bool) -> String {
        let end = self.sent + self.tail.len();
        let settled = self.scanners.iter().filter(|watch| watch.holds).map(|watch| watch.settled).min();
        let settled = settled.map(|decoded| self.decoder.settled(decoded));
        let mut until = if last { end } else { settled.unwrap_or(end).clamp(self.sent, end) };
        if self.spans.is_empty() {
            return self.plain(until);
        }
        self.spans = redact::merged(std::mem::take(&mut self.spans));
        // A span is released as a whole or not at all.
        if let Some((span, _)) = self.spans.iter().find(|(span, _)| span.start < until && until < span.end) {
            until = span.start;
        }
        while !self.tail.is_char_boundary(until - self.sent) {
            until -= 1;
        }
        let ready = self.spans.iter().take_while(|(span, _)| span.end <= until).count();
        let rest = self.tail.split_off(until - self.sent);
        let raw = std::mem::replace(&mut self.tail, rest);
        let from = std::mem::replace(&mut self.sent, until);
        self.decoder.forget(until);
        let spans: Vec<_> = self.spans.drain(..ready).map(|(span, category)| (span.start - from..span.end - from, category)).collect();
        match self.opening {
            Opening::Json => redact::redacted_within(&raw, &spans, &mut self.quotes),
            _ => redact::redacted(&raw, &spans),
        }
    }
}

#[cfg(test)]
#[path = "stream_test.rs"]
mod tests;
