//! Whether a call took notice of an event, and of what in it.

use super::event::{Event, Fact};

/// Whether a call took an event.
#[must_use]
#[derive(Debug)]
pub enum Taken {
    /// It changed nothing but the counts of problems.
    No,
    Whole,
    /// All that the call read of it.
    Part(Box<Fact>),
}

impl Taken {
    /// What is to be journaled of the event that was applied.
    pub fn of(self, event: Event) -> Option<Event> {
        match self {
            Self::No => None,
            Self::Whole => Some(event),
            Self::Part(fact) => Some(Event { at: event.at, fact: *fact }),
        }
    }
}

/// False if it was so before.
pub(super) fn replace<T: PartialEq>(old: &mut T, new: T) -> bool {
    let changed = *old != new;
    *old = new;
    changed
}

/// Takes `new` where nothing is known yet. False if that changes nothing.
pub(super) fn fill<T>(known: &mut Option<T>, new: Option<T>) -> bool {
    let changed = known.is_none() && new.is_some();
    if changed {
        *known = new;
    }
    changed
}
