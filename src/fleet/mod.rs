//! Which worker of a fleet observes a room. Workers share nothing but what LiveKit's list of a room's
//! participants shows.
//!
//! | file | its one idea |
//! |---|---|
//! | [`claim`] | who observes a room, read from the server's list |
//! | [`handover`] | leaving a room to another worker |
//!
//! Which call of a room comes next is remembered in [`store::ordinals`], and shown to others in the claim.

mod claim;
pub(crate) mod handover;

#[cfg(test)]
pub(crate) use claim::Claim;
pub(crate) use claim::{Badge, Occupancy};
