//! Why a store did not answer.

use std::borrow::Cow;
use std::time::Duration;

/// A state store failed. None of these says anything about the caller: they become 503, or what `on_store_error` says,
/// and never 401. Texts name no key, no address and no credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// There is no connection (the text says why: also wrong credentials), or it broke. Trying again may help; the store
    /// reconnects by itself.
    #[error("the state store is unavailable: {0}")]
    Unavailable(Cow<'static, str>),
    /// No answer in time. The call may have taken effect.
    #[error("the state store did not answer within {0:?}")]
    Timeout(Duration),
    /// The store answered and refused: out of memory, no permission.
    #[error("the state store refused: {0}")]
    Refused(Cow<'static, str>),
    /// The call itself makes no sense, whatever the store: a defect of the caller.
    #[error("invalid use of the state store: {0}")]
    Invalid(&'static str),
}

impl StateError {
    /// A word for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Timeout(_) => "timeout",
            Self::Refused(_) => "refused",
            Self::Invalid(_) => "invalid",
        }
    }
}
