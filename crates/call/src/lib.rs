//! The call core: events in, one [`record::CallHistory`] out.
//!
//! Sans-IO: no socket, no task, no clock and no LiveKit type lives here; time is a parameter.
//! The same events give the same record, on any machine, at any time, so a journal can be
//! replayed and a test needs no room.
//!
//! | file | its one idea |
//! |---|---|
//! | [`event`] | what can be observed, and when |
//! | [`kinds`] | its closed sets of values |
//! | [`state`] | one running call: applies events, knows when it is over |
//! | [`taken`] | how much of an event a call used |
//! | [`reduced`] | the part of an event that a journal has to hold |
//! | [`build`] | makes the record from the state of a call |
//! | [`party`] | one participant |
//! | [`parties`] | the participants of a room, and who is who among them |
//! | [`roles`] | what kind, permissions and identity say about a role |
//! | [`speech`] | what was said, on the two transcript channels |
//! | [`interval`] | a span of time |
//! | [`keyed`] | what callers typed and dialled |
//! | [`rtvi`] | what Pipecat bots report |
//! | [`feed`] | what the agent itself reports of its session |
//! | [`published`] | what the agent publishes for the record |
//! | [`metadata`] | what metadata says of the call, and opting out |
//! | [`evidence`] | who spoke when, from the best signal available |
//! | [`window`] | cuts the observations to the time of the call |
//! | [`turns`] | utterances: what each side said in one go |
//! | [`metrics`] | the numbers |
//! | [`stages`] | the stage timeline |
//! | [`outcome`] | agent configuration and outcomes, merged by authority |
//! | [`beginning`] | when a call began |
//! | [`ending`] | when a call is over |
//! | [`status`] | status and reason (docs/contract.md §5) |
//! | [`subject`] | phone number and direction |
//! | [`profile`] | what a kind of business expects of its calls |
//! | [`snapshot`] | what a call leaves to the next in its room |
//! | [`details`] | the optional details of a record |
//! | [`people`] | who was in the room, for the details |
//! | [`timeline`] | the call in moments and spans, for the details |
//! | [`explain`] | which moments each number was made from |
//! | [`words`] | how words are counted |

mod beginning;
mod build;
mod details;
mod ending;
pub mod event;
mod evidence;
pub mod explain;
mod feed;
mod interval;
mod keyed;
mod kinds;
pub mod metadata;
mod metrics;
mod outcome;
mod parties;
mod party;
mod people;
pub mod profile;
pub mod progress;
pub mod published;
mod reduced;
pub mod roles;
mod rtvi;
mod snapshot;
mod speech;
mod stages;
mod state;
mod status;
mod subject;
mod taken;
mod timeline;
mod turns;
mod window;
mod words;

#[cfg(test)]
mod tests;

pub use event::{Event, Fact, Moment};
pub use metrics::Measured;
pub use state::{Call, Phase, RoomFacts, Settings};
pub use taken::Taken;
pub use words::count as count_words;
