//! Budgets and quotas.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use super::engines::{Engine, START, engines, engines_and_cluster};
use crate::store::{Charge, Counted, Hold, LeaseId, MAX_COUNT, Settled, Settlement, StateError, StateKey, StateStore};

const LEASE: Duration = Duration::from_secs(60);
const KEEP: i64 = START / 1000 + 86_400_000;
const DOLLAR: i64 = 1_000_000_000;

fn key(name: &str) -> StateKey {
    StateKey::new("acme", name)
}

fn hold(key: &StateKey, limit: i64, amount: i64) -> Hold<'_> {
    Hold { key, limit, amount, keep_until: KEEP }
}

fn charge(key: &StateKey, actual: i64) -> Charge<'_> {
    Charge { key, actual, limit: DOLLAR, thresholds: &[], keep_until: KEEP }
}

async fn standing(state: &dyn StateStore, key: &StateKey) -> (i64, i64) {
    let counted = state.counters(&[key]).await.unwrap()[0];
    (counted.used, counted.reserved)
}

#[tokio::test]
async fn a_reservation_becomes_what_it_did_cost() {
    for engine in engines() {
        let (org, own, name, state) = (key("org:202611"), key("key:202611"), engine.name, &engine.state);
        let holds = [hold(&org, DOLLAR, 600_000_000), hold(&own, 700_000_000, 600_000_000)];
        let granted = state.reserve(LeaseId(1), LEASE, &holds).await.unwrap();
        assert_eq!((granted.refused, granted.each[0].reserved), (None, 600_000_000), "{name}");
        let again = engine.other.reserve(LeaseId(1), LEASE, &holds).await.unwrap();
        assert_eq!(again, granted, "{name}: the same lease is the same reservation");

        let refused =
            engine.other.reserve(LeaseId(2), LEASE, &[hold(&org, DOLLAR, 1), hold(&own, 700_000_000, 100_000_001)]).await.unwrap();
        assert_eq!(refused.refused, Some(1), "{name}");
        assert_eq!(standing(&**state, &org).await, (0, 600_000_000), "{name}: nothing of a refusal stays");

        let settled = state.settle(LeaseId(1), &[charge(&org, 250), charge(&own, 250)]).await.unwrap();
        let after = Counted { used: 250, reserved: 0, seeded: false };
        assert_eq!(settled, Settled { settlement: Settlement::Applied, each: vec![after; 2], crossed: vec![] }, "{name}");
        let twice = engine.other.settle(LeaseId(1), &[charge(&org, 250), charge(&own, 250)]).await.unwrap();
        assert_eq!((twice.settlement, twice.each[1]), (Settlement::Unknown, after), "{name}: a second settlement changes nothing");
        assert!(!state.release(LeaseId(1), &[&org, &own]).await.unwrap(), "{name}");

        // Exactly the remaining amount can be reserved, and a second release has no effect.
        assert!(state.reserve(LeaseId(3), LEASE, &[hold(&org, DOLLAR, DOLLAR - 250)]).await.unwrap().granted(), "{name}");
        assert!(engine.other.release(LeaseId(3), &[&org]).await.unwrap(), "{name}");
        assert!(!state.release(LeaseId(3), &[&org]).await.unwrap(), "{name}");
        assert_eq!(standing(&**state, &org).await, (250, 0), "{name}");
        if let Some(server) = &engine.server {
            server.assert_every_key_expires();
        }
    }
}

#[tokio::test]
async fn it_may_cost_more_than_was_reserved_and_thresholds_are_told_once() {
    for engine in engines() {
        let (k, name) = (key("team"), engine.name);
        let settle = async |lease, actual| {
            engine.state.reserve(LeaseId(lease), LEASE, &[hold(&k, 1001, 0)]).await.unwrap();
            let charge = Charge { key: &k, actual, limit: 1001, thresholds: &[50, 80, 100], keep_until: KEEP };
            engine.other.settle(LeaseId(lease), &[charge]).await.unwrap().crossed
        };
        assert_eq!(settle(1, 500).await, [], "{name}: 500 is less than half of 1001");
        assert_eq!(settle(2, 1).await, [(0, 50)], "{name}");
        assert_eq!(settle(3, 1000).await, [(0, 80), (0, 100)], "{name}");
        assert_eq!(standing(&*engine.state, &k).await, (1501, 0), "{name}");
        let refused = engine.state.reserve(LeaseId(4), LEASE, &[hold(&k, 1001, 0)]).await.unwrap();
        assert_eq!(refused.refused, Some(0), "{name}: nothing asked is refused as well when nothing is left");
    }
}

#[tokio::test]
async fn what_nobody_settles_runs_out_and_may_still_be_settled_late() {
    for engine in engines() {
        let (k, other, name, state) = (key("late"), key("late2"), engine.name, &engine.state);
        for lease in 0..3 {
            assert!(state.reserve(LeaseId(lease), LEASE, &[hold(&k, 300, 100), hold(&other, 300, 100)]).await.unwrap().granted(), "{name}");
        }
        assert!(!state.reserve(LeaseId(9), LEASE, &[hold(&k, 300, 1)]).await.unwrap().granted(), "{name}");
        engine.clock.advance(LEASE / 2);
        state.extend(LeaseId(2), LEASE, &[hold(&k, 300, 100), hold(&other, 300, 100)]).await.unwrap();
        engine.clock.advance(LEASE / 2);
        // No reaper has run, and still an expired reservation takes up no room.
        assert!(engine.other.reserve(LeaseId(9), LEASE, &[hold(&k, 300, 200)]).await.unwrap().granted(), "{name}");
        assert_eq!(state.reap("acme", 100).await.unwrap(), 2, "{name}: the two leases of the other counter");
        assert_eq!(state.reap("acme", 100).await.unwrap(), 0, "{name}");
        assert_eq!(standing(&**state, &other).await, (0, 100), "{name}");

        let late = state.settle(LeaseId(0), &[charge(&k, 70), charge(&other, 70)]).await.unwrap();
        assert_eq!((late.settlement, late.each[0].used), (Settlement::Late, 70), "{name}");
        let twice = state.settle(LeaseId(0), &[charge(&k, 70), charge(&other, 70)]).await.unwrap();
        assert_eq!((twice.settlement, twice.each[0].used), (Settlement::Unknown, 70), "{name}");
        // A request that continues is held again, even beyond the limit.
        state.extend(LeaseId(1), LEASE, &[hold(&k, 300, 100)]).await.unwrap();
        assert_eq!(standing(&**state, &k).await, (70, 400), "{name}");
        let settled = state.settle(LeaseId(1), &[charge(&k, 5)]).await.unwrap();
        assert_eq!(
            (settled.settlement, settled.each[0]),
            (Settlement::Applied, Counted { used: 75, reserved: 300, seeded: false }),
            "{name}"
        );
        if let Some(server) = &engine.server {
            server.assert_every_key_expires();
        }
    }
}

#[tokio::test]
async fn counters_are_seeded_once_and_adjusted() {
    for engine in engines() {
        let (k, name, state) = (key("seed"), engine.name, &engine.state);
        state.reserve(LeaseId(1), LEASE, &[hold(&k, 100, 10)]).await.unwrap();
        assert!(state.seed(&k, 50, KEEP).await.unwrap(), "{name}");
        assert!(!engine.other.seed(&k, 50, KEEP).await.unwrap(), "{name}");
        assert_eq!(state.counters(&[&k]).await.unwrap(), [Counted { used: 50, reserved: 10, seeded: true }], "{name}");
        assert_eq!(state.adjust(&k, -20, KEEP).await.unwrap().used, 30, "{name}");
        assert_eq!(state.adjust(&k, -100, KEEP).await.unwrap().used, 0, "{name}: never below zero");
        assert_eq!(state.counters(&[&key("nobody")]).await.unwrap(), [Counted::default()], "{name}");
        for wrong in [-1, MAX_COUNT + 1] {
            assert!(matches!(state.seed(&k, wrong, KEEP).await, Err(StateError::Invalid(_))), "{name}");
            assert!(matches!(state.reserve(LeaseId(2), LEASE, &[hold(&k, 100, wrong)]).await, Err(StateError::Invalid(_))), "{name}");
            assert!(matches!(state.settle(LeaseId(1), &[charge(&k, wrong)]).await, Err(StateError::Invalid(_))), "{name}");
        }
        // The largest amounts are counted exactly.
        let large = key("large");
        assert!(state.reserve(LeaseId(3), LEASE, &[hold(&large, MAX_COUNT, MAX_COUNT - 1)]).await.unwrap().granted(), "{name}");
        assert!(!state.reserve(LeaseId(4), LEASE, &[hold(&large, MAX_COUNT, 2)]).await.unwrap().granted(), "{name}");
        assert!(state.reserve(LeaseId(4), LEASE, &[hold(&large, MAX_COUNT, 1)]).await.unwrap().granted(), "{name}");
    }
}

/// The hard cap: 1,000 concurrent requests of 0.10 against a limit of 1.00, over two connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_at_once_never_exceed_the_cap() {
    for engine in engines() {
        let tasks: Vec<_> = (0..1000u32)
            .map(|n| {
                let state = if n % 2 == 0 { engine.state.clone() } else { engine.other.clone() };
                tokio::spawn(async move {
                    let (own, org) = (key("key"), key("org"));
                    let holds = [hold(&org, 50 * DOLLAR, DOLLAR / 10), hold(&own, DOLLAR, DOLLAR / 10)];
                    let lease = LeaseId(n.into());
                    if !state.reserve(lease, LEASE, &holds).await.unwrap().granted() {
                        return (0, 0);
                    }
                    // Some requests cost less than was reserved, some nothing at all.
                    let actual = if n % 3 == 0 { DOLLAR / 10 } else { DOLLAR / 40 };
                    match n % 7 {
                        0 => assert!(state.release(lease, &[&org, &own]).await.unwrap()),
                        _ => {
                            let settled = state.settle(lease, &[charge(&org, actual), charge(&own, actual)]).await.unwrap();
                            assert_eq!(settled.settlement, Settlement::Applied);
                            return (1, actual);
                        }
                    }
                    (1, 0)
                })
            })
            .collect();
        let (mut granted, mut spent) = (0, 0);
        for task in tasks {
            let (one, actual) = task.await.unwrap();
            granted += one;
            spent += actual;
        }
        assert!(spent <= DOLLAR && granted >= 10, "{}: {granted} granted, {spent} spent", engine.name);
        assert_eq!(standing(&*engine.state, &key("key")).await, (spent, 0), "{}: nothing leaked", engine.name);
        assert_eq!(standing(&*engine.state, &key("org")).await, (spent, 0), "{}: nothing leaked", engine.name);
    }
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Reserve { lease: u8, which: u8, amount: u8 },
    Extend { lease: u8, which: u8 },
    Settle { lease: u8, actual: u8 },
    Release { lease: u8 },
    Reap,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0u64..30_000).prop_map(Step::Wait),
        6 => (0u8..8, 1u8..4, 0u8..60).prop_map(|(lease, which, amount)| Step::Reserve { lease, which, amount }),
        1 => (0u8..8, 1u8..4).prop_map(|(lease, which)| Step::Extend { lease, which }),
        3 => (0u8..8, 0u8..80).prop_map(|(lease, actual)| Step::Settle { lease, actual }),
        2 => (0u8..8).prop_map(|lease| Step::Release { lease }),
        1 => Just(Step::Reap),
    ];
    prop::collection::vec(step, 1..60)
}

/// What the traits promise, in the simplest form: who holds how much, and how much was used.
#[derive(Default)]
struct Model {
    used: [i64; 2],
    held: HashMap<(u8, usize), (i64, i64)>,
}

impl Model {
    fn reserved(&self, which: usize) -> i64 {
        self.held.iter().filter(|((_, w), _)| *w == which).map(|(_, (amount, _))| amount).sum()
    }
}

const LIMIT: i64 = 150;

/// Replays a history on the engine and compares it with the model: no refusal without need, no leak, and equal totals.
async fn replay(engine: &Engine, run: u64, steps: &[Step]) -> Vec<String> {
    let tag = format!("run{{{run}}}");
    let keys = [StateKey::new(&tag, "a"), StateKey::new(&tag, "b")];
    let (mut model, mut now, mut told) = (Model::default(), 0, Vec::new());
    let state = &engine.state;
    for step in steps {
        model.held.retain(|_, (_, until)| *until > now);
        match *step {
            Step::Wait(ms) => {
                engine.clock.advance(Duration::from_millis(ms));
                now += ms as i64;
            }
            Step::Reserve { lease, which, amount } => {
                let asked: Vec<usize> = (0..2).filter(|n| which & 1 << n != 0).collect();
                let holds: Vec<Hold<'_>> = asked.iter().map(|n| hold(&keys[*n], LIMIT, amount.into())).collect();
                let reserved = state.reserve(LeaseId(lease.into()), LEASE, &holds).await.unwrap();
                let room = |n: usize| {
                    let (taken, amount) = (model.used[n] + model.reserved(n), i64::from(amount));
                    model.held.contains_key(&(lease, n)) || if amount == 0 { taken < LIMIT } else { taken + amount <= LIMIT }
                };
                assert_eq!(reserved.refused, asked.iter().position(|n| !room(*n)), "{}: {step:?}", engine.name);
                if reserved.granted() {
                    for n in asked {
                        model.held.entry((lease, n)).or_insert((amount.into(), 0)).1 = now + LEASE.as_millis() as i64;
                    }
                }
                told.push(format!("{reserved:?}"));
            }
            Step::Extend { lease, which } => {
                let asked: Vec<usize> = (0..2).filter(|n| which & 1 << n != 0).collect();
                let holds: Vec<Hold<'_>> = asked.iter().map(|n| hold(&keys[*n], LIMIT, 7)).collect();
                state.extend(LeaseId(lease.into()), LEASE, &holds).await.unwrap();
                for n in asked {
                    model.held.entry((lease, n)).or_insert((7, 0)).1 = now + LEASE.as_millis() as i64;
                }
            }
            Step::Settle { lease, actual } => {
                let charges: Vec<Charge<'_>> = keys
                    .iter()
                    .map(|key| Charge { key, actual: actual.into(), limit: LIMIT, thresholds: &[50, 100], keep_until: KEEP })
                    .collect();
                let before = model.used;
                let settled = engine.other.settle(LeaseId(lease.into()), &charges).await.unwrap();
                for (n, counted) in settled.each.iter().enumerate() {
                    let held = model.held.remove(&(lease, n));
                    let applied = counted.used - before[n];
                    assert!(applied == i64::from(actual) || applied == 0 && held.is_none(), "{}: {step:?} {settled:?}", engine.name);
                    model.used[n] = counted.used;
                }
                told.push(format!("{settled:?}"));
            }
            Step::Release { lease } => {
                let released = state.release(LeaseId(lease.into()), &[&keys[0], &keys[1]]).await.unwrap();
                let held = (0..2).filter(|n| model.held.remove(&(lease, *n)).is_some()).count();
                assert_eq!(released, held > 0, "{}: {step:?}", engine.name);
            }
            Step::Reap => told.push(format!("{}", state.reap(&tag, 10).await.unwrap())),
        }
        model.held.retain(|_, (_, until)| *until > now);
        for (n, counted) in state.counters(&[&keys[0], &keys[1]]).await.unwrap().iter().enumerate() {
            assert_eq!((counted.used, counted.reserved), (model.used[n], model.reserved(n)), "{}: after {step:?}", engine.name);
        }
    }
    told
}

#[test]
fn the_books_agree_and_engines_decide_the_same() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let all = runtime.block_on(async { engines_and_cluster() });
    let run = std::sync::atomic::AtomicU64::new(0);
    proptest!(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() }, |(steps in steps())| {
        let run = run.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let told: Vec<Vec<String>> = all.iter().map(|engine| runtime.block_on(replay(engine, run, &steps))).collect();
        for other in &told[1..] {
            prop_assert_eq!(&told[0], other);
        }
    });
    if let Some(server) = all.iter().find_map(|engine| engine.server.as_ref()) {
        server.assert_every_key_expires();
    }
}
