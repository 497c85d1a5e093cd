//! What can be observed of a call, as plain data with a time on each.
//!
//! These are the only inputs of the core. They carry untrusted text: whoever makes them caps its
//! size, whoever reads them never panics on it.

use std::collections::BTreeMap;

pub use record::{Answerer, By, Discovery, LeaveReason, ModelTask, Moment};
use serde::{Deserialize, Serialize};

pub use super::kinds::{AgentState, Kind, UserState};
use super::snapshot::Snapshot;

/// One fact and when it reached us, by the observer's clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub at: Moment,
    #[serde(flatten)]
    pub fact: Fact,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Fact {
    /// We are in the room, for the first time or again; those present follow as `Joined`.
    /// `server_behind_ms`: what to add to the server's times to have ours.
    Watching {
        server_behind_ms: i64,
        /// How we learned of the room; older journals do not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Discovery>,
    },
    /// An earlier call in this room left this to ours.
    Carried(Box<Snapshot>),
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
pub struct Joined {
    pub identity: String,
    pub sid: String,
    pub kind: Kind,
    pub name: String,
    pub metadata: String,
    pub attributes: BTreeMap<String, String>,
    /// By the server's clock.
    pub joined_at: Moment,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamOpened {
    pub stream: String,
    /// The transcribed participant, as the stream says it.
    pub identity: String,
    /// `lk.segment_id`; several streams of the caller share one.
    pub segment: Option<String>,
    /// `lk.transcribed_track_id`: whose track it is decides who speaks.
    pub track: Option<String>,
    /// The server vouches that an agent sent it for somebody else.
    pub generated: bool,
}

/// A message of `lk.agent.session`, with times by the *agent's* clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum FeedMessage {
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

/// A message of the conversation as the agent keeps it. Absent means unknown, never zero.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item {
    pub id: String,
    pub by: By,
    pub text: String,
    pub interrupted: bool,
    pub created_at: Option<Moment>,
    pub started_at: Option<Moment>,
    pub stopped_at: Option<Moment>,
    /// Seconds from the end of the caller's speech to the agent's first sound.
    pub e2e_latency: Option<f64>,
}

/// One call of a tool. The id tells a report of it from the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    pub failed: bool,
    /// When it was called. Says which call of a room it belongs to; older journals lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Moment>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Handoff {
    pub id: String,
    pub at: Option<Moment>,
    /// `None`: the first agent of the session.
    pub from: Option<String>,
    pub to: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub task: ModelTask,
    pub provider: String,
    pub model: String,
    /// Nothing of it is used by the metrics; `details` tells it.
    #[serde(default, skip_serializing_if = "Used::is_nothing")]
    pub used: Used,
}

/// What of a model was used in a session, so far. 0 where it does not apply.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Used {
    pub input_tokens: u64,
    pub cached_input_tokens: u64,
    pub output_tokens: u64,
    pub characters: u64,
    /// Seconds of sound.
    #[serde(deserialize_with = "or_zero")]
    pub audio_seconds: f64,
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
