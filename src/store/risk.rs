//! Risk sessions: what SafetySec remembers of a caller between requests.
//!
//! The score decays exponentially and is kept as whole nano-units (1.0 is 10⁹), so that every engine computes the same
//! and many small steps lose nothing: a session that is asked every millisecond fades as fast as one left alone.

use std::time::Duration;

use async_trait::async_trait;

use super::StateError;
use super::clock::millis;

/// Nano-units of a score of 1.0.
const UNIT: f64 = 1e9;

/// What a score cannot exceed. It bounds how long a caller is remembered: from here to 1.0 are six half-lives.
pub const MAX_SCORE: f64 = 64.0;

/// What requests add to a session.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RiskUpdate {
    /// Added to the decayed score; finite and not negative.
    pub add: f64,
    /// Added after that, and never beyond `faint_ceiling`: small signs alone lift no score above it. Finite, not negative.
    pub faint: f64,
    /// How far `faint` can lift a score; a score above it is left as it is.
    pub faint_ceiling: f64,
    /// Bits set in the session; what they mean is the caller's.
    pub flags: u32,
    /// How many requests this speaks for: clean ones may be gathered and told together.
    pub requests: u32,
    /// How many of them were blocked.
    pub blocks: u32,
    /// In how many of them, or of their answers, something was redacted.
    pub redactions: u32,
}

impl Default for RiskUpdate {
    /// One request in which nothing was found.
    fn default() -> Self {
        Self { add: 0.0, faint: 0.0, faint_ceiling: 0.0, flags: 0, requests: 1, blocks: 0, redactions: 0 }
    }
}

/// How a session is remembered. The same for every call of one deployment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RiskPolicy {
    /// After this time half of a score is left. Zero: scores do not fade.
    pub half_life: Duration,
    /// After this time without a request the session is forgotten. At least one millisecond.
    pub ttl: Duration,
    /// The score from which [`RiskState::crossed`] is told.
    pub threshold: f64,
}

/// A session as it stands after a call.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RiskState {
    /// Decayed to the moment of the call, 0 to [`MAX_SCORE`], exact to 10⁻⁹.
    pub score: f64,
    /// All bits set so far.
    pub flags: u32,
    /// Requests recorded.
    pub requests: u64,
    /// Requests of them that were blocked.
    pub blocks: u64,
    /// Requests of them in which something was redacted.
    pub redactions: u64,
    /// When the last request was recorded, milliseconds since the Unix epoch by the store's clock.
    pub last_seen: i64,
    /// This very update lifted the score from below the threshold to it or above. Of all replicas only one is told.
    pub crossed: bool,
}

/// Where risk sessions are kept. Keys are digests (lowercase hex): never an address, a key or a user agent as it is.
#[async_trait]
pub trait RiskSessions: Send + Sync + 'static {
    /// Decays the session, adds the update and starts its `ttl` anew, as one step. A new session begins at zero.
    ///
    /// # Errors
    /// When the store does not answer, and [`StateError::Invalid`] for an update that is not finite or is negative.
    async fn record(&self, key: &str, update: RiskUpdate, policy: &RiskPolicy) -> Result<RiskState, StateError>;

    /// The session decayed to now, without changing it; `None` when there is none.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn read(&self, key: &str, policy: &RiskPolicy) -> Result<Option<RiskState>, StateError>;

    /// Forgets the session. Says whether there was one.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn reset(&self, key: &str) -> Result<bool, StateError>;
}

/// A session as engines keep it; the maths is here once, and once in `redis/lua/risk_record.lua`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Session {
    /// Nano-units at `last_seen`.
    pub score: i64,
    pub flags: u32,
    pub requests: u64,
    pub blocks: u64,
    pub redactions: u64,
    /// Milliseconds since the Unix epoch.
    pub last_seen: i64,
}

impl Session {
    /// The score in nano-units, decayed to `now`. A clock that went back decays nothing.
    pub fn decayed(&self, now: i64, policy: &RiskPolicy) -> i64 {
        let (idle, half_life) = (now - self.last_seen, millis(policy.half_life));
        if idle <= 0 || half_life <= 0 || self.score == 0 {
            return self.score;
        }
        (self.score as f64 * (-(idle as f64) / half_life as f64).exp2() + 0.5).floor() as i64
    }

    /// Takes an update at `now`; says whether it crossed the threshold.
    pub fn record(&mut self, now: i64, update: RiskUpdate, policy: &RiskPolicy) -> Result<bool, StateError> {
        let before = self.decayed(now, policy);
        let score = (before + nanos(update.add)?).min(to_nanos(MAX_SCORE));
        self.score = score.max((score + nanos(update.faint)?).min(to_nanos(update.faint_ceiling)));
        self.flags |= update.flags;
        self.requests += u64::from(update.requests);
        self.blocks += u64::from(update.blocks);
        self.redactions += u64::from(update.redactions);
        self.last_seen = self.last_seen.max(now);
        let threshold = to_nanos(policy.threshold);
        Ok(before < threshold && self.score >= threshold)
    }

    /// The session as callers see it at `now`.
    pub fn state(&self, now: i64, policy: &RiskPolicy, crossed: bool) -> RiskState {
        RiskState {
            score: self.decayed(now, policy) as f64 / UNIT,
            flags: self.flags,
            requests: self.requests,
            blocks: self.blocks,
            redactions: self.redactions,
            last_seen: self.last_seen,
            crossed,
        }
    }
}

/// An addition in nano-units.
pub(super) fn nanos(add: f64) -> Result<i64, StateError> {
    if add.is_finite() && add >= 0.0 { Ok(to_nanos(add)) } else { Err(StateError::Invalid("a risk must be finite and not negative")) }
}

/// Nano-units of a score, at most those of [`MAX_SCORE`].
pub(super) fn to_nanos(score: f64) -> i64 {
    (score.clamp(0.0, MAX_SCORE) * UNIT).round() as i64
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(half_life: u64) -> RiskPolicy {
        RiskPolicy { half_life: Duration::from_millis(half_life), ttl: Duration::from_secs(60), threshold: 0.85 }
    }

    #[test]
    fn half_is_left_after_a_half_life() {
        let session = Session { score: 1_000_000_000, ..Session::default() };
        assert_eq!([0, 1000, 2000, 10_000].map(|t| session.decayed(t, &policy(1000))), [1_000_000_000, 500_000_000, 250_000_000, 976_563]);
        assert_eq!(session.decayed(-5, &policy(1000)), 1_000_000_000, "a clock that goes back adds nothing");
        assert_eq!(session.decayed(1 << 40, &policy(0)), 1_000_000_000);
        assert_eq!(session.decayed(i64::MAX, &policy(1)), 0);
    }

    #[test]
    fn what_is_no_risk_is_refused() {
        for add in [f64::NAN, f64::INFINITY, -0.1] {
            for update in [RiskUpdate { add, ..RiskUpdate::default() }, RiskUpdate { faint: add, ..RiskUpdate::default() }] {
                let refused = Session::default().record(0, update, &policy(1000));
                assert!(matches!(refused, Err(StateError::Invalid(_))), "{add}");
            }
        }
    }

    proptest! {
        /// However often a session is touched, it fades as if it had been left alone.
        #[test]
        fn many_steps_decay_like_one(steps in prop::collection::vec(0i64..2000, 1..200), half_life in 1000u64..10_000_000) {
            let policy = policy(half_life);
            let mut stepped = Session { score: 900_000_000, ..Session::default() };
            let alone = stepped;
            let mut now = 0;
            for step in &steps {
                now += step;
                stepped.record(now, RiskUpdate::default(), &policy).unwrap();
            }
            prop_assert!((stepped.score - alone.decayed(now, &policy)).abs() <= steps.len() as i64);
            prop_assert_eq!(stepped.requests, steps.len() as u64);
        }

        /// The threshold is told once a crossing, and the score stays in its bounds.
        #[test]
        fn a_crossing_is_told_once(adds in prop::collection::vec((0.0f64..2.0, 0i64..5000), 1..100)) {
            let policy = policy(1000);
            let (mut session, mut now, mut above) = (Session::default(), 0, false);
            for (add, wait) in adds {
                now += wait;
                above &= session.decayed(now, &policy) >= to_nanos(policy.threshold);
                let crossed = session.record(now, RiskUpdate { add, ..RiskUpdate::default() }, &policy).unwrap();
                let over = session.score >= to_nanos(policy.threshold);
                prop_assert_eq!(crossed, over && !above);
                above = over;
                prop_assert!((0..=to_nanos(MAX_SCORE)).contains(&session.score));
            }
        }
    }
}
