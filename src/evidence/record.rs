//! The evidence record of a request: names, numbers and decisions, never the text of a caller or provider, and never a key.
//!
//! Members are written in alphabetical order, which makes the JSON canonical; times are integers with their unit in the
//! name. Names that a caller chooses (a model that may not exist, a request id) are recorded only if they look like names.
//!
//! Every request has a record, so it is written straight into the log's buffer ([`Page`]) without intermediate values. The
//! test beside this file has the same records as serde structs and compares every byte.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::writer::Policy;
use crate::gate::guard::{self, Reading};
use crate::gate::{Decision, Execution, Finished, RequestId, Shadowed, Unenforced};
use crate::identity::Caller;
use crate::plugin::Mode;
use crate::telemetry::time::Rfc3339;
use crate::wire::method_name;
use crate::wire::object::{Object, Page};

/// Most characters that are kept of a note, tag or error.
const TEXT: usize = 200;
/// Longest name that is kept.
const NAME: usize = 128;

/// Up to this many notes or tags are sorted in place, without allocation.
const FEW: usize = 8;

/// The bytes that may occur in names of models and in ids. JSON escapes none of them.
const OF_NAMES: [bool; 256] = {
    let mut fits = [false; 256];
    let mut byte = 0_u8;
    while byte < 0x80 {
        fits[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'/' | b'@' | b'+' | b'-');
        byte += 1;
    }
    fits
};

/// The ASCII bytes that need neither a JSON escape nor replacement to stay in one line.
const AS_IT_IS: [bool; 256] = {
    let mut fits = [false; 256];
    let mut byte = b' ';
    while byte < 0x7f {
        fits[byte as usize] = byte != b'"' && byte != b'\\';
        byte += 1;
    }
    fits
};

/// One request, entry kind `request`.
#[derive(Debug)]
pub struct RequestEntry<'a> {
    /// What happened to the request.
    pub finished: &'a Finished,
    /// The chain and configuration in force.
    pub policy: &'a Policy,
    /// How long the request took.
    pub duration: Duration,
}

/// A plugin execution that ended after its request was recorded, entry kind `execution`; linked by the request id.
#[derive(Debug)]
pub struct LaterEntry<'a> {
    /// The request it belongs to.
    pub request: RequestId,
    /// The execution.
    pub execution: &'a Execution,
    /// When it ended.
    pub at: SystemTime,
}

/// A state change of a delivery, entry kind `delivery`; linked by the id of the request that caused it, if any.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryEntry<'a> {
    /// The plugin instance that sends it.
    pub plugin: &'a str,
    /// Id of the delivery, the same for every attempt.
    pub delivery_id: &'a str,
    /// The receiver, as the configuration names it.
    pub destination: &'a str,
    /// The request that caused it.
    pub request: Option<RequestId>,
    /// Number of the attempt, from 1; 0 if there was none.
    pub attempt: u32,
    /// `sent`, `retry`, `dead`, `disabled`, `dropped`, `expired` or `would_send`.
    pub state: &'static str,
    /// The id that the receiver gave it.
    pub external_id: Option<&'a str>,
    /// Why it was not delivered.
    pub error: Option<&'a str>,
    /// How long the attempt took.
    pub took: Duration,
    /// When the state changed.
    pub at: SystemTime,
}

impl RequestEntry<'_> {
    /// Appends the entry without its number. Returns the offset in `out` at which the number belongs.
    pub fn write(&self, out: &mut Vec<u8>) -> usize {
        let Finished { facts, model, tags, executions, safety, outcome } = self.finished;
        let caller = facts.caller.as_deref();
        let mut page = Page::new(out);
        let mut entry = Object::open(&mut page);
        at(&mut entry, facts.received_at);
        entry.number("attempts", outcome.attempts.into());
        let room = outcome.denial.as_ref().and_then(|denial| denial.room.as_ref());
        entry.text_if("budget", room.map(|room| room.name.as_str()));
        entry.number("bytes_in", outcome.bytes_in);
        entry.number("bytes_out", outcome.bytes_out);
        entry.word_if("caller_request_id", facts.caller_request_id.as_deref().and_then(name));
        entry.members([self.policy.chain.as_bytes()]);
        entry.text_if("code", outcome.denial.as_ref().map(|denial| denial.code.as_ref()));
        entry.members([self.policy.config.as_bytes()]);
        entry.word("dialect", facts.dialect.as_str());
        entry.number("duration_us", micros(self.duration));
        entry.word("end", outcome.end.as_str());
        entry.word("endpoint", facts.endpoint.as_str());
        let list = entry.member("executions");
        list.put(b"[");
        for (place, execution) in executions.iter().enumerate() {
            if place > 0 {
                list.put(b",");
            }
            write_execution(execution, list);
        }
        list.put(b"]");
        entry.text_if("key_id", caller.map(|caller| &*caller.key_id));
        entry.word("kind", "request");
        let denial = outcome.denial.as_ref();
        entry.text_if("limit", denial.and_then(|denial| denial.limit));
        // A method is a token, which needs no escapes (RFC 9110 §5.6.2).
        entry.word("method", method_name(&facts.method));
        entry.word_if("model", model.as_deref().and_then(name));
        entry.text_if("organisation", caller.map(|caller| &*caller.organisation.id));
        entry.number("overhead_us", outcome.overhead_us);
        entry.text_if("provider", facts.provider.as_deref());
        entry.text_if("provider_model", facts.slug.as_deref());
        entry.word_if("provider_request_id", outcome.provider_request_id.as_deref().and_then(name));
        entry.text_if("reason", denial.and_then(|denial| denial.reason));
        request_id(&mut entry, facts.id);
        entry.word_if("requested_model", facts.requested_model.as_deref().and_then(name));
        entry.text("route", &facts.route);
        if !safety.is_empty() {
            let list = entry.member("safety");
            for (place, reading) in safety.iter().enumerate() {
                list.put(if place > 0 { b"," } else { b"[" });
                write_reading(reading, list);
            }
            list.put(b"]");
        }
        entry.text_if("scope", denial.and_then(|denial| denial.scope));
        let number_at = entry.member("seq").written();
        if !outcome.shadowed.is_empty() {
            let list = entry.member("shadow");
            for (place, Shadowed { scope, limit }) in outcome.shadowed.iter().enumerate() {
                let lead: &[u8] = if place > 0 { b",{\"limit\":\"" } else { b"[{\"limit\":\"" };
                list.put_all([lead, limit.as_bytes(), b"\",\"scope\":\"", scope.as_bytes(), b"\"}"]);
            }
            list.put(b"]");
        }
        entry.number("status", outcome.status.into());
        entry.flag("stream", facts.stream);
        texts(&mut entry, "tags", tags);
        entry.text_if("team", team(caller));
        entry.word_if("trace_id", facts.trace_id.as_deref().and_then(name));
        if outcome.unenforced != Unenforced::default() {
            let list = entry.member("unenforced");
            for (place, word) in outcome.unenforced.words().enumerate() {
                list.put_all([if place > 0 { &b",\""[..] } else { b"[\"" }, word.as_bytes(), b"\""]);
            }
            list.put(b"]");
        }
        if let Some(millis) = outcome.upstream_ms {
            entry.number("upstream_us", whole_micros(millis));
        }
        let mut usage = entry.object("usage");
        usage.number("cached", outcome.usage.cached);
        usage.number("input", outcome.usage.input);
        usage.number("output", outcome.usage.output);
        usage.number("reasoning", outcome.usage.reasoning);
        usage.word("source", outcome.usage.source.as_str());
        usage.number("total", outcome.usage.total);
        usage.close();
        entry.text_if("user", caller.and_then(|caller| caller.user.as_ref()).map(|user| &*user.id));
        entry.close();
        number_at
    }
}

impl LaterEntry<'_> {
    /// As [`RequestEntry::write`].
    pub fn write(&self, out: &mut Vec<u8>) -> usize {
        let mut page = Page::new(out);
        let mut entry = Object::open(&mut page);
        at(&mut entry, self.at);
        write_execution(self.execution, entry.member("execution"));
        entry.word("kind", "execution");
        request_id(&mut entry, self.request);
        let number_at = entry.member("seq").written();
        entry.close();
        number_at
    }
}

impl DeliveryEntry<'_> {
    /// As [`RequestEntry::write`].
    pub fn write(&self, out: &mut Vec<u8>) -> usize {
        let mut page = Page::new(out);
        let mut entry = Object::open(&mut page);
        at(&mut entry, self.at);
        entry.number("attempt", self.attempt.into());
        bounded(&mut entry, "delivery_id", Some(self.delivery_id));
        bounded(&mut entry, "destination", Some(self.destination));
        entry.number("duration_us", micros(self.took));
        bounded(&mut entry, "error", self.error);
        bounded(&mut entry, "external_id", self.external_id);
        entry.word("kind", "delivery");
        entry.text("plugin", self.plugin);
        if let Some(id) = self.request {
            request_id(&mut entry, id);
        }
        let number_at = entry.member("seq").written();
        entry.word("state", self.state);
        entry.close();
        number_at
    }
}

/// Writes a plugin execution, as part of its request's record or of a [`LaterEntry`].
fn write_execution(execution: &Execution, page: &mut Page<'_>) {
    let external = execution.external.as_ref();
    let changed: &[u8] = match (execution.changed_request, execution.changed_response) {
        (false, false) => b"\",\"changed_request\":false,\"changed_response\":false",
        (false, true) => b"\",\"changed_request\":false,\"changed_response\":true",
        (true, false) => b"\",\"changed_request\":true,\"changed_response\":false",
        (true, true) => b"\",\"changed_request\":true,\"changed_response\":true",
    };
    page.put_all([b"{\"action\":\"", execution.decision.as_str().as_bytes(), changed]);
    let mut entry = Object::opened(page);
    entry.text_if("code", execution.code.as_deref());
    bounded(&mut entry, "delivery_id", external.and_then(|external| external.delivery_id.as_deref()));
    entry.number("duration_us", micros(execution.took));
    bounded(&mut entry, "error", execution.error.as_deref());
    bounded(&mut entry, "external_system", external.map(|external| external.system.as_str()));
    let (mode, moment) = (execution.mode.as_str().as_bytes(), execution.gate.as_str().as_bytes());
    entry.members([b",\"mode\":\"", mode, b"\",\"moment\":\"", moment, b"\""]);
    texts(&mut entry, "notes", &execution.notes);
    entry.word("path", if execution.response_path { "response" } else { "background" });
    entry.text("plugin", &execution.plugin);
    entry.text("plugin_kind", execution.kind);
    bounded(&mut entry, "scope", execution.scope.as_deref());
    entry.number("started_us", micros(execution.started));
    let (style, visible) = (execution.style.as_str().as_bytes(), visible(execution).as_bytes());
    entry.members([b",\"style\":\"", style, b"\",\"visible\":\"", visible, b"\""]);
    entry.close();
}

/// Writes what one SafetySec module found and did at one phase.
fn write_reading(reading: &Reading, page: &mut Page<'_>) {
    let mut entry = Object::open(page);
    entry.word("action", reading.outcome.as_str());
    if !reading.categories.is_empty() {
        let mut sorted: Vec<(&str, u32)> = reading.categories.iter().map(|(category, count)| (category.as_ref(), *count)).collect();
        sorted.sort_unstable();
        let mut within = entry.object("categories");
        for (category, count) in sorted {
            within.number(category, count.into());
        }
        within.close();
    }
    entry.number("duration_us", micros(reading.took));
    bounded(&mut entry, "error", reading.error.as_deref());
    if !reading.kinds.is_empty() {
        let list = entry.member("kinds");
        for (place, kind) in reading.kinds.names().enumerate() {
            list.put_all([if place > 0 { &b",\""[..] } else { b"[\"" }, kind.as_bytes(), b"\""]);
        }
        list.put(b"]");
    }
    entry.text("module", reading.module);
    entry.word("phase", reading.phase.as_str());
    if reading.outcome.is_notable() {
        entry.word("reason", reading.reason);
    }
    if let Some(score) = hundredths(reading.score) {
        let page = entry.member("score");
        page.decimal(score / 100);
        page.put(b".");
        page.decimal(score / 10 % 10);
        if !score.is_multiple_of(10) {
            page.decimal(score % 10);
        }
    }
    if let Some(level) = reading.session {
        entry.word("session", level.as_str());
    }
    entry.word("side", guard::side(reading.side));
    entry.number("started_us", micros(reading.started));
    entry.word_if("visible", reading.outcome.visible(reading.side));
    entry.close();
}

/// A score in whole hundredths; `None` for zero.
fn hundredths(score: f32) -> Option<u64> {
    Some((score.clamp(0.0, 1.0) * 100.0).round() as u64).filter(|score| *score > 0)
}

fn at(entry: &mut Object<'_, '_>, moment: SystemTime) {
    let page = entry.member("at");
    page.put(b"\"");
    page.put(&Rfc3339(moment).digits());
    page.put(b"\"");
}

fn request_id(entry: &mut Object<'_, '_>, id: RequestId) {
    let page = entry.member("request_id");
    page.put(b"\"");
    page.hex(&id.0);
    page.put(b"\"");
}

#[inline(always)]
fn bounded(entry: &mut Object<'_, '_>, member: &str, value: Option<&str>) {
    if let Some(value) = value {
        one_line(entry, member, value);
    }
}

/// Writes a text of bounded length in one line. Nearly every text passes unchanged.
fn one_line(entry: &mut Object<'_, '_>, member: &str, value: &str) {
    if value.len() <= TEXT && value.bytes().all(|b| AS_IT_IS[usize::from(b)]) {
        entry.word(member, value);
    } else {
        entry.text(member, &text(value));
    }
}

/// Writes notes or tags, sorted by name, each name once with its last value; omitted if there are none.
fn texts<K: AsRef<str>>(entry: &mut Object<'_, '_>, member: &str, pairs: &[(K, String)]) {
    if pairs.is_empty() {
        return;
    }
    let mut within = entry.object(member);
    if pairs.len() > FEW {
        let sorted: BTreeMap<&str, &str> = pairs.iter().map(|(key, value)| (key.as_ref(), value.as_str())).collect();
        sorted.into_iter().for_each(|(key, value)| one_line(&mut within, key, value));
        return within.close();
    }
    let mut sorted = [("", ""); FEW];
    let mut count = 0;
    for (key, value) in pairs {
        let key = key.as_ref();
        let at = sorted[..count].iter().position(|(known, _)| *known >= key).unwrap_or(count);
        if at == count || sorted[at].0 != key {
            sorted.copy_within(at..count, at + 1);
            count += 1;
        }
        sorted[at] = (key, value);
    }
    sorted[..count].iter().for_each(|(key, value)| one_line(&mut within, key, value));
    within.close();
}

fn team(caller: Option<&Caller>) -> Option<&str> {
    caller.and_then(|caller| caller.team.as_ref()).map(|team| &*team.id)
}

/// The effect of an execution that the caller could notice.
fn visible(execution: &Execution) -> &'static str {
    let refused = match execution.decision {
        Decision::Blocked => true,
        // A failure has a code only with `on_error: deny`; then the caller got that code.
        Decision::Error | Decision::Timeout | Decision::Panicked => execution.code.is_some(),
        _ => false,
    };
    match execution.mode {
        Mode::Enforce if !execution.response_path => "none",
        Mode::Enforce if refused => "refused",
        Mode::Enforce if execution.changed_response => "answer_changed",
        Mode::Enforce if execution.changed_request => "request_changed",
        _ => "none",
    }
}

/// A text of bounded length in one line.
fn text(text: &str) -> Cow<'_, str> {
    let plain = text.bytes().fold(true, |plain, b| plain & (0x20..0x7f).contains(&b));
    if text.len() <= TEXT && (plain || !text.chars().any(char::is_control)) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(TEXT).collect())
    }
}

/// The text if it looks like the name of a model or an id, and not like prose.
fn name(text: &str) -> Option<&str> {
    (!text.is_empty() && text.len() <= NAME && text.bytes().all(|b| OF_NAMES[usize::from(b)])).then_some(text)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Milliseconds as whole microseconds.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates, and times are not negative
fn whole_micros(millis: f64) -> u64 {
    (millis * 1000.0).round() as u64
}

#[cfg(test)]
#[path = "record_test.rs"]
mod tests;
