//! Who may upload: an agent signs with the key and the secret of its LiveKit server (observed, docs/collector.md).

use axum::http::HeaderMap;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::access::bearer;

/// Seconds by which the agent's clock may be wrong.
const LEEWAY: u64 = 60;

/// Key and secret of a LiveKit server.
#[derive(Clone, Debug)]
pub struct Key {
    pub key: String,
    pub secret: SecretString,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    #[serde(default)]
    observability: Grant,
}

#[derive(Default, Deserialize)]
struct Grant {
    #[serde(default)]
    write: bool,
}

/// # Errors
/// Why it may not.
pub(super) fn check(headers: &HeaderMap, keys: &[Key]) -> Result<(), &'static str> {
    let token = bearer(headers).ok_or("an upload needs a token of LiveKit's key")?;
    if decode_header(token).is_ok_and(|header| header.alg != Algorithm::HS256) {
        return Err("the token of an upload must be signed with HS256");
    }
    let mut validation = Validation::new(Algorithm::HS256);
    validation.leeway = LEEWAY;
    validation.validate_nbf = true;
    validation.validate_aud = false;
    let mut why = "the token of an upload is not signed with our LiveKit secret";
    for Key { key, secret } in keys {
        let secret = DecodingKey::from_secret(secret.expose_secret().as_bytes());
        match decode::<Claims>(token, &secret, &validation) {
            Ok(token) if token.claims.iss != *key => {
                why = "the token of an upload is of another LiveKit key";
            }
            Ok(token) if !token.claims.observability.write => {
                return Err("the token of an upload has not the grant observability");
            }
            Ok(_) => return Ok(()),
            Err(e) => match e.kind() {
                jsonwebtoken::errors::ErrorKind::ExpiredSignature => {
                    return Err("the token of an upload has expired");
                }
                jsonwebtoken::errors::ErrorKind::ImmatureSignature => {
                    return Err("the token of an upload is not valid yet: compare the clocks");
                }
                _ => {}
            },
        }
    }
    Err(why)
}

#[cfg(test)]
mod tests {
    use axum::http::header;
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::{Value as Json, json};

    use super::*;

    const SECRET: &str = "a secret of some length, as it should be";

    fn checked(algorithm: Algorithm, claims: &Json, secret: &str) -> Result<(), &'static str> {
        let key = EncodingKey::from_secret(secret.as_bytes());
        let token = encode(&Header::new(algorithm), claims, &key).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
        let other = Key { key: "other".into(), secret: "another secret".to_owned().into() };
        let ours = Key { key: "ours".into(), secret: SECRET.to_owned().into() };
        check(&headers, &[other, ours])
    }

    #[test]
    fn only_a_token_of_our_key_with_the_grant_is_taken() {
        let now = chrono::Utc::now().timestamp();
        let good = json!({"iss": "ours", "sub": "", "nbf": now, "exp": now + 21_600, "observability": {"write": true}});
        let with = |key: &str, value: Json| {
            let mut claims = good.clone();
            claims[key] = value;
            claims
        };
        let hs256 = |claims: &Json| checked(Algorithm::HS256, claims, SECRET);
        assert_eq!(hs256(&good), Ok(()));
        assert_eq!(hs256(&with("nbf", json!(now + 30))), Ok(()), "clocks differ");
        for wrong in [
            with("iss", json!("other")),
            with("nbf", json!(now + 600)),
            with("exp", json!(now - 600)),
            with("observability", json!({"write": false})),
            with("observability", json!({})),
            with("observability", Json::Null),
            with("exp", Json::Null),
        ] {
            assert!(hs256(&wrong).is_err(), "{wrong}");
        }
        assert!(checked(Algorithm::HS256, &good, "another").is_err());
        assert!(checked(Algorithm::HS512, &good, SECRET).is_err());
        assert!(check(&HeaderMap::new(), &[]).is_err());
    }
}
