//! An audio track; see `media_stream_track`.

#[derive(Debug, Clone)]
pub struct RtcAudioTrack(std::sync::Arc<crate::media_stream_track::Inner>);

impl RtcAudioTrack {
    crate::media_stream_track::track_methods!();
}
