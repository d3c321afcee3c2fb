//! Safety modules of another crate, linked as by an embedder: they are configured and reported like built-in ones, and
//! failures and panics are distinguished from denials.

use std::sync::Arc;

use odock_edge::safety::modules::Blueprint;
use odock_edge::safety::{Finding, Findings, ModuleError, OnError, Order, Passage, Phase, SafetyModule};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{Request, Response};
use crate::edge::{Edge, KEY, Setup};
use crate::upstream::Upstream;

/// Finds a fruit that the operator does not want to hear of.
pub static FRUIT: Blueprint = Blueprint {
    name: "fruit",
    question: "Does the text name the fruit?",
    weight: 1.0,
    on_error: OnError::Allow,
    pure: true,
    build: |config| Ok(Arc::new(Fruit::deserialize(config).map_err(|error| error.to_string())?)),
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fruit {
    #[serde(default = "pineapple")]
    name: String,
}

fn pineapple() -> String {
    "pineapple".to_owned()
}

impl SafetyModule for Fruit {
    fn name(&self) -> &'static str {
        FRUIT.name
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::PreUpstream]
    }

    fn order(&self) -> Order {
        Order::Parallel
    }

    fn reads(&self, _passage: &Passage<'_>) -> bool {
        true
    }

    fn scan(&self, passage: &Passage<'_>, out: &mut Findings) -> Result<(), ModuleError> {
        out.extend(passage.text.match_indices(&self.name).map(|(at, found)| Finding {
            module: FRUIT.name,
            category: "fruit".into(),
            span: at..at + found.len(),
            score: 0.9,
            redact: false,
        }));
        Ok(())
    }
}

/// Fails over one word and panics over another.
pub static CLUMSY: Blueprint = Blueprint {
    name: "clumsy",
    question: "Does it hold together?",
    weight: 1.0,
    on_error: OnError::Allow,
    pure: true,
    build: |_| Ok(Arc::new(Clumsy)),
};

struct Clumsy;

impl SafetyModule for Clumsy {
    fn name(&self) -> &'static str {
        CLUMSY.name
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::PreUpstream]
    }

    fn order(&self) -> Order {
        Order::Parallel
    }

    fn reads(&self, _passage: &Passage<'_>) -> bool {
        true
    }

    fn scan(&self, passage: &Passage<'_>, _out: &mut Findings) -> Result<(), ModuleError> {
        assert!(!passage.text.contains("stumble"), "over {}", passage.text);
        if passage.text.contains("refuse") { Err(ModuleError("out of order".to_owned())) } else { Ok(()) }
    }
}

fn linked(upstream: &Upstream, modules: &str) -> Setup {
    let mut setup = Setup::to(upstream.port).faults();
    setup.more = format!("safety: {{mode: security, modules: {{{modules}}}}}\n");
    setup
}

async fn ask(edge: &Edge, text: &str) -> Response {
    let body = json!({"model": "fast", "messages": [{"role": "user", "content": text}]});
    edge.send(&Request::post("/v1/chat/completions", body.to_string()).bearer(KEY)).await
}

async fn readings(edge: &Edge, answer: &Response, module: &str) -> Vec<Value> {
    let record = edge.record(answer.header("x-request-id").unwrap()).await;
    let all = record["safety"].as_array().cloned().unwrap_or_default();
    all.into_iter().filter(|reading| reading["module"] == module).collect()
}

#[tokio::test]
async fn a_linked_module_is_configured_and_seen_like_a_built_in_one() {
    let upstream = Upstream::start().await;
    let edge = linked(&upstream, "fruit: {action: block, config: {name: durian}}").start().await;
    assert_eq!(ask(&edge, "a pineapple, please").await.status, 200);
    let got = ask(&edge, "a durian, please").await;
    assert_eq!((got.status, got.code().as_str()), (403, "safety_blocked"), "{}", got.text());
    let seen = readings(&edge, &got, "fruit").await;
    assert!(seen.iter().any(|r| r["action"] == "block" && r["categories"] == json!({"fruit": 1})), "{seen:?}");
    assert!(edge.metric("gateway_security_blocks_total", &["security_module=\"fruit\""]).await >= 1.0);
    assert_eq!(upstream.count(), 1);
}

#[tokio::test]
async fn a_module_that_fails_or_panics_is_counted_and_is_no_denial() {
    let upstream = Upstream::start().await;
    let edge = linked(&upstream, "clumsy: {on_error: allow}").start().await;
    for (text, action) in [("I refuse", "error"), ("I stumble over 4111 1111 1111 1111", "panicked")] {
        let got = ask(&edge, text).await;
        assert_eq!(got.status, 200, "{}", got.text());
        let seen = readings(&edge, &got, "clumsy").await;
        assert!(seen.iter().any(|r| r["action"] == action && r["error"].is_string()), "{seen:?}");
        assert!(edge.metric("gateway_security_module_runs_total", &["security_module=\"clumsy\"", action]).await >= 1.0, "{action}");
    }
    assert_eq!(edge.metric("gateway_security_blocks_total", &[]).await, 0.0, "a failure is no block");
    assert!(!upstream.last().text().contains("4111"), "the others looked all the same");
    edge.logged("\"security_module\":\"clumsy\"", 1).await;
    assert!(!edge.log().contains("4111"), "what a panic says may quote the text");

    let closed = linked(&upstream, "clumsy: {on_error: deny}").start().await;
    let before = upstream.count();
    for text in ["I refuse", "I stumble"] {
        let got = ask(&closed, text).await;
        assert_eq!(got.status, 503, "{}", got.text());
        assert_ne!(got.code(), "safety_blocked");
    }
    assert_eq!(upstream.count(), before, "what must be looked at and was not does not leave");
    assert_eq!(ask(&closed, "I walk").await.status, 200);
}
