use std::time::{Duration, UNIX_EPOCH};

use axum::{Router, body::Bytes, http::HeaderMap, routing::post};
use delivery::Attempted;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::any_value::Value,
    trace::v1::{Span, status::StatusCode},
};
use prost::Message;
use tokio::{net::TcpListener, sync::mpsc, time::timeout};

use super::{exporter, follow, spans};

const ID: &str = "ac329949-ee7c-5bfc-a27b-8c5f9e4ec98c";

fn record() -> serde_json::Value {
    serde_json::json!({
        "call_id": ID, "phone_number": "+15551234567", "room_name": "call-+15551234567-x",
        "call_type": "inbound", "start_time": "2026-11-23T07:24:20.500Z",
        "end_time": "2026-11-23T07:25:00.000Z", "duration_seconds": 39.5, "status": "completed",
        "termination_reason": "said goodbye to +15551234567",
        "agent_config": {
            "stt_config_key": null, "llm_config_key": null, "tts_config_key": null,
            "business_type": null, "language": null
        },
        "metrics": {
            "total_user_utterances": 3, "total_agent_utterances": 4, "longest_user_utterance": 5,
            "longest_agent_utterance": 6, "average_user_response_time": 1.25,
            "average_agent_response_time": 0.75, "silence_count": 1, "interruption_count": 2
        },
        "outcomes": {
            "completion_rate": 0.0, "fields_collected": [], "final_stage": null,
            "successful": null, "notes": "the caller said: pineapple"
        },
        "stage_timeline": []
    })
}

fn attempted(record: &[u8], number: u32, status: Option<u16>) -> Attempted<'_> {
    let began = UNIX_EPOCH + Duration::from_millis(1_795_418_701_000);
    Attempted {
        record,
        number,
        began,
        ended: began + Duration::from_millis(40),
        delivered: status == Some(200),
        status,
        error: (status != Some(200)).then_some("answered 503"),
    }
}

/// A collector that takes traces, and the requests that it took.
async fn collector() -> (String, mpsc::UnboundedReceiver<ExportTraceServiceRequest>) {
    let (taken, requests) = mpsc::unbounded_channel();
    let take = move |headers: HeaderMap, body: Bytes| async move {
        assert_eq!(headers["content-type"], "application/x-protobuf");
        taken.send(ExportTraceServiceRequest::decode(body).unwrap()).unwrap();
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let app = Router::new().route("/v1/traces", post(take));
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    (url, requests)
}

fn all(requests: &[ExportTraceServiceRequest]) -> Vec<&Span> {
    let scopes = requests.iter().flat_map(|r| &r.resource_spans).flat_map(|r| &r.scope_spans);
    scopes.flat_map(|s| &s.spans).collect()
}

fn value<'a>(span: &'a Span, key: &str) -> Option<&'a Value> {
    let of = span.attributes.iter().find(|a| a.key == key)?;
    of.value.as_ref()?.value.as_ref()
}

#[tokio::test]
async fn a_collector_gets_a_span_of_the_call_and_one_of_each_attempt() {
    let (url, mut taken) = collector().await;
    let exporter = exporter(SpanExporter::builder().with_http().with_endpoint(url)).unwrap();
    let (follow, sending) = follow(exporter);
    let body = serde_json::to_vec(&record()).unwrap();
    follow(&attempted(&body, 1, None));
    follow(&attempted(&body, 2, Some(503)));
    follow(&attempted(&body, 3, Some(200)));
    drop(follow);
    timeout(Duration::from_secs(60), sending).await.unwrap().unwrap();
    taken.close();
    let mut requests = vec![];
    while let Some(request) = taken.recv().await {
        requests.push(request);
    }
    let service = &requests[0].resource_spans[0].resource.as_ref().unwrap().attributes;
    assert!(service.iter().any(|a| a.key == "service.name"), "{service:?}");

    let spans = all(&requests);
    let [call, first, second, third] = spans[..] else { panic!("{} spans", spans.len()) };
    let id = uuid::Uuid::parse_str(ID).unwrap();
    assert!(spans.iter().all(|s| s.trace_id == id.as_bytes()));
    assert_eq!((&*call.name, &call.parent_span_id[..]), ("call", &[][..]));
    assert_eq!(call.start_time_unix_nano, 1_795_418_660_500_000_000);
    assert_eq!(call.end_time_unix_nano, 1_795_418_700_000_000_000);
    assert_eq!(value(call, "call_history.user_utterances"), Some(&Value::IntValue(3)));
    assert_eq!(
        value(call, "call_history.average_agent_response_time"),
        Some(&Value::DoubleValue(0.75))
    );
    let status = Value::StringValue("completed".into());
    assert_eq!(value(call, "call_history.status"), Some(&status));
    for (n, span) in (1..).zip([first, second, third]) {
        assert_eq!((&*span.name, &span.parent_span_id), ("deliver record", &call.span_id));
        assert_eq!(value(span, "call_history.attempt"), Some(&Value::IntValue(n)));
        assert_eq!(span.end_time_unix_nano - span.start_time_unix_nano, 40_000_000);
    }
    assert_ne!(first.span_id, second.span_id);
    let code = "http.response.status_code";
    assert_eq!(value(first, code), None);
    assert_eq!(value(second, code), Some(&Value::IntValue(503)));
    let ok = |s: &Span| s.status.as_ref().map(|s| s.code()) == Some(StatusCode::Ok);
    assert_eq!((ok(first), ok(second), ok(third)), (false, false, true));
}

#[tokio::test]
async fn a_collector_that_is_away_holds_nothing_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    drop(listener);
    let exporter = exporter(SpanExporter::builder().with_http().with_endpoint(url)).unwrap();
    let (follow, sending) = follow(exporter);
    let body = serde_json::to_vec(&record()).unwrap();
    for n in 1..20_000 {
        follow(&attempted(&body, n, None));
    }
    drop(follow);
    timeout(Duration::from_secs(60), sending).await.unwrap().unwrap();
}

#[test]
fn spans_hold_no_number_no_words_and_no_text_of_an_agent() {
    let body = serde_json::to_vec(&record()).unwrap();
    let text = format!("{:?}", spans(&attempted(&body, 1, Some(200))));
    for secret in ["5551234567", "pineapple", "goodbye"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert!(text.contains("call-+…67-x"), "{text}");
}

#[test]
fn what_is_no_record_gives_no_span() {
    assert!(spans(&attempted(b"", 1, None)).is_empty());
    assert!(spans(&attempted(b"{}", 1, None)).is_empty());
    let mut other = record();
    other["call_id"] = "order 66".into();
    assert!(spans(&attempted(&serde_json::to_vec(&other).unwrap(), 1, None)).is_empty());
    let mut odd = record();
    odd["start_time"] = "yesterday".into();
    let spans = spans(&attempted(&serde_json::to_vec(&odd).unwrap(), 1, None));
    assert_eq!(spans.len(), 1, "the attempt has times of its own");
}
