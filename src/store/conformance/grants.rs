//! [`Decisions::grant`] of the memory engine grants exactly what [`Decisions::decide`] would have granted.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::engines::{Engine, START, memory, ready};
use crate::store::{
    Charge, Correction, End, Hold, LeaseId, Lent, Limit, Meter, Meters, Question, Ruling, Settled, Stands, StateKey, Take, Whole,
};

const KEEP: i64 = START / 1000 + 86_400_000;
const TTL: Duration = Duration::from_secs(60);

/// Limits of three owners; the last one counts tokens.
fn meters(run: &str) -> Vec<Meter> {
    let key = |name: &str| StateKey::new(run, name);
    let second = Duration::from_secs(1);
    vec![
        Meter::new(&key("limit:a:1:rpm"), Limit::Window { limit: 9, per: Duration::from_millis(7001) }, false),
        Meter::new(&key("limit:b:1:burst"), Limit::Rate { limit: 7, per: second, burst: 5 }, false),
        Meter::new(&key("limit:c:1:concurrency"), Limit::Slots { max: 4, ttl: second * 20 }, false),
        Meter::new(&key("limit:a:1:tpm"), Limit::Window { limit: 150, per: Duration::from_millis(9001) }, true),
    ]
}

#[derive(Debug, Clone)]
enum Step {
    Wait(u64),
    Ask { tokens: u64, holds: usize, amount: i64 },
    End { which: usize, actual: i64, left: bool },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0u64..3_000_000).prop_map(Step::Wait),
        6 => (0u64..60, 0usize..3, 0i64..60).prop_map(|(tokens, holds, amount)| Step::Ask { tokens, holds, amount }),
        3 => (0usize..8, 0i64..80, any::<bool>()).prop_map(|(which, actual, left)| Step::End { which, actual, left }),
    ];
    prop::collection::vec(step, 1..80)
}

/// The outcome of a step: what is left of each limit and until when, or how the end was settled.
type Told = (Option<Vec<(u64, u64)>>, Option<Settled>);

fn replay(engine: &Engine, steps: &[Step], at_once: bool) -> Vec<Told> {
    let all = Meters::new(meters("run")).unwrap();
    let accounts = [StateKey::new("run", "budget:a:1"), StateKey::new("run", "budget:b:1")];
    accounts.iter().for_each(|key| assert!(ready(engine.state.seed(key, 5, KEEP)).unwrap()));
    let (mut told, mut open, mut lease) = (Vec::new(), Vec::new(), 0);
    for step in steps {
        match *step {
            Step::Wait(micros) => engine.clock.advance(Duration::from_micros(micros)),
            Step::Ask { tokens, holds, amount } => {
                lease += 1;
                let holds: Vec<Hold<'_>> = accounts[..holds].iter().map(|key| Hold { key, limit: 150, amount, keep_until: KEEP }).collect();
                let mut stands = Stands::default();
                let whole = Whole { meters: &all, tokens, holds: &holds, expires_in: TTL };
                let granted = if at_once { engine.state.grant(LeaseId(lease), &whole, &mut stands) } else { None };
                if let Some(at) = granted {
                    open.push((lease, at, tokens, holds.len()));
                    told.push((Some(stands[..4].iter().map(|stand| (stand.remaining, stand.reset_after)).collect()), None));
                    continue;
                }
                let take = |meter| {
                    let Meter { key, limit, by_tokens, .. }: &Meter = meter;
                    Take { key, limit: *limit, cost: if *by_tokens { tokens } else { 1 }, shadow: false }
                };
                let takes: Vec<Take<'_>> = all.each().iter().map(take).collect();
                let question = Question { limits: &takes, holds: &holds, expires_in: TTL };
                let decided = ready(engine.state.decide(LeaseId(lease), &question)).unwrap();
                let granted = decided.ruling == Ruling::Granted;
                assert!(!granted || !at_once, "there was room: {decided:?}");
                let stands = decided.limits.iter().map(|limit| (limit.remaining, limit.reset_after.as_micros() as u64));
                told.push((granted.then(|| stands.collect()), None));
                if granted {
                    open.push((lease, decided.at, tokens, holds.len()));
                }
            }
            Step::End { which, actual, left } if !open.is_empty() => {
                let (lease, at, tokens, holds) = open.remove(which % open.len());
                let delta = actual - tokens as i64;
                let charge = |key| Charge { key, actual, limit: 150, thresholds: &[50, 80], keep_until: KEEP };
                let charges: Vec<Charge<'_>> = accounts[..holds].iter().filter(|_| left).map(charge).collect();
                let released: Vec<&StateKey> = accounts[..holds].iter().filter(|_| !left).collect();
                let end = End { charges: &charges, released: &released, ..End::default() };
                let settled = if at_once {
                    engine.state.close(LeaseId(lease), &Lent { meters: &all, at, delta }, &end).unwrap()
                } else {
                    let [_, _, places, window] = all.each() else { panic!("{all:?}") };
                    let per = if let Limit::Window { per, .. } = window.limit { per } else { TTL };
                    let corrections = [Correction { key: &window.key, per, at, delta }];
                    let corrections = if delta == 0 { &[][..] } else { &corrections };
                    ready(engine.state.conclude(LeaseId(lease), &End { slots: &[&places.key], corrections, ..end })).unwrap()
                };
                told.push((None, Some(settled)));
            }
            Step::End { .. } => {}
        }
    }
    told
}

proptest! {
    #[test]
    fn what_is_granted_at_once_is_what_would_have_been_decided(steps in steps()) {
        let (mut asked, mut granted) = (replay(&memory(), &steps, false), replay(&memory(), &steps, true));
        // The number of free slots is not reported by `grant`, so it is not compared.
        for told in asked.iter_mut().chain(&mut granted) {
            told.0.iter_mut().for_each(|stands| stands[2] = (0, 0));
        }
        prop_assert_eq!(asked, granted);
    }
}

/// Threads compete for one common limit, and each also takes from limits of its own. A granted request takes from all of
/// them, a refused one from none.
#[test]
fn a_refusal_leaves_nothing_behind_whoever_asks_at_the_same_time() {
    let (state, key) = (memory().state, |name: String| StateKey::new("acme", &name));
    let window = |limit| Limit::Window { limit, per: TTL };
    let meters: Vec<Arc<Meters>> = (0..8)
        .map(|n| {
            let own = Meter::new(&key(format!("limit:key:k{n}:rpm")), window(200), false);
            let common = Meter::new(&key("limit:organisation:acme:rpm".into()), window(1000), false);
            let places = Meter::new(&key(format!("limit:key:k{n}:concurrency")), Limit::Slots { max: 1000, ttl: TTL }, false);
            // The order of the limits must not matter.
            Arc::new(Meters::new(if n % 2 == 0 { vec![own, places, common] } else { vec![common, own, places] }).unwrap())
        })
        .collect();
    let threads: Vec<_> = (0_u128..)
        .zip(&meters)
        .map(|(n, meters)| {
            let (state, meters) = (Arc::clone(&state), Arc::clone(meters));
            std::thread::spawn(move || {
                let whole = Whole { meters: &meters, tokens: 0, holds: &[], expires_in: TTL };
                (0..400).filter(|at| state.grant(LeaseId(n << 64 | at), &whole, &mut Stands::default()).is_some()).count()
            })
        })
        .collect();
    let passed: Vec<usize> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert_eq!(passed.iter().sum::<usize>(), 1000, "{passed:?}");
    for (n, (passed, meters)) in passed.iter().zip(&meters).enumerate() {
        for meter in meters.each().iter().filter(|meter| meter.key.as_str().contains(&format!("k{n}:"))) {
            let take = [Take { key: &meter.key, limit: meter.limit, cost: 0, shadow: true }];
            let taken = ready(state.take(LeaseId(u128::MAX), &take)).unwrap();
            let (most, own) = if let Limit::Slots { max, .. } = meter.limit { (max, 1) } else { (200, 0) };
            assert_eq!(taken.each[0].remaining, most - own - *passed as u64, "{:?}", meter.key);
        }
    }
}
