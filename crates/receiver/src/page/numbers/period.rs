//! The period that figures are of, and its days, weeks or months, as the reader's zone has them.

use chrono::{Datelike, Days, Months, NaiveDate, Weekday};
use record::Moment;

use super::super::{links::Pairs, zone::Zone};
use crate::store::{Sql, Store, StoreError};

/// Days that are shown if the query says nothing of time.
const DEFAULT_DAYS: u64 = 30;
/// Columns of a chart at most.
const MOST_SLOTS: usize = 120;
/// Milliseconds.
pub(super) const DAY: i64 = 24 * 60 * 60 * 1_000;

/// From an instant to before another, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Period {
    pub(super) from: i64,
    pub(super) to: i64,
}

impl Period {
    /// What a query asks for; without an end until now, without a beginning from the first call on.
    ///
    /// # Errors
    /// If the database did not do it.
    pub(super) async fn of(
        store: &dyn Store,
        asked: &[(String, String)],
        now: Moment,
    ) -> Result<Self, StoreError> {
        let bound = |names: [&str; 2]| {
            let found = asked.iter().find(|(name, _)| names.contains(&name.as_str()))?;
            let is_day = found.1.len() == 10;
            let text = if is_day { format!("{}T00:00:00Z", found.1) } else { found.1.clone() };
            Moment::parse_rfc3339(&text).map(Moment::millis)
        };
        let to = bound(["start_time.lt", "start_time.le"]).unwrap_or(now.millis() + 1);
        let from = match bound(["start_time.ge", "start_time.gt"]) {
            Some(from) => from,
            None => {
                let sql = Sql::new(store.dialect(), "SELECT min(start_time) FROM calls");
                let rows = store.read(sql).await?;
                rows.first().and_then(|row| row.int(0)).unwrap_or(to - DAY)
            }
        };
        Ok(Self { from: from.min(to - 1), to })
    }

    pub(super) fn length(self) -> i64 {
        self.to - self.from
    }

    /// The period before it, as long.
    pub(super) fn before(self) -> Self {
        Self { from: self.from - self.length(), to: self.from }
    }

    /// As conditions of a query.
    pub(super) fn pairs(self) -> Pairs {
        let written = |at| Moment::from_millis(at).to_rfc3339();
        vec![
            ("start_time.ge".into(), written(self.from)),
            ("start_time.lt".into(), written(self.to)),
        ]
    }
}

pub(super) fn is_of_time(name: &str) -> bool {
    name == "start_time" || name.starts_with("start_time.")
}

/// Without a time in the query: the last days.
pub(super) fn with_default(mut pairs: Pairs, now: Moment, zone: Zone) -> Pairs {
    if !pairs.iter().any(|(name, _)| is_of_time(name)) {
        let today = zone.date(now.millis());
        let from = today.checked_sub_days(Days::new(DEFAULT_DAYS - 1)).unwrap_or(today);
        pairs.push(("start_time.ge".into(), date(from)));
    }
    pairs
}

pub(super) fn date(day: NaiveDate) -> String {
    day.format("%Y-%m-%d").to_string()
}

/// Days, weeks or months, whichever are wide enough to be seen apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Day,
    Week,
    Month,
}

/// One of them.
pub(super) struct Part {
    /// As statistics name it.
    pub(super) key: String,
    /// The first day, and the first of the next.
    pub(super) from: NaiveDate,
    pub(super) to: NaiveDate,
}

impl Unit {
    pub(super) fn for_days(days: i64) -> Self {
        match days {
            ..=62 => Self::Day,
            63..=500 => Self::Week,
            _ => Self::Month,
        }
    }

    /// As statistics call it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
        }
    }

    pub(super) fn label(self, day: NaiveDate) -> String {
        let label = match self {
            Self::Day | Self::Week => day.format("%-d %b"),
            Self::Month => day.format("%b %Y"),
        };
        label.to_string()
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

    /// The parts of a period, in their order.
    pub(super) fn parts(self, period: Period, zone: Zone) -> Vec<Part> {
        let mut all = vec![];
        let last = zone.date(period.to - 1);
        let mut from = self.begin(zone.date(period.from));
        while from <= last && all.len() < MOST_SLOTS {
            let Some(to) = self.next(from) else { break };
            let key = match self {
                Self::Day => from.format("%Y-%m-%d"),
                Self::Week => from.format("%G-W%V"),
                Self::Month => from.format("%Y-%m"),
            };
            all.push(Part { key: key.to_string(), from, to });
            from = to;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> i64 {
        Moment::parse_rfc3339(text).unwrap().millis()
    }

    #[test]
    fn parts_are_the_groups_of_the_statistics() {
        let keys = |unit: Unit, from, to, zone: &str| -> Vec<String> {
            let period = Period { from: at(from), to: at(to) };
            let parts = unit.parts(period, Zone::parse(zone).unwrap());
            parts.into_iter().map(|part| part.key).collect()
        };
        let (from, to) = ("2026-11-29T10:00:00Z", "2026-12-01T00:00:00Z");
        assert_eq!(keys(Unit::Day, from, to, "UTC"), ["2026-11-29", "2026-11-30"]);
        assert_eq!(keys(Unit::Week, from, to, "UTC"), ["2026-W48", "2026-W49"]);
        let late = "2026-12-01T00:00:00.001Z";
        assert_eq!(keys(Unit::Month, from, late, "UTC"), ["2026-11", "2026-12"]);
        let berlin = keys(Unit::Day, from, to, "Europe/Berlin");
        assert_eq!(berlin, ["2026-11-29", "2026-11-30", "2026-12-01"]);
    }

    #[test]
    fn the_period_before_ends_where_this_one_begins() {
        let period = Period { from: at("2026-11-08T00:00:00Z"), to: at("2026-11-15T00:00:00Z") };
        let before = period.before();
        assert_eq!((before.from, before.to), (at("2026-11-01T00:00:00Z"), period.from));
        assert_eq!(before.pairs()[0].1, "2026-11-01T00:00:00.000Z");
    }
}
