//! Metrics of limits, budgets and usage.

use prometheus::{IntCounter, IntGauge, Registry};

use super::families::{Counters, Gauges};
use super::{MetricsError, names};

/// Values of `ratelimit_stage`, in the product's order.
const STAGES: [&str; 4] = ["pre_auth", "early", "final", "post_flight"];
/// Values of `ratelimit_module`.
const MODULES: [&str; 8] = ["ip", "payload", "max_tokens", "concurrency", "burst", "rps", "rpm", "tpm"];
/// Values of `decision` of a limit.
const DECISIONS: [&str; 3] = ["allow", "reject", "shadow"];
/// Values of `decision` of budgets and quotas together.
const BUDGET_DECISIONS: [&str; 6] = ["reserved", "settled", "released", "budget_exceeded", "quota_exceeded", "error"];

/// Counts the decisions of policies, budgets and quotas, and the usage records on their way to the store. Every series
/// exists from the start.
#[derive(Debug, Clone)]
pub struct GovernanceMetrics {
    limits: Vec<IntCounter>,
    rejections: Vec<IntCounter>,
    budgets: [IntCounter; 6],
    /// Budget thresholds that were crossed.
    pub thresholds: IntCounter,
    /// Decisions for which the state store gave no answer.
    pub store_errors: IntCounter,
    /// Usage records handed to the spool.
    pub published: IntCounter,
    /// Usage records that could not be written to the spool, and are lost.
    pub enqueue_errors: IntCounter,
    /// Batches that the record store did not accept.
    pub flush_errors: IntCounter,
    /// Usage records stored in the record store.
    pub flushed: IntCounter,
    /// Usage records of requests whose process died, written during recovery.
    pub recovered: IntCounter,
    /// Usage records waiting in the spool.
    pub waiting: IntGauge,
}

impl GovernanceMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, MetricsError> {
        let decisions = Counters::<3>::new(registry, names::RATELIMIT_DECISIONS)?;
        let rejections = Counters::<2>::new(registry, names::RATELIMIT_REJECTIONS)?;
        let budgets = Counters::<1>::new(registry, names::BUDGET_DECISIONS)?;
        let cells = STAGES.iter().flat_map(|stage| MODULES.iter().map(move |module| (*stage, *module)));
        let counter = |family| Counters::<0>::new(registry, family).map(|counter| counter.with([]));
        Ok(Self {
            limits: cells.clone().flat_map(|(stage, module)| DECISIONS.map(|decision| decisions.with([stage, module, decision]))).collect(),
            rejections: cells.map(|(stage, module)| rejections.with([stage, module])).collect(),
            budgets: BUDGET_DECISIONS.map(|decision| budgets.with([decision])),
            thresholds: counter(names::BUDGET_THRESHOLDS)?,
            store_errors: counter(names::STATE_ERRORS)?,
            published: counter(names::USAGE_PUBLISH)?,
            enqueue_errors: counter(names::USAGE_ENQUEUE_ERRORS)?,
            flush_errors: counter(names::USAGE_FLUSH_ERRORS)?,
            flushed: counter(names::USAGE_FLUSHED)?,
            recovered: counter(names::USAGE_RECOVERED)?,
            waiting: Gauges::<0>::new(registry, names::USAGE_QUEUE_DEPTH)?.with([]),
        })
    }

    /// Counts one decision of a policy. The arguments are positions in [`Self::words`]; positions outside the table, which
    /// would be a defect, are ignored.
    pub fn limit(&self, stage: usize, module: usize, decision: usize) {
        let cell = stage * MODULES.len() + module;
        if let Some(counter) = self.limits.get(cell * DECISIONS.len() + decision) {
            counter.inc();
        }
        if decision == 1
            && let Some(counter) = self.rejections.get(cell)
        {
            counter.inc();
        }
    }

    /// Counts `count` decisions `allow`; positions as for [`Self::limit`].
    pub fn allowed(&self, stage: usize, module: usize, count: u64) {
        if let Some(counter) = self.limits.get((stage * MODULES.len() + module) * DECISIONS.len()) {
            counter.inc_by(count);
        }
    }

    /// The values of the labels `ratelimit_stage`, `ratelimit_module` and `decision`, by position.
    pub fn words() -> (&'static [&'static str], &'static [&'static str], &'static [&'static str]) {
        (&STAGES, &MODULES, &DECISIONS)
    }

    /// Counts one decision of budgets and quotas.
    pub fn budget(&self, decision: &str) {
        if let Some(at) = BUDGET_DECISIONS.iter().position(|known| *known == decision) {
            self.budgets[at].inc();
        }
    }
}
