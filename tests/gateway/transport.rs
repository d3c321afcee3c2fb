//! Both protocol versions on both sides, content encodings, interim answers, HEAD.

use std::io::{Read, Write};
use std::sync::Arc;

use bytes::Bytes;
use tokio_rustls::rustls;

use crate::client::{H2, Http1, Request, Response, WATCHDOG, events};
use crate::edge::{Edge, KEY, PATIENCE, Setup, comes_true};
use crate::upstream::{Act, Answer, Upstream, chat};

struct Certificate {
    pem: String,
    key_pem: String,
    der: Vec<u8>,
    key_der: Vec<u8>,
}

fn certificate() -> Certificate {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into(), "127.0.0.1".into()]).unwrap();
    Certificate {
        pem: made.cert.pem(),
        key_pem: made.signing_key.serialize_pem(),
        der: made.cert.der().to_vec(),
        key_der: made.signing_key.serialize_der(),
    }
}

#[tokio::test]
async fn tls_with_http1_and_http2_by_alpn() {
    let upstream = Upstream::start().await;
    let made = certificate();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, &made.pem).unwrap();
    std::fs::write(&key, &made.key_pem).unwrap();
    let mut setup = Setup::to(upstream.port);
    setup.server = format!("tls: {{cert: \"{}\", key: \"{}\"}}", cert.display(), key.display());
    let edge = setup.start().await;
    for stream in [false, true] {
        let request = Request::chat(KEY, "fast", stream);
        let over_h1 = Http1::connect_tls(edge.port, &made.der).await.send(&request).await.unwrap();
        assert_eq!(over_h1.status, 200, "{}", over_h1.text());
        let over_h2 = H2::connect_tls(edge.port, &made.der).await.send(&request).await;
        assert_eq!((over_h2.status, over_h2.text()), (200, over_h1.text()));
    }
}

#[tokio::test]
async fn a_provider_behind_tls_with_an_authority_of_its_own() {
    let made = certificate();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.der.clone().into()], rustls::pki_types::PrivateKeyDer::Pkcs8(made.key_der.clone().into()))
        .unwrap();
    let upstream = Upstream::tls(tokio_rustls::TlsAcceptor::from(Arc::new(config))).await;
    let dir = tempfile::tempdir().unwrap();
    let authority = dir.path().join("ca.pem");
    // Every authority of the file counts, not the first alone.
    std::fs::write(&authority, format!("{}{}", certificate().pem, made.pem)).unwrap();
    let mut setup = Setup::to(upstream.port);
    setup.base_scheme = Some("https");
    setup.provider = format!("ca_file: \"{}\"", authority.display());
    let edge = setup.start().await;
    assert_eq!(edge.send(&Request::chat(KEY, "fast", false)).await.status, 200);
    assert_eq!(upstream.last().json()["model"], "real-model-1");
    drop(edge);
    // Without that authority the certificate means nothing.
    let mut setup = Setup::to(upstream.port);
    setup.base_scheme = Some("https");
    let edge = setup.start().await;
    assert_eq!(edge.send(&Request::chat(KEY, "fast", false)).await.status, 502);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_provider_over_http2() {
    let upstream = Upstream::h2().await;
    let mut setup = Setup::to(upstream.port);
    setup.provider = "http2: true".into();
    let edge = setup.start().await;
    for stream in [false, true] {
        let request = Request::chat(KEY, "fast", stream);
        let answer = edge.send(&request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(upstream.last().text(), String::from_utf8_lossy(&request.body).replace("\"fast\"", "\"real-model-1\""));
        if stream {
            assert_eq!(events(&answer.body).last().map(String::as_str), Some("[DONE]"));
        }
    }
    let large = serde_json::json!({"model": "fast", "messages": [{"role": "user", "content": "x".repeat(3 << 20)}]}).to_string();
    let answer = edge.send(&Request::post("/v1/chat/completions", large.clone()).bearer(KEY)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(upstream.last().body.len(), large.len() + "real-model-1".len() - "fast".len());
    assert_eq!(upstream.connections(), 1, "the streams share a connection");
}

fn gzip(text: &str) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap().into()
}

/// The text of an answer, unpacked if it came packed.
fn unpacked(answer: &Response) -> String {
    match answer.header("content-encoding") {
        None | Some("identity") => answer.text(),
        Some("gzip") => {
            let mut text = String::new();
            flate2::read::GzDecoder::new(&*answer.body).read_to_string(&mut text).unwrap();
            text
        }
        Some(other) => panic!("encoded as {other}"),
    }
}

/// With and without a chain that reads the answer, the caller can read it as well.
#[tokio::test]
async fn gzip_from_the_provider() {
    let upstream = Upstream::start().await;
    let edge = Setup::to(upstream.port)
        .faults()
        .plugin("{name: judge, config: {needle: nothing-like-this}}")
        .case("judged", "{post_upstream: {sequential: [judge]}}")
        .start()
        .await;
    let body = chat("m", &"packed ".repeat(500));
    for case in ["judged", "unjudged"] {
        for accept in ["gzip", "identity"] {
            upstream.next([Act::Answer(Answer::json(gzip(&body)).header("content-encoding", "gzip"))]);
            let answer = edge.send(&Request::chat(KEY, "fast", false).header("x-case", case).header("accept-encoding", accept)).await;
            assert_eq!((answer.status, unpacked(&answer)), (200, body.clone()), "{case} {accept}");
        }
    }
}

async fn raw() -> (Upstream, Edge) {
    let upstream = Upstream::start().await;
    let edge = Setup::to(upstream.port).plain("raw", "default", "").start().await;
    (upstream, edge)
}

#[tokio::test]
async fn a_caller_that_waits_for_100_continue_gets_it_and_the_provider_is_not_asked_to() {
    let (upstream, edge) = raw().await;
    let body = Request::chat(KEY, "fast", false).body;
    let mut connection = Http1::connect(edge.port).await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    connection.write(head.as_bytes()).await.unwrap();
    let interim = tokio::time::timeout(WATCHDOG, connection.head()).await.expect("100 Continue").unwrap();
    assert_eq!(interim.status, 100);
    connection.write(&body).await.unwrap();
    let answer = connection.response().await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(upstream.last().header("expect"), None);
    // A refusal comes instead of the 100, before a byte of the body.
    let mut connection = Http1::connect(edge.port).await;
    connection.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\nexpect: 100-continue\r\n\r\n").await.unwrap();
    assert_eq!(connection.head().await.unwrap().status, 401);
}

#[tokio::test]
async fn head_and_bodiless_answers_keep_the_connection_in_step() {
    let (upstream, edge) = raw().await;
    let mut connection = Http1::connect(edge.port).await;
    for status in [200, 204, 304] {
        let answer = if status == 200 {
            Answer::json("{\"a\":1}")
        } else {
            Answer { body: crate::upstream::Body::Whole(Bytes::new()), ..Answer::json("") }.status(status)
        };
        upstream.next([Act::Answer(answer)]);
        let method = if status == 200 { "HEAD" } else { "GET" };
        let got = connection.send(&Request::new(method, "/raw/x").bearer(KEY)).await.unwrap();
        assert_eq!((got.status, got.body.len()), (status, 0), "{method}");
        assert!(got.header("x-request-id").is_some());
    }
    let got = connection.send(&Request::new("GET", "/raw/x").bearer(KEY)).await.unwrap();
    assert!(got.status == 200 && got.complete);
}

/// Hop-by-hop headers end here, in both directions.
#[tokio::test]
async fn hop_by_hop_headers_are_not_forwarded() {
    let (upstream, edge) = raw().await;
    upstream.next([Act::Answer(Answer::json("{}").header("keep-alive", "timeout=5").header("x-real", "1"))]);
    let request = Request::post("/raw/x", "{}")
        .bearer(KEY)
        .header("connection", "x-private")
        .header("x-private", "1")
        .header("te", "trailers")
        .header("keep-alive", "300");
    let answer = edge.send(&request).await;
    assert_eq!((answer.status, answer.header("keep-alive"), answer.header("x-real")), (200, None, Some("1")));
    let seen = upstream.last();
    for name in ["x-private", "keep-alive", "proxy-connection", "upgrade"] {
        assert_eq!(seen.header(name), None, "{name}");
    }
}

#[tokio::test]
async fn connections_on_both_sides_are_used_again() {
    let (upstream, edge) = raw().await;
    let mut connection = Http1::connect(edge.port).await;
    for _ in 0..20 {
        assert_eq!(connection.send(&Request::chat(KEY, "fast", false)).await.unwrap().status, 200);
    }
    assert!(upstream.connections() <= 2, "{} connections", upstream.connections());
}

/// Weights and health: a backend that is down gets nothing once its check has failed.
#[tokio::test]
async fn an_unhealthy_address_is_left_out() {
    let upstream = Upstream::start().await;
    let dead = crate::edge::free_port();
    let mut setup = Setup::to(upstream.port);
    setup.routes.push(format!(
        "{{name: pool, match: {{path_prefix: /pool/}}, upstream: {{addresses: [\"127.0.0.1:{dead}\", \"127.0.0.1:{}\"], weights: [9, 1], health_check: {{interval: 100ms}}}}}}",
        upstream.port
    ));
    let edge = setup.start().await;
    // Nine of ten would go to the one that is down.
    let well = async || {
        for _ in 0..20 {
            if edge.send(&Request::new("GET", "/pool/x").bearer(KEY)).await.status != 200 {
                return false;
            }
        }
        true
    };
    assert!(comes_true(PATIENCE, well).await, "{}", edge.log());
}
