//! The database: one trait, two engines.
//!
//! Only four kinds of values are stored (whole numbers, numbers, texts, bytes), so that both engines take the same
//! statements and give the same answers. Instants are milliseconds since 1970, truth values 0 and 1. Texts compare by
//! their bytes in both.
//!
//! | file | its one idea |
//! |---|---|
//! | [`sql`] | a statement: fixed text with bound values |
//! | [`sqlite`] | one writer, several readers, one file |
//! | [`postgres`] | a pool |
//! | [`migrations`] | the tables, step by step |

pub mod migrations;
pub mod postgres;
pub mod sql;
pub mod sqlite;

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
use tokio::sync::mpsc;

pub use self::sql::{Dialect, Row, Sql, Value};

/// Rows that wait between the database and the reader of a stream.
pub(crate) const STREAM_AHEAD: usize = 256;

/// Why the database did not do it. What was sent may be sent again later.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("the database does not answer as it should: {0}")]
    Database(#[from] sqlx::Error),
    #[error("the tables could not be made: {0}")]
    Migration(#[from] sqlx::migrate::MigrateError),
    #[error("{path}: {source}")]
    Folder { path: PathBuf, source: std::io::Error },
    /// The database holds what this version did not write.
    #[error("the database holds something unexpected: {0}")]
    Unexpected(&'static str),
}

/// A database. Statements of several steps are transactions; what is committed is on disk.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    fn dialect(&self) -> Dialect;

    /// Begins a transaction that may write.
    async fn begin(&self) -> Result<Box<dyn Transaction>, StoreError>;

    /// All rows of a statement that only reads.
    async fn read(&self, sql: Sql) -> Result<Vec<Row>, StoreError>;

    /// The same, row by row: for what does not fit into memory. Dropping the receiver ends it.
    fn stream(&self, sql: Sql) -> mpsc::Receiver<Result<Row, StoreError>>;

    /// Ends all connections.
    async fn close(&self);
}

/// Dropped without a commit it changes nothing.
#[async_trait]
pub trait Transaction: Send {
    async fn read(&mut self, sql: Sql) -> Result<Vec<Row>, StoreError>;
    /// Returns the number of rows that changed.
    async fn execute(&mut self, sql: Sql) -> Result<u64, StoreError>;
    /// When it returns, all of it is on disk.
    async fn commit(self: Box<Self>) -> Result<(), StoreError>;
}

/// Where the database is.
#[derive(Clone, Debug)]
pub enum Place {
    /// A folder; the file in it is made if there is none.
    Sqlite { folder: PathBuf, max_pages: Option<u32> },
    /// A URL, which may hold a password.
    Postgres { url: SecretString },
}

impl Place {
    pub fn folder(folder: impl Into<PathBuf>) -> Self {
        Self::Sqlite { folder: folder.into(), max_pages: None }
    }

    pub fn postgres(url: impl Into<String>) -> Self {
        Self::Postgres { url: SecretString::from(url.into()) }
    }
}

/// Opens the database and brings its tables up to date.
///
/// # Errors
/// If it cannot be reached, or was written by a newer version.
pub async fn open(place: &Place) -> Result<Arc<dyn Store>, StoreError> {
    Ok(match place {
        Place::Sqlite { folder, max_pages } => {
            Arc::new(sqlite::Sqlite::open(folder, *max_pages).await?)
        }
        Place::Postgres { url } => Arc::new(postgres::Postgres::open(url.expose_secret()).await?),
    })
}
