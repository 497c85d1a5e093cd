//! Which participant gets which update, and when.

use super::*;
use crate::room::updates::Urgency;

#[tokio::test(start_paused = true)]
async fn participants_without_tracks_are_announced_in_batches_of_three_seconds() {
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
async fn a_publisher_is_announced_at_once() {
    let hub = hub(|_| {}).await;
    let room = hub.open_room("r", Default::default());
    let mut alice = Guest::join(&room, claims("alice")).await;
    let bob = Guest::join(&room, claims("bob")).await;
    let start = Instant::now();
    bob.publish("TR_b").await;
    bob.act(|r, key| r.announce(key, Urgency::Batched)).await;
    alice.update_about("bob").await;
    within(start, 0.0, 0.1);
    bob.act(|r, key| r.remove(key, Why::ClientInitiated)).await;
    assert_eq!(alice.update_about("bob").await, (State::Disconnected, Why::ClientInitiated));
    within(start, 0.0, 0.1);
}

#[tokio::test(start_paused = true)]
async fn a_changed_attribute_is_announced_at_once_and_empties_the_batch() {
    let hub = hub(|_| {}).await;
    let room = hub.open_room("r", Default::default());
    let mut alice = Guest::join(&room, claims("alice")).await;
    let bob = Guest::join(&room, claims("bob")).await;
    let start = Instant::now();
    let change =
        |v: &str| Change { attributes: [("k".into(), v.into())].into(), ..Default::default() };
    let set = change("v");
    bob.act(move |r, key| r.change(key, set)).await.unwrap();
    alice.update_about("bob").await;
    within(start, 0.0, 0.1);
    tokio::time::sleep(4 * SECOND).await;
    let again: Vec<String> =
        alice.seen(identities).into_iter().flatten().filter(|i| i == "bob").collect();
    assert!(again.is_empty(), "not announced again with the batch");
    let delete = change("");
    bob.act(move |r, key| r.change(key, delete)).await.unwrap();
    let left = bob.act(|r, key| r.participants[&key].info.attributes.clone()).await;
    assert!(left.is_empty(), "an empty value deletes: {left:?}");
}

#[tokio::test(start_paused = true)]
async fn a_visit_shorter_than_a_batch_is_announced_only_as_a_departure() {
    let hub = hub(|_| {}).await;
    let room = hub.open_room("r", Default::default());
    let mut alice = Guest::join(&room, claims("alice")).await;
    let bob = Guest::join(&room, claims("bob")).await;
    bob.act(|r, key| r.remove(key, Why::ClientInitiated)).await;
    assert_eq!(alice.update_about("bob").await, (State::Disconnected, Why::ClientInitiated));
}

#[tokio::test(start_paused = true)]
async fn hidden_guests_see_others_and_are_not_seen() {
    let hub = hub(|_| {}).await;
    let room = hub.open_room("r", Default::default());
    let mut alice = Guest::join(&room, claims("alice")).await;
    let mut ghost = Guest::join(&room, hidden("ghost")).await;
    let mut bob = Guest::join(&room, claims("bob")).await;
    ghost.update_about("bob").await;
    ghost.act(|r, key| r.remove(key, Why::ClientInitiated)).await;
    bob.publish("TR_b").await;
    bob.act(|r, key| r.announce(key, Urgency::AtOnce)).await;
    tokio::time::sleep(7 * SECOND).await;
    for guest in [&mut alice, &mut bob] {
        let announced: Vec<String> = guest.seen(identities).into_iter().flatten().collect();
        assert!(
            announced.contains(&"bob".into()) && !announced.contains(&"ghost".into()),
            "{announced:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn quality_is_sent_to_subscribers_and_climbs_back_step_by_step() {
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
async fn changed_counts_are_sent_within_five_seconds_and_agents_do_not_count() {
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
    assert_eq!(alice.act(wants).await, 1, "a client with auto-subscribe subscribes again");
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
