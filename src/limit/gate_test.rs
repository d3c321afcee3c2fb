use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::limit::Policy;
use crate::store::ManualClock;
use crate::store::memory::{Capacity, MemoryState};

const START: i64 = 1_700_000_000_000_000;

struct World {
    clock: Arc<ManualClock>,
    store: MemoryState,
    next: u128,
}

impl World {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(START));
        Self { store: MemoryState::with_clock(Capacity::default(), clock.clone()), clock, next: 0 }
    }

    fn ask(&mut self) -> Ask {
        self.next += 1;
        Ask { lease: LeaseId(self.next), now: START, address: None, body: None, max_tokens: None, tokens: None }
    }

    async fn early(&mut self, scopes: &[&ScopePlan]) -> (Result<(), Refusal>, Receipt) {
        let ask = self.ask();
        let mut receipt = Receipt::default();
        let gate = Gate { stage: Stage::Early, requests: scopes, tokens: &[] };
        (gate.ask(&self.store, &ask, &mut receipt, |_| {}).await, receipt)
    }
}

fn plan(scope: Scope, owner: &str, yaml: &str) -> ScopePlan {
    let policy: Policy = serde_yaml::from_str(yaml).unwrap();
    ScopePlan::new(scope, "acme", owner, &policy).unwrap()
}

fn denial(result: Result<(), Refusal>) -> (u16, String, Option<&'static str>, Option<&'static str>, Option<&'static str>) {
    match result {
        Err(Refusal::Denied(d)) => (d.status(), d.code.to_string(), d.scope, d.limit, d.reason),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_scope_must_pass_and_a_refusal_takes_nothing() {
    let mut world = World::new();
    let organisation = plan(Scope::Organisation, "acme", "ratelimit: {requests: {per_minute: 3}}");
    let key = plan(Scope::ApiKey, "k1", "ratelimit: {requests: {per_minute: 2}}");
    for _ in 0..2 {
        assert_eq!(world.early(&[&organisation, &key]).await.0, Ok(()));
    }
    let (refused, _) = world.early(&[&organisation, &key]).await;
    let Err(Refusal::Denied(told)) = &refused else { panic!("{refused:?}") };
    assert!(told.retry_after.is_some_and(|after| after > Duration::ZERO && after <= Duration::from_secs(61)), "{told:?}");
    let said = (429, "rate_limit_exceeded".to_owned(), Some("api_key"), Some("requests_per_minute"), Some("rpm_exceeded"));
    assert_eq!(denial(refused), said);
    // The key's refusal left the organisation's third place free.
    let other = plan(Scope::ApiKey, "k2", "ratelimit: {requests: {per_minute: 2}}");
    assert_eq!(world.early(&[&organisation, &other]).await.0, Ok(()));
    assert_eq!(denial(world.early(&[&organisation, &other]).await.0).2, Some("organisation"));
    world.clock.advance(Duration::from_secs(62));
    assert_eq!(world.early(&[&organisation, &key]).await.0, Ok(()));
}

#[tokio::test]
async fn a_shadow_decides_and_refuses_nothing() {
    let mut world = World::new();
    let shadow = plan(Scope::ApiKey, "k1", "{shadow: true, ratelimit: {requests: {per_minute: 1}}, ip: {allowlist: [10.0.0.0/8]}}");
    for outcome in [Outcome::Allow, Outcome::Shadow] {
        let ask = Ask { address: Some(Some([192, 0, 2, 1].into())), ..world.ask() };
        let mut seen = Vec::new();
        let gate = Gate { stage: Stage::Early, requests: &[&shadow], tokens: &[] };
        let result = gate.ask(&world.store, &ask, &mut Receipt::default(), |d| seen.push((d.field, d.outcome))).await;
        assert_eq!(result, Ok(()));
        assert_eq!(seen, [(Field::Network, Outcome::Shadow), (Field::PerMinute, outcome)]);
    }
}

#[tokio::test]
async fn sizes_are_refused_before_anything_is_counted() {
    let mut world = World::new();
    let key = plan(Scope::ApiKey, "k1", "ratelimit: {requests: {per_minute: 1}, payload: {max_request_bytes: 10, max_tokens: 5}}");
    let gate = Gate { stage: Stage::Early, requests: &[&key], tokens: &[] };
    for (ask, reason) in
        [(Ask { body: Some(11), ..world.ask() }, "payload_too_large"), (Ask { max_tokens: Some(6), ..world.ask() }, "max_tokens_exceeded")]
    {
        let result = gate.ask(&world.store, &ask, &mut Receipt::default(), |_| {}).await;
        assert_eq!(denial(result).4, Some(reason));
    }
    let ask = Ask { body: Some(10), max_tokens: Some(5), ..world.ask() };
    assert_eq!(gate.ask(&world.store, &ask, &mut Receipt::default(), |_| {}).await, Ok(()));
}

#[tokio::test]
async fn an_address_is_403() {
    let mut world = World::new();
    let key = plan(Scope::ApiKey, "k1", "ip: {blocklist: [192.0.2.0/24]}");
    let ask = Ask { address: Some(Some([192, 0, 2, 1].into())), ..world.ask() };
    let gate = Gate { stage: Stage::PreAuth, requests: &[&key], tokens: &[] };
    let result = gate.ask(&world.store, &ask, &mut Receipt::default(), |_| {}).await;
    assert_eq!(denial(result), (403, "ip_not_allowed".to_owned(), Some("api_key"), None, None));
}

#[tokio::test]
async fn slots_are_given_back_renewed_and_end_with_their_lease() {
    let mut world = World::new();
    let key = plan(Scope::ApiKey, "k1", "ratelimit: {concurrency: {max: 1, lease_ttl_seconds: 30}}");
    let (_, first) = world.early(&[&key]).await;
    assert_eq!(denial(world.early(&[&key]).await.0).4, Some("concurrency_exceeded"));
    assert_eq!(first.renew_every(), Some(Duration::from_secs(10)));
    for _ in 0..5 {
        world.clock.advance(Duration::from_secs(20));
        first.renew(&world.store).await.unwrap();
    }
    assert_eq!(denial(world.early(&[&key]).await.0).4, Some("concurrency_exceeded"), "a long answer keeps its place");
    first.finish(&world.store, None).await.unwrap();
    first.finish(&world.store, None).await.unwrap();
    assert_eq!(world.early(&[&key]).await.0, Ok(()));
    world.clock.advance(Duration::from_secs(31));
    assert_eq!(world.early(&[&key]).await.0, Ok(()), "a gateway that died keeps no place");
}

#[tokio::test]
async fn tokens_are_estimated_and_corrected() {
    let mut world = World::new();
    let key = plan(Scope::ApiKey, "k1", "ratelimit: {tokens: {per_minute: 100}}");
    let gate = Gate { stage: Stage::Final, requests: &[], tokens: &[&key] };
    let mut receipt = Receipt::default();
    let ask = Ask { tokens: Some(80), ..world.ask() };
    assert_eq!(gate.ask(&world.store, &ask, &mut receipt, |_| {}).await, Ok(()));
    let ask = Ask { tokens: Some(30), ..world.ask() };
    assert_eq!(denial(gate.ask(&world.store, &ask, &mut Receipt::default(), |_| {}).await).4, Some("tpm_exceeded"));
    receipt.finish(&world.store, Some(10)).await.unwrap();
    assert_eq!(gate.ask(&world.store, &ask, &mut Receipt::default(), |_| {}).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_at_once_get_exactly_the_limit() {
    let world = Arc::new(World::new());
    let key = Arc::new(plan(Scope::ApiKey, "k1", "ratelimit: {requests: {per_minute: 100}}"));
    let passed = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..1000_u128)
        .map(|n| {
            let (world, key, passed) = (world.clone(), key.clone(), passed.clone());
            tokio::spawn(async move {
                let ask = Ask { lease: LeaseId(n), now: START, address: None, body: None, max_tokens: None, tokens: None };
                let gate = Gate { stage: Stage::Early, requests: &[&key], tokens: &[] };
                if gate.ask(&world.store, &ask, &mut Receipt::default(), |_| {}).await.is_ok() {
                    passed.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(passed.load(Ordering::Relaxed), 100);
}
