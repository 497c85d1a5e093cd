//! How much of an event a call used: nothing, a part, or all of it.

use super::event::{Event, Fact};

/// How much of an event a call used; the journal needs no more of it.
#[must_use]
#[derive(Debug)]
pub enum Taken {
    /// The event changed nothing but the counts of problems.
    No,
    Whole,
    /// The part of the event that the call read.
    Part(Box<Fact>),
}

impl Taken {
    /// What the journal has to hold of the `event` that was applied.
    pub fn of(self, event: Event) -> Option<Event> {
        match self {
            Self::No => None,
            Self::Whole => Some(event),
            Self::Part(fact) => Some(Event { at: event.at, fact: *fact }),
        }
    }
}

/// Sets a value. False if the value was the same before.
pub(super) fn replace<T: PartialEq>(old: &mut T, new: T) -> bool {
    let changed = *old != new;
    *old = new;
    changed
}

/// Sets a value that is not known yet. False if that changes nothing.
pub(super) fn fill<T>(known: &mut Option<T>, new: Option<T>) -> bool {
    let changed = known.is_none() && new.is_some();
    if changed {
        *known = new;
    }
    changed
}
