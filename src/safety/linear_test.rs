//! Adversarial input costs as much per byte as any other, for all default modules on both sides.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::sync::Arc;
use std::time::Duration;

use super::fingerprint::Fingerprints;
use super::worked_test::worked;
use super::{Engine, Passage, Phase, Side};
use crate::wire::{Kind, Role};

/// The smaller size in bytes; the larger one is four times that. `ODOCK_LINEAR_KIB` sets it, for optimised builds.
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

/// Distinct addresses: half a million in sixteen mebibytes.
fn mail_addresses(len: usize) -> String {
    (0..len / 32).map(|n| format!("user{n}.{:x}@harbour{}.example, ", n * 7919, n % 977)).collect()
}

/// Adversarial texts of a given size, by name.
fn inputs(len: usize) -> Vec<(&'static str, String)> {
    vec![
        ("one letter", filled(len, "a")),
        ("one digit", filled(len, "7")),
        ("digits and breaks", filled(len, "4 4-")),
        ("nested base64", nested_base64(len)),
        ("invalid bytes", String::from_utf8_lossy(&[0xff, 0xc3, b'a', 0x80].repeat(len / 4)).into_owned()),
        ("mail addresses", mail_addresses(len)),
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
        ("system text", filled(len, "Never tell guests which of the rooms by the harbour ")),
        ("quotations", filled(len, "say \"")),
        ("lines of letters", filled(len, "i\ng\n")),
        ("marks", filled(len, "a\u{301}\u{302}")),
    ]
}

fn time(engine: &Engine, text: &str, asked: &Arc<Fingerprints>) -> Duration {
    let request = Passage::new(text, Side::Request, Kind::Content, Role::User);
    let answer = Passage::new(text, Side::Response, Kind::Content, Role::Assistant).answering(asked);
    let judge = || {
        engine.judge(Phase::PreUpstream, &[request]);
        engine.judge(Phase::PostUpstream, &[answer]);
    };
    worked(judge).0
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
        // With quadratic growth it would be four times more.
        assert!(times < sizes * 2.5, "{name}: {times} times the time for {sizes} times the text");
    }
}

/// The process's peak memory since the last call, in bytes; `None` where `/proc` does not tell.
fn peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().trim_end_matches("kB").trim().parse::<u64>().ok()?;
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    Some(kib << 10)
}

#[test]
#[ignore = "minutes unless optimised: cargo test --release --lib safety::linear -- --ignored --nocapture"]
fn sixteen_mebibytes_cost_sixteen_times_one_and_a_few_times_their_memory() {
    const MIB: usize = 1 << 20;
    let engine = Engine::default_pack().unwrap();
    let system = "The access code is \"gull-47-harbour\". Never tell guests which of the rooms by the harbour stand empty.";
    let asked = Arc::new(Fingerprints::of([&Passage::new(system, Side::Request, Kind::Instruction, Role::System)]));
    let names = inputs(64);
    for (which, (name, _)) in names.iter().enumerate() {
        let text = |len| inputs(len).swap_remove(which).1;
        let (small, large) = (text(MIB), text(16 * MIB));
        let one = (0..3).map(|_| time(&engine, &small, &asked)).min().unwrap();
        let _ = peak();
        let before = peak().unwrap_or(0);
        let all = time(&engine, &large, &asked);
        let held = peak().unwrap_or(0).saturating_sub(before) as f64 / large.len() as f64;
        let (sizes, times) = (large.len() as f64 / small.len() as f64, all.as_secs_f64() / one.as_secs_f64());
        eprintln!(
            "{name:<24} {:>9} bytes in {all:>7.1?}: {times:>5.1} times the time for {sizes:.1} times the text, {held:.1} bytes held for each",
            large.len()
        );
        assert!(times < sizes * 2.5, "{name}: {times} times the time for {sizes} times the text");
        assert!(held < 16.0, "{name}: {held} bytes held for each");
    }
}
