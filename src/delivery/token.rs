//! The bearer token of a request (contract §4): HS256, minted anew for every attempt, so that a
//! record sent after a long outage does not carry an expired one. It binds the body.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::config::Secret;

/// Seconds a token is good for.
const VALID_FOR: i64 = 300;

#[derive(Serialize)]
struct Claims<'a> {
    phone_number: &'a str,
    timestamp: &'a str,
    iat: i64,
    exp: i64,
    /// The record's id.
    jti: &'a str,
    /// Base64 of the SHA-256 of the body.
    sha256: String,
}

/// What of a sealed record goes into its token.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(super) struct Subject {
    phone_number: String,
    start_time: Option<String>,
    end_time: Option<String>,
}

/// `now`: Unix seconds.
///
/// # Errors
/// If signing fails, which with HS256 it does not.
pub(super) fn mint(
    secret: &Secret,
    id: &str,
    subject: &Subject,
    body: &[u8],
    now: i64,
) -> Result<String, jsonwebtoken::errors::Error> {
    let claims = Claims {
        phone_number: &subject.phone_number,
        timestamp: subject.end_time.as_deref().or(subject.start_time.as_deref()).unwrap_or(""),
        iat: now,
        exp: now + VALID_FOR,
        jti: id,
        sha256: BASE64.encode(Sha256::digest(body)),
    };
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    encode(&Header::new(Algorithm::HS256), &claims, &key)
}
