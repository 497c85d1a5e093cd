//! One running call: applies events, and knows when the call is over. [`super::build`] makes the
//! record.

use std::{collections::BTreeMap, sync::Arc};

use record::people::ParticipantRole;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    ending,
    event::{Discovery, Event, Fact, LeaveReason, Moment, RtviMessage},
    feed::Feeds,
    keyed::{Dialled, Keyed, Typed},
    metadata::{self, FromMetadata, OptOut, Passed},
    outcome::{Outcome, Source},
    parties::Parties,
    party::Party,
    profile::Profiles,
    published::{MAX_MESSAGE, Problem, Published, Reader},
    roles::{Identities, Side},
    rtvi::{Rtvi, Took},
    snapshot::Snapshot,
    speech::Speech,
    stages::{Entered, Stages},
    taken::{Taken, replace},
};

/// A message from an unknown sender is held this long for the sender to join.
const HOLD_MS: i64 = 5_000;
const MAX_HELD: usize = 64;
/// Gaps in our view of the room that are kept apart; later gaps are merged into the last one.
const MAX_BLIND: usize = 1_000;
/// Changes of metadata that is passed on, of all participants together: each may be journaled.
const MAX_PASSED_CHANGES: u32 = 1_000;

/// The operator's settings. They are part of the journal, because they decide the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Milliseconds of quiet on both sides that count as a silence.
    pub silence_threshold_ms: i64,
    /// Milliseconds that a caller has to come back.
    pub end_grace_ms: i64,
    /// Adds `details` to the record.
    pub details: bool,
    /// Adds the transcript to the details.
    pub transcript: bool,
    /// A room in which no agent ever was gives no record.
    pub require_agent: bool,
    pub identities: Identities,
    /// Keys of metadata that `details` pass on.
    pub metadata_keys: Arc<[String]>,
    pub profiles: Arc<Profiles>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            silence_threshold_ms: 5_000,
            end_grace_ms: 10_000,
            details: false,
            transcript: false,
            require_agent: false,
            identities: Identities::default(),
            metadata_keys: Arc::default(),
            profiles: Arc::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RoomFacts {
    pub sid: String,
    pub name: String,
}

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No caller yet.
    Waiting,
    Live,
    /// The last caller has left. The call is over at this moment unless a caller comes back.
    Ending(Moment),
    Over,
}

#[derive(Debug)]
pub struct Call {
    pub(super) settings: Settings,
    pub(super) room: RoomFacts,
    /// Position of this call in its room, from 0.
    pub(super) ordinal: u32,
    /// Of a call that consists of one phone leg that no observer saw: the leg's sid, which takes the
    /// place of the ordinal in the id.
    pub(super) leg: Option<String>,
    pub(super) parties: Parties,
    pub(super) speech: Speech,
    pub(super) feeds: Feeds,
    pub(super) outcome: Outcome,
    pub(super) stages: Stages,
    /// Messages on `call-history` whose sender is not known yet.
    pub(super) held: Vec<(Moment, String, String)>,
    pub(super) room_metadata: FromMetadata,
    pub(super) job_metadata: FromMetadata,
    pub(super) passed: Passed,
    /// How often a participant changed that in this call.
    passed_changes: u32,
    pub(super) opted_out: bool,
    /// What callers typed and dialled.
    pub(super) keyed: Keyed,
    /// What Pipecat bots report.
    pub(super) rtvi: Rtvi,
    pub(super) room_ended: Option<(Moment, LeaveReason)>,
    pub(super) server_behind_ms: i64,
    /// Since when we observe the room; used for the notes and the details.
    pub(super) watching_since: Option<Moment>,
    pub(super) discovered_by: Option<Discovery>,
    /// Since when the room is lost; `None` while we are in it.
    pub(super) blind_since: Option<Moment>,
    /// Earlier gaps in our view of the room, from and to.
    pub(super) blind: Vec<(Moment, Moment)>,
    /// The worker that observed the beginning died, and another one continued from the journal.
    pub(super) recovered: bool,
    /// When the latest event that was used happened.
    pub(super) last_at: Option<Moment>,
    pub(super) problems: BTreeMap<Problem, u32>,
}

impl Call {
    pub fn new(room: RoomFacts, settings: Settings) -> Self {
        Self {
            speech: Speech::new(settings.transcript),
            room,
            ordinal: 0,
            leg: None,
            parties: Parties::new(settings.identities.clone()),
            feeds: Feeds::default(),
            outcome: Outcome::default(),
            stages: Stages::default(),
            held: vec![],
            room_metadata: FromMetadata::default(),
            job_metadata: FromMetadata::default(),
            passed: Passed::default(),
            passed_changes: 0,
            opted_out: false,
            keyed: Keyed::default(),
            rtvi: Rtvi::new(settings.transcript),
            settings,
            room_ended: None,
            server_behind_ms: 0,
            watching_since: None,
            discovered_by: None,
            blind_since: None,
            blind: vec![],
            recovered: false,
            last_at: None,
            problems: BTreeMap::new(),
        }
    }

    /// What the next call in the same room begins with.
    pub fn for_next_call(&self) -> Snapshot {
        Snapshot {
            server_behind_ms: self.server_behind_ms,
            room_metadata: self.room_metadata.clone(),
            job_metadata: self.job_metadata.clone(),
            passed: self.passed_of_present(),
            // Nobody is in a room that has ended, also those whose leave was not reported.
            parties: match self.room_ended {
                None => self.parties.for_next_call(),
                Some(_) => vec![],
            },
            feeds: self.feeds.for_next_call(),
            outcome: self.outcome.for_next_call().into(),
        }
    }

    /// Milliseconds to add to the server's times to get ours.
    pub fn server_behind_ms(&self) -> i64 {
        self.server_behind_ms
    }

    /// The next call in the same room, and the event that it begins with. `server_behind_ms`: as
    /// from now on, because our clock may have been set between the calls.
    pub fn next(&self, now: Moment, server_behind_ms: i64) -> (Self, Event) {
        let carried = Snapshot { server_behind_ms, ..self.for_next_call() };
        let fact = Fact::Carried(Box::new(carried));
        let event = Event { at: now, fact };
        let mut next = Self::new(self.room.clone(), self.settings.clone());
        next.ordinal = self.ordinal.saturating_add(1);
        let _ = next.apply(&event);
        (next, event)
    }

    fn carry(&mut self, c: &Snapshot, at: Moment) {
        self.server_behind_ms = c.server_behind_ms;
        self.room_metadata = c.room_metadata.clone();
        self.job_metadata = c.job_metadata.clone();
        self.passed = c.passed.clone();
        // An opt-out of the room or the job holds for all calls of the room; that of a caller holds
        // for its own call only.
        self.opted_out |= c.room_metadata.opt_out || c.job_metadata.opt_out;
        let names = self.parties.names().clone();
        self.parties = Parties::from_earlier_call(c.parties.clone(), names);
        self.feeds = Feeds::from_earlier_call(c.feeds.clone());
        self.outcome = c.outcome.clone().into();
        self.watching_since.get_or_insert(at);
    }

    /// Sets the position of this call in its room. Counting may be wrong: an earlier observer may
    /// have reported calls of the same room.
    pub fn set_ordinal(&mut self, ordinal: u32) {
        self.ordinal = ordinal;
    }

    /// The call is one phone leg that no observer saw.
    pub fn set_leg(&mut self, sid: String) {
        self.leg = Some(sid);
    }

    /// UUIDv5 over the room's sid and the ordinal: the same from any worker, after any crash.
    pub fn id(&self) -> String {
        let name = match &self.leg {
            Some(leg) => format!("{}/leg/{leg}", self.room.sid),
            None => format!("{}/{}", self.room.sid, self.ordinal),
        };
        Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).to_string()
    }

    pub fn room(&self) -> &RoomFacts {
        &self.room
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Identities of the participants present.
    pub fn present(&self) -> Vec<String> {
        self.parties.iter().filter(|p| p.present()).map(|p| p.identity.clone()).collect()
    }

    /// Sids of the phone legs that are or were in the room.
    pub fn phone_legs(&self) -> impl Iterator<Item = String> {
        self.parties.iter().filter(|p| p.is_sip()).map(|p| p.sid().to_owned())
    }

    /// A caller is or was in the room. Without a caller there is no record.
    pub fn has_caller(&self) -> bool {
        self.parties.caller().is_some()
    }

    /// The room has ended, or we have lost it: no next call follows.
    pub fn room_ended(&self) -> bool {
        self.room_ended.is_some()
    }

    /// How the observer found the room.
    pub fn discovered_by(&self) -> Option<Discovery> {
        self.discovered_by
    }

    pub fn ordinal(&self) -> u32 {
        self.ordinal
    }

    /// Applies an event, and returns how much of it a journal has to hold. An event that is not
    /// taken has changed nothing but the counts of problems.
    pub fn apply(&mut self, event: &Event) -> Taken {
        let reduced = self.reduced(&event.fact);
        // Apply what the journal will hold, so that a replay gives the same record.
        if !self.takes(reduced.as_ref().unwrap_or(&event.fact), event.at) {
            return Taken::No;
        }
        // A listener that speaks or types becomes a caller, whose metadata counts. What is known from an
        // earlier call is not yet reported for this one.
        if !self.opted_out && !matches!(event.fact, Fact::Carried(_)) {
            self.opted_out = self.parties.caller_opted_out();
        }
        self.last_at = self.last_at.max(Some(event.at));
        reduced.map_or(Taken::Whole, |fact| Taken::Part(Box::new(fact)))
    }

    /// False if the fact changed nothing but the counts of problems.
    fn takes(&mut self, fact: &Fact, at: Moment) -> bool {
        match fact {
            Fact::Carried(c) => self.carry(c, at),
            Fact::Recovered => {
                let seen_until = self.last_at.unwrap_or(at);
                // Without a caller the call has not begun, and has missed nothing.
                self.recovered = self.parties.caller().is_some();
                self.blind_since.get_or_insert(seen_until);
                self.parties.all_silent(seen_until);
            }
            Fact::Watching { server_behind_ms, by } => {
                self.server_behind_ms = *server_behind_ms;
                self.discovered_by = self.discovered_by.or(*by);
                self.watching_since.get_or_insert(at);
                if let Some(since) = self.blind_since.take() {
                    let full = self.blind.len() >= MAX_BLIND;
                    match self.blind.last_mut().filter(|_| full) {
                        Some(last) => last.1 = last.1.max(at),
                        None => self.blind.push((since, at)),
                    }
                }
            }
            Fact::Blind => {
                self.blind_since.get_or_insert(at);
                self.parties.all_silent(at);
            }
            Fact::RoomEnded { reason } => self.room_ended = Some((at, *reason)),
            Fact::RoomMetadata { metadata } => {
                let passed = metadata::passed(metadata, &self.settings.metadata_keys);
                let changed = replace(&mut self.passed.room, passed)
                    | replace(&mut self.room_metadata, FromMetadata::read(metadata));
                return self.opt_out(self.room_metadata.opt_out) || changed;
            }
            Fact::JobMetadata { metadata } => {
                let mut new = FromMetadata::read(metadata);
                // There may be several dispatches. An opt-out in one of them holds for all calls of
                // the room.
                new.opt_out |= self.job_metadata.opt_out;
                let mut passed = metadata::passed(metadata, &self.settings.metadata_keys);
                let before = self.passed.job.clone();
                passed.extend(before);
                let changed =
                    replace(&mut self.passed.job, passed) | replace(&mut self.job_metadata, new);
                return self.opt_out(self.job_metadata.opt_out) || changed;
            }
            Fact::Joined(j) => {
                let new = self.parties.joined(j, self.server_behind_ms, at);
                let passed = new.is_some() && self.pass_on(&j.identity, &j.metadata);
                if let Some(attributes) = &new {
                    self.published_attributes(&j.identity, attributes, at);
                    self.release_held(&j.identity, at);
                }
                return new.is_some() || passed;
            }
            Fact::Left { identity, reason, attributes, since } => {
                return self.parties.left(identity, *reason, attributes, *since, at);
            }
            Fact::Attributes { identity, changed } => {
                let taken = self.parties.attributes(identity, changed, at);
                return self.published_attributes(identity, changed, at) || taken;
            }
            Fact::Metadata { identity, metadata } => {
                return self.parties.metadata(identity, metadata)
                    | self.pass_on(identity, metadata);
            }
            Fact::Permissions { identity, permissions } => {
                return self.parties.permissions(identity, *permissions);
            }
            Fact::Track { identity, sid } => return self.parties.track(identity, sid, at),
            Fact::Speaking { identity, speaking } => {
                return self.parties.speaking(identity, *speaking, at);
            }
            Fact::Quality { identity, lost } => return self.parties.quality(identity, *lost, at),
            Fact::StreamOpened(o) => {
                // A stream that a caller opens itself never counts, but would take the place of one
                // that does.
                if !o.generated && self.parties.side(&o.identity) == Some(Side::User) {
                    return self.refuse(Problem::NotAnAgent);
                }
                if !self.speech.opened(o, at) {
                    return self.refuse(Problem::TooMany);
                }
                self.parties.performed(&o.identity);
            }
            Fact::StreamChunk { stream, text } => {
                let Some(speaker) = self.speech.chunk(stream, text, at) else { return false };
                self.parties.sign_of_life(speaker, at);
            }
            Fact::StreamSender { stream, identity } => {
                // A caller must not send transcripts in the name of another participant.
                if self.parties.side(identity) == Some(Side::User) {
                    return self.refuse(Problem::NotAnAgent);
                }
                let performed = self.parties.performed(identity);
                return self.speech.sent_by(stream, identity) || performed;
            }
            Fact::StreamClosed { stream, is_final } => {
                return self.speech.closed(stream, *is_final, at);
            }
            Fact::Legacy { identity, segment, text, is_final } => {
                if !self.speech.legacy(identity, segment, text, *is_final, at) {
                    return false;
                }
                self.parties.performed(identity);
                self.parties.sign_of_life(identity, at);
            }
            Fact::Chat { identity, text, words, .. } => {
                // Blank text is not counted.
                let Some(words) = words else { return false };
                if !self.keyed.takes_text() {
                    return self.refuse(Problem::TooMany);
                }
                if !self.parties.types(identity) {
                    return false;
                }
                let text = (!text.is_empty()).then(|| text.as_str().into());
                let typed = Typed { at, by: identity.clone(), words: *words, text };
                if !self.keyed.types(typed) {
                    return self.refuse(Problem::TooMany);
                }
                self.parties.sign_of_life(identity, at);
            }
            Fact::Dtmf { identity, digit } => {
                let role = self.parties.get(identity).map(|p| self.parties.role(p));
                if !matches!(
                    role,
                    Some(
                        ParticipantRole::Caller
                            | ParticipantRole::ThirdParty
                            | ParticipantRole::Agent
                    )
                ) {
                    return false;
                }
                let digit = digit.clone().filter(|_| self.settings.transcript);
                if !self.keyed.dials(Dialled { at, by: identity.clone(), digit }) {
                    return self.refuse(Problem::TooMany);
                }
                self.parties.sign_of_life(identity, at);
            }
            Fact::Rtvi { identity, message } => {
                if self.parties.is_agent(identity) == Some(false) {
                    return self.refuse(Problem::NotAnAgent);
                }
                match self.rtvi.take(identity, message, at) {
                    Took::Used => {}
                    Took::Nothing => return false,
                    Took::Full => return self.refuse(Problem::TooMany),
                }
                self.parties.performed(identity);
                if let RtviMessage::UserText { user: Some(user), .. } = message {
                    self.parties.sign_of_life(user, at);
                }
            }
            Fact::Feed { identity, message } => {
                if self.parties.is_agent(identity) == Some(false) {
                    return self.refuse(Problem::NotAnAgent);
                }
                let performed = self.parties.performed(identity);
                let keep_text = self.settings.transcript;
                return self.feeds.take(identity, message, at, keep_text) || performed;
            }
            Fact::Published { identity, text } => {
                return self.published(identity.as_deref(), text, at);
            }
            Fact::Undecodable { .. } => return self.refuse(Problem::Undecodable),
            Fact::Dropped => return self.refuse(Problem::TooMany),
        }
        true
    }

    pub fn phase(&self, now: Moment) -> Phase {
        if self.parties.callers().next().is_none() {
            return if self.room_ended.is_some() { Phase::Over } else { Phase::Waiting };
        }
        if self.room_ended.is_some() {
            return Phase::Over;
        }
        match ending::due(&self.parties, self.settings.end_grace_ms) {
            None => Phase::Live,
            Some(due) if now >= due => Phase::Over,
            Some(due) => Phase::Ending(due),
        }
    }

    /// The room, the job or a caller opted out: the call must not be recorded.
    pub fn opted_out(&self) -> bool {
        self.opted_out
    }

    /// An agent is or was in the room.
    pub fn has_agent(&self) -> bool {
        self.parties.iter().any(|p| {
            matches!(self.parties.role(p), ParticipantRole::Agent | ParticipantRole::Avatar)
        }) || self.speech.any()
    }

    /// Somebody came to the caller: an agent, or another person.
    pub fn caller_was_joined(&self) -> bool {
        self.has_agent() || self.parties.callers().chain(self.parties.third_parties()).count() > 1
    }

    /// Whether this fact is the beginning of another call, and this one is over. Phones do not come
    /// back: they call again.
    pub fn is_over_by(&self, fact: &Fact) -> bool {
        self.parties.begins_another_call(fact)
    }

    /// Whose metadata opted out.
    pub fn opted_out_by(&self) -> Option<OptOut> {
        if self.room_metadata.opt_out {
            Some(OptOut::Room)
        } else if self.job_metadata.opt_out {
            Some(OptOut::Job)
        } else {
            self.opted_out.then_some(OptOut::Caller)
        }
    }

    /// A caller is in the room.
    pub fn caller_present(&self) -> bool {
        self.parties.caller_present()
    }

    /// We began to observe the room more than `late_ms` after the caller joined.
    pub fn watched_late(&self, late_ms: i64) -> bool {
        let since = self.watching_since.zip(self.parties.caller());
        since.is_some_and(|(since, c)| since.since(c.joined_at) > late_ms)
    }

    /// Since when the call is observed, by the server's clock.
    pub fn watched_since(&self) -> Option<Moment> {
        Some(self.watching_since?.plus(self.server_behind_ms.saturating_neg()))
    }

    /// We lost the room for a while, and came back.
    pub fn was_blind(&self) -> bool {
        !self.blind.is_empty()
    }

    /// Identities of the agents that can be asked for their history.
    pub fn agents(&self) -> Vec<String> {
        let there = |p: &&Party| p.grants().is_agent() && p.present();
        self.parties.voice_agents().filter(there).map(|p| p.identity.clone()).collect()
    }

    /// Takes the counts of what was published but refused or changed, since the last call of this
    /// function.
    pub fn take_problems(&mut self) -> BTreeMap<Problem, u32> {
        std::mem::take(&mut self.problems)
    }

    /// False if that changes nothing.
    fn opt_out(&mut self, opt_out: bool) -> bool {
        opt_out && replace(&mut self.opted_out, true)
    }

    /// Keeps the values of a caller's metadata that the operator wants passed on. False if nothing
    /// changed.
    fn pass_on(&mut self, identity: &str, metadata: &str) -> bool {
        let may_be_caller = |p: &Party| p.grants().may_be_caller();
        if self.settings.metadata_keys.is_empty()
            || !self.parties.get(identity).is_some_and(may_be_caller)
        {
            return false;
        }
        if self.passed_changes >= MAX_PASSED_CHANGES {
            return false;
        }
        let passed = metadata::passed(metadata, &self.settings.metadata_keys);
        let changed = match self.passed.participants.get_mut(identity) {
            Some(known) => replace(known, passed),
            None if passed.is_empty() => false,
            None => self.passed.participants.insert(identity.to_owned(), passed).is_none(),
        };
        self.passed_changes += u32::from(changed);
        changed
    }

    fn passed_of_present(&self) -> Passed {
        let mut passed = self.passed.clone();
        passed.participants.retain(|i, _| self.parties.get(i).is_some_and(Party::present));
        passed
    }

    /// False if nothing changed. The same holds for `published`, `read_message` and `take`.
    fn published_attributes(
        &mut self,
        identity: &str,
        attributes: &BTreeMap<String, String>,
        at: Moment,
    ) -> bool {
        if self.parties.side(identity) != Some(Side::Agent) {
            return false;
        }
        let mut taken = false;
        let mut problems = vec![];
        for (key, value) in attributes.iter().filter(|(k, _)| k.starts_with("call.")) {
            let read = Reader { problems: &mut problems }.attribute(key, value);
            taken |= read.is_some_and(|p| self.take(Source::Attribute, p, at));
        }
        problems.into_iter().for_each(|p| self.problem(p));
        taken
    }

    fn published(&mut self, identity: Option<&str>, text: &str, at: Moment) -> bool {
        let Some(identity) = identity.filter(|i| !i.is_empty()) else {
            return self.refuse(Problem::UnknownSender);
        };
        match self.parties.is_agent(identity) {
            Some(true) => self.read_message(text, at),
            Some(false) => self.refuse(Problem::NotAnAgent),
            // Too large to be read, whoever the sender is.
            None if text.len() > MAX_MESSAGE => self.refuse(Problem::TooLarge),
            None if self.held.len() < MAX_HELD => {
                self.held.push((at, identity.to_owned(), text.to_owned()));
                true
            }
            None => self.refuse(Problem::TooMany),
        }
    }

    fn release_held(&mut self, joined: &str, now: Moment) {
        for (at, identity, text) in std::mem::take(&mut self.held) {
            if now.since(at) > HOLD_MS {
                self.problem(Problem::UnknownSender);
            } else if identity == joined {
                self.published(Some(&identity), &text, at);
            } else {
                self.held.push((at, identity, text));
            }
        }
    }

    fn read_message(&mut self, text: &str, at: Moment) -> bool {
        let mut problems = vec![];
        let read = Reader { problems: &mut problems }.message(text);
        problems.into_iter().for_each(|p| self.problem(p));
        read.is_some_and(|p| self.take(Source::Message, p, at))
    }

    fn take(&mut self, source: Source, published: Published, at: Moment) -> bool {
        match published {
            Published::Stage { stage, at: published_at } => {
                match self.stages.enter(stage, published_at.unwrap_or(at)) {
                    Entered::New => true,
                    Entered::Unchanged => false,
                    Entered::Refused => self.refuse(Problem::TooMany),
                }
            }
            Published::Config(c) => self.outcome.config(source, c),
            Published::Outcomes(o) => self.outcome.outcomes(source, o),
            Published::End { status, reason } => self.outcome.end(source, status, reason),
        }
    }

    /// Counts the problem. Always false: nothing that has this problem is used.
    fn refuse(&mut self, p: Problem) -> bool {
        self.problem(p);
        false
    }

    fn problem(&mut self, p: Problem) {
        *self.problems.entry(p).or_default() += 1;
    }
}
