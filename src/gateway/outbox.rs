//! The outbox of the process: when its worker runs, and with which configuration.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use serde_json::{Map, Value};

use super::Shared;
use crate::budget::BudgetNotice;
use crate::outbox::{OutboxSettings, Senders, Worker};
use crate::plugin::{Instance, Mode, Need, Notice};
use crate::proxy::thresholds;
use crate::telemetry::time::Rfc3339;

/// The interval of checking whether there is anything to send, and of attempts to open the record store.
const LOOK: Duration = Duration::from_secs(1);
/// The minimum time for sending deliveries after everything else is drained.
const LEAST: Duration = Duration::from_secs(1);

impl Senders for Shared {
    fn settings(&self) -> Arc<OutboxSettings> {
        self.live.load().snapshot.outbox.clone()
    }

    fn instances(&self) -> Vec<Arc<Instance>> {
        let sends = |instance: &&Arc<Instance>| instance.mode == Mode::Enforce && instance.needs.contains(Need::Deliver);
        self.live.load().snapshot.instances.values().filter(sends).cloned().collect()
    }

    fn loads(&self) -> u64 {
        self.loads.load(Ordering::Acquire)
    }
}

impl Shared {
    /// Starts the task that sends the plugins' deliveries, as soon as there are any.
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
                shared.outbox.idle(LOOK).await;
            }
        });
        *self.sending.lock() = Some(task);
    }

    /// Starts the task that notifies plugins of crossed budget and quota thresholds.
    pub(super) fn notify(self: &Arc<Self>) {
        let (shared, mut heard) = (self.clone(), thresholds());
        tokio::spawn(async move {
            while let Some(crossed) = heard.recv().await {
                let notice = notice(&crossed);
                let instances: Vec<Arc<Instance>> = shared.live.load().snapshot.instances.values().cloned().collect();
                for instance in instances.iter().filter(|instance| instance.needs.contains(Need::Notices)) {
                    let told = AssertUnwindSafe(instance.plugin.notice(&notice)).catch_unwind();
                    let why = match tokio::time::timeout(instance.timeout, told).await {
                        Ok(Ok(Ok(()))) => continue,
                        Ok(Ok(Err(error))) => error.to_string(),
                        // The panic's payload is dropped unread.
                        Ok(Err(_)) => "panicked".to_owned(),
                        Err(_) => "no end in time".to_owned(),
                    };
                    log::warn!(target: "plugin", plugin = &*instance.name, error = why.as_str(); "a plugin could not be told of a threshold");
                }
            }
        });
    }

    /// Sends deliveries that are due, until the deadline; all others stay in the store or their files for the next process.
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

/// The plugins' notice of a crossed threshold. Its id is the same on every gateway that notices the crossing.
fn notice(crossed: &BudgetNotice) -> Notice {
    let kind = crossed.kind.as_str();
    let moment = |micros: i64| Rfc3339(UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or(0))).to_string();
    let facts: [(&str, Value); 9] = [
        ("metric", crossed.metric.as_str().into()),
        ("owner", crossed.owner.as_str().into()),
        ("owner_id", (&*crossed.owner_id).into()),
        ("period", crossed.period.as_str().into()),
        ("percent", crossed.percent.into()),
        ("used", crossed.spent.into()),
        ("limit", crossed.limit.into()),
        ("window_start", moment(crossed.window.start).into()),
        ("window_end", moment(crossed.window.end).into()),
    ];
    let BudgetNotice { organisation, name, owner_id, percent, window, .. } = crossed;
    let exact = format!("{organisation}/{kind}/{}/{owner_id}/{name}/{}/{percent}", crossed.owner.as_str(), window.start);
    let digest: String = crate::identity::fingerprint(exact.as_bytes()).iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    Notice {
        id: format!("thr_{digest}"),
        event: if kind == "quota" { "quota.threshold" } else { "budget.threshold" },
        at: SystemTime::now(),
        organisation: Some(organisation.to_string()),
        subject: name.to_string(),
        facts: facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect::<Map<String, Value>>(),
    }
}
