//! What is paid of answers that are no usual ones, what cannot be bounded, and counters that missed something.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Request, Response, send};
use crate::edge::{Edge, KEY, Setup};
use crate::governance::{keeping, recorded};
use crate::upstream::{Act, Answer, Upstream, chat};

/// The usual answer (9 and 4 tokens) costs 0.017 USD.
const COST: i64 = 17_000_000;

fn asking(path: &str, members: &Value) -> Request {
    let mut body = json!({"model": "fast"});
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    Request::post(path, body.to_string()).bearer(KEY)
}

fn chatting(members: Value) -> Request {
    let mut all = json!({"max_tokens": 10, "messages": [{"role": "user", "content": "Hello"}]});
    all.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    asking("/v1/chat/completions", &all)
}

fn budget(name: &str, amount: &str) -> String {
    format!(r#"budgets: [{{name: {name}, period: MONTHLY, amount: "{amount}"}}]"#)
}

fn of<'a>(records: &'a [Value], answer: &Response) -> &'a Value {
    let id = answer.header("x-request-id").unwrap();
    records.iter().find(|record| record["request_id"] == id).unwrap()
}

/// What budgets say is settled, by way of a refusal.
async fn settled(edge: &Edge) -> i64 {
    let refused = edge.send(&chatting(json!({"max_tokens": 1_000_000}))).await;
    assert_eq!(refused.code(), "budget_exceeded", "{}", refused.text());
    refused.json()["error"]["settled"].as_i64().unwrap()
}

#[tokio::test]
async fn what_bounds_nothing_does_not_leave() {
    let upstream = Upstream::start().await;
    let edge =
        Setup { acme: vec![budget("b", "1.00")], main: "policies: {ratelimit: {payload: {max_tokens: 50}}}".into(), ..keeping(&upstream) };
    let edge = edge.start().await;
    for members in [
        json!({"max_tokens": "100000"}),
        json!({"max_completion_tokens": -1}),
        json!({"n": "128"}),
        json!({"n": true}),
        json!({"Max_Tokens": 100_000}),
        json!({"models": ["secret"]}),
        json!({"models": ["secret"], "route": "fallback"}),
        json!({"fallbacks": [{"model": "secret"}]}),
    ] {
        let answer = edge.send(&chatting(members.clone())).await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_request"), "{members}: {}", answer.text());
    }
    // Each of 20 prompts has an answer of up to 50 tokens: 2 USD.
    let prompts = json!({"prompt": vec!["hi"; 20], "max_tokens": 50});
    let answer = edge.send(&asking("/v1/completions", &prompts)).await;
    assert_eq!((answer.status, answer.code().as_str()), (402, "budget_exceeded"), "{}", answer.text());
    assert_eq!(upstream.count(), 0);
    // The access line says which budget it was.
    edge.logged(r#""account":"b""#, 0).await;
}

#[tokio::test]
async fn a_failure_told_with_200_costs_nothing() {
    let upstream = Upstream::start().await;
    let edge = Setup { acme: vec![budget("b", "1.00")], ..keeping(&upstream) }.start().await;
    let failure = r#"{"error":{"message":"overloaded","type":"server_error"}}"#;
    let event = |data: &str| bytes::Bytes::from(format!("data: {data}\n\n"));
    upstream.next([Act::Answer(Answer::json(failure))]);
    let unary = edge.send(&chatting(json!({}))).await;
    upstream.next([Act::Answer(Answer::stream(vec![event(failure)], Duration::ZERO))]);
    let stream = edge.send(&chatting(json!({"stream": true}))).await;
    assert_eq!(settled(&edge).await, 0);
    let said = r#"{"choices":[{"index":0,"delta":{"content":"12345678"}}]}"#;
    upstream.next([Act::Answer(Answer::stream(vec![event(said), event(failure)], Duration::ZERO))]);
    let late = edge.send(&chatting(json!({"stream": true}))).await;
    let records = recorded(&edge, 4).await;
    for (answer, source) in [(&unary, "none"), (&stream, "none"), (&late, "estimated")] {
        let record = of(&records, answer);
        assert_eq!((answer.status, &record["end"], &record["usage_source"]), (200, &json!("upstream_error"), &json!(source)), "{record:#}");
    }
    assert!(settled(&edge).await >= 2 * 2_000_000, "what was said is paid");
}

#[tokio::test]
async fn what_is_told_in_part_or_comes_later_is_not_free() {
    let upstream = Upstream::start().await;
    let edge = Setup { acme: vec![budget("b", "5.00")], ..keeping(&upstream) }.start().await;
    upstream.next([Act::Answer(Answer::json(r#"{"choices":[],"usage":{"total_tokens":100}}"#))]);
    edge.send(&chatting(json!({}))).await;
    let mut expected = 100 * 2_000_000;
    assert_eq!(settled(&edge).await, expected);
    upstream.next([Act::Answer(Answer::json(r#"{"data":[],"usage":{"total_tokens":100}}"#))]);
    edge.send(&asking("/v1/embeddings", &json!({"input": "x"}))).await;
    expected += 100 * 1_000_000;
    assert_eq!(settled(&edge).await, expected);
    // The answer is made after the request: it may have as many tokens as the request allows.
    let queued = r#"{"id":"resp_1","object":"response","status":"queued","background":true,"error":null,"output":[],"usage":null}"#;
    upstream.next([Act::Answer(Answer::json(queued))]);
    let background = asking("/v1/responses", &json!({"input": "x", "background": true, "max_output_tokens": 90}));
    assert_eq!(edge.send(&background).await.status, 200);
    let prompt = (background.body.len() as i64 + 2) / 3;
    assert_eq!(settled(&edge).await, expected + prompt * 1_000_000 + 90 * 2_000_000);
}

#[tokio::test]
async fn calls_of_a_providers_tools_are_reserved() {
    let upstream = Upstream::start().await;
    let price = "pricing: {input: {text_cost_per_1k_tokens: 0.001}, tools: {cost_per_call: 0.01}}";
    let setup = Setup { acme: vec![budget("b", "0.09")], ..keeping(&upstream) };
    let edge = setup.clone().start().await;
    let priced =
        setup.yaml(edge.port, edge.admin, edge.dir.path()).replace("slug: claude-real-1", &format!("slug: claude-real-1, {price}"));
    std::fs::write(&edge.file, priced).unwrap();
    edge.signal("HUP", None);
    edge.logged("configuration reloaded", 0).await;
    for (uses, status) in [(10, 402), (5, 200)] {
        let tools = json!([{"type": "web_search_20250305", "name": "web_search", "max_uses": uses}]);
        let body = json!({"model": "claude-fast", "max_tokens": 1, "tools": tools, "messages": [{"role": "user", "content": "Hello"}]});
        let answer = edge.send(&Request::post("/v1/messages", body.to_string()).bearer(KEY)).await;
        assert_eq!(answer.status, status, "{uses}: {}", answer.text());
    }
}

async fn reloaded(edge: &Edge, setup: &Setup) {
    let before = edge.log().matches("configuration reloaded").count();
    edge.rewrite(setup);
    edge.signal("HUP", None);
    edge.logged("configuration reloaded", before).await;
}

#[tokio::test]
async fn a_budget_that_comes_back_knows_what_was_spent_without_it() {
    let upstream = Upstream::start().await;
    let with = Setup { acme: vec![budget("b", "1.00")], ..keeping(&upstream) };
    let without = Setup { acme: vec![], ..with.clone() };
    let edge = with.clone().start().await;
    assert_eq!(edge.send(&chatting(json!({}))).await.status, 200);
    reloaded(&edge, &without).await;
    for _ in 0..4 {
        assert_eq!(edge.send(&chatting(json!({}))).await.status, 200);
    }
    reloaded(&edge, &with).await;
    assert_eq!(settled(&edge).await, 5 * COST);
    assert_eq!(edge.send(&chatting(json!({}))).await.status, 200);
    assert_eq!(settled(&edge).await, 6 * COST);
}

#[tokio::test]
async fn requests_under_way_at_a_reload_are_counted_by_a_budget_of_another_name() {
    let upstream = Upstream::start().await;
    let old = Setup { acme: vec![budget("old", "1.00")], ..keeping(&upstream) };
    let edge = old.clone().start().await;
    let slow = Answer::json(chat("real-model-1", "Hello from upstream.")).delay(Duration::from_secs(3));
    upstream.next((0..3).map(|_| Act::Answer(slow.clone())));
    let port = edge.port;
    let calls: Vec<_> = (0..3).map(|_| tokio::spawn(async move { send(port, &chatting(json!({}))).await })).collect();
    while upstream.count() < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    reloaded(&edge, &Setup { acme: vec![budget("new", "1.00")], ..old }).await;
    assert_eq!(settled(&edge).await, 0, "they are still under way");
    for call in calls {
        assert_eq!(call.await.unwrap().status, 200);
    }
    edge.logged("a counter had missed what usage records have", 0).await;
    assert_eq!(settled(&edge).await, 3 * COST);
}
