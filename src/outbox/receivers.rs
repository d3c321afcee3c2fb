//! Which destinations may be sent to now. A failing destination is paused, then probed with a single delivery.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::SendSettings;

/// Groups that may be under way to one destination at the same time.
const TOGETHER: usize = 8;
/// The longest pause.
const LONGEST: Duration = Duration::from_secs(15 * 60);
/// Above this many destinations, those that are neither paused, disabled nor being sent to are forgotten.
const REMEMBERED: usize = 4096;

/// The state of one destination.
#[derive(Debug, Default)]
struct Receiver {
    /// Groups under way.
    under_way: usize,
    /// Failed attempts in a row, since the last success.
    failures: u32,
    /// Nothing is sent before this moment.
    paused_until: Option<Instant>,
    /// The current or last pause; zero after a success.
    pause: Duration,
    /// The receiver declined all further deliveries.
    disabled: bool,
}

impl Receiver {
    fn is_open(&self, now: Instant) -> bool {
        self.paused_until.is_some_and(|until| until > now)
    }

    /// The pause is over, and no delivery has succeeded or failed since.
    fn is_on_probation(&self) -> bool {
        !self.pause.is_zero()
    }
}

/// Destinations by instance and name.
#[derive(Debug, Default)]
pub(super) struct Receivers(HashMap<String, HashMap<String, Receiver>>);

/// Which destinations of an instance may be sent to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Openings<'a> {
    /// Destinations that are closed; all others are open.
    pub closed: Vec<&'a str>,
    /// The subset of `closed` that gets one delivery as a probe.
    pub probes: Vec<&'a str>,
}

impl Receivers {
    /// Which destinations of an instance may be sent to now.
    pub fn openings(&self, instance: &str, now: Instant) -> Openings<'_> {
        let mut openings = Openings::default();
        for (name, receiver) in self.0.get(instance).into_iter().flatten() {
            let waits = receiver.disabled || receiver.is_open(now);
            let probe = !waits && receiver.is_on_probation();
            if waits || probe || receiver.under_way >= TOGETHER {
                openings.closed.push(name);
            }
            if probe && receiver.under_way == 0 {
                openings.probes.push(name);
            }
        }
        openings
    }

    /// Counts a group as under way.
    pub fn begins(&mut self, instance: &str, destination: &str) {
        if self.0.values().map(HashMap::len).sum::<usize>() > REMEMBERED {
            let kept = |receiver: &Receiver| receiver.under_way > 0 || receiver.disabled || receiver.is_on_probation();
            self.0.values_mut().for_each(|known| known.retain(|_, receiver| kept(receiver)));
        }
        self.of(instance, destination).under_way += 1;
    }

    fn of(&mut self, instance: &str, destination: &str) -> &mut Receiver {
        self.0.entry(instance.to_owned()).or_default().entry(destination.to_owned()).or_default()
    }

    /// Counts a group as over, whatever its outcome.
    pub fn ends(&mut self, instance: &str, destination: &str) {
        let receiver = self.of(instance, destination);
        receiver.under_way = receiver.under_way.saturating_sub(1);
    }

    /// The destination accepted a delivery: its failures and its pause are forgotten.
    pub fn succeeded(&mut self, instance: &str, destination: &str) {
        let receiver = self.of(instance, destination);
        (receiver.failures, receiver.pause, receiver.paused_until) = (0, Duration::ZERO, None);
    }

    /// Counts a failure. Returns the length of the pause if this failure started one.
    pub fn failed(&mut self, instance: &str, destination: &str, settings: &SendSettings, now: Instant) -> Option<Duration> {
        let receiver = self.of(instance, destination);
        receiver.failures = receiver.failures.saturating_add(1);
        // Groups that were already under way when the pause began are not evidence that it should be longer.
        if receiver.failures < settings.failures || receiver.is_open(now) {
            return None;
        }
        receiver.pause = if receiver.pause.is_zero() { settings.pause } else { (receiver.pause * 2).min(LONGEST.max(settings.pause)) };
        receiver.paused_until = Some(now + receiver.pause);
        Some(receiver.pause)
    }

    /// The receiver asked for nothing to be sent until `until`.
    pub fn hold(&mut self, instance: &str, destination: &str, until: Instant) {
        let receiver = self.of(instance, destination);
        receiver.paused_until = receiver.paused_until.max(Some(until));
    }

    /// The receiver declined all further deliveries.
    pub fn disable(&mut self, instance: &str, destination: &str) {
        self.of(instance, destination).disabled = true;
    }

    /// The disabled destinations: instance and name.
    pub fn disabled(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|(instance, known)| {
            known.iter().filter(|(_, receiver)| receiver.disabled).map(move |(name, _)| (instance.as_str(), name.as_str()))
        })
    }

    /// Called after a configuration was loaded: enables disabled destinations again and lifts all pauses.
    pub fn forgive(&mut self) {
        for receiver in self.0.values_mut().flat_map(HashMap::values_mut) {
            *receiver = Receiver { under_way: receiver.under_way, ..Receiver::default() };
        }
    }

    /// How many destinations of an instance are paused or disabled.
    pub fn paused(&self, instance: &str, now: Instant) -> usize {
        let closed = |receiver: &&Receiver| receiver.disabled || receiver.is_open(now) || receiver.is_on_probation();
        self.0.get(instance).map_or(0, |known| known.values().filter(closed).count())
    }

    /// When the next pause ends.
    pub fn reopens(&self, now: Instant) -> Option<Instant> {
        let receivers = self.0.values().flat_map(HashMap::values);
        receivers.filter(|receiver| !receiver.disabled).filter_map(|receiver| receiver.paused_until).filter(|until| *until > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: fn() -> SendSettings =
        || SendSettings { schedule: vec![Duration::ZERO], timeout: Duration::from_secs(1), failures: 3, pause: Duration::from_secs(10) };

    fn open(receivers: &Receivers, now: Instant) -> (usize, usize) {
        let openings = receivers.openings("hook", now);
        (openings.closed.len(), openings.probes.len())
    }

    #[test]
    fn a_destination_that_fails_is_paused_and_probed() {
        let (mut receivers, now) = (Receivers::default(), Instant::now());
        let after = |seconds| now + Duration::from_secs(seconds);
        let failed = |receivers: &mut Receivers, at| receivers.failed("hook", "a", &SETTINGS(), at);
        assert_eq!((failed(&mut receivers, now), failed(&mut receivers, now)), (None, None));
        receivers.succeeded("hook", "a");
        assert_eq!((failed(&mut receivers, now), failed(&mut receivers, now)), (None, None), "in a row is meant");
        assert_eq!(failed(&mut receivers, now), Some(Duration::from_secs(10)));
        assert_eq!(failed(&mut receivers, now), None, "what was still under way");
        assert_eq!((open(&receivers, after(9)), receivers.reopens(now)), ((1, 0), Some(after(10))));
        assert_eq!(open(&receivers, after(11)), (1, 1), "one delivery, to see");
        receivers.begins("hook", "a");
        assert_eq!(open(&receivers, after(11)), (1, 0), "not two");
        receivers.ends("hook", "a");
        assert_eq!(failed(&mut receivers, after(11)), Some(Duration::from_secs(20)));
        assert_eq!(open(&receivers, after(30)), (1, 0));
        receivers.succeeded("hook", "a");
        assert_eq!((open(&receivers, after(31)), receivers.paused("hook", after(31))), ((0, 0), 0));
    }

    #[test]
    fn one_destination_takes_no_place_of_another() {
        let (mut receivers, now) = (Receivers::default(), Instant::now());
        (0..TOGETHER).for_each(|_| receivers.begins("hook", "a"));
        receivers.begins("hook", "b");
        assert_eq!(receivers.openings("hook", now), Openings { closed: vec!["a"], probes: vec![] });
        assert_eq!(receivers.openings("mail", now), Openings::default());
        receivers.hold("hook", "b", now + Duration::from_secs(1));
        assert_eq!(open(&receivers, now), (2, 0));
        receivers.ends("hook", "a");
        assert_eq!(open(&receivers, now + Duration::from_secs(2)), (0, 0), "a pause that was asked for leaves no doubt");
    }

    #[test]
    fn who_wants_nothing_is_asked_after_a_reload() {
        let (mut receivers, now) = (Receivers::default(), Instant::now());
        receivers.disable("hook", "a");
        assert_eq!((open(&receivers, now), receivers.paused("hook", now)), ((1, 0), 1));
        assert_eq!(receivers.disabled().collect::<Vec<_>>(), [("hook", "a")]);
        receivers.forgive();
        assert_eq!((open(&receivers, now), receivers.disabled().count()), ((0, 0), 0));
    }
}
