//! Which phone legs were seen, by an observer or by a webhook. The latest ones only.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use call::{
    Fact,
    event::{Joined, Kind},
};
use parking_lot::Mutex;

/// Legs that are remembered.
const MAX_LEGS: usize = 4_096;

/// Sids of participants, the latest ones.
#[derive(Debug, Default)]
struct Latest {
    set: HashSet<String>,
    order: VecDeque<String>,
}

impl Latest {
    /// False if the sid is there already.
    fn add(&mut self, sid: &str) -> bool {
        if !self.set.insert(sid.to_owned()) {
            return false;
        }
        self.order.push_back(sid.to_owned());
        if self.order.len() > MAX_LEGS {
            self.order.pop_front().map(|oldest| self.set.remove(&oldest));
        }
        true
    }
}

/// Which phone legs were seen. Cheap to clone; all clones share one memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Legs(Arc<Mutex<(Latest, Latest)>>);

impl Legs {
    /// An observer of this worker has seen the participant.
    pub(super) fn note(&self, fact: &Fact) {
        if let Fact::Joined(Joined { sid, kind: Kind::Sip, .. }) = fact {
            self.0.lock().0.add(sid);
        }
    }

    /// The same for an observer of an earlier run.
    pub(super) fn note_seen(&self, sids: impl Iterator<Item = String>) {
        let seen = &mut self.0.lock().0;
        sids.for_each(|sid| _ = seen.add(&sid));
    }

    pub(super) fn was_seen(&self, sid: &str) -> bool {
        self.0.lock().0.set.contains(sid)
    }

    /// False if a webhook named the leg before.
    pub(super) fn is_new(&self, sid: &str) -> bool {
        self.0.lock().1.add(sid)
    }

    /// How many clones there are, this one included: each leg that is looked at holds one.
    pub(super) fn clones(&self) -> usize {
        Arc::strong_count(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_legs_are_remembered() {
        let mut latest = Latest::default();
        for n in 0..2 * MAX_LEGS {
            assert!(latest.add(&n.to_string()));
        }
        assert!(!latest.add(&(2 * MAX_LEGS - 1).to_string()));
        assert!(latest.add("0"), "forgotten");
        assert_eq!((latest.set.len(), latest.order.len()), (MAX_LEGS, MAX_LEGS));
    }
}
