//! The outbox of a case: keeps submitted deliveries, and makes one attempt at each.

use parking_lot::Mutex;

use crate::plugin::delivery::{Delivered, Delivery, Dispatch};
use crate::plugin::{HostError, Plugin};

/// The deliveries that were submitted.
#[derive(Default)]
pub(super) struct Shelf(Mutex<Vec<Delivery>>);

impl Dispatch for Shelf {
    fn dispatch(&self, _: &str, delivery: &Delivery, observe: bool) -> Result<(), HostError> {
        if !observe {
            self.0.lock().push(delivery.clone());
        }
        Ok(())
    }
}

impl Shelf {
    /// Makes one attempt at each delivery, in batches if the plugin wants them, and returns the results.
    pub(super) async fn sent_by(&self, plugin: &dyn Plugin) -> Vec<(Delivery, &'static str)> {
        let mut waiting = std::mem::take(&mut *self.0.lock());
        waiting.iter_mut().for_each(|delivery| delivery.attempt = 1);
        let mut done = Vec::new();
        while let Some(first) = waiting.first() {
            let destination = first.destination.clone();
            let (mut batch, rest): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|delivery| delivery.destination == destination);
            let more = batch.split_off(batch.len().min(plugin.batch().max(1)));
            waiting = more.into_iter().chain(rest).collect();
            let mut outcomes = plugin.deliver_all(&batch).await.into_iter();
            done.extend(batch.into_iter().map(|delivery| (delivery, outcomes.next().as_ref().map_or("retry", name))));
        }
        done
    }
}

fn name(outcome: &Delivered) -> &'static str {
    match outcome {
        Delivered::Done { .. } => "done",
        Delivered::Retry { .. } => "retry",
        Delivered::Dead { .. } => "dead",
        Delivered::Disable { .. } => "disable",
    }
}
