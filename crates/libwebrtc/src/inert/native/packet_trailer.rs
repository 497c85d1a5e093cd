//! User data behind encoded frames. We have no frames, so nothing is written, read or reported.

use std::sync::Arc;

use crate::{
    peer_connection_factory::PeerConnectionFactory, rtp_receiver::RtpReceiver,
    rtp_sender::RtpSender,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishTimingStage {
    EncoderUpload,
    EncoderOutput,
    WebrtcPacketize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscribeTimingStage {
    WebrtcReceive,
    DecoderUpload,
    DecoderOutput,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishTimingEvent {
    pub stage: PublishTimingStage,
    pub timestamp_us: u64,
    pub capture_timestamp_us: u64,
    pub frame_id: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscribeTimingEvent {
    pub stage: SubscribeTimingStage,
    pub timestamp_us: u64,
    pub capture_timestamp_us: u64,
    pub frame_id: Option<u32>,
}

pub type PublishTimingObserver = Arc<dyn Fn(PublishTimingEvent) + Send + Sync + 'static>;
pub type SubscribeTimingObserver = Arc<dyn Fn(SubscribeTimingEvent) + Send + Sync + 'static>;

/// Has no effect and reports nothing, since there are no frames.
#[derive(Debug, Clone)]
pub struct PacketTrailerHandler(());

impl PacketTrailerHandler {
    pub fn set_enabled(&self, _: bool) {}
    pub fn set_publish_timing_observer(&self, _: Option<PublishTimingObserver>) {}
    pub fn set_subscribe_timing_observer(&self, _: Option<SubscribeTimingObserver>) {}
}

pub fn create_sender_handler(_: &PeerConnectionFactory, _: &RtpSender) -> PacketTrailerHandler {
    PacketTrailerHandler(())
}

pub fn create_receiver_handler(_: &PeerConnectionFactory, _: &RtpReceiver) -> PacketTrailerHandler {
    PacketTrailerHandler(())
}
