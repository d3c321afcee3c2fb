//! Callers that are slow or disconnect.

use std::time::{Duration, Instant};

use crate::client::{H2, Http1, Request, WATCHDOG};
use crate::edge::{Edge, KEY, PATIENCE, Setup, comes_true, eventually};
use crate::upstream::{Act, Answer, Upstream, chat_events};

async fn start() -> (Upstream, Edge) {
    let upstream = Upstream::start().await;
    let mut setup = Setup::to(upstream.port).plain("raw", "default", "");
    setup.server = "body_timeout: 400ms".into();
    let edge = setup.start().await;
    (upstream, edge)
}

fn head(length: usize) -> String {
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    )
}

#[tokio::test]
async fn a_body_that_does_not_arrive_in_time_is_408() {
    let (upstream, edge) = start().await;
    for drip in [false, true] {
        let mut connection = Http1::connect(edge.port).await;
        let from = Instant::now();
        connection.write(head(1000).as_bytes()).await.unwrap();
        connection.write(b"{\"model\":").await.unwrap();
        let answer = match drip {
            // A byte now and then must not keep it open: the time is for the whole body, which would come in a minute.
            true => tokio::time::timeout(WATCHDOG, connection.drip(b" ", Duration::from_millis(60))).await,
            false => tokio::time::timeout(WATCHDOG, connection.response()).await,
        };
        let answer = answer.expect("an answer").expect("an answer");
        assert_eq!((answer.status, answer.code().as_str()), (408, "request_timeout"), "{}", answer.text());
        assert!(from.elapsed() < Duration::from_secs(15), "{:?}", from.elapsed());
    }
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_caller_gone_in_the_middle_of_its_body_reaches_no_provider() {
    let (upstream, edge) = start().await;
    for _ in 0..5 {
        let mut connection = Http1::connect(edge.port).await;
        connection.write(head(1000).as_bytes()).await.unwrap();
        connection.write(b"{\"model\":\"fast\"").await.unwrap();
        drop(connection);
    }
    let mut connection = H2::connect(edge.port).await;
    let endless = Request::post("/v1/chat/completions", vec![b' '; 8 << 20]).bearer(KEY);
    let _cut = tokio::time::timeout(Duration::from_millis(5), connection.open(&endless)).await;
    drop(connection);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(upstream.count(), 0);
    assert_eq!(edge.send(&Request::chat(KEY, "fast", false)).await.status, 200);
}

#[tokio::test]
async fn a_caller_gone_in_the_middle_of_a_stream_ends_the_providers_work() {
    let (upstream, edge) = start().await;
    let texts = vec!["word "; 2000];
    upstream.next([Act::Answer(Answer::stream(chat_events("m", &texts), Duration::from_millis(10)))]);
    let mut connection = Http1::connect(edge.port).await;
    connection.write(&Request::chat(KEY, "fast", true).encode()).await.unwrap();
    let head = connection.head().await.unwrap();
    let id = head.header("x-request-id").unwrap().to_owned();
    connection.part().await.unwrap();
    drop(connection);
    assert!(eventually(Duration::from_secs(15), || upstream.abandoned() == 1).await, "the provider still streams for nobody");
    let record = edge.record(&id).await;
    assert!(record.to_string().contains("client_abort"), "{record}");
    assert!(comes_true(PATIENCE, async || edge.metric("gateway_requests_in_flight", &[]).await == 0.0).await);
}

/// The caller closes while the provider has not answered yet.
#[tokio::test]
async fn a_caller_gone_before_the_answer_leaves_nothing_behind() {
    let (upstream, edge) = start().await;
    for _ in 0..3 {
        upstream.next([Act::Answer(Answer::json("{}").delay(PATIENCE * 2))]);
        let mut connection = Http1::connect(edge.port).await;
        connection.write(&Request::chat(KEY, "fast", false).encode()).await.unwrap();
        assert!(eventually(PATIENCE, || upstream.count() > 0).await);
        upstream.take();
        drop(connection);
    }
    let gone = comes_true(PATIENCE, async || edge.metric("gateway_requests_in_flight", &[]).await == 0.0).await;
    assert!(gone, "requests of gone callers are still in flight");
}

/// What is told as the gateway's own time is neither the caller's nor the provider's, and a slow step is in it.
#[tokio::test]
async fn only_what_took_time_here_is_overhead() {
    let upstream = Upstream::start().await;
    let mut setup = Setup::to(upstream.port)
        .faults()
        .plugin("{name: slow, use: fault, config: {how: pass, after_ms: 300}, timeout: 5s}")
        .case("slow", "{pre_upstream: {sequential: [slow]}}");
    setup.server = "body_timeout: 5s".into();
    let edge = setup.start().await;
    let wait = Duration::from_millis(1500);
    let slow = || Answer::json(&b"{}"[..]).delay(wait);
    // A first connection that breaks is not tried again.
    upstream.next([Act::CloseAfterBody, Act::Answer(slow()), Act::Answer(slow()), Act::Answer(slow())]);

    let broken = edge.send(&Request::chat(KEY, "fast", false)).await;
    let answered = edge.send(&Request::chat(KEY, "fast", false)).await;
    assert_eq!((answered.status, broken.status), (200, 502));
    // Half of a body, and the rest a while later.
    let body = br#"{"model":"fast","messages":[{"role":"user","content":"x"}]}"#;
    let mut connection = Http1::connect(edge.port).await;
    connection.write(head(body.len()).as_bytes()).await.unwrap();
    connection.write(&body[..20]).await.unwrap();
    tokio::time::sleep(wait).await;
    connection.write(&body[20..]).await.unwrap();
    let late = connection.response().await.unwrap();
    let stepped = edge.send(&Request::chat(KEY, "fast", false).header("x-case", "slow")).await;
    assert_eq!((late.status, stepped.status), (200, 200));
    for (answer, least, most) in [(answered, 0, 1_000_000), (broken, 0, 1_000_000), (late, 0, 1_000_000), (stepped, 300_000, 1_400_000)] {
        let record = edge.record(answer.header("x-request-id").unwrap()).await;
        let overhead = record["overhead_us"].as_u64().unwrap_or_else(|| panic!("{record}"));
        assert!((least..=most).contains(&overhead), "{overhead}: {record}");
    }
}
