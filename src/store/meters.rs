//! The limits that many requests meet together, named and validated once, so that a store in this process can decide about
//! them without looking anything up.

use std::sync::atomic::{AtomicU32, Ordering};

use super::limits::check;
use super::{Limit, MAX_COUNT, StateKey, Take};

/// One of these limits.
#[derive(Debug)]
pub struct Meter {
    /// Its counter.
    pub key: StateKey,
    /// The limit in force.
    pub limit: Limit,
    /// Whether a request takes as many as it has tokens; otherwise it takes one.
    pub by_tokens: bool,
    /// Where a store in this process last found the counter. Only a hint that the store verifies.
    place: AtomicU32,
    /// The position of its share among the shares of all limits of these [`Meters`].
    share: u8,
}

impl Meter {
    /// A limit by requests, or by tokens.
    pub fn new(key: &StateKey, limit: Limit, by_tokens: bool) -> Self {
        Self { key: key.clone(), limit, by_tokens, place: AtomicU32::new(u32::MAX), share: 0 }
    }

    pub(super) fn place(&self) -> usize {
        self.place.load(Ordering::Relaxed) as usize
    }

    pub(super) fn share(&self) -> usize {
        self.share.into()
    }

    pub(super) fn found_at(&self, place: usize) {
        self.place.store(u32::try_from(place).unwrap_or(u32::MAX), Ordering::Relaxed);
    }
}

/// All limits that a request meets, in the order in which they refuse.
#[derive(Debug)]
pub struct Meters {
    each: Box<[Meter]>,
    /// Positions of those that a request gives back or corrects at its end: slots and limits by tokens.
    lent: Box<[usize]>,
    /// Bit mask of the shares that their owners are in.
    shares: u64,
}

/// How a limit stands after something was taken from it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stand {
    /// The amount that could still be taken.
    pub remaining: u64,
    /// Microseconds until the whole limit is available again.
    pub reset_after: u64,
}

/// How limits stand, by their position in [`Meters`].
pub type Stands = [Stand; Meters::MOST];

impl Meters {
    /// The largest number of limits in one set.
    pub const MOST: usize = 24;
    /// The largest number of tokens that one request can take.
    pub const MOST_TOKENS: u64 = MAX_COUNT.unsigned_abs() / 2;

    /// A set of limits. `None` if they cannot be counted exactly or are too many; then use [`super::Decisions::decide`],
    /// which reports the reason.
    pub fn new(mut each: Vec<Meter>) -> Option<Self> {
        let most = |meter: &Meter| if meter.by_tokens { Self::MOST_TOKENS } else { 1 };
        let takes: Vec<_> =
            each.iter().map(|meter| Take { key: &meter.key, limit: meter.limit, cost: most(meter), shadow: false }).collect();
        if each.len() > Self::MOST || check(&takes).is_err() {
            return None;
        }
        let is_lent = |meter: &Meter| meter.by_tokens || matches!(meter.limit, Limit::Slots { .. });
        let lent: Box<[usize]> = each.iter().enumerate().filter(|(_, meter)| is_lent(meter)).map(|(at, _)| at).collect();
        let shares: u64 = each.iter().fold(0, |shares, meter| shares | 1 << meter.key.share());
        for meter in &mut each {
            meter.share = (shares & ((1 << meter.key.share()) - 1)).count_ones() as u8;
        }
        Some(Self { each: each.into(), lent, shares })
    }

    pub fn each(&self) -> &[Meter] {
        &self.each
    }

    /// Those that a request gives back or corrects at its end.
    pub(super) fn lent(&self) -> impl Iterator<Item = &Meter> {
        self.lent.iter().filter_map(|at| self.each.get(*at))
    }

    pub(super) fn shares(&self) -> u64 {
        self.shares
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_cannot_be_counted_as_one_is_asked_otherwise() {
        let key = |n: usize| StateKey::new("acme", &format!("limit:key:k:{n}"));
        let window = |n, limit| Meter::new(&key(n), Limit::Window { limit, per: Duration::from_secs(60) }, n == 0);
        assert!(Meters::new(vec![window(0, 9), window(1, 9)]).is_some_and(|all| all.lent().count() == 1));
        assert!(Meters::new(vec![window(1, 9), window(1, 9)]).is_none(), "a counter twice");
        assert!(Meters::new(vec![window(0, MAX_COUNT.unsigned_abs())]).is_none(), "tokens on top would be beyond all counting");
        assert!(Meters::new((0..=Meters::MOST).map(|n| window(n, 9)).collect()).is_none(), "too many");
    }
}
