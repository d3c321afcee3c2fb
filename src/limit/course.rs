//! All limits that apply to one caller's requests for one resource, collected once: as long as all of them have room, which is
//! usual, a request is granted in one call without collecting them again.

use std::sync::Arc;
use std::time::Duration;

use super::receipt::RATES;
use super::{Decision, Field, Outcome, Scope, ScopePlan, Stage, Standing, Standings};
use crate::store::{Limit, Meter, Meters, Stand, Stands};

/// The limits that apply to a request, from the gateway-wide ones to those of the model or MCP server.
#[derive(Debug)]
pub struct Course {
    global: Option<Arc<ScopePlan>>,
    resource: Option<Arc<ScopePlan>>,
    meters: Option<Meters>,
    /// For each rate field, its limits: the index among the meters, and the standing from which headers are derived.
    rates: [Box<[(usize, Standing)]>; RATES],
    /// The decisions to count when everything is granted, one per stage and field, with their numbers.
    allowed: Box<[(Decision, u64)]>,
    /// The scope of each meter.
    scopes: Box<[Scope]>,
    renew_every: Option<Duration>,
}

fn same(this: Option<&Arc<ScopePlan>>, that: Option<&Arc<ScopePlan>>) -> bool {
    match (this, that) {
        (Some(this), Some(that)) => Arc::ptr_eq(this, that),
        (this, that) => this.is_none() && that.is_none(),
    }
}

impl Course {
    /// Collects the limits of these policies.
    pub fn new(global: Option<&Arc<ScopePlan>>, scopes: &[Arc<ScopePlan>], resource: Option<&Arc<ScopePlan>>) -> Self {
        let of = |plans: &[Arc<ScopePlan>], stage| plans.iter().map(|plan| (stage, Arc::clone(plan))).collect::<Vec<_>>();
        let global_plan = global.map_or(&[][..], std::slice::from_ref);
        let resource_plan = resource.map_or(&[][..], std::slice::from_ref);
        let plans = [of(global_plan, Stage::PreAuth), of(scopes, Stage::Early), of(resource_plan, Stage::Final)].concat();
        let requests = plans.iter().flat_map(|(stage, plan)| plan.requests().iter().map(move |counter| (*stage, plan, counter)));
        let tokens = plans.iter().filter_map(|(_, plan)| Some((Stage::Final, plan, plan.tokens()?)));
        let (mut meters, mut rates, mut owners) = (Vec::new(), [const { Vec::new() }; RATES], Vec::new());
        let mut allowed: Vec<(Decision, u64)> = Vec::new();
        for (stage, plan, counter) in requests.chain(tokens) {
            let field = counter.field;
            if let Some(place) = Standing::place(field).filter(|_| !plan.shadow) {
                rates[place].push((meters.len(), Standing::of(plan.scope, field, &counter.limit, 0)));
            }
            let decision = Decision { stage, scope: plan.scope, field, outcome: Outcome::Allow };
            match allowed.iter_mut().find(|(known, _)| (known.stage, known.field) == (stage, field)) {
                Some((_, count)) => *count += 1,
                None => allowed.push((decision, 1)),
            }
            owners.push(plan.scope);
            meters.push(Meter::new(&counter.key, counter.limit, field == Field::TokensPerMinute));
        }
        let spans = meters.iter().filter_map(|meter| if let Limit::Slots { ttl, .. } = meter.limit { Some(ttl / 3) } else { None });
        let renew_every = spans.min();
        // Overlays change limits over time, so they cannot be collected beforehand.
        let is_fixed = plans.iter().all(|(_, plan)| plan.policy().overlays.is_empty());
        Self {
            global: global.cloned(),
            resource: resource.cloned(),
            meters: Some(meters).filter(|_| is_fixed).and_then(Meters::new),
            rates: rates.map(Vec::into_boxed_slice),
            allowed: allowed.into(),
            scopes: owners.into(),
            renew_every,
        }
    }

    /// Whether it was collected from these very policies (the same objects, not equal ones).
    pub fn is(&self, global: Option<&Arc<ScopePlan>>, resource: Option<&Arc<ScopePlan>>) -> bool {
        same(self.global.as_ref(), global) && same(self.resource.as_ref(), resource)
    }

    /// What the store is asked to grant; `None` if limits change over time or cannot be granted in one call.
    pub fn meters(&self) -> Option<&Meters> {
        self.meters.as_ref()
    }

    /// The decisions to count when everything is granted, one per stage and field, with their numbers. The scope of each is that
    /// of the first limit.
    pub fn allowed(&self) -> &[(Decision, u64)] {
        &self.allowed
    }

    /// How often a long request must renew its slots; `None` if there are none.
    pub fn renew_every(&self) -> Option<Duration> {
        self.renew_every
    }

    /// The meters with their scopes.
    pub(super) fn lent(&self) -> impl Iterator<Item = (&Meter, Scope)> {
        self.meters.iter().flat_map(Meters::each).zip(self.scopes.iter().copied())
    }

    /// The standings of a granted request: for each field, the limit with the smallest share left.
    pub fn standings(&self, stands: &Stands) -> Standings {
        let mut standing = [None; RATES];
        for (rates, standing) in self.rates.iter().zip(&mut standing) {
            let mut tightest: Option<(&Standing, &Stand)> = None;
            for (at, rate) in rates {
                let Some(stand) = stands.get(*at) else { continue };
                // Cross-multiplied: whether `rate` has a smaller share of its limit left than `other`.
                let is_tighter = |(other, least): (&Standing, &Stand)| {
                    u128::from(stand.remaining) * u128::from(other.limit) < u128::from(least.remaining) * u128::from(rate.limit)
                };
                if tightest.is_none_or(is_tighter) {
                    tightest = Some((rate, stand));
                }
            }
            *standing = tightest.map(|(rate, stand)| Standing {
                remaining: stand.remaining,
                reset_after: Duration::from_micros(stand.reset_after),
                ..*rate
            });
        }
        Standings(standing)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn plan(scope: Scope, yaml: &str) -> Arc<ScopePlan> {
        Arc::new(ScopePlan::new(scope, "acme", "x", &serde_yaml::from_str(yaml).unwrap()).unwrap())
    }

    #[test]
    fn of_each_field_the_smallest_share_stands_and_who_only_watches_tells_nobody() {
        let organisation = plan(Scope::Organisation, "ratelimit: {requests: {per_minute: 600}, tokens: {per_minute: 50}}");
        let key = plan(Scope::ApiKey, "ratelimit: {requests: {per_minute: 60}, concurrency: {max: 9, lease_ttl_seconds: 6}}");
        let model = plan(Scope::Model, "{shadow: true, ratelimit: {requests: {per_minute: 100}}}");
        let course = Course::new(None, &[organisation, key], Some(&model));
        let meters = course.meters().unwrap();
        let names: Vec<_> = meters.each().iter().map(|meter| meter.key.as_str().rsplit_once("limit:").unwrap().1).collect();
        assert_eq!(names, ["organisation:x:rpm", "api_key:x:rpm", "api_key:x:concurrency", "model:x:rpm", "organisation:x:tpm"]);
        let mut stands = Stands::default();
        for (stand, remaining) in stands.iter_mut().zip([10, 5, 0, 0, 7]) {
            *stand = Stand { remaining, reset_after: 1500 };
        }
        let standings = course.standings(&stands);
        let told: Vec<_> = standings.iter().map(|s| (s.scope, s.field, s.limit, s.remaining, s.reset_after.as_micros())).collect();
        let expected = [(Scope::Organisation, Field::PerMinute, 600, 10, 1500), (Scope::Organisation, Field::TokensPerMinute, 50, 7, 1500)];
        assert_eq!(told, expected, "10 of 600 are less than 5 of 60");
        let allowed: Vec<_> = course.allowed().iter().map(|(decision, count)| (decision.stage, decision.field, *count)).collect();
        let early = |field, count| (Stage::Early, field, count);
        let last = |field| (Stage::Final, field, 1);
        let all = [early(Field::PerMinute, 2), early(Field::Concurrency, 1), last(Field::PerMinute), last(Field::TokensPerMinute)];
        assert_eq!(allowed, all);
        assert_eq!(course.renew_every(), Some(Duration::from_secs(2)));
    }

    #[test]
    fn what_changes_with_the_time_is_not_granted_at_once() {
        let always = plan(Scope::Organisation, "ratelimit: {requests: {per_minute: 9}}");
        let overlaid = "{ratelimit: {requests: {per_minute: 9}}, overlays: [{scale_percent: 10, until: \"2100-01-01T00:00:00Z\"}]}";
        let now = plan(Scope::ApiKey, overlaid);
        assert!(Course::new(None, std::slice::from_ref(&always), None).meters().is_some());
        assert!(Course::new(None, &[Arc::clone(&always), now], None).meters().is_none());
        assert!(Course::new(None, &[], None).meters().is_some_and(|meters| meters.each().is_empty()));
        let course = Course::new(Some(&always), &[], None);
        assert!(course.is(Some(&always), None));
        assert!(!course.is(None, None) && !course.is(Some(&plan(Scope::Organisation, "ratelimit: {requests: {per_minute: 9}}")), None));
    }
}
