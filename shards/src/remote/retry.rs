//! How long to wait before a request is sent again.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// No wait is longer.
const LONGEST: Duration = Duration::from_secs(20);
/// How often `cancelled` is looked at.
const SLICE: Duration = Duration::from_millis(50);

/// The wait after a failed attempt (the first is 1): doubling, and shortened by up to a half so that many ranks do not come
/// back at once. The share is a hash of what is fetched and of the process: no clock, no generator, and nothing that is
/// read depends on it.
pub(super) fn wait_after(attempt: u32, first: Duration, what: &str) -> Duration {
    let full = first.saturating_mul(1 << (attempt - 1).min(16)).min(LONGEST);
    let hash = blake3::hash(format!("{what} {attempt} {}", std::process::id()).as_bytes());
    let share = f64::from(u16::from_le_bytes([hash.as_bytes()[0], hash.as_bytes()[1]])) / f64::from(u16::MAX);
    full.mul_f64(0.5 + 0.5 * share)
}

/// Sleeps; false when `cancelled` was set meanwhile.
pub(super) fn sleep(wait: Duration, cancelled: &AtomicBool) -> bool {
    let begin = Instant::now();
    while !cancelled.load(Ordering::Relaxed) {
        let Some(left) = wait.checked_sub(begin.elapsed()).filter(|left| !left.is_zero()) else {
            return true;
        };
        std::thread::sleep(left.min(SLICE));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_limit() {
        let first = Duration::from_millis(200);
        for attempt in 1..40 {
            let full = Duration::from_millis(200 << (attempt - 1).min(16)).min(LONGEST);
            let wait = wait_after(attempt, first, "x");
            assert!(wait >= full / 2 && wait <= full, "{attempt}: {wait:?}");
            assert_eq!(wait, wait_after(attempt, first, "x"));
        }
        assert_ne!(wait_after(1, first, "x"), wait_after(1, first, "y"));
    }

    #[test]
    fn a_cancelled_wait_ends() {
        assert!(!sleep(Duration::from_mins(1), &AtomicBool::new(true)));
        assert!(sleep(Duration::ZERO, &AtomicBool::new(false)));
    }
}
