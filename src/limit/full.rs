//! What is remembered of a counter that had no room.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The longest that it is believed: somebody may have emptied the store.
const BELIEVED: u64 = 1_000_000;
/// Two clocks do not run at the same speed: room is there so much earlier, microseconds.
const MARGIN: u64 = 1_000;

static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Until when a counter has no room, as a store in another process said. Until then it need not be asked, and the body of
/// a request need not be read. Nothing gives back what a rate took, so no request is refused that the store would let pass.
#[derive(Debug, Default)]
pub(super) struct Full {
    /// When it is asked again and when there is room, microseconds since [`EPOCH`]; 0: never asked.
    until: AtomicU64,
    room: AtomicU64,
}

fn micros(at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(*EPOCH).as_micros()).unwrap_or(u64::MAX)
}

impl Full {
    /// Whether that was ever said.
    pub fn was_noted(&self) -> bool {
        self.until.load(Ordering::Relaxed) != 0
    }

    /// The store, asked at this moment, said that there is no room for so long.
    pub fn note(&self, asked: Instant, room_after: Duration) {
        let (asked, wait) = (micros(asked), u64::try_from(room_after.as_micros()).unwrap_or(u64::MAX).saturating_sub(MARGIN));
        self.room.store(asked.saturating_add(wait), Ordering::Relaxed);
        // Zero is for what was never said.
        self.until.store((asked + wait.min(BELIEVED)).max(1), Ordering::Relaxed);
    }

    /// How long there is no room from now on; `None` where the store is to be asked.
    pub fn left(&self, now: impl FnOnce() -> Instant) -> Option<Duration> {
        let until = self.until.load(Ordering::Relaxed);
        if until == 0 {
            return None;
        }
        // Of most nobody ever said so, and nobody needs the time.
        let now = micros(now());
        (now < until).then(|| Duration::from_micros(self.room.load(Ordering::Relaxed).saturating_sub(now)))
    }
}

/// A counter's copy has its own memory of it, and is equal to the original.
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
