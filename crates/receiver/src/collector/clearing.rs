//! What goes with deleted calls, and with age.
//!
//! Rows go first, and their files after that: until a file is gone, its name is kept in a table of its own.

use record::Moment;

use super::files::Files;
use crate::{
    calls::hidden_id,
    store::{Dialect, Row, Sql, Store, StoreError, Transaction, Value},
};

/// Files of one look.
const SOME: i64 = 500;
const DAY: i64 = 24 * 60 * 60 * 1_000;
/// Jobs of one transaction.
const BATCH: i64 = 200;
/// Uploads without a call are joined again for so long: a record may come that late.
const JOINED_AGAIN: i64 = 4 * DAY;

/// Deletes all uploads of calls. Returns the number of jobs.
pub(crate) async fn of_calls(
    transaction: &mut dyn Transaction,
    dialect: Dialect,
    ids: &[&str],
    now: Moment,
) -> Result<u64, StoreError> {
    if ids.is_empty() {
        return Ok(0);
    }
    let mut sql = Sql::new(dialect, "DELETE FROM call_jobs WHERE call_id IN (");
    sql.values(ids.iter().copied()).push(")");
    transaction.execute(sql).await?;
    let mut sql = Sql::new(dialect, "SELECT n, job_id FROM agent_jobs WHERE call_id IN (");
    sql.values(ids.iter().copied());
    sql.push(
        ") OR (call_id IS NULL AND room_id IN (SELECT room_id FROM agent_rooms WHERE call_id IN (",
    );
    sql.values(ids.iter().copied()).push(")))");
    let jobs = transaction.read(sql).await?;
    remove(transaction, dialect, &jobs, now).await
}

/// Deletes uploads that say a phone number themselves. Their call may never have come.
pub(crate) async fn of_number(
    store: &dyn Store,
    number: &str,
    now: Moment,
) -> Result<u64, StoreError> {
    let mut sql =
        Sql::new(store.dialect(), "SELECT n, job_id FROM agent_jobs WHERE phone_number = ");
    sql.bind(number).push(" LIMIT ").bind(BATCH);
    all(store, sql, now).await
}

/// Deletes uploads whose call never came.
pub(crate) async fn before(store: &dyn Store, before: i64, now: Moment) -> Result<u64, StoreError> {
    let mut sql = Sql::new(
        store.dialect(),
        "SELECT n, job_id FROM agent_jobs WHERE call_id IS NULL AND received_at < ",
    );
    sql.bind(before).push(" LIMIT ").bind(BATCH);
    all(store, sql, now).await
}

async fn all(store: &dyn Store, which: Sql, now: Moment) -> Result<u64, StoreError> {
    let mut deleted = 0;
    loop {
        let mut transaction = store.begin().await?;
        let jobs = transaction.read(which.clone()).await?;
        deleted += remove(&mut *transaction, store.dialect(), &jobs, now).await?;
        transaction.commit().await?;
        if (jobs.len() as u64) < BATCH.unsigned_abs() {
            return Ok(deleted);
        }
    }
}

/// `jobs` are rows of a number and an id.
async fn remove(
    transaction: &mut dyn Transaction,
    dialect: Dialect,
    jobs: &[Row],
    now: Moment,
) -> Result<u64, StoreError> {
    let numbers: Vec<i64> = jobs.iter().filter_map(|row| row.int(0)).collect();
    if numbers.is_empty() {
        return Ok(0);
    }
    let of = |text: &'static str| {
        let mut sql = Sql::new(dialect, text);
        sql.values(numbers.iter().copied()).push(")");
        sql
    };
    let mut files =
        of("INSERT INTO deleted_files (file) SELECT file FROM agent_recordings WHERE job IN (");
    files.push(" ON CONFLICT (file) DO NOTHING");
    transaction.execute(files).await?;
    let mut rooms =
        of("DELETE FROM agent_rooms WHERE room_id IN (SELECT room_id FROM agent_jobs WHERE n IN (");
    rooms.push(") AND NOT EXISTS (SELECT 1 FROM agent_jobs WHERE agent_jobs.room_id = agent_rooms.room_id AND n NOT IN (");
    rooms.values(numbers.iter().copied()).push("))");
    transaction.execute(rooms).await?;
    transaction.execute(of("DELETE FROM agent_jobs WHERE n IN (")).await?;
    // What the agent still uploads is not kept either.
    for job in jobs.iter().filter_map(|row| row.text(1)).filter(|job| !job.is_empty()) {
        let mut sql = Sql::new(dialect, "INSERT INTO deleted_calls (id, deleted_at) VALUES (");
        sql.values::<Value>([hidden_id(job).into(), now.millis().into()]);
        sql.push(") ON CONFLICT (id) DO NOTHING");
        transaction.execute(sql).await?;
    }
    Ok(numbers.len() as u64)
}

/// Deletes recordings that are older than so many days; the rest of their uploads stays.
async fn recordings(store: &dyn Store, before: i64) -> Result<u64, StoreError> {
    let dialect = store.dialect();
    let mut transaction = store.begin().await?;
    let mut sql = Sql::new(
        dialect,
        "INSERT INTO deleted_files (file) SELECT file FROM agent_recordings WHERE received_at < ",
    );
    sql.bind(before).push(" ON CONFLICT (file) DO NOTHING");
    transaction.execute(sql).await?;
    let mut sql = Sql::new(dialect, "DELETE FROM agent_recordings WHERE received_at < ");
    sql.bind(before);
    let deleted = transaction.execute(sql).await?;
    transaction.commit().await?;
    Ok(deleted)
}

/// Removes the files of deleted rows.
pub(crate) async fn files(store: &dyn Store, files: &Files) -> Result<(), StoreError> {
    let dialect = store.dialect();
    let mut after = String::new();
    loop {
        let mut sql = Sql::new(dialect, "SELECT file FROM deleted_files WHERE file > ");
        sql.bind(after.as_str()).push(" ORDER BY file LIMIT ").bind(SOME);
        let rows = store.read(sql).await?;
        let mut gone = vec![];
        for file in rows.iter().filter_map(|row| row.text(0)) {
            match files.remove(file).await {
                Ok(()) => gone.push(file),
                Err(e) => tracing::error!(error = %e, "the file of a recording cannot be removed"),
            }
        }
        if !gone.is_empty() {
            let mut sql = Sql::new(dialect, "DELETE FROM deleted_files WHERE file IN (");
            sql.values(gone).push(")");
            let mut transaction = store.begin().await?;
            transaction.execute(sql).await?;
            transaction.commit().await?;
        }
        match rows.last().and_then(|row| row.text(0)) {
            Some(last) => last.clone_into(&mut after),
            None => return Ok(()),
        }
    }
}

/// Files that no row knows: the receiver was killed between the file and its row.
async fn orphans(store: &dyn Store, files: &Files) -> Result<(), StoreError> {
    let names = match files.old().await {
        Ok(old) => old,
        Err(e) => {
            tracing::error!(error = %e, "old recordings could not be listed");
            return Ok(());
        }
    };
    for names in names.chunks(200) {
        let mut sql =
            Sql::new(store.dialect(), "SELECT file FROM agent_recordings WHERE file IN (");
        sql.values(names.iter().map(String::as_str)).push(")");
        let rows = store.read(sql).await?;
        let known: Vec<&str> = rows.iter().filter_map(|row| row.text(0)).collect();
        for name in names.iter().filter(|name| !known.contains(&name.as_str())) {
            let _ = files.remove(name).await;
        }
    }
    Ok(())
}

/// What a look once an hour does, besides the calls that are too old.
pub(crate) async fn look(
    store: &dyn Store,
    to: &Files,
    recordings_days: Option<u32>,
    now: Moment,
) -> Result<(), StoreError> {
    super::join::again(store, now.millis() - JOINED_AGAIN).await?;
    if let Some(days) = recordings_days {
        let deleted = recordings(store, now.millis() - i64::from(days) * DAY).await?;
        if deleted > 0 {
            tracing::info!(recordings = deleted, "recordings older than their retention deleted");
        }
    }
    files(store, to).await?;
    orphans(store, to).await
}
