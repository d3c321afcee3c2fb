//! Answers that are held until they are judged, and what happens when one is too large to hold.

use bytes::Bytes;

use crate::client::{Framing, Http1, Request};
use crate::edge::{KEY, Setup};
use crate::upstream::{Act, Answer, Body, Upstream, chat};

const NEEDLE: &str = "needle-7f3a";

fn gzip(body: &str) -> Bytes {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(body.as_bytes()).unwrap();
    encoder.finish().unwrap().into()
}

fn judged(upstream: &Upstream) -> Setup {
    Setup::to(upstream.port)
        .faults()
        .plugin(format!("{{name: judge, config: {{needle: {NEEDLE}}}}}"))
        .chain("post_upstream: {sequential: [judge]}")
}

fn answers() -> Vec<(&'static str, Answer)> {
    let body = chat("m", &format!("one {NEEDLE} two"));
    let parts = body.as_bytes().chunks(10).map(Bytes::copy_from_slice).collect();
    let mut chunked = Answer::json("");
    chunked.body = Body::Parts(parts, std::time::Duration::from_millis(1));
    vec![
        ("whole", Answer::json(body.clone())),
        ("chunked", chunked),
        ("gzip", Answer::json(gzip(&body)).header("content-encoding", "gzip")),
    ]
}

#[tokio::test]
async fn a_200_becomes_the_plugins_403_and_no_byte_of_the_body_leaves() {
    let upstream = Upstream::start().await;
    let edge = judged(&upstream).start().await;
    for (name, answer) in answers() {
        for framing in [Framing::Length, Framing::H2] {
            upstream.next([Act::Answer(answer.clone().header("x-from-upstream", "yes"))]);
            let got = edge.send(&Request::chat(KEY, "fast", false).framing(framing)).await;
            assert_eq!((got.status, got.code().as_str()), (403, "answer_refused"), "{name} {framing:?}: {}", got.text());
            assert!(got.complete && !got.text().contains(NEEDLE) && !got.text().contains("choices"), "{name}: {}", got.text());
            assert_eq!(got.header("x-from-upstream"), None, "{name}: the upstream's head does not leave either");
            assert_eq!(got.header("content-encoding"), None, "{name}");
        }
    }
    assert_eq!(upstream.count(), answers().len() * 2);
}

#[tokio::test]
async fn an_answer_that_passes_arrives_as_it_was() {
    let upstream = Upstream::start().await;
    let edge = judged(&upstream).start().await;
    let body = chat("m", "nothing to see");
    for status in [200, 400, 404, 429, 500, 529] {
        upstream.next([Act::Answer(Answer::json(body.clone()).status(status).header("x-from-upstream", "yes"))]);
        let got = edge.send(&Request::chat(KEY, "fast", false)).await;
        assert_eq!((got.status, got.text()), (status, body.clone()));
        assert_eq!(got.header("x-from-upstream"), Some("yes"));
    }
}

#[tokio::test]
async fn an_answer_that_grows_or_shrinks_is_framed_anew() {
    let upstream = Upstream::start().await;
    let mut setup = Setup::to(upstream.port)
        .faults()
        .plugin("{name: shrink, use: rewrite, config: {edit: shrink}}")
        .plugin("{name: grow, use: rewrite, config: {edit: grow}}");
    setup.chains = vec!["shrunk: {post_upstream: {sequential: [shrink]}}".into(), "grown: {post_upstream: {sequential: [grow]}}".into()];
    for name in ["shrunk", "grown"] {
        setup = setup.plain(name, name, "");
    }
    let edge = setup.start().await;
    for size in [0_usize, 1, 65_535, 65_536, 65_537, 1 << 20] {
        let body = Bytes::from(vec![b'a'; size]);
        for framing in Framing::ALL {
            for (name, wanted) in [("shrunk", size / 2), ("grown", size + crate::faults::GROWTH.len())] {
                upstream.next([Act::Answer(Answer::json(body.clone()))]);
                let got = edge.send(&Request::post(&format!("/{name}/x"), "{}").bearer(KEY).framing(framing)).await;
                assert!(got.complete, "{name} {size} {framing:?}: cut");
                assert_eq!((got.status, got.body.len()), (200, wanted), "{name} {size} {framing:?}");
            }
        }
    }
}

#[tokio::test]
async fn an_answer_too_large_to_hold_follows_the_routes_policy() {
    let upstream = Upstream::start().await;
    let mut setup = judged(&upstream);
    setup.server = "max_held_response: 64KiB".into();
    for (name, policy) in [("strict", ""), ("lax", ", held_response: {overflow: allow}")] {
        setup = setup.plain(name, "default", policy);
    }
    let edge = setup.start().await;
    for (size, parts) in [(64 * 1024 + 1, false), (64 * 1024 + 1, true), (3 << 20, false), (3 << 20, true)] {
        let answer = || {
            let mut answer = Answer::json("");
            let part = Bytes::from(vec![b'x'; 4096]);
            answer.body = if parts { Body::Parts(vec![part; size / 4096 + 1], std::time::Duration::ZERO) } else { Body::Huge(size) };
            Act::Answer(answer)
        };
        upstream.next([answer()]);
        let strict = edge.send(&Request::post("/strict/x", "{}").bearer(KEY)).await;
        assert_eq!((strict.status, strict.code().as_str()), (502, "held_response_too_large"), "{size} {parts}");
        upstream.next([answer()]);
        let lax = edge.send(&Request::post("/lax/x", "{}").bearer(KEY)).await;
        assert!(lax.status == 200 && lax.complete && lax.body.len() >= size, "{size} {parts}: {} {}", lax.status, lax.body.len());
        assert!(lax.body.iter().all(|b| *b == b'x'));
    }
    // Exactly the cap is still held.
    upstream.next([Act::Answer(Answer { body: Body::Huge(64 * 1024), ..Answer::json("") })]);
    assert_eq!(edge.send(&Request::post("/strict/x", "{}").bearer(KEY)).await.status, 200);
}

/// What cannot be read cannot be judged.
#[tokio::test]
async fn an_answer_that_cannot_be_decoded_is_refused() {
    let upstream = Upstream::start().await;
    let edge = judged(&upstream).start().await;
    for (name, coding, body) in
        [("unknown", "x-own", Bytes::from_static(b"abc")), ("broken", "gzip", Bytes::from_static(b"not gzip at all"))]
    {
        upstream.next([Act::Answer(Answer::json(body).header("content-encoding", coding))]);
        let got = edge.send(&Request::chat(KEY, "fast", false)).await;
        assert_eq!((got.status, got.code().as_str()), (502, "upstream_unreadable"), "{name}");
    }
}

/// A small answer that unpacks into a large one is measured unpacked.
#[tokio::test]
async fn a_bomb_is_stopped_at_the_cap() {
    let upstream = Upstream::start().await;
    let mut setup = judged(&upstream);
    setup.server = "max_held_response: 1MiB".into();
    let edge = setup.start().await;
    upstream.next([Act::Answer(Answer::json(gzip(&"0".repeat(8 << 20))).header("content-encoding", "gzip"))]);
    let got = edge.send(&Request::chat(KEY, "fast", false)).await;
    assert_eq!((got.status, got.code().as_str()), (502, "held_response_too_large"));
}

/// The upstream breaks off inside a held answer: the caller gets an error with a status, not half an answer.
#[tokio::test]
async fn a_held_answer_that_breaks_off_is_502() {
    let upstream = Upstream::start().await;
    let edge = judged(&upstream).start().await;
    upstream.next([Act::Answer(Answer { body: Body::Cut(vec![Bytes::from_static(b"{\"half\":")]), ..Answer::json("") })]);
    let got = edge.send(&Request::chat(KEY, "fast", false)).await;
    assert_eq!((got.status, got.code().as_str(), got.complete), (502, "upstream_error", true), "{}", got.text());
    assert!(!got.text().contains("half"));
}

#[tokio::test]
async fn head_has_no_body_to_hold() {
    let upstream = Upstream::start().await;
    let edge = judged(&upstream).plain("raw", "default", "").start().await;
    let mut connection = Http1::connect(edge.port).await;
    for _ in 0..2 {
        let got = connection.send(&Request::new("HEAD", "/raw/x").bearer(KEY)).await.unwrap();
        assert_eq!((got.status, got.body.len()), (200, 0));
    }
    let got = connection.send(&Request::new("GET", "/raw/x").bearer(KEY)).await.unwrap();
    assert!(got.status == 200 && got.complete, "the connection is still in step");
}
