//! Makes the record from the state of a call.

use record::{
    AgentConfig, CallHistory, CallType, EndedBy, Tier, TimeBasis,
    details::{Agent, AgentRole, Details, Observation},
    people::ParticipantRole,
};

use super::{
    beginning, details,
    ending::{self, CallEnd, Cause},
    event::{By, LeaveReason, Moment},
    evidence,
    feed::AgentView,
    metadata::FromMetadata,
    metrics::{self, Measured},
    party::Party,
    people,
    profile::Profile,
    roles::Side,
    state::Call,
    status, subject, timeline, turns,
    window::Window,
};

/// The notes mention an observer that joined this long after the caller.
const LATE_MS: i64 = 5_000;

impl Call {
    /// The termination reason, for the log. A reason that the agent published is not shown: its
    /// text belongs in the record only.
    pub fn known_reason(&self) -> Option<&'static str> {
        let input = self.record_input()?;
        match self.outcome.published_end() {
            Some(_) => Some("published by the agent"),
            None => status::judge(&self.verdict_input(&input)).1.map(status::Reason::as_str),
        }
    }

    /// The record; `None` if no caller ever came, or the call has not ended.
    pub fn record(&self) -> Option<CallHistory> {
        self.build(true).map(|(record, _)| record)
    }

    /// The record without its metrics, for when they cannot be computed.
    pub fn record_without_metrics(&self) -> Option<CallHistory> {
        self.build(false).map(|(record, _)| record)
    }

    fn build(&self, with_metrics: bool) -> Option<(CallHistory, Measured)> {
        let input = self.record_input()?;
        let RecordInput { caller, view, call_type, start, ended, .. } = &input;
        let metadata = self.metadata(caller);
        let agent_config = self.outcome.agent_config(&metadata, view);
        let stage_timeline = self.stages.timeline();
        let entered: Vec<&str> = stage_timeline.iter().map(|s| s.stage.as_str()).collect();
        let profile = self.profile(&agent_config);
        let verdict_input = self.verdict_input(&input);
        let mut notes = self.notes(&input, &verdict_input);
        let measured = if with_metrics {
            self.measured(&input)
        } else {
            notes.push("The metrics could not be computed.".into());
            Measured::default()
        };
        let (status, termination_reason) = match self.outcome.published_end() {
            Some(published) => published,
            None => {
                let (status, reason) = status::judge(&verdict_input);
                (status, reason.map(|r| r.as_str().to_owned()))
            }
        };
        let profile_name = profile.map(|(name, _)| name.to_owned());
        let outcomes =
            self.outcome.build(&metadata, &entered, profile.map(|(_, profile)| profile), &notes);
        let details = (self.settings.details || self.settings.transcript)
            .then(|| self.details(&input, &verdict_input, &measured, profile_name));
        let record = CallHistory {
            call_id: self.id(),
            phone_number: subject::phone_number(caller, &metadata, &self.room.name),
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
        };
        Some((record, measured))
    }

    /// From the caller's join to the end of the call, in milliseconds; also of a call that has no record. `None` if the
    /// caller was never connected.
    pub fn lasted_ms(&self) -> Option<i64> {
        let joined = self.parties.caller().filter(|p| p.connected())?.joined_at;
        Some(ending::end(&self.parties, self.room_ended)?.at.since(joined))
    }

    /// How `end_time` is known, for the log.
    pub fn end_basis(&self) -> Option<TimeBasis> {
        Some(ending::end(&self.parties, self.room_ended)?.basis)
    }

    /// The record, and the moments that made its numbers.
    pub fn explained(&self) -> Option<(CallHistory, Measured)> {
        self.build(true)
    }

    fn record_input(&self) -> Option<RecordInput<'_>> {
        let caller = self.parties.caller()?;
        if self.settings.require_agent && !self.has_agent() {
            return None;
        }
        let end = ending::end(&self.parties, self.room_ended)?;
        let view = self.feeds.merged(&self.parties);
        let words = self.speech.segments(Side::User, &self.parties);
        let (start, start_basis) =
            beginning::start(caller, &self.parties, &view, &words, self.watching_since);
        Some(RecordInput {
            call_type: subject::call_type(caller, &self.metadata(caller)),
            view,
            ended: end.at.max(start),
            caller,
            end,
            start,
            start_basis,
        })
    }

    /// What metadata says, best first: of the room, of our jobs, of the caller.
    pub(super) fn metadata(&self, caller: &Party) -> [FromMetadata; 3] {
        [self.room_metadata.clone(), self.job_metadata.clone(), caller.metadata.clone()]
    }

    fn verdict_input<'a>(&'a self, input: &'a RecordInput<'a>) -> status::VerdictInput<'a> {
        let agent_words = self.speech.segments(Side::Agent, &self.parties);
        // A session that is taken down after the call reports errors too.
        let failures = input.view.failed_at.iter().copied();
        let failed = failures.filter(|failed| *failed <= input.end.at).max();
        let spoke_again = |failed: Moment| {
            self.measured(input).agent.intervals.last().is_some_and(|i| i.start > failed)
        };
        status::VerdictInput {
            parties: &self.parties,
            caller: input.caller,
            call_type: input.call_type,
            start: input.start,
            end: &input.end,
            room_ended: self.room_ended,
            agent_heard: agent_words.iter().any(|s| s.end() > input.start),
            agent_failed: failed.is_some_and(|failed| !spoke_again(failed)),
            answered_by: input.view.answered_by,
            end_unseen: self.recovered && self.blind_since.is_some(),
        }
    }

    fn profile(&self, config: &AgentConfig) -> Option<(&str, &Profile)> {
        let name = config.business_type.as_deref()?.trim().to_lowercase();
        self.settings.profiles.get_key_value(&name).map(|(name, p)| (name.as_str(), p))
    }

    fn measured(&self, input: &RecordInput) -> Measured {
        // The sound of a leg that still rings is not a conversation.
        if !self.parties.callers().any(Party::connected) {
            return Measured::default();
        }
        let window = Window { start: input.start, end: input.ended };
        let end = input.ended;
        let view = &window.view(&input.view);
        let all = |side| self.speech.segments(side, &self.parties);
        let (user_segments, agent_segments) = (all(Side::User), all(Side::Agent));
        let in_items = |by| input.view.items.iter().any(|i| i.by == by);
        let any_user_words = !user_segments.is_empty() || in_items(By::User);
        let any_agent_words = !agent_segments.is_empty() || in_items(By::Agent);
        let user_segments = window.segments(Side::User, user_segments);
        let agent_segments = window.segments(Side::Agent, agent_segments);
        let unseen = self.unseen(input.start, end);
        let rtvi_users = window.turns(self.rtvi.users(&self.parties));
        let rtvi_bots = window.turns(self.rtvi.bots(&self.parties));
        let signals = |segments, rtvi| evidence::Signals {
            parties: &self.parties,
            view,
            segments,
            rtvi,
            unseen: &unseen,
            until: end,
        };
        let agent = evidence::agent(signals(&agent_segments, &rtvi_bots));
        let user = evidence::user(signals(&user_segments, &rtvi_users), &agent);
        let (user, agent) = (window.activity(user), window.activity(agent));
        let side = |segments, rtvi, typed, transcribed| turns::SideInput {
            view,
            segments,
            rtvi,
            typed,
            transcribed,
            user: &user,
            agent: &agent,
            until: end,
        };
        let (user_utterances, user_words) =
            turns::user(&side(&user_segments, &rtvi_users, &self.keyed.typed, any_user_words));
        let (agent_utterances, agent_words) =
            turns::agent(&side(&agent_segments, &rtvi_bots, &[], any_agent_words));
        let signs = self.keyed.moments();
        let mut unheard = evidence::unheard(&self.parties, input.start, end);
        // A requested history reports the time before we came.
        let came = self.watching_since.filter(|came| *came > input.start);
        if let Some(came) = came.filter(|_| turns_from_history(input) == 0) {
            unheard.insert(0, (input.start, came));
        }
        let mut other_speech = evidence::speech_after_feed(&self.parties, view, end);
        let third_parties = evidence::each_third_party(&self.parties, end);
        // About when such words were spoken is a guess: only where nothing better shows when the caller spoke.
        if matches!(user.tier, Tier::Transcripts | Tier::None) {
            other_speech.extend(evidence::speech_of_late_words(&user_segments, &agent, end));
        }
        other_speech.extend(third_parties.iter().flat_map(|(_, spoke)| &spoke.intervals));
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
            other_speech: &other_speech,
            unheard: &unheard,
            unseen: &unseen,
            start: input.start,
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
            third_parties,
            unheard,
            ..measured
        }
    }

    fn details(
        &self,
        input: &RecordInput,
        verdict_input: &status::VerdictInput,
        measured: &Measured,
        profile: Option<String>,
    ) -> Details {
        let sip = input.caller.attributes.iter().filter(|(k, _)| k.starts_with("sip."));
        let published_end = self.outcome.published_end().is_some();
        let unseen = self.unseen(input.start, input.ended);
        let since = self.watching_since;
        details::build(&details::DetailsInput {
            ended_by: match status::ended_by(verdict_input) {
                // The agent published an end, and the room was closed: the agent ended the call.
                EndedBy::Room if published_end => EndedBy::Agent,
                by => by,
            },
            disconnect_reason: input.end.reason(),
            sip: input.caller.is_sip().then(|| sip.map(|(k, v)| (k.clone(), v.clone())).collect()),
            observation: Observation {
                discovered_by: self.discovered_by,
                from: since.map(Moment::to_rfc3339),
                to: self.last_at.map(|at| at.min(input.ended).to_rfc3339()),
                gaps: unseen.iter().map(timeline::gap).collect(),
                late_seconds: since.map(|t| t.since(input.caller.joined_at) as f64 / 1000.0),
                turns_from_history: turns_from_history(input),
                start_time_basis: input.start_basis,
                end_time_basis: input.end.basis,
                recovered: self.recovered,
            },
            phone: people::phone(input.caller),
            participants: people::participants(&self.parties),
            transfers: people::transfers(&self.parties),
            metadata: (!self.settings.metadata_keys.is_empty())
                .then(|| self.passed.of(&input.caller.identity)),
            timeline: timeline::build(&timeline::TimelineInput {
                measured,
                keyed: &self.keyed,
                only_caller: self.only_caller(),
                unseen: &unseen,
            }),
            dialled: &self.keyed.dialled,
            agents: self.agents_seen(),
            view: &input.view,
            measured,
            profile,
            transcript: self.settings.transcript,
        })
    }

    /// The caller, if there was only one.
    fn only_caller(&self) -> Option<&str> {
        let mut callers = self.parties.callers();
        let first = callers.next()?;
        callers.next().is_none().then_some(first.identity.as_str())
    }

    fn agents_seen(&self) -> Vec<Agent> {
        let voices: Vec<&str> = self.parties.voice_agents().map(|p| p.identity.as_str()).collect();
        let role = |p: &Party| match self.parties.role(p) {
            ParticipantRole::Avatar => AgentRole::Avatar,
            _ if voices.contains(&p.identity.as_str()) => AgentRole::Voice,
            _ => AgentRole::Other,
        };
        let of = |p: &&Party| {
            matches!(self.parties.role(p), ParticipantRole::Agent | ParticipantRole::Avatar)
        };
        (self.parties.iter().filter(of))
            .map(|p| Agent {
                identity: p.identity.clone(),
                role: role(p),
                joined_at: p.joined_at.to_rfc3339(),
                left_at: p.left.as_ref().map(|l| l.at.to_rfc3339()),
                disconnect_reason: p.left.as_ref().map(|l| l.reason),
            })
            .collect()
    }

    /// Intervals of the call in which the observer did not see the room.
    fn unseen(&self, start: Moment, end: Moment) -> Vec<(Moment, Moment)> {
        let open = self.blind_since.map(|since| (since, end.max(since)));
        let all = self.blind.iter().copied().chain(open);
        all.filter(|(since, to)| *since < end && *to > start)
            .map(|(since, to)| (since.max(start), to))
            .collect()
    }

    /// What is missing from the record, in sentences (docs/contract.md §8.2).
    fn notes(&self, input: &RecordInput, verdict: &status::VerdictInput) -> Vec<String> {
        let (caller, end) = (input.caller, &input.end);
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
        let unseen = self.unseen(input.start, end.at);
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
        if let Some(alone) = verdict.alone_ms().filter(|ms| *ms >= status::ALONE_MS) {
            notes.push(format!(
                "The caller was alone for the last {:.1} s: no agent was there.",
                alone as f64 / 1000.0
            ));
        }
        notes
    }
}

/// What a record is made of besides the metrics.
struct RecordInput<'a> {
    caller: &'a Party,
    end: CallEnd,
    view: AgentView,
    call_type: CallType,
    start: Moment,
    start_basis: TimeBasis,
    /// The end of the call, but never before the start.
    ended: Moment,
}

fn turns_from_history(input: &RecordInput) -> u32 {
    let view = Window { start: input.start, end: input.ended }.view(&input.view);
    u32::try_from(view.items.iter().filter(|i| i.from_history).count()).unwrap_or(u32::MAX)
}
