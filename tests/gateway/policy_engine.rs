//! `http_callout` in front of a Rego policy, evaluated by an independent policy engine: `tests/golden/policy`.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use serde_json::json;

use crate::client::Request;
use crate::delivery_peers::python;
use crate::edge::{KEY, KEY_ELSEWHERE, Setup};
use crate::upstream::Upstream;

/// The engine; it ends when its input does.
struct Engine {
    port: u16,
    child: Child,
    alive: Option<ChildStdin>,
}

impl Engine {
    fn start() -> Option<Self> {
        let python = python("regopy, opa_client")?;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/policy");
        let mut child = Command::new(python)
            .args([folder.join("server.py"), folder.join("request.rego")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (alive, mut line) = (child.stdin.take(), String::new());
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().expect("the engine says its port; what went wrong is on stderr");
        Some(Self { port, child, alive })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.alive.take());
        let _ = self.child.wait();
    }
}

fn chat(key: &str, model: &str, text: &str, stream: bool) -> Request {
    let body = json!({"model": model, "stream": stream, "messages": [{"role": "user", "content": text}]});
    Request::post("/v1/chat/completions", body.to_string()).bearer(key)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_in_rego_allows_refuses_and_redacts() {
    let Some(engine) = Engine::start() else { return };
    let upstream = Upstream::start().await;
    let port = engine.port;
    let asks = |name: &str, document: &str| {
        format!(
            "{{name: {name}, use: http_callout, timeout: 10s, grant: {{network: [\"127.0.0.1:{port} private\"]}}, config: {{url: \
             \"http://127.0.0.1:{port}/v1/data/odock/request/{document}\", send: content, offsets: characters, timeout: 10s, permit: {{tags: \
             [policy]}}}}}}"
        )
    };
    let mut setup = Setup::to(upstream.port)
        .plugin(asks("opa", "decision"))
        .plugin(asks("nothing", "no_such_rule"))
        .chain("pre_upstream: {sequential: [opa]}")
        .chain("post_upstream: {sequential: [opa]}")
        .case("undefined", "{pre_upstream: {sequential: [nothing]}}");
    setup.main = "type: team, team: support".into();
    let edge = setup.start().await;

    let answer = edge.send(&chat(KEY, "fast", "Grüße 😀 an Bob, und Bob!", false)).await;
    assert_eq!(answer.status, 200, "{}\n{}", answer.text(), edge.log());
    assert_eq!(upstream.last().json()["messages"][0]["content"], "Grüße 😀 an [redacted], und [redacted]!");
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "Hello from [redacted].", "answers are judged, too");
    let record = edge.record(answer.header("x-request-id").unwrap()).await;
    assert_eq!(record["tags"]["policy"], "2026-11", "{record:#}");

    let calls = upstream.count();
    let answer = edge.send(&chat(KEY, "fast", "how is NIGHTFALL going?", false)).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "policy_embargo"), "{}", answer.text());
    assert!(answer.text().contains("support names nightfall, which is under embargo"), "{}", answer.text());

    let answer = edge.send(&chat(KEY, "fast", "hi", true)).await;
    assert_eq!((answer.status, answer.code().as_str()), (451, "policy_streams"), "{}", answer.text());

    let answer = edge.send(&chat(KEY_ELSEWHERE, "theirs", "hi", false)).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "callout_denied"), "by default: {}", answer.text());

    let answer = edge.send(&chat(KEY, "fast", "hi", false).header("x-case", "undefined")).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "plugin_unavailable"), "no ruling is no permission: {}", answer.text());
    assert_eq!(upstream.count(), calls, "nothing of this reached the provider");
}
