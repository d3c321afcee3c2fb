//! Whatever the body: texts say where they stand, and a body with some of them replaced is JSON again, with the new texts
//! in their places and everything else as it was.
#![no_main]

#[allow(dead_code)]
#[path = "../../../src/error.rs"]
mod error;
#[allow(dead_code)]
#[path = "../../../src/wire/mod.rs"]
mod wire;

use std::ops::Range;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&[u8], u64, &str)| {
    let (body, chosen, new) = input;
    let mut spans: Vec<Range<usize>> = Vec::new();
    if wire::texts(body, &mut |text| spans.push(text.span)).is_err() {
        return;
    }
    let edits: Vec<(Range<usize>, String)> = spans
        .iter()
        .enumerate()
        .filter(|(index, _)| chosen >> (index % 64) & 1 == 1)
        .map(|(_, span)| (span.clone(), new.to_owned()))
        .collect();
    let spliced = wire::splice(body, &edits).expect("the walk gives places that can be replaced");
    assert!(serde_json::from_slice::<serde::de::IgnoredAny>(&spliced).is_ok());
    for (span, text) in &edits {
        let grown: isize =
            edits.iter().filter(|(other, _)| other.start < span.start).map(|(other, text)| encoded(text) - other.len() as isize).sum();
        let start = (span.start as isize + grown) as usize;
        let value = &spliced[start - 1..start + encoded(text) as usize + 1];
        assert_eq!(serde_json::from_slice::<String>(value).ok().as_deref(), Some(text.as_str()));
    }
});

/// How long a text is inside its quotes.
fn encoded(text: &str) -> isize {
    serde_json::to_string(text).map_or(0, |json| json.len() as isize - 2)
}
