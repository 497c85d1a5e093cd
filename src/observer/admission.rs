//! What every join needs first: whether the room still exists, and a token.
//!
//! Joining a room that has ended would create it again and bring a voice agent into it. So the server is
//! asked first, and only the same room (by sid) is joined.

use std::{collections::HashMap, time::Duration};

use livekit_api::access_token::{AccessToken, VideoGrants};
use livekit_protocol::{RoomAgentDispatch, RoomConfiguration};
use secrecy::ExposeSecret;

use crate::{config::LiveKit, net::Api};

/// How long our own token is valid; it is used at once.
const TOKEN_TTL: Duration = Duration::from_secs(600);

/// What the server says about a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RoomState {
    /// It exists. `people`: the server's number of participants that are not agents, which may be 5 s old.
    There {
        sid: String,
        people: u32,
    },
    Gone,
    /// The server did not answer.
    Unknown(String),
}

pub(super) async fn room_state(api: &Api, room: &str) -> RoomState {
    match api.list_rooms(vec![room.to_owned()]).await {
        Ok(rooms) => match rooms.into_iter().find(|r| r.name == room) {
            Some(r) => RoomState::There { sid: r.sid, people: r.num_participants },
            None => RoomState::Gone,
        },
        Err(e) => RoomState::Unknown(e.to_string()),
    }
}

/// A token with the grants of a job's token: hidden, kind agent, no media.
///
/// # Errors
/// If the token cannot be signed.
pub(super) fn token(
    livekit: &LiveKit,
    room: &str,
    identity: &str,
    attributes: HashMap<String, String>,
) -> Result<String, String> {
    AccessToken::with_api_key(&livekit.api_key, livekit.api_secret.expose_secret())
        .with_identity(identity)
        .with_name("call-history")
        .with_kind("agent")
        .with_attributes(attributes)
        .with_ttl(TOKEN_TTL)
        .with_room_config(room_without_agents())
        .with_grants(VideoGrants {
            room_join: true,
            room: room.to_owned(),
            hidden: true,
            agent: true,
            can_subscribe: Some(true),
            can_publish: Some(false),
            can_publish_data: Some(true),
            can_update_own_metadata: Some(false),
            ..Default::default()
        })
        .to_jwt()
        .map_err(|e| e.to_string())
}

/// Applies only to a join that creates the room, which happens if the room ends between check and join.
/// Then no voice agent is dispatched, and the room is closed again after a second.
fn room_without_agents() -> RoomConfiguration {
    let agent =
        RoomAgentDispatch { agent_name: "call-history-nobody".into(), ..Default::default() };
    RoomConfiguration {
        empty_timeout: 1,
        departure_timeout: 1,
        agents: vec![agent],
        ..Default::default()
    }
}
