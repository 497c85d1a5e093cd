//! Jobs: offered, accepted, running, done.
//!
//! An offer is answered from what is in memory; a late answer loses the call without a word
//! (spec §3.2). A JobTermination is not the end of a call (spec §3.4): it also comes when our own
//! connection was merely replaced, so it is noted and nothing else.

use std::{collections::HashMap, sync::Arc, time::Duration};

use livekit_protocol::{
    AvailabilityRequest, AvailabilityResponse, Job, JobAssignment, JobStatus, JobType,
    MigrateJobRequest, UpdateJobStatus, UpdateWorkerStatus, WorkerStatus,
    server_message::Message as FromServer, worker_message::Message as ToServer,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{WorkerState, sleep_or_stop};
use crate::{
    config::Config,
    journal::LeftBehind,
    observer::{self, Assignment, Ended, Observers},
    stop::Stop,
    telemetry::masked,
};

/// How often load is reported.
pub(super) const STATUS_EVERY: Duration = Duration::from_millis(2_500);
/// The server sends the assignment right after the answer, or never.
const ASSIGNED_WITHIN: Duration = Duration::from_millis(7_500);
/// A worker that reports 0.7 or more gets nothing at all: spread the work below that.
const MOST_LOAD: f32 = 0.69;
/// After "now", for the last records to be sealed and the rooms to be left.
const FINISH_WITHIN: Duration = Duration::from_secs(10);

pub(super) struct Jobs {
    url: String,
    max: usize,
    observers: Arc<Observers>,
    stop: watch::Receiver<Stop>,
    state: watch::Sender<WorkerState>,
    /// Said yes to, and until when the assignment may come; with the room's sid.
    accepted: HashMap<String, (Instant, String)>,
    /// Being observed, with the room's sid.
    running: HashMap<String, String>,
    tasks: JoinSet<()>,
    done: mpsc::UnboundedReceiver<(String, Ended)>,
    report: mpsc::UnboundedSender<(String, Ended)>,
}

impl Jobs {
    pub(super) fn new(
        config: &Config,
        observers: Arc<Observers>,
        stop: watch::Receiver<Stop>,
        state: watch::Sender<WorkerState>,
    ) -> Self {
        let (report, done) = mpsc::unbounded_channel();
        Self {
            url: config.livekit.url.clone(),
            max: config.max_calls,
            observers,
            stop,
            state,
            accepted: HashMap::new(),
            running: HashMap::new(),
            tasks: JoinSet::new(),
            done,
            report,
        }
    }

    fn stopping(&self) -> bool {
        *self.stop.borrow() != Stop::Run
    }

    fn active(&self) -> usize {
        self.running.len() + self.accepted.len()
    }

    /// Told to stop, and nothing is left to do.
    pub(super) fn finished_after_stop(&mut self) -> bool {
        let now = Instant::now();
        self.accepted.retain(|_, (until, _)| *until > now);
        match *self.stop.borrow() {
            Stop::Run => false,
            Stop::Drain => self.active() == 0,
            Stop::Now => true,
        }
    }

    // ---- messages ----------------------------------------------------------------------------

    pub(super) fn handle(&mut self, message: FromServer) -> Option<ToServer> {
        match message {
            FromServer::Availability(a) => Some(self.offered(a)),
            FromServer::Assignment(a) => self.assigned(a),
            FromServer::Termination(t) => {
                tracing::debug!(
                    job_id = t.job_id,
                    "job terminated by the server; the room decides"
                );
                None
            }
            _ => None,
        }
    }

    fn offered(&mut self, a: AvailabilityRequest) -> ToServer {
        let job = a.job.unwrap_or_default();
        let room = job.room.as_ref().map(|r| masked(&r.name)).unwrap_or_default();
        let now = Instant::now();
        self.accepted.retain(|_, (until, _)| *until > now);
        let sid = job.room.as_ref().map(|r| r.sid.clone()).unwrap_or_default();
        let mut sids = self.accepted.values().map(|(_, sid)| sid).chain(self.running.values());
        if !sid.is_empty() && sids.any(|s| *s == sid) {
            // Two observers of one room would tell its calls twice.
            tracing::info!(job_id = job.id, room, "job for a room that is observed already");
            return ToServer::Availability(AvailabilityResponse {
                job_id: job.id,
                terminate: true,
                ..Default::default()
            });
        }
        let why_not = if self.stopping() {
            Some("draining")
        } else if self.active() >= self.max {
            Some("full")
        } else if job.r#type != JobType::JtRoom as i32 || room.is_empty() {
            Some("not a room job")
        } else {
            None
        };
        if let Some(why) = why_not {
            tracing::warn!(job_id = job.id, room, why, "job refused");
            return ToServer::Availability(AvailabilityResponse {
                job_id: job.id,
                ..Default::default()
            });
        }
        self.accepted.insert(job.id.clone(), (now + ASSIGNED_WITHIN, sid));
        tracing::info!(job_id = job.id, room, "job accepted");
        ToServer::Availability(AvailabilityResponse {
            participant_identity: observer::identity(&job.id),
            participant_name: "call-history".into(),
            job_id: job.id,
            available: true,
            ..Default::default()
        })
    }

    fn assigned(&mut self, a: JobAssignment) -> Option<ToServer> {
        let job = a.job?;
        if self.accepted.remove(&job.id).is_none() {
            tracing::warn!(
                job_id = job.id,
                "assignment for a job that was not accepted, or too late"
            );
            return Some(update(job.id, JobStatus::JsFailed, "assigned too late".into()));
        }
        let id = job.id.clone();
        let url = a.url.filter(|u| !u.is_empty()).unwrap_or_else(|| self.url.clone());
        self.start(assignment(job, url, a.token), None);
        self.publish();
        Some(update(id, JobStatus::JsRunning, String::new()))
    }

    /// Calls that an earlier run was watching.
    pub(super) fn go_on(&mut self, left: Vec<LeftBehind>) {
        for l in left {
            let room = l.call.room();
            let assignment = Assignment {
                id: uuid::Uuid::new_v4().simple().to_string(),
                room: room.name.clone(),
                room_sid: Some(room.sid.clone()),
                metadata: String::new(),
                url: self.url.clone(),
                token: None,
            };
            self.start(assignment, Some(l));
        }
        self.publish();
    }

    fn start(&mut self, assignment: Assignment, left: Option<LeftBehind>) {
        let id = assignment.id.clone();
        self.running.insert(id.clone(), assignment.room_sid.clone().unwrap_or_default());
        let (observers, stop, report) =
            (self.observers.clone(), self.stop.clone(), self.report.clone());
        self.tasks.spawn(async move {
            // Runs also if the observer panics: its job must not count for ever.
            let mut guard = Report { id, report, told: false };
            let tell = |ended: &Ended| guard.tell(ended.clone());
            observer::observe(observers, assignment, left, stop, tell).await;
        });
    }

    // ---- reports -----------------------------------------------------------------------------

    /// What the server is told of a job that is over. Safe to cancel.
    pub(super) async fn done(&mut self) -> Option<ToServer> {
        while self.tasks.try_join_next().is_some() {}
        // `report` lives as long as we do, so this never ends.
        let (id, ended) = self.done.recv().await?;
        self.running.remove(&id);
        self.publish();
        let (status, error) = match ended {
            Ended::Done => (JobStatus::JsSuccess, String::new()),
            Ended::NotOurs => (JobStatus::JsFailed, "the room was replaced by another".into()),
            Ended::Failed(why) => {
                tracing::error!(job_id = id, error = why, "call not observed");
                (JobStatus::JsFailed, why)
            }
        };
        Some(update(id, status, error))
    }

    /// Jobs that outlived the last connection.
    pub(super) fn migrate(&self) -> Option<ToServer> {
        let job_ids: Vec<String> = self.running.keys().cloned().collect();
        let any = !job_ids.is_empty();
        any.then_some(ToServer::MigrateJob(MigrateJobRequest { job_ids }))
    }

    /// Load is always sent along: without it the server takes it for 0.
    pub(super) fn status(&mut self) -> ToServer {
        let now = Instant::now();
        self.accepted.retain(|_, (until, _)| *until > now);
        let full = self.stopping() || self.active() >= self.max;
        let status = if full { WorkerStatus::WsFull } else { WorkerStatus::WsAvailable };
        self.publish();
        ToServer::UpdateWorker(UpdateWorkerStatus {
            status: Some(status as i32),
            load: self.load(),
            job_count: u32::try_from(self.active()).unwrap_or(u32::MAX),
            ..Default::default()
        })
    }

    fn load(&self) -> f32 {
        (MOST_LOAD * self.active() as f32 / self.max as f32).min(MOST_LOAD)
    }

    fn publish(&self) {
        let (active_jobs, load) = (self.active(), self.load());
        self.state.send_modify(|s| {
            s.active_jobs = active_jobs;
            s.load = load;
        });
    }

    // ---- without a connection ----------------------------------------------------------------

    /// Waits while not registered; calls go on. False when the worker is done.
    pub(super) async fn while_away(
        &mut self,
        wait: Duration,
        stop: &mut watch::Receiver<Stop>,
    ) -> bool {
        let until = Instant::now() + wait;
        while Instant::now() < until {
            tokio::select! {
                () = sleep_or_stop(until - Instant::now(), stop) => {}
                _ = self.done() => {}
            }
            if self.finished_after_stop() {
                return false;
            }
        }
        !self.finished_after_stop()
    }

    /// Waits for what is ending.
    pub(super) async fn finish(&mut self) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(FINISH_WITHIN, all).await.is_err() {
            tracing::warn!("some rooms were not left in time");
        }
    }
}

/// Reports a job's end exactly once.
struct Report {
    id: String,
    report: mpsc::UnboundedSender<(String, Ended)>,
    told: bool,
}

impl Report {
    fn tell(&mut self, ended: Ended) {
        if !std::mem::replace(&mut self.told, true) {
            // Nobody listens any more only when the process ends.
            let _ = self.report.send((self.id.clone(), ended));
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.tell(Ended::Failed("the observer broke".into()));
    }
}

fn assignment(job: Job, url: String, token: String) -> Assignment {
    let room = job.room.unwrap_or_default();
    Assignment {
        id: job.id,
        room: room.name,
        room_sid: Some(room.sid).filter(|s| !s.is_empty()),
        metadata: job.metadata,
        url,
        token: Some(token),
    }
}

fn update(job_id: String, status: JobStatus, error: String) -> ToServer {
    ToServer::UpdateJob(UpdateJobStatus { job_id, status: status as i32, error })
}
