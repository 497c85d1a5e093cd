//! The payload: what is posted to the operator's endpoint. Key order is the order of the fields.
//!
//! These objects always have the same fields; only `details` is optional, for operators who ask for
//! it. An unknown value is `null`, `0` or `"unknown"`, as each field says. The JSON Schema in
//! `docs/schema/` is generated from these types and their comments.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{details::Details, rounding::three_decimals};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CallHistory {
    /// UUIDv5 over the room's sid and the ordinal of the call in it: the idempotency key.
    pub call_id: String,
    /// The caller's (outbound: the callee's) number; `"unknown"` if no signal shows it.
    pub phone_number: String,
    pub room_name: String,
    pub call_type: CallType,
    /// RFC 3339, UTC, milliseconds: when the caller was connected.
    #[schemars(extend("format" = "date-time"))]
    pub start_time: String,
    /// RFC 3339, UTC, milliseconds: when the last caller left.
    #[schemars(extend("format" = "date-time"))]
    pub end_time: String,
    /// Seconds, three decimals, never negative.
    #[schemars(range(min = 0))]
    #[serde(serialize_with = "three_decimals")]
    pub duration_seconds: f64,
    pub status: Status,
    /// Why the call ended as it did; null for an ordinary end.
    pub termination_reason: Option<String>,
    pub agent_config: AgentConfig,
    pub metrics: Metrics,
    pub outcomes: Outcomes,
    pub stage_timeline: Vec<Stage>,
    /// Only with CALL_HISTORY_DETAILS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub details: Option<Details>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CallType {
    Inbound,
    Outbound,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// The call ended normally.
    Completed,
    /// The call never became a conversation, or the agent failed.
    Failed,
    /// The call was cut off.
    Dropped,
}

impl Status {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "completed" => Self::Completed,
            "failed" => Self::Failed,
            "dropped" => Self::Dropped,
            _ => return None,
        })
    }
}

/// All fields are null if no configuration was reported.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct AgentConfig {
    pub stt_config_key: Option<String>,
    pub llm_config_key: Option<String>,
    pub tts_config_key: Option<String>,
    pub business_type: Option<String>,
    pub language: Option<String>,
}

/// Definitions: docs/contract.md §4. Times in seconds; `0` when there is nothing to measure.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Metrics {
    pub total_user_utterances: u32,
    pub total_agent_utterances: u32,
    /// Words.
    pub longest_user_utterance: u32,
    /// Words.
    pub longest_agent_utterance: u32,
    #[schemars(range(min = 0))]
    #[serde(serialize_with = "three_decimals")]
    pub average_user_response_time: f64,
    #[schemars(range(min = 0))]
    #[serde(serialize_with = "three_decimals")]
    pub average_agent_response_time: f64,
    pub silence_count: u32,
    pub interruption_count: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Outcomes {
    /// 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub completion_rate: f64,
    pub fields_collected: Vec<String>,
    pub final_stage: Option<String>,
    pub successful: Option<bool>,
    pub notes: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Stage {
    pub stage: String,
    #[schemars(extend("format" = "date-time"))]
    pub timestamp: String,
}
