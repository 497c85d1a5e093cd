//! The payload: what is posted to the operator's endpoint. Key order is the order of the fields.
//!
//! Nothing is ever added to or left out of these objects but `details`, which an operator can ask
//! for; what is not known is `null`, `0` or `"unknown"`, as each field says. The JSON Schema in
//! `docs/schema/` is made of these types and their comments.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

use super::details::Details;

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct CallHistory {
    /// UUIDv5 over the room's sid and the ordinal of the call in it: the idempotency key.
    pub(crate) call_id: String,
    /// The caller's (outbound: the callee's) number; `"unknown"` when nothing tells.
    pub(crate) phone_number: String,
    pub(crate) room_name: String,
    pub(crate) call_type: CallType,
    /// RFC 3339, UTC, milliseconds: when the caller was connected.
    #[schemars(extend("format" = "date-time"))]
    pub(crate) start_time: String,
    /// The same: when the last caller left.
    #[schemars(extend("format" = "date-time"))]
    pub(crate) end_time: String,
    /// Seconds, three decimals, never negative.
    #[schemars(range(min = 0))]
    #[serde(serialize_with = "three_decimals")]
    pub(crate) duration_seconds: f64,
    pub(crate) status: Status,
    /// Why, if it did not end normally.
    pub(crate) termination_reason: Option<String>,
    pub(crate) agent_config: AgentConfig,
    pub(crate) metrics: Metrics,
    pub(crate) outcomes: Outcomes,
    pub(crate) stage_timeline: Vec<Stage>,
    /// Only with CALL_HISTORY_DETAILS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) details: Option<Details>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CallType {
    Inbound,
    Outbound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// Ended as a call ends.
    Completed,
    /// Never became a conversation, or the agent failed it.
    Failed,
    /// Was cut off.
    Dropped,
}

impl Status {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "completed" => Self::Completed,
            "failed" => Self::Failed,
            "dropped" => Self::Dropped,
            _ => return None,
        })
    }
}

/// All null when the agent never said anything about itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct AgentConfig {
    pub(crate) stt_config_key: Option<String>,
    pub(crate) llm_config_key: Option<String>,
    pub(crate) tts_config_key: Option<String>,
    pub(crate) business_type: Option<String>,
    pub(crate) language: Option<String>,
}

/// Definitions: call-signals §6.4. Times in seconds; `0` when there is nothing to measure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Metrics {
    pub(crate) total_user_utterances: u32,
    pub(crate) total_agent_utterances: u32,
    /// Words.
    pub(crate) longest_user_utterance: u32,
    /// Words.
    pub(crate) longest_agent_utterance: u32,
    #[schemars(range(min = 0))]
    #[serde(serialize_with = "three_decimals")]
    pub(crate) average_user_response_time: f64,
    #[schemars(range(min = 0))]
    #[serde(serialize_with = "three_decimals")]
    pub(crate) average_agent_response_time: f64,
    pub(crate) silence_count: u32,
    pub(crate) interruption_count: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Outcomes {
    /// 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub(crate) completion_rate: f64,
    pub(crate) fields_collected: Vec<String>,
    pub(crate) final_stage: Option<String>,
    pub(crate) successful: Option<bool>,
    pub(crate) notes: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(crate) struct Stage {
    pub(crate) stage: String,
    #[schemars(extend("format" = "date-time"))]
    pub(crate) timestamp: String,
}

/// Rounds to milliseconds; what is not a number becomes 0, so that the body is always JSON.
pub(super) fn three_decimals<S: Serializer>(seconds: &f64, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(rounded(*seconds))
}

pub(super) fn option_three_decimals<S: Serializer>(
    seconds: &Option<f64>,
    s: S,
) -> Result<S::Ok, S::Error> {
    seconds.map(rounded).serialize(s)
}

pub(super) fn three_decimals_each<S: Serializer>(all: &[f64], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(all.iter().map(|x| rounded(*x)))
}

fn rounded(seconds: f64) -> f64 {
    let rounded = (seconds * 1000.0).round() / 1000.0;
    if rounded.is_finite() { rounded } else { 0.0 }
}
