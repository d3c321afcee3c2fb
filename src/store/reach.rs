//! Whether a store can be reached.

use async_trait::async_trait;

use super::StateError;

/// A store that can be probed.
#[async_trait]
pub trait Reach: Send + Sync + 'static {
    /// Probes the store.
    ///
    /// # Errors
    /// When it does not answer.
    async fn reach(&self) -> Result<(), StateError>;
}
