//! A track: an id, and an `enabled` switch without effect.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use crate::{audio_track::RtcAudioTrack, video_track::RtcVideoTrack};

#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub enum RtcTrackState {
    Live,
    Ended,
}

#[derive(Debug, Clone)]
pub enum MediaStreamTrack {
    Video(RtcVideoTrack),
    Audio(RtcAudioTrack),
}

impl From<RtcAudioTrack> for MediaStreamTrack {
    fn from(track: RtcAudioTrack) -> Self {
        Self::Audio(track)
    }
}

impl From<RtcVideoTrack> for MediaStreamTrack {
    fn from(track: RtcVideoTrack) -> Self {
        Self::Video(track)
    }
}

#[derive(Debug)]
pub(crate) struct Inner {
    id: String,
    enabled: AtomicBool,
}

pub(crate) fn inner(id: &str) -> Arc<Inner> {
    Arc::new(Inner { id: id.into(), enabled: AtomicBool::new(true) })
}

impl Inner {
    pub(crate) fn id(&self) -> String {
        self.id.clone()
    }
    pub(crate) fn enabled(&self) -> bool {
        self.enabled.load(SeqCst)
    }
    pub(crate) fn set_enabled(&self, enabled: bool) -> bool {
        self.enabled.swap(enabled, SeqCst) != enabled
    }
}

macro_rules! track_methods {
    () => {
        pub(crate) fn new(id: &str) -> Self {
            Self(crate::media_stream_track::inner(id))
        }
        pub fn id(&self) -> String {
            self.0.id()
        }
        pub fn enabled(&self) -> bool {
            self.0.enabled()
        }
        pub fn set_enabled(&self, enabled: bool) -> bool {
            self.0.set_enabled(enabled)
        }
        pub fn state(&self) -> crate::media_stream_track::RtcTrackState {
            crate::media_stream_track::RtcTrackState::Live
        }
    };
}
pub(crate) use track_methods;

impl MediaStreamTrack {
    crate::enum_dispatch!(
        [Video, Audio];
        pub fn id(self: &Self) -> String;
        pub fn enabled(self: &Self) -> bool;
        pub fn set_enabled(self: &Self, enabled: bool) -> bool;
        pub fn state(self: &Self) -> RtcTrackState;
    );
}
