//! `mode: observe` records what would have happened, and changes not one byte in either direction.

use std::time::Duration;

use bytes::Bytes;

use crate::client::{Http1, Request, Response};
use crate::edge::{KEY, Setup};
use crate::upstream::{Act, Answer, Body, Seen, Upstream, chat, chat_events};

fn setup(upstream: &Upstream, observing: bool) -> Setup {
    let mut setup = Setup::to(upstream.port).faults();
    if observing {
        setup.plugins = [
            "{name: rewrites, use: rewrite, mode: observe, config: {edit: grow, header: x-meddled}}",
            "{name: refuses, use: fault, mode: observe, config: {how: block, status: 403, code: never}}",
            "{name: fails, use: fault, mode: observe, on_error: deny, config: {how: error}}",
            "{name: panics, use: fault, mode: observe, on_error: deny, config: {how: panic}}",
            "{name: sleeps, use: fault, mode: observe, on_error: deny, timeout: 30ms, config: {how: sleep}}",
            "{name: judges, use: judge, mode: observe, config: {needle: Hello}}",
            "{name: cuts, use: frames, mode: observe, config: {how: block, at: 1}}",
        ]
        .map(str::to_owned)
        .to_vec();
        for gate in ["pre_route", "pre_upstream"] {
            setup.chain.push(format!("{gate}: {{sequential: [rewrites, refuses, fails, panics, sleeps]}}"));
        }
        setup.chain.push("post_upstream: {sequential: [rewrites, judges, cuts, refuses, fails, panics, sleeps]}".into());
    }
    setup
}

/// What the caller got, without what differs between any two answers.
fn caller_view(answer: &Response) -> String {
    let mut headers: Vec<_> = answer.headers.iter().filter(|(n, _)| n != "x-request-id" && n != "date").cloned().collect();
    headers.sort();
    format!("{} {headers:?} {} {}", answer.status, answer.text(), answer.complete)
}

fn upstream_view(seen: &Seen) -> String {
    let mut headers: Vec<_> =
        seen.headers.iter().filter(|(n, _)| n != "x-request-id" && n != "traceparent" && n != "host").cloned().collect();
    headers.sort();
    format!("{} {} {headers:?} {}", seen.method, seen.path, seen.text())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_one_byte_differs() {
    let upstream = Upstream::start().await;
    let (plain, observed) = (setup(&upstream, false).start().await, setup(&upstream, true).start().await);
    for stream in [false, true] {
        let request = Request::chat(KEY, "fast", stream);
        let (a, from_a) = (plain.send(&request).await, upstream.take().pop().unwrap());
        let (b, from_b) = (observed.send(&request).await, upstream.take().pop().unwrap());
        assert_eq!(upstream_view(&from_a), upstream_view(&from_b), "towards the upstream, stream {stream}");
        assert_eq!(caller_view(&a), caller_view(&b), "towards the caller, stream {stream}");
    }
    for (name, decision) in
        [("refuses", "would_block"), ("rewrites", "would_change"), ("judges", "would_block"), ("panics", "panicked"), ("sleeps", "timeout")]
    {
        let counted = observed
            .metric("gateway_plugin_executions_total", &[&format!("plugin_name=\"{name}\""), &format!("decision=\"{decision}\"")])
            .await;
        assert!(counted >= 1.0, "{name} should be counted as {decision}:\n{}", observed.metrics().await);
    }
}

const NEEDLE: &str = "needle-51aa";

fn gzip(body: &str) -> Bytes {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body.as_bytes()).unwrap();
    encoder.finish().unwrap().into()
}

/// One plugin that reads answers and may only watch, or is for others, or for nobody yet.
const FOR_NOBODY: [(&str, &str); 3] =
    [("observe", "mode: observe"), ("skipped_rollout", "rollout: 0"), ("skipped_scope", "scope: {api_keys: [bare]}")];

fn judged(upstream: &Upstream, how: &str) -> Setup {
    let mut setup = Setup::to(upstream.port)
        .faults()
        .plugin(format!("{{name: judges, use: judge, {how}, config: {{needle: {NEEDLE}}}}}"))
        .plugin(format!("{{name: cuts, use: frames, {how}, config: {{how: block, at: 1}}}}"))
        .chain("post_upstream: {sequential: [cuts, judges]}");
    setup.server = "max_held_response: 64KiB".into();
    setup
}

/// The decisions of a plugin on record.
fn decisions(record: &serde_json::Value, plugin: &str) -> Vec<String> {
    let all = record["executions"].as_array().unwrap().iter();
    all.filter(|e| e["plugin"] == plugin).map(|e| e["action"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn an_answer_passes_as_it_came_by_steps_that_only_watch_or_do_not_run() {
    let upstream = Upstream::start().await;
    for (word, how) in FOR_NOBODY {
        let edge = judged(&upstream, how).start().await;
        let found = chat("m", NEEDLE);
        let parts = vec![Bytes::from(vec![b'x'; 4096]); 17];
        let large = Answer { body: Body::Parts(parts, Duration::ZERO), ..Answer::json("") };
        let cases = [
            ("plain", Answer::json(found.clone()), found.len(), true),
            ("gzip", Answer::json(gzip(&found)).header("content-encoding", "gzip"), gzip(&found).len(), true),
            ("unknown", Answer::json("abc").header("content-encoding", "br").header("etag", "\"1\""), 3, false),
            ("large", Answer { body: Body::Huge(64 * 1024 + 1), ..Answer::json("") }, 64 * 1024 + 1, false),
            ("large in parts", large, 17 * 4096, false),
        ];
        for (name, answer, length, read) in cases {
            upstream.next([Act::Answer(answer.clone())]);
            let got = edge.send(&Request::chat(KEY, "fast", false)).await;
            assert!(got.status == 200 && got.complete && got.body.len() == length, "{name} {word}: {} {}", got.status, got.body.len());
            for (field, value) in answer.headers {
                assert_eq!(got.header(&field), Some(value.as_str()), "{name} {word}");
            }
            let record = edge.record(got.header("x-request-id").unwrap()).await;
            let wanted = match (word, read) {
                ("observe", true) => vec!["would_block"],
                ("observe", false) => vec![],
                _ => vec![word],
            };
            assert_eq!(decisions(&record, "judges"), wanted, "{name}: {record}");
            let unread = (word == "observe" && !read).then_some("answer_unread");
            assert_eq!(record["tags"]["plugins"].as_str(), unread, "{name} {word}: {record}");
        }
    }
}

#[tokio::test]
async fn a_stream_passes_as_it_comes_by_steps_that_only_watch_or_do_not_run() {
    let upstream = Upstream::start().await;
    let events = chat_events("m", &["one ", NEEDLE, " three"]);
    for (word, how) in FOR_NOBODY {
        let edge = judged(&upstream, how).start().await;
        upstream.next([Act::Answer(Answer::stream(events.clone(), Duration::from_millis(200)))]);
        let mut connection = Http1::connect(edge.port).await;
        connection.write(&Request::chat(KEY, "fast", true).encode()).await.unwrap();
        let head = connection.head().await.unwrap();
        let first = connection.part().await.unwrap().unwrap();
        assert!(!String::from_utf8_lossy(&first).contains("[DONE]"), "{word}: the stream was held");
        let rest = connection.finish(head).await;
        assert!(rest.complete, "{word}");
        assert_eq!([&first[..], &rest.body].concat(), events.concat(), "{word}");
        let record = edge.record(rest.header("x-request-id").unwrap()).await;
        let wanted = if word == "observe" { "would_block" } else { word };
        for plugin in ["judges", "cuts"] {
            assert_eq!(decisions(&record, plugin), [wanted], "{record}");
        }
        // What is compressed is read beside its way, and stays compressed.
        let packed = gzip(&events.iter().map(|event| String::from_utf8_lossy(event)).collect::<String>());
        upstream.next([Act::Answer(Answer::stream(vec![packed.clone()], Duration::ZERO).header("content-encoding", "gzip"))]);
        let got = edge.send(&Request::chat(KEY, "fast", true)).await;
        assert_eq!((got.status, got.header("content-encoding"), &got.body), (200, Some("gzip"), &packed), "{word}");
        let record = edge.record(got.header("x-request-id").unwrap()).await;
        for plugin in ["judges", "cuts"] {
            assert_eq!(decisions(&record, plugin), [wanted], "{record}");
        }
    }
}
