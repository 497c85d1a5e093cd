//! What one call leaves to the next in the same room: the participants present and what they
//! published about themselves, but nothing that was said in the call.
//!
//! The snapshot is an event of the next call, so that the journal of that call has everything that
//! the record is made of. It is plain data, made from the core's state and read back into it. Its
//! field names are the format of journals: they stay when the names in the state change. A new
//! field needs a default.

use std::collections::{BTreeMap, BTreeSet};

use record::{LeaveReason, ModelTask, Moment, Status};
use serde::{Deserialize, Serialize};

use super::{
    kinds::{AgentState, Kind, Permissions},
    metadata::{FromMetadata, Passed},
    published::{ConfigPatch, OutcomesPatch},
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub server_behind_ms: i64,
    pub room_metadata: FromMetadata,
    pub job_metadata: FromMetadata,
    #[serde(default, skip_serializing_if = "Passed::is_empty")]
    pub passed: Passed,
    /// The participants present, in the order of their first appearance.
    pub parties: Vec<PartySnapshot>,
    /// By sender.
    pub feeds: BTreeMap<String, FeedSnapshot>,
    /// The agents' configuration.
    pub outcome: OutcomeSnapshot,
}

/// A participant that is present. Times are by our clock.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartySnapshot {
    pub identity: String,
    pub kind: Kind,
    pub metadata: FromMetadata,
    pub sid: String,
    pub attributes: BTreeMap<String, String>,
    pub joined_at: Moment,
    pub left: Option<LeftSnapshot>,
    /// SIP: when the leg was first seen `active`, and whether it already was when we first saw it.
    pub active: Option<(Moment, bool)>,
    pub hung_up_at: Option<Moment>,
    pub last_sign: Moment,
    pub lost_at: Option<Moment>,
    pub tracks: BTreeSet<String>,
    pub performed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permissions: Option<Permissions>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rang_at: Option<Moment>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub typed: bool,
    /// It was dialled while a caller was connected.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub third: bool,
    /// The last change.
    pub states: Vec<(Moment, AgentState)>,
    /// The last change.
    pub speaking: Vec<(Moment, bool)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftSnapshot {
    pub at: Moment,
    /// When the leave was reported to us.
    #[serde(rename = "told_at")] // in the journals of earlier versions
    pub reported_at: Moment,
    pub reason: LeaveReason,
}

/// What remains of a sender's feed: a session and its history live longer than a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedSnapshot {
    /// Ids of items, tool calls and hand-offs of earlier calls, in the order of their first report.
    /// Older journals hold all ids of the room, sorted.
    #[serde(rename = "told")] // in the journals of earlier versions
    pub earlier_ids: Vec<String>,
    pub models: BTreeMap<ModelTask, String>,
    pub offset: Option<i64>,
    /// By the agent's clock: entries of a history up to this time belong to earlier calls, even if
    /// `earlier_ids` lacks theirs. `None` while it has all ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OutcomeSnapshot {
    pub message: SourceSnapshot,
    pub attribute: SourceSnapshot,
}

/// What agents published through one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceSnapshot {
    pub config: Option<ConfigPatch>,
    pub outcomes: OutcomesPatch,
    pub end: Option<(Option<Status>, Option<String>)>,
}
