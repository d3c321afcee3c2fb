//! The worker: one task for each process, which carries deliveries from the files to the store, leases what is due and
//! sends it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use tokio::task::{JoinError, JoinSet};

use super::attempt::{Attempted, Group, Over};
use super::receivers::Receivers;
use super::{OnFull, Outbox, OutboxSettings, Senders, message, millis, schedule};
use crate::evidence::DeliveryEntry;
use crate::plugin::{Delivered, Instance};
use crate::store::records::{MessageFilter, MessageLease, MessageRow, NewMessage, Origin, RecordError, RecordStore, Settled};

/// Deliveries moved from the files to the store at once.
pub(super) const CARRIED: usize = 128;
/// Deliveries leased at once for a plugin that takes them one by one.
const LEASED: usize = 16;
/// Most deliveries that are leased at once for a plugin that sends batches.
const BATCH: usize = 500;
/// How long deliveries gather in the files before they are carried to the store.
const GATHER: Duration = Duration::from_millis(10);
/// Longest time between two rounds of the worker.
const LOOK: Duration = Duration::from_secs(1);
/// How often to count what waits, drop old dead deliveries and bury those of disabled destinations.
const ROUND: Duration = Duration::from_secs(2);
/// Deliveries given up long ago that one look takes away.
const EXPIRED: u32 = 1_000;
/// Between two looks for what processes beside this one leave behind: the one before an upgrade drains for a while yet.
const LOOKING: Duration = Duration::from_secs(5);
/// How long the store remembers an origin from which nothing has been taken over.
const ORIGIN: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a lease outlasts the attempts it is taken for.
const SPARE: Duration = Duration::from_secs(60);

/// The task that works on the outbox of a process.
pub struct Worker {
    outbox: Outbox,
    records: Arc<dyn RecordStore>,
    senders: Arc<dyn Senders>,
    receivers: Receivers,
    /// Attempts under way. Each is a task of its own: an attempt may hold the very store connection that the worker waits
    /// for.
    under_way: JoinSet<Over>,
    /// Outcomes that are not yet written to the store, by message id.
    unsettled: Vec<(i64, Settled)>,
    loads: u64,
    /// The position of the instance that leases first in this round.
    turn: usize,
    looked_around: Option<Instant>,
    /// When it last looked for files of other processes.
    took_over: Instant,
}

/// The outcome of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    /// There may be more to do at once.
    More,
    /// Nothing to do until a delivery arrives, an attempt ends or a time is reached.
    Idle,
}

impl Worker {
    /// A worker of an outbox.
    pub fn new(outbox: Outbox, records: Arc<dyn RecordStore>, senders: Arc<dyn Senders>) -> Self {
        let loads = senders.loads();
        Self {
            outbox,
            records,
            senders,
            receivers: Receivers::default(),
            under_way: JoinSet::new(),
            unsettled: Vec::new(),
            loads,
            turn: 0,
            looked_around: None,
            took_over: Instant::now(),
        }
    }

    /// Works until the outbox is closed and nothing is due, at the latest until the moment given to [`Outbox::close`].
    /// Every delivery is in the files or in the store at any time, so ending at any moment loses none.
    pub async fn run(mut self) {
        let mut waits = GATHER;
        while let Err(error) = self.recover().await {
            log::warn!(target: "outbox", "deliveries wait in their files: {error}");
            waits = (waits * 2).min(Duration::from_secs(5));
            self.sleep_beside_files(waits).await;
            if self.outbox.is_closing() {
                return;
            }
        }
        loop {
            let end = self.outbox.0.end.get().copied();
            match self.look().await {
                Ok(Look::More) => waits = GATHER,
                Ok(Look::Idle) if end.is_some() && self.under_way.is_empty() => break,
                Ok(Look::Idle) => {
                    waits = GATHER;
                    self.wait().await;
                }
                Err(error) => {
                    log::warn!(target: "outbox", "deliveries wait: {error}");
                    waits = (waits * 2).min(Duration::from_secs(5));
                    self.sleep_beside_files(waits).await;
                }
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                break;
            }
        }
        self.end().await;
    }

    /// Breaks off attempts, releases their leases, and closes the files.
    async fn end(mut self) {
        let left = self.under_way.len();
        self.under_way.abort_all();
        let told = async {
            self.settle().await?;
            self.records.release_messages(&self.outbox.0.run).await
        };
        if let Err(error) = told.await {
            log::warn!(target: "outbox", "leases of this process run out by themselves: {error}");
        }
        if left > 0 {
            log::warn!(target: "outbox", attempts = left; "attempts were broken off; they will be made again");
        }
        if let Some(spool) = self.outbox.0.spool.get()
            && let Err(error) = spool.close()
        {
            log::error!(target: "outbox", "the files of the outbox: {error}");
        }
    }

    async fn recover(&mut self) -> Result<(), String> {
        self.records.migrate().await.map_err(|error| error.to_string())?;
        self.take_over().await
    }

    /// Takes over what dead processes left: the entries in their files, and the messages they had leased.
    async fn take_over(&mut self) -> Result<(), String> {
        self.took_over = Instant::now();
        let text = |error: RecordError| error.to_string();
        let spool = self.outbox.spool().map_err(|error| error.to_string())?;
        for mut leftover in spool.leftovers().map_err(|error| error.to_string())? {
            let after = self.records.taken_over(&leftover.run).await.map_err(text)?;
            let mut count = 0;
            loop {
                let entries = leftover.next(after, CARRIED).map_err(|error| error.to_string())?;
                let Some(last) = entries.last() else { break };
                count += entries.len();
                let origin = Origin { run: &leftover.run, number: last.number, at: millis(SystemTime::now()) };
                self.records.put_messages(&read(&entries), Some(origin)).await.map_err(text)?;
            }
            let released = self.records.release_messages(&leftover.run).await.map_err(text)?;
            log::info!(target: "outbox", waited = count, leased = released; "took over what an earlier process left");
            self.outbox.0.metrics.unreadable(leftover.broken);
            let run = leftover.run.clone();
            leftover.done().map_err(|error| error.to_string())?;
            let before = millis(SystemTime::now().checked_sub(ORIGIN).unwrap_or(SystemTime::UNIX_EPOCH));
            self.records.forget_origin(&run, before).await.map_err(text)?;
        }
        Ok(())
    }

    /// One round: carry, make room, settle, lease, and now and then the housekeeping.
    async fn look(&mut self) -> Result<Look, RecordError> {
        let settings = self.senders.settings();
        self.outbox.0.settings.lock().clone_from(&settings);
        let loads = self.senders.loads();
        if loads != self.loads {
            self.loads = loads;
            self.receivers.forgive();
        }
        let carried = self.carry().await?;
        self.make_room(&settings).await?;
        while let Some(over) = self.under_way.try_join_next() {
            self.joined(over, &settings);
        }
        let settled = !self.unsettled.is_empty();
        self.settle().await?;
        let instances = self.senders.instances();
        let leased = self.lease(&settings, &instances).await?;
        if self.looked_around.is_none_or(|at| at.elapsed() >= ROUND) {
            self.look_around(&settings, &instances).await?;
        }
        if self.took_over.elapsed() >= LOOKING
            && let Err(error) = self.take_over().await
        {
            log::warn!(target: "outbox", "what another process left waits in its files: {error}");
        }
        Ok(if carried > 0 || settled || leased > 0 { Look::More } else { Look::Idle })
    }

    /// Carries entries from the files to the store. Returns how many.
    async fn carry(&mut self) -> Result<usize, RecordError> {
        let Some(spool) = self.outbox.0.spool.get() else { return Ok(0) };
        let failed = |error: std::io::Error| {
            log::error!(target: "outbox", "the files of the outbox: {error}");
            RecordError::Unavailable("the files of the outbox".into())
        };
        let (entries, place) = spool.next(CARRIED).map_err(failed)?;
        let Some(last) = entries.last() else { return Ok(0) };
        let origin = Origin { run: &self.outbox.0.run, number: last.number, at: millis(SystemTime::now()) };
        let new = self.records.put_messages(&read(&entries), Some(origin)).await?;
        self.outbox.0.stored.fetch_add(new, Ordering::Relaxed);
        spool.taken(last.number, place).map_err(failed)?;
        Ok(entries.len())
    }

    /// Drops the oldest messages where more wait than `max_pending`.
    async fn make_room(&mut self, settings: &OutboxSettings) -> Result<(), RecordError> {
        if !self.outbox.0.over.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let over = self.outbox.waiting().saturating_sub(settings.max_pending);
        let dropped = self.records.drop_oldest(millis(SystemTime::now()), u32::try_from(over).unwrap_or(u32::MAX).min(10_000)).await?;
        self.fewer(dropped.len() as u64);
        if (dropped.len() as u64) < over {
            // The rest is under way or not in the store yet: try again in the next round.
            self.outbox.0.over.store(true, Ordering::Release);
        }
        for row in &dropped {
            self.outbox.told(&DeliveryEntry { error: Some("the outbox is full"), ..of_row(row, "dropped") });
        }
        Ok(())
    }

    /// While the store is away: drops the oldest entries of the files if these alone hold more than `max_pending`. An entry
    /// that the store took without acknowledging it is sent all the same; and a kill may bring dropped entries back, since
    /// dropping is not written down.
    fn make_room_in_files(&self) {
        let settings = self.senders.settings();
        let Some(spool) = self.outbox.0.spool.get().filter(|_| settings.on_full == OnFull::DropOldest) else { return };
        loop {
            let over = usize::try_from(spool.waiting().saturating_sub(settings.max_pending)).unwrap_or(usize::MAX);
            if over == 0 {
                return;
            }
            let dropped = spool.next(over.min(CARRIED)).and_then(|(entries, place)| {
                if let Some(last) = entries.last() {
                    spool.taken(last.number, place)?;
                }
                Ok(entries)
            });
            match dropped {
                Ok(entries) if entries.is_empty() => return,
                Ok(entries) => {
                    for message in read(&entries) {
                        self.outbox.told(&DeliveryEntry { error: Some("the outbox is full"), ..message::of_new(&message, "dropped") });
                    }
                }
                Err(error) => {
                    log::error!(target: "outbox", "the files of the outbox: {error}");
                    return;
                }
            }
        }
    }

    fn fewer(&self, count: u64) {
        let less = |stored: u64| Some(stored.saturating_sub(count));
        let _ = self.outbox.0.stored.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Leases what is due and starts to send it. Returns how many messages were leased.
    async fn lease(&mut self, settings: &OutboxSettings, instances: &[Arc<Instance>]) -> Result<usize, RecordError> {
        let mut count = 0;
        self.turn = self.turn.wrapping_add(1);
        for turn in 0..instances.len() {
            let instance = &instances[(self.turn + turn) % instances.len()];
            let sending = settings.of(&instance.name);
            let free = settings.in_flight.saturating_sub(self.under_way.len());
            if free == 0 {
                break;
            }
            let batch = instance.plugin.batch().clamp(1, BATCH);
            let now = SystemTime::now();
            let openings = self.receivers.openings(&instance.name, Instant::now());
            let attempts = u32::try_from(LEASED).unwrap_or(u32::MAX);
            let usual = MessageLease {
                topic: &instance.name,
                except: &openings.closed,
                only: None,
                sender: &self.outbox.0.run,
                now: millis(now),
                until: millis(now + sending.timeout * attempts + SPARE),
                limit: u32::try_from(if batch > 1 { batch } else { free.min(LEASED) }).unwrap_or(1),
            };
            let probes = openings.probes.iter().map(|probe| MessageLease { except: &[], only: Some(probe), limit: 1, ..usual });
            let (mut messages, mut failed) = (Vec::new(), None);
            for wish in probes.chain([usual]) {
                match self.records.lease_messages(wish).await {
                    Ok(some) => messages.extend(some),
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            count += messages.len();
            for group in Group::of(instance, messages) {
                self.receivers.begins(&instance.name, &group.destination);
                self.under_way.spawn(group.send(sending.timeout));
            }
            // Said when what was leased before it is under way: nobody else gets that until its lease runs out.
            if let Some(error) = failed {
                return Err(error);
            }
        }
        Ok(count)
    }

    /// Handles the end of an attempt's task. A panic of the plugin is one of its results; a task that failed otherwise
    /// leaves its messages leased until the lease runs out.
    fn joined(&mut self, over: Result<Over, JoinError>, settings: &OutboxSettings) {
        match over {
            Ok(over) => self.over(over, settings),
            Err(error) => log::error!(target: "outbox", "an attempt broke off and will be made again: {error}"),
        }
    }

    /// Handles the outcome of a group: updates the state of its destination, evidence and metrics, and queues the outcomes
    /// for the store.
    fn over(&mut self, over: Over, settings: &OutboxSettings) {
        let (name, sending) = (&over.instance.name, settings.of(&over.instance.name));
        self.receivers.ends(name, &over.destination);
        let now = Instant::now();
        let failed = over.attempted.iter().any(|attempted| matches!(attempted.result, Some(Delivered::Retry { .. })));
        if failed {
            if let Some(pause) = self.receivers.failed(name, &over.destination, sending, now) {
                log::warn!(target: "outbox", plugin = &**name, destination = over.destination.as_str(), seconds = pause.as_secs(); "a destination is paused");
            }
        } else if over.attempted.iter().any(|attempted| matches!(attempted.result, Some(Delivered::Done { .. }))) {
            self.receivers.succeeded(name, &over.destination);
        }
        for attempted in over.attempted {
            let settled = self.settled(name, attempted, sending, now);
            self.unsettled.push(settled);
        }
    }

    fn settled(&mut self, name: &str, attempted: Attempted, sending: &super::SendSettings, now: Instant) -> (i64, Settled) {
        let Attempted { message, result, took } = attempted;
        let (state, settled, external_id) = match result {
            None => return (message.id, Settled::Back),
            Some(Delivered::Done { external_id }) => ("sent", Settled::Sent, external_id),
            Some(Delivered::Dead { why }) => ("dead", given_up(bounded(&why)), None),
            Some(Delivered::Disable { why }) => {
                self.receivers.disable(name, &message.destination);
                self.looked_around = None;
                log::warn!(target: "outbox", plugin = name, destination = message.destination.as_str(); "a destination wants nothing any more");
                ("disabled", given_up(bounded(&why)), None)
            }
            Some(Delivered::Retry { after, why }) => {
                if let Some(after) = after {
                    self.receivers.hold(name, &message.destination, now + after.min(Duration::from_secs(3600)));
                }
                match schedule::next(&sending.schedule, message.attempt, after, rand::random()) {
                    Some(wait) => ("retry", Settled::Retry(millis(SystemTime::now() + wait), bounded(&why)), None),
                    None => ("dead", given_up(format!("given up after {} attempts: {}", message.attempt, bounded(&why))), None),
                }
            }
        };
        let error = match &settled {
            Settled::Retry(_, why) | Settled::Dead(_, why) => Some(why.as_str()),
            Settled::Sent | Settled::Back => None,
        };
        self.outbox.0.metrics.took(name, took);
        self.outbox.told(&DeliveryEntry {
            plugin: name,
            delivery_id: &message.dedup,
            destination: &message.destination,
            request: message.request.as_deref().and_then(message::request),
            attempt: message.attempt,
            state,
            external_id: external_id.as_deref(),
            error,
            took,
            at: SystemTime::now(),
        });
        (message.id, settled)
    }

    async fn settle(&mut self) -> Result<(), RecordError> {
        if self.unsettled.is_empty() {
            return Ok(());
        }
        self.records.settle_messages(&self.outbox.0.run, &self.unsettled).await?;
        self.fewer(self.unsettled.iter().filter(|(_, settled)| matches!(settled, Settled::Sent | Settled::Dead(..))).count() as u64);
        self.unsettled.clear();
        Ok(())
    }

    /// Housekeeping: buries messages of disabled destinations, drops dead ones past `keep_dead`, and reports the depths.
    async fn look_around(&mut self, settings: &OutboxSettings, instances: &[Arc<Instance>]) -> Result<(), RecordError> {
        let now = SystemTime::now();
        for (instance, destination) in self.receivers.disabled() {
            let filter = MessageFilter { topic: Some(instance.into()), destination: Some(destination.into()), ..MessageFilter::default() };
            let count = self.records.bury_messages(&filter, millis(now), "the destination wants nothing any more").await?;
            self.outbox.0.metrics.outcomes(instance, "disabled", count);
        }
        let kept = now.checked_sub(settings.keep_dead).unwrap_or(SystemTime::UNIX_EPOCH);
        for row in self.records.drop_dead(millis(kept), EXPIRED).await? {
            self.outbox.told(&DeliveryEntry { error: Some("kept for as long as `keep_dead` says"), ..of_row(&row, "expired") });
        }
        let depths = self.records.depths().await?;
        self.outbox.0.stored.store(depths.iter().map(|depth| depth.pending).sum(), Ordering::Relaxed);
        let (at, metrics) = (Instant::now(), &self.outbox.0.metrics);
        let spool = self.outbox.0.spool.get();
        metrics.spooled(spool.map_or(0, super::Spool::waiting));
        metrics.unreadable(spool.map_or(0, super::Spool::take_broken));
        let known: Vec<&str> = instances.iter().map(|instance| &*instance.name).collect();
        for depth in &depths {
            let oldest = depth.oldest.map_or(0, |oldest| (millis(now) - oldest).max(0) / 1000);
            metrics.depth(&depth.topic, depth.pending, depth.dead, oldest);
        }
        for name in known {
            if !depths.iter().any(|depth| depth.topic == name) {
                metrics.depth(name, 0, 0, 0);
            }
            metrics.paused(name, self.receivers.paused(name, at));
        }
        self.looked_around = Some(at);
        Ok(())
    }

    /// Sleeps until something may have changed.
    async fn wait(&mut self) {
        let now = Instant::now();
        let mut limit = LOOK;
        if let Some(until) = self.receivers.reopens(now) {
            limit = limit.min(until - now);
        }
        // A due message that was not leased waits for its destination or for an earlier message, so only later due times
        // count.
        let instances = self.senders.instances();
        let topics: Vec<&str> = instances.iter().map(|instance| &*instance.name).collect();
        let clock = millis(SystemTime::now());
        if let Ok(Some(due)) = self.records.next_due(&topics, clock).await {
            limit = limit.min(Duration::from_millis(u64::try_from(due - clock).unwrap_or(0)));
        }
        if let Some(end) = self.outbox.0.end.get() {
            limit = limit.min(end.saturating_duration_since(now));
        }
        let outbox = self.outbox.clone();
        tokio::select! {
            Some(over) = self.under_way.join_next(), if !self.under_way.is_empty() => {
                let settings = self.senders.settings();
                self.joined(over, &settings);
            }
            () = outbox.0.arrived.notified() => tokio::time::sleep(GATHER).await,
            () = tokio::time::sleep(limit.max(GATHER)) => {}
        }
    }

    /// Sleeps while the store is away, at most until the outbox is closed. The files only grow meanwhile, so room is made
    /// in them.
    async fn sleep_beside_files(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.outbox.is_closing() {
            self.make_room_in_files();
            tokio::time::sleep(time.min(Duration::from_millis(50))).await;
        }
    }
}

/// Decodes entries into messages. Those in the format of another build are skipped: no retry would make them readable.
fn read(entries: &[super::spool::Entry]) -> Vec<NewMessage> {
    let message = |entry: &super::spool::Entry| {
        let read = message::read(&entry.payload);
        if read.is_none() {
            log::error!(target: "outbox", "a delivery of another format was left out");
        }
        read
    };
    entries.iter().filter_map(message).collect()
}

/// Given up now.
fn given_up(why: String) -> Settled {
    Settled::Dead(millis(SystemTime::now()), why)
}

/// A text for the store in one line of at most 200 characters.
fn bounded(why: &str) -> String {
    why.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect()
}

fn of_row<'a>(row: &'a MessageRow, state: &'static str) -> DeliveryEntry<'a> {
    DeliveryEntry {
        plugin: &row.topic,
        delivery_id: &row.dedup,
        destination: &row.destination,
        request: row.request.as_deref().and_then(message::request),
        attempt: row.attempts,
        state,
        external_id: None,
        error: None,
        took: Duration::ZERO,
        at: SystemTime::now(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "worker_test.rs"]
mod tests;
