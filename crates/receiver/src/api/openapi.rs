//! `GET /openapi.json`: OpenAPI 3.1, with our own schemas as components.
//!
//! Parameters are made from the fields and their comparisons, so the description cannot differ from what is taken.

use axum::Json;
use serde_json::{Map, Value, json};

use crate::{
    fields::{FIELDS, Kind},
    query::{DEFAULT_LIMIT, MOST_LIMIT, Op},
};

pub async fn document() -> Json<Value> {
    Json(of())
}

/// The whole document.
pub fn of() -> Value {
    let mut filters = filters();
    let list = {
        let mut list = filters.clone();
        list.push(parameter("limit", json!({"type": "integer", "minimum": 1, "maximum": MOST_LIMIT, "default": DEFAULT_LIMIT}), "Calls of a page."));
        list.push(parameter(
            "cursor",
            json!({"type": "string"}),
            "`next_cursor` of the page before.",
        ));
        list.push(parameter(
            "include_total",
            json!({"type": "boolean"}),
            "Also count all calls that match.",
        ));
        list
    };
    let mut stats = vec![
        parameter(
            "by",
            json!({"type": "string"}),
            "Groups, with commas between: day, week, month, hour, weekday, or a field of texts.",
        ),
        parameter(
            "of",
            json!({"type": "string"}),
            "Figures, with commas between: count; agent_response.p95 and the like; a field of numbers with .sum, .avg, .min or .max.",
        ),
        parameter(
            "tz",
            json!({"type": "string", "default": "UTC"}),
            "Time zone of days and hours, like Europe/Berlin.",
        ),
    ];
    stats.append(&mut filters.clone());
    filters.shrink_to_fit();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "call-history receive",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Takes call history records, keeps them, and answers questions about them.",
        },
        "security": [{"token": []}, {}],
        "paths": {
            "/call-history": {"post": intake("Post a record.", "CallHistory")},
            "/call-events": {"post": intake("Post a live event.", "CallEvent")},
            "/api/calls": {"get": get("The newest calls that match.", list, "application/json", json!({"$ref": "#/components/schemas/Calls"}))},
            "/api/calls.csv": {"get": get("All calls that match, as a table.", filters.clone(), "text/csv", json!({"type": "string"}))},
            "/api/calls.jsonl": {"get": get("All records that match, one a line.", filters, "application/jsonl", json!({"type": "string"}))},
            "/api/calls/{id}": {
                "get": get("A record as it was received.", vec![path("id")], "application/json", json!({"$ref": "#/components/schemas/CallHistory"})),
                "delete": delete("Delete a call.", "id"),
            },
            "/api/calls/{id}/events": {"get": get("The live events of a call.", vec![path("id")], "application/json", json!({"type": "object", "properties": {"events": {"type": "array", "items": {"$ref": "#/components/schemas/CallEvent"}}}}))},
            "/api/calls/{id}/uploads": {"get": get("What agents uploaded of a call: reports, turns, evaluations, recordings.", vec![path("id")], "application/json", json!({"$ref": "#/components/schemas/Uploads"}))},
            "/api/calls/{id}/recordings/{n}": {"get": get("The sound of a recording. Ranges are understood.", vec![path("id"), path("n")], "audio/ogg", json!({"type": "string", "format": "binary"}))},
            "/api/numbers/{number}": {"delete": delete("Delete everything of a phone number.", "number")},
            "/api/stats": {"get": get("Figures over the calls that match.", stats, "application/json", json!({"type": "object"}))},
            "/api/live": {"get": get("What arrives from now on: server-sent events `call` and `event`.", vec![], "text/event-stream", json!({"type": "string"}))},
            "/api/tokens": {
                "get": get("All tokens, without their secrets.", vec![], "application/json", json!({"type": "object"})),
                "post": {
                    "summary": "Make a token. It is shown this once.",
                    "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewToken"}}}},
                    "responses": answers(json!({"201": {"description": "The token.", "content": {"application/json": {"schema": {"type": "object"}}}}})),
                },
            },
            "/api/tokens/{id}": {"delete": {
                "summary": "Delete a token.",
                "parameters": [path("id")],
                "responses": answers(json!({"204": {"description": "Deleted."}})),
            }},
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas(),
        },
    })
}

fn schemas() -> Value {
    let mut all = Map::new();
    for (name, schema) in [("CallHistory", record::schema()), ("CallEvent", record::event_schema())]
    {
        let mut schema = serde_json::to_value(schema).unwrap_or_default();
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
    all.insert(
        "NewToken".into(),
        json!({
            "type": "object",
            "required": ["name", "scopes"],
            "properties": {
                "name": {"type": "string"},
                "scopes": {"type": "array", "minItems": 1, "items": {"enum": ["ingest", "read", "admin", "numbers"]}},
            },
        }),
    );
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

fn filters() -> Vec<Value> {
    let mut all = vec![parameter(
        "q",
        json!({"type": "string"}),
        "Words, or a text in quotation marks: in transcripts, notes, numbers, rooms, reasons.",
    )];
    for field in FIELDS {
        for (op, _) in Op::ALL.iter().filter(|(_, op)| op.fits(field.kind)) {
            let name = if *op == "eq" { field.name.into() } else { format!("{}.{op}", field.name) };
            all.push(parameter(&name, json!({"type": "string"}), ""));
        }
    }
    all
}

fn parameter(name: &str, schema: Value, description: &str) -> Value {
    json!({"name": name, "in": "query", "required": false, "schema": schema, "description": description})
}

fn path(name: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
}

fn intake(summary: &str, schema: &str) -> Value {
    let stored = json!({"type": "object", "properties": {
        "call_id": {"type": "string"}, "stored": {"enum": ["now", "before", "deleted"]},
    }});
    json!({
        "summary": summary,
        "requestBody": {"required": true, "content": {"application/json": {"schema": {"$ref": format!("#/components/schemas/{schema}")}}}},
        "responses": answers(json!({"200": {"description": "It is on disk.", "content": {"application/json": {"schema": stored}}}})),
    })
}

fn get(summary: &str, parameters: Vec<Value>, kind: &str, schema: Value) -> Value {
    json!({
        "summary": summary,
        "parameters": parameters,
        "responses": answers(json!({"200": {"description": "Found.", "content": {kind: {"schema": schema}}}})),
    })
}

fn delete(summary: &str, name: &str) -> Value {
    let schema = json!({"type": "object", "properties": {"deleted": {"type": "integer"}}});
    json!({
        "summary": summary,
        "parameters": [path(name)],
        "responses": answers(json!({"200": {"description": "Deleted.", "content": {"application/json": {"schema": schema}}}})),
    })
}

fn answers(mut good: Value) -> Value {
    good["default"] = json!({
        "description": "Not done, and why.",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Errors"}}},
    });
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_of_the_document_leads_somewhere() {
        fn check(part: &Value, all: &Value) {
            match part {
                Value::Object(map) => {
                    if let Some(to) = map.get("$ref").and_then(Value::as_str) {
                        assert!(all.pointer(&to[1..]).is_some(), "{to}");
                    }
                    map.values().for_each(|value| check(value, all));
                }
                Value::Array(values) => values.iter().for_each(|value| check(value, all)),
                _ => {}
            }
        }
        let all = of();
        check(&all, &all);
        assert!(all["components"]["schemas"]["CallHistory"]["properties"]["call_id"].is_object());
    }
}
