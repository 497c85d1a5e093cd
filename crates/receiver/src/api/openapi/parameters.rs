//! The parameters of lists, exports and figures, each with the values that are taken.

use serde_json::{Value, json};

use crate::{
    fields::{FIELDS, Field, Kind},
    query::{DEFAULT_LIMIT, LONGEST_VALUE, MOST_LIMIT, MOST_TERMS, MOST_VALUES, Op},
    stats,
};

/// A word, or a text in quotation marks.
const TERM: &str = r#"([^\s"\x00]+|"[^"\x00]*[^\s"\x00][^"\x00]*")"#;

/// Which calls.
pub(super) fn filters() -> Vec<Value> {
    let words = format!("^{TERM}( {TERM}){{0,{}}}$", MOST_TERMS - 1);
    let words = json!({"type": "string", "pattern": words, "maxLength": LONGEST_VALUE});
    let mut all = vec![parameter(
        "q",
        &words,
        "Words, or a text in quotation marks: in transcripts, notes, numbers, rooms, reasons.",
    )];
    for field in FIELDS {
        for (name, op) in Op::ALL.iter().filter(|(_, op)| op.fits(field.kind)) {
            let name = match op {
                Op::Eq => field.name.to_owned(),
                _ => format!("{}.{name}", field.name),
            };
            all.push(parameter(&name, &value(field, *op), ""));
        }
    }
    all
}

/// Which part of the list.
pub(super) fn page() -> Vec<Value> {
    let limit =
        json!({"type": "integer", "minimum": 1, "maximum": MOST_LIMIT, "default": DEFAULT_LIMIT});
    vec![
        parameter("limit", &limit, "Calls of a page."),
        parameter("cursor", &json!({"type": "string"}), "`next_cursor` of the page before."),
        parameter("include_total", &json!({"type": "boolean"}), "Also count all calls that match."),
    ]
}

/// Groups, figures and time zone.
pub(super) fn stats() -> Vec<Value> {
    let by = several(json!({"enum": stats::names_of_groups()}), stats::MOST_BY);
    let of = several(json!({"enum": stats::figures()}), stats::MOST_OF);
    let zones: Vec<&str> = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()).collect();
    vec![
        parameter("by", &by, "Groups, with commas between."),
        parameter("of", &of, "Figures, with commas between; `count` if there is none."),
        parameter(
            "tz",
            &json!({"type": "string", "enum": zones, "default": "UTC"}),
            "Time zone of days and hours.",
        ),
    ]
}

/// The values that a comparison takes.
fn value(field: &Field, op: Op) -> Value {
    let one = match field.kind {
        Kind::Truth => json!({"type": "boolean"}),
        Kind::Choice(words) => json!({"enum": words}),
        Kind::Time => json!({
            "type": "string",
            "anyOf": [{"format": "date-time"}, {"format": "date"}],
            "description": "A time, or a day (UTC).",
        }),
        Kind::Count | Kind::Number => json!({"type": "number"}),
        Kind::Text => json!({"type": "string", "maxLength": LONGEST_VALUE}),
    };
    match (op, field.kind) {
        (Op::Present, _) => json!({"type": "boolean"}),
        (Op::In, _) | (Op::Eq, Kind::Choice(_)) => several(one, MOST_VALUES),
        _ => one,
    }
}

/// With commas between.
fn several(one: Value, most: usize) -> Value {
    json!({"type": "array", "items": one, "minItems": 1, "maxItems": most})
}

fn parameter(name: &str, schema: &Value, description: &str) -> Value {
    let mut parameter = json!({"name": name, "in": "query", "required": false, "schema": schema, "description": description});
    if schema["type"] == "array" {
        parameter["style"] = "form".into();
        parameter["explode"] = false.into();
    }
    parameter
}
