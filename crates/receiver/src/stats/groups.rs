//! To which group a row belongs.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Timelike};
use chrono_tz::Tz;

use super::wanted::{By, Time, Wanted};
use crate::{aggregate::Aggregate, fields::Kind, store::Row};

pub(super) const MOST_GROUPS: usize = 10_000;

/// A value for each name in `by`.
pub(super) type Key = Vec<Option<String>>;

pub(super) struct Groups<'a> {
    wanted: &'a Wanted,
    all: BTreeMap<Key, Aggregate>,
    /// Rows often come in the order of time, and one after the other has the same instant: its names of time.
    last: Option<(i64, Vec<String>)>,
}

impl<'a> Groups<'a> {
    pub(super) fn new(wanted: &'a Wanted) -> Self {
        Self { wanted, all: BTreeMap::new(), last: None }
    }

    /// Adds sums to the group of a row that begins with a time and the fields of `by`.
    pub(super) fn add(&mut self, row: &Row, instant: i64, sums: &Aggregate) {
        let key = self.key(row, instant);
        self.all.entry(key).or_default().add(sums);
    }

    pub(super) fn are_too_many(&self) -> bool {
        self.all.len() > MOST_GROUPS
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Key, &Aggregate)> {
        self.all.iter()
    }

    fn key(&mut self, row: &Row, instant: i64) -> Key {
        if self.last.as_ref().is_none_or(|(at, _)| *at != instant) {
            self.last = Some((instant, names(self.wanted, instant)));
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

/// The names of an instant: one for each name of time in `by`.
pub(super) fn names(wanted: &Wanted, instant: i64) -> Vec<String> {
    let local = DateTime::from_timestamp_millis(instant).unwrap_or_default();
    let local = local.with_timezone(&wanted.tz);
    let name = |(_, by): &(String, By)| match by {
        By::Field(_) => None,
        By::Time(time) => Some(name_of(*time, local)),
    };
    wanted.by.iter().filter_map(name).collect()
}

fn name_of(time: Time, local: DateTime<Tz>) -> String {
    match time {
        Time::Day => local.format("%Y-%m-%d").to_string(),
        Time::Week => local.format("%G-W%V").to_string(),
        Time::Month => local.format("%Y-%m").to_string(),
        Time::Hour => format!("{:02}", local.hour()),
        Time::Weekday => local.weekday().number_from_monday().to_string(),
    }
}
