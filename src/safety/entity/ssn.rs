//! United States social security numbers.

use super::groups::{Groups, closes};
use super::view::{View, mentions_any};

const CONTEXT: [&str; 3] = ["ssn", "social", "taxpayer"];

/// The end of a number `ddd-dd-dddd` that begins these groups; with other separators or none only if the text mentions one.
pub fn end(view: &View<'_>, groups: &Groups) -> Option<usize> {
    let split = groups.len() >= 3 && groups.sized(3, &[3, 2, 4]) && groups.all_separated(3, b"- ._/");
    let k = if split {
        3
    } else if groups.size(0) == 9 {
        1
    } else {
        return None;
    };
    let end = groups.end(k);
    if !closes(view, end) || groups.separator(k - 1) == b'-' || !issued(groups.digits(k)) {
        return None;
    }
    let before = view.left(groups.start(), 40);
    let told = || mentions_any(before, &CONTEXT);
    let bare = before.is_empty() && matches!(groups.separator(0), b' ' | b'.') && view.at(end) == 0;
    (k == 3 && groups.separator(0) == b'-' || bare || told() || k == 3 && spaced_alone(view, groups, end)).then_some(end)
}

/// `078 05 1120` in a sentence, without other numbers around it.
fn spaced_alone(view: &View<'_>, groups: &Groups, end: usize) -> bool {
    let before = view.before(groups.start(), 2);
    groups.len() == 3 && groups.separator(0) == b' ' && !before.is_ascii_digit() && !view.at(end).is_ascii_digit()
}

/// Whether the number can have been issued: areas 000, 666 and 900–999, group 00 and serial 0000 never were.
fn issued(digits: &[u8]) -> bool {
    let number = |from: usize, n: usize| digits.iter().skip(from).take(n).fold(0u32, |sum, d| sum * 10 + u32::from(*d));
    let area = number(0, 3);
    !(area == 0 || area == 666 || area >= 900 || number(3, 2) == 0 || number(5, 4) == 0) && digits.len() == 9
}
