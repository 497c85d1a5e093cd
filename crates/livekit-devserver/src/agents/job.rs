//! Jobs: from a room's request for an agent to the assignment, and to the termination.
//!
//! In: dispatches, joins, first tracks. Out: offers to workers, job tokens, terminations. Each job has one
//! attempt: after a refusal the next worker of the pool gets the offer; without an answer within the budget
//! the job is lost (docs/worker-protocol.md §4.1).

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use livekit_protocol::{self as lk, DisconnectReason as Why, server_message::Message as Out};
use tokio::{sync::oneshot, time::Instant};

use super::pool::PoolKey;
use crate::{
    clock::{id, wall_ms, wall_ns},
    hub::{Hub, ask},
    room::Room,
    token::{self, Claims, Video},
};

/// Time for all offers of one job together.
const BUDGET: Duration = Duration::from_secs(3);
/// How long the agents of a deleted dispatch may take to leave by themselves.
const LEAVE_WITHIN: Duration = Duration::from_secs(3);
/// Validity of a job token, seconds. It limits the join only.
const TOKEN_TTL: u64 = 3600;

/// A job that a worker has taken. Its room keeps it, to terminate it.
pub(crate) struct RunningJob {
    id: String,
    dispatch: String,
    identity: String,
    worker: String,
    hub: Arc<Hub>,
}

impl RunningJob {
    /// Sends the termination to the worker, unless the worker has finished the job or is gone.
    pub(crate) fn terminate(&self) {
        self.hub.workers.with(&self.worker, |w| {
            if w.jobs.remove(&self.id) {
                w.out.send(Out::Termination(lk::JobTermination { job_id: self.id.clone() }));
            }
        });
    }
}

impl Room {
    /// Adds a dispatch and asks for its agents: for the room, and for each participant in it.
    pub(crate) fn dispatch(&mut self, agent: lk::RoomAgentDispatch) -> lk::AgentDispatch {
        let dispatch = lk::AgentDispatch {
            id: id("AD"),
            agent_name: agent.agent_name,
            metadata: agent.metadata,
            deployment: agent.deployment,
            attributes: agent.attributes,
            room: self.info.name.clone(),
            state: Some(lk::AgentDispatchState { created_at: wall_ns(), ..Default::default() }),
            ..Default::default()
        };
        self.dispatches.push(dispatch.clone());
        self.launch(&dispatch, lk::JobType::JtRoom, None);
        for p in self.participants.values().filter(|p| !p.dependent()) {
            self.launch(&dispatch, lk::JobType::JtParticipant, Some(&p.info));
            if p.info.is_publisher {
                self.launch(&dispatch, lk::JobType::JtPublisher, Some(&p.info));
            }
        }
        dispatch
    }

    /// Deletes a dispatch and terminates its jobs at once. Agents that are still in the room 3 s later are
    /// removed.
    pub(crate) fn delete_dispatch(&mut self, id: &str) -> Option<lk::AgentDispatch> {
        let i = self.dispatches.iter().position(|d| d.id == id)?;
        let dispatch = self.dispatches.remove(i);
        let (ours, rest) =
            std::mem::take(&mut self.jobs).into_iter().partition(|j| j.dispatch == id);
        self.jobs = rest;
        for job in Vec::<RunningJob>::into_iter(ours) {
            job.terminate();
            let Some(key) = self.by_identity(&job.identity) else { continue };
            let room = self.tx.clone();
            tokio::spawn(async move {
                tokio::time::sleep(LEAVE_WITHIN).await;
                ask(&room, move |r| r.remove(key, Why::ParticipantRemoved)).await;
            });
        }
        Some(dispatch)
    }

    /// Asks all dispatches for agents for one participant.
    pub(crate) fn launch_for(&self, kind: lk::JobType, participant: &lk::ParticipantInfo) {
        for dispatch in &self.dispatches {
            self.launch(dispatch, kind, Some(participant));
        }
    }

    fn launch(
        &self,
        dispatch: &lk::AgentDispatch,
        kind: lk::JobType,
        participant: Option<&lk::ParticipantInfo>,
    ) {
        #[allow(deprecated)] // the namespace still decides about pools
        let job = lk::Job {
            dispatch_id: dispatch.id.clone(),
            r#type: kind as i32,
            room: Some(self.info.clone()),
            participant: participant.cloned(),
            metadata: dispatch.metadata.clone(),
            agent_name: dispatch.agent_name.clone(),
            deployment: dispatch.deployment.clone(),
            attributes: dispatch.attributes.clone(),
            ..Default::default()
        };
        tokio::spawn(start_jobs(self.hub.clone(), job));
    }

    /// Terminates the job of a participant that is gone, or that another session of the same identity
    /// replaces: the real server makes no difference (docs/worker-protocol.md §4.5).
    pub(crate) fn terminate_jobs_of(&mut self, identity: &str) {
        let (gone, rest) =
            std::mem::take(&mut self.jobs).into_iter().partition(|j| j.identity == identity);
        self.jobs = rest;
        Vec::<RunningJob>::into_iter(gone).for_each(|job| job.terminate());
    }
}

/// Starts one job for each namespace that has workers for it.
#[allow(deprecated)]
async fn start_jobs(hub: Arc<Hub>, job: lk::Job) {
    if !hub.config.dispatch_delay.is_zero() {
        tokio::time::sleep(hub.config.dispatch_delay).await;
    }
    let pools = hub.workers.pools(&job.agent_name, &job.deployment, job.r#type);
    if pools.is_empty() {
        return tracing::debug!(
            agent_name = job.agent_name,
            kind = job.r#type,
            "no worker is available"
        );
    }
    for pool in pools {
        let job = lk::Job { id: id("AJ"), namespace: pool.namespace.clone(), ..job.clone() };
        tokio::spawn(offer_job(hub.clone(), pool, job));
    }
}

/// Offers a job to the workers of a pool, one after the other.
async fn offer_job(hub: Arc<Hub>, pool: PoolKey, mut job: lk::Job) {
    let deadline = Instant::now() + BUDGET;
    let mut tried = BTreeSet::new();
    while let Some(worker) = hub.workers.choose(&pool, &tried) {
        tried.insert(worker.clone());
        let now = wall_ns();
        job.state = Some(lk::JobState {
            status: lk::JobStatus::JsRunning as i32,
            worker_id: worker.clone(),
            started_at: now,
            updated_at: now,
            ..Default::default()
        });
        let (reply, answer) = oneshot::channel();
        let sent = hub.workers.with(&worker, |w| {
            w.offered.insert(job.id.clone(), reply);
            let request = lk::AvailabilityRequest { job: Some(job.clone()), resuming: false };
            w.out.send(Out::Availability(request))
        });
        if sent != Some(true) {
            continue;
        }
        match tokio::time::timeout_at(deadline, answer).await {
            Err(_) => {
                hub.workers.with(&worker, |w| w.offered.remove(&job.id));
                return tracing::warn!(job = job.id, worker, "job lost: no answer");
            }
            // The worker is gone.
            Ok(Err(_)) => {}
            Ok(Ok(answer)) if answer.terminate => {
                let state = job.state.get_or_insert_default();
                state.status = lk::JobStatus::JsSuccess as i32;
                state.ended_at = wall_ns();
                return tracing::info!(job = job.id, worker, "job ended by its worker's answer");
            }
            Ok(Ok(answer)) if answer.available && hub.loses_assignment() => {
                hub.workers.with(&worker, |w| w.out.cut());
                return tracing::info!(
                    job = job.id,
                    worker,
                    "job lost with its worker's connection"
                );
            }
            Ok(Ok(answer)) if answer.available => return assign(&hub, &worker, job, &answer).await,
            Ok(Ok(_)) => tracing::debug!(job = job.id, worker, "job refused"),
        }
    }
    tracing::info!(
        job = job.id,
        agent_name = pool.agent_name,
        "job lost: no worker has room for it"
    );
}

async fn assign(hub: &Arc<Hub>, worker: &str, mut job: lk::Job, answer: &lk::AvailabilityResponse) {
    let who = hub.workers.with(worker, |w| {
        w.jobs.insert(job.id.clone());
        (w.api_key.clone(), w.permissions.clone())
    });
    let Some((api_key, permissions)) = who else { return };
    let room = job.room.clone().unwrap_or_default().name;
    let mut claims = claims(&api_key, &room, &job.agent_name, permissions, answer);
    let age = hub.config.job_token_age.as_secs();
    claims.nbf = claims.nbf.saturating_sub(age);
    claims.exp = claims.exp.saturating_sub(age);
    let secret = hub.config.keys.get(&api_key).map_or("", String::as_str);
    let token = token::sign(&claims, secret);
    job.state.get_or_insert_default().participant_identity = answer.participant_identity.clone();
    let running = RunningJob {
        id: job.id.clone(),
        dispatch: job.dispatch_id.clone(),
        identity: answer.participant_identity.clone(),
        worker: worker.to_owned(),
        hub: hub.clone(),
    };
    let listed = job.clone();
    let list = move |r: &mut Room| {
        let dispatch = r.dispatches.iter_mut().find(|d| d.id == listed.dispatch_id);
        if let Some(state) = dispatch.and_then(|d| d.state.as_mut()) {
            state.jobs.push(listed);
        }
    };
    match hub.config.job_listed_after {
        Duration::ZERO => drop(hub.ask(&room, list).await),
        late => {
            let (hub, room) = (hub.clone(), room.clone());
            tokio::spawn(async move {
                tokio::time::sleep(late).await;
                hub.ask(&room, list).await;
            });
        }
    }
    hub.ask(&room, move |r| {
        // Without an identity the agent cannot join, so the room need not follow the job.
        if !running.identity.is_empty() {
            r.jobs.push(running);
        }
    })
    .await;
    tracing::info!(job = job.id, worker, room, "job assigned");
    hub.workers.with(worker, |w| {
        w.out.send(Out::Assignment(lk::JobAssignment { job: Some(job), url: None, token }));
    });
}

/// The claims of a job token: kind agent, the worker's answer, and the permissions of its registration
/// (docs/worker-protocol.md §4.3).
fn claims(
    api_key: &str,
    room: &str,
    agent_name: &str,
    permissions: Option<lk::ParticipantPermission>,
    answer: &lk::AvailabilityResponse,
) -> Claims {
    // Absent permissions allow everything. In present ones, an unset field means false.
    let p = permissions.unwrap_or(lk::ParticipantPermission {
        can_subscribe: true,
        can_publish: true,
        can_publish_data: true,
        can_update_metadata: true,
        ..Default::default()
    });
    let mut attributes = answer.participant_attributes.clone();
    attributes.insert("lk.agent_name".into(), agent_name.into());
    let now = wall_ms() as u64 / 1000;
    Claims {
        iss: api_key.into(),
        sub: answer.participant_identity.clone(),
        identity: answer.participant_identity.clone(),
        nbf: now,
        exp: now + TOKEN_TTL,
        name: answer.participant_name.clone(),
        metadata: answer.participant_metadata.clone(),
        kind: "agent".into(),
        attributes,
        video: Video {
            room_join: true,
            room: room.into(),
            agent: true,
            hidden: p.hidden,
            can_subscribe: Some(p.can_subscribe),
            can_publish: Some(p.can_publish),
            can_publish_data: Some(p.can_publish_data),
            can_update_own_metadata: Some(p.can_update_metadata),
            can_subscribe_metrics: Some(p.can_subscribe_metrics),
            ..Default::default()
        },
        ..Default::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn present_permissions_mean_that_unset_is_false() {
        let answer =
            lk::AvailabilityResponse { participant_identity: "a".into(), ..Default::default() };
        let all = claims("k", "r", "n", None, &answer).permission();
        assert!(
            all.can_subscribe
                && all.can_publish
                && all.can_publish_data
                && all.can_update_metadata
                && !all.hidden
        );
        let hidden = lk::ParticipantPermission { hidden: true, ..Default::default() };
        let p = claims("k", "r", "n", Some(hidden), &answer).permission();
        assert!(p.hidden && !p.can_subscribe && !p.can_publish && !p.can_publish_data);
    }

    #[test]
    fn a_job_token_lasts_an_hour_and_names_the_agent() {
        let answer = lk::AvailabilityResponse {
            participant_identity: "me".into(),
            participant_attributes: [("a".to_owned(), "b".to_owned())].into(),
            ..Default::default()
        };
        let c = claims("k", "room", "bot", None, &answer);
        assert_eq!((c.exp - c.nbf, c.sub.as_str(), c.kind.as_str()), (3600, "me", "agent"));
        assert_eq!(c.attributes["lk.agent_name"], "bot");
        assert_eq!(c.attributes["a"], "b");
        assert!(c.video.room_join && c.video.agent && c.video.room == "room");
    }
}
