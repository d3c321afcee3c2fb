//! MCP servers behind the gateway: which callers may use which servers and tools, and how requests and answers are
//! filtered.

use std::time::Duration;

use serde_json::{Value, json};

use crate::client::{Request, Response, events};
use crate::edge::{Edge, KEY, KEY_ELSEWHERE, KEY_WITHOUT_GRANTS, Setup};
use crate::upstream::{Act, Answer, Upstream};

/// The gateway with servers, two of which the key `main` may use.
fn setup(upstream: u16, more: &str) -> Setup {
    let server = |name: &str, more: &str| format!("{{name: {name}, endpoint_url: \"http://127.0.0.1:{upstream}/own/v1\"{more}}}");
    let servers = [
        server("github", &format!(", id: mcp_1, auth: {{type: bearer, token: {{env: MOCK_PROVIDER_KEY}}}}{more}")),
        server("files", ", api_keys: [main], auth: {type: basic, username: edge, password: {env: MOCK_PROVIDER_KEY}}, transport: sse"),
        server("payroll", ""),
        server("support", ", only_team: support, api_keys: [main]"),
        server("off", ", enabled: false, api_keys: [main]"),
    ];
    Setup { acme: vec![format!("mcp_servers: [{}]", servers.join(", "))], main: "mcp_servers: [github]".into(), ..Setup::to(upstream) }
}

fn post(server: &str, body: Value) -> Request {
    Request::post(&format!("/v1/mcp/{server}"), body.to_string()).bearer(KEY)
}

fn call(tool: &str, arguments: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
}

fn code(answer: &Response) -> (u16, String) {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    (answer.status, body["error"]["data"]["code"].as_str().unwrap_or_default().to_owned())
}

async fn asked(edge: &Edge, server: &str, body: Value) -> (u16, String) {
    code(&edge.send(&post(server, body)).await)
}

/// A server that says what it was asked.
async fn echo() -> Upstream {
    Upstream::with(|seen| {
        Act::Answer(Answer::json(
            json!({"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": seen.text()}]}}).to_string(),
        ))
    })
    .await
}

#[tokio::test]
async fn a_server_is_for_whom_it_was_granted() {
    let upstream = echo().await;
    let edge = setup(upstream.port, "").start().await;
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"});
    for (server, expected) in [
        ("github", (200, "")),
        ("mcp_1", (200, "")),
        // Granted from the server's side.
        ("files", (200, "")),
        ("payroll", (403, "mcp_not_allowed")),
        ("support", (403, "mcp_not_allowed")),
        ("off", (404, "mcp_not_found")),
        ("nowhere", (404, "mcp_not_found")),
        ("", (400, "invalid_mcp_ref")),
    ] {
        assert_eq!(asked(&edge, server, ping.clone()).await, (expected.0, expected.1.to_owned()), "{server}");
    }
    assert_eq!(upstream.take().len(), 3);
    for (key, expected) in
        [(KEY_WITHOUT_GRANTS, (403, "mcp_not_allowed")), (KEY_ELSEWHERE, (404, "mcp_not_found")), ("sk_nobody", (401, "unauthorized"))]
    {
        let answer = edge.send(&Request::post("/v1/mcp/github", ping.to_string()).bearer(key)).await;
        assert_eq!(code(&answer), (expected.0, expected.1.to_owned()), "{key}");
    }
    assert_eq!(edge.send(&Request::new("PUT", "/v1/mcp/github").bearer(KEY)).await.status, 405);
    // A grant of a server is none of a model, nor the other way.
    assert_eq!(edge.send(&Request::chat(KEY, "github", false)).await.code(), "model_not_found");
    assert_eq!(upstream.count(), 0, "what is refused never leaves");
}

#[tokio::test]
async fn a_question_arrives_as_it_was_asked_with_our_credential() {
    let upstream = echo().await;
    let edge = setup(upstream.port, "").start().await;
    let body = r#"{"jsonrpc":"2.0", "id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}"#;
    upstream.next([Act::Answer(Answer::json("{}").header("mcp-session-id", "s-1").header("set-cookie", "a=b"))]);
    let request = Request::post("/v1/mcp/github/deep/er?x=1&key=sk_hidden", body)
        .bearer(KEY)
        .header("mcp-session-id", "s-0")
        .header("mcp-protocol-version", "2025-06-18")
        .header("cookie", "session=1")
        .header("accept", "*/*");
    let answer = edge.send(&request).await;
    assert_eq!((answer.status, answer.header("mcp-session-id"), answer.header("set-cookie")), (200, Some("s-1"), None));
    let seen = upstream.last();
    assert_eq!((seen.method.as_str(), seen.path.as_str(), seen.text().as_str()), ("POST", "/own/v1/deep/er?x=1", body));
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {}", crate::edge::PROVIDER_KEY).as_str()));
    assert_eq!(
        (seen.header("mcp-session-id"), seen.header("mcp-protocol-version"), seen.header("cookie")),
        (Some("s-0"), Some("2025-06-18"), None)
    );
    assert_eq!(seen.header("accept"), Some("application/json, text/event-stream"));

    let basic = edge.send(&Request::post("/v1/mcp/files", body).bearer(KEY).header("accept", "application/json")).await;
    assert_eq!(basic.status, 200);
    let seen = upstream.last();
    assert!(seen.header("authorization").is_some_and(|value| value.starts_with("Basic ")) && seen.path == "/own/v1");
    assert_eq!(seen.header("accept"), Some("text/event-stream"), "an SSE server answers nothing else");

    let parts = ["one", "two"].map(|text| format!("event: message\ndata: {{\"jsonrpc\":\"2.0\",\"method\":\"{text}\"}}\n\n").into());
    upstream.next([Act::Answer(Answer::stream(parts.to_vec(), Duration::from_millis(5)))]);
    let listening = edge.send(&Request::new("GET", "/v1/mcp/github").bearer(KEY).header("accept", "text/event-stream")).await;
    assert_eq!((listening.status, events(&listening.body).len()), (200, 2));
    let ended = edge.send(&Request::new("DELETE", "/v1/mcp/github").bearer(KEY).header("mcp-session-id", "s-1")).await;
    assert_eq!((ended.status, upstream.last().method.as_str()), (200, "DELETE"));
}

#[tokio::test]
async fn tools_and_words_that_are_not_permitted_never_arrive() {
    let upstream = echo().await;
    let rules = ", allowed_tools: [read, search, delete], blocked_tools: [delete], blocked_keywords: [\"Project Zeus\"]";
    let edge = setup(upstream.port, rules).start().await;
    let blocked = (403, "mcp_guardrail_block".to_owned());
    let passed = (200, String::new());
    assert_eq!(asked(&edge, "github", call("read", json!({}))).await, passed);
    for body in [
        call("delete", json!({})),
        call("Read", json!({})),
        call("write", json!({})),
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call"}),
        json!([call("read", json!({})), call("delete", json!({}))]),
        call("read", json!({"q": "all about project ZEUS"})),
        call("read", json!({"list": [{"project zeus": 1}]})),
    ] {
        assert_eq!(asked(&edge, "github", body.clone()).await, blocked, "{body}");
    }
    for raw in [
        r#"{"method":"tools\/call","params":{"n\u0061me":"delet\u0065"}}"#,
        r#"{"method":"tools/call","params":{"name":"read","arguments":{"q":"project zeu\u0073"}}}"#,
    ] {
        assert_eq!(code(&edge.send(&Request::post("/v1/mcp/github", raw).bearer(KEY)).await), blocked, "{raw}");
    }
    // What two parsers would read differently, or none.
    for raw in [
        r#"{"method":"tools/call","params":{"name":"read","name":"delete"}}"#,
        r#"{"method":"tools/call","params":{"name":"read"},"Params":{"name":"delete"}}"#,
        "delete everything",
        "[[]]",
    ] {
        assert_eq!(code(&edge.send(&Request::post("/v1/mcp/github", raw).bearer(KEY)).await), (400, "invalid_request".to_owned()), "{raw}");
    }
    // Rules are for calls: whoever only lists or answers is let through.
    assert_eq!(
        asked(&edge, "github", json!({"jsonrpc": "2.0", "id": 1, "method": "prompts/get", "params": {"name": "delete"}})).await,
        passed
    );
    assert_eq!(upstream.take().len(), 2);

    let answer = edge.send(&post("github", call("read", json!({})))).await;
    let record = edge.record(answer.header("x-request-id").unwrap()).await;
    assert_eq!((&record["provider"], &record["provider_model"], &record["endpoint"]), (&json!("mcp"), &json!("github"), &json!("mcp")));
    assert_eq!(record["tags"], json!({"mcp_method": "tools/call", "mcp_tool": "read"}));
}

#[tokio::test]
async fn tools_that_may_not_be_called_are_not_offered() {
    let list = r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"read"},{"name":"delete","description":"all"}]}}"#;
    let upstream = Upstream::with(move |_| Act::Answer(Answer::json(list))).await;
    let edge = setup(upstream.port, ", blocked_tools: [delete]").start().await;
    let ask = post("github", json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list"}));
    let kept = r#"{"jsonrpc":"2.0","id":7,"result":{"tools":[{"name":"read"}]}}"#;
    let answer = edge.send(&ask).await;
    assert_eq!((answer.status, answer.text()), (200, kept.to_owned()));
    // The same in an event, cut anywhere.
    let event = format!("id: 4\nevent: message\ndata: {list}\n\n: still there\n\n");
    for at in [1, 20, 60, event.len() - 20] {
        let parts = vec![event[..at].to_owned().into(), event[at..].to_owned().into()];
        upstream.next([Act::Answer(Answer::stream(parts, Duration::from_millis(3)))]);
        let answer = edge.send(&ask).await;
        assert_eq!(answer.text(), format!("id: 4\nevent: message\ndata: {kept}\n\n: still there\n\n"), "{at}");
    }
    // A server without rules is not touched.
    let plain = edge.send(&post("files", json!({"jsonrpc": "2.0", "id": 7, "method": "tools/list"}))).await;
    assert_eq!(plain.text(), list);
}

#[tokio::test]
async fn plugins_and_safetysec_see_arguments_and_results() {
    let upstream = echo().await;
    let mut setup = setup(upstream.port, "");
    setup =
        setup.plugin("{name: pii_mask}").chain("pre_upstream: {sequential: [pii_mask]}").chain("post_upstream: {sequential: [pii_mask]}");
    setup.more =
        "safety: {mode: security, modules: {sensitive_redaction: {config: {except: [email]}}, prompt_injection: {action: block}}}\n".into();
    let edge = setup.start().await;
    let address = "jane.doe@example.com";
    let question = call("search", json!({"q": format!("mail of {address}, card 4111 1111 1111 1111")}));
    let answer = edge.send(&post("github", question.clone())).await;
    let seen = upstream.last().text();
    assert!(!seen.contains(address) && !seen.contains("4111 1111") && seen.contains("search"), "{seen}");
    assert!(answer.status == 200 && answer.text().contains(address), "restored for the caller: {}", answer.text());
    let result = json!({"jsonrpc": "2.0", "id": 7, "result": {"content": [{"type": "text", "text": "the card is 4111 1111 1111 1111"}]}});
    upstream.next([Act::Answer(Answer::json(result.to_string()))]);
    let answer = edge.send(&post("github", call("search", json!({})))).await;
    assert!(answer.status == 200 && !answer.text().contains("4111"), "{}", answer.text());
    upstream.next([Act::Answer(Answer::stream(vec![format!("event: message\ndata: {result}\n\n").into()], Duration::ZERO))]);
    let answer = edge.send(&post("github", call("search", json!({})))).await;
    assert!(answer.status == 200 && !answer.text().contains("4111"), "{}", answer.text());
}

#[tokio::test]
async fn a_servers_limits_budgets_and_prices_hold() {
    let upstream = Upstream::with(|_| Act::Answer(Answer::json("{\"jsonrpc\":\"2.0\",\"id\":7,\"result\":{}}"))).await;
    let more = ", policies: {ratelimit: {requests: {per_minute: 3}}}, pricing: {call_nanos_usd: 1000, input_byte_nanos_usd: 50, output_byte_nanos_usd: 7}";
    let mut setup = setup(upstream.port, more);
    setup.governance = "usage: true".into();
    let edge = setup.start().await;
    let body = call("read", json!({}));
    let first = edge.send(&post("github", body.clone())).await;
    let batch = edge.send(&post("github", json!([body, body]))).await;
    upstream.next([Act::Answer(Answer::json("{}").status(500))]);
    assert_eq!((first.status, batch.status), (200, 200), "{}", first.text());
    let failed = edge.send(&Request::new("GET", "/v1/mcp/github").bearer(KEY)).await;
    assert_eq!(failed.status, 500);
    let refused = edge.send(&post("github", body.clone())).await;
    let told: Value = serde_json::from_slice(&refused.body).unwrap();
    assert_eq!((refused.status, &told["error"]["data"]["scope"]), (429, &json!("mcp_server")), "{told}");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(edge.send(&post("files", body.clone())).await.status, 200, "another server's counter is another");

    let found = crate::governance::recorded(&edge, 5).await;
    let of =
        |answer: &Response| found.iter().find(|record| record["request_id"] == answer.header("x-request-id").unwrap()).unwrap().clone();
    let record = of(&first);
    assert_eq!((&record["provider"], &record["model"], &record["endpoint"]), (&json!("mcp"), &json!("github"), &json!("mcp")), "{record}");
    let cost = |record: &Value| record["details"]["billing"]["total_cost_nanos_usd"].as_i64().unwrap();
    let sizes = |record: &Value| {
        (
            record["details"]["metadata"]["request_bytes"].as_i64().unwrap(),
            record["details"]["metadata"]["response_bytes"].as_i64().unwrap(),
        )
    };
    let (sent, got) = sizes(&record);
    assert_eq!(cost(&record), 1000 + sent * 50 + got * 7, "{record}");
    let told = &record["details"]["mcp"];
    for (member, value) in [
        ("mcp_slug", json!("github")),
        ("rpc_method", json!("tools/call")),
        ("tool_name", json!("read")),
        ("transport", json!("streamable_http")),
        ("tool_call_count", json!(1)),
        ("in_bytes", json!(sent)),
        ("out_bytes", json!(got)),
        ("cost_nanos_usd", json!(cost(&record))),
        ("pricing", json!({"callNanosUsd": 1000, "inputByteNanosUsd": 50, "outputByteNanosUsd": 7})),
    ] {
        assert_eq!(told[member], value, "{member}: {record:#}");
    }
    assert_eq!(told["pricing_breakdown"]["output_nanos_usd"], json!(got * 7));
    let record = of(&batch);
    let (sent, got) = sizes(&record);
    assert_eq!(cost(&record), 2 * 1000 + sent * 50 + got * 7, "{record}");
    assert_eq!(of(&refused)["status"], 429);
    let record = of(&failed);
    assert!(matches!(record["cost_usd"].as_str(), None | Some("0.00")), "what the server did not do costs nothing: {record}");
}

#[tokio::test]
async fn a_server_that_is_away_or_wrong_is_told_apart() {
    let upstream = echo().await;
    let mut setup = setup(upstream.port, "");
    setup.acme[0] = setup.acme[0].replace("/own/v1\", id: mcp_1", "/own/v1\", timeout: 2s, id: mcp_1");
    let edge = setup.start().await;
    let ping = || post("github", json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}));
    upstream.next([Act::CloseAfterBody, Act::CloseAfterBody, Act::CloseAfterBody, Act::CloseAfterBody]);
    let answer = edge.send(&ping()).await;
    assert_eq!(code(&answer), (502, "mcp_upstream_error".to_owned()), "{}", answer.text());
    assert_eq!(edge.record(answer.header("x-request-id").unwrap()).await["end"], "upstream_error");
    upstream.clear();
    upstream.next([Act::Answer(Answer::json("{}").delay(Duration::from_secs(20)))]);
    assert_eq!(edge.send(&ping()).await.status, 504);
    // What the server itself says is passed on.
    upstream.next([Act::Answer(Answer::json("{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32601}}").status(404))]);
    let answer = edge.send(&ping()).await;
    assert!(answer.status == 404 && answer.text().contains("-32601"), "{}", answer.text());
}

#[tokio::test]
async fn a_credential_that_is_missing_lets_nothing_out() {
    let upstream = echo().await;
    let mut setup = setup(upstream.port, "");
    setup.acme[0] = setup.acme[0].replacen("env: MOCK_PROVIDER_KEY", "env: NOT_SET_ANYWHERE", 1);
    let edge = setup.start().await;
    assert_eq!(asked(&edge, "github", json!({"method": "ping"})).await, (502, "mcp_auth_error".to_owned()));
    assert_eq!(upstream.count(), 0);
}

#[tokio::test]
async fn a_token_is_fetched_once_renewed_and_never_shown() {
    let tickets = echo().await;
    let issuer = Upstream::with(|seen| {
        let life = if seen.text().contains("short") { 1 } else { 3600 };
        Act::Answer(Answer::json(
            json!({"access_token": format!("token-{}", seen.nth), "token_type": "Bearer", "expires_in": life}).to_string(),
        ))
    })
    .await;
    let oauth = |name: &str, scope: &str| {
        format!(
            "{{name: {name}, id: {name}_1, endpoint_url: \"http://127.0.0.1:{}/mcp\", api_keys: [main], auth: {{type: oauth2, token_url: \"http://127.0.0.1:{}/oauth/token\", \
             client_id: \"edge:1\", client_secret: {{env: MOCK_PROVIDER_KEY}}, scope: \"{scope}\", audience: tickets}}}}",
            tickets.port, issuer.port
        )
    };
    let servers = format!("mcp_servers: [{}, {}]", oauth("tickets", "read write"), oauth("brief", "short"));
    let edge = Setup { acme: vec![servers], ..Setup::to(tickets.port) }.start().await;
    let ping = |server: &str| post(server, json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}));
    let (one, two, three) = (ping("tickets"), ping("tickets_1"), ping("tickets"));
    let answers = tokio::join!(edge.send(&one), edge.send(&two), edge.send(&three));
    assert_eq!((answers.0.status, answers.1.status, answers.2.status), (200, 200, 200));
    assert!(tickets.take().iter().all(|seen| seen.header("authorization") == Some("Bearer token-0")));
    let asked = issuer.take();
    assert_eq!(asked.len(), 1, "one fetch for all who wait");
    assert_eq!(
        (asked[0].path.as_str(), asked[0].text().as_str()),
        ("/oauth/token", "grant_type=client_credentials&scope=read+write&audience=tickets")
    );
    assert!(asked[0].header("authorization").is_some_and(|value| value.starts_with("Basic ")));

    // A token that has expired, and one that the server does not take any more, are replaced.
    assert_eq!(edge.send(&ping("brief")).await.status, 200);
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert_eq!(edge.send(&ping("brief")).await.status, 200);
    assert_eq!(issuer.take().len(), 2);
    tickets.next([Act::Answer(Answer::json("{}").status(401))]);
    assert_eq!(edge.send(&ping("tickets")).await.status, 401);
    assert!(crate::edge::eventually(crate::edge::PATIENCE, || issuer.count() == 0).await);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((edge.send(&ping("tickets")).await.status, issuer.take().len()), (200, 1));

    // An issuer that refuses lets nothing out, and is not asked by every request.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    issuer.next([Act::Answer(Answer::json("{\"error\":\"invalid_client\"}").status(400)), Act::CloseAfterBody]);
    tickets.take();
    for _ in 0..3 {
        assert_eq!(code(&edge.send(&ping("brief")).await), (502, "mcp_auth_error".to_owned()));
    }
    assert_eq!((issuer.take().len(), tickets.count()), (1, 0));
    for hidden in ["token-0", crate::edge::PROVIDER_KEY] {
        assert!(!edge.log().contains(hidden) && !edge.evidence().contains(hidden));
    }
}

/// SEP-2243: the body is what is judged, and nobody behind the gateway is told of another tool than the one that is called.
#[tokio::test]
async fn header_fields_say_what_the_body_says() {
    let upstream = echo().await;
    let edge = setup(upstream.port, ", blocked_tools: [delete]").start().await;
    let read = json!({"jsonrpc": "2.0", "id": "a-1", "method": "resources/read", "params": {"uri": "file:///x"}});
    let list = json!({"jsonrpc": "2.0", "id": 3, "method": "tools/list"});
    let agreed = [
        (call("search", json!({})), &[("mcp-method", "tools/call"), ("mcp-name", "search")][..]),
        (call("search", json!({})), &[("Mcp-Name", "search")]),
        (read.clone(), &[("mcp-method", "resources/read"), ("mcp-name", "file:///x")]),
        (list.clone(), &[("mcp-method", "tools/list")]),
    ];
    for (body, fields) in agreed {
        let request = fields.iter().fold(post("github", body.clone()), |request, (name, value)| request.header(name, value));
        let answer = edge.send(&request).await;
        assert_eq!(answer.status, 200, "{fields:?}: {}", answer.text());
        let seen = upstream.last();
        let there =
            |name: &str| seen.headers.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.clone()).collect::<Vec<_>>();
        assert_eq!(there("mcp-method"), [body["method"].as_str().unwrap()], "written anew: {fields:?}");
        assert!(there("mcp-name").len() <= 1);
    }
    let sent = upstream.count();
    let mismatched = [
        (call("search", json!({})), &[("mcp-method", "tools/list")][..]),
        (call("search", json!({})), &[("mcp-name", "read")]),
        (call("search", json!({})), &[("mcp-name", "search"), ("mcp-name", "read")]),
        (list, &[("mcp-method", "tools/list"), ("mcp-name", "search")]),
        (read, &[("mcp-method", "resources/read"), ("mcp-name", "file:///y")]),
        (json!([call("search", json!({})), call("read", json!({}))]), &[("mcp-name", "search")]),
        (json!({"jsonrpc": "2.0", "id": 7, "result": {}}), &[("mcp-method", "tools/call")]),
    ];
    for (body, fields) in mismatched {
        let request = fields.iter().fold(post("github", body.clone()), |request, (name, value)| request.header(name, value));
        let answer = edge.send(&request).await;
        let told = answer.json();
        assert_eq!((answer.status, &told["error"]["code"]), (400, &json!(-32001)), "{fields:?}: {told}");
        assert_eq!(told["error"]["data"]["code"], "mcp_header_mismatch");
        assert_eq!(told["id"], body["id"], "{told}");
    }
    assert_eq!(upstream.count(), sent, "nothing of these left");
    // The id of a message that was read, whoever refuses it.
    let blocked = edge.send(&post("github", call("delete", json!({})))).await.json();
    assert_eq!((&blocked["id"], &blocked["error"]["data"]["code"]), (&json!(7), &json!("mcp_guardrail_block")), "{blocked}");
    upstream.next([Act::CloseAfterBody, Act::CloseAfterBody, Act::CloseAfterBody, Act::CloseAfterBody]);
    let gone = edge.send(&post("github", call("search", json!({})))).await.json();
    assert_eq!((&gone["id"], &gone["error"]["data"]["code"]), (&json!(7), &json!("mcp_upstream_error")), "{gone}");
    let unread = edge.send(&Request::post("/v1/mcp/github", "{").bearer(KEY)).await.json();
    assert_eq!(unread["id"], Value::Null);
}
