//! Calls that are on right now, from their live events.

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};
use serde_json::Value as Json;

use super::{frame::html, problem::Problem, reader::Reader, text};
use crate::{
    app::App,
    store::{Sql, Store, StoreError},
};

/// A call of which nothing was heard for so long is not on any more, whatever became of it.
const FORGOTTEN: i64 = 6 * 60 * 60 * 1_000;
/// Events that are read.
const MOST: i64 = 2_000;
/// Calls that are shown.
const SHOWN: usize = 20;

pub(super) struct Running {
    pub(super) number: String,
    pub(super) direction: String,
    pub(super) state: String,
    pub(super) stage: Option<String>,
    pub(super) since: String,
    pub(super) instant: String,
    pub(super) room: String,
}

#[derive(Template)]
#[template(path = "now.html", whitespace = "minimize")]
pub(super) struct Now {
    pub(super) running: Vec<Running>,
    /// Calls that are on but not shown.
    pub(super) more: Option<usize>,
}

/// `GET /now`: the list alone, for the script.
pub(super) async fn part(State(app): State<App>, reader: Reader) -> Result<Response, Problem> {
    Ok(html(StatusCode::OK, &of(&app, reader).await?))
}

/// `GET /now/stream`: says that something has arrived, and nothing of it.
pub(super) async fn stream(State(app): State<App>, _reader: Reader) -> Result<Response, Problem> {
    Ok(app.live().watch_kinds()?)
}

/// # Errors
/// If the database did not do it.
pub(super) async fn of(app: &App, reader: Reader) -> Result<Now, StoreError> {
    let now = app.now().millis();
    let rows = read(app.store(), now - FORGOTTEN).await?;
    let mut calls: Vec<(String, Running)> = vec![];
    for (id, event, time) in rows {
        if calls.last().is_none_or(|(last, _)| *last != id) {
            calls.push((id, begun(&event, time, now, reader)));
        }
        let Some((_, call)) = calls.last_mut() else { continue };
        match event["event"].as_str() {
            Some("call.answered") => call.state = "talking".into(),
            Some("call.stage") => call.stage = event["stage"].as_str().map(text::words),
            _ => {}
        }
    }
    let mut running: Vec<Running> = calls.into_iter().map(|(_, call)| call).collect();
    running.sort_by(|a, b| b.instant.cmp(&a.instant));
    let more = running.len().saturating_sub(SHOWN);
    running.truncate(SHOWN);
    Ok(Now { running, more: (more > 0).then_some(more) })
}

fn begun(event: &Json, time: i64, now: i64, reader: Reader) -> Running {
    let of = |key: &str| event[key].as_str().unwrap_or_default();
    let room = of("room_name");
    Running {
        number: text::number(of("phone_number"), reader.numbers),
        direction: of("call_type").into(),
        state: "started".into(),
        stage: None,
        since: text::duration((now - time).max(0) as f64 / 1_000.0),
        instant: record::Moment::from_millis(time).to_rfc3339(),
        room: text::number(room, reader.numbers),
    }
}

/// Events of calls that are not over, each call's together and in order.
async fn read(store: &dyn Store, since: i64) -> Result<Vec<(String, Json, i64)>, StoreError> {
    let mut sql =
        Sql::new(store.dialect(), "SELECT call_id, time, body FROM events WHERE received_at > ");
    sql.bind(since);
    sql.push(
        " AND NOT EXISTS (SELECT 1 FROM calls WHERE calls.call_id = events.call_id) \
         AND NOT EXISTS (SELECT 1 FROM events AS other WHERE other.call_id = events.call_id \
         AND other.event IN ('call.ended', 'call.missed')) ORDER BY call_id, sequence LIMIT ",
    );
    sql.bind(MOST);
    let rows = store.read(sql).await?;
    let event = |row: &crate::store::Row| {
        let json = serde_json::from_slice(row.bytes(2)?).ok()?;
        Some((row.text(0)?.to_owned(), json, row.int(1)?))
    };
    Ok(rows.iter().filter_map(event).collect())
}
