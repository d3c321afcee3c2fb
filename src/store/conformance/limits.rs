//! Rate limits and concurrency.

use std::time::Duration;

use proptest::prelude::*;

use super::engines::{Engine, engines, engines_and_cluster, memory, ready};
use crate::store::{Correction, LeaseId, Limit, StateError, StateKey, StateStore, Take, Taken};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn key(name: &str) -> StateKey {
    StateKey::new("acme", name)
}

fn window(limit: u64, per: Duration) -> Limit {
    Limit::Window { limit, per }
}

fn slots(max: u64) -> Limit {
    Limit::Slots { max, ttl: SECOND * 30 }
}

async fn one(state: &dyn StateStore, key: &StateKey, limit: Limit, cost: u64) -> Taken {
    state.take(LeaseId(1), &[Take { key, limit, cost, shadow: false }]).await.unwrap()
}

#[tokio::test]
async fn a_window_lets_through_its_limit_and_says_when_there_is_more() {
    for engine in engines() {
        let (k, limit, name) = (key("rpm"), window(10, MINUTE), engine.name);
        for n in 0..10 {
            let taken = one(&*engine.state, &k, limit, 1).await;
            assert!(taken.allowed() && taken.each[0].remaining == 9 - n, "{name}: {taken:?}");
            engine.clock.advance(SECOND);
        }
        let refused = one(&*engine.other, &k, limit, 1).await;
        assert_eq!(refused.refused, Some(0), "{name}");
        let wait = refused.each[0].retry_after.unwrap();
        // The first was taken ten seconds ago; it is given back a minute after it was taken, at most one part (a second)
        // late.
        assert!((SECOND * 50..=SECOND * 51).contains(&wait), "{name}: {wait:?}");
        engine.clock.advance(wait - Duration::from_micros(1));
        assert!(!one(&*engine.state, &k, limit, 1).await.allowed(), "{name}: not a microsecond early");
        engine.clock.advance(Duration::from_micros(1));
        assert!(one(&*engine.state, &k, limit, 1).await.allowed(), "{name}: retry_after is the truth");
        assert_eq!(one(&*engine.state, &k, limit, 11).await.each[0].retry_after, None, "{name}: more than the limit is never allowed");
    }
}

#[tokio::test]
async fn a_rate_has_a_burst_and_then_its_pace() {
    for engine in engines() {
        let (k, name) = (key("rps"), engine.name);
        let limit = Limit::Rate { limit: 10, per: SECOND, burst: 5 };
        for n in 0..5 {
            let taken = one(&*engine.state, &k, limit, 1).await;
            assert!(taken.allowed() && taken.each[0].remaining == 4 - n, "{name}: {taken:?}");
        }
        let refused = one(&*engine.state, &k, limit, 1).await;
        assert_eq!((refused.refused, refused.each[0].retry_after), (Some(0), Some(Duration::from_millis(100))), "{name}");
        engine.clock.advance(Duration::from_millis(100));
        assert!(one(&*engine.other, &k, limit, 1).await.allowed(), "{name}");
        assert!(!one(&*engine.state, &k, limit, 1).await.allowed(), "{name}");
        engine.clock.advance(SECOND * 60);
        let full = one(&*engine.state, &k, limit, 0).await;
        assert_eq!((full.each[0].remaining, full.each[0].reset_after), (5, Duration::ZERO), "{name}: asking takes nothing");
    }
}

#[tokio::test]
async fn slots_are_held_renewed_given_back_and_run_out() {
    for engine in engines() {
        let (k, name, limit) = (key("conc"), engine.name, slots(2));
        let hold = async |lease| {
            let taken = engine.state.take(LeaseId(lease), &[Take { key: &k, limit, cost: 1, shadow: false }]).await.unwrap();
            (taken.allowed(), taken.each[0].remaining)
        };
        assert_eq!(hold(1).await, (true, 1), "{name}");
        assert_eq!(hold(2).await, (true, 0), "{name}");
        assert_eq!(hold(2).await, (true, 0), "{name}: asked again it is the same slot");
        assert_eq!(hold(3).await, (false, 0), "{name}");
        engine.clock.advance(SECOND * 20);
        engine.other.renew(LeaseId(1), &[(&k, SECOND * 30)]).await.unwrap();
        engine.clock.advance(SECOND * 11);
        assert_eq!(hold(3).await, (true, 0), "{name}: the second ran out, the first was renewed");
        engine.other.finish(LeaseId(1), &[&k], &[]).await.unwrap();
        engine.other.finish(LeaseId(1), &[&k], &[]).await.unwrap();
        assert_eq!(hold(4).await, (true, 0), "{name}");
        assert_eq!(hold(5).await, (false, 0), "{name}: given back twice is given back once");
        // A stream that lost its slot and continues is counted again.
        engine.clock.advance(MINUTE);
        engine.state.renew(LeaseId(4), &[(&k, SECOND * 30)]).await.unwrap();
        assert_eq!(hold(6).await, (true, 0), "{name}");
        assert_eq!(hold(7).await, (false, 0), "{name}");
        engine.clock.advance(SECOND * 30 - Duration::from_micros(1));
        assert_eq!(hold(8).await, (false, 0), "{name}: not a part of a millisecond early");
        engine.clock.advance(Duration::from_micros(1));
        assert_eq!(hold(8).await, (true, 1), "{name}");
    }
}

#[tokio::test]
async fn all_scopes_or_none() {
    for engine in engines() {
        let (org, team, shadowed, conc, name) = (key("org"), key("team"), key("model"), key("conc"), engine.name);
        let limits = [
            Take { key: &org, limit: window(100, MINUTE), cost: 1, shadow: false },
            Take { key: &shadowed, limit: window(1, MINUTE), cost: 1, shadow: true },
            Take { key: &team, limit: Limit::Rate { limit: 2, per: MINUTE, burst: 2 }, cost: 1, shadow: false },
            Take { key: &conc, limit: slots(50), cost: 1, shadow: false },
        ];
        for n in 0..2 {
            let taken = engine.state.take(LeaseId(n), &limits).await.unwrap();
            assert_eq!(taken.refused, None, "{name}");
            assert_eq!(taken.each[1].allowed, n == 0, "{name}: a shadow says what it would do");
        }
        for n in 2..20 {
            let refused = engine.state.take(LeaseId(n), &limits).await.unwrap();
            assert_eq!(refused.refused, Some(2), "{name}");
            assert_eq!((refused.each[0].remaining, refused.each[3].remaining), (98, 48), "{name}: the others were not touched");
        }
        if let Some(server) = &engine.server {
            server.assert_every_key_expires();
        }
    }
}

#[tokio::test]
async fn estimates_become_what_it_cost() {
    for engine in engines() {
        let (k, name, limit) = (key("tpm"), engine.name, window(1000, MINUTE));
        let correct = async |at, delta| {
            engine.other.finish(LeaseId(1), &[], &[Correction { key: &k, per: MINUTE, at, delta }]).await.unwrap();
            one(&*engine.state, &k, limit, 0).await.each[0].remaining
        };
        let taken = one(&*engine.state, &k, limit, 800).await;
        engine.clock.advance(SECOND * 20);
        let later = one(&*engine.state, &k, limit, 100).await;
        assert_eq!(correct(taken.at, -700).await, 800, "{name}: 700 of 900 given back");
        assert_eq!(correct(later.at, 900).await, 0, "{name}: it cost more than the limit");
        assert_eq!(correct(taken.at, -700).await, 0, "{name}: no more is given back than was taken there");
        engine.clock.advance(SECOND * 41);
        assert_eq!(one(&*engine.state, &k, limit, 0).await.each[0].remaining, 0, "{name}: the thousand count from when they were known");
        engine.clock.advance(SECOND * 20);
        assert_eq!(one(&*engine.state, &k, limit, 0).await.each[0].remaining, 1000, "{name}");
    }
}

#[tokio::test]
async fn what_cannot_be_counted_is_refused() {
    let (a, b) = (key("a"), key("b"));
    for engine in engines() {
        let asked = async |limits: &[Take<'_>]| engine.state.take(LeaseId(1), limits).await;
        let take = |key, limit, cost| Take { key, limit, cost, shadow: false };
        for wrong in [
            vec![take(&a, window(1, SECOND), 1), take(&a, slots(1), 1)],
            vec![take(&b, window(1, Duration::ZERO), 1)],
            vec![take(&b, window(u64::MAX, SECOND), 1)],
            vec![take(&b, window(1, SECOND), u64::MAX)],
            vec![take(&b, Limit::Rate { limit: 2_000_000, per: SECOND, burst: 1 }, 1)],
            vec![take(&b, Limit::Rate { limit: 1, per: SECOND, burst: 0 }, 1)],
            vec![take(&b, Limit::Rate { limit: 1, per: MINUTE * 60 * 24, burst: 1 << 40 }, 1)],
        ] {
            assert!(matches!(asked(&wrong).await, Err(StateError::Invalid(_))), "{}: {wrong:?}", engine.name);
        }
        assert_eq!(asked(&[]).await.unwrap().refused, None, "{}: no limit, no refusal", engine.name);
    }
}

/// Many concurrent calls over two connections: exactly as many as the limit are accepted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_gets_exactly_the_limit() {
    for engine in engines() {
        let tasks: Vec<_> = (0..1000u32)
            .map(|n| {
                let state = if n % 2 == 0 { engine.state.clone() } else { engine.other.clone() };
                tokio::spawn(async move {
                    let (rpm, conc, wide) = (key("rpm"), key("conc"), key("wide"));
                    let limits = [
                        Take { key: &wide, limit: window(900, MINUTE), cost: 1, shadow: false },
                        Take { key: &rpm, limit: window(300, MINUTE), cost: 1, shadow: false },
                        Take { key: &conc, limit: slots(250), cost: 1, shadow: false },
                    ];
                    state.take(LeaseId(n.into()), &limits).await.unwrap().allowed()
                })
            })
            .collect();
        let mut accepted = 0;
        for task in tasks {
            accepted += u32::from(task.await.unwrap());
        }
        let left = one(&*engine.state, &key("wide"), window(900, MINUTE), 0).await.each[0].remaining;
        assert_eq!((accepted, left), (250, 650), "{}", engine.name);
    }
}

/// One step of a random history.
#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Take { lease: u8, which: u8, cost: u16, shadow: bool },
    Finish { lease: u8, delta: i16 },
    Renew { lease: u8 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0u64..3_000_000).prop_map(Step::Wait),
        6 => (0u8..6, 1u8..16, 0u16..40, any::<bool>()).prop_map(|(lease, which, cost, shadow)| Step::Take { lease, which, cost, shadow }),
        2 => (0u8..6, -30i16..30).prop_map(|(lease, delta)| Step::Finish { lease, delta }),
        1 => (0u8..6).prop_map(|lease| Step::Renew { lease }),
    ];
    prop::collection::vec(step, 1..60)
}

async fn replay(engine: &Engine, run: u64, steps: &[Step]) -> Vec<Taken> {
    let names = ["a", "b", "c", "d"].map(|n| StateKey::new(&format!("run{run}"), n));
    let limits = [
        window(60, Duration::from_millis(7001)),
        Limit::Rate { limit: 7, per: SECOND, burst: 30 },
        slots(3),
        window(25, Duration::from_micros(1_000_003)),
    ];
    let (mut told, mut at) = (Vec::new(), 0);
    for step in steps {
        match *step {
            Step::Wait(micros) => engine.clock.advance(Duration::from_micros(micros)),
            Step::Take { lease, which, cost, shadow } => {
                let wanted: Vec<Take<'_>> = (0..4)
                    .filter(|n| which & 1 << n != 0)
                    .map(|n| Take { key: &names[n], limit: limits[n], cost: cost.into(), shadow: shadow && n == 0 })
                    .collect();
                let taken = engine.state.take(LeaseId(lease.into()), &wanted).await.unwrap();
                at = taken.at;
                told.push(taken);
            }
            Step::Finish { lease, delta } => {
                let correction = Correction { key: &names[0], per: Duration::from_millis(7001), at, delta: delta.into() };
                engine.other.finish(LeaseId(lease.into()), &[&names[2]], &[correction]).await.unwrap();
            }
            Step::Renew { lease } => engine.state.renew(LeaseId(lease.into()), &[(&names[2], SECOND * 2)]).await.unwrap(),
        }
    }
    told
}

/// Given the same history, all engines give the same answers to the microsecond.
#[test]
fn engines_decide_the_same() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let all = runtime.block_on(async { engines_and_cluster() });
    let run = std::sync::atomic::AtomicU64::new(0);
    proptest!(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() }, |(steps in steps())| {
        let run = run.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let told: Vec<Vec<Taken>> = all.iter().map(|engine| runtime.block_on(replay(engine, run, &steps))).collect();
        for other in &told[1..] {
            prop_assert_eq!(&told[0], other);
        }
    });
}

proptest! {
    /// The bound: in any span of the window's length at most the limit, for any arrivals.
    #[test]
    fn no_span_of_a_window_holds_more_than_the_limit(
        limit in 1u64..50, per in 60u64..5_000_000, arrivals in prop::collection::vec((0u64..400_000, 1u64..5), 1..300)
    ) {
        let engine = memory();
        let (k, per) = (key("w"), Duration::from_micros(per));
        let mut accepted: Vec<(i64, u64)> = Vec::new();
        for (wait, cost) in arrivals {
            engine.clock.advance(Duration::from_micros(wait));
            let taken = ready(one(&*engine.state, &k, window(limit, per), cost));
            let since = taken.at - per.as_micros() as i64;
            let recent: u64 = accepted.iter().filter(|(at, _)| *at > since).map(|(_, cost)| cost).sum();
            if taken.allowed() {
                prop_assert!(recent + cost <= limit);
                accepted.push((taken.at, cost));
            } else {
                // Nor is anything refused without need: a span longer by one part, and a microsecond for rounding, is
                // really full.
                let part = (per.as_micros() as i64 + 59) / 60;
                let wider: u64 = accepted.iter().filter(|(at, _)| *at > since - part - 1).map(|(_, cost)| cost).sum();
                prop_assert!(wider + cost > limit);
            }
        }
    }

    /// A rate accepts at most `limit + burst` in any span, and a caller who waits as long as it was told is accepted.
    #[test]
    fn no_span_of_a_rate_holds_more_than_limit_and_burst(
        limit in 1u64..50, burst in 1u64..20, arrivals in prop::collection::vec(0u64..400_000, 1..300)
    ) {
        let engine = memory();
        let (k, rate) = (key("r"), Limit::Rate { limit, per: SECOND, burst });
        let mut accepted: Vec<i64> = Vec::new();
        for wait in arrivals {
            engine.clock.advance(Duration::from_micros(wait));
            let taken = ready(one(&*engine.state, &k, rate, 1));
            if taken.allowed() {
                accepted.push(taken.at);
                let recent = accepted.iter().filter(|at| **at > taken.at - 1_000_000).count() as u64;
                prop_assert!(recent <= limit + burst);
            } else {
                engine.clock.advance(taken.each[0].retry_after.unwrap());
                let again = ready(one(&*engine.state, &k, rate, 1));
                prop_assert!(again.allowed());
                accepted.push(again.at);
            }
        }
    }
}
