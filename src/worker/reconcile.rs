//! Finds rooms that have a caller, or an agent that waits for one, but no observer, and decides who stays if a room has two observers.
//!
//! LiveKit offers a job only once, and a worker that was away has missed it. So we ask the server for its
//! rooms about once a second, and for the participants of rooms that may need us. A closed room is not
//! joined: every join asks for the room's sid first.
//!
//! In: [`ReconcileRequest`]s (webhooks, a new registration, a room just joined) and the time. Out: rooms to
//! take, rooms to leave. The load on the server is limited: one list at a time, and then a wait of
//! 20 times what the list took (1 to 10 s); [`CHECKS_AT_ONCE`] checks at a time; and for rooms in which
//! nothing is expected some [`CHECKS_PER_SECOND`].

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use call::{event::Discovery, metadata::FromMetadata};
use livekit_protocol::{AgentDispatch, Room};
use store::health::{Health, Topic};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval, sleep_until},
};
use tokio_util::task::JoinMap;

use super::{
    WorkerState,
    decide::{Decision, Observation, PATIENT, SOON},
    known::KnownRooms,
    room::{ReconcileRequest, Refusal, RoomToObserve},
    rooms::Rooms,
};
use crate::{
    config::RoomNames,
    fleet::{Occupancy, name::taken_by_stranger},
    net::ApiError,
    observer::{Observers, missed},
    telemetry::masked,
};

/// If rooms are not listed: how often ordinals of rooms that nobody has seen for long are removed.
const FORGET_EVERY: Duration = Duration::from_secs(3600);
/// Time between lists of all rooms while the server answers quickly.
const LIST_EVERY: Duration = Duration::from_secs(1);
const LIST_AT_LEAST_EVERY: Duration = Duration::from_secs(10);
/// The wait for the next list is this many times what the last one took, within the two limits above.
const SHARE: u32 = 20;
const CHECKS_AT_ONCE: usize = 16;
const CHECKS_PER_SECOND: u32 = 50;
/// How long we leave a room to other workers first: a random time, and an addition that grows with our
/// load. So the worker with the lowest load tends to be first, and few workers join the same room at once.
const COURTESY: Duration = Duration::from_millis(150);
const COURTESY_OF_THE_BUSY: Duration = Duration::from_millis(200);
/// How many rooms without an observer we join at the same time. If many calls begin at once, every worker
/// sees all of them, and its observer is listed only after the join. If each worker joins few at a time, in
/// no fixed order, most rooms are joined by one worker only.
const TAKES_AT_ONCE: usize = 8;
/// The rooms of a leaving worker are all checked at most once in this time.
const LEAVES_WITHIN: Duration = Duration::from_secs(3);
/// Failed checks of a room after which it is taken without its dispatches, if those cannot be read.
const PATIENCE_WITH_SERVER: u32 = 3;

/// A request to the server.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Question {
    /// The list of all rooms.
    Rooms,
    /// The participants of a room, by its sid.
    Participants(String),
}

/// The server's answer to a [`Question`].
enum ServerAnswer {
    Rooms { rooms: Result<Vec<Room>, ApiError>, began: Instant },
    Room(Result<RoomView, ApiError>),
}

/// What the server shows of a room.
struct RoomView {
    occupancy: Occupancy,
    /// We observed the room when the check began, so dispatches were not requested.
    ours: bool,
    /// Metadata of a dispatch to us.
    dispatch: Option<String>,
    /// The identity of another program that took a job under our agent name.
    stranger: Option<String>,
}

pub(super) struct Reconciler {
    pub(super) rooms: Arc<Rooms>,
    pub(super) observers: Arc<Observers>,
    pub(super) agent_name: String,
    pub(super) names: RoomNames,
    pub(super) health: Health,
    pub(super) requests: mpsc::Receiver<ReconcileRequest>,
    /// Whether all rooms are listed at intervals.
    pub(super) lists: bool,
    /// For the health page: whether rooms can be listed. `None` if registrations show the server's state and
    /// whether it takes our keys.
    pub(super) state: Option<watch::Sender<WorkerState>>,
    pub(super) work: Work,
}

/// The known rooms and the requests under way.
#[derive(Default)]
pub(super) struct Work {
    known: KnownRooms,
    /// Requests to the server that are under way.
    pending: JoinMap<Question, ServerAnswer>,
    failures: u32,
    /// Leaving workers whose rooms were scheduled for a check, with the time.
    leaving: HashMap<String, Instant>,
}

impl Work {
    fn listing(&self) -> bool {
        self.pending.contains_key(&Question::Rooms)
    }

    fn checking(&self) -> usize {
        self.pending.len() - usize::from(self.listing())
    }
}

impl Reconciler {
    /// Runs until the worker is drained and all calls are done, or the process must end now.
    pub(super) async fn run(mut self) {
        let mut list_at = Instant::now();
        let mut forget = interval(FORGET_EVERY);
        let rooms = self.rooms.clone();
        loop {
            let check_at = self.work.known.next().filter(|_| self.work.checking() < CHECKS_AT_ONCE);
            tokio::select! {
                () = rooms.done() => return,
                Some(request) = self.requests.recv() => match request {
                    ReconcileRequest::AllRooms => list_at = Instant::now(),
                    ReconcileRequest::Room { name, sid } => self.check_now(name, &sid, Discovery::Webhook),
                    ReconcileRequest::LegLeft(leg) => {
                        if self.names.wanted(&leg.room.name) {
                            self.rooms.spawn(missed::report(self.observers.clone(), *leg));
                        }
                    }
                    ReconcileRequest::Ours { name, sid } => {
                        self.check_now(name, &sid, Discovery::Reconciler);
                        if let Some(k) = self.work.known.get_mut(&sid) {
                            k.memory.joined();
                        }
                    }
                },
                _ = forget.tick(), if !self.lists => {
                    self.observers.delivery.not_listed(self.observers.wall.now());
                }
                () = sleep_until(list_at), if self.lists && !self.work.listing() => self.list(),
                () = sleep_until(check_at.unwrap_or(list_at)), if check_at.is_some() => self.check_next(),
                Some((question, answer)) = self.work.pending.join_next() => match (question, answer) {
                    (_, Ok(ServerAnswer::Rooms { rooms, began })) => {
                        let wait = self.listed(rooms, began);
                        list_at = Instant::now() + wait.mul_f64(rand::random_range(0.8..1.2));
                    }
                    (Question::Participants(sid), Ok(ServerAnswer::Room(view))) => self.checked(sid, view),
                    (Question::Rooms, broken) => {
                        tracing::error!(error = ?broken.err(), "listing rooms failed by an error in the program");
                        list_at = Instant::now() + LIST_EVERY;
                    }
                    (Question::Participants(sid), broken) => {
                        tracing::error!(error = ?broken.err(), "checking a room failed by an error in the program");
                        self.work.known.check_after(&sid, PATIENT);
                    }
                },
            }
        }
    }

    // ---- requests to the server -------------------------------------------------------------

    fn list(&mut self) {
        let api = self.observers.api.clone();
        self.work.pending.spawn(Question::Rooms, async move {
            let began = Instant::now();
            let rooms = api.list_rooms(vec![]).await;
            ServerAnswer::Rooms { rooms, began }
        });
    }

    /// Checks the room that is due first.
    fn check_next(&mut self) {
        let Some((sid, known)) = self.work.known.take_next() else { return };
        let ours = self.rooms.places().our_claim(&sid).is_some();
        let insists = known.unanswered < PATIENCE_WITH_SERVER;
        let (observers, name) = (self.observers.clone(), known.name.clone());
        let agent_name = self.agent_name.clone();
        self.work.pending.spawn(Question::Participants(sid), async move {
            ServerAnswer::Room(check(&observers, &name, &agent_name, ours, insists).await)
        });
    }

    // ---- its answers ------------------------------------------------------------------------

    /// Takes a list of all rooms. Returns the wait for the next one.
    fn listed(&mut self, rooms: Result<Vec<Room>, ApiError>, began: Instant) -> Duration {
        let took = began.elapsed();
        if let Some(state) = &self.state {
            state.send_modify(|s| s.set_lists_away(rooms.is_err()));
        }
        let rooms = match rooms {
            Ok(rooms) => rooms,
            Err(error) => {
                self.work.failures = self.work.failures.saturating_add(1);
                self.keys(Some(&error));
                if self.health.warn(Topic::Rooms, "LiveKit's rooms cannot be listed".into()) {
                    tracing::warn!(
                        %error,
                        "LiveKit's rooms cannot be listed; calls that nobody dispatched us to \
                         are not found until they can"
                    );
                }
                let doubled = LIST_EVERY.saturating_mul(1 << self.work.failures.min(10));
                return doubled.min(LIST_AT_LEAST_EVERY);
            }
        };
        self.work.failures = 0;
        self.keys(None);
        self.observers.name.look();
        if self.health.clear(Topic::Rooms) {
            tracing::info!("LiveKit's rooms are listed again");
        }
        tracing::debug!(rooms = rooms.len(), ?took, "rooms listed");
        let there: HashSet<&str> = rooms.iter().map(|r| r.sid.as_str()).collect();
        self.work.known.retain_listed(&there, began);
        self.observers.delivery.listed(&there);
        for r in rooms {
            if self.work.known.counted(&r.sid, r.num_participants) {
                self.check_now(r.name, &r.sid, Discovery::Reconciler);
            }
        }
        (took * SHARE).clamp(LIST_EVERY, LIST_AT_LEAST_EVERY)
    }

    /// Shows on the health page whether LiveKit takes our keys, where no registration does.
    fn keys(&self, error: Option<&ApiError>) {
        if self.state.is_none() {
            return;
        }
        match error {
            Some(ApiError::Unauthorized(why)) => {
                let what = "LiveKit refuses the API key or secret";
                if self.health.warn(Topic::Keys, what.into()) {
                    tracing::error!(
                        error = why,
                        "LiveKit refused the API key or secret; set LIVEKIT_API_KEY and LIVEKIT_API_SECRET \
                         to a pair the server knows"
                    );
                }
            }
            Some(_) => {}
            None => drop(self.health.clear(Topic::Keys)),
        }
    }

    fn check_now(&mut self, name: String, sid: &str, by: Discovery) {
        // A dispatch may have brought us to a room that does not match the names.
        let wanted = self.names.wanted(&name) || self.rooms.places().our_claim(sid).is_some();
        if wanted && !sid.is_empty() {
            self.work.known.check_now(name, sid, by);
        }
    }

    /// A worker is leaving: not only this room needs another observer, but all of its rooms.
    fn take_over_from(&mut self, worker: &str) {
        let now = Instant::now();
        self.work.leaving.retain(|_, since| now - *since < LEAVES_WITHIN);
        if !self.work.leaving.contains_key(worker) {
            self.work.leaving.insert(worker.to_owned(), now);
            self.work.known.check_rooms_of(worker);
        }
    }

    /// Takes the result of a check, and acts on the decision.
    fn checked(&mut self, sid: String, view: Result<RoomView, ApiError>) {
        let patience = self.patience();
        let ours = self.rooms.places().our_claim(&sid);
        let full = self.rooms.full();
        let courtesy = self.courtesy();
        self.keys(view.as_ref().err());
        let Some(k) = self.work.known.get_mut(&sid) else { return };
        let view = match view {
            Ok(view) => view,
            Err(error) => {
                tracing::debug!(room = masked(&k.name), %error, "a room could not be looked at");
                k.unanswered = k.unanswered.saturating_add(1);
                self.work.known.take_again(&sid);
                return self.work.known.check_after(&sid, PATIENT);
            }
        };
        if view.ours && ours.is_none() {
            // Our observation ended meanwhile. Dispatches must be read before the room is taken again.
            self.work.known.take_again(&sid);
            return self.work.known.check_after(&sid, Duration::ZERO);
        }
        if let Some(identity) = &view.stranger {
            self.observers.name.stranger(&masked(&k.name), identity);
        }
        let me = self.observers.badge.worker();
        // It counts failures one after the other, of a room that waits for an observer.
        let held = ours.is_some() || view.occupancy.holder(me).is_some();
        if !view.occupancy.wants_observer() || held {
            k.unanswered = 0;
        }
        let leaving = view.occupancy.claims.iter().find(|c| c.leaving && c.worker != me);
        let leaving = leaving.map(|c| c.worker.clone());
        k.holder = view.occupancy.holder(me).map(|c| c.worker.clone()).unwrap_or_default();
        let decision = k.memory.decide(&Observation {
            occupancy: &view.occupancy,
            dispatched: view.dispatch.is_some(),
            ours: ours.as_ref(),
            me,
            full,
            busy: self.rooms.places().joining() >= TAKES_AT_ONCE,
            courtesy,
            patience,
        });
        k.not_before = match decision {
            Decision::Again(wait) if view.occupancy.wants_observer() && ours.is_none() => {
                Some(Instant::now() + wait)
            }
            _ => None,
        };
        self.rooms.places().note_callers(&sid, view.occupancy.human_since);
        self.rooms.places().note_ordinal(&sid, k.memory.ordinal);
        let wait = match decision {
            Decision::Again(wait) => {
                self.rooms.places().seen_free(&sid);
                wait
            }
            Decision::Elsewhere(wait) => {
                self.rooms.places().seen_elsewhere(&sid);
                wait
            }
            Decision::NoPlace => {
                self.no_place();
                patience
            }
            Decision::Withdraw => {
                self.rooms.withdraw(&sid, &k.name);
                patience
            }
            Decision::Take => {
                let found = RoomToObserve {
                    name: k.name.clone(),
                    sid: sid.clone(),
                    metadata: view.dispatch.unwrap_or_default(),
                    by: k.by,
                    ordinal: k.memory.ordinal,
                };
                match self.rooms.take(found) {
                    Ok(()) | Err(Refusal::Observed | Refusal::Draining) => SOON,
                    Err(Refusal::Barred) => patience,
                    Err(Refusal::Full) => {
                        self.no_place();
                        patience
                    }
                }
            }
        };
        if !full && self.health.clear(Topic::Calls) {
            tracing::info!("there is room for calls again");
        }
        let again = self.work.known.take_again(&sid);
        let needy = match decision {
            Decision::Again(_) => view.occupancy.wants_observer() || ours.is_some(),
            Decision::Take | Decision::NoPlace | Decision::Withdraw => true,
            Decision::Elsewhere(_) => false,
        };
        // Without lists we would not learn that the room has ended. A webhook reports the next human.
        if !self.lists && !again && !needy {
            return self.work.known.forget(&sid);
        }
        self.work.known.check_after(&sid, if again { Duration::ZERO } else { wait });
        if let Some(worker) = leaving {
            self.take_over_from(&worker);
        }
    }

    fn no_place(&self) {
        if self.rooms.stopping() {
            return;
        }
        if self.health.warn(Topic::Calls, "no place for more calls; some are not observed".into()) {
            tracing::warn!(
                "no place for more calls, some are not observed; raise CALL_HISTORY_MAX_CALLS or \
                 the memory, or start another worker"
            );
        }
    }

    /// Time between checks of rooms in which nothing is expected: it grows with their number, to limit the
    /// load on the server.
    fn patience(&self) -> Duration {
        let rooms = u32::try_from(self.work.known.len()).unwrap_or(u32::MAX);
        let each = Duration::from_secs(1) * rooms / CHECKS_PER_SECOND;
        each.max(PATIENT).mul_f64(rand::random_range(0.75..1.25))
    }

    fn courtesy(&self) -> Duration {
        COURTESY.mul_f64(rand::random()) + COURTESY_OF_THE_BUSY.mul_f32(self.rooms.load())
    }
}

/// Reads who is in a room. If the room needs an observer, also reads the dispatches to us.
/// `insists`: a failure to read dispatches fails the check.
async fn check(
    observers: &Observers,
    name: &str,
    agent_name: &str,
    ours: bool,
    insists: bool,
) -> Result<RoomView, ApiError> {
    let participants = observers.api.list_participants(name).await?;
    let occupancy = observers.badge.read(&participants);
    let held = occupancy.holder(observers.badge.worker()).is_some();
    let needy = !ours && occupancy.wants_observer() && !held;
    let (mut dispatch, mut stranger) = (None, None);
    if needy {
        // The metadata may hold an opt-out, so a failure is retried, but only a few times.
        let all = match observers.api.list_dispatches(name).await {
            Err(e) if insists => return Err(e),
            all => all.unwrap_or_default(),
        };
        let ours = all.into_iter().filter(|d| d.agent_name == agent_name);
        let ours: Vec<AgentDispatch> = ours.collect();
        stranger = ours.iter().find_map(taken_by_stranger);
        let metadata = ours.into_iter().map(|d| d.metadata);
        dispatch = metadata.max_by_key(|m| (FromMetadata::read(m).opt_out, !m.is_empty()));
    }
    Ok(RoomView { occupancy, ours, dispatch, stranger })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A panic must not use up the place of another request, nor leave its own taken.
    #[tokio::test]
    async fn requests_that_panic_are_counted_as_what_they_were() {
        let mut work = Work::default();
        work.pending.spawn(Question::Rooms, async { panic!("a list breaks") });
        for sid in ["RM_1", "RM_2"] {
            work.pending.spawn(Question::Participants(sid.into()), async move {
                if sid == "RM_1" {
                    panic!("a check breaks");
                }
                ServerAnswer::Room(Err(ApiError::NoAnswer("away".into())))
            });
        }
        assert!(work.listing() && work.checking() == 2);
        let mut broken = 0;
        while let Some((_, answer)) = work.pending.join_next().await {
            broken += usize::from(answer.is_err());
            assert!(work.checking() <= 2);
        }
        assert_eq!(broken, 2);
        assert!(!work.listing() && work.checking() == 0);
    }
}
