//! What is posted to the operator's endpoint: the record's types, its JSON Schema, and the claims of
//! the token that signs it. The worker, the receiver and the tests share these types.
//!
//! Plain data: nothing here reads a clock, a file or the network.
//!
//! | file | its one idea |
//! |---|---|
//! | [`history`] | the record |
//! | [`details`] | what can be asked for beyond it |
//! | [`event`] | what is posted while a call is on |
//! | [`people`] | who was in the room |
//! | [`timeline`] | the moments and spans of a call |
//! | [`words`] | the values of every field with a closed set of values |
//! | [`moment`] | instants, and how they are written |
//! | `rounding` | seconds have three decimals |
//! | `claims` | the signature of a request (feature `claims`) |

#[cfg(feature = "claims")]
pub mod claims;
pub mod details;
pub mod event;
pub mod history;
pub mod moment;
pub mod people;
mod rounding;
pub mod timeline;
pub mod words;

#[cfg(feature = "claims")]
pub use claims::Claims;
pub use details::{Details, EndedBy};
pub use event::{CallEvent, Egress, EgressFile, EventKind};
pub use history::{AgentConfig, CallHistory, CallType, Metrics, Outcomes, Stage, Status};
pub use moment::Moment;
pub use words::{Answerer, By, Discovery, LeaveReason, ModelTask, Tier, TimeBasis, WordSource};

/// The JSON Schema of a record (draft 2020-12), generated from its types and their comments.
pub fn schema() -> schemars::Schema {
    schema_of::<CallHistory>()
}

/// The same of a live event.
pub fn event_schema() -> schemars::Schema {
    schema_of::<CallEvent>()
}

fn schema_of<T: schemars::JsonSchema>() -> schemars::Schema {
    schemars::generate::SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<T>()
}
