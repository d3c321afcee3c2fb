#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn anywhere() -> Options {
    Options::at(([127, 0, 0, 1], 0).into())
}

fn start(options: Options) -> (String, Seen) {
    let provider = bind(options).unwrap();
    let (url, seen) = (format!("http://{}", provider.address()), provider.seen());
    tokio::spawn(provider.serve());
    (url, seen)
}

fn client() -> reqwest::Client {
    pingora::tls::install_default_crypto_provider();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn post(url: &str, body: &Value) -> reqwest::Response {
    client().post(url).header("content-type", "application/json").body(body.to_string()).send().await.unwrap()
}

async fn json_of(response: reqwest::Response) -> Value {
    serde_json::from_slice(&response.bytes().await.unwrap()).unwrap()
}

/// The `data` of each event as JSON, `[DONE]` as a string.
async fn events(response: reqwest::Response) -> Vec<Value> {
    let text = String::from_utf8(response.bytes().await.unwrap().to_vec()).unwrap();
    let data = |event: &str| event.lines().find_map(|l| l.strip_prefix("data: ").map(str::to_owned)).unwrap();
    assert!(text.ends_with("\n\n"));
    text.trim_end().split("\n\n").map(|e| serde_json::from_str(&data(e)).unwrap_or_else(|_| data(e).into())).collect()
}

fn joined(events: &[Value], pointer: &str) -> String {
    events.iter().filter_map(|e| e.pointer(pointer)).filter_map(Value::as_str).collect()
}

const TOOL: &str = r#"{"model":"m","stream":true,"messages":[{"role":"user","content":"call tool weather for jane@example.com"}]}"#;

fn ask(stream: bool) -> Value {
    json!({"model": "m", "stream": stream, "stream_options": {"include_usage": true}, "messages": [{"role": "user", "content": "hello \"you\""}]})
}

#[tokio::test]
async fn speaks_openai() {
    let (url, seen) = start(anywhere());
    let chat = format!("{url}/v1/chat/completions");
    let whole = json_of(post(&chat, &ask(false)).await).await;
    assert_eq!(whole["choices"][0]["message"]["content"], "You said: hello \"you\"");
    assert_eq!((&whole["model"], &whole["choices"][0]["finish_reason"]), (&json!("m"), &json!("stop")));

    let stream = events(post(&chat, &ask(true)).await).await;
    assert_eq!(joined(&stream, "/choices/0/delta/content"), "You said: hello \"you\"");
    let [.., usage, done] = stream.as_slice() else { panic!("short stream") };
    assert_eq!((&usage["usage"], usage["choices"].as_array().unwrap().len()), (&whole["usage"], 0));
    assert_eq!(done, "[DONE]");

    let mut tool: Value = serde_json::from_str(TOOL).unwrap();
    tool["tools"] = json!([{"type": "function", "function": {"name": "mail"}}, {"type": "function", "function": {"name": "weather"}}]);
    let stream = events(post(&chat, &tool).await).await;
    let arguments: Value = serde_json::from_str(&joined(&stream, "/choices/0/delta/tool_calls/0/function/arguments")).unwrap();
    assert_eq!(arguments["text"], "call tool weather for jane@example.com");
    assert_eq!(joined(&stream, "/choices/0/delta/tool_calls/0/function/name"), "weather");
    tool["stream"] = json!(false);
    let whole = json_of(post(&chat, &tool).await).await;
    let call = &whole["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"];
    assert_eq!(serde_json::from_str::<Value>(call.as_str().unwrap()).unwrap(), arguments);

    let completion = json_of(post(&format!("{url}/v1/completions"), &json!({"prompt": "p"})).await).await;
    assert_eq!(completion["choices"][0]["text"], "You said: p");
    let response = json_of(post(&format!("{url}/v1/responses"), &json!({"input": "i"})).await).await;
    assert_eq!(response["output"][0]["content"][0]["text"], "You said: i");
    let stream = events(post(&format!("{url}/v1/responses"), &json!({"input": "i", "stream": true})).await).await;
    assert_eq!(joined(&stream, "/delta"), "You said: i");
    assert_eq!(stream.last().unwrap()["response"]["output"], response["output"]);
    let vectors = json_of(post(&format!("{url}/v1/embeddings"), &json!({"input": ["a", "b"], "dimensions": 3})).await).await;
    assert_eq!(vectors["data"][1]["embedding"].as_array().unwrap().len(), 3);
    assert_ne!(vectors["data"][0]["embedding"], vectors["data"][1]["embedding"]);
    let models = client().get(format!("{url}/v1/models")).send().await.unwrap();
    assert_eq!(json_of(models).await["data"][0]["id"], "mock-model");
    assert_eq!(post(&format!("{url}/v1/nothing"), &json!({})).await.status(), 404);
    assert_eq!(seen.count(), 10);
}

#[tokio::test]
async fn speaks_anthropic() {
    let (url, _) = start(anywhere());
    let messages = format!("{url}/v1/messages");
    let whole = json_of(post(&messages, &ask(false)).await).await;
    assert_eq!(whole["content"][0]["text"], "You said: hello \"you\"");
    let stream = events(post(&messages, &ask(true)).await).await;
    assert_eq!(joined(&stream, "/delta/text"), "You said: hello \"you\"");
    assert_eq!(stream.last().unwrap()["type"], "message_stop");
    let mut tool: Value = serde_json::from_str(TOOL).unwrap();
    tool["tools"] = json!([{"name": "weather", "input_schema": {}}]);
    let stream = events(post(&messages, &tool).await).await;
    let input: Value = serde_json::from_str(&joined(&stream, "/delta/partial_json")).unwrap();
    assert_eq!(input["text"], "call tool weather for jane@example.com");
    tool["stream"] = json!(false);
    let whole = json_of(post(&messages, &tool).await).await;
    assert_eq!((&whole["content"][0]["input"], &whole["stop_reason"]), (&input, &json!("tool_use")));
    let count = json_of(post(&format!("{messages}/count_tokens"), &ask(false)).await).await;
    assert_eq!(count["input_tokens"], 4);
}

#[tokio::test]
async fn echoes_over_both_protocols_and_checks_the_key() {
    let (url, _) = start(Options { require_key: Some("k".into()), ..anywhere() });
    assert_eq!(post(&format!("{url}/echo"), &json!({})).await.status(), 401);
    let h2 = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    for (client, version) in [(client(), "HTTP/1.1"), (h2, "HTTP/2.0")] {
        let request = client.post(format!("{url}/echo?a=b")).header("x-api-key", "k").header("x-one", "1").body(vec![b'x'; 300_000]);
        let echo = json_of(request.send().await.unwrap()).await;
        assert_eq!((&echo["method"], &echo["path"], &echo["query"]), (&json!("POST"), &json!("/echo"), &json!("a=b")));
        assert_eq!((&echo["body_len"], &echo["headers"]["x-one"], &echo["version"]), (&json!(300_000), &json!("1"), &json!(version)));
        assert_eq!(echo["body_sha256"].as_str().unwrap().len(), 64);
        let request = client.post(format!("{url}/v1/chat/completions")).bearer_auth("k").body(ask(true).to_string());
        assert_eq!(events(request.send().await.unwrap()).await.last().unwrap(), "[DONE]");
    }
}

#[tokio::test]
async fn answers_as_asked() {
    let (url, _) = start(anywhere());
    let chat = format!("{url}/v1/chat/completions");
    let body = |mock: Value| json!({"messages": [], "mock": mock});
    let refused = post(&chat, &body(json!({"status": 429}))).await;
    assert_eq!((refused.status().as_u16(), refused.headers()["retry-after"].to_str().unwrap()), (429, "1"));
    assert_eq!(json_of(refused).await["error"]["code"], "rate_limit_exceeded");
    assert_eq!(post(&chat, &body(json!({"sttus": 429}))).await.status(), 400);
    let gzip = post(&chat, &body(json!({"gzip": true, "answer": "literal", "size": 5000}))).await;
    assert_eq!(gzip.headers()["content-encoding"], "gzip");
    let mut plain = String::new();
    let raw = gzip.bytes().await.unwrap();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(raw.as_ref()), &mut plain).unwrap();
    let answer: Value = serde_json::from_str(&plain).unwrap();
    let text = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(text.starts_with("literal") && text.len() == 5000);
    let begun = Instant::now();
    let slow = json!({"messages": [], "stream": true, "mock": {"latency_ms": 30, "chunk_delay_ms": 10, "chunks": 4, "answer": "abcd"}});
    assert_eq!(events(post(&chat, &slow).await).await.len(), 7);
    assert!(begun.elapsed() >= Duration::from_millis(80));
}

/// What a raw HTTP/1.1 client reads until the end of the connection, and whether that end was a reset.
async fn raw(url: &str, fault: &str, stream: bool) -> (Vec<u8>, bool) {
    let mut socket = tokio::net::TcpStream::connect(url.trim_start_matches("http://")).await.unwrap();
    let body = format!(r#"{{"messages":[],"stream":{stream},"mock":{{"fault":"{fault}","size":4000}}}}"#);
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nhost: mock\r\ncontent-length: {}\r\n\r\n", body.len());
    socket.write_all((head + &body).as_bytes()).await.unwrap();
    let mut out = Vec::new();
    let end = tokio::time::timeout(Duration::from_millis(400), socket.read_to_end(&mut out)).await;
    (out, matches!(end, Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionReset))
}

#[tokio::test]
async fn goes_wrong_as_asked() {
    let (url, _) = start(anywhere());
    let whole = raw(&url, "close-keepalive", false).await.0.len();
    assert!(whole > 4000);
    assert_eq!(raw(&url, "reset-before-head", false).await, (Vec::new(), true));
    assert_eq!(raw(&url, "stall", false).await, (Vec::new(), false));
    assert!(!raw(&url, "garbage", false).await.0.starts_with(b"HTTP"));
    for (fault, reset) in [("reset-mid-body", true), ("truncate", false), ("stall-mid-body", false)] {
        for stream in [false, true] {
            let (bytes, was_reset) = raw(&url, fault, stream).await;
            assert_eq!(was_reset, reset, "{fault}");
            assert!(bytes.len() > 1000 && !bytes.ends_with(b"0\r\n\r\n") && (stream || bytes.len() < whole), "{fault} {}", bytes.len());
        }
    }
}
