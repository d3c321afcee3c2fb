//! What callers receive when the gateway refuses. The bodies are goldens, because callers' scripts match on them.

use std::path::Path;

use crate::client::{Framing, Request, Response};
use crate::edge::{Edge, KEY, KEY_ELSEWHERE, KEY_EXPIRED, KEY_REVOKED, KEY_WITHOUT_GRANTS, PATIENCE, Setup, eventually};
use crate::upstream::Upstream;

/// Compares with `tests/golden/refusals/NAME.json`, the request id replaced. `UPDATE_GOLDEN=1` writes the file.
fn golden(name: &str, answer: &Response) {
    let id = answer.header("x-request-id").unwrap_or_else(|| panic!("{name}: no x-request-id"));
    assert!(answer.text().contains(id), "{name}: the body names the request");
    let got = format!("{}\n{}\n", answer.status, answer.text().replace(id, "REQUEST_ID"));
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/refusals").join(format!("{name}.http"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, &got).unwrap();
    }
    let expected = std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("{} is missing; UPDATE_GOLDEN=1 writes it", file.display()));
    assert_eq!(got, expected, "{name}");
}

async fn start() -> (Upstream, Edge) {
    let upstream = Upstream::start().await;
    let mut setup = Setup::to(upstream.port).plain("raw", "default", "");
    setup.server = "max_request_body: 64KiB\nbody_timeout: 300ms".into();
    setup.routes.push("{name: read_only, match: {path_prefix: /files, methods: [GET]}}".into());
    let edge = setup.start().await;
    (upstream, edge)
}

#[tokio::test]
async fn each_refusal_has_its_status_code_and_body() {
    let (upstream, edge) = start().await;
    let chat = |model: &str| Request::chat(KEY, model, false);
    let with = |key: &str| Request::chat(key, "fast", false);
    let post = |body: &str| Request::post("/v1/chat/completions", body.to_owned()).bearer(KEY);
    let messages = |body: &str| Request::post("/v1/messages", body.to_owned()).header("x-api-key", KEY);
    let cases = [
        ("401_without_a_key", 401, Request::post("/v1/chat/completions", "{}")),
        ("401_unknown_key", 401, with("sk_unknown")),
        ("401_empty_key", 401, Request::post("/v1/chat/completions", "{}").header("authorization", "Bearer ")),
        ("401_expired_key", 401, with(KEY_EXPIRED)),
        ("401_revoked_key", 401, with(KEY_REVOKED)),
        ("401_anthropic", 401, Request::post("/v1/messages", "{}")),
        ("403_model_not_granted", 403, chat("secret")),
        ("403_key_without_grants", 403, with(KEY_WITHOUT_GRANTS)),
        ("403_provider_disabled", 403, chat("switched-off")),
        ("400_unknown_model", 400, chat("no-such-model")),
        ("400_model_of_another_organisation", 400, chat("theirs")),
        ("400_anothers_model_name", 400, Request::chat(KEY_ELSEWHERE, "fast", false)),
        ("400_wrong_family", 400, chat("claude-fast")),
        ("400_not_json", 400, post("this is not JSON")),
        ("400_empty_body", 400, post("")),
        ("400_not_an_object", 400, post("[]")),
        ("400_two_models", 400, post(r#"{"model":"fast","model":"secret","messages":[]}"#)),
        ("400_trailing_data", 400, post(r#"{"model":"fast","messages":[]} {"model":"secret"}"#)),
        ("400_no_model", 400, post(r#"{"messages":[]}"#)),
        ("400_model_is_no_text", 400, post(r#"{"model":7,"messages":[]}"#)),
        ("400_anthropic_not_json", 400, messages("nope")),
        ("404_outside_every_route", 404, Request::new("GET", "/nothing/here").bearer(KEY)),
        ("404_unknown_endpoint", 404, Request::post("/v1/no/such/endpoint", "{}").bearer(KEY)),
        ("405_get_on_chat", 405, Request::new("GET", "/v1/chat/completions").bearer(KEY)),
        ("405_post_on_a_get_route", 405, Request::post("/files", "{}").bearer(KEY)),
        ("413_too_large", 413, post(&format!("{{\"model\":\"fast\",\"x\":\"{}\"}}", "x".repeat(64 * 1024)))),
    ];
    for (name, status, request) in cases {
        for framing in [Framing::Length, Framing::H2] {
            let answer = edge.send(&request.clone().framing(framing)).await;
            assert_eq!(answer.status, status, "{name} {framing:?}: {}", answer.text());
            golden(name, &answer);
            assert_eq!(answer.header("content-type"), Some("application/json"), "{name}");
        }
    }
    assert_eq!(upstream.count(), 0, "forwarded: {:?}", upstream.seen());
}

/// Existence of another organisation's model cannot be told from absence.
#[tokio::test]
async fn another_organisations_model_looks_like_none() {
    let (_upstream, edge) = start().await;
    let text = |answer: Response| answer.text().replace(answer.header("x-request-id").unwrap(), "ID");
    let theirs = text(edge.send(&Request::chat(KEY, "theirs", false)).await);
    let nobodys = text(edge.send(&Request::chat(KEY, "nobodys", false)).await);
    assert_eq!(theirs, nobodys);
}

#[tokio::test]
async fn the_callers_request_id_is_kept_as_a_field_and_never_becomes_ours() {
    let (_upstream, edge) = start().await;
    let answer = edge.send(&Request::chat(KEY, "fast", false).header("x-request-id", "caller-chosen-17")).await;
    let id = answer.header("x-request-id").unwrap();
    assert!(id != "caller-chosen-17" && id.len() == 32);
    assert!(edge.record(id).await.to_string().contains("caller-chosen-17"));
}

#[tokio::test]
async fn above_the_process_cap_it_is_503_with_retry_after() {
    let upstream = Upstream::start().await;
    let mut setup = Setup::to(upstream.port);
    setup.server = "max_concurrent_requests: 1".into();
    let edge = setup.start().await;
    upstream.next([crate::upstream::Act::Answer(crate::upstream::Answer::json("{}").delay(std::time::Duration::from_secs(3)))]);
    let request = Request::chat(KEY, "fast", false);
    let second = async {
        assert!(eventually(PATIENCE, || upstream.count() == 1).await, "the first is on its way");
        edge.send(&request).await
    };
    let (first, second) = tokio::join!(edge.send(&request), second);
    assert_eq!(first.status, 200);
    assert_eq!((second.status, second.code().as_str()), (503, "overloaded"));
    assert!(second.header("retry-after").is_some());
    assert_eq!(edge.send(&request).await.status, 200, "the place is free again");
}
