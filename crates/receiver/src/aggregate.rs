//! Sums over calls that can be added up: for statistics, and for what stays of deleted calls.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::histogram::Histogram;

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
