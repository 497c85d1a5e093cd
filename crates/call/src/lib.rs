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
//! | [`parties`] | the participants and their roles: caller, agent, avatar |
//! | [`speech`] | what was said, on the two transcript channels |
//! | [`feed`] | what the agent itself reports of its session |
//! | [`published`] | what the agent publishes for the record |
//! | [`evidence`] | who spoke when, from the best signal available |
//! | [`window`] | cuts the observations to the time of the call |
//! | [`turns`] | utterances: what each side said in one go |
//! | [`metrics`] | the numbers |
//! | [`stages`] | the stage timeline |
//! | [`outcome`] | agent configuration and outcomes, merged by authority |
//! | [`ending`] | when a call is over |
//! | [`status`] | status and reason (docs/contract.md §5) |
//! | [`subject`] | phone number and direction |
//! | [`profile`] | what a kind of business expects of its calls |
//! | [`snapshot`] | what a call leaves to the next in its room |
//! | [`details`] | the optional details of a record |
//! | [`explain`] | which moments each number was made from |
//! | [`words`] | how words are counted |

mod build;
mod details;
mod ending;
pub mod event;
mod evidence;
pub mod explain;
mod feed;
mod kinds;
mod metrics;
mod outcome;
mod parties;
pub mod profile;
pub mod published;
mod reduced;
mod snapshot;
mod speech;
mod stages;
mod state;
mod status;
mod subject;
mod taken;
mod turns;
mod window;
mod words;

#[cfg(test)]
mod tests;

pub use event::{Event, Fact, Moment};
pub use state::{Call, Phase, RoomFacts, Settings};
pub use taken::Taken;
