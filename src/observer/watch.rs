//! The life of one observation: join, watch, come back when the room is lost, leave with the room
//! or when another worker has it.

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use call::{
    Call, Event, Fact, Moment, Phase,
    event::{FeedMessage, LeaveReason},
    published::Problem,
};
use livekit::prelude::LocalParticipant;
use store::journal::{CallJournal, LeftBehind};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};

use super::{
    Assignment, CallOn, Observers,
    handover::LINGER,
    liveness,
    presence::Presence,
    room::{Connection, Notice},
    session_feed,
};
use crate::{clock::Clock, stop::Stop, telemetry::masked};

/// For the caller's coming to be on the disk.
const JOURNAL_WITHIN: Duration = Duration::from_millis(500);
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
    /// The call that is on was told before, up to that time.
    ToldBefore(Moment),
}

/// What an observer is told while it runs.
pub(crate) struct Orders {
    pub(crate) stop: Stop,
    /// Another worker's observer was first in the room: this one goes without a record.
    pub(crate) withdraw: watch::Receiver<bool>,
    /// Of jobs for the same room that came later.
    pub(crate) metadata: mpsc::UnboundedReceiver<String>,
}

/// What an observer tells.
pub(crate) enum Told<'a> {
    /// It is in the room, for the first time or again.
    Joined,
    /// All is told of the room; it is left next.
    Over(&'a Ended),
}

/// Observes one room to its end. `left`: a call of it that an earlier run left behind.
pub(crate) async fn observe(
    shared: Arc<Observers>,
    assignment: Assignment,
    left: Option<LeftBehind>,
    orders: Orders,
    report: impl FnMut(Told<'_>) + Send + 'static,
) -> Ended {
    let wall = &shared.wall;
    let clock = match &left {
        Some(left) => Clock::start_after(left.last_at, wall),
        None => Clock::start(wall),
    };
    let panics = shared.panics.clone();
    let mut watch = Watch {
        room_name: masked(&assignment.room),
        shared,
        assignment,
        clock,
        stop: orders.stop,
        withdraw: orders.withdraw,
        metadata: orders.metadata,
        report: Box::new(report),
        panics,
        call: None,
        journal: None,
        presence: Presence::default(),
        reconnecting_since: None,
        unsure_since: None,
        present: BTreeSet::new(),
        live: None,
        quiet_since: Instant::now(),
        sid: String::new(),
        asked: BTreeSet::new(),
        answered: watch::Sender::new(false),
        problems: BTreeSet::new(),
        calls: 0,
    };
    let _counted = watch.shared.watching.clone();
    let (ended, mut connection) = watch.run(left).await;
    watch.forget_journal();
    (watch.report)(Told::Over(&ended));
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

pub(super) struct Watch {
    pub(super) shared: Arc<Observers>,
    pub(super) assignment: Assignment,
    /// As it may be logged.
    pub(super) room_name: String,
    pub(super) clock: Clock,
    pub(super) stop: Stop,
    withdraw: watch::Receiver<bool>,
    pub(super) metadata: mpsc::UnboundedReceiver<String>,
    pub(super) report: Box<dyn FnMut(Told<'_>) + Send>,
    pub(super) panics: watch::Receiver<u64>,
    /// `None` before the first join.
    pub(super) call: Option<Call>,
    /// Of that call.
    pub(super) journal: Option<CallJournal>,
    pub(super) presence: Presence,
    /// Since when the SDK tries to reconnect.
    pub(super) reconnecting_since: Option<Moment>,
    /// Since when the room may be deaf.
    pub(super) unsure_since: Option<Moment>,
    /// Identities in the room, as told to the call.
    pub(super) present: BTreeSet<String>,
    /// A call is on.
    pub(super) live: Option<CallOn>,
    /// When the last caller left, or when we came.
    pub(super) quiet_since: Instant,
    /// The room's, once joined.
    pub(super) sid: String,
    /// Agents asked for their history on this connection.
    pub(super) asked: BTreeSet<String>,
    /// A history has come since they were asked.
    pub(super) answered: watch::Sender<bool>,
    /// Kinds of problems already logged for this call.
    pub(super) problems: BTreeSet<Problem>,
    pub(super) calls: u32,
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
                    let waits = self.live.is_some() && !self.caller_present();
                    self.call = None;
                    self.forget_journal();
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

    // ---- watching ----------------------------------------------------------------------------

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
                if !self.caller_present() {
                    return Parted::Stopped;
                }
                successor.get_or_insert_with(|| self.hand_over());
            }
            let due = [self.due(echo_by), linger].into_iter().flatten().min();
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
                () = self.stop.draining(), if !draining => {}
                Ok(()) = calls_on.changed(), if draining => {}
                () = self.stop.ending(), if !ending => {}
                Ok(()) = self.withdraw.changed() => {}
                Some(metadata) = self.metadata.recv() => {
                    self.apply(self.clock.now(), Fact::JobMetadata { metadata });
                }
                taken = async { successor.as_mut()?.await.ok() }, if successor.is_some() => {
                    return if taken == Some(true) { Parted::Elsewhere } else { Parted::Stopped };
                }
            }
        }
    }

    fn due(&self, echo_by: Option<Instant>) -> Option<Instant> {
        let call = match self.call.as_ref().map(|c| c.phase(self.clock.now())) {
            Some(Phase::Ending(at)) => Some(self.clock.instant(at)),
            Some(Phase::Over) if self.live.is_some() => Some(Instant::now()),
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
            self.tell_ordinal();
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
            self.quiet_since = Instant::now();
            self.asked.clear();
            self.ask_for_history(c.us());
        }
        self.note_start();
        if joined && is_there && (self.came_late() || self.missed_something()) {
            self.ask_for_history(c.us());
        }
        if self.phase() == Phase::Over {
            self.call_over().await;
            self.tell_ordinal();
        }
    }

    pub(super) fn note_presence(&mut self, fact: &Fact) {
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

    pub(super) fn note_start(&mut self) {
        if self.live.is_none() && self.caller_present() {
            self.live = Some(CallOn::new(self.shared.clone()));
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
    pub(super) fn came_late(&self) -> bool {
        self.call.as_ref().is_some_and(|c| c.watched_late(LATE_MS))
    }

    /// We were away in the middle of the call.
    fn missed_something(&self) -> bool {
        self.call.as_ref().is_some_and(Call::was_blind)
    }

    /// Each agent once: the answer goes to everybody in the room.
    pub(super) fn ask_for_history(&mut self, us: Option<LocalParticipant>) {
        let Some(us) = us else { return };
        for agent in self.call.iter().flat_map(Call::agents).collect::<Vec<_>>() {
            if self.asked.insert(agent.clone()) {
                self.answered.send_replace(false);
                let answered = self.answered.subscribe();
                tokio::spawn(session_feed::ask_for_history(us.clone(), agent, answered));
            }
        }
    }

    pub(super) fn apply(&mut self, at: Moment, fact: Fact) {
        let Some(event) = self.take(at, fact) else { return };
        if let Some(journal) = &self.journal {
            journal.append(&event);
        }
    }

    /// Gives a fact to the core; what is to be journaled of it.
    pub(super) fn take(&mut self, at: Moment, fact: Fact) -> Option<Event> {
        let call = self.call.as_mut()?;
        let event = Event { at, fact };
        // What one event breaks must not take the whole call with it, nor the next start.
        let taken = match catch_unwind(AssertUnwindSafe(|| call.apply(&event))) {
            Ok(taken) => taken.of(event),
            Err(_) => {
                tracing::error!(
                    room = self.room_name,
                    "an event could not be taken, the call goes on"
                );
                None
            }
        };
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
        taken.filter(|_| !call.opted_out())
    }

    pub(super) fn phase(&self) -> Phase {
        self.call.as_ref().map_or(Phase::Waiting, |c| c.phase(self.clock.now()))
    }

    fn call_on(&self) -> bool {
        matches!(self.phase(), Phase::Live | Phase::Ending(_))
    }

    fn caller_present(&self) -> bool {
        self.call.as_ref().is_some_and(Call::caller_present)
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
