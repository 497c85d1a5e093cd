//! Who is who in a room (docs/contract.md §2.1): caller, third party, voice agent, avatar, listener.
//!
//! LiveKit's kind alone does not tell. Many bots join as ordinary participants with the permission
//! `agent`, and supervisors join as ordinary participants that may not speak. Permissions come from a
//! token, so only the server's owner can set them.

use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use super::{
    event::{Joined, Kind, Permissions},
    published::{ATTRIBUTE_CONFIG, ATTRIBUTE_OUTCOMES, ATTRIBUTE_REASON, ATTRIBUTE_STAGE},
};

pub(super) const STATE: &str = "lk.agent.state";
pub(super) const ON_BEHALF: &str = "lk.publish_on_behalf";
/// Agents of old versions joined as standard participants, with such an identity. Journals of earlier
/// versions hold no permissions, so there the identity has to do.
const OLD_AGENT: &str = "agent-";

/// Bytes of an attribute that a dispatch rule made from a header of the phone call.
const MAX_MAPPED: usize = 512;

/// The two sides of a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    User,
    Agent,
}

/// Patterns of identities, with `*` and `?`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Patterns(Vec<String>);

impl Patterns {
    /// `text`: patterns with commas between them.
    ///
    /// # Errors
    /// The pattern that matches every identity.
    pub fn parse(text: &str) -> Result<Self, String> {
        let all = text.split(',').map(str::trim).filter(|p| !p.is_empty());
        let all: Vec<String> = all.map(str::to_owned).collect();
        // Such a pattern consists of stars, and at most asks for some characters.
        match all.iter().find(|p| p.contains('*') && p.chars().all(|c| matches!(c, '*' | '?'))) {
            Some(everything) => Err(everything.clone()),
            None => Ok(Self(all)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn matches(&self, identity: &str) -> bool {
        self.0.iter().any(|p| WildMatch::new(p).matches(identity))
    }
}

/// The operator's own rules about identities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Identities {
    pub agents: Patterns,
    pub listeners: Patterns,
}

/// What the operator's rules say about one identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Named {
    agent: bool,
    listener: bool,
}

impl Identities {
    /// Whether that participant belongs to the side of the agent.
    pub fn is_agent(&self, j: &Joined) -> bool {
        Grants::of(j, self).is_agent()
    }

    /// Whether that participant is a caller from its join on. One that may only send data is none before
    /// it types, and nothing in its join shows whether it will.
    pub fn is_caller(&self, j: &Joined) -> bool {
        let grants = Grants::of(j, self);
        grants.may_be_caller() && !grants.is_listener(false) && !grants.looks_like_old_agent()
    }

    /// Whether a pattern says that a participant of that identity is no caller.
    pub fn names_no_caller(&self, identity: &str) -> bool {
        let named = self.of(identity);
        named.agent || named.listener
    }

    pub(crate) fn of(&self, identity: &str) -> Named {
        Named { agent: self.agents.matches(identity), listener: self.listeners.matches(identity) }
    }
}

/// What a role is decided from, apart from the other participants of the room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grants<'a> {
    pub identity: &'a str,
    pub kind: Kind,
    pub permissions: Option<Permissions>,
    pub named: Named,
}

impl<'a> Grants<'a> {
    pub(super) fn of(j: &'a Joined, names: &Identities) -> Self {
        let named = names.of(&j.identity);
        Self { identity: &j.identity, kind: j.kind, permissions: j.permissions, named }
    }

    /// It takes no part in the conversation.
    pub(crate) fn is_outside(&self) -> bool {
        matches!(self.kind, Kind::Ingress | Kind::Egress | Kind::Bridge)
            || self.permissions.is_some_and(|may| may.hidden || may.recorder)
    }

    /// By its kind or by a permission. No participant can give itself either.
    pub(crate) fn has_agent_token(&self) -> bool {
        !self.is_outside()
            && (self.kind == Kind::Agent || self.permissions.is_some_and(|may| may.agent))
    }

    /// Belongs to the side of the agent, and is believed what it publishes about the call.
    pub(crate) fn is_agent(&self) -> bool {
        !self.is_outside() && (self.has_agent_token() || self.named.agent)
    }

    /// Looks like an agent of old versions. The identity proves nothing, so it is not believed.
    pub(crate) fn looks_like_old_agent(&self) -> bool {
        self.kind == Kind::Standard
            && self.permissions.is_none()
            && self.identity.starts_with(OLD_AGENT)
    }

    /// `typed`: it has sent a text.
    pub(crate) fn is_listener(&self, typed: bool) -> bool {
        let may_only_listen =
            self.permissions.is_some_and(|may| !(may.publish || may.publish_data && typed));
        self.named.listener || may_only_listen
    }

    /// Whether it can be a caller at some time. Only the metadata of callers is read.
    pub(crate) fn may_be_caller(&self) -> bool {
        !self.is_outside() && !self.is_agent()
    }

    /// Whether the call uses that attribute. The details show all attributes that the SIP bridge sets
    /// on a phone leg. Other participants may set any attribute of their own.
    pub(crate) fn uses_attribute(&self, key: &str, value: &str) -> bool {
        let published = [ATTRIBUTE_STAGE, ATTRIBUTE_CONFIG, ATTRIBUTE_OUTCOMES, ATTRIBUTE_REASON];
        if self.is_agent() {
            return key == STATE || key == ON_BEHALF || published.contains(&key);
        }
        if self.looks_like_old_agent() {
            return key == STATE || published.contains(&key);
        }
        // A dispatch rule can map headers to attributes of any name.
        self.kind == Kind::Sip && (key.starts_with("sip.") || value.len() <= MAX_MAPPED)
    }
}

impl Permissions {
    /// Adds what a later report grants. What a participant once could do, it may have done: a caller
    /// whose permission to speak is withdrawn stays a caller.
    #[must_use]
    pub(crate) fn and_later(self, later: Self) -> Self {
        Self {
            agent: self.agent || later.agent,
            publish: self.publish || later.publish,
            publish_data: self.publish_data || later.publish_data,
            ..later
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(kind: Kind, permissions: Option<Permissions>) -> Grants<'static> {
        Grants { identity: "someone", kind, permissions, named: Named::default() }
    }

    #[test]
    fn a_pattern_that_matches_everybody_is_refused() {
        for wrong in ["*", "bot-*, *", "**", "?*", "*?"] {
            assert!(Patterns::parse(wrong).is_err(), "{wrong}");
        }
        let some = Patterns::parse(" bot-*,Pipecat ?????-* ,").unwrap();
        for (identity, matches) in
            [("bot-1", true), ("Pipecat Agent-1", true), ("Bot-1", false), ("alice", false)]
        {
            assert_eq!(some.matches(identity), matches, "{identity}");
        }
        assert!(Patterns::parse(" , ").unwrap().is_empty());
    }

    #[test]
    fn permissions_tell_agents_recorders_and_listeners_from_callers() {
        let speaks = Permissions { publish: true, publish_data: true, ..Default::default() };
        let agent = Permissions { agent: true, ..speaks };
        let recorder = Permissions { recorder: true, ..speaks };
        let hidden = Permissions { hidden: true, agent: true, ..speaks };
        let reads = Permissions { publish: false, ..speaks };
        let mute = Permissions::default();
        for (kind, permissions, is_agent, outside, listens, listens_typing) in [
            (Kind::Standard, None, false, false, false, false),
            (Kind::Standard, Some(speaks), false, false, false, false),
            (Kind::Standard, Some(agent), true, false, false, false),
            (Kind::Agent, None, true, false, false, false),
            (Kind::Standard, Some(recorder), false, true, false, false),
            (Kind::Agent, Some(hidden), false, true, false, false),
            (Kind::Standard, Some(reads), false, false, true, false),
            (Kind::Standard, Some(mute), false, false, true, true),
            (Kind::Egress, Some(speaks), false, true, false, false),
        ] {
            let g = grants(kind, permissions);
            let case = format!("{kind:?} {permissions:?}");
            assert_eq!((g.is_agent(), g.is_outside()), (is_agent, outside), "{case}");
            assert_eq!(
                (g.is_listener(false), g.is_listener(true)),
                (listens, listens_typing),
                "{case}"
            );
        }
    }

    #[test]
    fn what_was_once_granted_stays_granted() {
        let caller = Permissions { publish: true, publish_data: true, ..Default::default() };
        let muted = caller.and_later(Permissions::default());
        assert_eq!(muted, caller);
        let recorder = caller.and_later(Permissions { recorder: true, ..Default::default() });
        assert!(recorder.recorder && recorder.publish);
    }
}
