//! The schema of `GET /api/calls/{id}/uploads`.

use serde_json::{Value as Json, json};

pub(crate) fn of() -> Json {
    let text = json!({"type": "string"});
    let maybe_text = json!({"type": ["string", "null"]});
    let number = json!({"type": "number"});
    let maybe_number = json!({"type": ["number", "null"]});
    let count = json!({"type": "integer", "minimum": 0});
    let time = json!({"type": "string", "format": "date-time"});
    let truth = json!({"type": "boolean"});
    let list = |of: Json| json!({"type": "array", "items": of});
    let object = |of: Json| json!({"type": "object", "properties": of});
    let counts = json!({"type": "object", "additionalProperties": count});
    let part = object(json!({
        "kind": {"enum": ["transcript", "end_of_turn", "model", "tool", "voice"]},
        "from": number, "to": number,
    }));
    let turn = object(json!({
        "spoke_at": time, "spoke_until": time, "wait": maybe_number, "parts": list(part),
        "interrupted": truth, "interrupted_by": maybe_text,
    }));
    let report = json!({"type": ["object", "null"], "properties": {
        "agent_name": text, "sdk_version": text, "close_reason": text, "made_at": time,
        "tags": list(text.clone()), "usage": list(json!({"type": "object"})), "errors": counts.clone(),
    }});
    let outcome =
        json!({"type": ["object", "null"], "properties": {"outcome": text, "reason": text}});
    let job = object(json!({
        "room_id": text, "job_id": text, "redacted": truth, "report": report, "outcome": outcome,
        "evaluations": list(object(json!({"name": text, "verdict": text, "reasoning": text}))),
        "tags": list(object(json!({"name": text, "metadata": {}}))),
        "turns": list(turn),
        "tools": list(object(json!({
            "name": text, "arguments": text, "output": text, "failed": truth, "at": time, "seconds": number,
        }))),
        "items": list(object(json!({
            "id": text, "kind": text, "at": time, "role": text, "text": text, "from": time, "to": time,
            "interrupted": truth,
        }))),
        "log": list(object(json!({"at": time, "level": text, "logger": text, "text": text}))),
        "spans": counts.clone(),
        "uploads": counts,
    }));
    let recording = object(json!({
        "href": text, "job_id": text, "started_at": time, "bytes": count, "content_type": text,
        "call_starts_at_seconds": number, "clock_offset_seconds": maybe_number,
        "clock_offset_moments": {"type": ["integer", "null"], "minimum": 0},
    }));
    json!({
        "type": "object",
        "required": ["jobs", "recordings"],
        "properties": {"jobs": list(job), "recordings": list(recording)},
    })
}
