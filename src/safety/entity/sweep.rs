//! The single pass over a text. It stops only at words that contain a digit, at long words, and at `@`, `:` and `=`; what
//! is there decides which detectors run.

use std::ops::Range;

use super::groups::Groups;
use super::published::is_published;
use super::view::{View, is_escape};
use super::{Chosen, Entity, address, assigned, card, crypt, email, iban, jwt, key_block, phone, provider, ssn, token};

/// Longest word that is examined as a whole; of longer ones only the beginning counts.
const WORD_BYTES: usize = 512;
/// Shortest word without a digit that can be a key.
const LONG: usize = 32;
/// Number of bytes skipped in one go. A word of [`LONG`] bytes fills one of two consecutive stretches.
const STRETCH: usize = 16;

const WORD: u8 = 1;
const DIGIT: u8 = 2;
const AT: u8 = 4;
const SIGN: u8 = 8;

const CLASS: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = match byte as u8 {
            b'0'..=b'9' => WORD | DIGIT,
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'-' => WORD,
            b'@' => AT,
            b':' | b'=' => SIGN,
            _ => 0,
        };
        byte += 1;
    }
    table
};

/// The position of the pass.
#[derive(Debug, Clone, Copy, Default)]
pub struct Progress {
    /// Where it continues.
    pub at: usize,
    /// No later find begins before this.
    pub floor: usize,
    /// Whether `at` is within a word too long to be examined.
    inside: bool,
}

impl Progress {
    /// The position in a buffer whose first `n` bytes were dropped.
    pub fn shifted(self, n: usize) -> Self {
        Self { at: self.at.saturating_sub(n), floor: self.floor.saturating_sub(n), inside: self.inside }
    }

    /// The start of the longest candidate that is still undecided, looking back from the position.
    pub fn settled(&self, view: &View<'_>) -> usize {
        let mut start = self.at.min(view.bytes().len());
        let floor = self.floor.max(start.saturating_sub(email::LOCAL_BYTES + 8));
        loop {
            let width = match view.before(start, 1) {
                b'(' | b'\\' | b'$' => 1,
                _ => email::local_before(view, start),
            };
            if width == 0 || start < floor + width {
                break;
            }
            start -= width;
        }
        start
    }
}

/// Continues from `progress` as far as the text can be decided, and reports finds in order.
pub fn sweep(view: &View<'_>, chosen: Chosen, progress: &mut Progress, mut found: impl FnMut(Range<usize>, Entity)) {
    let bytes = view.bytes();
    let class = |i: usize| bytes.get(i).map_or(0, |b| CLASS.get(usize::from(*b)).copied().unwrap_or(0));
    loop {
        if progress.inside {
            while class(progress.at) & WORD != 0 {
                progress.at += 1;
            }
            if progress.at >= bytes.len() {
                return;
            }
            progress.inside = false;
        }
        let mut at = plain(bytes, progress.at);
        let Some(rest) = bytes.get(at..) else { return };
        // Skips the gap between words.
        let Some(skip) = rest.iter().position(|b| CLASS.get(usize::from(*b)).is_some_and(|c| *c != 0)) else {
            progress.at = bytes.len();
            return;
        };
        at += skip;
        let first = class(at);
        view.fresh();
        let finder = Finder { view, chosen, floor: progress.floor };
        let (step, next) = if first & WORD == 0 {
            (if first & AT != 0 { finder.at_sign(at) } else { finder.sign(at) }, at + 1)
        } else {
            let word = bytes.get(at..bytes.len().min(at + WORD_BYTES)).unwrap_or_default();
            let mut flags = 0;
            let mut len = 0;
            for byte in word {
                let class = CLASS.get(usize::from(*byte)).copied().unwrap_or(0);
                if class & WORD == 0 {
                    break;
                }
                flags |= class;
                len += 1;
            }
            let end = at + len;
            if flags & DIGIT != 0
                || len >= LONG
                || end >= bytes.len()
                || word.get(..len).is_some_and(|word| word.ends_with(b"-----BEGIN"))
                || class(end + 1) & WORD != 0 && bytes.get(end) == Some(&b'.')
            {
                // The decision depends on whether the word continues, so the next byte must be present.
                let _ = view.at(end);
                (finder.word(at, end, len >= WORD_BYTES), end)
            } else {
                (Step::Nothing, end)
            }
        };
        if view.starved() {
            progress.at = at;
            return;
        }
        match step {
            Step::Found(span, entity) => {
                progress.at = span.end.max(at + 1);
                progress.floor = span.end;
                let value = bytes.get(span.clone()).unwrap_or_default();
                if chosen.has(entity) && (entity < Entity::OpenaiKey || !is_published(value)) {
                    found(span, entity);
                }
            }
            Step::Skip(to) => {
                progress.at = to.max(at + 1);
                progress.floor = progress.at;
            }
            Step::Nothing => {
                progress.inside = next - at >= WORD_BYTES && class(next) & WORD != 0;
                progress.at = next;
            }
        }
    }
}

/// A byte that every examined word shorter than [`LONG`] contains. The ranges include the colon, which follows the nine in
/// ASCII, and the dot, which follows the dash.
fn is_stop(b: u8) -> bool {
    (b.wrapping_sub(b'0') <= b':' - b'0') | (b == b'@') | (b == b'=') | (b.wrapping_sub(b'-') <= 1)
}

/// Skips whole stretches without anything to examine, and returns the beginning of the word in which it stopped. It skips
/// only words for which [`Finder::word`] would find nothing: shorter than [`LONG`], and without a digit, dash or dot.
fn plain(bytes: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(stretch) = bytes.get(at..at + STRETCH) {
        let (mut stops, mut gaps) = (false, false);
        for &b in stretch {
            stops |= is_stop(b);
            gaps |= b == b' ';
        }
        if stops {
            at += stretch.iter().position(|b| is_stop(*b)).unwrap_or(0);
            break;
        }
        if !gaps {
            break;
        }
        at += STRETCH;
    }
    while at > from && bytes.get(at - 1).is_some_and(|b| CLASS.get(usize::from(*b)).is_some_and(|c| c & WORD != 0)) {
        at -= 1;
    }
    at
}

enum Step {
    Found(Range<usize>, Entity),
    Skip(usize),
    Nothing,
}

struct Finder<'a> {
    view: &'a View<'a>,
    chosen: Chosen,
    floor: usize,
}

impl Finder<'_> {
    fn at_sign(&self, at: usize) -> Step {
        if !self.chosen.has(Entity::Email) {
            return Step::Nothing;
        }
        email::around(self.view, at, self.floor).map_or(Step::Nothing, |span| Step::Found(span, Entity::Email))
    }

    fn sign(&self, at: usize) -> Step {
        let view = self.view;
        if view.at(at) == b':' && (view.before(at, 1).is_ascii_hexdigit() || view.at(at + 1) == b':') {
            if self.chosen.has(Entity::IpAddress)
                && let Some(span) = address::ipv6(view, at, self.floor)
            {
                return Step::Found(span, Entity::IpAddress);
            }
            if self.chosen.has(Entity::Token)
                && let Some(span) = token::numbered(view, at, self.floor)
            {
                return Step::Found(span, Entity::Token);
            }
        }
        if !self.chosen.any_secret() {
            return Step::Nothing;
        }
        match assigned::behind(view, at) {
            assigned::Sign::Value(span, entity) => self.sharpened(span, entity),
            assigned::Sign::Skip(to) => Step::Skip(to),
            assigned::Sign::Nothing if view.at(at) == b':' && view.at(at + 1) == b'/' && view.at(at + 2) == b'/' => {
                token::webhook(view, at + 3).map_or(Step::Nothing, |span| {
                    let slack = view.slice(span.start, span.start + 11) == b"hooks.slack";
                    Step::Found(span, if slack { Entity::SlackToken } else { Entity::Token })
                })
            }
            assigned::Sign::Nothing => Step::Nothing,
        }
    }

    /// Replaces the kind of a named value by its issuer's, if the format is known.
    fn sharpened(&self, span: Range<usize>, entity: Entity) -> Step {
        if let Some((stop, entity)) = provider::find(self.view, span.start) {
            return Step::Found(span.start..stop.max(span.end), entity);
        }
        match jwt::end(self.view, span.start) {
            Some(stop) => Step::Found(span.start..stop.max(span.end), Entity::Jwt),
            None => Step::Found(span, entity),
        }
    }

    fn word(&self, start: usize, end: usize, long: bool) -> Step {
        let view = self.view;
        let word = view.slice(start, end);
        if word.ends_with(b"-----BEGIN") && self.chosen.has(Entity::PrivateKey) {
            let dashes = end - 10;
            return key_block::end(view, dashes).map_or(Step::Nothing, |stop| Step::Found(dashes..stop, Entity::PrivateKey));
        }
        if view.before(start, 1) == b'$'
            && start > self.floor
            && self.chosen.has(Entity::Password)
            && let Some(stop) = crypt::end(view, start, end)
        {
            return Step::Found(start - 1..stop, Entity::Password);
        }
        let trim = word.iter().take_while(|b| **b == b'-').count();
        let start =
            start + trim + usize::from(trim == 0 && is_escape(view, start + 1) && view.before(start, 1) == b'\\' && end - start > 1);
        if (end.saturating_sub(start) >= 12 || matches!(view.at(end), b'.' | b'/' | b'|' | b'$')) && self.chosen.any_secret() {
            if let Some((stop, entity)) = provider::find(view, start) {
                return Step::Found(start..stop, entity);
            }
            if let Some(stop) = key_block::encoded_end(view, start).or_else(|| key_block::bare_end(view, start)) {
                return Step::Found(start..stop, Entity::PrivateKey);
            }
            if end - start >= LONG
                && !matches!(view.before(start, 1), b'/' | b'+' | b'-' | b'%')
                && let Some(stop) = key_block::wrapped_end(view, start)
            {
                return Step::Found(start..stop, Entity::PrivateKey);
            }
            if let Some(stop) = jwt::end(view, start).or_else(|| jwt::encoded_end(view, start)) {
                return Step::Found(start..stop, Entity::Jwt);
            }
        }
        if long || token::is_placeholder(view, start, end) {
            return Step::Nothing;
        }
        if let Some(step) = self.number(start, end) {
            return step;
        }
        if !self.chosen.any_secret() || view.at(end) == b'@' {
            return Step::Nothing;
        }
        if let Some((span, entity)) = assigned::named(view, start) {
            return Step::Found(span, entity);
        }
        if (end - start >= 20 || view.at(end) == b'~')
            && let Some(span) = token::find(view, start, end)
        {
            return Step::Found(span, Entity::Token);
        }
        Step::Nothing
    }

    fn number(&self, start: usize, end: usize) -> Option<Step> {
        let view = self.view;
        let word = view.slice(start, end);
        let first = *word.first()?;
        if first.is_ascii_alphabetic() {
            let headed = matches!(word, [_, b, c, d, ..] if b.is_ascii_alphabetic() && c.is_ascii_digit() && d.is_ascii_digit());
            if headed
                && self.chosen.has(Entity::Iban)
                && let Some(stop) = iban::end(view, start)
            {
                return Some(Step::Found(start..stop, Entity::Iban));
            }
            // `Office-07700 063 966`
            let dash = word.windows(3).position(|w| matches!(w, [a, b'-', d] if a.is_ascii_alphabetic() && d.is_ascii_digit()))?;
            return word.iter().take(dash + 1).all(u8::is_ascii_alphabetic).then(|| self.digits(start + dash + 2)).flatten();
        }
        if first.is_ascii_digit() { self.digits(start) } else { None }
    }

    fn digits(&self, start: usize) -> Option<Step> {
        let view = self.view;
        let found = |span: Range<usize>, entity| Some(Step::Found(span, entity));
        if self.chosen.has(Entity::IpAddress)
            && let Some(stop) = address::ipv4(view, start)
        {
            return found(start..stop, Entity::IpAddress);
        }
        let groups = Groups::read(view, start)?;
        if groups.digits(groups.len()).len() < 6 {
            return None;
        }
        if self.chosen.has(Entity::CreditCard)
            && opens(view, start)
            && let Some(stop) = card::end(view, &groups)
        {
            return found(start..stop, Entity::CreditCard);
        }
        if self.chosen.has(Entity::UsSsn)
            && opens(view, start)
            && let Some(stop) = ssn::end(view, &groups)
        {
            return found(start..stop, Entity::UsSsn);
        }
        if self.chosen.has(Entity::Phone)
            && let Some(span) = phone::find(view, &groups, self.floor)
        {
            return found(span, Entity::Phone);
        }
        None
    }
}

/// Whether a number may begin here: not within a word, not after a decimal point.
fn opens(view: &View<'_>, start: usize) -> bool {
    let previous = view.before(start, 1);
    !(super::view::in_word(view, start) || matches!(previous, b'.' | b',' | b'-' | b'/') && view.before(start, 2).is_ascii_digit())
}
