use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::limit::{Panel, Part, Policy, Receipt, Standings};
use crate::store::memory::{Capacity, MemoryState};
use crate::store::{Decisions, End, Limits, ManualClock, Question};

const START: i64 = 1_700_000_000_000_000;

struct World {
    clock: Arc<ManualClock>,
    store: MemoryState,
    next: u128,
}

type Asked = Result<(), Box<Denial>>;

async fn decide(store: &MemoryState, lease: LeaseId, panel: &Panel<'_>, receipt: &mut Receipt, seen: impl FnMut(Decision)) -> Asked {
    let mut standings = Standings::default();
    let answer = store.decide(lease, &Question { limits: panel.takes(), ..Question::default() }).await.unwrap();
    let refused = panel.read(lease, &answer, (receipt, &mut standings), seen);
    assert!(standings.iter().all(|standing| standing.scope != SHADOWED), "who only watches tells nobody");
    refused.map_or(Ok(()), Err)
}

/// The scope whose policies only observe in these tests.
const SHADOWED: Scope = Scope::Team;

async fn finish(store: &MemoryState, receipt: &Receipt, tokens: Option<u64>) {
    let end = End { slots: &receipt.slots(Part::All), corrections: &receipt.corrections(Part::All, tokens), ..End::default() };
    store.conclude(receipt.lease().unwrap(), &end).await.unwrap();
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

    async fn early(&mut self, scopes: &[&Arc<ScopePlan>]) -> (Asked, Receipt) {
        let (lease, mut receipt, mut panel) = (self.ask().lease, Receipt::default(), Panel::default());
        scopes.iter().for_each(|plan| panel.requests(Stage::Early, plan, START));
        (decide(&self.store, lease, &panel, &mut receipt, |_| {}).await, receipt)
    }

    async fn tokens(&mut self, plan: &Arc<ScopePlan>, tokens: u64, receipt: &mut Receipt) -> Asked {
        let (lease, mut panel) = (self.ask().lease, Panel::default());
        panel.tokens(plan, tokens, START);
        decide(&self.store, lease, &panel, receipt, |_| {}).await
    }
}

fn plan(scope: Scope, owner: &str, yaml: &str) -> Arc<ScopePlan> {
    let policy: Policy = serde_yaml::from_str(yaml).unwrap();
    Arc::new(ScopePlan::new(scope, "acme", owner, &policy).unwrap())
}

fn denial(result: Asked) -> (u16, String, Option<&'static str>, Option<&'static str>, Option<&'static str>) {
    match result {
        Err(d) => (d.status(), d.code.to_string(), d.scope, d.limit, d.reason),
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
    let Err(told) = &refused else { panic!("{refused:?}") };
    assert!(told.retry_after.is_some_and(|after| after > Duration::ZERO && after <= Duration::from_secs(61)), "{told:?}");
    let said = (429, "rate_limit_exceeded".to_owned(), Some("api_key"), Some("requests_per_minute"), Some("rpm_exceeded"));
    assert_eq!(denial(refused), said);
    // The request that the key refused did not take the organisation's third slot.
    let other = plan(Scope::ApiKey, "k2", "ratelimit: {requests: {per_minute: 2}}");
    assert_eq!(world.early(&[&organisation, &other]).await.0, Ok(()));
    assert_eq!(denial(world.early(&[&organisation, &other]).await.0).2, Some("organisation"));
    world.clock.advance(Duration::from_secs(62));
    assert_eq!(world.early(&[&organisation, &key]).await.0, Ok(()));
}

#[tokio::test]
async fn a_shadow_decides_and_refuses_nothing() {
    let mut world = World::new();
    let shadow = plan(SHADOWED, "t1", "{shadow: true, ratelimit: {requests: {per_minute: 1}}, ip: {allowlist: [10.0.0.0/8]}}");
    for outcome in [Outcome::Allow, Outcome::Shadow] {
        let ask = Ask { address: Some(Some([192, 0, 2, 1].into())), ..world.ask() };
        let (mut seen, mut panel) = (Vec::new(), Panel::default());
        assert_eq!(ask.admitted(Stage::Early, [&*shadow], [&*shadow], |d| seen.push((d.field, d.outcome))), Ok(()));
        panel.requests(Stage::Early, &shadow, START);
        let mut receipt = Receipt::default();
        assert_eq!(decide(&world.store, ask.lease, &panel, &mut receipt, |d| seen.push((d.field, d.outcome))).await, Ok(()));
        assert_eq!(seen, [(Field::Network, Outcome::Shadow), (Field::PerMinute, outcome)]);
    }
}

#[test]
fn sizes_and_addresses_need_no_counter() {
    let mut world = World::new();
    let key = plan(Scope::ApiKey, "k1", "{ip: {blocklist: [192.0.2.0/24]}, ratelimit: {payload: {max_request_bytes: 10, max_tokens: 5}}}");
    let mut asked = |address: [u8; 4], body, max_tokens| {
        let ask = Ask { address: Some(Some(address.into())), body, max_tokens, ..world.ask() };
        ask.admitted(Stage::Early, [&*key], [&*key], |_| {})
    };
    let home = [10, 0, 0, 1];
    assert_eq!(denial(asked(home, Some(11), None)).4, Some("payload_too_large"));
    assert_eq!(denial(asked(home, None, Some(6))).4, Some("max_tokens_exceeded"));
    assert_eq!(asked(home, Some(10), Some(5)), Ok(()));
    assert_eq!(denial(asked([192, 0, 2, 1], Some(11), None)), (403, "ip_not_allowed".to_owned(), Some("api_key"), None, None));
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
        world.store.renew(first.lease().unwrap(), &first.held(Part::All)).await.unwrap();
    }
    assert_eq!(denial(world.early(&[&key]).await.0).4, Some("concurrency_exceeded"), "a long answer keeps its place");
    finish(&world.store, &first, None).await;
    finish(&world.store, &first, None).await;
    assert_eq!(world.early(&[&key]).await.0, Ok(()));
    world.clock.advance(Duration::from_secs(31));
    assert_eq!(world.early(&[&key]).await.0, Ok(()), "a gateway that died keeps no place");
}

#[tokio::test]
async fn tokens_are_estimated_and_corrected() {
    let mut world = World::new();
    let key = plan(Scope::ApiKey, "k1", "ratelimit: {tokens: {per_minute: 100}}");
    let mut receipt = Receipt::default();
    assert_eq!(world.tokens(&key, 80, &mut receipt).await, Ok(()));
    assert_eq!(denial(world.tokens(&key, 30, &mut Receipt::default()).await).4, Some("tpm_exceeded"));
    assert!(receipt.corrections(Part::Global, Some(10)).is_empty() && receipt.corrections(Part::All, Some(80)).is_empty());
    assert_eq!(receipt.corrections(Part::Organisation, Some(10)).len(), 1);
    finish(&world.store, &receipt, Some(10)).await;
    assert_eq!(world.tokens(&key, 30, &mut Receipt::default()).await, Ok(()));
}

#[test]
fn what_is_full_is_remembered_of_rates_alone() {
    use crate::store::{Allowance, Decided, Ruling};
    use std::time::Instant;
    let at = Instant::now();
    let cases = [
        ("ratelimit: {requests: {per_minute: 2}}", true),
        ("ratelimit: {requests: {burst: 2}}", true),
        ("ratelimit: {concurrency: {max: 2}}", false),
        ("{shadow: true, ratelimit: {requests: {per_minute: 2}}}", false),
        ("{overlays: [{scale_percent: 10, until: \"2000-01-01T00:00:00Z\"}], ratelimit: {requests: {per_minute: 2}}}", false),
    ];
    for (yaml, remembered) in cases {
        let key = plan(Scope::ApiKey, "k1", yaml);
        let mut panel = Panel::default();
        panel.requests(Stage::Early, &key, START);
        assert!(key.still_full(|| at).is_none(), "{yaml}");
        let wait = Duration::from_millis(300);
        let told = Allowance { allowed: false, remaining: 0, reset_after: wait, retry_after: Some(wait) };
        panel.remember(&Decided { ruling: Ruling::Limited(0), at: START, limits: vec![told], holds: Vec::new() }, at);
        let full = key.still_full(|| at + Duration::from_millis(100));
        assert_eq!(full.is_some(), remembered, "{yaml}");
        assert!(key.still_full(|| at + wait).is_none(), "{yaml}: then the store is asked again");
        if let Some((_, told, standing)) = full {
            assert_eq!((told.code.as_ref(), told.scope, standing.remaining), ("rate_limit_exceeded", Some("api_key"), 0));
            assert!(told.retry_after.is_some_and(|after| after <= wait - Duration::from_millis(100)), "{told:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_at_once_get_exactly_the_limit() {
    let world = Arc::new(World::new());
    let key = plan(Scope::ApiKey, "k1", "ratelimit: {requests: {per_minute: 100}}");
    let passed = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..1000_u128)
        .map(|n| {
            let (world, key, passed) = (world.clone(), key.clone(), passed.clone());
            tokio::spawn(async move {
                let mut panel = Panel::default();
                panel.requests(Stage::Early, &key, START);
                if decide(&world.store, LeaseId(n), &panel, &mut Receipt::default(), |_| {}).await.is_ok() {
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
