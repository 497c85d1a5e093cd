//! A media section of the descriptions, as `livekit` sees it: id, direction, stream. It only receives;
//! its packets are dropped before they get here.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::{
    RtcError,
    audio_track::RtcAudioTrack,
    media_stream::MediaStream,
    media_stream_track::MediaStreamTrack,
    native::create_random_uuid,
    no_media,
    peer_connection::TrackEvent,
    rtp_parameters::{RtpCodecCapability, RtpEncodingParameters},
    rtp_receiver::RtpReceiver,
    rtp_sender::RtpSender,
    video_track::RtcVideoTrack,
};

#[derive(Debug, Clone)]
pub struct RtpTransceiverInit {
    pub direction: RtpTransceiverDirection,
    pub stream_ids: Vec<String>,
    pub send_encodings: Vec<RtpEncodingParameters>,
}

#[derive(Debug, Copy, Clone, PartialEq, Eq)]
pub enum RtpTransceiverDirection {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
    Stopped,
}

#[derive(Debug)]
struct State {
    mid: Option<String>,
    direction: RtpTransceiverDirection,
    current: Option<RtpTransceiverDirection>,
}

/// It only receives.
#[derive(Debug, Clone)]
pub struct RtpTransceiver {
    state: Arc<Mutex<State>>,
    receiver: RtpReceiver,
}

impl RtpTransceiver {
    pub(crate) fn receiving(audio: bool, msid: Option<(&str, &str)>) -> Self {
        let id = msid.map_or_else(create_random_uuid, |(_, track)| track.to_owned());
        let track = if audio {
            MediaStreamTrack::Audio(RtcAudioTrack::new(&id))
        } else {
            MediaStreamTrack::Video(RtcVideoTrack::new(&id))
        };
        let direction = RtpTransceiverDirection::RecvOnly;
        Self {
            state: Arc::new(Mutex::new(State { mid: None, direction, current: None })),
            receiver: RtpReceiver { track, stream: Arc::default() },
        }
    }

    pub(crate) fn is_audio(&self) -> bool {
        matches!(self.receiver.track, MediaStreamTrack::Audio(_))
    }

    pub(crate) fn set_mid(&self, mid: Option<String>) {
        self.state.lock().mid = mid;
    }

    pub(crate) fn set_direction(&self, d: RtpTransceiverDirection) {
        self.state.lock().direction = d;
    }

    pub(crate) fn set_current(&self, d: RtpTransceiverDirection) {
        self.state.lock().current = Some(d);
    }

    pub(crate) fn sdp_direction(&self) -> &'static str {
        match self.direction() {
            RtpTransceiverDirection::RecvOnly => "recvonly",
            _ => "inactive",
        }
    }

    /// Returns an event if the peer now sends under a new stream name.
    pub(crate) fn set_remote_stream(&self, stream: Option<&str>) -> Option<TrackEvent> {
        let mut current = self.receiver.stream.lock();
        if current.as_ref().map(|s| s.0.as_str()) == stream {
            return None;
        }
        *current = stream.map(|s| MediaStream(s.to_owned()));
        let streams = vec![current.clone()?];
        Some(TrackEvent {
            receiver: self.receiver.clone(),
            streams,
            track: self.receiver.track.clone(),
            transceiver: self.clone(),
        })
    }

    pub fn mid(&self) -> Option<String> {
        self.state.lock().mid.clone()
    }

    pub fn current_direction(&self) -> Option<RtpTransceiverDirection> {
        self.state.lock().current
    }

    pub fn direction(&self) -> RtpTransceiverDirection {
        self.state.lock().direction
    }

    pub fn sender(&self) -> RtpSender {
        RtpSender::idle()
    }

    pub fn receiver(&self) -> RtpReceiver {
        self.receiver.clone()
    }

    pub fn set_codec_preferences(&self, _: Vec<RtpCodecCapability>) -> Result<(), RtcError> {
        no_media()
    }
}
