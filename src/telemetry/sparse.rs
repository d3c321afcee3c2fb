//! A limit for log lines that every request could cause: at most one a second, with the number that was left out.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The least time between two lines of one place in the code, nanoseconds.
const PAUSE: u64 = 1_000_000_000;

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// The rate limit of one place in the code that logs; kept in a `static` beside it.
#[derive(Debug)]
pub struct Sparse {
    /// When the next line may be written, in nanoseconds since the process first asked.
    next: AtomicU64,
    unsaid: AtomicU64,
}

impl Sparse {
    /// A limit that allows a line at once.
    pub const fn new() -> Self {
        Self { next: AtomicU64::new(0), unsaid: AtomicU64::new(0) }
    }

    /// Whether a line may be written now, and how many were left out since the last one.
    pub fn due(&self) -> Option<u64> {
        self.due_at(u64::try_from(BEGAN.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn due_at(&self, now: u64) -> Option<u64> {
        let next = self.next.load(Ordering::Relaxed);
        let taken =
            now >= next && self.next.compare_exchange(next, now.saturating_add(PAUSE), Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if taken {
            return Some(self.unsaid.swap(0, Ordering::Relaxed));
        }
        self.unsaid.fetch_add(1, Ordering::Relaxed);
        None
    }
}

impl Default for Sparse {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_tells_of_those_left_out() {
        let place = Sparse::new();
        assert_eq!(place.due_at(5), Some(0));
        assert_eq!((0..3).filter_map(|n| place.due_at(6 + n)).count(), 0);
        assert_eq!(place.due_at(PAUSE + 4), None);
        assert_eq!(place.due_at(PAUSE + 5), Some(4));
        assert_eq!(place.due_at(3 * PAUSE), Some(0));
    }
}
