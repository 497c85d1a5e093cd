//! Who claims a room: reads the claims and orders them, without a shared store. What follows from the order is
//! decided in `worker/decide`.
//!
//! Every observer has attributes that name its worker. Participants do not see it, as it is hidden, but the
//! server lists it, and all workers read that list. If several observers are in one room, the first one
//! stays, by the server's clock. An observer that rejoins a room shows since when it has observed the room,
//! so it precedes observers that joined while it was away. All workers read the same list, so all decide
//! alike.
//!
//! Only participants of kind AGENT count: that kind needs the server's secret.

use std::collections::HashMap;

use call::{Moment, roles::Identities};
use livekit_protocol::{
    ParticipantInfo,
    participant_info::{Kind, State},
};

/// The fleet: the worker's agent name. Workers with another name belong to another installation.
const FLEET: &str = "call-history.fleet";
/// The id of the worker within the fleet.
const WORKER: &str = "call-history.worker";
/// Since when the observer has observed the room, if that is before its join: milliseconds since the
/// epoch, by the server's clock.
const SINCE: &str = "call-history.since";
/// The ordinal of the observed call, if it is not the first of the room.
const CALL: &str = "call-history.call";
/// The observer gives up its claim: another worker may take the room.
pub(super) const LEAVING: &str = "call-history.leaving";

/// What identifies this worker to other workers.
#[derive(Clone, Debug)]
pub(crate) struct Badge {
    fleet: String,
    worker: String,
    identities: Identities,
}

impl Badge {
    /// `worker`: an id that stays the same as long as the worker keeps its data folder.
    /// `identities`: the operator's word on who is no caller.
    pub(crate) fn new(agent_name: &str, worker: String, identities: Identities) -> Self {
        Self { fleet: agent_name.to_owned(), worker, identities }
    }

    /// Whether workers of that name are ours.
    pub(crate) fn is_fleet(&self, agent_name: &str) -> bool {
        self.fleet == agent_name
    }

    /// The name that is common to all our workers: that under which they are dispatched.
    pub(crate) fn fleet(&self) -> &str {
        &self.fleet
    }

    /// The id of this worker.
    pub(crate) fn worker(&self) -> &str {
        &self.worker
    }

    /// The attributes with which our observers join. `since`: by the server's clock, if the observer was in
    /// the room before.
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

    /// Reads claims and callers from the server's list of a room's participants.
    pub(crate) fn read(&self, participants: &[ParticipantInfo]) -> Occupancy {
        let there = || participants.iter().filter(|p| p.state() != State::Disconnected);
        let mut claims: Vec<Claim> = there().filter_map(|p| self.claim(p)).collect();
        claims.sort_by(|a, b| (a.since, &a.identity).cmp(&(b.since, &b.identity)));
        let human =
            |p: &&ParticipantInfo| is_human(p) && !self.identities.names_no_caller(&p.identity);
        let humans = there().filter(human).count();
        let human_since = there().filter(human).map(joined_at).min();
        let agent = there().any(is_agent);
        Occupancy { humans, human_since, agent, claims }
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

/// Whether the participant is the caller of a record by its token (docs/contract.md §2.1). One that may only
/// send data is a monitor until it types. The room has an observer then if it has an agent.
#[allow(deprecated)] // `agent` and `recorder`: tokens without a kind still have them
fn is_human(p: &ParticipantInfo) -> bool {
    let speaks_for_itself = p
        .permission
        .as_ref()
        .is_none_or(|may| !may.hidden && !may.recorder && !may.agent && may.can_publish);
    matches!(p.kind(), Kind::Standard | Kind::Sip | Kind::Connector) && speaks_for_itself
}

/// Whether the participant is an agent that others see. The core knows more (contract §2.1: the operator's
/// identities, who spoke); this is only for the choice of rooms, before anybody is in them.
#[allow(deprecated)]
fn is_agent(p: &ParticipantInfo) -> bool {
    let may = p.permission.as_ref();
    let hidden = may.is_some_and(|may| may.hidden);
    !hidden && (p.kind() == Kind::Agent || may.is_some_and(|may| may.agent && !may.recorder))
}

/// An observer's claim to a room, as its attributes show it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) identity: String,
    pub(crate) worker: String,
    /// The earliest claim holds the room: milliseconds, by the server's clock.
    pub(crate) since: i64,
    /// Its connection is up; a handover waits for that.
    pub(crate) active: bool,
    pub(crate) ordinal: u32,
    /// It gives up the room, so it holds nothing.
    pub(crate) leaving: bool,
}

/// What the worker needs to know about a room's participants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Occupancy {
    pub(crate) humans: usize,
    /// When the first of the present humans joined: milliseconds, by the server's clock.
    pub(crate) human_since: Option<i64>,
    /// An agent is in the room, and may be about to dial.
    pub(crate) agent: bool,
    /// Earliest claim first.
    pub(crate) claims: Vec<Claim>,
}

impl Occupancy {
    /// Whether a participant is in the room that may be the caller of a record.
    pub(crate) fn human(&self) -> bool {
        self.human_since.is_some()
    }

    /// Whether the room needs an observer: it has a caller, or an agent that waits for one. A dial that
    /// is refused at once lasts for milliseconds, so the observer has to be there before it.
    pub(crate) fn wants_observer(&self) -> bool {
        self.human() || self.agent
    }

    /// The claim of another worker than `me` that holds the room. Claims of `me` do not count: they may be
    /// left over from an earlier run, which observes nothing.
    pub(crate) fn holder(&self, me: &str) -> Option<&Claim> {
        self.claims.iter().find(|c| !c.leaving && c.worker != me)
    }

    /// Which call of the room it is, as far as the claims show.
    pub(crate) fn ordinal(&self) -> u32 {
        self.claims.iter().map(|c| c.ordinal).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use livekit_protocol::ParticipantPermission;

    use super::*;

    fn badge() -> Badge {
        Badge::new("call-history", uuid::Uuid::new_v4().to_string(), Identities::default())
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
    fn the_first_observer_holds_the_room_in_any_order_of_the_list() {
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
    fn an_observer_that_rejoins_precedes_those_that_joined_meanwhile() {
        let back = observer("back", 9_000, &badge(), Some(1_000));
        let meanwhile = observer("meanwhile", 5_000, &badge(), None);
        assert_eq!(holder(&[meanwhile, back]).as_deref(), Some("back"));
        // A `since` after the join does not count.
        let boast = observer("boast", 1_000, &badge(), Some(99_000));
        assert_eq!(badge().read(&[boast]).claims[0].since, 1_000);
    }

    #[test]
    fn observers_that_leave_are_gone_or_belong_to_another_installation_hold_nothing() {
        let mut leaving = observer("leaving", 1_000, &badge(), None);
        leaving.attributes.insert(LEAVING.into(), "true".into());
        let mut gone = observer("gone", 1_000, &badge(), None);
        gone.state = State::Disconnected as i32;
        let other = observer(
            "other",
            1_000,
            &Badge::new("staging", "w".into(), Identities::default()),
            None,
        );
        let mut forged = observer("forged", 1_000, &badge(), None);
        forged.kind = Kind::Standard as i32;
        assert_eq!(holder(&[leaving.clone(), gone, other, forged]), None);
        let next = observer("next", 2_000, &badge(), None);
        assert_eq!(holder(&[leaving, next]).as_deref(), Some("next"));
    }

    #[test]
    fn only_participants_that_can_be_callers_are_human() {
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
        let person_with = |may: ParticipantPermission| {
            badge().read(&[ParticipantInfo { permission: Some(may), ..person(Kind::Standard) }])
        };
        let speaks = ParticipantPermission { can_publish: true, ..Default::default() };
        assert!(person_with(speaks.clone()).human());
        let types = ParticipantPermission { can_publish_data: true, ..Default::default() };
        assert!(!person_with(types).human(), "a monitor, until it types");
        assert!(!person_with(ParticipantPermission::default()).human(), "a listener");
        #[allow(deprecated)]
        let bot = ParticipantPermission { agent: true, ..speaks };
        let with_bot = person_with(bot);
        assert!(!with_bot.human() && with_bot.agent && with_bot.wants_observer());
        let mut hidden = person(Kind::Standard);
        hidden.permission = Some(ParticipantPermission { hidden: true, ..Default::default() });
        assert!(!badge().read(&[hidden]).human());
    }

    #[test]
    fn who_is_named_as_no_caller_is_not_human() {
        let names = Identities {
            listeners: call::roles::Patterns::parse("supervisor-*").unwrap(),
            ..Identities::default()
        };
        let badge = Badge::new("call-history", "w".into(), names);
        let person =
            |identity: &str| ParticipantInfo { identity: identity.into(), ..Default::default() };
        assert!(!badge.read(&[person("supervisor-1")]).human());
        assert!(badge.read(&[person("alice")]).human());
    }

    #[test]
    fn an_ordinal_or_time_that_cannot_be_read_is_ignored() {
        let mut p = observer("x", 1, &badge(), None);
        p.attributes.extend(badge().attributes(None, 3));
        assert_eq!(badge().read(&[p.clone()]).claims[0].ordinal, 3);
        p.attributes.insert(CALL.into(), "-1".into());
        p.attributes.insert(SINCE.into(), "yesterday".into());
        let read = badge().read(&[p]);
        assert_eq!((read.claims[0].ordinal, read.claims[0].since), (0, 1));
    }
}
