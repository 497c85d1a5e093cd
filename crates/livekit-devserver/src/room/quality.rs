//! Connection quality.
//!
//! In: when each participant's last packet arrived. Out: `ConnectionQuality` updates on a tick, when any
//! quality has changed or a participant is new. Each participant then receives its own quality and that of
//! the participants it has subscribed to; switched-off subscriptions count (docs/signals.md §3.4). A silent
//! participant is LOST. When packets arrive again, its quality climbs to POOR, GOOD, EXCELLENT from tick to
//! tick, as measured on the real server.

use std::time::{Duration, Instant};

use livekit_protocol::{self as lk, ConnectionQuality, signal_response::Message as Out};

use super::Room;

/// Ticks that a recovered connection stays GOOD.
const GOOD_TICKS: u8 = 2;

/// The quality of one participant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quality {
    now: ConnectionQuality,
    /// Ticks in a row at this quality.
    ticks: u8,
    /// The quality in the last update.
    sent: Option<ConnectionQuality>,
}

impl Default for Quality {
    fn default() -> Self {
        Quality { now: ConnectionQuality::Excellent, ticks: 0, sent: None }
    }
}

impl Quality {
    /// Computes the quality at the next tick.
    fn step(&mut self, silent: Duration, lost_after: Duration) {
        let next = match self.now {
            _ if silent >= lost_after => ConnectionQuality::Lost,
            ConnectionQuality::Lost => ConnectionQuality::Poor,
            ConnectionQuality::Poor => ConnectionQuality::Good,
            ConnectionQuality::Good if self.ticks < GOOD_TICKS => ConnectionQuality::Good,
            ConnectionQuality::Good | ConnectionQuality::Excellent => ConnectionQuality::Excellent,
        };
        self.ticks = if next == self.now { self.ticks.saturating_add(1) } else { 1 };
        self.now = next;
    }

    /// On the scale of the real server's scores: 5 is best.
    fn score(self) -> f32 {
        match self.now {
            ConnectionQuality::Excellent => 4.5,
            ConnectionQuality::Good => 3.5,
            ConnectionQuality::Poor => 2.0,
            ConnectionQuality::Lost => 1.0,
        }
    }
}

impl Room {
    pub(super) fn quality(&mut self, now: Instant) {
        let lost_after = self.hub.config.quality_lost_after;
        let mut any = false;
        for p in self.participants.values_mut().filter(|p| p.active()) {
            let silent = now.saturating_duration_since(p.last_packet());
            p.quality.step(silent, lost_after);
            any |= p.quality.sent.replace(p.quality.now) != Some(p.quality.now);
        }
        if !any {
            return;
        }
        for p in self.participants.values().filter(|p| p.active()) {
            let concerns = |o: &crate::participant::Participant| {
                o.key == p.key || o.tracks.iter().any(|t| p.wants.contains(&t.info.sid))
            };
            let updates = self
                .participants
                .values()
                .filter(|o| o.active() && concerns(o))
                .map(|o| lk::ConnectionQualityInfo {
                    participant_sid: o.info.sid.clone(),
                    quality: o.quality.now as i32,
                    score: o.quality.score(),
                })
                .collect();
            p.say(Out::ConnectionQuality(lk::ConnectionQualityUpdate { updates }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ConnectionQuality::{Excellent, Good, Lost, Poor};

    #[test]
    fn a_connection_heard_again_recovers_step_by_step() {
        let mut quality = Quality::default();
        let limit = Duration::from_millis(7500);
        let silences = [0, 5, 8, 13, 0, 0, 0, 0, 0];
        let seen: Vec<_> = silences
            .into_iter()
            .map(|s| {
                quality.step(Duration::from_secs(s), limit);
                quality.now
            })
            .collect();
        assert_eq!(
            seen,
            [Excellent, Excellent, Lost, Lost, Poor, Good, Good, Excellent, Excellent]
        );
    }
}
