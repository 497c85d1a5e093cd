//! All that touches the data folder, as plain files: what must outlive the process.
//!
//! In: events of calls that are on, finished records. Out: the same after a crash. A failure of the
//! disk never reaches a call: it is told to [`Health`], and what could not be written is tried again or
//! kept by who has it.
//!
//! | file | its one idea |
//! |---|---|
//! | [`disk`] | the few operations on the disk, each of which may fail |
//! | [`journal`] | the events of a call that is on; replay, recovery |
//! | [`outbox`] | finished records, until they are taken |
//! | [`ordinals`] | which call of a room comes next |
//! | [`backlog`] | how many records wait, and a warning before they are too many |
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
pub use disk::{Disk, DiskHealth, DiskWork, Lock, RealDisk};
pub use health::Health;
pub use journal::{CallJournal, Journals};
pub use ordinals::Ordinals;
pub use outbox::Outbox;
