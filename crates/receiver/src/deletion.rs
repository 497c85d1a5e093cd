//! Deletion: of a call, of everything of a phone number, of what is too old.
//!
//! What stays are sums by day, without numbers, rooms or words, so that statistics do not change; and for a while the
//! SHA-256 of the call's id, so that a worker that sends it once more does not bring it back.

use std::{collections::BTreeMap, time::Duration};

use record::Moment;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    aggregate::{Aggregate, Sums},
    app::App,
    call::{loggable, text},
    calls::hidden_id,
    collector::clearing,
    fields::{FIELDS, Field, Kind},
    histogram::Histogram,
    store::{Dialect, Row, Sql, Store, StoreError, Transaction, Value},
};

/// Fields by which the sums of deleted calls are kept apart. None says who called.
pub const KEPT: [&str; 6] =
    ["call_type", "status", "termination_reason", "business_type", "final_stage", "language"];
/// Calls of one transaction: others write in between.
const BATCH: i64 = 200;
const DAY: i64 = 24 * 60 * 60 * 1_000;
/// Workers give up a record after three days; a copy of an outbox may come later.
const IDS_STAY: i64 = 30 * DAY;
/// Between two looks for what is too old.
const EVERY: Duration = Duration::from_secs(60 * 60);

/// What is deleted.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    Call(&'a str),
    Number(&'a str),
    /// What began and arrived before this time, in milliseconds since 1970.
    Before(i64),
}

/// Deletes, and returns the number of calls. Events and uploads of agents go with their calls, and count if they have none.
///
/// # Errors
/// If the database did not do it. What was deleted until then stays deleted.
pub async fn delete(store: &dyn Store, which: Which<'_>, now: Moment) -> Result<u64, StoreError> {
    let mut deleted = 0;
    loop {
        let batch = delete_some(store, which, now).await?;
        deleted += batch;
        if batch < BATCH.unsigned_abs() {
            break;
        }
    }
    deleted = deleted.max(delete_events(store, which, now).await?);
    Ok(deleted.max(delete_uploads(store, which, now).await?))
}

/// Deletes what somebody has asked to delete, everywhere: in the database, the files of recordings, and what readers of
/// `/api/live` could still get. Returns the number of calls.
///
/// # Errors
/// If the database did not do it. What was deleted until then stays deleted; files are removed within the hour.
pub(crate) async fn on_request(app: &App, which: Which<'_>) -> Result<u64, StoreError> {
    let deleted = delete(app.store(), which, app.now()).await;
    app.live().forget();
    clearing::files(app.store(), app.files()).await?;
    let deleted = deleted?;
    match which {
        Which::Call(_) if deleted == 0 => {}
        Which::Call(id) => tracing::info!(call_id = loggable(id), "call deleted"),
        _ => tracing::info!(calls = deleted, "all calls of a number deleted"),
    }
    Ok(deleted)
}

/// Uploads of agents whose call has no record.
async fn delete_uploads(
    store: &dyn Store,
    which: Which<'_>,
    now: Moment,
) -> Result<u64, StoreError> {
    match which {
        Which::Number(number) => clearing::of_number(store, &text(number), now).await,
        Which::Before(ms) => clearing::before(store, ms, now).await,
        Which::Call(id) => {
            let mut transaction = store.begin().await?;
            let id = text(id);
            let deleted =
                clearing::of_calls(&mut *transaction, store.dialect(), &[&id], now).await?;
            transaction.commit().await?;
            Ok(deleted.min(1))
        }
    }
}

async fn delete_some(store: &dyn Store, which: Which<'_>, now: Moment) -> Result<u64, StoreError> {
    let dialect = store.dialect();
    let mut transaction = store.begin().await?;
    if dialect == Dialect::Postgres {
        // Two deletions would add to the same sums.
        let lock = "LOCK TABLE deleted_days IN SHARE ROW EXCLUSIVE MODE";
        transaction.execute(Sql::new(dialect, lock)).await?;
    }
    let mut sql = Sql::new(dialect, "DELETE FROM calls WHERE n IN (SELECT n FROM calls WHERE ");
    match which {
        Which::Call(id) => sql.push("call_id = ").bind(text(id)),
        Which::Number(number) => sql.push("phone_number = ").bind(text(number)),
        Which::Before(ms) => sql.push("kept_from < ").bind(ms),
    };
    sql.push(" LIMIT ").bind(BATCH);
    sql.push(") RETURNING call_id, start_time, agent_responses, user_responses, ");
    sql.list(KEPT).push(", ").list(numbers().map(|field| field.column));
    let rows = transaction.read(sql).await?;

    let mut days: BTreeMap<String, (Vec<Value>, Aggregate)> = BTreeMap::new();
    for row in &rows {
        let (key, columns) = day(row);
        days.entry(key).or_insert((columns, Aggregate::default())).1.add(&aggregate(row));
    }
    for (key, (columns, aggregate)) in days {
        add_to_day(&mut *transaction, dialect, key, columns, aggregate).await?;
    }
    let ids: Vec<&str> = rows.iter().filter_map(|row| row.text(0)).collect();
    remember(&mut *transaction, dialect, &ids, now).await?;
    if !ids.is_empty() {
        let mut events = Sql::new(dialect, "DELETE FROM events WHERE call_id IN (");
        events.values(ids.iter().copied()).push(")");
        transaction.execute(events).await?;
        clearing::of_calls(&mut *transaction, dialect, &ids, now).await?;
    }
    transaction.commit().await?;
    Ok(rows.len() as u64)
}

/// Events of calls that have no record.
async fn delete_events(
    store: &dyn Store,
    which: Which<'_>,
    now: Moment,
) -> Result<u64, StoreError> {
    let dialect = store.dialect();
    let mut transaction = store.begin().await?;
    let mut sql = Sql::new(dialect, "DELETE FROM events WHERE ");
    match which {
        Which::Call(id) => sql.push("call_id = ").bind(text(id)),
        Which::Number(number) => sql.push("phone_number = ").bind(text(number)),
        Which::Before(ms) => sql.push("received_at < ").bind(ms),
    };
    sql.push(" RETURNING call_id");
    let rows = transaction.read(sql).await?;
    let mut ids: Vec<&str> = rows.iter().filter_map(|row| row.text(0)).collect();
    ids.sort_unstable();
    ids.dedup();
    // A call that is still on when its events grow old has its record before it.
    if !matches!(which, Which::Before(_)) {
        for some in ids.chunks(200) {
            remember(&mut *transaction, dialect, some, now).await?;
            clearing::of_calls(&mut *transaction, dialect, some, now).await?;
        }
    }
    transaction.commit().await?;
    Ok(ids.len() as u64)
}

async fn remember(
    transaction: &mut dyn Transaction,
    dialect: Dialect,
    ids: &[&str],
    now: Moment,
) -> Result<(), StoreError> {
    for id in ids {
        let mut sql = Sql::new(dialect, "INSERT INTO deleted_calls (id, deleted_at) VALUES (");
        sql.values::<Value>([hidden_id(id).into(), now.millis().into()]);
        sql.push(") ON CONFLICT (id) DO NOTHING");
        transaction.execute(sql).await?;
    }
    Ok(())
}

/// Fields of numbers.
pub(crate) fn numbers() -> impl Iterator<Item = &'static Field> {
    let is_number = |field: &&Field| matches!(field.kind, Kind::Count | Kind::Number | Kind::Truth);
    FIELDS.iter().filter(is_number)
}

/// Columns of a deleted call before its numbers.
const BEFORE: usize = 4;

/// The key of a call's day, and its columns: the day's beginning, then [`KEPT`].
fn day(row: &Row) -> (String, Vec<Value>) {
    let start = row.int(1).unwrap_or_default();
    let start = start - start.rem_euclid(DAY);
    let words: Vec<Option<String>> =
        (0..KEPT.len()).map(|n| row.text(BEFORE + n).map(word)).collect();
    let key = serde_json::to_string(&(start, &words)).unwrap_or_default();
    let mut columns = vec![Value::from(start)];
    columns.extend(words.into_iter().map(Value::Text));
    (key, columns)
}

/// Words of a vocabulary stay; what may be a sentence about a caller does not.
fn word(text: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let is_word = text.chars().count() <= 40 && text.chars().all(plain) && digits < 5;
    if is_word { text.to_owned() } else { "other".into() }
}

fn aggregate(row: &Row) -> Aggregate {
    let histogram = |at| row.bytes(at).and_then(Histogram::from_bytes).unwrap_or_default();
    let sums = numbers().enumerate().filter_map(|(n, field)| {
        let value = row.real(BEFORE + KEPT.len() + n)?;
        Some((field.column.to_owned(), Sums::of(value)))
    });
    Aggregate {
        calls: 1,
        sums: sums.collect(),
        agent_responses: histogram(2),
        user_responses: histogram(3),
    }
}

async fn add_to_day(
    transaction: &mut dyn Transaction,
    dialect: Dialect,
    key: String,
    columns: Vec<Value>,
    mut aggregate: Aggregate,
) -> Result<(), StoreError> {
    let mut before = Sql::new(dialect, "SELECT aggregate FROM deleted_days WHERE key = ");
    before.bind(key.as_str());
    if let Some(row) = transaction.read(before).await?.first() {
        aggregate.add(&read(row.text(0))?);
    }
    let written = serde_json::to_string(&aggregate)
        .map_err(|_| StoreError::Unexpected("a sum that is no number"))?;
    let mut sql = Sql::new(dialect, "INSERT INTO deleted_days (key, start_time, ");
    sql.list(KEPT).push(", aggregate) VALUES (");
    let first = [Value::from(key)];
    sql.values(first.into_iter().chain(columns).chain([written.into()]));
    sql.push(") ON CONFLICT (key) DO UPDATE SET aggregate = excluded.aggregate");
    transaction.execute(sql).await?;
    Ok(())
}

pub(crate) fn read(aggregate: Option<&str>) -> Result<Aggregate, StoreError> {
    let text = aggregate.unwrap_or_default();
    serde_json::from_str(text).map_err(|_| StoreError::Unexpected("sums of a day"))
}

/// Deletes what is too old, until the receiver stops.
pub(crate) async fn by_age(app: App, stopping: CancellationToken) {
    let (days, recordings_days) = app.retention();
    loop {
        let look = look(app.store(), days, app.now());
        match stopping.run_until_cancelled(look).await {
            None => return,
            Some(Ok(0)) => {}
            Some(Ok(calls)) => {
                app.live().forget();
                tracing::info!(calls, "calls older than the retention deleted");
            }
            Some(Err(e)) => tracing::warn!(error = %e, "old calls could not be deleted"),
        }
        let look = clearing::look(app.store(), app.files(), recordings_days, app.now());
        match stopping.run_until_cancelled(look).await {
            None => return,
            Some(Ok(())) => {}
            Some(Err(e)) => tracing::warn!(error = %e, "old recordings could not be deleted"),
        }
        if stopping.run_until_cancelled(sleep(EVERY)).await.is_none() {
            return;
        }
    }
}

/// Deletes what is older than so many days. Returns the number of calls.
///
/// # Errors
/// If the database did not do it.
pub async fn look(store: &dyn Store, days: Option<u32>, now: Moment) -> Result<u64, StoreError> {
    let mut sql = Sql::new(store.dialect(), "DELETE FROM deleted_calls WHERE deleted_at < ");
    sql.bind(now.millis() - IDS_STAY);
    let mut transaction = store.begin().await?;
    transaction.execute(sql).await?;
    transaction.commit().await?;
    match days {
        None => Ok(0),
        Some(days) => {
            let before = now.millis() - i64::from(days) * DAY;
            delete(store, Which::Before(before), now).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_a_sentence_or_a_number_does_not_stay() {
        for (text, kept) in [
            ("agent_error", "agent_error"),
            ("fr-CA", "fr-CA"),
            ("gpt-4.1", "gpt-4.1"),
            ("Ms. Miller called from home", "other"),
            ("15551234567", "other"),
            ("<b>", "other"),
        ] {
            assert_eq!(word(text), kept);
        }
    }
}
