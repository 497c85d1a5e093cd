//! Wall-clock time that never jumps: read once, then carried on by the monotonic clock, so that a
//! step of the system's time in the middle of a call cannot bend its durations.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::call::Moment;

#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    wall: Moment,
    anchor: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { wall: wall_now(), anchor: Instant::now() }
    }

    /// One that goes on after a moment of an earlier run, whose system's time may have been ahead.
    pub(crate) fn start_after(moment: Moment) -> Self {
        Self { wall: wall_now().max(moment), anchor: Instant::now() }
    }

    pub(crate) fn now(&self) -> Moment {
        let elapsed = self.anchor.elapsed().as_millis();
        self.wall.plus(i64::try_from(elapsed).unwrap_or(i64::MAX))
    }

    /// When this clock will show `moment`; now, if it already has.
    pub(crate) fn instant(&self, moment: Moment) -> Instant {
        let ms = u64::try_from(moment.since(self.wall)).unwrap_or(0);
        self.anchor + Duration::from_millis(ms)
    }
}

/// The system's time now.
pub(crate) fn wall_now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
