//! One attempt: deliveries that go together are given to the plugin, under a timeout and a panic guard.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;

use super::message;
use crate::plugin::{Delivered, Delivery, Instance};
use crate::store::records::OutboxMessage;

/// Deliveries that are sent one after the other by one task: a single delivery, the first deliveries of one ordering key,
/// or a batch as large as the plugin accepts.
pub(super) struct Group {
    pub instance: Arc<Instance>,
    pub destination: String,
    pub messages: Vec<OutboxMessage>,
}

/// The outcome of one delivery of a group.
pub(super) struct Attempted {
    pub message: OutboxMessage,
    /// `None`: not attempted, because an earlier delivery of the group failed.
    pub result: Option<Delivered>,
    pub took: Duration,
}

/// The outcome of a group.
pub(super) struct Over {
    pub instance: Arc<Instance>,
    pub destination: String,
    pub attempted: Vec<Attempted>,
}

impl Group {
    /// Splits leased messages into groups. Within a group the messages keep their order.
    pub fn of(instance: &Arc<Instance>, messages: Vec<OutboxMessage>) -> Vec<Self> {
        let most = instance.plugin.batch().max(1);
        let mut groups: Vec<(Option<String>, Self)> = Vec::new();
        for message in messages {
            let fits = |(key, group): &&mut (Option<String>, Self)| {
                let together = key.is_some() || (most > 1 && group.messages.len() < most);
                together && *key == message.ordering && group.destination == message.destination
            };
            match groups.iter_mut().rev().find(fits) {
                Some((_, group)) => group.messages.push(message),
                None => {
                    let (key, destination) = (message.ordering.clone(), message.destination.clone());
                    groups.push((key, Self { instance: Arc::clone(instance), destination, messages: vec![message] }));
                }
            }
        }
        groups.into_iter().map(|(_, group)| group).collect()
    }

    /// Sends the group.
    pub async fn send(self, timeout: Duration) -> Over {
        let most = self.instance.plugin.batch().max(1);
        let mut attempted = Vec::with_capacity(self.messages.len());
        let mut goes_on = true;
        let mut messages = self.messages.into_iter().peekable();
        while messages.peek().is_some() {
            let some: Vec<OutboxMessage> = messages.by_ref().take(most).collect();
            if !goes_on {
                attempted.extend(some.into_iter().map(|message| Attempted { message, result: None, took: Duration::ZERO }));
                continue;
            }
            let started = Instant::now();
            let deliveries: Vec<Delivery> = some.iter().map(message::delivery).collect();
            let work = AssertUnwindSafe(self.instance.plugin.deliver_all(&deliveries)).catch_unwind();
            let mut results = match tokio::time::timeout(timeout, work).await {
                Ok(Ok(results)) => results,
                // The panic's payload may quote what was sent: it is dropped unread.
                Ok(Err(_)) => vec![Delivered::retry("the plugin panicked"); some.len()],
                Err(_) => vec![Delivered::retry("no answer in time"); some.len()],
            };
            results.resize(some.len(), Delivered::retry("the plugin said nothing of it"));
            let took = started.elapsed();
            goes_on = !results.iter().any(|result| matches!(result, Delivered::Retry { .. } | Delivered::Disable { .. }));
            let each = some.into_iter().zip(results);
            attempted.extend(each.map(|(message, result)| Attempted { message, result: Some(result), took }));
        }
        Over { instance: self.instance, destination: self.destination, attempted }
    }
}
