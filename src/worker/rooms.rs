//! The rooms that this worker observes, however they were found.
//!
//! In: rooms to observe, from offers, the reconciler and an earlier run. Out: one observer for each room,
//! never two for the same. All layers of discovery ask here first, so nothing here waits.

use std::{collections::HashMap, sync::Arc, time::Duration};

use call::event::Discovery;
use parking_lot::{Mutex, MutexGuard};
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
    room::{OurClaim, ReconcileRequest, Refusal, RoomToObserve},
};
use crate::{
    config::Config,
    fleet::handover::HAND_OVER_AT_MOST,
    observer::{self, Assignment, Ended, Observers, Orders, Progress},
    stop::Stop,
    telemetry::masked,
};

/// How long a place is kept for a job. The server sends the assignment right after our answer, or never.
const ASSIGNED_WITHIN: Duration = Duration::from_millis(7_500);
/// How long a worker that must end now waits for its observers: to hand calls over, to seal the last
/// records and to leave the rooms.
const FINISH_WITHIN: Duration = HAND_OVER_AT_MOST.saturating_add(Duration::from_secs(15));
/// After another worker was seen in a room, offers for the room are refused for this long.
const SEEN_ELSEWHERE: Duration = Duration::from_secs(30);
/// How long a barred room is not joined again; longer than any call.
const BARRED_FOR: Duration = Duration::from_secs(24 * 3600);
/// A join usually takes much less. A slower one no longer counts as busy joining.
const JOINED_WITHIN: Duration = Duration::from_secs(2);

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
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Places for accepted offers, by job id.
    reserved: HashMap<String, Reserved>,
    /// Running observers, by the assignment's id.
    running: HashMap<String, Running>,
    /// Rooms in which another worker was seen, by sid, with the time.
    elsewhere: HashMap<String, Instant>,
    /// Rooms that we must not join again, by sid: since when, and for which callers. `Some`: only those that
    /// joined before this time, in milliseconds; `None`: all.
    barred: HashMap<String, (Instant, Option<i64>)>,
    /// Ordinals of the current call in rooms with several calls, by sid, with the time they were noted.
    ordinals: HashMap<String, (Instant, u32)>,
}

/// A place that is kept for a job until its assignment comes.
struct Reserved {
    until: Instant,
    sid: String,
    /// The registration that was offered the job. The assignment comes on the same connection, or never.
    role: Role,
    /// Metadata of later jobs for the same room, for the observer.
    metadata: Vec<String>,
}

struct Running {
    room: String,
    sid: String,
    identity: String,
    /// When we took the room because it had no observer; `None` for jobs and resumed calls.
    taken: Option<Instant>,
    /// When the observer last joined; `None` until then.
    joined: Option<Instant>,
    withdraw: watch::Sender<bool>,
    /// Sends the metadata of later jobs for the same room to the observer.
    metadata: mpsc::UnboundedSender<String>,
}

impl Inner {
    fn active(&self) -> usize {
        self.running.len() + self.reserved().count()
    }

    /// Places that have not expired.
    fn reserved(&self) -> impl Iterator<Item = &Reserved> {
        let now = Instant::now();
        self.reserved.values().filter(move |r| r.until > now)
    }

    fn expire(&mut self) {
        let now = Instant::now();
        self.reserved.retain(|_, r| r.until > now);
        self.elsewhere.retain(|_, seen| seen.elapsed() < SEEN_ELSEWHERE);
        self.barred.retain(|_, (since, _)| since.elapsed() < BARRED_FOR);
        self.ordinals.retain(|_, (noted, _)| noted.elapsed() < BARRED_FOR);
    }

    fn seen_elsewhere(&mut self, sid: &str) {
        // A worker that takes no rooms itself would otherwise never remove old entries.
        self.expire();
        self.elsewhere.insert(sid.into(), Instant::now());
    }

    fn observes(&self, sid: &str) -> bool {
        let reserved = self.reserved().map(|r| &r.sid);
        !sid.is_empty() && self.running.values().map(|r| &r.sid).chain(reserved).any(|s| s == sid)
    }
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
            inner: Mutex::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    // ---- state ------------------------------------------------------------------------------

    pub(super) fn stopping(&self) -> bool {
        self.stop.is_draining()
    }

    /// Whether the worker can take no more rooms.
    pub(super) fn full(&self) -> bool {
        self.stopping() || self.inner().active() >= self.max || self.memory.short()
    }

    /// Why a room may not be taken, if so.
    fn check_free(&self, inner: &Inner, sid: &str) -> Result<(), Refusal> {
        if inner.observes(sid) {
            Err(Refusal::Observed)
        } else if self.stopping() {
            Err(Refusal::Draining)
        } else if inner.active() >= self.max || self.memory.short() {
            Err(Refusal::Full)
        } else {
            Ok(())
        }
    }

    /// Our claim to a room that we observe, or are about to.
    pub(super) fn our_claim(&self, sid: &str) -> Option<OurClaim> {
        let inner = self.inner();
        let running = inner.running.values().find(|r| r.sid == sid);
        match running {
            Some(r) => Some(OurClaim {
                identity: r.identity.clone(),
                joined: r.joined.map(|at| at.elapsed()).unwrap_or_default(),
            }),
            None => inner.observes(sid).then(OurClaim::default),
        }
    }

    /// How many rooms we are joining that another worker could take as well. A slow join does not count, so
    /// that it does not delay others.
    pub(super) fn joining(&self) -> usize {
        let joining = |r: &&Running| {
            r.joined.is_none() && r.taken.is_some_and(|at| at.elapsed() < JOINED_WITHIN)
        };
        self.inner().running.values().filter(joining).count()
    }

    fn joined(&self, id: &str) {
        if let Some(r) = self.inner().running.get_mut(id) {
            r.joined = Some(Instant::now());
            // A request to withdraw applied to the connection before.
            r.withdraw.send_replace(false);
        }
    }

    pub(super) fn active(&self) -> usize {
        self.inner().active()
    }

    /// The load as reported to the server.
    pub(super) fn load(&self) -> f32 {
        load::load(self.active(), self.max, self.memory.used())
    }

    /// Updates what the health page shows.
    pub(super) fn publish(&self) {
        let (active_jobs, load) = (self.active(), self.load());
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
        let mut inner = self.inner();
        inner.expire();
        if inner.elsewhere.contains_key(sid) {
            return Err(Refusal::Observed);
        }
        self.check_free(&inner, sid)?;
        let until = Instant::now() + ASSIGNED_WITHIN;
        let reserved = Reserved { until, sid: sid.into(), role, metadata: vec![] };
        inner.reserved.insert(job_id.into(), reserved);
        Ok(())
    }

    /// A registration's connection broke: jobs offered on it are never assigned. Frees their rooms for the
    /// reconciler.
    pub(super) fn release_reserved(&self, role: Role) {
        let lost: Vec<String> = {
            let mut inner = self.inner();
            let of = inner.reserved.extract_if(|_, r| r.role == role);
            of.map(|(job_id, _)| job_id).collect()
        };
        for job_id in &lost {
            tracing::warn!(job_id, "the connection broke before the job was assigned");
        }
        if !lost.is_empty() {
            self.publish();
        }
    }

    /// Observes a room that has no observer.
    pub(super) fn take(self: &Arc<Self>, room: RoomToObserve) -> Result<(), Refusal> {
        {
            let mut inner = self.inner();
            inner.expire();
            if inner.barred.contains_key(&room.sid) {
                return Err(Refusal::Barred);
            }
            self.check_free(&inner, &room.sid)?;
            let assignment = Assignment {
                metadata: room.metadata,
                ordinal: room.ordinal,
                ..Assignment::own(room.name, Some(room.sid), self.url.clone(), room.by)
            };
            self.start(&mut inner, assignment, None, None);
        }
        self.publish();
        Ok(())
    }

    /// Observes the room of an assigned job, in the place that was kept for it. Both happen under one lock,
    /// so that the reconciler cannot take the room in between. False if there is no place for the job, or it
    /// has expired.
    pub(super) fn take_job(
        self: &Arc<Self>,
        mut assignment: Assignment,
        reports: EndReports,
    ) -> bool {
        {
            let mut inner = self.inner();
            inner.expire();
            let Some(reserved) = inner.reserved.remove(&assignment.id) else { return false };
            let sid = assignment.room_sid.as_deref().unwrap_or_default();
            let ordinal = inner.ordinals.get(sid).map(|(_, n)| *n);
            assignment.ordinal = ordinal.unwrap_or(assignment.ordinal);
            if assignment.url.is_empty() {
                assignment.url.clone_from(&self.url);
            }
            let id = assignment.id.clone();
            self.start(&mut inner, assignment, None, Some(reports));
            if let Some(running) = inner.running.get(&id) {
                for metadata in reserved.metadata {
                    // The observer was just started, so it still receives.
                    let _ = running.metadata.send(metadata);
                }
            }
        }
        self.publish();
        true
    }

    /// Resumes calls that an earlier run left behind.
    pub(super) fn resume(self: &Arc<Self>, left: Vec<LeftBehind>) {
        for l in left {
            let room = l.call.room().clone();
            let (sid, url) = (Some(room.sid), self.url.clone());
            let assignment = Assignment::own(room.name, sid, url, Discovery::Recovery);
            self.start(&mut self.inner(), assignment, Some(l), None);
        }
        self.publish();
    }

    fn start(
        self: &Arc<Self>,
        inner: &mut Inner,
        assignment: Assignment,
        left: Option<LeftBehind>,
        reports: Option<EndReports>,
    ) {
        let id = assignment.id.clone();
        let (room, sid) = (assignment.room.clone(), assignment.room_sid.clone());
        let sid = sid.unwrap_or_default();
        let withdraw = watch::Sender::new(false);
        let (metadata, of_jobs) = mpsc::unbounded_channel();
        let orders =
            Orders { stop: self.stop.clone(), withdraw: withdraw.subscribe(), metadata: of_jobs };
        let identity = assignment.identity();
        let taken = (reports.is_none() && left.is_none()).then(Instant::now);
        let running = Running {
            room: room.clone(),
            sid: sid.clone(),
            identity,
            taken,
            joined: None,
            withdraw,
            metadata,
        };
        inner.running.insert(id.clone(), running);
        let mut end = EndReporter { id, rooms: self.clone(), reports, reported: false };
        let (observers, requests) = (self.observers.clone(), self.requests.clone());
        let on_progress = move |progress: Progress<'_>| match progress {
            Progress::Joined => {
                end.rooms.joined(&end.id);
                // If the queue is full, the next list finds the room as well.
                let _ = requests
                    .try_send(ReconcileRequest::Ours { name: room.clone(), sid: sid.clone() });
            }
            Progress::Over(ended) => end.report(ended.clone()),
        };
        self.tasks.spawn(async move {
            observer::observe(observers, assignment, left, orders, on_progress).await;
        });
    }

    // ---- other workers ----------------------------------------------------------------------

    /// Notes that another worker observes the room.
    pub(super) fn seen_elsewhere(&self, sid: &str) {
        self.inner().seen_elsewhere(sid);
    }

    /// Notes that no other worker observes the room any more.
    pub(super) fn seen_free(&self, sid: &str) {
        self.inner().elsewhere.remove(sid);
    }

    /// `since`: when the first of the present callers joined. If that is after the reported call ended, their
    /// call is a new one, and the room is no longer barred.
    pub(super) fn note_callers(&self, sid: &str, since: Option<i64>) {
        let mut inner = self.inner();
        let reported_until = inner.barred.get(sid).and_then(|(_, until)| *until);
        if reported_until.is_some_and(|until| since.is_none_or(|since| since > until)) {
            inner.barred.remove(sid);
        }
    }

    /// Notes the ordinal of a room's current call.
    pub(super) fn note_ordinal(&self, sid: &str, ordinal: u32) {
        if ordinal > 0 {
            self.inner().ordinals.insert(sid.into(), (Instant::now(), ordinal));
        }
    }

    /// Passes a job's metadata to the observer of its room, also to one that is about to start. False if we
    /// do not observe the room.
    pub(super) fn pass_on_metadata(&self, sid: &str, metadata: &str) -> bool {
        let mut inner = self.inner();
        if let Some(running) = inner.running.values().find(|r| r.sid == sid) {
            return running.metadata.send(metadata.to_owned()).is_ok();
        }
        let now = Instant::now();
        let mut reserved = inner.reserved.values_mut().filter(|r| r.until > now);
        reserved.find(|r| r.sid == sid).is_some_and(|r| {
            r.metadata.push(metadata.to_owned());
            true
        })
    }

    /// Leaves a room to another worker.
    pub(super) fn withdraw(&self, sid: &str) {
        for r in self.inner().running.values().filter(|r| r.sid == sid) {
            tracing::debug!(room = masked(&r.room), "another worker was there first");
            r.withdraw.send_replace(true);
        }
    }

    fn ended(&self, id: &str, ended: &Ended) {
        let mut inner = self.inner();
        let barred = match ended {
            Ended::Removed => Some(None),
            Ended::ReportedBefore(until) => Some(Some(until.millis())),
            _ => None,
        };
        if let Some(running) = inner.running.remove(id)
            && let Some(until) = barred
        {
            inner.barred.insert(running.sid, (Instant::now(), until));
        }
        drop(inner);
        self.publish();
    }

    /// Returns once the worker drains and has no calls left, or the process must end now.
    pub(super) async fn done(&self) {
        let mut state = self.state.subscribe();
        self.stop.draining().await;
        while !self.stop.is_now() && self.active() > 0 {
            // No event comes when a kept place expires.
            let expires = self.inner().reserved().map(|r| r.until).min();
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
            tracing::error!(job_id = self.id, error = why, "call not observed");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_place_whose_job_is_never_assigned_hides_its_room_for_some_seconds_only() {
        let mut inner = Inner::default();
        let until = Instant::now() + ASSIGNED_WITHIN;
        let reserved =
            Reserved { until, sid: "RM_1".into(), role: Role::Dispatch, metadata: vec![] };
        inner.reserved.insert("AJ_1".into(), reserved);
        assert!(inner.observes("RM_1") && !inner.observes("") && !inner.observes("RM_2"));
        assert_eq!(inner.active(), 1);
        // Nobody offers another job, so nothing removes the place.
        tokio::time::advance(ASSIGNED_WITHIN).await;
        assert!(!inner.observes("RM_1"), "the reconciler must find it");
        assert_eq!(inner.active(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn rooms_seen_elsewhere_are_forgotten() {
        let mut inner = Inner::default();
        for n in 0..100 {
            inner.seen_elsewhere(&format!("RM_{n}"));
            tokio::time::advance(SEEN_ELSEWHERE / 10).await;
        }
        assert!(inner.elsewhere.len() <= 10, "{}", inner.elsewhere.len());
    }
}
