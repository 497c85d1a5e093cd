//! The participants of a room and their roles (docs/contract.md §2.1).
//!
//! A role is decided when it is asked for, not when the participant joins: words and feed messages
//! can come before the join of their participant, and permissions can change.

use std::collections::BTreeMap;

use record::people::ParticipantRole;

use super::{
    event::{Fact, Joined, LeaveReason, Moment, Permissions},
    party::Party,
    roles::{Identities, ON_BEHALF, Side},
    snapshot::PartySnapshot,
    taken::replace,
};

/// Participants kept per call; a call has a handful, so more is an attack or a mistake.
const MAX_PARTIES: usize = 128;
/// Earlier dials of colleagues that were dialled again.
const MAX_REDIALLED: usize = 64;

#[derive(Clone, Debug, Default)]
pub(crate) struct Parties {
    names: Identities,
    by_identity: BTreeMap<String, Party>,
    /// Order of first appearance.
    order: Vec<String>,
    /// Third parties that were dialled again, as they were before.
    redialled: Vec<Party>,
}

impl Parties {
    pub(crate) fn new(names: Identities) -> Self {
        Self { names, ..Self::default() }
    }

    pub(crate) fn names(&self) -> &Identities {
        &self.names
    }

    /// Returns the attributes that are new, or `None` if nothing is new. `server_behind_ms` is
    /// added to the server's times.
    pub(crate) fn joined(
        &mut self,
        j: &Joined,
        server_behind_ms: i64,
        at: Moment,
    ) -> Option<BTreeMap<String, String>> {
        // Some servers do not send the time of the join.
        let known = j.joined_at != Moment::default();
        let joined_at = if known { j.joined_at.plus(server_behind_ms) } else { at };
        let redials = |p: &Party| p.third && p.is_other_call(&j.attributes);
        if let Some(p) = self.by_identity.get_mut(&j.identity) {
            if redials(p) && self.redialled.len() < MAX_REDIALLED {
                let mut before = std::mem::replace(p, Party::new(j, &self.names, joined_at, at));
                before.leaves(LeaveReason::UnknownReason, &BTreeMap::new(), None, at);
                self.redialled.push(before);
                self.settle();
                return Some(j.attributes.clone());
            }
            let changed = p.again(j, at);
            if changed.is_some() {
                self.settle();
            }
            return changed;
        }
        let p = Party::new(j, &self.names, joined_at, at);
        if self.order.len() >= MAX_PARTIES && !self.makes_room_for(&p) {
            return None;
        }
        self.order.push(j.identity.clone());
        self.by_identity.insert(j.identity.clone(), p);
        self.settle();
        Some(j.attributes.clone())
    }

    /// Forgets a participant that takes no part in the conversation, first one that has left. False if
    /// there is none.
    fn makes_room_for(&mut self, new: &Party) -> bool {
        let part =
            |p: &Party| !matches!(self.role(p), ParticipantRole::Listener | ParticipantRole::None);
        let outside = |p: &&Party| !part(p);
        let gone = self.iter().filter(outside).find(|p| !p.present());
        let any = || self.iter().find(outside).filter(|_| part(new));
        let Some(identity) = gone.or_else(any).map(|p| p.identity.clone()) else {
            return false;
        };
        self.by_identity.remove(&identity);
        self.order.retain(|i| *i != identity);
        true
    }

    /// Decides anew which phone legs are third parties. Who joined first may be known only later,
    /// because the server announces those present in no order.
    fn settle(&mut self) {
        let mut legs: Vec<(Moment, &String)> = (self.by_identity.values())
            .filter(|p| p.is_sip())
            .map(|p| (p.joined_at, &p.identity))
            .collect();
        legs.sort();
        let legs: Vec<String> = legs.into_iter().map(|(_, identity)| identity.clone()).collect();
        let others = self.callers().filter(|p| !p.is_sip());
        let mut before: Vec<String> = others.map(|p| p.identity.clone()).collect();
        // Legs that joined later are not decided yet, and were not connected yet.
        for identity in legs {
            let of = |identity: &String| self.by_identity.get(identity);
            let settled = of(&identity).map(|p| p.settled(before.iter().filter_map(of)));
            if let Some((p, settled)) = self.by_identity.get_mut(&identity).zip(settled) {
                p.settle(settled);
            }
            if self.get(&identity).is_some_and(|p| self.role(p) == ParticipantRole::Caller) {
                before.push(identity);
            }
        }
    }

    /// False if nothing changed.
    pub(crate) fn left(
        &mut self,
        identity: &str,
        reason: LeaveReason,
        attributes: &BTreeMap<String, String>,
        since: Option<Moment>,
        at: Moment,
    ) -> bool {
        let Some(p) = self.by_identity.get_mut(identity) else { return false };
        let taken = p.leaves(reason, attributes, since, at);
        if taken {
            self.settle();
        }
        taken
    }

    /// Ends the speech of all participants, because we do not see the room from here on.
    pub(crate) fn all_silent(&mut self, at: Moment) {
        self.by_identity.values_mut().for_each(|p| p.silent(at));
    }

    /// False if it changes nothing. The same holds for the functions below.
    pub(crate) fn attributes(
        &mut self,
        identity: &str,
        changed: &BTreeMap<String, String>,
        at: Moment,
    ) -> bool {
        let Some(p) = self.by_identity.get_mut(identity) else { return false };
        let taken = p.take_attributes(changed, at, false);
        let settled = taken && p.is_sip();
        let used = p.sign_of_client(at, taken);
        if settled {
            self.settle();
        }
        used
    }

    pub(crate) fn permissions(&mut self, identity: &str, new: Permissions) -> bool {
        let Some(p) = self.by_identity.get_mut(identity) else { return false };
        let taken = p.take_permissions(new);
        if taken {
            self.settle();
        }
        taken
    }

    pub(crate) fn metadata(&mut self, identity: &str, metadata: &str) -> bool {
        self.by_identity.get_mut(identity).is_some_and(|p| p.take_metadata(metadata))
    }

    pub(crate) fn track(&mut self, identity: &str, sid: &str, at: Moment) -> bool {
        self.by_identity.get_mut(identity).is_some_and(|p| p.take_track(sid, at))
    }

    pub(crate) fn speaking(&mut self, identity: &str, speaking: bool, at: Moment) -> bool {
        let Some(p) = self.by_identity.get_mut(identity) else { return false };
        let taken = p.take_speaking(speaking, at);
        // An agent of which only the sound is known is a voice agent all the same.
        p.performed |= taken && speaking;
        taken
    }

    pub(crate) fn quality(&mut self, identity: &str, lost: bool, at: Moment) -> bool {
        self.by_identity.get_mut(identity).is_some_and(|p| p.take_quality(lost, at))
    }

    /// Whether one of the callers opted out.
    pub(crate) fn caller_opted_out(&self) -> bool {
        let mut opted_out = self.by_identity.values().filter(|p| p.metadata.opt_out);
        opted_out.any(|p| self.role(p) == ParticipantRole::Caller)
    }

    /// Records that the participant sent a text. False if it is no caller even so.
    pub(crate) fn types(&mut self, identity: &str) -> bool {
        let would_be = self.get(identity).map(|p| self.role_if(p, true));
        if would_be != Some(ParticipantRole::Caller) {
            return false;
        }
        let known = self.by_identity.get_mut(identity);
        if known.is_some_and(|p| !std::mem::replace(&mut p.typed, true)) {
            self.settle();
        }
        true
    }

    /// Records that the participant said or sent something.
    pub(crate) fn sign_of_life(&mut self, identity: &str, at: Moment) {
        if let Some(p) = self.by_identity.get_mut(identity) {
            p.sign(at, true);
        }
    }

    /// Records that the participant did what only a voice agent does. False if that was known, or
    /// the participant is unknown.
    pub(crate) fn performed(&mut self, identity: &str) -> bool {
        let p = self.by_identity.get_mut(identity);
        p.is_some_and(|p| replace(&mut p.performed, true))
    }

    pub(crate) fn get(&self, identity: &str) -> Option<&Party> {
        self.by_identity.get(identity)
    }

    /// In order of first appearance.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Party> {
        self.order.iter().filter_map(|i| self.by_identity.get(i))
    }

    pub(crate) fn role(&self, p: &Party) -> ParticipantRole {
        self.role_if(p, p.typed)
    }

    fn role_if(&self, p: &Party, typed: bool) -> ParticipantRole {
        let grants = p.grants();
        if grants.is_outside() {
            ParticipantRole::None
        } else if grants.has_agent_token() && self.speaks_for_agent(p) {
            ParticipantRole::Avatar
        } else if grants.is_agent() || (grants.looks_like_old_agent() && !self.has_agents()) {
            ParticipantRole::Agent
        } else if grants.is_listener(typed) {
            ParticipantRole::Listener
        } else if p.third {
            ParticipantRole::ThirdParty
        } else {
            ParticipantRole::Caller
        }
    }

    /// Its `lk.publish_on_behalf` names an agent, or a participant that we have not seen: an agent
    /// may be hidden.
    fn speaks_for_agent(&self, p: &Party) -> bool {
        let named = p.attribute(ON_BEHALF).filter(|named| *named != p.identity);
        named.is_some_and(|named| self.get(named).is_none_or(|q| q.grants().is_agent()))
    }

    fn has_agents(&self) -> bool {
        self.by_identity.values().any(|p| p.grants().is_agent())
    }

    pub(crate) fn callers(&self) -> impl Iterator<Item = &Party> {
        self.iter().filter(|p| self.role(p) == ParticipantRole::Caller)
    }

    pub(crate) fn third_parties(&self) -> impl Iterator<Item = &Party> {
        let now = self.iter().filter(|p| self.role(p) == ParticipantRole::ThirdParty);
        self.redialled.iter().chain(now)
    }

    pub(crate) fn caller_present(&self) -> bool {
        self.callers().any(Party::present)
    }

    /// The subject of the call: the caller that was connected first. A phone leg goes before a web
    /// caller unless another caller was connected when the leg joined.
    pub(crate) fn caller(&self) -> Option<&Party> {
        self.callers().min_by_key(|p| {
            let connected_at = p.connected_at();
            (connected_at.is_none(), !(p.is_sip() && p.first), connected_at, p.joined_at)
        })
    }

    /// Whether this join is that of another call, although the running call may still wait for its
    /// caller: phones do not come back, they call again.
    pub(crate) fn begins_another_call(&self, fact: &Fact) -> bool {
        let Fact::Joined(j) = fact else { return false };
        if let Some(known) = self.get(&j.identity)
            && self.role(known) == ParticipantRole::Caller
            && known.is_other_call(&j.attributes)
        {
            return self.callers().all(|p| !p.present() || p.identity == j.identity);
        }
        let new = Party::new(j, &self.names, j.joined_at, j.joined_at);
        let mut callers = self.callers().peekable();
        new.is_sip()
            && self.get(&j.identity).is_none()
            && new.grants().may_be_caller()
            && callers.peek().is_some()
            && callers.all(|p| !p.present() && p.is_sip() && (p.hung_up() || !p.connected()))
    }

    /// The voice agents: the agents that published a state; if none of them ever spoke, those too that
    /// made a sound, or sent a transcript or a session feed. A recorder or a silent helper is never
    /// a voice agent.
    pub(crate) fn voice_agents(&self) -> impl Iterator<Item = &Party> {
        let agents = || self.iter().filter(|p| self.role(p) == ParticipantRole::Agent);
        let states_tell = agents().any(Party::spoke);
        agents().filter(move |p| !p.states.is_empty() || (p.performed && !states_tell))
    }

    /// Whether that participant belongs to the agents' side by its token or by the operator's word;
    /// `None` while it is unknown. Only such a participant is believed when it publishes something
    /// about the call.
    pub(crate) fn is_agent(&self, identity: &str) -> Option<bool> {
        self.get(identity).map(|p| p.grants().is_agent())
    }

    /// The side that a participant speaks for.
    pub(crate) fn side(&self, identity: &str) -> Option<Side> {
        match self.role(self.get(identity)?) {
            ParticipantRole::Caller => Some(Side::User),
            ParticipantRole::Agent | ParticipantRole::Avatar => Some(Side::Agent),
            ParticipantRole::ThirdParty | ParticipantRole::Listener | ParticipantRole::None => None,
        }
    }

    pub(crate) fn owner_of_track(&self, sid: &str) -> Option<&Party> {
        self.by_identity.values().find(|p| p.tracks.contains(sid))
    }

    /// The participants still present, each with its last state, for the next call in the room.
    pub(crate) fn for_next_call(&self) -> Vec<PartySnapshot> {
        self.iter().filter(|p| p.present()).map(Party::for_next_call).collect()
    }

    pub(crate) fn from_earlier_call(there: Vec<PartySnapshot>, names: Identities) -> Self {
        let there: Vec<Party> = (there.into_iter().take(MAX_PARTIES))
            .map(|p| Party::from_earlier_call(p, &names))
            .collect();
        let mut parties = Self {
            order: there.iter().map(|p| p.identity.clone()).collect(),
            by_identity: there.into_iter().map(|p| (p.identity.clone(), p)).collect(),
            names,
            redialled: vec![],
        };
        parties.settle();
        parties
    }
}
