//! A session: a cookie that stands for the password, or for a token of the API.
//!
//! The cookie says what it stands for, and ends by itself. It is signed with a key that only the database has (a token's
//! hash, or the key that belongs to the password): it outlives a restart, holds for all receivers of one database, and is
//! void once the token is deleted or the password is changed.

use axum::http::HeaderMap;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::headers;
use crate::{
    access::{self, Scope},
    password,
    store::{Store, StoreError},
};

const NAME: &str = "call_history";
/// Seconds.
const LIFE: u64 = 7 * 24 * 60 * 60;
/// In place of a token's id: who gave the password. Ids of tokens are longer.
const OWNER: &str = "owner";
/// What the password allows.
const OF_OWNER: [Scope; 3] = [Scope::Read, Scope::Numbers, Scope::Admin];

/// What a signature is for: one for a cookie is none for a form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Use {
    Cookie,
    /// A form that only a page of this session can have sent.
    Form,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    /// The id of the token, or [`OWNER`].
    sub: String,
    r#use: Use,
    exp: u64,
}

/// Someone who has logged in.
pub(crate) struct Session {
    id: String,
    key: Vec<u8>,
    scopes: Vec<Scope>,
}

impl Session {
    /// For who gives the password, or a token that reads.
    ///
    /// # Errors
    /// If the database did not do it.
    pub(super) async fn begin(store: &dyn Store, secret: &str) -> Result<Option<Self>, StoreError> {
        if let Some(known) = access::by_token(store, secret.trim()).await? {
            let session = Self { id: known.id, key: known.hash, scopes: known.scopes };
            return Ok(Some(session).filter(|session| session.may(Scope::Read)));
        }
        Ok(password::check(store, secret).await?.map(Self::of_owner))
    }

    /// Of a request; `None` if it has none that holds.
    ///
    /// # Errors
    /// If the database did not do it.
    pub(super) async fn of(
        store: &dyn Store,
        headers: &HeaderMap,
    ) -> Result<Option<Self>, StoreError> {
        let value = headers::cookie(headers, NAME).and_then(|value| value.split_once(':'));
        let Some((id, signed)) = value else { return Ok(None) };
        let session = if id == OWNER {
            password::session_key(store).await?.map(Self::of_owner)
        } else {
            let known = access::by_id(store, id).await?;
            known.map(|known| Self { id: known.id, key: known.hash, scopes: known.scopes })
        };
        Ok(session.filter(|session| session.has_signed(signed, Use::Cookie)))
    }

    fn of_owner(key: Vec<u8>) -> Self {
        Self { id: OWNER.into(), key, scopes: OF_OWNER.to_vec() }
    }

    pub(super) fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }

    /// Phone numbers are shown whole.
    pub(super) fn shows_numbers(&self) -> bool {
        self.may(Scope::Admin) || self.may(Scope::Numbers)
    }

    /// The value of `Set-Cookie`.
    pub(super) fn cookie(&self, secure: bool) -> String {
        cookie(&format!("{}:{}", self.id, self.signed(Use::Cookie)), LIFE, secure)
    }

    /// For a form that changes something: no other site can know it.
    pub(super) fn form_token(&self) -> String {
        self.signed(Use::Form)
    }

    pub(super) fn has_sent(&self, form_token: &str) -> bool {
        self.has_signed(form_token, Use::Form)
    }

    fn signed(&self, r#use: Use) -> String {
        let exp = jsonwebtoken::get_current_timestamp() + LIFE;
        let claims = Claims { sub: self.id.clone(), r#use, exp };
        let key = EncodingKey::from_secret(&self.key);
        // It fails for claims that are no JSON only. An empty text opens nothing.
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).unwrap_or_default()
    }

    fn has_signed(&self, text: &str, r#use: Use) -> bool {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        let key = DecodingKey::from_secret(&self.key);
        let claims = jsonwebtoken::decode::<Claims>(text, &key, &validation);
        claims.is_ok_and(|token| token.claims.sub == self.id && token.claims.r#use == r#use)
    }
}

/// The value of `Set-Cookie` that ends a session.
pub(super) fn end() -> String {
    cookie("", 0, false)
}

fn cookie(value: &str, seconds: u64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{NAME}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

/// Whether a request comes from somebody who has logged in, and may look at the pages.
///
/// # Errors
/// If the database did not do it.
pub(crate) async fn opens_pages(
    store: &dyn Store,
    headers: &HeaderMap,
) -> Result<bool, StoreError> {
    Ok(Session::of(store, headers).await?.is_some_and(|session| session.may(Scope::Read)))
}

/// Whether a request may read the API by its session: the API shows numbers whole, so a session must be allowed to see
/// them.
///
/// # Errors
/// If the database did not do it.
pub(crate) async fn opens_api(store: &dyn Store, headers: &HeaderMap) -> Result<bool, StoreError> {
    let session = Session::of(store, headers).await?;
    Ok(session.is_some_and(|session| session.may(Scope::Read) && session.shows_numbers()))
}
