//! Secrets planted everywhere a secret can be appear only where they belong: not in logs of any level, metrics, errors or
//! evidence records.

use std::time::Duration;

use crate::client::{Framing, Request};
use crate::edge::{Edge, KEY, PROVIDER_KEY, Setup};
use crate::upstream::{Act, Answer, Upstream, chat, chat_events};

/// Unique, and of no form that a detector would take for a secret and mask by itself.
const PROMPT: &str = "canaryprompt5d1e";
const ANSWER: &str = "canaryanswer9b2c";
const HEADER: &str = "canaryheader77aa";
const TOOL: &str = "canarytoolarg31f0";
const QUERY: &str = "canaryquery8c8c";
const WRONG_KEY: &str = "sk_canarywrongkey0042";
const MODEL: &str = "canary model name 6e";
const EMAIL: &str = "canary.person@example.org";
const PLANTED: [&str; 10] = [PROMPT, ANSWER, HEADER, TOOL, QUERY, WRONG_KEY, MODEL, EMAIL, KEY, PROVIDER_KEY];

fn setup(upstream: &Upstream) -> Setup {
    let mut setup = Setup::to(upstream.port)
        .faults()
        .plugin("{name: audit_log, config: {}}")
        .plugin("{name: pii_mask, config: {}}")
        .plugin("{name: panics, use: fault, on_error: allow, config: {how: panic}}")
        .plugin("{name: refuses, use: fault, config: {how: block, status: 403, code: refused_here}}")
        .plugin(format!("{{name: judge, config: {{needle: {ANSWER}}}}}"))
        .chain("pre_route: {parallel: [audit_log]}")
        .chain("pre_upstream: {sequential: [pii_mask, panics]}")
        .chain("post_upstream: {sequential: [pii_mask]}")
        .chain("post_response: {parallel: [audit_log], async: true}")
        .case("refused", "{pre_upstream: {sequential: [refuses]}, post_response: {parallel: [audit_log]}}")
        .case("judged", "{post_upstream: {sequential: [judge]}}")
        .plain("raw", "default", ", receipt: true, server_timing: true");
    setup.log = Some("trace");
    setup.server = "max_request_body: 256KiB\nbody_timeout: 300ms".into();
    setup
}

fn body(stream: bool) -> String {
    serde_json::json!({"model": "fast", "stream": stream, "user": PROMPT, "messages": [
        {"role": "system", "content": PROMPT}, {"role": "user", "content": format!("{PROMPT} {EMAIL}")},
        {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": format!("{{\"a\":\"{TOOL}\"}}")}}]}
    ]})
    .to_string()
}

fn post(body: &str) -> Request {
    Request::post(&format!("/v1/chat/completions?note={QUERY}"), body.to_owned())
        .bearer(KEY)
        .header("x-note", HEADER)
        .header("cookie", HEADER)
        .header("user-agent", "canary-test")
}

/// Every way through the gateway that handles one of the secrets; answers of the gateway's own come back.
async fn traffic(edge: &Edge, upstream: &Upstream) -> Vec<String> {
    let mut own = Vec::new();
    let answer = || Act::Answer(Answer::json(chat("m", ANSWER)).header("x-upstream-note", HEADER).header("set-cookie", HEADER));
    for framing in Framing::ALL {
        upstream.next([answer()]);
        assert_eq!(edge.send(&post(&body(false)).framing(framing)).await.status, 200);
        upstream.next([Act::Answer(Answer::stream(chat_events("m", &[ANSWER, TOOL, ANSWER]), Duration::ZERO))]);
        assert_eq!(edge.send(&post(&body(true)).framing(framing)).await.status, 200);
    }
    // Refusals, each of which knows one of the secrets.
    let refused = [
        post(&body(false)).header("x-case", "refused"),
        post(&body(false)).header("x-case", "judged"),
        post(&format!("not JSON but {PROMPT}")),
        post(&body(false).replace("\"fast\"", &format!("\"{MODEL}\""))),
        post(&format!("{{\"{PROMPT}\": 1, \"{PROMPT}\": 2}}")),
        post(&format!("{}{}", body(false), "x".repeat(300 * 1024))),
        Request::post("/v1/chat/completions", body(false)).bearer(WRONG_KEY),
        Request::post(&format!("/v1/chat/completions?key={WRONG_KEY}"), body(false)),
        Request::post(&format!("/v1/{QUERY}"), body(false)).bearer(KEY),
        Request::new("GET", &format!("/{QUERY}/{QUERY}?key={KEY}")),
    ];
    for request in refused {
        upstream.next([answer()]);
        let answer = edge.send(&request).await;
        assert!(answer.status >= 400, "{}: {}", request.path, answer.status);
        upstream.clear();
        own.push(format!("{:?} {}", answer.headers, answer.text()));
    }
    // Providers that fail.
    let failures = [
        Act::CloseAfterBody,
        Act::Raw(format!("{ANSWER}\r\n\r\n").into_bytes()),
        Act::Answer(Answer { body: crate::upstream::Body::Cut(vec![ANSWER.into()]), ..Answer::json("") }),
        Act::Answer(Answer::json(ANSWER).header("content-encoding", "gzip")),
    ];
    for failure in failures {
        // Several attempts may be made, so the failure is there more than once.
        upstream.next(vec![failure; 4]);
        let answer = edge.send(&post(&body(false))).await;
        own.push(format!("{:?} {}", answer.headers, answer.text()));
        upstream.clear();
    }
    // Callers that fail: a bad head, a body that never ends, a connection that goes.
    for bytes in [
        format!("POST /v1/chat/completions?key={KEY} HTTP/1.1\r\nhost: a\r\nx-note: {HEADER}\rbad\r\n\r\n"),
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\nx-note: {HEADER}\r\ncontent-length: 999\r\n\r\n{PROMPT}"
        ),
        format!("{KEY} {PROMPT} {HEADER}\r\n\r\n"),
    ] {
        let mut connection = crate::client::Http1::connect(edge.port).await;
        connection.write(bytes.as_bytes()).await.unwrap();
        if let Ok(Some(answer)) = tokio::time::timeout(Duration::from_secs(2), connection.response()).await {
            own.push(answer.text());
        }
    }
    own
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_planted_secret_comes_out() {
    let upstream = Upstream::start().await;
    let mut edge = setup(&upstream).start().await;
    let own = traffic(&edge, &upstream).await;
    let metrics = edge.metrics().await;
    // A reload and a shutdown write as well.
    edge.signal("HUP", None);
    edge.logged("configuration reloaded", 0).await;
    std::fs::write(&edge.file, format!("version: 1\nproviders:\n  - {{name: x, type: openai, api_key: {PROVIDER_KEY}}}\n")).unwrap();
    edge.signal("HUP", None);
    edge.logged("the running configuration stays", 0).await;
    edge.signal("TERM", None);
    edge.ended(crate::edge::PATIENCE).await.expect("ended");
    let (log, evidence) = (edge.log(), edge.evidence());
    assert!(log.len() > 1000 && evidence.lines().count() > 15, "there was something to find: {} {}", log.len(), evidence.len());
    let mut found = Vec::new();
    for secret in PLANTED {
        for (sink, text) in
            [("the log", &log), ("evidence", &evidence), ("metrics", &metrics), ("the gateway's own answers", &own.join("\n"))]
        {
            let lines = text.lines().filter(|l| l.contains(secret)).take(3);
            found.extend(lines.map(|l| format!("{secret} in {sink}: {}", l.chars().take(500).collect::<String>())));
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}
