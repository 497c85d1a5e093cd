//! A video track; see `media_stream_track`.

use crate::native::packet_trailer::PacketTrailerHandler;

#[derive(Debug, Clone)]
pub struct RtcVideoTrack(std::sync::Arc<crate::media_stream_track::Inner>);

impl RtcVideoTrack {
    crate::media_stream_track::track_methods!();

    pub fn set_packet_trailer_handler(&self, _: PacketTrailerHandler) {}

    pub fn packet_trailer_handler(&self) -> Option<PacketTrailerHandler> {
        None
    }
}
