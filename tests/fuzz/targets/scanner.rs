//! Whatever the text and its cuts: the incremental scanner finds what the whole scan finds, settles no byte that becomes
//! part of a later find, and never takes back what it settled.
#![no_main]

#[allow(dead_code)]
#[path = "../../../src/safety/entity/mod.rs"]
mod entity;

use std::sync::{Arc, LazyLock};

use entity::{Detector, Entity, Stream};
use libfuzzer_sys::fuzz_target;

static DETECTOR: LazyLock<Arc<Detector>> = LazyLock::new(|| Arc::new(Detector::new(Entity::ALL, Vec::new())));

fuzz_target!(|input: (&str, Vec<u8>)| {
    let (text, cuts) = input;
    let whole: Vec<_> = DETECTOR.scan(text).into_iter().map(|find| (find.span, find.kind)).collect();
    let mut stream = Stream::new(Arc::clone(&DETECTOR));
    let mut found = Vec::new();
    let (mut settled, mut at) = (0, 0);
    let mut sizes = cuts.into_iter().cycle();
    while at < text.len() {
        let mut end = (at + 1 + usize::from(sizes.next().unwrap_or(u8::MAX))).min(text.len());
        while !text.is_char_boundary(end) {
            end += 1;
        }
        let known = found.len();
        let now = stream.feed(&text[at..end], |find| found.push((find.span, find.kind)));
        assert!(now >= settled && now <= end);
        assert!(found[known..].iter().all(|(span, _)| span.start >= settled), "a settled byte is part of a find");
        (settled, at) = (now, end);
    }
    let known = found.len();
    stream.finish(|find| found.push((find.span, find.kind)));
    assert!(found[known..].iter().all(|(span, _)| span.start >= settled), "a settled byte is part of a find");
    assert_eq!(found, whole);
});
