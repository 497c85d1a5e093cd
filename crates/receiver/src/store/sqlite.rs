//! SQLite: one file, one connection that writes, several that read.
//!
//! With one writer no transaction waits for another one inside SQLite, and none is refused as busy. A commit is on disk
//! when it returns: write-ahead log, synchronous FULL. Another process may use the same file; its writes are waited
//! for.

use std::{
    fs::{self, File},
    path::Path,
    time::Duration,
};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::{
    AssertSqlSafe, Column, ConnectOptions, Row as _, SqlitePool, TypeInfo, ValueRef,
    query::Query,
    sqlite::{
        SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow,
        SqliteSynchronous,
    },
};
use tokio::sync::mpsc;

use super::{Dialect, Row, STREAM_AHEAD, Sql, Store, StoreError, Transaction, Value, migrations};

/// The database's file in its folder.
const FILE: &str = "receiver.sqlite";
/// Two processes that start at once make the tables one after the other.
const LOCK: &str = "receiver.lock";
/// How long a write waits for another process.
const BUSY: Duration = Duration::from_secs(10);
/// How long a request waits for a connection.
const ACQUIRE: Duration = Duration::from_secs(30);
const READERS: u32 = 4;

pub struct Sqlite {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Sqlite {
    /// `max_pages`: the file does not become larger than so many pages; for tests of a full disk.
    ///
    /// # Errors
    /// If the folder or the file cannot be used.
    pub async fn open(folder: &Path, max_pages: Option<u32>) -> Result<Self, StoreError> {
        let failed = |source| StoreError::Folder { path: folder.to_owned(), source };
        make_folder(folder).map_err(failed)?;
        let lock = File::create(folder.join(LOCK)).map_err(failed)?;
        // Waits for the other process on a thread for blocking work.
        let lock = tokio::task::spawn_blocking(move || lock.lock().map(|()| lock));
        let lock = lock.await.unwrap_or_else(|e| Err(std::io::Error::other(e))).map_err(failed)?;

        let mut options = SqliteConnectOptions::new()
            .filename(folder.join(FILE))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY)
            // What is deleted is overwritten.
            .pragma("secure_delete", "on")
            .disable_statement_logging();
        if let Some(pages) = max_pages {
            options = options.pragma("max_page_count", pages.to_string());
        }
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .acquire_timeout(ACQUIRE)
            .connect_with(options.clone())
            .await?;
        migrations::of(Dialect::Sqlite).run(&writer).await?;
        // The names of new files are on disk too.
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)?;
        drop(lock);
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .acquire_timeout(ACQUIRE)
            .connect_with(options.create_if_missing(false).pragma("query_only", "on"))
            .await?;
        Ok(Self { writer, readers })
    }
}

/// Only its owner may read it: it holds what people said.
fn make_folder(folder: &Path) -> std::io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

#[async_trait]
impl Store for Sqlite {
    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>, StoreError> {
        // A transaction that begins by reading could find that it may not write any more.
        Ok(Box::new(Writing(self.writer.begin_with("BEGIN IMMEDIATE").await?)))
    }

    async fn read(&self, sql: Sql) -> Result<Vec<Row>, StoreError> {
        run(&self.readers, sql).await
    }

    fn stream(&self, sql: Sql) -> mpsc::Receiver<Result<Row, StoreError>> {
        let (to, rows) = mpsc::channel(STREAM_AHEAD);
        let readers = self.readers.clone();
        tokio::spawn(async move {
            let (text, values) = sql.into_parts();
            let mut found = query(text, values).fetch(&readers);
            loop {
                let next = match found.try_next().await {
                    Ok(None) => return,
                    Ok(Some(found)) => row(&found),
                    Err(e) => Err(e.into()),
                };
                let failed = next.is_err();
                if to.send(next).await.is_err() || failed {
                    return;
                }
            }
        });
        rows
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

struct Writing(sqlx::Transaction<'static, sqlx::Sqlite>);

#[async_trait]
impl Transaction for Writing {
    async fn read(&mut self, sql: Sql) -> Result<Vec<Row>, StoreError> {
        let (text, values) = sql.into_parts();
        let rows = query(text, values).fetch_all(&mut *self.0).await?;
        rows.iter().map(row).collect()
    }

    async fn execute(&mut self, sql: Sql) -> Result<u64, StoreError> {
        let (text, values) = sql.into_parts();
        Ok(query(text, values).execute(&mut *self.0).await?.rows_affected())
    }

    async fn commit(self: Box<Self>) -> Result<(), StoreError> {
        Ok(self.0.commit().await?)
    }
}

pub(crate) async fn run(pool: &SqlitePool, sql: Sql) -> Result<Vec<Row>, StoreError> {
    let (text, values) = sql.into_parts();
    let rows = query(text, values).fetch_all(pool).await?;
    rows.iter().map(row).collect()
}

/// The text is made of fixed parts, see [`super::sql`].
fn query(text: String, values: Vec<Value>) -> Query<'static, sqlx::Sqlite, SqliteArguments> {
    let query = sqlx::query(AssertSqlSafe(text));
    values.into_iter().fold(query, |query, value| match value {
        Value::Int(n) => query.bind(n),
        Value::Real(n) => query.bind(n),
        Value::Text(text) => query.bind(text),
        Value::Bytes(bytes) => query.bind(bytes),
    })
}

fn row(row: &SqliteRow) -> Result<Row, StoreError> {
    let value = |at: usize| -> Result<Value, StoreError> {
        let raw = row.try_get_raw(at)?;
        if raw.is_null() {
            return Ok(Value::Int(None));
        }
        let kind = raw.type_info();
        Ok(match kind.name() {
            "INTEGER" => Value::Int(row.try_get(at)?),
            "REAL" => Value::Real(row.try_get(at)?),
            "TEXT" => Value::Text(row.try_get(at)?),
            "BLOB" => Value::Bytes(row.try_get(at)?),
            _ => return Err(StoreError::Unexpected("a kind of value")),
        })
    };
    row.columns().iter().map(|column| value(column.ordinal())).collect::<Result<_, _>>().map(Row)
}
