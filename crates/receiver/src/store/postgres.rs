//! Postgres: a pool. Several receivers may use one database.

use std::{str::FromStr, time::Duration};

use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::{
    AssertSqlSafe, Column, ConnectOptions, PgPool, Row as _, TypeInfo,
    postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow},
    query::Query,
};
use tokio::sync::mpsc;

use super::{Dialect, Row, STREAM_AHEAD, Sql, Store, StoreError, Transaction, Value, migrations};

/// How long a request waits for a connection: shorter than the worker waits for an answer.
const ACQUIRE: Duration = Duration::from_secs(10);
const CONNECTIONS: u32 = 16;

pub struct Postgres(PgPool);

impl Postgres {
    /// # Errors
    /// If the database cannot be reached, or its tables not be made.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let options = PgConnectOptions::from_str(url)?
            .application_name("call-history receive")
            // Whatever the role's default is: a commit that returned is on disk.
            .options([("synchronous_commit", "on")])
            .disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE)
            .connect_with(options)
            .await?;
        // Receivers that start at once wait for each other: sqlx locks.
        migrations::of(Dialect::Postgres).run(&pool).await?;
        index_texts(&pool).await;
        Ok(Self(pool))
    }
}

/// Search works without this index too, but reads all texts. The extension comes with Postgres, and may still not be
/// installed, or not be allowed.
async fn index_texts(pool: &PgPool) {
    for sql in [
        "CREATE EXTENSION IF NOT EXISTS pg_trgm",
        "CREATE INDEX IF NOT EXISTS bodies_search ON bodies USING gin (search_text gin_trgm_ops)",
    ] {
        // Two receivers that start at once may both find it missing; the second one then fails, and it is there.
        if let Err(e) = sqlx::query(sql).execute(pool).await {
            let there = sqlx::query("SELECT 1 FROM pg_indexes WHERE indexname = 'bodies_search'");
            if there.fetch_optional(pool).await.is_ok_and(|row| row.is_some()) {
                return;
            }
            let error = e.to_string();
            tracing::warn!(error, "no index for search: the extension pg_trgm cannot be made");
            return;
        }
    }
}

#[async_trait]
impl Store for Postgres {
    fn dialect(&self) -> Dialect {
        Dialect::Postgres
    }

    async fn begin(&self) -> Result<Box<dyn Transaction>, StoreError> {
        Ok(Box::new(Writing(self.0.begin().await?)))
    }

    async fn read(&self, sql: Sql) -> Result<Vec<Row>, StoreError> {
        let (text, values) = sql.into_parts();
        let rows = query(text, values).fetch_all(&self.0).await?;
        rows.iter().map(row).collect()
    }

    fn stream(&self, sql: Sql) -> mpsc::Receiver<Result<Row, StoreError>> {
        let (to, rows) = mpsc::channel(STREAM_AHEAD);
        let pool = self.0.clone();
        tokio::spawn(async move {
            let (text, values) = sql.into_parts();
            let mut found = query(text, values).fetch(&pool);
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
        self.0.close().await;
    }
}

struct Writing(sqlx::Transaction<'static, sqlx::Postgres>);

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

/// The text is made of fixed parts, see [`super::sql`].
fn query(text: String, values: Vec<Value>) -> Query<'static, sqlx::Postgres, PgArguments> {
    let query = sqlx::query(AssertSqlSafe(text));
    values.into_iter().fold(query, |query, value| match value {
        Value::Int(n) => query.bind(n),
        Value::Real(n) => query.bind(n),
        Value::Text(text) => query.bind(text),
        Value::Bytes(bytes) => query.bind(bytes),
    })
}

fn row(row: &PgRow) -> Result<Row, StoreError> {
    let value = |column: &sqlx::postgres::PgColumn| -> Result<Value, StoreError> {
        let at = column.ordinal();
        Ok(match column.type_info().name() {
            "INT8" => Value::Int(row.try_get(at)?),
            "FLOAT8" => Value::Real(row.try_get(at)?),
            "TEXT" => Value::Text(row.try_get(at)?),
            "BYTEA" => Value::Bytes(row.try_get(at)?),
            _ => return Err(StoreError::Unexpected("a kind of value")),
        })
    };
    row.columns().iter().map(value).collect::<Result<_, _>>().map(Row)
}
