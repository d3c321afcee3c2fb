//! Calls to a shared store: one before the provider is called, one at the end, and none where the answer is known.

use std::collections::HashMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Request, Response};
use crate::edge::{Edge, KEY, PATIENCE, Setup, comes_true, eventually};
use crate::safety_sessions::{Redis, with_time};
use crate::upstream::Upstream;

const PRICED: &str = "max_output_tokens: 100, pricing: {input: {text_cost_per_1k_tokens: 1}, output: {text_cost_per_1k_tokens: 2}}";
const RATES: &str =
    "ratelimit: {requests: {per_second: 10000, per_minute: 100000}, tokens: {per_minute: 100000000}, concurrency: {max: 1000}}";

fn chat(model: &str) -> Request {
    let body = json!({"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "Hello"}]});
    Request::post("/v1/chat/completions", body.to_string()).bearer(KEY)
}

/// The answer, unless the store had no time for the question.
fn in_time(answer: Response) -> Option<Response> {
    Some(answer).filter(|answer| answer.status != 503 || answer.code() != "store_unavailable")
}

async fn shared(redis: &Redis, setup: Setup) -> Edge {
    let mut setup = setup;
    setup.state = "kind: redis, url: {env: STATE_URL}".into();
    setup.env.push(("STATE_URL".into(), format!("redis://127.0.0.1:{}", redis.port)));
    setup.start().await
}

/// Watches the server, as `redis-cli monitor` does.
struct Watch(Child, tempfile::NamedTempFile);

impl Watch {
    async fn begin(redis: &Redis) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new("redis-cli");
        command.args(["-p", &redis.port.to_string(), "monitor"]).stdout(file.reopen().unwrap()).stderr(Stdio::null());
        let this = Self(command.spawn().unwrap(), file);
        assert!(eventually(PATIENCE, || this.seen().starts_with("OK")).await, "redis-cli does not watch");
        this
    }

    fn seen(&self) -> String {
        std::fs::read_to_string(self.1.path()).unwrap()
    }

    /// How often each script was called since the watch began, most calls first.
    async fn end(mut self) -> Vec<usize> {
        // What a request gives back is given back beside the next ones: until nothing comes any more.
        for _ in 0..20 {
            let before = self.seen().len();
            tokio::time::sleep(Duration::from_millis(700)).await;
            if self.seen().len() == before {
                break;
            }
        }
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        let mut scripts: HashMap<String, usize> = HashMap::new();
        for line in self.seen().lines() {
            let words: Vec<&str> = line.split('"').collect();
            if words.get(1).is_some_and(|command| command.eq_ignore_ascii_case("evalsha")) && !line.contains(" lua]") {
                *scripts.entry(words[3].to_owned()).or_default() += 1;
            }
        }
        let mut counts: Vec<usize> = scripts.into_values().collect();
        counts.sort_unstable_by(|a, b| b.cmp(a));
        counts
    }
}

#[tokio::test]
async fn a_request_under_everything_asks_a_shared_store_once() {
    with_time(asks_once).await;
}

async fn asks_once(redis: &Redis) -> Option<()> {
    let upstream = Upstream::start().await;
    let budgets = "budgets: [{name: all, period: MONTHLY, amount: 4000}, {name: key, owner: {type: APIKEY, name: main}, period: DAILY, amount: 4000}]";
    let wide = format!("policies: {{{RATES}}}");
    let setup = Setup {
        governance: "usage: true".into(),
        policies: RATES.into(),
        acme: vec![wide.clone(), budgets.into()],
        team: wide.clone(),
        main: wide.clone(),
        fast: format!("{PRICED}, {wide}"),
        ..Setup::to(upstream.port)
    };
    let edge = shared(redis, setup).await;
    // Windows are opened and scripts are loaded.
    assert_eq!(in_time(edge.send(&chat("fast")).await)?.status, 200);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let errors = async || edge.metric("gateway_state_errors_total", &[]).await;
    let mut seen = 0;
    for _ in 0..12 {
        let before = errors().await;
        let (watch, from) = (Watch::begin(redis).await, Instant::now());
        let mut in_vain = 0;
        for _ in 0..20 {
            match in_time(edge.send(&chat("fast")).await) {
                Some(answer) => assert!(answer.status == 200 && answer.header("ratelimit").is_some(), "{}", answer.text()),
                None => in_vain += 1,
            }
        }
        let calls = watch.end().await;
        if in_vain > 0 || errors().await > before {
            // What got no answer in time is asked again, for a few seconds.
            tokio::time::sleep(Duration::from_secs(7)).await;
            continue;
        }
        // Whatever was on its way may have been renewed meanwhile, and what ran out is looked for now and then.
        assert_eq!(calls[..2], [20, 20], "{calls:?}");
        let seconds = from.elapsed().as_secs() as usize;
        assert!(calls[2..].iter().sum::<usize>() <= 4 + seconds / 2, "{calls:?} in {seconds} s");
        seen += 20;
        if seen == 60 {
            return Some(());
        }
    }
    None
}

#[tokio::test]
async fn what_is_full_is_refused_without_asking_and_never_for_longer() {
    with_time(async |redis| {
        full_for_a_minute(redis).await?;
        full_for_a_second(redis).await
    })
    .await;
}

async fn full_for_a_minute(redis: &Redis) -> Option<()> {
    let upstream = Upstream::start().await;
    let setup = Setup {
        main: "policies: {ratelimit: {requests: {per_minute: 3}, tokens: {per_minute: 100000}}}".into(),
        ..Setup::to(upstream.port)
    };
    let edge = shared(redis, setup).await;
    for _ in 0..3 {
        assert_eq!(in_time(edge.send(&chat("fast")).await)?.status, 200);
    }
    assert_eq!(in_time(edge.send(&chat("fast")).await)?.status, 429);
    let watch = Watch::begin(redis).await;
    let from = Instant::now();
    for _ in 0..100 {
        let answer = in_time(edge.send(&chat("fast")).await)?;
        let body = answer.json();
        assert_eq!(
            (answer.status, &body["error"]["scope"], &body["error"]["limit"]),
            (429, &json!("api_key"), &json!("requests_per_minute"))
        );
        let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=61).contains(&after), "{after}");
        assert!(answer.header("ratelimit").is_some_and(|told| told.contains("r=0")), "{:?}", answer.headers);
    }
    let calls = watch.end().await;
    let seconds = from.elapsed().as_secs() as usize;
    assert!(calls.iter().sum::<usize>() <= seconds + 3, "{calls:?} in {seconds} s");
    Some(())
}

/// Full for a moment only: who waits as long as he is told gets in.
async fn full_for_a_second(redis: &Redis) -> Option<()> {
    let upstream = Upstream::start().await;
    let setup = Setup {
        main: "policies: {ratelimit: {requests: {per_second: 2}, tokens: {per_minute: 100000}}}".into(),
        ..Setup::to(upstream.port)
    };
    redis.ask(&["FLUSHALL"]);
    let edge = shared(redis, setup).await;
    let mut rounds = 0;
    for round in 0..20 {
        let from = Instant::now();
        for _ in 0..2 {
            assert_eq!(in_time(edge.send(&chat("fast")).await)?.status, 200, "{round}");
        }
        let refused = in_time(edge.send(&chat("fast")).await)?;
        if refused.status == 200 && from.elapsed() >= Duration::from_secs(1) {
            // The machine was too busy for three in a second.
            tokio::time::sleep(Duration::from_secs(2)).await;
            continue;
        }
        rounds += 1;
        assert_eq!(refused.status, 429, "{round}");
        let after: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        tokio::time::sleep(Duration::from_secs(after) + Duration::from_millis(30)).await;
        if rounds == 3 {
            return Some(());
        }
    }
    panic!("three in a second were possible in {rounds} rounds of 20");
}

#[tokio::test]
async fn who_breaks_a_limit_of_the_head_is_told_of_that_one_whatever_else_is_wrong() {
    with_time(head_first).await;
}

async fn head_first(redis: &Redis) -> Option<()> {
    let upstream = Upstream::start().await;
    let setup = Setup {
        main: "policies: {ratelimit: {requests: {per_minute: 2}}}".into(),
        acme: vec![r#"budgets: [{name: none, period: MONTHLY, amount: "0.000001"}]"#.into()],
        fast: PRICED.into(),
        governance: "usage: true".into(),
        ..Setup::to(upstream.port)
    };
    let edge = shared(redis, setup).await;
    let broken = Request::post("/v1/chat/completions", "{".to_owned()).bearer(KEY);
    let code = async |request: &Request| {
        let answer = in_time(edge.send(request).await)?;
        Some((answer.status, answer.code()))
    };
    // What is refused for another reason counts all the same.
    assert_eq!(code(&broken).await?, (400, "invalid_request".into()));
    assert_eq!(code(&chat("nothing")).await?, (400, "model_not_found".into()));
    for request in [&broken, &chat("nothing"), &chat("fast")] {
        assert_eq!(code(request).await?, (429, "rate_limit_exceeded".into()));
    }
    redis.ask(&["FLUSHALL"]);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(code(&chat("fast")).await?, (402, "budget_exceeded".into()));
    assert_eq!(upstream.count(), 0);
    Some(())
}

/// A store that stalls takes the slots of those who gave it up when it goes on.
#[tokio::test]
async fn a_store_that_stalls_locks_nobody_out() {
    let Some(redis) = Redis::start().await else { return eprintln!("skipped: no redis-server") };
    let upstream = Upstream::start().await;
    let setup = Setup {
        main: "policies: {ratelimit: {concurrency: {max: 2, lease_ttl_seconds: 30}}}".into(),
        log: Some("error"),
        ..Setup::to(upstream.port)
    };
    let edge = shared(&redis, setup).await;
    assert_eq!(edge.send(&chat("fast")).await.status, 200);
    redis.stall(true);
    let request = chat("fast");
    let given_up = futures::future::join_all((0..4).map(|_| edge.send(&request))).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    redis.stall(false);
    assert!(given_up.iter().all(|answer| (answer.status, answer.code()) == (503, "store_unavailable".into())));
    let again = Instant::now();
    tokio::time::sleep(Duration::from_millis(100)).await;
    // Leases that nobody gave back would last for 30 seconds.
    let free = comes_true(Duration::from_secs(15), async || edge.send(&request).await.status == 200).await;
    assert!(free, "locked out after {:?}", again.elapsed());
    let slots = redis.ask(&["--scan", "--pattern", "*concurrency*"]);
    eprintln!("back after {:?}; {slots}", again.elapsed());
}
