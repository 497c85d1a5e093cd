//! The timers of a room.
//!
//! In: the clock. Out: batches sent, speakers and quality computed, silent participants removed, empty rooms
//! closed. All timers are here, so that one function decides when the room wakes up.

use std::time::{Duration, Instant};

use livekit_protocol::DisconnectReason as Why;

use super::{Room, meter};
use crate::{config::Config, participant::Limits};

/// Longest interval between two checks for silent participants. It shrinks with short limits, so that there
/// are at least ten checks within each limit.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// When each task is due.
pub(super) struct Timers {
    batch: Instant,
    speakers: Instant,
    quality: Instant,
    counts: Instant,
    housekeeping: Instant,
    housekeeping_interval: Duration,
}

impl Timers {
    pub(super) fn new(now: Instant, config: &Config) -> Timers {
        Timers {
            batch: now + config.batch_interval,
            speakers: now + meter::WINDOW,
            quality: now + config.quality_interval,
            counts: now + config.room_update_interval,
            housekeeping: now,
            housekeeping_interval: (config.silence_limit.min(config.join_limit) / 10)
                .min(HOUSEKEEPING),
        }
    }
}

/// True once per interval. Missed intervals are skipped.
fn due(at: &mut Instant, now: Instant, every: Duration) -> bool {
    if now < *at {
        return false;
    }
    *at = now + every;
    true
}

impl Room {
    /// Runs the tasks that are due. Returns when the next one is due.
    pub(super) fn run_timers(&mut self, now: Instant) -> Instant {
        let every = |f: fn(&Config) -> Duration| f(&self.hub.config);
        let (batch, quality, counts) = (
            every(|c| c.batch_interval),
            every(|c| c.quality_interval),
            every(|c| c.room_update_interval),
        );
        if due(&mut self.timers.batch, now, batch) {
            self.flush_batch();
        }
        if due(&mut self.timers.speakers, now, meter::WINDOW) {
            self.speakers(now);
        }
        if due(&mut self.timers.quality, now, quality) {
            self.quality(now);
        }
        if due(&mut self.timers.counts, now, counts) {
            self.send_changed_counts();
        }
        let interval = self.timers.housekeeping_interval;
        if due(&mut self.timers.housekeeping, now, interval) {
            self.remove_silent(now);
        }
        let closing = self.closes_at();
        if closing.is_some_and(|at| now >= at) {
            self.close(Why::RoomClosed);
        }
        let t = &self.timers;
        let speaking =
            self.participants.values().any(|p| !p.tracks.is_empty()).then_some(t.speakers);
        let somebody = [t.batch, t.quality, t.counts, t.housekeeping];
        let somebody = somebody.into_iter().filter(|_| !self.participants.is_empty());
        somebody.chain(speaking).chain(closing).min().unwrap_or(now + HOUSEKEEPING)
    }

    fn remove_silent(&mut self, now: Instant) {
        let config = &self.hub.config;
        let limits = Limits { silence: config.silence_limit, join: config.join_limit };
        let gone: Vec<(u64, Why)> = self
            .participants
            .iter()
            .filter_map(|(k, p)| Some((*k, p.given_up(now, limits)?)))
            .collect();
        for (key, why) in gone {
            self.remove(key, why);
        }
    }

    /// When the room closes if nobody joins; `None` while a participant keeps it open. Agents do not keep it
    /// open, but each departure, an agent's too, restarts the timeout (docs/signals.md §10.2).
    fn closes_at(&self) -> Option<Instant> {
        if self.closed || self.participants.values().any(|p| !p.dependent()) {
            return None;
        }
        Some(match self.last_left {
            Some(left) if self.first_joined => left + self.departure_timeout,
            _ => self.created + self.empty_timeout,
        })
    }
}
