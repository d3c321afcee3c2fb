//! What does scanning a text cost? Microseconds on one core for prompts and answers of 0.2, 2, 8 and 32 KiB, clean and
//! dirty, for each module and for all together; for a chat as applications send it; and for a text seen before. `cargo
//! bench --bench safety -- [--assert] [DATA]`
//!
//! Texts are taken from the labelled rows in `../shared/data` (or `DATA`, or `ODOCK_SAFETY_DATA`), so that they are real
//! prose. Each is scanned once before it is measured, by an engine without a cache.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::hint::black_box;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use odock_edge::safety::fingerprint::Fingerprints;
use odock_edge::safety::{Built, Engine, Member, Mode, Passage, Phase, SessionRule, Side, modules, verdicts};
use odock_edge::wire::{Kind, Role};
use serde_json::Value;

const KIB: usize = 1024;
/// 0.2, 2, 8 and 32 KiB.
const SIZES: [usize; 4] = [KIB / 5, 2 * KIB, 8 * KIB, 32 * KIB];

/// Upper bounds: (module or `all`, bytes, µs).
const BARS: [(&str, usize, f64); 4] =
    [("all", 2 * KIB, 50.0), ("all", 8 * KIB, 150.0), ("all", 32 * KIB, 400.0), ("sensitive_redaction", 2 * KIB, 10.0)];
/// The upper bound for a text of 2 KiB seen before, in µs.
const SEEN_BAR: f64 = 1.0;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let asserting = arguments.iter().any(|argument| argument == "--assert");
    let given = arguments.iter().find(|argument| !argument.starts_with("--")).cloned().or_else(|| std::env::var("ODOCK_SAFETY_DATA").ok());
    let folder = given.map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/data"), PathBuf::from);
    let Some(corpus) = Corpus::read(&folder) else {
        eprintln!("skipped: no labelled text in {}", folder.display());
        return ExitCode::SUCCESS;
    };
    let mut over = Vec::new();
    let mut names: Vec<&str> = modules::BUILT_IN.iter().map(|blueprint| blueprint.name).collect();
    names.push("all");
    println!(
        "{:<22} {:<9} {:<6} {:>9} {:>9} {:>9} {:>9}   MB/s at 32 KiB",
        "module", "side", "text", "0.2 KiB", "2 KiB", "8 KiB", "32 KiB"
    );
    for name in names {
        let engine = engine(name, false);
        for side in [Side::Request, Side::Response] {
            for (text, dirty) in [("clean", false), ("dirty", true)] {
                let micros = SIZES.map(|size| median(&engine, side, &corpus.texts(size, dirty), &corpus.asked));
                if micros.iter().all(|micros| *micros < 0.05) {
                    continue; // It does not read this side.
                }
                let [small, two, eight, most] = micros;
                let rate = SIZES[3] as f64 / most;
                println!("{name:<22} {:<9} {text:<6} {small:>9.1} {two:>9.1} {eight:>9.1} {most:>9.1}   {rate:.0}", word(side));
                for (bar, size, limit) in BARS.into_iter().filter(|(bar, ..)| *bar == name && !dirty) {
                    let micros = SIZES.iter().zip(micros).find(|(at, _)| **at == size).map_or(0.0, |(_, micros)| micros);
                    if micros > limit {
                        over.push(format!("{bar}, {} of {size} bytes: {micros:.1} µs, at most {limit}", word(side)));
                    }
                }
            }
        }
    }
    let engine = engine("all", false);
    println!("\na chat of six messages, {} bytes: {:.1} µs a request", corpus.chat_bytes(), chat(&engine, &corpus));
    let remembering = self::engine("all", true);
    println!("the same, every message seen before: {:.1} µs", chat(&remembering, &corpus));
    let few: Vec<String> = corpus.texts(2 * KIB, false).into_iter().take(8).collect();
    let seen = median(&remembering, Side::Request, &few, &corpus.asked);
    println!("one message of 2 KiB seen before: {seen:.2} µs (a hash and a look)");
    if seen > SEEN_BAR {
        over.push(format!("a message seen before: {seen:.2} µs, at most {SEEN_BAR}"));
    }
    for line in &over {
        eprintln!("over the bar: {line}");
    }
    if asserting && !over.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

const fn word(side: Side) -> &'static str {
    match side {
        Side::Request => "request",
        Side::Response => "response",
    }
}

/// An engine with one module, or with all.
fn engine(name: &str, remembering: bool) -> Engine {
    let members = modules::BUILT_IN.iter().filter(|blueprint| name == "all" || blueprint.name == name).filter_map(|blueprint| {
        let built = Built::new(blueprint, &serde_json::json!({})).ok()?;
        let policy = built.policy();
        Some(Member { built: Arc::new(built), policy })
    });
    Engine::new(Mode::Security, SessionRule::default(), members.collect(), if remembering { verdicts(100_000) } else { None })
}

/// The median over the texts of the fastest of several scans, in µs.
fn median(engine: &Engine, side: Side, texts: &[String], asked: &Arc<Fingerprints>) -> f64 {
    const LOOKS: usize = 7;
    let phase = if side == Side::Request { Phase::PreUpstream } else { Phase::PostUpstream };
    let role = if side == Side::Request { Role::User } else { Role::Assistant };
    let mut times: Vec<f64> = texts
        .iter()
        .map(|text| {
            let best = (0..LOOKS).map(|_| {
                let passage = Passage::new(text, side, Kind::Content, role);
                let passages = [if side == Side::Response { passage.answering(asked) } else { passage }];
                let started = Instant::now();
                let judgement = engine.judge(phase, black_box(&passages));
                let took = started.elapsed();
                black_box(judgement);
                took
            });
            best.min().unwrap_or_default().as_nanos() as f64 / 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(0.0)
}

/// A request with a system prompt and five turns, in µs.
fn chat(engine: &Engine, corpus: &Corpus) -> f64 {
    const ROUNDS: usize = 51;
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let passages: Vec<Passage<'_>> =
                corpus.chat.iter().map(|(role, kind, text)| Passage::new(text, Side::Request, *kind, *role)).collect();
            let started = Instant::now();
            let judgement = engine.judge(Phase::PreUpstream, black_box(&passages));
            let took = started.elapsed();
            black_box(judgement);
            took.as_nanos() as f64 / 1e3
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times.get(ROUNDS / 2).copied().unwrap_or(0.0)
}

/// The texts to scan.
struct Corpus {
    clean: String,
    dirty: String,
    asked: Arc<Fingerprints>,
    chat: Vec<(Role, Kind, String)>,
}

impl Corpus {
    fn read(folder: &std::path::Path) -> Option<Self> {
        let rows = |file: &str| -> Option<Vec<Value>> {
            let text = std::fs::read_to_string(folder.join(file)).ok()?;
            Some(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
        };
        let (prompts, secrets, leaks) = (rows("injection.dev.jsonl")?, rows("secrets.dev.jsonl")?, rows("leakage.dev.jsonl")?);
        let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let join = |texts: Vec<String>| texts.join("\n\n");
        let plain: Vec<&Value> = prompts.iter().filter(|row| row["label"] == 0 && row["kind"] == "benign").collect();
        let clean = join(plain.iter().map(|row| text(row, "text")).collect());
        let attacks = prompts.iter().filter(|row| row["label"] == 1).map(|row| text(row, "text"));
        let keys = secrets.iter().filter(|row| row["label"] == 1).map(|row| text(row, "text"));
        let dirty = join(attacks.zip(keys).flat_map(|(attack, key)| [attack, key]).collect());
        let system = text(leaks.iter().find(|row| text(row, "system").len() > 2000)?, "system");
        let asked = Arc::new(Fingerprints::of([&Passage::new(&system, Side::Request, Kind::Instruction, Role::System)]));
        let mut chat = vec![(Role::System, Kind::Instruction, cut(&system, 1500))];
        for (n, row) in plain.iter().filter(|row| (150..900).contains(&text(row, "text").len())).take(5).enumerate() {
            chat.push((if n % 2 == 0 { Role::User } else { Role::Assistant }, Kind::Content, text(row, "text")));
        }
        Some(Self { clean, dirty, asked, chat })
    }

    /// Up to 64 different texts of about this size.
    fn texts(&self, size: usize, dirty: bool) -> Vec<String> {
        let from = if dirty { &self.dirty } else { &self.clean };
        let step = (from.len() / 64).max(size);
        let starts = (0..64).map(|n| n * step).take_while(|start| start + size <= from.len());
        starts.map(|start| cut(&from[(start..).find(|at| from.is_char_boundary(*at)).unwrap_or(0)..], size)).collect()
    }

    fn chat_bytes(&self) -> usize {
        self.chat.iter().map(|(_, _, text)| text.len()).sum()
    }
}

fn cut(text: &str, size: usize) -> String {
    let end = (0..=size.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[..end].to_owned()
}
