//! Makes spans of attempts, and sends them by OTLP over HTTP.
//!
//! A call's id is a UUID: it is also the id of its trace, so that each is found by the other. The call's span is sent
//! with the first attempt, when the record is final, and has the times of the call. Spans hold no phone numbers, no
//! spoken words, and no texts of agents.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use delivery::{Attempted, Follow};
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_otlp::{
    OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, SpanExporter, WithHttpConfig,
};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks},
};
use record::{CallHistory, Moment};
use tokio::{sync::mpsc, task::JoinHandle};
use uuid::Uuid;

use crate::{
    net,
    telemetry::{LogThrottle, masked},
};

/// Spans that wait to be sent. More are dropped: records do not wait for a collector.
const MOST_WAITING: usize = 4_096;
/// Spans of one request.
const MOST_AT_ONCE: usize = 512;
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
const SERVICE: &str = "call-history";

/// `None` if the environment names no collector, or its client cannot be set up, which is logged.
pub(super) fn start() -> Option<(Follow, JoinHandle<()>)> {
    let named = [OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT];
    if !named.iter().any(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty())) {
        return None;
    }
    match exporter(SpanExporter::builder().with_http()) {
        Ok(exporter) => {
            tracing::info!("traces will be sent");
            Some(follow(exporter))
        }
        // The error may hold the collector's URL, with a password in it.
        Err(_) => {
            tracing::error!("traces cannot be sent: see the OTEL_EXPORTER_OTLP variables");
            None
        }
    }
}

/// The exporter reads the collector's address and headers from the environment, unless `builder` has them.
fn exporter(
    builder: opentelemetry_otlp::SpanExporterBuilder<opentelemetry_otlp::HttpExporterBuilderSet>,
) -> Result<SpanExporter, String> {
    let client = net::http_client(REQUEST_WITHIN).map_err(|e| e.to_string())?;
    let mut exporter = builder.with_http_client(client).build().map_err(|e| e.to_string())?;
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(SERVICE);
    }
    exporter.set_resource(&resource.build());
    Ok(exporter)
}

fn follow(exporter: SpanExporter) -> (Follow, JoinHandle<()>) {
    let (queue, waiting) = mpsc::channel(MOST_WAITING);
    let dropped = Arc::<AtomicU64>::default();
    let count = dropped.clone();
    let follow = move |attempted: &Attempted<'_>| {
        for span in spans(attempted) {
            // Full: the collector is away or slow.
            if queue.try_send(span).is_err() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    (Arc::new(follow), tokio::spawn(send(exporter, waiting, dropped)))
}

async fn send(
    exporter: SpanExporter,
    mut waiting: mpsc::Receiver<SpanData>,
    dropped: Arc<AtomicU64>,
) {
    let mut faults = LogThrottle::default();
    let mut lost = 0;
    loop {
        let mut spans = Vec::new();
        if waiting.recv_many(&mut spans, MOST_AT_ONCE).await == 0 {
            return;
        }
        let number = spans.len() as u64;
        let Err(e) = exporter.export(spans).await else { continue };
        lost += number + dropped.swap(0, Ordering::Relaxed);
        if let Some(times) = faults.due() {
            let spans = std::mem::take(&mut lost);
            tracing::warn!(error = %e, spans, times, "traces are not taken; these spans are lost");
        }
    }
}

/// The spans of an attempt: with the first also that of the call. None for a record that is not one.
fn spans(attempted: &Attempted<'_>) -> Vec<SpanData> {
    let Ok(record) = serde_json::from_slice::<CallHistory>(attempted.record) else { return vec![] };
    let Ok(id) = Uuid::try_parse(&record.call_id) else { return vec![] };
    let [.., a, b, c, d, e, f, g, h] = *id.as_bytes();
    // A UUID's second half is never 0, which would be no id.
    let of_call = SpanId::from_bytes([a, b, c, d, e, f, g, h]);
    let trace = TraceId::from_bytes(*id.as_bytes());
    let mut out = vec![];
    if attempted.number == 1 {
        out.extend(call(&record).map(|span| SpanData {
            span_context: context(trace, of_call),
            parent_span_id: SpanId::INVALID,
            ..span
        }));
    }
    let [a, b, c, d, e, f, g, h, ..] = *Uuid::new_v4().as_bytes();
    let mut attributes = vec![KeyValue::new("call_history.attempt", i64::from(attempted.number))];
    let status = attempted.status.map(|s| KeyValue::new("http.response.status_code", i64::from(s)));
    attributes.extend(status);
    out.push(SpanData {
        span_context: context(trace, SpanId::from_bytes([a, b, c, d, e, f, g, h])),
        parent_span_id: of_call,
        span_kind: SpanKind::Client,
        status: if attempted.delivered { Status::Ok } else { Status::error("not delivered") },
        ..span("deliver record", attempted.began, attempted.ended, attributes)
    });
    out
}

/// `None` if the record's times are none.
fn call(record: &CallHistory) -> Option<SpanData> {
    let at = |time: &str| {
        let millis = u64::try_from(Moment::parse_rfc3339(time)?.millis()).ok()?;
        Some(UNIX_EPOCH + Duration::from_millis(millis))
    };
    let (began, ended) = (at(&record.start_time)?, at(&record.end_time)?);
    let metrics = &record.metrics;
    let mut attributes = vec![
        KeyValue::new("call_history.call_id", record.call_id.clone()),
        KeyValue::new("call_history.room", masked(&record.room_name)),
        KeyValue::new("call_history.call_type", as_text(&record.call_type)),
        KeyValue::new("call_history.status", as_text(&record.status)),
        KeyValue::new(
            "call_history.average_agent_response_time",
            metrics.average_agent_response_time,
        ),
        KeyValue::new(
            "call_history.average_user_response_time",
            metrics.average_user_response_time,
        ),
    ];
    let counts = [
        ("call_history.user_utterances", metrics.total_user_utterances),
        ("call_history.agent_utterances", metrics.total_agent_utterances),
        ("call_history.silences", metrics.silence_count),
        ("call_history.interruptions", metrics.interruption_count),
    ];
    attributes.extend(counts.map(|(name, n)| KeyValue::new(name, i64::from(n))));
    Some(span("call", began, ended, attributes))
}

/// A name of the record's vocabulary, as it stands in the record.
fn as_text(name: &impl serde::Serialize) -> String {
    serde_json::to_value(name).ok().and_then(|v| Some(v.as_str()?.to_owned())).unwrap_or_default()
}

fn context(trace: TraceId, span: SpanId) -> SpanContext {
    SpanContext::new(trace, span, TraceFlags::SAMPLED, false, TraceState::NONE)
}

fn span(
    name: &'static str,
    began: SystemTime,
    ended: SystemTime,
    attributes: Vec<KeyValue>,
) -> SpanData {
    SpanData {
        span_context: SpanContext::NONE,
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: name.into(),
        start_time: began,
        end_time: ended,
        attributes,
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: InstrumentationScope::builder(SERVICE)
            .with_version(env!("CARGO_PKG_VERSION"))
            .build(),
    }
}

#[cfg(test)]
mod tests;
