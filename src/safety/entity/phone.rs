//! Phone numbers: in international or North American form, with a trunk zero, or where the text mentions a phone.

use std::ops::Range;

use super::groups::{Groups, closes};
use super::view::{View, is_word, mentions_any};

/// How far back the text may mention a phone, in bytes.
const CONTEXT_BYTES: usize = 40;
/// Prefixes of words that mention a phone.
const CONTEXT: [&str; 31] = [
    "phone",
    "cellphone",
    "cellular",
    "telephone",
    "whatsapp",
    "reach me",
    "reach us",
    "hotline",
    "telefon",
    "téléphone",
    "teléfono",
    "telefone",
    "telefono",
    "móvil",
    "mobilnummer",
    "rufnummer",
    "answering",
    "text me",
    "messages to",
    "ring me",
    "전화",
    "연락처",
    "휴대",
    "핸드폰",
    "팩스",
    "電話",
    "电话",
    "手机",
    "携帯",
    "телефон",
    "тел.",
];
/// Whole words that mention a phone; as prefixes they begin names in source text: `callback`, `telemetry`, `SMS_ATN`.
const WORDS: [&str; 15] =
    ["tel", "tél", "telno", "call", "called", "calling", "calls", "mobile", "cell", "fax", "sms", "contact", "dial", "handy", "mob"];
/// Words that mark the number as something else, even near a phone.
const OTHER: [&str; 12] =
    ["order", "ticket", "invoice", "isbn", "version", "account", "epoch", "tracking", "serial", "id:", "id =", "policy"];

/// The number that begins these groups, including its `+` or bracket.
pub fn find(view: &View<'_>, groups: &Groups, floor: usize) -> Option<Range<usize>> {
    let lead = Lead::before(view, groups.start(), floor);
    if !lead.opens(view) {
        return None;
    }
    let spaced = (0..groups.len() - 1).all(|i| groups.separator(i) == b' ');
    if spaced && !lead.plus && !lead.bracket && listed(view, groups, &lead) {
        return None;
    }
    let known = std::cell::OnceCell::new();
    let told = || *known.get_or_init(|| told(view, lead.start));
    for k in (1..=groups.len()).rev() {
        let end = groups.end(k);
        if k < groups.len() && (matches!(groups.separator(k - 1), b'-' | b'.' | b'/') || !lead.plus && groups.separator(k - 1) == b' ') {
            continue;
        }
        let extended = extension(view, end);
        if extended == end && !closes(view, end) || !fits(view, groups, k, &lead, &told) {
            continue;
        }
        return Some(lead.start..extended);
    }
    None
}

/// What comes directly before the first digit.
#[derive(Debug)]
struct Lead {
    plus: bool,
    bracket: bool,
    start: usize,
}

impl Lead {
    fn before(view: &View<'_>, first: usize, floor: usize) -> Self {
        let mut lead = Self { plus: false, bracket: false, start: first };
        if lead.start > floor && view.before(lead.start, 1) == b'(' {
            lead.bracket = true;
            lead.start -= 1;
        }
        if lead.start > floor && view.before(lead.start, 1) == b'+' {
            lead.plus = true;
            lead.start -= 1;
            if !lead.bracket && lead.start > floor && view.before(lead.start, 1) == b'(' {
                lead.bracket = true;
                lead.start -= 1;
            }
        }
        lead
    }

    fn opens(&self, view: &View<'_>) -> bool {
        let previous = view.before(self.start, 1);
        let word = super::view::in_word(view, self.start);
        let decimal = matches!(previous, b'.' | b',' | b'/' | b'-' | b':') && view.before(self.start, 2).is_ascii_digit();
        !(word && !self.bracket
            || decimal
            || matches!(previous, b'$' | b'#' | b'=') && previous != b'='
            || self.bracket && is_word(previous))
    }
}

fn fits(view: &View<'_>, groups: &Groups, k: usize, lead: &Lead, told: &dyn Fn() -> bool) -> bool {
    let digits = groups.digits(k);
    let n = digits.len();
    let first = digits.first().copied().unwrap_or(0);
    if digits.starts_with(&[0, 0, 0]) || far_date(groups, k) {
        return false;
    }
    if lead.plus {
        return (7..=15).contains(&n) && first != 0 && k <= 7 && (0..k - 1).all(|i| groups.separator(i) != b'_');
    }
    if !(6..=15).contains(&n) {
        return false;
    }
    let separated = |by: &[u8]| (0..k - 1).all(|i| by.contains(&groups.separator(i)));
    let tail = |from: usize, sizes: &[usize]| k - from == sizes.len() && sizes.iter().enumerate().all(|(i, s)| groups.size(from + i) == *s);
    // 415-555-0132, (415) 555-0132, 1-415-555-0132, 001-415-555-0132
    let prefixed = k == 4 && (groups.size(0) == 1 && first == 1 || groups.size(0) == 3 && digits.starts_with(&[0, 0, 1]));
    let from = usize::from(prefixed);
    if (k == 3 || prefixed) && tail(from, &[3, 3, 4]) && separated(b"-.()/") {
        return true;
    }
    let area = digits.get(if prefixed { groups.size(0) } else { 0 }).copied().unwrap_or(0);
    if (k == 3 || prefixed) && tail(from, &[3, 3, 4]) && separated(b" -.()") && area >= 2 && !listed(view, groups, lead) {
        return true;
    }
    if lead.bracket && k >= 2 && groups.separator(0) == b')' && (7..=12).contains(&n) && groups.size(0) <= 5 {
        return true;
    }
    if first == 0 && (2..=6).contains(&k) && trunk(groups, k, n) && separated(b" -/.()~") && !listed(view, groups, lead) {
        return true;
    }
    // 00 and a country code.
    if digits.starts_with(&[0, 0]) && digits.get(2).is_some_and(|d| *d > 0) && k >= 2 && n >= 10 && separated(b" -/()") {
        return true;
    }
    !date(groups, k) && k <= 6 && separated(b" -./()~") && told()
}

/// A national number with a trunk zero: 0431 35 06 90, 06-12345678, 01234 567890.
fn trunk(groups: &Groups, k: usize, n: usize) -> bool {
    (9..=12).contains(&n)
        && (2..=5).contains(&groups.size(0))
        && (1..k).all(|i| groups.size(i) >= 2)
        && !(groups.size(0) == 2 && groups.size(1) == 2 && k == 3)
        // 02110-1301 is a ZIP code in Boston.
        && !(groups.sized(k, &[5, 4]) && groups.separator(0) == b'-')
}

/// Dates with signed years of more than four digits (ISO 8601): +12345-06-07.
fn far_date(groups: &Groups, k: usize) -> bool {
    let part = |i: usize| {
        groups.digits(k).iter().skip(groups.digits(i).len()).take(groups.size(i)).fold(0u32, |sum, d| (sum * 10 + u32::from(*d)).min(100))
    };
    k == 3
        && groups.all_separated(3, b"-")
        && groups.size(0) >= 4
        && groups.size(1) <= 2
        && groups.size(2) <= 2
        && (1..=12).contains(&part(1))
        && (1..=31).contains(&part(2))
}

/// Dates: 2024-05-11, 11.05.2024, 20240511.
fn date(groups: &Groups, k: usize) -> bool {
    let two = |i: usize| matches!(groups.size(i), 1 | 2);
    let year = |at: usize| groups.digits(k).get(at..at + 2).is_some_and(|c| c == [1, 9] || c == [2, 0]);
    k >= 3 && (groups.size(0) == 4 && two(1) && two(2) && year(0))
        || k == 3
            && two(0)
            && two(1)
            && (groups.size(2) == 4 && year(groups.size(0) + groups.size(1)) || groups.size(2) == 2 && groups.separator(0) != b' ')
}

/// One of a list of numbers: another digit comes directly before.
fn listed(view: &View<'_>, groups: &Groups, lead: &Lead) -> bool {
    let before = view.before(lead.start, 1);
    matches!(before, b' ' | b',' | b'\t') && view.before(lead.start, 2).is_ascii_digit() && groups.separator(0) == b' '
}

/// Whether one of [`WORDS`] is in the text as a whole word.
fn speaks(text: &[u8]) -> bool {
    let part = |b: &u8| is_word(*b) || *b >= 0x80;
    text.split(|b| !part(b))
        .filter(|word| (2..=7).contains(&word.len()))
        .any(|word| WORDS.iter().any(|known| word.eq_ignore_ascii_case(known.as_bytes())))
}

fn told(view: &View<'_>, start: usize) -> bool {
    let before = view.left(start, CONTEXT_BYTES);
    let near = before.get(before.len().saturating_sub(14)..).unwrap_or_default();
    (mentions_any(before, &CONTEXT) || speaks(before)) && !mentions_any(near, &OTHER)
}

/// The index after an extension: `x060`, ` ext. 12`.
fn extension(view: &View<'_>, end: usize) -> usize {
    let mut at = end;
    if view.at(at) == b' ' {
        at += 1;
    }
    if view.at(at).eq_ignore_ascii_case(&b'x') {
        at += 1;
    } else if view.slice(at, at + 3).eq_ignore_ascii_case(b"ext") {
        at += 3;
        at += usize::from(view.at(at) == b'.');
        at += usize::from(view.at(at) == b' ');
    } else {
        return end;
    }
    let stop = view.run(at, 7, |b| b.is_ascii_digit());
    if (1..=6).contains(&(stop - at)) && !is_word(view.at(stop)) { stop } else { end }
}
