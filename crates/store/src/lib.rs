//! Everything that touches the data folder: plain files for what must outlive the process.
//!
//! In: events of running calls, finished records. Out: the same after a crash. A failure of the disk
//! never reaches a call: it is reported to [`Health`], and what could not be written is tried again or
//! stays in memory with its owner.
//!
//! | file | its one idea |
//! |---|---|
//! | [`disk`] | the few operations on the disk, each of which may fail |
//! | [`journal`] | the events of a running call; replay, recovery |
//! | [`outbox`] | finished records, until the endpoint takes them |
//! | [`ordinals`] | which call of a room comes next |
//! | [`backlog`] | how many records wait, with a warning before they are too many |
//! | [`health`] | what is wrong, for log and health page |

pub mod backlog;
pub mod disk;
pub mod health;
pub mod journal;
pub mod ordinals;
pub mod outbox;

#[cfg(test)]
mod outbox_tests;

pub use backlog::{BacklogGauge, BacklogLimit};
pub use disk::{Disk, DiskHealth, DiskWork, Lock, LockError, RealDisk};
pub use health::Health;
pub use journal::{CallJournal, Journals};
pub use ordinals::Ordinals;
pub use outbox::Outbox;
