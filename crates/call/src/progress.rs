//! What is known of a call while it is on: for live events.

use record::CallType;

use super::{Moment, party::Party, state::Call, subject};

/// How far a call is. Cheap: it is read after each event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// A caller was connected at some time.
    pub answered: bool,
    /// How many stages were entered.
    pub stages: usize,
}

/// The caller, as far as it is known now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub phone_number: String,
    pub call_type: CallType,
    pub joined_at: Moment,
    pub connected_at: Option<Moment>,
}

impl Call {
    pub fn progress(&self) -> Progress {
        let answered = self.parties.callers().any(Party::connected);
        Progress { answered, stages: self.stages.count() }
    }

    /// `None` before a caller has come.
    pub fn current_caller(&self) -> Option<Caller> {
        let caller = self.parties.caller()?;
        let metadata = self.metadata(caller);
        Some(Caller {
            phone_number: subject::phone_number(caller, &metadata, &self.room().name),
            call_type: subject::call_type(caller, &metadata),
            joined_at: caller.joined_at,
            connected_at: caller.connected_at(),
        })
    }

    /// A stage by its place in the order of entering, and when it was entered.
    pub fn stage(&self, place: usize) -> Option<(&str, Moment)> {
        self.stages.nth(place)
    }
}
