//! Sound: publishing, forwarding, speakers, mutes, quality.

use std::time::Duration;

use livekit_devserver::proto::{
    self as lk, signal_request::Message as In, signal_response::Message as Out,
};

use crate::{
    phone::{Listener, Microphone, Sound},
    raw::Signal,
    support::{agent, caller, server, server_with},
};

const LOUD: Sound = Sound::Level(-15);
const QUIET: Sound = Sound::Level(-60);

/// Picks the first report about `sid`: whether it speaks.
fn speaks(sid: &str) -> impl FnMut(&Out) -> Option<bool> {
    move |m| match m {
        Out::SpeakersChanged(s) => s.speakers.iter().find(|s| s.sid == sid).map(|s| s.active),
        _ => None,
    }
}

/// Waits until the server reports `sid` as speaking, or as silent.
async fn reported(signal: &mut Signal, sid: &str, active: bool) {
    let mut speaks = speaks(sid);
    signal.wait("the speaker", |m| speaks(m).filter(|a| *a == active)).await;
}

fn track_of(m: &Out, identity: &str) -> Option<lk::TrackInfo> {
    let Out::Update(update) = m else { return None };
    update.participants.iter().find(|p| p.identity == identity)?.tracks.first().cloned()
}

#[tokio::test]
async fn a_microphone_is_announced_heard_and_reported_as_speaking() {
    let server = server().await;
    let mut bob = Listener::join(&server, &caller(&server, "bob")).await;
    bob.negotiate().await;
    let mut alice = Microphone::publish(&server, &caller(&server, "alice"), LOUD).await;
    let track = bob.signal.wait("alice's track", |m| track_of(m, "alice")).await;
    assert_eq!((&track.sid, track.name.as_str(), track.muted), (&alice.track, "mic", false));
    bob.negotiate().await;
    bob.hears(30).await;
    let sid = alice.sid.clone();
    reported(&mut bob.signal, &sid, true).await;
    reported(&mut alice.signal, &sid, true).await;
    alice.set(QUIET);
    reported(&mut bob.signal, &sid, false).await;
    alice.set(LOUD);
    reported(&mut bob.signal, &sid, true).await;
    alice.set(Sound::Nothing);
    reported(&mut bob.signal, &sid, false).await;
}

#[tokio::test]
async fn a_publisher_is_notified_of_its_first_visible_subscriber_and_of_no_hidden_one() {
    let server = server().await;
    let mut ghost = Listener::join(&server, &agent(&server, "ghost", true)).await;
    ghost.negotiate().await;
    let mut alice = Microphone::publish(&server, &caller(&server, "alice"), LOUD).await;
    ghost.negotiate().await;
    ghost.hears(5).await;
    // The pong comes after all earlier messages.
    alice.signal.send(In::PingReq(lk::Ping { timestamp: 1, rtt: 0 })).await;
    alice.signal.wait("a pong", |m| matches!(m, Out::PongResp(_)).then_some(())).await;
    let notices = |m| matches!(m, Out::TrackSubscribed(_)).then_some(());
    assert!(alice.signal.passed(notices).is_empty());
    let _bob = Signal::dual(&server, &caller(&server, "bob")).await;
    let notice = alice.signal.wait("the notice", |m| match m {
        Out::TrackSubscribed(t) => Some(t.track_sid.clone()),
        _ => None,
    });
    assert_eq!(notice.await, alice.track);
}

#[tokio::test]
async fn a_switched_off_subscription_brings_no_sound_but_still_reports_speakers() {
    let server = server().await;
    let mut bob = Listener::join(&server, &caller(&server, "bob")).await;
    bob.negotiate().await;
    let alice = Microphone::publish(&server, &caller(&server, "alice"), QUIET).await;
    bob.negotiate().await;
    bob.hears(5).await;
    let off = lk::UpdateTrackSettings {
        track_sids: vec![alice.track.clone()],
        disabled: true,
        ..Default::default()
    };
    bob.signal.send(In::TrackSetting(off)).await;
    bob.signal.send(In::PingReq(lk::Ping { timestamp: 1, rtt: 0 })).await;
    bob.signal.wait("a pong", |m| matches!(m, Out::PongResp(_)).then_some(())).await;
    alice.set(LOUD);
    reported(&mut bob.signal, &alice.sid, true).await;
    let heard = bob.heard();
    alice.set(QUIET);
    reported(&mut bob.signal, &alice.sid, false).await;
    // Packets that were under way when it was switched off may have arrived before the first of the two
    // reports.
    assert_eq!(bob.heard(), heard);
}

#[tokio::test]
async fn without_a_subscription_no_speakers_are_reported() {
    let server = server().await;
    let mut alice = Microphone::publish(&server, &caller(&server, "alice"), QUIET).await;
    let mut bob = Signal::dual(&server, &caller(&server, "bob")).await;
    bob.joined().await;
    let track = async |m: &mut Signal| m.wait("alice's track", |m| track_of(m, "alice")).await;
    let sid = alice.sid.clone();
    track(&mut alice.signal).await;
    let none = lk::UpdateSubscription {
        track_sids: vec![alice.track.clone()],
        subscribe: false,
        ..Default::default()
    };
    bob.send(In::Subscription(none)).await;
    bob.send(In::PingReq(lk::Ping { timestamp: 1, rtt: 0 })).await;
    bob.wait("a pong", |m| matches!(m, Out::PongResp(_)).then_some(())).await;
    bob.passed(Some);
    alice.set(LOUD);
    reported(&mut alice.signal, &sid, true).await;
    bob.send(In::PingReq(lk::Ping { timestamp: 2, rtt: 0 })).await;
    bob.wait("a pong", |m| matches!(m, Out::PongResp(_)).then_some(())).await;
    let mut speaks = speaks(&sid);
    assert_eq!(bob.passed(|m| speaks(&m)), Vec::<bool>::new());
}

#[tokio::test]
async fn a_mute_by_the_owner_or_by_the_api_is_announced() {
    let server = server().await;
    let mut bob = Signal::dual(&server, &caller(&server, "bob")).await;
    bob.joined().await;
    let mut alice = Microphone::publish(&server, &caller(&server, "alice"), LOUD).await;
    let muted = |m: &Out| track_of(m, "alice").filter(|t| t.muted).map(|_| ());
    let audible = |m: &Out| track_of(m, "alice").filter(|t| !t.muted).map(|_| ());
    bob.wait("the track", audible).await;
    let mute = |muted| In::Mute(lk::MuteTrackRequest { sid: alice.track.clone(), muted });
    let (on, off) = (mute(true), mute(false));
    alice.signal.send(on).await;
    bob.wait("the mute", muted).await;
    alice.signal.send(off).await;
    bob.wait("the end of the mute", audible).await;
    let api = livekit_api::services::room::RoomClient::with_api_key(
        &server.http_url(),
        server.api_key(),
        server.api_secret(),
    );
    let track = api.mute_published_track("r", "alice", &alice.track, true).await.unwrap();
    assert!(track.muted);
    bob.wait("the mute by the api", muted).await;
    let order = alice.signal.wait("the order", |m| match m {
        Out::Mute(m) => Some(m.muted),
        _ => None,
    });
    assert!(order.await);
    let unmute = api.mute_published_track("r", "alice", &alice.track, false).await;
    assert!(unmute.is_err(), "the API cannot unmute a client's microphone");
}

#[tokio::test]
async fn a_dead_microphone_has_quality_lost_for_its_subscribers_and_is_then_removed() {
    let server = server_with(|c| {
        c.quality_interval = Duration::from_millis(200);
        c.quality_lost_after = Duration::from_millis(600);
        c.silence_limit = Duration::from_secs(3);
    })
    .await;
    let mut bob = Listener::join(&server, &caller(&server, "bob")).await;
    bob.negotiate().await;
    let alice = Microphone::publish(&server, &caller(&server, "alice"), QUIET).await;
    bob.negotiate().await;
    bob.hears(5).await;
    let sid = alice.sid.clone();
    let quality = |wanted: lk::ConnectionQuality| {
        let sid = sid.clone();
        move |m: &Out| match m {
            Out::ConnectionQuality(u) => u
                .updates
                .iter()
                .find(|i| i.participant_sid == sid && i.quality() == wanted)
                .map(|_| ()),
            _ => None,
        }
    };
    bob.signal.wait("EXCELLENT", quality(lk::ConnectionQuality::Excellent)).await;
    alice.die();
    bob.signal.wait("LOST", quality(lk::ConnectionQuality::Lost)).await;
    let gone = bob.signal.wait("the end", |m| match m {
        Out::Update(u) => {
            u.participants.iter().find(|p| p.sid == sid).map(lk::ParticipantInfo::disconnect_reason)
        }
        _ => None,
    });
    assert_eq!(gone.await, lk::DisconnectReason::ConnectionTimeout);
}
