//! Runs the cases beside the detectors: published forms of keys and numbers, in typical surroundings.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::*;

/// A text with the expected finds: category and place.
type Case = (String, Vec<(String, Range<usize>)>);

/// Parses a line: `‹kind:value›` is an expected find, a middle dot is removed, a backslash begins an escape.
fn case(line: &str) -> Case {
    let (mut text, mut finds) = (String::new(), Vec::new());
    let mut open: Option<(String, usize)> = None;
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            '·' => {}
            '‹' => open = Some((rest.by_ref().take_while(|c| *c != ':').collect(), text.len())),
            '›' => {
                let (kind, start) = open.take().unwrap();
                finds.push((kind, start..text.len()));
            }
            '\\' => text.push(match rest.next().unwrap() {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                other => other,
            }),
            other => text.push(other),
        }
    }
    assert!(open.is_none(), "an open mark in {line}");
    (text, finds)
}

fn cases() -> Vec<Case> {
    include_str!("cases.txt").lines().filter(|line| !line.is_empty() && !line.starts_with("# ")).map(case).collect()
}

fn found(detector: &Detector, finds: Vec<Find>) -> Vec<(String, Range<usize>)> {
    finds.into_iter().map(|find| (detector.name(find.kind).to_owned(), find.span)).collect()
}

#[test]
fn every_case_has_what_is_marked_and_nothing_else() {
    let detector = Detector::new(Entity::ALL, Vec::new());
    let mut wrong = Vec::new();
    let (mut with, mut without) = (0, 0);
    for (text, marked) in cases() {
        *if marked.is_empty() { &mut without } else { &mut with } += 1;
        let found = found(&detector, detector.scan(&text));
        if found != marked {
            wrong.push(format!("{text:?}\n  marked {marked:?}\n  found  {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(with >= 120 && without >= 80, "{with} with and {without} without");
}

#[test]
fn every_case_in_two_pieces_is_the_same() {
    let detector = Arc::new(Detector::new(Entity::ALL, Vec::new()));
    for (text, marked) in cases() {
        for cut in (0..=text.len()).filter(|cut| text.is_char_boundary(*cut)) {
            let mut stream = Stream::new(Arc::clone(&detector));
            let (mut finds, mut late) = (Vec::new(), Vec::new());
            let settled = stream.feed(&text[..cut], |find| finds.push(find));
            stream.feed(&text[cut..], |find| late.push(find));
            stream.finish(|find| late.push(find));
            assert!(late.iter().all(|find| find.span.start >= settled), "{text:?} at {cut}: {late:?} before {settled}");
            finds.extend(late);
            assert_eq!(found(&detector, finds), marked, "{text:?} at {cut}");
        }
    }
}

/// The finds are the same with other line ends, within quotes, or wrapped by a mail program.
#[test]
fn surroundings_do_not_hide_a_value() {
    let detector = Detector::new(Entity::ALL, Vec::new());
    for (text, marked) in cases().into_iter().filter(|(_, marked)| !marked.is_empty()) {
        for (before, after) in
            [("\r\n", "\r\n"), ("> ", "\n> -- "), ("+ ", "\n"), ("    ", "\t"), ("Привет\n", "\nпока"), ("```\n", "\n```")]
        {
            let whole = format!("{before}{text}{after}");
            let moved: Vec<_> =
                marked.iter().map(|(kind, span)| (kind.clone(), span.start + before.len()..span.end + before.len())).collect();
            assert_eq!(found(&detector, detector.scan(&whole)), moved, "{whole:?}");
        }
    }
}
