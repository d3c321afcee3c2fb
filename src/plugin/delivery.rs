//! What leaves the gateway after a request, at least once: a plugin hands a [`Delivery`] over with `Host::deliver` at any
//! gate, and is given it back by `Plugin::deliver`, as often as it takes, until it says that it arrived.
//!
//! Between the two is the outbox: the delivery is on disk before `Host::deliver` returns, so that a kill of the process loses
//! nothing. Who receives must know an id again that it has seen before.

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::HeaderMap;

use super::HostError;
use crate::gate::RequestId;

/// Longest body, bytes.
pub const MAX_BODY: usize = 256 << 10;
/// Longest id, destination and ordering key, bytes.
const MAX_NAME: usize = 200;

/// The identity of a delivery: the same at every attempt, and of no other delivery of its instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeliveryId(String);

impl DeliveryId {
    /// A fresh one: `dlv_` and 32 hex digits.
    pub fn random() -> Self {
        Self(format!("dlv_{:032x}", rand::random::<u128>()))
    }

    /// As it is shown and sent.
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

/// Something to be sent. Nothing of the traffic may be in it: it is kept on disk and in the record store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Also the idempotency key on the way.
    pub id: DeliveryId,
    /// Which receiver, by a name from the configuration: receivers are paused one by one.
    pub destination: String,
    /// Deliveries of an instance with the same key are sent in the order in which they were handed over, one at a time.
    pub ordering_key: Option<String>,
    /// Of the body, for the plugin itself.
    pub content_type: Cow<'static, str>,
    /// What is sent, or what the plugin makes that from.
    pub body: Bytes,
    /// Not before, if not at once: so that several can be sent together.
    pub not_before: Option<SystemTime>,
    /// The request it speaks of; evidence of every attempt is linked to it.
    pub request: Option<RequestId>,
    /// When it was handed over.
    pub created: SystemTime,
    /// Which attempt this is, from 1; 0 before the first.
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

    /// The same under an id that follows from what it says: handed over again while it waits, it is there once.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = DeliveryId(id.into());
        self
    }

    /// The same, after those of the same key before it.
    #[must_use]
    pub fn ordered_by(mut self, key: impl Into<String>) -> Self {
        self.ordering_key = Some(key.into());
        self
    }

    /// The same, about a request.
    #[must_use]
    pub fn about(mut self, request: RequestId) -> Self {
        self.request = Some(request);
        self
    }

    /// The same, not before a moment.
    #[must_use]
    pub fn not_before(mut self, moment: SystemTime) -> Self {
        self.not_before = Some(moment);
        self
    }

    /// Whether the outbox can keep it.
    ///
    /// # Errors
    /// A body over 256 KiB; an id, destination or key that is empty, over 200 bytes, or holds control characters.
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

/// What became of an attempt. Texts are for people, go to evidence and the record store, and hold nothing of the traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivered {
    /// The receiver has it.
    Done {
        /// The receiver's own id of it.
        external_id: Option<String>,
    },
    /// Try again, when the schedule says so or when the receiver does.
    Retry {
        /// What the receiver asked for; nothing else is sent to it until then.
        after: Option<Duration>,
        /// Why.
        why: Cow<'static, str>,
    },
    /// Trying again would not help.
    Dead {
        /// Why.
        why: Cow<'static, str>,
    },
    /// The receiver wants nothing any more: this and all that waits for it is given up, until a configuration is loaded.
    Disable {
        /// Why.
        why: Cow<'static, str>,
    },
}

impl Delivered {
    /// It arrived, and the receiver named no id.
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

    /// What an error of the host means for a delivery: what may change by itself is tried again.
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

/// How long a receiver asks to be left alone: `Retry-After` in seconds or as a date.
pub fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(http::header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(text).ok()?;
    Some(SystemTime::from(at).duration_since(now).unwrap_or_default())
}

/// Where deliveries go: the outbox, or nowhere.
pub trait Dispatch: Send + Sync + 'static {
    /// Keeps a delivery of an instance. When this returns, a kill of the process does not lose it. With `observe` it is noted
    /// that it would have been sent, and nothing is kept. Cheap enough for a request's path, does not wait.
    ///
    /// # Errors
    /// [`HostError::OutboxFull`] where the operator wants to be told so, [`HostError::Outbox`] when the disk refuses.
    fn dispatch(&self, instance: &str, delivery: &Delivery, observe: bool) -> Result<(), HostError>;
}

/// No outbox: for `check`, which opens nothing.
pub(super) struct Undelivered;

impl Dispatch for Undelivered {
    fn dispatch(&self, _: &str, _: &Delivery, _: bool) -> Result<(), HostError> {
        Err(HostError::Outbox("there is no outbox"))
    }
}

/// Something about the gateway that people should know, apart from any request: a threshold of a budget was crossed.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// Says what happened, and the same for the same happening: on several gateways, or told twice.
    pub id: String,
    /// What happened: `budget.threshold`, `quota.threshold`.
    pub event: &'static str,
    /// When.
    pub at: SystemTime,
    /// The tenant, by its id.
    pub organisation: Option<String>,
    /// What it is about, by name.
    pub subject: String,
    /// Facts by name: numbers, names and moments.
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
