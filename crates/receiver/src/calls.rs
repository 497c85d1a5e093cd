//! Calls in the database: kept once, found, deleted.

use record::Moment;
use sha2::{Digest, Sha256};

use crate::{
    call::Call,
    fields::FIELDS,
    query::{Cursor, Query},
    store::{Dialect, Row, Sql, Store, StoreError, Transaction, Value},
};

/// What came of a post.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    Now,
    /// The same bytes were kept before.
    Before,
    /// Other bytes were kept before; they stay.
    Other,
    /// The call was deleted: it is not kept again.
    Deleted,
}

/// Keeps a call. When it returns, the call is on disk.
///
/// # Errors
/// If the database did not do it; then nothing is kept.
pub async fn keep(store: &dyn Store, call: Call, received_at: Moment) -> Result<Kept, StoreError> {
    let mut transaction = store.begin().await?;
    let kept = keep_in(&mut *transaction, store.dialect(), call, received_at).await?;
    if kept == Kept::Now {
        transaction.commit().await?;
    }
    Ok(kept)
}

/// Whether a call was deleted.
///
/// With SQLite one transaction follows the other, so this is asked before anything is written. With Postgres a
/// deletion may go on at the same time: an insert of the same id waits for its end, and is asked for after that; then
/// nothing may be committed.
pub(crate) async fn is_deleted(
    transaction: &mut dyn Transaction,
    dialect: Dialect,
    call_id: &str,
) -> Result<bool, StoreError> {
    let mut sql = Sql::new(dialect, "SELECT deleted_at FROM deleted_calls WHERE id = ");
    sql.bind(hidden_id(call_id));
    Ok(!transaction.read(sql).await?.is_empty())
}

/// The same as a part of a transaction, with whose commit it is on disk. With [`Kept::Deleted`] a transaction of
/// Postgres must not be committed.
///
/// # Errors
/// As [`keep`].
pub(crate) async fn keep_in(
    transaction: &mut dyn Transaction,
    dialect: Dialect,
    call: Call,
    received_at: Moment,
) -> Result<Kept, StoreError> {
    if dialect == Dialect::Sqlite && is_deleted(transaction, dialect, &call.call_id).await? {
        return Ok(Kept::Deleted);
    }

    let mut insert = Sql::new(dialect, "INSERT INTO calls (kept_from, sha256, bytes, ");
    insert.push("agent_responses, user_responses, ").list(FIELDS.iter().map(|f| f.column));
    insert.push(") VALUES (");
    let size = i64::try_from(call.bytes.len()).unwrap_or(i64::MAX);
    let histogram =
        |h: &crate::histogram::Histogram| Value::Bytes((!h.is_empty()).then(|| h.to_bytes()));
    let first = [
        call.start_time.min(received_at.millis()).into(),
        call.sha256.clone().into(),
        size.into(),
        histogram(&call.agent_responses),
        histogram(&call.user_responses),
    ];
    insert.values(first.into_iter().chain(call.values));
    insert.push(") ON CONFLICT (call_id) DO NOTHING RETURNING n");
    let inserted = transaction.read(insert).await?;

    let Some(n) = inserted.first().and_then(|row| row.int(0)) else {
        let mut before = Sql::new(dialect, "SELECT sha256 FROM calls WHERE call_id = ");
        before.bind(call.call_id);
        let before = transaction.read(before).await?;
        let before = before.first().and_then(|row| row.bytes(0));
        return match before {
            Some(sha256) if sha256 == call.sha256 => Ok(Kept::Before),
            Some(_) => Ok(Kept::Other),
            // Deleted in between: the sender comes again.
            None => Err(StoreError::Unexpected("a call that came and went")),
        };
    };
    if dialect == Dialect::Postgres && is_deleted(transaction, dialect, &call.call_id).await? {
        return Ok(Kept::Deleted);
    }
    let mut body = Sql::new(dialect, "INSERT INTO bodies (n, body, search_text) VALUES (");
    body.values([n.into(), Value::from(call.bytes), call.search_text.into()]).push(")");
    transaction.execute(body).await?;
    Ok(Kept::Now)
}

/// An id of a deleted call, as it is remembered: the id itself says nothing, but need not be kept.
pub(crate) fn hidden_id(call_id: &str) -> Vec<u8> {
    Sha256::digest(call_id).to_vec()
}

/// The bytes that were received.
///
/// # Errors
/// If the database did not do it.
pub async fn body(store: &dyn Store, call_id: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let mut sql = Sql::new(
        store.dialect(),
        "SELECT body FROM bodies JOIN calls ON calls.n = bodies.n WHERE call_id = ",
    );
    sql.bind(call_id);
    let rows = store.read(sql).await?;
    Ok(rows.into_iter().next().and_then(|row| row.into_bytes(0)))
}

/// A call of a list: its number and size in the tables, then a value for each of [`FIELDS`].
pub struct Listed(Row);

/// Columns of [`Listed`] before those of [`FIELDS`].
const BEFORE: usize = 2;

impl Listed {
    pub(crate) fn n(&self) -> i64 {
        self.0.int(0).unwrap_or_default()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.0.int(1).and_then(|n| u64::try_from(n).ok()).unwrap_or_default()
    }

    /// A value for each of [`FIELDS`].
    pub fn values(&self) -> &[Value] {
        self.0.values().get(BEFORE..).unwrap_or_default()
    }

    /// Where a list that ends with this call goes on.
    pub fn cursor(&self) -> Cursor {
        let at = |name| BEFORE + FIELDS.iter().position(|f| f.name == name).unwrap_or_default();
        Cursor {
            start_time: self.0.int(at("start_time")).unwrap_or_default(),
            call_id: self.0.text(at("call_id")).unwrap_or_default().into(),
        }
    }
}

/// Calls whose words are looked through before the index of texts is asked. A word that is in many calls is found among
/// the newest at once; the index would first find it in all of them.
const LOOKED_THROUGH: i64 = 2_000;

/// Which way a list goes on from a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Older,
    Newer,
}

/// The newest calls that match, after the cursor.
///
/// # Errors
/// If the database did not do it.
pub async fn list(
    store: &dyn Store,
    query: &Query,
    cursor: Option<&Cursor>,
    limit: u32,
) -> Result<Vec<Listed>, StoreError> {
    found(store, query, cursor, Way::Older, limit).await
}

/// The oldest calls that match and are newer than the cursor, the newest first: the page before.
///
/// # Errors
/// If the database did not do it.
pub async fn newer(
    store: &dyn Store,
    query: &Query,
    cursor: &Cursor,
    limit: u32,
) -> Result<Vec<Listed>, StoreError> {
    let mut rows = found(store, query, Some(cursor), Way::Newer, limit).await?;
    rows.reverse();
    Ok(rows)
}

async fn found(
    store: &dyn Store,
    query: &Query,
    cursor: Option<&Cursor>,
    way: Way,
    limit: u32,
) -> Result<Vec<Listed>, StoreError> {
    if query.has_terms() {
        let mut sql = Sql::new(store.dialect(), "SELECT n, bytes, ");
        sql.list(FIELDS.iter().map(|f| f.column)).push(" FROM (SELECT * FROM calls WHERE ");
        query.push_where_but("", &mut sql);
        push_part(cursor, way, LOOKED_THROUGH, &mut sql);
        sql.push(") AS newest WHERE 1 = 1");
        query.push_terms_of_newest(&mut sql);
        push_part(None, way, i64::from(limit), &mut sql);
        let rows = store.read(sql).await?;
        if rows.len() >= limit as usize {
            return Ok(rows.into_iter().map(Listed).collect());
        }
    }
    let mut sql = Sql::new(store.dialect(), "SELECT n, bytes, ");
    sql.list(FIELDS.iter().map(|f| f.column)).push(" FROM calls WHERE ");
    query.push_where(&mut sql);
    push_part(cursor, way, i64::from(limit), &mut sql);
    Ok(store.read(sql).await?.into_iter().map(Listed).collect())
}

/// So many calls from the cursor on.
fn push_part(cursor: Option<&Cursor>, way: Way, limit: i64, sql: &mut Sql) {
    let (compared, order) = match way {
        Way::Older => {
            (" AND (start_time, call_id) < (", " ORDER BY start_time DESC, call_id DESC LIMIT ")
        }
        Way::Newer => (" AND (start_time, call_id) > (", " ORDER BY start_time, call_id LIMIT "),
    };
    if let Some(cursor) = cursor {
        sql.push(compared).bind(cursor.start_time);
        sql.push(", ").bind(cursor.call_id.as_str()).push(")");
    }
    sql.push(order).bind(limit);
}

/// The number of all calls that match.
///
/// # Errors
/// If the database did not do it.
pub async fn count(store: &dyn Store, query: &Query) -> Result<i64, StoreError> {
    let mut sql = Sql::new(store.dialect(), "SELECT count(*) FROM calls WHERE ");
    query.push_where(&mut sql);
    let rows = store.read(sql).await?;
    Ok(rows.first().and_then(|row| row.int(0)).unwrap_or_default())
}
