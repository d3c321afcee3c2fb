//! Deliveries arrive whatever happens to the receiver, the process or the store.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::Request;
use crate::edge::{self, Edge, KEY, KEY_WITHOUT_GRANTS, Setup};
use crate::upstream::{Act, Answer, Seen, Upstream};

pub const SIGNING: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A receiver whose mood can be changed while it runs.
pub struct Receiver {
    pub upstream: Upstream,
    /// 0: takes everything, 100: fails always, between: per cent of failures.
    failing: Arc<AtomicUsize>,
    /// The status of a failure.
    status: Arc<AtomicUsize>,
    /// Milliseconds before it answers.
    delay: Arc<AtomicUsize>,
}

impl Receiver {
    pub async fn start(failing: usize) -> Self {
        let (failing, status) = (Arc::new(AtomicUsize::new(failing)), Arc::new(AtomicUsize::new(500)));
        let delay = Arc::new(AtomicUsize::new(0));
        let (mood, code, slow, turn) = (failing.clone(), status.clone(), delay.clone(), AtomicUsize::new(0));
        let upstream = Upstream::with(move |_| {
            // A sequence without a pattern, the same in every run.
            let chance = turn.fetch_add(1, Ordering::Relaxed).wrapping_mul(2_654_435_761) % 4_294_967_296 * 100 / 4_294_967_296;
            let fails = chance < mood.load(Ordering::Relaxed);
            let status = if fails { code.load(Ordering::Relaxed) as u16 } else { 204 };
            let delay = Duration::from_millis(slow.load(Ordering::Relaxed) as u64);
            Act::Answer(Answer::json("").status(status).delay(delay))
        })
        .await;
        Self { upstream, failing, status, delay }
    }

    pub fn fail(&self, per_cent: usize, status: usize) {
        self.failing.store(per_cent, Ordering::Relaxed);
        self.status.store(status, Ordering::Relaxed);
    }

    pub fn slow(&self, milliseconds: usize) {
        self.delay.store(milliseconds, Ordering::Relaxed);
    }

    /// The item of `plugins:` that sends here.
    pub fn plugin(&self, name: &str, more: &str, config: &str) -> String {
        let port = self.upstream.port;
        format!(
            "{{name: {name}, use: webhook, config: {{url: \"http://127.0.0.1:{port}/in\", secrets: [signing]{config}}}, \
             grant: {{network: [\"127.0.0.1:{port} private\"], secrets: [signing]}}{more}}}"
        )
    }
}

/// A schedule of 99 quick attempts, and pauses of 100 ms.
const QUICK: &str = "breaker: {failures: 8, pause: 100ms}";

pub fn outbox(more: &str) -> String {
    let schedule = std::iter::once("0s").chain(std::iter::repeat_n("10ms", 99)).collect::<Vec<_>>().join(", ");
    format!("secrets: {{signing: {{env: SIGNING}}}}\noutbox: {{schedule: [{schedule}]{more}}}\n")
}

pub fn setup(upstream: u16, plugins: &[String], more: &str) -> Setup {
    let mut setup = Setup::to(upstream);
    setup.more = outbox(more);
    setup.env.push(("SIGNING".into(), SIGNING.into()));
    let names: Vec<&str> = plugins.iter().map(|item| item[7..item.find(',').unwrap()].trim()).collect();
    setup.chain.push(format!("post_response: {{parallel: [{}], async: true}}", names.join(", ")));
    setup.plugins = plugins.to_vec();
    setup
}

async fn until(what: &str, within: Duration, edge: &Edge, name: &str, labels: &[&str], wanted: f64) {
    let end = Instant::now() + within;
    loop {
        let got = edge.metric(name, labels).await;
        if got >= wanted {
            return;
        }
        assert!(Instant::now() < end, "{what}: {got} of {wanted}\n{}", edge.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn accepted(edge: &Edge, count: usize) {
    until("accepted", edge::PATIENCE, edge, "gateway_outbox_deliveries_total", &["outcome=\"accepted\""], count as f64).await;
}

async fn outcome(edge: &Edge, outcome: &str, count: usize) {
    let label = format!("outcome=\"{outcome}\"");
    until(outcome, edge::PATIENCE, edge, "gateway_outbox_deliveries_total", &[&label], count as f64).await;
}

/// Requests one after the other with one key; their ids.
async fn requests(port: u16, key: &'static str, count: usize) -> Vec<String> {
    let mut connection = crate::client::Http1::connect(port).await;
    let mut ids = Vec::new();
    for _ in 0..count {
        let answer = connection.send(&Request::chat(key, "fast", false)).await.expect("an answer");
        ids.push(answer.header("x-request-id").unwrap().to_owned());
    }
    ids
}

fn subject(seen: &Seen) -> String {
    seen.json()["subject"].as_str().unwrap().to_owned()
}

/// Checks a signature as the specification says, with nothing of ours.
fn assert_signed(seen: &Seen) {
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &base64.decode(SIGNING.strip_prefix("whsec_").unwrap()).unwrap());
    let (id, at) = (seen.header("webhook-id").unwrap(), seen.header("webhook-timestamp").unwrap());
    let signed = [id.as_bytes(), b".", at.as_bytes(), b".", &seen.body].concat();
    let signature = base64.decode(seen.header("webhook-signature").unwrap().strip_prefix("v1,").unwrap()).unwrap();
    ring::hmac::verify(&key, &signed, &signature).unwrap();
}

/// Runs a command of the binary as who has the secrets does.
fn cli(args: &[&str]) -> (i32, String, String) {
    let out = edge::binary().args(args).env("MOCK_PROVIDER_KEY", edge::PROVIDER_KEY).env("SIGNING", SIGNING).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code().unwrap_or(-1), text(&out.stdout), text(&out.stderr))
}

pub fn listed(edge: &Edge, more: &[&str]) -> Vec<Value> {
    let file = edge.file.display().to_string();
    let (code, out, err) = cli(&[&["outbox", "list", "-c", &file, "--format", "json"], more].concat());
    assert_eq!(code, 0, "{err}");
    serde_json::from_str(&out).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_signed_and_on_record_and_holds_nothing_that_was_said() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start(0).await);
    let plugins = [receiver.plugin("hook", "", ""), receiver.plugin("watching", ", mode: observe", "")];
    let edge = setup(upstream.port, &plugins, "").start().await;
    let ids = requests(edge.port, KEY, 1).await;
    outcome(&edge, "sent", 1).await;
    outcome(&edge, "would_send", 1).await;
    let seen = receiver.upstream.take();
    assert_eq!(seen.len(), 1, "who observes sends nothing");
    assert_signed(&seen[0]);
    let event = seen[0].json();
    assert_eq!((&event["type"], &event["specversion"]), (&"ai.odock.gateway.request.completed.v1".into(), &"1.0".into()));
    let data = &event["data"];
    assert_eq!((&data["request_id"], &data["status"], &data["model"]), (&ids[0].as_str().into(), &200.into(), &"fast".into()));
    assert!(data["usage"]["input_tokens"].as_u64().unwrap() > 0, "{data}");
    for secret in ["Hello", KEY, edge::PROVIDER_KEY, SIGNING] {
        assert!(!seen[0].text().contains(secret), "{secret}");
    }
    edge.record(&ids[0]).await;
    let of = |plugin: &str| {
        let entries = edge.evidence_entries().into_iter().filter(|entry| entry["kind"] == "delivery" && entry["plugin"] == plugin);
        entries.map(|entry| (entry["state"].clone(), entry["request_id"].clone(), entry["attempt"].clone())).collect::<Vec<_>>()
    };
    let found = edge::eventually(edge::PATIENCE, || !of("hook").is_empty() && !of("watching").is_empty()).await;
    assert!(found, "{}", edge.evidence());
    assert_eq!(of("hook"), [("sent".into(), ids[0].as_str().into(), 1.into())]);
    assert_eq!(of("watching"), [("would_send".into(), ids[0].as_str().into(), 0.into())]);
    let entries = edge.evidence_entries();
    let entry = entries.iter().find(|entry| entry["kind"] == "request" && entry["request_id"] == ids[0].as_str()).unwrap();
    let execution = entry["executions"].as_array().unwrap().iter().find(|e| e["plugin"] == "hook" && e["action"] == "allowed").unwrap();
    assert_eq!(execution["delivery_id"], format!("req_{}", ids[0]));
    let (code, _, err) = cli(&["evidence", "verify", "--dir", &edge.evidence_dir().display().to_string()]);
    assert_eq!(code, 0, "{err}");
}

/// What must arrive once, with which keys in order.
struct Sent {
    all: HashSet<String>,
    by_key: HashMap<String, Vec<String>>,
}

/// `count` events while the receiver is dead, then `kills` kills while it fails in 30 of 100 cases.
async fn show(count: usize, kills: usize, ordered: bool) {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start(100).await);
    receiver.fail(100, 503);
    let plugins = [receiver.plugin("hook", "", if ordered { ", order_by: api_key" } else { "" })];
    let setup = setup(upstream.port, &plugins, &format!(", {QUICK}, max_pending: 1000000"));
    let mut edge = setup.clone().start().await;
    let port = edge.port;
    let clients = [KEY, KEY_WITHOUT_GRANTS].map(|key| tokio::spawn(requests(port, key, count / 2)));
    let mut sent = Sent { all: HashSet::new(), by_key: HashMap::new() };
    for (key, client) in ["acme/main", "acme/bare"].into_iter().zip(clients) {
        let ids = client.await.unwrap();
        sent.all.extend(ids.iter().cloned());
        sent.by_key.insert(key.to_owned(), ids);
    }
    accepted(&edge, count).await;
    let while_dead = edge.metric("process_resident_memory_bytes", &[]).await;

    receiver.fail(30, 500);
    let arrived = || -> Vec<Seen> { receiver.upstream.seen().into_iter().filter(|seen| seen.complete).collect() };
    let mut killed = 0;
    let begun = Instant::now();
    let mut most = while_dead;
    loop {
        let wait = if killed < kills { 40 + rand::random::<u64>() % 400 } else { 500 };
        tokio::time::sleep(Duration::from_millis(wait)).await;
        if killed < kills {
            most = most.max(edge.metric("process_resident_memory_bytes", &[]).await);
            edge.killed_and_started_again(&setup).await;
            killed += 1;
        } else if edge.metric("gateway_outbox_pending", &["hook"]).await == 0.0 && listed(&edge, &[]).is_empty() {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(600), "not over: {} left", listed(&edge, &[]).len());
    }
    most = most.max(edge.metric("process_resident_memory_bytes", &[]).await);

    // The receiver cannot be asked which it answered with success, but nothing is left, so each was.
    let (mut first, mut attempts) = (BTreeMap::new(), 0);
    let mut order: HashMap<String, Vec<String>> = HashMap::new();
    for seen in arrived() {
        attempts += 1;
        assert_signed(&seen);
        let (event, id) = (seen.json(), subject(&seen));
        assert!(sent.all.contains(&id), "invented: {id}");
        assert_eq!(seen.header("webhook-id"), Some(format!("req_{id}").as_str()));
        if first.insert(id.clone(), seen.body.clone()).is_none() {
            order.entry(event["data"]["key"]["id"].as_str().unwrap().to_owned()).or_default().push(id);
        }
    }
    assert_eq!(first.len(), sent.all.len(), "every event arrived");
    for (key, ids) in sent.by_key.iter().filter(|_| ordered) {
        assert_eq!(&order[key], ids, "the order of {key}");
    }
    eprintln!(
        "{count} events, {killed} kills, {attempts} attempts in {:?}; resident {:.0} MiB while the receiver was dead, {:.0} MiB at most",
        begun.elapsed(),
        while_dead / 1048576.0,
        most / 1048576.0
    );
    assert!(most < 400.0 * 1048576.0, "{most} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_and_a_failing_receiver_lose_invent_and_reorder_nothing() {
    show(1000, 6, true).await;
}

/// The whole show; `cargo test --test gateway ten_thousand -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn ten_thousand_events_and_twenty_kills() {
    show(10_000, 20, false).await;
}

/// The same with two keys in order; `cargo test --test gateway ten_thousand -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes"]
async fn ten_thousand_events_in_order_and_twenty_kills() {
    show(10_000, 20, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_up_is_listed_sent_anew_and_dropped() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start(100).await);
    let more = ", instances: {hook: {schedule: [0s, 10ms], breaker: {failures: 1000, pause: 1s}}}";
    let mut edge = setup(upstream.port, &[receiver.plugin("hook", "", "")], more).start().await;
    let ids = requests(edge.port, KEY, 3).await;
    outcome(&edge, "dead", 3).await;
    let dead = listed(&edge, &["--instance", "hook", "--state", "dead"]);
    assert_eq!(dead.len(), 3, "{dead:?}");
    assert_eq!((&dead[0]["attempts"], &dead[0]["error"]), (&2.into(), &"given up after 2 attempts: status 500".into()));
    let file = edge.file.display().to_string();
    let id = format!("req_{}", ids[1]);
    assert_eq!(cli(&["outbox", "drop", "-c", &file, "--id", &id]).0, 0);
    assert_eq!(cli(&["outbox", "drop", "-c", &file, "--id", &id]).0, 1, "there is none any more");
    assert_eq!(cli(&["outbox", "drop", "-c", &file]).0, 2, "everything is not the default");
    receiver.fail(0, 500);
    assert_eq!(cli(&["outbox", "retry", "-c", &file, "--state", "dead"]).0, 0);
    outcome(&edge, "sent", 2).await;
    assert!(edge::eventually(edge::PATIENCE, || listed(&edge, &[]).is_empty()).await);

    // 410: nothing is sent any more, and what comes is given up, until a configuration is loaded.
    receiver.fail(100, 410);
    requests(edge.port, KEY, 1).await;
    outcome(&edge, "disabled", 1).await;
    let before = receiver.upstream.count();
    requests(edge.port, KEY, 2).await;
    outcome(&edge, "disabled", 3).await;
    assert_eq!(receiver.upstream.count(), before);

    // The same file loaded again is a configuration too: the receiver is asked once more.
    receiver.fail(0, 410);
    edge.signal("HUP", None);
    assert!(edge::eventually(edge::PATIENCE, || edge.log().contains("configuration reloaded")).await);
    requests(edge.port, KEY, 1).await;
    outcome(&edge, "sent", 3).await;

    // An instance that is gone leaves its deliveries where they are.
    let gone = Setup { plugins: Vec::new(), chain: Vec::new(), more: outbox(""), ..setup(upstream.port, &[], "") };
    edge.rewrite(&gone);
    edge.signal("TERM", None);
    assert_eq!(edge.ended(crate::edge::PATIENCE).await.unwrap().0, 0);
    edge.killed_and_started_again(&gone).await;
    assert_eq!(listed(&edge, &["--instance", "hook", "--state", "dead"]).len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_receiver_is_left_alone_and_loses_nothing() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start(100).await);
    let edge = setup(upstream.port, &[receiver.plugin("hook", "", "")], ", breaker: {failures: 3, pause: 2s}").start().await;
    requests(edge.port, KEY, 40).await;
    accepted(&edge, 40).await;
    until("paused", edge::PATIENCE, &edge, "gateway_outbox_paused_destinations", &["hook"], 1.0).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let tried = receiver.upstream.count();
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(receiver.upstream.count() <= tried + 1, "{} attempts after {tried}", receiver.upstream.count());
    receiver.fail(0, 500);
    outcome(&edge, "sent", 40).await;
    let ids: HashSet<String> = receiver.upstream.seen().iter().map(subject).collect();
    assert_eq!(ids.len(), 40);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outbox_that_is_full_says_so() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start(100).await);
    for (on_full, word) in [("drop_newest", "dropped"), ("drop_oldest", "dropped"), ("deny", "refused")] {
        let more = format!(", max_pending: 5, on_full: {on_full}, breaker: {{failures: 1, pause: 1m}}");
        let edge = setup(upstream.port, &[receiver.plugin("hook", "", "")], &more).start().await;
        let ids = requests(edge.port, KEY, 12).await;
        outcome(&edge, word, 6).await;
        let file = edge.file.clone();
        let kept = || listed(&edge, &[]).iter().map(|row| row["request_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        // The list is what the store has; what came last may still be on its way there.
        let wanted = if on_full == "drop_oldest" { ids.last() } else { ids.first() }.unwrap();
        let settled = edge::eventually(edge::PATIENCE, || kept().len() <= 6 && kept().contains(wanted)).await;
        assert!(settled, "{on_full} {file:?}: {:?} of {ids:?}", kept());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_due_leaves_before_the_end() {
    let (upstream, receiver) = (Upstream::start().await, Receiver::start(0).await);
    let mut edge = setup(upstream.port, &[receiver.plugin("hook", "", "")], "").start().await;
    let ids = requests(edge.port, KEY, 100).await;
    edge.signal("TERM", None);
    assert_eq!(edge.ended(crate::edge::PATIENCE).await.unwrap().0, 0);
    let arrived: HashSet<String> = receiver.upstream.seen().iter().map(subject).collect();
    assert_eq!(arrived, ids.into_iter().collect::<HashSet<_>>());
    assert_eq!(std::fs::read_dir(edge.dir.path().join("var/outbox")).unwrap().count(), 0, "nothing is left for another process");
}

/// How long requests take with a receiver that answers and with one that does not; run on an optimised build.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn requests_do_not_feel_a_dead_receiver() {
    let (upstream, good, dead) = (Upstream::start().await, Receiver::start(0).await, Receiver::start(100).await);
    let more = format!(", {QUICK}");
    let edges = [
        setup(upstream.port, &[good.plugin("hook", "", "")], &more).start().await,
        setup(upstream.port, &[dead.plugin("hook", "", "")], &more).start().await,
    ];
    let mut p99s = [Vec::new(), Vec::new()];
    for _ in 0..15 {
        for (edge, p99s) in edges.iter().zip(&mut p99s) {
            let mut connection = crate::client::Http1::connect(edge.port).await;
            let mut times = Vec::new();
            for _ in 0..400 {
                let begun = Instant::now();
                assert_eq!(connection.send(&Request::chat(KEY, "fast", false)).await.unwrap().status, 200);
                times.push(begun.elapsed());
            }
            times.sort();
            p99s.push((times[396], times[200]));
        }
    }
    let middle = |mut all: Vec<(Duration, Duration)>| {
        all.sort();
        all[all.len() / 2]
    };
    let [good, dead] = p99s.map(middle);
    eprintln!("p99 and p50: {good:?} with a receiver that answers, {dead:?} with a dead one");
}
