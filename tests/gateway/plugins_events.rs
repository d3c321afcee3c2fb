//! Plugins that report: counted words and offers, as headers, tags and deliveries.

use serde_json::{Value, json};

use crate::client::Request;
use crate::edge::{KEY, PATIENCE, Setup, eventually};
use crate::upstream::{Act, Answer, Upstream};

fn chat(text: &str, stream: bool) -> Request {
    let body = json!({"model": "fast", "stream": stream, "messages": [{"role": "user", "content": text}]});
    Request::post("/v1/chat/completions", body.to_string()).bearer(KEY)
}

async fn told(receiver: &Upstream, count: usize) -> Vec<Value> {
    assert!(eventually(PATIENCE, || receiver.count() >= count).await, "{} of {count} arrived", receiver.count());
    receiver.take().iter().map(|seen| seen.json()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_are_counted_in_requests_answers_and_streams_and_told_without_content() {
    let upstream = Upstream::start().await;
    let receiver = Upstream::with(|_| Act::Answer(Answer::json("").status(204))).await;
    receiver.next([Act::Answer(Answer::json("").status(503))]);
    let port = receiver.port;
    let mut setup = Setup::to(upstream.port)
        .plugin(format!(
            "{{name: words, use: keyword_events, grant: {{network: [\"127.0.0.1:{port} private\"]}}, config: {{events: [\
             {{name: churn, words: [\"cancel my subscription\"], in: [request]}}, {{name: source, words: [upstream]}}], \
             deliver: {{url: \"http://127.0.0.1:{port}/events\"}}}}}}"
        ))
        .chain("pre_upstream: {sequential: [words]}")
        .chain("post_upstream: {sequential: [words]}")
        .chain("post_response: {parallel: [words]}");
    setup.more = "outbox: {schedule: [0s, 50ms, 50ms, 50ms]}\n".into();
    let edge = setup.start().await;

    for stream in [false, true] {
        let answer = edge.send(&chat("Please CANCEL my\nsubscription, account 4711", stream)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let id = answer.header("x-request-id").unwrap().to_owned();
        // The first attempt at the first event fails, so it comes twice, under one id.
        let events = told(&receiver, if stream { 1 } else { 2 }).await;
        let event = events.last().unwrap();
        assert_eq!(event["type"], "ai.odock.gateway.keyword.seen.v1");
        assert_eq!(
            event["data"]["words"],
            json!({"churn": {"request": 1, "answer": 0}, "source": {"request": 0, "answer": 1}}),
            "stream {stream}"
        );
        assert_eq!((&event["data"]["request_id"], &event["data"]["caller"]["organisation"]["name"]), (&json!(id), &json!("acme")));
        assert!(events.iter().all(|other| other["id"] == event["id"]), "{events:?}");
        assert!(!event.to_string().contains("4711") && !event.to_string().to_lowercase().contains("cancel"), "counts, not content");
        let record = edge.record(&id).await.to_string();
        assert!(record.contains("churn=1") && record.contains("source=1") && !record.contains("4711"), "{record}");
    }
    edge.send(&chat("nothing of interest", false)).await;
    let events = told(&receiver, 1).await;
    assert_eq!(events[0]["data"]["words"], json!({"source": {"request": 0, "answer": 1}}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_is_named_to_the_caller_and_delivered_once_for_a_while() {
    let upstream = Upstream::start().await;
    let receiver = Upstream::with(|_| Act::Answer(Answer::json("").status(202))).await;
    let port = receiver.port;
    let edge = Setup::to(upstream.port)
        .plugin(format!(
            "{{name: offers, use: recommendation, grant: {{network: [\"127.0.0.1:{port} private\"]}}, config: {{rest: 1h, header: x-odock-offer, \
             deliver: {{url: \"http://127.0.0.1:{port}/offers\"}}, offers: [{{name: person, when: {{words: [invoice], models: [fa*]}}}}, \
             {{name: german, when: {{languages: [de]}}}}]}}}}"
        ))
        .chain("pre_upstream: {sequential: [offers]}")
        .chain("post_upstream: {sequential: [offers]}")
        .start()
        .await;
    let answer = edge.send(&chat("where is my Invoice 4711?", true)).await;
    assert_eq!(answer.header("x-odock-offer"), Some("person"), "{}", answer.text());
    assert!(answer.text().ends_with("data: [DONE]\n\n"));
    let event = told(&receiver, 1).await.remove(0);
    assert_eq!(event["type"], "ai.odock.gateway.recommendation.offered.v1");
    assert_eq!((&event["data"]["offer"], &event["data"]["signals"]["turns"]), (&json!("person"), &json!(1)));
    assert!(!event.to_string().contains("4711"));

    let answer = edge.send(&chat("and the other invoice?", false)).await;
    assert_eq!((answer.status, answer.header("x-odock-offer")), (200, None), "the same is not offered again so soon");
    let answer = edge.send(&chat("Guten Tag", false).header("accept-language", "de-AT,en;q=0.3")).await;
    assert_eq!(answer.header("x-odock-offer"), Some("german"));
    assert_eq!(told(&receiver, 1).await[0]["data"]["offer"], "german");

    upstream.next([Act::Answer(Answer::json("{}").status(400))]);
    let answer = edge.send(&chat("hello", false).header("accept-language", "de")).await;
    assert_eq!((answer.status, answer.header("x-odock-offer")), (400, None), "who got no answer is offered nothing");
}
