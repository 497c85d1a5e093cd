//! The closed vocabularies of a record: all values of its enumerated fields.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an observer learned of its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Discovery {
    /// LiveKit dispatched the worker by its agent name.
    Dispatch,
    /// LiveKit offered a participant job for the join of a caller.
    ParticipantJob,
    /// A webhook named the room.
    Webhook,
    /// The room was in the server's list of rooms.
    Reconciler,
    /// An earlier run of the worker had observed the room.
    Recovery,
    /// An operator named the room.
    Command,
}

impl Discovery {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Dispatch => "dispatch",
            Self::ParticipantJob => "participant_job",
            Self::Webhook => "webhook",
            Self::Reconciler => "reconciler",
            Self::Recovery => "recovery",
            Self::Command => "command",
        }
    }
}

/// LiveKit's `DisconnectReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum LeaveReason {
    UnknownReason,
    ClientInitiated,
    DuplicateIdentity,
    ServerShutdown,
    ParticipantRemoved,
    RoomDeleted,
    StateMismatch,
    JoinFailure,
    Migration,
    SignalClose,
    RoomClosed,
    UserUnavailable,
    UserRejected,
    SipTrunkFailure,
    ConnectionTimeout,
    MediaFailure,
    AgentError,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum By {
    User,
    Agent,
}

/// The session's `AmdCategory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answerer {
    Human,
    MachineIvr,
    MachineVm,
    MachineUnavailable,
    Uncertain,
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ModelTask {
    Stt,
    Llm,
    Tts,
}

/// Which signal showed when a side spoke; the best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// States in the agent's session feed.
    Feed,
    /// Times of the conversation's items, requested at the end.
    Items,
    /// The attribute `lk.agent.state`.
    State,
    /// RTVI messages of a Pipecat bot.
    Rtvi,
    /// Active-speaker events.
    Speakers,
    /// Transcripts.
    Transcripts,
    /// No signal of this side was received.
    #[default]
    None,
}

impl Tier {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Feed => "feed",
            Self::Items => "items",
            Self::State => "state",
            Self::Rtvi => "rtvi",
            Self::Speakers => "speakers",
            Self::Transcripts => "transcripts",
            Self::None => "none",
        }
    }
}

/// Where the words are from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WordSource {
    /// Items of the agent's conversation.
    Items,
    /// Transcripts: there are no items, or the items do not cover the whole call.
    Transcripts,
    /// RTVI messages of a Pipecat bot.
    Rtvi,
    /// Typed texts.
    Typed,
    /// No words: only sound was counted.
    Sound,
    #[default]
    None,
}

/// How a time is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TimeBasis {
    /// The observer saw the moment.
    Observed,
    /// The observer did not see it. A start: the phone was answered before the observer came. An
    /// end: the connection broke without a leave. Estimated from what was seen before and after.
    Estimated,
}

impl TimeBasis {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::Estimated => "estimated",
        }
    }
}
