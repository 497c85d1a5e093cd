//! Joining the room: for the first time, again after the connection was lost, and again after the worker
//! that observed it died.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use call::{
    Call, Fact, Moment, Phase, RoomFacts,
    event::{Kind, LeaveReason},
    roles::Identities,
};
use metrics::Reconnect;
use store::{
    health::{Health, Topic},
    journal::LeftBehind,
};
use tokio::time::{Instant, sleep, timeout};

use super::{
    Observers,
    admission::{self, RoomState},
    room::{Connection, Opening},
    session::{Ended, Progress, RoomSession},
};
use crate::{clock::millis, descriptors, net::Api, telemetry::masked};

/// Timeout of one attempt to join, without the wait for a permit.
const JOIN_WITHIN: Duration = Duration::from_secs(30);
/// How often we check that the room still exists while a join takes long.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How often a room is looked at that its caller has left.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long we try to join. By then a server that could not be reached has ended its calls.
const REJOIN_FOR: Duration = Duration::from_secs(10 * 60);
/// Wait between attempts to join: the first value, doubled each time up to the second.
const REJOIN_WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Why a join failed.
enum JoinError {
    /// The room no longer exists.
    Gone,
    /// Another room has its name now.
    Replaced,
    /// The process stops.
    Stopped,
    /// Any other failure; it is tried again.
    Failed(String),
}

/// The SDK's error where the server answers, and no media connection comes about.
const NO_MEDIA: &str = "wait_pc_connection";
const NO_MEDIA_ADVICE: &str = "the server answers, but its media ports do not: open rtc.udp_port (or rtc.port_range_start to _end) or rtc.tcp_port \
     between this machine and the server; rtc.node_ip or rtc.use_external_ip must give an address that this machine reaches, also by IPv6 if the \
     server offers one";

impl JoinError {
    /// Adds to the error what the SDK does not report: a lack of file descriptors, and what to do about closed ports.
    fn explained(self) -> Self {
        match self {
            Self::Failed(error) if error.contains(NO_MEDIA) => {
                Self::Failed(format!("{error} ({NO_MEDIA_ADVICE})"))
            }
            Self::Failed(error) => Self::Failed(descriptors::explain(error)),
            other => other,
        }
    }
}

/// A room that cannot be joined, for as long as it is tried: then it is on the health page.
struct JoinFails {
    rooms: Arc<AtomicUsize>,
    health: Health,
}

impl Drop for JoinFails {
    fn drop(&mut self) {
        if self.rooms.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.health.clear(Topic::Joins);
        }
    }
}

impl Observers {
    fn join_fails(&self, room: &mut Option<JoinFails>, error: &str) {
        let (rooms, health) = (&self.not_joined, &self.health);
        room.get_or_insert_with(|| {
            rooms.fetch_add(1, Ordering::Relaxed);
            JoinFails { rooms: rooms.clone(), health: health.clone() }
        });
        health.warn(Topic::Joins, format!("a room cannot be joined: {}", masked(error)));
    }
}

/// Whether another worker observes a later call of the room, so that our call is over.
async fn later_call_elsewhere(shared: &Observers, room: &str, ordinal: u32) -> bool {
    let Ok(participants) = shared.api.list_participants(room).await else { return false };
    let badge = &shared.badge;
    let holder = badge.read(&participants).holder(badge.worker()).map(|c| c.ordinal);
    holder.is_some_and(|n| n > ordinal)
}

/// When the first of the present callers joined, by our clock.
fn first_caller_joined_at(known: &[(Moment, Fact)], names: &Identities) -> Option<Moment> {
    let behind = known.iter().find_map(|(_, fact)| match fact {
        Fact::Watching { server_behind_ms, .. } => Some(*server_behind_ms),
        _ => None,
    });
    let came = known.iter().filter_map(|(_, fact)| match fact {
        Fact::Joined(j) if names.is_caller(j) && j.joined_at > Moment::default() => {
            Some(j.joined_at.plus(behind.unwrap_or(0)))
        }
        _ => None,
    });
    came.min()
}

/// Returns once the room no longer exists. `inhabited`: set if people are seen in it.
async fn until_gone(
    api: &Api,
    room: &str,
    expected: Option<&str>,
    inhabited: &AtomicBool,
) -> JoinError {
    loop {
        sleep(CHECK_EVERY).await;
        match admission::room_state(api, room).await {
            RoomState::There { sid, .. } if expected.is_some_and(|e| e != sid) => {
                return JoinError::Replaced;
            }
            RoomState::Gone => return JoinError::Gone,
            RoomState::There { people, .. } => {
                inhabited.fetch_or(people > 0, Ordering::Relaxed);
            }
            RoomState::Unknown(_) => {}
        }
    }
}

impl RoomSession {
    pub(super) async fn first_join(&mut self) -> Result<Connection, Ended> {
        let began = Instant::now();
        let mut failing = None;
        let mut last_error = None;
        let mut wait = REJOIN_WAIT.0;
        let mut token = self.assignment.token.clone();
        loop {
            let expected = self.assignment.room_sid.clone();
            match self.join(token.as_deref(), expected.as_deref()).await {
                Ok(c) => return self.joined(c, began).await,
                Err(JoinError::Stopped) => return Err(Ended::Done),
                Err(JoinError::Replaced) => {
                    return Err(self.not_joined(last_error, "another room has its name"));
                }
                Err(JoinError::Gone) => {
                    let ended = self.not_joined(last_error, "the room has ended");
                    if ended == Ended::NotOurs {
                        tracing::info!(
                            job_id = self.assignment.id,
                            room = self.room_name,
                            "the room was gone before it could be joined"
                        );
                    }
                    return Err(ended);
                }
                Err(JoinError::Failed(error)) => {
                    self.shared.metrics.join_failed(self.assignment.by.as_str());
                    self.shared.join_fails(&mut failing, &error);
                    tracing::warn!(
                        job_id = self.assignment.id,
                        room = self.room_name,
                        error,
                        clock_ahead_s = self.shared.wall.wrong_by(),
                        "could not join the room"
                    );
                    if began.elapsed() >= REJOIN_FOR {
                        self.shared.metrics.room_not_joined();
                        return Err(Ended::Failed(error));
                    }
                    last_error = Some(error);
                }
            }
            // The job's token may be the cause: next time we sign our own.
            token = None;
            if !self.pause(&mut wait).await {
                return Err(Ended::Done);
            }
            let stop = self.stop.clone();
            tokio::select! {
                look = self.until_worth_a_join() => look?,
                () = sleep(REJOIN_FOR.saturating_sub(began.elapsed())) => {}
                () = stop.ending() => return Err(Ended::Done),
            }
        }
    }

    /// After an attempt that failed: returns once another one makes sense.
    ///
    /// Such an attempt ends with a leave of ours, after which LiveKit keeps a room open for its departure timeout. So a room
    /// that its caller has left is only looked at: it ends by itself, or somebody comes back. A room in which nobody
    /// was seen is tried at once, as an agent may be about to dial.
    ///
    /// `&mut`, as a shared session cannot be held across an await: its `report` is not `Sync`.
    async fn until_worth_a_join(&mut self) -> Result<(), Ended> {
        let (api, badge, room) = (&self.shared.api, &self.shared.badge, &self.assignment.room);
        let expected = self.assignment.room_sid.as_deref();
        loop {
            match admission::room_state(api, room).await {
                RoomState::There { sid, .. } if expected.is_none_or(|e| e == sid) => {}
                // The next attempt says what is wrong.
                _ => return Ok(()),
            }
            let Ok(participants) = api.list_participants(room).await else { return Ok(()) };
            let occupancy = badge.read(&participants);
            if occupancy.holder(badge.worker()).is_some_and(|claim| claim.active) {
                return Err(Ended::Elsewhere);
            }
            let human = occupancy.human();
            let seen_before = self.inhabited.fetch_or(human, Ordering::Relaxed);
            if human || !seen_before {
                return Ok(());
            }
            if self.stop.is_draining() {
                return Err(Ended::Done);
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// The end of an observation that never began. `error`: of the last attempt that failed; `now`: what is true of the
    /// room by now.
    fn not_joined(&self, error: Option<String>, now: &str) -> Ended {
        match error {
            Some(error) if self.inhabited.load(Ordering::Relaxed) => {
                self.shared.metrics.room_not_joined();
                Ended::Failed(format!("{error}; by now {now}"))
            }
            _ => Ended::NotOurs,
        }
    }

    fn is_ours(&self, sid: &str) -> bool {
        let expected = self.assignment.room_sid.as_deref();
        expected.is_none_or(|e| e.is_empty() || e == sid)
    }

    /// One attempt to join. It ends early if the process must end now.
    ///
    /// Joining a room that has ended would create it again. So we ask the server first, after the wait for
    /// a permit, and join with a token of our own. If the room ends between check and join, the room that
    /// our join creates lasts one second, and no agent is dispatched to it. A job's token would create a
    /// room with its full configuration, so it is used only if the server's API does not answer.
    async fn join(
        &mut self,
        token: Option<&str>,
        expected: Option<&str>,
    ) -> Result<Connection, JoinError> {
        let stop = self.stop.clone();
        let attempt = async {
            let a = &self.assignment;
            // The semaphore is never closed, so this cannot fail.
            let _permit = self.shared.joins.acquire().await;
            let token = match admission::room_state(&self.shared.api, &a.room).await {
                RoomState::There { sid, .. } if expected.is_none_or(|e| e == sid) => None,
                RoomState::There { .. } => return Err(JoinError::Replaced),
                RoomState::Gone => return Err(JoinError::Gone),
                RoomState::Unknown(error) => Some(token.ok_or(JoinError::Failed(error))?),
            };
            let identity = a.identity();
            let call = self.recording.call();
            let ordinal = call.map_or(a.ordinal, Call::ordinal);
            if call.is_some() && later_call_elsewhere(&self.shared, &a.room, ordinal).await {
                return Err(JoinError::Gone);
            }
            // Without a call seen before, we have no claim older than our join.
            let since = call.filter(|c| c.has_caller()).and_then(Call::watched_since);
            let badge = self.shared.badge.attributes(since, ordinal);
            let own = admission::token(&self.shared.livekit, &a.room, &identity, badge);
            let own = own.map_err(JoinError::Failed)?;
            let open = Connection::open(Opening {
                url: &a.url,
                token: token.unwrap_or(&own),
                identity: &identity,
                by: a.by,
                clock: self.clock.clone(),
                wall: &self.shared.wall,
                names: self.shared.settings.identities.clone(),
                first: call.is_none(),
            });
            tokio::select! {
                done = timeout(JOIN_WITHIN, open) => match done {
                    Ok(done) => done.map_err(JoinError::Failed),
                    Err(_) => Err(JoinError::Failed(format!("no answer within {JOIN_WITHIN:?}"))),
                },
                // The SDK waits 15 s for a room that has ended.
                gone = until_gone(&self.shared.api, &a.room, expected, &self.inhabited) => Err(gone),
            }
        };
        tokio::select! {
            done = attempt => done.map_err(JoinError::explained),
            () = stop.ending() => Err(JoinError::Stopped),
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
        let known = c.known();
        let (call, ended) = self.next_call().await;
        let names = &self.shared.settings.identities;
        if let Some(ended) =
            ended.filter(|e| first_caller_joined_at(&known, names).is_some_and(|at| at < *e))
        {
            tracing::info!(
                job_id = self.assignment.id,
                room = self.room_name,
                "the call was reported before, as far as it was seen; it is not reported twice"
            );
            c.close();
            return Err(Ended::ReportedBefore(ended));
        }
        let ordinal = call.ordinal();
        // Metadata of dispatches, room and callers may opt out of storage, so it is applied before there
        // is a journal.
        let mut job_metadata = vec![std::mem::take(&mut self.assignment.metadata)];
        while let Ok(job) = self.later_jobs.try_recv() {
            self.recording.note_job(&job);
            job_metadata.push(job.metadata);
        }
        let now = self.clock.now();
        let job_metadata = job_metadata.into_iter().filter(|metadata| !metadata.is_empty());
        let job_metadata = job_metadata.map(|metadata| (now, Fact::JobMetadata { metadata }));
        let first: Vec<_> = job_metadata.chain(known).collect();
        for (_, fact) in &first {
            self.attendance.note(fact);
            self.shared.legs.note(fact);
        }
        // An agent that is there already may have our agent name.
        let agents =
            |(_, fact): &(Moment, Fact)| matches!(fact, Fact::Joined(j) if j.kind == Kind::Agent);
        if first.iter().any(agents) {
            self.look_for_strangers();
        }
        self.recording.begin(call, first);
        if ordinal != self.assignment.ordinal {
            self.show_ordinal();
        }
        self.shared.metrics.joined(self.assignment.by.as_str(), began.elapsed());
        tracing::info!(
            job_id = self.assignment.id,
            room = self.room_name,
            room_id = self.sid,
            by = self.assignment.by.as_str(),
            took_ms = millis(began.elapsed()),
            "joined"
        );
        (self.report)(Progress::Joined);
        self.recording.note_start();
        if self.recording.is_active() && self.came_late() {
            self.ask_for_history(c.us());
        }
        Ok(c)
    }

    /// The next call of the room, and the end of the last call that this worker reported there. The next
    /// call gets an ordinal that no reported call has, as its id is made of it.
    async fn next_call(&mut self) -> (Call, Option<Moment>) {
        let facts = RoomFacts { sid: self.sid.clone(), name: self.assignment.room.clone() };
        let mut call = Call::new(facts, self.shared.settings.clone());
        let past = self.shared.delivery.past(&self.sid);
        let mut ended = past.map(|p| p.ended);
        call.set_ordinal(self.assignment.ordinal.max(past.map_or(0, |p| p.next)));
        // Records of an earlier version, which kept no ordinals of rooms.
        while let Some(e) = self.shared.delivery.end_of(&call.id()).await {
            ended = ended.max(Some(e));
            call.set_ordinal(call.ordinal() + 1);
        }
        (call, ended)
    }

    /// Resumes a call that an earlier run observed: joins its room again, or reports what was seen of it.
    pub(super) async fn resume(&mut self, left: Box<LeftBehind>) -> Result<Connection, Ended> {
        let LeftBehind { call, last_at, whole, superseded } = *left;
        self.sid = call.room().sid.clone();
        self.attendance.resume(call.present());
        self.shared.legs.note_seen(call.phone_legs());
        tracing::info!(
            call_id = call.id(),
            room = self.room_name,
            "a call that an earlier run was watching"
        );
        // The earlier run saw the end: only the record is missing.
        let ended = call.room_ended();
        self.recording.resume(call, whole);
        if ended {
            self.recording.report().await;
            return Err(Ended::Done);
        }
        self.recording.apply(self.clock.now(), Fact::Recovered);
        // The earlier run already observed a later call of this room: only this record is missing.
        if superseded {
            self.recording.apply(last_at, Fact::RoomEnded { reason: LeaveReason::UnknownReason });
            self.recording.report().await;
            return Err(Ended::Done);
        }
        if self.recording.phase() == Phase::Over {
            self.end_call_unseen().await;
        }
        if let Some(c) = self.come_back(last_at).await {
            return Ok(c);
        }
        self.room_over(None, LeaveReason::UnknownReason, last_at).await;
        Err(Ended::Done)
    }

    /// Joins the same room again. Tries for as long as the room may exist.
    pub(super) async fn come_back(&mut self, lost_at: Moment) -> Option<Connection> {
        let began = Instant::now();
        let mut failing = None;
        let mut wait = REJOIN_WAIT.0;
        while began.elapsed() < REJOIN_FOR {
            let sid = self.sid.clone();
            match self.join(None, Some(&sid)).await {
                // Another room took the name between check and join.
                Ok(c) if c.sid() != self.sid => return None,
                Ok(c) => {
                    tracing::info!(
                        job_id = self.assignment.id,
                        room = self.room_name,
                        away_ms = millis(began.elapsed()),
                        "joined again"
                    );
                    self.shared.metrics.reconnected(Reconnect::Room);
                    (self.report)(Progress::Joined);
                    self.asked.clear();
                    self.attendance.rejoined(&c.present(), lost_at, self.clock.now());
                    return Some(c);
                }
                Err(JoinError::Stopped | JoinError::Gone | JoinError::Replaced) => return None,
                Err(JoinError::Failed(error)) => {
                    self.shared.join_fails(&mut failing, &error);
                    tracing::warn!(
                        room = self.room_name,
                        error,
                        clock_ahead_s = self.shared.wall.wrong_by(),
                        "could not join again"
                    );
                }
            }
            // A caller that had left before has no longer to come back than with a connection.
            if self.recording.phase() == Phase::Over && self.recording.is_active() {
                self.end_call_unseen().await;
            }
            if !self.pause(&mut wait).await {
                return None;
            }
        }
        None
    }

    /// Waits before the next attempt. False if the process must end now.
    async fn pause(&mut self, wait: &mut Duration) -> bool {
        let now = wait.mul_f64(rand::random_range(0.5..1.0));
        *wait = (*wait * 2).min(REJOIN_WAIT.1);
        tokio::select! {
            () = sleep(now) => true,
            () = self.stop.ending() => false,
        }
    }
}
