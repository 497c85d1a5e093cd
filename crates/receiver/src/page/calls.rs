//! `GET /calls`: the list. Its address is a query of the API, so each view is a link.

use std::time::Duration;

use askama::Template;
use axum::{
    extract::{Query as Pairs_, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use tokio::time::timeout;

use super::{
    delete,
    filter::Filter,
    frame::{Frame, html},
    links::{self, Pairs},
    now::{self, Now},
    problem::Problem,
    reader::Reader,
    row::{self, Day, Row, Values},
    shape, text,
};
use crate::{
    app::App,
    calls::{self, Listed},
    query::{Cursor, Query},
    schema::Mistake,
    store::StoreError,
};

/// The total is not worth a longer wait.
const COUNT_WITHIN: Duration = Duration::from_secs(2);
/// Parameters of the list that do not say which calls.
const PLACE: [&str; 4] = ["limit", "cursor", "before", "include_total"];

#[derive(Template)]
#[template(path = "calls.html", whitespace = "minimize")]
struct Page {
    frame: Frame,
    filter: Filter,
    now: Now,
    days: Vec<Day>,
    total: Option<String>,
    csv: String,
    jsonl: String,
    numbers: String,
    /// Everything of the one number that is shown can be deleted there.
    delete_number: Option<String>,
    newest: Option<String>,
    newer: Option<String>,
    older: Option<String>,
    /// There is no call at all, whatever the query.
    nothing_yet: bool,
    wrong: bool,
}

/// What of the list is shown.
#[derive(Default)]
struct Part {
    calls: Vec<Listed>,
    newer: Option<Cursor>,
    older: Option<Cursor>,
}

pub(super) async fn page(
    State(app): State<App>,
    reader: Reader,
    Pairs_(pairs): Pairs_<Pairs>,
) -> Result<Response, Problem> {
    if let Some(address) = links::without_empty("/calls", &pairs) {
        return Ok(Redirect::to(&address).into_response());
    }
    let (place, which): (Pairs, Pairs) =
        pairs.into_iter().partition(|(name, _)| PLACE.contains(&name.as_str()));
    // Links hold the zone; what is asked for holds instants.
    let (asked, which) = (reader.zone.for_api(&which), reader.zone.in_query(which));
    let forbidden = reader.forbidden(&asked);
    let (query, mistakes) = match Query::parse(&asked, &[]) {
        Ok(query) if forbidden.is_empty() => (Some(query), vec![]),
        Ok(_) => (None, forbidden),
        Err(mistakes) => (None, mistakes),
    };
    let (part, mistakes) = match (&query, of_place(&place)) {
        (Some(query), Ok(place)) => (part(&app, query, &place).await?, mistakes),
        (_, Ok(_)) => (Part::default(), mistakes),
        (_, Err(mut more)) => {
            more.extend(mistakes);
            (Part::default(), more)
        }
    };
    let total = match &query {
        Some(query) => total(&app, query).await?,
        None => None,
    };
    let at = |cursor: &Cursor, name: &str| links::calls(&which, &[(name, &cursor.to_text())]);
    let wrong = !mistakes.is_empty();
    let page = Page {
        frame: reader.frame("calls"),
        filter: Filter::new(app.store(), "/calls", &which, &mistakes, &reader).await?,
        now: now::of(&app, reader).await?,
        newest: part.newer.as_ref().map(|_| links::with_query("/calls", &which)),
        newer: part.newer.as_ref().map(|cursor| at(cursor, "before")),
        older: part.older.as_ref().map(|cursor| at(cursor, "cursor")),
        nothing_yet: !wrong && part.calls.is_empty() && asked.is_empty(),
        days: days(&app, &part.calls, reader).await?,
        total: total.map(text::count),
        csv: links::with_query("/api/calls.csv", &asked),
        jsonl: links::with_query("/api/calls.jsonl", &asked),
        numbers: links::with_query("/numbers", &which),
        delete_number: match &asked[..] {
            [(name, number)] if name == "phone_number" && reader.admin => {
                Some(delete::of_number(number))
            }
            _ => None,
        },
        wrong,
    };
    Ok(html(if wrong { StatusCode::BAD_REQUEST } else { StatusCode::OK }, &page))
}

struct Place {
    limit: u32,
    cursor: Option<Cursor>,
    before: Option<Cursor>,
}

fn of_place(pairs: &Pairs) -> Result<Place, Vec<Mistake>> {
    let (before, rest): (Pairs, Pairs) =
        pairs.iter().cloned().partition(|(name, _)| name == "before");
    let (_, page) = Query::with_page(&rest)?;
    let before = before.first().map(|(name, value)| {
        let problem = || vec![Mistake::new(name, "must be one of a link of this page")];
        Cursor::parse(value).ok_or_else(problem)
    });
    Ok(Place { limit: page.limit, cursor: page.cursor, before: before.transpose()? })
}

async fn part(app: &App, query: &Query, place: &Place) -> Result<Part, StoreError> {
    let (store, limit) = (app.store(), place.limit as usize);
    // One more than is shown says whether there are more.
    if let Some(before) = &place.before {
        let mut calls = calls::newer(store, query, before, place.limit + 1).await?;
        let more = calls.len() > limit;
        if more {
            calls.remove(0);
        }
        let newer = calls.first().filter(|_| more).map(Listed::cursor);
        let older = calls.last().map(Listed::cursor);
        return Ok(Part { calls, newer, older });
    }
    let mut calls = calls::list(store, query, place.cursor.as_ref(), place.limit + 1).await?;
    let more = calls.len() > limit;
    calls.truncate(limit);
    let newer = calls.first().filter(|_| place.cursor.is_some()).map(Listed::cursor);
    let older = calls.last().filter(|_| more).map(Listed::cursor);
    Ok(Part { calls, newer, older })
}

async fn total(app: &App, query: &Query) -> Result<Option<i64>, StoreError> {
    match timeout(COUNT_WITHIN, calls::count(app.store(), query)).await {
        Ok(counted) => counted.map(Some),
        Err(_) => Ok(None),
    }
}

async fn days(app: &App, calls: &[Listed], reader: Reader) -> Result<Vec<Day>, StoreError> {
    let mut shapes = shape::of(app.store(), calls).await?;
    let mut row = |call: &Listed| {
        let at = shapes.iter().position(|(n, _)| *n == call.n());
        let shape = at.map(|at| shapes.swap_remove(at).1);
        let start = Values(call.values()).int("start_time").unwrap_or_default();
        (start, Row::new(call, shape, &reader))
    };
    Ok(row::by_day(calls.iter().map(&mut row).collect(), reader.zone))
}
