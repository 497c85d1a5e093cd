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
    Call, Event, Fact, Moment, Phase, event::LeaveReason, metadata::OptOut, published::Problem,
};
use delivery::{Delivery, Finished};
use record::{CallHistory, Discovery, TimeBasis};
use store::{CallJournal, Journals};
use tokio::sync::watch;

use crate::{
    clock::{Clock, WallClock},
    fleet::name::NameWatch,
};

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

    pub(super) fn subscribe(&self) -> watch::Receiver<usize> {
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
    /// How many calls ended in this recording.
    ended: u32,
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
            ended: 0,
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
        self.call = Some(call);
    }

    // ---- while it runs ----------------------------------------------------------------------

    pub(super) fn apply(&mut self, at: Moment, fact: Fact) {
        let Some(event) = self.take(at, fact) else { return };
        if let Some(journal) = &self.journal {
            journal.append(&event);
        }
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
            tracing::warn!(
                room = self.room,
                by = call.opted_out_by().map(OptOut::as_str),
                "opted out of recording: the value of opt_out_sensitive_data is not a clear no; \
                 nothing of this call is stored or sent"
            );
        }
        if call.opted_out()
            && let Some(journal) = self.journal.take()
        {
            journal.forget();
        }
        for (problem, count) in call.take_problems() {
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
        let call_id = self.call.as_ref().map(Call::id);
        let (journals, room) = (self.services.journals.clone(), self.room.clone());
        // Logged once a crash can no longer lose the call. No caller of this function waits for it.
        tokio::spawn(async move {
            journals.written(JOURNAL_WITHIN).await;
            tracing::info!(call_id, room, "call started");
        });
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
        if call.discovered_by() == Some(Discovery::Dispatch) && call.has_caller() {
            self.services.name.dispatched_call_ended(call.has_agent());
        }
        self.ended += 1;
        self.active = None;
        self.problems.clear();
        self.opted_out = false;
        if call.opted_out() {
            tracing::info!(
                room = self.room,
                "call ended; opted out of recording, nothing is stored or sent"
            );
        } else if let Some(record) = catch_unwind(AssertUnwindSafe(|| call.record()))
            .unwrap_or_else(|_| call.record_without_metrics())
        {
            self.log_end(&call, &record);
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
        self.forget_journal();
        Some(call)
    }

    /// Drops the running call without a record: another worker reports it.
    pub(super) fn discard(&mut self) {
        self.call = None;
        self.active = None;
        self.forget_journal();
    }

    /// Deletes the journal. Used when no record will come of it, so that no later start resumes it.
    pub(super) fn forget_journal(&mut self) {
        if let Some(journal) = self.journal.take() {
            journal.forget();
        }
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

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::Arc};

    use call::{
        RoomFacts, Settings,
        event::{Joined, Kind},
    };
    use delivery::{Store, Target};
    use store::{
        BacklogGauge, BacklogLimit, Disk, DiskHealth, DiskWork, Health, Ordinals, Outbox,
        disk::memory::MemoryDisk, journal::left_behind, outbox::Folder,
    };

    use super::*;

    const DIR: &str = "/data";

    struct Lab {
        disk: MemoryDisk,
        outbox: Outbox,
        journals: Journals,
        active_calls: watch::Receiver<usize>,
        recording: Recording,
    }

    /// A recording on a disk in memory; the endpoint does not answer.
    fn lab() -> Lab {
        crate::net::init();
        let (disk, dir, health) = (MemoryDisk::default(), Path::new(DIR), Health::default());
        let all: Arc<dyn Disk> = Arc::new(disk.clone());
        let of_disk = || DiskHealth::new(dir, health.clone());
        let outbox = Outbox::open(all.clone(), of_disk(), dir).unwrap();
        let store = Store {
            outbox: outbox.clone(),
            ordinals: Ordinals::open(all.clone(), of_disk(), dir).unwrap(),
            disk: DiskWork::new(all.clone(), of_disk(), dir),
        };
        let target = Target {
            client: crate::net::http_client(Duration::from_secs(1)).unwrap(),
            endpoint: "http://127.0.0.1:1/".parse().unwrap(),
            shown: "nowhere".into(),
            jwt_secret: None,
            headers: Default::default(),
            max_body: None,
            gzip_from: None,
            keep_sent: Duration::from_secs(60),
            now: Arc::new(Moment::default),
            explain: Arc::new(|e| e),
        };
        let gauge = BacklogGauge::new(BacklogLimit { records: 9, bytes: 1 << 20 }, health.clone());
        let (delivery, _sender) = delivery::start(store, target, gauge, health.clone());
        let journals = Journals::start(all, of_disk(), dir, false).unwrap();
        let name = NameWatch::new("recorder", health.clone());
        let (active_calls, wall) = (ActiveCalls::default(), WallClock::new(health));
        let clock = Clock::start(&wall);
        let on = active_calls.subscribe();
        let services =
            RecordingServices { journals: journals.clone(), delivery, active_calls, wall, name };
        let recording = Recording::new(services, "room".into(), clock);
        Lab { disk, outbox, journals, active_calls: on, recording }
    }

    fn call() -> Call {
        Call::new(RoomFacts { sid: "RM_1".into(), name: "room".into() }, Settings::default())
    }

    fn watching() -> Fact {
        Fact::Watching { server_behind_ms: 0, by: None }
    }

    fn joins(at: Moment, metadata: &str) -> Fact {
        Fact::Joined(Joined {
            identity: "alice".into(),
            sid: "PA_1".into(),
            kind: Kind::Standard,
            name: String::new(),
            metadata: metadata.into(),
            attributes: BTreeMap::new(),
            joined_at: at,
            permissions: None,
        })
    }

    fn leaves() -> Fact {
        Fact::Left {
            identity: "alice".into(),
            reason: LeaveReason::ClientInitiated,
            attributes: BTreeMap::new(),
            since: None,
        }
    }

    impl Lab {
        fn now(&self) -> Moment {
            self.recording.clock.now()
        }

        /// Names of the journals, after all writes are done.
        fn live(&self) -> Vec<String> {
            self.journals.flush(Duration::from_secs(10));
            let names = self.disk.walk(&Path::new(DIR).join("live")).unwrap();
            names.filter(|n| n.ends_with(".jsonl")).collect()
        }
    }

    #[tokio::test]
    async fn a_call_is_journaled_while_it_runs_and_sealed_when_it_ends() {
        let mut l = lab();
        let (now, first) = (l.now(), call());
        let id = first.id();
        l.recording.begin(first, vec![(now, watching()), (now, joins(now, ""))]);
        l.recording.note_start();
        assert!(l.recording.is_active() && *l.active_calls.borrow() == 1);
        assert_eq!(l.live(), [format!("{id}.jsonl")]);
        // The next run would resume it.
        let left = left_behind(&l.disk, Path::new(DIR), &l.outbox).unwrap();
        assert!(left.len() == 1 && left[0].call.caller_present());
        l.recording.apply(now, leaves());
        l.recording.end_call().await;
        assert_eq!(l.outbox.find(&id), Some(Folder::Pending));
        assert!(!l.recording.is_active() && l.recording.has_ended_any());
        assert_eq!((*l.active_calls.borrow(), l.recording.call().map(Call::ordinal)), (0, Some(1)));
        // The next call's journal holds only what the room carries over to it.
        let next = l.recording.call().unwrap().id();
        assert_eq!(l.live(), [format!("{next}.jsonl")]);
        l.recording.forget_journal();
        assert!(l.live().is_empty());
    }

    /// A room may live for weeks, and the machine's clock may be wrong at first.
    #[tokio::test]
    async fn the_next_call_of_a_room_takes_the_servers_time() {
        let mut l = lab();
        let now = l.now();
        l.recording.begin(call(), vec![(now, watching()), (now, joins(now, ""))]);
        l.recording.note_start();
        l.recording.apply(now, leaves());
        // Meanwhile another room has shown that this machine's clock is a minute behind.
        let server = now.plus(60_000);
        let at = tokio::time::Instant::now();
        l.recording.services.wall.learn_join(server, server, at, at);
        l.recording.end_call().await;
        let moved = l.now().since(now);
        assert!((59_000..90_000).contains(&moved), "{moved}");
        assert_eq!(l.recording.call().unwrap().server_behind_ms(), 0);
    }

    #[tokio::test]
    async fn nothing_is_kept_of_a_call_that_opts_out() {
        // From the start, and in the middle.
        for (first, then) in
            [("{\"opt_out_sensitive_data\":true}", ""), ("", "{\"opt_out_sensitive_data\":true}")]
        {
            let mut l = lab();
            let (now, it) = (l.now(), call());
            let id = it.id();
            l.recording.begin(it, vec![(now, watching()), (now, joins(now, first))]);
            l.recording.note_start();
            if !then.is_empty() {
                assert_eq!(l.live().len(), 1);
                let (identity, metadata) = ("alice".to_owned(), then.to_owned());
                l.recording.apply(now, Fact::Metadata { identity, metadata });
            }
            assert!(l.live().is_empty(), "{first}{then}");
            l.recording.apply(now, leaves());
            assert!(l.recording.report().await.is_some_and(|c| c.opted_out()));
            assert_eq!(l.outbox.find(&id), None);
        }
    }

    #[tokio::test]
    async fn a_call_left_to_another_worker_is_not_reported() {
        let mut l = lab();
        let (now, it) = (l.now(), call());
        let id = it.id();
        l.recording.begin(it, vec![(now, watching()), (now, joins(now, ""))]);
        l.recording.note_start();
        l.recording.discard();
        assert!(l.live().is_empty() && !l.recording.is_active());
        l.recording.end_call().await;
        assert_eq!(l.outbox.find(&id), None);
    }
}
