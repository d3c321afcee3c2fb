//! All limits that the requests of one caller for one resource meet, found once: where there is room everywhere, and mostly
//! there is, nobody has to look for them again.

use std::sync::Arc;
use std::time::Duration;

use super::receipt::RATES;
use super::{Decision, Field, Outcome, Scope, ScopePlan, Stage, Standing, Standings};
use crate::store::{Limit, Meter, Meters, Stands};

/// The limits that a request meets, from the gateway's own to those of the model or MCP server.
#[derive(Debug)]
pub struct Course {
    global: Option<Arc<ScopePlan>>,
    resource: Option<Arc<ScopePlan>>,
    meters: Option<Meters>,
    /// Of each field that is a rate its limits: where they are among the meters, whose they are and which field.
    rates: [Box<[(usize, Scope, Field)]>; RATES],
    /// The decisions that are counted when all are granted, and how many of each kind.
    allowed: Box<[(Decision, u64)]>,
    /// Whose each of the meters is.
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
    /// The course through these policies.
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
                rates[place].push((meters.len(), plan.scope, field));
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
        // What changes with the time is asked when the time is known.
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

    /// Whether it begins and ends with these same policies, not only equal ones.
    pub fn is(&self, global: Option<&Arc<ScopePlan>>, resource: Option<&Arc<ScopePlan>>) -> bool {
        same(self.global.as_ref(), global) && same(self.resource.as_ref(), resource)
    }

    /// What the store is asked to grant; `None` where limits change with the time or cannot be counted as one.
    pub fn meters(&self) -> Option<&Meters> {
        self.meters.as_ref()
    }

    /// What is decided when all is granted: each kind of decision, and how many there are of it. The scope is that of the
    /// first.
    pub fn allowed(&self) -> &[(Decision, u64)] {
        &self.allowed
    }

    /// How often a long request must renew what it holds; `None` if it holds nothing.
    pub fn renew_every(&self) -> Option<Duration> {
        self.renew_every
    }

    /// The limits of which something is given back, with whose they are.
    pub(super) fn lent(&self) -> impl Iterator<Item = (&Meter, Scope)> {
        self.meters.iter().flat_map(Meters::each).zip(self.scopes.iter().copied())
    }

    /// Of each field the limit with the smallest share left.
    pub fn standings(&self, stands: &Stands) -> Standings {
        let Some(meters) = &self.meters else { return Standings::default() };
        let mut standing = [None; RATES];
        for (rates, standing) in self.rates.iter().zip(&mut standing) {
            let mut tightest: Option<(Standing, u64)> = None;
            for (at, scope, field) in rates {
                let (Some(meter), Some(stand)) = (meters.each().get(*at), stands.get(*at)) else { continue };
                let found = Standing::of(*scope, *field, &meter.limit, stand.remaining);
                if tightest.as_ref().is_none_or(|(other, _)| found.tighter(other)) {
                    tightest = Some((found, stand.reset_after));
                }
            }
            *standing = tightest.map(|(found, reset)| Standing { reset_after: Duration::from_micros(reset), ..found });
        }
        Standings(standing)
    }
}
