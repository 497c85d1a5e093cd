//! The figures of the report.

use std::time::Duration;

use serde::Serialize;

#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) server: String,
    pub(crate) binary_mb: f64,
    /// From the start of the process to its log line "registered worker".
    pub(crate) cold_start_ms: Spread,
    pub(crate) idle: Idle,
    pub(crate) quiet: Load,
    pub(crate) talking: Load,
    pub(crate) after_calls: Idle,
    pub(crate) deleted_alone: Endings,
    pub(crate) deleted_among_quiet: Endings,
    pub(crate) deleted_among_talking: Endings,
    /// All participants join at the same time, and the worker is dispatched with their rooms.
    pub(crate) opened_at_once: Burst,
    /// The participants are in their rooms; then the worker is dispatched to all rooms.
    pub(crate) dispatched_at_once: Burst,
    pub(crate) after_bursts: Idle,
    pub(crate) calls_opened: usize,
    pub(crate) calls_reported: usize,
    pub(crate) posted_twice: usize,
}

/// The worker without calls.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Idle {
    pub(crate) rss_mb: f64,
    pub(crate) pss_mb: f64,
    pub(crate) peak_mb: f64,
    pub(crate) cpu_percent: f64,
    pub(crate) fds: f64,
    pub(crate) threads: f64,
}

/// The worker with calls. A figure per call is the increase over the idle worker, divided by the
/// number of calls.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Load {
    pub(crate) calls: usize,
    pub(crate) chunks_per_call_and_second: f64,
    pub(crate) rss_mb: f64,
    pub(crate) pss_mb: f64,
    pub(crate) rss_kb_per_call: f64,
    pub(crate) pss_kb_per_call: f64,
    /// Per cent of one core.
    pub(crate) cpu_percent_per_call: f64,
    pub(crate) fds_per_call: f64,
    pub(crate) threads_per_call: f64,
    /// The dev server's CPU, which shows whether the server was the bottleneck.
    pub(crate) server_cpu_percent: Option<f64>,
    /// All cores of this machine: worker, server, callers, agents and everything else. 100 is full.
    pub(crate) machine_percent: f64,
}

/// Times from the start of the request that deletes a room.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Endings {
    /// The server answers the request.
    pub(crate) answered_ms: Spread,
    /// The worker logs that the call has ended.
    pub(crate) ended_ms: Spread,
    /// The endpoint receives the record.
    pub(crate) posted_ms: Spread,
}

/// Many calls at once. All times count from the moment at which the first call could begin.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Burst {
    /// Calls that caller and voice agent have joined.
    pub(crate) calls: usize,
    /// Calls that could not be opened: the server or the machine was overloaded.
    pub(crate) not_opened: usize,
    /// Until the last participant has joined.
    pub(crate) opened_s: Option<f64>,
    /// Until the worker has joined the last room.
    pub(crate) joined_s: f64,
    /// Duration of the worker's joins, the wait for their turn included.
    pub(crate) join_ms: Spread,
    /// Calls whose start the worker did not log, with the participants of their rooms.
    pub(crate) not_started: Vec<String>,
    pub(crate) peak_mb: f64,
    /// From the first deletion to the last POST.
    pub(crate) posted_s: f64,
    pub(crate) reported: usize,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Spread {
    pub(crate) n: usize,
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) p95: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let n = values.len();
        let rank = |share: f64| (share * n as f64).ceil() as usize;
        let at = |share| values.get(rank(share).clamp(1, n.max(1)) - 1).copied().unwrap_or(0.0);
        Self { n, min: at(0.0), median: at(0.5), p95: at(0.95), max: at(1.0) }
    }
}

pub(crate) fn millis(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}
