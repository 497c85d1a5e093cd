//! Coming back into a room that lives on, after `livekit` has given up on it (some 11 s).
//!
//! Joining a room that is gone would create it anew and summon a voice agent into it, so the
//! server is asked first, and only the same room (by sid) is joined.

use std::{collections::HashMap, time::Duration};

use livekit_api::{
    access_token::{AccessToken, VideoGrants},
    services::room::RoomClient,
};
use livekit_protocol::{RoomAgentDispatch, RoomConfiguration};
use secrecy::ExposeSecret;

use crate::config::LiveKit;

/// Seconds a token of our own is good for; it is used at once.
const TOKEN_TTL: Duration = Duration::from_secs(600);

/// What the server says of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RoomState {
    /// There, with this sid.
    There(String),
    Gone,
    /// The server could not be asked.
    Unknown(String),
}

pub(super) async fn look(api: &RoomClient, room: &str) -> RoomState {
    match api.list_rooms(vec![room.to_owned()]).await {
        Ok(rooms) => match rooms.into_iter().find(|r| r.name == room) {
            Some(r) => RoomState::There(r.sid),
            None => RoomState::Gone,
        },
        Err(e) => RoomState::Unknown(e.to_string()),
    }
}

/// A token like the one of a job: hidden, kind agent, no media.
///
/// # Errors
/// If it cannot be signed.
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
        .with_room_config(nobody())
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

/// Counts only for a join that creates the room. We look before we join, so that should never
/// happen; if it does, no voice agent is summoned, and the room is gone again in a second.
fn nobody() -> RoomConfiguration {
    let agent =
        RoomAgentDispatch { agent_name: "call-history-nobody".into(), ..Default::default() };
    RoomConfiguration {
        empty_timeout: 1,
        departure_timeout: 1,
        agents: vec![agent],
        ..Default::default()
    }
}
