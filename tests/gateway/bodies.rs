//! The upstream receives exactly the filtered bytes: at any size and in any framing, whatever was changed, and however
//! often the request was sent.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::client::{Framing, Request, Response};
use crate::edge::{Edge, KEY, Setup};
use crate::faults::GROWTH;
use crate::upstream::{Act, Answer, Seen, Upstream};

const KIB: usize = 1024;
const LIMIT: usize = 16 * KIB * KIB;
/// Longer than any answer takes that waits for nothing.
const BOUND: Duration = Duration::from_secs(5);
const SIZES: [usize; 7] = [0, 1, 64 * KIB - 1, 64 * KIB, 64 * KIB + 1, KIB * KIB, LIMIT];

fn pattern(size: usize) -> Bytes {
    (0..size).map(|i| (i ^ (i >> 8) ^ (i >> 16)) as u8).collect::<Vec<u8>>().into()
}

fn expected(edit: &str, body: &Bytes) -> Bytes {
    match edit {
        "shrunk" => body.slice(..body.len() / 2),
        "grown" => [body, GROWTH].concat().into(),
        _ => body.clone(),
    }
}

async fn start(upstream: &Upstream) -> Edge {
    let mut setup = Setup::to(upstream.port)
        .faults()
        .plugin("{name: shrink, use: rewrite, config: {edit: shrink}}")
        .plugin("{name: grow, use: rewrite, config: {edit: grow}}");
    setup.chains = vec![
        "unchanged: {}".into(),
        "shrunk: {pre_upstream: {sequential: [shrink]}}".into(),
        "grown: {pre_upstream: {sequential: [grow]}}".into(),
    ];
    for edit in ["unchanged", "shrunk", "grown"] {
        setup = setup.plain(edit, edit, ", retries: 3");
    }
    setup.start().await
}

/// Leaves at least `count` idle connections in the gateway's pool, so that the next attempts go to reused ones.
async fn warm(edge: &Edge, upstream: &Upstream, count: usize) {
    let slow = || Act::Answer(Answer::json("{}").delay(Duration::from_millis(60)));
    upstream.next((0..count).map(|_| slow()));
    let request = Request::new("GET", "/unchanged/warm").bearer(KEY);
    let all = futures::future::join_all((0..count).map(|_| edge.send(&request))).await;
    assert!(all.iter().all(|a| a.status == 200));
    tokio::time::sleep(Duration::from_millis(20)).await;
    upstream.take();
}

/// One request whose first `retries` attempts meet a connection that dies under them. Whether the gateway has a connection
/// back in its pool when the request comes is a race that a busy machine can lose; then the attempt was on a new
/// connection, which must not be repeated, and the case is set up once more.
async fn exchange(edge: &Edge, upstream: &Upstream, request: &Request, retries: usize) -> (Response, Vec<Seen>) {
    for _ in 0..10 {
        if retries > 0 {
            warm(edge, upstream, retries).await;
            upstream.next((0..retries).map(|n| if n % 2 == 0 { Act::CloseAfterBody } else { Act::CloseAfterHead }));
        }
        upstream.take();
        let began = Instant::now();
        let answer = edge.send(request).await;
        assert!(began.elapsed() < BOUND, "an answer after {:?}", began.elapsed());
        let attempts = upstream.take();
        upstream.clear();
        if attempts.len() > retries || attempts.iter().all(|a| a.nth > 0) {
            return (answer, attempts);
        }
    }
    panic!("the gateway never used a connection of its pool again")
}

fn check_framing(case: &str, seen: &Seen, body: &Bytes) {
    assert!(seen.complete, "{case}: the body broke off");
    assert_eq!(seen.body.len(), body.len(), "{case}: length");
    assert!(seen.body == *body, "{case}: other bytes than the filtered ones");
    match (seen.header("content-length"), seen.header("transfer-encoding")) {
        (Some(length), None) => assert_eq!(length, body.len().to_string(), "{case}"),
        (None, Some(coding)) => assert_eq!(coding, "chunked", "{case}"),
        (None, None) => assert!(body.is_empty(), "{case}: a body without framing"),
        (Some(_), Some(_)) => panic!("{case}: framed twice"),
    }
}

async fn matrix(retries: usize) {
    let upstream = Upstream::start().await;
    let edge = start(&upstream).await;
    for size in SIZES {
        let body = pattern(size);
        for edit in ["unchanged", "shrunk", "grown"] {
            let filtered = expected(edit, &body);
            for framing in Framing::ALL {
                let case = format!("{size} bytes, {framing:?}, {edit}, {retries} retries");
                let request = Request::post(&format!("/{edit}/x"), body.clone()).bearer(KEY).framing(framing);
                let (answer, attempts) = exchange(&edge, &upstream, &request, retries).await;
                assert_eq!(answer.status, 200, "{case}: {}", answer.text());
                assert_eq!(attempts.len(), retries + 1, "{case}: attempts");
                let mut connections: Vec<usize> = attempts.iter().map(|a| a.connection).collect();
                connections.dedup();
                assert_eq!(connections.len(), retries + 1, "{case}: each attempt on a connection of its own");
                for attempt in attempts.iter().filter(|a| a.complete) {
                    check_framing(&case, attempt, &filtered);
                }
                check_framing(&case, attempts.last().unwrap(), &filtered);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_size_framing_and_edit_at_the_first_attempt() {
    matrix(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_size_framing_and_edit_after_one_dead_connection() {
    matrix(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_size_framing_and_edit_after_three_dead_connections() {
    matrix(3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_over_the_limit_is_413_and_names_the_limit() {
    let upstream = Upstream::start().await;
    let edge = start(&upstream).await;
    for framing in Framing::ALL {
        let answer = edge.send(&Request::post("/unchanged/x", pattern(LIMIT + 1)).bearer(KEY).framing(framing)).await;
        assert_eq!((answer.status, answer.code().as_str()), (413, "request_too_large"), "{framing:?}");
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains(&LIMIT.to_string()), "{}", answer.text());
    }
    // A claim alone is refused too, without waiting for the bytes.
    let mut connection = crate::client::Http1::connect(edge.port).await;
    let head = format!("POST /unchanged/x HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\ncontent-length: 99999999999\r\n\r\n");
    connection.write(head.as_bytes()).await.unwrap();
    assert_eq!(connection.response().await.unwrap().status, 413);
    assert_eq!(upstream.count(), 0, "nothing of it was forwarded");
}

/// The first address refuses the connection: the next one gets the same bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_connection_is_tried_elsewhere_with_the_same_bytes() {
    let upstream = Upstream::start().await;
    let dead = crate::edge::free_port();
    let mut setup = Setup::to(upstream.port);
    setup.routes.push(format!(
        "{{name: pool, match: {{path_prefix: /pool/}}, chain: default, on_unparsed: allow, retries: 3, upstream: {{addresses: [\"127.0.0.1:{dead}\", \"127.0.0.1:{}\"]}}}}",
        upstream.port
    ));
    let edge = setup.start().await;
    for size in SIZES {
        for _ in 0..2 {
            let body = pattern(size);
            let answer = edge.send(&Request::post("/pool/x", body.clone()).bearer(KEY)).await;
            assert_eq!(answer.status, 200, "{size}: {}", answer.text());
            check_framing("pool", &upstream.last(), &body);
        }
    }
    assert_eq!(upstream.count(), SIZES.len() * 2);
}

/// A server that was silent for a while, or that had begun to answer, may have done what it was asked: it is not asked twice.
#[tokio::test]
async fn what_a_server_may_have_done_is_not_sent_again() {
    let upstream = Upstream::start().await;
    let edge = start(&upstream).await;
    let late = Act::CloseLater(Duration::from_millis(1500));
    for act in [late, Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-".to_vec())] {
        let request = Request::post("/unchanged/x", pattern(100)).bearer(KEY);
        let mut met = false;
        for _ in 0..10 {
            warm(&edge, &upstream, 1).await;
            upstream.next([act.clone()]);
            let answer = edge.send(&request).await;
            let attempts = upstream.take();
            upstream.clear();
            assert_eq!((answer.status, attempts.len()), (502, 1), "{act:?}: {}", answer.text());
            met |= attempts[0].nth > 0;
            if met {
                break;
            }
        }
        assert!(met, "the gateway never used a connection of its pool again");
    }
}
