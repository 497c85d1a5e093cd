//! What is posted to CALL_HISTORY_EVENTS_ENDPOINT while a call is on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    history::{CallType, Status},
    rounding::option_three_decimals,
};

/// One event of a call. The events of a call are posted in order, each after the one before it was taken or
/// given up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CallEvent {
    pub event: EventKind,
    /// As in the record of the call.
    pub call_id: String,
    /// Position among the events of the call, from 1. A number that is missing was given up.
    pub sequence: u32,
    /// RFC 3339, UTC, milliseconds: when it happened.
    #[schemars(extend("format" = "date-time"))]
    pub time: String,
    pub room_name: String,
    /// As in the record, as far as it is known now; `"unknown"` if no signal shows it.
    pub phone_number: String,
    pub call_type: CallType,
    /// The stage that was entered; only in `call.stage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// As in the record; only in `call.ended` and `call.missed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// As in the record; only in `call.ended` and `call.missed`, and there only if there is a reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub termination_reason: Option<String>,
    /// Seconds, as in the record; only in `call.ended` and `call.missed`.
    #[schemars(range(min = 0))]
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        serialize_with = "option_three_decimals"
    )]
    pub duration_seconds: Option<f64>,
    /// Only in `call.recording`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recording: Option<Egress>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum EventKind {
    /// A caller is in the room; a phone may still ring.
    #[serde(rename = "call.started")]
    Started,
    /// The caller is connected: a phone was answered, or another caller has joined.
    #[serde(rename = "call.answered")]
    Answered,
    /// The agent has entered a stage.
    #[serde(rename = "call.stage")]
    Stage,
    /// The call is over; its record follows.
    #[serde(rename = "call.ended")]
    Ended,
    /// In place of `call.ended`: the caller was never connected.
    #[serde(rename = "call.missed")]
    Missed,
    /// LiveKit has finished an egress of the call's room. It may come minutes after the end.
    #[serde(rename = "call.recording")]
    Recording,
}

/// What LiveKit's webhook says about an egress that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Egress {
    pub egress_id: String,
    /// Null if the egress was successful.
    pub error: Option<String>,
    pub files: Vec<EgressFile>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct EgressFile {
    pub filename: String,
    /// Where it lies: a URL or a path, as LiveKit reports it.
    pub location: String,
    /// Seconds.
    #[schemars(range(min = 0))]
    #[serde(serialize_with = "option_three_decimals")]
    pub duration_seconds: Option<f64>,
    pub bytes: u64,
}
