//! Sums over calls that can be added up: for statistics, for the sums of days, and for what stays of deleted calls.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    fields::Field,
    histogram::Histogram,
    store::{Dialect, Row, Sql},
};

/// Of one field over some calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    /// Calls that have a value.
    pub count: u64,
    pub sum: f64,
    pub min: f64,
    pub max: f64,
}

impl Sums {
    pub fn of(value: f64) -> Self {
        Self { count: 1, sum: value, min: value, max: value }
    }

    pub fn add(&mut self, other: &Self) {
        if self.count == 0 {
            self.clone_from(other);
        } else if other.count > 0 {
            self.count += other.count;
            self.sum += other.sum;
            self.min = self.min.min(other.min);
            self.max = self.max.max(other.max);
        }
    }

    #[allow(clippy::cast_precision_loss)]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / self.count as f64)
    }
}

/// Of some calls.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Aggregate {
    pub calls: u64,
    /// By the column of a field.
    pub sums: BTreeMap<String, Sums>,
    pub agent_responses: Histogram,
    pub user_responses: Histogram,
}

impl Aggregate {
    pub fn add(&mut self, other: &Self) {
        self.calls += other.calls;
        for (column, sums) in &other.sums {
            self.sums.entry(column.clone()).or_default().add(sums);
        }
        self.agent_responses.add(&other.agent_responses);
        self.user_responses.add(&other.user_responses);
    }
}

/// Parts of an aggregate besides the number of calls: what nobody asks for is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) sums: bool,
    pub(crate) agent_responses: bool,
    pub(crate) user_responses: bool,
}

impl Parts {
    pub(crate) const ALL: Self = Self { sums: true, agent_responses: true, user_responses: true };
}

/// The columns of a statement over calls that make an aggregate of each of its groups.
pub(crate) struct Columns {
    pub(crate) fields: Vec<&'static Field>,
    pub(crate) parts: Parts,
}

impl Columns {
    /// Appends them, each with a comma before it.
    pub(crate) fn push(&self, sql: &mut Sql) {
        sql.push(", count(*)");
        for field in &self.fields {
            sql.push(", count(").push(field.column);
            sql.push("), CAST(sum(").push(field.column).push(") AS DOUBLE PRECISION), min(");
            sql.push(field.column).push("), max(").push(field.column).push(")");
        }
        if self.parts.agent_responses {
            push_histograms("agent_responses", sql);
        }
        if self.parts.user_responses {
            push_histograms("user_responses", sql);
        }
    }

    /// The aggregate of a group, whose columns begin at a place of its row.
    pub(crate) fn read(&self, row: &Row, mut at: usize) -> Aggregate {
        let mut next = || {
            at += 1;
            at - 1
        };
        let count = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok()).unwrap_or_default();
        let mut all = Aggregate { calls: count(row.int(next())), ..Aggregate::default() };
        for field in &self.fields {
            let sums = Sums {
                count: count(row.int(next())),
                sum: row.real(next()).unwrap_or_default(),
                min: row.real(next()).unwrap_or_default(),
                max: row.real(next()).unwrap_or_default(),
            };
            all.sums.insert(field.column.into(), sums);
        }
        let histograms = |text: Option<&str>| Histogram::sum_of_hex(text.unwrap_or_default());
        if self.parts.agent_responses {
            all.agent_responses = histograms(row.text(next()));
        }
        if self.parts.user_responses {
            all.user_responses = histograms(row.text(next()));
        }
        all
    }
}

/// All histograms of a group in one text: a row for each call would take ten times as long.
fn push_histograms(column: &'static str, sql: &mut Sql) {
    let (before, after) = match sql.dialect() {
        Dialect::Sqlite => (", group_concat(hex(", "))"),
        Dialect::Postgres => (", string_agg(encode(", ", 'hex'), ',')"),
    };
    sql.push(before).push(column).push(after);
}
