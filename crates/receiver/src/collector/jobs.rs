//! Jobs of agents in the database, with their uploads and recordings. Each is kept once.

use std::{collections::BTreeSet, io::Write};

use flate2::{Compression, write::GzEncoder};
use record::Moment;
use sha2::{Digest, Sha256};

use super::{
    batch::{Ids, Part},
    facts::Facts,
    join,
};
use crate::{
    calls::hidden_id,
    store::{Dialect, Row, Sql, Store, StoreError, Transaction, Value},
};

/// What is kept of one job.
pub(super) struct Upload {
    pub(super) ids: Ids,
    /// The signal, `header`, or `chat`.
    pub(super) kind: &'static str,
    pub(super) part: Part,
    /// Of what was sent, also where that is not kept.
    pub(super) sha256: Vec<u8>,
}

/// A recording whose file is on disk.
pub(super) struct Recording {
    pub(super) started_at: i64,
    pub(super) bytes: u64,
    pub(super) sha256: Vec<u8>,
    pub(super) content_type: &'static str,
    pub(super) file: String,
}

/// What came of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kept {
    Now,
    /// The same was kept before.
    Before,
    /// Its call was deleted.
    Deleted,
}

/// Those of the jobs that are known to be redacted.
pub(super) async fn redacted(
    store: &dyn Store,
    jobs: impl Iterator<Item = &Ids>,
) -> Result<BTreeSet<Ids>, StoreError> {
    let mut found = BTreeSet::new();
    for ids in jobs {
        let mut sql = Sql::new(store.dialect(), "SELECT redacted FROM agent_jobs WHERE room_id = ");
        sql.bind(ids.room.as_str()).push(" AND job_id = ").bind(ids.job.as_str());
        if store.read(sql).await?.first().and_then(|row| row.int(0)) == Some(1) {
            found.insert(ids.clone());
        }
    }
    Ok(found)
}

/// Keeps uploads, and the recording of the first one's job. When it returns, they are on disk, and joined to their calls
/// as far as these are known.
///
/// # Errors
/// If the database did not do it; then nothing is kept.
pub(super) async fn keep(
    store: &dyn Store,
    uploads: Vec<Upload>,
    mut recording: Option<Recording>,
    received_at: Moment,
) -> Result<Kept, StoreError> {
    let dialect = store.dialect();
    // Compressed before the transaction: others wait for it.
    let mut all = Vec::with_capacity(uploads.len());
    for upload in uploads {
        let facts = facts_as_text(&upload.part.facts);
        let body = compressed(&upload.part.raw);
        all.push((upload, facts, body));
    }
    let mut transaction = store.begin().await?;
    let mut kept = Kept::Deleted;
    let mut rooms = BTreeSet::new();
    for (upload, facts, body) in all {
        if is_deleted(&mut *transaction, dialect, &upload).await? {
            continue;
        }
        let job = job(&mut *transaction, dialect, &upload, received_at).await?;
        let mut new =
            insert_upload(&mut *transaction, job, &upload, facts, body, received_at).await?;
        if let Some(recording) = recording.take() {
            new |= insert_recording(&mut *transaction, job, recording, received_at).await?;
        }
        if new {
            kept = Kept::Now;
        } else if kept == Kept::Deleted {
            kept = Kept::Before;
        }
        rooms.insert(upload.ids.room);
    }
    transaction.commit().await?;
    // After the commit: a record that comes at the same time looks for jobs after its own.
    for room in rooms {
        join::room(store, &room).await?;
    }
    Ok(kept)
}

async fn insert_upload(
    transaction: &mut dyn Transaction,
    job: (Dialect, i64),
    upload: &Upload,
    facts: String,
    body: Vec<u8>,
    received_at: Moment,
) -> Result<bool, StoreError> {
    let (dialect, job) = job;
    let mut sql = Sql::new(
        dialect,
        "INSERT INTO agent_uploads (job, sha256, kind, received_at, facts, body) VALUES (",
    );
    sql.values::<Value>([
        job.into(),
        upload.sha256.clone().into(),
        upload.kind.into(),
        received_at.millis().into(),
        facts.into(),
        body.into(),
    ]);
    sql.push(") ON CONFLICT (job, sha256) DO NOTHING");
    Ok(transaction.execute(sql).await? > 0)
}

/// The first recording of a job that began at that time stays.
async fn insert_recording(
    transaction: &mut dyn Transaction,
    job: (Dialect, i64),
    recording: Recording,
    received_at: Moment,
) -> Result<bool, StoreError> {
    let (dialect, job) = job;
    let mut sql = Sql::new(
        dialect,
        "INSERT INTO agent_recordings \
         (job, received_at, started_at, bytes, sha256, content_type, file) VALUES (",
    );
    sql.values::<Value>([
        job.into(),
        received_at.millis().into(),
        recording.started_at.into(),
        i64::try_from(recording.bytes).unwrap_or(i64::MAX).into(),
        recording.sha256.into(),
        recording.content_type.into(),
        recording.file.into(),
    ]);
    sql.push(") ON CONFLICT (job, started_at) DO NOTHING");
    Ok(transaction.execute(sql).await? > 0)
}

/// The job's row, made or brought up to date.
async fn job(
    transaction: &mut dyn Transaction,
    dialect: Dialect,
    upload: &Upload,
    received_at: Moment,
) -> Result<(Dialect, i64), StoreError> {
    let Upload { ids, part, .. } = upload;
    let (from, to) = part.span.unwrap_or((received_at.millis(), received_at.millis()));
    let mut sql = Sql::new(
        dialect,
        "INSERT INTO agent_jobs (room_id, job_id, received_at, room_name, phone_number, \
         from_time, to_time, redacted) VALUES (",
    );
    sql.values::<Value>([
        ids.room.as_str().into(),
        ids.job.as_str().into(),
        received_at.millis().into(),
        Value::Text(part.room_name.clone()),
        Value::Text(part.phone_number.clone()),
        from.into(),
        to.into(),
        i64::from(part.redacted).into(),
    ]);
    sql.push(
        ") ON CONFLICT (room_id, job_id) DO UPDATE SET \
         room_name = COALESCE(agent_jobs.room_name, excluded.room_name), \
         phone_number = COALESCE(agent_jobs.phone_number, excluded.phone_number), \
         from_time = CASE WHEN excluded.from_time < agent_jobs.from_time \
             THEN excluded.from_time ELSE agent_jobs.from_time END, \
         to_time = CASE WHEN excluded.to_time > agent_jobs.to_time \
             THEN excluded.to_time ELSE agent_jobs.to_time END, \
         redacted = CASE WHEN excluded.redacted > agent_jobs.redacted \
             THEN excluded.redacted ELSE agent_jobs.redacted END \
         RETURNING n, received_at",
    );
    let rows = transaction.read(sql).await?;
    let row = rows.first().ok_or(StoreError::Unexpected("no row of a job"))?;
    let n = row.int(0).unwrap_or_default();
    if row.int(1) == Some(received_at.millis()) && !ids.room.is_empty() {
        for call_id in join::calls_of(&ids.room) {
            let mut sql = Sql::new(dialect, "INSERT INTO agent_rooms (call_id, room_id) VALUES (");
            sql.values([call_id.as_str(), ids.room.as_str()]);
            sql.push(") ON CONFLICT (call_id) DO NOTHING");
            transaction.execute(sql).await?;
        }
    }
    Ok((dialect, n))
}

/// Whether the call of an upload was deleted: the job itself, or a call of its room that began before that.
async fn is_deleted(
    transaction: &mut dyn Transaction,
    dialect: Dialect,
    upload: &Upload,
) -> Result<bool, StoreError> {
    let Upload { ids, part, .. } = upload;
    let mut hidden = vec![];
    if !ids.job.is_empty() {
        hidden.push(hidden_id(&ids.job));
    }
    let calls: Vec<String> =
        if ids.room.is_empty() { vec![] } else { join::calls_of(&ids.room).collect() };
    hidden.extend(calls.iter().map(|call_id| hidden_id(call_id)));
    if hidden.is_empty() {
        return Ok(false);
    }
    let mut sql = Sql::new(dialect, "SELECT id, deleted_at FROM deleted_calls WHERE id IN (");
    sql.values(hidden).push(")");
    let rows = transaction.read(sql).await?;
    if rows.is_empty() {
        return Ok(false);
    }
    let job = (!ids.job.is_empty()).then(|| hidden_id(&ids.job));
    if rows.iter().any(|row| job.is_some() && row.bytes(0) == job.as_deref()) {
        return Ok(true);
    }
    // The room may have had several calls: one that is still here may be that of the job.
    let mut sql = Sql::new(dialect, "SELECT n FROM calls WHERE call_id IN (");
    sql.values(calls.iter().map(String::as_str)).push(") LIMIT 1");
    if !transaction.read(sql).await?.is_empty() {
        return Ok(false);
    }
    let mut sql = Sql::new(dialect, "SELECT n FROM agent_jobs WHERE room_id = ");
    sql.bind(ids.room.as_str()).push(" AND job_id = ").bind(ids.job.as_str());
    if !transaction.read(sql).await?.is_empty() {
        return Ok(false);
    }
    // A job that began after the deletion is of another call.
    let before = |row: &Row| match (row.int(1), part.span) {
        (Some(deleted_at), Some((began, _))) => began <= deleted_at,
        _ => true,
    };
    Ok(rows.iter().any(before))
}

/// Without NUL, which Postgres does not take in a text.
fn facts_as_text(facts: &Facts) -> String {
    serde_json::to_string(facts).unwrap_or_default().replace("\\u0000", "")
}

pub(super) fn digest(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

/// As gzip. Nothing stays nothing.
fn compressed(bytes: &[u8]) -> Vec<u8> {
    if bytes.is_empty() {
        return vec![];
    }
    let mut gzip = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
    // Writing to a Vec does not fail.
    let _ = gzip.write_all(bytes);
    gzip.finish().unwrap_or_default()
}

/// Whether a recording has that file.
pub(super) async fn has_file(store: &dyn Store, file: &str) -> Result<bool, StoreError> {
    let mut sql = Sql::new(store.dialect(), "SELECT n FROM agent_recordings WHERE file = ");
    sql.bind(file);
    Ok(!store.read(sql).await?.is_empty())
}
