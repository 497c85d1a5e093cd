//! What is asked for: groups, figures, a time zone, and which calls.

use chrono::{Offset, TimeZone};
use chrono_tz::Tz;

use crate::{
    aggregate::Parts,
    deletion::{self, KEPT},
    fields::{self, FIELDS, Field, Kind},
    query::Query,
    schema::Mistake,
    store::{Dialect, Sql},
};

/// Milliseconds of the parts of time that the database counts by.
const QUARTER: i64 = 15 * 60 * 1_000;
const HOUR: i64 = 4 * QUARTER;
pub(crate) const MOST_BY: usize = 4;
pub(crate) const MOST_OF: usize = 30;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
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
pub(super) enum By {
    Time(Time),
    Field(&'static Field),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Figure {
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
    pub(super) by: Vec<(String, By)>,
    pub(super) of: Vec<(String, Figure)>,
    pub(super) tz: Tz,
    pub(super) query: Query,
    /// Milliseconds: [`HOUR`] or [`QUARTER`].
    pub(super) step: i64,
}

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

    /// Whether sums of days answer it: those that are kept of calls, and those that stay of deleted calls.
    pub(super) fn is_known_of_days(&self) -> bool {
        let mut columns = KEPT.to_vec();
        columns.push("start_time");
        let kept = |by: &By| match by {
            By::Time(time) => *time != Time::Hour,
            By::Field(field) => KEPT.contains(&field.column),
        };
        self.query.only_of(&columns) && self.by.iter().all(|(_, by)| kept(by))
    }

    pub(super) fn columns(&self) -> impl Iterator<Item = &'static str> {
        self.by.iter().filter_map(|(_, by)| match by {
            By::Field(field) => Some(field.column),
            By::Time(_) => None,
        })
    }

    /// Fields that sums are needed of.
    pub(super) fn summed(&self) -> Vec<&'static Field> {
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

    /// Which of the calls' histograms are needed, and whether sums are.
    pub(super) fn parts(&self) -> Parts {
        let wants = |of_agent: bool| {
            let wanted = |figure: &Figure| matches!(figure, Figure::Percentile { agent, .. } if *agent == of_agent);
            self.of.iter().any(|(_, figure)| wanted(figure))
        };
        Parts {
            sums: !self.summed().is_empty(),
            agent_responses: wants(true),
            user_responses: wants(false),
        }
    }

    /// The beginning of a statement: the part of time, then the fields.
    pub(super) fn select_parts_of_time(&self, dialect: Dialect) -> Sql {
        let parts = self.parts();
        // The histograms of a group are one text, which must not become too long.
        let times = self.by.iter().any(|(_, by)| matches!(by, By::Time(_)))
            || parts.agent_responses
            || parts.user_responses;
        let part = if self.step == HOUR { "start_time / 3600000" } else { "start_time / 900000" };
        let mut sql = Sql::new(dialect, "SELECT ");
        sql.push(if times { part } else { "CAST(0 AS BIGINT)" }).push(" AS part");
        for column in self.columns() {
            sql.push(", ").push(column);
        }
        sql
    }

    pub(super) fn push_group_by(&self, sql: &mut Sql) {
        sql.push(" GROUP BY part");
        for column in self.columns() {
            sql.push(", ").push(column);
        }
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

/// All names that `by` knows.
pub(crate) fn groups() -> Vec<String> {
    let fields = FIELDS.iter().filter(|f| is_group(f)).map(|f| f.name);
    TIMES.iter().map(|(name, _)| *name).chain(fields).map(str::to_owned).collect()
}

/// All names that `of` knows.
pub(crate) fn figures() -> Vec<String> {
    let sides = ["agent_response", "user_response"].iter();
    let percentiles =
        sides.flat_map(|side| PERCENTILES.iter().map(move |(name, _)| format!("{side}.{name}")));
    let sums = deletion::numbers().flat_map(|field| {
        ["sum", "avg", "min", "max"].iter().map(move |of| format!("{}.{of}", field.name))
    });
    ["count".to_owned()].into_iter().chain(percentiles).chain(sums).collect()
}

fn parse_by(name: &str) -> Result<(String, By), String> {
    let time = TIMES.iter().find(|(known, _)| *known == name).map(|(_, time)| By::Time(*time));
    let by = time.or_else(|| fields::find(name).filter(|f| is_group(f)).map(By::Field));
    by.map(|by| (name.to_owned(), by))
        .ok_or_else(|| format!("unknown; known are {}", groups().join(", ")))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_names_are_taken() {
        for (names, of) in [(groups(), false), (figures(), true)] {
            for name in names {
                let taken = if of { parse_of(&name).is_ok() } else { parse_by(&name).is_ok() };
                assert!(taken, "{name}");
            }
        }
    }

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
