//! The call core: events in, one [`CallHistory`] out.
//!
//! Sans-IO: no socket, no task, no clock and no LiveKit type lives here; time is a parameter.
//! The same events give the same record, on any machine, at any time, so a journal can be
//! replayed and a test needs no room.
//!
//! | file | its one idea |
//! |---|---|
//! | [`event`] | what can be observed, and when |
//! | [`state`] | a call as it goes: takes events, knows when it is over |
//! | [`taken`] | what of an event a journal has to hold |
//! | [`record`] | from all that was seen to the record |
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
//! | [`status`] | how it ended, in the contract's words |
//! | [`subject`] | phone number and direction |
//! | [`profile`] | what a business's calls are about |
//! | [`carried`] | what a call leaves to the next in its room |
//! | [`history`] | the payload's types |
//! | [`details`] | what can be asked for beyond them |
//! | [`explain`] | which moments made which number |
//! | [`words`] | how words are counted |

pub(crate) mod carried;
pub(crate) mod details;
pub(crate) mod ending;
pub(crate) mod event;
pub(crate) mod evidence;
pub(crate) mod explain;
pub(crate) mod feed;
pub(crate) mod history;
pub(crate) mod metrics;
pub(crate) mod outcome;
pub(crate) mod parties;
pub(crate) mod profile;
pub(crate) mod published;
pub(crate) mod record;
pub(crate) mod speech;
pub(crate) mod stages;
pub(crate) mod state;
pub(crate) mod status;
pub(crate) mod subject;
pub(crate) mod taken;
pub(crate) mod turns;
pub(crate) mod window;
pub(crate) mod words;

#[cfg(test)]
mod tests;

pub(crate) use event::{Event, Fact, Moment};
pub(crate) use history::CallHistory;
pub(crate) use state::{Call, Phase, RoomFacts, Settings};
