//! Risk sessions.

use std::time::Duration;

use super::engines::{START, engines};
use crate::store::{RiskPolicy, RiskState, RiskUpdate};

const POLICY: RiskPolicy = RiskPolicy { half_life: Duration::from_secs(3600), ttl: Duration::from_secs(86_400), threshold: 0.85 };

fn adds(add: f64) -> RiskUpdate {
    RiskUpdate { add, ..RiskUpdate::default() }
}

/// Equal up to the last digits of a power of two, which two maths libraries may round differently.
fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= 2e-9
}

#[tokio::test]
async fn a_session_adds_up_fades_and_is_forgotten() {
    for engine in engines() {
        let (state, clock, name) = (&engine.state, &engine.clock, engine.name);
        assert_eq!(state.read("ab12", &POLICY).await.unwrap(), None, "{name}");
        let update = RiskUpdate { add: 0.5, flags: 0x8000_0001, redactions: 1, ..RiskUpdate::default() };
        let first = state.record("ab12", update, &POLICY).await.unwrap();
        let expected =
            RiskState { score: 0.5, flags: 0x8000_0001, requests: 1, blocks: 0, redactions: 1, last_seen: START / 1000, crossed: false };
        assert_eq!(first, expected, "{name}");

        clock.advance(Duration::from_secs(3600));
        let half = engine.other.read("ab12", &POLICY).await.unwrap().unwrap();
        assert!(same(half.score, 0.25), "{name}: {half:?}");
        assert_eq!(half.last_seen, START / 1000, "reading is no request");

        let second = RiskUpdate { add: 0.6, flags: 2, blocks: 1, ..RiskUpdate::default() };
        let crossed = state.record("ab12", second, &POLICY).await.unwrap();
        assert!(same(crossed.score, 0.85) && crossed.crossed, "{name}: {crossed:?}");
        assert_eq!((crossed.flags, crossed.requests, crossed.blocks, crossed.redactions), (0x8000_0003, 2, 1, 1), "{name}");
        let above = engine.other.record("ab12", adds(0.1), &POLICY).await.unwrap();
        assert!(!above.crossed, "{name}: a crossing is told once");

        if let Some(server) = &engine.server {
            server.assert_every_key_expires();
        }
        assert!(engine.other.reset("ab12").await.unwrap(), "{name}");
        assert!(!state.reset("ab12").await.unwrap(), "{name}");
        assert_eq!(state.read("ab12", &POLICY).await.unwrap(), None, "{name}");
    }
}

/// Two engines compute the same session from the same history.
#[tokio::test]
async fn engines_compute_the_same() {
    let all = engines();
    let mut seed = 0x9e37_79b9_u64;
    for step in 0..400 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wait = Duration::from_millis(seed >> 40 & 0xf_ffff);
        let update = RiskUpdate {
            add: (seed >> 32 & 0xff) as f64 / 200.0,
            faint: (seed >> 16 & 0xf) as f64 / 100.0,
            faint_ceiling: 0.3,
            flags: 1 << (seed >> 59),
            requests: (seed >> 20 & 3) as u32,
            blocks: (seed >> 8 & 1) as u32,
            redactions: 0,
        };
        let mut told: Vec<RiskState> = Vec::new();
        for engine in &all {
            engine.clock.advance(wait);
            told.push(engine.state.record("c0ffee", update, &POLICY).await.unwrap());
        }
        for other in &told[1..] {
            assert!(same(told[0].score, other.score), "step {step}: {told:?}");
            assert_eq!(RiskState { score: 0.0, ..told[0] }, RiskState { score: 0.0, ..*other }, "step {step}");
        }
    }
}

#[tokio::test]
async fn a_score_has_an_end_and_what_is_no_risk_is_refused() {
    for engine in engines() {
        let name = engine.name;
        for _ in 0..3 {
            let state = engine.state.record("d00d", adds(1e300), &POLICY).await.unwrap();
            assert_eq!(state.score, 64.0, "{name}");
        }
        assert!(engine.state.record("d00d", adds(f64::NAN), &POLICY).await.is_err(), "{name}");
        assert_eq!(engine.state.read("d00d", &POLICY).await.unwrap().unwrap().requests, 3, "{name}: a refused update counts nothing");
    }
}

#[tokio::test]
async fn many_replicas_lose_no_update() {
    for engine in engines() {
        let policy = RiskPolicy { half_life: Duration::ZERO, ..POLICY };
        let tasks: Vec<_> = (0..200)
            .map(|n| {
                let state = if n % 2 == 0 { engine.state.clone() } else { engine.other.clone() };
                tokio::spawn(async move { state.record("feed", adds(0.01), &policy).await.unwrap() })
            })
            .collect();
        let mut crossings = 0;
        for task in tasks {
            crossings += u32::from(task.await.unwrap().crossed);
        }
        let end = engine.state.read("feed", &policy).await.unwrap().unwrap();
        assert!(same(end.score, 2.0) && end.requests == 200 && crossings == 1, "{}: {end:?}, {crossings} crossings", engine.name);
    }
}

#[tokio::test]
async fn small_signs_lift_a_score_to_their_ceiling_and_no_further() {
    for engine in engines() {
        let faint = RiskUpdate { faint: 0.125, faint_ceiling: 0.3, requests: 3, ..RiskUpdate::default() };
        let mut scores = Vec::new();
        for _ in 0..4 {
            scores.push(engine.state.record("fa1e", faint, &POLICY).await.unwrap().score);
        }
        assert_eq!(scores, [0.125, 0.25, 0.3, 0.3], "{}", engine.name);
        assert_eq!(engine.state.record("fa1e", adds(0.5), &POLICY).await.unwrap().score, 0.8, "{}", engine.name);
        let above = engine.state.record("fa1e", faint, &POLICY).await.unwrap();
        assert_eq!((above.score, above.requests), (0.8, 16), "{}: what is above stays as it is", engine.name);
    }
}
