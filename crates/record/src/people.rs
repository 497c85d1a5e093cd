//! Who was in the room: a part of `details`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::words::LeaveReason;

/// One phone leg, as the SIP bridge shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Phone {
    /// The other side's number; null if it is hidden.
    pub number: Option<String>,
    /// The number of the trunk that the call came in or went out by.
    pub trunk_number: Option<String>,
    /// The bridge's id of the phone call.
    pub call_id: Option<String>,
    /// The last `sip.callStatus`.
    pub status: Option<String>,
    /// When it was first seen ringing.
    pub rang_at: Option<String>,
    /// When it was answered, if the observer saw that.
    pub answered_at: Option<String>,
    pub hung_up_at: Option<String>,
    /// Attributes that the trunk or the dispatch rule made from headers: all but `sip.*`.
    pub attributes: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ParticipantRole {
    Caller,
    /// A phone leg that was dialled while a caller was connected.
    ThirdParty,
    Agent,
    /// A face and a voice for an agent.
    Avatar,
    /// Only listens.
    Listener,
    /// Recorders, streams.
    None,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Participant {
    pub identity: String,
    pub role: ParticipantRole,
    /// LiveKit's kind, in lower case.
    pub kind: String,
    /// Of a phone leg, unless it is hidden.
    pub phone_number: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    pub joined_at: String,
    /// When a phone leg was answered; of others the join. Null if it never was.
    pub connected_at: Option<String>,
    /// Null if it stayed to the end.
    pub left_at: Option<String>,
    pub disconnect_reason: Option<LeaveReason>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct Transfer {
    pub identity: String,
    pub phone_number: Option<String>,
    #[schemars(extend("format" = "date-time"))]
    pub dialled_at: String,
    /// Null if nobody answered.
    pub answered_at: Option<String>,
    /// Null if it outlasted the call.
    pub left_at: Option<String>,
    pub disconnect_reason: Option<LeaveReason>,
}
