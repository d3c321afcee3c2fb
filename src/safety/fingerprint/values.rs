//! Personal data and secrets of a request as numbers, to recognise the same values in its answer.

use super::table::Table;
use super::word;
use crate::safety::entity::{Detector, Entity, Kind};

/// Number of trailing digits of a phone number that count: with and without prefixes it is the same number.
const PHONE: usize = 8;
/// Shorter runs of letters and digits are not values.
const SHORTEST: usize = 4;

/// The number of a value, independent of grouping and case.
pub fn number(entity: Entity, value: &str) -> u64 {
    let from = match entity {
        Entity::Phone => value.bytes().enumerate().rev().filter(|(_, b)| b.is_ascii_digit()).take(PHONE).last().map_or(0, |(at, _)| at),
        _ => 0,
    };
    value.get(from..).map_or((0, 0), of).0
}

/// The number of a text's letters and digits, and their count.
fn of(text: &str) -> (u64, usize) {
    let (mut hash, mut letters) = (0, 0);
    for c in text.chars().filter(|c| c.is_alphanumeric()) {
        hash = word::step(hash, c.to_ascii_lowercase() as u32);
        letters += 1;
    }
    (word::mix(hash), letters)
}

/// The values in these texts: everything that looks like one, and every run without spaces, since a text may contain a
/// password without naming it.
pub fn all(texts: [&str; 2]) -> Table {
    let detector = Detector::new(Entity::ALL, Vec::new());
    let mut table = Table::for_up_to(texts.iter().map(|text| text.len() / SHORTEST + 16).sum());
    for text in texts {
        for find in detector.scan(text) {
            if let (Kind::BuiltIn(entity), Some(value)) = (find.kind, text.get(find.span)) {
                table.insert(number(entity, value));
            }
        }
        for run in text.split(|c: char| c.is_whitespace() || "\"'`<>(),;=:[]{}".contains(c)) {
            let (number, letters) = of(run);
            if letters >= SHORTEST {
                table.insert(number);
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_the_same_however_it_is_written() {
        assert_eq!(number(Entity::CreditCard, "4111 1111-1111 1111"), number(Entity::CreditCard, "4111111111111111"));
        assert_eq!(number(Entity::Email, "Ada@Example.org"), number(Entity::Email, "ada@example.org"));
        assert_eq!(number(Entity::Phone, "+49 30 12345678"), number(Entity::Phone, "030/1234 5678"));
        assert_ne!(number(Entity::Phone, "+49 30 12345678"), number(Entity::Phone, "+49 30 12345679"));
        assert_ne!(number(Entity::Email, "ada@example.org"), number(Entity::Email, "bea@example.org"));
    }

    #[test]
    fn values_are_found_with_and_without_a_name() {
        let table = all(["mail ada@harbour.example or 4111 1111 1111 1111", "I log in with Kestrel7Fog!, always"]);
        for (entity, value) in
            [(Entity::Email, "Ada@harbour.example"), (Entity::CreditCard, "4111-1111-1111-1111"), (Entity::Password, "Kestrel7Fog!")]
        {
            assert!(table.contains(number(entity, value)), "{value}");
        }
        assert!(!table.contains(number(Entity::Email, "bea@harbour.example")));
        assert!(!all(["", ""]).contains(number(Entity::Email, "ada@harbour.example")));
    }
}
