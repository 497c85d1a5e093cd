//! What one call leaves to the next in the same room: who is there and what they said of themselves, not
//! what was said in the call.
//!
//! It is an input like any other, so that the next call's journal has all that its record is made of.
//! Plain data, made from the core's state and read back into it: its field names are the format of
//! journals, and stay when the state changes its own. A new field has a default.

use std::collections::{BTreeMap, BTreeSet};

use record::{LeaveReason, ModelTask, Moment, Status};
use serde::{Deserialize, Serialize};

use super::{
    kinds::{AgentState, Kind},
    published::{ConfigPatch, FromMetadata, OutcomesPatch},
};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    pub server_behind_ms: i64,
    pub room_metadata: FromMetadata,
    pub job_metadata: FromMetadata,
    /// Those who are there, in the order of their first appearance.
    pub parties: Vec<PartySnapshot>,
    /// By sender.
    pub feeds: BTreeMap<String, FeedSnapshot>,
    /// Who the agent is.
    pub outcome: OutcomeSnapshot,
}

/// A participant who is there. Times are by our clock.
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
    /// The last change.
    pub states: Vec<(Moment, AgentState)>,
    /// The last change.
    pub speaking: Vec<(Moment, bool)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LeftSnapshot {
    pub at: Moment,
    pub told_at: Moment,
    pub reason: LeaveReason,
}

/// What a sender's feed leaves: a session and its history live longer than a call.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FeedSnapshot {
    /// Ids of items, tool calls and hand-offs, in the order in which they were learnt; older journals have
    /// all there ever were, sorted.
    pub told: Vec<String>,
    pub models: BTreeMap<ModelTask, String>,
    pub offset: Option<i64>,
    /// Agent's clock. What a history tells up to then is from earlier calls too; `None` while `told` names
    /// all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OutcomeSnapshot {
    pub message: SourceSnapshot,
    pub attribute: SourceSnapshot,
}

/// What came from one source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SourceSnapshot {
    pub config: Option<ConfigPatch>,
    pub outcomes: OutcomesPatch,
    pub end: Option<(Option<Status>, Option<String>)>,
}
