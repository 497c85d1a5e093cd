//! The worker's HTTP port: `GET /` and `GET /worker`, as other LiveKit agents have them, `GET /live` and
//! `GET /ready` for probes, `GET /metrics` for Prometheus, and `POST /webhook` for LiveKit.

mod metrics;
mod port;
mod webhook;

use std::{net::SocketAddr, time::Duration};

use axum::{Json, Router, extract::State, http::StatusCode, routing::get};
use serde::Serialize;
use store::health::Health;
use tokio::{net::TcpListener, sync::watch};

use crate::{stop::Stop, worker::WorkerState};

pub(crate) use metrics::States;
pub(crate) use webhook::Webhook;

/// A loss of the connection to LiveKit counts as unhealthy only after this time.
const AWAY_FOR: Duration = Duration::from_secs(15);
/// Why a worker is not ready, as `GET /ready` answers it.
pub(crate) const AWAY: &str = "not connected to LiveKit";
pub(crate) const DRAINING: &str = "draining";

/// The state of the HTTP handlers: what they show, and where webhooks go.
#[derive(Clone)]
pub(crate) struct Page {
    pub(crate) agent_name: String,
    pub(crate) worker: watch::Receiver<WorkerState>,
    pub(crate) health: Health,
    pub(crate) stop: Stop,
    pub(crate) states: States,
    /// `None`: webhooks are not accepted.
    pub(crate) webhook: Option<Webhook>,
}

impl Page {
    /// Why no new calls can be taken now.
    fn not_ready(&self) -> Option<&'static str> {
        if self.stop.is_draining() {
            return Some(DRAINING);
        }
        self.worker.borrow().away_since().map(|_| AWAY)
    }
}

/// The fields of LiveKit's `WorkerInfo`, and the current warning.
#[derive(Serialize)]
struct WorkerInfo {
    worker_type: &'static str,
    agent_name: String,
    active_jobs: usize,
    worker_load: f32,
    sdk_version: &'static str,
    protocol_version: u32,
    registered: bool,
    /// A problem that does not stop the worker; null if there is none.
    warning: Option<String>,
}

/// Binds and serves until the process ends.
///
/// # Errors
/// If the address cannot be bound.
pub(crate) async fn start(addr: SocketAddr, page: Page) -> std::io::Result<()> {
    let listener = TcpListener::bind(addr).await?;
    tracing::info!(addr = %listener.local_addr()?, "health page");
    let hook = page.webhook.clone().map(Webhook::route);
    let health = page.health.clone();
    let app = Router::new()
        .route("/", get(state))
        .route("/live", get(live))
        .route("/metrics", get(metrics::metrics))
        .route("/ready", get(ready))
        .route("/worker", get(info))
        .with_state(page);
    let app = app.merge(hook.unwrap_or_default());
    tokio::spawn(port::serve(listener, app, health));
    Ok(())
}

/// Answers 200 also with a warning: a restart would not repair a disk, and would lose records that are only
/// in memory.
async fn state(State(admin): State<Page>) -> (StatusCode, String) {
    let warning = admin.health.warning().map(|warning| format!("warning: {warning}"));
    match admin.worker.borrow().away_since() {
        Some(since) if since.elapsed() >= AWAY_FOR => {
            let all: Vec<String> = [Some(AWAY.to_owned()), warning].into_iter().flatten().collect();
            (StatusCode::SERVICE_UNAVAILABLE, all.join("; "))
        }
        _ => (StatusCode::OK, warning.unwrap_or_else(|| "OK".into())),
    }
}

/// Answers as long as the process does. It depends on nothing else: a restart repairs neither LiveKit nor the
/// disk nor the endpoint, and would interrupt calls.
async fn live() -> &'static str {
    "OK"
}

/// Whether new calls can be taken now.
async fn ready(State(admin): State<Page>) -> (StatusCode, &'static str) {
    match admin.not_ready() {
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
        None => (StatusCode::OK, "OK"),
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
