//! How loud a track is, measured as the real server does (docs/signals.md §6.2).
//!
//! In: the level of RFC 6464 and the RTP time of each packet. Out: a level, 0 while nobody
//! speaks. The meter computes over windows of 400 ms *of sound*. A client that sends nothing in silence is
//! noticed late: its window stays open until the next packet, or until two windows have passed.

use std::time::{Duration, Instant};

/// A packet at this level or louder counts as active, in -dBov.
const ACTIVE_DBOV: u8 = 35;
pub(super) const WINDOW: Duration = Duration::from_millis(400);
/// Share of a window that must be active, percent.
const MIN_PERCENTILE: u32 = 40;
/// Weight of a new window against those before it: the average runs over two windows.
const SMOOTHING: f32 = 2.0 / 3.0;

#[derive(Debug, Default, Clone)]
pub(crate) struct Meter {
    observed: Duration,
    active: Duration,
    loudest: Option<u8>,
    smoothed: f32,
    /// RTP time and arrival of the last packet.
    last: Option<(Duration, Instant)>,
}

impl Meter {
    /// `level` is in -dBov, `rtp` the packet's own time.
    pub(super) fn observe(&mut self, level: u8, rtp: Duration, now: Instant) {
        let before = self.last.replace((rtp, now));
        let Some(lasted) = before.and_then(|(t, _)| rtp.checked_sub(t)) else { return };
        self.observed += lasted;
        if level <= ACTIVE_DBOV {
            self.active += lasted;
            self.loudest = Some(self.loudest.map_or(level, |l| l.min(level)));
        }
        if self.observed >= WINDOW {
            self.smoothed = self.window();
            (self.observed, self.active, self.loudest) = (Duration::ZERO, Duration::ZERO, None);
        }
    }

    /// The level of the window that is full.
    fn window(&self) -> f32 {
        let Some(loudest) = self.loudest.filter(|_| self.active >= WINDOW * MIN_PERCENTILE / 100)
        else {
            return 0.0;
        };
        // A window that was active only in part counts as quieter.
        let weight = 20.0 * (self.active.as_secs_f32() / WINDOW.as_secs_f32()).log10();
        let linear = 10f32.powf(-(f32::from(loudest) - weight) / 20.0);
        self.smoothed + (linear - self.smoothed) * SMOOTHING
    }

    /// 0..1 in eighths; 0 when there is no speech.
    pub(super) fn level(&mut self, now: Instant) -> f32 {
        if self.last.is_some_and(|(_, at)| now.duration_since(at) > 2 * WINDOW) {
            *self = Self { last: self.last, ..Self::default() };
        }
        let threshold = 10f32.powf(-f32::from(ACTIVE_DBOV) / 20.0);
        // Speech never gets level 0: below the threshold it is no speech, above it at least 1/8.
        if self.smoothed < threshold {
            return 0.0;
        }
        ((self.smoothed * 8.0).ceil() / 8.0).clamp(1.0 / 8.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Packets of 20 ms at these levels, one after the other; the level after them.
    fn after(levels: impl IntoIterator<Item = u8>) -> f32 {
        let (mut m, now) = (Meter::default(), Instant::now());
        let mut t = Duration::ZERO;
        for level in levels {
            m.observe(level, t, now + t);
            t += Duration::from_millis(20);
        }
        m.level(now + t)
    }

    #[test]
    fn two_fifths_of_a_window_must_be_loud() {
        let window = |loud: usize| (0..21).map(move |n| if n < loud { 20 } else { 127 });
        assert!(after(window(9)) > 0.0, "the first packet has no length yet");
        assert_eq!(after(window(8)), 0.0);
        assert_eq!(after([]), 0.0);
        assert_eq!(after((0..60).map(|_| 0)), 1.0);
        assert_eq!(after((0..60).map(|_| 30)), 0.125, "quiet speech is speech");
        assert_eq!(after((0..60).map(|_| 36)), 0.0);
    }

    #[test]
    fn a_client_that_falls_silent_without_packets_is_noticed_after_two_windows() {
        let (mut m, now) = (Meter::default(), Instant::now());
        let ms = Duration::from_millis;
        for n in 0..21 {
            m.observe(10, ms(20 * n), now + ms(20 * n));
        }
        assert!(m.level(now + ms(400)) > 0.0);
        assert!(m.level(now + ms(1_190)) > 0.0, "nothing says that it is over");
        assert_eq!(m.level(now + ms(1_210)), 0.0);
    }

    #[test]
    fn a_packet_after_a_gap_stands_for_all_of_it() {
        let (mut m, now) = (Meter::default(), Instant::now());
        let ms = Duration::from_millis;
        for n in 0..21 {
            m.observe(10, ms(20 * n), now + ms(20 * n));
        }
        m.observe(127, ms(800), now + ms(800));
        assert_eq!(m.level(now + ms(800)), 0.0);
    }
}
