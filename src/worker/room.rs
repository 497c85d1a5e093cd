//! Types about a room that the files of the worker share.

use std::time::Duration;

use record::Discovery;

use crate::observer::missed::MissedLeg;

/// A request to the reconciler.
#[derive(Clone, Debug)]
pub(crate) enum ReconcileRequest {
    /// List all rooms now.
    AllRooms,
    /// Check a room that a webhook named.
    Room { name: String, sid: String },
    /// A phone leg has left that no observer may have seen.
    LegLeft(Box<MissedLeg>),
    /// Check a room that we have just joined: another worker may have joined it too.
    Ours { name: String, sid: String },
}

/// Why a room is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is already observed, by us or by another worker.
    Observed,
    /// We must not join it again: we were removed from it, or its call is already reported.
    Barred,
    Draining,
    Full,
}

impl Refusal {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Observed => "observed already",
            Self::Barred => "not to be joined again",
            Self::Draining => "draining",
            Self::Full => "full",
        }
    }
}

/// Our claim to a room that we observe.
#[derive(Clone, Debug, Default)]
pub(super) struct OurClaim {
    /// Our identity in the room; empty while the assignment has not come.
    pub(super) identity: String,
    /// How long we have been in the room.
    pub(super) joined: Duration,
}

/// A room that needs an observer.
#[derive(Clone, Debug)]
pub(super) struct RoomToObserve {
    pub(super) name: String,
    pub(super) sid: String,
    /// Metadata of the dispatch to us that nobody has served, if there is one. It may hold an opt-out.
    pub(super) metadata: String,
    pub(super) by: Discovery,
    /// Which call of the room it is, as far as other workers have shown it in their claims.
    pub(super) ordinal: u32,
}
