//! What can be observed of a call, as plain data with a time on each.
//!
//! These are the only inputs of the core. They carry untrusted text: whoever makes them caps its
//! size, whoever reads them never panics on it.

use std::{collections::BTreeMap, fmt};

use chrono::{DateTime, SecondsFormat};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::carried::Carried;

/// Milliseconds since the Unix epoch. Whose clock it is, is said where it is used.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub(crate) struct Moment(i64);

impl Moment {
    pub(crate) const fn from_millis(ms: i64) -> Self {
        Self(ms)
    }

    /// Milliseconds from `earlier` to `self`; negative if it is the other way round.
    pub(crate) const fn since(self, earlier: Moment) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    pub(crate) const fn millis(self) -> i64 {
        self.0
    }

    pub(crate) const fn plus(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// RFC 3339 in UTC with milliseconds and `Z`, as in the payload. Times outside the calendar
    /// become the epoch.
    pub(crate) fn to_rfc3339(self) -> String {
        DateTime::from_timestamp_millis(self.0)
            .unwrap_or_default()
            .to_rfc3339_opts(SecondsFormat::Millis, true)
    }

    pub(crate) fn parse_rfc3339(text: &str) -> Option<Self> {
        Some(Self(DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis()))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

/// One fact and when it reached us, by the observer's clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) at: Moment,
    #[serde(flatten)]
    pub(crate) fact: Fact,
}

/// How an observer learned of its room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Discovery {
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
    pub(crate) const fn as_str(self) -> &'static str {
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

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub(crate) enum Fact {
    /// We are in the room, for the first time or again; those present follow as `Joined`.
    /// `server_behind_ms`: what to add to the server's times to have ours.
    Watching {
        server_behind_ms: i64,
        /// How we learned of the room; older journals do not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Discovery>,
    },
    /// An earlier call in this room left this to ours.
    Carried(Box<Carried>),
    /// The worker that saw what comes before died; another goes on from its journal.
    Recovered,
    /// We lost the room and try to come back.
    Blind,
    /// The room is over for us. Nothing follows.
    RoomEnded {
        reason: LeaveReason,
    },
    RoomMetadata {
        metadata: String,
    },
    /// Metadata of the job (or dispatch) that sent us here.
    JobMetadata {
        metadata: String,
    },
    Joined(Joined),
    /// `since`: when it was last seen, where that is earlier than the word of its leave.
    Left {
        identity: String,
        reason: LeaveReason,
        attributes: BTreeMap<String, String>,
        since: Option<Moment>,
    },
    /// Changed keys only; a removed key has the value "".
    Attributes {
        identity: String,
        changed: BTreeMap<String, String>,
    },
    Metadata {
        identity: String,
        metadata: String,
    },
    Track {
        identity: String,
        sid: String,
    },
    Speaking {
        identity: String,
        speaking: bool,
    },
    /// Connection quality, reduced to what matters here: LOST or anything better.
    Quality {
        identity: String,
        lost: bool,
    },
    /// A text stream on `lk.transcription` began.
    StreamOpened(StreamOpened),
    /// Who really sends a stream: an agent speaks for its caller too.
    StreamSender {
        stream: String,
        identity: String,
    },
    StreamChunk {
        stream: String,
        text: String,
    },
    StreamClosed {
        stream: String,
        is_final: bool,
    },
    /// A legacy transcription packet. `text` is the whole segment so far.
    Legacy {
        identity: String,
        segment: String,
        text: String,
        is_final: bool,
    },
    /// Typed text of a participant (`lk.chat`). In a journal its words are counted, and the text,
    /// of which nothing else is used, is empty.
    Chat {
        identity: String,
        text: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        words: Option<u32>,
    },
    Dtmf {
        identity: String,
    },
    /// One message of the agent's session feed, `lk.agent.session`.
    Feed {
        identity: String,
        message: FeedMessage,
    },
    /// A message of the session feed that is none.
    Undecodable {
        identity: String,
    },
    /// A stream that was not read, because too many are open.
    Dropped,
    /// A message on `call-history`; without an identity it cannot be trusted.
    Published {
        identity: Option<String>,
        text: String,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Joined {
    pub(crate) identity: String,
    pub(crate) sid: String,
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) metadata: String,
    pub(crate) attributes: BTreeMap<String, String>,
    /// By the server's clock.
    pub(crate) joined_at: Moment,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct StreamOpened {
    pub(crate) stream: String,
    /// The transcribed participant, as the stream says it.
    pub(crate) identity: String,
    /// `lk.segment_id`; several streams of the caller share one.
    pub(crate) segment: Option<String>,
    /// `lk.transcribed_track_id`: whose track it is decides who speaks.
    pub(crate) track: Option<String>,
    /// The server vouches that an agent sent it for somebody else.
    pub(crate) generated: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Standard,
    Sip,
    Connector,
    Agent,
    Ingress,
    Egress,
    Bridge,
}

/// LiveKit's `DisconnectReason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum LeaveReason {
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

/// A message of `lk.agent.session`, with times by the *agent's* clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum FeedMessage {
    AgentState {
        at: Option<Moment>,
        state: AgentState,
    },
    UserState {
        at: Option<Moment>,
        state: UserState,
    },
    Item {
        at: Option<Moment>,
        item: Item,
    },
    /// The whole conversation so far, as an answer to our request.
    History {
        items: Vec<Item>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        handoffs: Vec<Handoff>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        tools: Vec<ToolCall>,
    },
    /// All that was used so far in the session.
    Usage {
        models: Vec<Model>,
    },
    /// Tools have run.
    Tools {
        calls: Vec<ToolCall>,
    },
    /// Another agent of the same session took over.
    Handoff(Handoff),
    /// Speech that was paused for noise; `resumed`: it went on.
    FalseInterruption {
        at: Option<Moment>,
        resumed: bool,
    },
    /// Who answered, in the opinion of the agent's answering machine detection.
    Answered {
        by: Answerer,
    },
    /// Something failed in the agent. What it says of it may hold anything, so it is not kept.
    Error,
    /// Only the time of an event that is nothing to us.
    Clock {
        at: Moment,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AgentState {
    Initializing,
    Idle,
    Listening,
    Thinking,
    Speaking,
}

impl AgentState {
    /// The value of the attribute `lk.agent.state`.
    pub(crate) fn from_attribute(value: &str) -> Option<Self> {
        Some(match value {
            "initializing" => Self::Initializing,
            "idle" => Self::Idle,
            "listening" => Self::Listening,
            "thinking" => Self::Thinking,
            "speaking" => Self::Speaking,
            _ => return None,
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum UserState {
    Speaking,
    Listening,
    Away,
}

/// A message of the conversation as the agent keeps it. Absent means unknown, never zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Item {
    pub(crate) id: String,
    pub(crate) by: By,
    pub(crate) text: String,
    pub(crate) interrupted: bool,
    pub(crate) created_at: Option<Moment>,
    pub(crate) started_at: Option<Moment>,
    pub(crate) stopped_at: Option<Moment>,
    /// Seconds from the end of the caller's speech to the agent's first sound.
    pub(crate) e2e_latency: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum By {
    User,
    Agent,
}

/// One call of a tool. The id tells a report of it from the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ToolCall {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) failed: bool,
    /// When it was called. Says which call of a room it belongs to; older journals lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) at: Option<Moment>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Handoff {
    pub(crate) id: String,
    pub(crate) at: Option<Moment>,
    /// `None`: the first agent of the session.
    pub(crate) from: Option<String>,
    pub(crate) to: String,
}

/// The session's `AmdCategory`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answerer {
    Human,
    MachineIvr,
    MachineVm,
    MachineUnavailable,
    Uncertain,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Model {
    pub(crate) task: ModelTask,
    pub(crate) provider: String,
    pub(crate) model: String,
    /// Nothing of it is used by the metrics; `details` tells it.
    #[serde(default, skip_serializing_if = "Used::is_nothing")]
    pub(crate) used: Used,
}

/// What of a model was used in a session, so far. 0 where it does not apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Used {
    pub(crate) input_tokens: u64,
    pub(crate) cached_input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) characters: u64,
    /// Seconds of sound.
    #[serde(deserialize_with = "or_zero")]
    pub(crate) audio_seconds: f64,
}

/// JSON has no number that is none; it is written as null.
fn or_zero<'de, D: serde::Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or(0.0))
}

impl Used {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ModelTask {
    Stt,
    Llm,
    Tts,
}
