//! OTLP as protobuf: records of all three signals stand at the same depth, resource, scope, record.

use serde_json::{Map, Value as Json, json};

use super::wire::{self, Field};

/// Levels of a nested value that are read.
const DEEPEST: usize = 16;

/// Where a record stands.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) resource: &'a [u8],
    pub(super) scope: &'a [u8],
    pub(super) record: &'a [u8],
}

/// The numbers of the fields that hold resources, scopes and records. All three signals have the same.
const RESOURCES: u32 = 1;
const SCOPES: u32 = 2;
const RECORDS: u32 = 2;
/// The resource or the scope itself, beside them.
const SELF: u32 = 1;

/// All records of a batch.
pub(super) fn records(batch: &[u8]) -> impl Iterator<Item = At<'_>> {
    wire::each(batch, RESOURCES).flat_map(|of_resource| {
        let resource = own(of_resource);
        wire::each(of_resource, SCOPES).flat_map(move |of_scope| {
            let scope = own(of_scope);
            wire::each(of_scope, RECORDS).map(move |record| At { resource, scope, record })
        })
    })
}

fn own(message: &[u8]) -> &[u8] {
    wire::field(message, SELF).and_then(Field::bytes).unwrap_or_default()
}

/// The batch with only some of its records. Everything else of it stays as it is.
pub(super) fn only(batch: &[u8], keep: impl Fn(At<'_>) -> bool) -> Vec<u8> {
    wire::copy(batch, |number, of_resource| {
        if number != RESOURCES {
            return Some(of_resource.to_vec());
        }
        let resource = own(of_resource);
        Some(wire::copy(of_resource, |number, of_scope| {
            if number != SCOPES {
                return Some(of_scope.to_vec());
            }
            let scope = own(of_scope);
            Some(wire::copy(of_scope, |number, record| {
                let kept = number != RECORDS || keep(At { resource, scope, record });
                kept.then(|| record.to_vec())
            }))
        }))
    })
}

/// Attributes: of a resource in field 1, of a scope in 3, of a span in 9, of a log record in 6.
pub(super) fn attributes(message: &[u8], number: u32) -> impl Iterator<Item = (&str, &[u8])> {
    wire::each(message, number).filter_map(|pair| {
        let key = wire::field(pair, 1)?.text()?;
        Some((key, wire::field(pair, 2).and_then(Field::bytes).unwrap_or_default()))
    })
}

/// The text of an attribute.
pub(super) fn text<'a>(message: &'a [u8], number: u32, key: &str) -> Option<&'a str> {
    let value = attributes(message, number).find(|(k, _)| *k == key)?.1;
    wire::field(value, 1)?.text()
}

/// How many values may still be read: a batch of small ones would become large.
pub(super) struct Budget(pub(super) usize);

impl Budget {
    /// Takes one; false if there is none left.
    pub(super) fn take(&mut self) -> bool {
        self.0 = self.0.saturating_sub(1);
        self.0 > 0
    }
}

/// A value as JSON. Bytes, and what is too deep, are null.
pub(super) fn json(value: &[u8], budget: &mut Budget) -> Json {
    nested(value, budget, 0)
}

fn nested(value: &[u8], budget: &mut Budget, depth: usize) -> Json {
    if depth > DEEPEST || !budget.take() {
        return Json::Null;
    }
    let Some((number, field)) = wire::fields(value).last() else { return Json::Null };
    match (number, field) {
        (1, field) => field.text().map_or(Json::Null, Json::from),
        (2, Field::Number(n)) => Json::Bool(n != 0),
        (3, Field::Number(n)) => json!(n.cast_signed()),
        (4, Field::Fixed(n)) => json!(f64::from_bits(n)),
        (5, Field::Bytes(array)) => {
            let mut all = vec![];
            for value in wire::each(array, 1) {
                if budget.0 == 0 {
                    break;
                }
                all.push(nested(value, budget, depth + 1));
            }
            Json::Array(all)
        }
        (6, Field::Bytes(list)) => {
            let mut all = Map::new();
            for (key, value) in attributes(list, 1) {
                if budget.0 == 0 {
                    break;
                }
                all.insert(key.to_owned(), nested(value, budget, depth + 1));
            }
            Json::Object(all)
        }
        _ => Json::Null,
    }
}
