//! Decisions about requests. `lua/decide.lua` and `lua/account.lua` describe how limits and counters are stored.

use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::MultiplexedConnection;
use redis::{Script, ScriptInvocation};

use super::{RedisState, shape};
use crate::store::clock::{micros, millis};
use crate::store::limits::part_of;
use crate::store::{
    Allowance, Charge, Correction, Counted, Decided, Decisions, End, LeaseId, Limit, Question, Ruling, Settled, Settlement, StateError,
    StateKey, Take, limits, reservations,
};

static DECIDE: LazyLock<Script> = LazyLock::new(|| Script::new(concat!(include_str!("lua/account.lua"), include_str!("lua/decide.lua"))));
static CONCLUDE: LazyLock<Script> =
    LazyLock::new(|| Script::new(concat!(include_str!("lua/account.lua"), include_str!("lua/conclude.lua"))));

/// Loads the scripts into a server. If that fails, the first call sends them.
pub(super) async fn load(server: &mut MultiplexedConnection) {
    for script in [&DECIDE, &CONCLUDE] {
        if let Err(error) = script.prepare_invoke().load_async(server).await {
            log::debug!(target: "governance", kind = error.category(); "a script was not taken in advance");
        }
    }
}

/// Which counters of budgets and quotas can be reserved in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Only counters that know what was used before they began.
    Seeded = 0,
    /// All counters.
    Any = 1,
    /// All counters, even beyond their limits.
    InAnyCase = 2,
}

/// The name of a limit's value. It contains the kind, so that a policy whose kind changes finds no value of another type.
fn name(key: &StateKey, kind: char) -> String {
    format!("{}:{kind}", key.as_str())
}

/// The set of a tag's counters that have leases.
pub(super) fn index(tag: &str) -> String {
    format!("odock:{{{tag}}}:leases")
}

/// Declares the keys of a counter, as a cluster requires of all keys that a script touches. The set of expired leases is
/// not declared: it has the same tag and rarely exists.
pub(super) fn counter(call: &mut ScriptInvocation<'_>, key: &StateKey) {
    let key = key.as_str();
    call.key(key).key(format!("{key}:c")).key(format!("{key}:e"));
}

/// Reads counters from a script's answer.
pub(super) fn counters(answer: &[i64], count: usize) -> Result<Vec<Counted>, StateError> {
    let (each, _) = answer.get(..count * 3).ok_or_else(shape)?.as_chunks::<3>();
    Ok(each.iter().map(|&[used, reserved, seeded]| Counted { used, reserved, seeded: seeded == 1 }).collect())
}

impl RedisState {
    /// Runs the script of a decision; `mode` says which counters its holds may reserve in.
    pub(super) async fn decided(&self, lease: LeaseId, question: &Question<'_>, mode: Mode) -> Result<Decided, StateError> {
        let Question { limits, holds, expires_in } = *question;
        limits::check(limits)?;
        reservations::check(holds.iter().map(|hold| (hold.key, hold.amount, hold.limit)))?;
        let mut call = DECIDE.prepare_invoke();
        call.arg(self.time()).arg(lease.to_string()).arg(limits.len()).arg(mode as u8).arg(millis(expires_in));
        for take in limits {
            limit(&mut call, take);
        }
        if let Some(first) = holds.first() {
            call.key(index(first.key.tag()));
        }
        for hold in holds {
            counter(&mut call, hold.key);
            call.arg(hold.limit).arg(hold.amount).arg(hold.keep_until);
        }
        let answer: Vec<i64> = self.link.run(&call).await?;
        read(&answer, limits.len(), holds.len())
    }

    /// Renews slots.
    pub(super) async fn held_on(&self, lease: LeaseId, slots: &[(&StateKey, Duration)]) -> Result<(), StateError> {
        let mut call = CONCLUDE.prepare_invoke();
        call.arg(self.time()).arg(lease.to_string()).arg(slots.len()).arg(0).arg(0);
        for (key, ttl) in slots {
            call.key(name(key, 's')).arg(millis(*ttl));
        }
        self.link.run::<Vec<i64>>(&call).await.map(|_| ())
    }

    pub(super) async fn concluded(&self, lease: LeaseId, end: &End<'_>) -> Result<Settled, StateError> {
        let End { slots, corrections, charges, released } = *end;
        reservations::check(charges.iter().map(|charge| (charge.key, charge.actual, charge.limit)))?;
        let settles = !charges.is_empty();
        if slots.is_empty() && corrections.is_empty() && !settles && released.is_empty() {
            return Ok(Settled { settlement: Settlement::Unknown, each: Vec::new(), crossed: Vec::new() });
        }
        let mut call = CONCLUDE.prepare_invoke();
        call.arg(self.time()).arg(lease.to_string()).arg(slots.len()).arg(corrections.len()).arg(u8::from(settles));
        for key in slots {
            call.key(name(key, 's')).arg(-1);
        }
        for Correction { key, per, at, delta } in corrections {
            call.key(name(key, 'w')).arg(micros(*per)).arg(part_of(*per)).arg(*at).arg(*delta);
        }
        for Charge { key, actual, limit, thresholds, keep_until } in charges {
            counter(&mut call, key);
            call.arg(*actual).arg(*limit).arg(*keep_until).arg(thresholds.len());
            for percent in *thresholds {
                call.arg(*percent);
            }
        }
        if !settles {
            released.iter().for_each(|key| counter(&mut call, key));
        }
        let answer: Vec<i64> = self.link.run(&call).await?;
        let (what, rest) = answer.split_first().ok_or_else(shape)?;
        let settlement = match what {
            1 => Settlement::Applied,
            2 => Settlement::Late,
            _ => Settlement::Unknown,
        };
        let count = if settles { charges.len() } else { released.len() };
        let each = counters(rest, count)?;
        let (pairs, _) = rest.get(count * 3..).unwrap_or_default().as_chunks::<2>();
        let crossed = pairs.iter().filter_map(|&[at, percent]| Some((usize::try_from(at).ok()?, u32::try_from(percent).ok()?)));
        Ok(Settled { settlement, each, crossed: crossed.collect() })
    }
}

/// Appends a limit to the script's arguments.
fn limit(call: &mut ScriptInvocation<'_>, take: &Take<'_>) {
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

/// Reads the answer of `decide.lua`.
fn read(answer: &[i64], limits: usize, holds: usize) -> Result<Decided, StateError> {
    let (&[what, which, at], rest) = answer.split_first_chunk::<3>().ok_or_else(shape)?;
    let (each, rest) = rest.split_at_checked(limits * 4).ok_or_else(shape)?;
    let position = |count: usize| usize::try_from(which).ok().filter(|which| *which < count).ok_or_else(shape);
    let ruling = match what {
        0 => Ruling::Granted,
        1 => Ruling::Limited(position(limits)?),
        2 => Ruling::Exceeded(position(holds)?),
        3 => Ruling::Unseeded,
        _ => return Err(shape()),
    };
    let span = |micros: i64| u64::try_from(micros).ok().map(Duration::from_micros);
    let allowance = |&[allowed, remaining, reset, retry]: &[i64; 4]| Allowance {
        allowed: allowed == 1,
        remaining: u64::try_from(remaining).unwrap_or(0),
        reset_after: span(reset).unwrap_or(Duration::ZERO),
        retry_after: span(retry),
    };
    let limits = each.as_chunks::<4>().0.iter().map(allowance).collect();
    Ok(Decided { ruling, at, limits, holds: counters(rest, holds)? })
}

#[async_trait]
impl Decisions for RedisState {
    async fn decide(&self, lease: LeaseId, question: &Question<'_>) -> Result<Decided, StateError> {
        self.decided(lease, question, Mode::Seeded).await
    }

    async fn conclude(&self, lease: LeaseId, end: &End<'_>) -> Result<Settled, StateError> {
        self.concluded(lease, end).await
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn spans_tags(&self) -> bool {
        !self.link.is_cluster()
    }
}
