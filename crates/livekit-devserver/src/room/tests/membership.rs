//! Joining, leaving, and the room's own end.

use super::*;
use crate::room::Cmd;

#[tokio::test(start_paused = true)]
async fn a_room_without_callers_closes_after_its_empty_timeout_with_or_without_agents() {
    let hub = hub(|c| c.empty_timeout = 30 * SECOND).await;
    let start = Instant::now();
    let room = hub.open_room("r", Default::default());
    let mut agent = Guest::join(&room, agent("agent")).await;
    tokio::time::sleep(10 * SECOND).await;
    agent.heard().await;
    tokio::time::sleep(15 * SECOND).await;
    agent.heard().await;
    assert_eq!(agent.goodbye().await, Why::RoomClosed);
    within(start, 30.0, 30.2);
    assert_eq!(hub.room_names(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_room_outlives_every_departure_by_its_departure_timeout() {
    let hub = hub(|c| c.silence_limit = 600 * SECOND).await;
    let config = lk::RoomConfiguration { departure_timeout: 10, ..Default::default() };
    let room = hub.open_room("r", config);
    let alice = Guest::join(&room, claims("alice")).await;
    let first = Guest::join(&room, agent("first")).await;
    let mut second = Guest::join(&room, agent("second")).await;
    tokio::time::sleep(60 * SECOND).await;
    alice.act(|r, key| r.remove(key, Why::ClientInitiated)).await;
    tokio::time::sleep(8 * SECOND).await;
    first.act(|r, key| r.remove(key, Why::ClientInitiated)).await;
    let start = Instant::now();
    assert_eq!(second.goodbye().await, Why::RoomClosed);
    within(start, 10.0, 10.2);
}

#[tokio::test(start_paused = true)]
async fn timeouts_can_be_shorter_than_a_second() {
    let hub = hub(|c| c.departure_timeout = Duration::from_millis(200)).await;
    let room = hub.open_room("r", Default::default());
    let alice = Guest::join(&room, claims("alice")).await;
    let mut agent = Guest::join(&room, agent("agent")).await;
    alice.act(|r, key| r.remove(key, Why::ClientInitiated)).await;
    let start = Instant::now();
    agent.goodbye().await;
    within(start, 0.2, 0.35);
}

#[tokio::test(start_paused = true)]
async fn a_deleted_room_sends_a_goodbye_and_no_departures_of_others() {
    let hub = hub(|_| {}).await;
    let room = hub.open_room("r", Default::default());
    let alice = Guest::join(&room, claims("alice")).await;
    alice.publish("TR_a").await;
    let mut bob = Guest::join(&room, claims("bob")).await;
    bob.seen(Some);
    alice.act(|r, _| r.close(Why::RoomDeleted)).await;
    let last: Vec<Out> = bob.seen(Some);
    assert!(last.iter().all(|m| !matches!(m, Out::Update(_))), "{last:?}");
    assert!(
        matches!(last.last(), Some(Out::Leave(l)) if l.reason == Why::RoomDeleted as i32),
        "{last:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_same_identity_again_replaces_the_old_one_and_others_see_only_the_new_sid() {
    let hub = hub(|_| {}).await;
    let room = hub.open_room("r", Default::default());
    let mut alice = Guest::join(&room, claims("alice")).await;
    let mut old = Guest::join(&room, claims("bob")).await;
    tokio::time::sleep(4 * SECOND).await;
    alice.seen(Some);
    let start = Instant::now();
    let new = Guest::join(&room, claims("bob")).await;
    assert_eq!(old.goodbye().await, Why::DuplicateIdentity);
    let announced = alice
        .wait(|m| match m {
            Out::Update(u) => Some(u.participants),
            _ => None,
        })
        .await;
    within(start, 0.0, 0.1);
    assert_eq!(
        (announced[0].sid.as_str(), announced[0].state),
        (new.sid.as_str(), State::Joined as i32)
    );
}

#[tokio::test(start_paused = true)]
async fn a_full_room_lets_only_agents_in() {
    let hub = hub(|_| {}).await;
    let config = lk::RoomConfiguration { max_participants: 1, ..Default::default() };
    let room = hub.open_room("r", config);
    let alice = Guest::join(&room, claims("alice")).await;
    let _agent = Guest::join(&room, agent("agent")).await;
    assert_eq!(try_join(&room, claims("bob")).await.0.err(), Some(Why::JoinFailure));
    alice.act(|r, key| r.remove(key, Why::ClientInitiated)).await;
    assert!(try_join(&room, claims("bob")).await.0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_silent_participant_is_given_up_after_21_seconds() {
    let hub = hub(|_| {}).await;
    let room = hub.open_room("r", Default::default());
    let mut alice = Guest::join(&room, claims("alice")).await;
    let bob = Guest::join(&room, claims("bob")).await;
    tokio::time::sleep(5 * SECOND).await;
    bob.heard().await;
    let died = Instant::now();
    for _ in 0..20 {
        tokio::time::sleep(SECOND).await;
        alice.heard().await;
    }
    let departures = alice.seen(|m| match m {
        Out::Update(u) => {
            u.participants.into_iter().find(|p| p.state == State::Disconnected as i32)
        }
        _ => None,
    });
    assert!(departures.is_empty(), "{departures:?}");
    assert_eq!(alice.update_about("bob").await, (State::Disconnected, Why::ConnectionTimeout));
    // Bob published nothing, so the departure comes with the batch.
    within(died, 21.0, 24.2);
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_connection_never_comes_up_fails_to_join() {
    let hub = hub(|_| {}).await;
    let room = hub.open_room("r", Default::default());
    let start = Instant::now();
    let (entered, inbox) = try_join(&room, claims("alice")).await;
    let mut alice = Guest { room, inbox, key: entered.unwrap().0, sid: String::new() };
    assert_eq!(alice.goodbye().await, Why::JoinFailure);
    within(start, 60.0, 60.6);
}

#[tokio::test(start_paused = true)]
async fn a_resume_needs_a_session_that_is_still_there_and_silences_the_old_socket() {
    let hub = hub(|_| {}).await;
    let room = hub.open_room("r", Default::default());
    let alice = Guest::join(&room, claims("alice")).await;
    let (out, mut inbox) = outbox::channel(100);
    let (unknown, sid) = (out.clone(), alice.sid.clone());
    assert_eq!(alice.act(move |r, _| r.resume("PA_unknown", unknown)).await, None);
    let (key, conn) = alice.act(move |r, _| r.resume(&sid, out)).await.unwrap();
    assert_eq!((key, conn), (alice.key, 2));
    assert!(matches!(inbox.rx.recv().await, Some(Out::Reconnect(_))));
    let late = lk::signal_request::Message::Leave(lk::LeaveRequest::default());
    room.send(Cmd::Signal { key, conn: 1, message: Box::new(late) }).await.unwrap();
    room.send(Cmd::SignalClosed { key, conn: 1 }).await.unwrap();
    assert!(alice.act(|r, key| r.participants.get(&key).is_some_and(|p| p.out.is_some())).await);
}
