//! How long to wait before the next connection. The first retry is immediate; then the wait doubles, with
//! jitter, up to ten seconds. There is no last attempt. The wait starts over only after a *registration*:
//! a server that accepts connections and closes them must not be asked without pause.

use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(10);
    /// Wait after a refused key, which only an operator can correct.
    pub(super) const REFUSED: Duration = Duration::from_secs(30);

    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next wait. `dice` is uniform in 0..1.
    pub(super) fn next(&mut self, dice: f64) -> Duration {
        let n = self.failures;
        self.failures = n.saturating_add(1);
        if n == 0 {
            return Duration::ZERO;
        }
        let most = Self::FIRST.saturating_mul(2u32.saturating_pow(n.min(10))).min(Self::LONGEST);
        most.mul_f64(0.5 + dice.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_retry_is_immediate_and_the_rest_grow_to_ten_seconds() {
        let mut b = Backoff::default();
        assert_eq!(b.next(1.0), Duration::ZERO);
        assert_eq!(b.next(1.0), Duration::from_millis(500));
        assert_eq!(b.next(0.0), Duration::from_millis(500));
        for _ in 0..100 {
            assert!(b.next(1.0) <= Duration::from_secs(10));
        }
        assert!(b.next(0.0) >= Duration::from_secs(5));
        b.reset();
        assert_eq!(b.next(1.0), Duration::ZERO);
    }
}
