//! Risk sessions: one hash for each, `safety:session:<digest>`.

use std::sync::LazyLock;

use async_trait::async_trait;
use redis::Script;

use super::{RedisState, shape, time_argument};
use crate::store::StateError;
use crate::store::clock::millis;
use crate::store::risk::{MAX_SCORE, RiskPolicy, RiskSessions, RiskState, RiskUpdate, Session, nanos, to_nanos};

static RECORD: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/risk_record.lua")));
static READ: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("lua/risk_read.lua")));

fn name(key: &str) -> String {
    format!("safety:session:{key}")
}

/// Reads a session, already decayed, from a script's answer.
fn session(answer: &[i64]) -> Option<Session> {
    let &[score, flags, requests, blocks, redactions, last_seen, ..] = answer else { return None };
    let count = |n: i64| u64::try_from(n).unwrap_or(0);
    let flags = u32::try_from(flags).unwrap_or(u32::MAX);
    Some(Session { score, flags, requests: count(requests), blocks: count(blocks), redactions: count(redactions), last_seen })
}

#[async_trait]
impl RiskSessions for RedisState {
    async fn record(&self, key: &str, update: RiskUpdate, policy: &RiskPolicy) -> Result<RiskState, StateError> {
        let mut call = RECORD.key(name(key));
        call.arg(time_argument(self.now(1000))).arg(nanos(update.add)?).arg(update.flags);
        call.arg(update.blocks).arg(update.redactions);
        call.arg(millis(policy.half_life)).arg(millis(policy.ttl).max(1)).arg(to_nanos(policy.threshold)).arg(to_nanos(MAX_SCORE));
        call.arg(nanos(update.faint)?).arg(to_nanos(update.faint_ceiling)).arg(update.requests);
        let answer: Vec<i64> = self.link.run(&call).await?;
        let session = session(&answer).ok_or_else(shape)?;
        Ok(session.state(session.last_seen, policy, answer.get(6) == Some(&1)))
    }

    async fn read(&self, key: &str, policy: &RiskPolicy) -> Result<Option<RiskState>, StateError> {
        let mut call = READ.key(name(key));
        call.arg(time_argument(self.now(1000))).arg(millis(policy.half_life));
        let answer: Vec<i64> = self.link.run(&call).await?;
        Ok(session(&answer).map(|session| session.state(session.last_seen, policy, false)))
    }

    async fn reset(&self, key: &str) -> Result<bool, StateError> {
        Ok(self.link.ask::<u64>(redis::cmd("DEL").arg(name(key))).await? > 0)
    }
}
