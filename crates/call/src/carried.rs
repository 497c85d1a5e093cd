//! What one call leaves to the next in the same room: who is there and what they said of
//! themselves, not what was said in the call.
//!
//! It is an event like any other, so that the next call's journal tells all that its record is
//! made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{feed::FeedBefore, outcome::Outcome, parties::Party, published::FromMetadata};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Carried {
    pub server_behind_ms: i64,
    pub room_metadata: FromMetadata,
    pub job_metadata: FromMetadata,
    /// Those who are there, in the order of their first appearance.
    pub parties: Vec<Party>,
    /// By sender.
    pub feeds: BTreeMap<String, FeedBefore>,
    /// Who the agent is.
    pub outcome: Outcome,
}
