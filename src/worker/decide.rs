//! Decides what to do about a room, from what the server reports about it. No clock, no network.

use std::time::Duration;

use super::room::OurClaim;
use crate::fleet::Occupancy;

/// Time between checks of a room whose caller may join at any moment.
pub(super) const SOON: Duration = Duration::from_secs(1);
/// Time between checks of a room that another worker observes, or that has long been empty. With many
/// rooms it is longer, see [`Observation::patience`].
pub(super) const PATIENT: Duration = Duration::from_secs(2);
/// After this time the server's list holds all that joined together with us. An observer that leaves
/// sooner stays in the list until the room ends, as LiveKit stores its join after its leave (measured on
/// 1.11).
const SETTLED_AFTER: Duration = Duration::from_secs(1);
/// Times between checks of our own rooms for other observers: the first soon, as a server may be slow,
/// then at longer intervals.
const OWN: [Duration; 2] = [Duration::from_millis(1_500), Duration::from_secs(15)];
/// A dispatch of ours reaches a worker within 0.3 s, and the worker is in the room 0.1 s later.
const DISPATCHED_WITHIN: Duration = Duration::from_millis(800);
/// In this time some of the joins under way are done.
const BUSY_FOR: Duration = Duration::from_millis(150);
/// For its first checks a room is young: an empty one is then checked more often.
const YOUNG_CHECKS: u32 = 10;

/// What is remembered of a room between checks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoomMemory {
    checks: u32,
    /// Checks since we joined the room.
    own_checks: u32,
    /// At the last check it wanted an observer and had none.
    uncovered: bool,
    /// We have already waited for the worker that our dispatch went to.
    waited: bool,
    /// Which call of the room it is, as the claims of its observers showed.
    pub(super) ordinal: u32,
}

/// What one check of a room showed, and the worker's own state.
#[derive(Clone, Debug)]
pub(super) struct Observation<'a> {
    pub(super) occupancy: &'a Occupancy,
    /// There is a dispatch of this worker's name to the room.
    pub(super) dispatched: bool,
    /// Our claim, if we observe the room.
    pub(super) ours: Option<&'a OurClaim>,
    /// The id of this worker.
    pub(super) me: &'a str,
    /// No call can be taken now.
    pub(super) full: bool,
    /// We are already joining as many rooms as we should at a time; another worker may take this one.
    pub(super) busy: bool,
    /// How long we leave the room to other workers first.
    pub(super) courtesy: Duration,
    /// Time between checks of rooms in which nothing is expected.
    pub(super) patience: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// Check it again after this time.
    Again(Duration),
    /// Another worker observes it: offers for it are refused. Check it again after this time.
    Elsewhere(Duration),
    /// It has a caller or a waiting agent, and no observer: observe it.
    Take,
    /// It wants an observer, but we have no place free.
    NoPlace,
    /// We observe it, but another worker was there first: leave it.
    Withdraw,
}

impl RoomMemory {
    pub(super) fn decide(&mut self, obs: &Observation) -> Decision {
        self.checks = self.checks.saturating_add(1);
        if let Some(ours) = obs.ours {
            return self.own(obs, ours);
        }
        self.own_checks = 0;
        self.ordinal = self.ordinal.max(obs.occupancy.ordinal());
        if obs.occupancy.holder(obs.me).is_some() {
            self.uncovered = false;
            return Decision::Elsewhere(obs.patience);
        }
        if !obs.occupancy.wants_observer() {
            self.uncovered = false;
            return Decision::Again(if self.checks <= YOUNG_CHECKS { SOON } else { obs.patience });
        }
        if obs.full {
            return Decision::NoPlace;
        }
        if obs.dispatched && !self.waited {
            self.waited = true;
            self.uncovered = true;
            return Decision::Again(DISPATCHED_WITHIN + obs.courtesy);
        }
        if obs.busy {
            self.uncovered = true;
            return Decision::Again(BUSY_FOR + obs.courtesy);
        }
        if !self.uncovered {
            self.uncovered = true;
            return Decision::Again(obs.courtesy);
        }
        self.uncovered = false;
        Decision::Take
    }

    fn own(&mut self, obs: &Observation, ours: &OurClaim) -> Decision {
        if let Some(wait) = SETTLED_AFTER.checked_sub(ours.joined).filter(|w| !w.is_zero()) {
            return Decision::Again(wait);
        }
        let mine = obs.occupancy.claims.iter().position(|c| c.identity == ours.identity);
        // Not listed yet, so the order of the claims is not known.
        let Some(mine) = mine else { return Decision::Again(SOON) };
        let before = &obs.occupancy.claims[..mine];
        if before.iter().any(|c| !c.leaving && c.worker != obs.me) {
            return Decision::Withdraw;
        }
        let next = OWN[usize::from(self.own_checks > 0)];
        self.own_checks = self.own_checks.saturating_add(1);
        Decision::Again(next)
    }

    /// We have just joined: check soon whether another worker has too.
    pub(super) fn joined(&mut self) {
        self.own_checks = 0;
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
        Occupancy {
            humans: usize::from(human),
            human_since: human.then_some(0),
            claims: claims.to_vec(),
            agent: false,
        }
    }

    /// Our claim, after some time in the room.
    fn us() -> OurClaim {
        OurClaim { identity: "call-history-me".into(), joined: Duration::from_secs(5) }
    }

    fn observation<'a>(occupancy: &'a Occupancy, ours: Option<&'a OurClaim>) -> Observation<'a> {
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
    fn a_room_without_an_observer_is_taken_after_other_workers_had_time() {
        let mut m = RoomMemory::default();
        let o = room(true, &[]);
        assert_eq!(m.decide(&observation(&o, None)), Decision::Again(COURTESY));
        assert_eq!(m.decide(&observation(&o, None)), Decision::Take);
        // Another worker took it meanwhile.
        let mut m = RoomMemory::default();
        assert_eq!(m.decide(&observation(&o, None)), Decision::Again(COURTESY));
        let held = room(true, &[claim("other", 1)]);
        assert_eq!(m.decide(&observation(&held, None)), Decision::Elsewhere(PATIENT));
        // That worker has left: we wait again.
        assert_eq!(m.decide(&observation(&o, None)), Decision::Again(COURTESY));
    }

    #[test]
    fn a_room_in_which_an_agent_waits_for_its_caller_is_joined_ahead() {
        let mut m = RoomMemory::default();
        let o = Occupancy { agent: true, ..room(false, &[]) };
        assert_eq!(m.decide(&observation(&o, None)), Decision::Again(COURTESY));
        assert_eq!(m.decide(&observation(&o, None)), Decision::Take);
    }

    #[test]
    fn a_dispatch_to_us_is_waited_for_once() {
        let mut m = RoomMemory::default();
        let o = room(true, &[]);
        let obs = Observation { dispatched: true, ..observation(&o, None) };
        assert_eq!(m.decide(&obs), Decision::Again(DISPATCHED_WITHIN + COURTESY));
        assert_eq!(m.decide(&obs), Decision::Take);
    }

    #[test]
    fn an_empty_room_is_checked_often_while_it_is_young() {
        let (mut m, o) = (RoomMemory::default(), room(false, &[]));
        for _ in 0..YOUNG_CHECKS {
            assert_eq!(m.decide(&observation(&o, None)), Decision::Again(SOON));
        }
        assert_eq!(m.decide(&observation(&o, None)), Decision::Again(PATIENT));
    }

    #[test]
    fn a_worker_that_is_busy_joining_leaves_rooms_to_others_for_a_while() {
        let (mut m, o) = (RoomMemory::default(), room(true, &[]));
        let busy = Observation { busy: true, ..observation(&o, None) };
        assert_eq!(m.decide(&busy), Decision::Again(BUSY_FOR + COURTESY));
        assert_eq!(m.decide(&busy), Decision::Again(BUSY_FOR + COURTESY));
        assert_eq!(m.decide(&observation(&o, None)), Decision::Take);
    }

    #[test]
    fn a_worker_without_a_free_place_reports_it() {
        let (mut m, o) = (RoomMemory::default(), room(true, &[]));
        let obs = Observation { full: true, ..observation(&o, None) };
        assert_eq!(m.decide(&obs), Decision::NoPlace);
        assert_eq!(m.decide(&obs), Decision::NoPlace);
    }

    #[test]
    fn the_later_of_two_observers_withdraws_and_the_earlier_stays() {
        let us = &us();
        let late = room(true, &[claim("other", 1), claim("me", 2)]);
        assert_eq!(RoomMemory::default().decide(&observation(&late, Some(us))), Decision::Withdraw);
        let early = room(true, &[claim("me", 1), claim("other", 2)]);
        let mut m = RoomMemory::default();
        assert_eq!(m.decide(&observation(&early, Some(us))), Decision::Again(OWN[0]));
        assert_eq!(m.decide(&observation(&early, Some(us))), Decision::Again(OWN[1]));
    }

    #[test]
    fn leaving_observers_and_our_own_leftovers_are_not_rivals() {
        let us = &us();
        let mut leaving = claim("other", 1);
        leaving.leaving = true;
        let mut before = claim("me", 2);
        before.identity = "call-history-before".into();
        let o = room(true, &[leaving, before, claim("me", 3)]);
        assert_eq!(
            RoomMemory::default().decide(&observation(&o, Some(us))),
            Decision::Again(OWN[0])
        );
        // A killed worker finds its old observer still listed, and the call without an observer.
        assert_eq!(RoomMemory::default().decide(&observation(&o, None)), Decision::Again(COURTESY));
    }

    #[test]
    fn a_room_that_we_have_just_joined_is_not_decided_yet() {
        let o = room(true, &[claim("other", 1)]);
        let unlisted = OurClaim { identity: "call-history-unlisted".into(), ..us() };
        assert_eq!(
            RoomMemory::default().decide(&observation(&o, Some(&unlisted))),
            Decision::Again(SOON)
        );
        // Listed, but we have just joined.
        let new = OurClaim { joined: Duration::from_millis(300), ..us() };
        let o = room(true, &[claim("other", 1), claim("me", 2)]);
        let wait = Duration::from_millis(700);
        assert_eq!(
            RoomMemory::default().decide(&observation(&o, Some(&new))),
            Decision::Again(wait)
        );
    }

    #[test]
    fn the_ordinal_of_the_last_observer_is_remembered() {
        let mut m = RoomMemory::default();
        let mut held = claim("other", 1);
        held.ordinal = 2;
        m.decide(&observation(&room(true, &[held]), None));
        m.decide(&observation(&room(true, &[]), None));
        assert_eq!(m.ordinal, 2);
    }
}
