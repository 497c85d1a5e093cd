//! Unsupported calls and invalid input return an error, without a hang or a panic.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::*;
use libwebrtc::{
    native::frame_cryptor::{
        DataPacketCryptor, EncryptedPacket, EncryptionAlgorithm, EncryptionState, FrameCryptor,
        KeyDerivationAlgorithm, KeyProvider, KeyProviderOptions,
    },
    peer_connection_factory::native::PeerConnectionFactoryExt,
    prelude::*,
};
use tokio::sync::mpsc::unbounded_channel;

fn refused<T>(what: Result<T, RtcError>, why: &str) {
    let Err(e) = what else { panic!("not refused: {why}") };
    assert!(e.message.contains(why), "{e} says nothing of '{why}'");
}

#[tokio::test]
async fn publishing_media_is_refused() {
    let why = "cannot send media";
    let p = peer();
    let factory = PeerConnectionFactory::default();
    let track = || MediaStreamTrack::from(factory.create_device_audio_track("mic"));
    let sending = |direction| RtpTransceiverInit { direction, ..receive_only() };
    refused(p.pc.add_track(track(), &["stream"]), why);
    for direction in [RtpTransceiverDirection::SendOnly, RtpTransceiverDirection::SendRecv] {
        refused(p.pc.add_transceiver(track(), sending(direction)), why);
        refused(p.pc.add_transceiver_for_media(MediaType::Audio, sending(direction)), why);
    }
    refused(p.pc.add_transceiver_for_media(MediaType::Data, receive_only()), "not a media type");
    refused(p.pc.set_bitrate(BitrateSettings::default()), why);
    let t = p.pc.add_transceiver_for_media(MediaType::Audio, receive_only()).unwrap();
    refused(t.sender().set_track(Some(track())), why);
    refused(t.sender().set_parameters(RtpParameters::default()), why);
    refused(t.set_codec_preferences(vec![]), why);
    // The connection still works.
    let offer = p.pc.create_offer(OfferOptions::default()).await.unwrap().to_string();
    assert!(!offer.contains("a=sendonly") && !offer.contains("a=sendrecv"));
}

#[tokio::test]
async fn end_to_end_encryption_is_refused() {
    let keys = KeyProvider::new(KeyProviderOptions {
        shared_key: true,
        ratchet_window_size: 16,
        ratchet_salt: vec![1],
        failure_tolerance: 1,
        key_ring_size: 16,
        key_derivation_algorithm: KeyDerivationAlgorithm::PBKDF2,
    });
    assert!(!keys.set_shared_key(0, vec![1]) && !keys.set_key("p".into(), 0, vec![1]));
    assert!(keys.get_shared_key(0).is_none() && keys.ratchet_shared_key(0).is_none());
    let data = DataPacketCryptor::new(EncryptionAlgorithm::AesGcm, keys.clone());
    let why = data.encrypt("p", 0, b"secret").unwrap_err().to_string();
    assert!(why.contains("no end-to-end encryption"), "{why}");
    let packet = EncryptedPacket { data: vec![1, 2, 3], iv: vec![], key_index: 0 };
    let why = data.decrypt("p", &packet).unwrap_err().to_string();
    assert!(why.contains("no end-to-end encryption"), "{why}");

    let p = peer();
    let t = p.pc.add_transceiver_for_media(MediaType::Audio, receive_only()).unwrap();
    let frames = FrameCryptor::new_for_rtp_receiver(
        &PeerConnectionFactory::default(),
        "caller".into(),
        EncryptionAlgorithm::AesGcm,
        keys,
        t.receiver(),
    );
    let (tx, mut states) = unbounded_channel();
    frames.on_state_change(Some(Box::new(move |who, state| {
        let _ = tx.send((who, state));
    })));
    let reported = soon("state", states.recv()).await.unwrap();
    assert_eq!(reported, ("caller".into(), EncryptionState::InternalError));
}

#[tokio::test]
async fn a_policy_of_relayed_connections_only_is_refused() {
    let factory = PeerConnectionFactory::default();
    for policy in [IceTransportsType::Relay, IceTransportsType::NoHost] {
        let mut config = RtcConfiguration::default();
        config.ice_transport_type = policy;
        refused(factory.create_peer_connection(config.clone()), "no TURN client");
        refused(peer().pc.set_configuration(config), "no TURN client");
    }
    peer().pc.set_configuration(RtcConfiguration::default()).unwrap();
}

const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
    m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:0\r\na=ice-ufrag:user\r\n\
    a=ice-pwd:passwordpasswordpassword\r\na=sctp-port:5000\r\na=fingerprint:sha-256 \
    0F:74:31:25:CB:A2:13:EC:28:6F:6D:2C:61:FF:5D:C2:BC:B9:DB:3D:98:14:8D:1A:BB:EA:33:0C:A4:60:A8:8E\r\n";

#[tokio::test]
async fn invalid_descriptions_are_refused_and_change_nothing() {
    let p = peer();
    let set = |ty, text: &str| {
        // Parsing must not fail: livekit unwraps it.
        let d = SessionDescription::parse(text, ty).unwrap();
        p.pc.set_remote_description(d)
    };
    let without = |line: &str| OFFER.replace(line, "x=");
    let table = [
        ("hello".into(), "expected v=0"),
        (format!("{OFFER}garbage"), "expected <type>=<value>: 'garbage'"),
        (without("a=ice-ufrag"), "no usable a=ice-ufrag"),
        (without("a=ice-pwd"), "no usable a=ice-pwd"),
        (without("a=fingerprint"), "no usable a=fingerprint"),
        (OFFER.replace("sha-256", "md5"), ""),
        (OFFER.replace("0F:74", "zz:zz"), ""),
        (OFFER.replace("application 9", "application 0"), "no usable"),
        (OFFER.replace("mid:0", "mid:0 1"), "one short word"),
        (format!("v=0\r\n{}", "a=x\r\n".repeat(1_000_000)), "bytes"),
        (format!("v=0\r\n{}", "m=audio 9 X 0\r\n".repeat(2000)), "sections"),
    ];
    for (text, why) in table {
        let shown: String = text.chars().take(200).collect();
        let result = set(SdpType::Offer, &text).await;
        assert!(result.is_err(), "taken: {shown}");
        refused(result, why);
        assert_eq!(p.pc.signaling_state(), SignalingState::Stable);
    }
    refused(set(SdpType::Answer, OFFER).await, "remote answer in Stable");
    refused(set(SdpType::PrAnswer, OFFER).await, "remote pranswer in Stable");
    refused(p.pc.create_answer(AnswerOptions::default()).await, "no offer to answer");
    // A valid description is still accepted.
    set(SdpType::Offer, OFFER).await.unwrap();
    refused(set(SdpType::Offer, &OFFER[..OFFER.find("m=").unwrap()]).await, "lacks sections");
    p.pc.create_answer(AnswerOptions::default()).await.unwrap();
}

#[tokio::test]
async fn answers_that_do_not_fit_the_offer_are_refused() {
    let p = peer();
    p.pc.create_data_channel("x", reliable()).unwrap();
    p.pc.add_transceiver_for_media(MediaType::Audio, receive_only()).unwrap();
    let offer = p.pc.create_offer(OfferOptions::default()).await.unwrap();
    p.pc.set_local_description(offer).await.unwrap();
    let answer = SessionDescription::parse(OFFER, SdpType::Answer).unwrap();
    refused(p.pc.set_remote_description(answer).await, "do not match");
    assert_eq!(p.pc.signaling_state(), SignalingState::HaveLocalOffer);
}

#[tokio::test]
async fn invalid_candidates_are_refused_and_unusable_ones_are_ignored() {
    let p = peer();
    let add = |text: &str| p.pc.add_ice_candidate(IceCandidate::parse("0", 0, text).unwrap());
    refused(add("hello").await, "not an ICE candidate");
    refused(add(&format!("candidate:{}", "x".repeat(5000))).await, "kilobyte");
    refused(add("candidate:1 1 udp 1 192.0.2.1 x typ host").await, "bad port");
    add("").await.unwrap();
    add("candidate:1 1 udp 1 some-name.local 5000 typ host").await.unwrap();
    add("candidate:1 1 udp 1 192.0.2.1 0 typ host").await.unwrap();
    p.pc.close();
    refused(add("candidate:1 1 udp 1 192.0.2.1 5000 typ host").await, "has ended");
}
