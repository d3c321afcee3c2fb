//! A log is written by the real writer, then damaged in every way, and verified.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use proptest::prelude::*;

use super::*;
use crate::config::{EvidenceSettings, SigningKey};
use crate::error::{Denial, codes};
use crate::gate::{Decision, End as RequestEnd, Execution, External, Facts, Finished, Gate, Outcome, RequestId, Style, Unenforced};
use crate::plugin::Mode;
use crate::telemetry::{EvidenceMetrics, Metrics};
use crate::wire::{Dialect, Endpoint, Usage, UsageSource};

const PATIENCE: Duration = Duration::from_secs(20);
const TOOK: Duration = Duration::from_millis(3);

fn settings(path: &Path) -> EvidenceSettings {
    EvidenceSettings {
        enabled: true,
        path: path.to_owned(),
        rotate: 1 << 20,
        checkpoint_every: 4,
        checkpoint_interval: Duration::from_secs(600),
        queue: 1024,
        signing_key: SigningKey::File(path.join("signing.pk8")),
    }
}

fn start(settings: &EvidenceSettings) -> (Evidence, EvidenceMetrics) {
    let metrics = Metrics::new().unwrap().evidence();
    let signer = Arc::new(Signer::load(&settings.signing_key).unwrap());
    (Evidence::start(settings, signer, metrics.clone()).unwrap(), metrics)
}

fn execution(decision: Decision) -> Execution {
    Execution {
        plugin: Arc::from("dlp"),
        kind: "http_callout",
        gate: Gate::PreUpstream,
        style: Style::Sequential,
        mode: Mode::Enforce,
        decision,
        changed_request: decision == Decision::Changed,
        changed_response: false,
        code: (decision == Decision::Blocked).then_some("dlp_blocked".into()),
        scope: Some("teams:support".to_owned()),
        error: None,
        external: Some(External { system: "dlp.internal:443".to_owned(), delivery_id: Some("d-1".to_owned()) }),
        notes: vec![("entities", "2".to_owned()), ("categories", "email\nphone".to_owned())],
        started: Duration::from_micros(120),
        took: Duration::from_micros(45),
        response_path: true,
    }
}

fn finished(id: u8) -> Arc<Finished> {
    let facts = Facts {
        id: RequestId([id; 16]),
        trace_id: None,
        caller_request_id: Some("mine-1".to_owned()),
        received: Instant::now(),
        received_at: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        route: Arc::from("openai"),
        endpoint: Endpoint::ChatCompletions,
        dialect: Dialect::OpenAi,
        method: http::Method::POST,
        path: "/v1/chat/completions".to_owned(),
        client_ip: None,
        user_agent: Some("canary-agent".to_owned()),
        caller: None,
        requested_model: Some("tell me a secret canary".to_owned()),
        provider: Some(Arc::from("openai")),
        slug: Some(Arc::from("gpt-5")),
        stream: false,
    };
    let outcome = Outcome {
        status: 403,
        denial: Some(Denial::of(codes::PLUGIN_BLOCKED)),
        end: RequestEnd::Blocked,
        attempts: 1,
        usage: Usage { input: 10, cached: 4, total: 10, source: UsageSource::Provider, ..Usage::default() },
        upstream_ms: Some(1.5),
        overhead_us: 80,
        bytes_in: 120,
        bytes_out: 90,
        bytes_received: 90,
        provider_request_id: Some("req_1".to_owned()),
        unenforced: Unenforced::default(),
        shadowed: Vec::new(),
    };
    Arc::new(Finished {
        facts,
        model: Some("smart".to_owned()),
        tags: vec![("cost_centre".to_owned(), "42".to_owned())],
        executions: vec![execution(Decision::Changed), execution(Decision::Blocked)],
        safety: Vec::new(),
        outcome,
    })
}

fn policy() -> Policy {
    Policy::new("00112233aabbccdd", "c0ffee")
}

/// One run of a process that records this many requests and shuts down in good order.
fn run(settings: &EvidenceSettings, requests: u8) {
    let (evidence, _) = start(settings);
    for id in 0..requests {
        evidence.record(&finished(id), &policy(), TOOK);
    }
    assert!(evidence.close(PATIENCE));
}

/// A closed log in one file.
fn written(requests: u8) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    run(&settings(dir.path()), requests);
    let path = dir.path().join("evidence-000001.jsonl");
    (dir, path)
}

/// A fresh copy of one closed log of nine requests, for each case to damage.
fn copied() -> (tempfile::TempDir, PathBuf) {
    static ORIGINAL: std::sync::OnceLock<(tempfile::TempDir, PathBuf)> = std::sync::OnceLock::new();
    let (original, _) = ORIGINAL.get_or_init(|| written(9));
    let dir = tempfile::tempdir().unwrap();
    for name in ["evidence-000001.jsonl", Anchor::FILE, PUBLIC_FILE] {
        fs::copy(original.path().join(name), dir.path().join(name)).unwrap();
    }
    let path = dir.path().join("evidence-000001.jsonl");
    (dir, path)
}

fn check(dir: &Path) -> Report {
    let mut reports = verify_directory(dir, None, false).unwrap();
    assert_eq!(reports.len(), 1);
    reports.remove(0).1
}

fn faults(report: &Report) -> Vec<(Fault, u64)> {
    report.findings.iter().map(|finding| (finding.fault, finding.line)).collect()
}

#[test]
fn a_record_says_all_that_was_decided_and_nothing_that_was_said() {
    let (dir, path) = written(1);
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains("canary"), "{text}");
    let found = show(dir.path(), &RequestId([0; 16]).to_string()).unwrap();
    assert_eq!((found.len(), found[0].line), (1, 3));
    let entry = &found[0].entry;
    for (field, value) in [
        ("at", r#""2027-01-15T08:00:00.000000Z""#),
        ("attempts", "1"),
        ("bytes_in", "120"),
        ("bytes_out", "90"),
        ("caller_request_id", r#""mine-1""#),
        ("chain", r#""00112233aabbccdd""#),
        ("code", r#""plugin_blocked""#),
        ("config", r#""c0ffee""#),
        ("dialect", r#""openai""#),
        ("end", r#""blocked""#),
        ("endpoint", r#""chat_completions""#),
        ("kind", r#""request""#),
        ("method", r#""POST""#),
        ("model", r#""smart""#),
        ("overhead_us", "80"),
        ("provider", r#""openai""#),
        ("provider_model", r#""gpt-5""#),
        ("provider_request_id", r#""req_1""#),
        ("request_id", r#""00000000000000000000000000000000""#),
        ("requested_model", "null"),
        ("route", r#""openai""#),
        ("status", "403"),
        ("stream", "false"),
        ("tags", r#"{"cost_centre":"42"}"#),
        ("upstream_us", "1500"),
        ("usage", r#"{"cached":4,"input":10,"output":0,"reasoning":0,"source":"provider","total":10}"#),
    ] {
        assert_eq!(entry[field].to_string(), value, "{field}");
    }
    assert_eq!(
        entry["executions"][1].to_string(),
        concat!(
            r#"{"action":"blocked","changed_request":false,"changed_response":false,"code":"dlp_blocked","delivery_id":"d-1","#,
            r#""duration_us":45,"external_system":"dlp.internal:443","mode":"enforce","moment":"pre_upstream","#,
            r#""notes":{"categories":"email phone","entities":"2"},"path":"response","plugin":"dlp","plugin_kind":"http_callout","#,
            r#""scope":"teams:support","started_us":120,"style":"sequential","visible":"refused"}"#
        )
    );
}

#[test]
fn entries_are_canonical() {
    fn sorted(value: &serde_json::Value) -> String {
        match value {
            serde_json::Value::Object(map) => {
                let map: std::collections::BTreeMap<_, _> = map.iter().collect();
                let fields: Vec<String> = map.iter().map(|(k, v)| format!("{}:{}", serde_json::json!(k), sorted(v))).collect();
                format!("{{{}}}", fields.join(","))
            }
            serde_json::Value::Array(items) => format!("[{}]", items.iter().map(sorted).collect::<Vec<_>>().join(",")),
            serde_json::Value::Number(number) => {
                assert!(number.is_u64() || number.is_i64(), "{number} is no integer");
                number.to_string()
            }
            other => other.to_string(),
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let (evidence, _) = start(&settings(dir.path()));
    evidence.record(&finished(1), &policy(), TOOK);
    evidence.execution(RequestId([1; 16]), &execution(Decision::Error));
    assert!(evidence.close(PATIENCE));
    let text = fs::read_to_string(dir.path().join("evidence-000001.jsonl")).unwrap();
    for line in text.lines() {
        assert_eq!(line, sorted(&serde_json::from_str(line).unwrap()));
    }
}

#[test]
fn a_later_execution_is_linked_to_its_request() {
    let dir = tempfile::tempdir().unwrap();
    let (evidence, metrics) = start(&settings(dir.path()));
    evidence.record(&finished(7), &policy(), TOOK);
    evidence.execution(RequestId([7; 16]), &Execution { response_path: false, ..execution(Decision::Allowed) });
    evidence.record(&finished(8), &policy(), TOOK);
    assert!(evidence.close(PATIENCE));
    let found = show(dir.path(), &RequestId([7; 16]).to_string()).unwrap();
    let kinds: Vec<&str> = found.iter().map(|found| found.entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["request", "execution"]);
    assert_eq!(found[1].entry["execution"]["path"], "background");
    assert_eq!(found[1].entry["execution"]["visible"], "none");
    let report = check(dir.path());
    assert_eq!((report.requests, report.executions, report.end, report.intact()), (2, 1, End::Closed, true), "{report:?}");
    assert_eq!((metrics.written.get(), metrics.dropped.get(), metrics.queue_depth.get()), (3, 0, 0));
}

#[test]
fn files_rotate_and_stay_one_log() {
    let dir = tempfile::tempdir().unwrap();
    let settings = EvidenceSettings { rotate: 6000, ..settings(dir.path()) };
    for _ in 0..4 {
        run(&settings, 20);
    }
    let report = check(dir.path());
    assert!(report.files > 3 && report.intact() && report.requests == 80, "{report:?}");
    let name = |index: u32| dir.path().join(format!("evidence-{index:06}.jsonl"));

    let one = verify_files(&[name(2)], None, false).unwrap();
    assert!(one.intact() && one.end == End::Rotated, "{one:?}");
    let mixed = verify_files(&[name(3), name(1), name(2)], None, false).unwrap();
    assert!(mixed.intact(), "{mixed:?}");
    let hole = verify_files(&[name(1), name(3)], None, false).unwrap();
    assert_eq!(faults(&hole), [(Fault::Deleted, 1)]);

    let middle = fs::read(name(2)).unwrap();
    fs::remove_file(name(2)).unwrap();
    assert_eq!(faults(&check(dir.path())), [(Fault::Deleted, 1)]);
    fs::write(name(2), &middle[..middle.len() / 2]).unwrap();
    assert!(!check(dir.path()).intact());
    fs::write(name(2), &middle).unwrap();
    fs::remove_file(name(1)).unwrap();
    assert_eq!(faults(&check(dir.path())), [(Fault::Deleted, 1)]);
    assert!(verify_directory(dir.path(), None, true).unwrap()[0].1.intact());
    let every: Vec<PathBuf> = (2..=u32::try_from(report.files).unwrap()).map(name).collect();
    assert_eq!(faults(&verify_files(&every, None, false).unwrap()), [(Fault::Deleted, 1)]);
    let last = name(u32::try_from(report.files).unwrap());
    fs::remove_file(last).unwrap();
    assert!(faults(&check(dir.path())).iter().any(|(fault, _)| *fault == Fault::Truncated));
}

#[test]
fn a_kill_in_the_middle_of_a_line_is_reported_and_not_covered_up() {
    for keep in [1, 40, 400] {
        let dir = tempfile::tempdir().unwrap();
        let settings = settings(dir.path());
        let path = dir.path().join("evidence-000001.jsonl");
        // What a killed process leaves: lines after its last checkpoint, and a torn last line.
        run(&settings, 3);
        let closed = fs::read_to_string(&path).unwrap();
        let anchor = fs::read(dir.path().join(Anchor::FILE)).unwrap();
        let (evidence, _) = start(&settings);
        let resumed = fs::read(dir.path().join(Anchor::FILE)).unwrap();
        assert_ne!(anchor, resumed);
        evidence.record(&finished(9), &policy(), TOOK);
        assert!(evidence.close(PATIENCE));
        let text = fs::read_to_string(&path).unwrap();
        let record = text.lines().nth(closed.lines().count() + 2).unwrap();
        let torn_at = text.find(record).unwrap() + keep;
        let torn = &text[..torn_at];
        fs::write(&path, torn).unwrap();
        fs::write(dir.path().join(Anchor::FILE), &resumed).unwrap();
        let report = check(dir.path());
        assert!(report.intact() && matches!(report.end, End::Open { unanchored: 0 }), "{report:?}");
        assert!(report.notes.iter().any(|note| note.contains("no whole line")), "{report:?}");

        run(&settings, 2);
        let after = fs::read_to_string(&path).unwrap();
        assert!(after.starts_with(torn), "bytes that were written were changed");
        let recovered = after[torn.len()..].lines().nth(1).unwrap();
        assert!(recovered.contains(r#""kind":"recovered""#) && recovered.contains(&format!(r#""lost_bytes":{keep},"#)), "{recovered}");
        let report = check(dir.path());
        assert!(report.intact() && report.end == End::Closed && report.requests == 5, "{report:?}");

        // An edit cannot be passed off as a torn line.
        fs::write(&path, after.replacen(torn, &format!("{}x", &torn[..torn.len() - 1]), 1)).unwrap();
        assert!(!check(dir.path()).intact());
    }
}

#[test]
fn a_line_that_only_lacks_its_line_feed_is_kept() {
    let (dir, path) = written(3);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.trim_end()).unwrap();
    run(&settings(dir.path()), 1);
    let after = fs::read_to_string(&path).unwrap();
    assert!(after.starts_with(&text) && after[text.len()..].starts_with(r#"{"entry":{"at":"#));
    assert!(check(dir.path()).intact());
}

#[test]
fn a_file_that_was_never_begun_is_gone_on_with() {
    let (dir, _) = written(3);
    let second = dir.path().join("evidence-000002.jsonl");
    fs::write(&second, "").unwrap();
    run(&settings(dir.path()), 1);
    assert!(fs::read_to_string(&second).unwrap().contains(r#""previous_file":"evidence-000001.jsonl""#));
    assert!(check(dir.path()).intact());
    fs::write(dir.path().join("evidence-000003.jsonl"), "{\"entry\":{\"at").unwrap();
    run(&settings(dir.path()), 1);
    let report = check(dir.path());
    assert!(report.intact() && report.files == 4 && report.requests == 5, "{report:?}");
}

#[test]
fn what_was_added_or_signed_by_others_is_seen() {
    let (dir, path) = written(5);
    let (other, theirs) = written(5);
    let text = fs::read_to_string(&path).unwrap();
    let anchor = fs::read(dir.path().join(Anchor::FILE)).unwrap();

    // The complete log of another key, with its own anchor and without.
    fs::copy(&theirs, &path).unwrap();
    assert!(faults(&check(dir.path())).iter().any(|(fault, _)| *fault == Fault::Signature));
    fs::copy(other.path().join(Anchor::FILE), dir.path().join(Anchor::FILE)).unwrap();
    assert!(faults(&check(dir.path())).iter().any(|(fault, _)| *fault == Fault::Signature));
    fs::remove_file(dir.path().join(PUBLIC_FILE)).unwrap();
    assert!(!check(dir.path()).intact());
    Signer::load(&SigningKey::File(dir.path().join("signing.pk8"))).unwrap().publish(dir.path()).unwrap();

    // A line that continues the chain after the closing checkpoint.
    fs::write(dir.path().join(Anchor::FILE), &anchor).unwrap();
    let last = line::Line::parse(text.trim_end().rsplit('\n').next().unwrap().as_bytes()).unwrap();
    let mut link = line::Link { hash: last.hash, next: text.lines().count() as u64 };
    let mut forged = text.clone().into_bytes();
    link.push(&mut forged, &serde_json::json!({"kind": "request", "seq": link.next})).unwrap();
    fs::write(&path, forged).unwrap();
    assert_eq!(faults(&check(dir.path())).first().map(|(fault, _)| *fault), Some(Fault::Edited));

    // All hashes after an edited line recomputed, as an attacker without the key can.
    let mut link = line::Link::START;
    let mut forged = Vec::new();
    for old in text.lines() {
        let entry =
            std::str::from_utf8(line::Line::parse(old.as_bytes()).unwrap().entry).unwrap().replace(r#""status":403"#, r#""status":200"#);
        link.push(&mut forged, &serde_json::value::RawValue::from_string(entry).unwrap()).unwrap();
    }
    fs::write(&path, forged).unwrap();
    assert!(faults(&check(dir.path())).iter().any(|(fault, _)| *fault == Fault::Signature));
}

#[test]
fn without_its_anchor_a_log_must_be_closed() {
    let (dir, path) = written(6);
    fs::remove_file(dir.path().join(Anchor::FILE)).unwrap();
    assert!(!check(dir.path()).intact());
    assert!(verify_files(std::slice::from_ref(&path), None, false).unwrap().intact());
    let text = fs::read_to_string(&path).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    fs::write(&path, format!("{}\n", lines[..lines.len() - 1].join("\n"))).unwrap();
    let report = verify_files(std::slice::from_ref(&path), None, false).unwrap();
    assert_eq!(faults(&report).first().map(|(fault, _)| *fault), Some(Fault::Truncated));
    assert!(report.notes.iter().any(|note| note.starts_with("unanchored tail")));
    assert!(verify_files(&[path], None, true).unwrap().intact());
}

#[test]
fn a_full_queue_drops_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (evidence, metrics) = start(&EvidenceSettings { queue: 2, ..settings(dir.path()) });
    for id in 0..200 {
        evidence.record(&finished(id), &policy(), TOOK);
    }
    assert!(evidence.close(PATIENCE));
    evidence.record(&finished(0), &policy(), TOOK);
    assert_eq!(metrics.written.get() + metrics.dropped.get(), 201);
    assert!(metrics.dropped.get() > 1);
    let report = check(dir.path());
    assert!(report.intact() && report.requests == metrics.written.get());
    assert!(report.notes.iter().any(|note| note.contains("dropped")), "{report:?}");
}

#[test]
fn a_second_process_writes_beside_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let (old, _) = start(&settings(dir.path()));
    let (new, _) = start(&settings(dir.path()));
    old.record(&finished(1), &policy(), TOOK);
    new.record(&finished(2), &policy(), TOOK);
    assert!(old.close(PATIENCE) && new.close(PATIENCE));
    let reports = verify_directory(dir.path(), None, false).unwrap();
    assert_eq!(reports.len(), 2);
    assert!(reports.iter().all(|(_, report)| report.intact() && report.requests == 1), "{reports:?}");
    assert_eq!(show(dir.path(), &RequestId([2; 16]).to_string()).unwrap().len(), 1);
}

/// The log of a process that wrote beside another is missed when it is gone, whole or in part: the main log names it, when
/// the old process ends and when the next one begins.
#[test]
fn a_log_beside_the_main_one_is_missed() {
    for named_by_next in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("overlap-1");
        let (old, _) = start(&settings(dir.path()));
        let (new, _) = start(&settings(dir.path()));
        for id in 1..6 {
            new.record(&finished(id), &policy(), TOOK);
        }
        if named_by_next {
            assert!(new.close(PATIENCE) && old.close(PATIENCE));
            drop((new, old));
            run(&settings(dir.path()), 1);
        } else {
            assert!(old.close(PATIENCE) && new.close(PATIENCE));
        }
        let all = verify_directory(dir.path(), None, false).unwrap();
        assert!(all.len() == 2 && all.iter().all(|(_, report)| report.intact()), "{all:?}");
        assert!(all[0].1.overlaps.iter().all(|overlap| overlap.directory == "overlap-1" && overlap.mark().is_some()), "{all:?}");

        // Another log in its place, as good in itself: signed by the same key.
        let path = below.join("evidence-000001.jsonl");
        let [text, anchor] = [path.clone(), below.join(Anchor::FILE)].map(|path| fs::read(path).unwrap());
        let other = tempfile::tempdir().unwrap();
        run(&EvidenceSettings { signing_key: settings(dir.path()).signing_key, ..settings(other.path()) }, 9);
        for name in ["evidence-000001.jsonl", Anchor::FILE] {
            fs::copy(other.path().join(name), below.join(name)).unwrap();
        }
        let swapped = verify_directory(dir.path(), None, false).unwrap();
        assert!(!swapped[1].1.intact(), "{swapped:?}");
        fs::write(&path, text).unwrap();
        fs::write(below.join(Anchor::FILE), anchor).unwrap();
        assert!(verify_directory(dir.path(), None, false).unwrap().iter().all(|(_, report)| report.intact()));

        fs::remove_dir_all(&below).unwrap();
        let left = verify_directory(dir.path(), None, false).unwrap();
        let [(_, report)] = &left[..] else { panic!("{left:?}") };
        assert!(matches!(&report.findings[..], [one] if one.fault == Fault::Deleted && one.file == below), "{report:?}");
        assert!(verify_directory(dir.path(), None, true).unwrap()[0].1.intact(), "who asks for a part does not miss the rest");
    }
}

/// What a refused disk took whole is in the log, and what it did not is told even if nobody closed the log.
#[test]
fn a_process_that_did_not_close_its_log_has_said_what_it_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let signer = Arc::new(Signer::load(&settings(dir.path()).signing_key).unwrap());
    signer.publish(dir.path()).unwrap();
    let dropped = |dropped| super::log::Totals { records: 0, dropped };
    let told = |wanted: &[&str]| {
        let notes = check(dir.path()).notes;
        let of: Vec<_> = notes.iter().filter_map(|note| note.split_once(" records were dropped")).map(|(count, _)| count).collect();
        assert_eq!(of, wanted, "{notes:?}");
    };
    let mut log = super::log::Log::open(dir.path(), signer.clone(), dropped(0)).unwrap();
    for count in [20, 40, 60] {
        log.checkpoint(Reason::Time, dropped(count)).unwrap();
    }
    drop(log);
    told(&["60"]);
    // The next process counts anew, and is told of by itself.
    let mut log = super::log::Log::open(dir.path(), signer, dropped(0)).unwrap();
    told(&["60"]);
    log.checkpoint(Reason::Close, dropped(7)).unwrap();
    told(&["60", "7"]);
}

#[test]
fn time_alone_brings_a_checkpoint() {
    let dir = tempfile::tempdir().unwrap();
    let settings = EvidenceSettings { checkpoint_every: 1000, checkpoint_interval: Duration::from_millis(50), ..settings(dir.path()) };
    let (evidence, metrics) = start(&settings);
    evidence.record(&finished(1), &policy(), TOOK);
    let deadline = Instant::now() + PATIENCE;
    while metrics.checkpoints.get() < 2 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    let report = check(dir.path());
    assert!(report.intact() && report.end == End::Open { unanchored: 0 } && report.requests == 1, "{report:?}");
    assert!(evidence.close(PATIENCE));
}

#[test]
fn every_flipped_byte_is_seen() {
    let (dir, path) = written(2);
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        fs::write(&path, &bad).unwrap();
        let line = 1 + good[..at].iter().filter(|byte| **byte == b'\n').count() as u64;
        let report = check(dir.path());
        assert!(!report.intact(), "byte {at} of line {line}");
        let near = report.findings.iter().any(|finding| finding.line == line || finding.line == line + 1);
        assert!(near, "byte {at} of line {line}: {:?}", report.findings);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn every_cut_is_seen(at in any::<prop::sample::Index>()) {
        let (dir, path) = copied();
        let good = fs::read(&path).unwrap();
        fs::write(&path, &good[..at.index(good.len())]).unwrap();
        let report = check(dir.path());
        prop_assert!(report.findings.iter().any(|finding| finding.fault == Fault::Truncated), "{:?}", report);
    }

    #[test]
    fn every_removal_and_move_of_lines_is_seen(a in any::<prop::sample::Index>(), b in any::<prop::sample::Index>(), how in 0..4) {
        let (dir, path) = copied();
        let text = fs::read_to_string(&path).unwrap();
        let mut lines: Vec<&str> = text.lines().collect();
        let (a, b) = (a.index(lines.len()), b.index(lines.len()));
        match how {
            0 => { lines.remove(a); }
            1 => lines.swap(a, b),
            2 => lines.insert(b, lines[a]),
            _ => { lines.drain(a.min(b)..=a.max(b)); }
        }
        prop_assume!(lines.join("\n") != text.trim_end());
        fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        let report = check(dir.path());
        prop_assert!(!report.intact());
        let expected: &[Fault] = match how {
            0 | 3 => &[Fault::Deleted, Fault::Truncated],
            _ => &[Fault::Reordered, Fault::Edited, Fault::Deleted],
        };
        prop_assert!(report.findings.iter().any(|finding| expected.contains(&finding.fault)), "{:?}", report);
    }

    #[test]
    fn any_bytes_are_verified_without_a_panic(junk in prop::collection::vec(any::<u8>(), 0..400), at in any::<prop::sample::Index>()) {
        let (dir, path) = copied();
        let mut bytes = fs::read(&path).unwrap();
        let at = at.index(bytes.len());
        bytes.splice(at..at, junk.iter().copied());
        fs::write(&path, &bytes).unwrap();
        prop_assert_eq!(check(dir.path()).intact(), junk.is_empty());
    }
}
