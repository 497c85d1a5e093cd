//! Who speaks.
//!
//! In: the tracks' meters, read every 400 ms. Out: `SpeakersChanged` to the speaker itself and to its
//! subscribers; switched-off subscriptions count (docs/signals.md §6.2). A client that sends no audio levels
//! never counts as speaking.

use std::time::Instant;

use livekit_protocol::{self as lk, signal_response::Message as Out};

use super::Room;

impl Room {
    /// Reports participants whose level has changed: most often they begin or end speaking.
    pub(super) fn speakers(&mut self, now: Instant) {
        let mut changed = vec![];
        for p in self.participants.values_mut() {
            let before = p.tracks.iter().fold(0f32, |l, t| l.max(t.level));
            for track in &mut p.tracks {
                track.level = if track.info.muted { 0.0 } else { track.meter.level(now) };
            }
            let after = p.tracks.iter().fold(0f32, |l, t| l.max(t.level));
            if before != after {
                let sids: Vec<String> = p.tracks.iter().map(|t| t.info.sid.clone()).collect();
                let speaker =
                    lk::SpeakerInfo { sid: p.info.sid.clone(), level: after, active: after > 0.0 };
                changed.push((p.key, sids, speaker));
            }
        }
        if changed.is_empty() {
            return;
        }
        for p in self.participants.values() {
            let concerns = |key: u64, sids: &[String]| {
                key == p.key || sids.iter().any(|s| p.wants.contains(s))
            };
            let speakers: Vec<_> = changed
                .iter()
                .filter(|(k, sids, _)| concerns(*k, sids))
                .map(|(_, _, s)| s.clone())
                .collect();
            if !speakers.is_empty() {
                p.say(Out::SpeakersChanged(lk::SpeakersChanged { speakers }));
            }
        }
    }
}
