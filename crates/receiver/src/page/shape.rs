//! The shape of a call: who spoke when, as two thin tracks of a fixed width.

use std::fmt::Write;

use record::Moment;
use serde::Deserialize;

use crate::{
    calls::Listed,
    store::{Sql, Store, StoreError},
};

/// Units of the picture.
pub(super) const WIDTH: f64 = 120.0;
/// Bytes of records that are read for the pictures of one list.
const MOST_BYTES: u64 = 8_000_000;
/// Spans that are drawn of one call; more cannot be seen apart.
const MOST_SPANS: usize = 400;

/// Paths of two tracks.
pub(super) struct Shape {
    pub(super) user: String,
    pub(super) agent: String,
}

/// What of a record is read: other parts are skipped, and may be anything.
#[derive(Deserialize)]
struct Read {
    start_time: String,
    duration_seconds: f64,
    details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    timeline: Option<Timeline>,
}

#[derive(Deserialize)]
struct Timeline {
    #[serde(default)]
    speech: Vec<Span>,
}

#[derive(Deserialize)]
struct Span {
    by: Option<String>,
    from: String,
    to: String,
}

/// The shapes of some calls, by their number in the tables; only of those whose record has a timeline.
///
/// # Errors
/// If the database did not do it.
pub(super) async fn of(
    store: &dyn Store,
    calls: &[Listed],
) -> Result<Vec<(i64, Shape)>, StoreError> {
    let mut bytes = 0_u64;
    let small = |call: &&Listed| {
        bytes = bytes.saturating_add(call.bytes());
        bytes <= MOST_BYTES
    };
    let which: Vec<i64> = calls.iter().filter(small).map(Listed::n).collect();
    if which.is_empty() {
        return Ok(vec![]);
    }
    let mut sql = Sql::new(store.dialect(), "SELECT n, body FROM bodies WHERE n IN (");
    sql.values(which).push(")");
    let rows = store.read(sql).await?;
    Ok(rows.iter().filter_map(|row| Some((row.int(0)?, drawn(row.bytes(1)?)?))).collect())
}

fn drawn(body: &[u8]) -> Option<Shape> {
    let record: Read = serde_json::from_slice(body).ok()?;
    let speech = record.details?.timeline?.speech;
    let start = Moment::parse_rfc3339(&record.start_time)?;
    if speech.is_empty() || record.duration_seconds <= 0.0 {
        return None;
    }
    let at = |time: &str| {
        let since = Moment::parse_rfc3339(time)?.since(start) as f64 / 1_000.0;
        Some((since / record.duration_seconds * WIDTH).clamp(0.0, WIDTH))
    };
    let mut shape = Shape { user: String::new(), agent: String::new() };
    for span in speech.iter().take(MOST_SPANS) {
        let (Some(from), Some(to)) = (at(&span.from), at(&span.to)) else { continue };
        let (path, y) = match span.by.as_deref() {
            Some("user") => (&mut shape.user, 4),
            Some("agent") => (&mut shape.agent, 14),
            _ => continue,
        };
        // A word is seen too. Writing to a String does not fail.
        let _ = write!(path, "M{from:.1} {y}h{:.1}", (to - from).max(0.8));
    }
    Some(shape)
}
