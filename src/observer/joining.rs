//! Into the room: for the first time, again after the connection was lost, and after the worker that
//! was in it died.

use std::time::Duration;

use call::{
    Call, Fact, Moment, Phase, RoomFacts,
    event::{Kind, LeaveReason},
};
use livekit_api::services::room::RoomClient;
use store::journal::LeftBehind;
use tokio::time::{Instant, sleep, timeout};

use super::{
    Observers,
    admission::{self, RoomState},
    room::Connection,
    session::{Ended, Progress, RoomSession, millis},
};
use crate::descriptors;

/// One attempt to join, from the free place in the queue to the room.
const JOIN_WITHIN: Duration = Duration::from_secs(30);
/// While a join takes long.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A server that cannot be reached for this long has no call of ours any more.
const REJOIN_FOR: Duration = Duration::from_secs(10 * 60);
/// Between attempts to come back: doubled up to the second.
const REJOIN_WAIT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Why there is no connection.
enum NoJoin {
    /// The room is not there any more.
    Gone,
    /// Another room has its name.
    Replaced,
    /// We were told to stop meanwhile.
    Stopped,
    /// To be tried again.
    Failed(String),
}

impl NoJoin {
    /// The SDK does not say that there are no file descriptors.
    fn explained(self) -> Self {
        match self {
            Self::Failed(error) => Self::Failed(descriptors::explain(error)),
            other => other,
        }
    }
}

/// Another worker observes a later call of the room: ours is over.
async fn later_call_elsewhere(shared: &Observers, room: &str, ordinal: u32) -> bool {
    let Ok(participants) = shared.api.list_participants(room).await else { return false };
    let badge = &shared.badge;
    let holder = badge.read(&participants).holder(badge.worker()).map(|c| c.ordinal);
    holder.is_some_and(|n| n > ordinal)
}

/// When the first of the callers came who are there, by our clock.
fn came_at(known: &[(Moment, Fact)]) -> Option<Moment> {
    let behind = known.iter().find_map(|(_, fact)| match fact {
        Fact::Watching { server_behind_ms, .. } => Some(*server_behind_ms),
        _ => None,
    });
    let came = known.iter().filter_map(|(_, fact)| match fact {
        Fact::Joined(j)
            if matches!(j.kind, Kind::Standard | Kind::Sip | Kind::Connector)
                && j.joined_at > Moment::default() =>
        {
            Some(j.joined_at.plus(behind.unwrap_or(0)))
        }
        _ => None,
    });
    came.min()
}

/// Returns when the room is not there any more.
async fn gone(api: &RoomClient, room: &str, expected: Option<&str>) -> NoJoin {
    loop {
        sleep(LOOK_EVERY).await;
        match admission::look(api, room).await {
            RoomState::There(sid) if expected.is_some_and(|e| e != sid) => {
                return NoJoin::Replaced;
            }
            RoomState::Gone => return NoJoin::Gone,
            RoomState::There(_) | RoomState::Unknown(_) => {}
        }
    }
}

impl RoomSession {
    pub(super) async fn first_join(&mut self) -> Result<Connection, Ended> {
        let began = Instant::now();
        let mut wait = REJOIN_WAIT.0;
        let mut token = self.assignment.token.clone();
        loop {
            let expected = self.assignment.room_sid.clone();
            match self.join(token.as_deref(), expected.as_deref()).await {
                Ok(c) => return self.joined(c, began).await,
                Err(NoJoin::Stopped) => return Err(Ended::Done),
                Err(NoJoin::Replaced) => return Err(Ended::NotOurs),
                Err(NoJoin::Gone) => {
                    tracing::info!(
                        job_id = self.assignment.id,
                        room = self.room_name,
                        "the room was gone before it could be joined"
                    );
                    return Err(Ended::NotOurs);
                }
                Err(NoJoin::Failed(error)) => {
                    tracing::warn!(
                        job_id = self.assignment.id,
                        room = self.room_name,
                        error,
                        clock_ahead_s = self.shared.wall.wrong_by(),
                        "could not join the room"
                    );
                    if began.elapsed() >= REJOIN_FOR {
                        return Err(Ended::Failed(error));
                    }
                }
            }
            // The job's token may be the reason.
            token = None;
            if !self.pause(&mut wait).await {
                return Err(Ended::Done);
            }
        }
    }

    fn is_ours(&self, sid: &str) -> bool {
        let expected = self.assignment.room_sid.as_deref();
        expected.is_none_or(|e| e.is_empty() || e == sid)
    }

    /// One attempt, given up when we are told to stop now.
    ///
    /// A room that is gone must not be created again by joining it. So the server is asked first,
    /// after the wait for a free place, and the token is our own: should the room end just then, the
    /// one that comes of our join is gone in a second and summons nobody. A job's own token would
    /// open a room with all that belongs to it; it is used only where the server does not answer
    /// questions.
    async fn join(
        &mut self,
        token: Option<&str>,
        expected: Option<&str>,
    ) -> Result<Connection, NoJoin> {
        let stop = self.stop.clone();
        let attempt = async {
            let a = &self.assignment;
            // Never closed, so there is always a permit in the end.
            let _permit = self.shared.joins.acquire().await;
            let token = match admission::look(&self.shared.api, &a.room).await {
                RoomState::There(sid) if expected.is_none_or(|e| e == sid) => None,
                RoomState::There(_) => return Err(NoJoin::Replaced),
                RoomState::Gone => return Err(NoJoin::Gone),
                RoomState::Unknown(error) => Some(token.ok_or(NoJoin::Failed(error))?),
            };
            let identity = a.identity();
            let call = self.recording.call();
            let ordinal = call.map_or(a.ordinal, Call::ordinal);
            if call.is_some() && later_call_elsewhere(&self.shared, &a.room, ordinal).await {
                return Err(NoJoin::Gone);
            }
            // Who has seen nothing of a call yet has nothing before others.
            let since = call.filter(|c| c.has_caller()).and_then(Call::watched_since);
            let badge = self.shared.badge.attributes(since, ordinal);
            let own = admission::token(&self.shared.livekit, &a.room, &identity, badge);
            let own = own.map_err(NoJoin::Failed)?;
            let (clock, wall) = (self.clock.clone(), &self.shared.wall);
            let token = token.unwrap_or(&own);
            let first = call.is_none();
            let open = Connection::open(&a.url, token, &identity, a.by, clock, wall, first);
            tokio::select! {
                done = timeout(JOIN_WITHIN, open) => match done {
                    Ok(done) => done.map_err(NoJoin::Failed),
                    Err(_) => Err(NoJoin::Failed(format!("no answer within {JOIN_WITHIN:?}"))),
                },
                // The SDK waits 15 s for a room that has ended.
                gone = gone(&self.shared.api, &a.room, expected) => Err(gone),
            }
        };
        tokio::select! {
            done = attempt => done.map_err(NoJoin::explained),
            () = stop.ending() => Err(NoJoin::Stopped),
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
        if let Some(ended) = ended.filter(|e| came_at(&known).is_some_and(|came| came < *e)) {
            tracing::info!(
                job_id = self.assignment.id,
                room = self.room_name,
                "the call was reported before, as far as it was seen; it is not told twice"
            );
            c.close();
            return Err(Ended::ReportedBefore(ended));
        }
        let ordinal = call.ordinal();
        // What dispatches, room and callers say may be that nothing is to be stored: it is heard before
        // there is a journal.
        let mut said = vec![std::mem::take(&mut self.assignment.metadata)];
        said.extend(std::iter::from_fn(|| self.metadata.try_recv().ok()));
        let now = self.clock.now();
        let said = said.into_iter().filter(|metadata| !metadata.is_empty());
        let said = said.map(|metadata| (now, Fact::JobMetadata { metadata }));
        let first: Vec<_> = said.chain(known).collect();
        first.iter().for_each(|(_, fact)| self.attendance.note(fact));
        self.recording.begin(call, first);
        if ordinal != self.assignment.ordinal {
            self.show_ordinal();
        }
        tracing::info!(
            job_id = self.assignment.id,
            room = self.room_name,
            room_sid = self.sid,
            by = self.assignment.by.as_str(),
            took_ms = millis(began.elapsed()),
            "joined"
        );
        (self.report)(Progress::Joined);
        self.recording.note_start();
        if self.recording.is_on() && self.came_late() {
            self.ask_for_history(c.us());
        }
        Ok(c)
    }

    /// The call that is next in the room, and when the one before it ended, as far as this worker
    /// reported it. Calls that were reported keep their ids.
    async fn next_call(&mut self) -> (Call, Option<Moment>) {
        let facts = RoomFacts { sid: self.sid.clone(), name: self.assignment.room.clone() };
        let mut call = Call::new(facts, self.shared.settings.clone());
        let past = self.shared.delivery.past(&self.sid);
        let mut ended = past.map(|p| p.ended);
        call.set_ordinal(self.assignment.ordinal.max(past.map_or(0, |p| p.next)));
        // Records of a version that remembered no rooms.
        while let Some(e) = self.shared.delivery.end_of(&call.id()).await {
            ended = ended.max(Some(e));
            call.set_ordinal(call.ordinal() + 1);
        }
        (call, ended)
    }

    /// A call that an earlier run was watching: in the room again, or told as far as it was seen.
    pub(super) async fn go_on(&mut self, left: LeftBehind) -> Result<Connection, Ended> {
        let LeftBehind { call, last_at, whole, superseded } = left;
        self.sid = call.room().sid.clone();
        self.attendance.resume(call.present());
        tracing::info!(
            call_id = call.id(),
            room = self.room_name,
            "a call that an earlier run was watching"
        );
        self.recording.resume(call, whole);
        self.recording.apply(self.clock.now(), Fact::Recovered);
        // A later call of the same room was on: only this one's record is missing.
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

    /// Into the same room again, for as long as there may be one.
    pub(super) async fn come_back(&mut self, lost_at: Moment) -> Option<Connection> {
        let began = Instant::now();
        let mut wait = REJOIN_WAIT.0;
        while began.elapsed() < REJOIN_FOR {
            let sid = self.sid.clone();
            match self.join(None, Some(&sid)).await {
                // Between the look and the join another may have taken its name.
                Ok(c) if c.sid() != self.sid => return None,
                Ok(c) => {
                    tracing::info!(
                        job_id = self.assignment.id,
                        room = self.room_name,
                        away_ms = millis(began.elapsed()),
                        "joined again"
                    );
                    (self.report)(Progress::Joined);
                    self.asked.clear();
                    self.attendance.back_among(&c.present(), lost_at, self.clock.now());
                    return Some(c);
                }
                Err(NoJoin::Stopped | NoJoin::Gone | NoJoin::Replaced) => return None,
                Err(NoJoin::Failed(error)) => {
                    tracing::warn!(room = self.room_name, error, "could not join again");
                }
            }
            // A caller who had left before is not waited for any longer than with a connection.
            if self.recording.phase() == Phase::Over && self.recording.is_on() {
                self.end_call_unseen().await;
            }
            if !self.pause(&mut wait).await {
                return None;
            }
        }
        None
    }

    /// False if we were told to stop meanwhile.
    async fn pause(&mut self, wait: &mut Duration) -> bool {
        let now = wait.mul_f64(rand::random_range(0.5..1.0));
        *wait = (*wait * 2).min(REJOIN_WAIT.1);
        tokio::select! {
            () = sleep(now) => true,
            () = self.stop.ending() => false,
        }
    }
}
