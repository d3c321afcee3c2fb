//! Ways around a guard that a caller or a provider could try: what is scanned must be what is sent.

use crate::client::{Framing, Http1, Request, WATCHDOG};
use crate::edge::{KEY, Setup};
use crate::upstream::{Act, Answer, Upstream, chat, chat_events};
use std::time::Duration;

const ADDRESS: &str = "ada.lovelace@example.org";

fn masked(upstream: &Upstream) -> Setup {
    Setup::to(upstream.port)
        .plugin("{name: pii_mask, config: {post_upstream: mask}}")
        .chain("pre_upstream: {sequential: [pii_mask]}")
        .chain("post_upstream: {sequential: [pii_mask]}")
}

fn with_address() -> String {
    format!(r#"{{"model":"fast","messages":[{{"role":"user","content":"write to {ADDRESS}"}}]}}"#)
}

#[tokio::test]
async fn a_false_content_type_does_not_blind_the_mask() {
    let upstream = Upstream::start().await;
    let edge = masked(&upstream).start().await;
    for content_type in ["image/png", "audio/mpeg", "text/plain", "application/octet-stream"] {
        let mut request = Request::post("/v1/chat/completions", with_address()).bearer(KEY);
        request.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("content-type"));
        let answer = edge.send(&request.header("content-type", content_type)).await;
        assert_eq!(answer.status, 200, "{content_type}: {}", answer.text());
        let seen = upstream.last();
        assert!(!seen.text().contains(ADDRESS), "{content_type}: {}", seen.text());
        assert_eq!(seen.header("content-type"), Some("application/json"), "{content_type}");
    }
}

#[tokio::test]
async fn a_path_that_normalises_to_another_is_not_served() {
    let upstream = Upstream::start().await;
    let edge = masked(&upstream).start().await;
    for path in
        ["/v1//chat/completions", "/v1/./chat/completions", "/x/../v1/chat/completions", "/v1/chat%2Fcompletions", "/v1/%63hat/completions"]
    {
        let answer = edge.send(&Request::post(path, with_address()).bearer(KEY)).await;
        assert_eq!((answer.status, answer.code().as_str()), (404, "route_not_found"), "{path}");
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_stream_that_is_held_for_one_plugin_is_still_scanned_frame_by_frame_for_another() {
    let upstream = Upstream::start().await;
    let edge = masked(&upstream).faults().plugin("{name: judge, config: {needle: never-there}}".to_owned());
    let mut edge = edge;
    edge.chain.retain(|line| !line.starts_with("post_upstream"));
    let edge = edge.chain("post_upstream: {sequential: [judge, pii_mask]}").start().await;
    let (left, right) = ADDRESS.split_at(9);
    upstream.next([Act::Answer(Answer::stream(chat_events("m", &["mail ", left, right, " now"]), Duration::from_millis(2)))]);
    let answer = edge.send(&Request::chat(KEY, "fast", true)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let said: String = crate::client::events(&answer.body)
        .iter()
        .filter_map(|event| serde_json::from_str::<serde_json::Value>(event).ok())
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str().map(str::to_owned))
        .collect();
    assert!(said.starts_with("mail ") && !said.contains(ADDRESS), "{said}");
}

#[tokio::test]
async fn what_only_calls_itself_an_event_stream_does_not_pass_a_scanner() {
    let upstream = Upstream::start().await;
    let edge = masked(&upstream).start().await;
    upstream.next([Act::Answer(Answer::json(chat("m", ADDRESS)).header("content-type", "text/event-stream"))]);
    let answer = edge.send(&Request::chat(KEY, "fast", true)).await;
    assert!(!answer.text().contains(ADDRESS), "{}", answer.text());
}

#[tokio::test]
async fn a_caller_that_waited_for_100_continue_is_answered_when_the_provider_is_gone() {
    // Port 9 of loopback: nobody listens, the connection is refused.
    let edge = Setup::to(9).start().await;
    let body = with_address();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nexpect: 100-continue\r\n\r\n",
        body.len()
    );
    let mut connection = Http1::connect(edge.port).await;
    connection.write(head.as_bytes()).await.unwrap();
    let interim = tokio::time::timeout(WATCHDOG, connection.head()).await.unwrap().unwrap();
    assert_eq!(interim.status, 100);
    connection.write(body.as_bytes()).await.unwrap();
    let answer = tokio::time::timeout(WATCHDOG, connection.response()).await.unwrap().expect("an answer");
    assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_error"));
}

#[tokio::test]
async fn a_request_to_become_another_protocol_is_refused() {
    let upstream = Upstream::start().await;
    let edge = masked(&upstream).start().await;
    let request = Request::new("GET", "/v1/chat/completions").bearer(KEY).framing(Framing::Length);
    let answer = edge.send(&request.header("connection", "upgrade").header("upgrade", "websocket")).await;
    assert_eq!(answer.status, 405);
    assert_eq!(upstream.count(), 0);
}

/// curl and some SDKs offer to go on in HTTP/2; an offer may be left where it is (RFC 9110 §7.8).
#[tokio::test]
async fn an_offer_of_http2_is_passed_over() {
    let upstream = Upstream::start().await;
    let edge = masked(&upstream).start().await;
    let request = Request::chat(KEY, "fast", false).header("connection", "Upgrade, HTTP2-Settings");
    let answer = edge.send(&request.header("upgrade", "h2c").header("http2-settings", "AAMAAABkAAQCAAAAAAIAAAAA")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let seen = upstream.take();
    assert!(seen.iter().all(|seen| seen.header("upgrade").is_none() && seen.header("http2-settings").is_none()), "{seen:?}");
}

/// What follows a change of protocol that nobody asked for could be seen by no gate.
#[tokio::test]
async fn a_provider_that_changes_the_protocol_is_not_followed() {
    let upstream = Upstream::start().await;
    let edge = masked(&upstream).plain("raw", "default", "").start().await;
    for path in ["/v1/chat/completions", "/raw/x"] {
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\ncard 4111 1111 1111 1111";
        upstream.next([Act::Raw(switch.to_vec())]);
        let mut request = Request::chat(KEY, "fast", false);
        request.path = path.into();
        let answer = edge.send(&request).await;
        assert_eq!((answer.status, answer.code().as_str()), (502, "upstream_error"), "{path}: {}", answer.text());
        assert!(!answer.text().contains("4111"), "{path}");
    }
}
