//! `GET /numbers`: figures over the calls of a query. Bars and points lead to the calls behind them.

use std::collections::BTreeMap;

use askama::Template;
use axum::{
    extract::{Query as Pairs_, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use chrono::{DateTime, Datelike, Days, Months, NaiveDate, Weekday};
use record::Moment;
use serde_json::Value as Json;

use super::{
    chart::{self, Columns, Lines, Slot},
    filter::Filter,
    frame::{Frame, Problem, html},
    links::{self, Pairs},
    reader::Reader,
    row,
    text::{self, NOTHING},
};
use crate::{
    answer::Refused,
    query::Query,
    schema::Mistake,
    server::App,
    stats::{self, TooMany, Wanted},
    store::Sql,
};

/// Days that are shown if the query says nothing of time.
const DEFAULT_DAYS: i64 = 30;
const DAY: i64 = 24 * 60 * 60 * 1_000;
const STATUSES: [&str; 3] = ["completed", "failed", "dropped"];
/// Columns of a chart at most.
const MOST_SLOTS: usize = 120;
/// Units of the longest bar.
const BAR: f64 = 240.0;

struct Headline {
    value: String,
    name: &'static str,
    href: String,
}

struct Ending {
    status: String,
    tone: &'static str,
    reason: String,
    count: String,
    part: String,
    width: String,
    href: String,
}

struct Business {
    name: String,
    href: String,
    calls: String,
    completed: String,
    successful: String,
    completion: String,
    p50: String,
    p95: String,
    interruptions: String,
    silences: String,
}

struct Cell {
    x: String,
    y: String,
    opacity: String,
    title: String,
    /// Its calls; only if the hour is one hour and not one of each week.
    href: Option<String>,
}

struct Hours {
    cells: Vec<Cell>,
    /// For those who do not see it.
    busiest: String,
}

#[derive(Template)]
#[template(path = "numbers.html", whitespace = "minimize")]
struct Page {
    frame: Frame,
    filter: Filter,
    period: String,
    unit: &'static str,
    calls: String,
    headlines: Vec<Headline>,
    columns: Columns,
    answers: Lines,
    troubles: Lines,
    endings: Vec<Ending>,
    businesses: Vec<Business>,
    hours: Hours,
    empty: bool,
    wrong: bool,
}

pub(super) async fn page(
    State(app): State<App>,
    reader: Reader,
    Pairs_(pairs): Pairs_<Pairs>,
) -> Result<Response, Problem> {
    if let Some(address) = links::without_empty("/numbers", &pairs) {
        return Ok(Redirect::to(&address).into_response());
    }
    let pairs = with_period(pairs, app.now());
    let mistakes = Query::parse(&pairs, &[]).err().unwrap_or_default();
    let page = if mistakes.is_empty() {
        full(&app, reader, &pairs).await?
    } else {
        wrong(&app, reader, &pairs, &mistakes).await?
    };
    Ok(html(if page.wrong { StatusCode::BAD_REQUEST } else { StatusCode::OK }, &page))
}

/// Without a time in the query: the last days.
fn with_period(mut pairs: Pairs, now: Moment) -> Pairs {
    if !pairs.iter().any(|(name, _)| name.starts_with("start_time")) {
        let from = now.plus(-(DEFAULT_DAYS - 1) * DAY).to_rfc3339();
        pairs.push(("start_time.ge".into(), from.chars().take(10).collect()));
    }
    pairs
}

async fn wrong(
    app: &App,
    reader: Reader,
    pairs: &Pairs,
    mistakes: &[Mistake],
) -> Result<Page, Problem> {
    Ok(Page {
        frame: Frame::new("numbers", &reader),
        filter: Filter::new(app.store(), "/numbers", pairs, mistakes).await?,
        period: String::new(),
        unit: "day",
        calls: "/calls".into(),
        headlines: vec![],
        columns: chart::columns(&[], vec![]),
        answers: chart::lines(&[], &[]),
        troubles: chart::lines(&[], &[]),
        endings: vec![],
        businesses: vec![],
        hours: Hours { cells: vec![], busiest: String::new() },
        empty: true,
        wrong: true,
    })
}

async fn full(app: &App, reader: Reader, pairs: &Pairs) -> Result<Page, Problem> {
    let figures = "count,successful.avg,completion_rate.avg,agent_response.p50,agent_response.p95,\
                   interruption_count.sum,silence_count.sum,duration_seconds.sum";
    let (from, to) = period(app, pairs).await?;
    let unit = Unit::for_days((to - from) / DAY);
    let (of_time, of_time_and_end) = (unit.name(), format!("{},status", unit.name()));
    let (all, by_time, by_end, by_business, business_ends, by_hour, time_ends) = tokio::try_join!(
        ask(app, pairs, "", figures),
        ask(app, pairs, of_time, figures),
        ask(app, pairs, "status,termination_reason", "count"),
        ask(app, pairs, "business_type", figures),
        ask(app, pairs, "business_type,status", "count"),
        ask(app, pairs, "weekday,hour", "count"),
        ask(app, pairs, &of_time_and_end, "count"),
    )?;
    let total = all.first().map_or(0.0, |group| number(group, "count"));
    let times = unit.slots(from, to);
    let slots: Vec<Slot> =
        times.iter().map(|(key, from, to)| slot(unit, pairs, &by_time, key, *from, *to)).collect();
    let find = |key: &str| by_time.iter().find(|group| group[unit.name()] == key);
    let series = |of: &dyn Fn(&Json) -> Option<f64>| -> Vec<Option<f64>> {
        times.iter().map(|(key, ..)| find(key).and_then(of)).collect()
    };
    let figure = |name: &'static str| move |group: &Json| group[name].as_f64();
    let columns = times.iter().zip(&slots).map(|((key, from, to), slot)| {
        let part = |status: &&'static str| {
            let group = time_ends
                .iter()
                .find(|g| g[unit.name()] == key.as_str() && g["status"] == **status);
            let count = group.map_or(0.0, |group| number(group, "count"));
            let href = links::calls(
                pairs,
                &[
                    ("start_time.ge", &date(*from)),
                    ("start_time.lt", &date(*to)),
                    ("status", status),
                ],
            );
            (row::tone(status), count, href, format!("{}: {} {status}", slot.label, whole(count)))
        };
        // The dropped ones get a tone of their own.
        STATUSES
            .iter()
            .map(|status| {
                let (tone, count, href, title) = part(status);
                (if *status == "dropped" { "warn" } else { tone }, count, href, title)
            })
            .collect()
    });
    let columns = chart::columns(&slots, columns.collect());
    let answers = [
        ("p50", series(&figure("agent_response.p50"))),
        ("p95", series(&figure("agent_response.p95"))),
    ];
    let troubles = [
        ("cut", series(&|group| a_minute(group, "interruption_count.sum"))),
        ("silence", series(&|group| a_minute(group, "silence_count.sum"))),
    ];
    Ok(Page {
        frame: Frame::new("numbers", &reader),
        filter: Filter::new(app.store(), "/numbers", pairs, &[]).await?,
        period: format!("{} to {}", text::day(from), text::day(to - 1)),
        unit: unit.name(),
        calls: links::with_query("/calls", pairs),
        headlines: headlines(pairs, all.first(), &by_end, total),
        columns,
        answers: chart::lines(&slots, &answers),
        troubles: chart::lines(&slots, &troubles),
        endings: endings(pairs, &by_end, total),
        businesses: by_business
            .iter()
            .map(|group| business(pairs, group, &business_ends))
            .collect(),
        hours: hours(&by_hour, pairs, from, to),
        empty: total == 0.0,
        wrong: false,
    })
}

async fn ask(app: &App, pairs: &Pairs, by: &str, of: &str) -> Result<Vec<Json>, Problem> {
    let mut pairs = pairs.clone();
    pairs.push(("of".into(), of.into()));
    if !by.is_empty() {
        pairs.push(("by".into(), by.into()));
    }
    let wanted = Wanted::parse(&pairs).map_err(Refused::bad_request)?;
    let TooMany = match stats::of(app.store(), &wanted).await? {
        Ok(mut answer) => {
            let groups = answer["groups"].take();
            return Ok(match groups {
                Json::Array(groups) => groups,
                _ => vec![],
            });
        }
        Err(e) => e,
    };
    let problem = "too many groups: ask for a shorter time";
    Err(Refused::new(StatusCode::BAD_REQUEST, problem).into())
}

/// Days, weeks or months, whichever are wide enough to be seen apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    Day,
    Week,
    Month,
}

impl Unit {
    fn for_days(days: i64) -> Self {
        match days {
            ..=62 => Self::Day,
            63..=500 => Self::Week,
            _ => Self::Month,
        }
    }

    /// As statistics call it.
    const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    fn begin(self, day: NaiveDate) -> NaiveDate {
        match self {
            Self::Day => day,
            Self::Week => day.week(Weekday::Mon).first_day(),
            Self::Month => day.with_day(1).unwrap_or(day),
        }
    }

    fn next(self, day: NaiveDate) -> Option<NaiveDate> {
        match self {
            Self::Day => day.checked_add_days(Days::new(1)),
            Self::Week => day.checked_add_days(Days::new(7)),
            Self::Month => day.checked_add_months(Months::new(1)),
        }
    }

    /// The key of statistics, the first day, and the first day of the next.
    fn slots(self, from: i64, to: i64) -> Vec<(String, NaiveDate, NaiveDate)> {
        let mut all = vec![];
        let last = day_of(to - 1);
        let mut day = self.begin(day_of(from));
        while day <= last && all.len() < MOST_SLOTS {
            let Some(next) = self.next(day) else { break };
            let key = match self {
                Self::Day => day.format("%Y-%m-%d"),
                Self::Week => day.format("%G-W%V"),
                Self::Month => day.format("%Y-%m"),
            };
            all.push((key.to_string(), day, next));
            day = next;
        }
        all
    }
}

fn day_of(millis: i64) -> NaiveDate {
    DateTime::from_timestamp_millis(millis).unwrap_or_default().date_naive()
}

fn date(day: NaiveDate) -> String {
    day.format("%Y-%m-%d").to_string()
}

/// From and to which instant the query asks.
async fn period(app: &App, pairs: &Pairs) -> Result<(i64, i64), Problem> {
    let bound = |names: [&str; 2]| {
        let found = pairs.iter().find(|(name, _)| names.contains(&name.as_str()))?;
        let text =
            if found.1.len() == 10 { format!("{}T00:00:00Z", found.1) } else { found.1.clone() };
        Moment::parse_rfc3339(&text).map(Moment::millis)
    };
    let to = bound(["start_time.lt", "start_time.le"]).unwrap_or(app.now().millis() + 1);
    let from = match bound(["start_time.ge", "start_time.gt"]) {
        Some(from) => from,
        None => {
            let sql = Sql::new(app.store().dialect(), "SELECT min(start_time) FROM calls");
            let rows = app.store().read(sql).await?;
            rows.first().and_then(|row| row.int(0)).unwrap_or(to - DAY)
        }
    };
    Ok((from.min(to - 1), to))
}

fn number(group: &Json, name: &str) -> f64 {
    group[name].as_f64().unwrap_or_default()
}

fn a_minute(group: &Json, name: &str) -> Option<f64> {
    let minutes = number(group, "duration_seconds.sum") / 60.0;
    (minutes > 0.0).then(|| number(group, name) / minutes)
}

#[allow(clippy::cast_possible_truncation)]
fn whole(n: f64) -> String {
    text::count(n as i64)
}

fn part(value: Option<f64>) -> String {
    value.map_or(NOTHING.into(), text::percent)
}

fn seconds(value: Option<f64>) -> String {
    value.map_or(NOTHING.into(), text::seconds)
}

fn slot(
    unit: Unit,
    pairs: &Pairs,
    groups: &[Json],
    key: &str,
    from: NaiveDate,
    to: NaiveDate,
) -> Slot {
    let label = match unit {
        Unit::Day | Unit::Week => from.format("%-d %b"),
        Unit::Month => from.format("%b %Y"),
    };
    let label = label.to_string();
    let group = groups.iter().find(|group| group[unit.name()] == key);
    let value = |name: &str| seconds(group.and_then(|group| group[name].as_f64()));
    let minute = |name: &str| seconds(group.and_then(|group| a_minute(group, name)));
    let title = format!(
        "{label}: answers median {} s, p95 {} s; interruptions {} and silences {} a minute",
        value("agent_response.p50"),
        value("agent_response.p95"),
        minute("interruption_count.sum"),
        minute("silence_count.sum"),
    );
    let href = links::calls(pairs, &[("start_time.ge", &date(from)), ("start_time.lt", &date(to))]);
    Slot { label, href, title }
}

fn headlines(pairs: &Pairs, all: Option<&Json>, ends: &[Json], total: f64) -> Vec<Headline> {
    let null = Json::Null;
    let all = all.unwrap_or(&null);
    let of_status = |status: &str| -> f64 {
        ends.iter()
            .filter(|group| group["status"] == status)
            .map(|group| number(group, "count"))
            .sum()
    };
    let with_unit = |value: Option<f64>, unit: &str| match value {
        Some(value) => format!("{} {unit}", text::seconds(value)),
        None => NOTHING.into(),
    };
    let headline = |value: String, name, more: &[(&str, &str)]| Headline {
        value,
        name,
        href: links::calls(pairs, more),
    };
    let p95 = all["agent_response.p95"].as_f64();
    let over = p95.map_or("0".to_owned(), |p95| format!("{p95}"));
    vec![
        headline(whole(total), "calls", &[]),
        headline(
            part((total > 0.0).then(|| of_status("completed") / total)),
            "completed",
            &[("status", "completed")],
        ),
        headline(
            part(all["successful.avg"].as_f64()),
            "successful, where reported",
            &[("successful", "true")],
        ),
        headline(
            with_unit(all["agent_response.p50"].as_f64(), "s"),
            "answer, median",
            &[("agent_response.count.gt", "0")],
        ),
        headline(with_unit(p95, "s"), "answer, p95", &[("agent_response.max.ge", &over)]),
        headline(
            with_unit(a_minute(all, "interruption_count.sum"), ""),
            "interruptions a minute",
            &[("interruption_count.gt", "0")],
        ),
    ]
}

fn endings(pairs: &Pairs, groups: &[Json], total: f64) -> Vec<Ending> {
    let mut groups: Vec<&Json> = groups.iter().collect();
    groups.sort_by(|a, b| number(b, "count").total_cmp(&number(a, "count")));
    let most = groups.first().map_or(1.0, |group| number(group, "count"));
    let ending = |group: &&Json| {
        let count = number(group, "count");
        let status = group["status"].as_str().unwrap_or("unknown");
        let reason = group["termination_reason"].as_str();
        let mut more = vec![("status", status)];
        match reason {
            Some(reason) => more.push(("termination_reason", reason)),
            None => more.push(("termination_reason.present", "false")),
        }
        Ending {
            status: text::words(status),
            tone: if status == "dropped" { "warn" } else { row::tone(status) },
            reason: reason.map_or("ordinary end".into(), text::words),
            count: whole(count),
            part: part((total > 0.0).then(|| count / total)),
            width: format!("{:.1}", (count / most * BAR).max(1.0)),
            href: links::calls(pairs, &more),
        }
    };
    groups.iter().map(ending).collect()
}

fn business(pairs: &Pairs, group: &Json, ends: &[Json]) -> Business {
    let name = group["business_type"].as_str();
    let calls = number(group, "count");
    let completed = ends
        .iter()
        .find(|end| end["business_type"] == group["business_type"] && end["status"] == "completed");
    let completed = completed.map_or(0.0, |end| number(end, "count"));
    Business {
        href: match name {
            Some(name) => links::calls(pairs, &[("business_type", name)]),
            None => links::calls(pairs, &[("business_type.present", "false")]),
        },
        name: name.map_or("not reported".into(), text::words),
        calls: whole(calls),
        completed: part((calls > 0.0).then(|| completed / calls)),
        successful: part(group["successful.avg"].as_f64()),
        completion: part(group["completion_rate.avg"].as_f64()),
        p50: seconds(group["agent_response.p50"].as_f64()),
        p95: seconds(group["agent_response.p95"].as_f64()),
        interruptions: seconds(a_minute(group, "interruption_count.sum")),
        silences: seconds(a_minute(group, "silence_count.sum")),
    }
}

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

/// The first instant of an hour of the week within a period that has each only once.
fn instant(day: usize, hour: usize, from: i64, to: i64) -> Option<i64> {
    const HOUR: i64 = DAY / 24;
    if to - from > 7 * DAY {
        return None;
    }
    let first = from.div_euclid(HOUR) * HOUR;
    (0..=7 * 24).map(|n| first + n * HOUR).find(|at| {
        let of_week = at.div_euclid(HOUR) % 24;
        let weekday = day_of(*at).weekday().num_days_from_monday() as usize;
        weekday == day && usize::try_from(of_week) == Ok(hour)
    })
}

fn hours(groups: &[Json], pairs: &Pairs, from: i64, to: i64) -> Hours {
    let mut counts: BTreeMap<(usize, usize), f64> = BTreeMap::new();
    for group in groups {
        let of = |name: &str| group[name].as_str().and_then(|text| text.parse::<usize>().ok());
        if let (Some(day), Some(hour)) = (of("weekday"), of("hour")) {
            *counts.entry((day.saturating_sub(1), hour)).or_default() += number(group, "count");
        }
    }
    let most = counts.values().copied().fold(1.0, f64::max);
    let count = |day, hour| counts.get(&(day, hour)).copied().unwrap_or_default();
    let title = |day: usize, hour: usize| {
        let name = WEEKDAYS.get(day).copied().unwrap_or_default();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let calls = text::counted(count(day, hour) as usize, "call");
        format!("{name} {hour}:00 to {}:00, {calls}", hour + 1)
    };
    let cell = |(day, hour): (usize, usize)| Cell {
        x: format!("{}", 44 + hour * 46),
        y: format!("{}", day * 20 + 2),
        opacity: format!(
            "{:.2}",
            if count(day, hour) > 0.0 { 0.18 + 0.82 * count(day, hour) / most } else { 0.0 }
        ),
        title: title(day, hour),
        href: instant(day, hour, from, to).filter(|_| count(day, hour) > 0.0).map(|at| {
            let end = at + DAY / 24;
            let written = |at: i64| Moment::from_millis(at.clamp(from, to)).to_rfc3339();
            links::calls(
                pairs,
                &[("start_time.ge", &written(at)), ("start_time.lt", &written(end))],
            )
        }),
    };
    let all = (0..7).flat_map(|day| (0..24).map(move |hour| (day, hour)));
    let busiest = counts.iter().max_by(|a, b| a.1.total_cmp(b.1));
    Hours {
        cells: all.map(cell).collect(),
        busiest: busiest.map_or(String::new(), |((day, hour), _)| title(*day, *hour)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_the_groups_of_the_statistics() {
        let at = |text: &str| Moment::parse_rfc3339(text).unwrap().millis();
        let keys = |unit: Unit, from, to| -> Vec<String> {
            unit.slots(at(from), at(to)).into_iter().map(|(key, ..)| key).collect()
        };
        let (from, to) = ("2026-11-29T10:00:00Z", "2026-12-01T00:00:00Z");
        assert_eq!(keys(Unit::Day, from, to), ["2026-11-29", "2026-11-30"]);
        assert_eq!(keys(Unit::Week, from, to), ["2026-W48", "2026-W49"]);
        assert_eq!(keys(Unit::Month, from, "2026-12-01T00:00:00.001Z"), ["2026-11", "2026-12"]);
    }
}
