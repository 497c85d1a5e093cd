//! The receiving half of a transceiver: its track, and the stream the peer names.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{
    RtcError, media_stream::MediaStream, media_stream_track::MediaStreamTrack,
    rtp_parameters::RtpParameters, stats::RtcStats,
};

#[derive(Debug, Clone)]
pub struct RtpReceiver {
    pub(crate) track: MediaStreamTrack,
    pub(crate) stream: Arc<Mutex<Option<MediaStream>>>,
}

impl RtpReceiver {
    pub fn track(&self) -> Option<MediaStreamTrack> {
        Some(self.track.clone())
    }

    pub fn streams(&self) -> Vec<MediaStream> {
        self.stream.lock().iter().cloned().collect()
    }

    pub async fn get_stats(&self) -> Result<Vec<RtcStats>, RtcError> {
        Ok(vec![])
    }

    pub fn parameters(&self) -> RtpParameters {
        RtpParameters::default()
    }
}
