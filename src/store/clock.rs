//! The time a store decides by.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Says what time it is, in microseconds since the Unix epoch. A store asks one clock only: its own, so that two replicas
/// with different ideas of the time make the same decision.
pub trait Clock: Send + Sync + 'static {
    /// Microseconds since the Unix epoch.
    fn micros(&self) -> i64;
}

/// The time of this machine as it was at the start, counted on by its monotonic clock: setting the machine's clock moves
/// no window.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock {
    epoch: i64,
    started: Instant,
}

impl SystemClock {
    /// Starts counting now.
    pub fn start() -> Self {
        let epoch = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, micros);
        Self { epoch, started: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn micros(&self) -> i64 {
        self.epoch.saturating_add(micros(self.started.elapsed()))
    }
}

/// A clock that stands until it is moved, for tests.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that shows this time, microseconds since the Unix epoch.
    pub fn at(micros: i64) -> Self {
        Self(AtomicI64::new(micros))
    }

    /// Moves it on.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(micros(by), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn micros(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A duration in whole microseconds.
pub(crate) fn micros(duration: Duration) -> i64 {
    let seconds = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    seconds.saturating_mul(1_000_000).saturating_add(i64::from(duration.subsec_micros()))
}

/// A duration in whole milliseconds, rounded up so that nothing is forgotten early.
pub(crate) fn millis(duration: Duration) -> i64 {
    let micros = micros(duration);
    micros / 1000 + i64::from(micros % 1000 > 0)
}
