//! The clock by which a store decides.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A clock in microseconds since the Unix epoch. A store uses a single clock, its own, so that two replicas whose clocks
/// differ make the same decision.
pub trait Clock: Send + Sync + 'static {
    /// Microseconds since the Unix epoch.
    fn micros(&self) -> i64;
}

/// The machine's time at the start of the process, advanced by the monotonic clock: setting the machine's clock moves no
/// window.
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

/// A clock for tests that stands still until it is advanced.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock set to this time, in microseconds since the Unix epoch.
    pub fn at(micros: i64) -> Self {
        Self(AtomicI64::new(micros))
    }

    /// Advances the clock.
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

/// A duration in whole milliseconds, rounded up so that nothing expires early.
pub(crate) fn millis(duration: Duration) -> i64 {
    let micros = micros(duration);
    micros / 1000 + i64::from(micros % 1000 > 0)
}
