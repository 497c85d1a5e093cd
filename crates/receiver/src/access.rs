//! Tokens of the API and their scopes. A token is 256 random bits; the database has its SHA-256 only.

use std::fmt;

use axum::http::{HeaderMap, header};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use rand::RngCore;
use record::Moment;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::store::{Sql, Store, StoreError, Value};

/// Tokens begin with it, so that scanners for secrets know them.
pub(crate) const PREFIX: &str = "chr_";

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

/// The scopes of each token.
///
/// # Errors
/// If the database did not do it.
pub(crate) async fn all_scopes(store: &dyn Store) -> Result<Vec<Vec<Scope>>, StoreError> {
    let rows = store.read(Sql::new(store.dialect(), "SELECT scopes FROM tokens")).await?;
    Ok(rows.iter().map(|row| scopes(row.text(0))).collect())
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
