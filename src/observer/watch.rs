//! The life of one observation: join, watch, come back when the room is lost, tell each call's
//! end, leave with the room.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use livekit::prelude::LocalParticipant;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Assignment, Observers, liveness,
    presence::Presence,
    rejoin::{self, RoomState},
    room::{Connection, Notice},
    session_feed,
};
use crate::{
    call::{
        Call, CallHistory, Event, Fact, Moment, Phase, RoomFacts,
        ending::Basis,
        event::{FeedMessage, LeaveReason},
        published::Problem,
    },
    clock::Clock,
    journal::{CallJournal, LeftBehind},
    stop::Stop,
    telemetry::masked,
};

/// One attempt to join, from the free place in the queue to the room.
const JOIN_WITHIN: Duration = Duration::from_secs(30);
/// A server that cannot be reached for this long has no call of ours any more.
const REJOIN_FOR: Duration = Duration::from_secs(10 * 60);
/// Between attempts to come back: doubled up to the second.
const REJOIN_WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));
/// What is left in the streams of a room that has ended.
const REST_WITHIN: Duration = Duration::from_millis(40);
/// A token of the server's is used without a question within this time.
const FRESH: Duration = Duration::from_secs(1);
/// For the caller's coming to be on the disk.
const JOURNAL_WITHIN: Duration = Duration::from_millis(500);
/// A caller who was there longer than this before us may have said something.
const LATE_MS: i64 = 2_000;

/// Why an observation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With the room, or because we were told to stop.
    Done,
    /// Another room has that name now.
    NotOurs,
    Failed(String),
}

/// Observes one room to its end. `left`: a call of it that an earlier run left behind. `finished` is
/// called when all is told, before the room is left.
pub(crate) async fn observe(
    shared: Arc<Observers>,
    assignment: Assignment,
    left: Option<LeftBehind>,
    stop: watch::Receiver<Stop>,
    finished: impl FnOnce(&Ended),
) -> Ended {
    let clock = left.as_ref().map_or_else(Clock::start, |l| Clock::start_after(l.last_at));
    let panics = shared.panics.clone();
    let mut watch = Watch {
        room_name: masked(&assignment.room),
        shared,
        assignment,
        clock,
        stop,
        panics,
        call: None,
        journal: None,
        presence: Presence::default(),
        reconnecting_since: None,
        unsure_since: None,
        present: BTreeSet::new(),
        live: false,
        sid: String::new(),
        asked: BTreeSet::new(),
        answered: watch::Sender::new(false),
        problems: BTreeSet::new(),
        calls: 0,
    };
    let (ended, mut connection) = watch.run(left).await;
    watch.forget_journal();
    finished(&ended);
    if let Some(c) = &mut connection {
        c.close();
    }
    ended
}

/// Why there is no connection.
enum NoJoin {
    /// The room is not there any more.
    Gone,
    /// Another room has its name.
    Replaced,
    /// We were told to stop meanwhile.
    Stopped,
    /// To be tried again.
    Failed(String),
}

/// What made the watching of one connection end.
enum Parted {
    /// The room is over, or we are not wanted in it.
    RoomEnded(LeaveReason),
    /// The connection is lost; the room may live on.
    Lost(LeaveReason),
    /// Our room is gone, and another one has its name.
    Replaced,
    /// We were told to stop.
    Stopped,
}

struct Watch {
    shared: Arc<Observers>,
    assignment: Assignment,
    /// As it may be logged.
    room_name: String,
    clock: Clock,
    stop: watch::Receiver<Stop>,
    panics: watch::Receiver<u64>,
    /// `None` before the first join.
    call: Option<Call>,
    /// Of that call.
    journal: Option<CallJournal>,
    presence: Presence,
    /// Since when the SDK tries to reconnect.
    reconnecting_since: Option<Moment>,
    /// Since when the room may be deaf.
    unsure_since: Option<Moment>,
    /// Identities in the room, as told to the call.
    present: BTreeSet<String>,
    /// A call is on.
    live: bool,
    /// The room's, once joined.
    sid: String,
    /// Agents asked for their history on this connection.
    asked: BTreeSet<String>,
    /// A history has come since they were asked.
    answered: watch::Sender<bool>,
    /// Kinds of problems already logged for this call.
    problems: BTreeSet<Problem>,
    calls: u32,
}

impl Watch {
    async fn run(&mut self, left: Option<LeftBehind>) -> (Ended, Option<Connection>) {
        self.panics.mark_unchanged();
        let joined = match left {
            Some(left) => self.go_on(left).await,
            None => self.first_join().await,
        };
        let mut connection = match joined {
            Ok(c) => c,
            Err(ended) => return (ended, None),
        };
        loop {
            match self.follow(&mut connection).await {
                Parted::RoomEnded(reason) => {
                    self.room_over(Some(&mut connection), reason, self.clock.now()).await;
                    return (Ended::Done, Some(connection));
                }
                Parted::Stopped => {
                    let reason = LeaveReason::ClientInitiated;
                    self.room_over(Some(&mut connection), reason, self.clock.now()).await;
                    return (Ended::Done, Some(connection));
                }
                Parted::Replaced => {
                    tracing::warn!(
                        job_id = self.assignment.id,
                        room = self.room_name,
                        "the room is gone, and another has its name; left at once"
                    );
                    let lost_at = self.lost_at();
                    self.room_over(Some(&mut connection), LeaveReason::UnknownReason, lost_at)
                        .await;
                    return (Ended::Done, Some(connection));
                }
                Parted::Lost(reason) => {
                    let lost_at = self.lost_at();
                    tracing::warn!(
                        job_id = self.assignment.id,
                        room = self.room_name,
                        ?reason,
                        "connection to the room lost, coming back"
                    );
                    connection.close();
                    self.apply(lost_at, Fact::Blind);
                    match self.come_back(lost_at).await {
                        Some(c) => connection = c,
                        None => {
                            self.room_over(Some(&mut connection), reason, lost_at).await;
                            return (Ended::Done, None);
                        }
                    }
                }
            }
        }
    }

    /// Since when nothing was seen.
    fn lost_at(&mut self) -> Moment {
        let since = [self.reconnecting_since.take(), self.unsure_since.take()];
        since.into_iter().flatten().min().unwrap_or_else(|| self.clock.now())
    }

    // ---- joining -----------------------------------------------------------------------------

    async fn first_join(&mut self) -> Result<Connection, Ended> {
        let began = Instant::now();
        let mut wait = REJOIN_WAIT.0;
        let mut token = self.assignment.token.clone();
        loop {
            let expected = self.assignment.room_sid.clone();
            match self.join(token.as_deref(), expected.as_deref()).await {
                Ok(c) => return self.joined(c, began).await,
                Err(NoJoin::Stopped) => return Err(Ended::Done),
                Err(NoJoin::Replaced) => return Err(Ended::NotOurs),
                Err(NoJoin::Gone) => {
                    return Err(Ended::Failed(
                        "the room was gone before it could be joined".into(),
                    ));
                }
                Err(NoJoin::Failed(error)) => {
                    tracing::warn!(
                        job_id = self.assignment.id,
                        room = self.room_name,
                        error,
                        "could not join the room"
                    );
                    if began.elapsed() >= REJOIN_FOR {
                        return Err(Ended::Failed(error));
                    }
                }
            }
            // The job's token may be the reason.
            token = None;
            if !self.pause(&mut wait).await {
                return Err(Ended::Done);
            }
        }
    }

    fn is_ours(&self, sid: &str) -> bool {
        let expected = self.assignment.room_sid.as_deref();
        expected.is_none_or(|e| e.is_empty() || e == sid)
    }

    /// One attempt, given up when we are told to stop now.
    ///
    /// A room that is gone must not be created again by joining it. So the server is asked first,
    /// after the wait for a free place: only the assignment's own token, fresh from the server and
    /// used at once, goes without.
    async fn join(
        &mut self,
        token: Option<&str>,
        expected: Option<&str>,
    ) -> Result<Connection, NoJoin> {
        let mut stop = self.stop.clone();
        let attempt = async {
            let (a, began) = (&self.assignment, Instant::now());
            // Never closed, so there is always a permit in the end.
            let _permit = self.shared.joins.acquire().await;
            if token.is_none() || began.elapsed() > FRESH {
                match rejoin::look(&self.shared.api, &a.room).await {
                    RoomState::There(sid) if expected.is_none_or(|e| e == sid) => {}
                    RoomState::There(_) => return Err(NoJoin::Replaced),
                    RoomState::Gone => return Err(NoJoin::Gone),
                    RoomState::Unknown(error) => return Err(NoJoin::Failed(error)),
                }
            }
            let identity = a.identity();
            let own = rejoin::token(&self.shared.livekit, &a.room, &identity);
            let own = own.map_err(NoJoin::Failed)?;
            let open = Connection::open(&a.url, token.unwrap_or(&own), &identity, self.clock);
            match timeout(JOIN_WITHIN, open).await {
                Ok(done) => done.map_err(NoJoin::Failed),
                Err(_) => Err(NoJoin::Failed(format!("no answer within {JOIN_WITHIN:?}"))),
            }
        };
        tokio::select! {
            done = attempt => done,
            // A sender that is gone means that the process ends.
            _ = stop.wait_for(|s| *s == Stop::Now) => Err(NoJoin::Stopped),
        }
    }

    async fn joined(&mut self, mut c: Connection, began: Instant) -> Result<Connection, Ended> {
        self.sid = c.sid().to_owned();
        if !self.is_ours(&self.sid) {
            tracing::warn!(
                job_id = self.assignment.id,
                room = self.room_name,
                "another room has this name now, left at once"
            );
            c.close();
            return Err(Ended::NotOurs);
        }
        let facts = RoomFacts { sid: self.sid.clone(), name: self.assignment.room.clone() };
        let mut call = Call::new(facts, self.shared.settings.clone());
        // Calls of this room that an earlier observation has told keep their ids.
        let mut ordinal = 0;
        while self.shared.delivery.knows(&call.id()).await {
            ordinal += 1;
            call.set_ordinal(ordinal);
        }
        self.journal = Some(self.shared.journals.begin(&call));
        self.call = Some(call);
        if !self.assignment.metadata.is_empty() {
            let metadata = self.assignment.metadata.clone();
            self.apply(self.clock.now(), Fact::JobMetadata { metadata });
        }
        for (at, fact) in c.known() {
            self.note_presence(&fact);
            self.apply(at, fact);
        }
        tracing::info!(
            job_id = self.assignment.id,
            room = self.room_name,
            room_sid = self.sid,
            took_ms = millis(began.elapsed()),
            "joined"
        );
        self.note_start();
        if self.live && self.came_late() {
            self.ask_for_history(c.us());
        }
        Ok(c)
    }

    /// A call that an earlier run was watching: in the room again, or told as far as it was seen.
    async fn go_on(&mut self, left: LeftBehind) -> Result<Connection, Ended> {
        let LeftBehind { call, last_at, whole, superseded } = left;
        self.sid = call.room().sid.clone();
        self.live = call.has_caller();
        self.present = call.present().into_iter().collect();
        self.journal = Some(self.shared.journals.go_on(&call, whole));
        tracing::info!(
            call_id = call.id(),
            room = self.room_name,
            "a call that an earlier run was watching"
        );
        self.call = Some(call);
        self.apply(self.clock.now(), Fact::Recovered);
        // A later call of the same room was on: only this one's record is missing.
        if superseded {
            self.apply(last_at, Fact::RoomEnded { reason: LeaveReason::UnknownReason });
            self.tell().await;
            return Err(Ended::Done);
        }
        if self.phase() == Phase::Over {
            self.call_over_unseen().await;
        }
        if let Some(c) = self.come_back(last_at).await {
            return Ok(c);
        }
        self.room_over(None, LeaveReason::UnknownReason, last_at).await;
        Err(Ended::Done)
    }

    /// Into the same room again, for as long as there may be one.
    async fn come_back(&mut self, lost_at: Moment) -> Option<Connection> {
        let began = Instant::now();
        let mut wait = REJOIN_WAIT.0;
        while began.elapsed() < REJOIN_FOR {
            let sid = self.sid.clone();
            match self.join(None, Some(&sid)).await {
                // Between the look and the join another may have taken its name.
                Ok(c) if c.sid() != self.sid => return None,
                Ok(c) => {
                    tracing::info!(
                        job_id = self.assignment.id,
                        room = self.room_name,
                        away_ms = millis(began.elapsed()),
                        "joined again"
                    );
                    self.asked.clear();
                    self.compare_presence(&c, lost_at);
                    return Some(c);
                }
                Err(NoJoin::Stopped | NoJoin::Gone | NoJoin::Replaced) => return None,
                Err(NoJoin::Failed(error)) => {
                    tracing::warn!(room = self.room_name, error, "could not join again");
                }
            }
            // A caller who had left before is not waited for any longer than with a connection.
            if self.phase() == Phase::Over && self.live {
                self.call_over_unseen().await;
            }
            if !self.pause(&mut wait).await {
                return None;
            }
        }
        None
    }

    /// Those who left while we were away.
    fn compare_presence(&mut self, c: &Connection, lost_at: Moment) {
        let there = c.present();
        for identity in self.present.iter().filter(|i| !there.contains(i)) {
            self.presence.seems_gone(identity.clone(), BTreeMap::new(), lost_at);
        }
        self.presence.reconnected(self.clock.now());
    }

    /// False if we were told to stop meanwhile.
    async fn pause(&mut self, wait: &mut Duration) -> bool {
        let now = wait.mul_f64(rand::random_range(0.5..1.0));
        *wait = (*wait * 2).min(REJOIN_WAIT.1);
        tokio::select! {
            () = sleep(now) => true,
            // A sender that is gone means that the process ends.
            _ = self.stop.wait_for(|s| *s == Stop::Now) => false,
        }
    }

    // ---- watching ----------------------------------------------------------------------------

    async fn follow(&mut self, c: &mut Connection) -> Parted {
        let mut echo_by: Option<Instant> = None;
        loop {
            let stop = *self.stop.borrow_and_update();
            // A room that still waits for its caller is worth staying for; nobody else will come.
            let told = self.calls > 0 && !self.call_on();
            if stop == Stop::Now || (stop == Stop::Drain && told) {
                return Parted::Stopped;
            }
            let due = self.due(echo_by);
            tokio::select! {
                (at, notice) = c.next() => match notice {
                    Notice::Fact(fact) => self.fact(c, at, fact).await,
                    Notice::SeemsGone { identity, attributes } => {
                        self.presence.seems_gone(identity, attributes, at);
                    }
                    Notice::Reconnecting => {
                        self.reconnecting_since.get_or_insert(at);
                        self.presence.reconnecting();
                    }
                    Notice::Reconnected => {
                        self.reconnecting_since = None;
                        self.presence.reconnected(at);
                    }
                    Notice::OtherRoom => return Parted::Replaced,
                    Notice::Echo => {
                        echo_by = None;
                        self.unsure_since = None;
                    }
                    Notice::Disconnected(reason) => return parted(reason),
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if echo_by.is_some_and(|by| by <= Instant::now()) {
                        tracing::error!(
                            job_id = self.assignment.id, room = self.room_name,
                            "the room's events have stopped, joining again"
                        );
                        return Parted::Lost(LeaveReason::UnknownReason);
                    }
                    self.tick(c).await;
                }
                Ok(()) = self.panics.changed() => {
                    let a = &self.assignment;
                    tokio::spawn(liveness::probe(self.shared.api.clone(), a.room.clone(), a.identity()));
                    self.unsure_since.get_or_insert(self.clock.now());
                    // Without an echo the room is joined again, whyever none came.
                    echo_by = Some(Instant::now() + liveness::ECHO_WITHIN);
                }
                Ok(()) = self.stop.changed() => {}
            }
        }
    }

    fn due(&self, echo_by: Option<Instant>) -> Option<Instant> {
        let call = match self.call.as_ref().map(|c| c.phase(self.clock.now())) {
            Some(Phase::Ending(at)) => Some(self.clock.instant(at)),
            Some(Phase::Over) if self.live => Some(Instant::now()),
            _ => None,
        };
        let presence = self.presence.due().map(|at| self.clock.instant(at));
        [call, presence, echo_by].into_iter().flatten().min()
    }

    async fn tick(&mut self, c: &mut Connection) {
        let now = self.clock.now();
        for fact in self.presence.settle(now) {
            self.fact(c, now, fact).await;
        }
        if self.phase() == Phase::Over {
            self.call_over().await;
        }
    }

    async fn fact(&mut self, c: &mut Connection, at: Moment, fact: Fact) {
        self.note_presence(&fact);
        if matches!(fact, Fact::Feed { message: FeedMessage::History { .. }, .. }) {
            self.answered.send_replace(true);
        }
        let was_there = self.caller_present();
        let joined = matches!(fact, Fact::Joined(_));
        self.apply(at, fact);
        let is_there = self.caller_present();
        // At once, in this very handler: a Node agent answers only for some 15 ms after the leave.
        if was_there && !is_there {
            self.asked.clear();
            self.ask_for_history(c.us());
        }
        self.note_start();
        if joined && is_there && (self.came_late() || self.missed_something()) {
            self.ask_for_history(c.us());
        }
        if self.phase() == Phase::Over {
            self.call_over().await;
        }
    }

    fn note_presence(&mut self, fact: &Fact) {
        match fact {
            Fact::Joined(j) => {
                self.presence.is_back(&j.identity);
                self.present.insert(j.identity.clone());
            }
            Fact::Left { identity, .. } => {
                self.present.remove(identity);
            }
            _ => {}
        }
    }

    fn note_start(&mut self) {
        if !self.live && self.caller_present() {
            self.live = true;
            let call_id = self.call.as_ref().map(Call::id);
            let (journals, room) = (self.shared.journals.clone(), self.room_name.clone());
            // Said when the call is known for good, whatever happens to us; nothing waits for it.
            tokio::spawn(async move {
                journals.written(JOURNAL_WITHIN).await;
                tracing::info!(call_id, room, "call started");
            });
        }
    }

    /// Something may have been said before we came, and the one who knows is there.
    fn came_late(&self) -> bool {
        self.call.as_ref().is_some_and(|c| c.watched_late(LATE_MS))
    }

    /// We were away in the middle of the call.
    fn missed_something(&self) -> bool {
        self.call.as_ref().is_some_and(Call::was_blind)
    }

    /// Each agent once: the answer goes to everybody in the room.
    fn ask_for_history(&mut self, us: Option<LocalParticipant>) {
        let Some(us) = us else { return };
        for agent in self.call.iter().flat_map(Call::agents).collect::<Vec<_>>() {
            if self.asked.insert(agent.clone()) {
                self.answered.send_replace(false);
                let answered = self.answered.subscribe();
                tokio::spawn(session_feed::ask_for_history(us.clone(), agent, answered));
            }
        }
    }

    fn apply(&mut self, at: Moment, fact: Fact) {
        let Some(call) = &mut self.call else { return };
        let event = Event { at, fact };
        // What one event breaks must not take the whole call with it, nor the next start.
        if catch_unwind(AssertUnwindSafe(|| call.apply(&event))).is_err() {
            tracing::error!(room = self.room_name, "an event could not be taken, the call goes on");
        } else if let Some(journal) = &self.journal
            && !call.opted_out()
        {
            journal.append(&event);
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
                    room = self.room_name,
                    count,
                    reason = problem.as_str(),
                    "something published in the room was not taken"
                );
            }
        }
    }

    fn phase(&self) -> Phase {
        self.call.as_ref().map_or(Phase::Waiting, |c| c.phase(self.clock.now()))
    }

    fn call_on(&self) -> bool {
        matches!(self.phase(), Phase::Live | Phase::Ending(_))
    }

    fn caller_present(&self) -> bool {
        self.call.as_ref().is_some_and(Call::caller_present)
    }

    // ---- ending ------------------------------------------------------------------------------

    /// The last call in this room, if one is on.
    async fn room_over(
        &mut self,
        c: Option<&mut Connection>,
        reason: LeaveReason,
        ended_at: Moment,
    ) {
        if let Some(c) = c {
            for (at, fact) in c.rest(REST_WITHIN).await {
                self.apply(at, fact);
            }
        }
        self.apply(ended_at, Fact::RoomEnded { reason });
        if self.live {
            self.call_over().await;
        } else if self.calls == 0 {
            tracing::info!(
                job_id = self.assignment.id,
                room = self.room_name,
                "room ended without a caller, nothing to report"
            );
        }
    }

    /// The call is over while we are not in the room: nor do we see how the next one begins.
    async fn call_over_unseen(&mut self) {
        self.call_over().await;
        self.apply(self.clock.now(), Fact::Blind);
    }

    async fn call_over(&mut self) {
        let Some(call) = self.tell().await else { return };
        let (next, event) = call.next(self.clock.now());
        if !next.opted_out() {
            let journal = self.shared.journals.begin(&next);
            journal.append(&event);
            self.journal = Some(journal);
        }
        self.call = Some(next);
    }

    /// Hands the record over.
    async fn tell(&mut self) -> Option<Call> {
        let call = self.call.take()?;
        self.calls += 1;
        self.live = false;
        self.problems.clear();
        if call.opted_out() {
            tracing::info!(
                room = self.room_name,
                "call ended; opted out of recording, nothing is stored or sent"
            );
        } else if let Some(record) = catch_unwind(AssertUnwindSafe(|| call.record()))
            .unwrap_or_else(|_| call.record_without_metrics())
        {
            self.log_end(&call, &record);
            self.shared.delivery.submit(&record, self.journal.take()).await;
        }
        self.forget_journal();
        Some(call)
    }

    /// A room that is over leaves no journal of a call that never was.
    fn forget_journal(&mut self) {
        if let Some(journal) = self.journal.take() {
            journal.forget();
        }
    }

    fn log_end(&self, call: &Call, r: &CallHistory) {
        let m = &r.metrics;
        tracing::info!(
            call_id = r.call_id,
            room = self.room_name,
            status = r.status.as_str(),
            reason = call.known_reason(),
            duration_s = r.duration_seconds,
            end_time_basis = call.end_basis().map(Basis::as_str),
            user_utterances = m.total_user_utterances,
            agent_utterances = m.total_agent_utterances,
            interruptions = m.interruption_count,
            silences = m.silence_count,
            stages = r.stage_timeline.len(),
            "call ended"
        );
    }
}

/// Whether a disconnect is the room's end or only ours.
fn parted(reason: LeaveReason) -> Parted {
    use LeaveReason as L;
    match reason {
        L::RoomDeleted | L::RoomClosed | L::ParticipantRemoved | L::DuplicateIdentity => {
            Parted::RoomEnded(reason)
        }
        _ => Parted::Lost(reason),
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
