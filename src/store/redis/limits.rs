//! Limits: a string a rate or window, a sorted set of leases for slots.

use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use redis::Script;

use super::{RedisState, shape, time_argument};
use crate::store::clock::{micros, millis};
use crate::store::limits::{Allowance, Correction, Limit, Limits, Take, Taken, check, part_of};
use crate::store::{LeaseId, StateError, StateKey};

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/take.lua")));
static FINISH: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/finish.lua")));

/// The kind is in the name: a policy that changes its kind finds no value of another type.
fn name(key: &StateKey, kind: char) -> String {
    format!("{}:{kind}", key.as_str())
}

#[async_trait]
impl Limits for RedisState {
    async fn take(&self, lease: LeaseId, limits: &[Take<'_>]) -> Result<Taken, StateError> {
        check(limits)?;
        let mut call = TAKE.prepare_invoke();
        call.arg(time_argument(self.now(1))).arg(lease.to_string());
        for take in limits {
            let cost = i64::try_from(take.cost).unwrap_or(i64::MAX);
            let cost = if take.shadow { -1 - cost } else { cost };
            match take.limit {
                Limit::Rate { limit, per, burst } => {
                    call.key(name(take.key, 'r')).arg("r").arg(limit).arg(micros(per)).arg(burst).arg(cost);
                }
                Limit::Window { limit, per } => {
                    call.key(name(take.key, 'w')).arg("w").arg(limit).arg(micros(per)).arg(part_of(per)).arg(cost);
                }
                Limit::Slots { max, ttl } => {
                    let cost = if take.shadow { -1 } else { 0 };
                    call.key(name(take.key, 's')).arg("s").arg(max).arg(millis(ttl)).arg(0).arg(cost);
                }
            }
        }
        let answer: Vec<i64> = self.link.run(&call).await?;
        read(&answer, limits.len()).ok_or_else(shape)
    }

    async fn renew(&self, lease: LeaseId, slots: &[(&StateKey, Duration)]) -> Result<(), StateError> {
        if slots.is_empty() {
            return Ok(());
        }
        let mut call = FINISH.prepare_invoke();
        call.arg(time_argument(self.now(1))).arg(lease.to_string()).arg(slots.len());
        for (key, ttl) in slots {
            call.key(name(key, 's')).arg(millis(*ttl));
        }
        self.link.run::<i64>(&call).await.map(|_| ())
    }

    async fn finish(&self, lease: LeaseId, slots: &[&StateKey], corrections: &[Correction<'_>]) -> Result<(), StateError> {
        if slots.is_empty() && corrections.is_empty() {
            return Ok(());
        }
        let mut call = FINISH.prepare_invoke();
        call.arg(time_argument(self.now(1))).arg(lease.to_string()).arg(slots.len());
        for key in slots {
            call.key(name(key, 's')).arg(-1);
        }
        for correction in corrections {
            call.key(name(correction.key, 'w'));
            call.arg(micros(correction.per)).arg(part_of(correction.per)).arg(correction.at).arg(correction.delta);
        }
        self.link.run::<i64>(&call).await.map(|_| ())
    }
}

/// The answer of `take.lua`.
fn read(answer: &[i64], limits: usize) -> Option<Taken> {
    let (&[refused, at], rest) = answer.split_first_chunk::<2>()?;
    let (each, []) = rest.as_chunks::<4>() else { return None };
    if each.len() != limits {
        return None;
    }
    let span = |micros: i64| u64::try_from(micros).ok().map(Duration::from_micros);
    let each = each.iter().map(|&[allowed, remaining, reset, retry]| Allowance {
        allowed: allowed == 1,
        remaining: u64::try_from(remaining).unwrap_or(0),
        reset_after: span(reset).unwrap_or(Duration::ZERO),
        retry_after: span(retry),
    });
    Some(Taken { refused: usize::try_from(refused).ok(), at, each: each.collect() })
}
