//! The requests that the worker makes to LiveKit's server API (Twirp: one POST for each, with protobuf).
//!
//! The SDK has a client for them, but with an HTTP client of its own: other rules for proxies, other trusted
//! certificates, and requests to other regions of LiveKit's cloud.

use std::{collections::HashMap, time::Duration};

use livekit_api::access_token::{AccessToken, VideoGrants};
use livekit_protocol::{
    AgentDispatch, CreateRoomRequest, DeleteRoomRequest, DeleteRoomResponse,
    ListAgentDispatchRequest, ListAgentDispatchResponse, ListParticipantsRequest,
    ListParticipantsResponse, ListRoomsRequest, ListRoomsResponse, ParticipantInfo, Room,
    SendDataRequest, SendDataResponse, UpdateParticipantRequest, data_packet,
};
use prost::Message;
use reqwest::{StatusCode, header::CONTENT_TYPE};
use secrecy::ExposeSecret;
use serde::Deserialize;
use thiserror::Error;
use tokio::time::Instant;

use super::{explain, http_client};
use crate::{clock::WallClock, config::LiveKit};

/// How long a token is valid; it is used at once.
const TOKEN_TTL: Duration = Duration::from_secs(600);
/// Timeout of a request. LiveKit answers from memory.
const WITHIN: Duration = Duration::from_secs(5);
/// The longest answer of a server with very many rooms; a participant's metadata is in it too.
const MOST_BYTES: usize = 64 << 20;

#[derive(Debug, Error)]
pub(crate) enum ApiError {
    /// There was no answer, or not one of LiveKit.
    #[error("{0}")]
    NoAnswer(String),
    /// LiveKit does not take our key, secret or token.
    #[error("{0}")]
    Unauthorized(String),
    /// LiveKit refused the request, in its own words.
    #[error("{code}: {msg}")]
    Refused { code: String, msg: String },
}

/// LiveKit's answer if it refuses.
#[derive(Deserialize)]
struct Refusal {
    code: String,
    #[serde(default)]
    msg: String,
}

/// A client for one server. Clones share their connections.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    client: reqwest::Client,
    livekit: LiveKit,
    /// The server's time, which decides whether our tokens are valid.
    wall: WallClock,
}

impl Api {
    /// # Errors
    /// If TLS or a proxy cannot be set up.
    pub(crate) fn new(livekit: &LiveKit, wall: &WallClock) -> reqwest::Result<Self> {
        let client = http_client(WITHIN)?;
        Ok(Self { client, livekit: livekit.clone(), wall: wall.clone() })
    }

    /// The server.
    pub(crate) fn livekit(&self) -> &LiveKit {
        &self.livekit
    }

    /// The rooms with these names; without names, all rooms.
    ///
    /// # Errors
    /// [`ApiError`], as for all requests.
    pub(crate) async fn list_rooms(&self, names: Vec<String>) -> Result<Vec<Room>, ApiError> {
        let grants = VideoGrants { room_list: true, ..Default::default() };
        let request = ListRoomsRequest { names };
        let answer: ListRoomsResponse =
            self.call("RoomService/ListRooms", grants, &request).await?;
        Ok(answer.rooms)
    }

    /// # Errors
    /// [`ApiError`].
    pub(crate) async fn create_room(&self, request: CreateRoomRequest) -> Result<(), ApiError> {
        let grants = VideoGrants { room_create: true, ..Default::default() };
        let _: Room = self.call("RoomService/CreateRoom", grants, &request).await?;
        Ok(())
    }

    /// # Errors
    /// [`ApiError`].
    pub(crate) async fn delete_room(&self, room: &str) -> Result<(), ApiError> {
        let grants = VideoGrants { room_create: true, ..Default::default() };
        let request = DeleteRoomRequest { room: room.into() };
        let _: DeleteRoomResponse = self.call("RoomService/DeleteRoom", grants, &request).await?;
        Ok(())
    }

    /// # Errors
    /// [`ApiError`].
    pub(crate) async fn list_participants(
        &self,
        room: &str,
    ) -> Result<Vec<ParticipantInfo>, ApiError> {
        let request = ListParticipantsRequest { room: room.into() };
        let answer: ListParticipantsResponse =
            self.call("RoomService/ListParticipants", admin(room), &request).await?;
        Ok(answer.participants)
    }

    /// # Errors
    /// [`ApiError`].
    pub(crate) async fn list_dispatches(&self, room: &str) -> Result<Vec<AgentDispatch>, ApiError> {
        let request = ListAgentDispatchRequest { room: room.into(), ..Default::default() };
        let answer: ListAgentDispatchResponse =
            self.call("AgentDispatchService/ListDispatch", admin(room), &request).await?;
        Ok(answer.agent_dispatches)
    }

    /// Sets attributes of a participant; others stay as they are.
    ///
    /// # Errors
    /// [`ApiError`].
    pub(crate) async fn set_attributes(
        &self,
        room: &str,
        identity: &str,
        attributes: HashMap<String, String>,
    ) -> Result<(), ApiError> {
        let request = UpdateParticipantRequest {
            room: room.into(),
            identity: identity.into(),
            attributes,
            ..Default::default()
        };
        let _: ParticipantInfo =
            self.call("RoomService/UpdateParticipant", admin(room), &request).await?;
        Ok(())
    }

    /// Sends an empty reliable packet to one participant.
    ///
    /// # Errors
    /// [`ApiError`].
    pub(crate) async fn send_empty_packet(
        &self,
        room: &str,
        to: &str,
        topic: &str,
    ) -> Result<(), ApiError> {
        let request = SendDataRequest {
            room: room.into(),
            kind: data_packet::Kind::Reliable.into(),
            destination_identities: vec![to.into()],
            topic: Some(topic.into()),
            ..Default::default()
        };
        let _: SendDataResponse = self.call("RoomService/SendData", admin(room), &request).await?;
        Ok(())
    }

    async fn call<A: Message + Default>(
        &self,
        method: &str,
        grants: VideoGrants,
        request: &impl Message,
    ) -> Result<A, ApiError> {
        let secret = self.livekit.api_secret.expose_secret();
        let token = AccessToken::with_api_key(&self.livekit.api_key, secret)
            .with_ttl(TOKEN_TTL)
            .with_grants(grants)
            .to_jwt()
            .map_err(|e| ApiError::NoAnswer(format!("no token could be signed: {e}")))?;
        let url = format!("{}/twirp/livekit.{method}", self.livekit.http_url());
        let no_answer = |why: String| ApiError::NoAnswer(explain::livekit(why, &url));
        let asked = Instant::now();
        let sent = self
            .client
            .post(&url)
            .bearer_auth(token)
            .header(CONTENT_TYPE, "application/protobuf")
            .body(request.encode_to_vec())
            .send()
            .await;
        let answer = sent.map_err(|e| no_answer(explain::causes(&e.without_url())))?;
        let status = answer.status();
        if status == StatusCode::UNAUTHORIZED {
            self.wall.learn_answer(answer.headers(), asked);
        }
        let body = super::body(answer, MOST_BYTES).await.map_err(&no_answer)?;
        if status.is_success() {
            return A::decode(body.as_slice())
                .map_err(|_| no_answer("the answer is not one of LiveKit".into()));
        }
        let refusal = serde_json::from_slice(&body);
        if status == StatusCode::UNAUTHORIZED {
            let why = refusal.map_or_else(|_| which_is_wrong(&body), |Refusal { msg, .. }| msg);
            let why = match self.wall.wrong_by() {
                Some(ahead) => format!(
                    "{why} (this machine's clock is {ahead} s ahead of LiveKit's; negative: behind)"
                ),
                None => why,
            };
            return Err(ApiError::Unauthorized(why));
        }
        match refusal {
            Ok(Refusal { code, msg }) => Err(ApiError::Refused { code, msg }),
            Err(_) => Err(no_answer(format!("answered {}", status.as_u16()))),
        }
    }
}

/// LiveKit answers a wrong token with a text, which repeats the token.
fn which_is_wrong(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    if text.contains("invalid API key") {
        "answered 401: the server does not know this API key".into()
    } else if text.contains("signature is invalid") {
        "answered 401: the server knows the API key, but not with this secret".into()
    } else {
        "answered 401".into()
    }
}

fn admin(room: &str) -> VideoGrants {
    VideoGrants { room_admin: true, room: room.into(), ..Default::default() }
}
