//! External systems that decide: a policy or DLP service for requests and answers, and an approval system.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::client::Request;
use crate::edge::{Edge, KEY, Setup};
use crate::upstream::{Act, Answer, Seen, Upstream};

/// A service that speaks OPA's Data API: it denies what names the project and hides what names people or the upstream.
fn inspect(seen: &Seen) -> Act {
    let input = &seen.json()["input"];
    let texts = input["texts"].as_array().cloned().unwrap_or_default();
    let mut spans = Vec::new();
    for text in &texts {
        let said = text["text"].as_str().unwrap_or_default();
        if said.contains("Project Nightfall") {
            return Act::Answer(Answer::json(
                json!({"result": {"allow": false, "code": "dlp_project", "reason": "names a project"}}).to_string(),
            ));
        }
        for name in ["Bob", "upstream"] {
            spans.extend(said.match_indices(name).map(|(at, _)| json!({"path": text["path"], "start": at, "end": at + name.len()})));
        }
    }
    Act::Answer(Answer::json(json!({"decision_id": "d-1", "result": {"allow": true, "redact": spans}}).to_string()))
}

fn plugin(service: &Upstream, more: &str, config: &str) -> String {
    let port = service.port;
    format!(
        "{{name: dlp, use: http_callout, grant: {{network: [\"127.0.0.1:{port} private\"]}}{more}, \
         config: {{url: \"http://127.0.0.1:{port}/v1/data/dlp\"{config}}}}}"
    )
}

async fn guarded(service: &Upstream, more: &str, config: &str) -> (Upstream, Edge) {
    let upstream = Upstream::start().await;
    let setup = Setup::to(upstream.port)
        .plugin(plugin(service, more, config))
        .chain("pre_upstream: {sequential: [dlp]}")
        .chain("post_upstream: {sequential: [dlp]}");
    let edge = setup.start().await;
    (upstream, edge)
}

fn chat(text: &str, stream: bool) -> Request {
    let body = json!({"model": "fast", "stream": stream, "messages": [{"role": "user", "content": text}]});
    Request::post("/v1/chat/completions", body.to_string()).bearer(KEY)
}

/// The text of a streamed answer.
fn said(events: &str) -> String {
    let data = events.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    let chunks = data.map(|data| serde_json::from_str::<Value>(data).unwrap());
    chunks.filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str().map(str::to_owned)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_service_denies_or_hides_reaches_neither_provider_nor_caller() {
    let service = Upstream::with(inspect).await;
    let (upstream, edge) = guarded(&service, "", ", send: content").await;

    let answer = edge.send(&chat("tell Bob about \"it\"", false)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(upstream.last().json()["messages"][0]["content"], "tell [redacted] about \"it\"");
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "Hello from [redacted].");
    let phases: Vec<Value> = service.take().iter().map(|seen| seen.json()["input"]["phase"].clone()).collect();
    assert_eq!(phases, ["request", "response"], "asked once on the way in and once on the way back");

    let answer = edge.send(&chat("hi", true)).await;
    assert_eq!(said(&answer.text()), "Hello from [redacted].", "a stream is held and judged as one text: {}", answer.text());
    assert!(answer.text().ends_with("data: [DONE]\n\n") && answer.complete);

    let calls = upstream.count();
    let answer = edge.send(&chat("status of Project Nightfall", false)).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "dlp_project"), "{}", answer.text());
    assert!(answer.text().contains("names a project"));
    assert_eq!(upstream.count(), calls, "what is denied is not forwarded");

    let record = edge.record(answer.header("x-request-id").unwrap()).await.to_string();
    assert!(record.contains("\"ruling\"") && record.contains("dlp_project"), "{record}");
    assert!(!edge.evidence().contains("Nightfall") && !edge.log().contains("Nightfall"), "content is nowhere");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_fails_is_obeyed_by_on_error_alone() {
    let elsewhere = Upstream::start().await;
    let target = elsewhere.port;
    let service = Upstream::with(move |_| {
        let location = format!("http://127.0.0.1:{target}/v1/data/dlp");
        Act::Answer(Answer::json("{\"result\":true}").status(302).header("location", &location))
    })
    .await;
    for (more, status) in [("", 503), (", on_error: allow", 200), (", mode: observe", 200)] {
        let (upstream, edge) = guarded(&service, more, "").await;
        for act in [None, Some(Act::CloseAfterBody), Some(Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_vec()))] {
            service.next(act);
            let answer = edge.send(&chat("hi", false)).await;
            assert_eq!(answer.status, status, "{more}: {}", answer.text());
            match status {
                503 => assert_eq!((answer.code().as_str(), upstream.count()), ("plugin_unavailable", 0)),
                _ => assert_eq!(upstream.last().json()["messages"], json!([{"role": "user", "content": "hi"}]), "it goes on as it came"),
            }
            service.clear();
        }
    }
    assert_eq!(elsewhere.count(), 0, "a redirect was followed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_service_ends_with_the_timeout_and_rulings_are_remembered() {
    let service = Upstream::with(|_| Act::Answer(Answer::json("{\"result\":true}").delay(Duration::from_secs(20)))).await;
    let (upstream, edge) = guarded(&service, ", timeout: 200ms", "").await;
    let started = std::time::Instant::now();
    let answer = edge.send(&chat("hi", false)).await;
    assert_eq!((answer.status, answer.code().as_str(), upstream.count()), (503, "plugin_unavailable", 0));
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());

    let service = Upstream::with(|_| Act::Answer(Answer::json("{\"result\":true}"))).await;
    let (_upstream, edge) = guarded(&service, "", ", send: facts, remember: {ttl: 1h}").await;
    for _ in 0..3 {
        assert_eq!(edge.send(&chat("hi", false)).await.status, 200);
    }
    assert_eq!(service.count(), 2, "once for requests, once for answers");
    assert!(service.seen().iter().all(|seen| !seen.text().contains("\"texts\"")), "facts alone were asked for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sensitive_tool_waits_for_its_approval() {
    let turn = Arc::new(AtomicUsize::new(0));
    let counted = turn.clone();
    let approver = Upstream::with(move |_| {
        let status = match counted.fetch_add(1, Ordering::Relaxed) {
            0 => json!({"status": "pending", "id": "REQ-7", "retry_after": 9}),
            1 => json!({"status": "pending", "id": "REQ-8"}),
            2 => json!({"status": "approved", "id": "REQ-8"}),
            _ => json!({"status": "denied", "reason": "no budget owner"}),
        };
        Act::Answer(Answer::json(status.to_string()).status(202))
    })
    .await;
    let upstream = Upstream::start().await;
    let port = approver.port;
    let approval = |name: &str, more: &str| {
        format!(
            "{{name: {name}, use: approval, timeout: 10s, grant: {{network: [\"127.0.0.1:{port} private\"]}}, config: {{approver: {{url: \
             \"http://127.0.0.1:{port}/ask\"}}, when: [{{name: payments, tools: [\"pay*\"]}}], remember: {{pending: 0s}}{more}}}}}"
        )
    };
    let edge = Setup::to(upstream.port)
        .plugin(approval("at_once", ""))
        .plugin(approval("patient", ", wait: 5s, poll: 100ms"))
        .case("at_once", "{pre_upstream: {sequential: [at_once]}}")
        .case("patient", "{pre_upstream: {parallel: [patient]}}")
        .start()
        .await;
    let ask = |case: &str, tool: &str| {
        let tools = json!([{"type": "function", "function": {"name": tool}}]);
        let body = json!({"model": "fast", "messages": [{"role": "user", "content": "settle the invoice"}], "tools": tools});
        Request::post("/v1/chat/completions", body.to_string()).bearer(KEY).header("x-case", case)
    };
    assert_eq!(edge.send(&ask("at_once", "search")).await.status, 200);
    assert_eq!(approver.count(), 0, "nobody is asked about what is not sensitive");

    let answer = edge.send(&ask("at_once", "pay_bill")).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "approval_pending"), "{}", answer.text());
    assert_eq!(answer.header("retry-after"), Some("9"));
    assert!(answer.text().contains("REQ-7"));

    assert_eq!(edge.send(&ask("patient", "pay_bill")).await.status, 200, "it waited until it was approved");
    let seen = approver.take();
    assert_eq!(seen.len(), 3);
    let digests: Vec<&str> = seen.iter().map(|seen| seen.header("idempotency-key").unwrap()).collect();
    assert_eq!(digests[1], digests[2], "asking again is the same question");
    assert!(seen.iter().all(|seen| !seen.text().contains("invoice")), "nothing of what is said leaves");

    assert_eq!(edge.send(&ask("patient", "pay_bill")).await.status, 200, "an approval is remembered");
    assert_eq!(approver.count(), 0);
    let answer = edge.send(&ask("at_once", "pay_other")).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "approval_denied"));
    assert!(answer.text().contains("no budget owner"));
    assert_eq!(upstream.count(), 3);
}
