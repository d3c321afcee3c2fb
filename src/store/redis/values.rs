//! Values by name, for plugins.

use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use redis::Script;

use super::RedisState;
use crate::store::clock::millis;
use crate::store::{StateError, StateKey, Values};

/// Adds and sets the TTL in one step: between two, a crash could leave a name that never expires.
static ADD: LazyLock<Script> =
    LazyLock::new(|| Script::new("local n = redis.call('INCRBY', KEYS[1], ARGV[1])\nredis.call('PEXPIRE', KEYS[1], ARGV[2])\nreturn n"));

#[async_trait]
impl Values for RedisState {
    async fn get(&self, key: &StateKey) -> Result<Option<Vec<u8>>, StateError> {
        self.link.ask(redis::cmd("GET").arg(key.as_str())).await
    }

    async fn set(&self, key: &StateKey, value: &[u8], ttl: Duration) -> Result<(), StateError> {
        self.link.ask(redis::cmd("SET").arg(key.as_str()).arg(value).arg("PX").arg(millis(ttl).max(1))).await
    }

    async fn increment(&self, key: &StateKey, by: i64, ttl: Duration) -> Result<i64, StateError> {
        let mut call = ADD.key(key.as_str());
        call.arg(by).arg(millis(ttl).max(1));
        self.link.run(&call).await
    }

    async fn remove(&self, key: &StateKey) -> Result<bool, StateError> {
        Ok(self.link.ask::<u64>(redis::cmd("DEL").arg(key.as_str())).await? > 0)
    }
}
