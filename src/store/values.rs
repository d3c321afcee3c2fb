//! Small values by name, for plugins that keep state of their own.

use std::time::Duration;

use async_trait::async_trait;

use super::{StateError, StateKey};

/// Values by name. Every value has a time to live, which each write renews.
#[async_trait]
pub trait Values: Send + Sync + 'static {
    /// The value, if there is one.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn get(&self, key: &StateKey) -> Result<Option<Vec<u8>>, StateError>;

    /// Writes a value, replacing any other.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn set(&self, key: &StateKey, value: &[u8], ttl: Duration) -> Result<(), StateError>;

    /// Adds to a number, which starts at 0, and returns the new number.
    ///
    /// # Errors
    /// When the store does not answer; [`StateError::Refused`] when the value is not a number.
    async fn increment(&self, key: &StateKey, by: i64, ttl: Duration) -> Result<i64, StateError>;

    /// Removes a value. Returns whether there was one.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn remove(&self, key: &StateKey) -> Result<bool, StateError>;
}
