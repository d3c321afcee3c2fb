//! What the traffic listener answers itself: liveness, readiness, and the models of a key.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::client::{Http1, Request, WATCHDOG};
use crate::edge::{KEY, PATIENCE, Setup, comes_true};
use crate::safety_sessions::Redis;
use crate::upstream::{Act, Answer, Upstream};

#[tokio::test]
async fn it_says_that_it_lives_and_is_ready_without_a_key() {
    let upstream = Upstream::start().await;
    let edge = Setup::to(upstream.port).start().await;
    for (path, told) in [("/v1/health", r#"{"status":"ok"}"#), ("/v1/healthz", r#"{"records":"ok","state":"ok","status":"ok"}"#)] {
        let answer = edge.send(&Request::new("GET", path)).await;
        assert_eq!((answer.status, answer.text().as_str()), (200, told), "{path}");
        assert!(answer.header("x-request-id").is_some_and(|id| id.len() == 32));
        assert_eq!(edge.send(&Request::post(path, "{}")).await.status, 405, "{path}");
    }
    assert_eq!(edge.send(&Request::new("GET", "/v1/keys/validate")).await.status, 405);
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn one_model_is_told_as_all_are() {
    let upstream = Upstream::start().await;
    let edge = Setup::to(upstream.port).start().await;
    let get = |path: &str| Request::new("GET", path).bearer(KEY);
    let all = edge.send(&get("/v1/models")).await.json();
    let ids: Vec<&str> = all["data"].as_array().unwrap().iter().map(|model| model["id"].as_str().unwrap()).collect();
    assert!(ids.contains(&"fast") && !ids.contains(&"secret"), "{all}");
    let one = edge.send(&get("/v1/models/fast")).await.json();
    assert_eq!((&one["id"], &one["object"]), (&"fast".into(), &"model".into()), "{one}");
    assert_eq!(edge.send(&get("/v1/models/nobody")).await.code(), "model_not_found");
    assert_eq!(edge.send(&get("/v1/models/secret")).await.code(), "model_not_allowed");
    assert_eq!(edge.send(&Request::new("HEAD", "/v1/models").bearer(KEY)).await.status, 200);
}

/// RFC 9112 §6.1: a caller of HTTP/1.0 knows no chunks; many a reverse proxy calls like that. What is read or changed on its
/// way has no length of its own either.
#[tokio::test]
async fn a_caller_of_http_1_0_gets_no_chunks() {
    let upstream = Upstream::start().await;
    let parts = || vec!["data: {\"choices\":[{\"delta\":{\"content\":\"Hi\"}}]}\n\n".into(), "data: [DONE]\n\n".into()];
    let body = r#"{"model":"fast","stream":true,"messages":[{"role":"user","content":"x"}]}"#;
    for (governance, more) in [("", ""), ("usage: true", ""), ("", "safety: {mode: security}")] {
        let edge = Setup { governance: governance.into(), more: more.into(), ..Setup::to(upstream.port) }.start().await;
        for connection in ["close", "keep-alive"] {
            upstream.next([Act::Answer(Answer::stream(parts(), Duration::from_millis(5)))]);
            let head = format!(
                "POST /v1/chat/completions HTTP/1.0\r\nauthorization: Bearer {KEY}\r\nconnection: {connection}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            let mut caller = Http1::connect(edge.port).await;
            caller.write(head.as_bytes()).await.unwrap();
            let answer = tokio::time::timeout(WATCHDOG, caller.response()).await.expect("its end is told").unwrap();
            assert_eq!((answer.status, answer.header("transfer-encoding")), (200, None), "{governance}{more} {connection}");
            let text = answer.text();
            assert!(text.starts_with("data: ") && text.ends_with("data: [DONE]\n\n"), "{governance}{more} {connection}: {text}");
        }
    }
}

/// What was decided is told with refusals too, also of an answer that was held, where the operator wants callers to know.
#[tokio::test]
async fn a_refusal_has_the_receipt() {
    let upstream = Upstream::start().await;
    for gate in ["pre_route", "post_upstream"] {
        let mut setup = Setup::to(upstream.port)
            .faults()
            .plugin("{name: no, use: fault, config: {how: block, status: 418, code: not_today}}")
            .chain(format!("{gate}: {{sequential: [no]}}"));
        setup.route = "receipt: true, server_timing: true".into();
        let edge = setup.start().await;
        let answer = edge.send(&Request::chat(KEY, "fast", false)).await;
        assert_eq!(answer.code(), "not_today");
        let receipt = answer.header("odock-receipt").unwrap_or_default().to_owned();
        assert!(receipt.contains(&format!("no;gate={gate};verdict=")), "{receipt}");
        assert!(answer.header("server-timing").is_some_and(|timing| timing.contains(&format!("no-{gate}"))));
    }
}

/// An SDK would follow a provider's redirect with its request as it was, past every gate.
#[tokio::test]
async fn a_providers_redirect_is_not_passed_on() {
    let upstream = Upstream::start().await;
    let edge = Setup::to(upstream.port).start().await;
    for status in [301, 302, 307, 308] {
        let elsewhere = Answer::json("{}").status(status).header("location", "http://127.0.0.1:1/v1/chat/completions");
        upstream.next([Act::Answer(elsewhere)]);
        let answer = edge.send(&Request::chat(KEY, "fast", false)).await;
        assert_eq!((answer.status, answer.code().as_str(), answer.header("location")), (502, "upstream_error", None), "{status}");
    }
}

/// Whoever says nothing, or says it a byte at a time, does not hold a place for ever; whoever talks may stay.
#[tokio::test]
async fn a_connection_owes_a_head_in_time() {
    let upstream = Upstream::start().await;
    let setup = Setup { server: "keepalive: 2s\nbody_timeout: 2s".into(), ..Setup::to(upstream.port) };
    let edge = setup.start().await;
    let head = format!("GET /v1/models HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\nx-slow: ");
    for (said, then) in [("", None), ("", Some("G")), (head.as_str(), Some("a"))] {
        let begun = Instant::now();
        let mut caller = Http1::connect(edge.port).await;
        caller.write(said.as_bytes()).await.unwrap();
        let mut open = true;
        while open && begun.elapsed() < WATCHDOG {
            if let Some(byte) = then {
                let _ = caller.write(byte.as_bytes()).await;
            }
            open = !caller.closed(Duration::from_millis(300)).await;
        }
        let took = begun.elapsed();
        assert!(!open && took > Duration::from_millis(1900) && took < Duration::from_secs(15), "{said:?} {then:?}: {took:?}");
    }
    let mut caller = Http1::connect(edge.port).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(5) {
        assert_eq!(caller.send(&Request::new("GET", "/v1/models").bearer(KEY)).await.unwrap().status, 200);
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Whoever balances over gateways must learn of one that can only refuse, and that it can serve again.
#[tokio::test]
async fn it_is_not_ready_while_limits_cannot_be_asked() {
    const LIMIT: &str = "policies: {ratelimit: {requests: {per_minute: 1000}}}";
    let upstream = Upstream::start().await;
    for (governance, main, ready) in
        [("usage: true", LIMIT, false), ("usage: true, on_store_error: allow", LIMIT, true), ("usage: true", "", true)]
    {
        let Some(redis) = Redis::start().await else { return eprintln!("skipped: no redis-server") };
        let mut setup = Setup { governance: governance.into(), main: main.into(), ..Setup::to(upstream.port) };
        setup.state = "kind: redis, url: {env: STATE_URL}".into();
        setup.env.push(("STATE_URL".into(), format!("redis://127.0.0.1:{}", redis.port)));
        let edge = setup.start().await;
        let health = async || edge.send(&Request::new("GET", "/v1/healthz")).await;
        // A store has half a second to answer, which a busy machine may not leave it.
        let well = json!({"status": "ok", "state": "ok", "records": "ok"});
        assert!(comes_true(PATIENCE, async || health().await.json() == well).await, "{}", edge.log());
        let port = redis.port;
        drop(redis);
        assert!(comes_true(PATIENCE, async || health().await.json()["state"] == "unavailable").await, "{}", edge.log());
        let mut told = health().await;
        let (status, word, line) = if ready { (200, "ok", "ready") } else { (503, "state_unavailable", "state_unavailable") };
        let expected = json!({"status": word, "state": "unavailable", "records": "ok"});
        comes_true(Duration::from_secs(10), async || {
            told = health().await;
            told.json() == expected
        })
        .await;
        assert_eq!((told.status, told.json()), (status, expected), "{governance} {main}");
        let page = edge.admin("/readyz").await;
        assert_eq!((page.status, page.text()), (status, format!("{line}\nstate: unavailable\nrecords: ok\n")));
        // Nobody sends it requests meanwhile: it finds out by itself that the store is there again.
        let _again = Redis::start_at(port).await;
        let found = async || {
            tokio::time::sleep(Duration::from_secs(3)).await;
            health().await.status == 200
        };
        assert!(comes_true(Duration::from_secs(10), found).await, "{}", edge.log());
    }
}

/// A path and a body may name a family of providers: neither makes a model one of it.
#[tokio::test]
async fn families_are_pinned() {
    let upstream = Upstream::start().await;
    let edge = Setup::to(upstream.port).start().await;
    let body = |more: &str| format!(r#"{{"model":"fast",{more}"messages":[{{"role":"user","content":"x"}}]}}"#);
    let ask = async |path: &str, more: &str| {
        let answer = edge.send(&Request::post(path, body(more)).bearer(KEY)).await;
        (answer.status, if answer.status == 200 { String::new() } else { answer.code() })
    };
    let refused = (400, "provider_not_allowed".to_owned());
    for family in ["vllm", "mistral", "huggingface"] {
        assert_eq!(ask(&format!("/v1/{family}/chat/completions"), "").await, refused, "{family}");
        assert_eq!(ask("/v1/chat/completions", &format!(r#""provider":"{family}","#)).await, refused, "{family}");
        let listed = edge.send(&Request::new("GET", &format!("/v1/{family}/models")).bearer(KEY)).await.json();
        assert_eq!(listed["data"], json!([]), "{family}");
    }
    assert_eq!(upstream.count(), 0);
    for confirmed in [r#""provider":"openai","#, r#""provider":"OpenAI","#, r#""provider":"mock","#, r#""provider":{"order":["x"]},"#, ""] {
        assert_eq!(ask("/v1/chat/completions", confirmed).await.0, 200, "{confirmed}");
    }
}

#[tokio::test]
async fn a_family_has_its_own_models() {
    let upstream = Upstream::start().await;
    let edge = Setup { base_kind: Some("vllm"), ..Setup::to(upstream.port) }.start().await;
    let listed = edge.send(&Request::new("GET", "/v1/vllm/models").bearer(KEY)).await.json();
    let ids: Vec<&str> = listed["data"].as_array().unwrap().iter().filter_map(|model| model["id"].as_str()).collect();
    assert_eq!(ids, ["fast"], "claude-fast is of another family");
    let body = r#"{"model":"fast","provider":"vllm","messages":[{"role":"user","content":"x"}]}"#;
    for path in ["/v1/vllm/chat/completions", "/v1/chat/completions"] {
        assert_eq!(edge.send(&Request::post(path, body).bearer(KEY)).await.status, 200, "{path}");
        assert_eq!(upstream.last().path, "/v1/chat/completions");
    }
    assert_eq!(edge.send(&Request::post("/v1/mistral/chat/completions", body).bearer(KEY)).await.code(), "provider_not_allowed");
}

/// RFC 9110 §11.6.1 and §15.5.6.
#[tokio::test]
async fn a_refusal_says_what_would_be_taken() {
    let upstream = Upstream::start().await;
    let edge = Setup { operators: "token: {env: MOCK_PROVIDER_KEY}".into(), ..Setup::to(upstream.port) }.start().await;
    let nobody = edge.send(&Request::chat("sk_nobody", "fast", false)).await;
    assert_eq!((nobody.status, nobody.header("www-authenticate")), (401, Some("Bearer")));
    let operator = edge.admin("/v1/keys").await;
    assert_eq!((operator.status, operator.header("www-authenticate")), (401, Some("Bearer")), "{}", operator.text());
    let page = edge.admin("/").await;
    for path in ["/metrics", "/readyz", "/v1/keys", "/v1/usage"] {
        assert!(page.status == 200 && page.text().contains(path), "{path}: {}", page.text());
    }
    for (method, path, methods) in [
        ("GET", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("PUT", "/v1/mcp/github", "GET, POST, DELETE"),
        ("POST", "/v1/healthz", "GET, HEAD"),
        ("GET", "/v1/keys/validate", "POST"),
    ] {
        let answer = edge.send(&Request::new(method, path).bearer(KEY)).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(methods)), "{method} {path}");
    }
}

/// A body that is refused came all the same, and waiting for it is no time of the gateway's.
#[tokio::test]
async fn a_refused_body_is_on_record_and_a_request_without_a_route_too() {
    let upstream = Upstream::start().await;
    let edge = Setup { server: "max_request_body: 1KiB".into(), ..Setup::to(upstream.port) }.start().await;
    let large = Request::post("/v1/chat/completions", "x".repeat(8000)).bearer(KEY).framing(crate::client::Framing::Chunked);
    let answer = edge.send(&large.header("user-agent", "curl/8")).await;
    assert_eq!(answer.status, 413);
    let record = edge.record(answer.header("x-request-id").unwrap()).await;
    assert!(record["bytes_in"].as_u64().is_some_and(|bytes| bytes > 1024), "{record:#}");
    edge.logged(r#""path":"/v1/chat/completions","remote_addr":"127.0.0.1","status""#, 0).await;
    assert_eq!(edge.send(&Request::new("GET", "/nowhere?key=sk_1")).await.status, 404);
    edge.logged(r#""method":"GET","status":404"#, 0).await;
    // A method may be any token, and the token a secret.
    for (path, after) in [("/nowhere", r#""method":"other","status":404"#), ("/v1/chat/completions", r#""method":"other","path""#)] {
        edge.send(&Request::new("sk_1", path).bearer(KEY)).await;
        edge.logged(after, 0).await;
    }
    assert!(!edge.log().contains("sk_1"));
}
