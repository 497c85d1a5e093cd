//! What bodies and answers look like.

use serde_json::{Map, Value, json};

use crate::{
    access::Scope,
    fields::{FIELDS, Kind},
    schema,
};

/// All components.
pub(super) fn all() -> Value {
    let mut all = Map::new();
    for (name, mut schema) in
        [("CallHistory", schema::relaxed_record()), ("CallEvent", schema::relaxed_event())]
    {
        // Checked apart, as its mistake has a sentence of its own.
        schema["properties"]["call_id"]["pattern"] = "^[^\\u0000]*$".into();
        // Their own definitions stay inside, under the address at which they are now.
        prefix_references(&mut schema, &format!("#/components/schemas/{name}"));
        all.insert(name.into(), schema);
    }
    let fields = FIELDS.iter().map(|f| (f.name.to_owned(), field_schema(f.kind)));
    all.insert(
        "Calls".into(),
        json!({
            "type": "object",
            "required": ["calls", "next_cursor"],
            "properties": {
                "calls": {"type": "array", "items": {"type": "object", "properties": Value::Object(fields.collect())}},
                "next_cursor": {"type": ["string", "null"]},
                "total": {"type": "integer"},
            },
        }),
    );
    all.insert("Uploads".into(), crate::collector::schema::of());
    let scopes = Scope::ALL.map(Scope::as_str);
    all.insert(
        "NewToken".into(),
        json!({
            "type": "object",
            "required": ["name", "scopes"],
            "properties": {
                "name": {"type": "string"},
                "scopes": {"type": "array", "minItems": 1, "items": {"enum": scopes}},
            },
        }),
    );
    all.insert(
        "Token".into(),
        json!({
            "type": "object",
            "required": ["id", "name", "scopes", "created_at"],
            "properties": {
                "id": {"type": "string"},
                "name": {"type": "string"},
                "scopes": {"type": "array", "items": {"enum": scopes}},
                "created_at": {"type": "string", "format": "date-time"},
            },
        }),
    );
    all.insert("Explained".into(), explained());
    all.insert("Figures".into(), figures());
    all.insert(
        "Errors".into(),
        json!({
            "type": "object",
            "required": ["errors"],
            "properties": {"errors": {"type": "array", "items": {
                "type": "object",
                "required": ["path", "problem"],
                "properties": {"path": {"type": "string"}, "problem": {"type": "string"}},
            }}},
        }),
    );
    Value::Object(all)
}

fn prefix_references(part: &mut Value, with: &str) {
    match part {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match value {
                    Value::String(to) if key == "$ref" => *to = to.replacen('#', with, 1),
                    value => prefix_references(value, with),
                }
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|value| prefix_references(value, with)),
        _ => {}
    }
}

fn field_schema(kind: Kind) -> Value {
    match kind {
        Kind::Text => json!({"type": ["string", "null"]}),
        Kind::Choice(words) => {
            let mut all: Vec<Value> = words.iter().map(|word| json!(word)).collect();
            all.push(Value::Null);
            json!({"enum": all})
        }
        Kind::Time => json!({"type": ["string", "null"], "format": "date-time"}),
        Kind::Count => json!({"type": ["integer", "null"]}),
        Kind::Number => json!({"type": ["number", "null"]}),
        Kind::Truth => json!({"type": ["boolean", "null"]}),
    }
}

fn explained() -> Value {
    let number = json!({
        "type": "object",
        "required": ["value", "moments", "agrees", "note"],
        "properties": {
            "value": {"type": "number"},
            "moments": {
                "type": "array",
                "items": {"type": "object"},
                "description": "As the record has them: spans with `from` and `to`, moments with `at`.",
            },
            "agrees": {
                "type": ["boolean", "null"],
                "description": "Whether the moments make the number; null if they do not show it by themselves.",
            },
            "note": {"type": ["string", "null"]},
        },
    });
    json!({
        "type": "object",
        "required": ["call_id", "numbers"],
        "properties": {
            "call_id": {"type": "string"},
            "evidence": {"description": "By which signals the call was seen, as the record says it."},
            "observation": {"description": "How much of the call was seen, as the record says it."},
            "numbers": {
                "type": "object",
                "description": "By the number's path in the record, with dots.",
                "additionalProperties": number,
            },
        },
    })
}

fn figures() -> Value {
    let texts = json!({"type": "array", "items": {"type": "string"}});
    json!({
        "type": "object",
        "required": ["by", "of", "tz", "deleted_included", "groups"],
        "properties": {
            "by": texts,
            "of": texts,
            "tz": {"type": "string"},
            "deleted_included": {"type": "boolean", "description": "Whether deleted calls count too."},
            "groups": {"type": "array", "items": {
                "type": "object",
                "additionalProperties": {"type": ["string", "number", "boolean", "null"]},
            }},
        },
    })
}
