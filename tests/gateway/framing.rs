//! Requests that two servers could parse differently: refused before any plugin runs, and never forwarded.

use crate::client::{Http1, WATCHDOG};
use crate::edge::{Edge, KEY, Setup};
use crate::upstream::Upstream;

/// Bodies are `{}`-like filler; what matters is the head. `K` stands for the caller's key.
const CORPUS: &[(&str, &str)] = &[
    ("CL and TE", "content-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nG"),
    ("TE and CL", "transfer-encoding: chunked\r\ncontent-length: 6\r\n\r\n0\r\n\r\nG"),
    ("two lengths, different", "content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef"),
    ("two lengths, the same", "content-length: 5\r\ncontent-length: 5\r\n\r\nabcde"),
    ("a list of lengths", "content-length: 5, 5\r\n\r\nabcde"),
    ("a signed length", "content-length: +5\r\n\r\nabcde"),
    ("a negative length", "content-length: -5\r\n\r\nabcde"),
    ("a hexadecimal length", "content-length: 0x5\r\n\r\nabcde"),
    ("chunked not final", "transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n"),
    ("an unknown coding", "transfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
    ("chunked twice", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("a space before the colon", "content-length : 5\r\n\r\nabcde"),
    ("a bare CR in a value", "x-note: a\rcontent-length: 0\r\ncontent-length: 5\r\n\r\nabcde"),
    ("a bare CR at a line's end", "x-note: a\rx-other: b\r\ncontent-length: 5\r\n\r\nabcde"),
    ("a folded line", "x-note: a\r\n b\r\ncontent-length: 5\r\n\r\nabcde"),
    ("a folded line with a tab", "x-note: a\r\n\tb\r\ncontent-length: 5\r\n\r\nabcde"),
    ("a folded length", "content-length:\r\n 5\r\n\r\nabcde"),
    ("a NUL in a value", "x-note: a\0b\r\ncontent-length: 5\r\n\r\nabcde"),
];

async fn start(upstream: &Upstream) -> Edge {
    // A plugin that refuses whatever it sees: an answer of its code would mean that it was asked.
    Setup::to(upstream.port)
        .faults()
        .plugin("{name: first, use: fault, config: {how: block, status: 418, code: plugin_was_asked}}")
        .chain("pre_route: {sequential: [first]}")
        .plain("raw", "default", "")
        .start()
        .await
}

#[tokio::test]
async fn ambiguous_heads_are_400_before_any_plugin_and_never_forwarded() {
    let upstream = Upstream::start().await;
    let edge = start(&upstream).await;
    for path in ["/v1/chat/completions", "/raw/x"] {
        for (name, rest) in CORPUS {
            let mut connection = Http1::connect(edge.port).await;
            let head = format!(
                "POST {path} HTTP/1.1\r\nhost: edge.test\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n{rest}"
            );
            connection.write(head.as_bytes()).await.unwrap();
            let answer = tokio::time::timeout(WATCHDOG, connection.response()).await.unwrap_or_else(|_| panic!("{name}: hung"));
            let answer = answer.unwrap_or_else(|| panic!("{name}: closed without an answer"));
            assert_eq!(answer.status, 400, "{path} {name}: {}", answer.text());
            assert!(connection.closed(WATCHDOG).await, "{path} {name}: the connection stays open for what is left in it");
        }
    }
    assert_eq!(upstream.count(), 0, "forwarded: {:?}", upstream.seen());
    assert_eq!(edge.metric("gateway_plugin_executions_total", &["plugin_name=\"first\""]).await, 0.0);
}

#[tokio::test]
async fn a_sound_request_on_the_same_listener_reaches_the_plugin() {
    let upstream = Upstream::start().await;
    let edge = start(&upstream).await;
    let answer = edge.send(&crate::client::Request::chat(KEY, "fast", false)).await;
    assert_eq!((answer.status, answer.code().as_str()), (418, "plugin_was_asked"));
}

/// The refusal that we write ourselves says so in the usual form.
#[tokio::test]
async fn a_refusal_of_framing_has_the_usual_body() {
    let upstream = Upstream::start().await;
    let edge = start(&upstream).await;
    let mut connection = Http1::connect(edge.port).await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\ncontent-length: 6\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nG"
    );
    connection.write(head.as_bytes()).await.unwrap();
    let answer = connection.response().await.unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request_framing"));
    assert_eq!(answer.header("x-request-id").map(str::len), Some(32));
}
