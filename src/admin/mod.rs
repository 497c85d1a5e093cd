//! The one port of the worker: `GET /` for probes, `GET /worker` for people, as other LiveKit agents
//! have them, and `POST /webhook` for LiveKit.

mod port;
mod webhook;

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use serde::Serialize;
use store::health::Health;
use tokio::{net::TcpListener, sync::watch};

use crate::worker::WorkerState;

pub(crate) use webhook::Webhook;

/// A short loss of the connection to LiveKit is not an illness.
const AWAY_FOR: Duration = Duration::from_secs(15);
/// Between one line about what [`Seldom`] is for and the next.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// What it shows, and to whom it passes on what it is told.
#[derive(Clone)]
pub(crate) struct Page {
    pub(crate) agent_name: String,
    pub(crate) worker: watch::Receiver<WorkerState>,
    pub(crate) health: Health,
    /// `None`: webhooks are not taken.
    pub(crate) webhook: Option<Webhook>,
}

/// The fields of LiveKit's `WorkerInfo`, and what is worth a warning.
#[derive(Serialize)]
struct WorkerInfo {
    worker_type: &'static str,
    agent_name: String,
    active_jobs: usize,
    worker_load: f32,
    sdk_version: &'static str,
    protocol_version: u32,
    registered: bool,
    /// What is wrong but does not stop the work; null if nothing is.
    warning: Option<String>,
}

/// Binds and serves until the process ends.
///
/// # Errors
/// If the address cannot be bound.
pub(crate) async fn start(addr: SocketAddr, page: Page) -> std::io::Result<()> {
    let listener = TcpListener::bind(addr).await?;
    tracing::info!(addr = %listener.local_addr()?, "health page");
    let hook = page
        .webhook
        .clone()
        .map(|webhook| Router::new().route("/webhook", post(webhook::receive)).with_state(webhook));
    let health = page.health.clone();
    let app = Router::new().route("/", get(state)).route("/worker", get(info)).with_state(page);
    let app = app.merge(hook.unwrap_or_default());
    tokio::spawn(port::serve(listener, app, health));
    Ok(())
}

/// For what anybody can make happen: one line a minute in the log, and how many times it stands for.
#[derive(Debug, Default)]
struct Seldom {
    said: Option<Instant>,
    times: u64,
}

impl Seldom {
    /// It happened: how often since the last line, if it is time for the next.
    fn due(&mut self) -> Option<u64> {
        self.times += 1;
        if self.said.is_some_and(|at| at.elapsed() < SAY_EVERY) {
            return None;
        }
        self.said = Some(Instant::now());
        Some(std::mem::take(&mut self.times))
    }
}

/// 200 also with a warning: a restart would not mend a disk, and loses what is only in memory.
async fn state(State(admin): State<Page>) -> (StatusCode, String) {
    let warning = admin.health.warning().map(|warning| format!("warning: {warning}"));
    match admin.worker.borrow().away_since() {
        Some(since) if since.elapsed() >= AWAY_FOR => {
            let away = "not connected to LiveKit".to_owned();
            let all: Vec<String> = [Some(away), warning].into_iter().flatten().collect();
            (StatusCode::SERVICE_UNAVAILABLE, all.join("; "))
        }
        _ => (StatusCode::OK, warning.unwrap_or_else(|| "OK".into())),
    }
}

async fn info(State(admin): State<Page>) -> Json<WorkerInfo> {
    let worker = *admin.worker.borrow();
    Json(WorkerInfo {
        worker_type: "JT_ROOM",
        agent_name: admin.agent_name,
        active_jobs: worker.active_jobs,
        worker_load: worker.load,
        sdk_version: env!("CARGO_PKG_VERSION"),
        protocol_version: 1,
        registered: worker.away_since().is_none(),
        warning: admin.health.warning(),
    })
}
