//! HTTP/2 in difficult cases: peers that send GOAWAY, refuse streams, reset them by the thousand, send too much, or send
//! nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};

use crate::client::{H2, Request, WATCHDOG, events};
use crate::edge::{Edge, KEY, PATIENCE, Setup, comes_true, eventually};
use crate::upstream::{Act, Answer, Upstream, chat, chat_events};

/// A provider over HTTP/2 whose connections last for a few answers; some requests it refuses unread, as a server does
/// that has no room at the moment.
struct Leaving {
    port: u16,
    connections: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    answered: Arc<AtomicUsize>,
}

impl Leaving {
    async fn start(answers: usize, refuse_first: bool) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let it = Self {
            port: listener.local_addr().unwrap().port(),
            connections: Arc::default(),
            refused: Arc::default(),
            answered: Arc::default(),
        };
        let (connections, refused, answered) = (it.connections.clone(), it.refused.clone(), it.answered.clone());
        tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                let first = connections.fetch_add(1, Ordering::Relaxed) == 0;
                let refuse = refuse_first && first;
                tokio::spawn(Self::serve(io, answers, refuse, refused.clone(), answered.clone()));
            }
        });
        it
    }

    async fn serve(io: TcpStream, answers: usize, mut refuse: bool, refused: Arc<AtomicUsize>, answered: Arc<AtomicUsize>) {
        let Ok(mut connection) = h2::server::handshake(io).await else { return };
        let mut taken = 0;
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            if std::mem::take(&mut refuse) {
                refused.fetch_add(1, Ordering::Relaxed);
                respond.send_reset(h2::Reason::REFUSED_STREAM);
                continue;
            }
            taken += 1;
            if taken == answers {
                connection.graceful_shutdown();
            }
            let answered = answered.clone();
            tokio::spawn(async move {
                let mut body = request.into_body();
                while let Some(Ok(part)) = body.data().await {
                    let _given = body.flow_control().release_capacity(part.len());
                }
                let head = http::Response::builder().header("content-type", "application/json").body(()).unwrap();
                if let Ok(mut stream) = respond.send_response(head, false)
                    && stream.send_data(chat("real-model-1", "Hello.").into(), true).is_ok()
                {
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    }
}

async fn over_http2(port: u16) -> Edge {
    let mut setup = Setup::to(port);
    setup.provider = "http2: true".into();
    setup.start().await
}

#[tokio::test]
async fn a_provider_that_says_goodbye_fails_no_request() {
    let provider = Leaving::start(3, false).await;
    let edge = over_http2(provider.port).await;
    for round in 0..20 {
        let answer = edge.send(&Request::chat(KEY, "fast", false)).await;
        assert_eq!(answer.status, 200, "{round}: {}", answer.text());
    }
    assert_eq!(provider.answered.load(Ordering::Relaxed), 20, "nothing is asked twice");
    assert!(provider.connections.load(Ordering::Relaxed) >= 7, "a connection that was closed for new streams is not used");
}

#[tokio::test]
async fn a_refused_stream_is_asked_again() {
    let provider = Leaving::start(usize::MAX, true).await;
    let edge = over_http2(provider.port).await;
    let answer = edge.send(&Request::chat(KEY, "fast", false)).await;
    // The provider said that it has not looked at the request: asking again is safe, also without `retries`.
    assert_eq!((answer.status, provider.refused.load(Ordering::Relaxed) > 0), (200, true), "{}", answer.text());
    assert_eq!(provider.answered.load(Ordering::Relaxed), 1);
}

/// With trailers (RFC 9113 §8.1) no frame of the body is the last one: the answer is whole all the same, and is looked at.
#[tokio::test]
async fn an_answer_that_ends_with_trailers_is_read() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let mut setup = Setup::to(listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let Ok(mut connection) = h2::server::handshake(io).await else { continue };
            while let Some(Ok((_, mut respond))) = connection.accept().await {
                let head = http::Response::builder().header("content-type", "application/json").body(()).unwrap();
                let mut stream = respond.send_response(head, false).unwrap();
                stream.send_data(chat("real-model-1", "Write to ada@example.org.").into(), false).unwrap();
                stream.send_trailers(http::HeaderMap::from_iter([("x-checked".parse().unwrap(), "1".parse().unwrap())])).unwrap();
            }
        }
    });
    setup.provider = "http2: true".into();
    setup.more = "safety: {mode: observe}\n".into();
    let edge = setup.start().await;
    let answer = edge.send(&Request::chat(KEY, "fast", false)).await;
    assert!(answer.status == 200 && answer.text().contains("ada@example.org"), "{}", answer.text());
    let record = edge.record(answer.header("x-request-id").unwrap()).await.to_string();
    assert!(!record.contains("answer_unread") && record.contains("post_upstream"), "{record}");
}

/// A caller's connection with what happens to it.
async fn connection(port: u16) -> (h2::client::SendRequest<Bytes>, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let io = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    io.set_nodelay(true).unwrap();
    let (sender, connection) = h2::client::Builder::new().handshake(io).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn head(request: &Request) -> http::Request<()> {
    let mut head = http::Request::builder().method("POST").uri(format!("http://edge.test{}", request.path)).version(http::Version::HTTP_2);
    for (name, value) in &request.headers {
        head = head.header(name.as_str(), value.as_str());
    }
    head.body(()).unwrap()
}

#[tokio::test]
async fn a_connection_without_requests_is_closed() {
    let upstream = Upstream::start().await;
    let mut setup = Setup::to(upstream.port);
    setup.server = "keepalive: 1s".into();
    let edge = setup.start().await;
    let (sender, closed) = connection(edge.port).await;
    let begun = Instant::now();
    let (answer, mut body) = sender.clone().ready().await.unwrap().send_request(head(&Request::chat(KEY, "fast", false)), false).unwrap();
    body.send_data(Request::chat(KEY, "fast", false).body, true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    let end = tokio::time::timeout(WATCHDOG, closed).await.expect("it is closed").unwrap();
    assert!(end.is_ok() && begun.elapsed() > Duration::from_millis(900), "in peace and not at once: {end:?} after {:?}", begun.elapsed());
}

#[tokio::test]
async fn at_the_end_open_streams_are_seen_through_and_new_ones_turned_away() {
    let upstream = Upstream::start().await;
    let mut edge = Setup::to(upstream.port).start().await;
    let parts = chat_events("real-model-1", &["one ", "two ", "three ", "four ", "five "]);
    upstream.next([Act::Answer(Answer::stream(parts, Duration::from_millis(200)))]);
    let mut caller = H2::connect(edge.port).await;
    let (opened, mut stream) = caller.open(&Request::chat(KEY, "fast", true)).await.unwrap();
    assert_eq!(opened.status, 200);
    edge.signal("TERM", None);
    let mut body = Vec::new();
    while let Some(part) = stream.data().await {
        let part = part.expect("the stream is not cut");
        let _given = stream.flow_control().release_capacity(part.len());
        body.extend_from_slice(&part);
    }
    assert_eq!(events(&body).last().map(String::as_str), Some("[DONE]"));
    assert!(caller.open(&Request::chat(KEY, "fast", false)).await.is_err(), "the goodbye was said");
    let (code, _) = edge.ended(PATIENCE).await.expect("the process ends");
    assert_eq!((code, upstream.count()), (0, 1));
}

#[tokio::test]
async fn more_requests_than_streams_wait_for_their_turn() {
    let upstream = Upstream::start().await;
    let edge = Setup::to(upstream.port).start().await;
    let (sender, _closed) = connection(edge.port).await;
    let request = Request::chat(KEY, "fast", false);
    let mut answers = Vec::new();
    for _ in 0..300 {
        let (sender, request) = (sender.clone(), request.clone());
        answers.push(tokio::spawn(async move {
            loop {
                let (answer, mut body) = sender.clone().ready().await.unwrap().send_request(head(&request), false).unwrap();
                body.send_data(request.body.clone(), true).unwrap();
                match answer.await {
                    // A stream that ends on one side a moment before the other is still counted: refused, and nobody has read it.
                    Err(error) if error.reason() == Some(h2::Reason::REFUSED_STREAM) => tokio::task::yield_now().await,
                    other => break other.map(|answer| answer.status().as_u16()),
                }
            }
        }));
    }
    for answer in answers {
        assert_eq!(answer.await.unwrap().unwrap(), 200);
    }
    let most = sender.current_max_send_streams();
    assert!((1..=128).contains(&most), "the bound is announced: {most}");
    assert_eq!(upstream.count(), 300);
}

#[tokio::test]
async fn a_head_without_measure_costs_its_sender_alone() {
    let upstream = Upstream::start().await;
    let edge = Setup::to(upstream.port).start().await;
    let mut caller = H2::connect(edge.port).await;
    let huge = Request::chat(KEY, "fast", false).header("x-huge", &"h".repeat(1 << 20));
    let refused = tokio::time::timeout(WATCHDOG, caller.open(&huge)).await.expect("it does not hang");
    assert!(refused.as_ref().map_or(true, |(answer, _)| answer.status >= 400), "{:?}", refused.map(|(answer, _)| answer.status));
    assert_eq!((edge.send(&Request::chat(KEY, "fast", false)).await.status, upstream.count()), (200, 1));
}

/// Opens streams and resets them, up to `count`, with a rest after every `batch`; says how many were possible. With `taken_up`
/// each is reset when the provider has seen it.
async fn flood(port: u16, count: usize, batch: usize, taken_up: Option<&Upstream>) -> (usize, Option<h2::Error>) {
    let (mut sender, closed) = connection(port).await;
    let request = Request::chat(KEY, "fast", false);
    let mut sent = 0;
    while sent < count {
        let Ok(ready) = sender.ready().await else { break };
        sender = ready;
        let seen = taken_up.map(Upstream::count);
        let Ok((_, mut body)) = sender.send_request(head(&request), false) else { break };
        let _sent = body.send_data(request.body.clone(), true);
        while let (Some(upstream), Some(seen)) = (taken_up, seen)
            && upstream.count() == seen
            && !closed.is_finished()
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        body.send_reset(h2::Reason::CANCEL);
        sent += 1;
        if sent % batch == 0 {
            tokio::task::yield_now().await;
        }
    }
    let end = if sent < count { tokio::time::timeout(WATCHDOG, closed).await.expect("it is over").unwrap().err() } else { None };
    (sent, end)
}

/// Whoever asks besides is served, and nothing of what was given up is held.
async fn unharmed(edge: &Edge, memory_before: f64) {
    let begun = Instant::now();
    assert_eq!(edge.send(&Request::chat(KEY, "fast", false)).await.status, 200);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let none = comes_true(PATIENCE, async || edge.metric("gateway_requests_in_flight", &[]).await == 0.0).await;
    assert!(none, "something is still held");
    let memory = edge.metric("process_resident_memory_bytes", &[]).await;
    assert!(memory - memory_before < f64::from(64 << 20), "{memory_before} bytes before, {memory} after");
}

#[tokio::test]
async fn a_flood_of_resets_is_ended_and_leaves_nothing_behind() {
    let upstream = Upstream::with(|_| Act::Answer(Answer::json(chat("real-model-1", "Hello.")).delay(Duration::from_millis(300)))).await;
    let edge = Setup::to(upstream.port).start().await;
    let memory = edge.metric("process_resident_memory_bytes", &[]).await;

    // At once, faster than requests can be taken up: the connection is ended, by a goodbye that the flood may not read.
    let (sent, end) = flood(edge.port, 20_000, 64, None).await;
    assert!(sent < 20_000 && end.is_some(), "{sent} streams were opened and reset: {end:?}");
    assert!(upstream.count() < 500, "{} requests of {sent} were carried on", upstream.count());
    unharmed(&edge, memory).await;

    // One by one, each taken up before it is reset: every one ends at once, and is on record as given up by its caller.
    let (sent, _) = flood(edge.port, 500, 1, Some(&upstream)).await;
    assert!(sent > 0);
    unharmed(&edge, memory).await;
    let given_up = || edge.evidence_entries().iter().filter(|entry| entry["end"] == "client_abort").count();
    assert!(eventually(PATIENCE, || given_up() * 10 > sent * 9).await, "{} of {sent}", given_up());
}
