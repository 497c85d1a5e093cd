//! Who speaks.
//!
//! In: the levels of RFC 6464 that packets carried within a window of 400 ms. Out: `SpeakersChanged` to the
//! speaker itself and to whoever has subscribed to it, switched-off subscriptions included (CS §2.3,
//! live-lab-node.md §5). A client that sends no levels never speaks.

use livekit_protocol::{self as lk, signal_response::Message as Out};

use super::{Room, track::Loudness};

/// Share of a window's packets that must be loud, percent.
const MIN_PERCENTILE: u32 = 40;

/// The level of a window, 0..1 in eighths; 0 when it is not speech.
fn level(window: &Loudness) -> f32 {
    let Some(peak) = window.peak else { return 0.0 };
    if window.loud * 100 < window.packets * MIN_PERCENTILE {
        return 0.0;
    }
    let linear = 10f32.powf(-f32::from(peak) / 20.0);
    // Speech is never told as level 0.
    ((linear * 8.0).ceil() / 8.0).max(1.0 / 8.0)
}

impl Room {
    /// Judges the window that has passed.
    pub(super) fn speakers(&mut self) {
        let mut changed = vec![];
        for p in self.participants.values_mut() {
            let before = p.tracks.iter().fold(0f32, |l, t| l.max(t.level));
            for track in &mut p.tracks {
                let window = std::mem::take(&mut track.loudness);
                track.level = if track.info.muted { 0.0 } else { level(&window) };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_fifths_of_a_window_must_be_loud() {
        let window = |packets, loud, peak| level(&Loudness { packets, loud, peak });
        assert!(window(20, 8, Some(20)) > 0.0);
        assert_eq!(window(20, 7, Some(20)), 0.0);
        assert_eq!(window(0, 0, None), 0.0, "no level, no speaker");
        assert_eq!(window(20, 20, Some(0)), 1.0);
        assert_eq!(window(20, 20, Some(34)), 0.125, "quiet speech is speech");
    }
}
