use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::budget::{BudgetEntry, QuotaEntry, Window};
use crate::store::memory::{Capacity, MemoryState};
use crate::store::{Decisions, ManualClock, Question, Ruling};

const START: i64 = 1_780_000_000_000_000;
const TTL: Duration = Duration::from_secs(60);

/// Records with the same sum for every account.
struct Said(i64);

#[async_trait::async_trait]
impl Past for Said {
    async fn used(&self, _account: &Account, _window: Window) -> Result<i64, StateError> {
        Ok(self.0)
    }
}

fn store() -> (Arc<ManualClock>, MemoryState) {
    let clock = Arc::new(ManualClock::at(START));
    (clock.clone(), MemoryState::with_clock(Capacity::default(), clock))
}

fn budget(yaml: &str) -> Arc<Account> {
    let entry: BudgetEntry = serde_yaml::from_str(yaml).unwrap();
    Arc::new(Account::of_budget(&entry, "acme", "k1").unwrap().unwrap())
}

fn quota(metric: &str, limit: u64) -> Arc<Account> {
    let entry: QuotaEntry = serde_yaml::from_str(&format!("{{name: q, period: DAILY, metric: {metric}, limit: {limit}}}")).unwrap();
    Arc::new(Account::of_quota(&entry, "acme", "acme").unwrap().unwrap())
}

fn cost(cost: i64) -> Worst {
    Worst { cost, ..Worst::default() }
}

async fn reserve(state: &MemoryState, accounts: &[Arc<Account>], lease: u128, worst: &Worst) -> Result<Reservation, Denial> {
    asked(state, &Said(0), accounts, lease, worst).await
}

/// Reserves as the gateway does: counters that the store has lost are seeded again, once.
async fn asked(state: &MemoryState, said: &Said, accounts: &[Arc<Account>], lease: u128, worst: &Worst) -> Result<Reservation, Denial> {
    let made = Reservation::open(state, said, accounts, LeaseId(lease), START, worst).await.unwrap();
    for _ in 0..2 {
        let question = Question { holds: &made.holds(), expires_in: TTL, ..Question::default() };
        let decided = state.decide(LeaseId(lease), &question).await.unwrap();
        match decided.ruling {
            Ruling::Granted => return Ok(made),
            Ruling::Exceeded(at) => return Err(made.exceeded(at, &decided.holds, START)),
            Ruling::Unseeded => made.tell(state, said).await.unwrap(),
            Ruling::Limited(at) => panic!("no limit was asked, {at} refuses"),
        }
    }
    panic!("told twice, and not known");
}

fn code(result: &Result<Reservation, Denial>) -> (u16, &str) {
    match result {
        Err(denial) => (denial.status(), denial.code.as_ref()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_reservation_up_to_the_limit_is_granted_and_one_nano_more_is_not() {
    let (_, state) = store();
    let accounts = [budget("{name: b, period: DAILY, amount: \"1.00\"}")];
    let held = reserve(&state, &accounts, 1, &cost(1_000_000_000)).await.unwrap();
    let refused = reserve(&state, &accounts, 2, &cost(1)).await;
    assert_eq!(code(&refused), (402, "budget_exceeded"));
    held.release(&state).await.unwrap();
    assert!(reserve(&state, &accounts, 3, &cost(1_000_000_000)).await.is_ok());
}

#[tokio::test]
async fn a_refusing_account_leaves_the_others_untouched() {
    let (_, state) = store();
    let accounts = [budget("{name: b, period: DAILY, amount: 1}"), quota("REQUESTS", 1)];
    reserve(&state, &accounts, 1, &cost(10)).await.unwrap();
    let refused = reserve(&state, &accounts, 2, &cost(10)).await;
    assert_eq!(code(&refused), (429, "quota_exceeded"));
    let Err(denial) = refused else { unreachable!() };
    assert_eq!((denial.scope, denial.limit), (Some("organisation"), Some("REQUESTS")));
    assert!(denial.retry_after.is_some_and(|after| after > Duration::ZERO && after <= Duration::from_secs(86_400)));
    let open = accounts[0].open(&state, &Said(0), START).await.unwrap().unwrap();
    assert_eq!(state.counters(&[&open.key]).await.unwrap()[0].reserved, 10, "only the first request's");
}

#[tokio::test]
async fn settling_replaces_the_worst_case_tells_thresholds_once_and_is_done_once() {
    let (_, state) = store();
    let accounts = [budget("{name: b, period: MONTHLY, amount: \"0.000001\", thresholds: [50, 80]}")];
    let held = reserve(&state, &accounts, 1, &cost(1000)).await.unwrap();
    let actual = Actual { cost: 600, ..Actual::default() };
    let (settlement, crossed) = held.settle(&state, &actual).await.unwrap();
    assert_eq!(settlement, Settlement::Applied);
    assert_eq!(crossed.iter().map(|c| (c.percent, c.used, c.limit)).collect::<Vec<_>>(), [(50, 600, 1000)]);
    assert_eq!(held.settle(&state, &actual).await.unwrap().0, Settlement::Unknown);
    let open = accounts[0].open(&state, &Said(0), START).await.unwrap().unwrap();
    let counted = state.counters(&[&open.key]).await.unwrap()[0];
    assert_eq!((counted.used, counted.reserved), (600, 0));
}

#[tokio::test]
async fn errors_and_latency_are_bounded_by_what_they_were() {
    let (_, state) = store();
    for (metric, actual) in [
        ("ERRORS", Actual { error: true, ..Actual::default() }),
        ("LATENCY_MS", Actual { latency: Duration::from_millis(1), ..Actual::default() }),
    ] {
        let accounts = [quota(metric, 2)];
        for lease in 0..2 {
            reserve(&state, &accounts, lease, &Worst::default()).await.unwrap().settle(&state, &actual).await.unwrap();
        }
        assert_eq!(code(&reserve(&state, &accounts, 9, &Worst::default()).await), (429, "quota_exceeded"), "{metric}");
    }
}

#[tokio::test]
async fn a_store_without_memory_is_told_what_the_records_say() {
    let (_, state) = store();
    let accounts = [budget("{name: b, period: DAILY, amount: \"1.00\"}")];
    let said = Said(900_000_000);
    assert_eq!(code(&asked(&state, &said, &accounts, 1, &cost(200_000_000)).await), (402, "budget_exceeded"));
    assert!(asked(&state, &said, &accounts, 2, &cost(100_000_000)).await.is_ok());
    // The store was replaced by an empty one while this process went on.
    let (_, empty) = store();
    assert_eq!(code(&asked(&empty, &said, &accounts, 3, &cost(200_000_000)).await), (402, "budget_exceeded"));
    assert!(asked(&empty, &said, &accounts, 4, &cost(100_000_000)).await.is_ok());
}

#[tokio::test]
async fn what_a_window_left_is_added_once() {
    let (_, state) = store();
    let day = 86_400_000_000;
    let accounts = [budget("{name: b, period: DAILY, amount: \"1.00\", schedule: {rollover: true}}")];
    let held = reserve(&state, &accounts, 1, &cost(400_000_000)).await.unwrap();
    held.settle(&state, &Actual { cost: 400_000_000, ..Actual::default() }).await.unwrap();
    // Like a restart: only the counters are left. Two windows later, what rolled over from the first is gone.
    let later = budget("{name: b, period: DAILY, amount: \"1.00\", schedule: {rollover: true}}");
    let next = later.open(&state, &Said(0), START + day).await.unwrap().unwrap();
    assert_eq!(next.limit, 1_600_000_000);
    let after = later.open(&state, &Said(0), START + 2 * day).await.unwrap().unwrap();
    assert_eq!(after.limit, 2_000_000_000, "an unused window doubles the next one, and no more");
}

#[tokio::test]
async fn outside_its_schedule_an_account_counts_nothing() {
    let (_, state) = store();
    let accounts = [budget("{name: b, period: DAILY, amount: \"0.01\", schedule: {start_at: \"2099-01-01T00:00:00Z\"}}")];
    let made = reserve(&state, &accounts, 1, &cost(i64::MAX / 4)).await.unwrap();
    assert!(made.is_empty());
    let entry: BudgetEntry = serde_yaml::from_str("{name: b, period: DAILY, amount: 1, schedule: {active: false}}").unwrap();
    assert!(Account::of_budget(&entry, "acme", "acme").unwrap().is_none());
}

/// How a request of the property test ends after its reservation was granted.
#[derive(Debug, Clone, Copy)]
enum End {
    Settle(i64),
    SettleTwice(i64),
    Release,
    Crash,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever requests do, in whatever order: nothing is granted beyond the limit, nothing is refused while there is room, and
    /// when all leases are over, nothing is reserved and the used amount is the sum of what was settled.
    #[test]
    fn no_phantom_refusal_and_no_leak(requests in proptest::collection::vec((1_i64..400, prop_oneof![
        (0_i64..100).prop_map(End::Settle), (0_i64..100).prop_map(End::SettleTwice), Just(End::Release), Just(End::Crash)
    ], any::<bool>()), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (clock, state) = store();
            let entry: BudgetEntry = serde_yaml::from_str("{name: b, period: QUARTERLY, amount: \"0.000001\"}").unwrap();
            let accounts = [Arc::new(Account::of_budget(&entry, "acme", "k1").unwrap().unwrap())];
            let open = accounts[0].open(&state, &Said(0), START).await.unwrap().unwrap();
            let settled = Mutex::new(0_i64);
            let (mut held, mut reserved) = (Vec::new(), 0_i64);
            for (n, (worst, end, at_once)) in requests.into_iter().enumerate() {
                let used = *settled.lock().unwrap();
                match reserve(&state, &accounts, n as u128, &cost(worst)).await {
                    Ok(reservation) => {
                        assert!(used + reserved + worst <= open.limit, "granted beyond the limit");
                        reserved += worst;
                        held.push((reservation, worst, end));
                    }
                    Err(_) => assert!(used + reserved + worst > open.limit, "refused with {} free", open.limit - used - reserved),
                }
                if at_once && let Some((reservation, worst, end)) = held.pop() {
                    let actual = |cost: i64| Actual { cost: cost.min(worst), ..Actual::default() };
                    match end {
                        End::Settle(cost) | End::SettleTwice(cost) => {
                            reservation.settle(&state, &actual(cost)).await.unwrap();
                            *settled.lock().unwrap() += cost.min(worst);
                            if matches!(end, End::SettleTwice(_)) {
                                reservation.settle(&state, &actual(cost)).await.unwrap();
                                reservation.release(&state).await.unwrap();
                            }
                        }
                        End::Release => reservation.release(&state).await.unwrap(),
                        End::Crash => continue,
                    }
                    reserved -= worst;
                }
            }
            clock.advance(TTL + Duration::from_secs(1));
            state.reap("acme", 1000).await.unwrap();
            let counted = state.counters(&[&open.key]).await.unwrap()[0];
            assert_eq!((counted.used, counted.reserved), (*settled.lock().unwrap(), 0));
        });
    }
}

/// Records that answer slowly and sometimes not at all.
struct Slow {
    asked: std::sync::atomic::AtomicUsize,
    there: bool,
}

#[async_trait::async_trait]
impl Past for Slow {
    async fn used(&self, _account: &Account, _window: Window) -> Result<i64, StateError> {
        self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(20)).await;
        if self.there { Ok(0) } else { Err(StateError::Unavailable("gone".into())) }
    }
}

#[tokio::test]
async fn a_window_is_opened_once_for_all_who_come_at_once() {
    for there in [true, false] {
        let (_, state) = store();
        let account = budget("{name: b, period: DAILY, amount: \"1.00\"}");
        let slow = Slow { asked: Default::default(), there };
        let opened = futures::future::join_all((0..50).map(|_| account.open(&state, &slow, START))).await;
        assert!(opened.iter().all(|opened| opened.as_ref().is_ok_and(Option::is_some) == there), "{opened:?}");
        assert_eq!(slow.asked.into_inner(), 1, "one asks for all, also where there is no answer");
    }
}
