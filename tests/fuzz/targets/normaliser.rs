//! Whatever the text: offsets lead back in bounds, on borders of characters and in order, and views stay within theirs.
#![no_main]

#[allow(dead_code)]
#[path = "../../../src/safety/normal/mod.rs"]
mod normal;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|raw: &str| {
    let folded = normal::fold(raw);
    let text = folded.text();
    assert_eq!(text.len(), folded.cased().len());
    let mut before = 0..0;
    let mut start = 0;
    for (at, c) in text.char_indices() {
        assert_eq!(at, start);
        start = at + c.len_utf8();
        assert!(folded.cased().is_char_boundary(at));
        let range = folded.original(at..start);
        assert!(raw.get(range.clone()).is_some_and(|part| !part.is_empty()));
        assert!(range.start >= before.start && range.end >= before.end);
        before = range;
    }
    let views = normal::views(raw, &folded);
    assert!(views.found.len() <= 64);
    assert!(views.found.iter().map(|view| view.text.len()).sum::<usize>() <= raw.len() + 4096);
    for view in &views.found {
        assert!(raw.get(view.source.clone()).is_some_and(|part| !part.is_empty()));
        assert_eq!(view.text.len(), view.cased.len());
    }
});
