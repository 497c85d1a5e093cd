//! A session: a cookie that stands for a token of the API.
//!
//! The cookie names the token and ends by itself. It is signed with the token's hash, which only the database knows: it
//! outlives a restart, holds for all receivers of one database, and is void once the token is deleted.

use axum::http::{HeaderMap, header};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use crate::{
    access::{self, Scope},
    store::{Store, StoreError},
};

const NAME: &str = "call_history";
/// Seconds.
const LIFE: u64 = 7 * 24 * 60 * 60;

#[derive(Serialize, Deserialize)]
struct Claims {
    /// The id of the token.
    sub: String,
    exp: u64,
}

/// The value of `Set-Cookie` for a token. `None`: there is no such token, or it may not read.
///
/// # Errors
/// If the database did not do it.
pub(super) async fn begin(
    store: &dyn Store,
    token: &str,
    secure: bool,
) -> Result<Option<String>, StoreError> {
    let Some(known) = access::by_token(store, token).await? else { return Ok(None) };
    if !known.scopes.contains(&Scope::Read) {
        return Ok(None);
    }
    let claims =
        Claims { sub: known.id.clone(), exp: jsonwebtoken::get_current_timestamp() + LIFE };
    let key = EncodingKey::from_secret(&known.hash);
    let signed = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key);
    Ok(signed.ok().map(|signed| cookie(&format!("{}:{signed}", known.id), LIFE, secure)))
}

/// The value of `Set-Cookie` that ends a session.
pub(super) fn end() -> String {
    cookie("", 0, false)
}

fn cookie(value: &str, seconds: u64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{NAME}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

/// What the session of a request may do; `None` if there is none that holds.
///
/// # Errors
/// If the database did not do it.
pub(crate) async fn scopes(
    store: &dyn Store,
    headers: &HeaderMap,
) -> Result<Option<Vec<Scope>>, StoreError> {
    let Some((id, signed)) = value(headers).and_then(|value| value.split_once(':')) else {
        return Ok(None);
    };
    let Some(known) = access::by_id(store, id).await? else { return Ok(None) };
    let mut validation = Validation::new(Algorithm::HS256);
    validation.leeway = 0;
    let key = DecodingKey::from_secret(&known.hash);
    let claims = jsonwebtoken::decode::<Claims>(signed, &key, &validation);
    Ok(claims.is_ok_and(|claims| claims.claims.sub == known.id).then_some(known.scopes))
}

/// Whether a request may read the API by its session: it shows numbers whole, so a session must be allowed to see them.
///
/// # Errors
/// If the database did not do it.
pub(crate) async fn opens_api(store: &dyn Store, headers: &HeaderMap) -> Result<bool, StoreError> {
    let scopes = scopes(store, headers).await?.unwrap_or_default();
    Ok(scopes.contains(&Scope::Read) && shows_numbers(&scopes))
}

pub(super) fn shows_numbers(scopes: &[Scope]) -> bool {
    scopes.contains(&Scope::Admin) || scopes.contains(&Scope::Numbers)
}

fn value(headers: &HeaderMap) -> Option<&str> {
    let all = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs =
        all.flat_map(|all| all.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == NAME).map(|(_, value)| value)
}
