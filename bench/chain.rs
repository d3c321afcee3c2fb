//! What does a chain cost a request? Nanoseconds for each gate, with empty chains and with steps that do nothing, so that
//! only the runner is measured. `cargo bench --bench chain`
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use odock_edge::gate::{self, Chain, ChainSpec, Exchange, Facts, Gate, RequestId, Style};
use odock_edge::plugin::prelude::*;
use odock_edge::plugin::{Instance, InstanceSpec, OnError, SharedHost};
use odock_edge::telemetry::Metrics;

/// A step that lets everything pass; with `tags` it changes the draft.
struct Step {
    tags: bool,
}

#[async_trait]
impl Plugin for Step {
    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        if self.tags {
            cx.tag("bench", "1")?;
        }
        Ok(Verdict::Next)
    }
}

static STEP: Manifest = Manifest {
    name: "step",
    version: "1.0.0",
    author: "Odock",
    category: "bench",
    kind: "audit",
    summary: "Does nothing.",
    gates: &[Gate::PreUpstream],
    styles: &[Style::Sequential, Style::Parallel],
    needs: &[Need::Tags],
    streams: false,
    evidence: &[],
    codes: &[],
    config_schema: || json!({}),
    build: |cx| Ok(Arc::new(Step { tags: cx.config["tags"].as_bool().unwrap_or(false) })),
};

fn main() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    println!("{:<40} {:>10} {:>10}", "chain", "ns/gate", "ns/step");
    for (what, style, steps, tags, on_error) in [
        ("empty", Style::Sequential, 0, false, OnError::Deny),
        ("1 ordered step", Style::Sequential, 1, false, OnError::Deny),
        ("5 ordered steps", Style::Sequential, 5, false, OnError::Deny),
        ("5 ordered steps, on_error allow", Style::Sequential, 5, false, OnError::Allow),
        ("1 ordered step that writes", Style::Sequential, 1, true, OnError::Deny),
        ("1 ordered step that writes, revertible", Style::Sequential, 1, true, OnError::Allow),
        ("5 joined steps", Style::Parallel, 5, false, OnError::Deny),
    ] {
        let chain = chain(style, steps, tags, on_error)?;
        let nanos = runtime.block_on(measure(&chain));
        println!("{what:<40} {nanos:>10.1} {:>10.1}", nanos / (steps.max(1) as f64));
    }
    Ok(())
}

fn chain(style: Style, steps: usize, tags: bool, on_error: OnError) -> Result<Chain, Box<dyn Error>> {
    let mut spec = ChainSpec { max_parallel: 16, ..ChainSpec::default() };
    for at in 0..steps {
        let mut of = InstanceSpec::new(format!("step-{at}"));
        (of.config, of.on_error) = (json!({ "tags": tags }), on_error);
        let instance = Instance::build(&STEP, of, &SharedHost::offline(), Arc::default())?;
        let stage = spec.stage(Gate::PreUpstream);
        if style == Style::Parallel { stage.parallel.push(instance) } else { stage.sequential.push(instance) }
    }
    Ok(Chain::compile(spec, &*Metrics::new()?)?)
}

/// The median of several rounds, in nanoseconds per gate.
async fn measure(chain: &Chain) -> f64 {
    const ROUNDS: usize = 21;
    const CALLS: u32 = 20_000;
    let mut exchange = exchange();
    let headers = HeaderMap::new();
    let mut rounds = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let started = Instant::now();
        for _ in 0..CALLS {
            let verdict = gate::run(black_box(chain), Gate::PreUpstream, &mut exchange, &headers).await;
            let _ = black_box(verdict);
            exchange.executions.clear();
        }
        rounds.push(started.elapsed());
    }
    rounds.sort();
    rounds.get(ROUNDS / 2).copied().unwrap_or(Duration::ZERO).as_nanos() as f64 / f64::from(CALLS)
}

fn exchange() -> Exchange {
    let mut exchange = Exchange::new(Facts {
        id: RequestId([0; 16]),
        trace_id: None,
        caller_request_id: None,
        received: Instant::now(),
        received_at: SystemTime::now(),
        route: "default".into(),
        endpoint: Endpoint::ChatCompletions,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        path: "/v1/chat/completions".to_owned(),
        client_ip: None,
        user_agent: None,
        caller: None,
        requested_model: Some("gpt".to_owned()),
        provider: None,
        slug: None,
        stream: false,
    });
    exchange.draft.body = Bytes::from_static(&[b'x'; 1024]);
    exchange
}
