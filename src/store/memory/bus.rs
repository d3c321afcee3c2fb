//! The bus of one process.

use std::sync::Arc;

use async_trait::async_trait;

use super::MemoryState;
use crate::store::bus::{InvalidationBus, Notice, Subscription};
use crate::store::{Reach, StateError};

#[async_trait]
impl InvalidationBus for MemoryState {
    async fn publish(&self, message: &str) -> Result<(), StateError> {
        // A send fails only when there is no listener, which is no error.
        let _ = self.bus.send(Notice::Message(Arc::from(message)));
        Ok(())
    }

    fn subscribe(&self) -> Subscription {
        Subscription::new(self.bus.subscribe())
    }
}

#[async_trait]
impl Reach for MemoryState {
    async fn reach(&self) -> Result<(), StateError> {
        Ok(())
    }
}
