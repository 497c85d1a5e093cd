//! What the parts of the worker say to each other about a room.

use std::time::Duration;

use record::Discovery;

/// What the reconciler is asked for.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// To list all rooms now.
    AllRooms,
    /// To look at a room that a webhook told of.
    Room { name: String, sid: String },
    /// To look at a room that we have joined.
    Ours { name: String, sid: String },
}

/// Why a room is not to be observed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It is observed, by us or by another worker.
    Observed,
    /// We do not come back to it.
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

/// Our place in a room that we observe.
#[derive(Clone, Debug, Default)]
pub(super) struct OurClaim {
    /// Empty while the assignment is on its way.
    pub(super) identity: String,
    /// For how long we are in it.
    pub(super) joined: Duration,
}

/// A room without an observer.
#[derive(Clone, Debug)]
pub(super) struct RoomToObserve {
    pub(super) name: String,
    pub(super) sid: String,
    /// Of the dispatch that nobody answered, if there is one.
    pub(super) metadata: String,
    pub(super) by: Discovery,
    /// Which call of the room it is, as far as other workers have told.
    pub(super) ordinal: u32,
}
