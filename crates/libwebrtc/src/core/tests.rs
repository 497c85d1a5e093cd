//! Tests that need private state: timers, silence, addresses that change, listeners that panic.

use std::time::Duration;

use str0m::{Event, IceConnectionState as StrIce};

use super::*;
use crate::{
    data_channel::{DataChannel, DataChannelInit, DataChannelState},
    peer_connection::{AnswerOptions, OfferOptions, PeerConnection},
    peer_connection_factory::RtcConfiguration,
};

fn peer() -> PeerConnection {
    PeerConnection::create(&RtcConfiguration::default()).unwrap()
}

async fn until(what: &str, mut f: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !f() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn negotiate(a: &PeerConnection, b: &PeerConnection, ice_restart: bool) {
    let offer = a.create_offer(OfferOptions { ice_restart, ..OfferOptions::default() }).await;
    let offer = offer.unwrap();
    a.set_local_description(offer.clone()).await.unwrap();
    b.set_remote_description(offer).await.unwrap();
    let answer = b.create_answer(AnswerOptions::default()).await.unwrap();
    b.set_local_description(answer.clone()).await.unwrap();
    a.set_remote_description(answer).await.unwrap();
}

fn up(pc: &PeerConnection) -> bool {
    pc.connection_state() == PeerConnectionState::Connected
}

/// Two connected peers, with one channel on either side.
async fn pair() -> (PeerConnection, PeerConnection, DataChannel, DataChannel) {
    let (a, b) = (peer(), peer());
    let init = || DataChannelInit { negotiated: true, id: 1, ..DataChannelInit::default() };
    let dcs = [&a, &b].map(|pc| pc.create_data_channel("x", init()).unwrap());
    negotiate(&a, &b, false).await;
    until("connected", || up(&a) && up(&b)).await;
    until("open", || dcs.iter().all(|d| d.state() == DataChannelState::Open)).await;
    let [x, y] = dcs;
    (a, b, x, y)
}

async fn passes(from: &DataChannel, to: &DataChannel) {
    let (tx, mut rx) = tokio::sync::mpsc::unbounded_channel();
    to.on_message(Some(Box::new(move |_| {
        let _ = tx.send(());
    })));
    from.send(b"x", true).unwrap();
    tokio::time::timeout(Duration::from_secs(10), rx.recv()).await.unwrap().unwrap();
}

#[tokio::test]
async fn eight_seconds_of_silence_are_a_failure_and_a_restart_repairs_it() {
    let (a, b, x, y) = pair().await;
    until("failed", || {
        let mut core = a.shared().core.lock();
        core.timers.heard -= Duration::from_secs(8);
        drop(core);
        a.shared().wake.notify_one();
        a.connection_state() == PeerConnectionState::Failed
    })
    .await;
    negotiate(&a, &b, true).await;
    until("connected", || up(&a) && up(&b)).await;
    passes(&x, &y).await;
}

#[tokio::test]
async fn packets_of_strangers_do_not_count_as_packets_of_the_peer() {
    let a = peer();
    a.create_offer(OfferOptions::default()).await.unwrap(); // opens the sockets
    let (to, heard) = {
        let core = a.shared().core.lock();
        (core.socks[0].0, core.timers.heard)
    };
    let stranger = std::net::UdpSocket::bind((to.ip(), 0)).unwrap();
    let packets = || a.shared().core.lock().counters.packets_in;
    until("packets", || {
        for first in [0u8, 22, 128, 200, 255] {
            stranger.send_to(&[first; 100], to).unwrap();
        }
        packets() > 100
    })
    .await;
    assert_eq!(a.shared().core.lock().timers.heard, heard);
}

/// The addresses after a move to another network. (Linux has all of 127/8.)
fn moved() -> Vec<IpAddr> {
    vec![IpAddr::from([127, 0, 0, 77])]
}

#[tokio::test]
async fn a_restart_after_a_change_of_addresses_opens_new_sockets_and_drops_the_old() {
    let (a, b, x, y) = pair().await;
    // First the peer that moved offers the restart, then the other peer.
    for mover in [&a, &b] {
        let old = Arc::downgrade(&mover.shared().core.lock().socks);
        mover.shared().core.lock().addresses = moved;
        negotiate(&a, &b, true).await;
        until("connected", || up(&a) && up(&b)).await;
        passes(&x, &y).await;
        passes(&y, &x).await;
        {
            let core = mover.shared().core.lock();
            assert_eq!(core.socks.len(), 1);
            assert_eq!(core.counters.pair.unwrap().0.ip(), moved()[0]);
            assert!(core.local_candidates.iter().all(|c| c.contains("127.0.0.77")));
        }
        until("old sockets closed", || old.upgrade().is_none()).await;
    }
}

#[tokio::test]
async fn a_restart_on_the_same_addresses_keeps_the_sockets() {
    let (a, b, x, y) = pair().await;
    let ports = || a.shared().core.lock().socks.iter().map(|s| s.0).collect::<Vec<_>>();
    let before = ports();
    negotiate(&a, &b, true).await;
    until("connected", || up(&a) && up(&b)).await;
    passes(&x, &y).await;
    assert_eq!(ports(), before);
}

#[tokio::test]
async fn a_path_that_recovers_stops_the_timer_and_a_path_that_stays_down_fails() {
    let a = peer();
    let mut core = a.shared().enter();
    core.dtls_up = true;
    core.event(Event::IceConnectionStateChange(StrIce::Disconnected));
    assert_eq!(core.connection, PeerConnectionState::Disconnected);
    assert!(core.timers.earliest(Instant::now() + IDLE) < Instant::now() + IDLE);
    core.event(Event::IceConnectionStateChange(StrIce::Connected));
    core.run_timers(Instant::now() + Duration::from_secs(60));
    assert_eq!(core.connection, PeerConnectionState::Connected, "a stale timer did nothing");
    core.event(Event::IceConnectionStateChange(StrIce::Disconnected));
    core.run_timers(Instant::now() + Duration::from_secs(9));
    assert_eq!(core.connection, PeerConnectionState::Disconnected);
    core.run_timers(Instant::now() + Duration::from_secs(11));
    assert_eq!(core.connection, PeerConnectionState::Failed);
}

#[tokio::test]
async fn no_timer_outlives_its_connection() {
    let a = peer();
    let mut core = a.shared().enter();
    core.expect_connection(false);
    core.release_candidates_soon();
    core.event(Event::IceConnectionStateChange(StrIce::Disconnected));
    core.close();
    let far = Instant::now() + IDLE;
    assert_eq!(core.timers.earliest(far), far);
    core.run_timers(far);
    assert_eq!(core.connection, PeerConnectionState::Closed);
}

#[tokio::test]
async fn a_listener_that_panics_ends_the_connection_as_failed() {
    let a = peer();
    let (tx, mut states) = tokio::sync::mpsc::unbounded_channel();
    a.on_connection_state_change(Some(Box::new(move |s| {
        let _ = tx.send(s);
    })));
    a.on_negotiation_needed(Some(Box::new(|_| panic!("a listener's panic, as it should be"))));
    let dc = a.create_data_channel("x", DataChannelInit::default()).unwrap();
    while states.recv().await != Some(PeerConnectionState::Failed) {}
    assert_eq!(dc.state(), DataChannelState::Closed);
    assert!(a.create_offer(OfferOptions::default()).await.is_err());
    a.close();
    assert_eq!(states.recv().await, Some(PeerConnectionState::Closed));
    assert_eq!(states.recv().await, None, "and its listeners are freed");
}
