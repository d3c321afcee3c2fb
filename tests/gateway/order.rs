//! Order of steps: sequential steps run in the order of the file, and of parallel verdicts the strictest wins.

use crate::client::Request;
use crate::edge::{KEY, Setup};
use crate::upstream::Upstream;

const ORDERS: [&str; 6] = ["abc", "acb", "bac", "bca", "cab", "cba"];

fn names(order: &str) -> String {
    order.chars().map(String::from).collect::<Vec<_>>().join(", ")
}

#[tokio::test]
async fn the_order_of_the_file_is_the_order_of_the_run_in_all_six_orders() {
    let upstream = Upstream::start().await;
    let mut setup = Setup::to(upstream.port).faults();
    for letter in ["a", "b", "c"] {
        setup.plugins.push(format!("{{name: {letter}, use: rewrite, config: {{edit: append, text: {letter}}}}}"));
    }
    for order in ORDERS {
        for gate in ["pre_route", "pre_upstream", "post_upstream"] {
            setup.chains.push(format!("{order}_{gate}: {{{gate}: {{sequential: [{}]}}}}", names(order)));
            let name = format!("{order}_{gate}");
            setup = setup.plain(&name, &name, "");
        }
    }
    let edge = setup.start().await;
    for order in ORDERS {
        for gate in ["pre_route", "pre_upstream"] {
            assert_eq!(edge.send(&Request::post(&format!("/{order}_{gate}/x"), "x").bearer(KEY)).await.status, 200);
            assert_eq!(upstream.last().text(), format!("x{order}"), "{gate}");
        }
        let answer = edge.send(&Request::post(&format!("/{order}_post_upstream/x"), "x").bearer(KEY)).await;
        assert_eq!(upstream.last().text(), "x");
        assert!(answer.text().ends_with(&format!("}}{order}")), "{order}: {}", answer.text());
    }
}

/// The verdict of a parallel group never depends on who is first: the first refusal in the file's order is the answer.
#[tokio::test]
async fn parallel_verdicts_fold_to_the_strictest_whatever_the_timing() {
    let upstream = Upstream::start().await;
    let mut setup = Setup::to(upstream.port)
        .faults()
        .plugin("{name: pass_now, use: fault, config: {how: pass}}")
        .plugin("{name: pass_late, use: fault, config: {how: pass, after_ms: 80}}")
        .plugin("{name: no_now, use: fault, config: {how: block, status: 403, code: no_now}}")
        .plugin("{name: no_late, use: fault, config: {how: block, status: 429, code: no_late, after_ms: 60}}")
        .plugin("{name: broken, use: fault, on_error: allow, config: {how: error}}");
    let groups = [
        ("pass_now, pass_late", ""),
        ("pass_late, no_now", "no_now"),
        ("no_late, pass_now", "no_late"),
        ("no_late, no_now", "no_late"),
        ("no_now, no_late", "no_now"),
        ("pass_late, no_late, no_now, pass_now", "no_late"),
        ("broken, no_late", "no_late"),
        ("broken, pass_now", ""),
    ];
    for (index, (members, _)) in groups.iter().enumerate() {
        setup = setup.case(&format!("c{index}"), &format!("{{pre_route: {{parallel: [{members}]}}}}"));
    }
    let edge = setup.start().await;
    for (index, (members, code)) in groups.iter().enumerate() {
        for _ in 0..3 {
            let answer = edge.send(&Request::chat(KEY, "fast", false).header("x-case", &format!("c{index}"))).await;
            if code.is_empty() {
                assert_eq!(answer.status, 200, "[{members}]: {}", answer.text());
            } else {
                assert_eq!(answer.code(), *code, "[{members}]");
            }
        }
    }
}

#[tokio::test]
async fn what_did_not_run_never_shows_as_run() {
    let upstream = Upstream::start().await;
    let edge = Setup::to(upstream.port)
        .faults()
        .plugin("{name: out_of_scope, use: fault, scope: {teams: [support]}, config: {how: block, status: 403, code: never}}")
        .plugin("{name: rolled_out_to_none, use: fault, rollout: 0, config: {how: block, status: 403, code: never}}")
        .plugin("{name: panics, use: fault, on_error: allow, config: {how: panic}}")
        .plugin("{name: refuses, use: fault, config: {how: block, status: 403, code: refused_here}}")
        .plugin("{name: behind_it, use: fault, config: {how: pass}}")
        .chain("pre_route: {sequential: [out_of_scope, rolled_out_to_none, panics, refuses, behind_it]}")
        .start()
        .await;
    let answer = edge.send(&Request::chat(KEY, "fast", false)).await;
    assert_eq!(answer.code(), "refused_here", "{}", answer.text());
    let record = edge.record(answer.header("x-request-id").unwrap()).await.to_string();
    for (name, decision) in
        [("out_of_scope", "skipped_scope"), ("rolled_out_to_none", "skipped_rollout"), ("panics", "panicked"), ("refuses", "blocked")]
    {
        let counted = edge
            .metric("gateway_plugin_executions_total", &[&format!("plugin_name=\"{name}\""), &format!("decision=\"{decision}\"")])
            .await;
        assert_eq!(counted, 1.0, "{name}");
        let all = edge.metric("gateway_plugin_executions_total", &[&format!("plugin_name=\"{name}\"")]).await;
        assert_eq!(all, 1.0, "{name} is counted once, as what it was");
        assert!(record.contains(name) && record.contains(decision), "{name}: {record}");
    }
    assert!(!record.contains("behind_it"), "{record}");
    assert_eq!(edge.metric("gateway_plugin_executions_total", &["plugin_name=\"behind_it\""]).await, 0.0);
}

#[tokio::test]
async fn a_rollout_is_stable_for_a_key() {
    let upstream = Upstream::start().await;
    let edge = Setup::to(upstream.port)
        .faults()
        .plugin("{name: half, use: fault, rollout: 50, config: {how: block, status: 403, code: in_the_half}}")
        .chain("pre_route: {sequential: [half]}")
        .start()
        .await;
    let first = edge.send(&Request::chat(KEY, "fast", false)).await.status;
    for _ in 0..10 {
        assert_eq!(edge.send(&Request::chat(KEY, "fast", false)).await.status, first);
    }
}

/// Each hook runs once a phase, retry or not.
#[tokio::test]
async fn a_retry_runs_no_plugin_twice() {
    let upstream = Upstream::start().await;
    let edge = Setup::to(upstream.port)
        .faults()
        .plugin("{name: watch, use: fault, config: {how: pass}}")
        .chain("pre_route: {sequential: [watch]}")
        .chain("pre_upstream: {sequential: [watch]}")
        .chain("post_upstream: {sequential: [watch]}")
        .chain("post_response: {sequential: [watch]}")
        .start()
        .await;
    assert_eq!(edge.send(&Request::chat(KEY, "fast", false)).await.status, 200);
    tokio::time::sleep(std::time::Duration::from_millis(30)).await;
    upstream.next([crate::upstream::Act::CloseAfterBody]);
    assert_eq!(edge.send(&Request::chat(KEY, "fast", false)).await.status, 200);
    assert_eq!(upstream.count(), 3, "the second request took two attempts");
    for gate in ["pre_route", "pre_upstream", "post_upstream", "post_response"] {
        let stage = format!("plugin_stage=\"{gate}\"");
        let twice = async || edge.metric("gateway_plugin_executions_total", &["plugin_name=\"watch\"", &stage]).await >= 2.0;
        assert!(crate::edge::comes_true(crate::edge::PATIENCE, twice).await, "{gate}");
        assert_eq!(edge.metric("gateway_plugin_executions_total", &["plugin_name=\"watch\"", &stage]).await, 2.0, "{gate}");
    }
}
