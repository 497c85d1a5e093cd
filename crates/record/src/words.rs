//! The closed vocabularies of a record: every word that a field of it may have.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How an observer learned of its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Discovery {
    /// LiveKit dispatched the worker by its name.
    Dispatch,
    /// LiveKit offered a caller's join, without a name.
    ParticipantJob,
    /// A webhook told of it.
    Webhook,
    /// It was found in the server's list of rooms.
    Reconciler,
    /// An earlier run of the worker had observed it.
    Recovery,
    /// An operator named it.
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

/// Which signal told, best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// States in the agent's session feed.
    Feed,
    /// Times of the conversation's items, asked for at the end.
    Items,
    /// The attribute `lk.agent.state`.
    State,
    /// Active-speaker events.
    Speakers,
    /// Transcripts.
    Transcripts,
    /// Nothing was seen of this side.
    #[default]
    None,
}

/// Where the words are from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WordSource {
    /// Items of the agent's conversation.
    Items,
    /// Transcripts, both where the items do not reach and where there are none.
    Transcripts,
    /// Typed texts.
    Typed,
    /// None; the sound alone was counted.
    Sound,
    #[default]
    None,
}

/// How `end_time` is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndBasis {
    /// The end was seen.
    Observed,
    /// The connection died without a goodbye: backdated from connection quality and the last sign
    /// of life.
    Estimated,
}

impl EndBasis {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Observed => "observed",
            Self::Estimated => "estimated",
        }
    }
}
