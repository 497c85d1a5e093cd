//! Statistics: figures over calls, by day, by field.
//!
//! The database counts and adds up by hours, or by quarters of an hour where the time zone has such; days, weeks and
//! hours of the zone are formed from them here. Percentiles are those of all single responses, from the calls' histograms.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Offset, TimeZone, Timelike};
use chrono_tz::Tz;
use serde_json::{Map, Value as Json, json};

use crate::{
    aggregate::{Aggregate, Sums},
    deletion::{self, KEPT},
    fields::{self, FIELDS, Field, Kind},
    histogram::Histogram,
    query::Query,
    schema::Mistake,
    store::{Row, Sql, Store, StoreError},
};

/// Milliseconds of the parts of time that the database counts by.
const QUARTER: i64 = 15 * 60 * 1_000;
const HOUR: i64 = 4 * QUARTER;
/// Half a day: the sums of a deleted day count for the day of its noon.
const NOON: i64 = 12 * 60 * 60 * 1_000;
const MOST_BY: usize = 4;
const MOST_OF: usize = 30;
const MOST_GROUPS: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Time {
    Day,
    /// Of ISO 8601, like 2026-W48.
    Week,
    Month,
    /// Of the day.
    Hour,
    /// 1 (Monday) to 7.
    Weekday,
}

const TIMES: [(&str, Time); 5] = [
    ("day", Time::Day),
    ("week", Time::Week),
    ("month", Time::Month),
    ("hour", Time::Hour),
    ("weekday", Time::Weekday),
];

#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Time(Time),
    Field(&'static Field),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Figure {
    Count,
    Sum(&'static Field),
    Avg(&'static Field),
    Min(&'static Field),
    Max(&'static Field),
    /// Of the agent's or the user's responses.
    Percentile {
        agent: bool,
        part: f64,
    },
}

const PERCENTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)];

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Wanted {
    by: Vec<(String, By)>,
    of: Vec<(String, Figure)>,
    tz: Tz,
    query: Query,
    /// Milliseconds: [`HOUR`] or [`QUARTER`].
    step: i64,
}

/// The result did not fit: too many groups.
#[derive(Debug)]
pub struct TooMany;

impl Wanted {
    /// # Errors
    /// All mistakes.
    pub fn parse(pairs: &[(String, String)]) -> Result<Self, Vec<Mistake>> {
        let (mut by, mut of, mut tz) = (vec![], vec![], Tz::UTC);
        let (mut rest, mut mistakes) = (vec![], vec![]);
        for (name, value) in pairs {
            match name.as_str() {
                "by" => match value.split(',').map(parse_by).collect::<Result<Vec<_>, _>>() {
                    Ok(more) => by.extend(more),
                    Err(problem) => mistakes.push(Mistake::new("by", problem)),
                },
                "of" => match value.split(',').map(parse_of).collect::<Result<Vec<_>, _>>() {
                    Ok(more) => of.extend(more),
                    Err(problem) => mistakes.push(Mistake::new("of", problem)),
                },
                "tz" => match value.parse() {
                    Ok(zone) => tz = zone,
                    Err(_) => {
                        mistakes.push(Mistake::new("tz", "must be a time zone like Europe/Berlin"));
                    }
                },
                _ => rest.push((name.clone(), value.clone())),
            }
        }
        if by.len() > MOST_BY {
            mistakes.push(Mistake::new("by", format!("must have {MOST_BY} names or fewer")));
        }
        if of.len() > MOST_OF {
            mistakes.push(Mistake::new("of", format!("must have {MOST_OF} names or fewer")));
        }
        if of.is_empty() {
            of.push(("count".into(), Figure::Count));
        }
        match Query::parse(&rest, &["by", "of", "tz"]) {
            Ok(query) if mistakes.is_empty() => {
                let step = step(tz);
                Ok(Self { by, of, tz, query, step })
            }
            Ok(_) => Err(mistakes),
            Err(more) => {
                mistakes.extend(more);
                Err(mistakes)
            }
        }
    }

    /// Whether the sums of deleted calls can be counted too.
    fn includes_deleted(&self) -> bool {
        let mut columns = KEPT.to_vec();
        columns.push("start_time");
        let kept = |by: &By| match by {
            By::Time(time) => *time != Time::Hour,
            By::Field(field) => KEPT.contains(&field.column),
        };
        self.query.only_of(&columns) && self.by.iter().all(|(_, by)| kept(by))
    }

    fn columns(&self) -> impl Iterator<Item = &'static str> {
        self.by.iter().filter_map(|(_, by)| match by {
            By::Field(field) => Some(field.column),
            By::Time(_) => None,
        })
    }

    /// Fields that sums are needed of.
    fn summed(&self) -> Vec<&'static Field> {
        let mut fields: Vec<&'static Field> = vec![];
        for (_, figure) in &self.of {
            if let Figure::Sum(f) | Figure::Avg(f) | Figure::Min(f) | Figure::Max(f) = figure
                && !fields.contains(f)
            {
                fields.push(f);
            }
        }
        fields
    }

    fn needs_responses(&self, of_agent: bool) -> bool {
        let wants = |figure: &Figure| matches!(figure, Figure::Percentile { agent, .. } if *agent == of_agent);
        self.of.iter().any(|(_, figure)| wants(figure))
    }

    /// The beginning of a statement: the part of time, then the fields.
    fn select(&self, store: &dyn Store) -> Sql {
        let times = self.by.iter().any(|(_, by)| matches!(by, By::Time(_)));
        let part = if self.step == HOUR { "start_time / 3600000" } else { "start_time / 900000" };
        let mut sql = Sql::new(store.dialect(), "SELECT ");
        sql.push(if times { part } else { "CAST(0 AS BIGINT)" }).push(" AS part");
        for column in self.columns() {
            sql.push(", ").push(column);
        }
        sql
    }

    fn push_group_by(&self, sql: &mut Sql) {
        sql.push(" GROUP BY part");
        for column in self.columns() {
            sql.push(", ").push(column);
        }
    }

    /// The names of an instant: one for each name of time in `by`.
    fn times(&self, instant: i64) -> Vec<String> {
        let local = DateTime::from_timestamp_millis(instant).unwrap_or_default();
        let local = local.with_timezone(&self.tz);
        let name = |(_, by): &(String, By)| match by {
            By::Field(_) => None,
            By::Time(Time::Day) => Some(local.format("%Y-%m-%d").to_string()),
            By::Time(Time::Week) => Some(local.format("%G-W%V").to_string()),
            By::Time(Time::Month) => Some(local.format("%Y-%m").to_string()),
            By::Time(Time::Hour) => Some(format!("{:02}", local.hour())),
            By::Time(Time::Weekday) => Some(local.weekday().number_from_monday().to_string()),
        };
        self.by.iter().filter_map(name).collect()
    }
}

/// Forms the groups of rows. Rows often come in the order of time, and one after the other has the same instant.
struct Keys<'a> {
    wanted: &'a Wanted,
    last: Option<(i64, Vec<String>)>,
}

impl<'a> Keys<'a> {
    fn new(wanted: &'a Wanted) -> Self {
        Self { wanted, last: None }
    }

    /// The group of a row that begins with a time and the fields.
    fn of(&mut self, row: &Row, instant: i64) -> Key {
        if self.last.as_ref().is_none_or(|(at, _)| *at != instant) {
            self.last = Some((instant, self.wanted.times(instant)));
        }
        let mut times = self.last.iter().flat_map(|(_, times)| times);
        let mut at = 0;
        let part = |(_, by): &(String, By)| match by {
            By::Time(_) => times.next().cloned(),
            By::Field(field) => {
                at += 1;
                match field.kind {
                    Kind::Truth => row.int(at).map(|n| (n != 0).to_string()),
                    _ => row.text(at).map(str::to_owned),
                }
            }
        };
        self.wanted.by.iter().map(part).collect()
    }
}

/// The longest part of time that no change of hours of this zone cuts.
fn step(tz: Tz) -> i64 {
    // A day of each month of the years that calls are from.
    let mut days = (0..100 * 12).filter_map(|n| {
        chrono::NaiveDate::from_ymd_opt(1_970 + n / 12, (n % 12 + 1).unsigned_abs(), 15)
    });
    let whole = days.all(|day| {
        let offset = tz.offset_from_utc_date(&day).fix().local_minus_utc();
        offset % 3_600 == 0
    });
    if whole { HOUR } else { QUARTER }
}

/// A value for each name in `by`.
type Key = Vec<Option<String>>;
type Groups = BTreeMap<Key, Aggregate>;

fn parse_by(name: &str) -> Result<(String, By), String> {
    let time = TIMES.iter().find(|(known, _)| *known == name).map(|(_, time)| By::Time(*time));
    let by = time.or_else(|| fields::find(name).filter(|f| is_group(f)).map(By::Field));
    by.map(|by| (name.to_owned(), by)).ok_or_else(|| {
        let fields = FIELDS.iter().filter(|f| is_group(f)).map(|f| f.name);
        let names: Vec<&str> = TIMES.iter().map(|(name, _)| *name).chain(fields).collect();
        format!("unknown; known are {}", names.join(", "))
    })
}

fn is_group(field: &Field) -> bool {
    matches!(field.kind, Kind::Text | Kind::Choice(_) | Kind::Truth) && field.name != "call_id"
}

fn parse_of(name: &str) -> Result<(String, Figure), String> {
    let unknown = || {
        let fields: Vec<&str> = deletion::numbers().map(|f| f.name).collect();
        format!(
            "unknown; known are count, agent_response and user_response with .p50, .p90, .p95 or .p99, and with .sum, \
             .avg, .min or .max {}",
            fields.join(", ")
        )
    };
    let (head, last) = name.rsplit_once('.').unwrap_or((name, ""));
    let percentile = PERCENTILES.iter().find(|(known, _)| *known == last).map(|(_, part)| *part);
    let field = || {
        let field = fields::find(head).ok_or_else(unknown)?;
        if deletion::numbers().any(|f| f == field) { Ok(field) } else { Err(unknown()) }
    };
    let figure = match (head, percentile, last) {
        ("count", None, "") => Figure::Count,
        ("agent_response", Some(part), _) => Figure::Percentile { agent: true, part },
        ("user_response", Some(part), _) => Figure::Percentile { agent: false, part },
        (_, None, "sum") => Figure::Sum(field()?),
        (_, None, "avg") => Figure::Avg(field()?),
        (_, None, "min") => Figure::Min(field()?),
        (_, None, "max") => Figure::Max(field()?),
        _ => return Err(unknown()),
    };
    Ok((name.to_owned(), figure))
}

/// # Errors
/// If the database did not do it. `Ok(Err(…))`: there are too many groups.
pub async fn of(store: &dyn Store, wanted: &Wanted) -> Result<Result<Json, TooMany>, StoreError> {
    let mut groups = Groups::new();
    add_sums(store, wanted, &mut groups).await?;
    for agent in [true, false] {
        if groups.len() <= MOST_GROUPS && wanted.needs_responses(agent) {
            add_responses(store, wanted, agent, &mut groups).await?;
        }
    }
    let deleted = wanted.includes_deleted();
    if deleted {
        add_deleted(store, wanted, &mut groups).await?;
    }
    if groups.len() > MOST_GROUPS {
        return Ok(Err(TooMany));
    }
    let names =
        |names: &mut dyn Iterator<Item = &String>| -> Vec<String> { names.cloned().collect() };
    Ok(Ok(json!({
        "by": names(&mut wanted.by.iter().map(|(name, _)| name)),
        "of": names(&mut wanted.of.iter().map(|(name, _)| name)),
        "tz": wanted.tz.name(),
        "deleted_included": deleted,
        "groups": groups.iter().map(|(key, all)| shown(wanted, key, all)).collect::<Vec<Json>>(),
    })))
}

async fn add_sums(
    store: &dyn Store,
    wanted: &Wanted,
    groups: &mut Groups,
) -> Result<(), StoreError> {
    let summed = wanted.summed();
    let mut sql = wanted.select(store);
    sql.push(", count(*)");
    for field in &summed {
        sql.push(", count(").push(field.column);
        sql.push("), CAST(sum(").push(field.column).push(") AS DOUBLE PRECISION), min(");
        sql.push(field.column).push("), max(").push(field.column).push(")");
    }
    sql.push(" FROM calls WHERE ");
    wanted.query.push_where(&mut sql);
    wanted.push_group_by(&mut sql);
    let before = 1 + wanted.columns().count();
    let count = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok()).unwrap_or_default();
    let (mut rows, mut keys) = (store.stream(sql), Keys::new(wanted));
    while let Some(row) = rows.recv().await {
        let row = row?;
        let mut one = Aggregate { calls: count(row.int(before)), ..Aggregate::default() };
        for (n, field) in summed.iter().enumerate() {
            let at = before + 1 + 4 * n;
            let sums = Sums {
                count: count(row.int(at)),
                sum: row.real(at + 1).unwrap_or_default(),
                min: row.real(at + 2).unwrap_or_default(),
                max: row.real(at + 3).unwrap_or_default(),
            };
            one.sums.insert(field.column.into(), sums);
        }
        let key = keys.of(&row, row.int(0).unwrap_or_default().saturating_mul(wanted.step));
        groups.entry(key).or_default().add(&one);
        if groups.len() > MOST_GROUPS {
            return Ok(());
        }
    }
    Ok(())
}

async fn add_responses(
    store: &dyn Store,
    wanted: &Wanted,
    agent: bool,
    groups: &mut Groups,
) -> Result<(), StoreError> {
    let column = if agent { "agent_responses" } else { "user_responses" };
    let mut sql = wanted.select(store);
    sql.push(", ").push(column).push(" FROM calls WHERE ");
    wanted.query.push_where(&mut sql);
    sql.push(" AND ").push(column).push(" IS NOT NULL");
    let at = 1 + wanted.columns().count();
    let (mut rows, mut keys) = (store.stream(sql), Keys::new(wanted));
    while let Some(row) = rows.recv().await {
        let row = row?;
        let Some(responses) = row.bytes(at).and_then(Histogram::from_bytes) else { continue };
        let key = keys.of(&row, row.int(0).unwrap_or_default().saturating_mul(wanted.step));
        // A call that came after the sums were read has perhaps no group.
        if let Some(group) = groups.get_mut(&key) {
            let all = if agent { &mut group.agent_responses } else { &mut group.user_responses };
            all.add(&responses);
        }
    }
    Ok(())
}

async fn add_deleted(
    store: &dyn Store,
    wanted: &Wanted,
    groups: &mut Groups,
) -> Result<(), StoreError> {
    let mut sql = Sql::new(store.dialect(), "SELECT start_time");
    for column in wanted.columns() {
        sql.push(", ").push(column);
    }
    sql.push(", aggregate FROM deleted_days WHERE ");
    wanted.query.push_where(&mut sql);
    let at = 1 + wanted.columns().count();
    let (mut rows, mut keys) = (store.stream(sql), Keys::new(wanted));
    while let Some(row) = rows.recv().await {
        let row = row?;
        let key = keys.of(&row, row.int(0).unwrap_or_default().saturating_add(NOON));
        groups.entry(key).or_default().add(&deletion::read(row.text(at))?);
    }
    Ok(())
}

fn shown(wanted: &Wanted, key: &Key, all: &Aggregate) -> Json {
    let mut group = Map::new();
    for ((name, by), value) in wanted.by.iter().zip(key) {
        let value = match (by, value) {
            (By::Field(Field { kind: Kind::Truth, .. }), Some(text)) => (text == "true").into(),
            (_, value) => json!(value),
        };
        group.insert(name.clone(), value);
    }
    for (name, figure) in &wanted.of {
        let sums = |field: &Field| all.sums.get(field.column).filter(|sums| sums.count > 0);
        let value = match figure {
            Figure::Count => {
                group.insert(name.clone(), all.calls.into());
                continue;
            }
            Figure::Sum(field) => Some(sums(field).map_or(0.0, |s| s.sum)),
            Figure::Avg(field) => sums(field).and_then(Sums::mean),
            Figure::Min(field) => sums(field).map(|s| s.min),
            Figure::Max(field) => sums(field).map(|s| s.max),
            Figure::Percentile { agent: true, part } => all.agent_responses.percentile(*part),
            Figure::Percentile { agent: false, part } => all.user_responses.percentile(*part),
        };
        group.insert(name.clone(), json!(value.map(rounded)));
    }
    Json::Object(group)
}

/// Sums depend in their last digits on the order in which the engine adds.
fn rounded(n: f64) -> f64 {
    let rounded = (n * 1e6).round() / 1e6;
    if rounded.is_finite() { rounded } else { n }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_with_parts_of_hours_are_counted_by_quarters() {
        for (zone, expected) in [
            ("UTC", HOUR),
            ("Europe/Berlin", HOUR),
            ("America/New_York", HOUR),
            ("Asia/Kolkata", QUARTER),
            ("Asia/Kathmandu", QUARTER),
            ("Australia/Lord_Howe", QUARTER),
            ("America/St_Johns", QUARTER),
        ] {
            assert_eq!(step(zone.parse().unwrap()), expected, "{zone}");
        }
    }
}
