//! Checks what is posted against the record's schema, and names every mistake.
//!
//! Senders may be older or newer than this receiver, or know nothing but the user's document. So the
//! schema is relaxed: unknown fields are taken, a field that may be null may be missing, and in `details` everything may
//! be missing and lists of words are open. What is there must have its type.

mod rules;

use std::sync::LazyLock;

use rules::{DEFINITIONS, Rule};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Mistakes that an answer names at most.
pub const MOST: usize = 100;
/// Characters of a path and of a problem at most.
const LONGEST: usize = 300;
/// Characters of a call's id at most.
pub const LONGEST_ID: usize = 128;

/// One mistake. It never repeats the value: that may be a number or a word of a caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// JSON pointer, or the name of a parameter.
    pub path: String,
    pub problem: String,
    /// The path has a name that the sender chose, such as that of an attribute. It may be a number of a caller.
    #[serde(skip)]
    pub named_by_sender: bool,
}

impl Mistake {
    pub fn new(path: impl AsRef<str>, problem: impl AsRef<str>) -> Self {
        let cut = |text: &str| text.chars().take(LONGEST).collect();
        Self { path: cut(path.as_ref()), problem: cut(problem.as_ref()), named_by_sender: false }
    }
}

/// The schema that records are checked against.
pub fn relaxed_record() -> Value {
    let mut schema = relaxed(serde_json::to_value(record::schema()).unwrap_or_default(), |name| {
        name == "CallType" || name == "Status"
    });
    // The user's document speaks of calls without an end.
    schema["properties"]["end_time"] = json!({"type": ["string", "null"], "format": "date-time"});
    remove_required(&mut schema, "end_time");
    id(&mut schema);
    schema
}

/// The schema that live events are checked against.
pub fn relaxed_event() -> Value {
    let mut schema =
        relaxed(serde_json::to_value(record::event_schema()).unwrap_or_default(), |name| {
            name == "CallType" || name == "Status"
        });
    id(&mut schema);
    schema
}

static RECORD: LazyLock<Option<Rule>> = LazyLock::new(|| rule(&relaxed_record()));
static EVENT: LazyLock<Option<Rule>> = LazyLock::new(|| rule(&relaxed_event()));

fn rule(schema: &Value) -> Option<Rule> {
    Rule::deserialize(schema).ok()
}

/// All mistakes of a record, up to [`MOST`].
pub fn mistakes_of_record(record: &Value) -> Vec<Mistake> {
    mistakes(RECORD.as_ref(), record)
}

/// The same of a live event.
pub fn mistakes_of_event(event: &Value) -> Vec<Mistake> {
    mistakes(EVENT.as_ref(), event)
}

fn mistakes(rule: Option<&Rule>, value: &Value) -> Vec<Mistake> {
    // Tests read both schemas, so this cannot happen.
    let Some(rule) = rule else { return vec![Mistake::new("", "no schema")] };
    let mut found = rule.mistakes(value);
    // NUL cannot be in the databases' texts, and without it two ids could become one.
    if value["call_id"].as_str().is_some_and(|id| id.contains('\0')) {
        found.push(Mistake::new("/call_id", "must not have the character NUL"));
    }
    found
}

fn id(schema: &mut Value) {
    schema["properties"]["call_id"] =
        json!({"type": "string", "minLength": 1, "maxLength": LONGEST_ID});
}

fn remove_required(schema: &mut Value, name: &str) {
    if let Some(required) = schema["required"].as_array_mut() {
        required.retain(|r| r != name);
    }
}

/// `closed`: whether the values of a type stay those that it names.
fn relaxed(mut schema: Value, closed: impl Fn(&str) -> bool) -> Value {
    let details = reached_from_details(&schema);
    if let Some(defs) = schema["$defs"].as_object_mut() {
        for (name, def) in defs.iter_mut() {
            let words = words(def);
            match words {
                Some(words) if closed(name) => *def = json!({"enum": words}),
                Some(_) => *def = json!({"type": "string"}),
                None => {}
            }
            if details.contains(name)
                && let Some(def) = def.as_object_mut()
            {
                def.remove("required");
            }
        }
    }
    relax(&mut schema);
    schema
}

/// The values of a type that is a list of words.
fn words(def: &Value) -> Option<Vec<Value>> {
    if let Some(words) = def["enum"].as_array() {
        return Some(words.clone());
    }
    let one_of = def["oneOf"].as_array()?;
    let mut words = vec![];
    for one in one_of {
        match (one.get("const"), one["enum"].as_array()) {
            (Some(word), _) => words.push(word.clone()),
            (None, Some(some)) => words.extend(some.iter().cloned()),
            (None, None) => return None,
        }
    }
    Some(words)
}

/// Names of all types that `details` uses.
fn reached_from_details(schema: &Value) -> Vec<String> {
    let mut reached = vec![];
    let mut next = vec![schema["properties"]["details"].clone()];
    while let Some(part) = next.pop() {
        for name in references(&part) {
            if !reached.contains(&name) {
                next.push(schema["$defs"][&name].clone());
                reached.push(name);
            }
        }
    }
    reached
}

fn references(part: &Value) -> Vec<String> {
    match part {
        Value::Object(map) => map
            .iter()
            .flat_map(|(key, value)| match value.as_str() {
                Some(to) if key == "$ref" => vec![to.replace(DEFINITIONS, "")],
                _ => references(value),
            })
            .collect(),
        Value::Array(all) => all.iter().flat_map(references).collect(),
        _ => vec![],
    }
}

fn relax(part: &mut Value) {
    match part {
        Value::Object(map) => {
            if map.get("additionalProperties").is_some_and(Value::is_boolean) {
                map.remove("additionalProperties");
            }
            optional_where_null(map);
            let largest = match map.get("format").and_then(Value::as_str) {
                Some("uint32") => Some(u64::from(u32::MAX)),
                // Databases count to here.
                Some("uint64") => Some(i64::MAX.unsigned_abs()),
                _ => None,
            };
            if let Some(largest) = largest {
                map.insert("maximum".into(), largest.into());
            }
            map.values_mut().for_each(relax);
        }
        Value::Array(all) => all.iter_mut().for_each(relax),
        _ => {}
    }
}

/// What may be null may be missing.
fn optional_where_null(map: &mut Map<String, Value>) {
    let Some(properties) = map.get("properties").and_then(Value::as_object).cloned() else {
        return;
    };
    let Some(required) = map.get_mut("required").and_then(Value::as_array_mut) else { return };
    let nullable = |name: &str| {
        let types = &properties[name]["type"];
        types.as_array().is_some_and(|types| types.contains(&json!("null")))
            || properties[name]["anyOf"]
                .as_array()
                .is_some_and(|any| any.contains(&json!({"type": "null"})))
    };
    required
        .retain(|name| !name.as_str().is_some_and(|n| properties.contains_key(n) && nullable(n)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Value {
        let text = include_str!("../../../docs/schema/example.json");
        serde_json::from_str(text).unwrap()
    }

    fn paths(record: &Value) -> Vec<String> {
        let mut paths: Vec<String> =
            mistakes_of_record(record).into_iter().map(|m| m.path).collect();
        paths.sort();
        paths
    }

    #[test]
    fn the_documents_example_has_no_mistake() {
        assert_eq!(mistakes_of_record(&example()), []);
    }

    #[test]
    fn all_mistakes_are_named_with_their_path() {
        let mut record = example();
        record["metrics"]["silence_count"] = json!("three");
        record["metrics"]["interruption_count"] = json!(-1);
        record["metrics"]["total_user_utterances"] = json!(5_000_000_000_u64);
        record["outcomes"]["completion_rate"] = json!(1.5);
        record["status"] = json!("fine");
        record["start_time"] = json!("yesterday");
        record["stage_timeline"][1] = json!({"stage": 7});
        record["call_id"] = json!("x".repeat(129));
        record.as_object_mut().unwrap().remove("room_name");
        record["details"] = json!({"latency": {"agent_response": {"p95": "slow"}}, "participants": [{"identity": 1}]});
        assert_eq!(
            paths(&record),
            [
                "/call_id",
                "/details/latency/agent_response/p95",
                "/details/participants/0/identity",
                "/metrics/interruption_count",
                "/metrics/silence_count",
                "/metrics/total_user_utterances",
                "/outcomes/completion_rate",
                "/room_name",
                "/stage_timeline/1/stage",
                "/stage_timeline/1/timestamp",
                "/start_time",
                "/status",
            ]
        );
        let all = mistakes_of_record(&record);
        let status = all.iter().find(|m| m.path == "/status").unwrap();
        assert_eq!(status.problem, r#"must be one of ["completed","failed","dropped"]"#);
        assert!(!format!("{all:?}").contains("yesterday"), "values are not repeated");
    }

    #[test]
    fn what_other_senders_may_leave_out_or_add_is_no_mistake() {
        let mut record = example();
        record["new"] = json!({"x": 1});
        record["metrics"]["new"] = json!([]);
        record["end_time"] = Value::Null;
        for (part, key) in
            [("agent_config", "language"), ("outcomes", "notes"), ("", "termination_reason")]
        {
            let part = if part.is_empty() { &mut record } else { &mut record[part] };
            part.as_object_mut().unwrap().remove(key).unwrap();
        }
        record["details"] = json!({
            "ended_by": "somebody_new",
            "observation": {"discovered_by": "telepathy"},
            "disconnect_reason": "NEW_REASON",
            "transcript": [{"by": "a_third_side", "text": "hello"}],
        });
        assert_eq!(mistakes_of_record(&record), []);
        record.as_object_mut().unwrap().remove("end_time");
        record["details"] = Value::Null;
        assert_eq!(mistakes_of_record(&record), []);
    }

    #[test]
    fn the_number_of_mistakes_is_bounded() {
        let mut record = example();
        record["stage_timeline"] = Value::Array(vec![json!(1); 10_000]);
        assert_eq!(mistakes_of_record(&record).len(), MOST);
        assert_eq!(
            paths(&json!({"call_id": "a\0b"})).iter().filter(|p| *p == "/call_id").count(),
            1
        );
    }

    #[test]
    fn an_event_is_checked_in_the_same_way() {
        let mut event = json!({
            "event": "call.something_new", "call_id": "id", "sequence": 1,
            "time": "2026-11-23T07:24:31.120Z", "room_name": "r", "phone_number": "+1",
            "call_type": "inbound", "new": true,
        });
        assert_eq!(mistakes_of_event(&event), []);
        event["sequence"] = json!(-1);
        event["time"] = json!("now");
        let paths: Vec<String> = mistakes_of_event(&event).into_iter().map(|m| m.path).collect();
        assert_eq!(paths, ["/sequence", "/time"]);
    }
}
