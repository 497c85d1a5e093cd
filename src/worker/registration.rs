//! One registration, kept for ever: connected again whenever it breaks; calls that are on do not
//! notice.

use std::{sync::Arc, time::Duration};

use store::health::{Health, Topic};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep},
};

use super::{
    WorkerState,
    backoff::Backoff,
    connection::{self, Broken, Registered, Role},
    jobs::{self, Jobs},
    room::Ask,
    rooms::Rooms,
};
use crate::{clock::WallClock, config::Config, descriptors, stop::Stop};

/// A registration that lasted this long was a good one.
const STEADY: Duration = Duration::from_secs(10);

pub(super) struct Registration {
    pub(super) config: Arc<Config>,
    pub(super) role: Role,
    pub(super) rooms: Arc<Rooms>,
    pub(super) jobs: Jobs,
    pub(super) stop: Stop,
    pub(super) state: watch::Sender<WorkerState>,
    pub(super) asks: mpsc::Sender<Ask>,
    /// Learns from refusals, and explains them.
    pub(super) wall: WallClock,
    pub(super) health: Health,
}

impl Registration {
    /// Until told to stop, and all calls are done.
    pub(super) async fn run(mut self) {
        let url = self.config.livekit.loggable_url();
        let mut backoff = Backoff::default();
        self.away(true);
        loop {
            let attempt = connection::register(&self.config, self.role, &self.wall);
            let rooms = self.rooms.clone();
            let attempt = tokio::select! {
                attempt = attempt => attempt,
                () = rooms.done() => return,
            };
            let broken = match attempt {
                Ok(mut registered) => {
                    let since = Instant::now();
                    self.away(false);
                    self.health.clear(Topic::Keys);
                    tracing::info!(
                        worker_id = registered.worker_id,
                        server = registered.server_version,
                        url,
                        agent_name = self.role.agent_name(&self.config),
                        "registered"
                    );
                    // Rooms that were opened while we were away were offered to nobody.
                    let _ = self.asks.try_send(Ask::AllRooms);
                    let broken = self.serve(&mut registered).await;
                    self.jobs.disconnected();
                    // A server that registers us and closes at once must not be hammered.
                    if since.elapsed() >= STEADY {
                        backoff.reset();
                    }
                    self.away(true);
                    broken
                }
                Err(broken) => broken,
            };
            let wait = match &broken {
                Broken::Stopped => return,
                Broken::Refused(why) => {
                    self.refused(&url, why);
                    Backoff::REFUSED
                }
                Broken::Lost(why) => {
                    let wait = backoff.next(rand::random());
                    tracing::warn!(
                        url,
                        error = descriptors::explain(why.clone()),
                        retry_in_ms = millis(wait),
                        "not registered with LiveKit; calls that are on go on"
                    );
                    wait
                }
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = rooms.done() => return,
            }
        }
    }

    /// One registered connection, until it breaks or the worker is done.
    async fn serve(&mut self, registered: &mut Registered) -> Broken {
        registered.send(self.jobs.migrate()).await;
        let mut tick = tokio::time::interval(jobs::STATUS_EVERY);
        // The server knows that we take no more jobs.
        let mut told = self.stop.is_draining();
        loop {
            tokio::select! {
                message = registered.receive() => match message {
                    Ok(message) => {
                        let answer = self.jobs.handle(message);
                        registered.send(answer).await;
                    }
                    Err(broken) => return broken,
                },
                done = self.jobs.done() => registered.send(done).await,
                _ = tick.tick() => registered.send(Some(self.jobs.status())).await,
                () = self.stop.draining(), if !told => {
                    told = true;
                    registered.send(Some(self.jobs.status())).await;
                }
                () = self.rooms.done() => {
                    while let Some(done) = self.jobs.done_already() {
                        registered.send(Some(done)).await;
                    }
                    return Broken::Stopped;
                }
            }
        }
    }

    /// Tokens begin and end at a time: a clock that is wrong looks like a key that is.
    fn refused(&self, url: &str, why: &str) {
        let clock_ahead_s = self.wall.wrong_by();
        if clock_ahead_s.is_some() {
            self.health.warn(Topic::Keys, "LiveKit refuses our token, maybe for the clock".into());
            tracing::error!(
                url,
                error = why,
                clock_ahead_s,
                "LiveKit refused our token, and this machine's clock differs from LiveKit's: set the \
                 clocks by NTP first, then look at LIVEKIT_API_KEY and LIVEKIT_API_SECRET"
            );
            return;
        }
        self.health.warn(Topic::Keys, "LiveKit refuses the API key or secret".into());
        tracing::error!(
            url,
            error = why,
            "LiveKit refused the API key or secret; set LIVEKIT_API_KEY and LIVEKIT_API_SECRET to a \
             pair the server knows"
        );
    }

    fn away(&self, away: bool) {
        let role = self.role;
        self.state.send_modify(|s| s.set_away(role, away));
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
