//! Payment card numbers: ISO/IEC 7812 prefixes and the Luhn digit.

use super::groups::{Groups, closes};
use super::view::{View, mentions_any};

/// Words before a number that say it is something else.
const OTHER: [&str; 9] = ["order", "tracking", "ticket", "isbn", "invoice", "part no", "epoch", "serial", "timestamp"];

/// The end of a card number at the start of these groups: 12 to 19 digits of a known network, in one group or in groups
/// of three to six with one kind of separator, with a valid check digit.
pub fn end(view: &View<'_>, groups: &Groups) -> Option<usize> {
    if !matches!(groups.digits(1).first(), Some(1..=6)) {
        return None;
    }
    let mut best = None;
    for k in 1..=groups.len() {
        if k > 1 && !((0..k - 1).all(|i| (3..=6).contains(&groups.size(i))) && groups.all_separated(k, b" -")) {
            break;
        }
        let digits = groups.digits(k);
        if digits.len() > 19 {
            break;
        }
        if (12..=19).contains(&digits.len())
            && (network_takes(digits) || travel(view, groups, digits))
            && luhn(digits)
            && closes(view, groups.end(k))
        {
            best = Some(groups.end(k));
        }
    }
    // Only where there is a candidate: whose number it says it is.
    best.filter(|_| !mentions_any(view.left(groups.start(), 24), &OTHER))
}

/// A card of the air travel plan, whose numbers look like many others: only where the text speaks of a card.
fn travel(view: &View<'_>, groups: &Groups, digits: &[u8]) -> bool {
    digits.len() == 15 && digits.first() == Some(&1) && mentions_any(view.left(groups.start(), 24), &["card", "uatp", "카드"])
}

/// Whether a network issues numbers of this prefix and length. Keeps order numbers and timestamps out.
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

/// Whether the last digit checks the others (ISO/IEC 7812-1 annex B).
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
