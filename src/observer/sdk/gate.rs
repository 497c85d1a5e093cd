//! Keeps the SDK from joining a room by name on its own.
//!
//! If `livekit` cannot resume a connection, it joins the room again by name, without asking us. If the room
//! was closed meanwhile, that creates it again and brings a voice agent into it. So a join passes only
//! while the observer itself is joining, after it has checked that the room is still the same. By itself
//! the SDK may only resume. A refused join ends the connection at once, and the observer then joins again
//! through [`super::super::admission`].

use std::{collections::BTreeSet, io::Read};

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use flate2::read::GzDecoder;
use livekit_protocol::{JoinRequest, WrappedJoinRequest, wrapped_join_request::Compression};
use parking_lot::Mutex;
use prost::Message;
use reqwest::Url;
use serde::Deserialize;

/// Status with which a join is refused; the SDK takes it as final.
pub(in crate::observer) const REFUSED: u16 = 403;

/// Limit for an unpacked join request, in bytes; usually it is a few kB.
const MAX_REQUEST: u64 = 1024 * 1024;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Identities that are joining now.
static JOINING: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Joins of one identity pass until this value is dropped.
pub(in crate::observer) struct Open(String);

pub(in crate::observer) fn open(identity: &str) -> Open {
    JOINING.lock().insert(identity.to_owned());
    Open(identity.to_owned())
}

impl Drop for Open {
    fn drop(&mut self) {
        JOINING.lock().remove(&self.0);
    }
}

/// Whether a signalling request may go out. `authorization` is the value of its header.
pub(in crate::observer) fn allows(url: &str, authorization: &str) -> bool {
    let token = authorization.strip_prefix("Bearer ").unwrap_or(authorization);
    // A request without a token of ours is not our join.
    let Some(identity) = subject(token) else { return true };
    let joining = JOINING.lock().contains(&identity);
    joining || resumes(url)
}

/// The identity in a token. The signature is not checked.
fn subject(token: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Claims {
        sub: String,
    }
    let payload = BASE64.decode(token.split('.').nth(1)?).ok()?;
    Some(serde_json::from_slice::<Claims>(&payload).ok()?.sub)
}

/// Whether the request resumes a session that the server knows.
fn resumes(url: &str) -> bool {
    let Ok(url) = url.parse::<Url>() else { return false };
    url.query_pairs().any(|(key, value)| match &*key {
        "reconnect" => value == "1" || value == "true",
        "join_request" => join_request(&value).is_some_and(|r| r.reconnect),
        _ => false,
    })
}

fn join_request(text: &str) -> Option<JoinRequest> {
    let wrapped = WrappedJoinRequest::decode(&*BASE64.decode(text).ok()?).ok()?;
    if wrapped.compression != Compression::Gzip as i32 {
        return JoinRequest::decode(&*wrapped.join_request).ok();
    }
    let mut plain = vec![];
    GzDecoder::new(&*wrapped.join_request).take(MAX_REQUEST).read_to_end(&mut plain).ok()?;
    JoinRequest::decode(&*plain).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(identity: &str) -> String {
        let payload = format!(r#"{{"sub":"{identity}","video":{{"room":"r"}}}}"#);
        format!("Bearer head.{}.signature", BASE64.encode(payload))
    }

    fn v1(reconnect: bool) -> String {
        let request = JoinRequest { reconnect, ..Default::default() };
        let wrapped = WrappedJoinRequest { join_request: request.encode_to_vec(), compression: 0 };
        let text = BASE64.encode(wrapped.encode_to_vec());
        format!("ws://localhost:7880/rtc/v1?join_request={text}")
    }

    #[test]
    fn only_a_resume_goes_out_while_nobody_joins() {
        let us = bearer("call-history-gate-test");
        for (url, allowed) in [
            ("ws://localhost:7880/rtc?sdk=rust", false),
            ("ws://localhost:7880/rtc?reconnect=1&sid=PA_1", true),
            ("ws://localhost:7880/rtc?reconnect=0", false),
            ("not a url", false),
            (v1(true).as_str(), true),
            (v1(false).as_str(), false),
            ("ws://localhost:7880/rtc/v1?join_request=garbage", false),
        ] {
            assert_eq!(allows(url, &us), allowed, "{url}");
        }
        let open = open("call-history-gate-test");
        assert!(allows(&v1(false), &us));
        assert!(!allows(&v1(false), &bearer("call-history-somebody-else")));
        drop(open);
        assert!(!allows(&v1(false), &us));
    }

    #[test]
    fn requests_without_a_token_of_ours_are_not_our_joins() {
        assert!(allows("https://localhost/settings/regions", ""));
        assert!(allows("https://localhost/x", "Bearer garbage"));
    }
}
