//! Plugins that decide by themselves: eligibility by metadata, enrichment, and schemas of answers.

use serde_json::json;

use crate::client::Request;
use crate::edge::{KEY, KEY_ELSEWHERE, Setup};
use crate::upstream::{Act, Answer, Upstream, chat, chat_events};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_over_metadata_decide_and_say_which_one_did() {
    let upstream = Upstream::start().await;
    let mut setup = Setup::to(upstream.port)
        .plugin(
            "{name: eligible, use: tenant_eligibility, storage_access: [organisations, models], config: {default: deny, rules: [\
             {name: small_only, when: {all: [{fact: organisation.metadata.tier, eq: free}, {fact: model.slug, glob: \"*-2\"}]}, \
             then: deny, code: tier_too_low}, {name: known, when: {fact: organisation.metadata.tier, exists: true}, then: allow}]}}",
        )
        .chain("pre_route: {sequential: [eligible]}");
    setup.acme.push("metadata: {tier: free}".into());
    let edge = setup.start().await;

    let answer = edge.send(&Request::chat(KEY, "fast", false)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let record = edge.record(answer.header("x-request-id").unwrap()).await.to_string();
    assert!(record.contains("known") && record.contains("\"eligible\""), "{record}");

    let answer = edge.send(&Request::chat(KEY, "secret", false)).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "tier_too_low"), "{}", answer.text());
    let answer = edge.send(&Request::chat(KEY_ELSEWHERE, "theirs", false)).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "not_eligible"), "{}", answer.text());
    assert_eq!(upstream.count(), 1, "what is refused is not forwarded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn provider_caller_and_records_are_told_whose_a_request_is() {
    let upstream = Upstream::start().await;
    let mut setup = Setup::to(upstream.port)
        .plugin(
            "{name: whose, use: request_enrichment, storage_access: [organisations], config: {\
             tags: {cost_center: \"{organisation.metadata.cost_center}\", project: \"{header.x-project|'none'}\"}, \
             headers: {x-tenant: \"{organisation.name}\", x-trace: \"{trace.id|request.id}\"}, \
             response_headers: {x-cost-center: \"{tag.cost_center}\"}, metadata: {tenant: \"{organisation.name}\"}, end_user: \"{caller.key_name}\"}}",
        )
        .chain("pre_upstream: {sequential: [whose]}")
        .chain("post_upstream: {sequential: [whose]}");
    setup.acme.push("metadata: {cost_center: \"4711\"}".into());
    let edge = setup.start().await;
    for stream in [false, true] {
        let answer = edge.send(&Request::chat(KEY, "fast", stream).header("x-project", "apollo").header("x-tenant", "forged")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("x-cost-center"), Some("4711"), "stream {stream}");
        let seen = upstream.last();
        let trace = seen.header("x-trace").unwrap();
        assert_eq!(trace.len(), 32);
        assert_eq!(seen.header("x-tenant"), Some("forged"), "what the caller said stays, and that is on record");
        let body = seen.json();
        assert_eq!((&body["metadata"]["tenant"], &body["user"]), (&json!("acme"), &json!("main")));
        let record = edge.record(answer.header("x-request-id").unwrap()).await.to_string();
        assert!(record.contains("headers.x-tenant") && record.contains("apollo") && record.contains("4711"), "{record}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_follows_its_schema_or_nobody_sees_it() {
    let upstream = Upstream::start().await;
    let edge = Setup::to(upstream.port)
        .plugin("{name: schema, use: schema_guard, config: {from_request: true, repair: fences}}")
        .chain("post_upstream: {sequential: [schema]}")
        .start()
        .await;
    let ask = |stream: bool| {
        let schema = json!({"type": "object", "required": ["total"], "properties": {"total": {"type": "number"}}});
        let format = json!({"type": "json_schema", "json_schema": {"name": "invoice", "schema": schema}});
        let body =
            json!({"model": "fast", "stream": stream, "messages": [{"role": "user", "content": "total?"}], "response_format": format});
        Request::post("/v1/chat/completions", body.to_string()).bearer(KEY)
    };
    let answers = |text: &str, stream: bool| {
        let pieces: Vec<&str> = vec![&text[..text.len() / 2], &text[text.len() / 2..]];
        Act::Answer(match stream {
            false => Answer::json(chat("real-model-1", text)),
            true => Answer::stream(chat_events("real-model-1", &pieces), std::time::Duration::from_millis(1)),
        })
    };
    for stream in [false, true] {
        upstream.next([answers("{\"total\": 3.5}", stream)]);
        let answer = edge.send(&ask(stream)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());

        upstream.next([answers("```json\n{\"total\": 3.5}\n```", stream)]);
        let answer = edge.send(&ask(stream)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(!answer.text().contains("```") && answer.text().contains("3.5"), "{}", answer.text());

        for wrong in ["{\"total\": \"3.5\"}", "The total is 3.5, confidentially."] {
            upstream.next([answers(wrong, stream)]);
            let answer = edge.send(&ask(stream)).await;
            assert_eq!((answer.status, answer.code().as_str()), (502, "schema_mismatch"), "{wrong}: {}", answer.text());
            assert!(!answer.text().contains("3.5"), "nothing of the answer leaves");
            let record = edge.record(answer.header("x-request-id").unwrap()).await.to_string();
            assert!(record.contains("\"keyword\"") && !record.contains("confidentially"), "{record}");
        }
    }
    upstream.next([answers("no schema was asked for", false)]);
    assert_eq!(edge.send(&Request::chat(KEY, "fast", false)).await.status, 200);
}
