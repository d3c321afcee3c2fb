//! Why a state store gave no usable answer.

use std::borrow::Cow;
use std::time::Duration;

/// A state store failed. None of these errors says anything about the caller: they become a 503, or whatever
/// `on_store_error` says, and never a 401. Texts contain no key, address or credential.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// There is no connection (the text gives the reason, for example wrong credentials), or it broke. Trying again may
    /// help; the store reconnects by itself.
    #[error("the state store is unavailable: {0}")]
    Unavailable(Cow<'static, str>),
    /// No answer in time. The call may have taken effect.
    #[error("the state store did not answer within {0:?}")]
    Timeout(Duration),
    /// The store answered with an error: out of memory, no permission.
    #[error("the state store refused: {0}")]
    Refused(Cow<'static, str>),
    /// The call itself is invalid, whatever the store: a defect of the calling code.
    #[error("invalid use of the state store: {0}")]
    Invalid(&'static str),
}

impl StateError {
    /// The kind of error as a label value for metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Timeout(_) => "timeout",
            Self::Refused(_) => "refused",
            Self::Invalid(_) => "invalid",
        }
    }
}
