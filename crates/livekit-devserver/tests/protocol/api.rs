//! The Twirp services, in protobuf through `livekit-api` and in JSON by hand.

use livekit::RoomEvent;
use livekit_api::{
    access_token::VideoGrants,
    services::room::{CreateRoomOptions, RoomClient, SendDataOptions, UpdateParticipantOptions},
};
use livekit_devserver::{
    Server,
    proto::{self as lk, signal_request::Message as In, signal_response::Message as Out},
};
use serde_json::json;

use crate::{
    raw::{Signal, post, twirp},
    support::{Client, attributes, caller, grants, server, token},
};

fn client(server: &Server) -> RoomClient {
    RoomClient::with_api_key(&server.http_url(), server.api_key(), server.api_secret())
}

fn admin(server: &Server) -> String {
    let grants = VideoGrants {
        room_create: true,
        room_list: true,
        room_admin: true,
        room: "r".into(),
        ..Default::default()
    };
    token(server, "", grants).to_jwt().unwrap()
}

#[tokio::test]
async fn rooms_are_created_listed_and_deleted() {
    let server = server().await;
    let api = client(&server);
    let options =
        CreateRoomOptions { empty_timeout: 60, metadata: "m".into(), ..Default::default() };
    let made = api.create_room("r", options).await.unwrap();
    assert_eq!((made.name.as_str(), made.empty_timeout, made.metadata.as_str()), ("r", 60, "m"));
    let again = api.create_room("r", CreateRoomOptions::default()).await.unwrap();
    assert_eq!(again.sid, made.sid, "creating a room that is there gives that room");
    api.create_room("s", CreateRoomOptions::default()).await.unwrap();
    let names = |rooms: Vec<lk::Room>| rooms.into_iter().map(|r| r.name).collect::<Vec<_>>();
    assert_eq!(names(api.list_rooms(vec![]).await.unwrap()), ["r", "s"]);
    assert_eq!(names(api.list_rooms(vec!["s".into()]).await.unwrap()), ["s"]);
    let mut alice = Client::join(&server, caller(&server, "alice")).await;
    api.delete_room("r").await.unwrap();
    assert_eq!(alice.sees_own_end().await, "RoomDeleted");
    assert_eq!(server.rooms(), ["s"]);
}

#[tokio::test]
async fn participants_are_listed_changed_and_removed() {
    let server = server().await;
    let api = client(&server);
    let mut alice = Client::join(&server, caller(&server, "alice")).await;
    let mut bob = Client::join(&server, caller(&server, "bob")).await;
    assert_eq!(api.list_participants("r").await.unwrap().len(), 2);
    assert_eq!(api.get_participant("r", "bob").await.unwrap().identity, "bob");
    alice.sees_join("bob").await;
    let change =
        UpdateParticipantOptions { attributes: attributes(&[("k", "v")]), ..Default::default() };
    api.update_participant("r", "bob", change).await.unwrap();
    let changed = alice
        .wait("the attribute", |e| match e {
            RoomEvent::ParticipantAttributesChanged { changed_attributes, .. } => {
                Some(changed_attributes)
            }
            _ => None,
        })
        .await;
    assert_eq!(changed, attributes(&[("k", "v")]));
    api.remove_participant("r", "bob").await.unwrap();
    assert_eq!(bob.sees_own_end().await, "ParticipantRemoved");
    assert_eq!(alice.sees_leave("bob").await, "ParticipantRemoved");
}

#[tokio::test]
async fn revoked_rights_count_at_once() {
    let server = server().await;
    let mut alice = Client::join(&server, caller(&server, "alice")).await;
    let bob = Client::join(&server, caller(&server, "bob")).await;
    let carol = Client::join(&server, caller(&server, "carol")).await;
    let permission =
        lk::ParticipantPermission { can_subscribe: true, can_publish: true, ..Default::default() };
    let change = UpdateParticipantOptions { permission: Some(permission), ..Default::default() };
    client(&server).update_participant("r", "bob", change).await.unwrap();
    let packet =
        livekit::DataPacket { payload: b"x".to_vec(), reliable: true, ..Default::default() };
    let _ = bob.room.local_participant().publish_data(packet).await;
    carol.send("t", "end", &[]).await;
    let mut packets = vec![];
    alice
        .wait("carol's packet", |e| match e {
            RoomEvent::DataReceived { topic, .. } => {
                packets.push(topic.clone());
                topic
            }
            _ => None,
        })
        .await;
    assert_eq!(packets, [Some("t".to_owned())], "bob may not send data any more");

    let mut dora = Signal::dual(&server, &caller(&server, "dora")).await;
    dora.joined().await;
    let change = UpdateParticipantOptions {
        permission: Some(lk::ParticipantPermission { can_subscribe: true, ..Default::default() }),
        ..Default::default()
    };
    client(&server).update_participant("r", "dora", change).await.unwrap();
    let track = lk::AddTrackRequest { cid: "c".into(), ..Default::default() };
    dora.send(In::AddTrack(track)).await;
    let refused = dora.wait("the refusal", |m| match m {
        Out::RequestResponse(r) => Some(r.reason()),
        _ => None,
    });
    assert_eq!(refused.await, lk::request_response::Reason::NotAllowed);
}

#[tokio::test]
async fn data_from_the_api_has_no_sender() {
    let server = server().await;
    let mut alice = Client::join(&server, caller(&server, "alice")).await;
    let mut bob = Client::join(&server, caller(&server, "bob")).await;
    bob.ready(&alice).await;
    alice.ready(&bob).await;
    let options = SendDataOptions {
        topic: Some("t".into()),
        destination_identities: vec!["bob".into()],
        ..Default::default()
    };
    let api = client(&server);
    api.send_data("r", b"for bob".to_vec(), options).await.unwrap();
    let all = SendDataOptions { topic: Some("t".into()), ..Default::default() };
    api.send_data("r", b"for all".to_vec(), all).await.unwrap();
    assert_eq!(bob.data("t").await, ("for bob".into(), None));
    assert_eq!(alice.data("t").await, ("for all".into(), None));
}

#[tokio::test]
async fn room_metadata_is_announced_at_once() {
    let server = server().await;
    let mut alice = Client::join(&server, caller(&server, "alice")).await;
    let room = client(&server).update_room_metadata("r", "new").await.unwrap();
    assert_eq!(room.metadata, "new");
    let announced = alice
        .wait("the metadata", |e| match e {
            RoomEvent::RoomMetadataChanged { metadata, .. } => Some(metadata),
            _ => None,
        })
        .await;
    assert_eq!(announced, "new");
}

#[tokio::test]
async fn unknown_rooms_participants_and_methods_are_refused_as_on_the_real_server() {
    let server = server().await;
    let jwt = admin(&server);
    let room = json!({ "room": "r" });
    let who = json!({ "room": "r", "identity": "x" });
    let track = json!({ "room": "r", "identity": "x", "track_sid": "TR_x", "muted": true });
    let dispatch = json!({ "room": "r", "dispatch_id": "AD_x" });
    let (not_found, unavailable) = ((404, "not_found"), (503, "unavailable"));
    let cases = [
        ("RoomService/DeleteRoom", &room, not_found),
        ("RoomService/GetParticipant", &who, not_found),
        ("RoomService/RemoveParticipant", &who, not_found),
        ("RoomService/UpdateParticipant", &who, not_found),
        ("RoomService/UpdateRoomMetadata", &room, not_found),
        ("RoomService/MutePublishedTrack", &track, unavailable),
        ("RoomService/SendData", &room, unavailable),
        ("AgentDispatchService/ListDispatch", &room, unavailable),
        ("AgentDispatchService/DeleteDispatch", &dispatch, unavailable),
        ("RoomService/Nope", &room, (404, "bad_route")),
        ("NoService/Nope", &room, (404, "bad_route")),
    ];
    for (method, body, (status, code)) in cases {
        let (got, error) = twirp(&server, method, &jwt, body.clone()).await;
        assert_eq!((got, error["code"].as_str()), (status, Some(code)), "{method}: {error}");
    }
    let (status, list) = twirp(&server, "RoomService/ListParticipants", &jwt, room).await;
    assert_eq!((status, list), (200, json!({ "participants": [] })));
    let _alice = Client::join(&server, caller(&server, "alice")).await;
    let (status, error) =
        twirp(&server, "AgentDispatchService/DeleteDispatch", &jwt, dispatch).await;
    assert_eq!((status, error["code"].as_str()), (404, Some("not_found")));
    let (status, _) = twirp(&server, "RoomService/GetParticipant", &jwt, who).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn json_is_written_as_the_real_server_writes_it_and_read_in_both_casings() {
    let server = server().await;
    let jwt = admin(&server);
    for key in ["empty_timeout", "emptyTimeout"] {
        let (status, room) =
            twirp(&server, "RoomService/CreateRoom", &jwt, json!({ "name": key, key: 77 })).await;
        assert_eq!((status, &room["empty_timeout"]), (200, &json!(77)));
        assert_eq!(room["metadata"], "");
        assert!(room["creation_time"].is_string());
    }
    let token = token(&server, "sip_1", grants("r")).with_kind("sip");
    let _caller =
        Client::join(&server, token.with_attributes(&attributes(&[("sip.callStatus", "active")])))
            .await;
    let (_, list) =
        twirp(&server, "RoomService/ListParticipants", &jwt, json!({ "room": "r" })).await;
    let p = &list["participants"][0];
    assert_eq!((&p["kind"], &p["is_publisher"]), (&json!("SIP"), &json!(false)));
    assert_eq!(p["attributes"]["sip.callStatus"], "active");
    assert_eq!(p["permission"]["can_publish_data"], true);
}

#[tokio::test]
async fn undecodable_requests_are_refused() {
    let server = server().await;
    let jwt = admin(&server);
    let path = "/twirp/livekit.RoomService/ListRooms";
    let status = async |kind: &str, body: &[u8]| post(&server, path, &jwt, kind, body).await.0;
    assert_eq!(status("application/json", b"{").await, 400);
    assert_eq!(status("application/protobuf", &[0xff, 0xff]).await, 400);
    assert_eq!(status("text/plain", b"").await, 404);
    assert_eq!(status("application/json; charset=utf-8", b"{}").await, 200);
    assert_eq!(status("application/protobuf", b"").await, 200);
}
