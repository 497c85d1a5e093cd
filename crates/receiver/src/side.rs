//! Who of a call did something.

use serde_json::Value as Json;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    User,
    Agent,
    /// A third party, or unknown.
    Other,
}

impl Side {
    /// Reads the `by` of a record.
    pub(crate) fn of(by: &Json) -> Self {
        match by.as_str() {
            Some("user") => Self::User,
            Some("agent") => Self::Agent,
            _ => Self::Other,
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::User => "Caller",
            Self::Agent => "Agent",
            Self::Other => "Third party",
        }
    }

    /// A class of the style sheet.
    pub(crate) const fn class(self) -> &'static str {
        match self {
            Self::User => "u",
            Self::Agent => "a",
            Self::Other => "o",
        }
    }
}
