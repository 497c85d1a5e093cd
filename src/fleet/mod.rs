//! Which worker of a fleet observes a room. Workers exchange information only through LiveKit's list of a
//! room's participants.
//!
//! | file | its one idea |
//! |---|---|
//! | [`claim`] | who observes a room, read from the server's list |
//! | [`handover`] | hands a room over to another worker |
//! | [`name`] | whether another program uses our agent name |
//!
//! The ordinal of a room's next call is kept in [`store::ordinals`] and shown to other workers in the claim.

mod claim;
pub(crate) mod handover;
pub(crate) mod name;

#[cfg(test)]
pub(crate) use claim::Claim;
pub(crate) use claim::{Badge, Occupancy};

/// Prefix of every observer's identity.
const IDENTITY: &str = "call-history-";

/// The observer's identity for a job.
pub(crate) fn identity(job_id: &str) -> String {
    format!("{IDENTITY}{job_id}")
}

/// Whether this is the identity of an observer, of any worker.
pub(crate) fn is_identity(identity: &str) -> bool {
    identity.starts_with(IDENTITY)
}
