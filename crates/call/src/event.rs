//! What can be observed of a call, as plain data with a time for each fact.
//!
//! These are the only inputs of the core. They carry untrusted text: code that makes an event
//! limits the size of the text, and code that reads an event must not panic on the text.

use std::collections::BTreeMap;

pub use record::{Answerer, By, Discovery, LeaveReason, ModelTask, Moment};
use serde::{Deserialize, Serialize};

pub use super::kinds::{AgentState, Kind, Permissions, UserState};
use super::snapshot::Snapshot;

/// One fact, and when it reached the observer, by our clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    pub at: Moment,
    #[serde(flatten)]
    pub fact: Fact,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Fact {
    /// We joined the room, for the first time or again. The participants present follow as
    /// `Joined`. `server_behind_ms`: milliseconds to add to the server's times to get ours.
    Watching {
        server_behind_ms: i64,
        /// How we found the room; older journals do not have it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<Discovery>,
    },
    /// What the earlier call in this room left for this call.
    Carried(Box<Snapshot>),
    /// The worker that observed the call so far died; another worker continues from the journal.
    Recovered,
    /// We lost the connection to the room, and try to reconnect.
    Blind,
    /// The room ended, or we stopped observing it. No event follows.
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
    /// `since`: when the participant was last seen, if that is earlier than the report that it
    /// left.
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
    /// The server changed what a participant may do.
    Permissions {
        identity: String,
        permissions: Permissions,
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
    /// The participant that sends a stream. The stream may name another one: an agent also sends
    /// the transcript of its caller.
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
    /// Typed text of a participant: on `lk.chat`, as an old chat message, or as RTVI `send-text`.
    /// Only the number of words is used, so a journal holds that number, and the text only where a
    /// transcript is asked for.
    Chat {
        identity: String,
        text: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        words: Option<u32>,
    },
    Dtmf {
        identity: String,
        /// Kept only where a transcript is asked for: digits can be the number of a card.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        digit: Option<String>,
    },
    /// One message of a Pipecat bot (RTVI), a data packet with an empty topic.
    Rtvi {
        identity: String,
        message: RtviMessage,
    },
    /// One message of the agent's session feed, `lk.agent.session`.
    Feed {
        identity: String,
        message: FeedMessage,
    },
    /// A session-feed message that could not be decoded.
    Undecodable {
        identity: String,
    },
    /// A stream that was not read, because too many are open.
    Dropped,
    /// A message on `call-history`; without an identity it is refused.
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
    /// `None` in the journals of earlier versions; the kind alone decides then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Permissions>,
}

/// A message of RTVI, the protocol of Pipecat bots. It carries no time: it is used when it arrives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum RtviMessage {
    UserStarted,
    /// The bot's turn detection has decided that the turn of the user is over.
    UserStopped,
    /// `user`: the identity of the participant that spoke.
    UserText {
        text: String,
        user: Option<String>,
    },
    BotStarted,
    BotStopped,
    /// A part of the bot's text that was spoken to its end.
    BotText {
        text: String,
    },
    /// The bot is about to speak this many words.
    BotOutput {
        words: u32,
    },
    /// This many words of it were spoken to their end.
    BotSpoken {
        words: u32,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StreamOpened {
    pub stream: String,
    /// The transcribed participant, as the stream names it.
    pub identity: String,
    /// `lk.segment_id`; several streams of the caller share one.
    pub segment: Option<String>,
    /// `lk.transcribed_track_id`: the owner of this track is the speaker.
    pub track: Option<String>,
    /// The server marks the stream as sent by an agent for another participant.
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
    /// What the models used in the session so far.
    Usage {
        models: Vec<Model>,
    },
    /// Tools have run.
    Tools {
        calls: Vec<ToolCall>,
    },
    /// Another agent of the same session took over.
    Handoff(Handoff),
    /// The agent paused its speech because of noise. `resumed`: the speech went on.
    FalseInterruption {
        at: Option<Moment>,
        resumed: bool,
    },
    /// Who answered, by the agent's answering machine detection.
    Answered {
        by: Answerer,
    },
    /// Something failed in the agent. The error's text may contain anything, so it is not kept.
    Error {
        /// The agent's session cannot recover from it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        fatal: bool,
    },
    /// An event of which only the time is used: it helps to estimate the agent's clock.
    Clock {
        at: Moment,
    },
}

/// A message of the conversation as the agent records it. Absent means unknown, never zero.
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
    #[serde(default, skip_serializing_if = "Components::is_empty")]
    pub components: Components,
}

/// What took time in one turn, in seconds. Shown in `details`; the metrics do not use it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Components {
    pub transcription_delay: Option<f64>,
    pub end_of_turn_delay: Option<f64>,
    pub llm_first_token: Option<f64>,
    pub tts_first_byte: Option<f64>,
}

impl Components {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One call of a tool. The same call may be reported several times: the id identifies it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    pub failed: bool,
    /// When the tool was called. It decides to which call in a room the tool call belongs; older
    /// journals lack it.
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
    /// Shown in `details`; the metrics do not use it.
    #[serde(default, skip_serializing_if = "Used::is_nothing")]
    pub used: Used,
}

/// How much of a model was used in a session so far. 0 if a unit does not apply to the model.
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

/// Reads null as 0: serde_json writes NaN as null.
fn or_zero<'de, D: serde::Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or(0.0))
}

impl Used {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}
