//! From a journal to the record that it gives.

use call::{Call, Event, Fact, Moment, event::LeaveReason};

use super::Journal;

/// The call after all events of its journal.
pub(super) fn replay(journal: &Journal) -> Call {
    let h = &journal.header;
    let mut call = Call::new(h.room.clone(), h.settings.clone());
    call.set_ordinal(h.ordinal);
    for event in &journal.events {
        let _ = call.apply(event);
    }
    call
}

/// Replays a journal to the end of its call. If the journal stops before that end, the call ends with
/// the last event. Returns the call, and whether its end was in the journal.
pub fn replay_to_end(journal: &Journal) -> (Call, bool) {
    let mut call = replay(journal);
    let whole = call.record().is_some() || !call.has_caller();
    if !whole {
        let at = journal.events.iter().map(|e| e.at).max().unwrap_or(Moment::from_millis(0));
        let _ = call.apply(&Event { at, fact: Fact::Recovered });
        let reason = LeaveReason::UnknownReason;
        let _ = call.apply(&Event { at, fact: Fact::RoomEnded { reason } });
    }
    (call, whole)
}
