//! Twirp: `/twirp/livekit.<Service>/<Method>`, protobuf or JSON by Content-Type.
//!
//! In: POSTs with a token. Out: responses, or Twirp errors with the HTTP status that belongs to their code.
//! [`rooms`] and [`dispatches`] are the services; [`json`] gives the JSON the form of the real server's.

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
pub(super) struct TwirpError(&'static str, String);

type CallResult = Result<Response, TwirpError>;

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

impl IntoResponse for TwirpError {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "code": self.0, "msg": self.1 }).to_string();
        (status(self.0), [(header::CONTENT_TYPE, "application/json")], body).into_response()
    }
}

fn no_room() -> TwirpError {
    TwirpError("not_found", "requested room does not exist".into())
}

/// The real server's error when no node has the room.
fn no_response() -> TwirpError {
    TwirpError("unavailable", "no response from servers".into())
}

fn no_participant() -> TwirpError {
    TwirpError("not_found", "participant does not exist".into())
}

/// One request whose token is verified.
struct Call {
    claims: Claims,
    json: bool,
    body: Bytes,
}

impl Call {
    fn read<T: Message + Default + DeserializeOwned>(&self) -> Result<T, TwirpError> {
        let read = if self.json {
            let body: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
            serde_json::from_slice(body).map_err(|e| e.to_string())
        } else {
            T::decode(&self.body[..]).map_err(|e| e.to_string())
        };
        read.map_err(|e| TwirpError("malformed", format!("the request could not be decoded: {e}")))
    }

    /// `name` is the name of the message, which chooses its JSON form.
    fn write<T: Message + Serialize>(&self, name: &str, message: &T) -> CallResult {
        if !self.json {
            return Ok(response("application/protobuf", message.encode_to_vec()));
        }
        let value =
            serde_json::to_value(message).map_err(|e| TwirpError("internal", e.to_string()))?;
        Ok(response("application/json", json::render(name, value).to_string().into_bytes()))
    }

    /// # Errors
    /// `allowed` is false: the token does not allow the call.
    fn need(&self, allowed: bool) -> Result<(), TwirpError> {
        if allowed {
            Ok(())
        } else {
            Err(TwirpError("unauthenticated", "permissions denied".into()))
        }
    }

    fn admin(&self, room: &str) -> Result<(), TwirpError> {
        let video = &self.claims.video;
        self.need(video.room_admin && video.room == room)
    }
}

fn response(content_type: &'static str, body: Vec<u8>) -> Response {
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
            return TwirpError("unauthenticated", "permissions denied".into()).into_response();
        }
        Err(error) => return TwirpError("unauthenticated", error.to_string()).into_response(),
    };
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    let json = match content_type.split(';').next().unwrap_or("").trim() {
        "application/json" => true,
        "application/protobuf" => false,
        _ => {
            return TwirpError("bad_route", format!("unexpected Content-Type: {content_type:?}"))
                .into_response();
        }
    };
    let call = Call { claims, json, body };
    let result = match service.as_str() {
        "livekit.RoomService" => rooms::call(hub, &method, call).await,
        "livekit.AgentDispatchService" => dispatches::call(hub, &method, call).await,
        _ => Err(no_route(&service, &method)),
    };
    result.unwrap_or_else(TwirpError::into_response)
}

fn no_route(service: &str, method: &str) -> TwirpError {
    TwirpError("bad_route", format!("no handler for path \"/twirp/{service}/{method}\""))
}
