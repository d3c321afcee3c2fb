//! The three forms of a delivery: bytes in a spool file, a row of the record store, and the [`Delivery`] that the plugin
//! sends.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::millis;
use crate::evidence::DeliveryEntry;
use crate::gate::RequestId;
use crate::plugin::{Delivery, DeliveryId};
use crate::store::records::{NewMessage, OutboxMessage};

/// The header of a spooled delivery: everything but the body, which follows after a line feed.
#[derive(Serialize, Deserialize)]
struct Head<'a> {
    instance: Cow<'a, str>,
    id: Cow<'a, str>,
    destination: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ordering: Option<Cow<'a, str>>,
    content_type: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<String>,
    created: i64,
    due: i64,
}

/// Encodes a delivery for the spool.
pub(super) fn written(instance: &str, delivery: &Delivery) -> Vec<u8> {
    let created = millis(delivery.created);
    let head = Head {
        instance: instance.into(),
        id: delivery.id.as_str().into(),
        destination: delivery.destination.as_str().into(),
        ordering: delivery.ordering_key.as_deref().map(Cow::Borrowed),
        content_type: delivery.content_type.as_ref().into(),
        request: delivery.request.map(|id| id.to_string()),
        created,
        due: delivery.not_before.map_or(created, millis),
    };
    let mut out = serde_json::to_vec(&head).unwrap_or_default();
    out.push(b'\n');
    out.extend_from_slice(&delivery.body);
    out
}

/// Decodes a spooled delivery into a row for the record store; `None` if another build wrote it in another format.
pub(super) fn read(bytes: &[u8]) -> Option<NewMessage> {
    let end = memchr::memchr(b'\n', bytes)?;
    let (head, body) = bytes.split_at(end);
    let head: Head<'_> = serde_json::from_slice(head).ok()?;
    Some(NewMessage {
        topic: head.instance.into_owned(),
        dedup: head.id.into_owned(),
        destination: head.destination.into_owned(),
        ordering: head.ordering.map(Cow::into_owned),
        content_type: head.content_type.into_owned(),
        request: head.request,
        body: body.get(1..)?.to_vec(),
        created: head.created,
        due: head.due,
    })
}

/// The delivery that the plugin is given to send.
pub(super) fn delivery(message: &OutboxMessage) -> Delivery {
    let created = UNIX_EPOCH + Duration::from_millis(u64::try_from(message.created).unwrap_or(0));
    Delivery {
        id: DeliveryId::from(message.dedup.clone()),
        destination: message.destination.clone(),
        ordering_key: message.ordering.clone(),
        content_type: Cow::Owned(message.content_type.clone()),
        body: message.body.clone().into(),
        not_before: None,
        request: message.request.as_deref().and_then(request),
        created,
        attempt: message.attempt,
    }
}

/// Parses a request id from its 32 hex digits.
pub(super) fn request(hex: &str) -> Option<RequestId> {
    let number = u128::from_str_radix(hex, 16).ok().filter(|_| hex.len() == 32)?;
    Some(RequestId(number.to_be_bytes()))
}

/// The evidence entry for a message that has not been attempted.
pub(super) fn of_new<'a>(new: &'a NewMessage, state: &'static str) -> DeliveryEntry<'a> {
    DeliveryEntry {
        plugin: &new.topic,
        delivery_id: &new.dedup,
        destination: &new.destination,
        request: new.request.as_deref().and_then(request),
        attempt: 0,
        state,
        external_id: None,
        error: None,
        took: Duration::ZERO,
        at: SystemTime::now(),
    }
}

/// The evidence entry for a delivery in a given state.
pub(super) fn entry<'a>(instance: &'a str, delivery: &'a Delivery, state: &'static str) -> DeliveryEntry<'a> {
    DeliveryEntry {
        plugin: instance,
        delivery_id: delivery.id.as_str(),
        destination: &delivery.destination,
        request: delivery.request,
        attempt: delivery.attempt,
        state,
        external_id: None,
        error: None,
        took: Duration::ZERO,
        at: SystemTime::now(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_comes_back() {
        let id = RequestId([0xab; 16]);
        let given = Delivery::new("crm", "text/plain", &b"line\nline\0"[..]).ordered_by("k").about(id);
        let message = read(&written("hook", &given)).unwrap();
        assert_eq!((message.topic.as_str(), message.due), ("hook", message.created));
        let back = delivery(&OutboxMessage {
            id: 1,
            topic: message.topic,
            dedup: message.dedup,
            destination: message.destination,
            ordering: message.ordering,
            content_type: message.content_type,
            request: message.request,
            body: message.body,
            created: message.created,
            attempt: 3,
        });
        assert_eq!(millis(back.created), millis(given.created));
        assert_eq!(back, Delivery { attempt: 3, created: back.created, ..given });
        for other in [&b""[..], b"{}\n", b"no head\nbody", b"{\"instance\":1}\n"] {
            assert_eq!(read(other), None);
        }
    }
}
