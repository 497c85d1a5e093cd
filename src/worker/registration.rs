//! One registration with LiveKit. It is renewed whenever it breaks; running calls are not affected.

use std::{sync::Arc, time::Duration};

use metrics::Reconnect;
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
    room::ReconcileRequest,
    rooms::Rooms,
};
use crate::{
    clock::{WallClock, millis},
    config::Config,
    descriptors,
    net::explain,
    stop::Stop,
    telemetry::LogThrottle,
};

/// After a registration that lasted this long, the backoff starts over.
const STEADY: Duration = Duration::from_secs(10);

pub(super) struct Registration {
    pub(super) config: Arc<Config>,
    pub(super) role: Role,
    pub(super) rooms: Arc<Rooms>,
    pub(super) jobs: Jobs,
    pub(super) stop: Stop,
    pub(super) state: watch::Sender<WorkerState>,
    pub(super) requests: mpsc::Sender<ReconcileRequest>,
    /// Learns the server's time from refusals, and is logged with them: a wrong clock makes tokens invalid.
    pub(super) wall: WallClock,
    pub(super) health: Health,
}

impl Registration {
    /// Runs until the worker is drained and all calls are done, or the process must end now.
    pub(super) async fn run(mut self) {
        let url = self.config.livekit.loggable_url();
        let mut backoff = Backoff::default();
        self.away(true);
        let mut first = true;
        let mut faults = LogThrottle::default();
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
                    self.health.clear(Topic::Registration);
                    if !std::mem::take(&mut first) {
                        self.health.metrics().reconnected(Reconnect::Registration);
                    }
                    tracing::info!(
                        worker_id = registered.worker_id,
                        server = registered.server_version,
                        url,
                        agent_name = self.role.agent_name(&self.config),
                        "registered worker"
                    );
                    // Nobody was offered the rooms that opened while we were not registered.
                    let _ = self.requests.try_send(ReconcileRequest::AllRooms);
                    let broken = self.serve(&mut registered).await;
                    self.jobs.disconnected();
                    // A server that registers us and closes at once must not be asked without pause.
                    if since.elapsed() >= STEADY {
                        backoff.reset();
                        // The next fault is a new one.
                        faults = LogThrottle::default();
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
                    self.health.warn(Topic::Registration, self.explained(why));
                    if let Some(times) = faults.due_for(why) {
                        tracing::warn!(
                            url,
                            error = self.explained(why),
                            times,
                            active_jobs = self.state.borrow().active_jobs,
                            retry_in_ms = millis(wait),
                            "not registered with LiveKit, will be tried again; calls that are on go on"
                        );
                    }
                    wait
                }
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = rooms.done() => return,
            }
        }
    }

    /// Serves one registered connection until it breaks or the worker is done.
    async fn serve(&mut self, registered: &mut Registered) -> Broken {
        registered.send(self.jobs.migrate()).await;
        let mut tick = tokio::time::interval(jobs::STATUS_EVERY);
        // Whether the server has received that we take no more jobs.
        let mut drain_reported = self.stop.is_draining();
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
                () = self.stop.draining(), if !drain_reported => {
                    drain_reported = true;
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

    /// Logs a refused token. Tokens are valid for a time, so the cause may be the clock as well as the key.
    fn explained(&self, why: &str) -> String {
        explain::livekit(descriptors::explain(why.to_owned()), &self.config.livekit.url)
    }

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
