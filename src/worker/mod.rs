//! The registration as a LiveKit agent worker: takes jobs, runs one observer for each, reports
//! load, drains.
//!
//! LiveKit gives each job once, to one worker of a pool, and never again; so the name is always
//! explicit, offers are answered at once and without I/O, and the connection is kept for ever.
//! Protocol: shared specification §1 to §4, measured on a real server.
//!
//! | file | its one idea |
//! |---|---|
//! | [`connection`] | one registered socket: messages in and out, until it breaks |
//! | [`jobs`] | offered, accepted, running, done |
//! | [`backoff`] | how long to wait before the next connection |

mod backoff;
mod connection;
mod jobs;

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use crate::{config::Config, journal::LeftBehind, observer::Observers, stop::Stop};
use backoff::Backoff;
use connection::{Broken, Registered};
use jobs::Jobs;

/// A registration that lasted this long was a good one.
const STEADY: Duration = Duration::from_secs(10);

/// What the health page tells of the worker.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct WorkerState {
    /// Since when it is not registered; `None` while it is.
    pub(crate) away_since: Option<Instant>,
    pub(crate) active_jobs: usize,
    /// As reported to the server, 0 to 1.
    pub(crate) load: f32,
}

/// Runs until drained, or until told to stop now. `left`: calls that an earlier run was watching,
/// gone on with first.
pub(crate) async fn run(
    config: &Config,
    observers: Arc<Observers>,
    left: Vec<LeftBehind>,
    mut stop: watch::Receiver<Stop>,
    state: watch::Sender<WorkerState>,
) {
    let mut jobs = Jobs::new(config, observers, stop.clone(), state.clone());
    jobs.go_on(left);
    let mut backoff = Backoff::default();
    state.send_modify(|s| s.away_since = Some(Instant::now()));
    loop {
        if jobs.finished_after_stop() {
            break;
        }
        let broken = match connection::register(config).await {
            Ok(mut registered) => {
                let since = Instant::now();
                state.send_modify(|s| s.away_since = None);
                tracing::info!(
                    worker_id = registered.worker_id,
                    server = registered.server_version,
                    url = config.livekit.loggable_url(),
                    agent_name = config.agent_name,
                    "registered"
                );
                let broken = serve(&mut registered, &mut jobs, &mut stop).await;
                // A server that registers us and closes at once must not be hammered.
                if since.elapsed() >= STEADY {
                    backoff.reset();
                }
                state.send_modify(|s| s.away_since = Some(Instant::now()));
                broken
            }
            Err(broken) => broken,
        };
        let wait = match &broken {
            Broken::Stopped => break,
            Broken::Refused(why) => {
                tracing::error!(
                    url = config.livekit.loggable_url(),
                    error = why,
                    "LiveKit refused the API key or secret; set LIVEKIT_API_KEY and \
                     LIVEKIT_API_SECRET to a pair the server knows"
                );
                Backoff::REFUSED
            }
            Broken::Lost(why) => {
                let wait = backoff.next(rand::random());
                tracing::warn!(
                    url = config.livekit.loggable_url(),
                    error = why,
                    retry_in_ms = millis(wait),
                    "not registered with LiveKit; calls that are on go on"
                );
                wait
            }
        };
        if !jobs.while_away(wait, &mut stop).await {
            break;
        }
    }
    jobs.finish().await;
}

/// One registered connection, until it breaks or the worker is done.
async fn serve(
    registered: &mut Registered,
    jobs: &mut Jobs,
    stop: &mut watch::Receiver<Stop>,
) -> Broken {
    registered.send(jobs.migrate()).await;
    let mut tick = tokio::time::interval(jobs::STATUS_EVERY);
    loop {
        if jobs.finished_after_stop() {
            return Broken::Stopped;
        }
        tokio::select! {
            message = registered.receive() => match message {
                Ok(message) => {
                    if let Some(answer) = jobs.handle(message) {
                        registered.send(Some(answer)).await;
                    }
                }
                Err(broken) => return broken,
            },
            done = jobs.done() => registered.send(done).await,
            _ = tick.tick() => registered.send(Some(jobs.status())).await,
            Ok(()) = stop.changed() => registered.send(Some(jobs.status())).await,
        }
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}

/// Sleeps, but not beyond a change of `stop`.
async fn sleep_or_stop(wait: Duration, stop: &mut watch::Receiver<Stop>) {
    tokio::select! {
        () = sleep(wait) => {}
        _ = stop.changed() => {}
    }
}
