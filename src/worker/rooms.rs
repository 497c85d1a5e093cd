//! The rooms that this worker observes, however it learned of them.
//!
//! In: rooms to observe, from offers, the reconciler, an earlier run. Out: one observer for each,
//! never two for the same room. All layers of discovery ask here first, so nothing here waits.

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
    room::{Ask, OurClaim, Refusal, RoomToObserve},
};
use crate::{
    config::Config,
    fleet::handover::HAND_OVER_AT_MOST,
    observer::{self, Assignment, Ended, Observers, Orders, Progress},
    stop::Stop,
    telemetry::masked,
};

/// The server sends an assignment right after the answer to its offer, or never.
const ASSIGNED_WITHIN: Duration = Duration::from_millis(7_500);
/// After "now", for other workers to take over, the last records to be sealed, the rooms to be left.
const FINISH_WITHIN: Duration = HAND_OVER_AT_MOST.saturating_add(Duration::from_secs(15));
/// For how long a room is left to another worker that was seen in it.
const SEEN_ELSEWHERE: Duration = Duration::from_secs(30);
/// Longer than any call: a room we were removed from is not joined again by ourselves.
const BARRED_FOR: Duration = Duration::from_secs(24 * 3600);
/// A join usually takes much less.
const JOINED_WITHIN: Duration = Duration::from_secs(2);

/// Where an observation's end is told: its id, and how it ended.
pub(super) type Report = mpsc::UnboundedSender<(String, Ended)>;

pub(super) struct Rooms {
    url: String,
    max: usize,
    memory: load::Memory,
    observers: Arc<Observers>,
    stop: Stop,
    state: watch::Sender<WorkerState>,
    /// Observers that run, or are about to end.
    tasks: TaskTracker,
    /// To have a look at a room that was just joined: another worker may have.
    asks: mpsc::Sender<Ask>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Offers said yes to, by job id.
    reserved: HashMap<String, Reserved>,
    /// By the assignment's id.
    running: HashMap<String, Running>,
    /// Rooms in which another worker was seen, by sid, and when.
    elsewhere: HashMap<String, Instant>,
    /// Rooms that we do not come back to, by sid, since when, and to which callers: those who came
    /// before that time, or everybody.
    barred: HashMap<String, (Instant, Option<i64>)>,
    /// Which call it is in rooms that have had several, by sid, and when that was told.
    ordinals: HashMap<String, (Instant, u32)>,
}

/// A place that is kept for a job until its assignment comes.
struct Reserved {
    until: Instant,
    sid: String,
    /// The registration that it was offered to: the assignment comes on the same connection or never.
    role: Role,
    /// What jobs for the same room said meanwhile; the observer gets it first.
    metadata: Vec<String>,
}

struct Running {
    room: String,
    sid: String,
    identity: String,
    /// When we took it because nobody was there.
    taken: Option<Instant>,
    /// `None` while it is on the way.
    joined: Option<Instant>,
    withdraw: watch::Sender<bool>,
    /// What jobs for the same room say, to the observer.
    metadata: mpsc::UnboundedSender<String>,
}

impl Inner {
    fn active(&self) -> usize {
        self.running.len() + self.reserved().count()
    }

    /// Places that are still kept.
    fn reserved(&self) -> impl Iterator<Item = &Reserved> {
        let now = Instant::now();
        self.reserved.values().filter(move |r| r.until > now)
    }

    fn expire(&mut self) {
        let now = Instant::now();
        self.reserved.retain(|_, r| r.until > now);
        self.elsewhere.retain(|_, seen| seen.elapsed() < SEEN_ELSEWHERE);
        self.barred.retain(|_, (since, _)| since.elapsed() < BARRED_FOR);
        self.ordinals.retain(|_, (told, _)| told.elapsed() < BARRED_FOR);
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
        asks: mpsc::Sender<Ask>,
    ) -> Self {
        Self {
            url: config.livekit.url.clone(),
            max: config.max_calls,
            memory: load::Memory::new(config.max_memory),
            observers,
            stop,
            state,
            tasks: TaskTracker::new(),
            asks,
            inner: Mutex::default(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    // ---- asking ------------------------------------------------------------------------------

    pub(super) fn stopping(&self) -> bool {
        self.stop.is_draining()
    }

    /// Nothing more can be taken.
    pub(super) fn full(&self) -> bool {
        self.stopping() || self.inner().active() >= self.max || self.memory.short()
    }

    /// Whether a room may be taken.
    fn free(&self, inner: &Inner, sid: &str) -> Result<(), Refusal> {
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

    /// How we stand in a room that we observe, or are about to.
    pub(super) fn ours(&self, sid: &str) -> Option<OurClaim> {
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

    /// How many rooms we are on the way to that another worker could take as well. One that takes
    /// long holds up no other.
    pub(super) fn joining(&self) -> usize {
        let on_the_way = |r: &&Running| {
            r.joined.is_none() && r.taken.is_some_and(|at| at.elapsed() < JOINED_WITHIN)
        };
        self.inner().running.values().filter(on_the_way).count()
    }

    fn joined(&self, id: &str) {
        if let Some(r) = self.inner().running.get_mut(id) {
            r.joined = Some(Instant::now());
            // Said of the connection before.
            r.withdraw.send_replace(false);
        }
    }

    pub(super) fn active(&self) -> usize {
        self.inner().active()
    }

    /// As it is reported to the server.
    pub(super) fn load(&self) -> f32 {
        load::load(self.active(), self.max, self.memory.used())
    }

    pub(super) fn publish(&self) {
        let (active_jobs, load) = (self.active(), self.load());
        self.state.send_modify(|s| {
            s.active_jobs = active_jobs;
            s.load = load;
        });
    }

    // ---- taking ------------------------------------------------------------------------------

    /// Keeps a place for a job that is offered to a registration.
    pub(super) fn reserve(&self, job_id: &str, sid: &str, role: Role) -> Result<(), Refusal> {
        let mut inner = self.inner();
        inner.expire();
        if inner.elsewhere.contains_key(sid) {
            return Err(Refusal::Observed);
        }
        self.free(&inner, sid)?;
        let until = Instant::now() + ASSIGNED_WITHIN;
        let reserved = Reserved { until, sid: sid.into(), role, metadata: vec![] };
        inner.reserved.insert(job_id.into(), reserved);
        Ok(())
    }

    /// A registration's connection broke: what it was offered is never assigned. The rooms are free for
    /// the reconciler again.
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

    /// A room that nobody observes.
    pub(super) fn take(self: &Arc<Self>, room: RoomToObserve) -> Result<(), Refusal> {
        {
            let mut inner = self.inner();
            inner.expire();
            if inner.barred.contains_key(&room.sid) {
                return Err(Refusal::Barred);
            }
            self.free(&inner, &room.sid)?;
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

    /// A job that was assigned takes the place that was kept for it, in one step: nobody else can take
    /// the room in between. False if there is no such place, or not any more.
    pub(super) fn take_job(self: &Arc<Self>, mut assignment: Assignment, report: Report) -> bool {
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
            self.start(&mut inner, assignment, None, Some(report));
            if let Some(running) = inner.running.get(&id) {
                for metadata in reserved.metadata {
                    // The observer has only just been started: it is there.
                    let _ = running.metadata.send(metadata);
                }
            }
        }
        self.publish();
        true
    }

    /// Calls that an earlier run was watching.
    pub(super) fn go_on(self: &Arc<Self>, left: Vec<LeftBehind>) {
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
        report: Option<Report>,
    ) {
        let id = assignment.id.clone();
        let (room, sid) = (assignment.room.clone(), assignment.room_sid.clone());
        let sid = sid.unwrap_or_default();
        let withdraw = watch::Sender::new(false);
        let (metadata, of_jobs) = mpsc::unbounded_channel();
        let orders =
            Orders { stop: self.stop.clone(), withdraw: withdraw.subscribe(), metadata: of_jobs };
        let identity = assignment.identity();
        let taken = (report.is_none() && left.is_none()).then(Instant::now);
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
        let mut end = End { id, rooms: self.clone(), report, told: false };
        let (observers, asks) = (self.observers.clone(), self.asks.clone());
        let tell = move |told: Progress<'_>| match told {
            Progress::Joined => {
                end.rooms.joined(&end.id);
                // A queue that is full has enough to do, and the next pass looks too.
                let _ = asks.try_send(Ask::Ours { name: room.clone(), sid: sid.clone() });
            }
            Progress::Over(ended) => end.tell(ended.clone()),
        };
        self.tasks.spawn(async move {
            observer::observe(observers, assignment, left, orders, tell).await;
        });
    }

    // ---- letting go --------------------------------------------------------------------------

    /// Another worker observes the room.
    pub(super) fn seen_elsewhere(&self, sid: &str) {
        let mut inner = self.inner();
        // A worker that only sees the rooms of others takes none, so nobody else forgets them.
        inner.expire();
        inner.elsewhere.insert(sid.into(), Instant::now());
    }

    /// Nobody does any more.
    pub(super) fn seen_free(&self, sid: &str) {
        self.inner().elsewhere.remove(sid);
    }

    /// Who is there since when: a call of theirs cannot have been told before.
    pub(super) fn note_callers(&self, sid: &str, since: Option<i64>) {
        let mut inner = self.inner();
        let told_until = inner.barred.get(sid).and_then(|(_, until)| *until);
        if told_until.is_some_and(|until| since.is_none_or(|since| since > until)) {
            inner.barred.remove(sid);
        }
    }

    /// Which call of a room it is by now.
    pub(super) fn note_ordinal(&self, sid: &str, ordinal: u32) {
        if ordinal > 0 {
            self.inner().ordinals.insert(sid.into(), (Instant::now(), ordinal));
        }
    }

    /// What a job said for a room that is observed already, or about to be. False if that is not by us.
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

    /// Returns when told to stop and nothing is left to do.
    pub(super) async fn done(&self) {
        let mut state = self.state.subscribe();
        self.stop.draining().await;
        while !self.stop.is_now() && self.active() > 0 {
            // A place that is kept expires without an event.
            let expires = self.inner().reserved().map(|r| r.until).min();
            tokio::select! {
                () = self.stop.ending() => {}
                Ok(()) = state.changed() => {}
                () = sleep_until(expires.unwrap_or_else(Instant::now)), if expires.is_some() => {}
            }
        }
    }

    /// Waits for what is ending.
    pub(super) async fn finish(&self) {
        self.tasks.close();
        if timeout(FINISH_WITHIN, self.tasks.wait()).await.is_err() {
            tracing::warn!("some rooms were not left in time");
        }
    }
}

/// Tells of an observation's end exactly once.
struct End {
    id: String,
    rooms: Arc<Rooms>,
    report: Option<Report>,
    told: bool,
}

impl End {
    fn tell(&mut self, ended: Ended) {
        if std::mem::replace(&mut self.told, true) {
            return;
        }
        if let Ended::Failed(why) = &ended {
            tracing::error!(job_id = self.id, error = why, "call not observed");
        }
        self.rooms.ended(&self.id, &ended);
        if let Some(report) = &self.report {
            // Nobody listens any more only when the process ends.
            let _ = report.send((self.id.clone(), ended));
        }
    }
}

impl Drop for End {
    /// Also if the observer panics: its room must not count for ever.
    fn drop(&mut self) {
        self.tell(Ended::Failed("the observer broke".into()));
    }
}
