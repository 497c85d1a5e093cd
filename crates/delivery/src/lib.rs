//! From a finished record to the operator's endpoint: sealed on disk first, then signed, posted
//! and retried until the endpoint takes it.
//!
//! In: a [`record::CallHistory`]. Out: a POST, and files in the [`store::outbox`]. A failure here, of
//! the endpoint, of the disk or of one record, never reaches a call.
//!
//! | file | its one idea |
//! |---|---|
//! | [`sender`] | which attempts run, and what follows from them |
//! | [`attempt`] | one attempt: read, sign, post, file |
//! | [`body`] | a smaller body for an endpoint that takes no larger one |
//! | [`queue`] | which record is tried next, and when |
//! | [`retry`] | what an answer means, and how long to wait |
//! | [`unsealed`] | records that are not on disk yet |
//! | [`events`] | live events of calls, apart from all of this |

mod attempt;
mod body;
pub mod events;
mod queue;
mod retry;
mod sender;
mod unsealed;

#[cfg(test)]
mod tests;

pub use attempt::{Attempted, Explain, Follow, Now, Target};
pub use sender::{Delivery, Finished, Leftovers, Store, start};
