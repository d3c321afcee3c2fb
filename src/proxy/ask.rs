//! What a request is asked of limits, budgets and quotas, in as few questions as can be.
//!
//! The limits of the head wait for those of the body, and all of them are one question together with the reservation: a
//! shared store is a round trip away, and who is refused by the last of them has taken nothing of the first. They do not wait
//! where the body is long or of a length that nobody told, where a plugin at `pre_route` calls other hosts, and for the
//! gateway's own policy in a cluster, whose counters lie on another node. A rate that the store said to be full is believed for
//! up to a second, and refused without asking and without the body.
//!
//! State in this process mostly has room everywhere and says so at once. Only where it does not it is asked why.

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

/// How long a request that found no place or no room waits before it is refused.
const GIVING_BACK: Duration = Duration::from_millis(10);

/// Bodies up to this length are read before the limits that come before them are asked: these are then decided with all
/// others, as one.
const SHORT: u64 = 256 << 10;

/// Requests that a store did not answer about: there may be thousands a second, and one line tells what is to be known.
static UNANSWERED: Sparse = Sparse::new();

/// What was not asked yet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Due {
    pre_auth: bool,
    early: bool,
}

impl Due {
    /// Whether nothing was asked yet.
    pub fn is_all(self, snapshot: &Snapshot, caller: &Caller) -> bool {
        (self.pre_auth || snapshot.policy.is_none()) && (self.early || caller.terms.scopes.is_empty())
    }

    /// How many counters there are.
    pub fn count(self, snapshot: &Snapshot, caller: Option<&Caller>) -> usize {
        let global = snapshot.policy.iter().filter(|_| self.pre_auth);
        let early = caller.filter(|_| self.early).map_or(&[][..], |caller| &caller.terms.scopes);
        global.chain(early).map(|plan| plan.requests().len()).sum()
    }

    /// Its counters.
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
    /// Whether the limits of the head may be asked together with those of the body, as far as the head tells: they are one
    /// question then, and a body that is worth protecting is not read for nothing.
    pub fn may_wait(&self, length: Option<u64>) -> bool {
        length.is_some_and(|length| (1..=SHORT).contains(&length))
    }

    /// The gateway's own policy, before anything is known of the caller but its address.
    ///
    /// # Errors
    /// The policy refuses, or cannot be asked.
    pub async fn pre_auth(&self, turn: Turn<'_>, address: Option<IpAddr>, length: Option<u64>) -> Result<(), Denial> {
        let Some(plan) = &turn.snapshot.policy else { return Ok(()) };
        // In a cluster these counters lie elsewhere: they cannot be asked with others. In this process they are asked with
        // those of the key, as soon as it is known.
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

    /// The length of a body that the head did not tell, for who is asked nothing later: nobody's key is known.
    ///
    /// # Errors
    /// The gateway's own policy refuses.
    pub fn weighed(&self, snapshot: &Snapshot, id: RequestId, length: u64) -> Result<(), Denial> {
        let Some(plan) = &snapshot.policy else { return Ok(()) };
        let ask = Ask { body: Some(length), ..asking(id, 0) };
        self.admitted(Stage::PreAuth, &ask, std::iter::empty(), std::iter::once(plan.as_ref()), &mut Vec::new())
    }

    /// Organisation, team and key, before the body is read. `length` is what the head says of the body.
    ///
    /// # Errors
    /// A policy refuses, or cannot be asked.
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

    /// What the head of a request is asked at one stage without a counter.
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

    /// Its counters, and those that wait for them.
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

    /// A request is refused, or ends here, before the limits of its head were asked: it is counted
    /// nevertheless, and a limit that refuses it is what its caller is told.
    ///
    /// # Errors
    /// A policy refuses, or cannot be asked.
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

    /// What needs no counter.
    pub(super) fn admitted<'a>(
        &self,
        stage: Stage,
        ask: &Ask,
        networks: impl Iterator<Item = &'a ScopePlan> + Clone,
        sizes: impl Iterator<Item = &'a ScopePlan> + Clone,
        shadowed: &mut Vec<Shadowed>,
    ) -> Result<(), Denial> {
        // Most policies only count.
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

    /// Takes everything at once, if there is room everywhere.
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

    /// Whether budgets count money, and nobody knows what the request may cost.
    fn is_unpriced(&self, accounts: &[Arc<Account>], governed: &Governed, settings: &GovernanceSettings) -> bool {
        settings.refuse_unpriced
            && governed.pricing.is_none()
            && governed.tool_cost(0, 0).is_none()
            && accounts.iter().any(|account| account.metric == budget::Metric::Cost)
    }

    /// Limits, and what is reserved of budgets and quotas.
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

    /// One question, asked again where what was in the way is given back in a moment.
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
        // What is remembered of a refusal counts from when it was asked.
        let asked = Instant::now();
        let decided = match self.asked(panel, reservation.as_ref(), ask, settings).await {
            Ok(decided) => decided,
            Err(error) => {
                // The store may have heard the question without being heard: slots that it took then are in no receipt.
                let slots = if matches!(error, StateError::Timeout(_)) { panel.slots() } else { Vec::new() };
                if !slots.is_empty() {
                    let (state, lease) = (Arc::clone(&self.state), ask.lease);
                    tokio::spawn(async move { release(&slots, lease, state.as_ref()).await });
                }
                if let Some(unsure) = reservation {
                    self.metrics.budget("error");
                    if goes_on(&error, settings.allow_on_store_error) {
                        // The request goes on: whether it is held shows when it is settled.
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

    /// The answer to a question. A caller has its answer a moment before what it had is given back, and may ask again in that
    /// moment: who found no place or no room asks once more. A store that has forgotten what was used is told.
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

    /// A defect: nothing is let through that could not be counted.
    pub(super) fn unasked(&self, error: &StateError) -> Denial {
        self.metrics.store_errors.inc();
        log::error!(target: "governance", "{error}");
        Denial::of(codes::STORE_UNAVAILABLE)
    }

    /// What a store that does not answer means for the request.
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

/// Whether a request goes on that could not be asked about. A question that no store could answer is a defect and no outage:
/// it lets nobody through.
fn goes_on(error: &StateError, allow: bool) -> bool {
    allow && !matches!(error, StateError::Invalid(_))
}

/// What a request tells of itself from its beginning.
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
