//! `details`: what an operator can ask for beyond the record itself.
//!
//! A value that was not measured is `null`, never 0. Times of day are RFC 3339 in UTC, durations are seconds.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    people::{Participant, ParticipantRole, Phone, Transfer},
    rounding::{option_three_decimals, three_decimals, three_decimals_each},
    timeline::{Gap, LineKind, Timeline},
    words::{Answerer, By, Discovery, LeaveReason, ModelTask, Tier, TimeBasis, WordSource},
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Details {
    /// Who ended the call; independent of `status`.
    pub ended_by: EndedBy,
    /// LiveKit's reason for the leave, or for the end of the room, that ended the call.
    pub disconnect_reason: Option<LeaveReason>,
    /// The caller's `sip.*` attributes; null if the caller is not a phone leg.
    pub sip: Option<BTreeMap<String, String>>,
    /// The caller's phone leg; null if the caller is not a phone leg.
    pub phone: Option<Phone>,
    /// Everybody that was in the room during the call, in order of appearance.
    pub participants: Vec<Participant>,
    /// Phone legs that were dialled while a caller was connected.
    pub transfers: Vec<Transfer>,
    /// Values of the keys in CALL_HISTORY_METADATA_KEYS, untouched; null if no key is set.
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// What the observer saw of the call.
    pub observation: Observation,
    /// Which signals the metrics are based on.
    pub evidence: Evidence,
    pub latency: Latency,
    pub interruptions: Interruptions,
    pub talk: Talk,
    /// Models that the agent reports, with the usage of its whole session so far; null without a
    /// session feed.
    pub usage: Option<Vec<Usage>>,
    /// Tools that the agent called; null without a session feed.
    pub tools: Option<Vec<Tool>>,
    /// All agents, in order of appearance: participants of kind agent, with the grant `agent`, or named by
    /// the operator.
    pub agents: Vec<Agent>,
    /// Hand-offs between the agents of one session; null without a session feed.
    pub handoffs: Option<Vec<Passed>>,
    /// The result of the agent's answering machine detection; null if there is none.
    pub answered_by: Option<Answerer>,
    /// Errors that the agent reported; null without a session feed.
    pub errors: Option<u32>,
    /// The business profile that was applied.
    pub profile: Option<String>,
    /// The call in moments and spans, without a word of it.
    pub timeline: Timeline,
    /// True if transcript, timeline, raw latencies or passed-on metadata were cut because the endpoint takes no
    /// larger record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reduced: Option<bool>,
    /// Only with CALL_HISTORY_TRANSCRIPT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<Vec<Line>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndedBy {
    /// The caller hung up or left.
    Caller,
    /// The agent reported that it ended the call.
    Agent,
    /// The room was closed or the caller was removed: this is how agents and operators hang up.
    Room,
    /// A connection broke.
    Network,
    /// The worker stopped, or lost the room.
    Worker,
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Observation {
    /// How the observer learned of the room.
    pub discovered_by: Option<Discovery>,
    /// Since when the observer was in the room.
    pub from: Option<String>,
    /// Until when the call was observed.
    pub to: Option<String>,
    /// Parts of the call that the observer did not see.
    pub gaps: Vec<Gap>,
    /// Seconds from the caller's join to the observer's; negative if the observer was there first.
    #[serde(serialize_with = "option_three_decimals")]
    pub late_seconds: Option<f64>,
    /// Turns of either side that were not received live: they are from the history that the agent
    /// sent on request.
    pub turns_from_history: u32,
    /// How `start_time` is known.
    pub start_time_basis: TimeBasis,
    /// How `end_time` is known.
    pub end_time_basis: TimeBasis,
    /// The observation was continued after a crash of the worker.
    pub recovered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Evidence {
    pub user: SideEvidence,
    pub agent: SideEvidence,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct SideEvidence {
    /// Which signal showed when this side spoke.
    pub speech: Tier,
    /// Where the words of this side are from.
    pub words: WordSource,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Latency {
    /// From the end of the caller's speech to the agent's answer; null if there is none.
    pub agent_response: Option<Distribution>,
    /// From the end of the agent's speech to the caller's answer; null if there is none.
    pub user_response: Option<Distribution>,
    /// What the agent reports of single turns; null without a session feed that has such times.
    pub components: Option<Vec<Component>>,
}

/// What took time in one turn, in seconds, as the agent measured it; null where it does not say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Component {
    pub by: By,
    /// When the turn was spoken; null where no signal shows it.
    pub from: Option<String>,
    /// A caller's turn: from the end of the speech to its transcript.
    #[serde(serialize_with = "option_three_decimals")]
    pub transcription_delay: Option<f64>,
    /// A caller's turn: from the end of the speech to the agent's decision that the turn is over.
    #[serde(serialize_with = "option_three_decimals")]
    pub end_of_turn_delay: Option<f64>,
    /// An agent's turn: until the language model's first token.
    #[serde(serialize_with = "option_three_decimals")]
    pub llm_first_token: Option<f64>,
    /// An agent's turn: until the first sound of the synthesis.
    #[serde(serialize_with = "option_three_decimals")]
    pub tts_first_byte: Option<f64>,
}

/// Seconds. Percentiles are values that were measured (nearest rank).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Distribution {
    pub count: u32,
    #[schemars(range(min = 0))]
    #[serde(serialize_with = "three_decimals")]
    pub min: f64,
    #[schemars(range(min = 0))]
    #[serde(serialize_with = "three_decimals")]
    pub p50: f64,
    #[schemars(range(min = 0))]
    #[serde(serialize_with = "three_decimals")]
    pub p90: f64,
    #[schemars(range(min = 0))]
    #[serde(serialize_with = "three_decimals")]
    pub p95: f64,
    #[schemars(range(min = 0))]
    #[serde(serialize_with = "three_decimals")]
    pub p99: f64,
    #[schemars(range(min = 0))]
    #[serde(serialize_with = "three_decimals")]
    pub max: f64,
    /// All values, in the order of the call.
    #[serde(serialize_with = "three_decimals_each")]
    pub values: Vec<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Interruptions {
    /// Agent utterances that the caller cut off.
    pub by_caller: u32,
    /// How often the agent began to speak while the caller spoke; null if only transcripts show
    /// when the caller spoke.
    pub by_agent: Option<u32>,
    /// How often the agent paused for noise or a word of assent and went on; null without a feed.
    pub false_alarms: Option<u32>,
}

/// Seconds; null where no signal shows them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Talk {
    #[serde(serialize_with = "option_three_decimals")]
    pub user_seconds: Option<f64>,
    #[serde(serialize_with = "option_three_decimals")]
    pub agent_seconds: Option<f64>,
    #[serde(serialize_with = "option_three_decimals")]
    pub overlap_seconds: Option<f64>,
    /// The longest gap in which neither side spoke, if one reached the threshold.
    #[serde(serialize_with = "option_three_decimals")]
    pub longest_silence_seconds: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Usage {
    pub task: ModelTask,
    pub provider: String,
    pub model: String,
    pub input_tokens: u64,
    pub cached_input_tokens: u64,
    pub output_tokens: u64,
    pub characters: u64,
    #[schemars(range(min = 0))]
    #[serde(serialize_with = "three_decimals")]
    pub audio_seconds: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Tool {
    pub name: String,
    pub calls: u32,
    pub failures: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Agent {
    pub identity: String,
    pub role: AgentRole,
    #[schemars(extend("format" = "date-time"))]
    pub joined_at: String,
    /// Null if the agent stayed to the end.
    pub left_at: Option<String>,
    pub disconnect_reason: Option<LeaveReason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentRole {
    /// Speaks with the caller.
    Voice,
    /// A face and a voice for another agent.
    Avatar,
    /// Anything else of kind agent: a transcriber, a recorder.
    Other,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Passed {
    pub from: Option<String>,
    pub to: String,
    /// When, as the agent reported it.
    pub timestamp: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Line {
    pub by: By,
    pub kind: LineKind,
    /// The participant that said it, where it is known.
    pub identity: Option<String>,
    pub role: Option<ParticipantRole>,
    /// When the line was spoken; null where no signal shows it.
    pub from: Option<String>,
    pub to: Option<String>,
    pub text: String,
    pub interrupted: bool,
}
