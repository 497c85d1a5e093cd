//! The moments and spans of a call: a part of `details`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    rounding::three_decimals,
    words::{By, Tier},
};

/// Draws a call without a word of it. All spans are cut to the call.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Timeline {
    /// Spans of speech, in the order of their beginning.
    pub speech: Vec<Span>,
    /// The gap before each answer.
    pub responses: Vec<ResponseGap>,
    pub cut_offs: Vec<CutOff>,
    /// Gaps in which nobody spoke, typed or dialled, from the threshold on.
    pub silences: Vec<Gap>,
    /// When a caller typed or dialled.
    pub keyed: Vec<KeyedAt>,
    /// Nothing shows who spoke: humans were connected with each other without an agent and without levels, or
    /// the observer had not come yet and no history reports that time.
    pub unheard: Vec<Gap>,
    /// The observer did not see the room.
    pub gaps: Vec<Gap>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Span {
    /// The side; null for third parties.
    pub by: Option<By>,
    /// The participant, where it is known.
    pub identity: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    pub from: String,
    #[schemars(extend("format" = "date-time"))]
    pub to: String,
    /// Which signal showed it.
    pub basis: Tier,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ResponseGap {
    /// Who answered.
    pub by: By,
    /// The end of the other side's speech and the beginning of the answer; null if only the delay was
    /// reported.
    pub from: Option<String>,
    pub to: Option<String>,
    #[schemars(range(min = 0))]
    #[serde(serialize_with = "three_decimals")]
    pub seconds: f64,
    /// The agent measured and reported `seconds`.
    pub reported: bool,
    /// The number of the answer among the utterances of its side, from 0; null where no signal shows
    /// it.
    pub turn: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct CutOff {
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    /// `user`: the caller cut the agent off. `agent`: the agent began while the caller spoke.
    pub by: By,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct KeyedAt {
    #[schemars(extend("format" = "date-time"))]
    pub at: String,
    pub identity: String,
    pub kind: LineKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LineKind {
    Spoken,
    Typed,
    Dialled,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Gap {
    #[schemars(extend("format" = "date-time"))]
    pub from: String,
    #[schemars(extend("format" = "date-time"))]
    pub to: String,
}
