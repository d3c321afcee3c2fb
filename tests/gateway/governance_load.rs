//! Governance under load: floods of unknown keys, exactly one usage record for each request, and an unavailable record
//! store. The large tests are ignored by default: `cargo test --test gateway governance_load -- --ignored --nocapture`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{self, Http1, Request};
use crate::edge::{Edge, KEY, PATIENCE, Setup, cli, comes_true, eventually};
use crate::safety_sessions::Redis;
use crate::upstream::{Act, Answer, Seen, Upstream, chat_events, provider};

const PRICED: &str = "max_output_tokens: 100, pricing: {input: {text_cost_per_1k_tokens: 1}, output: {text_cost_per_1k_tokens: 2}}";
const TOKEN: &str = "token-of-the-operator-0001";
const COST: i64 = 17_000_000;

fn asking(key: &str) -> Request {
    let body = json!({"model": "fast", "max_tokens": 35, "messages": [{"role": "user", "content": "Hello"}]});
    Request::post("/v1/chat/completions", body.to_string()).bearer(key)
}

fn worst() -> i64 {
    (asking(KEY).body.len() as i64 + 2) / 3 * 1_000_000 + 35 * 2_000_000
}

/// Sends on one connection, made again when it ended.
struct Caller(u16, Option<Http1>);

impl Caller {
    async fn send(&mut self, request: &Request) -> u16 {
        for _ in 0..3 {
            if self.1.is_none() {
                self.1 = Some(Http1::connect(self.0).await);
            }
            if let Some(connection) = &mut self.1
                && let Some(answer) = connection.send(request).await
            {
                return answer.status;
            }
            self.1 = None;
        }
        0
    }
}

/// Latencies of a valid caller until it is told to stop; the 99th of a hundred.
async fn p99(port: u16, stop: Arc<AtomicBool>) -> (Duration, usize) {
    let (mut caller, mut times) = (Caller(port, None), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let from = Instant::now();
        assert_eq!(caller.send(&asking(KEY)).await, 200);
        times.push(from.elapsed());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    times.sort_unstable();
    (times[times.len() * 99 / 100], times.len())
}

async fn measured(edge: &Edge, work: impl Future<Output = ()>) -> (Duration, usize) {
    let stop = Arc::new(AtomicBool::new(false));
    let watching = tokio::spawn(p99(edge.port, stop.clone()));
    work.await;
    stop.store(true, Ordering::Relaxed);
    watching.await.unwrap()
}

/// A flood of keys of the right form that nobody has: no store is asked of any of them.
async fn flood(count: usize, pace: Duration) -> (Duration, Duration) {
    let redis = Redis::start().await.expect("redis-server is installed");
    let upstream = Upstream::start().await;
    let mut setup = Setup { governance: "usage: false".into(), log: Some("error"), ..Setup::to(upstream.port) };
    setup.state = "kind: redis, url: {env: STATE_URL}".into();
    setup.env.push(("STATE_URL".into(), format!("redis://127.0.0.1:{}", redis.port)));
    let edge = setup.start().await;
    let (quiet, _) = measured(&edge, tokio::time::sleep(Duration::from_secs(3))).await;
    let commands = || -> u64 {
        let info = redis.ask(&["INFO", "stats"]);
        info.lines().find_map(|line| line.strip_prefix("total_commands_processed:")?.trim().parse().ok()).unwrap()
    };
    let (before, from) = (commands(), Instant::now());
    let port = edge.port;
    let (loud, _) = measured(&edge, async {
        let callers: Vec<_> = (0..4)
            .map(|caller| {
                tokio::spawn(async move {
                    let mut connection = Caller(port, None);
                    for n in (caller..count).step_by(4) {
                        assert_eq!(connection.send(&asking(&format!("sk_{n:048x}"))).await, 401);
                        tokio::time::sleep(pace).await;
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.unwrap();
        }
    })
    .await;
    let asked = commands() - before;
    assert!(asked <= 50 + 4 * from.elapsed().as_secs(), "{asked} commands for {count} unknown keys");
    assert_eq!(edge.metric("gateway_key_lookups_total", &[r#"result="unknown""#]).await as usize, count);
    eprintln!("{count} unknown keys in {:?}: {asked} commands; p99 of valid requests {quiet:?} before, {loud:?} during", from.elapsed());
    (quiet, loud)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_unknown_keys_asks_no_store() {
    if Redis::start().await.is_none() {
        return eprintln!("skipped: no redis-server");
    }
    // The caller, the flood and other tests share the machine with the gateway: a loose bound, against standing still.
    let mut tries = Vec::new();
    for _ in 0..3 {
        let (quiet, loud) = flood(4_000, Duration::ZERO).await;
        if loud < quiet * 10 + Duration::from_millis(100) {
            return;
        }
        tries.push((quiet, loud));
    }
    panic!("{tries:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute, and a machine of its own"]
async fn a_flood_of_fifty_thousand_unknown_keys() {
    let (quiet, loud) = flood(50_000, Duration::from_millis(4)).await;
    eprintln!("p99 moved by {:+.1} %", (loud.as_secs_f64() / quiet.as_secs_f64() - 1.0) * 100.0);
}

fn requests(edge: &Edge) -> u64 {
    let (code, out, err) = cli(&["usage", "-c", &edge.file.display().to_string(), "--by", "status", "--format", "json"]);
    assert_eq!(code, 0, "{err}");
    serde_json::from_str::<Vec<Value>>(&out).unwrap().iter().map(|sum| sum["requests"].as_u64().unwrap()).sum()
}

async fn becomes(edge: &Edge, count: u64) {
    let mut found = 0;
    let there = eventually(PATIENCE, || {
        std::thread::sleep(Duration::from_millis(200));
        found = requests(edge);
        found >= count
    });
    assert!(there.await, "{found} records of {count} requests\n{}", edge.log());
    assert_eq!(found, count, "more records than requests");
}

/// Answers of every kind, by the number of the request.
fn mixed(seen: &Seen) -> Act {
    match seen.nth % 20 {
        3 => Act::Answer(Answer::json("{}").status(500)),
        7 => Act::CloseAfterBody,
        11 => Act::Answer(Answer::json("{}").status(429)),
        // Long enough for a caller to go away.
        15 => Act::Answer(Answer::stream(chat_events("fast", &["a", "b", "c", "d"]), Duration::from_millis(30))),
        _ => provider(seen),
    }
}

/// Traffic of every kind, a twentieth of it given up by its caller.
async fn traffic(edge: &Edge, count: usize) {
    let (port, next) = (edge.port, Arc::new(AtomicUsize::new(0)));
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let next = next.clone();
            tokio::spawn(async move {
                // Each on a connection of its own: what is sent twice would be counted twice.
                let send = async |request: &Request| Http1::connect(port).await.send(request).await.map_or(0, |answer| answer.status);
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return;
                    }
                    match n % 20 {
                        0 => {
                            // Read a little, and leave.
                            let mut gone = Http1::connect(port).await;
                            gone.write(&Request::chat(KEY, "fast", true).encode()).await.unwrap();
                            let _ = gone.head().await;
                        }
                        1..=5 => _ = send(&Request::chat(KEY, "fast", true)).await,
                        6 => assert_eq!(send(&Request::chat(KEY, "secret", false)).await, 403),
                        7 => assert_eq!(send(&Request::chat(KEY, "nothing", false)).await, 400),
                        8 => {
                            let refused = Request::post("/v1/chat/completions", "{").bearer(KEY);
                            assert_eq!(send(&refused).await, 400);
                        }
                        _ => _ = send(&asking(KEY)).await,
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
}

/// One record a request, and none more when everything that a killed process left is written again.
async fn every_request_once(count: usize) {
    let upstream = Upstream::with(mixed).await;
    let setup = Setup { governance: "usage: true".into(), fast: PRICED.into(), log: Some("error"), ..Setup::to(upstream.port) };
    let mut edge = setup.clone().start().await;
    traffic(&edge, count).await;
    // Callers that left are noticed with the next part of their answer.
    tokio::time::sleep(Duration::from_secs(1)).await;
    becomes(&edge, count as u64).await;
    let retried = edge.metric("gateway_usage_flush_errors_total", &[]).await;
    edge.killed_and_started_again(&setup).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((requests(&edge), retried), (count as u64, 0.0), "what was left behind was written again, and changed nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_request_of_mixed_traffic_is_on_record_once() {
    every_request_once(600).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "an hour's worth of requests: minutes"]
async fn every_request_of_an_hour_of_mixed_traffic_is_on_record_once() {
    every_request_once(36_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_key_made_at_run_time_had_reserved_is_charged_after_a_kill() {
    let Some(redis) = Redis::start().await else { return eprintln!("skipped: no redis-server") };
    let upstream = Upstream::start().await;
    let mut setup = Setup {
        governance: "usage: true".into(),
        fast: PRICED.into(),
        acme: vec![r#"budgets: [{name: all, period: MONTHLY, amount: "1.00"}]"#.into()],
        log: Some("warn"),
        ..Setup::to(upstream.port)
    };
    setup.state = "kind: redis, url: {env: STATE_URL}".into();
    setup.env.push(("STATE_URL".into(), format!("redis://127.0.0.1:{}", redis.port)));
    setup.env.push(("ADMIN_TOKEN".into(), TOKEN.into()));
    setup.operators = "token: {env: ADMIN_TOKEN}".into();
    let mut edge = setup.clone().start().await;
    let ask = json!({"organisation": "acme", "name": "app", "models": ["fast"]}).to_string();
    let made = client::send(edge.admin, &Request::post("/v1/keys", ask).bearer(TOKEN)).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let key = made.json()["key"].as_str().unwrap().to_owned();
    let known = comes_true(PATIENCE, async || edge.send(&asking(&key)).await.status == 200).await;
    assert!(known, "the key does not arrive");
    upstream.next((0..4).map(|_| Act::Answer(Answer::json("{}").delay(PATIENCE * 2))));
    let port = edge.port;
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let key = key.clone();
            tokio::spawn(async move { Http1::connect(port).await.send(&asking(&key)).await })
        })
        .collect();
    assert!(eventually(PATIENCE, || upstream.count() == 5).await, "four are under way");
    edge.killed_and_started_again(&setup).await;
    calls.into_iter().for_each(|call| call.abort());
    // One cost what it did, four count as what they might have.
    let used = COST + 4 * worst();
    let room = (1_000_000_000 - used - worst()) / COST + 1;
    for total in 0..room {
        // What a shared store is told of the end of a request it is told beside the next one.
        let answered = comes_true(Duration::from_secs(20), async || {
            let status = edge.send(&asking(&key)).await.status;
            assert!([200, 402, 503].contains(&status), "{status}");
            status == 200
        });
        assert!(answered.await, "refused after {total} of {room}");
    }
    let refused = comes_true(Duration::from_secs(20), async || {
        let status = edge.send(&asking(&key)).await.status;
        assert!([402, 503].contains(&status), "{status} after {room}");
        status == 402
    });
    assert!(refused.await, "nobody knows whether there is room after {room}");
}

/// The record store stops for so long under load: nothing is lost, and nobody notices.
async fn store_away(away: Duration) -> (Duration, Duration) {
    let upstream = Upstream::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("odock.db");
    let mut setup = Setup { governance: "usage: true".into(), fast: PRICED.into(), log: Some("error"), ..Setup::to(upstream.port) };
    setup.records = format!("path: \"{}\"", path.display());
    let edge = setup.start().await;
    let (quiet, before) = measured(&edge, tokio::time::sleep(Duration::from_secs(3))).await;
    // Who holds SQLite's lock keeps every other writer out.
    let mut lock = std::process::Command::new("sqlite3")
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("sqlite3 is installed");
    let mut input = lock.stdin.take().unwrap();
    std::io::Write::write_all(&mut input, b".timeout 5000\nBEGIN EXCLUSIVE;\n").unwrap();
    let (without, during) = measured(&edge, tokio::time::sleep(away)).await;
    assert!(edge.metric("gateway_usage_flush_errors_total", &[]).await > 0.0, "the store was not away");
    std::io::Write::write_all(&mut input, b"COMMIT;\n.quit\n").unwrap();
    drop(input);
    lock.wait().unwrap();
    becomes(&edge, (before + during) as u64).await;
    eprintln!("{away:?} without the record store: {during} requests, p99 {quiet:?} before, {without:?} meanwhile, all on record");
    (quiet, without)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a minute, and a machine of its own"]
async fn a_minute_without_the_record_store() {
    let (quiet, without) = store_away(Duration::from_secs(60)).await;
    eprintln!("p99 moved by {:+.1} %", (without.as_secs_f64() / quiet.as_secs_f64() - 1.0) * 100.0);
}
