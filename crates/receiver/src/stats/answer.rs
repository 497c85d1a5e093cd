//! The figures of groups, as JSON.

use serde_json::{Map, Value as Json, json};

use super::{
    groups::Key,
    wanted::{By, Figure, Wanted},
};
use crate::{
    aggregate::{Aggregate, Sums},
    fields::{Field, Kind},
};

pub(super) fn json<'a>(
    wanted: &Wanted,
    deleted_included: bool,
    groups: impl Iterator<Item = (&'a Key, &'a Aggregate)>,
) -> Json {
    let by: Vec<&String> = wanted.by.iter().map(|(name, _)| name).collect();
    let of: Vec<&String> = wanted.of.iter().map(|(name, _)| name).collect();
    json!({
        "by": by,
        "of": of,
        "tz": wanted.tz.name(),
        "deleted_included": deleted_included,
        "groups": groups.map(|(key, all)| group(wanted, key, all)).collect::<Vec<Json>>(),
    })
}

fn group(wanted: &Wanted, key: &Key, all: &Aggregate) -> Json {
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
