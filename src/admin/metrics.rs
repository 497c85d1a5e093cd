//! `GET /metrics`, for Prometheus.

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::IntoResponse,
};
use metrics::Now;
use store::BacklogGauge;
use tokio::sync::watch;

use super::Page;
use crate::{clock::WallClock, descriptors, worker};

/// Where the states are that only the metrics show.
#[derive(Clone)]
pub(crate) struct States {
    pub(crate) active_calls: watch::Receiver<usize>,
    pub(crate) backlog: BacklogGauge,
    pub(crate) wall: WallClock,
    /// Bytes.
    pub(crate) memory_limit: Option<u64>,
}

/// Answers in the format that the client asks for; Prometheus asks for OpenMetrics.
pub(super) async fn metrics(State(page): State<Page>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let openmetrics = accept.contains("application/openmetrics-text");
    let text = page.health.metrics().text(&now(&page), env!("CARGO_PKG_VERSION"), openmetrics);
    let kind = if openmetrics { metrics::OPENMETRICS } else { metrics::TEXT };
    ([(header::CONTENT_TYPE, kind)], text)
}

fn now(page: &Page) -> Now {
    let worker = *page.worker.borrow();
    let states = &page.states;
    Now {
        nodename: nodename(),
        active_jobs: worker.active_jobs,
        load: worker.load,
        active_calls: *states.active_calls.borrow(),
        ready: page.not_ready().is_none(),
        draining: page.stop.is_draining(),
        warnings: page.health.topics(),
        pending: states.backlog.records(),
        pending_bytes: states.backlog.bytes(),
        oldest: states.backlog.oldest(),
        dead: states.backlog.dead(),
        memory: worker::resident(),
        memory_limit: states.memory_limit,
        open_files: descriptors::in_use(),
        clock_ahead: states.wall.ahead().map(|ms| ms as f64 / 1_000.0),
    }
}

/// As LiveKit's agents label their metrics: the name of this machine.
fn nodename() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}
