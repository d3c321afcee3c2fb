//! A server that goes away and comes back.

use std::time::{Duration, Instant};

use super::engines::RedisServer;
use crate::store::redis::{Options, RedisState};
use crate::store::{RiskPolicy, RiskSessions, RiskUpdate, StateError};

const POLICY: RiskPolicy = RiskPolicy { half_life: Duration::ZERO, ttl: Duration::from_secs(60), threshold: 1.0 };

#[tokio::test]
async fn a_killed_server_gives_typed_errors_and_is_found_again_without_a_restart() {
    let Some(mut server) = RedisServer::start() else { return };
    let state = server.open(Duration::from_millis(200), None);
    let update = RiskUpdate { add: 0.1, ..RiskUpdate::default() };
    state.record("aa", update, &POLICY).await.unwrap();
    server.kill();
    let mut times = Vec::new();
    for _ in 0..50 {
        let started = Instant::now();
        let error = state.record("aa", update, &POLICY).await.unwrap_err();
        times.push(started.elapsed());
        assert!(matches!(error, StateError::Unavailable(_) | StateError::Timeout(_)), "{error:?}");
        assert!(!error.to_string().contains("127.0.0.1"), "{error}");
    }
    // A busy machine may hold up one or another.
    times.sort_unstable();
    assert!(times[40] < Duration::from_millis(300) && times[49] < Duration::from_secs(5), "a call keeps its time: {times:?}");
    server.restart();
    // Scripts are gone with the old server: the first call also loads them again.
    let deadline = Instant::now() + Duration::from_secs(30);
    let found = loop {
        match state.record("aa", update, &POLICY).await {
            Ok(found) => break found,
            Err(error) => assert!(Instant::now() < deadline, "not found again: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(found.requests, 1, "the new server is empty");
}

/// While a server is known to be away, calls do not wait for it.
#[tokio::test]
async fn an_absent_server_costs_no_time() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let state = RedisState::open(&format!("redis://127.0.0.1:{port}"), Options::default()).unwrap();
    assert!(matches!(state.ping().await, Err(StateError::Unavailable(_))));
    let started = Instant::now();
    for _ in 0..1000 {
        assert!(state.ping().await.is_err());
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?} for 1,000 refusals", started.elapsed());
}

/// A server that accepts connections and never answers.
#[tokio::test]
async fn a_silent_server_costs_the_time_of_a_call() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("redis://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let timeout = Duration::from_millis(50);
    let state = RedisState::open(&address, Options { timeout, ..Options::default() }).unwrap();
    // The best of a few tries: a busy machine may be late.
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let started = Instant::now();
        assert_eq!(state.ping().await, Err(StateError::Timeout(timeout)));
        assert!(started.elapsed() >= timeout, "{:?}", started.elapsed());
        best = best.min(started.elapsed());
    }
    assert!(best < timeout * 3, "{best:?}");
}

#[tokio::test]
async fn a_paused_server_is_used_again_when_it_goes_on() {
    let Some(server) = RedisServer::start() else { return };
    let state = server.open(Duration::from_millis(100), None);
    state.ping().await.unwrap();
    let _: String = server.ask(&["CLIENT", "PAUSE", "400", "ALL"]);
    assert_eq!(state.ping().await, Err(StateError::Timeout(Duration::from_millis(100))));
    tokio::time::sleep(Duration::from_millis(500)).await;
    state.ping().await.unwrap();
}
