//! What a request holds and has taken of limits, until it is over.

use std::sync::Arc;
use std::time::Duration;

use super::{Course, Field, Scope};
use crate::store::{Correction, LeaseId, Lent, Limit, StateKey};

/// The state of a limit after it was asked, for the answer's headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The owner of the limit.
    pub scope: Scope,
    /// The field of the policy.
    pub field: Field,
    /// How much the limit allows per window.
    pub limit: u64,
    /// The window.
    pub per: Duration,
    /// How much is left.
    pub remaining: u64,
    /// The time until the whole limit is available again.
    pub reset_after: Duration,
}

/// What a request holds (slots) and has taken (tokens).
#[derive(Debug, Clone, Default)]
pub struct Receipt {
    lease: Option<LeaseId>,
    /// What was granted in one call.
    course: Option<Arc<Course>>,
    /// What was granted counter by counter.
    taken: Vec<Taken>,
    /// When tokens were taken (µs, the store's clock), and how many.
    at: i64,
    tokens: u64,
}

/// The state of a request's limits: for each field, the limit with the smallest share left, which will be the first to refuse.
#[derive(Debug, Clone, Copy, Default)]
pub struct Standings(pub(super) [Option<Standing>; RATES]);

/// What one counter has granted.
#[derive(Debug, Clone)]
struct Taken {
    key: StateKey,
    /// The lease of a slot, or the window of a token limit.
    span: Duration,
    what: What,
    global: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Slot,
    Tokens,
}

/// The number of rate fields, see [`Standing::place`].
pub(super) const RATES: usize = 4;

/// A part of the scopes whose counters share a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All scopes.
    All,
    /// The gateway-wide policy.
    Global,
    /// All others, which belong to one organisation.
    Organisation,
}

impl Part {
    fn has(self, global: bool) -> bool {
        match self {
            Self::All => true,
            Self::Global => global,
            Self::Organisation => !global,
        }
    }
}

impl Standing {
    /// The index of a field among the rates; `None` for fields that are not rates.
    pub(super) const fn place(field: Field) -> Option<usize> {
        match field {
            Field::Burst => Some(0),
            Field::PerSecond => Some(1),
            Field::PerMinute => Some(2),
            Field::TokensPerMinute => Some(3),
            Field::Network | Field::RequestBytes | Field::MaxTokens | Field::Concurrency => None,
        }
    }

    /// A standing without a reset time.
    pub(super) fn of(scope: Scope, field: Field, limit: &Limit, remaining: u64) -> Self {
        let (limit, per) = match *limit {
            Limit::Slots { max, .. } => (max, Duration::ZERO),
            Limit::Window { limit, per } => (limit, per),
            Limit::Rate { per, burst, .. } => (burst, per),
        };
        Self { scope, field, limit, per, remaining, reset_after: Duration::ZERO }
    }

    /// Whether this limit has a smaller share left than another.
    pub(super) fn tighter(&self, other: &Self) -> bool {
        match (self.remaining.checked_mul(other.limit), other.remaining.checked_mul(self.limit)) {
            (Some(mine), Some(its)) => mine < its,
            _ => u128::from(self.remaining) * u128::from(other.limit) < u128::from(other.remaining) * u128::from(self.limit),
        }
    }
}

impl Standings {
    /// The tightest limit of each field.
    pub fn iter(&self) -> impl Iterator<Item = &Standing> + Clone {
        self.0.iter().flatten()
    }

    /// Keeps a standing if it is tighter than the known one of the same field.
    pub fn stands(&mut self, standing: Standing) {
        let Some(place) = Standing::place(standing.field) else { return };
        if self.0[place].as_ref().is_none_or(|other| standing.tighter(other)) {
            self.0[place] = Some(standing);
        }
    }
}

impl Receipt {
    /// Whether nothing has to be given back.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.course.is_none()
    }

    /// Notes a grant in one call: the whole course, with so many tokens, at `at` by the store's clock.
    pub fn granted(&mut self, lease: LeaseId, course: Arc<Course>, tokens: u64, at: i64) {
        (self.lease, self.at, self.tokens) = (Some(lease), at, tokens);
        self.course = Some(course);
    }

    /// What was granted in one call, now that the number of tokens is known; `None` if nothing was, or something else was granted
    /// as well.
    pub fn lent(&self, tokens: u64) -> Option<Lent<'_>> {
        let meters = self.course.as_ref()?.meters().filter(|_| self.taken.is_empty())?;
        Some(Lent { meters, at: self.at, delta: self.delta(tokens) })
    }

    /// The error of the token estimate.
    fn delta(&self, tokens: u64) -> i64 {
        let whole = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
        whole(tokens).saturating_sub(whole(self.tokens))
    }

    pub(super) fn begin(&mut self, lease: LeaseId, counters: usize) {
        self.lease = Some(lease);
        // Usually half of the counters grant something that is given back.
        self.taken.reserve(counters / 2);
    }

    pub(super) fn holds(&mut self, scope: Scope, key: &StateKey, ttl: Duration) {
        self.taken.push(Taken { key: key.clone(), span: ttl, what: What::Slot, global: scope == Scope::Global });
    }

    pub(super) fn took(&mut self, scope: Scope, key: &StateKey, per: Duration, (at, tokens): (i64, u64)) {
        (self.at, self.tokens) = (at, tokens);
        self.taken.push(Taken { key: key.clone(), span: per, what: What::Tokens, global: scope == Scope::Global });
    }

    /// The lease under which slots are held.
    pub fn lease(&self) -> Option<LeaseId> {
        self.lease
    }

    fn of(&self, part: Part, what: What) -> impl Iterator<Item = (&StateKey, Duration)> {
        let granted = self.course.iter().flat_map(|course| course.lent()).filter_map(move |(meter, scope)| {
            let span = match (what, meter.limit) {
                (What::Slot, Limit::Slots { ttl, .. }) => ttl,
                (What::Tokens, Limit::Window { per, .. }) if meter.by_tokens => per,
                (What::Slot | What::Tokens, _) => return None,
            };
            part.has(scope == Scope::Global).then_some((&meter.key, span))
        });
        let taken = self.taken.iter().filter(move |taken| taken.what == what && part.has(taken.global));
        granted.chain(taken.map(|taken| (&taken.key, taken.span)))
    }

    /// How often a long request must renew its slots; `None` if it holds none.
    pub fn renew_every(&self) -> Option<Duration> {
        let granted = self.course.as_ref().and_then(|course| course.renew_every());
        let taken = self.taken.iter().filter(|taken| taken.what == What::Slot).map(|slot| slot.span / 3);
        taken.chain(granted).min()
    }

    /// The slots that are held, with their leases.
    pub fn held(&self, part: Part) -> Vec<(&StateKey, Duration)> {
        self.of(part, What::Slot).collect()
    }

    /// The slots that are held.
    pub fn slots(&self, part: Part) -> Vec<&StateKey> {
        let mut slots = Vec::with_capacity(self.taken.len());
        slots.extend(self.of(part, What::Slot).map(|(key, _)| key));
        slots
    }

    /// The corrections of token counters, now that the number of tokens is known; none if it is `None`, which leaves the estimate.
    pub fn corrections(&self, part: Part, tokens: Option<u64>) -> Vec<Correction<'_>> {
        let delta = tokens.map_or(0, |tokens| self.delta(tokens));
        if delta == 0 {
            return Vec::new();
        }
        let mut corrections = Vec::with_capacity(self.taken.len());
        corrections.extend(self.of(part, What::Tokens).map(|(key, per)| Correction { key, per, at: self.at, delta }));
        corrections
    }
}
