//! Which call a job belongs to, whichever came first.
//!
//! A record that names the job among its participants says it. Else the room's sid does: the ids of this worker's calls
//! are made from it. For records of other senders it is the name of the room. Where a room had several calls, the time
//! decides.

use serde_json::Value as Json;
use uuid::Uuid;

use crate::{
    call::text,
    store::{Row, Sql, Store, StoreError, Value},
};

/// Calls of a room, one after the other, that are found by its sid.
const CALLS_OF_ROOM: u32 = 16;
/// Milliseconds by which a job may lie beside the call: it comes before the caller, and clocks differ.
const SLACK: i64 = 60_000;
/// Rows of a question about rooms.
const MOST: i64 = 100;
/// Jobs that a record may name.
const MOST_JOBS: usize = 100;
/// Identity of an agent that did not choose another one: this, then the job's id.
const AGENT: &str = "agent-";

/// The ids that calls of a room have (docs/contract.md §3).
pub(super) fn calls_of(room_id: &str) -> impl Iterator<Item = String> {
    (0..CALLS_OF_ROOM).map(move |ordinal| {
        let name = format!("{room_id}/{ordinal}");
        Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).to_string()
    })
}

/// Ids of jobs that a record names.
pub(crate) fn jobs_of(record: &Json) -> Vec<String> {
    let people = record["details"]["participants"].as_array().into_iter().flatten();
    let jobs = people.filter_map(|person| person["identity"].as_str()?.strip_prefix(AGENT));
    jobs.filter(|job| job.starts_with("AJ_")).take(MOST_JOBS).map(text).collect()
}

/// A record was kept. `jobs` are those that it names.
///
/// # Errors
/// If the database did not do it.
pub(crate) async fn call(
    store: &dyn Store,
    call_id: &str,
    jobs: &[String],
) -> Result<(), StoreError> {
    let dialect = store.dialect();
    let mut sql = Sql::new(dialect, "SELECT room_id FROM agent_rooms WHERE call_id = ");
    sql.bind(call_id);
    let mut rooms: Vec<String> = texts(&store.read(sql).await?);

    if !jobs.is_empty() {
        let mut transaction = store.begin().await?;
        for job in jobs {
            let mut sql = Sql::new(dialect, "INSERT INTO call_jobs (job_id, call_id) VALUES (");
            sql.values([job.as_str(), call_id]).push(") ON CONFLICT (job_id) DO NOTHING");
            transaction.execute(sql).await?;
        }
        transaction.commit().await?;
        let mut sql =
            Sql::new(dialect, "SELECT DISTINCT room_id FROM agent_jobs WHERE job_id IN (");
        sql.values(jobs.iter().map(String::as_str)).push(")");
        rooms.extend(texts(&store.read(sql).await?));
    }
    let mut sql = Sql::new(
        dialect,
        "SELECT DISTINCT agent_jobs.room_id FROM agent_jobs JOIN calls \
         ON calls.room_name = agent_jobs.room_name WHERE agent_jobs.call_id IS NULL \
         AND calls.call_id = ",
    );
    sql.bind(call_id).push(" LIMIT ").bind(MOST);
    rooms.extend(texts(&store.read(sql).await?));
    rooms.sort();
    rooms.dedup();
    for room_id in rooms {
        room(store, &room_id).await?;
    }
    Ok(())
}

/// Joins all jobs of a room to their calls.
///
/// # Errors
/// If the database did not do it.
pub(super) async fn room(store: &dyn Store, room_id: &str) -> Result<(), StoreError> {
    let dialect = store.dialect();
    let mut sql = Sql::new(
        dialect,
        "SELECT n, agent_jobs.job_id, from_time, to_time, agent_jobs.call_id, room_name, \
         call_jobs.call_id FROM agent_jobs LEFT JOIN call_jobs \
         ON call_jobs.job_id = agent_jobs.job_id WHERE room_id = ",
    );
    sql.bind(room_id);
    let jobs = store.read(sql).await?;
    // Uploads without a room have nothing in common.
    let calls = if room_id.is_empty() { vec![] } else { calls_in(store, room_id).await? };
    for job in &jobs {
        let span = (job.int(2).unwrap_or_default(), job.int(3).unwrap_or_default());
        let named = job.text(6).map(str::to_owned);
        let by_sid = || best(&calls, span, jobs.len() == 1);
        let found = match named.or_else(by_sid) {
            Some(found) => Some(found),
            None => by_name(store, job.text(5), span).await?,
        };
        // A call that was found before stays where nothing better is known.
        if found.is_none() || found.as_deref() == job.text(4) {
            continue;
        }
        let mut sql = Sql::new(dialect, "UPDATE agent_jobs SET call_id = ");
        sql.bind(Value::Text(found)).push(" WHERE n = ").bind(job.int(0).unwrap_or_default());
        let mut transaction = store.begin().await?;
        transaction.execute(sql).await?;
        transaction.commit().await?;
    }
    Ok(())
}

/// A call in time.
struct Span {
    call_id: String,
    from: i64,
    to: i64,
}

const CALLS: &str = "SELECT call_id, start_time, end_time FROM calls WHERE ";

async fn calls_in(store: &dyn Store, room_id: &str) -> Result<Vec<Span>, StoreError> {
    let mut sql = Sql::new(store.dialect(), CALLS);
    sql.push("call_id IN (").values(calls_of(room_id)).push(")");
    Ok(spans(&store.read(sql).await?))
}

async fn by_name(
    store: &dyn Store,
    room_name: Option<&str>,
    (from, to): (i64, i64),
) -> Result<Option<String>, StoreError> {
    let Some(room_name) = room_name else { return Ok(None) };
    let mut sql = Sql::new(store.dialect(), CALLS);
    sql.push("room_name = ").bind(room_name);
    sql.push(" AND start_time <= ").bind(to + SLACK);
    sql.push(" AND COALESCE(end_time, start_time) >= ").bind(from - SLACK);
    sql.push(" ORDER BY start_time DESC LIMIT ").bind(MOST);
    Ok(best(&spans(&store.read(sql).await?), (from, to), false))
}

fn spans(rows: &[Row]) -> Vec<Span> {
    let span = |row: &Row| {
        let from = row.int(1)?;
        let to = row.int(2).unwrap_or(from).max(from);
        Some(Span { call_id: row.text(0)?.into(), from, to })
    };
    rows.iter().filter_map(span).collect()
}

/// The call that shares most time with a job. A lone job of a room with one call is of that call, whatever the clocks
/// say.
fn best(calls: &[Span], (from, to): (i64, i64), lone: bool) -> Option<String> {
    if let ([call], true) = (calls, lone) {
        return Some(call.call_id.clone());
    }
    let shared = |call: &Span| call.to.min(to) - call.from.max(from);
    let near = calls.iter().filter(|call| shared(call) >= -SLACK);
    near.max_by_key(|call| shared(call)).map(|call| call.call_id.clone())
}

fn texts(rows: &[Row]) -> Vec<String> {
    rows.iter().filter_map(|row| row.text(0)).map(str::to_owned).collect()
}

/// Joins what was not joined when it came: the receiver may have been killed in between.
///
/// # Errors
/// If the database did not do it.
pub(crate) async fn again(store: &dyn Store, since: i64) -> Result<(), StoreError> {
    let mut sql = Sql::new(
        store.dialect(),
        "SELECT DISTINCT room_id FROM agent_jobs WHERE call_id IS NULL AND received_at > ",
    );
    sql.bind(since);
    for room_id in texts(&store.read(sql).await?) {
        room(store, &room_id).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_decides_between_calls_of_a_room() {
        let call = |id: &str, from, to| Span { call_id: id.into(), from, to };
        let calls = [call("a", 0, 100_000), call("b", 200_000, 300_000)];
        for (span, expected) in [
            ((10_000, 90_000), Some("a")),
            ((90_000, 290_000), Some("b")),
            ((110_000, 120_000), Some("a")),
            ((1_000_000, 1_100_000), None),
        ] {
            assert_eq!(best(&calls, span, false).as_deref(), expected, "{span:?}");
        }
        let far = (1_000_000_000, 1_000_100_000);
        assert_eq!(best(&calls[..1], far, true).as_deref(), Some("a"), "clocks may differ");
        assert_eq!(best(&calls[..1], far, false), None);
    }

    /// The same id as `Call::id` in `crates/call`.
    #[test]
    fn ids_of_calls_follow_from_the_room() {
        let first = calls_of("RM_a").next();
        assert_eq!(first.as_deref(), Some("74c6a934-6867-5391-8645-cf4875d69976"));
    }
}
