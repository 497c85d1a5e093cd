//! The rooms that this worker observes, however they were found.
//!
//! In: rooms to observe, from offers, the reconciler and an earlier run. Out: one observer for each room,
//! never two for the same. All layers of discovery ask here first, so nothing here waits.

use std::{sync::Arc, time::Duration};

use call::event::Discovery;
use store::journal::LeftBehind;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::task::TaskTracker;

use super::{
    WorkerState,
    connection::Role,
    load,
    places::{Places, Running},
    room::{ReconcileRequest, Refusal, RoomToObserve},
};
use crate::{
    config::Config,
    fleet::handover::HAND_OVER_AT_MOST,
    observer::{self, Assignment, Ended, Observers, Orders, Progress},
    stop::Stop,
    telemetry::masked,
};

/// How long a worker that must end now waits for its observers: to hand calls over, to seal the last
/// records and to leave the rooms.
const FINISH_WITHIN: Duration = HAND_OVER_AT_MOST.saturating_add(Duration::from_secs(15));

/// Receives the end of each observation: its id, and how it ended.
pub(super) type EndReports = mpsc::UnboundedSender<(String, Ended)>;

pub(super) struct Rooms {
    url: String,
    max: usize,
    memory: load::Memory,
    observers: Arc<Observers>,
    stop: Stop,
    state: watch::Sender<WorkerState>,
    /// Tasks of all observers; [`Rooms::finish`] waits for them.
    tasks: TaskTracker,
    /// For a check of a room that was just joined: another worker may have joined it too.
    requests: mpsc::Sender<ReconcileRequest>,
    places: Places,
}

impl Rooms {
    pub(super) fn new(
        config: &Config,
        observers: Arc<Observers>,
        stop: Stop,
        state: watch::Sender<WorkerState>,
        requests: mpsc::Sender<ReconcileRequest>,
    ) -> Self {
        Self {
            url: config.livekit.url.clone(),
            max: config.max_calls,
            memory: load::Memory::new(config.max_memory),
            observers,
            stop,
            state,
            tasks: TaskTracker::new(),
            requests,
            places: Places::default(),
        }
    }

    // ---- state ------------------------------------------------------------------------------

    pub(super) fn stopping(&self) -> bool {
        self.stop.is_draining()
    }

    /// The rooms with a place.
    pub(super) fn places(&self) -> &Places {
        &self.places
    }

    /// Whether the worker can take no more rooms.
    pub(super) fn full(&self) -> bool {
        self.admits(self.places.active()).is_err()
    }

    /// Whether another room may be taken when there are `active` ones.
    fn admits(&self, active: usize) -> Result<(), Refusal> {
        if self.stopping() {
            Err(Refusal::Draining)
        } else if active >= self.max || self.memory.short() {
            Err(Refusal::Full)
        } else {
            Ok(())
        }
    }

    /// The load as reported to the server.
    pub(super) fn load(&self) -> f32 {
        load::load(self.places.active(), self.max, self.memory.used())
    }

    /// Updates what the health page shows.
    pub(super) fn publish(&self) {
        let (active_jobs, load) = (self.places.active(), self.load());
        self.state.send_modify(|s| {
            s.active_jobs = active_jobs;
            s.load = load;
        });
    }

    /// Runs a task that the end of the process waits for.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }

    // ---- taking -----------------------------------------------------------------------------

    /// Keeps a place for a job that was offered to a registration.
    pub(super) fn reserve(&self, job_id: &str, sid: &str, role: Role) -> Result<(), Refusal> {
        self.places.reserve(job_id, sid, role, |active| self.admits(active))
    }

    /// A registration's connection broke: jobs offered on it are never assigned. Frees their rooms for the
    /// reconciler.
    pub(super) fn release_reserved(&self, role: Role) {
        let lost = self.places.release(role);
        for job_id in &lost {
            tracing::warn!(job_id, "the connection broke before the job was assigned");
        }
        if !lost.is_empty() {
            self.publish();
        }
    }

    /// Observes a room that has no observer.
    pub(super) fn take(self: &Arc<Self>, room: RoomToObserve) -> Result<(), Refusal> {
        let assignment = Assignment {
            metadata: room.metadata,
            ordinal: room.ordinal,
            ..Assignment::own(room.name, Some(room.sid), self.url.clone(), room.by)
        };
        let (observer, orders) = self.prepare(&assignment, Some(Instant::now()));
        self.places.take(&assignment.id, observer, |active| self.admits(active))?;
        self.start(assignment, orders, None, None);
        Ok(())
    }

    /// Observes the room of an assigned job, in the place that was kept for it. False if there is no place
    /// for the job, or it has expired.
    pub(super) fn take_job(
        self: &Arc<Self>,
        mut assignment: Assignment,
        reports: EndReports,
    ) -> bool {
        let (observer, orders) = self.prepare(&assignment, None);
        let later_jobs = observer.later_jobs.clone();
        let assigned = self.places.assign(&assignment.id, observer);
        let Some((ordinal, reserved)) = assigned else { return false };
        assignment.ordinal = ordinal.unwrap_or(assignment.ordinal);
        if assignment.url.is_empty() {
            assignment.url.clone_from(&self.url);
        }
        for job in reserved {
            // The observer has yet to start, so it still receives.
            let _ = later_jobs.send(job);
        }
        self.start(assignment, orders, None, Some(reports));
        true
    }

    /// Resumes calls that an earlier run left behind.
    pub(super) fn resume(self: &Arc<Self>, left: Vec<LeftBehind>) {
        for l in left {
            let room = l.call.room().clone();
            let (sid, url) = (Some(room.sid), self.url.clone());
            let assignment = Assignment::own(room.name, sid, url, Discovery::Recovery);
            let (observer, orders) = self.prepare(&assignment, None);
            self.places.resume(&assignment.id, observer);
            self.start(assignment, orders, Some(Box::new(l)), None);
        }
    }

    /// An observer's place and its orders. `taken`: see [`Running`].
    fn prepare(&self, assignment: &Assignment, taken: Option<Instant>) -> (Running, Orders) {
        let withdraw = watch::Sender::new(false);
        let (later_jobs_tx, later_jobs) = mpsc::unbounded_channel();
        let orders = Orders { stop: self.stop.clone(), withdraw: withdraw.subscribe(), later_jobs };
        let sid = assignment.room_sid.clone().unwrap_or_default();
        let identity = assignment.identity();
        let joined = None;
        (Running { sid, identity, taken, joined, withdraw, later_jobs: later_jobs_tx }, orders)
    }

    /// Starts an observer that has its place.
    fn start(
        self: &Arc<Self>,
        assignment: Assignment,
        orders: Orders,
        left: Option<Box<LeftBehind>>,
        reports: Option<EndReports>,
    ) {
        let (name, sid) = (assignment.room.clone(), assignment.room_sid.clone());
        let sid = sid.unwrap_or_default();
        let id = assignment.id.clone();
        let room = masked(&name);
        let mut end = EndReporter { id, room, rooms: self.clone(), reports, reported: false };
        let (observers, requests) = (self.observers.clone(), self.requests.clone());
        let on_progress = move |progress: Progress<'_>| match progress {
            Progress::Joined => {
                end.rooms.places.joined(&end.id);
                // If the queue is full, the next list finds the room as well.
                let ours = ReconcileRequest::Ours { name: name.clone(), sid: sid.clone() };
                let _ = requests.try_send(ours);
            }
            Progress::Over(ended) => end.report(ended.clone()),
        };
        self.tasks.spawn(async move {
            observer::observe(observers, assignment, left, orders, on_progress).await;
        });
        self.publish();
    }

    // ---- ending -----------------------------------------------------------------------------

    /// Leaves a room to another worker.
    pub(super) fn withdraw(&self, sid: &str, room: &str) {
        if self.places.withdraw(sid) {
            tracing::debug!(room = masked(room), "another worker was there first");
        }
    }

    fn ended(&self, id: &str, ended: &Ended) {
        let barred = match ended {
            Ended::Removed => Some(None),
            Ended::ReportedBefore(until) => Some(Some(until.millis())),
            _ => None,
        };
        self.places.ended(id, barred);
        self.publish();
    }

    /// Returns once the worker drains and has no calls left, or the process must end now.
    pub(super) async fn done(&self) {
        let mut state = self.state.subscribe();
        self.stop.draining().await;
        while !self.stop.is_now() && self.places.active() > 0 {
            // No event comes when a kept place expires.
            let expires = self.places.next_expiry();
            tokio::select! {
                () = self.stop.ending() => {}
                Ok(()) = state.changed() => {}
                () = sleep_until(expires.unwrap_or_else(Instant::now)), if expires.is_some() => {}
            }
        }
    }

    /// Waits for the observers to end.
    pub(super) async fn finish(&self) {
        self.tasks.close();
        if timeout(FINISH_WITHIN, self.tasks.wait()).await.is_err() {
            tracing::warn!("some rooms were not left in time");
        }
    }
}

/// Reports the end of an observation exactly once.
struct EndReporter {
    id: String,
    /// Masked, for the log.
    room: String,
    rooms: Arc<Rooms>,
    reports: Option<EndReports>,
    reported: bool,
}

impl EndReporter {
    fn report(&mut self, ended: Ended) {
        if std::mem::replace(&mut self.reported, true) {
            return;
        }
        if let Ended::Failed(why) = &ended {
            tracing::error!(job_id = self.id, room = self.room, error = why, "call not observed");
        }
        self.rooms.ended(&self.id, &ended);
        if let Some(reports) = &self.reports {
            // The receiver is dropped only when the process ends.
            let _ = reports.send((self.id.clone(), ended));
        }
    }
}

impl Drop for EndReporter {
    /// If the observer panicked, its room must not count as observed any more.
    fn drop(&mut self) {
        self.report(Ended::Failed("the observer broke".into()));
    }
}
