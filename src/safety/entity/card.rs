//! Payment card numbers: ISO/IEC 7812 prefixes and the Luhn digit.

use super::groups::{Groups, closes};
use super::view::{View, mentions_any};

/// Words that mark a following number as something else.
const OTHER: [&str; 9] = ["order", "tracking", "ticket", "isbn", "invoice", "part no", "epoch", "serial", "timestamp"];

const CARDS: [&str; 14] =
    ["card", "uatp", "visa", "maestro", "unionpay", "credit", "debit", "karte", "carte", "tarjeta", "cartão", "카드", "银行卡", "カード"];

/// The end of a card number that begins these groups: 12 to 19 digits of a known network, in one group or in groups of
/// three to six with one kind of separator, and a valid check digit.
pub fn end(view: &View<'_>, groups: &Groups) -> Option<usize> {
    if !matches!(groups.digits(1).first(), Some(1..=6)) {
        return None;
    }
    let mut best = None;
    for k in 1..=groups.len() {
        let digits = groups.digits(k);
        if digits.len() > 19 || k > 1 && !groups.all_separated(k, b" -._/") {
            break;
        }
        // Versions, dates and file names use these separators, too, but not between groups of four.
        if k > 1 && matches!(groups.separator(0), b'.' | b'_' | b'/') && !(digits.len() >= 15 && set(groups, k)) {
            continue;
        }
        let travel = digits.len() == 15 && digits.first() == Some(&1);
        if (12..=19).contains(&digits.len()) && (travel || network_takes(digits)) && luhn(digits) && closes(view, groups.end(k)) {
            // Numbers of the air travel plan, ungrouped numbers of more than 16 digits, and odd groups in a list look like
            // many other numbers: they count only where the text mentions a card.
            let sure = !travel
                && if k == 1 {
                    digits.len() <= 16 || alone(view, groups)
                } else {
                    grouped(groups, k) || loose(groups, k) && !listed(view, groups)
                };
            if !sure && !((k == 1 || loose(groups, k)) && told(view, groups)) {
                continue;
            }
            best = Some(groups.end(k));
        }
    }
    // Only for a candidate: check whether the text names it as something else.
    best.filter(|_| !mentions_any(view.left(groups.start(), 24), &OTHER))
}

/// Whether the text mentions a card.
fn told(view: &View<'_>, groups: &Groups) -> bool {
    mentions_any(view.left(groups.start(), 40), &CARDS)
}

/// Whether the text consists of the number only, as an input field would.
fn alone(view: &View<'_>, groups: &Groups) -> bool {
    view.left(groups.start(), 1).is_empty() && view.at(groups.end(1)) == 0
}

/// Whether another number comes directly before.
fn listed(view: &View<'_>, groups: &Groups) -> bool {
    matches!(view.before(groups.start(), 1), b' ' | b'-') && view.before(groups.start(), 2).is_ascii_digit()
}

/// Groups of sizes that people use.
fn loose(groups: &Groups, k: usize) -> bool {
    (0..k - 1).all(|i| (3..=6).contains(&groups.size(i)))
}

/// Groups as printed on cards: four fours; or four, six and five.
fn set(groups: &Groups, k: usize) -> bool {
    k == 4 && (0..4).all(|i| groups.size(i) == 4) || groups.sized(k, &[4, 6, 5])
}

/// Groups as in card numbers: fours and a rest; four, six and a rest; two of at least six.
fn grouped(groups: &Groups, k: usize) -> bool {
    let last = groups.size(k - 1);
    let fours = (0..k - 1).all(|i| groups.size(i) == 4) && (1..=7).contains(&last);
    let sixes = k == 3 && groups.size(0) == 4 && matches!(groups.size(1), 5 | 6) && matches!(last, 3..=6);
    let halves = k == 2 && groups.size(0) >= 6;
    fours || sixes || halves
}

/// Whether a network issues numbers with this prefix and length. Excludes order numbers and timestamps.
fn network_takes(digits: &[u8]) -> bool {
    let number = |n: usize| digits.iter().take(n).fold(0u32, |sum, d| sum * 10 + u32::from(*d));
    let (two, three, four) = (number(2), number(3), number(4));
    let maestro = matches!(four, 5018 | 5020 | 5038 | 5893 | 6304 | 6390 | 6759 | 6761..=6763) || matches!(two, 56..=58);
    match digits.len() {
        12 => maestro,
        13 => two / 10 == 4,
        14 => matches!(two, 36 | 38 | 39) || (300..=305).contains(&three),
        15 => matches!(two, 34 | 37) || matches!(four, 1800 | 2131),
        16 => matches!(two, 40..=58 | 60..=69 | 35) || matches!(four, 2200..=2204 | 2221..=2720),
        17 | 18 => maestro || matches!(two, 50 | 60 | 62..=69 | 35),
        19 => maestro || matches!(two, 40..=50 | 60 | 62..=69 | 35),
        _ => false,
    }
}

/// Whether the last digit is the right check digit (ISO/IEC 7812-1 annex B).
pub fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match (place % 2, u32::from(*digit) * 2) {
            (0, _) => u32::from(*digit),
            (_, double) if double > 9 => double - 9,
            (_, double) => double,
        })
        .sum();
    sum.is_multiple_of(10)
}
