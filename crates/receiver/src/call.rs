//! What the tables hold of a record besides its bytes.

use record::Moment;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

use crate::{
    fields::{FIELDS, Field, Kind},
    histogram::Histogram,
    store::Value,
};

/// Characters of a text that lists show and filter by at most: an index takes no longer ones. The bytes are kept whole.
pub(crate) const LONGEST_TEXT: usize = 500;
/// Bytes of a call's words that are searched at most.
const MOST_WORDS: usize = 1_000_000;

/// A call as it is stored.
#[derive(Clone, Debug)]
pub struct Call {
    pub call_id: String,
    /// A value for each of [`FIELDS`], in their order.
    pub values: Vec<Value>,
    /// Milliseconds since 1970.
    pub start_time: i64,
    pub agent_responses: Histogram,
    pub user_responses: Histogram,
    pub search_text: String,
    pub sha256: Vec<u8>,
    pub bytes: Vec<u8>,
}

/// The texts that the token of a post is compared with, and the id.
#[derive(Clone, Debug, Default)]
pub struct About {
    pub phone_number: String,
    /// The end, or the start if there is no end.
    pub timestamp: String,
    pub id: String,
}

impl About {
    pub fn record(record: &Json) -> Self {
        let text = |key: &str| record[key].as_str();
        Self {
            phone_number: text("phone_number").unwrap_or_default().into(),
            timestamp: text("end_time").or(text("start_time")).unwrap_or_default().into(),
            id: text("call_id").unwrap_or_default().into(),
        }
    }

    pub fn event(event: &Json) -> Self {
        let text = |key: &str| event[key].as_str().unwrap_or_default();
        Self {
            phone_number: text("phone_number").into(),
            timestamp: text("time").into(),
            id: format!("{}/{}", text("call_id"), event["sequence"].as_u64().unwrap_or_default()),
        }
    }
}

impl Call {
    /// `record` has no mistakes; `bytes` are those that it was read from.
    pub fn of(record: &Json, bytes: &[u8], received_at: Moment) -> Self {
        let values = FIELDS.iter().map(|field| value(field, record, received_at)).collect();
        let responses = |side: &str| {
            let seconds = record.pointer(&format!("/details/latency/{side}/values"));
            let seconds = seconds.and_then(Json::as_array).into_iter().flatten();
            Histogram::of(seconds.filter_map(Json::as_f64))
        };
        Self {
            call_id: record["call_id"].as_str().unwrap_or_default().into(),
            values,
            start_time: time(&record["start_time"]).unwrap_or_default(),
            agent_responses: responses("agent_response"),
            user_responses: responses("user_response"),
            search_text: search_text(record),
            sha256: Sha256::digest(bytes).to_vec(),
            bytes: bytes.to_vec(),
        }
    }
}

fn value(field: &Field, record: &Json, received_at: Moment) -> Value {
    let at = field.path.iter().fold(record, |at, key| &at[*key]);
    match (field.kind, field.name) {
        (_, "received_at") => Value::Int(Some(received_at.millis())),
        (_, "complete") => Value::Int(complete(record).map(i64::from)),
        (_, "gaps") => {
            let gaps = record["details"]["observation"]["gaps"].as_array();
            Value::Int(gaps.map(|gaps| i64::try_from(gaps.len()).unwrap_or(i64::MAX)))
        }
        (Kind::Text | Kind::Choice(_), _) => Value::Text(at.as_str().map(text)),
        (Kind::Time, _) => Value::Int(time(at)),
        (Kind::Truth, _) => Value::Int(at.as_bool().map(i64::from)),
        (Kind::Count, _) => Value::Int(count(at)),
        (Kind::Number, _) => Value::Real(at.as_f64()),
    }
}

/// A whole number may be written as 3.0.
fn count(value: &Json) -> Option<i64> {
    #[allow(clippy::cast_possible_truncation)]
    value.as_i64().or_else(|| value.as_f64().map(|n| n as i64))
}

fn time(value: &Json) -> Option<i64> {
    Moment::parse_rfc3339(value.as_str()?).map(Moment::millis)
}

/// As a column holds it: without NUL, which Postgres does not take, and not too long for an index.
pub(crate) fn text(text: &str) -> String {
    text.chars().filter(|c| *c != '\0').take(LONGEST_TEXT).collect()
}

/// Whether the observer saw the whole call; `None` if the record does not say.
fn complete(record: &Json) -> Option<bool> {
    let observation = &record["details"]["observation"];
    let gaps = observation["gaps"].as_array()?;
    let seen = |key: &str| observation[key].as_str().is_none_or(|basis| basis == "observed");
    Some(gaps.is_empty() && seen("start_time_basis") && seen("end_time_basis"))
}

/// Folded as queries are, see [`folded`].
fn search_text(record: &Json) -> String {
    let mut all = String::new();
    let outcomes = &record["outcomes"];
    let texts = [
        &record["phone_number"],
        &record["room_name"],
        &record["termination_reason"],
        &outcomes["final_stage"],
        &outcomes["notes"],
    ];
    let lines = record["details"]["transcript"].as_array().into_iter().flatten();
    for text in texts.into_iter().chain(lines.map(|line| &line["text"])).filter_map(Json::as_str) {
        if all.len() + text.len() > MOST_WORDS {
            break;
        }
        if !all.is_empty() {
            all.push('\n');
        }
        all.push_str(&folded(text));
    }
    all
}

/// In lower case and without NUL. Done here, so that both engines find the same.
pub(crate) fn folded(text: &str) -> String {
    text.to_lowercase().replace('\0', "")
}

/// An id as it may be logged: other senders' ids may hold a phone number.
pub(crate) fn loggable(id: &str) -> &str {
    let is_uuid = id.len() == 36 && id.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    if is_uuid { id } else { "(no UUID)" }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(record: &Json) -> impl Fn(&str) -> Value {
        let call = Call::of(record, b"bytes", Moment::from_millis(7));
        move |name| {
            let at = FIELDS.iter().position(|f| f.name == name).unwrap();
            call.values[at].clone()
        }
    }

    #[test]
    fn the_documents_example_fills_its_columns() {
        let text = include_str!("../../../docs/schema/example.json");
        let record = serde_json::from_str(text).unwrap();
        let value = of(&record);
        assert_eq!(value("phone_number"), "+15551234567".into());
        assert_eq!(value("start_time"), 1_695_220_200_000_i64.into());
        assert_eq!(value("duration_seconds"), 342.123.into());
        assert_eq!(value("status"), "completed".into());
        assert_eq!(value("termination_reason"), Value::Text(None));
        assert_eq!(value("business_type"), "restaurant".into());
        assert_eq!(value("silence_count"), 3_i64.into());
        assert_eq!(value("successful"), 1_i64.into());
        assert_eq!(value("complete"), Value::Int(None), "a record without details does not say");
        assert_eq!(value("agent_response.p95"), Value::Real(None));
        assert_eq!(value("received_at"), 7_i64.into());
    }

    #[test]
    fn a_call_is_complete_if_it_was_seen_as_a_whole() {
        let with = |gaps: Json, end: &str| {
            let record = json!({"details": {"observation": {"gaps": gaps, "end_time_basis": end}}});
            (of(&record)("complete"), of(&record)("gaps"))
        };
        assert_eq!(with(json!([]), "observed"), (1_i64.into(), 0_i64.into()));
        assert_eq!(with(json!([]), "estimated"), (0_i64.into(), 0_i64.into()));
        assert_eq!(with(json!([{}]), "observed"), (0_i64.into(), 1_i64.into()));
    }

    #[test]
    fn texts_of_columns_are_cut_and_have_no_nul() {
        let record = json!({"room_name": format!("a\0b{}", "é".repeat(1_000)), "outcomes": {"notes": "NO\0TES"}});
        let Value::Text(Some(room)) = of(&record)("room_name") else { panic!("no text") };
        assert!(room.starts_with("abé") && room.chars().count() == LONGEST_TEXT);
        assert!(Call::of(&record, b"", Moment::MIN).search_text.ends_with("\nnotes"));
    }
}
