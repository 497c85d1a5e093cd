//! The call core: events in, one [`CallHistory`] out.
//!
//! Sans-IO: no socket, no task, no clock and no LiveKit type lives here; time is a parameter.
//! The same events give the same record, on any machine, at any time, so a journal can be
//! replayed and a test needs no room.
//!
//! | file | its one idea |
//! |---|---|
//! | [`event`] | what can be observed, and when |
//! | [`kinds`] | the closed words of it |
//! | [`state`] | a call as it goes: takes events, knows when it is over |
//! | [`taken`] | whether a call took notice of an event |
//! | [`reduced`] | what of an event a journal has to hold |
//! | [`build`] | from all that was seen to the record |
//! | [`parties`] | who is caller, agent, avatar; who is there |
//! | [`speech`] | what was said, on the two transcript channels |
//! | [`feed`] | what the agent itself reports of its session |
//! | [`published`] | what the agent tells us on purpose |
//! | [`evidence`] | who spoke when, from the best signals there are |
//! | [`window`] | only what lies between start and end belongs to the call |
//! | [`turns`] | utterances and their answers |
//! | [`metrics`] | the numbers |
//! | [`stages`] | the stage timeline |
//! | [`outcome`] | agent configuration and outcomes, merged by authority |
//! | [`ending`] | when a call is over |
//! | [`status`] | status and reason (docs/contract.md §5) |
//! | [`subject`] | phone number and direction |
//! | [`profile`] | what a business's calls are about |
//! | [`snapshot`] | what a call leaves to the next in its room |
//! | [`details`] | what can be asked for beyond the record |
//! | [`explain`] | which moments made which number |
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
