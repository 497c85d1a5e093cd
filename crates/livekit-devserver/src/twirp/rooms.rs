//! `livekit.RoomService`.

use std::sync::Arc;

use livekit_protocol::{self as lk, DisconnectReason as Why, signal_response::Message as Out};

use super::{Call, CallResult, TwirpError, no_participant, no_response, no_room, no_route};
use crate::{
    hub::{Hub, ask},
    room::Room,
    signal::{Change, MAX_METADATA, check_limits},
};

pub(super) async fn call(hub: Arc<Hub>, method: &str, call: Call) -> CallResult {
    match method {
        "CreateRoom" => create(hub, call).await,
        "ListRooms" => list(hub, call).await,
        "DeleteRoom" => delete(hub, call).await,
        "ListParticipants" => participants(hub, call).await,
        "GetParticipant" => participant(hub, call).await,
        "RemoveParticipant" => remove(hub, call).await,
        "UpdateParticipant" => update(hub, call).await,
        "MutePublishedTrack" => mute(hub, call).await,
        "SendData" => send_data(hub, call).await,
        "UpdateRoomMetadata" => metadata(hub, call).await,
        _ => Err(no_route("livekit.RoomService", method)),
    }
}

/// Runs `f` on one participant of a room.
async fn with<T: Send + 'static>(
    hub: &Hub,
    room: &str,
    identity: &str,
    f: impl FnOnce(&mut Room, u64) -> T + Send + 'static,
) -> Result<T, TwirpError> {
    let who = identity.to_owned();
    let done = hub.ask(room, move |r| r.by_identity(&who).map(|key| f(r, key))).await;
    done.flatten().ok_or_else(no_participant)
}

fn info(room: &Room, key: u64) -> lk::ParticipantInfo {
    room.participants.get(&key).map(|p| p.info.clone()).unwrap_or_default()
}

async fn create(hub: Arc<Hub>, call: Call) -> CallResult {
    let request: lk::CreateRoomRequest = call.read()?;
    call.need(call.claims.video.room_create)?;
    if request.metadata.len() > MAX_METADATA {
        return Err(TwirpError(
            "invalid_argument",
            format!("metadata size exceeds limits, max {MAX_METADATA}"),
        ));
    }
    let config = lk::RoomConfiguration {
        empty_timeout: request.empty_timeout,
        departure_timeout: request.departure_timeout,
        max_participants: request.max_participants,
        metadata: request.metadata,
        agents: request.agents,
        ..Default::default()
    };
    let room = hub.open_room(&request.name, config);
    let room = ask(&room, |r| r.info.clone()).await.ok_or_else(no_room)?;
    call.write("Room", &room)
}

async fn list(hub: Arc<Hub>, call: Call) -> CallResult {
    let request: lk::ListRoomsRequest = call.read()?;
    call.need(call.claims.video.room_list)?;
    let mut rooms = vec![];
    for name in hub.room_names() {
        if request.names.is_empty() || request.names.contains(&name) {
            rooms.extend(hub.ask(&name, |r| r.info.clone()).await);
        }
    }
    call.write("ListRoomsResponse", &lk::ListRoomsResponse { rooms })
}

async fn delete(hub: Arc<Hub>, call: Call) -> CallResult {
    let request: lk::DeleteRoomRequest = call.read()?;
    call.need(call.claims.video.room_create)?;
    hub.ask(&request.room, |r| r.close(Why::RoomDeleted)).await.ok_or_else(no_room)?;
    call.write("Empty", &lk::DeleteRoomResponse {})
}

/// Hidden participants are listed, too. A room that does not exist has an empty list.
async fn participants(hub: Arc<Hub>, call: Call) -> CallResult {
    let request: lk::ListParticipantsRequest = call.read()?;
    call.admin(&request.room)?;
    let all = |r: &mut Room| r.participants.values().map(|p| p.info.clone()).collect();
    let participants = hub.ask(&request.room, all).await.unwrap_or_default();
    call.write("ListParticipantsResponse", &lk::ListParticipantsResponse { participants })
}

async fn participant(hub: Arc<Hub>, call: Call) -> CallResult {
    let request: lk::RoomParticipantIdentity = call.read()?;
    call.admin(&request.room)?;
    let info = with(&hub, &request.room, &request.identity, |r, key| info(r, key)).await?;
    call.write("ParticipantInfo", &info)
}

async fn remove(hub: Arc<Hub>, call: Call) -> CallResult {
    let request: lk::RoomParticipantIdentity = call.read()?;
    call.admin(&request.room)?;
    with(&hub, &request.room, &request.identity, |r, key| r.remove(key, Why::ParticipantRemoved))
        .await?;
    call.write("Empty", &lk::RemoveParticipantResponse {})
}

async fn update(hub: Arc<Hub>, call: Call) -> CallResult {
    let request: lk::UpdateParticipantRequest = call.read()?;
    call.admin(&request.room)?;
    check_limits(&request.metadata, &request.attributes)
        .map_err(|e| TwirpError("invalid_argument", e))?;
    let set = |s: String| (!s.is_empty()).then_some(s);
    let change = Change {
        metadata: set(request.metadata),
        name: set(request.name),
        attributes: request.attributes,
        permission: request.permission,
    };
    let changed = with(&hub, &request.room, &request.identity, move |r, key| {
        r.change(key, change).map(|()| info(r, key))
    });
    let info = changed.await?.map_err(|e| TwirpError("invalid_argument", e))?;
    call.write("ParticipantInfo", &info)
}

async fn mute(hub: Arc<Hub>, call: Call) -> CallResult {
    let request: lk::MuteRoomTrackRequest = call.read()?;
    call.admin(&request.room)?;
    let (sid, muted) = (request.track_sid, request.muted);
    if !muted {
        // The real server's default: the API cannot unmute a client's microphone.
        return Err(TwirpError("failed_precondition", "remote unmute not enabled".into()));
    }
    let track = with(&hub, &request.room, &request.identity, move |r, key| {
        if !r.mute(key, &sid, muted) {
            return None;
        }
        if let Some(p) = r.participants.get(&key) {
            p.say(Out::Mute(lk::MuteTrackRequest { sid: sid.clone(), muted }));
        }
        info(r, key).tracks.into_iter().find(|t| t.sid == sid)
    });
    // An unknown track is no error.
    let track = track.await.map_err(|_| no_response())?;
    call.write("MuteRoomTrackResponse", &lk::MuteRoomTrackResponse { track })
}

#[allow(deprecated)] // clients still read these fields
async fn send_data(hub: Arc<Hub>, call: Call) -> CallResult {
    let request: lk::SendDataRequest = call.read()?;
    call.admin(&request.room)?;
    let lossy = request.kind == lk::data_packet::Kind::Lossy as i32;
    let packet = lk::DataPacket {
        kind: request.kind,
        destination_identities: request.destination_identities.clone(),
        value: Some(lk::data_packet::Value::User(lk::UserPacket {
            payload: request.data,
            topic: request.topic,
            destination_identities: request.destination_identities,
            nonce: request.nonce,
            ..Default::default()
        })),
        ..Default::default()
    };
    hub.ask(&request.room, move |r| r.deliver(None, &packet, lossy))
        .await
        .ok_or_else(no_response)?;
    call.write("Empty", &lk::SendDataResponse {})
}

async fn metadata(hub: Arc<Hub>, call: Call) -> CallResult {
    let request: lk::UpdateRoomMetadataRequest = call.read()?;
    call.admin(&request.room)?;
    if request.metadata.len() > MAX_METADATA {
        return Err(TwirpError(
            "invalid_argument",
            format!("metadata size exceeds limits, max {MAX_METADATA}"),
        ));
    }
    let changed = hub.ask(&request.room, |r| {
        r.set_metadata(request.metadata);
        r.info.clone()
    });
    let room = changed.await.ok_or_else(no_room)?;
    call.write("Room", &room)
}
