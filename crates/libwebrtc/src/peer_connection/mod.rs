//! The handle that `livekit` holds: libwebrtc's `PeerConnection`, for data only.
//!
//! In: calls, from any thread, inside or outside of a runtime. Out: results at once; listeners report
//! later events. Handles are cheap copies; the connection closes when the last handle is dropped. Must
//! never send media: every call that would send returns an error that says so.

mod types;

use std::{fmt, sync::Arc};

pub use self::types::*;
use crate::{
    MediaType, RtcError,
    RtcErrorType::{Internal, InvalidState},
    callbacks::Ev,
    core::Chan,
    data_channel::{DataChannel, DataChannelInit, Dc},
    driver::Shared,
    err,
    ice_candidate::IceCandidate,
    limits::CHANNELS,
    media_stream_track::MediaStreamTrack,
    no_media,
    peer_connection_factory::{IceTransportsType, RtcConfiguration},
    rtp_receiver::RtpReceiver,
    rtp_sender::RtpSender,
    rtp_transceiver::{RtpTransceiver, RtpTransceiverDirection, RtpTransceiverInit},
    session_description::SessionDescription,
    stats::{self, RtcStats},
};

/// All handles share it; when the last handle is dropped, it closes the connection.
struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        self.0.enter().close();
    }
}

#[derive(Clone)]
pub struct PeerConnection(Arc<Owner>);

impl PeerConnection {
    pub(crate) fn create(config: &RtcConfiguration) -> Result<Self, RtcError> {
        check(config)?;
        Ok(Self(Arc::new(Owner(Shared::start(config.enable_sctp_snap)?))))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.0.0
    }

    /// # Errors
    /// The configuration limits the transports, or the connection is closed.
    pub fn set_configuration(&self, config: RtcConfiguration) -> Result<(), RtcError> {
        check(&config)?;
        self.shared().enter().alive()
    }

    /// # Errors
    /// Always: there is no bitrate to set.
    pub fn set_bitrate(&self, _: BitrateSettings) -> Result<(), RtcError> {
        no_media()
    }

    /// # Errors
    /// The connection is closed, or no socket can be opened.
    pub async fn create_offer(&self, o: OfferOptions) -> Result<SessionDescription, RtcError> {
        self.shared().enter().create_offer(&o)
    }

    /// # Errors
    /// As `create_offer`, or there is no offer to answer.
    pub async fn create_answer(&self, _: AnswerOptions) -> Result<SessionDescription, RtcError> {
        self.shared().enter().create_answer()
    }

    /// # Errors
    /// As `create_offer`, or the description does not fit the state or the last description.
    pub async fn set_local_description(&self, desc: SessionDescription) -> Result<(), RtcError> {
        self.shared().enter().set_local(desc)
    }

    /// # Errors
    /// As `set_local_description`, or the text cannot be read or names no usable transport.
    pub async fn set_remote_description(&self, desc: SessionDescription) -> Result<(), RtcError> {
        self.shared().enter().set_remote(desc)
    }

    /// # Errors
    /// The connection is closed, the text is not a candidate, or there are too many candidates.
    pub async fn add_ice_candidate(&self, candidate: IceCandidate) -> Result<(), RtcError> {
        self.shared().enter().add_remote(&candidate)
    }

    /// # Errors
    /// The connection is closed, the negotiated id is in use or out of range, or there are too many
    /// channels.
    pub fn create_data_channel(
        &self,
        label: &str,
        init: DataChannelInit,
    ) -> Result<DataChannel, RtcError> {
        let mut core = self.shared().enter();
        core.alive()?;
        if init.negotiated {
            let taken = core.chans.iter().any(|c| c.dc.id() == init.id);
            if taken || !(0..65535).contains(&init.id) {
                return err(InvalidState, format!("stream {} cannot be used", init.id));
            }
        }
        if core.chans.len() >= CHANNELS {
            return err(InvalidState, format!("more than {CHANNELS} data channels"));
        }
        let dc = Arc::new(Dc::new(label.into(), init));
        core.chans.push(Chan::new(dc.clone()));
        if core.jsep.app_mid().is_none() {
            core.queue.push_back(Ev::Negotiation);
        }
        core.start_channels();
        Ok(DataChannel::new(dc, Arc::downgrade(self.shared())))
    }

    /// # Errors
    /// Always: media cannot be sent.
    pub fn add_track<T: AsRef<str>>(
        &self,
        _: MediaStreamTrack,
        _: &[T],
    ) -> Result<RtpSender, RtcError> {
        no_media()
    }

    /// Does nothing: no sender ever has a track.
    ///
    /// # Errors
    /// The connection is closed.
    pub fn remove_track(&self, _: RtpSender) -> Result<(), RtcError> {
        self.shared().enter().alive()
    }

    /// # Errors
    /// None.
    pub async fn get_stats(&self) -> Result<Vec<RtcStats>, RtcError> {
        Ok(stats::collect(&self.shared().enter()))
    }

    /// # Errors
    /// Always: media cannot be sent.
    pub fn add_transceiver(
        &self,
        _: MediaStreamTrack,
        _: RtpTransceiverInit,
    ) -> Result<RtpTransceiver, RtcError> {
        no_media()
    }

    /// # Errors
    /// The direction sends, the kind is not media, or the connection is closed.
    pub fn add_transceiver_for_media(
        &self,
        media_type: MediaType,
        init: RtpTransceiverInit,
    ) -> Result<RtpTransceiver, RtcError> {
        use RtpTransceiverDirection::{Inactive, RecvOnly};
        let mut core = self.shared().enter();
        core.alive()?;
        let audio = match media_type {
            MediaType::Audio => true,
            MediaType::Video => false,
            _ => return err(InvalidState, "not a media type"),
        };
        if !matches!(init.direction, RecvOnly | Inactive) {
            return no_media();
        }
        let t = RtpTransceiver::receiving(audio, None);
        t.set_direction(init.direction);
        core.jsep.transceivers.push(t.clone());
        core.queue.push_back(Ev::Negotiation);
        Ok(t)
    }

    pub fn close(&self) {
        self.shared().enter().close();
    }

    pub fn restart_ice(&self) {
        let mut core = self.shared().enter();
        if core.alive().is_ok() {
            core.jsep.restart_wanted = true;
            core.queue.push_back(Ev::Negotiation);
        }
    }

    pub fn connection_state(&self) -> PeerConnectionState {
        self.shared().core.lock().connection
    }

    pub fn ice_connection_state(&self) -> IceConnectionState {
        self.shared().core.lock().ice
    }

    pub fn ice_gathering_state(&self) -> IceGatheringState {
        self.shared().core.lock().gathering
    }

    pub fn signaling_state(&self) -> SignalingState {
        self.shared().core.lock().jsep.signaling
    }

    pub fn current_local_description(&self) -> Option<SessionDescription> {
        self.shared().core.lock().jsep.current_local()
    }

    pub fn current_remote_description(&self) -> Option<SessionDescription> {
        self.shared().core.lock().jsep.current_remote()
    }

    pub fn senders(&self) -> Vec<RtpSender> {
        self.transceivers().iter().map(RtpTransceiver::sender).collect()
    }

    pub fn receivers(&self) -> Vec<RtpReceiver> {
        self.transceivers().iter().map(RtpTransceiver::receiver).collect()
    }

    pub fn transceivers(&self) -> Vec<RtpTransceiver> {
        self.shared().core.lock().jsep.transceivers.clone()
    }

    pub fn on_connection_state_change(&self, f: Option<OnConnectionChange>) {
        self.shared().cb.connection.set(f);
    }

    pub fn on_data_channel(&self, f: Option<OnDataChannel>) {
        self.shared().cb.data_channel.set(f);
    }

    pub fn on_ice_candidate(&self, f: Option<OnIceCandidate>) {
        self.shared().cb.candidate.set(f);
    }

    pub fn on_ice_candidate_error(&self, f: Option<OnIceCandidateError>) {
        self.shared().cb.candidate_error.set(f);
    }

    pub fn on_ice_connection_state_change(&self, f: Option<OnIceConnectionChange>) {
        self.shared().cb.ice.set(f);
    }

    pub fn on_ice_gathering_state_change(&self, f: Option<OnIceGatheringChange>) {
        self.shared().cb.gathering.set(f);
    }

    pub fn on_negotiation_needed(&self, f: Option<OnNegotiationNeeded>) {
        self.shared().cb.negotiation.set(f);
    }

    pub fn on_signaling_state_change(&self, f: Option<OnSignalingChange>) {
        self.shared().cb.signaling.set(f);
    }

    pub fn on_track(&self, f: Option<OnTrack>) {
        self.shared().cb.track.set(f);
    }
}

/// Refuses policies other than "all". We have no TURN client, and a direct connection in spite of "relay
/// only" would reveal addresses that the caller wants to hide.
fn check(config: &RtcConfiguration) -> Result<(), RtcError> {
    match config.ice_transport_type {
        IceTransportsType::All => Ok(()),
        other => err(
            Internal,
            format!("unsupported: ICE transport policy {other:?} (this build has no TURN client)"),
        ),
    }
}

impl fmt::Debug for PeerConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerConnection({:?})", self.connection_state())
    }
}
