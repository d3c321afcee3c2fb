//! What applications send to the gateway and what providers receive: endpoints, models, credentials.

use std::time::{Duration, Instant};

use crate::client::{Framing, Http1, Request, events};
use crate::edge::{Edge, KEY, PROVIDER_KEY, Setup};
use crate::upstream::{Act, Answer, Seen, Upstream, chat_events};

async fn start() -> (Upstream, Edge) {
    let upstream = Upstream::start().await;
    let edge = Setup::to(upstream.port).start().await;
    (upstream, edge)
}

/// The caller's key is nowhere in what the provider got, the provider's is where the provider wants it.
fn check_credentials(seen: &Seen, header: &str, value: &str) {
    assert_eq!(seen.header(header), Some(value), "{:?}", seen.headers);
    let all = format!("{} {:?} {}", seen.path, seen.headers, seen.text());
    assert!(!all.contains(KEY), "the caller's key was forwarded: {all}");
    for name in ["authorization", "x-api-key", "x-goog-api-key", "proxy-authorization", "cookie"] {
        let values: Vec<_> = seen.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
        assert!(values.is_empty() || name == header && values == [value], "{name}: {values:?}");
    }
}

#[tokio::test]
async fn chat_as_json() {
    let (upstream, edge) = start().await;
    for framing in Framing::ALL {
        let request = Request::chat(KEY, "fast", false).header("openai-beta", "assistants=v2").framing(framing);
        let answer = edge.send(&request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["choices"][0]["message"]["content"], "Hello from upstream.");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let id = answer.header("x-request-id").unwrap();
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        let seen = upstream.last();
        check_credentials(&seen, "authorization", &format!("Bearer {PROVIDER_KEY}"));
        assert_eq!((seen.method.as_str(), seen.path.as_str()), ("POST", "/v1/chat/completions"));
        assert_eq!(seen.header("openai-beta"), Some("assistants=v2"), "other headers go through");
        assert_eq!(seen.header("host").or(seen.header(":authority")), Some(format!("127.0.0.1:{}", upstream.port).as_str()));
        // The slug is spliced in; not a byte besides it changes.
        let expected = String::from_utf8_lossy(&request.body).replace("\"fast\"", "\"real-model-1\"");
        assert_eq!(seen.text(), expected);
    }
}

/// Odd but valid JSON arrives as it was written: spaces, order, escapes, numbers beyond what a float keeps.
#[tokio::test]
async fn only_the_model_changes_in_the_body() {
    let (upstream, edge) = start().await;
    let body = "{ \"n\" : 12345678901234567890123, \"x\":1.10e+02,\n\t\"messages\":[{\"content\":\"\\u00e9\\/\\ud83d\\ude00 \\\"model\\\":\\\"fast\\\"\",\"role\":\"user\"}], \"model\" :\"fast\" , \"z\":null}";
    let answer = edge.send(&Request::post("/v1/chat/completions", body).bearer(KEY)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(upstream.last().text(), body.replace("\"model\" :\"fast\"", "\"model\" :\"real-model-1\""));
}

#[tokio::test]
async fn chat_as_a_stream_arrives_event_by_event() {
    let (upstream, edge) = start().await;
    let parts = chat_events("m", &["a", "b", "c"]);
    let whole: Vec<u8> = parts.concat();
    upstream.next([Act::Answer(Answer::stream(parts, Duration::from_millis(80)))]);
    let mut connection = Http1::connect(edge.port).await;
    let from = Instant::now();
    connection.write(&Request::chat(KEY, "fast", true).encode()).await.unwrap();
    let head = connection.head().await.unwrap();
    assert_eq!((head.status, head.header("content-type")), (200, Some("text/event-stream")));
    let first = connection.part().await.unwrap().unwrap();
    assert_eq!(upstream.answered(), 0, "the first event waited for the others");
    let rest = connection.finish(head).await;
    assert!(rest.complete && from.elapsed() > Duration::from_millis(400));
    assert_eq!([first, rest.body].concat(), whole, "not one byte of the stream differs");
}

#[tokio::test]
async fn a_stream_over_http2() {
    let (_upstream, edge) = start().await;
    let answer = edge.send(&Request::chat(KEY, "fast", true).framing(Framing::H2)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(events(&answer.body).last().map(String::as_str), Some("[DONE]"));
}

#[tokio::test]
async fn embeddings() {
    let (upstream, edge) = start().await;
    let body = serde_json::json!({"model": "fast", "input": ["a", "b"]}).to_string();
    let answer = edge.send(&Request::post("/v1/embeddings", body).bearer(KEY)).await;
    assert_eq!(answer.json()["data"][0]["embedding"][1], -0.5);
    assert_eq!(upstream.last().json()["model"], "real-model-1");
}

#[tokio::test]
async fn messages_of_anthropic_as_json_and_as_a_stream() {
    let (upstream, edge) = start().await;
    for stream in [false, true] {
        let body = serde_json::json!({"model": "claude-fast", "max_tokens": 64, "stream": stream, "messages": [{"role": "user", "content": "Hi"}]});
        let request = Request::post("/v1/messages", body.to_string()).header("x-api-key", KEY).header("anthropic-version", "2023-06-01");
        let answer = edge.send(&request).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let seen = upstream.last();
        check_credentials(&seen, "x-api-key", PROVIDER_KEY);
        assert_eq!(seen.header("anthropic-version"), Some("2023-06-01"));
        assert_eq!(seen.json()["model"], "claude-real-1");
        if stream {
            assert!(answer.text().contains("event: message_stop"), "{}", answer.text());
        } else {
            assert_eq!(answer.json()["content"][0]["text"], "Hello from upstream.");
        }
    }
}

/// Every way to present a key works, and none of them is forwarded.
#[tokio::test]
async fn the_key_is_taken_from_each_of_its_places_and_forwarded_from_none() {
    let (upstream, edge) = start().await;
    let body = || Request::chat(KEY, "fast", false).body;
    let plain = |path: &str| Request::post(path, body());
    let requests = [
        plain("/v1/chat/completions").bearer(KEY),
        plain("/v1/chat/completions").header("Authorization", &format!("bearer {KEY}")),
        plain("/v1/chat/completions").header("X-API-Key", KEY),
        plain("/v1/chat/completions").header("x-goog-api-key", KEY),
        plain(&format!("/v1/chat/completions?key={KEY}")),
        plain(&format!("/v1/chat/completions?a=1&key={KEY}&b=2")),
        plain("/v1/chat/completions")
            .bearer(KEY)
            .header("x-api-key", KEY)
            .header("cookie", "session=1")
            .header("proxy-authorization", "Basic x"),
    ];
    for request in requests {
        let answer = edge.send(&request).await;
        assert_eq!(answer.status, 200, "{} {:?}: {}", request.path, request.headers, answer.text());
        check_credentials(&upstream.last(), "authorization", &format!("Bearer {PROVIDER_KEY}"));
    }
    assert_eq!(upstream.seen()[5].path, "/v1/chat/completions?a=1&b=2", "the rest of the query stays");
}

/// Credentials do not reach plain upstreams either.
#[tokio::test]
async fn a_plain_upstream_gets_no_credentials() {
    let upstream = Upstream::start().await;
    let edge = Setup::to(upstream.port).plain("raw", "default", "").start().await;
    let answer = edge.send(&Request::post("/raw/a%20b?x=%2F&y", "[1]").bearer(KEY).header("x-mine", "1")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = upstream.last();
    assert_eq!(seen.path, "/raw/a%20b?x=%2F&y", "path and query as they were");
    assert_eq!((seen.header("x-mine"), seen.header("authorization")), (Some("1"), None));
    assert!(!format!("{:?}", seen.headers).contains(KEY));
}

#[tokio::test]
async fn the_list_of_models_is_what_the_key_may_use() {
    let (upstream, edge) = start().await;
    let answer = edge.send(&Request::new("GET", "/v1/models").bearer(KEY)).await;
    let names: Vec<_> = answer.json()["data"].as_array().unwrap().iter().map(|m| m["id"].as_str().unwrap().to_owned()).collect();
    assert!(names.contains(&"fast".to_owned()) && !names.contains(&"secret".to_owned()), "{names:?}");
    assert_eq!(upstream.count(), 0);
}

/// The provider's own errors pass with status and body, so that SDKs see what they know.
#[tokio::test]
async fn errors_of_the_provider_pass_through() {
    let (upstream, edge) = start().await;
    let body = r#"{"error":{"message":"slow down","type":"rate_limit","code":"rate_limited"}}"#;
    for status in [400, 401, 404, 429, 500, 503] {
        upstream.next([Act::Answer(Answer::json(body).status(status).header("retry-after", "7"))]);
        let answer = edge.send(&Request::chat(KEY, "fast", false)).await;
        assert_eq!((answer.status, answer.text().as_str(), answer.header("retry-after")), (status, body, Some("7")));
    }
}

#[tokio::test]
async fn a_provider_that_is_down_is_502_and_one_that_is_slow_504() {
    let upstream = Upstream::start().await;
    let edge = Setup::to(crate::edge::free_port()).start().await;
    let answer = edge.send(&Request::chat(KEY, "fast", false)).await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_error"));
    drop(edge);
    let mut setup = Setup::to(upstream.port);
    setup.provider = "timeout: 2s".into();
    let edge = setup.start().await;
    upstream.next([Act::Answer(Answer::json("{}").delay(Duration::from_secs(20)))]);
    let answer = edge.send(&Request::chat(KEY, "fast", false)).await;
    assert_eq!((answer.status, answer.code().as_str()), (504, "upstream_timeout"));
    // What is not HTTP is no answer.
    upstream.next([Act::Raw(b"SSH-2.0-nothing\r\n\r\n".to_vec())]);
    let answer = edge.send(&Request::chat(KEY, "fast", false)).await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_error"));
}

/// A plain stream that breaks off is seen to break off: no `[DONE]` is made up.
#[tokio::test]
async fn a_stream_that_breaks_off_is_not_ended_politely() {
    let (upstream, edge) = start().await;
    let parts = chat_events("m", &["a", "b"])[..2].to_vec();
    upstream.next([Act::Answer(Answer { body: crate::upstream::Body::Cut(parts), ..Answer::stream(vec![], Duration::ZERO) })]);
    let answer = edge.send(&Request::chat(KEY, "fast", true)).await;
    let ended_with_error = events(&answer.body).last().is_some_and(|e| e.contains("error"));
    assert!(!answer.complete || ended_with_error, "{}", answer.text());
    assert!(!answer.text().contains("[DONE]"));
}
