//! `GET /calls/{id}`: one call.
//!
//! | file | its one idea |
//! |---|---|
//! | [`moments`] | the record as moments and spans |
//! | [`picture`] | both tracks to scale |
//! | [`story`] | what was said and what happened, in words |
//! | [`figures`] | each number with the moments that made it |
//! | [`answers`] | what answers waited for |
//! | [`agent`] | what the agent itself reports: recording, waits, tools, judges |
//! | [`beside`] | how it was seen, what came of it, who took part |
//! | [`neighbours`] | the calls before and after it of the same number |

mod agent;
mod answers;
mod beside;
mod figures;
mod moments;
mod neighbours;
mod picture;
mod story;

use askama::Template;
use axum::{
    extract::{Path, Query as Pairs, State},
    http::StatusCode,
    response::Response,
};
use serde::Deserialize;
use serde_json::Value as Json;

use self::{
    agent::Agent,
    answers::Answer,
    beside::{Card, Person, Transfer},
    figures::Figure,
    moments::Moments,
    neighbours::Neighbours,
    picture::Picture,
    story::Item,
};
use super::{
    delete,
    frame::{Frame, html},
    links,
    problem::Problem,
    reader::Reader,
    row, text,
};
use crate::{app::App, calls, collector::session};

/// Bytes of a record that is shown on the page; larger ones can be downloaded.
const SHOWN: usize = 300_000;

/// A number on top; a link to the moments that made it.
struct Headline {
    href: &'static str,
    value: String,
    name: &'static str,
    tone: &'static str,
}

#[derive(Template)]
#[template(path = "call.html", whitespace = "minimize")]
struct Page {
    frame: Frame,
    number: String,
    status: String,
    tone: &'static str,
    reason: Option<String>,
    direction: String,
    day: String,
    time: String,
    instant: String,
    ended: Option<String>,
    room: String,
    id: String,
    path: String,
    business: Option<String>,
    headlines: Vec<Headline>,
    picture: Option<Picture>,
    has_words: bool,
    story: Vec<Item>,
    figures: Vec<Figure>,
    answers: Vec<Answer>,
    /// What its agents uploaded.
    agent: Agent,
    cards: Vec<Card>,
    people: Vec<Person>,
    transfers: Vec<Transfer>,
    neighbours: Neighbours,
    /// Indented, if it was asked for.
    raw: Option<String>,
    /// It is too large to be shown.
    large: bool,
    size: String,
    download: Option<String>,
    details: bool,
    /// Where it can be deleted, and everything of its number; only for who may.
    delete: Option<String>,
    delete_number: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Look {
    zoom: Option<String>,
    raw: Option<String>,
}

pub(super) async fn page(
    State(app): State<App>,
    reader: Reader,
    Path(id): Path<String>,
    Pairs(look): Pairs<Look>,
) -> Result<Response, Problem> {
    let id = crate::call::text(&id);
    let body = calls::body(app.store(), &id).await?.ok_or(Problem::NoCall)?;
    let Ok(mut record) = serde_json::from_slice::<Json>(&body) else { return Err(Problem::NoCall) };
    let neighbours = neighbours::of(app.store(), &record, &id, &reader).await?;
    if !reader.numbers {
        mask(&mut record);
    }
    let session = session::of_call(app.store(), &id).await?;
    let mut agent = Agent::of(&record, &id, &session, reader.numbers);
    if reader.demo {
        // Numbers may be said in them.
        agent.players.clear();
    }
    let mut page = shown(&record, &id, body.len(), reader, &look, neighbours);
    page.cards.append(&mut agent.cards);
    page.agent = agent;
    Ok(html(StatusCode::OK, &page))
}

fn shown(
    record: &Json,
    id: &str,
    size: usize,
    reader: Reader,
    look: &Look,
    neighbours: Neighbours,
) -> Page {
    let of = |key: &str| record[key].as_str();
    let moments = Moments::of(record);
    let start = moments::instant(&record["start_time"]).unwrap_or_default();
    let status = of("status").unwrap_or("unknown");
    Page {
        frame: reader.frame("calls"),
        number: text::number(of("phone_number").unwrap_or("unknown"), reader.numbers),
        status: text::words(status),
        tone: row::tone(status),
        reason: of("termination_reason").map(text::words),
        direction: of("call_type").unwrap_or_default().into(),
        day: reader.zone.day(start),
        time: reader.zone.day_and_time(start),
        instant: of("start_time").unwrap_or_default().into(),
        ended: record["details"]["ended_by"].as_str().map(row::ended_by),
        room: text::number(of("room_name").unwrap_or_default(), reader.numbers),
        path: links::of_call(id),
        id: id.to_owned(),
        business: record["agent_config"]["business_type"].as_str().map(text::words),
        headlines: headlines(record, &moments),
        has_words: moments.lines.as_ref().is_some_and(|lines| !lines.is_empty()),
        story: story::of(&moments),
        figures: figures::of(record, &moments),
        answers: answers::of(record, &moments),
        agent: Agent::default(),
        cards: beside::cards(record),
        people: beside::people(record, &reader),
        transfers: beside::transfers(record, &reader),
        picture: Picture::of(&moments, look.zoom.as_deref()),
        neighbours,
        raw: (look.raw.is_some() && size <= SHOWN)
            .then(|| serde_json::to_string_pretty(record).unwrap_or_default()),
        large: size > SHOWN,
        size: text::count(i64::try_from(size).unwrap_or(i64::MAX)),
        download: reader.numbers.then(|| format!("/api/calls/{}", links::encoded(id))),
        details: record["details"].is_object(),
        delete: reader.admin.then(|| delete::of_call(id)),
        delete_number: of("phone_number")
            .filter(|number| reader.admin && *number != "unknown")
            .map(delete::of_number),
    }
}

fn headlines(record: &Json, moments: &Moments) -> Vec<Headline> {
    let number = |path: &str| record.pointer(path).and_then(Json::as_f64);
    let seconds = |path: &str| number(path).map(|s| format!("{} s", text::seconds(s)));
    let count = |path: &str| {
        #[allow(clippy::cast_possible_truncation)]
        number(path).map_or(text::NOTHING.into(), |n| text::count(n as i64))
    };
    let headline = |href, value: String, name, tone| Headline { href, value, name, tone };
    let mut all = vec![headline("#timeline", text::duration(moments.length), "duration", "")];
    match seconds("/details/latency/agent_response/p50") {
        Some(p50) => all.push(headline("#m-agent-p50", p50, "agent answers, median", "")),
        None => {
            let average = seconds("/metrics/average_agent_response_time");
            let average =
                average.filter(|_| number("/metrics/average_agent_response_time") > Some(0.0));
            let value = average.unwrap_or(text::NOTHING.into());
            all.push(headline("#m-agent-answers", value, "agent answers, average", ""));
        }
    }
    let p95 = seconds("/details/latency/agent_response/p95");
    let href = if p95.is_some() { "#m-agent-p95" } else { "#m-agent-answers" };
    all.push(headline(href, p95.unwrap_or(text::NOTHING.into()), "agent answers, p95", ""));
    let cuts = count("/metrics/interruption_count");
    all.push(headline("#m-interruptions", cuts, "interruptions", ""));
    all.push(headline("#m-silences", count("/metrics/silence_count"), "silences", ""));
    let (seen, tone) = beside::badge(record).unwrap_or((text::NOTHING.into(), ""));
    all.push(headline("#evidence", seen, "of the call seen", tone));
    all
}

/// Masks all numbers of a record, also those in what was said.
fn mask(json: &mut Json) {
    match json {
        // A time may have seven digits of a second.
        Json::String(string) if record::Moment::parse_rfc3339(string).is_some() => {}
        Json::String(string) => *string = text::masked(string),
        Json::Array(all) => all.iter_mut().for_each(mask),
        Json::Object(all) => {
            // Keys of maps of attributes are names, but an id may hold digits that mean nothing.
            all.iter_mut().filter(|(key, _)| *key != "call_id").for_each(|(_, value)| mask(value));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_are_masked_everywhere_and_times_and_the_id_are_not() {
        let mut record = json!({
            "call_id": "call-15551234567", "start_time": "2026-11-27T07:28:53.9651234Z",
            "details": {"transcript": [{"text": "call me at 5551234567, or 12"}]},
        });
        mask(&mut record);
        let expected = json!({
            "call_id": "call-15551234567", "start_time": "2026-11-27T07:28:53.9651234Z",
            "details": {"transcript": [{"text": "call me at 55••••••67, or 12"}]},
        });
        assert_eq!(record, expected);
    }
}
