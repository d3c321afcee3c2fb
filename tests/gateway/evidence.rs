//! Evidence: one record per request with the decisions made, and a log in which every change is detected.

use std::path::{Path, PathBuf};

use crate::client::Request;
use crate::edge::{Edge, KEY, Setup, cli};
use crate::upstream::Upstream;

async fn after_traffic(requests: usize) -> (Edge, Upstream) {
    let upstream = Upstream::start().await;
    let mut setup = Setup::to(upstream.port).plugin("{name: audit_log, config: {}}").chain("pre_route: {parallel: [audit_log]}");
    setup.evidence = "rotate: 16KiB, checkpoint: {every: 10}".into();
    let mut edge = setup.start().await;
    for n in 0..requests {
        edge.send(&Request::chat(KEY, if n % 5 == 4 { "secret" } else { "fast" }, n % 2 == 0)).await;
    }
    edge.signal("TERM", None);
    assert_eq!(edge.ended(crate::edge::PATIENCE).await.expect("ended").0, 0);
    (edge, upstream)
}

fn verify(directory: &Path) -> (i32, String) {
    let (code, out, err) = cli(&["evidence", "verify", "--dir", &directory.display().to_string()]);
    (code, out + &err)
}

/// A copy of the evidence to be tampered with.
fn copy(edge: &Edge) -> (tempfile::TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(edge.evidence_dir()).unwrap().flatten() {
        std::fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let mut files: Vec<_> = std::fs::read_dir(dir.path())
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|x| x == "jsonl"))
        .collect();
    files.sort();
    (dir, files)
}

fn lines(file: &Path) -> Vec<String> {
    std::fs::read_to_string(file).unwrap().lines().map(str::to_owned).collect()
}

fn write(file: &Path, lines: &[String]) {
    std::fs::write(file, lines.iter().map(|l| format!("{l}\n")).collect::<String>()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_has_its_record_and_every_change_is_found() {
    let (edge, _upstream) = after_traffic(60).await;
    let records = edge.evidence().lines().filter(|l| l.contains("\"kind\":\"request\"")).count();
    assert_eq!(records, 60, "one record a request");
    let (dir, files) = copy(&edge);
    assert!(files.len() > 1, "the log was rotated");
    let (code, said) = verify(dir.path());
    assert_eq!(code, 0, "untouched evidence verifies: {said}");

    type Tamper = fn(&[PathBuf]);
    let tampers: [(&str, Tamper); 7] = [
        ("an edited status", |files| {
            let mut all = lines(&files[0]);
            let at = all.iter().position(|l| l.contains("\"status\":200")).unwrap();
            all[at] = all[at].replacen("\"status\":200", "\"status\":201", 1);
            write(&files[0], &all);
        }),
        ("a deleted record", |files| {
            let mut all = lines(&files[0]);
            all.remove(all.len() / 2);
            write(&files[0], &all);
        }),
        ("two records swapped", |files| {
            let mut all = lines(&files[0]);
            let middle = all.len() / 2;
            all.swap(middle, middle + 1);
            write(&files[0], &all);
        }),
        ("a record twice", |files| {
            let mut all = lines(&files[0]);
            let middle = all.len() / 2;
            all.insert(middle, all[middle].clone());
            write(&files[0], &all);
        }),
        ("the end cut off", |files| {
            let last = files.last().unwrap();
            let all = lines(last);
            write(last, &all[..all.len() - 1]);
        }),
        ("half a line at the end", |files| {
            let last = files.last().unwrap();
            let text = std::fs::read_to_string(last).unwrap();
            std::fs::write(last, &text[..text.len() - 40]).unwrap();
        }),
        ("a whole file missing", |files| std::fs::remove_file(&files[0]).unwrap()),
    ];
    for (name, tamper) in tampers {
        let (dir, files) = copy(&edge);
        tamper(&files);
        let (code, said) = verify(dir.path());
        assert_eq!(code, 1, "{name} was not found: {said}");
        assert!(said.contains("line") || said.contains(".jsonl"), "{name}: it says where: {said}");
    }
}

#[tokio::test]
async fn a_record_has_the_fields_the_product_names_and_show_prints_it() {
    let upstream = Upstream::start().await;
    let edge = Setup::to(upstream.port)
        .faults()
        .plugin("{name: widen, use: rewrite, config: {edit: append, text: ' '}}")
        .plugin("{name: refuses, use: fault, scope: {organisations: [acme]}, config: {how: block, status: 451, code: not_here}}")
        .case("refused", "{pre_route: {sequential: [widen, refuses]}}")
        .start()
        .await;
    let answer = edge
        .send(
            &Request::chat(KEY, "fast", false)
                .header("x-case", "refused")
                .header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        )
        .await;
    assert_eq!((answer.status, answer.code().as_str()), (451, "not_here"));
    let id = answer.header("x-request-id").unwrap();
    let record = edge.record(id).await;
    let expected = [
        ("route", "refused"),
        ("organisation", "acme"),
        ("requested_model", "fast"),
        ("code", "not_here"),
        ("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"),
        ("request_id", id),
    ];
    for (field, value) in expected {
        assert_eq!(record[field], value, "{field}: {record}");
    }
    assert_eq!(record["status"], 451);
    let executions = record["executions"].as_array().unwrap();
    assert_eq!(executions.len(), 2, "{record}");
    for (index, plugin, action) in [(0, "widen", "changed"), (1, "refuses", "blocked")] {
        let execution = &executions[index];
        assert_eq!((execution["plugin"].as_str(), execution["action"].as_str()), (Some(plugin), Some(action)), "{execution}");
        assert_eq!(execution["moment"], "pre_route");
        for field in ["changed_request", "changed_response", "mode", "style", "started_us", "duration_us", "visible", "path"] {
            assert!(!execution[field].is_null(), "{field} is missing: {execution}");
        }
    }
    assert_eq!(executions[0]["changed_request"], true);
    let (code, shown, said) = cli(&["evidence", "show", id, "--dir", &edge.evidence_dir().display().to_string()]);
    assert_eq!(code, 0, "{said}");
    assert!(shown.contains("refuses") && shown.contains("not_here"), "{shown}");
    let (code, ..) = cli(&["evidence", "show", "00000000000000000000000000000000", "--dir", &edge.evidence_dir().display().to_string()]);
    assert_eq!(code, 1, "an unknown request is a failure");
}

/// A receipt and timings are there when the route asks for them, and only then.
#[tokio::test]
async fn receipt_and_server_timing_are_the_operators_choice() {
    let upstream = Upstream::start().await;
    let mut setup = Setup::to(upstream.port);
    setup.routes.push("{name: open, match: {path: /v1/embeddings}, receipt: true, server_timing: true}".into());
    let edge = setup.start().await;
    let body = serde_json::json!({"model": "fast", "input": "a"}).to_string();
    let shown = edge.send(&Request::post("/v1/embeddings", body).bearer(KEY)).await;
    let receipts = |answer: &crate::client::Response| answer.headers.iter().filter(|(n, _)| n.contains("receipt")).count();
    assert_eq!((shown.status, receipts(&shown), shown.header("server-timing").is_some()), (200, 1, true), "{:?}", shown.headers);
    let hidden = edge.send(&Request::chat(KEY, "fast", false).header("x-odock-receipt", "1")).await;
    assert_eq!((receipts(&hidden), hidden.header("server-timing")), (0, None));
}

/// The audit log says in two lines who called what and how it ended; what its record says already is no note there.
#[tokio::test]
async fn audit_lines_say_everything_and_notes_only_what_the_record_does_not() {
    let upstream = Upstream::start().await;
    let fields = "request_id, route, endpoint, organisation, team, api_key, model, provider, client_ip, stream, status, code, end, attempts, plugins";
    let edge = Setup::to(upstream.port)
        .plugin(format!("{{name: audit_log, config: {{fields: [{fields}]}}}}"))
        .chain("pre_route: {parallel: [audit_log]}")
        .chain("post_response: {parallel: [audit_log], async: true}")
        .start()
        .await;
    let answer = edge.send(&Request::chat(KEY, "fast", false)).await;
    let id = answer.header("x-request-id").unwrap();
    edge.logged("\"msg\":\"response\"", 0).await;
    let lines: Vec<serde_json::Value> = edge.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let said = |event: &str| {
        let line = lines.iter().find(|line| line["target"] == "audit" && line["msg"] == event);
        let mut line = line.expect("the line").as_object().unwrap().clone();
        line.remove("ts");
        serde_json::Value::Object(line)
    };
    let request = serde_json::json!({
        "level": "info", "target": "audit", "msg": "request", "request_id": id, "route": "llm", "endpoint": "chat_completions",
        "organisation": "acme", "api_key": "main", "model": "fast", "client_ip": "127.0.0.1", "stream": "false"
    });
    assert_eq!(said("request"), request);
    let mut response = request;
    for (field, value) in [
        ("msg", "response"),
        ("provider", "mock"),
        ("status", "200"),
        ("end", "complete"),
        ("attempts", "1"),
        ("plugins", "audit_log@pre_route=allowed"),
    ] {
        response[field] = value.into();
    }
    assert_eq!(said("response"), response);
    let record = edge.record(id).await;
    let notes = |event: &str| serde_json::json!({"event": event, "organisation": "acme", "api_key": "main", "client_ip": "127.0.0.1"});
    let executions = record["executions"].as_array().unwrap();
    assert_eq!((&executions[0]["notes"], &executions.last().unwrap()["notes"]), (&notes("request"), &notes("response")), "{record}");
}
