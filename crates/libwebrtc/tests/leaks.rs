//! A closed connection leaves nothing behind: no file, no task, no listener. This test has its own
//! process, since it counts the files of the process.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use common::{server::Server, *};
use libwebrtc::{prelude::*, testing::alive_tasks};
use str0m::net::Protocol;

const ROUNDS: usize = 300;

fn files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Counts the listeners that are alive: each owns a marker.
struct Marker(Arc<AtomicUsize>);

impl Marker {
    fn new(n: &Arc<AtomicUsize>) -> Marker {
        n.fetch_add(1, SeqCst);
        Marker(n.clone())
    }
}

impl Drop for Marker {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// Every listener owns the connection, or the channel, that it listens to.
fn listen(p: &Peer, dc: &DataChannel, listeners: &Arc<AtomicUsize>) {
    let (m, pc) = (Marker::new(listeners), p.pc.clone());
    p.pc.on_negotiation_needed(Some(Box::new(move |_| {
        let _owned = (&m, &pc);
    })));
    let (m, own) = (Marker::new(listeners), dc.clone());
    dc.on_message(Some(Box::new(move |_| {
        let _owned = (&m, &own);
    })));
    let (m, own) = (Marker::new(listeners), dc.clone());
    dc.on_state_change(Some(Box::new(move |_| {
        let _owned = (&m, &own);
    })));
}

/// The life of one connection, which ends at one of several stages.
async fn live(round: usize, server: &Server, listeners: &Arc<AtomicUsize>) {
    let (mut a, mut b) = (peer(), peer());
    let dc = a.pc.create_data_channel("x", reliable()).unwrap();
    listen(&a, &dc, listeners);
    match round % 6 {
        0 => {} // nothing happened yet
        1 => {
            let offer = a.pc.create_offer(OfferOptions::default()).await.unwrap();
            a.pc.set_local_description(offer).await.unwrap();
        }
        // In the middle of connecting.
        2 => {
            negotiate(&a, &b, OfferOptions::default()).await;
        }
        3 => {
            server.answer(&a.pc, OfferOptions::default(), Protocol::Udp, None).await;
            tokio::task::yield_now().await;
        }
        4 => {
            negotiate(&a, &b, OfferOptions::default()).await;
            connected(&mut a).await;
        }
        _ => {
            negotiate(&a, &b, OfferOptions::default()).await;
            connected(&mut a).await;
            connected(&mut b).await;
            let far = soon("channel", b.channels.recv()).await.unwrap();
            listen(&b, &far, listeners);
            open(&[&dc, &far]).await;
            negotiate(&b, &a, OfferOptions { ice_restart: true, ..Default::default() }).await;
        }
    }
    // Either side closes first.
    if round.is_multiple_of(2) {
        a.pc.close();
    }
    b.pc.close();
    a.pc.close();
    assert_eq!(a.pc.connection_state(), PeerConnectionState::Closed);
}

#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_connections_leave_nothing_behind() {
    let listeners = Arc::new(AtomicUsize::new(0));
    let server = Server::start().await;
    for round in 0..6 {
        live(round, &server, &listeners).await; // allocates what the process needs once
    }
    until("end of all tasks", || alive_tasks() == 0).await;
    let before = files();
    let mut most = 0;
    for round in 0..ROUNDS {
        live(round, &server, &listeners).await;
        most = most.max(alive_tasks());
        server.run(|s| s.rtcs.clear()).await;
    }
    until("end of all tasks", || alive_tasks() == 0).await;
    until("freed listeners", || listeners.load(SeqCst) == 0).await;
    assert!(most < 20, "{most} tasks at once");
    assert!(files() <= before, "{} files open, {before} before", files());

    // The same when the handles are only dropped.
    for _ in 0..20 {
        drop(pair().await);
    }
    until("end of all tasks", || alive_tasks() == 0).await;
    assert!(files() <= before, "{} files open, {before} before", files());
}
