//! The body of a post, within bounds: of size, of size after decompression, of depth, of time and of memory.

use std::{io::Read, sync::LazyLock, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, StatusCode, header},
};
use flate2::read::MultiGzDecoder;
use futures_util::StreamExt;
use serde_json::Value;
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout_at},
};

use crate::answer::Refused;

/// A body must be here within this time.
const WITHIN: Duration = Duration::from_secs(60);
/// A body that is too large is read on up to so many times the limit, and thrown away: a client that is still sending
/// does not read answers, and would send it again.
const THROWN_AWAY: u64 = 8;
/// Bytes: reading a body of this size as JSON takes milliseconds.
const LARGE: usize = 256 * 1024;
/// Large bodies that are read as JSON at the same time: as values they need several times their size.
static LARGE_AT_ONCE: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(2));

/// A body as it was sent, and what is in it.
pub struct Received {
    /// As they were sent.
    pub sent: Bytes,
    /// Decompressed: what is kept.
    pub bytes: Bytes,
}

/// Reads a body of at most `most` bytes.
///
/// # Errors
/// If it is larger, does not come in time, or its encoding is not known.
pub async fn receive(headers: &HeaderMap, body: Body, most: usize) -> Result<Received, Refused> {
    let gzip = match headers.get(header::CONTENT_ENCODING).map(|value| value.to_str()) {
        None => false,
        Some(Ok(encoding)) if encoding.eq_ignore_ascii_case("identity") => false,
        Some(Ok(encoding)) if encoding.eq_ignore_ascii_case("gzip") => true,
        Some(_) => {
            return Err(Refused::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "Content-Encoding must be gzip or identity",
            ));
        }
    };
    let sent = read(body, most).await?;
    if !gzip {
        return Ok(Received { bytes: sent.clone(), sent });
    }
    let compressed = sent.clone();
    let bytes = blocking(move || decompressed(&compressed, most)).await??;
    Ok(Received { sent, bytes })
}

async fn read(body: Body, most: usize) -> Result<Bytes, Refused> {
    let until = Instant::now() + WITHIN;
    let too_large = || {
        Refused::new(StatusCode::PAYLOAD_TOO_LARGE, format!("the body has more than {most} bytes"))
    };
    let mut stream = body.into_data_stream();
    let mut all: Vec<u8> = vec![];
    let mut size = 0_u64;
    loop {
        let next = timeout_at(until, stream.next()).await;
        let Ok(next) = next else {
            let late = "the body did not come within 60 s";
            return Err(Refused::new(StatusCode::REQUEST_TIMEOUT, late));
        };
        let chunk = match next {
            None => break,
            Some(Ok(chunk)) => chunk,
            Some(Err(_)) => {
                return Err(Refused::new(StatusCode::BAD_REQUEST, "the body broke off"));
            }
        };
        size = size.saturating_add(chunk.len() as u64);
        if size <= most as u64 {
            all.extend_from_slice(&chunk);
        } else {
            all = vec![];
            if size > (most as u64).saturating_mul(THROWN_AWAY) {
                return Err(too_large());
            }
        }
    }
    if size > most as u64 { Err(too_large()) } else { Ok(all.into()) }
}

fn decompressed(compressed: &[u8], most: usize) -> Result<Bytes, Refused> {
    let mut bytes = vec![];
    let limit = (most as u64).saturating_add(1);
    match MultiGzDecoder::new(compressed).take(limit).read_to_end(&mut bytes) {
        Err(_) => Err(Refused::new(StatusCode::BAD_REQUEST, "the body is not gzip")),
        Ok(_) if bytes.len() > most => Err(Refused::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {most} bytes after decompression"),
        )),
        Ok(_) => Ok(bytes.into()),
    }
}

/// Reads a body as a JSON object and works on it.
///
/// # Errors
/// If it is none, or nested too deeply (128 levels).
pub async fn work_on<T: Send + 'static>(
    bytes: Bytes,
    work: impl FnOnce(Value) -> T + Send + 'static,
) -> Result<T, Refused> {
    if bytes.len() < LARGE {
        return object(&bytes).map(work);
    }
    // Never closed.
    let _place = LARGE_AT_ONCE.acquire().await;
    blocking(move || object(&bytes).map(work)).await?
}

fn object(bytes: &[u8]) -> Result<Value, Refused> {
    match serde_json::from_slice::<Value>(bytes) {
        Ok(value) if value.is_object() => Ok(value),
        Ok(_) => Err(Refused::new(StatusCode::BAD_REQUEST, "the body must be a JSON object")),
        // Its text names the place, and no value.
        Err(e) => Err(Refused::new(
            StatusCode::BAD_REQUEST,
            format!("the body is not JSON: line {}, column {}: {}", e.line(), e.column(), why(&e)),
        )),
    }
}

fn why(e: &serde_json::Error) -> &'static str {
    match e.classify() {
        serde_json::error::Category::Eof => "it ends too early",
        _ if e.to_string().starts_with("recursion limit") => "it is nested too deeply",
        _ => "a mistake there",
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refused> {
    tokio::task::spawn_blocking(work).await.map_err(|e| {
        tracing::error!(error = %e, "a body could not be worked on");
        Refused::new(StatusCode::INTERNAL_SERVER_ERROR, "an error of the receiver")
    })
}
