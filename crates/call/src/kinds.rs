//! Small values in events: kinds and permissions of participants, states of agents and users.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Standard,
    Sip,
    Connector,
    Agent,
    Ingress,
    Egress,
    Bridge,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AgentState {
    Initializing,
    Idle,
    Listening,
    Thinking,
    Speaking,
}

impl AgentState {
    /// The value of the attribute `lk.agent.state`.
    pub fn from_attribute(value: &str) -> Option<Self> {
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
pub enum UserState {
    Speaking,
    Listening,
    Away,
}

/// What a participant's token grants it, as far as a role depends on it. Only the server can set
/// it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Permissions {
    pub agent: bool,
    pub recorder: bool,
    pub hidden: bool,
    pub publish: bool,
    pub publish_data: bool,
}
