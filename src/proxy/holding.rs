//! What requests hold while they are under way: renewed for as long as they take, paid or given back when they are over.

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
    /// What policies counted.
    pub receipt: Receipt,
    pub reservation: Option<Reservation>,
    /// For how long the reservation is made.
    pub ttl: Duration,
    /// How often it is renewed, at most [`RENEWAL`].
    pub every: Duration,
    done: AtomicBool,
}

/// What is told of a request's end in one call. The gateway's own policy lies under another tag than an organisation's: a
/// cluster is told of each by itself.
fn parts(state: &dyn StateStore) -> &'static [Part] {
    if state.spans_tags() { &[Part::All] } else { &[Part::Organisation, Part::Global] }
}

impl Held {
    /// What policies counted, and nothing else.
    pub fn of(receipt: Receipt, ttl: Duration, every: Duration) -> Self {
        Self { receipt, ttl, every, ..Self::default() }
    }

    /// Whether anything is to be given back.
    pub fn is_empty(&self) -> bool {
        self.receipt.is_empty() && self.reservation.is_none()
    }

    /// Gives back at once what was granted at once. Says whether that is all there was.
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
                // Once more, but for what would count twice if the first time only the answer was lost.
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

/// Renewals that are on their way to the store at once.
const AT_ONCE: usize = 64;

/// How often what long requests hold is renewed, unless a lease that is held is shorter than three of these.
pub(super) const RENEWAL: Duration = Duration::from_secs(5);

/// Everything that requests under way hold.
pub(super) struct Holdings {
    shards: Arc<[Mutex<Shard>; SHARDS]>,
    /// How often the shortest lease wants to be renewed, milliseconds.
    shortest: AtomicU64,
    /// There is a shorter one than before.
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

/// Where something that is held is. Dropped, however its request ended, it is renewed no more: of what a panic left behind
/// the leases run out by themselves.
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
    /// From here on it is renewed.
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
        // After it was put there: whoever looks meanwhile finds it, and whoever has looked before is told.
        if self.shortest.load(Ordering::Acquire) > every && self.shortest.fetch_min(every, Ordering::AcqRel) > every {
            self.sooner.notify_one();
        }
        Holding { shards: Arc::clone(&self.shards), at, place }
    }

    /// Waits until the shortest lease that is held wants to be renewed.
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

    /// It is renewed no more.
    pub fn take(&self, holding: Holding) {
        drop(holding);
    }

    /// Renews what is held; only what has a short lease without `all`, and reservations only with `extend`. Says how often the
    /// store did not answer, and for how long the shortest reservation is made.
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
            // A round must be over before the leases are: one store's round trip after another would be too slow for many.
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

/// Pays or releases a reservation, and says which thresholds that crossed.
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

/// A reservation was paid or released.
fn paid(reservation: &Reservation, settled: &Settled, actual: Option<&Actual>, metrics: &GovernanceMetrics) {
    metrics.budget(if actual.is_some() { "settled" } else { "released" });
    reservation.crossings(settled).iter().for_each(|crossing| tell(&crossing.notice(), metrics));
}

/// Thresholds that wait to be heard of; more are told in the log alone.
const UNHEARD: usize = 256;
/// Who hears of thresholds in this process.
static HEARER: OnceLock<mpsc::Sender<BudgetNotice>> = OnceLock::new();

/// From now on every threshold is heard here. Once in the life of a process; later ones hear nothing.
pub fn thresholds() -> mpsc::Receiver<BudgetNotice> {
    let (sender, receiver) = mpsc::channel(UNHEARD);
    let _ = HEARER.set(sender);
    receiver
}

/// A threshold was crossed: everybody who wants to know hears of it from here.
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
        // Who does not keep up finds it in the log.
        let _ = hearer.try_send(notice.clone());
    }
}

/// Runs a future to its end if it waits for nothing, as with the state of this process, and says whether it came there.
pub(super) fn done_at_once(work: impl Future<Output = ()>) -> bool {
    polled(std::pin::pin!(work))
}

/// Runs a future as far as it comes now, and beside the next requests from there.
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
