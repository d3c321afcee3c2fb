//! Answers that are held until they are judged, and answers too large to hold.

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

const RANGES: [(&str, &str); 3] = [("range", "bytes=0-16"), ("if-range", "\"1\""), ("request-range", "bytes=17-")];

/// Routes to a plain upstream: `judged` has a chain that reads answers, `changed` one that changes them, `bare` one that does
/// neither.
fn plain(upstream: &Upstream) -> Setup {
    let mut setup = judged(upstream)
        .plugin("{name: grow, use: rewrite, config: {edit: append, text: more}}")
        .plugin("{name: frames, use: frames, config: {how: pass, at: 0}}")
        .plain("judged", "default", "")
        .plain("changed", "changed", "")
        .plain("streamed", "streamed", "")
        .plain("bare", "bare", "");
    setup.chains = vec![
        "changed: {pre_upstream: {sequential: [grow]}, post_upstream: {sequential: [grow]}}".into(),
        "streamed: {post_upstream: {sequential: [frames]}}".into(),
        "bare: {}".into(),
    ];
    setup
}

/// Whoever could ask for parts of an answer would get from no part what a gate would have taken out of the whole.
#[tokio::test]
async fn parts_of_an_answer_are_not_asked_for_and_not_passed_on_where_it_is_read() {
    let upstream = Upstream::start().await;
    let edge = plain(&upstream).start().await;
    for (path, passes) in [("/judged/x", false), ("/streamed/x", false), ("/bare/x", true), ("/v1/chat/completions", false)] {
        let mut request = if path.starts_with("/v1") { Request::chat(KEY, "fast", false) } else { Request::new("GET", path).bearer(KEY) };
        for (name, value) in RANGES {
            request = request.header(name, value);
        }
        upstream.next([Act::Answer(Answer::json("{}").header("accept-ranges", "bytes"))]);
        let got = edge.send(&request).await;
        assert_eq!(got.status, 200, "{path}: {}", got.text());
        assert_eq!(got.header("accept-ranges").is_some(), passes, "{path}");
        for (name, _) in RANGES {
            assert_eq!(upstream.last().header(name).is_some(), passes, "{path} {name}");
        }
    }
    for (name, part) in [
        ("206", Answer::json("{}").status(206)),
        ("a range", Answer::json("{}").header("content-range", "bytes 0-1/9")),
        ("parts", Answer { headers: vec![("content-type".into(), "Multipart/ByteRanges; boundary=a".into())], ..Answer::json("{}") }),
        ("206 of a stream", Answer::stream(vec![Bytes::from_static(b"data: {}\n\n")], std::time::Duration::ZERO).status(206)),
    ] {
        for (path, passes) in [("/judged/x", false), ("/streamed/x", false), ("/bare/x", true)] {
            upstream.next([Act::Answer(part.clone())]);
            let got = edge.send(&Request::new("GET", path).bearer(KEY)).await;
            assert_eq!(got.status, if passes { part.status } else { 502 }, "{name} {path}: {}", got.text());
            assert!(passes || got.code() == "upstream_unreadable", "{name} {path}: {}", got.text());
        }
    }
}

/// What is said of the bytes of a body would be wrong of the bytes that leave.
#[tokio::test]
async fn validators_and_digests_go_with_the_bytes_they_speak_of() {
    const FIELDS: [&str; 5] = ["etag", "content-md5", "digest", "content-digest", "repr-digest"];
    let upstream = Upstream::start().await;
    let edge = plain(&upstream).start().await;
    let vouched = |mut answer: Answer| {
        for name in FIELDS {
            answer = answer.header(name, "\"v\"");
        }
        Act::Answer(answer)
    };
    let stream = || Answer::stream(vec![Bytes::from_static(b"data: {}\n\n")], std::time::Duration::ZERO);
    let packed = || Answer::json(gzip("{}")).header("content-encoding", "gzip");
    let cases = [
        ("judged", "GET", Answer::json("{}"), true),
        ("judged", "GET", packed(), false),
        ("judged", "HEAD", Answer::json("{}"), false),
        ("judged", "HEAD", Answer::json("").status(304), true),
        ("changed", "GET", Answer::json("{}"), false),
        ("streamed", "GET", stream(), false),
        ("bare", "GET", packed(), true),
        ("bare", "GET", stream(), true),
        ("bare", "HEAD", Answer::json("{}"), true),
    ];
    for (route, method, answer, kept) in cases {
        upstream.next([vouched(answer)]);
        let mut connection = Http1::connect(edge.port).await;
        let got = connection.send(&Request::new(method, &format!("/{route}/x")).bearer(KEY)).await.unwrap();
        for name in FIELDS {
            assert_eq!(got.header(name).is_some(), kept, "{route} {method} {name}: {:?}", got.headers);
        }
        assert!(method != "HEAD" || got.status == 304 || got.header("content-length").is_some() == kept, "{route}: {:?}", got.headers);
    }
    for (route, kept) in [("judged", true), ("changed", false), ("bare", true)] {
        let mut request = Request::post(&format!("/{route}/x"), "{}").bearer(KEY);
        for name in &FIELDS[1..] {
            request = request.header(name, "v");
        }
        edge.send(&request).await;
        for name in &FIELDS[1..] {
            assert_eq!(upstream.last().header(name).is_some(), kept, "{route} {name}");
        }
    }
}

/// Only the gateway knows what its chain did.
#[tokio::test]
async fn nobody_else_writes_receipts() {
    let upstream = Upstream::start().await;
    let mut setup = plain(&upstream);
    setup.routes.push("{name: told, match: {path: /v1/chat/completions, headers: {x-case: told}}, chain: bare, receipt: true}".into());
    let edge = setup.start().await;
    let forged = || Act::Answer(Answer::json("{}").header("Odock-Receipt", "chain=forged"));
    for request in [
        Request::chat(KEY, "fast", false),
        Request::chat(KEY, "fast", false).header("x-case", "told"),
        Request::new("GET", "/bare/x").bearer(KEY),
        Request::new("GET", "/judged/x").bearer(KEY),
    ] {
        upstream.next([forged()]);
        let got = edge.send(&request).await;
        let receipts: Vec<_> = got.headers.iter().filter(|(name, _)| name == "odock-receipt").map(|(_, value)| value.as_str()).collect();
        assert!(!receipts.contains(&"chain=forged"), "{}: {receipts:?}", request.path);
        assert_eq!(receipts.len(), usize::from(request.headers.iter().any(|(name, _)| name == "x-case")), "{}", request.path);
    }
    let heads = b"HTTP/1.1 103 Early Hints\r\nodock-receipt: forged\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    upstream.next([Act::Raw(heads.to_vec())]);
    let mut connection = Http1::connect(edge.port).await;
    connection.write(&Request::new("GET", "/bare/x").bearer(KEY).encode()).await.unwrap();
    while let Some(head) = connection.head().await {
        assert_eq!(head.header("odock-receipt"), None, "{}", head.status);
        if head.status == 200 {
            return;
        }
    }
    panic!("there was no answer");
}

/// A target with a host in it would be about that host, whatever the operator fixed.
#[tokio::test]
async fn a_plain_upstream_gets_paths_and_not_the_hosts_of_callers() {
    let upstream = Upstream::start().await;
    let mut setup = plain(&upstream);
    setup.routes.push(format!(
        "{{name: fixed, match: {{path_prefix: /p/}}, chain: bare, upstream: {{addresses: [\"127.0.0.1:{}\"], host: fixed.host}}}}",
        upstream.port
    ));
    let edge = setup.start().await;
    for (target, sent) in [("http://internal.vhost/p/x?q=1", "/p/x?q=1"), ("/p/x?q=2", "/p/x?q=2")] {
        let mut connection = Http1::connect(edge.port).await;
        let head = format!("GET {target} HTTP/1.1\r\nhost: internal.vhost\r\nauthorization: Bearer {KEY}\r\n\r\n");
        connection.write(head.as_bytes()).await.unwrap();
        assert_eq!(connection.response().await.unwrap().status, 200, "{target}");
        let seen = upstream.last();
        assert_eq!((seen.path.as_str(), seen.header("host")), (sent, Some("fixed.host")), "{target}");
    }
}

/// HTTP/2 begins with more bytes than a short request has: nobody waits for them.
#[tokio::test]
async fn a_request_shorter_than_the_preface_of_http2_is_answered() {
    let upstream = Upstream::start().await;
    let edge = plain(&upstream).start().await;
    for request in ["GET / HTTP/1.0\r\n\r\n", "P / HTTP/1.0\r\n\r\n", "PRI / HTTP/1.0\r\n\r\n"] {
        let mut connection = Http1::connect(edge.port).await;
        connection.write(request.as_bytes()).await.unwrap();
        let answer = tokio::time::timeout(std::time::Duration::from_secs(3), connection.response()).await;
        let status = answer.ok().flatten().map(|answer| answer.status);
        assert!(status.is_some_and(|status| [404, 405].contains(&status)), "{request:?}: {status:?}");
    }
    // In pieces it is HTTP/2 all the same, and HTTP/1 too.
    let mut connection = Http1::connect(edge.port).await;
    for piece in ["G", "ET /bare/x HTTP/1.1\r\nhost: a\r\n", &format!("authorization: Bearer {KEY}\r\n\r\n")] {
        connection.write(piece.as_bytes()).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(connection.response().await.unwrap().status, 200);
    assert_eq!(edge.send(&Request::new("GET", "/bare/x").bearer(KEY).framing(Framing::H2)).await.status, 200);
}
