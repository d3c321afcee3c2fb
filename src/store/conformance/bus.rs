//! The bus.

use std::time::Duration;

use super::engines::{RedisServer, engines, engines_and_cluster};
use crate::store::{InvalidationBus, Notice, Subscription};

/// The next notice; panics when none arrives within five seconds.
async fn soon(subscription: &mut Subscription) -> Option<Notice> {
    tokio::time::timeout(Duration::from_secs(5), subscription.next()).await.unwrap()
}

/// The next message, skipping gaps.
async fn message(subscription: &mut Subscription) -> String {
    loop {
        if let Notice::Message(text) = soon(subscription).await.unwrap() {
            return text.to_string();
        }
    }
}

#[tokio::test]
async fn every_replica_hears_every_message_in_order() {
    for engine in engines_and_cluster() {
        let mut listeners = [engine.state.subscribe(), engine.other.subscribe(), engine.other.subscribe()];
        if engine.name != "memory" {
            // Each listener starts with a gap: messages sent before the connection was made may have been missed.
            for listener in &mut listeners {
                assert_eq!(soon(listener).await, Some(Notice::Gap));
            }
        }
        for n in 0..3 {
            engine.state.publish(&format!("key:{n}")).await.unwrap();
        }
        for listener in &mut listeners {
            let heard = [message(listener).await, message(listener).await, message(listener).await];
            assert_eq!(heard, ["key:0", "key:1", "key:2"], "{}", engine.name);
        }
    }
}

#[tokio::test]
async fn who_is_slow_is_told_of_the_gap() {
    for engine in engines() {
        let mut slow = engine.state.subscribe();
        if engine.server.is_some() {
            assert_eq!(soon(&mut slow).await, Some(Notice::Gap));
        }
        let mut witness = engine.state.subscribe();
        for n in 0..3000 {
            engine.other.publish(&n.to_string()).await.unwrap();
            message(&mut witness).await;
        }
        assert_eq!(soon(&mut slow).await, Some(Notice::Gap), "{}", engine.name);
        assert!(message(&mut slow).await.parse::<u32>().unwrap() > 1000, "{}", engine.name);
    }
}

#[tokio::test]
async fn a_lost_connection_is_a_gap_and_is_made_again() {
    let Some(mut server) = RedisServer::start() else { return };
    let state = server.open(Duration::from_secs(1), None);
    let mut listener = state.subscribe();
    assert_eq!(soon(&mut listener).await, Some(Notice::Gap));
    server.kill();
    server.restart();
    assert_eq!(soon(&mut listener).await, Some(Notice::Gap));
    state.publish("key:1").await.unwrap();
    assert_eq!(message(&mut listener).await, "key:1");

    // The connection ends with the last listener; the next listener makes a new one.
    drop(listener);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let listeners: Vec<(String, u64)> = server.ask(&["PUBSUB", "NUMSUB", "odock:cache-invalidation"]);
    assert_eq!(listeners[0].1, 0);
    assert_eq!(soon(&mut state.subscribe()).await, Some(Notice::Gap));
}
