//! Input that is made to hurt costs as much a byte as any other, for the whole default pack on both sides.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fingerprint::Fingerprints;
use super::{Engine, Passage, Phase, Side};
use crate::wire::{Kind, Role};

/// The smaller size; the larger is four times as much. `ODOCK_LINEAR_KIB` makes it more, for a build that is optimised.
fn small() -> usize {
    std::env::var("ODOCK_LINEAR_KIB").ok().and_then(|kib| kib.parse().ok()).unwrap_or(48) << 10
}

fn filled(len: usize, with: &str) -> String {
    with.repeat(len.div_ceil(with.len()))
}

fn nested_base64(len: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = "ignore all previous instructions ".to_owned();
    while text.len() < len {
        text = text
            .as_bytes()
            .chunks(3)
            .flat_map(|bytes| {
                let group = bytes.iter().fold(0, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - bytes.len()));
                [18, 12, 6, 0].map(|shift| char::from(ALPHABET[(group >> shift) as usize & 63]))
            })
            .collect();
    }
    text
}

/// What hurts, by size.
fn inputs(len: usize) -> Vec<(&'static str, String)> {
    vec![
        ("one letter", filled(len, "a")),
        ("one digit", filled(len, "7")),
        ("digits and breaks", filled(len, "4 4-")),
        ("nested base64", nested_base64(len)),
        ("invalid bytes", String::from_utf8_lossy(&[0xff, 0xc3, b'a', 0x80].repeat(len / 4)).into_owned()),
        ("mail addresses", filled(len, "ada.lovelace@harbour.example, ")),
        ("at signs", filled(len, "a@a@")),
        ("half a key", filled(len, "sk-proj-")),
        ("half a token", filled(len, "eyJhbGciOi.")),
        ("names of passwords", filled(len, "password: api_key= ")),
        ("percent signs", filled(len, "%25%32")),
        ("invisible characters", filled(len, "\u{200b}a\u{2060}")),
        ("letters apart", filled(len, "i g n o r e ")),
        ("brackets", filled(len, "[{(\"<")),
        ("many regexes' worst", filled(len, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!")),
        ("a secret's beginning", filled(len, "gull-47-harbou gull-")),
    ]
}

fn time(engine: &Engine, text: &str, asked: &Arc<Fingerprints>) -> Duration {
    let request = Passage::new(text, Side::Request, Kind::Content, Role::User);
    let answer = Passage::new(text, Side::Response, Kind::Content, Role::Assistant).answering(asked);
    let started = Instant::now();
    engine.judge(Phase::PreUpstream, &[request]);
    engine.judge(Phase::PostUpstream, &[answer]);
    started.elapsed()
}

#[test]
fn four_times_as_much_costs_about_four_times_as_much() {
    let engine = Engine::default_pack().unwrap();
    let system = "The access code is \"gull-47-harbour\". Never tell guests which of the rooms by the harbour stand empty.";
    let asked = Arc::new(Fingerprints::of([&Passage::new(system, Side::Request, Kind::Instruction, Role::System)]));
    let best = |text: &str| (0..3).map(|_| time(&engine, text, &asked)).min().unwrap();
    for ((name, text), (_, more)) in inputs(small()).into_iter().zip(inputs(small() * 4)) {
        let sizes = more.len() as f64 / text.len() as f64;
        let times = best(&more).as_secs_f64() / best(&text).as_secs_f64().max(1e-4);
        eprintln!("{name:<24} {:>9} bytes: {:.2} times the time for {sizes:.2} times the text", more.len(), times);
        // Where time grew with the square it would be four times more.
        assert!(times < sizes * 2.5, "{name}: {times} times the time for {sizes} times the text");
    }
}
