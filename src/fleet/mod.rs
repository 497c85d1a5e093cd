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
