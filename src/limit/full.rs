//! Remembers that a counter had no room.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest time for which this is believed (µs), because the store may have been reset meanwhile.
const BELIEVED: u64 = 1_000_000;
/// Subtracted from the time until there is room, because two clocks do not run at exactly the same speed (µs).
const MARGIN: u64 = 1_000;

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Until when a rate has no room, according to a store in another process. Until then a request is refused without asking the
/// store and without reading its body. Nothing returns what a rate has granted, so no request is refused that the store would
/// have let pass.
#[derive(Debug, Default)]
pub(super) struct Full {
    /// When the store is asked again, and when there is room, in microseconds since [`EPOCH`]; 0: it never had no room.
    until: AtomicU64,
    room: AtomicU64,
}

fn micros(at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(*EPOCH).as_micros()).unwrap_or(u64::MAX)
}

impl Full {
    /// Whether it ever had no room.
    pub fn was_noted(&self) -> bool {
        self.until.load(Ordering::Relaxed) != 0
    }

    /// Notes the store's answer that there is no room for `room_after`, counted from when it was asked.
    pub fn note(&self, asked: Instant, room_after: Duration) {
        let (asked, wait) = (micros(asked), u64::try_from(room_after.as_micros()).unwrap_or(u64::MAX).saturating_sub(MARGIN));
        self.room.store(asked.saturating_add(wait), Ordering::Relaxed);
        // Zero stands for "never".
        self.until.store((asked + wait.min(BELIEVED)).max(1), Ordering::Relaxed);
    }

    /// How long there is no room from now on; `None` if the store must be asked.
    pub fn left(&self, now: impl FnOnce() -> Instant) -> Option<Duration> {
        let until = self.until.load(Ordering::Relaxed);
        if until == 0 {
            return None;
        }
        // Most counters were never full: skip reading the clock.
        let now = micros(now());
        (now < until).then(|| Duration::from_micros(self.room.load(Ordering::Relaxed).saturating_sub(now)))
    }
}

/// A copy starts without a memory of its own, and equals the original.
impl Clone for Full {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Full {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Full {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_believed_until_there_is_room_and_never_longer_than_a_second() {
        let (full, at) = (Full::default(), Instant::now() + Duration::from_secs(5));
        let after = |millis| full.left(|| at + Duration::from_millis(millis));
        assert_eq!(after(0), None);
        full.note(at, Duration::from_millis(100));
        assert_eq!(after(0), Some(Duration::from_millis(99)));
        assert_eq!((after(98), after(99), after(100)), (Some(Duration::from_millis(1)), None, None));
        full.note(at, Duration::from_secs(60));
        assert_eq!(after(500), Some(Duration::from_millis(59_499)));
        assert_eq!(after(1001), None);
        full.note(at, Duration::MAX);
        assert!(after(0).is_some());
        assert_eq!(after(1001), None);
    }
}
