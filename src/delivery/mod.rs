//! From a finished record to the operator's endpoint: sealed on disk first, then signed, posted
//! and tried again until it is taken.
//!
//! In: a [`crate::call::CallHistory`]. Out: a POST, and files under the data folder. A failure here, of the
//! endpoint, of the disk or of one record, never reaches a call.

mod outbox;
mod retry;
mod sender;
mod token;

pub(crate) use outbox::Outbox;
pub(crate) use sender::{Delivery, start};
