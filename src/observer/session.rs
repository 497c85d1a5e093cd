//! The life of one observation: join, follow the room, come back when it is lost, leave with the room
//! or when another worker has it. What is recorded is in [`super::recording`].

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use call::{
    Call, Fact, Moment, Phase,
    event::{FeedMessage, LeaveReason},
};
use livekit::prelude::LocalParticipant;
use store::journal::LeftBehind;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    Assignment, Observers,
    attendance::Attendance,
    recording::Recording,
    room::{Connection, Notice},
    sdk::liveness,
    session_feed,
};
use crate::{clock::Clock, fleet::handover, stop::Stop, telemetry::masked};

/// What is left in the streams of a room that has ended.
const REST_WITHIN: Duration = Duration::from_millis(40);
/// A room closes 20 s after the last one left it, by LiveKit's defaults; who leaves meanwhile makes
/// that longer.
const LINGER: Duration = Duration::from_secs(25);
/// A caller who was there longer than this before us may have said something.
const LATE_MS: i64 = 2_000;

/// Why an observation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// With the room, or because we were told to stop.
    Done,
    /// The room is gone; another may have its name.
    NotOurs,
    Failed(String),
    /// Another worker observes it, and reports it.
    Elsewhere,
    /// Somebody removed us from the room: we do not come back by ourselves.
    Removed,
    /// The call that is on was reported before, up to that time.
    ReportedBefore(Moment),
}

/// What an observer is asked for while it runs.
pub(crate) struct Orders {
    pub(crate) stop: Stop,
    /// Another worker's observer was first in the room: this one goes without a record.
    pub(crate) withdraw: watch::Receiver<bool>,
    /// Of jobs for the same room that came later.
    pub(crate) metadata: mpsc::UnboundedReceiver<String>,
}

/// What an observer reports while it runs.
pub(crate) enum Progress<'a> {
    /// It is in the room, for the first time or again.
    Joined,
    /// All that was due of the room is reported; it is left next.
    Over(&'a Ended),
}

/// Observes one room to its end. `left`: a call of it that an earlier run left behind.
pub(crate) async fn observe(
    shared: Arc<Observers>,
    assignment: Assignment,
    left: Option<LeftBehind>,
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
    let recording = Recording::new(shared.recording_tools(), room_name.clone(), clock.clone());
    let mut session = RoomSession {
        room_name,
        shared,
        assignment,
        clock,
        stop: orders.stop,
        withdraw: orders.withdraw,
        metadata: orders.metadata,
        report: Box::new(report),
        panics,
        recording,
        attendance: Attendance::default(),
        reconnecting_since: None,
        unsure_since: None,
        quiet_since: Instant::now(),
        sid: String::new(),
        asked: BTreeSet::new(),
        answered: watch::Sender::new(false),
    };
    let _counted = session.shared.watching.clone();
    let (ended, mut connection) = session.run(left).await;
    session.recording.forget_journal();
    (session.report)(Progress::Over(&ended));
    // Waited for: a process that ends with LiveKit's tasks in the middle of something makes them
    // panic.
    if let Some(left) = connection.as_mut().and_then(Connection::close) {
        let _ = left.await;
    }
    ended
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
    /// Another worker observes the room.
    Elsewhere,
}

pub(super) struct RoomSession {
    pub(super) shared: Arc<Observers>,
    pub(super) assignment: Assignment,
    /// As it may be logged.
    pub(super) room_name: String,
    pub(super) clock: Clock,
    pub(super) stop: Stop,
    withdraw: watch::Receiver<bool>,
    pub(super) metadata: mpsc::UnboundedReceiver<String>,
    pub(super) report: Box<dyn FnMut(Progress<'_>) + Send>,
    pub(super) panics: watch::Receiver<u64>,
    pub(super) recording: Recording,
    pub(super) attendance: Attendance,
    /// Since when the SDK tries to reconnect.
    pub(super) reconnecting_since: Option<Moment>,
    /// Since when the room may be deaf.
    pub(super) unsure_since: Option<Moment>,
    /// When the last caller left, or when we came.
    pub(super) quiet_since: Instant,
    /// The room's, once joined.
    pub(super) sid: String,
    /// Agents asked for their history on this connection.
    pub(super) asked: BTreeSet<String>,
    /// A history has come since they were asked.
    pub(super) answered: watch::Sender<bool>,
}

impl RoomSession {
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
                    let removed = reason == LeaveReason::ParticipantRemoved;
                    let ended = if removed { Ended::Removed } else { Ended::Done };
                    return (ended, Some(connection));
                }
                Parted::Stopped => {
                    let reason = LeaveReason::ClientInitiated;
                    self.room_over(Some(&mut connection), reason, self.clock.now()).await;
                    return (Ended::Done, Some(connection));
                }
                Parted::Elsewhere => {
                    tracing::info!(
                        job_id = self.assignment.id,
                        room = self.room_name,
                        "another worker observes the room, left to it"
                    );
                    let waits = self.recording.is_on() && !self.recording.caller_present();
                    self.recording.give_up();
                    // Our leave would keep a room open that is about to close.
                    if waits {
                        self.resign();
                        self.wait_for_the_end(&mut connection).await;
                    }
                    return (Ended::Elsewhere, Some(connection));
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
                    self.recording.apply(lost_at, Fact::Blind);
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

    // ---- ends --------------------------------------------------------------------------------

    /// The last call in this room, if one is on.
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
        if self.recording.is_on() {
            self.end_call().await;
        } else if !self.recording.has_ended_any() {
            tracing::info!(
                job_id = self.assignment.id,
                room = self.room_name,
                "room ended without a caller, nothing to report"
            );
        }
    }

    pub(super) async fn end_call(&mut self) {
        self.hear_jobs();
        self.recording.end_call().await;
    }

    /// The call is over while we are not in the room: nor do we see how the next one begins.
    pub(super) async fn end_call_unseen(&mut self) {
        self.end_call().await;
        self.recording.apply(self.clock.now(), Fact::Blind);
    }

    /// What jobs for this room said and was not heard yet: it may be that nothing is to be stored.
    pub(super) fn hear_jobs(&mut self) {
        while let Ok(metadata) = self.metadata.try_recv() {
            self.recording.apply(self.clock.now(), Fact::JobMetadata { metadata });
        }
    }

    // ---- other workers -----------------------------------------------------------------------

    /// Looks for another worker that takes the room.
    fn seek_successor(&self) -> oneshot::Receiver<bool> {
        let (found, successor) = oneshot::channel();
        let (shared, room, us) = self.of_us();
        let within = handover::patience(Arc::strong_count(&shared.watching));
        tokio::spawn(async move {
            let (api, badge) = (&shared.api, &shared.badge);
            // Nobody listens any more only when the room has ended.
            let _ = found.send(handover::hand_over(api, badge, &room, &us, within).await);
        });
        successor
    }

    /// Gives the claim up, though this observer stays in the room for a while.
    fn resign(&self) {
        let (shared, room, us) = self.of_us();
        tokio::spawn(async move { handover::resign(&shared.api, &room, &us).await });
    }

    /// For a worker that takes this room over.
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

    // ---- following the room ------------------------------------------------------------------

    async fn follow(&mut self, c: &mut Connection) -> Parted {
        let mut echo_by: Option<Instant> = None;
        let mut successor: Option<oneshot::Receiver<bool>> = None;
        let mut calls_on = self.shared.calls_on.subscribe();
        loop {
            if *self.withdraw.borrow_and_update() {
                return Parted::Elsewhere;
            }
            let (draining, ending) = (self.stop.is_draining(), self.stop.is_now());
            // Drained, the room's own end is waited for until then: a leave of ours would put it off. A
            // room that stands is left with the last call of this worker: until then its caller may come.
            let others_on = *calls_on.borrow_and_update() > 0;
            let linger =
                (draining && !self.call_on() && !others_on).then(|| self.quiet_since + LINGER);
            if linger.is_some_and(|until| until <= Instant::now()) {
                return Parted::Stopped;
            }
            if ending {
                if !self.recording.caller_present() {
                    return Parted::Stopped;
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
                        self.attendance.reconnected(at);
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
                () = self.stop.draining(), if !draining => {}
                Ok(()) = calls_on.changed(), if draining => {}
                () = self.stop.ending(), if !ending => {}
                Ok(()) = self.withdraw.changed() => {}
                Some(metadata) = self.metadata.recv() => {
                    self.recording.apply(self.clock.now(), Fact::JobMetadata { metadata });
                }
                taken = async { successor.as_mut()?.await.ok() }, if successor.is_some() => {
                    return if taken == Some(true) { Parted::Elsewhere } else { Parted::Stopped };
                }
            }
        }
    }

    fn due(&self, echo_by: Option<Instant>) -> Option<Instant> {
        let call = match self.recording.call().map(|c| c.phase(self.clock.now())) {
            Some(Phase::Ending(at)) => Some(self.clock.instant(at)),
            Some(Phase::Over) if self.recording.is_on() => Some(Instant::now()),
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
        if matches!(fact, Fact::Feed { message: FeedMessage::History { .. }, .. }) {
            self.answered.send_replace(true);
        }
        let was_there = self.recording.caller_present();
        let joined = matches!(fact, Fact::Joined(_));
        self.recording.apply(at, fact);
        let is_there = self.recording.caller_present();
        // At once, in this very handler: a Node agent answers only for some 15 ms after the leave.
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

    /// Something may have been said before we came, and the one who knows is there.
    pub(super) fn came_late(&self) -> bool {
        self.recording.call().is_some_and(|c| c.watched_late(LATE_MS))
    }

    /// We were away in the middle of the call.
    fn missed_something(&self) -> bool {
        self.recording.call().is_some_and(Call::was_blind)
    }

    /// Each agent once: the answer goes to everybody in the room.
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

    fn call_on(&self) -> bool {
        matches!(self.recording.phase(), Phase::Live | Phase::Ending(_))
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

pub(super) fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
