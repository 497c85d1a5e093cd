//! The fields of a call that lists show, and that queries, exports and statistics name. One vocabulary for all of
//! them.

/// What a field holds, which decides how it is compared and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Milliseconds since 1970; written as RFC 3339.
    Time,
    /// A whole number.
    Count,
    Number,
    /// 0 or 1; written as false or true.
    Truth,
}

/// One field.
#[derive(Debug, PartialEq, Eq)]
pub struct Field {
    /// As queries and exports name it.
    pub name: &'static str,
    /// As the tables name it.
    pub column: &'static str,
    pub kind: Kind,
    /// Where it is in the record; empty for what is computed, or is not from the record.
    pub(crate) path: &'static [&'static str],
}

const fn field(
    name: &'static str,
    column: &'static str,
    kind: Kind,
    path: &'static [&'static str],
) -> Field {
    Field { name, column, kind, path }
}

/// A figure of the distribution of one side's responses.
macro_rules! response {
    ($side:literal, $figure:literal, $kind:ident) => {
        field(
            concat!($side, ".", $figure),
            concat!($side, "_", $figure),
            Kind::$kind,
            &["details", "latency", $side, $figure],
        )
    };
}

/// All fields, in the order in which they are shown.
pub static FIELDS: &[Field] = &[
    field("call_id", "call_id", Kind::Text, &["call_id"]),
    field("start_time", "start_time", Kind::Time, &["start_time"]),
    field("end_time", "end_time", Kind::Time, &["end_time"]),
    field("duration_seconds", "duration_seconds", Kind::Number, &["duration_seconds"]),
    field("phone_number", "phone_number", Kind::Text, &["phone_number"]),
    field("room_name", "room_name", Kind::Text, &["room_name"]),
    field("call_type", "call_type", Kind::Choice(&["inbound", "outbound"]), &["call_type"]),
    field("status", "status", Kind::Choice(&["completed", "failed", "dropped"]), &["status"]),
    field("termination_reason", "termination_reason", Kind::Text, &["termination_reason"]),
    field("ended_by", "ended_by", Kind::Text, &["details", "ended_by"]),
    field("business_type", "business_type", Kind::Text, &["agent_config", "business_type"]),
    field("language", "language", Kind::Text, &["agent_config", "language"]),
    field("stt_config_key", "stt_config_key", Kind::Text, &["agent_config", "stt_config_key"]),
    field("llm_config_key", "llm_config_key", Kind::Text, &["agent_config", "llm_config_key"]),
    field("tts_config_key", "tts_config_key", Kind::Text, &["agent_config", "tts_config_key"]),
    field("final_stage", "final_stage", Kind::Text, &["outcomes", "final_stage"]),
    field("successful", "successful", Kind::Truth, &["outcomes", "successful"]),
    field("completion_rate", "completion_rate", Kind::Number, &["outcomes", "completion_rate"]),
    field(
        "total_user_utterances",
        "total_user_utterances",
        Kind::Count,
        &["metrics", "total_user_utterances"],
    ),
    field(
        "total_agent_utterances",
        "total_agent_utterances",
        Kind::Count,
        &["metrics", "total_agent_utterances"],
    ),
    field(
        "longest_user_utterance",
        "longest_user_utterance",
        Kind::Count,
        &["metrics", "longest_user_utterance"],
    ),
    field(
        "longest_agent_utterance",
        "longest_agent_utterance",
        Kind::Count,
        &["metrics", "longest_agent_utterance"],
    ),
    field(
        "average_user_response_time",
        "average_user_response_time",
        Kind::Number,
        &["metrics", "average_user_response_time"],
    ),
    field(
        "average_agent_response_time",
        "average_agent_response_time",
        Kind::Number,
        &["metrics", "average_agent_response_time"],
    ),
    field("silence_count", "silence_count", Kind::Count, &["metrics", "silence_count"]),
    field(
        "interruption_count",
        "interruption_count",
        Kind::Count,
        &["metrics", "interruption_count"],
    ),
    response!("agent_response", "count", Count),
    response!("agent_response", "p50", Number),
    response!("agent_response", "p90", Number),
    response!("agent_response", "p95", Number),
    response!("agent_response", "p99", Number),
    response!("agent_response", "max", Number),
    response!("user_response", "count", Count),
    response!("user_response", "p50", Number),
    response!("user_response", "p90", Number),
    response!("user_response", "p95", Number),
    response!("user_response", "p99", Number),
    response!("user_response", "max", Number),
    field("user_seconds", "user_seconds", Kind::Number, &["details", "talk", "user_seconds"]),
    field("agent_seconds", "agent_seconds", Kind::Number, &["details", "talk", "agent_seconds"]),
    field(
        "overlap_seconds",
        "overlap_seconds",
        Kind::Number,
        &["details", "talk", "overlap_seconds"],
    ),
    field(
        "longest_silence_seconds",
        "longest_silence_seconds",
        Kind::Number,
        &["details", "talk", "longest_silence_seconds"],
    ),
    // The observer saw the whole call.
    field("complete", "complete", Kind::Truth, &[]),
    // Parts of the call that the observer did not see.
    field("gaps", "gaps", Kind::Count, &[]),
    field("received_at", "received_at", Kind::Time, &[]),
];

pub fn find(name: &str) -> Option<&'static Field> {
    FIELDS.iter().find(|field| field.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_columns_are_unique() {
        for (n, field) in FIELDS.iter().enumerate() {
            assert_eq!(find(field.name), Some(field));
            assert!(FIELDS[..n].iter().all(|f| f.column != field.column), "{}", field.column);
        }
    }

    #[test]
    fn every_path_is_one_of_the_records_schema() {
        let schema = serde_json::to_value(record::schema()).unwrap();
        for field in FIELDS.iter().filter(|f| !f.path.is_empty()) {
            let mut at = &schema;
            for key in field.path {
                let branch = at["anyOf"].get(0).unwrap_or(at);
                let reference = branch["$ref"].as_str();
                at = reference.map_or(branch, |r| schema.pointer(&r[1..]).unwrap());
                at = &at["properties"][key];
                assert!(at.is_object(), "{}: the schema has no {key}", field.name);
            }
        }
    }
}
