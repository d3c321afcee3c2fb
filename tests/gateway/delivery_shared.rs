//! Deliveries over a PostgreSQL that several gateways share and that becomes unavailable.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::client::{Http1, Request};
use crate::delivery::{Receiver, listed, setup};
use crate::edge::{Edge, KEY, KEY_ELSEWHERE, KEY_WITHOUT_GRANTS, PATIENCE, Setup, eventually};
use crate::postgres::Postgres;
use crate::upstream::Upstream;

/// A gateway with one ordered instance, `hook`, whose records are on the server.
fn shared(upstream: &Upstream, receiver: &Receiver, server: &Postgres, more: &str) -> Setup {
    let plugins = [receiver.plugin("hook", "", ", order_by: api_key")];
    let mut setup = setup(upstream.port, &plugins, more);
    let address = server.file("address", &server.address());
    setup.records = format!("kind: postgres, url: {{file: \"{}\"}}", address.display());
    setup
}

/// Requests one after the other on one connection, so that each is over before the next begins; their ids.
async fn requests(edge: &Edge, key: &'static str, count: usize) -> Vec<String> {
    let mut connection = Http1::connect(edge.port).await;
    let mut ids = Vec::new();
    for _ in 0..count {
        let answer = connection.send(&Request::chat(key, "fast", false)).await.expect("an answer");
        ids.push(answer.header("x-request-id").unwrap().to_owned());
    }
    ids
}

/// What the receiver saw of each key, attempt by attempt.
fn attempts(receiver: &Receiver) -> HashMap<String, Vec<String>> {
    let mut all: HashMap<String, Vec<String>> = HashMap::new();
    for seen in receiver.upstream.seen().iter().filter(|seen| seen.complete) {
        let event = seen.json();
        let key = event["data"]["key"]["id"].as_str().unwrap().to_owned();
        all.entry(key).or_default().push(event["subject"].as_str().unwrap().to_owned());
    }
    all
}

/// The order in which the ids came for the first time.
fn first_arrivals(attempts: &[String]) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    attempts.iter().filter(|id| seen.insert(*id)).cloned().collect()
}

const KEYS: [(&str, &str); 3] = [("acme/main", KEY), ("acme/bare", KEY_WITHOUT_GRANTS), ("elsewhere/other", KEY_ELSEWHERE)];

/// Requests with each key at either gateway in turn, while the receiver is dead; what was sent, by key.
async fn pending(edges: &[Edge; 2]) -> HashMap<&'static str, Vec<String>> {
    let mut sent: HashMap<&str, Vec<String>> = HashMap::new();
    let mut count = 0;
    for round in 0..12 {
        for (name, key) in KEYS {
            sent.entry(name).or_default().extend(requests(&edges[round % 2], key, 5).await);
            count += 5;
        }
        // What came later is put later: the order over gateways is that in which the store has got them.
        let there = eventually(PATIENCE, || listed(&edges[0], &[]).len() == count).await;
        assert!(there, "{} of {count}\n{}", listed(&edges[0], &[]).len(), edges[0].log());
    }
    sent
}

async fn all_gone(edges: &[Edge; 2]) {
    let gone = eventually(PATIENCE * 2, || listed(&edges[0], &[]).is_empty()).await;
    assert!(gone, "{:?}\n{}", listed(&edges[0], &[]), edges[0].log());
}

/// An event is attempted until it has arrived, and only then the next one of its key, whichever gateway has them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_keep_the_order_of_a_key() {
    let Some(server) = Postgres::start() else { return };
    let (upstream, receiver) = (Upstream::start().await, Receiver::start(100).await);
    let setup = shared(&upstream, &receiver, &server, ", breaker: {failures: 8, pause: 50ms}");
    let mut edges = [setup.clone().start().await, setup.clone().start().await];
    // Which gateway takes the next event of a key is a race that one may win every time; then it is run again.
    for _ in 0..8 {
        receiver.fail(100, 500);
        let sent = pending(&edges).await;
        // Nobody is paused for what was, and nobody is done before the other begins.
        edges[0].killed_and_started_again(&setup).await;
        receiver.upstream.take();
        receiver.slow(20);
        receiver.fail(30, 500);
        edges[1].killed_and_started_again(&setup).await;
        all_gone(&edges).await;
        for (key, mut attempts) in attempts(&receiver) {
            attempts.dedup();
            assert_eq!(attempts, sent[key.as_str()], "the order of {key}, with each one's attempts together");
        }
        let delivered = async |edge: &Edge| edge.metric("gateway_outbox_deliveries_total", &["outcome=\"sent\""]).await;
        if delivered(&edges[0]).await > 0.0 && delivered(&edges[1]).await > 0.0 {
            return;
        }
        receiver.slow(0);
    }
    panic!("one gateway sends everything");
}

/// What a killed gateway had in hand is sent again, in order; nothing behind it comes before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_gateways_keep_the_order_of_a_key() {
    let Some(server) = Postgres::start() else { return };
    let (upstream, receiver) = (Upstream::start().await, Receiver::start(100).await);
    let setup = shared(&upstream, &receiver, &server, ", breaker: {failures: 8, pause: 50ms}");
    let mut edges = [setup.clone().start().await, setup.clone().start().await];
    let sent = pending(&edges).await;
    receiver.fail(30, 500);
    for turn in 0..6 {
        tokio::time::sleep(Duration::from_millis(120)).await;
        edges[turn % 2].killed_and_started_again(&setup).await;
    }
    all_gone(&edges).await;
    for (key, attempts) in attempts(&receiver) {
        assert_eq!(first_arrivals(&attempts), sent[key.as_str()], "the order of {key}");
    }
}

/// `drop_oldest` means the oldest, also while there is no store in which they could be dropped.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_are_dropped_while_the_store_is_away() {
    let Some(server) = Postgres::start() else { return };
    let (upstream, receiver) = (Upstream::start().await, Receiver::start(0).await);
    let setup = shared(&upstream, &receiver, &server, ", max_pending: 20, on_full: drop_oldest");
    let edge = setup.start().await;
    requests(&edge, KEY, 1).await;
    let settled = || receiver.upstream.count() == 1 && listed(&edge, &[]).is_empty();
    assert!(eventually(PATIENCE, settled).await, "{}", edge.log());
    server.down();
    let mut ids = Vec::new();
    for round in 1..=3 {
        ids.extend(requests(&edge, KEY, 70).await);
        let (end, wanted) = (Instant::now() + PATIENCE, f64::from(round * 70 - 20));
        loop {
            let dropped = edge.metric("gateway_outbox_deliveries_total", &["outcome=\"dropped\""]).await;
            if dropped == wanted {
                break;
            }
            assert!(dropped < wanted && Instant::now() < end, "{dropped} of {wanted}\n{}", edge.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    server.up();
    let newest = &ids[ids.len() - 20..];
    let arrived = || attempts(&receiver).remove("acme/main").unwrap_or_default();
    assert!(eventually(PATIENCE, || arrived().len() > 20).await, "{:?}\n{}", arrived(), edge.log());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(arrived()[1..], *newest, "the newest, and none of those that were dropped");
    let entries = edge.evidence_entries();
    let dropped = entries.iter().filter(|entry| entry["kind"] == "delivery" && entry["state"] == "dropped");
    let dropped: Vec<&str> = dropped.map(|entry| entry["request_id"].as_str().unwrap()).collect();
    assert_eq!(dropped, ids[..190], "each that was dropped is on record");
}
