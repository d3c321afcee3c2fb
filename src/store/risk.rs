//! Risk sessions: the risk score that SafetySec keeps of a caller between requests.
//!
//! The score decays exponentially and is kept in whole nano-units (1.0 is 10⁹), so that every engine computes the same and
//! many small steps lose nothing: a session that is read every millisecond decays as fast as one left alone.

use std::time::Duration;

use async_trait::async_trait;

use super::StateError;
use super::clock::millis;

/// Nano-units of a score of 1.0.
const UNIT: f64 = 1e9;

/// The largest score. It bounds how long a caller is remembered: from here to 1.0 are six half-lives.
pub const MAX_SCORE: f64 = 64.0;

/// What requests add to a session.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RiskUpdate {
    /// Added to the decayed score; finite and not negative.
    pub add: f64,
    /// Added after `add`, but only up to `faint_ceiling`: weak findings alone lift no score above it. Finite and not
    /// negative.
    pub faint: f64,
    /// The score up to which `faint` can lift; a higher score is left as it is.
    pub faint_ceiling: f64,
    /// Bits to set in the session; their meaning is up to the calling code.
    pub flags: u32,
    /// Number of requests in this update: clean ones may be gathered and reported together.
    pub requests: u32,
    /// How many of them were blocked.
    pub blocks: u32,
    /// In how many of them, or of their answers, something was redacted.
    pub redactions: u32,
}

impl Default for RiskUpdate {
    /// One clean request.
    fn default() -> Self {
        Self { add: 0.0, faint: 0.0, faint_ceiling: 0.0, flags: 0, requests: 1, blocks: 0, redactions: 0 }
    }
}

/// How sessions decay and expire. Must be the same for every call of one deployment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RiskPolicy {
    /// Time after which half of a score is left. Zero: scores do not decay.
    pub half_life: Duration,
    /// A session without a request for this long is forgotten. At least one millisecond.
    pub ttl: Duration,
    /// The score at which [`RiskState::crossed`] is reported.
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
    /// Number of these requests that were blocked.
    pub blocks: u64,
    /// Number of these requests in which something was redacted.
    pub redactions: u64,
    /// When the last request was recorded, milliseconds since the Unix epoch by the store's clock.
    pub last_seen: i64,
    /// This update lifted the score from below the threshold to it or above. Each crossing is reported to exactly one
    /// replica.
    pub crossed: bool,
}

/// A store of risk sessions. Keys are digests (lowercase hex), never a plain address, key or user agent.
#[async_trait]
pub trait RiskSessions: Send + Sync + 'static {
    /// Decays the session, applies the update and renews its `ttl`, as one step. A new session starts at zero.
    ///
    /// # Errors
    /// When the store does not answer, and [`StateError::Invalid`] for an update that is not finite or is negative.
    async fn record(&self, key: &str, update: RiskUpdate, policy: &RiskPolicy) -> Result<RiskState, StateError>;

    /// The session decayed to now, without changing it; `None` when there is none.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn read(&self, key: &str, policy: &RiskPolicy) -> Result<Option<RiskState>, StateError>;

    /// Forgets the session. Returns whether there was one.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn reset(&self, key: &str) -> Result<bool, StateError>;
}

/// A session as engines keep it. The arithmetic is here, and once more in `redis/lua/risk_record.lua`.
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
    /// The score in nano-units, decayed to `now`. A clock that went back causes no decay.
    pub fn decayed(&self, now: i64, policy: &RiskPolicy) -> i64 {
        let (idle, half_life) = (now - self.last_seen, millis(policy.half_life));
        if idle <= 0 || half_life <= 0 || self.score == 0 {
            return self.score;
        }
        (self.score as f64 * (-(idle as f64) / half_life as f64).exp2() + 0.5).floor() as i64
    }

    /// Applies an update at `now`. Returns whether it crossed the threshold.
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

    /// The session decayed to `now`, in the form of the public API.
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

/// A score increment in nano-units.
pub(super) fn nanos(add: f64) -> Result<i64, StateError> {
    if add.is_finite() && add >= 0.0 { Ok(to_nanos(add)) } else { Err(StateError::Invalid("a risk must be finite and not negative")) }
}

/// A score in nano-units, at most [`MAX_SCORE`].
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
        /// However often a session is updated, it decays as if it had been left alone.
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

        /// Each crossing of the threshold is reported once, and the score stays within its bounds.
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
