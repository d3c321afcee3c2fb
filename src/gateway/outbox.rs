//! The outbox of the process: who works on it, with which configuration, and until when.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Shared;
use crate::outbox::{OutboxSettings, Senders, Worker};
use crate::plugin::{Instance, Mode, Need};

/// Between two looks whether there is anything to send, and between two tries to open the record store.
const LOOK: Duration = Duration::from_secs(1);
/// How long deliveries may at least be sent after everything else is drained.
const LEAST: Duration = Duration::from_secs(1);

impl Senders for Shared {
    fn settings(&self) -> Arc<OutboxSettings> {
        self.live.load().snapshot.outbox.clone()
    }

    fn instances(&self) -> Vec<Arc<Instance>> {
        let sends = |instance: &&Arc<Instance>| instance.mode == Mode::Enforce && instance.needs.contains(Need::Deliver);
        self.live.load().snapshot.instances.values().filter(sends).cloned().collect()
    }

    fn configuration(&self) -> String {
        self.live.load().snapshot.hash.clone()
    }
}

impl Shared {
    /// Sends what plugins hand over, as soon as there is anything.
    pub(super) fn deliver(self: &Arc<Self>) {
        let shared = self.clone();
        let task = tokio::spawn(async move {
            loop {
                let closing = shared.outbox.is_closing();
                if closing && !shared.outbox.is_in_use() {
                    return;
                }
                if !shared.instances().is_empty() || shared.outbox.is_in_use() {
                    match shared.opened() {
                        Ok(records) => return Worker::new(shared.outbox.clone(), records, shared.clone()).run().await,
                        Err(error) => log::error!(target: "outbox", "deliveries wait in their files: {error}"),
                    }
                }
                if closing {
                    return;
                }
                tokio::time::sleep(LOOK).await;
            }
        });
        *self.sending.lock() = Some(task);
    }

    /// Lets what is due go out until a moment; all else stays where a next process finds it.
    pub(super) async fn deliver_last(&self, deadline: Instant) {
        let until = deadline.max(Instant::now() + LEAST);
        self.outbox.close(until);
        let task = self.sending.lock().take();
        if let Some(task) = task
            && tokio::time::timeout_at((until + LEAST).into(), task).await.is_err()
        {
            log::warn!(target: "shutdown", "the outbox did not end in time; its deliveries stay where they are");
        }
    }
}
