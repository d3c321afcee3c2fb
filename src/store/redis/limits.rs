//! Limits. A rate or window is a string, slots are a sorted set of leases.

use std::time::Duration;

use async_trait::async_trait;

use super::RedisState;
use super::decisions::Mode;
use crate::store::limits::{Correction, Limits, Take, Taken};
use crate::store::{End, LeaseId, Question, Ruling, StateError, StateKey};

#[async_trait]
impl Limits for RedisState {
    async fn take(&self, lease: LeaseId, limits: &[Take<'_>]) -> Result<Taken, StateError> {
        let decided = self.decided(lease, &Question { limits, ..Question::default() }, Mode::Any).await?;
        let refused = if let Ruling::Limited(at) = decided.ruling { Some(at) } else { None };
        Ok(Taken { refused, at: decided.at, each: decided.limits })
    }

    async fn renew(&self, lease: LeaseId, slots: &[(&StateKey, Duration)]) -> Result<(), StateError> {
        if slots.is_empty() { Ok(()) } else { self.held_on(lease, slots).await }
    }

    async fn finish(&self, lease: LeaseId, slots: &[&StateKey], corrections: &[Correction<'_>]) -> Result<(), StateError> {
        self.concluded(lease, &End { slots, corrections, ..End::default() }).await.map(|_| ())
    }
}
