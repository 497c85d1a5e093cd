//! The bearer token of a request (docs/contract.md §7): HS256. Every attempt has a new token, so that a
//! record that is sent after a long outage does not carry an expired one. The token binds the body.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode, errors::Error,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Seconds for which a token is valid.
const VALID_FOR: i64 = 300;

/// The content of a token. The worker signs it, receivers verify it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    pub phone_number: String,
    /// The record's `end_time`, else its `start_time`, as in the body.
    pub timestamp: String,
    /// Unix seconds.
    pub iat: i64,
    /// Unix seconds.
    pub exp: i64,
    /// The record's `call_id`.
    pub jti: String,
    /// Base64 of the SHA-256 of the body.
    pub sha256: String,
}

/// The fields of a sealed body that go into its token. A field that the body lacks is empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Subject {
    phone_number: String,
    start_time: Option<String>,
    end_time: Option<String>,
}

impl Claims {
    /// The claims for a record. `sent`: the bytes of the body, which may be compressed. `now`: Unix
    /// seconds.
    pub fn of(call_id: &str, record: &[u8], sent: &[u8], now: i64) -> Self {
        let subject: Subject = serde_json::from_slice(record).unwrap_or_default();
        Self {
            phone_number: subject.phone_number,
            timestamp: subject.end_time.or(subject.start_time).unwrap_or_default(),
            iat: now,
            exp: now + VALID_FOR,
            jti: call_id.to_owned(),
            sha256: digest(sent),
        }
    }

    /// Signs the claims.
    ///
    /// # Errors
    /// If signing fails; with HS256 it cannot.
    pub fn sign(&self, secret: &str) -> Result<String, Error> {
        let key = EncodingKey::from_secret(secret.as_bytes());
        encode(&Header::new(Algorithm::HS256), self, &key)
    }

    /// Reads the claims from a token.
    ///
    /// # Errors
    /// If the token is not signed with this secret, or has expired.
    pub fn verify(token: &str, secret: &str) -> Result<Self, Error> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_required_spec_claims(&["exp"]);
        let key = DecodingKey::from_secret(secret.as_bytes());
        Ok(decode::<Self>(token, &key, &validation)?.claims)
    }

    /// Whether the token was made for this body.
    pub fn bind(&self, body: &[u8]) -> bool {
        self.sha256 == digest(body)
    }
}

fn digest(body: &[u8]) -> String {
    BASE64.encode(Sha256::digest(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "a secret of some length, as it should be";
    const BODY: &[u8] = br#"{"phone_number":"+1","start_time":"a","end_time":"b"}"#;

    fn now() -> i64 {
        chrono::Utc::now().timestamp()
    }

    #[test]
    fn a_signed_token_is_verified_and_bound_to_its_body() {
        let claims = Claims::of("id", BODY, BODY, now());
        assert_eq!((claims.phone_number.as_str(), claims.timestamp.as_str()), ("+1", "b"));
        let token = claims.sign(SECRET).unwrap();
        let read = Claims::verify(&token, SECRET).unwrap();
        assert_eq!(read, claims);
        assert!(read.bind(BODY) && !read.bind(b"another"));
        assert!(Claims::verify(&token, "another secret").is_err());
    }

    #[test]
    fn an_expired_token_and_one_of_another_algorithm_are_refused() {
        let old = Claims::of("id", BODY, BODY, now() - 3600).sign(SECRET).unwrap();
        assert!(Claims::verify(&old, SECRET).is_err());
        let none = "eyJhbGciOiJub25lIn0.e30.";
        assert!(Claims::verify(none, SECRET).is_err());
    }

    #[test]
    fn a_body_that_is_not_a_record_has_claims_too() {
        for body in [&b"{}"[..], b"[]", b"\xff", br#"{"start_time":"a"}"#] {
            let claims = Claims::of("id", body, body, 0);
            assert!(claims.timestamp.is_empty() || claims.timestamp == "a");
            assert!(claims.bind(body));
        }
    }
}
