//! The sending half of a transceiver, which never sends.

use crate::{
    RtcError, media_stream_track::MediaStreamTrack, no_media, rtp_parameters::RtpParameters,
    stats::RtcStats,
};

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum VideoEncoderBackend {
    #[default]
    Auto,
    Software,
    Hardware,
    Nvenc,
    Vaapi,
    VideoToolbox,
    PreEncoded,
}

/// The unused half of a receiving transceiver.
#[derive(Debug, Clone)]
pub struct RtpSender(());

impl RtpSender {
    pub(crate) fn idle() -> Self {
        Self(())
    }

    pub fn track(&self) -> Option<MediaStreamTrack> {
        None
    }

    pub async fn get_stats(&self) -> Result<Vec<RtcStats>, RtcError> {
        Ok(vec![])
    }

    pub fn set_track(&self, track: Option<MediaStreamTrack>) -> Result<(), RtcError> {
        match track {
            None => Ok(()),
            Some(_) => no_media(),
        }
    }

    pub fn parameters(&self) -> RtpParameters {
        RtpParameters::default()
    }

    pub fn set_parameters(&self, _: RtpParameters) -> Result<(), RtcError> {
        no_media()
    }

    pub fn set_video_encoder_backend(&self, _: VideoEncoderBackend) {}
}
