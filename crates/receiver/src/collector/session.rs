//! All that agents sent of a call, job by job.

use std::collections::BTreeMap;

use super::facts::Facts;
use crate::store::{Row, Sql, Store, StoreError};

/// Jobs of a call, and uploads of all of them, at most.
const MOST_JOBS: i64 = 50;
const MOST_UPLOADS: i64 = 50_000;

#[derive(Default)]
pub(crate) struct Session {
    pub(crate) jobs: Vec<Job>,
    pub(crate) recordings: Vec<Recording>,
}

#[derive(Default)]
pub(crate) struct Job {
    n: i64,
    pub(crate) room_id: String,
    /// Empty if the agent is too old to say it.
    pub(crate) job_id: String,
    pub(crate) redacted: bool,
    pub(crate) facts: Facts,
    /// Uploads by kind.
    pub(crate) uploads: BTreeMap<String, u64>,
}

#[derive(Clone)]
pub(crate) struct Recording {
    job: i64,
    pub(crate) job_id: String,
    /// Milliseconds since 1970 by the agent's clock.
    pub(crate) started_at: i64,
    pub(crate) bytes: u64,
    pub(crate) content_type: String,
    pub(crate) file: String,
    /// For caches: it changes with the content.
    pub(crate) tag: String,
}

/// # Errors
/// If the database did not do it.
pub(crate) async fn of_call(store: &dyn Store, call_id: &str) -> Result<Session, StoreError> {
    let dialect = store.dialect();
    let mut sql =
        Sql::new(dialect, "SELECT n, room_id, job_id, redacted FROM agent_jobs WHERE call_id = ");
    sql.bind(call_id).push(" ORDER BY from_time, n LIMIT ").bind(MOST_JOBS);
    let rows = store.read(sql).await?;
    if rows.is_empty() {
        return Ok(Session::default());
    }
    let mut jobs: Vec<Job> = rows.iter().map(job).collect();

    let mut sql = Sql::new(dialect, "SELECT job, kind, facts FROM agent_uploads WHERE job IN (");
    sql.values(jobs.iter().map(|job| job.n))
        .push(") ORDER BY received_at LIMIT ")
        .bind(MOST_UPLOADS);
    for row in store.read(sql).await? {
        let Some(job) = jobs.iter_mut().find(|job| Some(job.n) == row.int(0)) else { continue };
        *job.uploads.entry(row.text(1).unwrap_or_default().into()).or_default() += 1;
        let facts: Facts =
            serde_json::from_str(row.text(2).unwrap_or_default()).unwrap_or_default();
        job.facts.add(facts);
    }
    let mut recordings = recordings_of(store, &jobs).await?;
    join_nameless(&mut jobs, &mut recordings);
    for job in &mut jobs {
        job.facts.settle();
    }
    for recording in &mut recordings {
        let job = jobs.iter().find(|job| job.n == recording.job);
        recording.job_id = job.map_or(String::new(), |job| job.job_id.clone());
    }
    Ok(Session { jobs, recordings })
}

/// The recordings of a call, the first one first.
///
/// # Errors
/// If the database did not do it.
pub(super) async fn recordings(
    store: &dyn Store,
    call_id: &str,
) -> Result<Vec<Recording>, StoreError> {
    let mut sql = Sql::new(store.dialect(), RECORDINGS);
    sql.push("job IN (SELECT n FROM agent_jobs WHERE call_id = ").bind(call_id).push(")");
    sql.push(NEXT);
    Ok(store.read(sql).await?.iter().map(recording).collect())
}

const RECORDINGS: &str =
    "SELECT job, started_at, bytes, content_type, file, sha256 FROM agent_recordings WHERE ";
const NEXT: &str = " ORDER BY started_at, n";

async fn recordings_of(store: &dyn Store, jobs: &[Job]) -> Result<Vec<Recording>, StoreError> {
    let mut sql = Sql::new(store.dialect(), RECORDINGS);
    sql.push("job IN (").values(jobs.iter().map(|job| job.n)).push(")").push(NEXT);
    Ok(store.read(sql).await?.iter().map(recording).collect())
}

fn job(row: &Row) -> Job {
    Job {
        n: row.int(0).unwrap_or_default(),
        room_id: row.text(1).unwrap_or_default().into(),
        job_id: row.text(2).unwrap_or_default().into(),
        redacted: row.int(3) == Some(1),
        ..Job::default()
    }
}

fn recording(row: &Row) -> Recording {
    let tag = row.bytes(5).unwrap_or_default().iter().take(16);
    Recording {
        job: row.int(0).unwrap_or_default(),
        job_id: String::new(),
        started_at: row.int(1).unwrap_or_default(),
        bytes: row.int(2).and_then(|n| u64::try_from(n).ok()).unwrap_or_default(),
        content_type: row.text(3).unwrap_or_default().into(),
        file: row.text(4).unwrap_or_default().into(),
        tag: tag.map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// Recordings of agents before 1.6.6 do not say their job. In a room with one job it is that one's.
fn join_nameless(jobs: &mut Vec<Job>, recordings: &mut [Recording]) {
    let Some(at) = jobs.iter().position(|job| job.job_id.is_empty()) else { return };
    let is_other = |job: &&Job| job.room_id == jobs[at].room_id && !job.job_id.is_empty();
    let others: Vec<i64> = jobs.iter().filter(is_other).map(|job| job.n).collect();
    let [other] = others[..] else { return };
    let nameless = jobs.remove(at);
    for recording in recordings.iter_mut().filter(|recording| recording.job == nameless.n) {
        recording.job = other;
    }
    if let Some(job) = jobs.iter_mut().find(|job| job.n == other) {
        job.redacted |= nameless.redacted;
        job.facts.add(nameless.facts);
        for (kind, n) in nameless.uploads {
            *job.uploads.entry(kind).or_default() += n;
        }
    }
}
