//! Budgets and quotas. `lua/account.lua` describes how a counter is stored.

use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use redis::Script;

use super::decisions::{Mode, counter, counters, index};
use super::{RedisState, shape};
use crate::store::reservations::{Charge, Counted, Hold, Reservations, Reserved, Settled, Settlement, check};
use crate::store::{End, LeaseId, Question, Ruling, StateError, StateKey};

static REAP: LazyLock<Script> = LazyLock::new(|| Script::new(concat!(include_str!("lua/account.lua"), include_str!("lua/reap.lua"))));
static COUNTERS: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("lua/account.lua"), include_str!("lua/counters.lua"))));

impl RedisState {
    async fn hold(&self, lease: LeaseId, expires_in: Duration, holds: &[Hold<'_>], mode: Mode) -> Result<Reserved, StateError> {
        if holds.is_empty() {
            return Ok(Reserved { refused: None, each: Vec::new() });
        }
        let decided = self.decided(lease, &Question { holds, expires_in, ..Question::default() }, mode).await?;
        let refused = if let Ruling::Exceeded(at) = decided.ruling { Some(at) } else { None };
        Ok(Reserved { refused, each: decided.holds })
    }

    async fn change(&self, what: &str, keys: &[&StateKey], used: i64, keep_until: i64) -> Result<(bool, Vec<Counted>), StateError> {
        if keys.is_empty() {
            return Ok((false, Vec::new()));
        }
        let mut call = COUNTERS.prepare_invoke();
        call.arg(self.time()).arg(what).arg(used).arg(keep_until);
        for key in keys {
            counter(&mut call, key);
        }
        let answer: Vec<i64> = self.link.run(&call).await?;
        let (changed, each) = answer.split_first().ok_or_else(shape)?;
        Ok((*changed == 1, counters(each, keys.len())?))
    }
}

#[async_trait]
impl Reservations for RedisState {
    async fn reserve(&self, lease: LeaseId, expires_in: Duration, holds: &[Hold<'_>]) -> Result<Reserved, StateError> {
        self.hold(lease, expires_in, holds, Mode::Any).await
    }

    async fn extend(&self, lease: LeaseId, expires_in: Duration, holds: &[Hold<'_>]) -> Result<(), StateError> {
        self.hold(lease, expires_in, holds, Mode::InAnyCase).await.map(|_| ())
    }

    async fn settle(&self, lease: LeaseId, charges: &[Charge<'_>]) -> Result<Settled, StateError> {
        self.concluded(lease, &End { charges, ..End::default() }).await
    }

    async fn release(&self, lease: LeaseId, keys: &[&StateKey]) -> Result<bool, StateError> {
        Ok(self.concluded(lease, &End { released: keys, ..End::default() }).await?.settlement == Settlement::Applied)
    }

    async fn reap(&self, tag: &str, counters: usize) -> Result<u64, StateError> {
        let mut call = REAP.key(index(StateKey::new(tag, "").tag()));
        call.arg(self.time()).arg(counters);
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
