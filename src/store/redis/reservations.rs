//! Budgets and quotas; how a counter is kept is said in `lua/account.lua`.

use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use redis::{Script, ScriptInvocation};

use super::{RedisState, shape, time_argument};
use crate::store::clock::millis;
use crate::store::reservations::{Charge, Counted, Hold, Reservations, Reserved, Settled, Settlement, check};
use crate::store::{LeaseId, StateError, StateKey};

macro_rules! script {
    ($file:literal) => {
        LazyLock::new(|| Script::new(concat!(include_str!("lua/account.lua"), include_str!($file))))
    };
}

static RESERVE: LazyLock<Script> = script!("lua/reserve.lua");
static SETTLE: LazyLock<Script> = script!("lua/settle.lua");
static RELEASE: LazyLock<Script> = script!("lua/release.lua");
static REAP: LazyLock<Script> = script!("lua/reap.lua");
static COUNTERS: LazyLock<Script> = script!("lua/counters.lua");

/// The counters of a tag that have leases.
fn index(tag: &str) -> String {
    format!("odock:{{{tag}}}:leases")
}

/// Declares the keys of a counter. A cluster wants to know all that a script touches; the set of leases that ran out is
/// left to it, as it has the same tag and is mostly not there.
fn counter(call: &mut ScriptInvocation<'_>, key: &StateKey) {
    let key = key.as_str();
    call.key(key).key(format!("{key}:c")).key(format!("{key}:e"));
}

/// The counters in a script's answer.
fn read(answer: &[i64], count: usize) -> Result<Vec<Counted>, StateError> {
    let (each, _) = answer.get(..count * 3).ok_or_else(shape)?.as_chunks::<3>();
    Ok(each.iter().map(|&[used, reserved, seeded]| Counted { used, reserved, seeded: seeded == 1 }).collect())
}

impl RedisState {
    async fn hold(&self, lease: LeaseId, expires_in: Duration, holds: &[Hold<'_>], anyway: bool) -> Result<Reserved, StateError> {
        check(holds.iter().map(|hold| (hold.key, hold.amount, hold.limit)))?;
        let Some(first) = holds.first() else { return Ok(Reserved { refused: None, each: Vec::new() }) };
        let mut call = RESERVE.key(index(first.key.tag()));
        call.arg(time_argument(self.now(1000))).arg(lease.to_string()).arg(millis(expires_in)).arg(u8::from(anyway));
        for hold in holds {
            counter(&mut call, hold.key);
            call.arg(hold.limit).arg(hold.amount).arg(hold.keep_until);
        }
        let answer: Vec<i64> = self.link.run(&call).await?;
        let (refused, each) = answer.split_first().ok_or_else(shape)?;
        Ok(Reserved { refused: usize::try_from(*refused).ok(), each: read(each, holds.len())? })
    }

    async fn change(&self, what: &str, keys: &[&StateKey], used: i64, keep_until: i64) -> Result<(bool, Vec<Counted>), StateError> {
        if keys.is_empty() {
            return Ok((false, Vec::new()));
        }
        let mut call = COUNTERS.prepare_invoke();
        call.arg(time_argument(self.now(1000))).arg(what).arg(used).arg(keep_until);
        for key in keys {
            counter(&mut call, key);
        }
        let answer: Vec<i64> = self.link.run(&call).await?;
        let (changed, each) = answer.split_first().ok_or_else(shape)?;
        Ok((*changed == 1, read(each, keys.len())?))
    }
}

#[async_trait]
impl Reservations for RedisState {
    async fn reserve(&self, lease: LeaseId, expires_in: Duration, holds: &[Hold<'_>]) -> Result<Reserved, StateError> {
        self.hold(lease, expires_in, holds, false).await
    }

    async fn extend(&self, lease: LeaseId, expires_in: Duration, holds: &[Hold<'_>]) -> Result<(), StateError> {
        self.hold(lease, expires_in, holds, true).await.map(|_| ())
    }

    async fn settle(&self, lease: LeaseId, charges: &[Charge<'_>]) -> Result<Settled, StateError> {
        check(charges.iter().map(|charge| (charge.key, charge.actual, charge.limit)))?;
        if charges.is_empty() {
            return Ok(Settled { settlement: Settlement::Unknown, each: Vec::new(), crossed: Vec::new() });
        }
        let mut call = SETTLE.prepare_invoke();
        call.arg(time_argument(self.now(1000))).arg(lease.to_string());
        for charge in charges {
            counter(&mut call, charge.key);
            call.arg(charge.actual).arg(charge.limit).arg(charge.keep_until).arg(charge.thresholds.len());
            for percent in charge.thresholds {
                call.arg(*percent);
            }
        }
        let answer: Vec<i64> = self.link.run(&call).await?;
        let (what, rest) = answer.split_first().ok_or_else(shape)?;
        let settlement = match what {
            1 => Settlement::Applied,
            2 => Settlement::Late,
            _ => Settlement::Unknown,
        };
        let each = read(rest, charges.len())?;
        let (pairs, _) = rest.get(charges.len() * 3..).unwrap_or_default().as_chunks::<2>();
        let crossed = pairs.iter().filter_map(|&[at, percent]| Some((usize::try_from(at).ok()?, u32::try_from(percent).ok()?)));
        Ok(Settled { settlement, each, crossed: crossed.collect() })
    }

    async fn release(&self, lease: LeaseId, keys: &[&StateKey]) -> Result<bool, StateError> {
        if keys.is_empty() {
            return Ok(false);
        }
        let mut call = RELEASE.prepare_invoke();
        call.arg(time_argument(self.now(1000))).arg(lease.to_string());
        for key in keys {
            counter(&mut call, key);
        }
        Ok(self.link.run::<i64>(&call).await? == 1)
    }

    async fn reap(&self, tag: &str, counters: usize) -> Result<u64, StateError> {
        let mut call = REAP.key(index(StateKey::new(tag, "").tag()));
        call.arg(time_argument(self.now(1000))).arg(counters);
        self.link.run(&call).await
    }

    async fn counters(&self, keys: &[&StateKey]) -> Result<Vec<Counted>, StateError> {
        Ok(self.change("", keys, 0, 0).await?.1)
    }

    async fn seed(&self, key: &StateKey, used: i64, keep_until: i64) -> Result<bool, StateError> {
        check(std::iter::once((key, used, 0)))?;
        Ok(self.change("seed", &[key], used, keep_until).await?.0)
    }

    async fn adjust(&self, key: &StateKey, delta: i64, keep_until: i64) -> Result<Counted, StateError> {
        let (_, each) = self.change("adjust", &[key], delta, keep_until).await?;
        each.first().copied().ok_or_else(shape)
    }
}
