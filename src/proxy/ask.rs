//! Asks the store about the limits, budgets and quotas of a request, in as few round trips as possible.
//!
//! The counters of the head (gateway, organisation, team, key) are deferred until the body is known, and then decided together
//! with those of the body and the reservation, in one question: a shared store is a round trip away, and a request that one
//! counter refuses takes nothing from the others. They are not deferred when the body is long or of unknown length, when a
//! plugin at `pre_route` calls other hosts, or, for the gateway-wide policy, in a cluster that keeps its counters on another
//! node. A rate limit that the store reported as full refuses for up to a second without asking again and without reading the
//! body.
//!
//! The in-process store is first asked to grant everything in one call ([`Governor::granted`]). Only where it does not is the
//! full question built, which also says why.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::govern::{Governed, Governor, Turn};
use super::holding::{pay, release};
use crate::budget::{self, Account, Reservation};
use crate::config::{GovernanceSettings, Snapshot};
use crate::error::{Denial, codes};
use crate::gate::{RequestId, Shadowed};
use crate::identity::Caller;
use crate::limit::{Ask, Course, Decision, Field, Outcome, Panel, ScopePlan, Stage};
use crate::store::{Decided, LeaseId, Question, Ruling, Stands, StateError, Whole};
use crate::telemetry::Sparse;

/// Wait before the single retry when a slot or budget was full: it may be released in a moment.
const GIVING_BACK: Duration = Duration::from_millis(10);

/// The counters of the head are deferred only for bodies up to this length (bytes): reading a longer body before its limits
/// are asked would cost too much.
const SHORT: u64 = 256 << 10;

/// Throttles the log line about a store that does not answer, which may concern thousands of requests a second.
static UNANSWERED: Sparse = Sparse::new();

/// The stages whose counters were deferred.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Due {
    pre_auth: bool,
    early: bool,
}

impl Due {
    /// Whether every counter of the head is deferred, so that none has been taken yet.
    pub fn is_all(self, snapshot: &Snapshot, caller: &Caller) -> bool {
        (self.pre_auth || snapshot.policy.is_none()) && (self.early || caller.terms.scopes.is_empty())
    }

    /// How many counters are deferred.
    pub fn count(self, snapshot: &Snapshot, caller: Option<&Caller>) -> usize {
        let global = snapshot.policy.iter().filter(|_| self.pre_auth);
        let early = caller.filter(|_| self.early).map_or(&[][..], |caller| &caller.terms.scopes);
        global.chain(early).map(|plan| plan.requests().len()).sum()
    }

    /// Adds the deferred counters to a panel.
    pub fn of<'a>(self, snapshot: &'a Snapshot, caller: Option<&'a Caller>, now: i64, panel: &mut Panel<'a>) {
        if self.pre_auth
            && let Some(plan) = &snapshot.policy
        {
            panel.requests(Stage::PreAuth, plan, now);
        }
        if self.early
            && let Some(caller) = caller
        {
            caller.terms.scopes.iter().for_each(|plan| panel.requests(Stage::Early, plan, now));
        }
    }
}

impl Governor {
    /// Whether the counters of the head may be deferred to those of the body, as far as the declared length tells: a short body
    /// is cheap to read even if the request is refused then.
    pub fn may_wait(&self, length: Option<u64>) -> bool {
        length.is_some_and(|length| (1..=SHORT).contains(&length))
    }

    /// Asks the gateway-wide policy, which knows nothing of the caller but its address.
    ///
    /// # Errors
    /// The policy refuses, or its store does not answer.
    pub async fn pre_auth(&self, turn: Turn<'_>, address: Option<IpAddr>, length: Option<u64>) -> Result<(), Denial> {
        let Some(plan) = &turn.snapshot.policy else { return Ok(()) };
        // In a cluster these counters lie on another node and cannot be deferred to those of the organisation. In this process they
        // can be, to those of the key.
        let later = if self.state.is_remote() { turn.later && self.state.spans_tags() } else { turn.keyed };
        let ask = Ask { address: Some(address), body: length, ..asking(turn.id, 0) };
        let plans = std::slice::from_ref(plan);
        let governed = turn.governed.get_or_insert_default();
        self.head(Stage::PreAuth, plans, &ask, governed)?;
        if later {
            governed.due.pre_auth = true;
            return Ok(());
        }
        self.head_asked(Stage::PreAuth, plans, turn.id, governed, turn.snapshot).await
    }

    /// Checks the length of a body whose head did not declare it, on a route without keys, where no later question follows.
    ///
    /// # Errors
    /// The gateway's own policy refuses.
    pub fn weighed(&self, snapshot: &Snapshot, id: RequestId, length: u64) -> Result<(), Denial> {
        let Some(plan) = &snapshot.policy else { return Ok(()) };
        let ask = Ask { body: Some(length), ..asking(id, 0) };
        self.admitted(Stage::PreAuth, &ask, std::iter::empty(), std::iter::once(plan.as_ref()), &mut Vec::new())
    }

    /// Asks the policies of organisation, team and key, before the body is read. `length` is what the head declares.
    ///
    /// # Errors
    /// A policy refuses, or its store does not answer.
    pub async fn early(&self, turn: Turn<'_>, caller: &Caller, address: Option<IpAddr>, length: Option<u64>) -> Result<(), Denial> {
        let due = turn.governed.as_ref().is_some_and(|governed| governed.due.pre_auth);
        let plans = &caller.terms.scopes;
        if plans.is_empty() && (turn.later || !due) {
            return Ok(());
        }
        let ask = Ask { address: Some(address), body: length, ..asking(turn.id, 0) };
        let governed = turn.governed.get_or_insert_default();
        self.head(Stage::Early, plans, &ask, governed)?;
        if turn.later {
            governed.due.early = true;
            return Ok(());
        }
        self.head_asked(Stage::Early, plans, turn.id, governed, turn.snapshot).await?;
        self.wait(governed, turn.id, &turn.snapshot.governance);
        Ok(())
    }

    /// Checks everything about the head that needs no counter, and the rates that are remembered as full.
    fn head(&self, stage: Stage, plans: &[Arc<ScopePlan>], ask: &Ask, governed: &mut Governed) -> Result<(), Denial> {
        let scopes = || plans.iter().map(Arc::as_ref);
        self.admitted(stage, ask, scopes(), scopes(), &mut governed.shadowed)?;
        match scopes().find_map(|plan| plan.still_full(Instant::now)) {
            None => Ok(()),
            Some((field, denial, standing)) => {
                self.metrics.limit(stage as usize, field as usize, Outcome::Reject as usize);
                governed.own().map_err(|error| self.unasked(&error))?.1.stands(standing);
                Err(*denial)
            }
        }
    }

    /// Asks the counters of a stage, together with those that were deferred.
    async fn head_asked(
        &self,
        stage: Stage,
        plans: &[Arc<ScopePlan>],
        id: RequestId,
        governed: &mut Governed,
        snapshot: &Snapshot,
    ) -> Result<(), Denial> {
        let ask = ask(id);
        let counters = plans.iter().map(|plan| plan.requests().len()).sum::<usize>();
        let due = std::mem::take(&mut governed.due);
        let mut panel = Panel::of(counters + due.count(snapshot, None));
        due.of(snapshot, None, ask.now, &mut panel);
        plans.iter().for_each(|plan| panel.requests(stage, plan, ask.now));
        self.decide(&panel, None, &ask, governed, &snapshot.governance).await
    }

    /// Asks the deferred counters of a request that is refused, or ends, before the question they were deferred to. The request
    /// counts all the same, and a limit that refuses it takes the place of its other refusal.
    ///
    /// # Errors
    /// A policy refuses, or its store does not answer.
    pub async fn overdue(&self, turn: Turn<'_>, caller: Option<&Caller>) -> Result<(), Denial> {
        let Some(governed) = turn.governed else { return Ok(()) };
        let due = std::mem::take(&mut governed.due);
        if !due.pre_auth && !due.early {
            return Ok(());
        }
        let (ask, mut panel) = (ask(turn.id), Panel::default());
        due.of(turn.snapshot, caller, ask.now, &mut panel);
        self.decide(&panel, None, &ask, governed, &turn.snapshot.governance).await
    }

    /// Checks addresses and sizes, which need no counter.
    pub(super) fn admitted<'a>(
        &self,
        stage: Stage,
        ask: &Ask,
        networks: impl Iterator<Item = &'a ScopePlan> + Clone,
        sizes: impl Iterator<Item = &'a ScopePlan> + Clone,
        shadowed: &mut Vec<Shadowed>,
    ) -> Result<(), Denial> {
        // Most policies have counters alone: nothing to check.
        if networks.clone().chain(sizes.clone()).all(ScopePlan::counts_only) {
            let asked = networks.filter(|_| ask.address.is_some()).count() as u64;
            self.metrics.allowed(stage as usize, Field::Network as usize, asked);
            return Ok(());
        }
        ask.admitted(stage, networks, sizes, |decision| self.count(decision, shadowed)).map_err(|denial| *denial)
    }

    /// Counts a decision, and keeps the refusal that a policy in shadow mode would have made for the evidence.
    fn count(&self, decision: Decision, shadowed: &mut Vec<Shadowed>) {
        self.metrics.limit(decision.stage as usize, decision.field as usize, decision.outcome as usize);
        if decision.outcome == Outcome::Shadow {
            shadowed.push(Shadowed { scope: decision.scope.as_str(), limit: decision.field.module() });
        }
    }

    /// Takes everything in one call if there is room everywhere, else nothing. Says whether it did.
    pub(super) fn granted(
        &self,
        course: Arc<Course>,
        tokens: u64,
        accounts: &[Arc<Account>],
        ask: &Ask,
        governed: &mut Governed,
        settings: &GovernanceSettings,
    ) -> bool {
        let Some(meters) = course.meters() else { return false };
        if self.is_unpriced(accounts, governed, settings) {
            return false;
        }
        let Some(reservation) = Reservation::of_open(accounts, ask.lease, ask.now, &governed.worst) else { return false };
        let mut stands = Stands::default();
        let granted = reservation.with_holds(|holds| {
            let whole = Whole { meters, tokens, holds, expires_in: settings.reservation_ttl };
            self.state.grant(ask.lease, &whole, &mut stands)
        });
        let Some(at) = granted else { return false };
        let Ok((held, standings)) = governed.own() else { return false };
        for (decision, count) in course.allowed() {
            self.metrics.allowed(decision.stage as usize, decision.field as usize, *count);
        }
        *standings = course.standings(&stands);
        held.receipt.granted(ask.lease, course, tokens, at);
        if !reservation.is_empty() {
            self.metrics.budget("reserved");
            held.reservation = Some(reservation);
        }
        true
    }

    /// Whether the request must be refused because a budget counts money and its cost is unknown.
    fn is_unpriced(&self, accounts: &[Arc<Account>], governed: &Governed, settings: &GovernanceSettings) -> bool {
        settings.refuse_unpriced
            && governed.pricing.is_none()
            && governed.tool_cost(0, 0).is_none()
            && accounts.iter().any(|account| account.metric == budget::Metric::Cost)
    }

    /// Asks the counters of the panel together with a reservation in these accounts.
    pub(super) async fn with_accounts(
        &self,
        panel: &Panel<'_>,
        accounts: &[Arc<Account>],
        ask: &Ask,
        governed: &mut Governed,
        settings: &GovernanceSettings,
    ) -> Result<(), Denial> {
        if self.is_unpriced(accounts, governed, settings) {
            self.decide(panel, None, ask, governed, settings).await?;
            self.metrics.budget("budget_exceeded");
            return Err(Denial::of(codes::BUDGET_EXCEEDED).with_message("the model has no price, and a budget counts money"));
        }
        if accounts.is_empty() {
            return self.decide(panel, None, ask, governed, settings).await;
        }
        match Reservation::open(self.state.as_ref(), &self.books, accounts, ask.lease, ask.now, &governed.worst).await {
            Ok(reservation) => {
                let reservation = Some(reservation).filter(|reservation| !reservation.is_empty());
                self.decide(panel, reservation, ask, governed, settings).await
            }
            Err(error) => {
                self.metrics.budget("error");
                self.unanswered(&error, governed, settings)?;
                self.decide(panel, None, ask, governed, settings).await
            }
        }
    }

    /// Asks one question and applies its answer: what was granted goes into the receipt, a refusal becomes the denial.
    pub(super) async fn decide(
        &self,
        panel: &Panel<'_>,
        reservation: Option<Reservation>,
        ask: &Ask,
        governed: &mut Governed,
        settings: &GovernanceSettings,
    ) -> Result<(), Denial> {
        if panel.is_empty() && reservation.is_none() {
            return Ok(());
        }
        // A refusal is remembered from when it was asked for, not from when it was answered.
        let asked = Instant::now();
        let decided = match self.asked(panel, reservation.as_ref(), ask, settings).await {
            Ok(decided) => decided,
            Err(error) => {
                // The store may have applied the question although its answer was lost; slots taken then are in no receipt.
                let slots = if matches!(error, StateError::Timeout(_)) { panel.slots() } else { Vec::new() };
                if !slots.is_empty() {
                    let (state, lease) = (Arc::clone(&self.state), ask.lease);
                    tokio::spawn(async move { release(&slots, lease, state.as_ref()).await });
                }
                if let Some(unsure) = reservation {
                    self.metrics.budget("error");
                    if goes_on(&error, settings.allow_on_store_error) {
                        // The request goes on. Whether the store made the reservation shows when it is settled.
                        governed.own().map_err(|error| self.unasked(&error))?.0.reservation = Some(unsure);
                    } else {
                        let (state, metrics) = (Arc::clone(&self.state), self.metrics.clone());
                        tokio::spawn(async move { pay(&unsure, state.as_ref(), None, &metrics).await });
                    }
                }
                return self.unanswered(&error, governed, settings);
            }
        };
        let mut shadowed = std::mem::take(&mut governed.shadowed);
        let (held, standings) = governed.own().map_err(|error| self.unasked(&error))?;
        let refused = panel.read(ask.lease, &decided, (&mut held.receipt, standings), |decision| self.count(decision, &mut shadowed));
        governed.shadowed = shadowed;
        if let Some(denial) = refused {
            panel.remember(&decided, asked);
            return Err(*denial);
        }
        match (decided.ruling, reservation) {
            (Ruling::Granted, None) => Ok(()),
            (Ruling::Granted, Some(reservation)) => {
                self.metrics.budget("reserved");
                governed.own().map_err(|error| self.unasked(&error))?.0.reservation = Some(reservation);
                Ok(())
            }
            (Ruling::Exceeded(at), Some(reservation)) => {
                let denial = reservation.exceeded(at, &decided.holds, ask.now);
                self.metrics.budget(if denial.code == codes::BUDGET_EXCEEDED.code { "budget_exceeded" } else { "quota_exceeded" });
                Err(denial)
            }
            (Ruling::Exceeded(_) | Ruling::Limited(_) | Ruling::Unseeded, _) => {
                self.unanswered(&StateError::Invalid("a decision was made about something else than was asked"), governed, settings)
            }
        }
    }

    /// Puts one question to the store. A caller receives its answer a moment before its slots and reservation are released, and
    /// may send its next request in that moment: a question that finds them full is therefore asked once more. A store that has
    /// lost the used amounts (`Unseeded`) is given them again.
    async fn asked(
        &self,
        panel: &Panel<'_>,
        reservation: Option<&Reservation>,
        ask: &Ask,
        settings: &GovernanceSettings,
    ) -> Result<Decided, StateError> {
        let holds = reservation.map_or_else(Vec::new, Reservation::holds);
        let question = Question { limits: panel.takes(), holds: &holds, expires_in: settings.reservation_ttl };
        let (mut waited, mut told) = (false, false);
        loop {
            let decided = self.state.decide(ask.lease, &question).await?;
            let passing = match decided.ruling {
                Ruling::Granted => false,
                Ruling::Limited(at) => panel.is_place(at),
                Ruling::Exceeded(_) => true,
                Ruling::Unseeded if told => return Err(StateError::Unavailable("it forgets what it is told".into())),
                Ruling::Unseeded => {
                    told = true;
                    if let Some(reservation) = reservation {
                        reservation.tell(self.state.as_ref(), &self.books).await?;
                    }
                    continue;
                }
            };
            if !passing || std::mem::replace(&mut waited, true) {
                return Ok(decided);
            }
            tokio::time::sleep(GIVING_BACK).await;
        }
    }

    /// The denial for a question that is a defect of this gateway: what could not be counted is not let through.
    pub(super) fn unasked(&self, error: &StateError) -> Denial {
        self.metrics.store_errors.inc();
        log::error!(target: "governance", "{error}");
        Denial::of(codes::STORE_UNAVAILABLE)
    }

    /// What becomes of a request when its store does not answer: let through or refused, as the configuration says.
    fn unanswered(&self, error: &StateError, governed: &mut Governed, settings: &GovernanceSettings) -> Result<(), Denial> {
        self.metrics.store_errors.inc();
        let goes_on = goes_on(error, settings.allow_on_store_error);
        if let Some(more) = UNANSWERED.due() {
            let then = if goes_on { "let through" } else { "refused" };
            log::warn!(target: "governance", kind = error.kind(), more; "a limit or budget could not be asked, the request is {then}: {error}");
        }
        if goes_on {
            governed.unenforced.limits = true;
            Ok(())
        } else {
            Err(Denial::of(codes::STORE_UNAVAILABLE).with_retry_after(Duration::from_secs(1)))
        }
    }
}

/// Whether a request goes on whose question failed. `Invalid` is a defect, not an outage, and never lets a request through.
fn goes_on(error: &StateError, allow: bool) -> bool {
    allow && !matches!(error, StateError::Invalid(_))
}

/// The question of a request, which begins now.
pub(super) fn ask(id: RequestId) -> Ask {
    asking(id, SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX)))
}

fn asking(id: RequestId, now: i64) -> Ask {
    let lease = LeaseId(u128::from_be_bytes(id.0));
    Ask { lease, now, address: None, body: None, max_tokens: None, tokens: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_defect_is_no_outage() {
        let outage = StateError::Unavailable("gone".into());
        assert!(goes_on(&outage, true) && !goes_on(&outage, false));
        assert!(goes_on(&StateError::Timeout(Duration::from_secs(1)), true));
        assert!(!goes_on(&StateError::Invalid("a count"), true));
    }
}
