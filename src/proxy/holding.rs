//! What requests hold while they are under way: renewed until they are over, then paid or released.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};

use crate::budget::{Actual, BudgetNotice, Reservation};
use crate::limit::{Part, Receipt};
use crate::store::{Charge, End, LeaseId, Settled, StateError, StateKey, StateStore};
use crate::telemetry::{GovernanceMetrics, Sparse};

/// What one request holds.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// The slots and counts that policies granted.
    pub receipt: Receipt,
    pub reservation: Option<Reservation>,
    /// The lifetime of the reservation.
    pub ttl: Duration,
    /// The interval of renewals, at most [`RENEWAL`].
    pub every: Duration,
    done: AtomicBool,
}

/// The parts in which a store is told of a request's end. A cluster keeps the gateway-wide counters and those of an
/// organisation on different nodes, so each is told by itself.
fn parts(state: &dyn StateStore) -> &'static [Part] {
    if state.spans_tags() { &[Part::All] } else { &[Part::Organisation, Part::Global] }
}

impl Held {
    /// Only what policies granted, without a reservation.
    pub fn of(receipt: Receipt, ttl: Duration, every: Duration) -> Self {
        Self { receipt, ttl, every, ..Self::default() }
    }

    /// Whether there is nothing to release.
    pub fn is_empty(&self) -> bool {
        self.receipt.is_empty() && self.reservation.is_none()
    }

    /// Ends a request whose grant was made in one call, in one call as well. `false` means that this was not possible and
    /// nothing was done: use [`Self::give_back`].
    pub fn close(&self, state: &dyn StateStore, tokens: u64, actual: Option<&Actual>, metrics: &GovernanceMetrics) -> bool {
        let (Some(lent), Some(lease)) = (self.receipt.lent(tokens), self.receipt.lease()) else { return false };
        let close =
            |charges: &[Charge<'_>], released: &[&StateKey]| state.close(lease, &lent, &End { charges, released, ..End::default() });
        let Some(reservation) = &self.reservation else { return close(&[], &[]).is_some() };
        match reservation.with_end(actual, close) {
            Some(settled) => paid(reservation, &settled, actual, metrics),
            None => return false,
        }
        true
    }

    /// Gives back what was counted for this request; `tokens` is what it really took, and without `actual` it never left. Says
    /// whether the store heard all of it.
    pub async fn give_back(&self, state: &dyn StateStore, tokens: u64, actual: Option<&Actual>, metrics: &GovernanceMetrics) -> bool {
        let mut failed = false;
        for part in parts(state) {
            let reservation = self.reservation.as_ref().filter(|_| *part != Part::Global);
            let (slots, corrections) = (self.receipt.slots(*part), self.receipt.corrections(*part, Some(tokens)));
            let (charges, released) = match (reservation, actual) {
                (Some(reservation), Some(actual)) => (reservation.charges(actual), Vec::new()),
                (Some(reservation), None) => (Vec::new(), reservation.keys()),
                (None, _) => Default::default(),
            };
            let lease = self.receipt.lease().or(reservation.map(Reservation::lease));
            let Some(lease) = lease.filter(|_| !slots.is_empty() || !corrections.is_empty() || reservation.is_some()) else { continue };
            let end = End { slots: &slots, corrections: &corrections, charges: &charges, released: &released };
            let told = state.conclude(lease, &end).await;
            match (told, reservation) {
                (Ok(settled), Some(reservation)) => paid(reservation, &settled, actual, metrics),
                (Ok(_), None) => {}
                // The store may have applied the call although its answer was lost. Only what is idempotent is sent again:
                // corrections would count twice.
                (Err(_), Some(reservation)) => {
                    failed |= state.conclude(lease, &End { slots: &slots, ..End::default() }).await.is_err();
                    failed |= pay(reservation, state, actual, metrics).await.is_err();
                }
                (Err(_), None) => failed = true,
            }
        }
        if failed {
            metrics.store_errors.inc();
            if let Some(more) = UNPAID.due() {
                log::error!(target: "governance", more; "what a request took could not be counted, the store did not answer; its usage record says it");
            }
        }
        !failed
    }

    async fn renew(&self, state: &dyn StateStore, extend: bool) -> Result<(), StateError> {
        let mut done = Ok(());
        if let Some(lease) = self.receipt.lease() {
            for part in parts(state) {
                let slots = self.receipt.held(*part);
                if !slots.is_empty() {
                    done = state.renew(lease, &slots).await.and(done);
                }
            }
        }
        if extend && let Some(reservation) = &self.reservation {
            done = reservation.extend(state, self.ttl).await.and(done);
        }
        done
    }
}

/// Requests whose end the store was not told of.
static UNPAID: Sparse = Sparse::new();

const SHARDS: usize = 16;

/// How many renewals may be under way to the store at the same time.
const AT_ONCE: usize = 64;

/// How often the leases of long requests are renewed, unless a lease is shorter than three times this.
pub(super) const RENEWAL: Duration = Duration::from_secs(5);

/// What all requests under way hold.
pub(super) struct Holdings {
    shards: Arc<[Mutex<Shard>; SHARDS]>,
    /// The renewal interval of the shortest lease (ms).
    shortest: AtomicU64,
    /// Wakes [`Self::pause`] when a lease with a shorter interval was added.
    sooner: Notify,
}

impl Default for Holdings {
    fn default() -> Self {
        Self { shards: Default::default(), shortest: AtomicU64::new(millis(RENEWAL)), sooner: Notify::new() }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Default)]
struct Shard {
    places: Vec<Option<Arc<Held>>>,
    free: Vec<usize>,
}

/// The place of an entry among the holdings. Dropping it stops the renewals, so that they stop however the request ends; after
/// a panic the leases expire by themselves.
pub(super) struct Holding {
    shards: Arc<[Mutex<Shard>; SHARDS]>,
    at: usize,
    place: usize,
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mut shard = self.shards[self.at].lock();
        if let Some(held) = shard.places.get_mut(self.place).and_then(Option::take) {
            held.done.store(true, Ordering::Release);
            shard.free.push(self.place);
        }
    }
}

impl Holdings {
    /// Adds an entry, which is renewed from now on. `near` is any number of the request's own: it chooses the shard.
    pub fn put(&self, near: u8, held: Arc<Held>) -> Holding {
        let at = usize::from(near) % SHARDS;
        let every = millis(held.every);
        let mut shard = self.shards[at].lock();
        let place = match shard.free.pop() {
            Some(place) => place,
            None => {
                shard.places.push(None);
                shard.places.len() - 1
            }
        };
        shard.places[place] = Some(held);
        drop(shard);
        // After the entry was stored: a renewal round that starts now includes it, and a pause that began earlier is woken.
        if self.shortest.load(Ordering::Acquire) > every && self.shortest.fetch_min(every, Ordering::AcqRel) > every {
            self.sooner.notify_one();
        }
        Holding { shards: Arc::clone(&self.shards), at, place }
    }

    /// Waits until the shortest lease has to be renewed.
    pub async fn pause(&self) {
        let since = tokio::time::Instant::now();
        loop {
            let due = since + Duration::from_millis(self.shortest.load(Ordering::Acquire));
            tokio::select! {
                () = tokio::time::sleep_until(due) => return,
                () = self.sooner.notified() => {}
            }
        }
    }

    /// Removes an entry, which is not renewed any more.
    pub fn take(&self, holding: Holding) {
        drop(holding);
    }

    /// Renews what is held: with `all` every lease, else only the short ones; reservations only with `extend`. Returns how many
    /// calls failed, and the shortest lifetime of a reservation.
    pub async fn renew(&self, state: &dyn StateStore, all: bool, extend: bool) -> (u64, Option<Duration>) {
        let (mut failed, mut shortest) = (0, None);
        self.shortest.store(millis(RENEWAL), Ordering::Release);
        for shard in self.shards.iter() {
            let mut held: Vec<Arc<Held>> = shard.lock().places.iter().flatten().cloned().collect();
            held.retain(|held| (all || held.every < RENEWAL) && !held.done.load(Ordering::Acquire));
            let every = held.iter().map(|held| millis(held.every)).min();
            self.shortest.fetch_min(every.unwrap_or(u64::MAX), Ordering::AcqRel);
            let renewals = held.into_iter().map(|held| async move {
                if held.done.load(Ordering::Acquire) {
                    return None;
                }
                Some((held.renew(state, extend).await.is_err(), held.ttl))
            });
            // A round must end before the leases do: with one round trip after another, many holdings would take too long.
            let mut renewals = stream::iter(renewals).buffer_unordered(AT_ONCE);
            while let Some(renewed) = renewals.next().await {
                let Some((broken, ttl)) = renewed else { continue };
                failed += u64::from(broken);
                shortest = Some(shortest.map_or(ttl, |shortest: Duration| shortest.min(ttl)));
            }
        }
        (failed, shortest)
    }
}

/// Between tries to give back; a store that was only slow has recovered by then, and a reservation lives longer than all of
/// them. What is not paid then is found in the usage records: see [`crate::budget::Doubts`], which waits for longer.
const PAUSES: [Duration; 4] = [Duration::from_millis(50), Duration::from_millis(500), Duration::from_secs(5), Duration::from_secs(20)];

/// After so long a settlement was made, or is given up: the pauses, and what a store takes to fail between them.
pub(super) const SETTLED: Duration = Duration::from_secs(60);

/// Gives back slots of which nobody knows whether a request has them.
pub(super) async fn release(slots: &[StateKey], lease: LeaseId, state: &dyn StateStore) {
    let slots: Vec<&StateKey> = slots.iter().collect();
    for pause in PAUSES {
        if state.conclude(lease, &End { slots: &slots, ..End::default() }).await.is_ok() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

/// Pays or releases a reservation, and announces the budget thresholds that this crossed.
pub(super) async fn pay(
    reservation: &Reservation,
    state: &dyn StateStore,
    actual: Option<&Actual>,
    metrics: &GovernanceMetrics,
) -> Result<(), StateError> {
    let mut pauses = PAUSES.iter();
    loop {
        let lease = reservation.lease();
        let done = match actual {
            Some(actual) => state.settle(lease, &reservation.charges(actual)).await,
            None => state.conclude(lease, &End { released: &reservation.keys(), ..End::default() }).await,
        };
        let done = done.map(|settled| paid(reservation, &settled, actual, metrics));
        match (done, pauses.next()) {
            (Err(_), Some(pause)) => tokio::time::sleep(*pause).await,
            (done, _) => return done,
        }
    }
}

/// Counts a reservation that was paid or released, and announces the thresholds that this crossed.
fn paid(reservation: &Reservation, settled: &Settled, actual: Option<&Actual>, metrics: &GovernanceMetrics) {
    metrics.budget(if actual.is_some() { "settled" } else { "released" });
    reservation.crossings(settled).iter().for_each(|crossing| tell(&crossing.notice(), metrics));
}

/// How many crossed thresholds may wait for the receiver; any more appear in the log alone.
const UNHEARD: usize = 256;
/// The receiver of crossed thresholds in this process.
static HEARER: OnceLock<mpsc::Sender<BudgetNotice>> = OnceLock::new();

/// Creates the receiver of crossed thresholds. Only the first call in a process has an effect; later receivers get nothing.
pub fn thresholds() -> mpsc::Receiver<BudgetNotice> {
    let (sender, receiver) = mpsc::channel(UNHEARD);
    let _ = HEARER.set(sender);
    receiver
}

/// Announces that a threshold was crossed: in metrics, in the log, and to the receiver.
pub(super) fn tell(notice: &BudgetNotice, metrics: &GovernanceMetrics) {
    metrics.thresholds.inc();
    log::warn!(
        target: "governance",
        organisation = &*notice.organisation, account = &*notice.name, kind = notice.kind.as_str(), metric = notice.metric.as_str(),
        owner = notice.owner.as_str(), owner_id = &*notice.owner_id, period = notice.period.as_str(), percent = notice.percent,
        used = notice.spent, limit = notice.limit;
        "a threshold was crossed"
    );
    if let Some(hearer) = HEARER.get() {
        // If the receiver does not keep up, the log line above remains.
        let _ = hearer.try_send(notice.clone());
    }
}

/// Polls a future once and says whether that completed it, as it does with the in-process store.
pub(super) fn done_at_once(work: impl Future<Output = ()>) -> bool {
    polled(std::pin::pin!(work))
}

/// Polls a future once and spawns what remains as a task.
pub(super) fn go_on(work: impl Future<Output = ()> + Send + 'static) {
    let mut work = Box::pin(work);
    if !polled(work.as_mut()) {
        tokio::spawn(work);
    }
}

fn polled(work: Pin<&mut impl Future<Output = ()>>) -> bool {
    work.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_shorter_lease_than_before_is_not_slept_through() {
        let holdings = Holdings::default();
        let began = tokio::time::Instant::now();
        let late = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            holdings.put(0, Arc::new(Held { every: Duration::from_millis(60), ..Held::default() }))
        };
        let ((), holding) = tokio::join!(holdings.pause(), late);
        assert!((60..3000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
        let state = crate::store::memory::MemoryState::new(Default::default());
        holdings.renew(&state, false, false).await;
        assert_eq!(holdings.shortest.load(Ordering::Acquire), 60);
        holdings.take(holding);
        holdings.renew(&state, true, false).await;
        assert_eq!(holdings.shortest.load(Ordering::Acquire), millis(RENEWAL));
    }

    #[tokio::test]
    async fn what_a_request_held_that_panicked_is_renewed_no_more() {
        let holdings = Holdings::default();
        let held = Arc::new(Held::default());
        let holding = holdings.put(3, Arc::clone(&held));
        let request = tokio::spawn(async move {
            let _holding = holding;
            assert!(!_holding.shards.is_empty(), "it is there");
            std::panic::resume_unwind(Box::new("a defect"))
        });
        assert!(request.await.is_err_and(|error| error.is_panic()));
        assert!(held.done.load(Ordering::Acquire) && holdings.shards[3].lock().places.iter().all(Option::is_none));
        assert_eq!(Arc::strong_count(&held), 1, "nobody renews it");
    }
}
