//! The participants of a room and their roles: caller, voice agent, avatar, other (docs/contract.md
//! §2.1).
//!
//! A role is decided when it is asked for, not when the participant joins: words and feed messages
//! can come before the join of their participant.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    event::{AgentState, Joined, Kind, LeaveReason, Moment},
    published::{
        ATTRIBUTE_CONFIG, ATTRIBUTE_OUTCOMES, ATTRIBUTE_REASON, ATTRIBUTE_STAGE, FromMetadata,
    },
    snapshot::{LeftSnapshot, PartySnapshot},
    taken::{fill, replace},
};

/// Participants kept per call; a call has a handful, so more is an attack or a mistake.
const MAX_PARTIES: usize = 128;
/// Attributes kept per participant: the server allows 64 KiB in all.
const MAX_ATTRIBUTES: usize = 128;
const MAX_TRACKS: usize = 64;
/// Changes of the agent's state kept per participant, and as many changes of speaking.
const MAX_MARKS: usize = 100_000;
/// Changes of a participant's metadata that are read per call. An opt-out is always read.
const MAX_METADATA_CHANGES: u32 = 64;
/// An event that only shows that a participant is connected is used if the last sign of life is at
/// least this old.
const SIGN_EVERY_MS: i64 = 100;

/// From a participant's loss of connection to its quality LOST: 7.2 to 13.8 s, mostly close to the
/// least.
pub(crate) const LOST_AFTER_MS: i64 = 7_500;
/// From a participant's loss of connection to CONNECTION_TIMEOUT (docs/signals.md §3.3).
const TIMEOUT_AFTER_MS: i64 = 21_000;

const STATE: &str = "lk.agent.state";
const ON_BEHALF: &str = "lk.publish_on_behalf";
pub(super) const CALL_STATUS: &str = "sip.callStatus";
/// Agents of old versions joined as standard participants, with such an identity.
const OLD_AGENT: &str = "agent-";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Caller,
    Agent,
    /// Shows a face and speaks for the agent that its `lk.publish_on_behalf` names.
    Avatar,
    Other,
}

/// The two sides of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    User,
    Agent,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    /// By our clock.
    pub at: Moment,
    /// By our clock: when the leave was reported. The grace period begins here.
    pub reported_at: Moment,
    pub reason: LeaveReason,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Party {
    pub identity: String,
    pub kind: Kind,
    pub metadata: FromMetadata,
    sid: String,
    pub attributes: BTreeMap<String, String>,
    /// The first join, even if the participant came back. By our clock, converted from the
    /// server's.
    pub joined_at: Moment,
    /// `None` while it is present.
    pub left: Option<Left>,
    /// SIP: when the leg was first seen `active`, by our clock, and whether it already was when
    /// we first saw it.
    pub active: Option<(Moment, bool)>,
    /// SIP: when `hangup` was seen, by our clock. The leave of a leg without a track is reported up
    /// to 3 s late, the hang-up is not.
    pub hung_up_at: Option<Moment>,
    /// By our clock: the last event that only a connected client can cause.
    pub last_sign: Moment,
    /// By our clock: since when its connection quality is LOST.
    pub lost_at: Option<Moment>,
    pub tracks: BTreeSet<String>,
    /// It has done what only a voice agent does: sent a transcript or a session feed.
    pub performed: bool,
    /// Changes of `lk.agent.state`, by our clock.
    pub states: Vec<(Moment, AgentState)>,
    /// Changes of `is_speaking`, by our clock.
    pub speaking: Vec<(Moment, bool)>,
    /// How often its metadata changed in this call; bounded by `MAX_METADATA_CHANGES`.
    metadata_changes: u32,
}

/// Whether a participant of that kind can be a caller. Only the metadata of callers is read.
pub(super) fn may_be_caller(kind: Kind) -> bool {
    matches!(kind, Kind::Standard | Kind::Sip | Kind::Connector)
}

/// Whether the call uses that attribute of such a participant. The details show all attributes that
/// the SIP bridge sets on a phone leg. Other participants may set any attribute of their own.
pub(super) fn uses_attribute(kind: Kind, identity: &str, key: &str) -> bool {
    let published = [ATTRIBUTE_STAGE, ATTRIBUTE_CONFIG, ATTRIBUTE_OUTCOMES, ATTRIBUTE_REASON];
    match kind {
        Kind::Agent => key == STATE || key == ON_BEHALF || published.contains(&key),
        Kind::Standard if identity.starts_with(OLD_AGENT) => {
            key == STATE || published.contains(&key)
        }
        Kind::Sip => key.starts_with("sip."),
        Kind::Standard | Kind::Connector | Kind::Ingress | Kind::Egress | Kind::Bridge => false,
    }
}

pub(super) fn filtered(
    attributes: &BTreeMap<String, String>,
    wanted: impl Fn(&String) -> bool,
) -> BTreeMap<String, String> {
    let wanted = attributes.iter().filter(|(k, _)| wanted(k));
    wanted.map(|(k, v)| (k.clone(), v.clone())).collect()
}

impl Party {
    fn new(j: &Joined, joined_at: Moment, at: Moment) -> Self {
        Self {
            identity: j.identity.clone(),
            kind: j.kind,
            metadata: FromMetadata::read(&j.metadata),
            sid: j.sid.clone(),
            attributes: BTreeMap::new(),
            joined_at,
            left: None,
            active: None,
            hung_up_at: None,
            last_sign: at,
            lost_at: None,
            tracks: BTreeSet::new(),
            performed: false,
            states: vec![],
            speaking: vec![],
            metadata_changes: 0,
        }
    }

    pub fn present(&self) -> bool {
        self.left.is_none()
    }

    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.attributes.get(key).map(String::as_str).filter(|v| !v.is_empty())
    }

    pub fn call_status(&self) -> Option<&str> {
        self.attribute(CALL_STATUS)
    }

    pub fn is_sip(&self) -> bool {
        self.kind == Kind::Sip
    }

    /// It published, as an agent, that it was speaking.
    pub fn spoke(&self) -> bool {
        self.states.iter().any(|(_, s)| *s == AgentState::Speaking)
    }

    /// Whether the caller could speak with an agent: a SIP leg has to be answered, other callers
    /// only have to join.
    pub fn connected(&self) -> bool {
        !self.is_sip() || self.active.is_some() || self.call_status().is_none()
    }

    /// When it was really gone; `None` while it is present. The server reports the leave of a dead
    /// connection some 21 s late. If we subscribe to the participant, the server reports the lost
    /// quality earlier (docs/signals.md §3.4).
    pub fn gone_at(&self) -> Option<Moment> {
        let by_quality = self.lost_at.map(|t| t.plus(-LOST_AFTER_MS));
        match &self.left {
            Some(l) if l.reason == LeaveReason::ConnectionTimeout => {
                let died = by_quality.unwrap_or(l.at.plus(-TIMEOUT_AFTER_MS));
                Some(died.max(self.joined_at).min(l.at))
            }
            Some(l) => Some(l.at),
            // The server has not reported the leave yet.
            None => by_quality,
        }
    }

    fn silent(&mut self, at: Moment) {
        if self.speaking.last().is_some_and(|(_, speaking)| *speaking) {
            self.speaking.push((at, false));
        }
    }

    /// Records a sign of life; false if it was not used. `changed`: the event changed something
    /// else too. Other signs are used only if the last sign is old enough, because a client may
    /// repeat itself without end.
    fn sign(&mut self, at: Moment, changed: bool) -> bool {
        let taken = changed || at.since(self.last_sign) >= SIGN_EVERY_MS;
        if taken {
            self.last_sign = self.last_sign.max(at);
        }
        taken
    }

    /// False if nothing changed.
    fn take_attributes(
        &mut self,
        changed: &BTreeMap<String, String>,
        at: Moment,
        first: bool,
    ) -> bool {
        let mut taken = false;
        for (key, value) in
            changed.iter().filter(|(k, _)| uses_attribute(self.kind, &self.identity, k))
        {
            if self.attributes.len() >= MAX_ATTRIBUTES && !self.attributes.contains_key(key) {
                continue;
            }
            taken |= if value.is_empty() {
                self.attributes.remove(key).is_some()
            } else {
                self.attributes.insert(key.clone(), value.clone()).as_ref() != Some(value)
            };
            taken |= match key.as_str() {
                STATE => {
                    let state = AgentState::from_attribute(value);
                    let state = state.filter(|_| self.states.len() < MAX_MARKS);
                    self.states.extend(state.map(|state| (at, state)));
                    state.is_some()
                }
                CALL_STATUS if value == "active" => fill(&mut self.active, Some((at, first))),
                CALL_STATUS if value == "hangup" => fill(&mut self.hung_up_at, Some(at)),
                _ => false,
            };
        }
        taken
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Parties {
    by_identity: BTreeMap<String, Party>,
    /// Order of first appearance.
    order: Vec<String>,
    /// The number of participants of kind agent.
    agents: usize,
}

impl Parties {
    /// Returns the attributes that are new, or `None` if nothing is new. `server_behind_ms` is
    /// added to the server's times.
    pub(crate) fn joined(
        &mut self,
        j: &Joined,
        server_behind_ms: i64,
        at: Moment,
    ) -> Option<BTreeMap<String, String>> {
        if let Some(p) = self.by_identity.get_mut(&j.identity) {
            // The same identity again is the same participant, come back. With the same sid it
            // never left, and is reported again because our own connection is new.
            let back = p.sid != j.sid || p.left.is_some();
            if back {
                p.sid = j.sid.clone();
                p.left = None;
                p.lost_at = None;
                p.hung_up_at = None;
                p.last_sign = at;
            }
            let metadata_changed = replace(&mut p.metadata, FromMetadata::read(&j.metadata));
            let changed = filtered(&j.attributes, |k| p.attributes.get(k) != j.attributes.get(k));
            let set = p.take_attributes(&changed, at, false);
            return (back || metadata_changed || set).then_some(changed);
        }
        if self.order.len() >= MAX_PARTIES {
            return None;
        }
        // Some servers do not send the time of the join.
        let known = j.joined_at != Moment::default();
        let joined_at = if known { j.joined_at.plus(server_behind_ms) } else { at };
        let mut p = Party::new(j, joined_at, at);
        p.take_attributes(&j.attributes, at, true);
        self.agents += usize::from(j.kind == Kind::Agent);
        self.order.push(j.identity.clone());
        self.by_identity.insert(j.identity.clone(), p);
        Some(j.attributes.clone())
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
        let mut taken = false;
        // `hangup` is often only seen on the participant that has left (docs/signals.md §4.3).
        let status = attributes.get(CALL_STATUS).filter(|s| p.call_status() != Some(s.as_str()));
        if let Some(status) = status {
            let changed = BTreeMap::from([(CALL_STATUS.to_owned(), status.clone())]);
            taken = p.take_attributes(&changed, since.unwrap_or(at), false);
        }
        if p.left.is_none() {
            let left_at = since.unwrap_or(at).min(at);
            p.left = Some(Left { at: left_at, reported_at: at, reason });
            p.silent(left_at);
            taken = true;
        }
        taken
    }

    /// Ends the speech of all participants, because we do not see the room from here on.
    pub(crate) fn all_silent(&mut self, at: Moment) {
        self.by_identity.values_mut().for_each(|p| p.silent(at));
    }

    /// False if it changes nothing. The same holds for `metadata`, `track`, `speaking` and
    /// `quality`.
    pub(crate) fn attributes(
        &mut self,
        identity: &str,
        changed: &BTreeMap<String, String>,
        at: Moment,
    ) -> bool {
        let Some(p) = self.by_identity.get_mut(identity) else { return false };
        let taken = p.take_attributes(changed, at, false);
        p.sign(at, taken)
    }

    pub(crate) fn metadata(&mut self, identity: &str, metadata: &str) -> bool {
        let Some(p) = self.by_identity.get_mut(identity) else { return false };
        let new = FromMetadata::read(metadata);
        let too_many = p.metadata_changes >= MAX_METADATA_CHANGES && !new.opt_out;
        if !may_be_caller(p.kind) || too_many {
            return false;
        }
        let changed = replace(&mut p.metadata, new);
        p.metadata_changes = p.metadata_changes.saturating_add(u32::from(changed));
        changed
    }

    pub(crate) fn track(&mut self, identity: &str, sid: &str, at: Moment) -> bool {
        let Some(p) = self.by_identity.get_mut(identity) else { return false };
        let new = p.tracks.len() < MAX_TRACKS && p.tracks.insert(sid.to_owned());
        p.sign(at, new)
    }

    pub(crate) fn speaking(&mut self, identity: &str, speaking: bool, at: Moment) -> bool {
        let Some(p) = self.by_identity.get_mut(identity) else { return false };
        let change = p.speaking.last().is_none_or(|(_, s)| *s != speaking);
        let taken = change && p.speaking.len() < MAX_MARKS;
        if taken {
            p.speaking.push((at, speaking));
        }
        if speaking { p.sign(at, taken) } else { taken }
    }

    pub(crate) fn quality(&mut self, identity: &str, lost: bool, at: Moment) -> bool {
        let Some(p) = self.by_identity.get_mut(identity) else { return false };
        if lost {
            return fill(&mut p.lost_at, Some(at));
        }
        let found = p.lost_at.take().is_some();
        p.sign(at, found)
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

    pub(crate) fn role(&self, p: &Party) -> Role {
        if p.kind == Kind::Agent && p.attributes.contains_key(ON_BEHALF) {
            return Role::Avatar;
        }
        match p.kind {
            Kind::Agent => Role::Agent,
            // Attributes prove nothing: a caller may set any attribute of its own.
            Kind::Standard if self.agents == 0 && p.identity.starts_with(OLD_AGENT) => Role::Agent,
            Kind::Standard | Kind::Sip | Kind::Connector => Role::Caller,
            Kind::Ingress | Kind::Egress | Kind::Bridge => Role::Other,
        }
    }

    pub(crate) fn callers(&self) -> impl Iterator<Item = &Party> {
        self.iter().filter(|p| self.role(p) == Role::Caller)
    }

    pub(crate) fn caller_present(&self) -> bool {
        self.callers().any(Party::present)
    }

    /// *The* caller: SIP before others, then the first to join.
    pub(crate) fn caller(&self) -> Option<&Party> {
        self.callers().min_by_key(|p| (!p.is_sip(), p.joined_at))
    }

    /// The voice agents: the agents that published a state; if there is no such agent, those that
    /// sent a transcript or a session feed. A recorder or a silent helper is never a voice agent.
    pub(crate) fn voice_agents(&self) -> impl Iterator<Item = &Party> {
        let agents = || self.iter().filter(|p| self.role(p) == Role::Agent);
        let have_states = agents().any(|p| !p.states.is_empty());
        agents().filter(move |p| if have_states { !p.states.is_empty() } else { p.performed })
    }

    /// Whether that participant is of kind agent; `None` while it is unknown. Only an agent is
    /// trusted when it publishes something about the call.
    pub(crate) fn is_agent(&self, identity: &str) -> Option<bool> {
        self.get(identity).map(|p| p.kind == Kind::Agent)
    }

    /// The side that a participant speaks for.
    pub(crate) fn side(&self, identity: &str) -> Option<Side> {
        match self.role(self.get(identity)?) {
            Role::Caller => Some(Side::User),
            Role::Agent | Role::Avatar => Some(Side::Agent),
            Role::Other => None,
        }
    }

    pub(crate) fn owner_of_track(&self, sid: &str) -> Option<&Party> {
        self.by_identity.values().find(|p| p.tracks.contains(sid))
    }

    /// The participants still present, each with its last state, for the next call in the room.
    pub(crate) fn for_next_call(&self) -> Vec<PartySnapshot> {
        let last = |p: &Party| {
            let mut p = p.clone();
            p.states.drain(..p.states.len().saturating_sub(1));
            p.speaking.drain(..p.speaking.len().saturating_sub(1));
            p.into()
        };
        self.iter().filter(|p| p.present()).map(last).collect()
    }

    pub(crate) fn from_earlier_call(there: Vec<PartySnapshot>) -> Self {
        let there: Vec<Party> = there.into_iter().take(MAX_PARTIES).map(Party::from).collect();
        Self {
            agents: there.iter().filter(|p| p.kind == Kind::Agent).count(),
            order: there.iter().map(|p| p.identity.clone()).collect(),
            by_identity: there.into_iter().map(|p| (p.identity.clone(), p)).collect(),
        }
    }
}

impl From<Party> for PartySnapshot {
    fn from(p: Party) -> Self {
        let left =
            |l: Left| LeftSnapshot { at: l.at, reported_at: l.reported_at, reason: l.reason };
        Self {
            identity: p.identity,
            kind: p.kind,
            metadata: p.metadata,
            sid: p.sid,
            attributes: p.attributes,
            joined_at: p.joined_at,
            active: p.active,
            hung_up_at: p.hung_up_at,
            last_sign: p.last_sign,
            lost_at: p.lost_at,
            tracks: p.tracks,
            performed: p.performed,
            states: p.states,
            speaking: p.speaking,
            left: p.left.map(left),
        }
    }
}

impl From<PartySnapshot> for Party {
    fn from(p: PartySnapshot) -> Self {
        let left =
            |l: LeftSnapshot| Left { at: l.at, reported_at: l.reported_at, reason: l.reason };
        Self {
            identity: p.identity,
            kind: p.kind,
            metadata: p.metadata,
            sid: p.sid,
            attributes: p.attributes,
            joined_at: p.joined_at,
            active: p.active,
            hung_up_at: p.hung_up_at,
            last_sign: p.last_sign,
            lost_at: p.lost_at,
            tracks: p.tracks,
            performed: p.performed,
            states: p.states,
            speaking: p.speaking,
            left: p.left.map(left),
            metadata_changes: 0,
        }
    }
}
