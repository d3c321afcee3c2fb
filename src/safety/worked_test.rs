//! Times that do not depend on what else a machine does.

use std::time::{Duration, Instant};

/// What `work` took of a processor, and what came of it. Where Linux does not tell, it is what it took by the clock.
pub(crate) fn worked<T>(work: impl FnOnce() -> T) -> (Duration, T) {
    let (clock, before) = (Instant::now(), so_far());
    let made = work();
    let by_the_clock = clock.elapsed();
    let took = before.zip(so_far()).map_or(by_the_clock, |(before, after)| after.saturating_sub(before));
    (took, made)
}

/// The time that this thread had a processor. It is counted when the kernel looks for who is next.
fn so_far() -> Option<Duration> {
    std::thread::yield_now();
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    told.split(' ').next()?.parse().ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos)
}

#[test]
fn who_sleeps_does_not_work_and_who_works_does() {
    let (asleep, ()) = worked(|| std::thread::sleep(Duration::from_millis(300)));
    let (busy, sum) = worked(|| (0..20_000_000_u64).fold(0_u64, |sum, n| std::hint::black_box(sum ^ n)));
    assert!(asleep < busy, "{asleep:?} asleep, {busy:?} for {sum}");
}
