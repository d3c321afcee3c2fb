//! Whether a store is there at all.

use async_trait::async_trait;

use super::StateError;

/// A store that can be asked whether it is there.
#[async_trait]
pub trait Reach: Send + Sync + 'static {
    /// Asks it.
    ///
    /// # Errors
    /// When it does not answer.
    async fn reach(&self) -> Result<(), StateError>;
}
