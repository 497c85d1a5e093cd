//! How the value of a field is written: as JSON, and in a table.

use record::Moment;
use serde_json::{Map, Value as Json};

use crate::{
    fields::{FIELDS, Kind},
    store::Value,
};

/// A call as lists show it: all fields under their names. `values`: one for each of [`FIELDS`].
pub fn json(values: &[Value]) -> Map<String, Json> {
    let fields = FIELDS.iter().zip(values);
    fields.map(|(field, value)| (field.name.to_owned(), one(field.kind, value))).collect()
}

fn one(kind: Kind, value: &Value) -> Json {
    match (kind, value) {
        (Kind::Time, Value::Int(Some(ms))) => Moment::from_millis(*ms).to_rfc3339().into(),
        (Kind::Truth, Value::Int(Some(n))) => (*n != 0).into(),
        (_, Value::Int(Some(n))) => (*n).into(),
        (_, Value::Real(Some(n))) => (*n).into(),
        (_, Value::Text(Some(text))) => text.as_str().into(),
        _ => Json::Null,
    }
}

/// The cells of a row, in the order of [`FIELDS`]; empty where there is no value.
pub fn cells(values: &[Value]) -> Vec<String> {
    let cell = |(field, value): (&crate::fields::Field, &Value)| match one(field.kind, value) {
        Json::Null => String::new(),
        Json::String(text) if matches!(field.kind, Kind::Text) => harmless(text),
        Json::String(text) => text,
        other => other.to_string(),
    };
    FIELDS.iter().zip(values).map(cell).collect()
}

/// Spreadsheets run a cell that begins like a formula, and callers choose names of rooms and more. An apostrophe before
/// it makes it a text. A phone number is no formula.
fn harmless(text: String) -> String {
    let is_number = || {
        let rest = text.strip_prefix(['+', '-']).unwrap_or(&text);
        !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit())
    };
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) && !is_number() {
        format!("'{text}")
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_never_a_formula() {
        for (text, cell) in [
            ("=1+1", "'=1+1"),
            ("+15551234567", "+15551234567"),
            ("+1+1", "'+1+1"),
            ("-2", "-2"),
            ("-cmd|' /C calc'!A0", "'-cmd|' /C calc'!A0"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "'\t=1"),
            ("+", "'+"),
            ("room = 7", "room = 7"),
            ("", ""),
        ] {
            assert_eq!(harmless(text.to_owned()), cell);
        }
    }
}
