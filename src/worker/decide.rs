//! What to do about a room, from what the server tells of it. No clock, no network.

use std::time::Duration;

use super::room::OurClaim;
use crate::fleet::Occupancy;

/// Between looks at a room whose caller may come at any moment.
pub(super) const SOON: Duration = Duration::from_secs(1);
/// Between looks at a room that another worker observes, or that waits for long. More rooms are
/// looked at less often, see [`Observation::patience`].
pub(super) const PATIENT: Duration = Duration::from_secs(2);
/// So long after our join all who joined with us are listed; and who leaves sooner stays in the list
/// of a real server for as long as the room lives, as its join is written down after its leave
/// (measured on 1.11).
const SETTLED_AFTER: Duration = Duration::from_secs(1);
/// Looks for others in our own rooms from then on: one more soon, as servers are slow at times.
const OWN: [Duration; 2] = [Duration::from_millis(1_500), Duration::from_secs(15)];
/// A dispatch of ours reaches a worker within 0.3 s, and the worker is in the room 0.1 s later.
const DISPATCHED_WITHIN: Duration = Duration::from_millis(800);
/// Until some of the rooms that we are joining are joined.
const BUSY_FOR: Duration = Duration::from_millis(150);
/// A room is young for so many looks.
const YOUNG_LOOKS: u32 = 10;

/// What is remembered of a room between looks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoomMemory {
    looks: u32,
    own_looks: u32,
    /// It had a human and no observer when last looked at.
    uncovered: bool,
    /// A dispatch of ours was waited for.
    waited: bool,
    /// Which call of the room it is, as its last observer told.
    pub(super) ordinal: u32,
}

/// What one look brought, and how we stand to it.
#[derive(Clone, Debug)]
pub(super) struct Observation<'a> {
    pub(super) occupancy: &'a Occupancy,
    /// Somebody dispatched us to it by name.
    pub(super) dispatched: bool,
    /// Our place in it, if we observe it.
    pub(super) ours: Option<&'a OurClaim>,
    /// This worker.
    pub(super) me: &'a str,
    /// No call can be taken now.
    pub(super) full: bool,
    /// We are joining as many rooms as we should at a time: meanwhile another worker may take this one.
    pub(super) busy: bool,
    /// How long we let other workers go first.
    pub(super) courtesy: Duration,
    /// Between looks at rooms that nothing is expected of.
    pub(super) patience: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    Again(Duration),
    /// Another worker's: to be told to those who offer it to us.
    Elsewhere(Duration),
    /// It has a caller and nobody who observes.
    Take,
    /// It needs us, and we can take nobody.
    NoPlace,
    /// Another worker was there before us.
    Withdraw,
}

impl RoomMemory {
    pub(super) fn decide(&mut self, l: &Observation) -> Next {
        self.looks = self.looks.saturating_add(1);
        if let Some(ours) = l.ours {
            return self.own(l, ours);
        }
        self.own_looks = 0;
        self.ordinal = self.ordinal.max(l.occupancy.ordinal());
        if l.occupancy.holder(l.me).is_some() {
            self.uncovered = false;
            return Next::Elsewhere(l.patience);
        }
        if !l.occupancy.human() {
            self.uncovered = false;
            return Next::Again(if self.looks <= YOUNG_LOOKS { SOON } else { l.patience });
        }
        if l.full {
            return Next::NoPlace;
        }
        if l.dispatched && !self.waited {
            self.waited = true;
            self.uncovered = true;
            return Next::Again(DISPATCHED_WITHIN + l.courtesy);
        }
        if l.busy {
            self.uncovered = true;
            return Next::Again(BUSY_FOR + l.courtesy);
        }
        if !self.uncovered {
            self.uncovered = true;
            return Next::Again(l.courtesy);
        }
        self.uncovered = false;
        Next::Take
    }

    fn own(&mut self, l: &Observation, ours: &OurClaim) -> Next {
        if let Some(wait) = SETTLED_AFTER.checked_sub(ours.joined).filter(|w| !w.is_zero()) {
            return Next::Again(wait);
        }
        let mine = l.occupancy.claims.iter().position(|c| c.identity == ours.identity);
        // Not listed yet: nothing can be said.
        let Some(mine) = mine else { return Next::Again(SOON) };
        let before = &l.occupancy.claims[..mine];
        if before.iter().any(|c| !c.leaving && c.worker != l.me) {
            return Next::Withdraw;
        }
        let next = OWN[usize::from(self.own_looks > 0)];
        self.own_looks = self.own_looks.saturating_add(1);
        Next::Again(next)
    }

    /// We have just joined it: who else did, is to be seen soon.
    pub(super) fn joined(&mut self) {
        self.own_looks = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fleet::Claim;

    const COURTESY: Duration = Duration::from_millis(70);

    fn claim(worker: &str, since: i64) -> Claim {
        Claim {
            identity: format!("call-history-{worker}"),
            worker: worker.into(),
            since,
            active: true,
            ordinal: 0,
            leaving: false,
        }
    }

    fn room(human: bool, claims: &[Claim]) -> Occupancy {
        Occupancy { human_since: human.then_some(0), claims: claims.to_vec() }
    }

    /// In the room for a while.
    fn us() -> OurClaim {
        OurClaim { identity: "call-history-me".into(), joined: Duration::from_secs(5) }
    }

    fn looked<'a>(occupancy: &'a Occupancy, ours: Option<&'a OurClaim>) -> Observation<'a> {
        Observation {
            occupancy,
            dispatched: false,
            ours,
            me: "me",
            full: false,
            busy: false,
            courtesy: COURTESY,
            patience: PATIENT,
        }
    }

    #[test]
    fn a_caller_without_an_observer_gets_one_after_others_could_have_come() {
        let mut m = RoomMemory::default();
        let o = room(true, &[]);
        assert_eq!(m.decide(&looked(&o, None)), Next::Again(COURTESY));
        assert_eq!(m.decide(&looked(&o, None)), Next::Take);
        // Somebody did come.
        let mut m = RoomMemory::default();
        assert_eq!(m.decide(&looked(&o, None)), Next::Again(COURTESY));
        let held = room(true, &[claim("other", 1)]);
        assert_eq!(m.decide(&looked(&held, None)), Next::Elsewhere(PATIENT));
        // And went: it begins anew.
        assert_eq!(m.decide(&looked(&o, None)), Next::Again(COURTESY));
    }

    #[test]
    fn a_dispatch_of_ours_is_waited_for_once() {
        let mut m = RoomMemory::default();
        let o = room(true, &[]);
        let l = Observation { dispatched: true, ..looked(&o, None) };
        assert_eq!(m.decide(&l), Next::Again(DISPATCHED_WITHIN + COURTESY));
        assert_eq!(m.decide(&l), Next::Take);
    }

    #[test]
    fn an_empty_room_is_looked_at_often_while_it_is_young() {
        let (mut m, o) = (RoomMemory::default(), room(false, &[]));
        for _ in 0..YOUNG_LOOKS {
            assert_eq!(m.decide(&looked(&o, None)), Next::Again(SOON));
        }
        assert_eq!(m.decide(&looked(&o, None)), Next::Again(PATIENT));
    }

    #[test]
    fn who_is_busy_joining_leaves_rooms_to_others_for_a_while() {
        let (mut m, o) = (RoomMemory::default(), room(true, &[]));
        let busy = Observation { busy: true, ..looked(&o, None) };
        assert_eq!(m.decide(&busy), Next::Again(BUSY_FOR + COURTESY));
        assert_eq!(m.decide(&busy), Next::Again(BUSY_FOR + COURTESY));
        assert_eq!(m.decide(&looked(&o, None)), Next::Take);
    }

    #[test]
    fn who_has_no_place_says_so() {
        let (mut m, o) = (RoomMemory::default(), room(true, &[]));
        let l = Observation { full: true, ..looked(&o, None) };
        assert_eq!(m.decide(&l), Next::NoPlace);
        assert_eq!(m.decide(&l), Next::NoPlace);
    }

    #[test]
    fn the_later_of_two_observers_withdraws_and_the_earlier_stays() {
        let us = &us();
        let late = room(true, &[claim("other", 1), claim("me", 2)]);
        assert_eq!(RoomMemory::default().decide(&looked(&late, Some(us))), Next::Withdraw);
        let early = room(true, &[claim("me", 1), claim("other", 2)]);
        let mut m = RoomMemory::default();
        assert_eq!(m.decide(&looked(&early, Some(us))), Next::Again(OWN[0]));
        assert_eq!(m.decide(&looked(&early, Some(us))), Next::Again(OWN[1]));
    }

    #[test]
    fn who_is_leaving_and_what_is_left_of_ourselves_is_no_rival() {
        let us = &us();
        let mut leaving = claim("other", 1);
        leaving.leaving = true;
        let mut before = claim("me", 2);
        before.identity = "call-history-before".into();
        let o = room(true, &[leaving, before, claim("me", 3)]);
        assert_eq!(RoomMemory::default().decide(&looked(&o, Some(us))), Next::Again(OWN[0]));
        // A worker that was killed finds itself still listed, and its call unobserved.
        assert_eq!(RoomMemory::default().decide(&looked(&o, None)), Next::Again(COURTESY));
    }

    #[test]
    fn nothing_is_said_of_a_room_that_we_have_only_just_joined() {
        let o = room(true, &[claim("other", 1)]);
        let unlisted = OurClaim { identity: "call-history-unlisted".into(), ..us() };
        assert_eq!(RoomMemory::default().decide(&looked(&o, Some(&unlisted))), Next::Again(SOON));
        // Nor while we have only just come.
        let new = OurClaim { joined: Duration::from_millis(300), ..us() };
        let o = room(true, &[claim("other", 1), claim("me", 2)]);
        let wait = Duration::from_millis(700);
        assert_eq!(RoomMemory::default().decide(&looked(&o, Some(&new))), Next::Again(wait));
    }

    #[test]
    fn the_last_observers_count_of_calls_is_remembered() {
        let mut m = RoomMemory::default();
        let mut held = claim("other", 1);
        held.ordinal = 2;
        m.decide(&looked(&room(true, &[held]), None));
        m.decide(&looked(&room(true, &[]), None));
        assert_eq!(m.ordinal, 2);
    }
}
