//! Twirp: `/twirp/livekit.<Service>/<Method>`, protobuf or JSON by Content-Type.
//!
//! In: POSTs with a token. Out: answers, or Twirp errors with the HTTP status that belongs to their code.
//! [`rooms`] and [`dispatches`] are the services; [`json`] makes the JSON look as the real server's.

mod dispatches;
mod json;
mod rooms;

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use prost::Message;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    hub::Hub,
    signal::bearer,
    token::{self, Claims},
};

/// A Twirp error: code and text.
#[derive(Debug)]
pub(super) struct Fail(&'static str, String);

type Answer = Result<Response, Fail>;

/// The status that the Twirp specification gives to a code.
fn status(code: &str) -> StatusCode {
    match code {
        "invalid_argument" | "malformed" | "out_of_range" => StatusCode::BAD_REQUEST,
        "deadline_exceeded" | "canceled" => StatusCode::REQUEST_TIMEOUT,
        "not_found" | "bad_route" => StatusCode::NOT_FOUND,
        "already_exists" | "aborted" => StatusCode::CONFLICT,
        "permission_denied" => StatusCode::FORBIDDEN,
        "unauthenticated" => StatusCode::UNAUTHORIZED,
        "resource_exhausted" => StatusCode::TOO_MANY_REQUESTS,
        "failed_precondition" => StatusCode::PRECONDITION_FAILED,
        "unimplemented" => StatusCode::NOT_IMPLEMENTED,
        "unavailable" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl IntoResponse for Fail {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "code": self.0, "msg": self.1 }).to_string();
        (status(self.0), [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

fn no_room() -> Fail {
    Fail("not_found", "requested room does not exist".into())
}

/// What the real server says where it asks a room's node, and there is none.
fn nobody_answers() -> Fail {
    Fail("unavailable", "no response from servers".into())
}

fn no_participant() -> Fail {
    Fail("not_found", "participant does not exist".into())
}

/// One request, its sender believed.
struct Call {
    claims: Claims,
    json: bool,
    body: Bytes,
}

impl Call {
    fn read<T: Message + Default + DeserializeOwned>(&self) -> Result<T, Fail> {
        let read = if self.json {
            let body: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
            serde_json::from_slice(body).map_err(|e| e.to_string())
        } else {
            T::decode(&self.body[..]).map_err(|e| e.to_string())
        };
        read.map_err(|e| Fail("malformed", format!("the request could not be decoded: {e}")))
    }

    /// `name` is the message's, for its JSON form.
    fn write<T: Message + Serialize>(&self, name: &str, message: &T) -> Answer {
        if !self.json {
            return Ok(answer("application/protobuf", message.encode_to_vec()));
        }
        let value = serde_json::to_value(message).map_err(|e| Fail("internal", e.to_string()))?;
        Ok(answer("application/json", json::render(name, value).to_string().into_bytes()))
    }

    /// Whether the token allows it.
    fn need(&self, allowed: bool) -> Result<(), Fail> {
        if allowed { Ok(()) } else { Err(Fail("unauthenticated", "permissions denied".into())) }
    }

    fn admin(&self, room: &str) -> Result<(), Fail> {
        let video = &self.claims.video;
        self.need(video.room_admin && video.room == room)
    }
}

fn answer(content_type: &'static str, body: Vec<u8>) -> Response {
    let headers: [(HeaderName, &str); 1] = [(header::CONTENT_TYPE, content_type)];
    (headers, body).into_response()
}

pub(crate) async fn twirp(
    State(hub): State<Arc<Hub>>,
    Path((service, method)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let jwt = bearer(&headers).unwrap_or("");
    let claims = match token::verify(jwt, &hub.config.keys) {
        Ok(claims) => claims,
        Err(_) if jwt.is_empty() => {
            return Fail("unauthenticated", "permissions denied".into()).into_response();
        }
        Err(error) => return Fail("unauthenticated", error.to_string()).into_response(),
    };
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let json = match content_type.split(';').next().unwrap_or("").trim() {
        "application/json" => true,
        "application/protobuf" => false,
        _ => {
            return Fail("bad_route", format!("unexpected Content-Type: {content_type:?}"))
                .into_response();
        }
    };
    let call = Call { claims, json, body };
    let result = match service.as_str() {
        "livekit.RoomService" => rooms::call(hub, &method, call).await,
        "livekit.AgentDispatchService" => dispatches::call(hub, &method, call).await,
        _ => Err(no_route(&service, &method)),
    };
    result.unwrap_or_else(Fail::into_response)
}

fn no_route(service: &str, method: &str) -> Fail {
    Fail("bad_route", format!("no handler for path \"/twirp/{service}/{method}\""))
}
