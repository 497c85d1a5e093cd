//! The body of a request: the record as it is sealed, or a smaller one for an endpoint that takes no larger
//! one.
//!
//! The numbers are never cut. What goes is bulk: first the transcript's middle, then the parts of `details`
//! that grow with the length of a call, raw values of latencies among them, and the metadata that is passed on.

use serde_json::{Map, Value, json};

/// Parts of `details` that grow with the length of a call.
const BULK: [&str; 2] = ["transcript", "timeline"];

/// The record without the bulk of its details, marked with `details.reduced`. `None` if it has none.
pub(super) fn without_bulk(body: &[u8]) -> Option<Vec<u8>> {
    let mut record: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let details = record.get_mut("details")?.as_object_mut()?;
    for key in BULK {
        if let Some(bulk) = details.get_mut(key) {
            *bulk = empty(bulk);
        }
    }
    for latency in details.get_mut("latency")?.as_object_mut()?.values_mut() {
        if let Some(distribution) = latency.as_object_mut() {
            distribution.insert("values".into(), json!([]));
        } else if latency.is_array() {
            *latency = json!([]);
        }
    }
    if details.contains_key("metadata") {
        details.insert("metadata".into(), Value::Null);
    }
    details.insert("reduced".into(), Value::Bool(true));
    serde_json::to_vec(&record).ok()
}

/// The same shape without content.
fn empty(bulk: &Value) -> Value {
    match bulk {
        Value::Object(parts) => {
            Value::Object(parts.keys().map(|key| (key.clone(), json!([]))).collect())
        }
        Value::Array(_) => json!([]),
        other => other.clone(),
    }
}

/// The record with at most `most` bytes: lines go from the middle of its transcript until it fits, then
/// all bulk goes. `None` if it fits as it is. What cannot be made to fit is as small as it gets.
pub(super) fn fitting(body: &[u8], most: usize) -> Option<Vec<u8>> {
    if body.len() <= most {
        return None;
    }
    let cut = shortened(body, most).filter(|cut| cut.len() <= most);
    cut.or_else(|| without_bulk(body))
}

fn shortened(body: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut record: Map<String, Value> = serde_json::from_slice(body).ok()?;
    let details = record.get_mut("details")?.as_object_mut()?;
    let lines = details.get_mut("transcript")?.as_array_mut()?;
    let sizes: Vec<usize> = lines.iter().map(|line| line.to_string().len() + 1).collect();
    details.insert("reduced".into(), Value::Bool(true));
    let all = serde_json::to_vec(&record).ok()?.len();
    let mut over = all.saturating_sub(most);
    // Both ends of a call say most: how it began and how it ended.
    let (mut from, mut to) = (sizes.len() / 2, sizes.len() / 2);
    while over > 0 && (from > 0 || to < sizes.len()) {
        let after = to - sizes.len() / 2 <= sizes.len() / 2 - from && to < sizes.len();
        let size = if after || from == 0 {
            to += 1;
            sizes[to - 1]
        } else {
            from -= 1;
            sizes[from]
        };
        over = over.saturating_sub(size);
    }
    let lines = record.get_mut("details")?.get_mut("transcript")?.as_array_mut()?;
    lines.drain(from..to);
    serde_json::to_vec(&record).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(lines: usize) -> Vec<u8> {
        let line = |n| json!({"by": "user", "text": format!("words of line {n}")});
        let lines: Vec<Value> = (0..lines).map(line).collect();
        let body = json!({
            "call_id": "id",
            "metrics": {"silence_count": 3},
            "details": {
                "latency": {
                    "agent_response": {"count": 2, "p50": 0.5, "values": [0.4, 0.5]},
                    "user_response": null,
                    "components": [{"by": "user"}],
                },
                "metadata": {"customer_id": "17"},
                "timeline": {"speech": [1, 2, 3], "silences": [1]},
                "transcript": lines,
            },
        });
        serde_json::to_vec(&body).unwrap()
    }

    fn read(body: &[u8]) -> Value {
        serde_json::from_slice(body).unwrap()
    }

    #[test]
    fn numbers_stay_when_the_bulk_goes() {
        let small = read(&without_bulk(&record(500)).unwrap());
        assert_eq!(small["metrics"]["silence_count"], 3);
        assert_eq!(small["details"]["reduced"], true);
        assert_eq!(small["details"]["transcript"], json!([]));
        assert_eq!(small["details"]["timeline"], json!({"speech": [], "silences": []}));
        let latency = &small["details"]["latency"];
        assert_eq!(latency["agent_response"], json!({"count": 2, "p50": 0.5, "values": []}));
        assert_eq!(latency["components"], json!([]));
        assert_eq!(small["details"]["metadata"], Value::Null);
        assert_eq!(without_bulk(br#"{"call_id":"id"}"#), None);
        assert_eq!(without_bulk(b"no JSON"), None);
    }

    #[test]
    fn a_transcript_is_cut_in_its_middle_until_the_record_fits() {
        let body = record(500);
        assert_eq!(fitting(&body, body.len()), None);
        for most in [body.len() - 1, body.len() / 2, 3_000, 1_000] {
            let cut = fitting(&body, most).unwrap();
            assert!(cut.len() <= most, "{} > {most}", cut.len());
            assert!(cut.len() + 100 > most, "{} is much less than {most}", cut.len());
            let cut = read(&cut);
            assert_eq!(cut["details"]["reduced"], true);
            let lines = cut["details"]["transcript"].as_array().unwrap();
            assert_eq!(lines.first().unwrap()["text"], "words of line 0");
            assert_eq!(lines.last().unwrap()["text"], "words of line 499");
            assert_eq!(cut["details"]["timeline"]["speech"], json!([1, 2, 3]));
        }
        // No transcript is short enough: the numbers alone.
        let least = read(&fitting(&body, 10).unwrap());
        assert_eq!(
            (&least["metrics"]["silence_count"], &least["details"]["transcript"]),
            (&json!(3), &json!([]))
        );
    }
}
