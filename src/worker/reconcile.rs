//! Finds the rooms that have a caller and no observer, and settles who stays where two observe.
//!
//! LiveKit offers a job once; whoever was away then has missed it. So the server is asked for its
//! rooms about once a second, and for the participants of those that may need us. A closed room is
//! not joined: every join asks for the room's sid first.
//!
//! In: [`Ask`]s (webhooks, a new registration, a room just joined) and the time. Out: rooms to
//! take, rooms to leave. What is asked of the server is bounded: one list at a time, at most a
//! twentieth of the time spent waiting for it; [`LOOKS_AT_ONCE`] looks at a time, and of rooms that
//! nothing is expected of some [`LOOKS_PER_SECOND`].

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use call::{event::Discovery, published::FromMetadata};
use livekit_protocol::{AgentDispatch, Room};
use store::health::{Health, Topic};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval, sleep_until},
};
use tokio_util::task::JoinMap;

use super::{
    WorkerState,
    decide::{Next, Observation, PATIENT, SOON},
    known::KnownRooms,
    room::{Ask, Refusal, RoomToObserve},
    rooms::Rooms,
};
use crate::{
    config::RoomNames,
    fleet::Occupancy,
    observer::{self, Observers},
    telemetry::masked,
};

/// Where rooms are not listed: how often those that nobody saw for long are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(3600);
/// Between lists of all rooms, while they come quickly.
const LIST_EVERY: Duration = Duration::from_secs(1);
const LIST_AT_LEAST_EVERY: Duration = Duration::from_secs(10);
/// A list that took a second is asked for every twenty.
const SHARE: u32 = 20;
const LOOKS_AT_ONCE: usize = 16;
const LOOKS_PER_SECOND: u32 = 50;
/// Other workers are let go first for a moment that differs from worker to worker, and grows with
/// our load: whoever has most room goes first, and few join together.
const COURTESY: Duration = Duration::from_millis(150);
const COURTESY_OF_THE_BUSY: Duration = Duration::from_millis(200);
/// Rooms that are joined at the same time because nobody else is there. In a burst every worker sees
/// all of them, and who is there shows only after the join: few at a time, in no order, and most are
/// joined once.
const TAKES_AT_ONCE: usize = 8;
/// All rooms of a worker that leaves are looked at once in this time.
const LEAVES_WITHIN: Duration = Duration::from_secs(3);
/// Questions about a room that may fail before it is taken without an answer to them.
const PATIENCE_WITH_SERVER: u32 = 3;

/// What the server is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Question {
    Rooms,
    /// A room, by its sid.
    Look(String),
}

/// What the server has answered.
enum Answer {
    Rooms { rooms: Result<Vec<Room>, String>, began: Instant },
    Seen(Result<Seen, String>),
}

struct Seen {
    occupancy: Occupancy,
    /// It was ours when it was looked at: dispatches were not asked for.
    ours: bool,
    /// Metadata of a dispatch of ours.
    dispatch: Option<String>,
    /// Somebody else took a job under our agent name: the identity in the room.
    stranger: Option<String>,
}

pub(super) struct Reconciler {
    pub(super) rooms: Arc<Rooms>,
    pub(super) observers: Arc<Observers>,
    pub(super) agent_name: String,
    pub(super) names: RoomNames,
    pub(super) health: Health,
    pub(super) asks: mpsc::Receiver<Ask>,
    /// Whether all rooms are listed again and again.
    pub(super) lists: bool,
    /// Told whether the server is there, where nobody else tells.
    pub(super) state: Option<watch::Sender<WorkerState>>,
    pub(super) work: Work,
}

/// What is known and what is under way.
#[derive(Default)]
pub(super) struct Work {
    known: KnownRooms,
    /// Questions under way.
    asked: JoinMap<Question, Answer>,
    failures: u32,
    /// Workers whose rooms were looked at because they leave, and when.
    leaving: HashMap<String, Instant>,
}

impl Work {
    fn listing(&self) -> bool {
        self.asked.contains_key(&Question::Rooms)
    }

    fn looking(&self) -> usize {
        self.asked.len() - usize::from(self.listing())
    }
}

impl Reconciler {
    /// Until told to stop, and all calls are done.
    pub(super) async fn run(mut self) {
        let mut list_at = Instant::now();
        let mut forget = interval(FORGET_EVERY);
        let rooms = self.rooms.clone();
        loop {
            let look_at = self.work.known.next().filter(|_| self.work.looking() < LOOKS_AT_ONCE);
            tokio::select! {
                () = rooms.done() => return,
                Some(ask) = self.asks.recv() => match ask {
                    Ask::AllRooms => list_at = Instant::now(),
                    Ask::Room { name, sid } => self.look_now(name, &sid, Discovery::Webhook),
                    Ask::Ours { name, sid } => {
                        self.look_now(name, &sid, Discovery::Reconciler);
                        if let Some(k) = self.work.known.get_mut(&sid) {
                            k.notes.joined();
                        }
                    }
                },
                _ = forget.tick(), if !self.lists => {
                    self.observers.delivery.not_listed(self.observers.wall.now());
                }
                () = sleep_until(list_at), if self.lists && !self.work.listing() => self.list(),
                () = sleep_until(look_at.unwrap_or(list_at)), if look_at.is_some() => self.look(),
                Some((question, answer)) = self.work.asked.join_next() => match (question, answer) {
                    (_, Ok(Answer::Rooms { rooms, began })) => {
                        let wait = self.listed(rooms, began);
                        list_at = Instant::now() + wait.mul_f64(rand::random_range(0.8..1.2));
                    }
                    (Question::Look(sid), Ok(Answer::Seen(seen))) => self.seen(sid, seen),
                    (Question::Rooms, broken) => {
                        tracing::error!(error = ?broken.err(), "a list of rooms broke");
                        list_at = Instant::now() + LIST_EVERY;
                    }
                    (Question::Look(sid), broken) => {
                        tracing::error!(error = ?broken.err(), "a look at a room broke");
                        self.work.known.look_in(&sid, PATIENT);
                    }
                },
            }
        }
    }

    // ---- asking the server -------------------------------------------------------------------

    fn list(&mut self) {
        let api = self.observers.api.clone();
        self.work.asked.spawn(Question::Rooms, async move {
            let began = Instant::now();
            let rooms = api.list_rooms(vec![]).await.map_err(|e| e.to_string());
            Answer::Rooms { rooms, began }
        });
    }

    /// The room that is due first.
    fn look(&mut self) {
        let Some((sid, known)) = self.work.known.take_next() else { return };
        let ours = self.rooms.ours(&sid).is_some();
        let insists = known.unanswered < PATIENCE_WITH_SERVER;
        let (observers, name) = (self.observers.clone(), known.name.clone());
        let agent_name = self.agent_name.clone();
        self.work.asked.spawn(Question::Look(sid), async move {
            Answer::Seen(look(&observers, &name, &agent_name, ours, insists).await)
        });
    }

    // ---- what it answers ---------------------------------------------------------------------

    /// How long to wait before the next list.
    fn listed(&mut self, rooms: Result<Vec<Room>, String>, began: Instant) -> Duration {
        let took = began.elapsed();
        if let Some(state) = &self.state {
            state.send_modify(|s| s.set_lists_away(rooms.is_err()));
        }
        let rooms = match rooms {
            Ok(rooms) => rooms,
            Err(error) => {
                self.work.failures = self.work.failures.saturating_add(1);
                if self.health.warn(Topic::Rooms, "LiveKit's rooms cannot be listed".into()) {
                    tracing::warn!(
                        error,
                        clock_ahead_s = self.observers.wall.wrong_by(),
                        "LiveKit's rooms cannot be listed; calls that nobody dispatched us to \
                         are not found until they can"
                    );
                }
                let doubled = LIST_EVERY.saturating_mul(1 << self.work.failures.min(10));
                return doubled.min(LIST_AT_LEAST_EVERY);
            }
        };
        self.work.failures = 0;
        if self.health.clear(Topic::Rooms) {
            tracing::info!("LiveKit's rooms are listed again");
        }
        tracing::debug!(rooms = rooms.len(), ?took, "rooms listed");
        let there: HashSet<&str> = rooms.iter().map(|r| r.sid.as_str()).collect();
        self.work.known.keep(&there, began);
        self.observers.delivery.listed(&there);
        for r in rooms {
            if self.work.known.counted(&r.sid, r.num_participants) {
                self.look_now(r.name, &r.sid, Discovery::Reconciler);
            }
        }
        (took * SHARE).clamp(LIST_EVERY, LIST_AT_LEAST_EVERY)
    }

    fn look_now(&mut self, name: String, sid: &str, by: Discovery) {
        // A dispatch may have brought us to any room.
        let wanted = self.names.wanted(&name) || self.rooms.ours(sid).is_some();
        if wanted && !sid.is_empty() {
            self.work.known.look_now(name, sid, by);
        }
    }

    /// A worker is leaving: all of its rooms need another, not only the one we saw.
    fn take_over_from(&mut self, worker: &str) {
        let now = Instant::now();
        self.work.leaving.retain(|_, since| now - *since < LEAVES_WITHIN);
        if !self.work.leaving.contains_key(worker) {
            self.work.leaving.insert(worker.to_owned(), now);
            self.work.known.hurry(worker);
        }
    }

    fn seen(&mut self, sid: String, seen: Result<Seen, String>) {
        let patience = self.patience();
        let ours = self.rooms.ours(&sid);
        let full = self.rooms.full();
        let courtesy = self.courtesy();
        let Some(k) = self.work.known.get_mut(&sid) else { return };
        let seen = match seen {
            Ok(seen) => seen,
            Err(error) => {
                tracing::debug!(room = masked(&k.name), error, "a room could not be looked at");
                k.unanswered = k.unanswered.saturating_add(1);
                self.work.known.again(&sid);
                return self.work.known.look_in(&sid, PATIENT);
            }
        };
        if seen.ours && ours.is_none() {
            // It is not any more: what dispatches say of it must be known before it is taken again.
            self.work.known.again(&sid);
            return self.work.known.look_in(&sid, Duration::ZERO);
        }
        if !seen.occupancy.human() || ours.is_some() {
            k.unanswered = 0;
        }
        if let Some(identity) = &seen.stranger {
            warn_of_stranger(&self.health, &self.agent_name, identity);
        }
        let me = self.observers.badge.worker();
        let leaving = seen.occupancy.claims.iter().find(|c| c.leaving && c.worker != me);
        let leaving = leaving.map(|c| c.worker.clone());
        k.holder = seen.occupancy.holder(me).map(|c| c.worker.clone()).unwrap_or_default();
        let next = k.notes.decide(&Observation {
            occupancy: &seen.occupancy,
            dispatched: seen.dispatch.is_some(),
            ours: ours.as_ref(),
            me,
            full,
            busy: self.rooms.joining() >= TAKES_AT_ONCE,
            courtesy,
            patience,
        });
        k.not_before = match next {
            Next::Again(wait) if seen.occupancy.human() && ours.is_none() => {
                Some(Instant::now() + wait)
            }
            _ => None,
        };
        self.rooms.note_callers(&sid, seen.occupancy.human_since);
        self.rooms.note_ordinal(&sid, k.notes.ordinal);
        let wait = match next {
            Next::Again(wait) => {
                self.rooms.seen_free(&sid);
                wait
            }
            Next::Elsewhere(wait) => {
                self.rooms.seen_elsewhere(&sid);
                wait
            }
            Next::NoPlace => {
                self.no_place();
                patience
            }
            Next::Withdraw => {
                self.rooms.withdraw(&sid);
                patience
            }
            Next::Take => {
                let found = RoomToObserve {
                    name: k.name.clone(),
                    sid: sid.clone(),
                    metadata: seen.dispatch.unwrap_or_default(),
                    by: k.by,
                    ordinal: k.notes.ordinal,
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
        let again = self.work.known.again(&sid);
        let needy = match next {
            Next::Again(_) => seen.occupancy.human() || ours.is_some(),
            Next::Take | Next::NoPlace | Next::Withdraw => true,
            Next::Elsewhere(_) => false,
        };
        // Without lists nobody tells us that a room is gone, and a webhook tells of the next human.
        if !self.lists && !again && !needy {
            return self.work.known.forget(&sid);
        }
        self.work.known.look_in(&sid, if again { Duration::ZERO } else { wait });
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

    /// So that rooms of which nothing is expected do not cost more than they are worth.
    fn patience(&self) -> Duration {
        let rooms = u32::try_from(self.work.known.len()).unwrap_or(u32::MAX);
        let each = Duration::from_secs(1) * rooms / LOOKS_PER_SECOND;
        each.max(PATIENT).mul_f64(rand::random_range(0.75..1.25))
    }

    fn courtesy(&self) -> Duration {
        COURTESY.mul_f64(rand::random()) + COURTESY_OF_THE_BUSY.mul_f32(self.rooms.load())
    }
}

/// Asks who is in a room; where it needs an observer, also whether one was dispatched by name.
async fn look(
    observers: &Observers,
    name: &str,
    agent_name: &str,
    ours: bool,
    insists: bool,
) -> Result<Seen, String> {
    let participants = observers.api.list_participants(name).await.map_err(|e| e.to_string())?;
    let occupancy = observers.badge.read(&participants);
    let held = occupancy.holder(observers.badge.worker()).is_some();
    let needy = !ours && occupancy.human() && !held;
    let (mut dispatch, mut stranger) = (None, None);
    if needy {
        // Its metadata may say that the call must not be recorded: so an answer is insisted on, but
        // not for ever.
        let all = match observers.dispatches.list_dispatch(name).await {
            Err(e) if insists => return Err(e.to_string()),
            all => all.unwrap_or_default(),
        };
        let ours = all.into_iter().filter(|d| d.agent_name == agent_name);
        let ours: Vec<AgentDispatch> = ours.collect();
        stranger = ours.iter().find_map(taken_by_stranger);
        let metadata = ours.into_iter().map(|d| d.metadata);
        dispatch = metadata.max_by_key(|m| (FromMetadata::read(m).opt_out, !m.is_empty()));
    }
    Ok(Seen { occupancy, ours, dispatch, stranger })
}

/// The identity of who took a job of this dispatch, if that is none of our observers.
fn taken_by_stranger(dispatch: &AgentDispatch) -> Option<String> {
    let jobs = dispatch.state.as_ref().map(|s| s.jobs.as_slice()).unwrap_or_default();
    let takers = jobs.iter().filter_map(|j| Some(&j.state.as_ref()?.participant_identity));
    takers.filter(|i| !i.is_empty() && !observer::is_identity(i)).map(|i| masked(i)).next()
}

/// LiveKit gives each job to one worker of a name: two programs of one name take each other's calls.
fn warn_of_stranger(health: &Health, agent_name: &str, identity: &str) {
    let what =
        format!("another program is registered as \"{agent_name}\" and takes jobs of this one");
    if health.warn(Topic::AgentName, what) {
        tracing::warn!(
            agent_name,
            identity,
            advice = "each takes jobs that are meant for the other; give call-history a name of its \
                      own with CALL_HISTORY_AGENT_NAME",
            "another program is registered under this agent name"
        );
    }
}
