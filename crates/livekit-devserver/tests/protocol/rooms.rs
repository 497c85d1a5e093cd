//! Rooms and their participants, as clients see them.

use std::time::Duration;

use livekit::RoomEvent;
use livekit_api::access_token::VideoGrants;
use livekit_devserver::proto::{
    self as lk, signal_request::Message as In, signal_response::Message as Out,
};

use crate::{
    raw::Signal,
    support::{Client, agent, attributes, caller, grants, server, server_with, token, until},
};

#[tokio::test]
async fn attributes_metadata_and_name_are_seen_by_others() {
    let server = server().await;
    let mut alice = Client::join(&server, caller(&server, "alice")).await;
    let bob = Client::join(
        &server,
        caller(&server, "bob")
            .with_attributes(&attributes(&[("sip.callStatus", "ringing")]))
            .with_kind("sip"),
    )
    .await;
    let first = alice
        .wait("bob", |e| match e {
            RoomEvent::ParticipantConnected(p) => Some((p.attributes(), p.kind())),
            _ => None,
        })
        .await;
    assert_eq!(
        first,
        (attributes(&[("sip.callStatus", "ringing")]), livekit::participant::ParticipantKind::Sip)
    );
    let local = bob.room.local_participant();
    local.set_attributes(attributes(&[("sip.callStatus", "active")])).await.unwrap();
    let changed = alice
        .wait("the attribute", |e| match e {
            RoomEvent::ParticipantAttributesChanged { changed_attributes, .. } => {
                Some(changed_attributes)
            }
            _ => None,
        })
        .await;
    assert_eq!(changed, attributes(&[("sip.callStatus", "active")]));
    local.set_metadata("m".into()).await.unwrap();
    local.set_name("Bob".into()).await.unwrap();
    let name = alice
        .wait("the name", |e| match e {
            RoomEvent::ParticipantNameChanged { participant, name, .. } => {
                Some((participant.metadata(), name))
            }
            _ => None,
        })
        .await;
    assert_eq!(name, ("m".into(), "Bob".into()));
}

#[tokio::test]
async fn a_client_without_the_right_to_change_itself_is_refused() {
    let server = server().await;
    let token =
        token(&server, "bob", VideoGrants { can_update_own_metadata: Some(false), ..grants("r") });
    let mut bob = Signal::dual(&server, &token).await;
    bob.joined().await;
    let update = |attributes, request_id| {
        In::UpdateMetadata(lk::UpdateParticipantMetadata {
            attributes,
            request_id,
            ..Default::default()
        })
    };
    bob.send(update(attributes(&[("a", "b")]), 7)).await;
    let answer = |m: &Out| match m {
        Out::RequestResponse(r) => Some((r.request_id, r.reason())),
        _ => None,
    };
    assert_eq!(bob.wait("an answer", answer).await, (7, lk::request_response::Reason::NotAllowed));
    assert!(server.participants("r").await[0].attributes.is_empty());

    let mut alice = Signal::dual(&server, &caller(&server, "alice")).await;
    alice.joined().await;
    alice.send(update(attributes(&[("a", &"x".repeat(70_000))]), 8)).await;
    assert_eq!(
        alice.wait("an answer", answer).await,
        (8, lk::request_response::Reason::LimitExceeded)
    );
    alice.send(update(attributes(&[("a", "x")]), 9)).await;
    assert_eq!(alice.wait("an answer", answer).await, (9, lk::request_response::Reason::Ok));
}

#[tokio::test]
async fn hidden_clients_see_others_and_are_listed_but_not_seen() {
    let server = server().await;
    let mut alice = Client::join(&server, caller(&server, "alice")).await;
    let mut ghost = Client::join(&server, agent(&server, "ghost", true)).await;
    assert!(ghost.room.remote_participants().contains_key(&"alice".to_owned().into()));
    let _bob = Client::join(&server, caller(&server, "bob")).await;
    ghost.sees_join("bob").await;
    alice.sees_join("bob").await;
    assert!(!alice.room.remote_participants().contains_key(&"ghost".to_owned().into()));
    let mut listed: Vec<String> =
        server.participants("r").await.into_iter().map(|p| p.identity).collect();
    listed.sort();
    assert_eq!(listed, ["alice", "bob", "ghost"]);
}

#[tokio::test]
async fn a_departure_is_announced_with_the_reasons_that_are_accepted() {
    use lk::DisconnectReason as Why;
    let server = server().await;
    let mut alice = Client::join(&server, caller(&server, "alice")).await;
    let cases = [
        (Why::UserRejected, "UserRejected"),
        (Why::UserUnavailable, "UserUnavailable"),
        (Why::AgentError, "AgentError"),
        (Why::RoomDeleted, "ClientInitiated"),
        (Why::UnknownReason, "ClientInitiated"),
    ];
    for (i, (said, seen)) in cases.into_iter().enumerate() {
        let identity = format!("bob-{i}");
        let mut bob = Signal::dual(&server, &caller(&server, &identity)).await;
        bob.joined().await;
        // Bob changes its metadata, so that alice sees bob at once and not with the next batch.
        let update = lk::UpdateParticipantMetadata { metadata: "x".into(), ..Default::default() };
        bob.send(In::UpdateMetadata(update)).await;
        alice.sees_join(&identity).await;
        bob.send(In::Leave(lk::LeaveRequest { reason: said as i32, ..Default::default() })).await;
        assert_eq!(alice.sees_leave(&identity).await, seen, "{said:?}");
        assert_eq!(bob.end().await, Some(1000), "with a close frame");
    }
}

#[tokio::test]
async fn a_room_closes_when_only_agents_are_left() {
    let server = server_with(|c| c.departure_timeout = Duration::from_millis(400)).await;
    let alice = Client::join(&server, caller(&server, "alice")).await;
    let mut agent = Client::join(&server, agent(&server, "agent", true)).await;
    alice.leave().await;
    assert_eq!(agent.sees_own_end().await, "RoomClosed");
    assert_eq!(server.rooms(), Vec::<String>::new());
}

#[tokio::test]
async fn a_room_that_only_agents_visit_closes_after_its_empty_timeout() {
    let server = server_with(|c| {
        c.empty_timeout = Duration::from_millis(800);
        c.departure_timeout = Duration::from_secs(600);
    })
    .await;
    let mut agent = Client::join(&server, agent(&server, "agent", false)).await;
    assert_eq!(agent.sees_own_end().await, "RoomClosed");
}

#[tokio::test]
async fn the_same_identity_again_ends_the_first_session() {
    let server = server().await;
    let mut alice = Client::join(&server, caller(&server, "alice")).await;
    let mut first = Client::join(&server, caller(&server, "bob")).await;
    alice.sees_join("bob").await;
    let second = Client::join(&server, caller(&server, "bob")).await;
    assert_eq!(first.sees_own_end().await, "DuplicateIdentity");
    assert_eq!(alice.sees_leave("bob").await, "UnknownReason");
    alice.sees_join("bob").await;
    let sid = alice.room.remote_participants()[&"bob".to_owned().into()].sid();
    assert_eq!(sid, second.room.local_participant().sid());
}

#[tokio::test]
async fn a_new_room_of_the_same_name_has_a_new_sid() {
    let server = server_with(|c| c.departure_timeout = Duration::from_millis(200)).await;
    let first = Client::join(&server, caller(&server, "alice")).await;
    let sid = first.room.sid().await.to_string();
    assert!(sid.starts_with("RM_"), "{sid}");
    first.leave().await;
    until("the room's end", async || server.rooms().is_empty().then_some(())).await;
    let second = Client::join(&server, caller(&server, "alice")).await;
    assert_ne!(second.room.sid().await.to_string(), sid);
}

#[tokio::test]
async fn a_full_room_turns_a_caller_away() {
    let server = server().await;
    let config = lk::RoomConfiguration { max_participants: 1, ..Default::default() };
    let _alice = Client::join(&server, caller(&server, "alice").with_room_config(config)).await;
    let mut bob = Signal::dual(&server, &caller(&server, "bob")).await;
    assert_eq!(bob.goodbye().await.reason(), lk::DisconnectReason::JoinFailure);
}

#[tokio::test]
async fn a_tokens_room_configuration_counts_for_a_new_room_only() {
    let server = server().await;
    let config =
        |metadata: &str| lk::RoomConfiguration { metadata: metadata.into(), ..Default::default() };
    let alice =
        Client::join(&server, caller(&server, "alice").with_room_config(config("first"))).await;
    let bob =
        Client::join(&server, caller(&server, "bob").with_room_config(config("second"))).await;
    assert_eq!((alice.room.metadata(), bob.room.metadata()), ("first".into(), "first".into()));
}

#[tokio::test]
async fn pings_are_answered_and_a_fresh_token_is_given() {
    let server = server().await;
    for single in [false, true] {
        let token = caller(&server, "alice");
        let mut alice = match single {
            true => Signal::single(&server, &token).await,
            false => Signal::dual(&server, &token).await,
        };
        let join = alice.joined().await;
        assert_eq!(
            (join.ping_interval, join.ping_timeout, join.subscriber_primary),
            (5, 15, !single)
        );
        alice.send(In::PingReq(lk::Ping { timestamp: 42, rtt: 0 })).await;
        let pong = alice.wait("a pong", |m| match m {
            Out::PongResp(pong) => Some(pong.last_ping_timestamp),
            _ => None,
        });
        assert_eq!(pong.await, 42);
        let token = alice.passed(|m| match m {
            Out::RefreshToken(token) => Some(token),
            _ => None,
        });
        let mut again = Signal::dual(&server, &caller(&server, "alice")).await;
        again.joined().await;
        assert!(crate::raw::websocket(&format!("{}/rtc", server.url()), &token[0]).await.is_ok());
    }
}

#[tokio::test]
async fn video_is_refused_with_a_reason() {
    let server = server().await;
    let mut alice = Signal::dual(&server, &caller(&server, "alice")).await;
    alice.joined().await;
    let request = |kind: lk::TrackType| {
        In::AddTrack(lk::AddTrackRequest {
            cid: "c".into(),
            r#type: kind as i32,
            ..Default::default()
        })
    };
    alice.send(request(lk::TrackType::Video)).await;
    let refused = alice.wait("the refusal", |m| match m {
        Out::RequestResponse(r) => Some((r.reason(), r.message.clone())),
        _ => None,
    });
    let (reason, text) = refused.await;
    assert_eq!(reason, lk::request_response::Reason::NotAllowed);
    assert!(text.contains("audio"), "{text}");
    alice.send(request(lk::TrackType::Audio)).await;
    let track = alice.wait("the track", |m| match m {
        Out::TrackPublished(t) => t.track.clone(),
        _ => None,
    });
    assert!(track.await.sid.starts_with("TR_"));
}

#[tokio::test]
async fn broken_offers_harm_no_other_client() {
    let server = server().await;
    let mut bob = Client::join(&server, caller(&server, "bob")).await;
    let mut hostile = Signal::single(&server, &caller(&server, "hostile")).await;
    hostile.joined().await;
    let good = "v=0\r\na=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n\
        a=fingerprint:sha-256 00:01\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ssrc:1 cname:x\r\n";
    let offers = [
        String::new(),
        "\0\u{7f}=".into(),
        good.replace("mid:0", "mid:"),
        good.replace("mid:0", &format!("mid:{}", "é".repeat(30))),
        format!("{good}m=audio 9 X 111\r\na=mid:0\r\n"),
        good.replace("00:01", "zz"),
        format!(
            "{good}{}",
            (1..500).map(|i| format!("m=audio 9 X 0\r\na=mid:{i}\r\n")).collect::<String>()
        ),
        good.into(),
        good.replace("audio", "application"),
    ];
    for sdp in offers {
        let offer =
            |sdp| lk::SessionDescription { r#type: "offer".into(), sdp, ..Default::default() };
        hostile.send(In::Offer(offer(sdp.clone()))).await;
        hostile.send(In::Answer(offer(sdp))).await;
    }
    hostile.send(In::PingReq(lk::Ping { timestamp: 1, rtt: 0 })).await;
    hostile.wait("a pong", |m| matches!(m, Out::PongResp(_)).then_some(())).await;
    let alice = Client::join(&server, caller(&server, "alice")).await;
    alice.send("t", "still there", &[]).await;
    assert_eq!(bob.data("t").await.0, "still there");
}
