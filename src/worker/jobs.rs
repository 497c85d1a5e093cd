//! Jobs of one registration: offered, accepted, running, done.
//!
//! An offer is answered from memory alone: after a late answer LiveKit drops the job without a message
//! (docs/worker-protocol.md §4.1). A JobTermination is only logged. It is not the end of a call: it also
//! comes if our own connection was merely replaced (docs/worker-protocol.md §4.5).

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use livekit_protocol::{
    AvailabilityRequest, AvailabilityResponse, Job, JobAssignment, JobStatus, MigrateJobRequest,
    UpdateJobStatus, UpdateWorkerStatus, WorkerStatus, server_message::Message as FromServer,
    worker_message::Message as ToServer,
};
use tokio::sync::mpsc;

use super::{
    connection::Role,
    room::Refusal,
    rooms::{EndReports, Rooms},
};
use crate::{
    config::{Config, RoomNames},
    fleet::{self, Badge},
    observer::{Assignment, Ended, LaterJob},
    telemetry::masked,
};

/// How often load is reported.
pub(super) const STATUS_EVERY: Duration = Duration::from_millis(2_500);

pub(super) struct Jobs {
    role: Role,
    /// The room names to accept; `None` for jobs that name us, which are always accepted.
    names: Option<RoomNames>,
    badge: Badge,
    rooms: Arc<Rooms>,
    /// Ids of running jobs; a new connection must take them over.
    running: BTreeSet<String>,
    done: mpsc::UnboundedReceiver<(String, Ended)>,
    /// For the ends of jobs; the other end of `done`.
    reports: EndReports,
}

impl Jobs {
    pub(super) fn new(role: Role, config: &Config, badge: Badge, rooms: Arc<Rooms>) -> Self {
        let (reports, done) = mpsc::unbounded_channel();
        let names = (role == Role::Participant).then(|| config.rooms.clone());
        Self { role, names, badge, rooms, running: BTreeSet::new(), done, reports }
    }

    // ---- messages ---------------------------------------------------------------------------

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
        let room = job.room.unwrap_or_default();
        let (job_id, shown) = (job.id, masked(&room.name));
        if job.r#type != self.role.job_type() as i32 || room.name.is_empty() {
            tracing::warn!(job_id, room = shown, "job refused: of another kind");
            return refusal(job_id, false);
        }
        if self.names.as_ref().is_some_and(|n| !n.wanted(&room.name)) {
            // Other unnamed workers share this pool, and one of them may take the job.
            return refusal(job_id, false);
        }
        if let Err(no) = self.rooms.reserve(&job_id, &room.sid, self.role) {
            // An observed room needs no other worker. For any other refusal another worker may have a place.
            let mut redundant = no == Refusal::Observed;
            if redundant {
                // The job's metadata must reach the observer: it may hold an opt-out.
                redundant = job.metadata.is_empty();
                let later = LaterJob { by: self.role.discovery(), metadata: job.metadata };
                redundant |= self.rooms.places().pass_on(&room.sid, later);
                tracing::info!(job_id, room = shown, "job for a room that is observed already");
            } else {
                tracing::warn!(job_id, room = shown, why = no.as_str(), "job refused");
            }
            return refusal(job_id, redundant);
        }
        tracing::info!(job_id, room = shown, "received job request, accepted");
        ToServer::Availability(AvailabilityResponse {
            participant_identity: fleet::identity(&job_id),
            participant_name: "call-history".into(),
            participant_attributes: self.badge.attributes(None, 0),
            job_id,
            available: true,
            ..Default::default()
        })
    }

    fn assigned(&mut self, a: JobAssignment) -> Option<ToServer> {
        let job = a.job?;
        let (id, url) = (job.id.clone(), a.url.unwrap_or_default());
        if !self.rooms.take_job(self.assignment(job, url, a.token), self.reports.clone()) {
            tracing::warn!(job_id = id, "a job was assigned too late, or without an offer");
            return Some(update(id, JobStatus::JsFailed, "assigned too late".into()));
        }
        self.running.insert(id.clone());
        Some(update(id, JobStatus::JsRunning, String::new()))
    }

    fn assignment(&self, job: Job, url: String, token: String) -> Assignment {
        let room = job.room.unwrap_or_default();
        Assignment {
            id: job.id,
            room: room.name,
            room_sid: Some(room.sid).filter(|s| !s.is_empty()),
            metadata: job.metadata,
            url,
            token: Some(token),
            by: self.role.discovery(),
            ordinal: 0,
        }
    }

    /// The connection broke: jobs that were accepted on it but not assigned yet never will be.
    pub(super) fn disconnected(&self) {
        self.rooms.release_reserved(self.role);
    }

    // ---- reports ----------------------------------------------------------------------------

    /// The status message for the next job that ends. Safe to cancel.
    pub(super) async fn done(&mut self) -> Option<ToServer> {
        // `self` holds a sender, so the channel never closes.
        let (id, ended) = self.done.recv().await?;
        Some(self.over(id, ended))
    }

    /// The same for a job that has ended already; does not wait.
    pub(super) fn done_already(&mut self) -> Option<ToServer> {
        let (id, ended) = self.done.try_recv().ok()?;
        Some(self.over(id, ended))
    }

    fn over(&mut self, id: String, ended: Ended) -> ToServer {
        self.running.remove(&id);
        let (status, error) = match ended {
            Ended::Done | Ended::Elsewhere | Ended::Removed | Ended::ReportedBefore(_) => {
                (JobStatus::JsSuccess, String::new())
            }
            Ended::NotOurs => (JobStatus::JsFailed, "the room is gone".into()),
            Ended::Failed(why) => (JobStatus::JsFailed, why),
        };
        update(id, status, error)
    }

    /// The message that moves jobs of the last connection to the new one.
    pub(super) fn migrate(&self) -> Option<ToServer> {
        let job_ids: Vec<String> = self.running.iter().cloned().collect();
        let any = !job_ids.is_empty();
        any.then_some(ToServer::MigrateJob(MigrateJobRequest { job_ids }))
    }

    /// The worker's status. It always holds the load: the server takes a missing load for 0.
    pub(super) fn status(&self) -> ToServer {
        let full = self.rooms.full();
        let status = if full { WorkerStatus::WsFull } else { WorkerStatus::WsAvailable };
        self.rooms.publish();
        ToServer::UpdateWorker(UpdateWorkerStatus {
            status: Some(status as i32),
            load: self.rooms.load(),
            job_count: u32::try_from(self.rooms.places().active()).unwrap_or(u32::MAX),
            ..Default::default()
        })
    }
}

/// `redundant`: the server need not ask another worker.
fn refusal(job_id: String, redundant: bool) -> ToServer {
    ToServer::Availability(AvailabilityResponse {
        job_id,
        terminate: redundant,
        ..Default::default()
    })
}

fn update(job_id: String, status: JobStatus, error: String) -> ToServer {
    ToServer::UpdateJob(UpdateJobStatus { job_id, status: status as i32, error })
}
