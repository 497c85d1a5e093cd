//! The password of the page.
//!
//! There is one, or none. Whoever gives it may do everything but post. The database has its Argon2id hash only, and a key
//! that signs the cookies of those who gave it.

use std::fmt;

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier},
};
use rand::RngCore;
use record::Moment;
use tokio::sync::Semaphore;

use crate::store::{Sql, Store, StoreError, Value};

/// Characters at least. Nothing else is asked of a password: length is what makes it strong.
pub const SHORTEST: usize = 12;
/// Bytes at most: nobody may have us hash a book.
pub const LONGEST: usize = 1_000;
/// A hash takes 19 MB and some 50 ms of a processor. More at the same time wait.
static PLACES: Semaphore = Semaphore::const_new(2);

/// Why a password was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SetError {
    #[error(transparent)]
    Weak(#[from] Weak),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A password that is too short or too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Weak;

impl fmt::Display for Weak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the password must have {SHORTEST} characters or more, and {LONGEST} bytes or fewer"
        )
    }
}

/// Sets the password, whether there was one or not. Sessions of the one before end.
///
/// # Errors
/// If the password is weak, or the database did not do it.
pub async fn set(store: &dyn Store, password: &str, now: Moment) -> Result<(), SetError> {
    let row = row(password, now).await?;
    let mut sql =
        Sql::new(store.dialect(), "INSERT INTO password (one, hash, session_key, set_at) VALUES (");
    sql.values(row).push(
        ") ON CONFLICT (one) DO UPDATE SET hash = excluded.hash, \
         session_key = excluded.session_key, set_at = excluded.set_at",
    );
    write(store, sql).await?;
    Ok(())
}

/// Sets the password if nobody can log in yet: there is no password, and no token that reads. Returns whether it did.
///
/// # Errors
/// If the password is weak, or the database did not do it.
pub async fn set_first(store: &dyn Store, password: &str, now: Moment) -> Result<bool, SetError> {
    let row = row(password, now).await?;
    let mut sql =
        Sql::new(store.dialect(), "INSERT INTO password (one, hash, session_key, set_at) SELECT ");
    sql.values(row).push(
        " WHERE NOT EXISTS (SELECT 1 FROM tokens WHERE scopes LIKE '%read%') ON CONFLICT (one) DO NOTHING",
    );
    Ok(write(store, sql).await? > 0)
}

/// Removes the password. Returns whether there was one.
///
/// # Errors
/// If the database did not do it.
pub async fn remove(store: &dyn Store) -> Result<bool, StoreError> {
    Ok(write(store, Sql::new(store.dialect(), "DELETE FROM password")).await? > 0)
}

/// Whether anybody can log in: by password, or by a token that reads.
///
/// # Errors
/// If the database did not do it.
pub(crate) async fn someone_can_log_in(store: &dyn Store) -> Result<bool, StoreError> {
    let sql = "SELECT set_at FROM password UNION ALL \
               SELECT created_at FROM tokens WHERE scopes LIKE '%read%'";
    Ok(!store.read(Sql::new(store.dialect(), sql)).await?.is_empty())
}

/// The key of sessions; `None` if there is no password.
///
/// # Errors
/// If the database did not do it.
pub(crate) async fn session_key(store: &dyn Store) -> Result<Option<Vec<u8>>, StoreError> {
    let rows = store.read(Sql::new(store.dialect(), "SELECT session_key FROM password")).await?;
    Ok(rows.first().and_then(|row| row.bytes(0)).map(<[u8]>::to_vec))
}

/// The key of sessions, for who gives the right password.
///
/// # Errors
/// If the database did not do it.
pub(crate) async fn check(
    store: &dyn Store,
    password: &str,
) -> Result<Option<Vec<u8>>, StoreError> {
    if password.len() > LONGEST {
        return Ok(None);
    }
    let sql = Sql::new(store.dialect(), "SELECT hash, session_key FROM password");
    let rows = store.read(sql).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let (Some(hash), Some(key)) = (row.text(0), row.bytes(1)) else { return Ok(None) };
    let (hash, password) = (hash.to_owned(), password.trim().to_owned());
    let right = apart(move || {
        let right = Argon2::default().verify_password(password.as_bytes(), hash.as_str());
        Some(right.is_ok())
    });
    Ok(right.await?.then(|| key.to_vec()))
}

/// Blanks around a password do not count: they come from copying.
async fn row(password: &str, now: Moment) -> Result<[Value; 4], SetError> {
    let password = password.trim();
    if password.chars().count() < SHORTEST || password.len() > LONGEST {
        return Err(Weak.into());
    }
    let (mut salt, mut key) = ([0; 16], vec![0; 32]);
    rand::rng().fill_bytes(&mut salt);
    rand::rng().fill_bytes(&mut key);
    let password = password.to_owned();
    let hash = apart(move || {
        let hash = Argon2::default().hash_password_with_salt(password.as_bytes(), &salt);
        Some(hash.ok()?.to_string())
    });
    Ok([1.into(), hash.await?.into(), key.into(), now.millis().into()])
}

/// Runs what keeps a processor busy, on a thread for that.
async fn apart<T: Send + 'static>(
    work: impl FnOnce() -> Option<T> + Send + 'static,
) -> Result<T, StoreError> {
    // Never closed.
    let _place = PLACES.acquire().await.ok();
    let done = tokio::task::spawn_blocking(work).await;
    done.ok().flatten().ok_or(StoreError::Unexpected("a password that cannot be hashed"))
}

async fn write(store: &dyn Store, sql: Sql) -> Result<u64, StoreError> {
    let mut transaction = store.begin().await?;
    let changed = transaction.execute(sql).await?;
    transaction.commit().await?;
    Ok(changed)
}
