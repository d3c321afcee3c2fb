//! Reload and shutdown under load: no request fails, no answer is cut off, no record is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;

use crate::client::{Http1, Request, events};
use crate::edge::{Edge, KEY, PATIENCE, Setup, comes_true, eventually};
use crate::upstream::{Act, Answer, Body, Upstream, chat_events, provider};

/// A provider whose streams last `beats` × `pace`; what is no stream is answered at once.
pub async fn streaming(beats: usize, pace: Duration) -> Upstream {
    paced(beats, Arc::new(AtomicU64::new(pace.as_millis() as u64))).await
}

/// The same with a pace, in milliseconds, that the test changes when it has seen enough.
async fn paced(beats: usize, pace: Arc<AtomicU64>) -> Upstream {
    let parts: Vec<Bytes> = chat_events("m", &vec!["beat "; beats]);
    Upstream::with(move |seen| {
        let streamed = serde_json::from_slice::<serde_json::Value>(&seen.body).is_ok_and(|b| b["stream"] == true);
        if !streamed {
            return provider(seen);
        }
        Act::Answer(Answer { body: Body::Paced(parts.clone(), pace.clone()), ..Answer::stream(Vec::new(), Duration::ZERO) })
    })
    .await
}

/// Opens a stream and follows it to its end; how it ended.
pub async fn follow(port: u16, opened: Arc<AtomicUsize>) -> Result<usize, String> {
    let mut connection = Http1::connect(port).await;
    connection.write(&Request::chat(KEY, "fast", true).encode()).await.map_err(|e| e.to_string())?;
    let head = connection.head().await.ok_or("no head")?;
    if head.status != 200 {
        let refusal = connection.finish(head).await;
        return Err(format!("{}: {}", refusal.status, refusal.text()));
    }
    opened.fetch_add(1, Ordering::Relaxed);
    let answer = connection.finish(head).await;
    let events = events(&answer.body);
    if !answer.complete || events.last().map(String::as_str) != Some("[DONE]") {
        return Err(format!("cut after {} events", events.len()));
    }
    Ok(events.len())
}

/// Sends requests one after the other until told to stop; those that failed. A connection that the gateway closed while it
/// was idle is opened anew, and the request on it tried once more if not a byte of an answer came: that much every
/// client of keep-alive connections does (RFC 9112 §9.3.1).
pub async fn load(port: u16, stop: Arc<AtomicBool>) -> (usize, Vec<String>) {
    let (mut sent, mut failed) = (0, Vec::new());
    let request = Request::chat(KEY, "fast", false);
    let mut connection: Option<Http1> = None;
    while !stop.load(Ordering::Relaxed) {
        sent += 1;
        let reused = connection.is_some();
        let mut answer = match &mut connection {
            Some(open) => open.send(&request).await,
            None => connection.insert(Http1::connect(port).await).send(&request).await,
        };
        if answer.is_none() && reused {
            answer = connection.insert(Http1::connect(port).await).send(&request).await;
        }
        match answer {
            Some(answer) if answer.status == 200 && answer.complete => {
                if answer.header("connection").is_some_and(|v| v.eq_ignore_ascii_case("close")) {
                    connection = None;
                }
            }
            Some(answer) => failed.push(format!("{} {}", answer.status, answer.text())),
            None => {
                failed.push("no answer".into());
                connection = None;
            }
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (sent, failed)
}

/// As many streams as the process may have descriptors for, at most 1,000: each takes three here, counting both ends.
pub fn streams() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let soft = limits
        .lines()
        .find(|l| l.starts_with("Max open files"))
        .and_then(|l| l.split_whitespace().nth(3)?.parse::<usize>().ok())
        .unwrap_or(1024);
    (soft.saturating_sub(256) / 3).clamp(50, 1000)
}

pub async fn wait_for(opened: &AtomicUsize, count: usize, edge: &Edge) {
    let open = eventually(PATIENCE, || opened.load(Ordering::Relaxed) >= count).await;
    assert!(open, "{} of {count} streams are open\n{}", opened.load(Ordering::Relaxed), edge.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_reloads_under_open_streams_and_load_fail_nothing() {
    // Two minutes, unless all is seen before.
    let pace = Arc::new(AtomicU64::new(3000));
    let upstream = paced(40, pace.clone()).await;
    let setup = Setup::to(upstream.port);
    let edge = setup.clone().start().await;
    let other = setup.clone().case("other", "{}");
    let count = streams();
    let opened = Arc::new(AtomicUsize::new(0));
    let followers: Vec<_> = (0..count).map(|_| tokio::spawn(follow(edge.port, opened.clone()))).collect();
    wait_for(&opened, count, &edge).await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4).map(|_| tokio::spawn(load(edge.port, stop.clone()))).collect();
    for n in 0..100 {
        let before = edge.config_hash().await;
        edge.rewrite(if n % 2 == 0 { &other } else { &setup });
        edge.signal("HUP", None);
        let requests = upstream.count();
        let there = comes_true(PATIENCE, async || edge.config_hash().await != before).await;
        assert!(there, "reload {n} did not happen\n{}", edge.log());
        // However slow the machine is: there is a load between any two.
        assert!(eventually(PATIENCE, || upstream.count() > requests).await, "nothing goes on after reload {n}");
    }
    stop.store(true, Ordering::Relaxed);
    let mut total = 0;
    for caller in callers {
        let (sent, failed) = caller.await.unwrap();
        assert!(failed.is_empty(), "{} of {sent} failed: {:?}", failed.len(), &failed[..failed.len().min(3)]);
        total += sent;
    }
    let still_open = followers.iter().filter(|f| !f.is_finished()).count();
    assert!(still_open * 10 >= count * 9, "only {still_open} of {count} streams were open to the last reload");
    pace.store(100, Ordering::Relaxed);
    for follower in followers {
        assert_eq!(follower.await.unwrap(), Ok(43), "a stream was cut");
    }
    assert!(total >= 100, "{total} requests are no load");
    assert_eq!(edge.metric("gateway_config_reloads_total", &["success"]).await, 100.0);
}

#[tokio::test]
async fn a_reload_changes_what_the_next_request_meets() {
    let upstream = Upstream::start().await;
    let setup =
        Setup::to(upstream.port).faults().plugin("{name: refuses, use: fault, config: {how: block, status: 403, code: now_refused}}");
    let edge = setup.clone().start().await;
    let request = Request::chat(KEY, "fast", false);
    assert_eq!(edge.send(&request).await.status, 200);
    // A request that is on its way keeps what it began with.
    upstream.next([Act::Answer(Answer::json("{\"old\":true}").delay(Duration::from_secs(3)))]);
    let waiting = edge.send(&request);
    let change = async {
        assert!(eventually(PATIENCE, || upstream.count() == 2).await);
        edge.rewrite(&setup.clone().chain("post_upstream: {sequential: [refuses]}"));
        edge.signal("HUP", None);
        edge.logged("configuration reloaded", 0).await;
        edge.send(&request).await
    };
    let (old, new) = tokio::join!(waiting, change);
    assert_eq!((old.status, old.text().as_str()), (200, "{\"old\":true}"));
    assert_eq!(new.code(), "now_refused");
}

#[tokio::test]
async fn a_reload_says_what_it_cannot_change() {
    let upstream = Upstream::start().await;
    let setup = Setup::to(upstream.port);
    let edge = setup.clone().start().await;
    let other = Setup { server: "threads: 3".into(), records: "path: ./elsewhere.db".into(), ..setup };
    edge.rewrite(&other);
    edge.signal("HUP", None);
    edge.logged("configuration reloaded", 0).await;
    let log = edge.log();
    let said = log.lines().find(|line| line.contains("taken at start")).unwrap_or_else(|| panic!("{log}"));
    assert!(said.contains("records, server.threads") && !said.contains("state"), "{said}");
}

#[tokio::test]
async fn a_bad_file_changes_nothing_and_says_where_it_is_bad() {
    let upstream = Upstream::start().await;
    let edge = Setup::to(upstream.port).start().await;
    let hash = edge.config_hash().await;
    let good = std::fs::read_to_string(&edge.file).unwrap();
    let bad = [
        good.replacen("admin:", "admni:", 1),
        good.replacen("provider: mock,", "provider: nobody,", 1),
        "version: [1\n".into(),
        String::new(),
    ];
    for (n, text) in bad.iter().enumerate() {
        std::fs::write(&edge.file, text).unwrap();
        edge.signal("HUP", None);
        // One bad file may have several lines to say; how many reloads failed is what tells that this one is done.
        comes_true(PATIENCE, async || edge.metric("gateway_config_reloads_total", &["failure"]).await > n as f64).await;
        edge.logged("the running configuration stays", n).await;
        assert_eq!(edge.config_hash().await, hash, "{n}");
        assert_eq!(edge.send(&Request::chat(KEY, "fast", false)).await.status, 200);
    }
    let log = edge.log();
    let places = regex::Regex::new(r"odock\.yaml:\d+:\d+").unwrap();
    assert!(places.find_iter(&log).count() >= 3, "{log}");
    assert!(log.contains("odock.yaml:5:1"), "the misspelt key is in line 5: {log}");
    assert_eq!(edge.metric("gateway_config_reloads_total", &["failure"]).await, 4.0);
    assert_eq!(edge.metric("gateway_config_last_reload_successful", &[]).await, 0.0);
    std::fs::write(&edge.file, good).unwrap();
    edge.signal("HUP", None);
    edge.logged("configuration reloaded", 0).await;
    assert_eq!(edge.metric("gateway_config_last_reload_successful", &[]).await, 1.0);
}

#[tokio::test]
async fn sigterm_without_traffic_ends_within_a_second() {
    let upstream = Upstream::start().await;
    // Other tests use the machine at the same time: what waits for something waits for it every time.
    let mut times = Vec::new();
    for _ in 0..5 {
        let mut edge = Setup::to(upstream.port).start().await;
        // Idle connections on both sides are not traffic.
        let mut idle = Http1::connect(edge.port).await;
        assert_eq!(idle.send(&Request::chat(KEY, "fast", false)).await.unwrap().status, 200);
        let _silent = Http1::connect(edge.port).await;
        edge.signal("TERM", None);
        let (code, took) = edge.ended(PATIENCE).await.expect("it ended");
        assert_eq!(code, 0, "{}", edge.log());
        if took <= Duration::from_secs(1) {
            return;
        }
        times.push(took);
    }
    panic!("{times:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_lets_streams_end_and_takes_nothing_new() {
    let upstream = streaming(20, Duration::from_millis(200)).await;
    let mut edge = Setup::to(upstream.port).start().await;
    let opened = Arc::new(AtomicUsize::new(0));
    let followers: Vec<_> = (0..20).map(|_| tokio::spawn(follow(edge.port, opened.clone()))).collect();
    wait_for(&opened, 20, &edge).await;
    edge.signal("TERM", None);
    let refused = comes_true(PATIENCE, async || tokio::net::TcpStream::connect(("127.0.0.1", edge.port)).await.is_err()).await;
    assert!(refused && followers.iter().all(|follower| !follower.is_finished()), "new connections are taken to the end");
    for follower in followers {
        assert_eq!(follower.await.unwrap(), Ok(23));
    }
    let (code, took) = edge.ended(PATIENCE).await.expect("it ended when the streams had");
    assert_eq!(code, 0);
    assert!(took < Duration::from_secs(10), "{took:?} after the last stream");
}

/// At the end of the drain time what still runs is cut, the log says how much, and each is on record: a stream in the middle,
/// and a request whose provider has said nothing.
#[tokio::test]
async fn the_drain_time_is_a_bound() {
    let upstream = streaming(500, Duration::from_millis(100)).await;
    let mut setup = Setup::to(upstream.port);
    setup.server = "drain: 1s".into();
    setup.governance = "usage: true".into();
    let mut edge = setup.start().await;
    let opened = Arc::new(AtomicUsize::new(0));
    let follower = tokio::spawn(follow(edge.port, opened.clone()));
    wait_for(&opened, 1, &edge).await;
    upstream.next([Act::Answer(Answer::json("{}").delay(Duration::from_secs(60)))]);
    let port = edge.port;
    let silent = tokio::spawn(async move { crate::client::send(port, &Request::chat(KEY, "fast", false)).await });
    while upstream.count() < 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    edge.signal("TERM", None);
    let (code, took) = edge.ended(PATIENCE).await.expect("it ended");
    assert_eq!(code, 0, "{}", edge.log());
    assert!(took >= Duration::from_millis(900) && took < Duration::from_secs(20), "{took:?}");
    assert!(follower.await.unwrap().is_err(), "a cut stream is seen to be cut");
    let silent = silent.await.unwrap();
    assert_eq!((silent.status, silent.code()), (503, "overloaded".into()), "{}", silent.text());

    let log = edge.log();
    let line = |text: &str| log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text}: {log}")).to_owned();
    assert!(line("requests are cut").contains("\"requests\":2"), "{log}");
    assert!(log.contains("drained"), "{log}");
    let cut: Vec<&str> = log.lines().filter(|line| line.contains("\"code\":\"overloaded\"")).collect();
    assert_eq!(cut.len(), 2, "{log}");
    let entries = edge.evidence_entries();
    let recorded: Vec<_> = entries.iter().filter(|entry| entry["kind"] == "request" && entry["code"] == "overloaded").collect();
    assert_eq!(recorded.len(), 2, "{entries:#?}");
    let (code, out, err) = crate::edge::cli(&["usage", "-c", &edge.file.display().to_string(), "--by", "status", "--format", "json"]);
    assert_eq!(code, 0, "{err}");
    let told: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap();
    assert_eq!(told.iter().map(|line| line["requests"].as_i64().unwrap()).sum::<i64>(), 2, "{out}");
}

/// Work that waits for its turn when the signal comes is done, or its loss is on record.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queued_background_work_is_drained_or_accounted_for() {
    let upstream = Upstream::start().await;
    let mut edge = Setup::to(upstream.port)
        .faults()
        .plugin("{name: late, use: fault, timeout: 1s, config: {how: pass, after_ms: 20}}")
        .chain("post_response: {parallel: [late], async: true}")
        .start()
        .await;
    let requests = 60;
    for _ in 0..requests / 10 {
        let request = Request::chat(KEY, "fast", false);
        let all = futures::future::join_all((0..10).map(|_| edge.send(&request))).await;
        assert!(all.iter().all(|a| a.status == 200));
    }
    edge.signal("TERM", None);
    assert_eq!(edge.ended(crate::edge::PATIENCE).await.expect("it ended").0, 0);
    let entries = edge.evidence_entries();
    assert_eq!(entries.iter().filter(|e| e["kind"] == "request").count(), requests);
    // What ended before its record was written is within it, what ended later has an entry of its own.
    let within = entries.iter().filter_map(|e| e["executions"].as_array()).flatten();
    let later = entries.iter().filter(|e| e["kind"] == "execution").map(|e| &e["execution"]);
    let ended: Vec<_> = within.chain(later).filter(|x| x["plugin"] == "late" && x["action"] != "enqueued").collect();
    assert_eq!(ended.len(), requests, "{} of {requests} ran or are known to be lost: {ended:#?}", ended.len());
}
