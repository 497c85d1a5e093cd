//! From a finished record to the operator's endpoint: sealed on disk first, then signed, posted
//! and tried again until it is taken.
//!
//! In: a [`crate::call::CallHistory`]. Out: a POST, and files under the data folder. A failure here, of the
//! endpoint, of the disk or of one record, never reaches a call.
//!
//! | file | its one idea |
//! |---|---|
//! | [`outbox`] | the records on disk |
//! | [`queue`] | which is tried next, and when |
//! | [`retry`] | what an answer means, and how long to wait |
//! | [`unsealed`] | records that are only in memory yet |
//! | [`ordinals`] | which call of a room comes next |
//! | [`sender`] | which attempts run, and what follows from them |
//! | [`attempt`] | one attempt: read, sign, post, file |
//! | [`token`] | the signature of a request |
//! | [`backlog`] | how much waits |
//! | [`operator`] | the commands on the outbox |

mod attempt;
mod backlog;
pub(crate) mod operator;
mod ordinals;
mod outbox;
mod queue;
mod retry;
mod sender;
mod token;
mod unsealed;

#[cfg(test)]
mod tests;

pub(crate) use attempt::Target;
pub(crate) use backlog::{Cap, Level};
pub(crate) use ordinals::Ordinals;
pub(crate) use outbox::Outbox;
pub(crate) use sender::{Delivery, Finished, Store, start};
