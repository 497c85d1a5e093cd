//! A published audio track.

use livekit_protocol as lk;

use super::meter::Meter;

pub(crate) struct Track {
    pub(crate) info: lk::TrackInfo,
    pub(crate) meter: Meter,
    /// The level at the last speaker check (0..1, in eighths); 0 is inactive.
    pub(crate) level: f32,
}

impl Track {
    pub(crate) fn new(info: lk::TrackInfo) -> Track {
        Track { info, meter: Meter::default(), level: 0.0 }
    }
}
