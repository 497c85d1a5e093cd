//! Who may do what: tokens and their scopes.
//!
//! A token is 256 random bits; the database has its SHA-256 only. On a loopback address without any token or password
//! everything is open, so that a first look needs no setting. Even then a page of another site, open in a browser on the same
//! machine, may not reach it: the `Host` must be a name of this machine, and an `Origin` the same.

use std::{fmt, net::IpAddr};

use axum::http::{HeaderMap, StatusCode, header};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use rand::RngCore;
use record::Moment;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    answer::Refused,
    page::session,
    password,
    store::{Sql, Store, StoreError, Value},
};

/// Headers of a request that a proxy passes on.
const FORWARDED: [&str; 5] =
    ["forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via"];
/// Tokens begin with it, so that scanners for secrets know them.
const PREFIX: &str = "chr_";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Post records and events.
    Ingest,
    /// Read everything.
    Read,
    /// Delete, and manage tokens.
    Admin,
    /// See phone numbers whole on the page.
    Numbers,
}

impl Scope {
    pub const ALL: [Self; 4] = [Self::Ingest, Self::Read, Self::Admin, Self::Numbers];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Admin => "admin",
            Self::Numbers => "numbers",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == text)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A token as lists show it.
#[derive(Debug, Serialize)]
pub struct Listed {
    pub id: String,
    pub name: String,
    pub scopes: Vec<Scope>,
    pub created_at: String,
}

/// Makes a token. It is shown this once.
///
/// # Errors
/// If the database did not do it.
pub async fn create(
    store: &dyn Store,
    name: &str,
    scopes: &[Scope],
    now: Moment,
) -> Result<(Listed, String), StoreError> {
    let mut random = [0; 32];
    rand::rng().fill_bytes(&mut random);
    let mut id = [0; 6];
    rand::rng().fill_bytes(&mut id);
    let token = format!("{PREFIX}{}", BASE64.encode(random));
    let listed = Listed {
        id: BASE64.encode(id),
        name: crate::call::text(name),
        scopes: scopes.to_vec(),
        created_at: now.to_rfc3339(),
    };
    let words: Vec<&str> = scopes.iter().map(|scope| scope.as_str()).collect();
    let mut insert = Sql::new(
        store.dialect(),
        "INSERT INTO tokens (id, hash, name, scopes, created_at) VALUES (",
    );
    insert.values::<Value>([
        listed.id.as_str().into(),
        hash(&token).into(),
        listed.name.as_str().into(),
        words.join(" ").into(),
        now.millis().into(),
    ]);
    insert.push(")");
    let mut transaction = store.begin().await?;
    transaction.execute(insert).await?;
    transaction.commit().await?;
    Ok((listed, token))
}

/// All tokens, the oldest first.
///
/// # Errors
/// If the database did not do it.
pub async fn list(store: &dyn Store) -> Result<Vec<Listed>, StoreError> {
    let sql = "SELECT id, name, scopes, created_at FROM tokens ORDER BY created_at, id";
    let rows = store.read(Sql::new(store.dialect(), sql)).await?;
    let listed = |row: &crate::store::Row| Listed {
        id: row.text(0).unwrap_or_default().into(),
        name: row.text(1).unwrap_or_default().into(),
        scopes: scopes(row.text(2)),
        created_at: Moment::from_millis(row.int(3).unwrap_or_default()).to_rfc3339(),
    };
    Ok(rows.iter().map(listed).collect())
}

/// Deletes a token; false if there is none with this id.
///
/// # Errors
/// If the database did not do it.
pub async fn delete(store: &dyn Store, id: &str) -> Result<bool, StoreError> {
    let mut sql = Sql::new(store.dialect(), "DELETE FROM tokens WHERE id = ");
    sql.bind(crate::call::text(id));
    let mut transaction = store.begin().await?;
    let deleted = transaction.execute(sql).await?;
    transaction.commit().await?;
    Ok(deleted > 0)
}

/// A token that the database knows.
pub(crate) struct Known {
    pub(crate) id: String,
    pub(crate) hash: Vec<u8>,
    pub(crate) scopes: Vec<Scope>,
}

/// # Errors
/// If the database did not do it.
pub(crate) async fn by_token(store: &dyn Store, token: &str) -> Result<Option<Known>, StoreError> {
    known(store, "hash = ", hash(token).into()).await
}

/// # Errors
/// If the database did not do it.
pub(crate) async fn by_id(store: &dyn Store, id: &str) -> Result<Option<Known>, StoreError> {
    known(store, "id = ", crate::call::text(id).into()).await
}

async fn known(
    store: &dyn Store,
    which: &'static str,
    value: Value,
) -> Result<Option<Known>, StoreError> {
    let mut sql = Sql::new(store.dialect(), "SELECT id, hash, scopes FROM tokens WHERE ");
    sql.push(which).bind(value);
    let rows = store.read(sql).await?;
    Ok(rows.first().map(|row| Known {
        id: row.text(0).unwrap_or_default().into(),
        hash: row.bytes(1).unwrap_or_default().into(),
        scopes: scopes(row.text(2)),
    }))
}

fn scopes(words: Option<&str>) -> Vec<Scope> {
    words.unwrap_or_default().split(' ').filter_map(Scope::parse).collect()
}

pub(crate) fn hash(token: &str) -> Vec<u8> {
    Sha256::digest(token).to_vec()
}

/// The bearer token of a request.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Checks that a request may do what needs a scope. `open`: this machine needs no token as long as there is none.
///
/// # Errors
/// 401 without a token that is known, 403 with one that has not the scope.
pub async fn check(
    store: &dyn Store,
    headers: &HeaderMap,
    open: bool,
    scope: Scope,
) -> Result<(), Refused> {
    if let Some(token) = bearer(headers).filter(|token| token.starts_with(PREFIX)) {
        let mut sql = Sql::new(store.dialect(), "SELECT scopes FROM tokens WHERE hash = ");
        sql.bind(hash(token));
        let rows = store.read(sql).await?;
        let Some(row) = rows.first() else {
            return Err(Refused::unauthorized("the token is not known"));
        };
        if scopes(row.text(0)).contains(&scope) {
            return Ok(());
        }
        let problem = format!("the token has not the scope {scope}");
        return Err(Refused::new(StatusCode::FORBIDDEN, problem));
    }
    if scope == Scope::Read && session::opens_api(store, headers).await? {
        return Ok(());
    }
    if !open || is_closed(store, scope).await? {
        return Err(Refused::unauthorized("a token is needed: Authorization: Bearer …"));
    }
    if is_of_this_machine(headers) {
        return Ok(());
    }
    let problem = "without a token only this machine may ask, by the name localhost or an address of loopback";
    Err(Refused::new(StatusCode::FORBIDDEN, problem))
}

/// Whether there are tokens, or a password. Intake stays open until there is a token for intake: what is for readers does
/// not stop the worker.
async fn is_closed(store: &dyn Store, scope: Scope) -> Result<bool, StoreError> {
    let rows = store.read(Sql::new(store.dialect(), "SELECT scopes FROM tokens")).await?;
    if rows.iter().any(|row| scope != Scope::Ingest || scopes(row.text(0)).contains(&scope)) {
        return Ok(true);
    }
    Ok(scope != Scope::Ingest && password::session_key(store).await?.is_some())
}

fn is_of_this_machine(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST).is_some_and(is_local);
    // Set by proxies: the request is somebody else's.
    let passed_on = FORWARDED.iter().any(|name| headers.contains_key(*name));
    let origin =
        text(header::ORIGIN).map(|origin| origin.split_once("://").map_or("", |(_, at)| at));
    // A browser names where a page that posts is from; others do not.
    host && !passed_on && origin.is_none_or(|origin| Some(origin) == text(header::HOST))
}

/// `host` may have a port.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_local() {
        for host in
            ["localhost", "localhost:8082", "127.0.0.1:1", "127.1.2.3", "[::1]:8082", "LOCALHOST"]
        {
            assert!(is_local(host), "{host}");
        }
        for host in
            ["example.com", "localhost.example.com", "10.0.0.1", "", "[::2]", "127.0.0.1.nip.io"]
        {
            assert!(!is_local(host), "{host}");
        }
    }

    #[test]
    fn pages_of_other_sites_are_strangers() {
        let of = |origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, "localhost:8082".parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            let before = is_of_this_machine(&headers);
            headers.insert("x-forwarded-for", "192.0.2.1".parse().unwrap());
            assert!(!is_of_this_machine(&headers), "a proxy passes on what others ask");
            before
        };
        assert!(of(None) && of(Some("http://localhost:8082")));
        assert!(
            !of(Some("https://evil.example"))
                && !of(Some("null"))
                && !of(Some("http://localhost:3000"))
        );
    }
}
