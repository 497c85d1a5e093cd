//! How the worker comes to its calls: takes jobs, finds rooms, runs one observer for each, reports
//! load, drains.
//!
//! LiveKit gives each job once, to one worker of a pool, and never again; so offers are answered at
//! once and without I/O, registrations are kept for ever, and what was missed is found by looking.
//! Never is an unnamed worker for rooms registered: it would take jobs from voice agents.
//! Protocol: docs/worker-protocol.md.
//!
//! | file | its one idea |
//! |---|---|
//! | [`registration`] | one registration, kept for ever |
//! | [`connection`] | one registered socket: messages in and out, until it breaks |
//! | [`backoff`] | how long to wait before the next connection |
//! | [`jobs`] | jobs of one registration: offered, accepted, running, done |
//! | [`reconcile`] | asks the server for rooms without an observer, and with two |
//! | [`known`] | the server's rooms, and when each is looked at next |
//! | [`decide`] | what to do about such a room |
//! | [`room`] | what the parts say to each other about a room |
//! | [`rooms`] | the rooms we observe, however we learned of them; never one twice |
//! | [`load`] | how busy we are |
//! | [`server_clock`] | what time it is at LiveKit |

mod backoff;
mod connection;
mod decide;
mod jobs;
mod known;
mod load;
mod reconcile;
mod registration;
mod room;
mod rooms;
mod server_clock;

use std::sync::Arc;

use connection::Role;
use jobs::Jobs;
use store::{health::Health, journal::LeftBehind};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::Instant,
};

use crate::{config::Config, observer::Observers, stop::Stop};

use reconcile::{Reconciler, Work};
use registration::Registration;
pub(crate) use room::Ask;
use rooms::Rooms;

/// Requests to the reconciler that may wait. What does not find a place is found by looking.
const ASKS: usize = 1_024;

/// What the health page tells of the worker.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WorkerState {
    /// Since when a registration is away; `None` while it is there, or not wanted.
    dispatch_away: Option<Instant>,
    participant_away: Option<Instant>,
    /// Since when rooms cannot be listed, where that is all we do.
    lists_away: Option<Instant>,
    pub(crate) active_jobs: usize,
    /// As reported to the server, 0 to 1.
    pub(crate) load: f32,
}

impl WorkerState {
    /// Since when not all is registered that should be.
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

/// The way to ask the reconciler, and its other end.
pub(crate) fn asks() -> (mpsc::Sender<Ask>, mpsc::Receiver<Ask>) {
    mpsc::channel(ASKS)
}

/// What the worker is made of.
pub(crate) struct Worker {
    pub(crate) config: Arc<Config>,
    pub(crate) observers: Arc<Observers>,
    /// Calls that an earlier run was watching, gone on with first.
    pub(crate) left: Vec<LeftBehind>,
    pub(crate) stop: Stop,
    pub(crate) state: watch::Sender<WorkerState>,
    pub(crate) health: Health,
    pub(crate) asks: (mpsc::Sender<Ask>, mpsc::Receiver<Ask>),
}

impl Worker {
    /// Runs until drained, or until told to stop now.
    pub(crate) async fn run(self) {
        let Self { config, observers, left, stop, state, health, asks: (asks, asked) } = self;
        let rooms = Arc::new(Rooms::new(
            &config,
            observers.clone(),
            stop.clone(),
            state.clone(),
            asks.clone(),
        ));
        rooms.go_on(left);
        let layers = config.layers;
        let (wall, rooms_done) = (observers.wall.clone(), rooms.clone());
        let roles = [(Role::Dispatch, layers.dispatch), (Role::Participant, layers.participant)];
        let mut all = JoinSet::new();
        for (role, _) in roles.into_iter().filter(|(_, wanted)| *wanted) {
            let registration = Registration {
                config: config.clone(),
                role,
                rooms: rooms.clone(),
                jobs: Jobs::new(role, &config, observers.badge.clone(), rooms.clone()),
                stop: stop.clone(),
                state: state.clone(),
                asks: asks.clone(),
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
            asks: asked,
            lists: layers.reconcile,
            // Who is registered tells by that whether the server is there.
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
