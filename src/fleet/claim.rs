//! Which worker observes a room, settled without a shared store.
//!
//! Every observer of ours carries attributes that say whose it is. Nobody in the room sees a hidden
//! participant, but the server lists it: that list is where workers find each other. Of several
//! observers in one room the one who was there first stays, by the server's clock; whoever comes
//! back into a room it has watched before says since when, and so goes before those who came while
//! it was away. All read the same list, so all name the same one.
//!
//! Only kind AGENT counts, which nobody can be without the server's secret.

use std::collections::HashMap;

use call::Moment;
use livekit_protocol::{
    ParticipantInfo,
    participant_info::{Kind, State},
};

/// Whose observer it is: workers of another agent name are another installation.
const FLEET: &str = "call-history.fleet";
/// Which worker's.
const WORKER: &str = "call-history.worker";
/// Milliseconds since the epoch by the server's clock: since when it knows the room, where that is
/// before it joined.
const SINCE: &str = "call-history.since";
/// The ordinal of the call that it observes, where that is not the first in the room.
const CALL: &str = "call-history.call";
/// It is about to go: another may come.
pub(super) const LEAVING: &str = "call-history.leaving";

/// Who we are to other workers.
#[derive(Clone, Debug)]
pub(crate) struct Badge {
    fleet: String,
    worker: String,
}

impl Badge {
    /// `worker`: the same for as long as it has its data folder.
    pub(crate) fn new(agent_name: &str, worker: String) -> Self {
        Self { fleet: agent_name.to_owned(), worker }
    }

    /// Of this process.
    pub(crate) fn worker(&self) -> &str {
        &self.worker
    }

    /// What an observer of ours joins with. `since`: of the server's clock, if it was there before.
    pub(crate) fn attributes(
        &self,
        since: Option<Moment>,
        ordinal: u32,
    ) -> HashMap<String, String> {
        let mut all = HashMap::from([
            (FLEET.to_owned(), self.fleet.clone()),
            (WORKER.to_owned(), self.worker.clone()),
        ]);
        if let Some(since) = since {
            all.insert(SINCE.to_owned(), since.millis().to_string());
        }
        all.extend(call_attribute(ordinal));
        all
    }

    /// Reads the server's list of a room.
    pub(crate) fn read(&self, participants: &[ParticipantInfo]) -> Occupancy {
        let there = || participants.iter().filter(|p| p.state() != State::Disconnected);
        let mut claims: Vec<Claim> = there().filter_map(|p| self.claim(p)).collect();
        claims.sort_by(|a, b| (a.since, &a.identity).cmp(&(b.since, &b.identity)));
        let human_since = there().filter(|p| is_human(p)).map(joined_at).min();
        Occupancy { human_since, claims }
    }

    fn claim(&self, p: &ParticipantInfo) -> Option<Claim> {
        let ours = p.kind() == Kind::Agent && p.attributes.get(FLEET) == Some(&self.fleet);
        let joined_at = joined_at(p);
        let number = |key| p.attributes.get(key).and_then(|v| v.parse().ok());
        ours.then(|| Claim {
            identity: p.identity.clone(),
            worker: p.attributes.get(WORKER).cloned().unwrap_or_default(),
            since: number(SINCE).map_or(joined_at, |since: i64| since.min(joined_at)),
            active: p.state() == State::Active,
            ordinal: number(CALL).and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            leaving: p.attributes.contains_key(LEAVING),
        })
    }
}

pub(super) fn call_attribute(ordinal: u32) -> Option<(String, String)> {
    (ordinal > 0).then(|| (CALL.to_owned(), ordinal.to_string()))
}

fn joined_at(p: &ParticipantInfo) -> i64 {
    if p.joined_at_ms > 0 { p.joined_at_ms } else { p.joined_at.saturating_mul(1000) }
}

/// Somebody whom a record could be about (docs/contract.md §2.1).
fn is_human(p: &ParticipantInfo) -> bool {
    let unseen = p.permission.as_ref().is_some_and(|may| may.hidden);
    matches!(p.kind(), Kind::Standard | Kind::Sip | Kind::Connector) && !unseen
}

/// One observer in a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) identity: String,
    pub(crate) worker: String,
    /// Milliseconds, server's clock.
    pub(crate) since: i64,
    /// Its connection is up.
    pub(crate) active: bool,
    pub(crate) ordinal: u32,
    pub(crate) leaving: bool,
}

/// Who is in a room, as far as it concerns us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Occupancy {
    /// When the first of the humans came who are there: milliseconds, server's clock.
    pub(crate) human_since: Option<i64>,
    /// The first in the room comes first.
    pub(crate) claims: Vec<Claim>,
}

impl Occupancy {
    /// Somebody is there whom a record could be about.
    pub(crate) fn human(&self) -> bool {
        self.human_since.is_some()
    }

    /// The observer of another worker than `me` that stays; `None`: there is none. What is left of
    /// an earlier life of this worker observes nothing.
    pub(crate) fn holder(&self, me: &str) -> Option<&Claim> {
        self.claims.iter().find(|c| !c.leaving && c.worker != me)
    }

    /// Which call of the room it is, as far as anybody tells.
    pub(crate) fn ordinal(&self) -> u32 {
        self.claims.iter().map(|c| c.ordinal).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use livekit_protocol::ParticipantPermission;

    use super::*;

    fn badge() -> Badge {
        Badge::new("call-history", uuid::Uuid::new_v4().to_string())
    }

    fn observer(identity: &str, joined_at: i64, of: &Badge, since: Option<i64>) -> ParticipantInfo {
        ParticipantInfo {
            identity: identity.into(),
            kind: Kind::Agent as i32,
            state: State::Active as i32,
            joined_at_ms: joined_at,
            attributes: of.attributes(since.map(Moment::from_millis), 0),
            permission: Some(ParticipantPermission { hidden: true, ..Default::default() }),
            ..Default::default()
        }
    }

    fn person(kind: Kind) -> ParticipantInfo {
        ParticipantInfo { kind: kind as i32, state: State::Active as i32, ..Default::default() }
    }

    fn holder(all: &[ParticipantInfo]) -> Option<String> {
        badge().read(all).holder("nobody").map(|c| c.identity.clone())
    }

    #[test]
    fn the_first_in_the_room_stays_whoever_reads_the_list() {
        let (a, b) = (badge(), badge());
        let mut all = vec![
            observer("late", 2_000, &a, None),
            observer("b-early", 1_000, &b, None),
            observer("a-early", 1_000, &a, None),
            person(Kind::Sip),
        ];
        assert_eq!(holder(&all).as_deref(), Some("a-early"));
        all.reverse();
        assert_eq!(holder(&all).as_deref(), Some("a-early"));
    }

    #[test]
    fn who_comes_back_goes_before_those_who_came_meanwhile() {
        let back = observer("back", 9_000, &badge(), Some(1_000));
        let meanwhile = observer("meanwhile", 5_000, &badge(), None);
        assert_eq!(holder(&[meanwhile, back]).as_deref(), Some("back"));
        // Nobody was there after he joined.
        let boast = observer("boast", 1_000, &badge(), Some(99_000));
        assert_eq!(badge().read(&[boast]).claims[0].since, 1_000);
    }

    #[test]
    fn who_is_leaving_or_gone_or_of_another_installation_holds_nothing() {
        let mut leaving = observer("leaving", 1_000, &badge(), None);
        leaving.attributes.insert(LEAVING.into(), "true".into());
        let mut gone = observer("gone", 1_000, &badge(), None);
        gone.state = State::Disconnected as i32;
        let other = observer("other", 1_000, &Badge::new("staging", "w".into()), None);
        let mut forged = observer("forged", 1_000, &badge(), None);
        forged.kind = Kind::Standard as i32;
        assert_eq!(holder(&[leaving.clone(), gone, other, forged]), None);
        let next = observer("next", 2_000, &badge(), None);
        assert_eq!(holder(&[leaving, next]).as_deref(), Some("next"));
    }

    #[test]
    fn only_those_a_record_could_be_about_are_human() {
        for (kind, human) in [
            (Kind::Standard, true),
            (Kind::Sip, true),
            (Kind::Connector, true),
            (Kind::Agent, false),
            (Kind::Egress, false),
            (Kind::Ingress, false),
        ] {
            assert_eq!(badge().read(&[person(kind)]).human(), human, "{kind:?}");
        }
        let mut hidden = person(Kind::Standard);
        hidden.permission = Some(ParticipantPermission { hidden: true, ..Default::default() });
        assert!(!badge().read(&[hidden]).human());
    }

    #[test]
    fn the_ordinal_is_read_back_whatever_stands_there() {
        let mut p = observer("x", 1, &badge(), None);
        p.attributes.extend(badge().attributes(None, 3));
        assert_eq!(badge().read(&[p.clone()]).claims[0].ordinal, 3);
        p.attributes.insert(CALL.into(), "-1".into());
        p.attributes.insert(SINCE.into(), "yesterday".into());
        let read = badge().read(&[p]);
        assert_eq!((read.claims[0].ordinal, read.claims[0].since), (0, 1));
    }
}
