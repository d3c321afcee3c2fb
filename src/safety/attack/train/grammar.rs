//! Attacks and their innocent look-alikes as grammars: one file for each language or group of languages.
//!
//! `name = a | b` defines a slot for the lines below it, until it is defined again. `injection: …`, `jailbreak: …` and
//! `benign: …` are sentences: `{name}` is replaced by one value of the slot, `(a|b|)` by one of the alternatives, and
//! `%gibberish%` by a suffix as machines find them by search. `¶` is a line end. `%` begins a comment.

use std::collections::{HashMap, HashSet};

use super::super::super::normal::fold;
use super::{Chance, Label, Row};

/// The shipped grammars. For each: the weight of its texts beside those that others wrote, and a factor for the number of
/// texts per sentence, since grammars of few sentences with many slots need more.
const FILES: &[(&str, &str, f32, usize)] = &[
    ("en", include_str!("grammar/en.txt"), OWN, 1),
    ("latin", include_str!("grammar/latin.txt"), OWN, 1),
    ("scripts", include_str!("grammar/scripts.txt"), OWN, 1),
    ("about", include_str!("grammar/about.txt"), 2.0 * OWN, 1),
    ("plain", include_str!("grammar/plain.txt"), OWN, 1),
    ("orders", include_str!("grammar/orders.txt"), OWN, 3),
    ("soft", include_str!("grammar/soft.txt"), OWN, 1),
];
const OWN: f32 = 0.15;

/// The slot that is filled with attacks from the grammars before.
const ATTACK: &str = "attack";
/// The longest such attack, in bytes.
const QUOTED: usize = 160;
/// One in this many attacks is used for the slot.
const KEPT: usize = 5;

/// A malformed line of a grammar.
#[derive(Debug, thiserror::Error)]
#[error("grammar {file}, line {line}: {what}")]
pub struct GrammarError {
    file: &'static str,
    line: usize,
    what: &'static str,
}

/// Generates up to `each` different texts for every sentence of every grammar.
///
/// # Errors
/// When a line is neither a slot nor a sentence, or uses an unknown slot.
pub fn write(each: usize, chance: &mut Chance) -> Result<Vec<Row>, GrammarError> {
    let mut rows: Vec<Row> = Vec::new();
    for &(file, text, weight, times) in FILES {
        let each = each * times;
        let attacks = rows.iter().filter(|row| row.label.attack() && row.text.len() <= QUOTED && row.source == "grammar:en");
        // Braces and the like would be parsed as grammar.
        let attacks = attacks.step_by(KEPT).map(|row| row.text.clone()).filter(|text| !text.contains(['{', '(', '%', '"', '`', '\n']));
        let attacks: Vec<String> = attacks.collect();
        let mut slots: HashMap<&str, Vec<&str>> = HashMap::from([(ATTACK, attacks.iter().map(String::as_str).collect())]);
        for (index, line) in text.lines().enumerate() {
            let wrong = |what| GrammarError { file, line: index + 1, what };
            let line = line.trim();
            if line.is_empty() || line.starts_with('%') {
                continue;
            }
            if let Some((name, values)) = line.split_once(" = ") {
                slots.insert(name.trim(), values.split(" | ").map(str::trim).collect());
                continue;
            }
            let (kind, template) = line.split_once(':').ok_or_else(|| wrong("neither a slot nor a sentence"))?;
            let label = match kind {
                "injection" => Label::Injection,
                "jailbreak" => Label::Jailbreak,
                "benign" => Label::Benign,
                _ => return Err(wrong("neither injection, jailbreak nor benign")),
            };
            let mut seen = HashSet::new();
            for _ in 0..each * 2 {
                if seen.len() == each {
                    break;
                }
                let mut written = String::new();
                expand(template.trim(), &slots, chance, &mut written, 0).map_err(wrong)?;
                if seen.insert(written.clone()) {
                    rows.push(Row {
                        text: fold(&written.replace('¶', "\n")).text().to_owned(),
                        views: Vec::new(),
                        label,
                        cluster: format!("{file}:{index}"),
                        source: format!("grammar:{file}"),
                        weight,
                        aid: true,
                    });
                }
            }
        }
    }
    Ok(rows)
}

/// Most slots nested in slots.
const DEPTH: usize = 12;

fn expand(
    template: &str,
    slots: &HashMap<&str, Vec<&str>>,
    chance: &mut Chance,
    out: &mut String,
    depth: usize,
) -> Result<(), &'static str> {
    if depth > DEPTH {
        return Err("slots without end");
    }
    let mut rest = template;
    while let Some(at) = rest.find(['{', '(', '%']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("%gibberish%") {
            gibberish(chance, out);
            rest = after;
        } else if rest.starts_with('(') {
            let close = closing(rest).ok_or("a bracket is open")?;
            let choices = alternatives(&rest[1..close]);
            let choice = chance.one(&choices).copied().unwrap_or_default();
            expand(choice, slots, chance, out, depth + 1)?;
            rest = &rest[close + 1..];
        } else if let Some((name, after)) =
            rest.strip_prefix('{').and_then(|inner| inner.split_once('}')).filter(|(name, _)| slots.contains_key(name))
        {
            let choice = slots.get(name).and_then(|values| chance.one(values)).copied().unwrap_or_default();
            expand(choice, slots, chance, out, depth + 1)?;
            rest = after;
        } else if rest.starts_with('{') && rest[1..].starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err("no such slot");
        } else {
            out.push_str(&rest[..1]);
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    Ok(())
}

/// The offset of the bracket that closes the one at the beginning.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' => depth += 1,
            b')' if depth == 1 => return Some(at),
            b')' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// The alternatives between bars, ignoring bars in nested brackets.
fn alternatives(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0usize, 0, Vec::new());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' | b'{' => depth += 1,
            b')' | b'}' => depth = depth.saturating_sub(1),
            b'|' if depth == 0 => {
                found.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(&text[start..]);
    found
}

/// Pieces of words, code and punctuation for gibberish.
const SCRAPS: &[&str] = &[
    "describing",
    "similarly",
    "Now",
    "write",
    "oppositely",
    "revert",
    "Sure",
    "tutorial",
    "Here",
    "table",
    "Format",
    "listing",
    "ably",
    "ish",
    "Bedeut",
    "sierp",
    "ahora",
    "como",
    "texto",
    "oraz",
    "Ident",
    "ierarch",
    "usercontent",
    "Latex",
    "begin",
    "Macro",
    "enumer",
    "Widget",
    "Render",
    "span",
    "printf",
    "null",
    "Ctrl",
    "foreach",
    "regex",
    "kwargs",
    "Dictionary",
    "XIX",
    "Paris",
    "zwei",
    "lire",
    "avant",
    "naar",
    "voor",
    "было",
    "который",
    "года",
    "ный",
    "ство",
    "的",
    "能",
    "ें",
    "ión",
    "ção",
    "ście",
    "łat",
    "Pointer",
    "Async",
    "Mutable",
    "override",
    "sentence",
    "paragraph",
    "reply",
    "step",
    "Step",
    "Title",
    "answer",
    "Great",
    "Absolutely",
    "two",
    "three",
    "interface",
    "contrib",
    "http",
    "www",
    "github",
    "emb",
    "Vorlage",
    "Geme",
    "archiv",
    "quelle",
    "Einzeln",
    "instance",
    "Serial",
    "typeof",
    "sqrt",
    "cdot",
    "frac",
    "textbf",
    "hline",
    "href",
    "img",
    "div",
    "ecto",
    "ulation",
    "ANT",
    "OUR",
    "ING",
];
const SIGNS: &[&str] = &[
    "!", "!!", "--", "\\", "\\\"", "](", "})", "({", "[[", "]]", "=\"", "<<", ">`", "`", "``", "$$", "\\(", "\\{", "**", "+", "_{", "^{",
    "|", "||", ";)", "::", "/*", "*/", "<!--", "%%", "#", "@", "{%", "}.", ").", "\")", "'](", "?>", "=>", "\\n", "\\_", "&&", "{\"",
    "\"}", "...", "¿", "»", "ː", "→",
];

/// Appends a suffix like those found by a search over a model's tokens.
fn gibberish(chance: &mut Chance, out: &mut String) {
    if chance.happens(15) {
        let mark = chance.one(&["! ", "! ! ", "x ", "* ", "? "]).copied().unwrap_or_default();
        out.push_str(&mark.repeat(12 + chance.below(14)));
        return;
    }
    for _ in 0..8 + chance.below(18) {
        let sign = chance.happens(45);
        out.push_str(chance.one(if sign { SIGNS } else { SCRAPS }).copied().unwrap_or_default());
        if chance.happens(if sign { 35 } else { 60 }) {
            out.push(' ');
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_grammars_write_many_different_texts_of_every_kind() {
        let rows = write(4, &mut Chance::new(1)).expect("good grammars");
        for label in [Label::Injection, Label::Jailbreak, Label::Benign] {
            let texts: HashSet<&str> = rows.iter().filter(|row| row.label == label).map(|row| row.text.as_str()).collect();
            assert!(texts.len() > 150, "{label:?}: {}", texts.len());
        }
        assert!(rows.iter().all(|row| !row.text.contains("%gibberish%") && !row.text.contains("(|")));
    }

    #[test]
    fn the_same_seed_writes_the_same() {
        let texts = |seed| write(2, &mut Chance::new(seed)).expect("good grammars").into_iter().map(|row| row.text).collect::<Vec<_>>();
        assert_eq!(texts(7), texts(7));
        assert_ne!(texts(7), texts(8));
    }

    #[test]
    fn brackets_nest_and_slots_have_to_exist() {
        let slots = HashMap::from([("a", vec!["x(1|2)"])]);
        let mut out = String::new();
        expand("{a}-(p(q|r)|)s", &slots, &mut Chance::new(3), &mut out, 0).expect("a good template");
        assert!(out.starts_with('x') && out.ends_with('s'), "{out}");
        assert!(expand("{b}", &slots, &mut Chance::new(3), &mut out, 0).is_err());
        assert!(expand("(a|b", &slots, &mut Chance::new(3), &mut out, 0).is_err());
    }
}
