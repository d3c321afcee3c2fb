//! One step of a chain: an instance at a gate, run under its timeout and a panic guard, with an execution as its record.

use std::borrow::Cow;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use futures::FutureExt;
use http::HeaderMap;

use super::{Decision, Draft, Execution, Facts, Finished, Gate, Style};
use crate::error::{Denial, codes};
use crate::plugin::view::{Access, PostResponse, PostUpstream, PreRoute, PreUpstream, Trail, View};
use crate::plugin::{Instance, Mode, Need, OnError, PluginError, Verdict};
use crate::telemetry::{PluginMetrics, Sparse};

/// An instance at a gate, with its counters there.
#[derive(Debug)]
pub struct Step {
    instance: Arc<Instance>,
    gate: Gate,
    style: Style,
    metrics: PluginMetrics,
    /// Throttles the log lines about failures: while an external system is down, every request has one.
    failures: Sparse,
}

/// Why a step gave no verdict.
#[derive(Debug)]
pub(super) enum Failure {
    Error(PluginError),
    Timeout,
    Panicked,
}

impl Failure {
    pub(super) fn decision(&self) -> Decision {
        match self {
            Self::Error(_) => Decision::Error,
            Self::Timeout => Decision::Timeout,
            Self::Panicked => Decision::Panicked,
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Error(error) => error.to_string(),
            Self::Timeout => "no verdict in time".to_owned(),
            Self::Panicked => "panicked".to_owned(),
        }
    }
}

impl Step {
    pub(super) fn new(instance: Arc<Instance>, gate: Gate, style: Style, metrics: PluginMetrics) -> Self {
        Self { instance, gate, style, metrics, failures: Sparse::new() }
    }

    /// The instance that runs here.
    pub fn instance(&self) -> &Arc<Instance> {
        &self.instance
    }

    /// The gate at which it runs.
    pub fn gate(&self) -> Gate {
        self.gate
    }

    /// How it runs relative to its siblings.
    pub fn style(&self) -> Style {
        self.style
    }

    pub(super) fn observes(&self) -> bool {
        self.instance.mode == Mode::Observe
    }

    /// Whether it may see the body of answers.
    pub(super) fn reads_answers(&self) -> bool {
        self.instance.needs.contains(Need::ReadResponse)
    }

    /// Whether its changes may have to be taken back.
    pub(super) fn revertible(&self) -> bool {
        self.observes() || self.instance.on_error == OnError::Allow
    }

    /// Whether the step runs for this request, and which entry of its scope admits the request.
    pub(super) fn admit(&self, facts: &Facts, draft: &Draft) -> Result<Option<String>, Decision> {
        let scope = self.instance.admits(facts, draft).map_err(|_| Decision::SkippedScope)?;
        if self.instance.rolled_out(facts) { Ok(scope) } else { Err(Decision::SkippedRollout) }
    }

    /// Runs a parallel step.
    pub(super) async fn judge_beside(&self, facts: &Facts, headers: &HeaderMap, draft: &Draft) -> (Execution, Verdict) {
        let started = Instant::now();
        let mut execution = self.entry(facts, started);
        let verdict = self.judge(facts, headers, Access::Shared(draft), started, &mut execution).await;
        (execution, verdict)
    }

    /// Runs the step at one of the three gates on the request's path, and completes `execution` (see [`Self::entry`]).
    pub(super) async fn judge(
        &self,
        facts: &Facts,
        headers: &HeaderMap,
        access: Access<'_>,
        started: Instant,
        execution: &mut Execution,
    ) -> Verdict {
        match self.admit(facts, access.draft()) {
            Ok(scope) => execution.scope = scope,
            Err(skipped) => {
                self.count(execution, skipped);
                return Verdict::Next;
            }
        }
        let Instance { plugin, timeout, needs, .. } = &*self.instance;
        let view = View::new(facts, headers, access, *needs);
        // The view is created outside the guarded future, so that it survives if the future is dropped half way.
        let (result, view) = match self.gate {
            Gate::PreRoute => {
                let mut cx = PreRoute(view);
                (guarded(started, *timeout, async { plugin.pre_route(&mut cx).await }).await, cx.0)
            }
            Gate::PreUpstream => {
                let mut cx = PreUpstream(view);
                (guarded(started, *timeout, async { plugin.pre_upstream(&mut cx).await }).await, cx.0)
            }
            Gate::PostUpstream => {
                let mut cx = PostUpstream(view);
                (guarded(started, *timeout, async { plugin.post_upstream(&mut cx).await }).await, cx.0)
            }
            Gate::PostResponse => (Ok(Verdict::Next), view),
        };
        let result = match result {
            Ok(Verdict::Abort(_)) if !needs.contains(Need::Block) => Err(Failure::Error(PluginError::NotGranted(Need::Block.as_str()))),
            other => other,
        };
        let trail = view.close(self.observes() || result.is_err());
        let changed = (trail.changed_request, trail.changed_response);
        execution.keep(trail);
        let (decision, verdict) = self.settle(result, changed, execution);
        execution.took = started.elapsed();
        self.count(execution, decision);
        verdict
    }

    /// Runs the step at `post_response`.
    pub(super) async fn follow_up(&self, finished: &Finished) -> Execution {
        let started = Instant::now();
        let mut execution = self.entry(&finished.facts, started);
        let draft = Draft { model: finished.model.clone(), ..Draft::default() };
        match self.admit(&finished.facts, &draft) {
            Ok(scope) => execution.scope = scope,
            Err(skipped) => {
                self.count(&mut execution, skipped);
                return execution;
            }
        }
        let cx = PostResponse::new(finished);
        let plugin = &self.instance.plugin;
        let result = guarded(started, self.instance.timeout, async { plugin.post_response(&cx).await }).await;
        execution.keep(cx.close());
        let decision = match result {
            Ok(()) => Decision::Allowed,
            Err(failure) => self.failed(&failure, &mut execution),
        };
        execution.took = started.elapsed();
        self.count(&mut execution, decision);
        execution
    }

    /// What a result means: the decision for evidence, and whether the request goes on.
    fn settle(
        &self,
        result: Result<Verdict, Failure>,
        (request, response): (bool, bool),
        execution: &mut Execution,
    ) -> (Decision, Verdict) {
        let observes = self.observes();
        match result {
            Ok(Verdict::Next) if !(request || response) => (Decision::Allowed, Verdict::Next),
            Ok(Verdict::Next) if observes => (Decision::WouldChange, Verdict::Next),
            Ok(Verdict::Next) => {
                (execution.changed_request, execution.changed_response) = (request, response);
                (Decision::Changed, Verdict::Next)
            }
            Ok(Verdict::Abort(denial)) => {
                execution.code = Some(denial.code.clone());
                if observes { (Decision::WouldBlock, Verdict::Next) } else { (Decision::Blocked, Verdict::Abort(denial)) }
            }
            Err(failure) => {
                let decision = self.failed(&failure, execution);
                (decision, self.verdict_of_failure(execution))
            }
        }
    }

    /// Logs and records a failure.
    pub(super) fn failed(&self, failure: &Failure, execution: &mut Execution) -> Decision {
        let text = failure.text();
        if let Some(more) = self.failures.due() {
            log::warn!(
                target: "plugin",
                plugin = &*self.instance.name, gate = self.gate.as_str(), decision = failure.decision().as_str(),
                error = text.as_str(), more;
                "a plugin failed"
            );
        }
        execution.error = Some(text);
        failure.decision()
    }

    /// The verdict after a failure, by `on_error`; an observing step never refuses.
    pub(super) fn verdict_of_failure(&self, execution: &mut Execution) -> Verdict {
        if self.revertible() {
            return Verdict::Next;
        }
        execution.code = Some(Cow::Borrowed(codes::PLUGIN_UNAVAILABLE.code));
        Verdict::Abort(Box::new(Denial::of(codes::PLUGIN_UNAVAILABLE)))
    }

    /// A new execution, of which only the step and the start are known.
    pub(super) fn entry(&self, facts: &Facts, started: Instant) -> Execution {
        Execution {
            plugin: Arc::clone(&self.instance.name),
            kind: self.instance.manifest.kind,
            gate: self.gate,
            style: self.style,
            mode: self.instance.mode,
            decision: Decision::Error,
            changed_request: false,
            changed_response: false,
            code: None,
            scope: None,
            error: None,
            external: None,
            notes: Vec::new(),
            started: started.saturating_duration_since(facts.received),
            took: Duration::ZERO,
            response_path: self.gate != Gate::PostResponse,
        }
    }

    /// Sets the decision and counts it; at `post_upstream` counting is left to [`super::close()`], as a second part may follow.
    pub(super) fn count(&self, execution: &mut Execution, decision: Decision) {
        execution.decision = decision;
        if self.gate != Gate::PostUpstream {
            self.observe(execution);
        }
    }

    /// Counts an execution.
    pub(super) fn observe(&self, execution: &Execution) {
        self.metrics.observe(execution.decision.as_str(), execution.took);
    }
}

impl Execution {
    fn keep(&mut self, trail: Trail) {
        self.notes = trail.notes;
        self.external = trail.external;
    }
}

/// Runs plugin code until it completes, panics, or `limit` has passed since `started`. Code that completes at its first poll,
/// as most steps do, costs no timer.
pub(super) async fn guarded<T>(
    started: Instant,
    limit: Duration,
    work: impl Future<Output = Result<T, PluginError>>,
) -> Result<T, Failure> {
    let mut work = pin!(AssertUnwindSafe(work).catch_unwind());
    let done = match futures::poll!(work.as_mut()) {
        Poll::Ready(done) => done,
        Poll::Pending => match started.checked_add(limit) {
            Some(deadline) => tokio::time::timeout_at(deadline.into(), work).await.map_err(|_| Failure::Timeout)?,
            None => work.await,
        },
    };
    // The panic's payload may quote the traffic: it is dropped unread.
    done.map_err(|_| Failure::Panicked)?.map_err(Failure::Error)
}
