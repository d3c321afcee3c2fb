//! When a delivery is tried again.

use std::time::Duration;

/// Longest delay that a receiver may ask for.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// The delay before the next attempt after `failed` failed ones; `None` when none is left. `asked` is the delay that the
/// receiver wants. `chance`, drawn evenly from 0 to 1, spreads the delays, so that deliveries that failed together do not
/// come back together.
pub(super) fn next(schedule: &[Duration], failed: u32, asked: Option<Duration>, chance: f64) -> Option<Duration> {
    let scheduled = schedule.get(usize::try_from(failed).unwrap_or(usize::MAX))?;
    Some(match asked {
        // Never earlier than the receiver asked for.
        Some(asked) => asked.min(LONGEST).mul_f64(1.0 + chance * 0.1),
        None => scheduled.mul_f64(0.8 + chance * 0.4),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{prop_assert, prop_assert_eq, proptest};

    const SCHEDULE: [Duration; 3] = [Duration::ZERO, Duration::from_secs(5), Duration::from_secs(300)];

    #[test]
    fn attempts_end() {
        assert_eq!(next(&SCHEDULE, 1, None, 0.5), Some(Duration::from_secs(5)));
        assert_eq!(next(&SCHEDULE, 2, None, 0.0), Some(Duration::from_secs(240)));
        assert_eq!(next(&SCHEDULE, 3, None, 0.5), None);
        assert_eq!(next(&SCHEDULE, 3, Some(Duration::from_secs(1)), 0.5), None, "whatever the receiver asks for");
    }

    proptest! {
        #[test]
        fn a_receiver_is_not_asked_before_it_wants_to_be(asked in 0_u64..200_000, chance in 0.0..1.0_f64) {
            let asked = Duration::from_secs(asked);
            let wait = next(&SCHEDULE, 1, Some(asked), chance).unwrap_or_default();
            prop_assert!(wait >= asked.min(LONGEST) && wait <= LONGEST.mul_f64(1.1));
        }

        #[test]
        fn jitter_stays_around_what_is_scheduled(failed in 0_u32..3, chance in 0.0..1.0_f64) {
            let wait = next(&SCHEDULE, failed, None, chance).unwrap_or_default();
            let scheduled = SCHEDULE[failed as usize];
            prop_assert!(wait >= scheduled.mul_f64(0.8) && wait <= scheduled.mul_f64(1.2));
            prop_assert_eq!(wait.is_zero(), scheduled.is_zero());
        }
    }
}
