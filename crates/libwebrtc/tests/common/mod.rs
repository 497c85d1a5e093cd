//! Helpers of the tests: a connection with its events as channels, waiting for events with a deadline,
//! and (in `server`) the server side of a LiveKit connection, made of str0m alone.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod server;

use std::{future::Future, time::Duration};

use libwebrtc::{peer_connection::TrackEvent, prelude::*};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

pub struct Peer {
    pub pc: PeerConnection,
    pub states: UnboundedReceiver<PeerConnectionState>,
    pub channels: UnboundedReceiver<DataChannel>,
    pub tracks: UnboundedReceiver<TrackEvent>,
    /// `(mid, index, candidate)`
    pub candidates: UnboundedReceiver<(String, i32, String)>,
}

pub fn peer() -> Peer {
    let mut config = RtcConfiguration::default();
    config.enable_sctp_snap = true; // livekit always asks for it
    let factory = PeerConnectionFactory::with_options(false, true);
    let pc = factory.create_peer_connection(config).unwrap();
    let (tx, states) = unbounded_channel();
    pc.on_connection_state_change(Some(Box::new(move |s| {
        let _ = tx.send(s);
    })));
    let (tx, channels) = unbounded_channel();
    pc.on_data_channel(Some(Box::new(move |dc| {
        let _ = tx.send(dc);
    })));
    let (tx, tracks) = unbounded_channel();
    pc.on_track(Some(Box::new(move |t| {
        let _ = tx.send(t);
    })));
    let (tx, candidates) = unbounded_channel();
    pc.on_ice_candidate(Some(Box::new(move |c| {
        assert_eq!(c.candidate(), c.to_string());
        let _ = tx.send((c.sdp_mid(), c.sdp_mline_index(), c.candidate()));
    })));
    Peer { pc, states, channels, tracks, candidates }
}

/// The description after signalling, which carries only text and type.
pub fn again(d: &SessionDescription) -> SessionDescription {
    SessionDescription::parse(&d.to_string(), d.sdp_type()).unwrap()
}

/// The description without its candidates, which signalling then carries one by one.
pub fn bare(d: &SessionDescription) -> SessionDescription {
    let text = d.to_string();
    let kept = text.lines().filter(|l| !l.starts_with("a=candidate:"));
    let text: String = kept.flat_map(|l| [l, "\r\n"]).collect();
    SessionDescription::parse(&text, d.sdp_type()).unwrap()
}

pub async fn negotiate(a: &Peer, b: &Peer, options: OfferOptions) {
    let offer = a.pc.create_offer(options).await.unwrap();
    a.pc.set_local_description(offer.clone()).await.unwrap();
    assert_eq!(a.pc.signaling_state(), SignalingState::HaveLocalOffer);
    b.pc.set_remote_description(again(&offer)).await.unwrap();
    assert_eq!(b.pc.signaling_state(), SignalingState::HaveRemoteOffer);
    let answer = b.pc.create_answer(AnswerOptions::default()).await.unwrap();
    b.pc.set_local_description(answer.clone()).await.unwrap();
    a.pc.set_remote_description(again(&answer)).await.unwrap();
    assert_eq!(a.pc.signaling_state(), SignalingState::Stable);
    assert_eq!(b.pc.signaling_state(), SignalingState::Stable);
    assert!(b.pc.current_remote_description().is_some());
}

pub async fn soon<T>(what: &str, f: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(20);
    tokio::time::timeout(limit, f).await.unwrap_or_else(|_| panic!("no {what}"))
}

/// Polls for a change that sends no event.
pub async fn until(what: &str, mut f: impl FnMut() -> bool) {
    soon(what, async {
        while !f() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

pub async fn reaches(p: &mut Peer, state: PeerConnectionState) {
    let what = format!("{state:?}");
    soon(&what, async { while p.states.recv().await != Some(state) {} }).await;
}

pub async fn connected(p: &mut Peer) {
    reaches(p, PeerConnectionState::Connected).await;
    assert_eq!(p.pc.connection_state(), PeerConnectionState::Connected);
}

pub async fn open(dcs: &[&DataChannel]) {
    until("open channels", || dcs.iter().all(|d| d.state() == DataChannelState::Open)).await;
}

pub fn inbox(dc: &DataChannel) -> UnboundedReceiver<(Vec<u8>, bool)> {
    let (tx, rx) = unbounded_channel();
    dc.on_message(Some(Box::new(move |m| drop(tx.send((m.data.to_vec(), m.binary))))));
    rx
}

/// Sends a message and waits for its echo.
pub async fn echoes(dc: &DataChannel, data: &[u8]) {
    let mut rx = inbox(dc);
    dc.send(data, true).unwrap();
    assert_eq!(soon("echo", rx.recv()).await.unwrap().0, data);
}

pub fn reliable() -> DataChannelInit {
    DataChannelInit::default()
}

pub fn negotiated(id: i32) -> DataChannelInit {
    DataChannelInit { negotiated: true, id, ..reliable() }
}

pub fn receive_only() -> RtpTransceiverInit {
    RtpTransceiverInit {
        direction: RtpTransceiverDirection::RecvOnly,
        stream_ids: vec![],
        send_encodings: vec![],
    }
}

/// Two connected peers, and a channel from the first to the second.
pub async fn pair() -> (Peer, Peer, DataChannel, DataChannel) {
    let (mut a, mut b) = (peer(), peer());
    let dc = a.pc.create_data_channel("x", reliable()).unwrap();
    negotiate(&a, &b, OfferOptions::default()).await;
    connected(&mut a).await;
    connected(&mut b).await;
    let far = soon("channel", b.channels.recv()).await.unwrap();
    open(&[&dc, &far]).await;
    (a, b, dc, far)
}
