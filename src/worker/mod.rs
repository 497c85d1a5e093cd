//! Finds the calls to observe: takes jobs, looks for rooms, runs one observer for each, reports load,
//! drains.
//!
//! LiveKit offers each job only once, to one worker of a pool. So offers are answered at once and without
//! I/O, registrations are renewed whenever they break, and missed rooms are found by asking the server.
//! A worker for rooms is never registered without a name: it would take jobs from voice agents.
//! Protocol: docs/worker-protocol.md.
//!
//! | file | its one idea |
//! |---|---|
//! | [`registration`] | one registration, renewed whenever it breaks |
//! | [`connection`] | one registered connection: messages in and out, until it breaks |
//! | [`backoff`] | how long to wait before the next connection |
//! | [`jobs`] | jobs of one registration: offered, accepted, running, done |
//! | [`reconcile`] | asks the server for rooms that have no observer or several |
//! | [`known`] | the rooms of the server, and when each is checked next |
//! | [`decide`] | what to do about a room |
//! | [`room`] | types about a room that the files share |
//! | [`rooms`] | one observer for each room to observe, however it was found |
//! | [`places`] | which rooms we observe, each only once, and which we must not take |
//! | [`load`] | how busy the worker is |
//! | [`server_clock`] | asks LiveKit for the time |

mod backoff;
mod connection;
mod decide;
mod jobs;
mod known;
mod load;
mod places;
mod reconcile;
mod registration;
mod room;
mod rooms;
mod server_clock;

use std::sync::Arc;

use connection::{Broken, Role};
use jobs::Jobs;
use store::{health::Health, journal::LeftBehind};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use crate::{
    clock::WallClock,
    config::{Config, Layers},
    observer::Observers,
    stop::Stop,
};

pub(crate) use load::{memory_limit, resident};
use reconcile::{Reconciler, Work};
use registration::Registration;
pub(crate) use room::ReconcileRequest;
use rooms::Rooms;

/// Length of the queue to the reconciler. If a request is dropped, the next list finds the room.
const REQUEST_QUEUE: usize = 1_024;

/// The worker's state for the health page.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WorkerState {
    /// Since when a registration is lost; `None` while it stands, or is not configured.
    dispatch_away: Option<Instant>,
    participant_away: Option<Instant>,
    /// Since when rooms cannot be listed; used only without registrations.
    lists_away: Option<Instant>,
    pub(crate) active_jobs: usize,
    /// The load as reported to the server, 0 to 1.
    pub(crate) load: f32,
}

impl WorkerState {
    /// Before anything is connected.
    pub(crate) fn starting(layers: Layers) -> Self {
        let now = Some(Instant::now());
        Self {
            dispatch_away: now.filter(|_| layers.dispatch),
            participant_away: now.filter(|_| layers.participant),
            lists_away: now.filter(|_| !layers.dispatch && !layers.participant),
            ..Self::default()
        }
    }

    /// Since when LiveKit is out of reach, as the health page understands it.
    pub(crate) fn away_since(&self) -> Option<Instant> {
        [self.dispatch_away, self.participant_away, self.lists_away].into_iter().flatten().min()
    }

    fn set_away(&mut self, role: Role, away: bool) {
        let since = match role {
            Role::Dispatch => &mut self.dispatch_away,
            Role::Participant => &mut self.participant_away,
        };
        *since = away.then(|| since.unwrap_or_else(Instant::now));
    }

    fn set_lists_away(&mut self, away: bool) {
        self.lists_away = away.then(|| self.lists_away.unwrap_or_else(Instant::now));
    }
}

/// The channel of requests to the reconciler.
pub(crate) fn request_channel() -> (mpsc::Sender<ReconcileRequest>, mpsc::Receiver<ReconcileRequest>)
{
    mpsc::channel(REQUEST_QUEUE)
}

/// Registers once, under the name in `config`, and leaves at once. Returns the server's version.
///
/// # Errors
/// Why the server took no worker.
pub(crate) async fn try_registration(config: &Config, wall: &WallClock) -> Result<String, String> {
    match connection::register(config, Role::Dispatch, wall).await {
        Ok(registered) => Ok(registered.server_version),
        Err(Broken::Lost(why) | Broken::Refused(why)) => Err(why),
        Err(Broken::Stopped) => Err("stopped".into()),
    }
}

/// The worker, ready to run.
pub(crate) struct Worker {
    pub(crate) config: Arc<Config>,
    pub(crate) observers: Arc<Observers>,
    /// Calls that an earlier run left behind; they are resumed first.
    pub(crate) left: Vec<LeftBehind>,
    pub(crate) stop: Stop,
    pub(crate) state: watch::Sender<WorkerState>,
    pub(crate) health: Health,
    pub(crate) requests: (mpsc::Sender<ReconcileRequest>, mpsc::Receiver<ReconcileRequest>),
}

impl Worker {
    /// Runs until drained, or until the process must end now.
    pub(crate) async fn run(self) {
        let Self { config, observers, left, stop, state, health, requests: (requests, incoming) } =
            self;
        let rooms = Arc::new(Rooms::new(
            &config,
            observers.clone(),
            stop.clone(),
            state.clone(),
            requests.clone(),
        ));
        rooms.resume(left);
        let layers = config.layers;
        let (wall, rooms_done) = (observers.wall.clone(), rooms.clone());
        let roles = [(Role::Dispatch, layers.dispatch), (Role::Participant, layers.participant)];
        let mut all = JoinSet::new();
        if layers.dispatch {
            observers.name.set_registered();
        }
        for (role, _) in roles.into_iter().filter(|(_, wanted)| *wanted) {
            let registration = Registration {
                config: config.clone(),
                role,
                rooms: rooms.clone(),
                jobs: Jobs::new(role, &config, observers.badge.clone(), rooms.clone()),
                stop: stop.clone(),
                state: state.clone(),
                requests: requests.clone(),
                wall: observers.wall.clone(),
                health: health.clone(),
            };
            all.spawn(registration.run());
        }
        let reconciler = Reconciler {
            rooms: rooms.clone(),
            observers,
            agent_name: config.agent_name.clone(),
            names: config.rooms.clone(),
            health,
            requests: incoming,
            lists: layers.reconcile,
            // A registration shows by itself whether the server is up and takes our keys.
            state: (!layers.dispatch && !layers.participant).then_some(state),
            work: Work::default(),
        };
        all.spawn(reconciler.run());
        all.spawn(async move {
            tokio::select! {
                () = server_clock::follow(&config.livekit, &wall) => {}
                () = rooms_done.done() => {}
            }
        });
        while all.join_next().await.is_some() {}
        rooms.finish().await;
    }
}
