//! Counters that may have missed something, and the comparison with the records that heals them.
//!
//! A counter misses what a request took when it was told what had been used while that request was under way (it began anew, or
//! the configuration had lost its account), or when the store did not answer for longer than anybody repeats a settlement. Every
//! request is on record, so a counter that says less than the records is raised. It is never lowered: what waits to be written is
//! in no record yet.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Account, Past, Reservation, Window};
use crate::store::{Reservations, StateError};

/// How long after a doubt arose its counter is compared, and after each comparison the next time: what was under way then
/// ends sooner or later.
const ROUNDS: [Duration; 4] = [Duration::from_secs(5), Duration::from_secs(60), Duration::from_secs(300), Duration::from_secs(1800)];

/// Between two looks at what is due.
const LOOKING: Duration = Duration::from_secs(2);

/// Until a store that did not answer is asked again.
const AGAIN: Duration = Duration::from_secs(10);

/// The windows in doubt.
#[derive(Debug, Default)]
pub struct Doubts(Mutex<HashMap<String, Doubt>>);

#[derive(Debug, Clone)]
struct Doubt {
    account: Arc<Account>,
    window: Window,
    round: usize,
    due: Instant,
}

impl Doubts {
    /// This counter may miss something.
    pub fn put(&self, account: &Arc<Account>, window: Window) {
        self.wait(Doubt { account: Arc::clone(account), window, round: 0, due: Instant::now() + ROUNDS[0] });
    }

    /// What this reservation became was not heard of by the store.
    pub fn unpaid(&self, reservation: &Reservation) {
        reservation.windows().for_each(|(account, window)| self.put(account, window));
    }

    /// Of two doubts about a counter the one that has more rounds before it stays.
    fn wait(&self, doubt: Doubt) {
        let mut waiting = self.0.lock();
        let key = doubt.account.key(doubt.window).as_str().to_owned();
        if waiting.get(&key).is_none_or(|other| other.round >= doubt.round) {
            waiting.insert(key, doubt);
        }
    }

    fn due(&self, now: Instant) -> Vec<Doubt> {
        self.0.lock().extract_if(|_, doubt| doubt.due <= now).map(|(_, doubt)| doubt).collect()
    }

    /// Compares what is in doubt, for as long as it is polled. `settled` is how long after a request is on record its counters
    /// have heard of its end, or never will.
    pub async fn watch(&self, store: &dyn Reservations, past: &dyn Past, settled: Duration) {
        loop {
            tokio::time::sleep(LOOKING).await;
            self.compare(store, past, settled).await;
        }
    }

    async fn compare(&self, store: &dyn Reservations, past: &dyn Past, settled: Duration) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
        let mut said = Vec::new();
        for doubt in self.due(Instant::now()) {
            if doubt.window.end <= now {
                continue;
            }
            match past.used(&doubt.account, doubt.window).await {
                Ok(sum) => said.push((doubt, sum)),
                Err(error) => self.later(doubt, &error),
            }
        }
        if said.is_empty() {
            return;
        }
        // Whatever is in these sums is in the counters by then, if it ever will be.
        tokio::time::sleep(settled).await;
        for (doubt, sum) in said {
            match doubt.account.raise(store, doubt.window, sum).await {
                Ok(0) => {}
                Ok(missing) => {
                    let account = &doubt.account;
                    log::warn!(
                        target: "governance",
                        organisation = account.organisation(), account = &*account.name, kind = account.kind.as_str(), missing, used = sum;
                        "a counter had missed what usage records have, and was raised to it"
                    );
                }
                Err(error) => {
                    self.later(doubt, &error);
                    continue;
                }
            }
            if let Some(pause) = ROUNDS.get(doubt.round + 1) {
                self.wait(Doubt { round: doubt.round + 1, due: Instant::now() + *pause, ..doubt });
            }
        }
    }

    fn later(&self, doubt: Doubt, error: &StateError) {
        log::debug!(target: "governance", "a counter in doubt is compared later: {error}");
        self.wait(Doubt { due: Instant::now() + AGAIN, ..doubt });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::budget::{Actual, BudgetEntry, Worst};
    use crate::store::memory::{Capacity, MemoryState};
    use crate::store::{LeaseId, StateStore};
    use std::sync::atomic::{AtomicI64, Ordering};

    /// Records, and whoever hears of doubts.
    #[derive(Default)]
    struct Books {
        said: AtomicI64,
        doubts: Doubts,
    }

    #[async_trait::async_trait]
    impl Past for Books {
        async fn used(&self, _account: &Account, _window: Window) -> Result<i64, StateError> {
            Ok(self.said.load(Ordering::Relaxed))
        }

        fn doubt(&self, account: &Arc<Account>, window: Window) {
            self.doubts.put(account, window);
        }
    }

    fn account() -> Arc<Account> {
        let entry: BudgetEntry = serde_yaml::from_str("{name: b, period: MONTHLY, amount: \"1.00\"}").unwrap();
        Arc::new(Account::of_budget(&entry, "acme", "acme").unwrap().unwrap())
    }

    fn now() -> i64 {
        i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
    }

    async fn reserve(state: &MemoryState, books: &Books, account: &Arc<Account>, lease: u128) -> Reservation {
        let worst = Worst { cost: 100, ..Worst::default() };
        let made = Reservation::open(state, books, std::slice::from_ref(account), LeaseId(lease), now(), &worst).await.unwrap();
        state.reserve(made.lease(), Duration::from_secs(60), &made.holds()).await.unwrap();
        made
    }

    async fn used(state: &dyn StateStore, account: &Account) -> i64 {
        state.counters(&[&account.window(now()).unwrap().key]).await.unwrap()[0].used
    }

    const SETTLED: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn what_ended_while_nobody_counted_it_is_found_in_the_records() {
        let (state, books, account) = (MemoryState::new(Capacity::default()), Books::default(), account());
        books.said.store(10, Ordering::Relaxed);
        let held = reserve(&state, &books, &account, 1).await;
        assert_eq!(used(&state, &account).await, 10, "as the records say");
        // Another of which this counter never heard ends; this one ends as it should.
        held.settle(&state, &Actual { cost: 5, ..Actual::default() }).await.unwrap();
        books.said.store(10 + 5 + 7, Ordering::Relaxed);
        books.doubts.compare(&state, &books, SETTLED).await;
        assert_eq!(used(&state, &account).await, 15, "it is not due");
        tokio::time::sleep(ROUNDS[0]).await;
        books.doubts.compare(&state, &books, SETTLED).await;
        assert_eq!(used(&state, &account).await, 22);
        // A long one, that ends after the first comparison.
        books.said.store(30, Ordering::Relaxed);
        tokio::time::sleep(ROUNDS[1]).await;
        books.doubts.compare(&state, &books, SETTLED).await;
        assert_eq!(used(&state, &account).await, 30);
        // Nothing is lowered, and doubts come to an end.
        books.said.store(3, Ordering::Relaxed);
        for round in &ROUNDS[2..] {
            tokio::time::sleep(*round).await;
            books.doubts.compare(&state, &books, SETTLED).await;
        }
        assert_eq!(used(&state, &account).await, 30);
        assert!(books.doubts.0.lock().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_settled_meanwhile_is_not_counted_twice() {
        let (state, books, account) = (MemoryState::new(Capacity::default()), Books::default(), account());
        let held = reserve(&state, &books, &account, 1).await;
        books.doubts.unpaid(&held);
        tokio::time::sleep(ROUNDS[0]).await;
        // It is on record, and its counter hears of it a moment later.
        books.said.store(5, Ordering::Relaxed);
        let settling = async {
            tokio::time::sleep(SETTLED / 2).await;
            held.settle(&state, &Actual { cost: 5, ..Actual::default() }).await.unwrap();
        };
        tokio::join!(books.doubts.compare(&state, &books, SETTLED), settling);
        assert_eq!(used(&state, &account).await, 5);
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_that_returns_has_what_was_used_without_it() {
        let (state, books, first) = (MemoryState::new(Capacity::default()), Books::default(), account());
        let held = reserve(&state, &books, &first, 1).await;
        held.settle(&state, &Actual { cost: 5, ..Actual::default() }).await.unwrap();
        books.said.store(25, Ordering::Relaxed);
        let stayed = account();
        reserve(&state, &books, &stayed, 2).await.release(&state).await.unwrap();
        assert_eq!(used(&state, &stayed).await, 5, "one that was there all the time is believed");
        let back = account();
        back.returns();
        reserve(&state, &books, &back, 3).await.release(&state).await.unwrap();
        assert_eq!(used(&state, &back).await, 25);
    }
}
