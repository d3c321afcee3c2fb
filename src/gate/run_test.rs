#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method};
use parking_lot::Mutex;

use super::*;
use crate::error::Denial;
use crate::gate::{Background, ChainSpec, Facts, Finished, Ledger, RequestId, Response, StageSpec, Style, placement, post_response};
use crate::identity::{Caller, KeyKind, Organisation};
use crate::plugin::{
    BuildContext, Granted, Instance, InstanceSpec, Manifest, Mode, Need, OnError, Plugin, PluginError, PluginResult, PostResponse,
    PostUpstream, PreRoute, PreUpstream, Scope, SharedHost,
};
use crate::telemetry::Metrics;
use crate::wire::{Dialect, Endpoint};

#[path = "turn_test.rs"]
mod turns;

/// Does at every gate what its configuration says.
struct Puppet {
    act: String,
    arg: String,
}

/// A timeout for steps that must not end by it.
const FOREVER: Duration = Duration::from_secs(3600);

impl Puppet {
    async fn act(&self, note: &mut (dyn FnMut(&'static str, String) + Send)) -> PluginResult {
        note("seen", self.arg.clone());
        match self.act.as_str() {
            "abort" => Ok(Verdict::Abort(Box::new(Denial::custom(451, &self.arg, "no")))),
            "slow_abort" => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                Ok(Verdict::Abort(Box::new(Denial::custom(451, &self.arg, "no"))))
            }
            "error" => Err(PluginError::failed("it broke")),
            "panic" => panic!("with the prompt in it"),
            "late_panic" => {
                tokio::task::yield_now().await;
                panic!("with the prompt in it")
            }
            "hang" | "prompt_hang" => {
                tokio::time::sleep(FOREVER).await;
                Ok(Verdict::Next)
            }
            _ => Ok(Verdict::Next),
        }
    }
}

#[async_trait]
impl Plugin for Puppet {
    async fn pre_route(&self, cx: &mut PreRoute<'_>) -> PluginResult {
        if self.act == "rewrite" || self.act.ends_with("_after_write") {
            let body = [cx.body()?.as_ref(), self.arg.as_bytes()].concat();
            cx.set_body(body)?;
            cx.set_model(format!("{}{}", cx.model().unwrap_or_default(), self.arg))?;
            cx.set_header("x-step", &format!("{}{}", cx.header("x-step").unwrap_or_default(), self.arg))?;
            cx.tag("by", self.arg.clone())?;
        }
        match self.act.as_str() {
            "error_after_write" => return Err(PluginError::failed("it broke")),
            "panic_after_write" => panic!("on purpose"),
            "hang_after_write" => tokio::time::sleep(FOREVER).await,
            "read" => drop(cx.body()?.clone()),
            "header" => cx.set_header(&self.arg, "v")?,
            "tag" => cx.tag("a", "b")?,
            _ => {}
        }
        self.act(&mut |key, value| cx.note(key, value)).await
    }

    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        if self.act == "rewrite" {
            cx.set_body(self.arg.clone())?;
        }
        self.act(&mut |key, value| cx.note(key, value)).await
    }

    async fn post_upstream(&self, cx: &mut PostUpstream<'_>) -> PluginResult {
        if self.act == "rewrite" {
            cx.set_response_body(self.arg.clone())?;
            cx.set_response_header("x-step", &self.arg)?;
        }
        self.act(&mut |key, value| cx.note(key, value)).await
    }

    fn is_prompt(&self) -> bool {
        self.act.starts_with("prompt")
    }

    async fn post_response(&self, cx: &PostResponse<'_>) -> Result<(), PluginError> {
        cx.external("siem", Some("42".into()));
        self.act(&mut |key, value| cx.note(key, value)).await.map(drop)
    }
}

fn puppet(cx: &BuildContext<'_>) -> Result<Arc<dyn Plugin>, crate::plugin::BuildError> {
    let text = |key: &str| cx.config[key].as_str().unwrap_or_default().to_owned();
    Ok(Arc::new(Puppet { act: text("act"), arg: text("arg") }))
}

const EVERYTHING: &[Need] = &[
    Need::ReadRequest,
    Need::WriteRequest,
    Need::ReadResponse,
    Need::WriteResponse,
    Need::Block,
    Need::Tags,
    Need::Headers,
    Need::Background,
];

static PUPPET: Manifest = Manifest {
    name: "puppet",
    version: "1.0.0",
    author: "Odock",
    category: "test",
    kind: "transform",
    summary: "Does what it is told.",
    gates: &Gate::ALL,
    styles: &[Style::Sequential, Style::Parallel, Style::Background],
    needs: EVERYTHING,
    streams: false,
    evidence: &[("seen", "what it was told")],
    codes: &[],
    config_schema: || serde_json::json!({}),
    build: puppet,
};

static POOR: Manifest = Manifest { name: "poor", needs: &[], ..manifest_of(&PUPPET) };

const fn manifest_of(of: &Manifest) -> Manifest {
    Manifest { ..*of }
}

fn spec(act: &str, arg: &str) -> InstanceSpec {
    let mut spec = InstanceSpec::new(format!("{act}-{arg}"));
    spec.config = serde_json::json!({"act": act, "arg": arg});
    spec.timeout = Duration::from_millis(30);
    spec
}

fn build(manifest: &'static Manifest, spec: InstanceSpec) -> Arc<Instance> {
    Instance::build(manifest, spec, &SharedHost::offline(), Arc::default()).unwrap()
}

fn chain(gate: Gate, sequential: Vec<Arc<Instance>>, parallel: Vec<Arc<Instance>>) -> Arc<Chain> {
    let mut spec = ChainSpec::default();
    spec.stage(gate).sequential = sequential;
    spec.stage(gate).parallel = parallel;
    Arc::new(Chain::compile(spec, &Metrics::new().unwrap()).unwrap())
}

fn caller(key: &str) -> Arc<Caller> {
    let organisation = Organisation { id: "acme".into(), name: "Acme".into(), metadata: Default::default() };
    Arc::new(Caller {
        key_id: key.into(),
        key_name: key.into(),
        kind: KeyKind::Organisation,
        organisation: Arc::new(organisation),
        team: None,
        user: None,
        models: Default::default(),
        mcp_servers: Default::default(),
        terms: Arc::default(),
    })
}

pub(in crate::gate) fn exchange(key: &str) -> Exchange {
    let mut ex = Exchange::new(Facts {
        id: RequestId([1; 16]),
        trace_id: None,
        caller_request_id: None,
        received: Instant::now(),
        received_at: SystemTime::now(),
        route: "default".into(),
        endpoint: Endpoint::ChatCompletions,
        dialect: Dialect::OpenAi,
        method: Method::POST,
        path: "/v1/chat/completions".into(),
        client_ip: None,
        user_agent: None,
        caller: Some(caller(key)),
        requested_model: Some("m".into()),
        provider: None,
        slug: None,
        stream: false,
    });
    ex.draft.body = Bytes::from_static(b"body");
    ex
}

fn answered(mut ex: Exchange) -> Exchange {
    ex.draft.response = Some(Response { status: 200, headers: HeaderMap::new(), body: Some(Bytes::from_static(b"answer")) });
    ex
}

async fn at(chain: &Chain, gate: Gate, ex: &mut Exchange) -> Verdict {
    super::run(chain, gate, ex, &HeaderMap::new()).await
}

fn decisions(ex: &Exchange) -> Vec<&'static str> {
    ex.executions.iter().map(|e| e.decision.as_str()).collect()
}

#[tokio::test]
async fn ordered_steps_run_in_the_order_of_the_yaml() {
    for order in ["abc", "acb", "bac", "bca", "cab", "cba"] {
        let steps = order.chars().map(|c| build(&PUPPET, spec("rewrite", &c.to_string()))).collect();
        let chain = chain(Gate::PreRoute, steps, Vec::new());
        let mut ex = exchange("k");
        assert_eq!(at(&chain, Gate::PreRoute, &mut ex).await, Verdict::Next);
        assert_eq!(ex.draft.body, format!("body{order}").as_bytes());
        assert_eq!(ex.draft.model, Some(format!("m{order}")));
        let mut head = HeaderMap::new();
        crate::gate::HeaderEdit::apply(&ex.draft.request_edits, &mut head);
        assert_eq!(head["x-step"], order);
        assert_eq!(ex.draft.tags, [("by".to_owned(), order[2..].to_owned())]);
        assert_eq!(decisions(&ex), ["changed"; 3]);
        assert!(ex.executions.iter().all(|e| e.changed_request && !e.changed_response && e.response_path));
    }
}

#[tokio::test]
async fn what_did_not_run_leaves_no_entry() {
    let steps = vec![build(&PUPPET, spec("", "a")), build(&PUPPET, spec("abort", "stop")), build(&PUPPET, spec("", "c"))];
    let chain = chain(Gate::PreUpstream, steps, vec![build(&PUPPET, spec("", "d"))]);
    let mut ex = exchange("k");
    let Verdict::Abort(denial) = at(&chain, Gate::PreUpstream, &mut ex).await else { panic!("it passed") };
    assert_eq!((denial.status(), denial.code.as_ref()), (451, "stop"));
    assert_eq!(decisions(&ex), ["allowed", "blocked"]);
    assert_eq!(ex.executions[1].code.as_deref(), Some("stop"));
    assert_eq!(ex.executions[1].notes, [("seen", "stop".to_owned())]);
}

#[tokio::test]
async fn joined_steps_fold_to_the_strictest_whatever_the_timing() {
    let acts = |list: &[(&str, &str)]| -> Vec<_> { list.iter().map(|(a, b)| build(&PUPPET, spec(a, b))).collect() };
    for (steps, code) in [
        (vec![("", "a"), ("slow_abort", "first"), ("abort", "second")], "first"),
        (vec![("abort", "first"), ("", "a"), ("slow_abort", "second")], "first"),
        (vec![("hang", "a"), ("slow_abort", "only"), ("", "b")], "only"),
        (vec![("error", "a"), ("abort", "only")], "only"),
        (vec![("", "a"), ("panic", "b"), ("", "c")], "plugin_unavailable"),
    ] {
        for wide in [true, false] {
            let mut spec = ChainSpec { max_parallel: if wide { 8 } else { 1 }, ..ChainSpec::default() };
            spec.stage(Gate::PreRoute).parallel = acts(&steps);
            let chain = Chain::compile(spec, &Metrics::new().unwrap()).unwrap();
            let mut ex = exchange("k");
            let Verdict::Abort(denial) = at(&chain, Gate::PreRoute, &mut ex).await else { panic!("it passed") };
            assert_eq!(denial.code, code, "{steps:?}");
            let names: Vec<_> = ex.executions.iter().map(|e| e.plugin.to_string()).collect();
            assert_eq!(names, steps.iter().map(|(a, b)| format!("{a}-{b}")).collect::<Vec<_>>());
        }
    }
}

#[tokio::test]
async fn joined_steps_change_nothing() {
    let chain = chain(Gate::PreRoute, Vec::new(), vec![build(&PUPPET, spec("rewrite", "a"))]);
    let mut ex = exchange("k");
    assert!(matches!(at(&chain, Gate::PreRoute, &mut ex).await, Verdict::Abort(_)));
    assert_eq!((ex.draft.body.as_ref(), ex.draft.model.as_deref()), (b"body".as_ref(), Some("m")));
    assert_eq!(decisions(&ex), ["error"]);
    assert!(ex.executions[0].error.as_deref().unwrap().contains("parallel"));
}

#[tokio::test]
async fn a_failure_means_what_on_error_says_at_every_gate() {
    for gate in [Gate::PreRoute, Gate::PreUpstream, Gate::PostUpstream] {
        for (act, decision) in [("error", "error"), ("panic", "panicked"), ("late_panic", "panicked"), ("hang", "timeout")] {
            for parallel in [false, true] {
                for on_error in [OnError::Deny, OnError::Allow] {
                    let mut failing = spec(act, "x");
                    failing.on_error = on_error;
                    let steps = vec![build(&PUPPET, failing), build(&PUPPET, spec("", "next"))];
                    let (ordered, joined) = if parallel { (vec![], steps) } else { (steps, vec![]) };
                    let chain = chain(gate, ordered, joined);
                    let mut ex = answered(exchange("k"));
                    let verdict = at(&chain, gate, &mut ex).await;
                    let place = format!("{act} at {} parallel {parallel} {on_error:?}", gate.as_str());
                    let ran_on = on_error == OnError::Allow;
                    if ran_on {
                        assert_eq!(verdict, Verdict::Next, "{place}");
                    } else {
                        let Verdict::Abort(denial) = verdict else { panic!("{place}: it passed") };
                        assert_eq!((denial.status(), denial.code.as_ref()), (503, "plugin_unavailable"), "{place}");
                        assert_eq!(ex.executions[0].code.as_deref(), Some("plugin_unavailable"));
                    }
                    let expected = if ran_on || parallel { vec![decision, "allowed"] } else { vec![decision] };
                    assert_eq!(decisions(&ex), expected, "{place}");
                    assert!(!ex.executions[0].error.as_deref().unwrap().contains("prompt"), "{place}");
                    assert!(!ex.executions[0].changed_request && !ex.executions[0].changed_response);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_failure_that_is_let_pass_takes_its_changes_back() {
    for act in ["error_after_write", "panic_after_write", "hang_after_write"] {
        let mut failing = spec(act, "x");
        failing.on_error = OnError::Allow;
        let chain = chain(Gate::PreRoute, vec![build(&PUPPET, failing), build(&PUPPET, spec("rewrite", "y"))], vec![]);
        let mut ex = exchange("k");
        assert_eq!(at(&chain, Gate::PreRoute, &mut ex).await, Verdict::Next);
        assert_eq!((ex.draft.body.as_ref(), ex.draft.model.as_deref()), (b"bodyy".as_ref(), Some("my")), "{act}");
        assert_eq!(ex.draft.request_edits.len(), 1);
        assert!(!ex.executions[0].changed_request);
    }
}

/// Takes the best of a few tries: a busy machine may be late once, a wrong deadline is late each time.
#[tokio::test]
async fn a_timeout_holds_no_longer_than_it_says() {
    for parallel in [false, true] {
        let mut best = FOREVER;
        for _ in 0..40 {
            if best <= Duration::from_millis(40) {
                break;
            }
            let step = build(&PUPPET, spec("hang", "x"));
            let (ordered, joined) = if parallel { (vec![], vec![step]) } else { (vec![step], vec![]) };
            let chain = chain(Gate::PreRoute, ordered, joined);
            let mut ex = exchange("k");
            let started = Instant::now();
            assert!(matches!(at(&chain, Gate::PreRoute, &mut ex).await, Verdict::Abort(_)));
            let took = started.elapsed();
            assert!(took >= Duration::from_millis(30) && ex.executions[0].took >= Duration::from_millis(30));
            best = best.min(took);
        }
        assert!(best <= Duration::from_millis(40), "{best:?}");
    }
}

#[tokio::test]
async fn observing_changes_not_one_byte() {
    for gate in [Gate::PreRoute, Gate::PreUpstream, Gate::PostUpstream] {
        for (act, decision) in [
            ("rewrite", "would_change"),
            ("abort", "would_block"),
            ("error", "error"),
            ("panic", "panicked"),
            ("hang", "timeout"),
            ("", "allowed"),
        ] {
            let mut observing = spec(act, "x");
            observing.mode = Mode::Observe;
            let chain = chain(gate, vec![build(&PUPPET, observing)], vec![]);
            let mut ex = answered(exchange("k"));
            let before = format!("{:?}", ex.draft);
            assert_eq!(at(&chain, gate, &mut ex).await, Verdict::Next);
            assert_eq!(format!("{:?}", ex.draft), before, "{act} at {}", gate.as_str());
            assert_eq!(decisions(&ex), [decision]);
            assert!(!ex.executions[0].changed_request && !ex.executions[0].changed_response);
            assert_eq!(ex.executions[0].code.is_some(), act == "abort");
        }
    }
}

#[tokio::test]
async fn what_was_not_granted_is_refused() {
    for (act, arg) in [("rewrite", "x"), ("abort", "x"), ("read", ""), ("header", "x-a"), ("tag", "")] {
        let chain = chain(Gate::PreRoute, vec![build(&POOR, spec(act, arg))], vec![]);
        let mut ex = exchange("k");
        let Verdict::Abort(denial) = at(&chain, Gate::PreRoute, &mut ex).await else { panic!("{act} passed") };
        assert_eq!(denial.code, "plugin_unavailable", "{act}");
        assert_eq!(decisions(&ex), ["error"]);
        assert_eq!(ex.draft.body, "body");
    }
    let mut withheld = spec("header", "x-a");
    withheld.granted = Granted::new().without(Need::Headers);
    let chain_without = chain(Gate::PreRoute, vec![build(&PUPPET, withheld)], vec![]);
    assert!(matches!(at(&chain_without, Gate::PreRoute, &mut exchange("k")).await, Verdict::Abort(_)));
    for own in ["authorization", "Host", "content-length", "Transfer-Encoding", "cookie", "x-request-id", "bad name"] {
        let chain = chain(Gate::PreRoute, vec![build(&PUPPET, spec("header", own))], vec![]);
        let mut ex = exchange("k");
        assert!(matches!(at(&chain, Gate::PreRoute, &mut ex).await, Verdict::Abort(_)), "{own}");
        assert!(ex.draft.request_edits.is_empty());
    }
}

#[tokio::test]
async fn a_rollout_is_stable_and_only_grows() {
    let inside = |percent: u8| -> Vec<bool> {
        let mut some = spec("", "x");
        some.rollout = percent;
        let instance = build(&PUPPET, some);
        (0..2000).map(|key| instance.rolled_out(&exchange(&format!("key-{key}")).facts)).collect()
    };
    let share = |list: &[bool]| list.iter().filter(|in_it| **in_it).count();
    let (none, ten, again, half, all) = (inside(0), inside(10), inside(10), inside(50), inside(100));
    assert_eq!(ten, again);
    assert_eq!((share(&none), share(&all)), (0, 2000));
    assert!((140..=260).contains(&share(&ten)), "{}", share(&ten));
    assert!((900..=1100).contains(&share(&half)), "{}", share(&half));
    assert!(ten.iter().zip(&half).all(|(small, large)| !small || *large));

    let mut nobody = spec("abort", "x");
    nobody.rollout = 0;
    let chain = chain(Gate::PreRoute, vec![build(&PUPPET, nobody)], vec![]);
    let mut ex = exchange("k");
    assert_eq!(at(&chain, Gate::PreRoute, &mut ex).await, Verdict::Next);
    assert_eq!((decisions(&ex), ex.executions[0].took), (vec!["skipped_rollout"], Duration::ZERO));
}

#[tokio::test]
async fn a_step_runs_for_those_in_its_scope() {
    for (scope, lets_in) in [
        (Scope { organisations: vec!["Acme".into()], ..Scope::default() }, Some("organisations:Acme")),
        (Scope { api_keys: vec!["j".into(), "k".into()], ..Scope::default() }, Some("api_keys:k")),
        (Scope { models: vec!["m".into()], routes: vec!["default".into()], ..Scope::default() }, Some("models:m")),
        (Scope { models: vec!["other".into()], ..Scope::default() }, None),
        (Scope { teams: vec!["support".into()], ..Scope::default() }, None),
        (Scope { api_keys: vec!["k".into()], organisations: vec!["other".into()], ..Scope::default() }, None),
        (Scope { mcp_servers: vec!["github".into()], ..Scope::default() }, None),
    ] {
        let mut scoped = spec("abort", "x");
        scoped.scope = scope.clone();
        let chain = chain(Gate::PreRoute, vec![build(&PUPPET, scoped)], vec![]);
        let mut ex = exchange("k");
        let aborted = at(&chain, Gate::PreRoute, &mut ex).await != Verdict::Next;
        assert_eq!(aborted, lets_in.is_some(), "{scope:?}");
        assert_eq!(ex.executions[0].scope.as_deref(), lets_in);
        assert_eq!(decisions(&ex), [if aborted { "blocked" } else { "skipped_scope" }]);
    }
}

/// A ledger that keeps what was recorded.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<Vec<Arc<Finished>>>>, Arc<Mutex<Vec<(RequestId, Execution)>>>);

impl Ledger for Book {
    fn close(&self, finished: Arc<Finished>) {
        self.0.lock().push(finished);
    }

    fn add(&self, request: RequestId, execution: Execution) {
        self.1.lock().push((request, execution));
    }
}

fn said<'e>(executions: impl IntoIterator<Item = &'e Execution>) -> Vec<(&'e str, &'e str)> {
    executions.into_iter().map(|e| (e.plugin.as_ref(), e.decision.as_str())).collect()
}

/// A chain with these steps at `post_response`, each named after what it does.
fn after(timeout: Duration, sequential: &[&str], parallel: &[&str], background: &[&str]) -> Arc<Chain> {
    let step = |act: &&str| build(&PUPPET, InstanceSpec { timeout, ..spec(act, act) });
    let steps = |acts: &[&str]| -> Vec<_> { acts.iter().map(step).collect() };
    let mut of = ChainSpec::default();
    *of.stage(Gate::PostResponse) = StageSpec { sequential: steps(sequential), parallel: steps(parallel), background: steps(background) };
    Arc::new(Chain::compile(of, &Metrics::new().unwrap()).unwrap())
}

#[tokio::test]
async fn after_the_answer_each_record_is_closed_once_with_all_that_ran() {
    let chain = after(FOREVER, &["", "error"], &["panic", ""], &["later"]);
    let (book, queue) = (Book::default(), Background::start(8, 2, None));
    for _ in 0..3 {
        post_response(&chain, Arc::new(exchange("k").finish()), &queue, book.clone());
    }
    assert_eq!(queue.drain(Duration::from_secs(5)).await, 0);
    let closed = std::mem::take(&mut *book.0.lock());
    assert_eq!((closed.len(), book.1.lock().len()), (3, 0));
    assert_eq!(
        said(&closed[0].executions),
        [
            ("later-later", "enqueued"),
            ("-", "allowed"),
            ("error-error", "error"),
            ("panic-panic", "panicked"),
            ("-", "allowed"),
            ("later-later", "allowed")
        ]
    );
    let last = closed[0].executions.last().unwrap();
    assert!(!last.response_path && last.style == Style::Background);
    assert_eq!(last.external.as_ref().unwrap().delivery_id.as_deref(), Some("42"));

    // The queue is closed: nothing runs, the record says so, and nothing waits.
    post_response(&chain, Arc::new(exchange("k").finish()), &queue, book.clone());
    let closed = std::mem::take(&mut *book.0.lock());
    assert_eq!(closed[0].executions.iter().map(|e| e.decision.as_str()).collect::<Vec<_>>(), ["dropped"; 5]);

    // The process ends while a job waits in the queue: its record is closed by then.
    let (queue, workers) = Background::new(8, 1, None);
    post_response(&chain, Arc::new(exchange("k").finish()), &queue, book.clone());
    drop((queue, workers));
    assert_eq!(book.0.lock().len(), 1);
}

#[tokio::test]
async fn steps_that_are_all_prompt_need_no_queue() {
    let chain = after(FOREVER, &["prompt"], &["prompt"], &["prompt"]);
    let book = Book::default();
    post_response(&chain, Arc::new(exchange("k").finish()), &Background::closed(), book.clone());
    let record = std::mem::take(&mut *book.0.lock());
    let decisions: Vec<&str> = record[0].executions.iter().map(|e| e.decision.as_str()).collect();
    assert_eq!((record.len(), decisions), (1, vec!["enqueued", "allowed", "allowed", "allowed"]));

    // A step that waits although it is declared prompt is queued all the same, and runs into its timeout there.
    let chain = after(Duration::from_millis(30), &["prompt"], &["prompt_hang"], &[]);
    let queue = Background::start(8, 1, None);
    post_response(&chain, Arc::new(exchange("k").finish()), &queue, book.clone());
    assert_eq!((queue.stats().pending, queue.drain(Duration::from_secs(5)).await), (1, 0));
    let added = book.1.lock();
    assert_eq!((book.0.lock().len(), added[0].1.decision), (1, Decision::Timeout));

    // With one step among them that is not prompt, all are queued.
    let chain = after(FOREVER, &["prompt"], &[""], &[]);
    post_response(&chain, Arc::new(exchange("k").finish()), &Background::closed(), book.clone());
    assert_eq!(said(&book.0.lock()[1].executions).iter().map(|(_, decision)| *decision).collect::<Vec<_>>(), ["dropped"; 2]);
}

#[tokio::test]
async fn a_step_that_waits_keeps_nothing_from_the_record() {
    let chain = after(Duration::from_millis(30), &[""], &["hang", "error"], &["later"]);
    let (book, queue) = (Book::default(), Background::start(8, 1, None));
    let finished = Arc::new(exchange("k").finish());
    post_response(&chain, Arc::clone(&finished), &queue, book.clone());
    assert_eq!(queue.drain(Duration::from_secs(5)).await, 0);
    let record = std::mem::take(&mut *book.0.lock());
    assert_eq!((record.len(), said(&record[0].executions)), (1, vec![("later-later", "enqueued"), ("-", "allowed")]));
    let added = std::mem::take(&mut *book.1.lock());
    assert!(added.iter().all(|(request, _)| *request == finished.facts.id));
    let ran = added.iter().map(|(_, execution)| execution);
    assert_eq!(said(ran), [("hang-hang", "timeout"), ("error-error", "error"), ("later-later", "allowed")]);

    // The process ends while a step waits: the record is closed already, and unfinished steps are added to it as dropped.
    let chain = after(FOREVER, &[""], &["hang", "error"], &["later"]);
    let (queue, mut workers) = Background::new(8, 1, None);
    post_response(&chain, finished, &queue, book.clone());
    let worker = workers.remove(0).run();
    assert!(tokio::time::timeout(Duration::from_millis(10), worker).await.is_err(), "the step never ends");
    let record = std::mem::take(&mut *book.0.lock());
    assert_eq!((record.len(), said(&record[0].executions)), (1, vec![("later-later", "enqueued"), ("-", "allowed")]));
    let added = book.1.lock();
    let dropped = added.iter().map(|(_, execution)| execution);
    assert_eq!(said(dropped), [("hang-hang", "dropped"), ("error-error", "dropped"), ("later-later", "dropped")]);
}

#[test]
fn a_chain_is_known_by_what_it_does() {
    let id = |spec: InstanceSpec, gate| chain(gate, vec![build(&PUPPET, spec)], vec![]).id.clone();
    let first = id(spec("", "a"), Gate::PreRoute);
    assert_eq!(first.len(), 16);
    assert_eq!(first, id(spec("", "a"), Gate::PreRoute));
    let mut others = vec![id(spec("", "b"), Gate::PreRoute), id(spec("", "a"), Gate::PreUpstream), Chain::default().id];
    for change in [
        |s: &mut InstanceSpec| s.mode = Mode::Observe,
        |s: &mut InstanceSpec| s.on_error = OnError::Allow,
        |s: &mut InstanceSpec| s.rollout = 99,
        |s: &mut InstanceSpec| s.timeout = Duration::from_secs(9),
        |s: &mut InstanceSpec| s.scope.teams.push("a".into()),
        |s: &mut InstanceSpec| s.granted = Granted::new().without(Need::Tags),
    ] {
        let mut changed = spec("", "a");
        change(&mut changed);
        others.push(id(changed, Gate::PreRoute));
    }
    assert!(!others.contains(&first));
    assert!(Chain::default().is_empty(Gate::PreRoute));
}

#[test]
fn a_plugin_stands_only_where_its_manifest_says() {
    static NARROW: Manifest = Manifest { gates: &[Gate::PreRoute, Gate::PostResponse], needs: &[], ..manifest_of(&PUPPET) };
    assert!(placement(&NARROW, Gate::PreRoute, Style::Parallel).is_ok());
    let misplaced = placement(&NARROW, Gate::PostUpstream, Style::Sequential).unwrap_err();
    assert_eq!(misplaced.help, "it runs at pre_route, post_response");
    assert!(placement(&NARROW, Gate::PreRoute, Style::Background).is_err());
    assert!(placement(&NARROW, Gate::PostResponse, Style::Background).unwrap_err().help.contains("background"));
    assert!(placement(&PUPPET, Gate::PostResponse, Style::Background).is_ok());
}
