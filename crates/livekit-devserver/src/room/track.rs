//! A published audio track.

use livekit_protocol as lk;

/// Loudness within the current window.
#[derive(Debug, Default, Clone)]
pub(crate) struct Loudness {
    /// Packets with a level.
    pub(crate) packets: u32,
    /// Of those, louder than the threshold.
    pub(crate) loud: u32,
    /// The loudest, as attenuation: 0 is the loudest, 127 silence (-dBov).
    pub(crate) peak: Option<u8>,
}

pub(crate) struct Track {
    pub(crate) info: lk::TrackInfo,
    pub(crate) loudness: Loudness,
    /// It was active in the last window, at this level (0..1, in eighths); 0 is inactive.
    pub(crate) level: f32,
}

impl Track {
    pub(crate) fn new(info: lk::TrackInfo) -> Track {
        Track { info, loudness: Loudness::default(), level: 0.0 }
    }
}
