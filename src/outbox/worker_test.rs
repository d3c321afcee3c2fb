use super::super::tests::{delivery, world};
use super::*;
use crate::outbox::SendSettings;
use crate::plugin::Dispatch;
use crate::store::records::Outbox as _;

/// A store that fails in the middle of a look: what it gave out before is under way, not forgotten under its lease.
#[tokio::test]
async fn what_was_leased_before_the_store_failed_is_sent() {
    let world = Arc::new(world("probed", 1));
    world.outbox.dispatch("probed", &delivery("m1", "done"), false).unwrap();
    let mut worker = Worker::new(world.outbox.clone(), world.records.clone(), world.clone());
    worker.records.migrate().await.unwrap();
    worker.carry().await.unwrap();
    let now = Instant::now();
    let at_once = SendSettings { failures: 1, pause: Duration::ZERO, ..world.settings.usual.clone() };
    worker.receivers.failed("probed", "there", &SendSettings { pause: Duration::from_nanos(1), ..at_once }, now);
    // More destinations are left out than a statement takes.
    for n in 0..40_000 {
        worker.receivers.hold("probed", &format!("d{n}"), now + Duration::from_secs(60));
    }
    let leased = worker.lease(&world.settings, &[Arc::clone(&world.instance)]).await;
    assert!(leased.is_err(), "{leased:?}");
    let over = worker.under_way.join_next().await.unwrap().unwrap();
    assert_eq!(over.attempted.len(), 1);
}

#[tokio::test]
async fn a_delivery_is_kept_for_as_long_after_it_was_given_up() {
    let world = Arc::new(world("kept", 1));
    let week = Duration::from_secs(7 * 86_400);
    let mut old = delivery("m1", "dead");
    old.created = SystemTime::now() - week;
    world.outbox.dispatch("kept", &old, false).unwrap();
    let mut worker = Worker::new(world.outbox.clone(), world.records.clone(), world.clone());
    worker.records.migrate().await.unwrap();
    worker.carry().await.unwrap();
    assert_eq!(worker.lease(&world.settings, &[Arc::clone(&world.instance)]).await.unwrap(), 1);
    let over = worker.under_way.join_next().await.unwrap();
    worker.joined(over, &world.settings);
    worker.settle().await.unwrap();
    let dead = async || world.records.depths().await.unwrap().iter().map(|depth| depth.dead).sum::<u64>();
    worker.look_around(&world.settings, &[]).await.unwrap();
    assert_eq!(dead().await, 1, "it came to be a week ago, and `keep_dead` is an hour");
    tokio::time::sleep(Duration::from_millis(5)).await;
    let settings = super::OutboxSettings { keep_dead: Duration::from_millis(1), ..(*world.settings).clone() };
    worker.look_around(&settings, &[]).await.unwrap();
    assert_eq!(dead().await, 0);
}
