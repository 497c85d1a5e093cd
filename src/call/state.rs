//! One call as it goes: takes events, knows when it is over, makes the record.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    carried::Carried,
    details::{self, Details},
    ending::{self, Cause, End},
    event::{Event, Fact, Kind, LeaveReason, Moment},
    evidence,
    feed::{AgentView, Feeds},
    history::{AgentConfig, CallHistory, CallType},
    metrics::{self, Measured},
    outcome::{Outcome, Source},
    parties::{Part, Parties, Party, Side},
    profile::{Profile, Profiles},
    published::{FromMetadata, Problem, Published, Reader},
    speech::Speech,
    stages::Stages,
    status, subject, turns,
    window::Window,
    words,
};

/// A message whose sender is not announced yet is kept this long.
const HOLD_MS: i64 = 5_000;
const MAX_HELD: usize = 64;
const MAX_SIGNS: usize = 10_000;
/// Times the room was lost and found again; more are told as one.
const MAX_BLIND: usize = 1_000;
/// An observer that came this long after the caller says so in the notes.
const LATE_MS: i64 = 5_000;

/// What the operator has set; part of a journal, for it decides the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Settings {
    /// Milliseconds of quiet on both sides that count as a silence.
    pub(crate) silence_threshold_ms: i64,
    /// Milliseconds that a caller has to come back.
    pub(crate) end_grace_ms: i64,
    /// Adds `details` to the record.
    pub(crate) details: bool,
    /// Adds the transcript to the details.
    pub(crate) transcript: bool,
    pub(crate) profiles: Arc<Profiles>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            silence_threshold_ms: 5_000,
            end_grace_ms: 10_000,
            details: false,
            transcript: false,
            profiles: Arc::default(),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RoomFacts {
    pub(crate) sid: String,
    pub(crate) name: String,
}

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No caller yet.
    Waiting,
    Live,
    /// The last caller has left; over at that moment unless one comes back.
    Ending(Moment),
    Over,
}

pub(crate) struct Call {
    settings: Settings,
    room: RoomFacts,
    /// Position of this call in its room, from 0.
    ordinal: u32,
    parties: Parties,
    speech: Speech,
    feeds: Feeds,
    outcome: Outcome,
    stages: Stages,
    /// Messages on `call-history` whose sender is not known yet.
    held: Vec<(Moment, String, String)>,
    room_metadata: FromMetadata,
    job_metadata: FromMetadata,
    opted_out: bool,
    /// Typed text of callers: when, and how many words.
    typed: Vec<(Moment, u32)>,
    dtmf: Vec<Moment>,
    room_ended: Option<(Moment, LeaveReason)>,
    server_behind_ms: i64,
    /// First and last time the room was watched, and what was missed between.
    watching_since: Option<Moment>,
    blind_since: Option<Moment>,
    blind: Vec<(Moment, Moment)>,
    /// The worker that saw the beginning died.
    recovered: bool,
    /// The latest time that anything happened.
    last_at: Option<Moment>,
    problems: BTreeMap<Problem, u32>,
}

impl Call {
    pub(crate) fn new(room: RoomFacts, settings: Settings) -> Self {
        Self {
            speech: Speech::new(settings.transcript),
            settings,
            room,
            ordinal: 0,
            parties: Parties::default(),
            feeds: Feeds::default(),
            outcome: Outcome::default(),
            stages: Stages::default(),
            held: vec![],
            room_metadata: FromMetadata::default(),
            job_metadata: FromMetadata::default(),
            opted_out: false,
            typed: vec![],
            dtmf: vec![],
            room_ended: None,
            server_behind_ms: 0,
            watching_since: None,
            blind_since: None,
            blind: vec![],
            recovered: false,
            last_at: None,
            problems: BTreeMap::new(),
        }
    }

    /// What the next call in the same room begins with.
    pub(crate) fn for_next_call(&self) -> Carried {
        Carried {
            server_behind_ms: self.server_behind_ms,
            room_metadata: self.room_metadata.clone(),
            job_metadata: self.job_metadata.clone(),
            parties: self.parties.for_next_call(),
            feeds: self.feeds.for_next_call(),
            outcome: self.outcome.for_next_call(),
        }
    }

    /// The next call in the same room, and the event that it begins with.
    pub(crate) fn next(&self, now: Moment) -> (Self, Event) {
        let fact = Fact::Carried(Box::new(self.for_next_call()));
        let event = Event { at: now, fact };
        let mut next = Self::new(self.room.clone(), self.settings.clone());
        next.ordinal = self.ordinal.saturating_add(1);
        next.apply(&event);
        (next, event)
    }

    fn carry(&mut self, c: &Carried, at: Moment) {
        self.server_behind_ms = c.server_behind_ms;
        self.room_metadata = c.room_metadata.clone();
        self.job_metadata = c.job_metadata.clone();
        // Said for the whole room; what a caller said was for his own call.
        self.opted_out |= c.room_metadata.opt_out || c.job_metadata.opt_out;
        self.parties = Parties::from_earlier_call(c.parties.clone());
        self.feeds = Feeds::from_earlier_call(c.feeds.clone());
        self.outcome = c.outcome.clone();
        self.watching_since.get_or_insert(at);
    }

    /// The position of this call in its room, where that is known better than by counting: an
    /// earlier observer may have told calls of the same room.
    pub(crate) fn set_ordinal(&mut self, ordinal: u32) {
        self.ordinal = ordinal;
    }

    /// UUIDv5 over the room's sid and the ordinal: the same from any worker, after any crash.
    pub(crate) fn id(&self) -> String {
        let name = format!("{}/{}", self.room.sid, self.ordinal);
        Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()).to_string()
    }

    pub(crate) fn room(&self) -> &RoomFacts {
        &self.room
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Identities of those who are there.
    pub(crate) fn present(&self) -> Vec<String> {
        self.parties.iter().filter(|p| p.present()).map(|p| p.identity.clone()).collect()
    }

    /// Somebody is or was there whom the record is about.
    pub(crate) fn has_caller(&self) -> bool {
        self.parties.caller().is_some()
    }

    pub(crate) fn ordinal(&self) -> u32 {
        self.ordinal
    }

    pub(crate) fn apply(&mut self, event: &Event) {
        let at = event.at;
        let seen_until = self.last_at;
        self.last_at = seen_until.max(Some(at));
        match &event.fact {
            Fact::Carried(c) => self.carry(c, at),
            Fact::Recovered => {
                // A call that begins later is none the worse for it.
                self.recovered = self.parties.caller().is_some();
                self.blind_since.get_or_insert(seen_until.unwrap_or(at));
                self.parties.all_silent(seen_until.unwrap_or(at));
            }
            Fact::Watching { server_behind_ms } => {
                self.server_behind_ms = *server_behind_ms;
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
                self.room_metadata = FromMetadata::read(metadata);
                self.opted_out |= self.room_metadata.opt_out;
            }
            Fact::JobMetadata { metadata } => {
                self.job_metadata = FromMetadata::read(metadata);
                self.opted_out |= self.job_metadata.opt_out;
            }
            Fact::Joined(j) => {
                let changed = self.parties.joined(j, self.server_behind_ms, at);
                self.published_attributes(&j.identity, &changed, at);
                self.release_held(&j.identity, at);
                self.opt_out_of(&j.identity);
            }
            Fact::Left { identity, reason, attributes, since } => {
                self.parties.left(identity, *reason, attributes, *since, at);
            }
            Fact::Attributes { identity, changed } => {
                self.parties.attributes(identity, changed, at);
                self.published_attributes(identity, changed, at);
            }
            Fact::Metadata { identity, metadata } => {
                self.parties.metadata(identity, metadata);
                self.opt_out_of(identity);
            }
            Fact::Track { identity, sid } => self.parties.track(identity, sid, at),
            Fact::Speaking { identity, speaking } => {
                self.parties.speaking(identity, *speaking, at);
            }
            Fact::Quality { identity, lost } => self.parties.quality(identity, *lost, at),
            Fact::StreamOpened(o) => {
                // A caller's own would never count, and takes the room of those that do.
                if !o.generated && self.parties.side(&o.identity) == Some(Side::User) {
                    return self.problem(Problem::NotAnAgent);
                }
                if self.speech.opened(o, at) {
                    self.parties.performed(&o.identity);
                } else {
                    self.problem(Problem::TooMany);
                }
            }
            Fact::Undecodable { .. } => self.problem(Problem::Undecodable),
            Fact::Dropped => self.problem(Problem::TooMany),
            Fact::StreamChunk { stream, text } => {
                if let Some(speaker) = self.speech.chunk(stream, text, at) {
                    self.parties.sign_of_life(speaker, at);
                }
            }
            Fact::StreamSender { stream, identity } => {
                self.parties.performed(identity);
                self.speech.sent_by(stream, identity);
            }
            Fact::StreamClosed { stream, is_final } => self.speech.closed(stream, *is_final, at),
            Fact::Legacy { identity, segment, text, is_final } => {
                self.parties.performed(identity);
                self.parties.sign_of_life(identity, at);
                self.speech.legacy(identity, segment, text, *is_final, at);
            }
            Fact::Chat { identity, text } => {
                self.parties.sign_of_life(identity, at);
                let by_caller = self.parties.side(identity) == Some(Side::User);
                if by_caller && !text.trim().is_empty() && self.typed.len() < MAX_SIGNS {
                    self.typed.push((at, words::count(text)));
                }
            }
            Fact::Dtmf { identity } => {
                self.parties.sign_of_life(identity, at);
                if self.dtmf.len() < MAX_SIGNS {
                    self.dtmf.push(at);
                }
            }
            Fact::Feed { identity, message } => {
                if self.parties.is_agent(identity) == Some(false) {
                    self.problem(Problem::NotAnAgent);
                    return;
                }
                self.parties.performed(identity);
                self.feeds.take(identity, message, at, self.settings.transcript);
            }
            Fact::Published { identity, text } => self.published(identity.as_deref(), text, at),
        }
    }

    pub(crate) fn phase(&self, now: Moment) -> Phase {
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

    /// Somebody does not want this call to be recorded.
    pub(crate) fn opted_out(&self) -> bool {
        self.opted_out
    }

    /// A caller is in the room.
    pub(crate) fn caller_present(&self) -> bool {
        self.parties.caller_present()
    }

    /// We came more than `late_ms` after the caller.
    pub(crate) fn watched_late(&self, late_ms: i64) -> bool {
        let since = self.watching_since.zip(self.parties.caller());
        since.is_some_and(|(since, c)| since.since(c.joined_at) > late_ms)
    }

    /// The room was lost for a while.
    pub(crate) fn was_blind(&self) -> bool {
        !self.blind.is_empty()
    }

    /// The reason of the end, if it is one of ours: an agent's own words are for the record only.
    pub(crate) fn known_reason(&self) -> Option<&'static str> {
        let parts = self.parts()?;
        match self.outcome.published_end() {
            Some(_) => Some("published by the agent"),
            None => status::judge(&self.seen(&parts)).1.map(status::Reason::as_str),
        }
    }

    /// Identities of the agents that can be asked for their history.
    pub(crate) fn agents(&self) -> Vec<String> {
        let there = |p: &&Party| p.kind == Kind::Agent && p.present();
        self.parties.voice_agents().filter(there).map(|p| p.identity.clone()).collect()
    }

    /// What was published but not taken as it came, since the last call of this.
    pub(crate) fn take_problems(&mut self) -> BTreeMap<Problem, u32> {
        std::mem::take(&mut self.problems)
    }

    /// The record; `None` if no caller ever came, or the call has not ended.
    pub(crate) fn record(&self) -> Option<CallHistory> {
        self.build(true)
    }

    /// The record without its metrics, for when they cannot be computed.
    pub(crate) fn record_without_metrics(&self) -> Option<CallHistory> {
        self.build(false)
    }

    fn build(&self, with_metrics: bool) -> Option<CallHistory> {
        let parts = self.parts()?;
        let Parts { caller, end, view, call_type, start, ended } = &parts;
        let metadata =
            [self.room_metadata.clone(), self.job_metadata.clone(), caller.metadata.clone()];
        let agent_config = self.outcome.agent_config(&metadata, view);
        let stage_timeline = self.stages.timeline();
        let entered: Vec<&str> = stage_timeline.iter().map(|s| s.stage.as_str()).collect();
        let profile = self.profile(&agent_config);
        let mut notes = self.notes(caller, end);
        let measured = if with_metrics {
            self.measured(&parts)
        } else {
            notes.push("The metrics could not be computed.".into());
            Measured::default()
        };
        let seen = self.seen(&parts);
        let (status, termination_reason) = match self.outcome.published_end() {
            Some(published) => published,
            None => {
                let (status, reason) = status::judge(&seen);
                (status, reason.map(|r| r.as_str().to_owned()))
            }
        };
        let profile_name = profile.map(|(name, _)| name.to_owned());
        let outcomes =
            self.outcome.build(&metadata, &entered, profile.map(|(_, profile)| profile), &notes);
        let details = (self.settings.details || self.settings.transcript)
            .then(|| self.details(&parts, &seen, &measured, profile_name));
        Some(CallHistory {
            call_id: self.id(),
            phone_number: subject::phone_number(caller, &caller.metadata, &self.room.name),
            room_name: self.room.name.clone(),
            call_type: *call_type,
            start_time: start.to_rfc3339(),
            end_time: ended.to_rfc3339(),
            duration_seconds: ended.since(*start) as f64 / 1000.0,
            status,
            termination_reason,
            agent_config,
            metrics: measured.metrics(),
            outcomes,
            stage_timeline,
            details,
        })
    }

    /// How `end_time` is known, for the log.
    pub(crate) fn end_basis(&self) -> Option<ending::Basis> {
        Some(ending::end(&self.parties, self.room_ended)?.basis)
    }

    /// The record, and the moments that made its numbers.
    pub(crate) fn explained(&self) -> Option<(CallHistory, Measured)> {
        Some((self.record()?, self.measured(&self.parts()?)))
    }

    fn parts(&self) -> Option<Parts<'_>> {
        let caller = self.parties.caller()?;
        let end = ending::end(&self.parties, self.room_ended)?;
        let start = start(caller);
        Some(Parts {
            call_type: subject::call_type(caller, &caller.metadata),
            view: self.feeds.merged(&self.parties),
            ended: end.at.max(start),
            caller,
            end,
            start,
        })
    }

    fn seen<'a>(&'a self, parts: &'a Parts<'a>) -> status::Seen<'a> {
        status::Seen {
            parties: &self.parties,
            caller: parts.caller,
            call_type: parts.call_type,
            end: &parts.end,
            agent_heard: !self.speech.of(Side::Agent, &self.parties).is_empty(),
            answered_by: parts.view.answered_by,
            end_unseen: self.recovered && self.blind_since.is_some(),
        }
    }

    fn profile(&self, config: &AgentConfig) -> Option<(&str, &Profile)> {
        let name = config.business_type.as_deref()?.trim().to_lowercase();
        self.settings.profiles.get_key_value(&name).map(|(name, p)| (name.as_str(), p))
    }

    fn measured(&self, parts: &Parts) -> Measured {
        // What is heard of a leg that rings is no conversation.
        if !self.parties.callers().any(Party::connected) {
            return Measured::default();
        }
        let window = Window { start: parts.start, end: parts.ended };
        let end = parts.ended;
        let view = &window.view(&parts.view);
        let user_segments = window.segments(Side::User, self.speech.of(Side::User, &self.parties));
        let agent_segments =
            window.segments(Side::Agent, self.speech.of(Side::Agent, &self.parties));
        let unseen = self.unseen(parts.start, end);
        let user = evidence::user(&self.parties, view, &user_segments, &unseen, end);
        let agent = evidence::agent(&self.parties, view, &agent_segments, &unseen, end);
        let (user, agent) = (window.heard(user), window.heard(agent));
        let transcribed = self.speech.any() || !view.items.is_empty();
        let (user_utterances, user_words) =
            turns::user(view, &user_segments, &self.typed, &user, &agent, transcribed);
        let (agent_utterances, agent_words) =
            turns::agent(view, &agent_segments, &agent, transcribed);
        let mut signs = self.dtmf.clone();
        signs.extend(self.typed.iter().map(|(at, _)| *at));
        let measured = metrics::measure(&metrics::Conversation {
            parties: &self.parties,
            view,
            user_segments: &user_segments,
            agent_segments: &agent_segments,
            user: &user,
            agent: &agent,
            user_utterances: &user_utterances,
            agent_utterances: &agent_utterances,
            other_signs: &signs,
            also_heard: &evidence::after_the_feed(&self.parties, view, end),
            unseen: &unseen,
            start: parts.start,
            end,
            silence_threshold_ms: self.settings.silence_threshold_ms,
        });
        Measured {
            user_utterances,
            agent_utterances,
            user_words,
            agent_words,
            user,
            agent,
            ..measured
        }
    }

    fn details(
        &self,
        parts: &Parts,
        seen: &status::Seen,
        measured: &Measured,
        profile: Option<String>,
    ) -> Details {
        let sip = parts.caller.attributes.iter().filter(|(k, _)| k.starts_with("sip."));
        let told = self.outcome.published_end().is_some();
        let gap = |(from, to): (Moment, Moment)| details::Gap {
            from: from.to_rfc3339(),
            to: to.to_rfc3339(),
        };
        let since = self.watching_since;
        details::build(&details::Sources {
            ended_by: match status::ended_by(seen) {
                // Whoever says that it ends the call, and the room is closed: it was that.
                details::EndedBy::Room if told => details::EndedBy::Agent,
                by => by,
            },
            disconnect_reason: parts.end.reason(),
            sip: parts.caller.is_sip().then(|| sip.map(|(k, v)| (k.clone(), v.clone())).collect()),
            observation: details::Observation {
                from: since.map(Moment::to_rfc3339),
                to: self.last_at.map(|at| at.min(parts.ended).to_rfc3339()),
                gaps: self.unseen(parts.start, parts.ended).into_iter().map(gap).collect(),
                late_seconds: since.map(|t| t.since(parts.caller.joined_at) as f64 / 1000.0),
                end_time_basis: parts.end.basis,
                recovered: self.recovered,
            },
            agents: self.agents_seen(),
            view: &parts.view,
            measured,
            profile,
            transcript: self.settings.transcript,
        })
    }

    fn agents_seen(&self) -> Vec<details::Agent> {
        let voices: Vec<&str> = self.parties.voice_agents().map(|p| p.identity.as_str()).collect();
        let role = |p: &Party| match self.parties.part(p) {
            Part::Avatar => details::AgentRole::Avatar,
            _ if voices.contains(&p.identity.as_str()) => details::AgentRole::Voice,
            _ => details::AgentRole::Other,
        };
        let of = |p: &&Party| matches!(self.parties.part(p), Part::Agent | Part::Avatar);
        (self.parties.iter().filter(of))
            .map(|p| details::Agent {
                identity: p.identity.clone(),
                role: role(p),
                joined_at: p.joined_at.to_rfc3339(),
                left_at: p.left.as_ref().map(|l| l.at.to_rfc3339()),
                disconnect_reason: p.left.as_ref().map(|l| l.reason),
            })
            .collect()
    }

    /// Stretches of the call in which the observer saw nothing.
    fn unseen(&self, start: Moment, end: Moment) -> Vec<(Moment, Moment)> {
        let open = self.blind_since.map(|since| (since, end.max(since)));
        let all = self.blind.iter().copied().chain(open);
        all.filter(|(since, to)| *since < end && *to > start)
            .map(|(since, to)| (since.max(start), to))
            .collect()
    }

    /// What is missing from the record, in sentences (contract §1.3).
    fn notes(&self, caller: &Party, end: &End) -> Vec<String> {
        let mut notes = vec![];
        if let Some(since) = self.watching_since {
            let late = since.since(caller.joined_at);
            if late >= LATE_MS {
                notes.push(format!(
                    "The observer joined {:.1} s after the caller.",
                    late as f64 / 1000.0
                ));
            }
        }
        if self.recovered {
            notes.push("The worker was restarted during the call.".into());
        }
        let unseen = self.unseen(start(caller), end.at);
        let missed =
            unseen.iter().fold(0i64, |sum, (from, to)| sum.saturating_add(to.since(*from)));
        if missed > 0 {
            notes.push(format!(
                "The observer was disconnected from the room for {:.1} s.",
                missed as f64 / 1000.0
            ));
        }
        if let Cause::RoomEnded(reason) = end.cause
            && !matches!(reason, LeaveReason::RoomDeleted | LeaveReason::RoomClosed)
        {
            notes.push("The observer left or lost the room before the caller did.".into());
        }
        notes
    }

    fn opt_out_of(&mut self, identity: &str) {
        if self.parties.side(identity) == Some(Side::User) {
            self.opted_out |= self.parties.get(identity).is_some_and(|p| p.metadata.opt_out);
        }
    }

    fn published_attributes(
        &mut self,
        identity: &str,
        attributes: &BTreeMap<String, String>,
        at: Moment,
    ) {
        if self.parties.side(identity) != Some(Side::Agent) {
            return;
        }
        let mut problems = vec![];
        for (key, value) in attributes.iter().filter(|(k, _)| k.starts_with("call.")) {
            let read = Reader { problems: &mut problems }.attribute(key, value);
            if let Some(p) = read {
                self.take(Source::Attribute, p, at);
            }
        }
        problems.into_iter().for_each(|p| self.problem(p));
    }

    fn published(&mut self, identity: Option<&str>, text: &str, at: Moment) {
        let Some(identity) = identity.filter(|i| !i.is_empty()) else {
            return self.problem(Problem::UnknownSender);
        };
        match self.parties.is_agent(identity) {
            Some(true) => self.read_message(text, at),
            Some(false) => self.problem(Problem::NotAnAgent),
            None if self.held.len() < MAX_HELD => {
                self.held.push((at, identity.to_owned(), text.to_owned()));
            }
            None => self.problem(Problem::TooMany),
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

    fn read_message(&mut self, text: &str, at: Moment) {
        let mut problems = vec![];
        let read = Reader { problems: &mut problems }.message(text);
        problems.into_iter().for_each(|p| self.problem(p));
        if let Some(p) = read {
            self.take(Source::Message, p, at);
        }
    }

    fn take(&mut self, source: Source, published: Published, at: Moment) {
        match published {
            Published::Stage { stage, at: told } => {
                if !self.stages.enter(stage, told.unwrap_or(at)) {
                    self.problem(Problem::TooMany);
                }
            }
            Published::Config(c) => self.outcome.config(source, c),
            Published::Outcomes(o) => self.outcome.outcomes(source, o),
            Published::End { status, reason } => self.outcome.end(source, status, reason),
        }
    }

    fn problem(&mut self, p: Problem) {
        *self.problems.entry(p).or_default() += 1;
    }
}

/// What a record is made of besides the metrics.
struct Parts<'a> {
    caller: &'a Party,
    end: End,
    view: AgentView,
    call_type: CallType,
    start: Moment,
    /// Never before the start.
    ended: Moment,
}

/// When the caller was connected: an answered leg from its answer on, everybody else from the
/// join (contract §1).
fn start(caller: &Party) -> Moment {
    match caller.active {
        Some((at, false)) if caller.is_sip() => at,
        _ => caller.joined_at,
    }
}
