//! `mode: observe` says what would have happened and changes not one byte, in either direction.

use crate::client::{Request, Response};
use crate::edge::{KEY, Setup};
use crate::upstream::{Seen, Upstream};

fn setup(upstream: &Upstream, observing: bool) -> Setup {
    let mut setup = Setup::to(upstream.port).faults();
    if observing {
        setup.plugins = [
            "{name: rewrites, use: rewrite, mode: observe, config: {edit: grow, header: x-meddled}}",
            "{name: refuses, use: fault, mode: observe, config: {how: block, status: 403, code: never}}",
            "{name: fails, use: fault, mode: observe, on_error: deny, config: {how: error}}",
            "{name: panics, use: fault, mode: observe, on_error: deny, config: {how: panic}}",
            "{name: sleeps, use: fault, mode: observe, on_error: deny, timeout: 30ms, config: {how: sleep}}",
            "{name: judges, use: judge, mode: observe, config: {needle: Hello}}",
            "{name: cuts, use: frames, mode: observe, config: {how: block, at: 1}}",
        ]
        .map(str::to_owned)
        .to_vec();
        for gate in ["pre_route", "pre_upstream"] {
            setup.chain.push(format!("{gate}: {{sequential: [rewrites, refuses, fails, panics, sleeps]}}"));
        }
        setup.chain.push("post_upstream: {sequential: [rewrites, judges, cuts, refuses, fails, panics, sleeps]}".into());
    }
    setup
}

/// What the caller got, without what differs between any two answers.
fn caller_view(answer: &Response) -> String {
    let mut headers: Vec<_> = answer.headers.iter().filter(|(n, _)| n != "x-request-id" && n != "date").cloned().collect();
    headers.sort();
    format!("{} {headers:?} {} {}", answer.status, answer.text(), answer.complete)
}

fn upstream_view(seen: &Seen) -> String {
    let mut headers: Vec<_> =
        seen.headers.iter().filter(|(n, _)| n != "x-request-id" && n != "traceparent" && n != "host").cloned().collect();
    headers.sort();
    format!("{} {} {headers:?} {}", seen.method, seen.path, seen.text())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_one_byte_differs() {
    let upstream = Upstream::start().await;
    let (plain, observed) = (setup(&upstream, false).start().await, setup(&upstream, true).start().await);
    for stream in [false, true] {
        let request = Request::chat(KEY, "fast", stream);
        let (a, from_a) = (plain.send(&request).await, upstream.take().pop().unwrap());
        let (b, from_b) = (observed.send(&request).await, upstream.take().pop().unwrap());
        assert_eq!(upstream_view(&from_a), upstream_view(&from_b), "towards the upstream, stream {stream}");
        // A held answer may be framed by its length where the passed one was chunked; for a whole answer both are.
        assert_eq!(a.text(), b.text(), "stream {stream}");
        if !stream {
            assert_eq!(caller_view(&a), caller_view(&b), "towards the caller");
        }
    }
    for (name, decision) in
        [("refuses", "would_block"), ("rewrites", "would_change"), ("judges", "would_block"), ("panics", "panicked"), ("sleeps", "timeout")]
    {
        let counted = observed
            .metric("gateway_plugin_executions_total", &[&format!("plugin_name=\"{name}\""), &format!("decision=\"{decision}\"")])
            .await;
        assert!(counted >= 1.0, "{name} should be counted as {decision}:\n{}", observed.metrics().await);
    }
}
