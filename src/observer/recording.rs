//! Records the calls of one room, one after the other. Only here core, journal and delivery meet: each
//! event goes to the core first, then to the journal. The record at the end goes to delivery.
//!
//! In: facts with their times. Out: a journal, a record, lines in the log. It uses no LiveKit types and
//! waits only until a record is sealed. The core comes before the journal: an event that makes the core
//! panic is not journaled, so it cannot break the next start.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use call::{
    Call, Event, Fact, Measured, Moment, Phase, event::LeaveReason, metadata::OptOut,
    published::Problem,
};
use delivery::{Delivery, Finished, events::Events};
use metrics::Metrics;
use record::{CallHistory, Discovery, TimeBasis};
use store::{CallJournal, Journals};
use tokio::sync::watch;

use crate::{
    clock::{Clock, WallClock},
    fleet::name::NameWatch,
};

pub(super) mod live;

use live::Live;

/// How long "call started" waits for the caller's join to be on disk.
const JOURNAL_WITHIN: Duration = Duration::from_millis(500);

/// Counts running calls in all rooms. Cheap to clone; all clones share one count.
#[derive(Clone, Debug, Default)]
pub(crate) struct ActiveCalls(watch::Sender<usize>);

impl ActiveCalls {
    /// Counts one call until the returned value is dropped.
    fn begin(&self) -> ActiveCall {
        self.0.send_modify(|n| *n += 1);
        ActiveCall(self.clone())
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<usize> {
        self.0.subscribe()
    }
}

struct ActiveCall(ActiveCalls);

impl Drop for ActiveCall {
    fn drop(&mut self) {
        self.0.0.send_modify(|n| *n = n.saturating_sub(1));
    }
}

/// What a recording uses; the same for all rooms.
#[derive(Clone)]
pub(super) struct RecordingServices {
    pub(super) journals: Journals,
    pub(super) delivery: Delivery,
    pub(super) active_calls: ActiveCalls,
    pub(super) wall: WallClock,
    pub(super) name: NameWatch,
    pub(super) metrics: Metrics,
    pub(super) events: Events,
}

/// A job for a room that is observed already.
#[derive(Debug)]
pub(crate) struct LaterJob {
    /// It may hold an opt-out.
    pub(crate) metadata: String,
    /// How the job would have found the room.
    pub(crate) by: Discovery,
}

pub(super) struct Recording {
    services: RecordingServices,
    /// The room's name, with phone numbers masked: for logs.
    room: String,
    clock: Clock,
    /// `None` before the first join, and after [`Self::discard`] or [`Self::report`].
    call: Option<Call>,
    /// The journal of `call`; `None` if the call opted out.
    journal: Option<CallJournal>,
    /// Set once a caller was in the room: from then on a record is due.
    active: Option<ActiveCall>,
    /// The live events of `call`, once they have begun.
    live: Option<Live>,
    /// A live event could not be made: no more are posted of `call`.
    events_failed: bool,
    /// How many calls ended in this recording.
    ended: u32,
    /// A job under our agent name came for the running call's room while it was observed already.
    dispatched: bool,
    /// The opt-out of this call is logged.
    opted_out: bool,
    /// Kinds of problems already logged for this call.
    problems: BTreeSet<Problem>,
}

impl Recording {
    pub(super) fn new(services: RecordingServices, room: String, clock: Clock) -> Self {
        Self {
            services,
            room,
            clock,
            call: None,
            journal: None,
            active: None,
            live: None,
            events_failed: false,
            ended: 0,
            dispatched: false,
            opted_out: false,
            problems: BTreeSet::new(),
        }
    }

    // ---- what is known ----------------------------------------------------------------------

    pub(super) fn call(&self) -> Option<&Call> {
        self.call.as_ref()
    }

    pub(super) fn phase(&self) -> Phase {
        self.call.as_ref().map_or(Phase::Waiting, |c| c.phase(self.clock.now()))
    }

    /// A caller was in the room, and the record is not handed over yet.
    pub(super) fn is_active(&self) -> bool {
        self.active.is_some()
    }

    /// Whether any call ended in this recording.
    pub(super) fn has_ended_any(&self) -> bool {
        self.ended > 0
    }

    pub(super) fn caller_present(&self) -> bool {
        self.call.as_ref().is_some_and(Call::caller_present)
    }

    // ---- a call begins ----------------------------------------------------------------------

    /// Begins a call with its first facts. If they hold an opt-out, no journal is ever made.
    pub(super) fn begin(&mut self, call: Call, first: Vec<(Moment, Fact)>) {
        self.call = Some(call);
        let taken: Vec<Event> =
            first.into_iter().filter_map(|(at, fact)| self.take(at, fact)).collect();
        if let Some(call) = self.call.as_ref().filter(|c| !c.opted_out()) {
            let journal = self.services.journals.begin(call);
            taken.iter().for_each(|event| journal.append(event));
            self.journal = Some(journal);
        }
    }

    /// Resumes a call that an earlier run left behind. The first `whole` bytes of its journal are good.
    pub(super) fn resume(&mut self, call: Call, whole: usize) {
        self.journal = Some(self.services.journals.go_on(&call, whole));
        self.active = call.has_caller().then(|| self.services.active_calls.begin());
        if self.active.is_some() && expects_events(&call) && !call.opted_out() {
            let (events, now) = (&self.services.events, self.clock.now());
            match catch_unwind(AssertUnwindSafe(|| Live::resume(events, &call, now))) {
                Ok(live) => self.live = live,
                Err(_) => self.events_failed = true,
            }
        }
        self.call = Some(call);
    }

    // ---- while it runs ----------------------------------------------------------------------

    pub(super) fn apply(&mut self, at: Moment, fact: Fact) {
        let Some(event) = self.take(at, fact) else { return };
        if let Some(journal) = &self.journal {
            journal.append(&event);
        }
        self.post_events();
    }

    /// Takes a later job for the room.
    pub(super) fn later_job(&mut self, job: LaterJob) {
        self.note_job(&job);
        if !job.metadata.is_empty() {
            self.apply(self.clock.now(), Fact::JobMetadata { metadata: job.metadata });
        }
    }

    /// The same for a job whose metadata the caller of this function applies.
    pub(super) fn note_job(&mut self, job: &LaterJob) {
        self.dispatched |= job.by == Discovery::Dispatch;
    }

    /// Posts the live events that are due. They begin once a record is due, as far as is known now.
    fn post_events(&mut self) {
        let Some(call) = self.call.as_ref().filter(|_| self.active.is_some()) else { return };
        let events = &self.services.events;
        if self.events_failed || call.opted_out() || !events.are_wanted() {
            return;
        }
        let live = &mut self.live;
        // A panic over an event must not end the call.
        let posted = catch_unwind(AssertUnwindSafe(|| {
            if live.is_none() && expects_events(call) {
                *live = Live::begin(events, call);
            }
            if let Some(live) = live {
                live.note(call);
            }
        }));
        self.events_failed |= posted.is_err();
    }

    /// Whether this fact is the beginning of another call: a phone has called again.
    pub(super) fn is_over_by(&self, fact: &Fact) -> bool {
        self.is_active() && self.call.as_ref().is_some_and(|c| c.is_over_by(fact))
    }

    /// The leave of the participant that joins again, if the server has not reported it.
    pub(super) fn leave_before(&mut self, at: Moment, fact: &Fact) {
        let Fact::Joined(j) = fact else { return };
        let here = self.call.as_ref().is_some_and(|c| c.present().contains(&j.identity));
        if here {
            let (identity, attributes) = (j.identity.clone(), BTreeMap::new());
            let reason = LeaveReason::UnknownReason;
            self.apply(at, Fact::Left { identity, reason, attributes, since: None });
        }
    }

    /// Gives a fact to the core. Returns the event to journal, if there is one.
    fn take(&mut self, at: Moment, fact: Fact) -> Option<Event> {
        let call = self.call.as_mut()?;
        let event = Event { at, fact };
        // A panic over one event must not end the call, and the event must not reach the journal.
        let taken = match catch_unwind(AssertUnwindSafe(|| call.apply(&event))) {
            Ok(taken) => taken.of(event),
            Err(_) => {
                tracing::error!(room = self.room, "an event could not be taken, the call goes on");
                None
            }
        };
        if call.opted_out() && !self.opted_out {
            self.opted_out = true;
            // Also what waits, and recordings that will come.
            self.services.events.forget(&call.room().sid);
            self.live = None;
            tracing::warn!(
                room = self.room,
                by = call.opted_out_by().map(OptOut::as_str),
                "opted out of recording by metadata: nothing of this call is stored or sent"
            );
        }
        if call.opted_out()
            && let Some(journal) = self.journal.take()
        {
            journal.forget();
        }
        for (problem, count) in call.take_problems() {
            self.services.metrics.ignored(problem.as_str(), count.into());
            if self.problems.insert(problem) {
                tracing::warn!(
                    call_id = call.id(),
                    room = self.room,
                    count,
                    reason = problem.as_str(),
                    "something published in the room was not taken"
                );
            }
        }
        taken.filter(|_| !call.opted_out())
    }

    /// If a caller is in the room, the call starts: from then on a record is due.
    pub(super) fn note_start(&mut self) {
        if self.active.is_some() || !self.caller_present() {
            return;
        }
        self.active = Some(self.services.active_calls.begin());
        let found_by = self.call.as_ref().and_then(Call::discovered_by);
        self.services.metrics.call_started(found_by.map_or("unknown", Discovery::as_str));
        let call_id = self.call.as_ref().map(Call::id);
        let (journals, room) = (self.services.journals.clone(), self.room.clone());
        // Logged once a crash can no longer lose the call. No caller of this function waits for it.
        tokio::spawn(async move {
            journals.written(JOURNAL_WITHIN).await;
            tracing::info!(call_id, room, "call started");
        });
        self.post_events();
    }

    // ---- a call ends ------------------------------------------------------------------------

    /// Hands the record over, and prepares for the next call of the room.
    pub(super) async fn end_call(&mut self) {
        let Some(call) = self.report().await else { return };
        // A room may live for weeks: without a new reading the clock would keep its first error.
        let behind = self.clock.restart_after_call(&self.services.wall, call.server_behind_ms());
        let (next, event) = call.next(self.clock.now(), behind);
        if !next.opted_out() {
            let journal = self.services.journals.begin(&next);
            journal.append(&event);
            self.journal = Some(journal);
        }
        self.call = Some(next);
    }

    /// Hands the record over. Returns the call that was reported.
    pub(super) async fn report(&mut self) -> Option<Call> {
        let call = self.call.take()?;
        self.ended += 1;
        self.active = None;
        self.problems.clear();
        self.opted_out = false;
        if call.opted_out() {
            tracing::info!(
                room = self.room,
                "call ended; opted out of recording, nothing is stored or sent"
            );
        } else if let Some((record, measured)) = catch_unwind(AssertUnwindSafe(|| call.explained()))
            .unwrap_or_else(|_| call.record_without_metrics().map(|r| (r, Measured::default())))
        {
            self.log_end(&call, &record);
            self.count_end(&call, &record, &measured);
            if let Some(live) = self.live.take() {
                let events = &self.services.events;
                let _ = catch_unwind(AssertUnwindSafe(|| live.end(events, &call, &record)));
            }
            let finished = Finished {
                record: &record,
                place: Some((&call.room().sid, call.ordinal())),
                ended: Moment::parse_rfc3339(&record.end_time).unwrap_or_default(),
                journal: self.journal.take(),
            };
            self.services.delivery.submit(finished).await;
        } else if call.has_caller() && !call.has_agent() {
            tracing::info!(
                call_id = call.id(),
                room = self.room,
                "call ended without an agent, not reported (CALL_HISTORY_REQUIRE_AGENT)"
            );
        }
        let _ = catch_unwind(AssertUnwindSafe(|| self.note_dispatched(&call)));
        self.dispatched = false;
        self.live = None;
        self.events_failed = false;
        self.forget_journal();
        Some(call)
    }

    /// Dispatched calls in which nobody came to the caller may say that another program has our agent name.
    fn note_dispatched(&self, call: &Call) {
        let dispatched = self.dispatched || call.discovered_by() == Some(Discovery::Dispatch);
        if let Some(lasted) = call.lasted_ms().filter(|_| dispatched && !call.opted_out()) {
            let lasted = Duration::from_millis(u64::try_from(lasted).unwrap_or(0));
            self.services.name.dispatched_call_ended(&self.room, call.caller_was_joined(), lasted);
        }
    }

    /// Drops the running call without a record: another worker reports it.
    pub(super) fn discard(&mut self) {
        // The other worker posts its events.
        if let Some(call) = self.call.take() {
            self.services.events.forget(&call.room().sid);
        }
        self.active = None;
        self.live = None;
        self.forget_journal();
    }

    /// Deletes the journal. Used when no record will come of it, so that no later start resumes it.
    pub(super) fn forget_journal(&mut self) {
        if let Some(journal) = self.journal.take() {
            journal.forget();
        }
    }

    fn count_end(&self, call: &Call, record: &CallHistory, measured: &Measured) {
        let metrics = &self.services.metrics;
        metrics.call_ended(record.status.as_str(), call.known_reason());
        metrics.evidence("user", measured.user.tier.as_str());
        metrics.evidence("agent", measured.agent.tier.as_str());
    }

    fn log_end(&self, call: &Call, r: &CallHistory) {
        let m = &r.metrics;
        tracing::info!(
            call_id = r.call_id,
            room = self.room,
            status = r.status.as_str(),
            reason = call.known_reason(),
            duration_s = r.duration_seconds,
            end_time_basis = call.end_basis().map(TimeBasis::as_str),
            user_utterances = m.total_user_utterances,
            agent_utterances = m.total_agent_utterances,
            interruptions = m.interruption_count,
            silences = m.silence_count,
            stages = r.stage_timeline.len(),
            "call ended"
        );
    }
}

/// Whether live events of a call may begin: a room without a wanted agent may be a meeting.
fn expects_events(call: &Call) -> bool {
    !call.settings().require_agent || call.has_agent()
}

#[cfg(test)]
mod tests;
