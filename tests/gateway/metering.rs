//! How the usage of an answer is counted, and what the gateway asks the provider to report for that.

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::client::{Request, Response};
use crate::edge::{KEY, Setup};
use crate::governance::{keeping, recorded};
use crate::upstream::{Act, Answer, Body, Seen, Upstream, chat_events};

const TEXTS: [&str; 3] = ["Hello ", "from ", "upstream."];

fn whole(parts: &[Bytes]) -> Bytes {
    parts.concat().into()
}

/// The stream of a provider that tells usage to who asks for it, and without it.
fn streams() -> (Bytes, Bytes) {
    let told = chat_events("real-model-1", &TEXTS);
    let mut silent = told.clone();
    silent.remove(told.len() - 2);
    (whole(&told), whole(&silent))
}

/// A provider that tells usage to who asks for it, in pieces that end anywhere.
fn obedient(seen: &Seen) -> Act {
    let (told, silent) = streams();
    let asked = seen.json()["stream_options"]["include_usage"] == true;
    let pieces = if asked { told } else { silent }.chunks(37).map(Bytes::copy_from_slice).collect();
    Act::Answer(Answer::stream(pieces, Duration::from_millis(1)))
}

fn streaming(members: &str) -> Request {
    let body = format!(r#"{{"model":"fast", "stream":true,{members}"messages":[{{"role":"user","content":"Say hello."}}]}}"#);
    Request::post("/v1/chat/completions", body).bearer(KEY)
}

fn of<'a>(records: &'a [Value], answer: &Response) -> &'a Value {
    let id = answer.header("x-request-id").unwrap();
    records.iter().find(|record| record["request_id"] == id).unwrap()
}

#[tokio::test]
async fn a_stream_is_asked_for_its_usage_and_the_caller_gets_what_it_asked_for() {
    let upstream = Upstream::with(obedient).await;
    let edge = keeping(&upstream).start().await;
    let (told, silent) = streams();
    let mut answers = Vec::new();
    for (members, sent, expected) in [
        ("", json!({"include_usage": true}), &silent),
        (r#""stream_options":{"x":1,"include_usage":false},"#, json!({"x": 1, "include_usage": true}), &silent),
        (r#""stream_options":{"include_usage":true},"#, json!({"include_usage": true}), &told),
    ] {
        let answer = edge.send(&streaming(members)).await;
        assert_eq!(upstream.last().json()["stream_options"], sent, "{members}");
        assert_eq!(upstream.last().json()["model"], "real-model-1");
        assert_eq!(answer.body, *expected, "{members}: {}", answer.text());
        answers.push(answer);
    }
    let records = recorded(&edge, 3).await;
    for answer in &answers {
        let record = of(&records, answer);
        assert_eq!(
            (&record["input_tokens"], &record["output_tokens"], &record["usage_source"]),
            (&json!(9), &json!(4), &json!("provider"))
        );
    }
}

#[tokio::test]
async fn who_counts_nothing_asks_nothing() {
    let upstream = Upstream::with(obedient).await;
    let edge = Setup::to(upstream.port).start().await;
    assert_eq!(edge.send(&streaming("")).await.body, streams().1);
    assert_eq!(upstream.last().json()["stream_options"], Value::Null);
}

#[tokio::test]
async fn the_prompt_of_an_answer_that_tells_nothing_is_estimated() {
    let upstream = Upstream::with(obedient).await;
    let main = "policies: {ratelimit: {tokens: {per_minute: 100000}}}".to_owned();
    let edge = Setup { provider: "stream_usage: false".into(), main, ..keeping(&upstream) }.start().await;
    let silent = edge.send(&streaming("")).await;
    assert_eq!(upstream.last().json()["stream_options"], Value::Null, "the provider was said not to know the option");
    upstream.next([Act::Answer(Answer {
        body: Body::Cut(chat_events("m", &TEXTS)[..2].to_vec()),
        ..Answer::stream(Vec::new(), Duration::ZERO)
    })]);
    let cut = edge.send(&streaming("")).await;
    upstream.next([Act::Answer(Answer::json(r#"{"choices":[]}"#))]);
    let unary = edge.send(&streaming("")).await;
    let records = recorded(&edge, 3).await;
    // Three bytes a token, as they were reserved.
    let prompt = (streaming("").body.len() as u64).div_ceil(3);
    for (answer, output) in [(&silent, 5), (&cut, 3), (&unary, 3)] {
        let record = of(&records, answer);
        let counted = (&record["input_tokens"], &record["output_tokens"], &record["usage_source"]);
        assert_eq!(counted, (&json!(prompt), &json!(output), &json!("estimated")), "{record:#}");
    }
    // What the limit was taken is what the records say.
    let told = edge.send(&streaming("")).await;
    let left: u64 = told.header("x-ratelimit-remaining-tokens").unwrap().parse().unwrap();
    let reserved = prompt + 100;
    assert_eq!(left, 100_000 - (3 * prompt + 11) - reserved);
}

/// An answer that is held and breaks off: what the caller gets instead is this gateway's own and costs nothing.
#[tokio::test]
async fn a_refusal_of_the_gateways_own_is_no_answer_of_the_models() {
    let upstream = Upstream::start().await;
    let priced = "{call_nanos_usd: 1000, output_byte_nanos_usd: 7}";
    let tools = format!(
        "mcp_servers: [{{name: github, endpoint_url: \"http://127.0.0.1:{}/own\", api_keys: [main], blocked_tools: [rm], pricing: {priced}}}]",
        upstream.port
    );
    let setup = Setup { acme: vec![tools], ..keeping(&upstream) }.plugin("{name: pii_mask}");
    let edge = setup.chain("post_upstream: {sequential: [pii_mask]}").start().await;
    let cut = || [Act::Answer(Answer { body: Body::Cut(vec![Bytes::from_static(b"{\"id\": 1")]), ..Answer::json("") })];
    upstream.next(cut());
    let completion = edge.send(&Request::chat(KEY, "fast", false)).await;
    upstream.next(cut());
    let call = json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": "ls"}});
    let tool = edge.send(&Request::post("/v1/mcp/github", call.to_string()).bearer(KEY)).await;
    assert_eq!((completion.status, tool.status), (502, 502), "{} {}", completion.text(), tool.text());
    let records = recorded(&edge, 2).await;
    let completion = of(&records, &completion);
    assert_eq!(completion["output_tokens"], 2, "eight bytes came: {completion:#}");
    let tool = of(&records, &tool);
    assert_eq!(tool["details"]["billing"]["total_cost_nanos_usd"], 1000 + 7 * 8, "{tool:#}");
}

#[tokio::test]
async fn who_asks_how_long_a_prompt_is_uses_no_tokens() {
    let upstream = Upstream::with(|_| Act::Answer(Answer::json(r#"{"input_tokens": 14}"#))).await;
    let quota = |metric: &str, limit: u64| {
        format!("{{name: {metric}, owner: {{type: APIKEY, name: main}}, period: DAILY, metric: {metric}, limit: {limit}}}")
    };
    let setup = Setup {
        acme: vec![format!("quotas: [{}, {}]", quota("TOKENS", 10), quota("REQUESTS", 2))],
        main: "policies: {ratelimit: {tokens: {per_minute: 10}}}".into(),
        ..keeping(&upstream)
    };
    let edge = setup.start().await;
    let body =
        json!({"model": "claude-fast", "messages": [{"role": "user", "content": "How many tokens does this prompt have, roughly?"}]});
    let count = Request::post("/v1/messages/count_tokens", body.to_string()).bearer(KEY);
    for _ in 0..2 {
        let answer = edge.send(&count).await;
        assert_eq!((answer.status, answer.json()["input_tokens"].as_u64()), (200, Some(14)), "{}", answer.text());
    }
    let refused = edge.send(&count).await;
    assert_eq!((refused.status, refused.text().contains("REQUESTS")), (429, true), "a request it is: {}", refused.text());
    for record in recorded(&edge, 3).await {
        assert_eq!((&record["total_tokens"], &record["usage_source"]), (&json!(0), &json!("none")), "{record:#}");
    }
}
