//! Limits and budgets in one decision.

use std::time::Duration;

use proptest::prelude::*;

use super::engines::{Engine, START, engines, engines_and_cluster};
use crate::store::{
    Charge, Correction, Counted, Decided, End, Hold, LeaseId, Limit, Question, Ruling, Settled, Settlement, StateError, StateKey, Take,
};

const MINUTE: Duration = Duration::from_secs(60);
const KEEP: i64 = START / 1000 + 86_400_000;

fn key(name: &str) -> StateKey {
    StateKey::new("acme", name)
}

fn take(key: &StateKey, limit: Limit, cost: u64) -> Take<'_> {
    Take { key, limit, cost, shadow: false }
}

fn window(limit: u64) -> Limit {
    Limit::Window { limit, per: MINUTE }
}

fn hold(key: &StateKey, limit: i64, amount: i64) -> Hold<'_> {
    Hold { key, limit, amount, keep_until: KEEP }
}

async fn ask(engine: &Engine, lease: u128, limits: &[Take<'_>], holds: &[Hold<'_>]) -> Decided {
    engine.state.decide(LeaseId(lease), &Question { limits, holds, expires_in: MINUTE }).await.unwrap()
}

#[tokio::test]
async fn nothing_is_taken_anywhere_unless_all_of_it_is() {
    for engine in engines_and_cluster() {
        let (rpm, places, budget, name) = (key("limit:key:k1:rpm"), key("limit:key:k1:concurrency"), key("budget:m:1"), engine.name);
        let limits = [take(&rpm, window(3), 1), take(&places, Limit::Slots { max: 2, ttl: MINUTE }, 1)];
        let holds = [hold(&budget, 100, 60)];
        assert_eq!(ask(&engine, 1, &limits, &holds).await.ruling, Ruling::Unseeded, "{name}: nobody said what was used before");
        assert!(engine.other.seed(&budget, 10, KEEP).await.unwrap(), "{name}");

        let granted = ask(&engine, 1, &limits, &holds).await;
        assert_eq!(granted.ruling, Ruling::Granted, "{name}");
        assert_eq!((granted.limits[0].remaining, granted.limits[1].remaining), (2, 1), "{name}: the first try took nothing");
        assert_eq!(granted.holds, [Counted { used: 10, reserved: 60, seeded: true }], "{name}");

        let refused = ask(&engine, 2, &limits, &holds).await;
        assert_eq!(refused.ruling, Ruling::Exceeded(0), "{name}");
        assert_eq!((refused.limits[0].remaining, refused.limits[1].remaining), (2, 1), "{name}: no room, nothing taken");
        assert_eq!(ask(&engine, 3, &limits, &[hold(&budget, 100, 30)]).await.ruling, Ruling::Granted, "{name}");
        let refused = ask(&engine, 4, &limits, &[hold(&budget, 100, 30)]).await;
        assert_eq!(refused.ruling, Ruling::Limited(1), "{name}: a limit is told before a budget");
        assert_eq!((refused.limits[0].remaining, refused.holds[0].reserved), (1, 90), "{name}");

        let end = End {
            slots: &[&places],
            charges: &[Charge { key: &budget, actual: 7, limit: 100, thresholds: &[15], keep_until: KEEP }],
            ..End::default()
        };
        let settled = engine.other.conclude(LeaseId(1), &end).await.unwrap();
        let after = Counted { used: 17, reserved: 30, seeded: true };
        assert_eq!(settled, Settled { settlement: Settlement::Applied, each: vec![after], crossed: vec![(0, 15)] }, "{name}");
        assert_eq!(engine.state.conclude(LeaseId(1), &end).await.unwrap().settlement, Settlement::Unknown, "{name}: once");
        let end = End { slots: &[&places], released: &[&budget], ..End::default() };
        assert_eq!(engine.state.conclude(LeaseId(3), &end).await.unwrap().settlement, Settlement::Applied, "{name}");
        let free = ask(&engine, 5, &limits[1..], &[hold(&budget, 100, 83)]).await;
        assert_eq!((free.ruling, free.limits[0].remaining), (Ruling::Granted, 1), "{name}: both places and all that is left are free");
        if let Some(server) = &engine.server {
            server.assert_every_key_expires();
        }
    }
}

#[tokio::test]
async fn a_store_that_forgot_takes_nothing_until_it_is_told() {
    for engine in engines() {
        let (rpm, one, two, name) = (key("limit:key:k1:rpm"), key("budget:a:1"), key("budget:b:1"), engine.name);
        let limits = [take(&rpm, window(1), 1)];
        engine.state.seed(&one, 95, KEEP).await.unwrap();
        let holds = [hold(&one, 100, 10), hold(&two, 100, 10)];
        let decided = ask(&engine, 1, &limits, &holds).await;
        assert_eq!((decided.ruling, decided.limits[0].remaining), (Ruling::Unseeded, 1), "{name}: whether there is room is not known");
        engine.other.seed(&two, 0, KEEP).await.unwrap();
        assert_eq!(ask(&engine, 1, &limits, &holds).await.ruling, Ruling::Exceeded(0), "{name}");
        assert_eq!(ask(&engine, 1, &limits, &holds[1..]).await.ruling, Ruling::Granted, "{name}");
        assert_eq!(ask(&engine, 2, &limits, &[hold(&key("budget:c:1"), 1, 1)]).await.ruling, Ruling::Limited(0), "{name}");
    }
}

#[tokio::test]
async fn what_cannot_be_counted_is_refused_as_a_whole() {
    for engine in engines() {
        let (rpm, budget) = (key("limit:key:k1:rpm"), key("budget:a:1"));
        engine.state.seed(&budget, 0, KEEP).await.unwrap();
        for (limits, holds) in [
            (vec![take(&rpm, window(1), 1), take(&rpm, window(1), 1)], vec![]),
            (vec![take(&rpm, window(1), 1)], vec![hold(&budget, 1, -1)]),
            (vec![take(&rpm, window(1), 1)], vec![hold(&budget, 9, 1), hold(&budget, 9, 1)]),
        ] {
            let question = Question { limits: &limits, holds: &holds, expires_in: MINUTE };
            assert!(matches!(engine.state.decide(LeaseId(1), &question).await, Err(StateError::Invalid(_))), "{}", engine.name);
        }
        assert_eq!(ask(&engine, 1, &[take(&rpm, window(1), 1)], &[hold(&budget, 1, 1)]).await.ruling, Ruling::Granted, "{}", engine.name);
        let nothing = Settled { settlement: Settlement::Unknown, each: Vec::new(), crossed: Vec::new() };
        assert_eq!(engine.state.conclude(LeaseId(1), &End::default()).await.unwrap(), nothing, "{}", engine.name);
    }
}

/// A step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Ask { lease: u8, limits: u8, cost: u16, holds: u8, amount: i64 },
    End { lease: u8, delta: i16, actual: Option<i64> },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0u64..20_000_000).prop_map(Step::Wait),
        6 => (0u8..6, 0u8..8, 0u16..40, 0u8..4, 0i64..60)
            .prop_map(|(lease, limits, cost, holds, amount)| Step::Ask { lease, limits, cost, holds, amount }),
        4 => (0u8..6, -30i16..30, prop::option::of(0i64..60)).prop_map(|(lease, delta, actual)| Step::End { lease, delta, actual }),
    ];
    prop::collection::vec(step, 1..50)
}

async fn replay(engine: &Engine, run: u64, steps: &[Step]) -> Vec<(Option<Decided>, Option<Settled>)> {
    let key = |name: &str| StateKey::new(&format!("run{run}"), name);
    let counters = [key("limit:a:1:tpm"), key("limit:a:1:burst"), key("limit:b:1:concurrency")];
    let kinds = [
        Limit::Window { limit: 60, per: Duration::from_millis(7001) },
        Limit::Rate { limit: 7, per: Duration::from_secs(1), burst: 30 },
        Limit::Slots { max: 3, ttl: Duration::from_secs(20) },
    ];
    let accounts = [key("budget:a:1"), key("budget:b:1")];
    engine.state.seed(&accounts[0], 5, KEEP).await.unwrap();
    let (mut told, mut at, mut unseeded) = (Vec::new(), 0, true);
    for step in steps {
        match *step {
            Step::Wait(micros) => engine.clock.advance(Duration::from_micros(micros)),
            Step::Ask { lease, limits, cost, holds, amount } => {
                let takes: Vec<Take<'_>> =
                    (0..3).filter(|n| limits & 1 << n != 0).map(|n| take(&counters[n], kinds[n], cost.into())).collect();
                let holds: Vec<Hold<'_>> = (0..2).filter(|n| holds & 1 << n != 0).map(|n| hold(&accounts[n], 150, amount)).collect();
                let decided = ask(engine, lease.into(), &takes, &holds).await;
                at = decided.at;
                if decided.ruling == Ruling::Unseeded && std::mem::take(&mut unseeded) {
                    engine.other.seed(&accounts[1], 0, KEEP).await.unwrap();
                }
                told.push((Some(decided), None));
            }
            Step::End { lease, delta, actual } => {
                let correction = [Correction { key: &counters[0], per: Duration::from_millis(7001), at, delta: delta.into() }];
                let charge = |key| Charge { key, actual: actual.unwrap_or(0), limit: 150, thresholds: &[50, 80], keep_until: KEEP };
                let charges: Vec<Charge<'_>> = accounts.iter().filter(|_| actual.is_some()).map(charge).collect();
                let released: Vec<&StateKey> = accounts.iter().filter(|_| actual.is_none()).collect();
                let end = End { slots: &[&counters[2]], corrections: &correction, charges: &charges, released: &released };
                told.push((None, Some(engine.other.conclude(LeaseId(lease.into()), &end).await.unwrap())));
            }
        }
    }
    told
}

/// Given the same history, all engines give the same answers to the microsecond.
#[test]
fn engines_decide_the_same_of_everything() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let all = runtime.block_on(async { engines_and_cluster() });
    let run = std::sync::atomic::AtomicU64::new(0);
    proptest!(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() }, |(steps in steps())| {
        let run = run.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let told: Vec<_> = all.iter().map(|engine| runtime.block_on(replay(engine, run, &steps))).collect();
        for other in &told[1..] {
            prop_assert_eq!(&told[0], other);
        }
    });
}
