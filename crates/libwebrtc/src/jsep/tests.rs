//! Tests that need private state: candidates that are held back, and their number.

use std::time::{Duration, Instant};

use crate::{
    data_channel::DataChannelInit,
    ice_candidate::IceCandidate,
    limits::CANDIDATES,
    peer_connection::{AnswerOptions, OfferOptions, PeerConnection},
    peer_connection_factory::RtcConfiguration,
    session_description::{SdpType, SessionDescription},
};

fn peer() -> PeerConnection {
    PeerConnection::create(&RtcConfiguration::default()).unwrap()
}

fn candidate(n: usize) -> IceCandidate {
    let text = format!("candidate:1 1 udp 1 127.0.0.1 {} typ host", 1000 + n);
    IceCandidate::parse("0", 0, &text).unwrap()
}

async fn offer(of: &PeerConnection, ice_restart: bool, lite: bool) -> SessionDescription {
    let options = OfferOptions { ice_restart, ..OfferOptions::default() };
    let text = of.create_offer(options).await.unwrap().to_string();
    let with_lite = text.replace("t=0 0\r\n", "t=0 0\r\na=ice-lite\r\n");
    SessionDescription::parse(if lite { &with_lite } else { &text }, SdpType::Offer).unwrap()
}

fn server() -> PeerConnection {
    let pc = peer();
    pc.create_data_channel("x", DataChannelInit::default()).unwrap();
    pc
}

fn waiting(pc: &PeerConnection) -> (bool, usize) {
    let core = pc.shared().core.lock();
    (core.jsep.holding, core.jsep.early.len())
}

#[tokio::test]
async fn our_answer_is_sent_before_the_first_check() {
    let (server, pc) = (server(), peer());
    pc.set_remote_description(offer(&server, false, false).await).await.unwrap();
    let (holding, candidates) = waiting(&pc);
    assert!(holding && candidates > 0);
    pc.add_ice_candidate(candidate(1)).await.unwrap();
    assert_eq!(waiting(&pc), (true, candidates + 1), "later candidates wait, too");
    let answer = pc.create_answer(AnswerOptions::default()).await.unwrap();
    let set = Instant::now();
    pc.set_local_description(answer).await.unwrap();
    while waiting(&pc).0 {
        assert!(set.elapsed() < Duration::from_secs(10), "the checks never began");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(set.elapsed() >= Duration::from_millis(40));
    assert_eq!(waiting(&pc), (false, 0));
}

#[tokio::test]
async fn an_ice_lite_peer_is_checked_at_once() {
    let (server, pc) = (server(), peer());
    pc.set_remote_description(offer(&server, false, true).await).await.unwrap();
    assert_eq!(waiting(&pc), (false, 0));
}

#[tokio::test]
async fn early_candidates_are_bounded() {
    let pc = peer();
    for n in 0..CANDIDATES {
        pc.add_ice_candidate(candidate(n)).await.unwrap();
    }
    assert!(pc.add_ice_candidate(candidate(CANDIDATES)).await.is_err());
    pc.add_ice_candidate(candidate(0)).await.unwrap(); // known
    assert_eq!(waiting(&pc), (false, CANDIDATES));
}

#[tokio::test]
async fn candidates_of_an_ice_session_are_bounded_and_a_restart_has_room_again() {
    let (server, pc) = (server(), peer());
    for restart in [false, true, true] {
        pc.set_remote_description(offer(&server, restart, true).await).await.unwrap();
        let added = (0..CANDIDATES * 2).map(|n| pc.add_ice_candidate(candidate(n)));
        let mut taken = 0;
        for a in added {
            taken += usize::from(a.await.is_ok());
        }
        let in_sdp = server.shared().core.lock().local_candidates.len();
        assert_eq!(taken, CANDIDATES - in_sdp, "with those in the description");
        // A repeated description repeats its candidates, which is no error.
        pc.set_remote_description(offer(&server, false, true).await).await.unwrap();
        assert_eq!(waiting(&pc), (false, 0));
    }
}
