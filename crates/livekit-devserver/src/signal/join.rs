//! A client's request to join, before it enters a room.
//!
//! In: query, headers, token. Out: a checked [`Request`], or an HTTP refusal with the real server's status.
//! The sizes of all names, metadata and attributes are checked here.

use std::{collections::HashMap, io::Read};

use axum::http::{HeaderMap, StatusCode};
use base64::{
    Engine,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use livekit_protocol::{self as lk, signal_response::Message as Out};
use prost::Message as _;

use super::update;
use crate::{
    hub::Hub,
    outbox::Outbox,
    participant::Join,
    token::{self, Claims},
};

pub(super) type Params = HashMap<String, String>;
pub(super) type Refusal = (StatusCode, String);

/// Longest name of a room, and identity and name of a participant, characters.
const MAX_NAME: usize = 256;
/// Longest join request once unpacked, bytes.
const MAX_JOIN_REQUEST: u64 = 2 << 20;

/// A client's request, reduced to what its token allows.
pub(super) struct Request {
    pub(super) claims: Claims,
    pub(super) room: String,
    /// The sid of the session that it wants to continue.
    pub(super) resumes: Option<String>,
    single: bool,
    auto_subscribe: bool,
    client: lk::ClientInfo,
    details: lk::JoinRequest,
}

fn refuse(status: StatusCode, text: impl Into<String>) -> Refusal {
    (status, text.into())
}

/// Verifies the token from the header or the query, and checks that it allows a join.
pub(super) fn authorise(
    hub: &Hub,
    params: &Params,
    headers: &HeaderMap,
) -> Result<Claims, Refusal> {
    let denied = || refuse(StatusCode::UNAUTHORIZED, "permissions denied");
    let jwt = bearer(headers)
        .or(params.get("access_token").map(String::as_str))
        .filter(|t| !t.is_empty());
    let claims = token::verify(jwt.ok_or_else(denied)?, &hub.config.keys)
        .map_err(|e| refuse(StatusCode::UNAUTHORIZED, e.to_string()))?;
    if !claims.video.room_join || claims.video.room.is_empty() {
        return Err(denied());
    }
    if claims.sub.is_empty() {
        return Err(refuse(StatusCode::BAD_REQUEST, "identity cannot be empty"));
    }
    let too_long = |s: &String| s.chars().count() > MAX_NAME;
    if [&claims.sub, &claims.name, &claims.video.room].into_iter().any(too_long) {
        return Err(refuse(
            StatusCode::BAD_REQUEST,
            format!("names are limited to {MAX_NAME} characters"),
        ));
    }
    update::check_limits(&claims.metadata, &claims.attributes)
        .map_err(|e| refuse(StatusCode::BAD_REQUEST, e))?;
    if !hub.config.auto_create && hub.room(&claims.video.room).is_none() {
        return Err(refuse(StatusCode::NOT_FOUND, "requested room does not exist"));
    }
    Ok(claims)
}

pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")
}

/// Reads `join_request`: base64 (url or standard alphabet, padded or not) of a `WrappedJoinRequest`, which
/// may be gzipped.
fn join_request(raw: &str) -> Option<lk::JoinRequest> {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&base64::alphabet::URL_SAFE, config);
    let url_safe = raw.replace(['+', ' '], "-").replace('/', "_");
    let wrapped = lk::WrappedJoinRequest::decode(&engine.decode(url_safe).ok()?[..]).ok()?;
    let packed = wrapped.join_request;
    if wrapped.compression != lk::wrapped_join_request::Compression::Gzip as i32 {
        return lk::JoinRequest::decode(&packed[..]).ok();
    }
    let mut plain = vec![];
    flate2::read::GzDecoder::new(&packed[..])
        .take(MAX_JOIN_REQUEST)
        .read_to_end(&mut plain)
        .ok()?;
    lk::JoinRequest::decode(&plain[..]).ok()
}

impl Request {
    pub(super) fn read(
        hub: &Hub,
        params: &Params,
        headers: &HeaderMap,
        single: bool,
    ) -> Result<Request, Refusal> {
        let claims = authorise(hub, params, headers)?;
        let yes = |v: &String| v == "1" || v == "true";
        let number = |key: &str| params.get(key).and_then(|v| v.parse().ok()).unwrap_or(0);
        let details = match params.get("join_request") {
            Some(raw) => Some(
                join_request(raw)
                    .ok_or_else(|| refuse(StatusCode::BAD_REQUEST, "invalid join_request"))?,
            ),
            None => None,
        };
        if single && details.is_none() {
            return Err(refuse(StatusCode::BAD_REQUEST, "join_request is required"));
        }
        let details = details.unwrap_or_default();
        let client = details.client_info.clone().unwrap_or_else(|| lk::ClientInfo {
            protocol: number("protocol"),
            client_protocol: number("client_protocol"),
            ..Default::default()
        });
        let auto_subscribe = match &details.connection_settings {
            Some(settings) => settings.auto_subscribe,
            None => params.get("auto_subscribe").is_none_or(yes),
        };
        let reconnects = details.reconnect || params.get("reconnect").is_some_and(yes);
        let named = params.get("sid").cloned().filter(|sid| !sid.is_empty());
        let resumes = reconnects.then(|| named.unwrap_or_else(|| details.participant_sid.clone()));
        let may_update = claims.video.can_update_own_metadata.unwrap_or(false);
        let mut details = details;
        if !may_update {
            details.participant_attributes.clear();
            details.metadata.clear();
        }
        update::check_limits(&details.metadata, &details.participant_attributes)
            .map_err(|e| refuse(StatusCode::BAD_REQUEST, e))?;
        Ok(Request {
            room: claims.video.room.clone(),
            claims,
            resumes,
            single,
            auto_subscribe,
            client,
            details,
        })
    }

    pub(super) fn join(&self, out: Outbox<Out>) -> Join {
        let details = self.details.clone();
        Join {
            claims: self.claims.clone(),
            out,
            single: self.single,
            auto_subscribe: self.auto_subscribe,
            client: self.client.clone(),
            offer: details.publisher_offer,
            add_tracks: details.add_track_requests,
            attributes: details.participant_attributes,
            metadata: details.metadata,
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::io::Write;

    fn request() -> lk::JoinRequest {
        lk::JoinRequest {
            metadata: "~~~???>>>".into(),
            participant_sid: "PA_x".into(),
            ..Default::default()
        }
    }

    fn wrap(bytes: Vec<u8>, compression: lk::wrapped_join_request::Compression) -> Vec<u8> {
        lk::WrappedJoinRequest { join_request: bytes, compression: compression as i32 }
            .encode_to_vec()
    }

    #[test]
    fn join_requests_are_read_gzipped_or_not_in_either_alphabet() {
        use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
        use lk::wrapped_join_request::Compression::{Gzip, None as Plain};
        let plain = wrap(request().encode_to_vec(), Plain);
        assert_eq!(join_request(&STANDARD.encode(&plain)), Some(request()));
        assert_eq!(join_request(&URL_SAFE_NO_PAD.encode(&plain)), Some(request()));
        let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
        gzip.write_all(&request().encode_to_vec()).unwrap();
        let packed = wrap(gzip.finish().unwrap(), Gzip);
        assert_eq!(join_request(&URL_SAFE_NO_PAD.encode(packed)), Some(request()));
    }

    #[test]
    fn a_join_request_that_unpacks_to_too_much_is_refused() {
        use base64::engine::general_purpose::URL_SAFE_NO_PAD;
        let huge = lk::JoinRequest { metadata: "x".repeat(8 << 20), ..Default::default() };
        let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
        gzip.write_all(&huge.encode_to_vec()).unwrap();
        let packed = wrap(gzip.finish().unwrap(), lk::wrapped_join_request::Compression::Gzip);
        assert_eq!(join_request(&URL_SAFE_NO_PAD.encode(packed)), None);
    }
}
