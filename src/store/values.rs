//! Small values under names, for what keeps a state of its own.

use std::time::Duration;

use async_trait::async_trait;

use super::{StateError, StateKey};

/// Values by name. Every one ends with its time to live, which each writing sets anew.
#[async_trait]
pub trait Values: Send + Sync + 'static {
    /// The value, if there is one.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn get(&self, key: &StateKey) -> Result<Option<Vec<u8>>, StateError>;

    /// Puts a value in place of whatever was there.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn set(&self, key: &StateKey, value: &[u8], ttl: Duration) -> Result<(), StateError>;

    /// Adds to a number, which is 0 where nothing is, and says what it is then.
    ///
    /// # Errors
    /// When the store does not answer; [`StateError::Refused`] where something else than a number is.
    async fn increment(&self, key: &StateKey, by: i64, ttl: Duration) -> Result<i64, StateError>;

    /// Takes a value away. Says whether there was one.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn remove(&self, key: &StateKey) -> Result<bool, StateError>;
}
