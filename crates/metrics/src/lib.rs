//! What the worker counts and measures about itself, for Prometheus: docs/metrics.md.
//!
//! Each part of the program counts where something happens. What is a state rather than an event (running calls,
//! the backlog, memory) is read when somebody asks: [`Now`]. Values of labels are texts of the program, so the
//! number of series does not grow with calls, rooms or callers.

use std::{fmt, sync::Arc, time::Duration};

use prometheus_client::{
    encoding::{prometheus_text, text},
    metrics::{
        counter::Counter,
        family::{Family, MetricConstructor},
        gauge::Gauge,
        histogram::Histogram,
    },
    registry::{Registry, Unit},
};

/// Names and values of labels.
type Labels<const N: usize> = [(&'static str, &'static str); N];
type Number = Gauge<f64, std::sync::atomic::AtomicU64>;

/// Seconds: from a quick answer to a lost minute.
const WAITS: [f64; 11] = [0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Seconds: from the end of a call to its record's delivery, which an endpoint may delay by days.
const DELIVERIES: [f64; 10] = [0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 1_800.0, 21_600.0, 259_200.0];
/// Seconds: one write to the disk.
const WRITES: [f64; 9] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25, 1.0, 5.0];

/// The content type of an answer in the OpenMetrics format.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The content type of an answer in Prometheus's own text format.
pub const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A histogram for each set of labels.
#[derive(Clone)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

/// States that are read when somebody asks for the metrics.
#[derive(Clone, Debug, Default)]
pub struct Now {
    /// The name of this machine, as LiveKit's agents label their metrics.
    pub nodename: String,
    pub active_jobs: usize,
    /// 0 to 1, as it is reported to LiveKit.
    pub load: f32,
    pub active_calls: usize,
    pub ready: bool,
    pub draining: bool,
    /// The topics of the current warnings.
    pub warnings: Vec<&'static str>,
    /// Records that wait, their bytes, and how long the oldest has waited.
    pub pending: u64,
    pub pending_bytes: u64,
    pub oldest: Duration,
    /// Records that the endpoint refused.
    pub dead: u64,
    /// Bytes of memory in use, and the limit from which on no call is taken.
    pub memory: Option<u64>,
    pub memory_limit: Option<u64>,
    pub open_files: Option<u64>,
    /// Seconds by which this machine's clock is ahead of LiveKit's.
    pub clock_ahead: Option<f64>,
}

/// Cheap to clone; all clones count together.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Counted>);

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// What is counted where it happens.
struct Counted {
    calls_started: Family<Labels<1>, Counter>,
    calls_ended: Family<Labels<2>, Counter>,
    evidence: Family<Labels<2>, Counter>,
    joins: Family<Labels<2>, Counter>,
    join_seconds: Family<Labels<1>, Histogram, Buckets>,
    rooms_not_joined: Counter,
    reconnects: Family<Labels<1>, Counter>,
    ignored: Family<Labels<1>, Counter>,
    attempts: Family<Labels<1>, Counter>,
    attempt_seconds: Histogram,
    delivery_seconds: Histogram,
    seals: Histogram,
    journal_writes: Histogram,
    disk_errors: Family<Labels<1>, Counter>,
    events: Family<Labels<1>, Counter>,
}

impl Default for Counted {
    fn default() -> Self {
        let counted = Self {
            calls_started: Family::default(),
            calls_ended: Family::default(),
            evidence: Family::default(),
            joins: Family::default(),
            join_seconds: Family::new_with_constructor(Buckets(&WAITS)),
            rooms_not_joined: Counter::default(),
            reconnects: Family::default(),
            ignored: Family::default(),
            attempts: Family::default(),
            attempt_seconds: Histogram::new(WAITS),
            delivery_seconds: Histogram::new(DELIVERIES),
            seals: Histogram::new(WRITES),
            journal_writes: Histogram::new(WRITES),
            disk_errors: Family::default(),
            events: Family::default(),
        };
        // An alert on a series sees its first event only if the series was there before.
        for outcome in Outcome::ALL {
            drop(counted.attempts.get_or_create(&[("outcome", outcome.as_str())]));
        }
        for outcome in ["delivered", "given_up"] {
            drop(counted.events.get_or_create(&[("outcome", outcome)]));
        }
        for part in ["attempts", "journal", "ordinals", "outbox"] {
            drop(counted.disk_errors.get_or_create(&[("part", part)]));
        }
        for connection in Reconnect::ALL {
            drop(counted.reconnects.get_or_create(&[("connection", connection.as_str())]));
        }
        counted
    }
}

/// What came of one attempt to deliver a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Delivered,
    /// The endpoint will not take the record.
    Refused,
    Failed,
    /// Not taken for 72 h.
    GivenUp,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Delivered, Self::Refused, Self::Failed, Self::GivenUp];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::GivenUp => "given_up",
        }
    }
}

/// A connection that was lost and made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnect {
    /// That of an observer to its room.
    Room,
    /// That of the worker to LiveKit.
    Registration,
}

impl Reconnect {
    const ALL: [Self; 2] = [Self::Room, Self::Registration];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Room => "room",
            Self::Registration => "registration",
        }
    }
}

impl Metrics {
    // ---- calls ------------------------------------------------------------------------------

    pub fn call_started(&self, found_by: &'static str) {
        self.0.calls_started.get_or_create(&[("found_by", found_by)]).inc();
    }

    /// `reason`: `None` if there is none.
    pub fn call_ended(&self, status: &'static str, reason: Option<&'static str>) {
        let labels = [("status", status), ("reason", reason.unwrap_or("none"))];
        self.0.calls_ended.get_or_create(&labels).inc();
    }

    /// The best signal that showed when a side of an ended call spoke.
    pub fn evidence(&self, side: &'static str, signal: &'static str) {
        self.0.evidence.get_or_create(&[("side", side), ("signal", signal)]).inc();
    }

    /// An observer has joined its room. `took`: since the room was found.
    pub fn joined(&self, found_by: &'static str, took: Duration) {
        self.0.joins.get_or_create(&[("found_by", found_by), ("outcome", "joined")]).inc();
        let seconds = self.0.join_seconds.get_or_create(&[("found_by", found_by)]);
        seconds.observe(took.as_secs_f64());
    }

    /// An attempt to join a room failed.
    pub fn join_failed(&self, found_by: &'static str) {
        self.0.joins.get_or_create(&[("found_by", found_by), ("outcome", "failed")]).inc();
    }

    /// A room was given up before it could be joined.
    pub fn room_not_joined(&self) {
        self.0.rooms_not_joined.inc();
    }

    pub fn reconnected(&self, what: Reconnect) {
        self.0.reconnects.get_or_create(&[("connection", what.as_str())]).inc();
    }

    /// Something published in a room was not taken.
    pub fn ignored(&self, reason: &'static str, count: u64) {
        self.0.ignored.get_or_create(&[("reason", reason)]).inc_by(count);
    }

    // ---- delivery ---------------------------------------------------------------------------

    pub fn attempted(&self, outcome: Outcome, took: Duration) {
        self.0.attempts.get_or_create(&[("outcome", outcome.as_str())]).inc();
        self.0.attempt_seconds.observe(took.as_secs_f64());
    }

    /// A record was delivered. `after`: since its call ended.
    pub fn delivered(&self, after: Duration) {
        self.0.delivery_seconds.observe(after.as_secs_f64());
    }

    /// A live event was taken, or given up.
    pub fn event(&self, taken: bool) {
        let outcome = if taken { "delivered" } else { "given_up" };
        self.0.events.get_or_create(&[("outcome", outcome)]).inc();
    }

    // ---- the disk ---------------------------------------------------------------------------

    /// A record was written and synced.
    pub fn sealed(&self, took: Duration) {
        self.0.seals.observe(took.as_secs_f64());
    }

    /// Waiting lines of journals were written, and synced where that was due.
    pub fn journal_written(&self, took: Duration) {
        self.0.journal_writes.observe(took.as_secs_f64());
    }

    /// The disk answered with an error.
    pub fn disk_failed(&self, part: &'static str) {
        self.0.disk_errors.get_or_create(&[("part", part)]).inc();
    }

    // ---- all of it --------------------------------------------------------------------------

    /// All metrics as text: in the OpenMetrics format, or in Prometheus's own.
    pub fn text(&self, now: &Now, version: &'static str, openmetrics: bool) -> String {
        let mut out = String::new();
        let registry = self.registry(now, version);
        // Writing to a text cannot fail.
        let _ = if openmetrics {
            text::encode(&mut out, &registry)
        } else {
            prometheus_text::encode(&mut out, &registry)
        };
        out
    }

    /// Made anew for each answer: the states are set at that time, and a few dozen entries cost nothing.
    fn registry(&self, now: &Now, version: &'static str) -> Registry {
        let f = &self.0;
        let mut all = Registry::default();
        let number = |value: f64| {
            let gauge = Number::default();
            gauge.set(value);
            gauge
        };
        let node = [("nodename".into(), now.nodename.clone().into())];
        let livekit = all.sub_registry_with_labels(node.into_iter());
        livekit.register(
            "lk_agents_active_job_count",
            "Rooms that are observed, by the name that LiveKit's agents have for it",
            number(now.active_jobs as f64),
        );
        livekit.register(
            "lk_agents_worker_load",
            "The load that is reported to LiveKit, 0 to 1; from 0.7 on it offers no jobs",
            number(now.load.into()),
        );
        let own = all.sub_registry_with_prefix("call_history");
        let build = Family::<Labels<1>, Number>::default();
        build.get_or_create(&[("version", version)]).set(1.0);
        own.register("build_info", "Always 1; the version is in the label", build);
        own.register(
            "ready",
            "1 if new calls are taken: registered and not draining",
            number(now.ready.into()),
        );
        own.register("draining", "1 after SIGTERM", number(now.draining.into()));
        let warnings = Family::<Labels<1>, Number>::default();
        for topic in &now.warnings {
            warnings.get_or_create(&[("topic", topic)]).set(1.0);
        }
        own.register("warning", "1 for each warning that the health page shows", warnings);
        own.register("calls_active", "Calls that are on", number(now.active_calls as f64));
        own.register(
            "calls_started",
            "Calls that began, by how the room was found",
            f.calls_started.clone(),
        );
        own.register(
            "calls_ended",
            "Calls that ended with a record, by status and reason",
            f.calls_ended.clone(),
        );
        own.register(
            "calls_evidence",
            "Ended calls by the best signal that showed when a side spoke",
            f.evidence.clone(),
        );
        own.register("joins", "Attempts to join a room, by how it was found", f.joins.clone());
        own.register_with_unit(
            "join",
            "From finding a room to being in it",
            Unit::Seconds,
            f.join_seconds.clone(),
        );
        own.register(
            "rooms_not_joined",
            "Rooms that were given up before they could be joined",
            f.rooms_not_joined.clone(),
        );
        own.register(
            "reconnects",
            "Connections that were lost and made again",
            f.reconnects.clone(),
        );
        own.register(
            "messages_ignored",
            "Published values and messages that were not taken",
            f.ignored.clone(),
        );
        own.register(
            "delivery_attempts",
            "Attempts to deliver a record, by outcome",
            f.attempts.clone(),
        );
        own.register_with_unit(
            "delivery_attempt",
            "One attempt to deliver a record",
            Unit::Seconds,
            f.attempt_seconds.clone(),
        );
        own.register_with_unit(
            "delivery",
            "From the end of a call to the delivery of its record",
            Unit::Seconds,
            f.delivery_seconds.clone(),
        );
        let records = Family::<Labels<1>, Number>::default();
        records.get_or_create(&[("folder", "pending")]).set(now.pending as f64);
        records.get_or_create(&[("folder", "dead")]).set(now.dead as f64);
        own.register(
            "outbox_records",
            "Records on disk that wait (pending) or were refused (dead)",
            records,
        );
        own.register_with_unit(
            "outbox_pending",
            "Size of the records that wait",
            Unit::Bytes,
            number(now.pending_bytes as f64),
        );
        own.register_with_unit(
            "outbox_oldest",
            "Age of the record that has waited longest; 0 if none waits",
            Unit::Seconds,
            number(now.oldest.as_secs_f64()),
        );
        own.register("events", "Live events of calls, by outcome", f.events.clone());
        own.register_with_unit(
            "seal",
            "Writing and syncing one record",
            Unit::Seconds,
            f.seals.clone(),
        );
        own.register_with_unit(
            "journal_write",
            "Writing waiting lines of journals, and syncing them where that is due",
            Unit::Seconds,
            f.journal_writes.clone(),
        );
        own.register(
            "disk_errors",
            "Errors of the disk, by the part that met them",
            f.disk_errors.clone(),
        );
        let optional = [
            ("memory", "Memory in use", Unit::Bytes, now.memory.map(|n| n as f64)),
            (
                "memory_limit",
                "Near this limit no more calls are taken",
                Unit::Bytes,
                now.memory_limit.map(|n| n as f64),
            ),
            (
                "clock_ahead",
                "By how much this machine's clock is ahead of LiveKit's",
                Unit::Seconds,
                now.clock_ahead,
            ),
        ];
        for (name, help, unit, value) in optional {
            if let Some(value) = value {
                own.register_with_unit(name, help, unit, number(value));
            }
        }
        if let Some(files) = now.open_files {
            own.register("open_files", "File descriptors in use", number(files as f64));
        }
        all
    }
}
