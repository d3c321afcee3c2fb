//! Budgets and limits are exact, with one process and with three on one Redis: nothing is spent beyond a budget, nothing is
//! refused that fits, and no limit lets through more than it says.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{self, Request, Response};
use crate::edge::{Edge, KEY, PATIENCE, Setup, cli, comes_true, eventually};
use crate::safety_sessions::Redis;
use crate::upstream::{Act, Upstream, provider};

/// With 9 and 4 tokens an answer costs 0.017 USD; at worst a request of 27 and 35 tokens 0.097 USD.
const PRICED: &str = "max_output_tokens: 100, pricing: {input: {text_cost_per_1k_tokens: 1}, output: {text_cost_per_1k_tokens: 2}}";
const COST: i64 = 17_000_000;

fn asking() -> Request {
    let body = json!({"model": "fast", "max_tokens": 35, "messages": [{"role": "user", "content": "Hello"}]});
    Request::post("/v1/chat/completions", body.to_string()).bearer(KEY)
}

fn worst() -> i64 {
    (asking().body.len() as i64 + 2) / 3 * 1_000_000 + 35 * 2_000_000
}

/// A provider that takes its time, so that requests overlap.
async fn slow() -> Upstream {
    Upstream::with(|seen| match provider(seen) {
        Act::Answer(answer) => Act::Answer(answer.delay(Duration::from_millis(30))),
        other => other,
    })
    .await
}

async fn fleet(setup: &Setup, redis: Option<&Redis>, count: usize) -> Vec<Edge> {
    let mut setup = setup.clone();
    if let Some(redis) = redis {
        setup.state = "kind: redis, url: {env: STATE_URL}".into();
        setup.env.push(("STATE_URL".into(), format!("redis://127.0.0.1:{}", redis.port)));
    }
    let mut edges = Vec::new();
    for _ in 0..count {
        edges.push(setup.clone().start().await);
    }
    edges
}

/// The shared store had no time.
fn too_slow(answer: &Response) -> bool {
    answer.status == 503 && answer.code() == "store_unavailable"
}

/// How many of `count` requests at once, spread over all gateways, were answered with 200; every other one with `other`, or
/// with 503 where a shared store was too slow for so many.
async fn at_once(edges: &[Edge], count: usize, other: u16) -> usize {
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..count {
        let port = edges[number % edges.len()].port;
        calls.spawn(async move { client::send(port, &asking()).await });
    }
    let mut good = 0;
    while let Some(answer) = calls.join_next().await {
        let answer = answer.unwrap();
        assert!(answer.status == 200 || answer.status == other || too_slow(&answer), "{}: {}", answer.status, answer.text());
        good += usize::from(answer.status == 200);
    }
    good
}

fn spent(edges: &[Edge]) -> (i64, i64) {
    let mut sum = (0, 0);
    for edge in edges {
        let (code, out, err) = cli(&["usage", "-c", &edge.file.display().to_string(), "--by", "status", "--format", "json"]);
        assert_eq!(code, 0, "{err}");
        for line in serde_json::from_str::<Vec<Value>>(&out).unwrap() {
            let usd: f64 = line["cost_usd"].as_str().unwrap().parse().unwrap();
            sum = (sum.0 + (usd * 1e9).round() as i64, sum.1 + line["requests"].as_i64().unwrap());
        }
    }
    sum
}

/// Requests one after the other for as long as there is `room` for one more than so many, and then one that there is none for;
/// how many were answered, the `good` of before included, and how many were sent. What a shared store is told of the end of a
/// request it is told beside the next one, so that one which has room may be turned away for a moment.
async fn until_full(edges: &[Edge], good: i64, room: impl Fn(i64) -> bool) -> (i64, i64) {
    let (mut total, mut sent) = (good, 0);
    while room(total) {
        let answered = comes_true(Duration::from_secs(20), async || {
            let answer = edges[sent % edges.len()].send(&asking()).await;
            sent += 1;
            assert!([200, 402].contains(&answer.status) || too_slow(&answer), "after {total}: {}", answer.text());
            answer.status == 200
        });
        assert!(answered.await, "refused after {total}, with room");
        total += 1;
    }
    let refused = comes_true(Duration::from_secs(20), async || {
        let answer = edges[sent % edges.len()].send(&asking()).await;
        sent += 1;
        assert!(answer.status == 402 || too_slow(&answer), "after {total}: {}", answer.text());
        answer.status == 402
    });
    assert!(refused.await, "nobody knows whether there is room after {total}");
    (total, sent as i64)
}

/// Waits until so many requests are on record; what they cost.
async fn on_record(edges: &[Edge], requests: i64) -> i64 {
    let mut sum = (0, 0);
    let there = eventually(PATIENCE, || {
        sum = spent(edges);
        sum.1 >= requests
    });
    let there = there.await;
    assert!(there && sum.1 == requests, "{sum:?} of {requests}");
    sum.0
}

async fn hard_cap(edges: &[Edge]) {
    let good = at_once(edges, 1000, 402).await;
    assert!(good > 0 && good as i64 * COST <= 1_000_000_000, "{good}");
    // Also what was given back in several tries.
    tokio::time::sleep(Duration::from_secs(if edges.len() > 1 { 7 } else { 1 })).await;
    // With nothing on its way, what has room passes and what has none does not.
    let (total, more) = until_full(edges, good as i64, |total| 1_000_000_000 - total * COST >= worst()).await;
    let nanos = on_record(edges, 1000 + more).await;
    assert_eq!(nanos, total * COST);
    assert!(nanos <= 1_000_000_000);
    eprintln!("{} gateways: {good} of 1000 at once, {total} in all, {nanos} nano-USD", edges.len());
}

fn budget() -> Setup {
    Setup {
        governance: "usage: true".into(),
        fast: PRICED.into(),
        acme: vec![r#"budgets: [{name: cap, owner: {type: APIKEY, name: main}, period: MONTHLY, amount: "1.00"}]"#.into()],
        log: Some("warn"),
        ..Setup::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_is_a_hard_cap_in_one_process() {
    let upstream = slow().await;
    let edges = fleet(&Setup { upstream: upstream.port, ..budget() }, None, 1).await;
    hard_cap(&edges).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_is_a_hard_cap_over_three_processes() {
    let Some(redis) = Redis::start().await else { return eprintln!("skipped: no redis-server") };
    let upstream = slow().await;
    let edges = fleet(&Setup { upstream: upstream.port, ..budget() }, Some(&redis), 3).await;
    hard_cap(&edges).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_lets_through_what_it_says_whatever_the_number_of_gateways() {
    let Some(redis) = Redis::start().await else { return eprintln!("skipped: no redis-server") };
    let upstream = slow().await;
    for count in [1, 3] {
        let minute =
            Setup { main: "policies: {ratelimit: {requests: {per_minute: 100}}}".into(), log: Some("warn"), ..Setup::to(upstream.port) };
        let edges = fleet(&minute, Some(&redis), count).await;
        let good = at_once(&edges, 150, 429).await;
        assert!((60..=100 + count).contains(&good), "{count} gateways: {good} in a minute");
        redis.ask(&["FLUSHALL"]);

        let second =
            Setup { main: "policies: {ratelimit: {requests: {per_second: 20}}}".into(), log: Some("warn"), ..Setup::to(upstream.port) };
        let edges = fleet(&second, Some(&redis), count).await;
        let (from, mut good) = (Instant::now(), 0);
        while from.elapsed() < Duration::from_secs(3) || good < 40 && from.elapsed() < PATIENCE {
            good += at_once(&edges, 15, 429).await;
        }
        // Every window of a second is one of at most so many that cover the time.
        let windows = from.elapsed().as_secs() as usize + 1;
        assert!((40..=(20 + count) * windows).contains(&good), "{count} gateways: {good} in {windows} seconds");
        eprintln!("{count} gateways: {good} in {windows} windows of 20");
        redis.ask(&["FLUSHALL"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_process_had_reserved_is_charged_in_the_shared_store() {
    let Some(redis) = Redis::start().await else { return eprintln!("skipped: no redis-server") };
    let upstream = slow().await;
    let setup = Setup { upstream: upstream.port, ..budget() };
    let mut shared = setup.clone();
    shared.state = "kind: redis, url: {env: STATE_URL}".into();
    shared.env.push(("STATE_URL".into(), format!("redis://127.0.0.1:{}", redis.port)));
    let mut edge = shared.clone().start().await;
    assert_eq!(edge.send(&asking()).await.status, 200);
    let Act::Answer(late) = provider(&crate::upstream::Seen {
        connection: 0,
        nth: 0,
        method: "POST".into(),
        path: "/v1/chat/completions".into(),
        headers: Vec::new(),
        body: asking().body,
        complete: true,
    }) else {
        panic!("the provider answers")
    };
    upstream.next((0..5).map(|_| Act::Answer(late.clone().delay(PATIENCE * 2))));
    let port = edge.port;
    let slow = Arc::new(AtomicI64::new(0));
    let calls: Vec<_> = (0..5)
        .map(|_| {
            let slow = slow.clone();
            tokio::spawn(async move {
                while client::Http1::connect(port).await.send(&asking()).await.is_some_and(|answer| too_slow(&answer)) {
                    slow.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    assert!(eventually(PATIENCE, || upstream.count() == 6).await, "five are under way");
    edge.killed_and_started_again(&shared).await;
    calls.into_iter().for_each(|call| call.abort());
    // One cost what it did, five count as what they might have.
    let used = COST + 5 * worst();
    let edges = std::slice::from_ref(&edge);
    let (total, sent) = until_full(edges, 0, |total| 1_000_000_000 - used - total * COST >= worst()).await;
    assert_eq!(total, (1_000_000_000 - used - worst()) / COST + 1);
    let nanos = on_record(edges, 6 + slow.load(Ordering::Relaxed) + sent).await;
    // Every part of a worst case is rounded up by itself.
    assert!((0..100).contains(&(nanos - used - total * COST)), "{nanos}");
}

#[tokio::test]
async fn who_is_let_through_unasked_is_on_record() {
    let Some(redis) = Redis::start().await else { return eprintln!("skipped: no redis-server") };
    let upstream = Upstream::start().await;
    let governance = "usage: true, on_store_error: allow".into();
    let setup = Setup { upstream: upstream.port, governance, log: None, ..budget() };
    let edge = &fleet(&setup, Some(&redis), 1).await[0];
    let unenforced = async || {
        let answer = edge.send(&asking()).await;
        assert_eq!(answer.status, 200, "{}", edge.log());
        edge.record(answer.header("x-request-id").unwrap()).await["unenforced"].clone()
    };
    assert_eq!(unenforced().await, Value::Null);
    drop(redis);
    for _ in 0..20 {
        assert_eq!(unenforced().await, json!(["limits"]));
    }
    let log = edge.log();
    assert_eq!(log.matches(r#""limits_unenforced":true"#).count(), 20, "{log}");
    // An outage fills no disk: one line a second.
    assert!((1..20).contains(&log.matches("the request is let through").count()), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_store_that_lost_everything_is_told_what_was_used() {
    let Some(redis) = Redis::start().await else { return eprintln!("skipped: no redis-server") };
    let upstream = slow().await;
    let edges = fleet(&Setup { upstream: upstream.port, ..budget() }, Some(&redis), 1).await;
    let (mut good, mut sent) = (0, 0);
    while good < 30 {
        let answer = edges[0].send(&asking()).await;
        assert!(answer.status == 200 || too_slow(&answer), "{}", answer.text());
        good += i64::from(answer.status == 200);
        sent += 1;
        assert!(sent < 300, "the store has no time");
    }
    on_record(&edges, sent).await;
    redis.ask(&["FLUSHALL"]);
    let (total, _) = until_full(&edges, good, |total| 1_000_000_000 - total * COST >= worst()).await;
    assert_eq!(total, (1_000_000_000 - worst()) / COST + 1, "as if nothing had been lost");
}
