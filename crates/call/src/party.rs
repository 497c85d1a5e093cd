//! One participant of a room, as far as the call uses what is known of it.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    event::{AgentState, Joined, Kind, LeaveReason, Moment, Permissions},
    metadata::FromMetadata,
    roles::{Grants, Identities, Named, STATE},
    snapshot::{LeftSnapshot, PartySnapshot},
    taken::{fill, replace},
};

/// Attributes kept per participant: the server allows 64 KiB in all.
const MAX_ATTRIBUTES: usize = 128;
const MAX_TRACKS: usize = 64;
/// Changes of the agent's state kept per participant, and as many changes of speaking.
const MAX_MARKS: usize = 100_000;
/// Changes of a participant's metadata that are read per call. An opt-out is always read.
const MAX_METADATA_CHANGES: u32 = 64;
/// Earlier stays of one participant that are kept apart; a later one is merged into the last.
const MAX_STAYS: usize = 64;
/// Room for the bridge's own attributes besides the others: headers of a phone call must not displace them.
const MAX_OWN: usize = 64;
/// An event that only shows that a participant is connected is used if the last sign of life is at
/// least this old.
const SIGN_EVERY_MS: i64 = 100;

/// From a participant's loss of connection to its quality LOST: 7.2 to 13.8 s, mostly close to the
/// least.
pub(crate) const LOST_AFTER_MS: i64 = 7_500;
/// From a participant's loss of connection to CONNECTION_TIMEOUT (docs/signals.md §3.3).
const TIMEOUT_AFTER_MS: i64 = 21_000;

pub(super) const CALL_STATUS: &str = "sip.callStatus";
/// The bridge's id of a phone call.
const CALL_ID: &str = "sip.callID";
/// The dispatch rule that brought the leg here: the bridge writes it on inbound calls only.
const RULE_ID: &str = "sip.ruleID";

#[derive(Clone, Debug, PartialEq)]
pub struct Left {
    /// By our clock.
    pub at: Moment,
    /// By our clock: when the leave was reported. The grace period begins here.
    pub reported_at: Moment,
    pub reason: LeaveReason,
}

/// A SIP leg's own moments, by our clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leg {
    /// When it was first seen `ringing`.
    pub rang_at: Option<Moment>,
    /// When it was first seen answered, and whether it already was when we first saw it.
    pub active: Option<(Moment, bool)>,
    /// When `hangup` was seen. The leave of a leg without a track is reported up to 3 s late, the
    /// hang-up is not.
    pub hung_up_at: Option<Moment>,
}

/// One stay of a participant in the room, by our clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stay {
    pub from: Moment,
    /// When it could first speak with an agent.
    pub connected: Option<Moment>,
    /// When it was really gone.
    pub gone: Option<Moment>,
    /// The leave as the server reported it; `None` while it reports none.
    pub left: Option<(Moment, LeaveReason)>,
}

impl Stay {
    /// Whether it was there at a moment between the two.
    pub fn overlaps(&self, from: Moment, to: Moment) -> bool {
        self.from <= to && self.gone.is_none_or(|gone| gone > from)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Party {
    pub identity: String,
    pub kind: Kind,
    pub metadata: FromMetadata,
    /// `None` in journals of earlier versions.
    permissions: Option<Permissions>,
    named: Named,
    /// It has sent a text.
    pub typed: bool,
    /// A phone leg that was dialled while a caller was connected.
    pub third: bool,
    /// It was a third party of an earlier call, and stays one.
    was_third: bool,
    /// No other caller was connected when it joined.
    pub first: bool,
    sid: String,
    pub attributes: BTreeMap<String, String>,
    /// The first join, even if the participant came back. By our clock, converted from the
    /// server's.
    pub joined_at: Moment,
    /// `None` while it is present.
    pub left: Option<Left>,
    /// Stays before the last one.
    earlier: Vec<Stay>,
    /// When the last stay began, if there was an earlier one.
    back_at: Option<Moment>,
    pub leg: Leg,
    /// When we first saw it, by our clock.
    seen_at: Moment,
    /// By our clock: the last event that only a connected client can cause. Of a phone leg only
    /// sound, words and digits count: the rest is the bridge's doing.
    pub last_sign: Moment,
    /// By our clock: since when its connection quality is LOST.
    pub lost_at: Option<Moment>,
    pub tracks: BTreeSet<String>,
    /// It has done what a voice agent does: made a sound, sent a transcript or a session feed.
    pub performed: bool,
    /// Changes of `lk.agent.state`, by our clock.
    pub states: Vec<(Moment, AgentState)>,
    /// Changes of `is_speaking`, by our clock.
    pub speaking: Vec<(Moment, bool)>,
    /// How often its metadata changed in this call; bounded by `MAX_METADATA_CHANGES`.
    metadata_changes: u32,
}

pub(super) fn filtered(
    attributes: &BTreeMap<String, String>,
    wanted: impl Fn(&str, &str) -> bool,
) -> BTreeMap<String, String> {
    let wanted = attributes.iter().filter(|(k, v)| wanted(k, v));
    wanted.map(|(k, v)| (k.clone(), v.clone())).collect()
}

impl Party {
    pub(super) fn new(j: &Joined, names: &Identities, joined_at: Moment, at: Moment) -> Self {
        let mut p = Self {
            identity: j.identity.clone(),
            kind: j.kind,
            metadata: FromMetadata::read(&j.metadata),
            permissions: j.permissions,
            named: names.of(&j.identity),
            typed: false,
            third: false,
            was_third: false,
            first: true,
            sid: j.sid.clone(),
            attributes: BTreeMap::new(),
            joined_at,
            left: None,
            earlier: vec![],
            back_at: None,
            leg: Leg::default(),
            seen_at: at,
            last_sign: at,
            lost_at: None,
            tracks: BTreeSet::new(),
            performed: false,
            states: vec![],
            speaking: vec![],
            metadata_changes: 0,
        };
        p.take_attributes(&j.attributes, at, true);
        p
    }

    pub(super) fn grants(&self) -> Grants<'_> {
        let (identity, named) = (self.identity.as_str(), self.named);
        Grants { identity, kind: self.kind, permissions: self.permissions, named }
    }

    pub(super) fn sid(&self) -> &str {
        &self.sid
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

    /// A phone leg that was dialled from here.
    pub fn is_dialled(&self) -> bool {
        self.is_sip() && self.attribute(RULE_ID).is_none()
    }

    /// Another phone call than that of `attributes`, by the bridge's id.
    pub(super) fn is_other_call(&self, attributes: &BTreeMap<String, String>) -> bool {
        let new = attributes.get(CALL_ID).map(String::as_str).filter(|v| !v.is_empty());
        self.is_sip() && new.is_some() && self.attribute(CALL_ID) != new
    }

    /// The last that the bridge reported of the leg was a hang-up.
    pub fn hung_up(&self) -> bool {
        self.is_sip() && self.call_status() == Some("hangup")
    }

    /// It published, as an agent, that it was speaking.
    pub fn spoke(&self) -> bool {
        self.states.iter().any(|(_, s)| *s == AgentState::Speaking)
    }

    /// Whether the caller could speak with an agent: a SIP leg has to be answered, other callers
    /// only have to join.
    pub fn connected(&self) -> bool {
        self.connected_at().is_some()
    }

    /// When the caller could first speak with an agent, as far as that was seen. A leg that was
    /// answered before we came counts from its join; [`super::beginning`] knows better.
    pub fn connected_at(&self) -> Option<Moment> {
        match self.leg.active {
            Some((at, false)) if self.is_sip() => Some(at),
            None if self.is_sip() && self.call_status().is_some() => None,
            _ => Some(self.joined_at),
        }
    }

    fn last_stay(&self) -> Stay {
        let from = self.back_at.unwrap_or(self.joined_at);
        Stay {
            from,
            connected: self.connected_at().map(|at| at.max(from)),
            gone: self.gone_at(),
            left: self.left.as_ref().map(|l| (l.at, l.reason)),
        }
    }

    /// All stays, in their order.
    pub fn stays(&self) -> impl Iterator<Item = Stay> {
        self.earlier.iter().copied().chain([self.last_stay()])
    }

    /// Whether it was connected before that moment, and still was then.
    pub fn was_connected(&self, at: Moment) -> bool {
        self.stays().any(|s| s.connected.is_some_and(|t| t < at) && s.gone.is_none_or(|t| t > at))
    }

    /// As `was_connected`, as far as the server had reported it. A lost connection may come back, and
    /// who dialled meanwhile did not know of it.
    fn seemed_connected(&self, at: Moment) -> bool {
        let left = |s: &Stay| s.left.map(|(left_at, _)| left_at);
        self.stays().any(|s| s.connected.is_some_and(|t| t < at) && left(&s).is_none_or(|t| t > at))
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

    /// Its last sign of life after we first saw it, if there was one.
    pub fn last_heard(&self) -> Option<Moment> {
        (self.last_sign > self.seen_at).then_some(self.last_sign)
    }

    pub(super) fn silent(&mut self, at: Moment) {
        if self.speaking.last().is_some_and(|(_, speaking)| *speaking) {
            self.speaking.push((at, false));
        }
    }

    /// Records a sign of life; false if it was not used. `changed`: the event changed something
    /// else too. Other signs are used only if the last sign is old enough, because a client may
    /// repeat itself without end.
    pub(super) fn sign(&mut self, at: Moment, changed: bool) -> bool {
        let taken = changed || at.since(self.last_sign) >= SIGN_EVERY_MS;
        if taken {
            self.last_sign = self.last_sign.max(at);
        }
        taken
    }

    /// As `sign`, for what the bridge does for a phone leg and other clients do themselves.
    pub(super) fn sign_of_client(&mut self, at: Moment, changed: bool) -> bool {
        if self.is_sip() { changed } else { self.sign(at, changed) }
    }

    /// False if nothing changed.
    pub(super) fn take_attributes(
        &mut self,
        changed: &BTreeMap<String, String>,
        at: Moment,
        first: bool,
    ) -> bool {
        let mut taken = false;
        let used: Vec<_> =
            changed.iter().filter(|(k, v)| self.grants().uses_attribute(k, v)).collect();
        for (key, value) in used {
            let own = key.starts_with("sip.") && !key.starts_with("sip.h.");
            let most = MAX_ATTRIBUTES + if own { MAX_OWN } else { 0 };
            if self.attributes.len() >= most && !self.attributes.contains_key(key) {
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
                // A leg that sends digits after the answer is answered too.
                CALL_STATUS if matches!(value.as_str(), "active" | "automation") => {
                    fill(&mut self.leg.active, Some((at, first)))
                }
                CALL_STATUS if value == "ringing" => fill(&mut self.leg.rang_at, Some(at)),
                CALL_STATUS if value == "hangup" => fill(&mut self.leg.hung_up_at, Some(at)),
                _ => false,
            };
        }
        taken
    }

    /// The same identity again is the same participant, come back. With the same sid it never left,
    /// and is reported again because our own connection is new. Returns the attributes that are new,
    /// or `None` if nothing is.
    pub(super) fn again(&mut self, j: &Joined, at: Moment) -> Option<BTreeMap<String, String>> {
        let back = self.sid != j.sid || self.left.is_some();
        if back {
            self.sid = j.sid.clone();
            if self.left.is_some() {
                let stay = self.last_stay();
                let full = self.earlier.len() >= MAX_STAYS;
                match self.earlier.last_mut().filter(|_| full) {
                    Some(last) => (last.gone, last.left) = (stay.gone, stay.left),
                    None => self.earlier.push(stay),
                }
                self.back_at = Some(at);
            }
            self.left = None;
            self.lost_at = None;
            self.leg.hung_up_at = None;
            self.last_sign = at;
        }
        let metadata_changed = replace(&mut self.metadata, FromMetadata::read(&j.metadata));
        let granted = j.permissions.is_some_and(|p| self.take_permissions(p));
        let changed = filtered(&j.attributes, |k, _| self.attributes.get(k) != j.attributes.get(k));
        // What changed while we did not see it: nobody knows when.
        let set = self.take_attributes(&changed, at, true);
        (back || metadata_changed || granted || set).then_some(changed)
    }

    /// False if nothing changed. The same holds for the functions below.
    pub(super) fn take_permissions(&mut self, new: Permissions) -> bool {
        let merged = self.permissions.map_or(new, |known| known.and_later(new));
        replace(&mut self.permissions, Some(merged))
    }

    pub(super) fn take_metadata(&mut self, metadata: &str) -> bool {
        let new = FromMetadata::read(metadata);
        let too_many = self.metadata_changes >= MAX_METADATA_CHANGES && !new.opt_out;
        if !self.grants().may_be_caller() || too_many {
            return false;
        }
        let changed = replace(&mut self.metadata, new);
        self.metadata_changes = self.metadata_changes.saturating_add(u32::from(changed));
        changed
    }

    pub(super) fn take_track(&mut self, sid: &str, at: Moment) -> bool {
        let new = self.tracks.len() < MAX_TRACKS && self.tracks.insert(sid.to_owned());
        self.sign_of_client(at, new)
    }

    pub(super) fn take_speaking(&mut self, speaking: bool, at: Moment) -> bool {
        let change = self.speaking.last().is_none_or(|(_, s)| *s != speaking);
        let taken = change && self.speaking.len() < MAX_MARKS;
        if taken {
            self.speaking.push((at, speaking));
        }
        if speaking { self.sign(at, taken) } else { taken }
    }

    pub(super) fn take_quality(&mut self, lost: bool, at: Moment) -> bool {
        if lost {
            return fill(&mut self.lost_at, Some(at));
        }
        let found = self.lost_at.take().is_some();
        self.sign_of_client(at, found)
    }

    pub(super) fn leaves(
        &mut self,
        reason: LeaveReason,
        attributes: &BTreeMap<String, String>,
        since: Option<Moment>,
        at: Moment,
    ) -> bool {
        let mut taken = false;
        // `hangup` is often only seen on the participant that has left (docs/signals.md §4.3).
        let status = attributes.get(CALL_STATUS).filter(|s| self.call_status() != Some(s.as_str()));
        if let Some(status) = status {
            let changed = BTreeMap::from([(CALL_STATUS.to_owned(), status.clone())]);
            taken = self.take_attributes(&changed, since.unwrap_or(at), false);
        }
        if self.left.is_none() {
            let left_at = since.unwrap_or(at).min(at);
            self.left = Some(Left { at: left_at, reported_at: at, reason });
            self.silent(left_at);
            taken = true;
        }
        taken
    }

    /// Its last state, for the next call in the room.
    pub(super) fn for_next_call(&self) -> PartySnapshot {
        let mut p = self.clone();
        p.states.drain(..p.states.len().saturating_sub(1));
        p.speaking.drain(..p.speaking.len().saturating_sub(1));
        p.into()
    }

    pub(super) fn from_earlier_call(p: PartySnapshot, names: &Identities) -> Self {
        let named = names.of(&p.identity);
        Self { named, ..p.into() }
    }

    /// Decides whether it is a third party: it was dialled while another caller was connected. `before`:
    /// the callers that joined before it.
    pub(super) fn settled<'a>(&self, mut before: impl Iterator<Item = &'a Self>) -> Settled {
        let first = !before.any(|p| p.seemed_connected(self.joined_at));
        Settled { first, third: self.was_third || (!first && self.is_dialled()) }
    }

    pub(super) fn settle(&mut self, as_: Settled) {
        (self.first, self.third) = (as_.first, as_.third);
    }
}

/// What a phone leg is in its call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settled {
    first: bool,
    third: bool,
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
            active: p.leg.active,
            hung_up_at: p.leg.hung_up_at,
            rang_at: p.leg.rang_at,
            permissions: p.permissions,
            typed: p.typed,
            third: p.third,
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
            permissions: p.permissions,
            named: Named::default(),
            typed: p.typed,
            third: p.third,
            was_third: p.third,
            first: false,
            seen_at: p.last_sign,
            leg: Leg { rang_at: p.rang_at, active: p.active, hung_up_at: p.hung_up_at },
            last_sign: p.last_sign,
            lost_at: p.lost_at,
            tracks: p.tracks,
            performed: p.performed,
            states: p.states,
            speaking: p.speaking,
            left: p.left.map(left),
            earlier: vec![],
            back_at: None,
            metadata_changes: 0,
        }
    }
}
