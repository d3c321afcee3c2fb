//! What a request holds and has taken of limits, until it is over.

use std::time::Duration;

use super::{Field, Scope};
use crate::store::{Allowance, Correction, LeaseId, Limit, StateKey};

/// How a limit stands after it was asked, for the answer's headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whose.
    pub scope: Scope,
    /// Which field.
    pub field: Field,
    /// What it allows in its span.
    pub limit: u64,
    /// Its span.
    pub per: Duration,
    /// What is left.
    pub remaining: u64,
    /// Until all is there again.
    pub reset_after: Duration,
}

/// What a request holds and has taken.
#[derive(Debug, Clone, Default)]
pub struct Receipt {
    lease: Option<LeaseId>,
    taken: Vec<Taken>,
    /// When tokens were taken, and how many.
    at: i64,
    tokens: u64,
    /// Of each field the scope with the smallest share left: it is the one that will refuse.
    standing: [Option<Standing>; RATES],
}

/// What one counter has given.
#[derive(Debug, Clone)]
struct Taken {
    key: StateKey,
    /// How long a slot is held at a time, or the window that tokens were taken of.
    span: Duration,
    what: What,
    global: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Slot,
    Tokens,
}

/// The fields that are rates.
pub(super) const RATES: usize = 4;

/// Which scopes: those of one part lie under one tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All.
    All,
    /// The gateway's own policy.
    Global,
    /// All others: those of the organisation.
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
    pub(super) fn of(scope: Scope, field: Field, limit: &Limit, allowance: &Allowance) -> Self {
        let (limit, per) = match *limit {
            Limit::Slots { max, .. } => (max, Duration::ZERO),
            Limit::Window { limit, per } => (limit, per),
            Limit::Rate { per, burst, .. } => (burst, per),
        };
        Self { scope, field, limit, per, remaining: allowance.remaining, reset_after: allowance.reset_after }
    }

    /// Whether a smaller share is left of this limit than of another.
    pub(super) fn tighter(&self, other: &Self) -> bool {
        match (self.remaining.checked_mul(other.limit), other.remaining.checked_mul(self.limit)) {
            (Some(mine), Some(its)) => mine < its,
            _ => u128::from(self.remaining) * u128::from(other.limit) < u128::from(other.remaining) * u128::from(self.limit),
        }
    }
}

impl Receipt {
    /// Whether there is anything to give back.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty()
    }

    /// How the limits stand: of each field the tightest.
    pub fn standing(&self) -> impl Iterator<Item = &Standing> + Clone {
        self.standing.iter().flatten()
    }

    pub(super) fn begin(&mut self, lease: LeaseId, counters: usize) {
        self.lease = Some(lease);
        // Of a scope's counters two are given back.
        self.taken.reserve(counters / 2);
    }

    pub(super) fn holds(&mut self, scope: Scope, key: &StateKey, ttl: Duration) {
        self.taken.push(Taken { key: key.clone(), span: ttl, what: What::Slot, global: scope == Scope::Global });
    }

    pub(super) fn took(&mut self, scope: Scope, key: &StateKey, per: Duration, (at, tokens): (i64, u64)) {
        (self.at, self.tokens) = (at, tokens);
        self.taken.push(Taken { key: key.clone(), span: per, what: What::Tokens, global: scope == Scope::Global });
    }

    /// How a limit stands.
    pub fn stands(&mut self, standing: Standing) {
        let place = match standing.field {
            Field::Burst => 0,
            Field::PerSecond => 1,
            Field::PerMinute => 2,
            Field::TokensPerMinute => 3,
            Field::Network | Field::RequestBytes | Field::MaxTokens | Field::Concurrency => return,
        };
        if self.standing[place].as_ref().is_none_or(|other| standing.tighter(other)) {
            self.standing[place] = Some(standing);
        }
    }

    /// Who holds.
    pub fn lease(&self) -> Option<LeaseId> {
        self.lease
    }

    fn of(&self, part: Part, what: What) -> impl Iterator<Item = &Taken> {
        self.taken.iter().filter(move |taken| taken.what == what && part.has(taken.global))
    }

    /// How often a long request must renew what it holds; `None` if it holds nothing.
    pub fn renew_every(&self) -> Option<Duration> {
        self.of(Part::All, What::Slot).map(|slot| slot.span / 3).min()
    }

    /// The slots that are held, with how long they are held at a time.
    pub fn held(&self, part: Part) -> Vec<(&StateKey, Duration)> {
        self.of(part, What::Slot).map(|slot| (&slot.key, slot.span)).collect()
    }

    /// The slots that are held.
    pub fn slots(&self, part: Part) -> Vec<&StateKey> {
        let mut slots = Vec::with_capacity(self.taken.len());
        slots.extend(self.of(part, What::Slot).map(|slot| &slot.key));
        slots
    }

    /// What estimates have to be corrected by, now that it is known what the request took. `None`: nobody knows, the
    /// estimate stands.
    pub fn corrections(&self, part: Part, tokens: Option<u64>) -> Vec<Correction<'_>> {
        let whole = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
        let delta = tokens.map_or(0, |tokens| whole(tokens).saturating_sub(whole(self.tokens)));
        if delta == 0 {
            return Vec::new();
        }
        let mut corrections = Vec::with_capacity(self.taken.len());
        let correction = |taken| {
            let Taken { key, span, .. }: &Taken = taken;
            Correction { key, per: *span, at: self.at, delta }
        };
        corrections.extend(self.of(part, What::Tokens).map(correction));
        corrections
    }
}
