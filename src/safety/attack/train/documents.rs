//! Longer training texts: innocent ones joined together, so that what spans their seams is known as innocent; and attacks
//! inserted into them, so that an attack is recognised among other words.

use super::{Chance, Label, Row};

/// Of a hundred innocent texts, how many also begin a joined text.
const JOINED: usize = 12;
/// Of a hundred attacks, how many are also inserted into innocent text.
const PUT: usize = 20;
/// Most texts in a joined text.
const PIECES: usize = 8;
/// Longer texts are not joined, in bytes.
const LONG: usize = 2_000;
/// The weight of a joined text in training.
const JOINT: f32 = 0.5;
/// Separators between two joined texts.
const SEAMS: [&str; 4] = ["\n\n", "\n", " ", ". "];

/// Joined texts, and attacks within others. Only texts of the same fold are joined, so that no text is scored by a model
/// that was trained on its neighbour.
pub fn documents(rows: &[Row], folds: usize, chance: &mut Chance) -> Vec<Row> {
    let short = |row: &&Row| row.text.len() <= LONG && row.views.is_empty();
    let mut documents = Vec::new();
    for fold in 0..folds {
        let here = || rows.iter().filter(short).filter(|row| row.fold(folds) == fold);
        let innocent: Vec<&Row> = here().filter(|row| row.label == Label::Benign).collect();
        for &row in &innocent {
            if chance.happens(JOINED) {
                let mut text = row.text.clone();
                for _ in 0..2 + chance.below(PIECES - 2) {
                    add(&mut text, chance.one(&innocent), chance);
                }
                documents.push(Row { text, weight: JOINT, aid: true, ..row.clone() });
            }
        }
        for row in here().filter(|row| row.label.attack()) {
            if chance.happens(PUT) {
                let mut text = chance.one(&innocent).map_or_else(String::new, |before| before.text.clone());
                add(&mut text, Some(&row), chance);
                add(&mut text, chance.one(&innocent), chance);
                documents.push(Row { text, weight: row.weight * JOINT, aid: true, ..row.clone() });
            }
        }
    }
    documents
}

fn add(text: &mut String, row: Option<&&Row>, chance: &mut Chance) {
    text.push_str(chance.one(&SEAMS).copied().unwrap_or_default());
    text.push_str(row.map_or("", |row| row.text.as_str()));
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn what_stands_together_is_of_one_fold_and_attacks_stay_attacks() {
        let row = |number: usize| {
            let line = if number.is_multiple_of(2) {
                format!(r#"{{"text": "attack{number}", "label": 1, "cluster": "a{number}"}}"#)
            } else {
                format!(r#"{{"text": "prose{number}", "label": 0, "cluster": "b{number}"}}"#)
            };
            Row::from_line(&line).expect("a good line").expect("a labelled text")
        };
        let rows: Vec<Row> = (0..600).map(row).collect();
        let made = documents(&rows, 5, &mut Chance::new(1));
        assert!(made.iter().any(|row| row.label.attack()) && made.iter().any(|row| !row.label.attack()));
        for document in &made {
            let words = document.text.split([' ', '\n', '.']).filter(|word| !word.is_empty());
            let pieces: Vec<&Row> = words.map(|word| rows.iter().find(|row| row.text == word).expect("a row's text")).collect();
            assert!(pieces.len() >= 3 && pieces.iter().all(|piece| piece.fold(5) == document.fold(5)));
            assert_eq!(pieces.iter().any(|piece| piece.label.attack()), document.label.attack());
            assert!(document.aid);
        }
    }
}
