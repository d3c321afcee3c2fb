//! At-least-once deliveries to external systems: a plugin submits a [`Delivery`] with `Host::deliver` at any gate, and gets it
//! back in `Plugin::deliver` as often as it takes until the receiver has it.
//!
//! Between the two is the outbox. The delivery is on disk before `Host::deliver` returns, so a kill of the process loses none.
//! Receivers must recognise an id that they have seen before.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;

use super::HostError;
use crate::gate::RequestId;

/// The longest body (bytes).
pub const MAX_BODY: usize = 256 << 10;
/// The longest id, destination and ordering key (bytes).
const MAX_NAME: usize = 200;

/// The identity of a delivery: the same at every attempt, and unique within its instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeliveryId(String);

impl DeliveryId {
    /// A new random id: `dlv_` and 32 hex digits.
    pub fn random() -> Self {
        Self(format!("dlv_{:032x}", rand::random::<u128>()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for DeliveryId {
    fn from(id: String) -> Self {
        Self(id)
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something to be sent. It must not contain anything of the traffic, because it is kept on disk and in the record store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The identity of the delivery, also its idempotency key at the receiver.
    pub id: DeliveryId,
    /// The receiver, by a name from the configuration; each receiver is paused independently.
    pub destination: String,
    /// Deliveries of an instance with the same key are sent one at a time, in the order in which they were submitted.
    pub ordering_key: Option<String>,
    /// The content type of the body, for use by the plugin.
    pub content_type: Cow<'static, str>,
    /// What is sent, or what the plugin makes that from.
    pub body: Bytes,
    /// The earliest time to send it, for example to send several together; `None` for at once.
    pub not_before: Option<SystemTime>,
    /// The request that it concerns; the evidence of every attempt is linked to it.
    pub request: Option<RequestId>,
    /// When it was submitted.
    pub created: SystemTime,
    /// The number of the attempt, from 1; 0 before the first.
    pub attempt: u32,
}

impl Delivery {
    /// A delivery with a fresh id, to be sent at once and in no order.
    pub fn new(destination: impl Into<String>, content_type: impl Into<Cow<'static, str>>, body: impl Into<Bytes>) -> Self {
        Self {
            id: DeliveryId::random(),
            destination: destination.into(),
            ordering_key: None,
            content_type: content_type.into(),
            body: body.into(),
            not_before: None,
            request: None,
            created: SystemTime::now(),
            attempt: 0,
        }
    }

    /// Sets an id that follows from the content. Submitted again while it is waiting, it is kept once.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = DeliveryId(id.into());
        self
    }

    /// Sets the ordering key.
    #[must_use]
    pub fn ordered_by(mut self, key: impl Into<String>) -> Self {
        self.ordering_key = Some(key.into());
        self
    }

    /// Sets the request that it concerns.
    #[must_use]
    pub fn about(mut self, request: RequestId) -> Self {
        self.request = Some(request);
        self
    }

    /// Sets the earliest time to send it.
    #[must_use]
    pub fn not_before(mut self, moment: SystemTime) -> Self {
        self.not_before = Some(moment);
        self
    }

    /// Checks that the outbox can keep it.
    ///
    /// # Errors
    /// A body over 256 KiB; an id, destination or ordering key that is empty, over 200 bytes, or contains control characters.
    pub(crate) fn check(&self) -> Result<(), HostError> {
        let named = |text: &str| !text.is_empty() && text.len() <= MAX_NAME && !text.chars().any(char::is_control);
        let ordered = self.ordering_key.as_deref().is_none_or(named);
        if self.body.len() > MAX_BODY {
            return Err(HostError::BadDelivery("a body has at most 256 KiB"));
        }
        if !named(self.id.as_str()) || !named(&self.destination) || !ordered {
            return Err(HostError::BadDelivery("id, destination and ordering key have 1 to 200 bytes without control characters"));
        }
        Ok(())
    }
}

/// The result of an attempt. The texts are for people, go to evidence and the record store, and contain nothing of the traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivered {
    /// The receiver has taken it.
    Done {
        /// The receiver's own id for it.
        external_id: Option<String>,
    },
    /// Try again: after `after`, or else as the schedule says.
    Retry {
        /// The pause that the receiver asked for; nothing else is sent to it until then.
        after: Option<Duration>,
        /// Why.
        why: Cow<'static, str>,
    },
    /// Give up: another attempt would not help.
    Dead {
        /// Why.
        why: Cow<'static, str>,
    },
    /// Give up everything for this receiver, including what is waiting, until a configuration is loaded.
    Disable {
        /// Why.
        why: Cow<'static, str>,
    },
}

impl Delivered {
    /// Taken by the receiver, which named no id.
    pub fn done() -> Self {
        Self::Done { external_id: None }
    }

    /// To be tried again as the schedule says.
    pub fn retry(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Retry { after: None, why: why.into() }
    }

    /// Given up.
    pub fn dead(why: impl Into<Cow<'static, str>>) -> Self {
        Self::Dead { why: why.into() }
    }

    /// The result for an error of the host: tried again if the cause may disappear by itself.
    pub fn of_error(error: &HostError) -> Self {
        match error {
            HostError::NotGranted(_)
            | HostError::BadUrl(_)
            | HostError::BadHeader(_)
            | HostError::NoSecret(_)
            | HostError::FileNotGranted(_)
            | HostError::SqlValue(_)
            | HostError::MailRefused(_) => Self::dead(error.to_string()),
            other => Self::retry(other.to_string()),
        }
    }
}

/// The pause that a receiver asks for: `Retry-After`, in seconds or as a date.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(SystemTime::from(at).duration_since(now).unwrap_or_default())
}

/// The receiver of submitted deliveries: the outbox, or nothing.
pub trait Dispatch: Send + Sync + 'static {
    /// Stores a delivery of an instance. When this returns, a kill of the process does not lose it. With `observe`, it is only
    /// recorded that it would have been sent. Does not wait, and is cheap enough for a request's path.
    ///
    /// # Errors
    /// [`HostError::OutboxFull`] if the configuration refuses deliveries then, [`HostError::Outbox`] if the disk fails.
    fn dispatch(&self, instance: &str, delivery: &Delivery, observe: bool) -> Result<(), HostError>;
}

/// The missing outbox of `check`, which opens nothing.
pub(super) struct Undelivered;

impl Dispatch for Undelivered {
    fn dispatch(&self, _: &str, _: &Delivery, _: bool) -> Result<(), HostError> {
        Err(HostError::Outbox("there is no outbox"))
    }
}

/// An occurrence in the gateway that concerns no single request, such as a crossed budget threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Identifies the occurrence: the same on every gateway and at every repetition.
    pub id: String,
    /// The kind of occurrence: `budget.threshold` or `quota.threshold`.
    pub event: &'static str,
    /// When it occurred.
    pub at: SystemTime,
    /// The organisation, by its id.
    pub organisation: Option<String>,
    /// The name of what it concerns.
    pub subject: String,
    /// Facts by name: numbers, names and times.
    pub facts: serde_json::Map<String, serde_json::Value>,
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn what_the_outbox_cannot_keep_is_refused() {
        let good = Delivery::new("crm", "application/json", "{}");
        assert!(good.check().is_ok() && good.id != Delivery::new("crm", "", "").id);
        assert!(Delivery::new("crm", "", vec![0; MAX_BODY]).check().is_ok());
        for bad in [
            Delivery::new("crm", "", vec![0; MAX_BODY + 1]),
            Delivery::new("", "", ""),
            Delivery::new("a\nb", "", ""),
            good.clone().with_id("x".repeat(201)),
            good.clone().ordered_by(""),
        ] {
            assert!(matches!(bad.check(), Err(HostError::BadDelivery(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_receiver_says_when_it_wants_to_be_asked() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let after = |text: &str| retry_after(&HeaderMap::from_iter([(http::header::RETRY_AFTER, text.parse().unwrap())]), now);
        assert_eq!(after("120"), Some(Duration::from_secs(120)));
        assert_eq!(after("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(after("Sun, 06 Nov 1994 08:40:37 GMT"), Some(Duration::ZERO));
        assert_eq!((after("soon"), retry_after(&HeaderMap::new(), now)), (None, None));
    }

    #[test]
    fn only_what_can_never_work_is_given_up() {
        for error in [HostError::Timeout, HostError::Unreachable, HostError::AddressRefused("a".into()), HostError::Broken("x")] {
            assert!(matches!(Delivered::of_error(&error), Delivered::Retry { .. }), "{error}");
        }
        for error in [HostError::NotGranted("network"), HostError::BadUrl("x"), HostError::NoSecret("s".into())] {
            assert!(matches!(Delivered::of_error(&error), Delivered::Dead { .. }), "{error}");
        }
    }
}
