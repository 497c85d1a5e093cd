//! Which days come as sums, and which times are read call by call.
//!
//! A day of UTC comes as sums if they are kept, if all of it is in the time that the query asks for, and if all of it
//! belongs to one group of time: a day of Berlin is no day of UTC, but most days of UTC are within one month of Berlin.

use std::collections::BTreeSet;

use chrono::{DateTime, NaiveTime};
use chrono_tz::Tz;

use super::{groups, wanted::Wanted};
use crate::{
    days::{DAY, Summed},
    query::{Op, Query},
    store::{Sql, Value},
};

/// Statements of one question at most. With more holes between the sums all calls are read by one statement.
const MOST_RANGES: usize = 50;

/// Milliseconds since 1970: from the first instant to before the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: i64,
    pub(super) to: i64,
}

impl Range {
    const ALL: Self = Self { from: i64::MIN, to: i64::MAX };

    /// Appends it as conditions.
    pub(super) fn push(self, sql: &mut Sql) {
        if self.from > i64::MIN {
            sql.push(" AND start_time >= ").bind(self.from);
        }
        if self.to < i64::MAX {
            sql.push(" AND start_time < ").bind(self.to);
        }
    }
}

/// What is read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Beginnings of days.
    pub(super) days: BTreeSet<i64>,
    pub(super) ranges: Vec<Range>,
}

/// The time that a query asks for. `None`: the sums of days do not answer it.
pub(super) fn of_query(wanted: &Wanted) -> Option<(i64, i64)> {
    if wanted.is_known_of_days() { bounds(&wanted.query) } else { None }
}

/// `None`: the query says something else of time than from when to when.
fn bounds(query: &Query) -> Option<(i64, i64)> {
    let (mut from, mut to) = (i64::MIN, i64::MAX);
    for filter in query.filters.iter().filter(|f| f.field.column == "start_time") {
        let Some(Value::Int(Some(at))) = filter.values.first() else { return None };
        match filter.op {
            Op::Ge => from = from.max(*at),
            Op::Gt => from = from.max(at.saturating_add(1)),
            Op::Lt => to = to.min(*at),
            Op::Le => to = to.min(at.saturating_add(1)),
            _ => return None,
        }
    }
    Some((from, to))
}

/// Whether a time is made of whole days of a zone.
pub(super) fn are_days((from, to): (i64, i64), tz: Tz) -> bool {
    let is_midnight = |at: i64| {
        let open = at == i64::MIN || at == i64::MAX;
        let local = DateTime::from_timestamp_millis(at).map(|at| at.with_timezone(&tz).time());
        open || local == Some(NaiveTime::MIN)
    };
    is_midnight(from) && is_midnight(to)
}

impl Plan {
    /// Everything call by call.
    pub(super) fn by_calls() -> Self {
        Self { days: BTreeSet::new(), ranges: vec![Range::ALL] }
    }

    /// `summed`: days whose sums are kept, in their order.
    pub(super) fn new(wanted: &Wanted, (from, to): (i64, i64), summed: &Summed) -> Self {
        let whole = |day: &i64| {
            let end = day.saturating_add(DAY);
            *day >= from
                && end <= to
                && groups::names(wanted, *day) == groups::names(wanted, end - 1)
        };
        let days: BTreeSet<i64> = summed.iter().copied().filter(whole).collect();
        let (mut ranges, mut next) = (vec![], from);
        for day in &days {
            if *day > next {
                ranges.push(Range { from: next, to: *day });
            }
            next = day.saturating_add(DAY);
        }
        if next < to {
            ranges.push(Range { from: next, to });
        }
        if days.is_empty() || ranges.len() > MOST_RANGES {
            return Self::by_calls();
        }
        Self { days, ranges }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(query: &[(&str, &str)]) -> Wanted {
        let pairs: Vec<(String, String)> =
            query.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Wanted::parse(&pairs).unwrap()
    }

    fn plan(query: &[(&str, &str)], summed: &[i64]) -> Plan {
        let wanted = wanted(query);
        match of_query(&wanted) {
            Some(bounds) => Plan::new(&wanted, bounds, &summed.to_vec()),
            None => Plan::by_calls(),
        }
    }

    /// The n-th day of December 2026.
    const fn december(n: i64) -> i64 {
        1_796_083_200_000 + (n - 1) * DAY
    }

    #[test]
    fn whole_days_come_as_sums_and_what_is_between_call_by_call() {
        let summed = [december(1), december(2), december(4), december(5)];
        let found = plan(
            &[("start_time.ge", "2026-12-01T10:00:00Z"), ("start_time.lt", "2026-12-05T23:00:00Z")],
            &summed,
        );
        assert_eq!(found.days, BTreeSet::from([december(2), december(4)]));
        let hour = DAY / 24;
        assert_eq!(
            found.ranges,
            [
                Range { from: december(1) + 10 * hour, to: december(2) },
                Range { from: december(3), to: december(4) },
                Range { from: december(5), to: december(5) + 23 * hour },
            ]
        );
    }

    #[test]
    fn a_day_that_two_groups_share_is_read_call_by_call() {
        let summed: Vec<i64> = (1..=31).map(december).collect();
        let of = |by, tz| plan(&[("by", by), ("tz", tz)], &summed).days.len();
        assert_eq!(of("day", "UTC"), 31);
        assert_eq!(of("day,weekday", "Europe/London"), 31, "in winter");
        assert_eq!(of("day", "Europe/Berlin"), 0);
        assert_eq!(of("month", "Europe/Berlin"), 30, "the last day belongs to January too");
        assert_eq!(of("week", "Europe/Berlin"), 27, "four Sundays belong to two weeks");
        assert_eq!(of("hour", "UTC"), 0);
        assert_eq!(of("status,business_type", "Asia/Kathmandu"), 31);
    }

    #[test]
    fn days_begin_at_midnight_of_their_zone() {
        let hour = DAY / 24;
        let (day, open) = (december(1), (i64::MIN, i64::MAX));
        assert!(are_days(open, Tz::UTC) && are_days((day, i64::MAX), Tz::UTC));
        assert!(are_days((day - hour, day + DAY - hour), Tz::Europe__Berlin));
        for wrong in [(day, day + hour), (day + 1, i64::MAX)] {
            assert!(!are_days(wrong, Tz::UTC), "{wrong:?}");
        }
        assert!(!are_days((day, i64::MAX), Tz::Europe__Berlin));
    }

    #[test]
    fn what_sums_do_not_know_is_read_call_by_call() {
        for query in [
            ("q", "table"),
            ("phone_number", "+1"),
            ("start_time.ne", "2026-12-01"),
            ("by", "ended_by"),
        ] {
            assert_eq!(plan(&[query], &[december(1)]), Plan::by_calls(), "{query:?}");
        }
        assert_eq!(plan(&[("status", "failed")], &[december(1)]).days.len(), 1);
        let holes: Vec<i64> = (1..200).map(|n| december(2 * n)).collect();
        assert_eq!(plan(&[], &holes), Plan::by_calls(), "too many holes");
    }
}
