//! What a room does because time has passed.
//!
//! In: the clock. Out: batches told, speakers and quality looked at, silent participants given up, empty rooms
//! closed. One place, so that "when does this room wake up" has one answer.

use std::time::{Duration, Instant};

use livekit_protocol::DisconnectReason as Why;

use super::{Room, meter};
use crate::{config::Config, participant::Limits};

/// Silence is looked at this often at most, and at least ten times within what it may take.
const HOUSEKEEPING: Duration = Duration::from_millis(500);

/// When each is due.
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

/// True once per interval; intervals that were slept through are not made up for.
fn due(at: &mut Instant, now: Instant, every: Duration) -> bool {
    if now < *at {
        return false;
    }
    *at = now + every;
    true
}

impl Room {
    /// Does what is due; says when the next is.
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
            self.tell_changed_counts();
        }
        let interval = self.timers.housekeeping_interval;
        if due(&mut self.timers.housekeeping, now, interval) {
            self.give_up_silent(now);
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

    fn give_up_silent(&mut self, now: Instant) {
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

    /// When the room closes if nobody comes; `None` while somebody keeps it open. Agents do not, but each
    /// departure, theirs too, starts the time anew (docs/signals.md §10.2).
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
