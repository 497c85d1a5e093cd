//! `GET /integration`: whether records arrive, and what was refused.

use askama::Template;
use axum::{extract::State, http::StatusCode, response::Response};

use super::{
    frame::{Frame, html},
    problem::Problem,
    reader::Reader,
    text::{self, NOTHING},
};
use crate::{
    app::App,
    seen::SEEN,
    store::{Dialect, Sql, StoreError},
};

/// Records whose arrival is looked at for the last one.
const RECENT: &str = "SELECT max(received_at) FROM (SELECT received_at FROM calls ORDER BY n DESC LIMIT 100) AS recent";

struct Sender {
    name: String,
    records: String,
    events: String,
    last: String,
}

struct Counted {
    what: String,
    times: String,
}

#[derive(Template)]
#[template(path = "integration.html", whitespace = "minimize")]
struct Page {
    frame: Frame,
    /// `None`: no record is kept.
    last: Option<String>,
    ago: String,
    calls: String,
    events: String,
    size: String,
    engine: &'static str,
    signed: bool,
    loopback: bool,
    refused: u64,
    broken: u64,
    refusals: Vec<Counted>,
    mistakes: Vec<Counted>,
    senders: Vec<Sender>,
}

pub(super) async fn page(State(app): State<App>, reader: Reader) -> Result<Response, Problem> {
    let now = app.now().millis();
    let last = one(&app, RECENT).await?;
    let counted = |(what, n): (String, u64)| Counted { what, times: n.to_string() };
    let sender = |(name, sender): (String, crate::seen::Sender)| Sender {
        name,
        records: sender.records.to_string(),
        events: sender.events.to_string(),
        last: text::ago(now - sender.last.millis()),
    };
    let (engine, size) = match app.store().dialect() {
        Dialect::Sqlite => ("SQLite", SQLITE_SIZE),
        Dialect::Postgres => ("Postgres", "SELECT pg_database_size(current_database())"),
    };
    let count = |n: Option<i64>| n.map_or(NOTHING.into(), text::count);
    let refusals = SEEN.refusals();
    let page = Page {
        frame: reader.frame("integration"),
        last: last.map(|last| reader.zone.day_and_time(last)),
        ago: last.map_or(String::new(), |last| text::ago(now - last)),
        calls: count(one(&app, "SELECT count(*) FROM calls").await?),
        events: count(one(&app, "SELECT count(*) FROM events").await?),
        size: one(&app, size).await?.map_or(NOTHING.into(), bytes),
        engine,
        signed: app.jwt_secret().is_some(),
        loopback: app.is_loopback(),
        refused: refusals.iter().map(|(_, n)| n).sum(),
        broken: SEEN.broken(),
        refusals: refusals.into_iter().map(counted).collect(),
        mistakes: SEEN.mistakes().into_iter().map(counted).collect(),
        senders: SEEN.senders().into_iter().map(sender).collect(),
    };
    Ok(html(StatusCode::OK, &page))
}

const SQLITE_SIZE: &str =
    "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";

async fn one(app: &App, sql: &'static str) -> Result<Option<i64>, StoreError> {
    let rows = app.store().read(Sql::new(app.store().dialect(), sql)).await?;
    Ok(rows.first().and_then(|row| row.int(0)))
}

#[allow(clippy::cast_precision_loss)]
fn bytes(n: i64) -> String {
    let n = n as f64;
    match n {
        ..1e6 => format!("{:.0} kB", n / 1e3),
        1e6..1e9 => format!("{:.1} MB", n / 1e6),
        _ => format!("{:.2} GB", n / 1e9),
    }
}
