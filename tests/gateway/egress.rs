//! Destinations that the operator did not grant stay closed, for every plugin that connects out: with the real resolver and
//! real connections. `tests/golden/ssrf.jsonl` has the cases by address, name and form, which run against the host alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use odock_edge::plugin::{Need, Roster};

use crate::client::Request;
use crate::delivery::{SIGNING, outbox};
use crate::edge::{Edge, KEY, PATIENCE, Setup, eventually};
use crate::upstream::Upstream;

/// Counts connections and says nothing.
async fn listener() -> (u16, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, count) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    (port, count)
}

/// Every bundled plugin that calls out, with the moments at which it does or hands over what does, and its configuration.
const CALLERS: [(&str, &[&str], &str); 7] = [
    ("approval", &["pre_upstream"], "approver: {url: \"http://@TO@/in\"}, when: [{name: all, models: [\"*\"]}]"),
    (
        "email_notify",
        &["post_response"],
        "server: \"@TO@\", security: plain, from: a@odock.test, to: [b@odock.test], events: [\"request.*\"]",
    ),
    ("http_callout", &["pre_upstream"], "url: \"http://@TO@/in\""),
    ("keyword_events", &["pre_upstream", "post_response"], "events: [{name: greeting, words: [hi]}], deliver: {url: \"http://@TO@/in\"}"),
    ("recommendation", &["post_upstream"], "offers: [{name: person, when: {words: [hi]}}], deliver: {url: \"http://@TO@/in\"}"),
    ("siem_export", &["post_response"], "to: {kind: syslog, address: \"@TO@\", carrier: tcp}"),
    ("webhook", &["post_response"], "url: \"http://@TO@/in\", secrets: [signing]"),
];

/// A gateway with all of them on their way to this machine, each to a listener of its own.
async fn calling_home(upstream: &Upstream, open: &str) -> (Edge, Vec<Arc<AtomicUsize>>) {
    let mut setup = Setup::to(upstream.port);
    setup.more = outbox("");
    setup.env.push(("SIGNING".into(), SIGNING.into()));
    let (mut counts, mut places) = (Vec::new(), [("pre_upstream", vec![]), ("post_upstream", vec![]), ("post_response", vec![])]);
    for (name, moments, config) in CALLERS {
        let (port, count) = listener().await;
        counts.push(count);
        setup.plugins.push(format!(
            "{{name: {name}, on_error: allow, timeout: 5s, grant: {{network: [\"localhost:{port}{open}\"], secrets: [signing]}}, config: {{{}}}}}",
            config.replace("@TO@", &format!("localhost:{port}"))
        ));
        for (moment, names) in &mut places {
            if moments.contains(moment) {
                names.push(name);
            }
        }
    }
    for (moment, names) in places {
        setup.chain.push(format!("{moment}: {{sequential: [{}]}}", names.join(", ")));
    }
    (setup.start().await, counts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_granted_name_that_leads_home_is_called_by_no_plugin_unless_that_is_granted_too() {
    for manifest in Roster::bundled().iter().filter(|manifest| manifest.needs.contains(&Need::Network)) {
        let known = CALLERS.iter().any(|(name, ..)| *name == manifest.name);
        assert!(known || !crate::plugin_life::accepted(manifest.name), "{} is not tried here", manifest.name);
    }
    let upstream = Upstream::start().await;
    let request = || {
        let body = serde_json::json!({"model": "fast", "messages": [{"role": "user", "content": "hi"}]});
        Request::post("/v1/chat/completions", body.to_string()).bearer(KEY)
    };
    let (edge, counts) = calling_home(&upstream, " private").await;
    assert_eq!(edge.send(&request()).await.status, 200);
    let all = |counts: &[Arc<AtomicUsize>]| counts.iter().map(|count| count.load(Ordering::SeqCst)).collect::<Vec<_>>();
    assert!(eventually(PATIENCE, || !all(&counts).contains(&0)).await, "{CALLERS:?} {:?}\n{}", all(&counts), edge.log());

    let (edge, counts) = calling_home(&upstream, "").await;
    assert_eq!(edge.send(&request()).await.status, 200);
    for (name, moments, _) in CALLERS {
        let attempted = ["outcome=\"retry\"", "outcome=\"dead\""];
        let end = std::time::Instant::now() + PATIENCE;
        while moments != ["pre_upstream"] && std::time::Instant::now() < end {
            let mut count = 0.0;
            for outcome in attempted {
                count += edge.metric("gateway_outbox_deliveries_total", &[name, outcome]).await;
            }
            if count > 0.0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(std::time::Instant::now() < end, "{name} has not tried\n{}", edge.log());
    }
    assert_eq!(all(&counts), [0; CALLERS.len()], "{CALLERS:?}");
}
