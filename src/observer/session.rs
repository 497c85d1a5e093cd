//! One observation from start to end: join the room, follow its events, join again after the connection
//! was lost, leave when the room ends or another worker observes it. Recording is in [`super::recording`].

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use call::{
    Call, Fact, Moment, Phase,
    event::{FeedMessage, Joined, Kind, LeaveReason},
};
use livekit::prelude::LocalParticipant;
use metrics::Reconnect;
use store::journal::LeftBehind;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    Assignment, Observers,
    attendance::Attendance,
    recording::{LaterJob, Recording},
    room::{Connection, Notice},
    sdk::liveness,
    session_feed,
};
use crate::{clock::Clock, fleet::handover, stop::Stop, telemetry::masked};

/// How long the streams of a room that has ended are still read.
const REST_WITHIN: Duration = Duration::from_millis(40);
/// By LiveKit's defaults a room closes 20 s after its last participant left. Each later leave starts
/// these 20 s again, so the observer stays until the room has closed.
const LINGER: Duration = Duration::from_secs(25);
/// If a caller was in the room longer than this before us, somebody may have spoken already. A join through a dispatch
/// takes some 0.1 s on a machine that is not loaded, and no agent greets so soon.
const LATE_MS: i64 = 300;

/// Why an observation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The room ended, or the process stops.
    Done,
    /// The room no longer exists; another room may have its name.
    NotOurs,
    Failed(String),
    /// Another worker observes the room and reports its call.
    Elsewhere,
    /// The observer was removed from the room. This worker does not join the room again by itself.
    Removed,
    /// The running call was reported before, up to this time.
    ReportedBefore(Moment),
}

/// What the worker can send to an observer while it runs.
pub(crate) struct Orders {
    pub(crate) stop: Stop,
    /// Set when another worker's observer was first in the room: this observer leaves without a record.
    pub(crate) withdraw: watch::Receiver<bool>,
    pub(crate) later_jobs: mpsc::UnboundedReceiver<LaterJob>,
}

/// What an observer reports while it runs.
pub(crate) enum Progress<'a> {
    /// The observer has joined the room, for the first time or again.
    Joined,
    /// All records of the room are handed over. The observer leaves it next.
    Over(&'a Ended),
}

/// Observes one room until it ends. `left`: a call of this room that an earlier run left behind.
pub(crate) async fn observe(
    shared: Arc<Observers>,
    assignment: Assignment,
    left: Option<Box<LeftBehind>>,
    orders: Orders,
    report: impl FnMut(Progress<'_>) + Send + 'static,
) -> Ended {
    let wall = &shared.wall;
    let clock = match &left {
        Some(left) => Clock::start_after(left.last_at, wall),
        None => Clock::start(wall),
    };
    let panics = shared.panics.clone();
    let room_name = masked(&assignment.room);
    let recording = Recording::new(shared.recording_services(), room_name.clone(), clock.clone());
    let mut session = RoomSession {
        room_name,
        shared,
        assignment,
        clock,
        stop: orders.stop,
        withdraw: orders.withdraw,
        later_jobs: orders.later_jobs,
        report: Box::new(report),
        panics,
        recording,
        attendance: Attendance::default(),
        reconnecting_since: None,
        unsure_since: None,
        quiet_since: Instant::now(),
        sid: String::new(),
        inhabited: AtomicBool::new(false),
        asked: BTreeSet::new(),
        answered: watch::Sender::new(false),
    };
    let _counted = session.shared.observing.clone();
    let (ended, mut connection) = session.run(left).await;
    session.recording.forget_journal();
    (session.report)(Progress::Over(&ended));
    // If the process ended before LiveKit's tasks, they would panic.
    if let Some(left) = connection.as_mut().and_then(Connection::close) {
        let _ = left.await;
    }
    ended
}

/// Why following one connection ended.
enum ConnectionEnd {
    /// The room ended, or the server removed us from it.
    RoomEnded(LeaveReason),
    /// The connection is lost; the room may still exist.
    Lost(LeaveReason),
    /// Our room no longer exists, and another room has its name.
    Replaced,
    /// The process stops.
    Stopped,
    /// Another worker observes the room.
    Elsewhere,
}

pub(super) struct RoomSession {
    pub(super) shared: Arc<Observers>,
    pub(super) assignment: Assignment,
    /// The room's name, with phone numbers masked: for logs.
    pub(super) room_name: String,
    pub(super) clock: Clock,
    pub(super) stop: Stop,
    withdraw: watch::Receiver<bool>,
    pub(super) later_jobs: mpsc::UnboundedReceiver<LaterJob>,
    pub(super) report: Box<dyn FnMut(Progress<'_>) + Send>,
    pub(super) panics: watch::Receiver<u64>,
    pub(super) recording: Recording,
    pub(super) attendance: Attendance,
    /// When the SDK began to reconnect; events may be missing since then.
    pub(super) reconnecting_since: Option<Moment>,
    /// When a panic was seen after which no echo has come; events may be missing since then.
    pub(super) unsure_since: Option<Moment>,
    /// When the last caller left, or when the session began. A drain waits [`LINGER`] from here.
    pub(super) quiet_since: Instant,
    /// The room's sid; empty until the first join.
    pub(super) sid: String,
    /// People were seen in the room while it could not be joined.
    pub(super) inhabited: AtomicBool,
    /// Agents already asked for their history. Emptied on a new connection and when the caller leaves.
    pub(super) asked: BTreeSet<String>,
    /// True once a history has come; the tasks that repeat the request then stop.
    pub(super) answered: watch::Sender<bool>,
}

impl RoomSession {
    async fn run(&mut self, left: Option<Box<LeftBehind>>) -> (Ended, Option<Connection>) {
        self.panics.mark_unchanged();
        // What a join needs is large, and is given back after it.
        let joined = match left {
            Some(left) => Box::pin(self.resume(left)).await,
            None => Box::pin(self.first_join()).await,
        };
        let mut connection = match joined {
            Ok(c) => c,
            Err(ended) => return (ended, None),
        };
        loop {
            match self.follow(&mut connection).await {
                ConnectionEnd::RoomEnded(reason) => {
                    self.room_over(Some(&mut connection), reason, self.clock.now()).await;
                    let removed = reason == LeaveReason::ParticipantRemoved;
                    let ended = if removed { Ended::Removed } else { Ended::Done };
                    return (ended, Some(connection));
                }
                ConnectionEnd::Stopped => {
                    let reason = LeaveReason::ClientInitiated;
                    self.room_over(Some(&mut connection), reason, self.clock.now()).await;
                    return (Ended::Done, Some(connection));
                }
                ConnectionEnd::Elsewhere => {
                    tracing::info!(
                        job_id = self.assignment.id,
                        room = self.room_name,
                        "another worker observes the room, left to it"
                    );
                    let lingers = self.recording.is_active() && !self.recording.caller_present();
                    self.recording.discard();
                    // Our leave would keep a room open that is about to close.
                    if lingers {
                        self.release_claim();
                        self.wait_for_the_end(&mut connection).await;
                    }
                    return (Ended::Elsewhere, Some(connection));
                }
                ConnectionEnd::Replaced => {
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
                ConnectionEnd::Lost(reason) => {
                    let lost_at = self.lost_at();
                    tracing::warn!(
                        job_id = self.assignment.id,
                        room = self.room_name,
                        ?reason,
                        "connection to the room lost, coming back"
                    );
                    connection.close();
                    self.recording.apply(lost_at, Fact::Blind);
                    match Box::pin(self.come_back(lost_at)).await {
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

    /// The earliest time from which events may be missing.
    fn lost_at(&mut self) -> Moment {
        let since = [self.reconnecting_since.take(), self.unsure_since.take()];
        since.into_iter().flatten().min().unwrap_or_else(|| self.clock.now())
    }

    // ---- the end of a call or room ----------------------------------------------------------

    /// The room is over: ends the running call, if there is one.
    pub(super) async fn room_over(
        &mut self,
        c: Option<&mut Connection>,
        reason: LeaveReason,
        ended_at: Moment,
    ) {
        if let Some(c) = c {
            for (at, fact) in c.rest(REST_WITHIN).await {
                self.recording.apply(at, fact);
            }
        }
        self.recording.apply(ended_at, Fact::RoomEnded { reason });
        if self.recording.is_active() {
            self.take_later_jobs();
            // There is no next call, so no journal is begun for one.
            self.recording.report().await;
        } else if !self.recording.has_ended_any() {
            tracing::info!(
                job_id = self.assignment.id,
                room = self.room_name,
                "room ended without a caller, nothing to report"
            );
        }
    }

    pub(super) async fn end_call(&mut self) {
        self.take_later_jobs();
        // A program that took our job may have failed before it joined.
        if self.recording.call().is_some_and(|c| c.has_caller() && !c.caller_was_joined()) {
            self.look_for_strangers();
        }
        self.recording.end_call().await;
    }

    /// Ends the call while we are not in the room. We do not see the beginning of the next call either.
    pub(super) async fn end_call_unseen(&mut self) {
        self.end_call().await;
        self.recording.apply(self.clock.now(), Fact::Blind);
    }

    /// Takes the later jobs that still wait. Their metadata may hold an opt-out, which must count before the record
    /// is made.
    pub(super) fn take_later_jobs(&mut self) {
        while let Ok(job) = self.later_jobs.try_recv() {
            self.recording.later_job(job);
        }
    }

    // ---- other workers ----------------------------------------------------------------------

    /// Waits in a task of its own for another worker to take the room over. The receiver gets true if one
    /// did.
    fn seek_successor(&self) -> oneshot::Receiver<bool> {
        let (found, successor) = oneshot::channel();
        let (shared, room, us) = self.of_us();
        let within = handover::successor_timeout(Arc::strong_count(&shared.observing));
        tokio::spawn(async move {
            let (api, badge) = (&shared.api, &shared.badge);
            // The receiver is dropped only after the room has ended.
            let _ = found.send(handover::hand_over(api, badge, &room, &us, within).await);
        });
        successor
    }

    /// Gives up the claim but stays connected.
    fn release_claim(&self) {
        let (shared, room, us) = self.of_us();
        tokio::spawn(async move { handover::release_claim(&shared.api, &room, &us).await });
    }

    /// Shows the call's ordinal in our claim, for a worker that takes this room over.
    pub(super) fn show_ordinal(&self) {
        let ordinal = self.recording.call().map_or(0, Call::ordinal);
        if ordinal > 0 {
            let (shared, room, us) = self.of_us();
            tokio::spawn(async move {
                handover::show_ordinal(&shared.api, &room, &us, ordinal).await;
            });
        }
    }

    fn of_us(&self) -> (Arc<Observers>, String, String) {
        (self.shared.clone(), self.assignment.room.clone(), self.assignment.identity())
    }

    async fn wait_for_the_end(&mut self, c: &mut Connection) {
        let end = async { while !matches!(c.next().await.1, Notice::Disconnected(_)) {} };
        tokio::select! {
            _ = timeout(LINGER, end) => {}
            () = self.stop.ending() => {}
        }
    }

    // ---- following the room -----------------------------------------------------------------

    async fn follow(&mut self, c: &mut Connection) -> ConnectionEnd {
        let mut echo_by: Option<Instant> = None;
        let mut successor: Option<oneshot::Receiver<bool>> = None;
        let mut active_calls = self.shared.active_calls.subscribe();
        loop {
            if *self.withdraw.borrow_and_update() {
                return ConnectionEnd::Elsewhere;
            }
            let (draining, ending) = (self.stop.is_draining(), self.stop.is_now());
            // Leaving a room soon after its caller would delay its end, so a draining worker waits for
            // LINGER. While other calls run the process lives anyway, so this room stays observed too: a
            // caller may still join it.
            let others_active = *active_calls.borrow_and_update() > 0;
            let linger = (draining && !self.call_running() && !others_active)
                .then(|| self.quiet_since + LINGER);
            if linger.is_some_and(|until| until <= Instant::now()) {
                return ConnectionEnd::Stopped;
            }
            if ending {
                if !self.recording.caller_present() {
                    return ConnectionEnd::Stopped;
                }
                successor.get_or_insert_with(|| self.seek_successor());
            }
            let due = [self.due(echo_by), linger].into_iter().flatten().min();
            tokio::select! {
                (at, notice) = c.next() => match notice {
                    Notice::Fact(fact) => self.fact(c, at, fact).await,
                    Notice::SeemsGone { identity, attributes } => {
                        self.attendance.seems_gone(identity, attributes, at);
                    }
                    Notice::Reconnecting => {
                        self.reconnecting_since.get_or_insert(at);
                        self.attendance.reconnecting();
                    }
                    Notice::Reconnected => {
                        self.reconnecting_since = None;
                        self.shared.metrics.reconnected(Reconnect::Room);
                        self.attendance.reconnected(at);
                    }
                    Notice::OtherRoom => return ConnectionEnd::Replaced,
                    Notice::Echo => {
                        echo_by = None;
                        self.unsure_since = None;
                    }
                    Notice::Disconnected(reason) => return connection_end(reason),
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if echo_by.is_some_and(|by| by <= Instant::now()) {
                        tracing::error!(
                            job_id = self.assignment.id, room = self.room_name,
                            "the room's events have stopped, joining again"
                        );
                        return ConnectionEnd::Lost(LeaveReason::UnknownReason);
                    }
                    self.tick(c).await;
                }
                Ok(()) = self.panics.changed() => {
                    let a = &self.assignment;
                    tokio::spawn(liveness::probe(self.shared.api.clone(), a.room.clone(), a.identity()));
                    self.unsure_since.get_or_insert(self.clock.now());
                    // No echo within ECHO_WITHIN, for any reason: join again.
                    echo_by = Some(Instant::now() + liveness::ECHO_WITHIN);
                }
                () = self.stop.draining(), if !draining => {}
                Ok(()) = active_calls.changed(), if draining => {}
                () = self.stop.ending(), if !ending => {}
                Ok(()) = self.withdraw.changed() => {}
                Some(job) = self.later_jobs.recv() => self.recording.later_job(job),
                taken = async { successor.as_mut()?.await.ok() }, if successor.is_some() => {
                    return if taken == Some(true) {
                        ConnectionEnd::Elsewhere
                    } else {
                        ConnectionEnd::Stopped
                    };
                }
            }
        }
    }

    fn due(&self, echo_by: Option<Instant>) -> Option<Instant> {
        let call = match self.recording.call().map(|c| c.phase(self.clock.now())) {
            Some(Phase::Ending(at)) => Some(self.clock.instant(at)),
            Some(Phase::Over) if self.recording.is_active() => Some(Instant::now()),
            _ => None,
        };
        let presence = self.attendance.due().map(|at| self.clock.instant(at));
        [call, presence, echo_by].into_iter().flatten().min()
    }

    async fn tick(&mut self, c: &mut Connection) {
        let now = self.clock.now();
        for fact in self.attendance.settle(now) {
            self.fact(c, now, fact).await;
        }
        if self.recording.phase() == Phase::Over {
            self.end_call().await;
            self.show_ordinal();
        }
    }

    async fn fact(&mut self, c: &mut Connection, at: Moment, fact: Fact) {
        self.attendance.note(&fact);
        self.shared.legs.note(&fact);
        if self.recording.is_over_by(&fact) {
            self.recording.leave_before(at, &fact);
            self.end_call().await;
            self.show_ordinal();
        }
        if matches!(fact, Fact::Feed { message: FeedMessage::History { .. }, .. }) {
            self.answered.send_replace(true);
        }
        let was_there = self.recording.caller_present();
        let joined = matches!(fact, Fact::Joined(_));
        if let Fact::Joined(Joined { kind: Kind::Agent, .. }) = &fact {
            self.look_for_strangers();
        }
        self.recording.apply(at, fact);
        let is_there = self.recording.caller_present();
        // Ask here, not later: a Node agent answers only for some 15 ms after the caller left.
        if was_there && !is_there {
            self.quiet_since = Instant::now();
            self.asked.clear();
            self.ask_for_history(c.us());
        }
        self.recording.note_start();
        if joined && is_there && (self.came_late() || self.missed_something()) {
            self.ask_for_history(c.us());
        }
        if self.recording.phase() == Phase::Over {
            self.end_call().await;
            self.show_ordinal();
        }
    }

    /// The caller may have spoken before we joined; the agent's history has those words.
    pub(super) fn came_late(&self) -> bool {
        self.recording.call().is_some_and(|c| c.watched_late(LATE_MS))
    }

    /// Events of the running call may be missing, as we were not in the room for a time.
    fn missed_something(&self) -> bool {
        self.recording.call().is_some_and(Call::was_blind)
    }

    /// Asks each agent only once: it sends its answer to everybody in the room.
    pub(super) fn ask_for_history(&mut self, us: Option<LocalParticipant>) {
        let Some(us) = us else { return };
        for agent in self.recording.call().into_iter().flat_map(Call::agents).collect::<Vec<_>>() {
            if self.asked.insert(agent.clone()) {
                self.answered.send_replace(false);
                let answered = self.answered.subscribe();
                tokio::spawn(session_feed::ask_for_history(us.clone(), agent, answered));
            }
        }
    }

    /// The agent may have our agent name.
    pub(super) fn look_for_strangers(&self) {
        let (shared, room, _) = self.of_us();
        tokio::spawn(async move { shared.name.look_into(&shared.api, &room).await });
    }

    fn call_running(&self) -> bool {
        matches!(self.recording.phase(), Phase::Live | Phase::Ending(_))
    }
}

/// Whether a disconnect is the end of the room or only of our connection.
fn connection_end(reason: LeaveReason) -> ConnectionEnd {
    use LeaveReason as L;
    match reason {
        L::RoomDeleted | L::RoomClosed | L::ParticipantRemoved | L::DuplicateIdentity => {
            ConnectionEnd::RoomEnded(reason)
        }
        _ => ConnectionEnd::Lost(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_future<A, B, C, D, F: Future>(_: impl Fn(A, B, C, D) -> F) -> usize {
        size_of::<F>()
    }

    /// Each call has one for as long as it lasts.
    #[test]
    fn an_observation_takes_little_memory() {
        let bytes = size_of_future(|shared, assignment, left, orders| {
            observe(shared, assignment, left, orders, |_| {})
        });
        assert!(bytes < 16_000, "{bytes} bytes");
    }
}
