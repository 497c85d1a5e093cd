//! Answers that agents understand.
//!
//! An agent waits for them before it leaves. With any other error it throws away what it wanted to upload.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use prost::Message;

/// Seconds until an agent is to send a recording again. It comes four times in all.
const RETRY_RECORDING: i64 = 5;
/// The same for batches, which an agent sends again for ten seconds in all.
const RETRY_BATCH: HeaderValue = HeaderValue::from_static("2");

/// It is on disk, or not wanted. An empty body is an empty message of OTLP.
pub(super) fn done() -> Response {
    StatusCode::OK.into_response()
}

/// The switch of agents: the job uploads nothing more.
pub(super) fn disabled() -> Response {
    (StatusCode::UNAUTHORIZED, "data recording is disabled").into_response()
}

pub(super) fn unauthorized(why: &'static str) -> Response {
    (StatusCode::UNAUTHORIZED, why).into_response()
}

pub(super) fn batch_later() -> Response {
    let headers = [(header::RETRY_AFTER, RETRY_BATCH)];
    (StatusCode::SERVICE_UNAVAILABLE, headers, "the batch cannot be kept now").into_response()
}

/// Only with a delay in its body does an agent send a recording again.
pub(super) fn recording_later() -> Response {
    let delay = RetryInfo { delay: Some(Duration { seconds: RETRY_RECORDING }) };
    let status = Status {
        code: UNAVAILABLE,
        message: "the recording cannot be kept now".into(),
        details: vec![Any {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
            value: delay.encode_to_vec(),
        }],
    };
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))];
    (StatusCode::SERVICE_UNAVAILABLE, headers, status.encode_to_vec()).into_response()
}

const UNAVAILABLE: i32 = 14;

/// `google.rpc.Status`
#[derive(Clone, PartialEq, Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Duration>,
}

#[derive(Clone, PartialEq, Message)]
struct Duration {
    #[prost(int64, tag = "1")]
    seconds: i64,
}
