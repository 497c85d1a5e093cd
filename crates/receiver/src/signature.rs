//! The token that signs a post (docs/contract.md §7).
//!
//! Senders that know only the user's document sign `phone_number` and `timestamp`, without an expiry. Nothing more is
//! asked of them. What a token says beyond that must be true.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, errors::ErrorKind};
use record::Moment;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use sha2::{Digest, Sha256};

/// Seconds by which the sender's clock may be wrong.
const LEEWAY: u64 = 60;

/// What a token says.
#[derive(Clone, Debug, Deserialize)]
pub struct Token {
    phone_number: String,
    timestamp: String,
    #[serde(default)]
    jti: Option<String>,
    #[serde(default)]
    sha256: Option<String>,
}

/// What a token is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub phone_number: &'a str,
    pub timestamp: &'a str,
    /// The call, or the event.
    pub id: &'a str,
}

impl Token {
    /// Reads a token whose signature is right.
    ///
    /// # Errors
    /// Why it is refused, without its content.
    pub fn verify(token: &str, secret: &SecretString) -> Result<Self, &'static str> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.algorithms = vec![Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
        validation.required_spec_claims.clear();
        validation.leeway = LEEWAY;
        validation.validate_aud = false;
        let key = DecodingKey::from_secret(secret.expose_secret().as_bytes());
        match decode::<Self>(token, &key, &validation) {
            Ok(read) => Ok(read.claims),
            Err(e) => Err(match e.kind() {
                ErrorKind::ExpiredSignature => "the token has expired",
                ErrorKind::InvalidSignature => "the token is not signed with our secret",
                ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => {
                    "the token must be signed with HS256, HS384 or HS512"
                }
                ErrorKind::Json(_) => "the token must hold the texts phone_number and timestamp",
                _ => "the token is none",
            }),
        }
    }

    /// Whether the token is for these bytes, which are those that were sent. It need not say so.
    ///
    /// # Errors
    /// If it says otherwise.
    pub fn binds(&self, sent: &[u8]) -> Result<(), &'static str> {
        let same = |digest: &String| *digest == BASE64.encode(Sha256::digest(sent));
        match self.sha256.as_ref().is_none_or(same) {
            true => Ok(()),
            false => Err("the token is for another body"),
        }
    }

    /// Whether the token is for this call.
    ///
    /// # Errors
    /// What differs.
    pub fn is_for(&self, subject: Subject<'_>) -> Result<(), &'static str> {
        if self.phone_number != subject.phone_number {
            return Err("the token is for another phone_number");
        }
        let same_instant = || {
            let (ours, theirs) =
                (Moment::parse_rfc3339(&self.timestamp), Moment::parse_rfc3339(subject.timestamp));
            ours.is_some() && ours == theirs
        };
        if self.timestamp != subject.timestamp && !same_instant() {
            return Err("the token is for another timestamp");
        }
        if self.jti.as_ref().is_some_and(|id| id != subject.id) {
            return Err("the token is for another call");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value, json};

    use super::*;

    const SECRET: &str = "a secret of some length, as it should be";
    const SUBJECT: Subject<'_> =
        Subject { phone_number: "+1", timestamp: "2026-11-23T07:24:31.120Z", id: "call" };

    fn secret() -> SecretString {
        SECRET.to_owned().into()
    }

    fn signed(algorithm: Algorithm, claims: &Value, secret: &str) -> String {
        let key = EncodingKey::from_secret(secret.as_bytes());
        encode(&Header::new(algorithm), claims, &key).unwrap()
    }

    fn verify(claims: &Value) -> Result<(), &'static str> {
        let token = Token::verify(&signed(Algorithm::HS256, claims, SECRET), &secret())?;
        token.binds(b"body")?;
        token.is_for(SUBJECT)
    }

    #[test]
    fn a_token_is_checked_for_what_it_says() {
        let time = SUBJECT.timestamp;
        let now = chrono::Utc::now().timestamp();
        let digest = BASE64.encode(Sha256::digest(b"body"));
        for (claims, expected) in [
            (json!({"phone_number": "+1", "timestamp": time}), Ok(())),
            (json!({"phone_number": "+1", "timestamp": "2026-11-23T08:24:31.120+01:00"}), Ok(())),
            (json!({"phone_number": "+1", "timestamp": time, "exp": now - 30, "aud": "x"}), Ok(())),
            (
                json!({"phone_number": "+1", "timestamp": time, "jti": "call", "sha256": digest}),
                Ok(()),
            ),
            (
                json!({"phone_number": "+1", "timestamp": time, "exp": now - 90}),
                Err("the token has expired"),
            ),
            (
                json!({"phone_number": "+1", "timestamp": time, "exp": "never"}),
                Err("the token is none"),
            ),
            (
                json!({"phone_number": "+2", "timestamp": time}),
                Err("the token is for another phone_number"),
            ),
            (
                json!({"phone_number": "+1", "timestamp": "later"}),
                Err("the token is for another timestamp"),
            ),
            (
                json!({"phone_number": "+1", "timestamp": time, "jti": "b"}),
                Err("the token is for another call"),
            ),
            (
                json!({"phone_number": "+1", "timestamp": time, "sha256": "b"}),
                Err("the token is for another body"),
            ),
            (
                json!({"timestamp": time}),
                Err("the token must hold the texts phone_number and timestamp"),
            ),
            (
                json!({"phone_number": 1, "timestamp": time}),
                Err("the token must hold the texts phone_number and timestamp"),
            ),
        ] {
            assert_eq!(verify(&claims), expected, "{claims}");
        }
    }

    #[test]
    fn only_our_secret_and_the_hs_algorithms_count() {
        let claims = json!({"phone_number": "+1", "timestamp": SUBJECT.timestamp});
        for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
            assert!(Token::verify(&signed(algorithm, &claims, SECRET), &secret()).is_ok());
            assert!(Token::verify(&signed(algorithm, &claims, "another"), &secret()).is_err());
        }
        for token in ["", "a.b.c", "eyJhbGciOiJub25lIn0.e30.", "eyJhbGciOiJIUzI1NiJ9.e30."] {
            assert!(Token::verify(token, &secret()).is_err(), "{token}");
        }
    }
}
