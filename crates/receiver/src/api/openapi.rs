//! `GET /openapi.json`: OpenAPI 3.1, with our own schemas as components.
//!
//! Parameters are made from the fields and their comparisons, and bodies are described by the schemas that check them, so
//! the description cannot differ from what is taken.

mod parameters;
mod schemas;

use axum::Json;
use serde_json::{Value, json};

pub async fn document() -> Json<Value> {
    Json(of())
}

/// The whole document.
pub fn of() -> Value {
    let filters = parameters::filters();
    let list = [filters.clone(), parameters::page()].concat();
    let stats = [parameters::stats(), filters.clone()].concat();
    let schema = |name: &str| json!({"$ref": format!("#/components/schemas/{name}")});
    let live = json!({
        "name": "Last-Event-ID", "in": "header", "required": false, "schema": {"type": "string"},
        "description": "The id of the last event that was seen: what came since is sent first, or `missed` with their number (null: not known).",
    });
    let mut document = json!({
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
            "/api/calls": {"get": get("The newest calls that match.", list, "application/json", schema("Calls"))},
            "/api/calls.csv": {"get": get("All calls that match, as a table.", filters.clone(), "text/csv", json!({"type": "string"}))},
            "/api/calls.jsonl": {"get": get("All records that match, one a line.", filters, "application/jsonl", json!({"type": "string"}))},
            "/api/calls/{id}": {
                "get": get("A record as it was received.", vec![path("id")], "application/json", schema("CallHistory")),
                "delete": delete("Delete a call.", "id"),
            },
            "/api/calls/{id}/explained": {"get": get("Each number of a record with the moments that made it.", vec![path("id")], "application/json", schema("Explained"))},
            "/api/calls/{id}/events": {"get": get("The live events of a call.", vec![path("id")], "application/json", json!({"type": "object", "required": ["events"], "properties": {"events": {"type": "array", "items": schema("CallEvent")}}}))},
            "/api/calls/{id}/uploads": {"get": get("What agents uploaded of a call: reports, turns, evaluations, recordings.", vec![path("id")], "application/json", schema("Uploads"))},
            "/api/calls/{id}/recordings/{n}": {"get": get("The sound of a recording. Ranges are understood.", vec![path("id"), count("n")], "audio/ogg", json!({"type": "string", "format": "binary"}))},
            "/api/numbers/{number}": {"delete": delete("Delete everything of a phone number.", "number")},
            "/api/stats": {"get": get("Figures over the calls that match.", stats, "application/json", schema("Figures"))},
            "/api/live": {"get": get("What arrives from now on: server-sent events `call`, `event` and `missed`.", vec![live], "text/event-stream", json!({"type": "string"}))},
            "/api/tokens": {
                "get": get("All tokens, without their secrets.", vec![], "application/json", json!({"type": "object", "required": ["tokens"], "properties": {"tokens": {"type": "array", "items": schema("Token")}}})),
                "post": {
                    "summary": "Make a token. It is shown this once.",
                    "requestBody": {"required": true, "content": {"application/json": {"schema": schema("NewToken")}}},
                    "responses": answers(json!({"201": {"description": "The token.", "content": {"application/json": {"schema": {"allOf": [schema("Token"), {"required": ["token"], "properties": {"token": {"type": "string"}}}]}}}}})),
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
            "schemas": schemas::all(),
        },
    });
    if cfg!(feature = "parquet") {
        let file = json!({"type": "string", "contentEncoding": "binary"});
        let kind = "application/vnd.apache.parquet";
        let parquet = get("All calls that match, as Parquet.", parameters::filters(), kind, file);
        document["paths"]["/api/calls.parquet"] = json!({"get": parquet});
    }
    document
}

fn path(name: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}})
}

/// A number from 0 on in the path.
fn count(name: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": {"type": "integer", "minimum": 0}})
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
    good["431"] = json!({"description": "The address and the headers have more than 64 KB."});
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
