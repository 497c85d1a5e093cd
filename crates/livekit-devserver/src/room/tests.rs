//! A room without a network: guests whose websocket is a queue, on paused time.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{sync::Arc, time::Duration};

use livekit_protocol::{
    self as lk, ConnectionQuality, DisconnectReason as Why, participant_info::State,
    signal_response::Message as Out,
};
use tokio::time::Instant;

use super::{Room, RoomSender, membership::Entered, track::Track};
use crate::{
    clock::wall_ms,
    config::{Config, DEV_KEY},
    hub::{Hub, ask},
    net::Net,
    outbox::{self, Inbox},
    participant::Join,
    signal::Change,
    token::{Claims, Video},
};

const SECOND: Duration = Duration::from_secs(1);

async fn hub(change: impl FnOnce(&mut Config)) -> Arc<Hub> {
    let mut config = Config::default();
    change(&mut config);
    Hub::new(config, Arc::new(Net::for_tests().await))
}

struct Guest {
    room: RoomSender,
    inbox: Inbox<Out>,
    key: u64,
    sid: String,
}

fn claims(identity: &str) -> Claims {
    let video = Video { room_join: true, room: "r".into(), ..Default::default() };
    let exp = wall_ms() as u64 / 1000 + 600;
    Claims { iss: DEV_KEY.into(), sub: identity.into(), exp, video, ..Default::default() }
}

fn agent(identity: &str) -> Claims {
    Claims { kind: "agent".into(), ..claims(identity) }
}

fn hidden(identity: &str) -> Claims {
    Claims { video: Video { hidden: true, ..claims(identity).video }, ..agent(identity) }
}

async fn try_join(room: &RoomSender, claims: Claims) -> (Result<Entered, Why>, Inbox<Out>) {
    let (out, inbox) = outbox::channel(outbox::QUEUE);
    let join = Join {
        claims,
        out,
        single: true,
        auto_subscribe: true,
        client: lk::ClientInfo::default(),
        offer: None,
        add_tracks: vec![],
        attributes: Default::default(),
        metadata: String::new(),
    };
    (ask(room, move |r| r.join(join)).await.unwrap(), inbox)
}

impl Guest {
    /// Joins and has its connection up.
    async fn join(room: &RoomSender, claims: Claims) -> Guest {
        let (entered, inbox) = try_join(room, claims).await;
        let (key, _) = entered.unwrap();
        let mut guest = Guest { room: room.clone(), inbox, key, sid: String::new() };
        guest.sid = guest
            .wait(|m| match m {
                Out::Join(j) => j.participant.map(|p| p.sid),
                _ => None,
            })
            .await;
        guest
            .act(|r, key| {
                r.participants.get_mut(&key).unwrap().publisher.connected = true;
                r.connected(key, false);
            })
            .await;
        guest
    }

    async fn act<T: Send + 'static>(
        &self,
        f: impl FnOnce(&mut Room, u64) -> T + Send + 'static,
    ) -> T {
        let key = self.key;
        ask(&self.room, move |r| f(r, key)).await.unwrap()
    }

    /// As if packets of a microphone had come.
    async fn publish(&self, sid: &'static str) {
        self.act(move |r, key| {
            let info = lk::TrackInfo { sid: sid.into(), ..Default::default() };
            let p = r.participants.get_mut(&key).unwrap();
            p.info.is_publisher = true;
            p.tracks.push(Track::new(info));
            r.count();
        })
        .await;
    }

    /// As if packets came all the time until now.
    async fn heard(&self) {
        self.act(|r, key| {
            r.participants.get_mut(&key).unwrap().publisher.heard = crate::clock::now()
        })
        .await;
    }

    async fn wait<T>(&mut self, mut pick: impl FnMut(Out) -> Option<T>) -> T {
        let wait = async {
            loop {
                let message = self.inbox.rx.recv().await.expect("the connection has ended");
                if let Some(t) = pick(message) {
                    return t;
                }
            }
        };
        tokio::time::timeout(600 * SECOND, wait).await.expect("it never came")
    }

    /// State and reason of the next news about somebody.
    async fn news_of(&mut self, identity: &str) -> (State, Why) {
        self.wait(|m| match m {
            Out::Update(u) => u.participants.into_iter().find(|p| p.identity == identity),
            _ => None,
        })
        .await
        .pipe(|p| (State::try_from(p.state).unwrap(), Why::try_from(p.disconnect_reason).unwrap()))
    }

    async fn goodbye(&mut self) -> Why {
        self.wait(|m| match m {
            Out::Leave(l) => Why::try_from(l.reason).ok(),
            _ => None,
        })
        .await
    }

    /// What has come until now.
    fn seen<T>(&mut self, mut pick: impl FnMut(Out) -> Option<T>) -> Vec<T> {
        let mut all = vec![];
        while let Ok(message) = self.inbox.rx.try_recv() {
            all.extend(pick(message));
        }
        all
    }
}

trait Pipe: Sized {
    fn pipe<T>(self, f: impl FnOnce(Self) -> T) -> T {
        f(self)
    }
}
impl<T> Pipe for T {}

fn identities(message: Out) -> Option<Vec<String>> {
    match message {
        Out::Update(u) => Some(u.participants.into_iter().map(|p| p.identity).collect()),
        _ => None,
    }
}

fn within(since: Instant, from: f64, to: f64) {
    let passed = since.elapsed().as_secs_f64();
    assert!((from..=to).contains(&passed), "{passed} s, not {from}..{to} s");
}

#[tokio::test(start_paused = true)]
async fn those_who_publish_nothing_are_told_in_batches_of_three_seconds() {
    let hub = hub(|_| {}).await;
    let room = hub.open_room("r", Default::default());
    let opened = Instant::now();
    let mut alice = Guest::join(&room, claims("alice")).await;
    tokio::time::sleep(SECOND).await;
    let _bob = Guest::join(&room, claims("bob")).await;
    let _carol = Guest::join(&room, claims("carol")).await;
    let both = alice.wait(|m| identities(m).filter(|i| i.contains(&"bob".into()))).await;
    assert!(both.contains(&"carol".into()), "{both:?}");
    within(opened, 2.9, 3.2);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_is_told_at_once() {
    let hub = hub(|_| {}).await;
    let room = hub.open_room("r", Default::default());
    let mut alice = Guest::join(&room, claims("alice")).await;
    let bob = Guest::join(&room, claims("bob")).await;
    let start = Instant::now();
    bob.publish("TR_b").await;
    bob.act(|r, key| r.announce(key, super::telling::When::Batched)).await;
    alice.news_of("bob").await;
    within(start, 0.0, 0.1);
    bob.act(|r, key| r.remove(key, Why::ClientInitiated)).await;
    assert_eq!(alice.news_of("bob").await, (State::Disconnected, Why::ClientInitiated));
    within(start, 0.0, 0.1);
}

#[tokio::test(start_paused = true)]
async fn a_changed_attribute_is_told_at_once_and_empties_the_batch() {
    let hub = hub(|_| {}).await;
    let room = hub.open_room("r", Default::default());
    let mut alice = Guest::join(&room, claims("alice")).await;
    let bob = Guest::join(&room, claims("bob")).await;
    let start = Instant::now();
    let change =
        |v: &str| Change { attributes: [("k".into(), v.into())].into(), ..Default::default() };
    let set = change("v");
    bob.act(move |r, key| r.change(key, set)).await.unwrap();
    alice.news_of("bob").await;
    within(start, 0.0, 0.1);
    tokio::time::sleep(4 * SECOND).await;
    let again: Vec<String> =
        alice.seen(identities).into_iter().flatten().filter(|i| i == "bob").collect();
    assert!(again.is_empty(), "not told again with the batch");
    let delete = change("");
    bob.act(move |r, key| r.change(key, delete)).await.unwrap();
    let left = bob.act(|r, key| r.participants[&key].info.attributes.clone()).await;
    assert!(left.is_empty(), "an empty value deletes: {left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_visit_shorter_than_a_batch_is_never_seen() {
    let hub = hub(|_| {}).await;
    let room = hub.open_room("r", Default::default());
    let mut alice = Guest::join(&room, claims("alice")).await;
    let bob = Guest::join(&room, claims("bob")).await;
    bob.act(|r, key| r.remove(key, Why::ClientInitiated)).await;
    assert_eq!(alice.news_of("bob").await, (State::Disconnected, Why::ClientInitiated));
}

#[tokio::test(start_paused = true)]
async fn hidden_guests_see_and_are_not_seen() {
    let hub = hub(|_| {}).await;
    let room = hub.open_room("r", Default::default());
    let mut alice = Guest::join(&room, claims("alice")).await;
    let mut ghost = Guest::join(&room, hidden("ghost")).await;
    let mut bob = Guest::join(&room, claims("bob")).await;
    ghost.news_of("bob").await;
    ghost.act(|r, key| r.remove(key, Why::ClientInitiated)).await;
    bob.publish("TR_b").await;
    bob.act(|r, key| r.announce(key, super::telling::When::AtOnce)).await;
    tokio::time::sleep(7 * SECOND).await;
    for guest in [&mut alice, &mut bob] {
        let told: Vec<String> = guest.seen(identities).into_iter().flatten().collect();
        assert!(told.contains(&"bob".into()) && !told.contains(&"ghost".into()), "{told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_room_nobody_came_to_closes_after_its_empty_timeout_agents_or_not() {
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
async fn a_deleted_room_says_goodbye_and_nothing_of_the_others() {
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
    let told = alice
        .wait(|m| match m {
            Out::Update(u) => Some(u.participants),
            _ => None,
        })
        .await;
    within(start, 0.0, 0.1);
    assert_eq!((told[0].sid.as_str(), told[0].state), (new.sid.as_str(), State::Joined as i32));
}

#[tokio::test(start_paused = true)]
async fn a_full_room_lets_agents_in_and_nobody_else() {
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
    let told = alice.seen(|m| match m {
        Out::Update(u) => {
            u.participants.into_iter().find(|p| p.state == State::Disconnected as i32)
        }
        _ => None,
    });
    assert!(told.is_empty(), "{told:?}");
    assert_eq!(alice.news_of("bob").await, (State::Disconnected, Why::ConnectionTimeout));
    // He published nothing: the batch brings it.
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
    within(start, 60.0, 60.2);
}

#[tokio::test(start_paused = true)]
async fn quality_is_told_to_subscribers_and_climbs_back_step_by_step() {
    use ConnectionQuality::{Excellent, Good, Lost, Poor};
    let hub = hub(|c| c.silence_limit = 600 * SECOND).await;
    let room = hub.open_room("r", Default::default());
    let bob = Guest::join(&room, claims("bob")).await;
    bob.publish("TR_b").await;
    let mut subscriber = Guest::join(&room, hidden("subscriber")).await;
    let mut stranger = Guest::join(&room, hidden("stranger")).await;
    subscriber
        .act(|r, key| {
            r.subscribe(key, "TR_b");
            r.participants.get_mut(&key).unwrap().disabled.insert("TR_b".into());
        })
        .await;
    stranger.act(|r, key| r.unsubscribe(key, "TR_b")).await;
    let all_but_bob = async |beats: u32| {
        for _ in 0..beats {
            tokio::time::sleep(SECOND).await;
            subscriber.heard().await;
            stranger.heard().await;
        }
    };
    all_but_bob(16).await;
    for _ in 0..26 {
        bob.heard().await;
        all_but_bob(1).await;
    }
    let sid = bob.sid.clone();
    let of = |sid: String| {
        move |m: Out| match m {
            Out::ConnectionQuality(u) => {
                let info = u.updates.into_iter().find(|i| i.participant_sid == sid)?;
                ConnectionQuality::try_from(info.quality).ok()
            }
            _ => None,
        }
    };
    assert_eq!(subscriber.seen(of(sid.clone())), [Excellent, Lost, Poor, Good, Excellent]);
    assert_eq!(stranger.seen(of(sid)), [], "not without a subscription");
}

#[tokio::test(start_paused = true)]
async fn changed_counts_are_told_within_five_seconds_and_agents_do_not_count() {
    let hub = hub(|_| {}).await;
    let room = hub.open_room("r", Default::default());
    let mut alice = Guest::join(&room, claims("alice")).await;
    let _agent = Guest::join(&room, agent("agent")).await;
    let _bob = Guest::join(&room, claims("bob")).await;
    let start = Instant::now();
    let count = |m| match m {
        Out::RoomUpdate(u) => u.room.map(|r| r.num_participants),
        _ => None,
    };
    assert_eq!(alice.wait(count).await, 2);
    within(start, 0.0, 5.1);
    tokio::time::sleep(11 * SECOND).await;
    assert_eq!(alice.seen(count), Vec::<u32>::new(), "nothing has changed");
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
    room.send(super::Cmd::Signal { key, conn: 1, message: Box::new(late) }).await.unwrap();
    room.send(super::Cmd::SignalClosed { key, conn: 1 }).await.unwrap();
    assert!(alice.act(|r, key| r.participants.get(&key).is_some_and(|p| p.out.is_some())).await);
}

#[tokio::test(start_paused = true)]
async fn lost_rights_end_tracks_and_subscriptions() {
    let hub = hub(|_| {}).await;
    let room = hub.open_room("r", Default::default());
    let mut alice = Guest::join(&room, claims("alice")).await;
    let bob = Guest::join(&room, claims("bob")).await;
    alice.publish("TR_a").await;
    bob.publish("TR_b").await;
    alice.act(|r, key| r.subscribe(key, "TR_b")).await;
    bob.act(|r, key| r.subscribe(key, "TR_a")).await;
    let none =
        Change { permission: Some(lk::ParticipantPermission::default()), ..Default::default() };
    alice.act(move |r, key| r.change(key, none)).await.unwrap();
    let unpublished = |m| match m {
        Out::TrackUnpublished(t) => Some(t.track_sid),
        _ => None,
    };
    assert_eq!(alice.wait(unpublished).await, "TR_a");
    let wants = |r: &mut Room, key| r.participants[&key].wants.len();
    assert_eq!((alice.act(wants).await, bob.act(wants).await), (0, 0));
    let again = lk::ParticipantPermission { can_subscribe: true, ..Default::default() };
    let again = Change { permission: Some(again), ..Default::default() };
    alice.act(move |r, key| r.change(key, again)).await.unwrap();
    assert_eq!(alice.act(wants).await, 1, "who subscribes by itself does so again");
}

#[tokio::test(start_paused = true)]
async fn messages_wait_two_seconds_for_a_joiner_and_only_numbered_ones() {
    let hub = hub(|_| {}).await;
    let room = hub.open_room("r", Default::default());
    let alice = Guest::join(&room, claims("alice")).await;
    let send = async |sequence: u32| {
        let value = lk::data_packet::Value::User(lk::UserPacket::default());
        let packet = lk::DataPacket { sequence, value: Some(value), ..Default::default() };
        alice.act(move |r, _| r.deliver(None, &packet, false)).await;
    };
    let waiting = async || alice.act(|r, key| r.participants[&key].early.len()).await;
    send(0).await;
    assert_eq!(waiting().await, 0);
    send(1).await;
    tokio::time::sleep(SECOND).await;
    send(2).await;
    assert_eq!(waiting().await, 2);
    tokio::time::sleep(SECOND + Duration::from_millis(500)).await;
    send(3).await;
    assert_eq!(waiting().await, 2, "the first is older than two seconds");
}
