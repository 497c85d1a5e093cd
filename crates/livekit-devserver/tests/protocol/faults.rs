//! The faults that tests can cause, and how clients react.

use std::time::{Duration, Instant};

use livekit::RoomEvent;
use livekit_devserver::{FaultError, Refuse, proto as lk};

use crate::{
    raw::{Signal, Worker, registration, websocket},
    support::{Client, caller, server, server_with, until},
};

async fn reconnected(client: &mut Client) {
    client.wait("the reconnection", |e| matches!(e, RoomEvent::Reconnected).then_some(())).await;
}

#[tokio::test]
async fn a_cut_signal_is_resumed_within_the_same_session() {
    let server = server().await;
    for single in [true, false] {
        let mut alice = Client::join_with(&server, caller(&server, "alice"), single).await;
        let mut bob = Client::join(&server, caller(&server, "bob")).await;
        alice.sees_join("bob").await;
        let sid = alice.room.local_participant().sid();
        server.cut_signal("r", "alice", Refuse::Nothing).await.unwrap();
        reconnected(&mut alice).await;
        assert_eq!(alice.room.local_participant().sid(), sid);
        bob.send("t", "after", &[]).await;
        assert_eq!(alice.data("t").await.0, "after");
        alice.send("t", "too", &[]).await;
        assert_eq!(bob.data("t").await.0, "too");
        let gone = bob.seen(|e| matches!(e, RoomEvent::ParticipantDisconnected(_)).then_some(()));
        assert!(gone.is_empty(), "alice's departure was not announced");
        alice.leave().await;
        bob.leave().await;
    }
}

#[tokio::test]
async fn a_client_whose_resume_is_refused_comes_back_with_a_new_sid() {
    let server = server().await;
    let mut alice = Client::join(&server, caller(&server, "alice")).await;
    let sid = alice.room.local_participant().sid();
    server.cut_signal("r", "alice", Refuse::Next(2)).await.unwrap();
    reconnected(&mut alice).await;
    assert_ne!(alice.room.local_participant().sid(), sid);
    assert_eq!(server.participants("r").await.len(), 1);
}

#[tokio::test]
async fn a_cut_comes_without_a_close_frame() {
    let server = server().await;
    let mut raw = Signal::dual(&server, &caller(&server, "raw")).await;
    raw.joined().await;
    server.cut_signal("r", "raw", Refuse::Nothing).await.unwrap();
    assert_eq!(raw.end().await, None);
    server.refuse("r", "raw", Refuse::For(Duration::from_millis(300))).unwrap();
    let url = format!("{}/rtc", server.url());
    let jwt = caller(&server, "raw").to_jwt().unwrap();
    assert_eq!(websocket(&url, &jwt).await.unwrap_err().0, 503);
    until("it is let in again", async || websocket(&url, &jwt).await.ok()).await;
}

#[tokio::test]
async fn an_unknown_session_cannot_be_resumed() {
    let server = server().await;
    let _alice = Client::join(&server, caller(&server, "alice")).await;
    let mut stranger = Signal::resume(&server, &caller(&server, "stranger"), "PA_none").await;
    let leave = stranger.goodbye().await;
    assert_eq!(leave.reason(), lk::DisconnectReason::StateMismatch);
    assert_eq!(leave.action(), lk::leave_request::Action::Reconnect);
    assert_eq!(server.participants("r").await.len(), 1);
}

#[tokio::test]
async fn a_restarted_server_is_found_again_on_the_same_port() {
    let server = server().await;
    let url = server.url();
    let mut alice = Client::join(&server, caller(&server, "alice")).await;
    let room = alice.room.sid().await;
    let worker = Worker::register(&server, registration("bot")).await;
    server.restart(Duration::from_millis(300)).await.unwrap();
    assert_eq!(server.url(), url);
    assert!(server.workers().is_empty(), "workers are forgotten");
    worker.closed().await;
    reconnected(&mut alice).await;
    assert_ne!(alice.room.sid().await, room, "it is another room");
    let mut bob = Client::join(&server, caller(&server, "bob")).await;
    alice.send("t", "hello", &[]).await;
    assert_eq!(bob.data("t").await.0, "hello");
}

#[tokio::test]
async fn while_the_server_is_down_clients_and_faults_are_refused() {
    let server = server().await;
    let restart = server.restart(Duration::from_millis(500));
    let look = async {
        until("it is down", async || {
            (server.lose_packets(0.0, 0.0) == Err(FaultError::Down)).then_some(())
        })
        .await;
        let address = server.url().trim_start_matches("ws://").to_owned();
        assert!(tokio::net::TcpStream::connect(address).await.is_err());
    };
    let (back, ()) = tokio::join!(restart, look);
    back.unwrap();
    Client::join(&server, caller(&server, "alice")).await;
}

#[tokio::test]
async fn a_frozen_server_answers_late_and_loses_no_participant() {
    let server = server().await;
    let alice = Client::join(&server, caller(&server, "alice")).await;
    let mut bob = Client::join(&server, caller(&server, "bob")).await;
    let start = Instant::now();
    let freeze = server.freeze(Duration::from_millis(700));
    let talk = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        alice.send("t", "late", &[]).await;
        bob.data("t").await;
        start.elapsed()
    };
    let (frozen, arrived) = tokio::join!(freeze, talk);
    frozen.unwrap();
    assert!(arrived >= Duration::from_millis(650), "{arrived:?}");
    assert_eq!(server.participants("r").await.len(), 2);
}

#[tokio::test]
async fn a_dropped_participant_has_left_for_others_and_rejoins_by_itself() {
    let server = server().await;
    let mut alice = Client::join(&server, caller(&server, "alice")).await;
    let mut bob = Client::join(&server, caller(&server, "bob")).await;
    alice.sees_join("bob").await;
    let sid = bob.room.local_participant().sid();
    server.drop_participant("r", "bob", lk::DisconnectReason::ConnectionTimeout).await.unwrap();
    reconnected(&mut bob).await;
    alice.sees_join("bob").await;
    assert_ne!(bob.room.local_participant().sid(), sid);

    let mut raw = Signal::dual(&server, &caller(&server, "raw")).await;
    raw.joined().await;
    let update = lk::UpdateParticipantMetadata { metadata: "x".into(), ..Default::default() };
    raw.send(lk::signal_request::Message::UpdateMetadata(update)).await;
    alice.sees_join("raw").await;
    server.drop_participant("r", "raw", lk::DisconnectReason::AgentError).await.unwrap();
    assert_eq!(alice.sees_leave("raw").await, "AgentError");
    assert_eq!(raw.end().await, None, "it gets no goodbye");
}

#[tokio::test]
async fn a_rooms_sid_can_be_kept_from_a_client() {
    let server = server().await;
    server.hide_sids(1).unwrap();
    let mut alice = Signal::dual(&server, &caller(&server, "alice")).await;
    let sid = async |client: &mut Signal| client.joined().await.room.unwrap().sid;
    assert_eq!(sid(&mut alice).await, "");
    let mut bob = Signal::dual(&server, &caller(&server, "bob")).await;
    assert!(sid(&mut bob).await.starts_with("RM_"), "the next client sees the sid");
}

#[tokio::test]
async fn a_client_whose_packets_are_lost_is_removed() {
    let server = server_with(|c| c.silence_limit = Duration::from_millis(1500)).await;
    let mut alice = Signal::dual(&server, &caller(&server, "alice")).await;
    alice.joined().await;
    let _bob = Client::join(&server, caller(&server, "bob")).await;
    server.lose_packets(1.0, 1.0).unwrap();
    let gone = alice.wait("bob's leaving", |m| match m {
        lk::signal_response::Message::Update(u) => u
            .participants
            .iter()
            .find(|p| p.identity == "bob" && p.state() == lk::participant_info::State::Disconnected)
            .map(lk::ParticipantInfo::disconnect_reason),
        _ => None,
    });
    assert_eq!(gone.await, lk::DisconnectReason::ConnectionTimeout);
}

#[tokio::test]
async fn data_survive_a_lossy_network() {
    let server = server().await;
    let alice = Client::join(&server, caller(&server, "alice")).await;
    let mut bob = Client::join(&server, caller(&server, "bob")).await;
    // Messages wait only two seconds for a channel, and on a lossy network it may take longer to open.
    bob.ready(&alice).await;
    server.lose_packets(0.1, 0.1).unwrap();
    for n in 0..40 {
        alice.send("n", &n.to_string(), &[]).await;
    }
    for n in 0..40 {
        assert_eq!(bob.data("n").await.0, n.to_string());
    }
}

#[tokio::test]
async fn a_client_that_connects_by_tcp_only_works_the_same() {
    let server = server_with(|c| c.udp = false).await;
    let alice = Client::join(&server, caller(&server, "alice")).await;
    let mut bob = Client::join_with(&server, caller(&server, "bob"), false).await;
    alice.send("t", "by tcp", &[]).await;
    assert_eq!(bob.data("t").await.0, "by tcp");
}

#[tokio::test]
async fn without_single_mode_clients_fall_back_to_dual() {
    let server = server_with(|c| c.single_peer_connection = false).await;
    let alice = Client::join(&server, caller(&server, "alice")).await;
    let mut bob = Client::join(&server, caller(&server, "bob")).await;
    alice.send("t", "hello", &[]).await;
    assert_eq!(bob.data("t").await.0, "hello");
}

#[tokio::test]
async fn a_shutdown_sends_goodbyes_and_frees_the_port() {
    let server = server().await;
    let address = server.url().trim_start_matches("ws://").to_owned();
    let mut raw = Signal::dual(&server, &caller(&server, "raw")).await;
    raw.joined().await;
    let (leave, ()) = tokio::join!(raw.goodbye(), server.shutdown());
    assert_eq!(leave.reason(), lk::DisconnectReason::ServerShutdown);
    std::net::TcpListener::bind(address).expect("the port is free");
}

#[tokio::test]
async fn dropping_the_handle_stops_the_server() {
    let server = server().await;
    let address = server.url().trim_start_matches("ws://").to_owned();
    let mut raw = Signal::dual(&server, &caller(&server, "raw")).await;
    raw.joined().await;
    drop(server);
    assert_eq!(raw.end().await, None);
    until("the port is free", async || std::net::TcpListener::bind(&address).ok()).await;
}
