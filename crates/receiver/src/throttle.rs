//! Limits log lines about what repeats: one line a minute, with the number of times.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

const LOG_EVERY: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct Throttle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    logged: Option<Instant>,
    times: u64,
}

impl Throttle {
    pub(crate) const fn new() -> Self {
        Self(Mutex::new(State { logged: None, times: 0 }))
    }

    /// Counts. Returns the number of times since the last line if the next line is due.
    pub(crate) fn due(&self) -> Option<u64> {
        let mut state = self.0.lock();
        state.times += 1;
        if state.logged.is_some_and(|at| at.elapsed() < LOG_EVERY) {
            return None;
        }
        state.logged = Some(Instant::now());
        Some(std::mem::take(&mut state.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_the_first_is_due() {
        let throttle = Throttle::new();
        assert_eq!([throttle.due(), throttle.due(), throttle.due()], [Some(1), None, None]);
        throttle.0.lock().logged = Instant::now().checked_sub(LOG_EVERY);
        assert_eq!(throttle.due(), Some(3));
    }
}
