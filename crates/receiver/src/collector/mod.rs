//! The collector: takes what LiveKit's agents upload if `LIVEKIT_OBSERVABILITY_URL` names this receiver.
//!
//! An agent waits for the answers before it leaves its room, so they come soon, and they are errors only where sending
//! again helps. What was answered 200 is on disk. Nothing here is needed for records of calls.
//!
//! | file | its one idea |
//! |---|---|
//! | `mod.rs` | the four addresses, and their deadlines |
//! | `shared` | what all uploads share: keys, places |
//! | `token` | who may upload |
//! | `answer` | answers that agents understand |
//! | `wire`, `otlp`, `otlp_json` | reading OTLP within bounds |
//! | `batch` | a batch, taken apart by jobs; redaction |
//! | `spans`, `logs` | from a span or a log record to facts |
//! | `facts` | what is read from uploads |
//! | `upload` | the recording at the end of a session |
//! | `files`, `folder`, `bucket` | where recordings are |
//! | `jobs` | uploads in the database, each once |
//! | `join` | which call a job belongs to |
//! | `clearing` | what goes with deleted calls, and with age |
//! | `session` | all that is known of the jobs of a call |
//! | `turns` | what each answer of the agent waited for |
//! | `clock` | how far the agent's clock is from ours |
//! | `serve` | `GET /api/calls/{id}/uploads` and the sound |
//! | `schema` | the schema of that |

mod answer;
mod batch;
#[cfg(feature = "s3")]
mod bucket;
pub(crate) mod clearing;
mod clock;
pub(crate) mod facts;
pub(crate) mod files;
mod folder;
mod jobs;
pub(crate) mod join;
mod logs;
mod otlp;
mod otlp_json;
pub(crate) mod schema;
pub(crate) mod serve;
pub(crate) mod session;
pub(crate) mod shared;
mod spans;
pub(crate) mod token;
pub(crate) mod turns;
pub(crate) mod upload;
mod wire;

use std::{collections::BTreeSet, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, header},
    response::{IntoResponse, Response},
};
use tokio::time::timeout;

use self::{
    batch::{Batch, Signal},
    jobs::{Kept, Upload},
    upload::{Failed, To},
};
pub use self::{files::Recordings, token::Key};
use crate::{answer::Refused, app::App, body};

/// Bytes of a batch after decompression: agents refuse to send larger ones.
const MOST_BATCH: usize = 64 * 1024 * 1024;
/// JSON becomes larger when it is read. Node sends a hundred log records at most.
const MOST_JSON: usize = 16 * 1024 * 1024;
/// An agent gives up a batch after ten seconds.
const BATCH_WITHIN: Duration = Duration::from_secs(9);
/// A recording may be large and the way narrow; an agent's room stays open meanwhile.
const RECORDING_WITHIN: Duration = Duration::from_secs(5 * 60);

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Batch(Signal),
    Recording,
    /// Of an agent newer than this receiver.
    Unknown,
}

impl Kind {
    /// Under any base, and with slashes that are doubled: agents append to what they were given.
    fn of(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        let at = parts.iter().rposition(|part| *part == "observability")?;
        Some(match &parts[at + 1..] {
            ["traces", "otlp", "v0"] => Self::Batch(Signal::Traces),
            ["logs", "otlp", "v0"] => Self::Batch(Signal::Logs),
            ["metrics", "otlp", "v0"] => Self::Batch(Signal::Metrics),
            ["recordings", "v0"] => Self::Recording,
            _ => Self::Unknown,
        })
    }
}

/// Everything that is posted where there is no other route.
pub(crate) async fn post(State(app): State<App>, request: Request) -> Response {
    let kind = (request.method() == Method::POST).then(|| Kind::of(request.uri().path())).flatten();
    let Some(kind) = kind else { return Refused::not_found("no such path").into_response() };
    let mut response = take(&app, kind, request).await;
    // Each job would keep several connections for its whole call, and the port has only so many.
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

async fn take(app: &App, kind: Kind, request: Request) -> Response {
    let collector = app.collector();
    if !collector.is_on() {
        return answer::disabled();
    }
    let (parts, body) = request.into_parts();
    if let Err(why) = token::check(&parts.headers, &collector.keys) {
        if let Some(times) = collector.refused.due() {
            tracing::warn!(why, times, "an upload of an agent was refused");
        }
        return answer::unauthorized(why);
    }
    let (within, later): (_, fn() -> Response) = match kind {
        Kind::Recording => (RECORDING_WITHIN, answer::recording_later),
        _ => (BATCH_WITHIN, answer::batch_later),
    };
    let Some(_place) = collector.place().await else { return later() };
    let work = async {
        match kind {
            Kind::Batch(signal) => batch(app, signal, &parts.headers, body).await,
            Kind::Recording => recording(app, &parts.headers, body).await,
            Kind::Unknown => Ok(Kept::Before),
        }
    };
    match timeout(within, work).await {
        Ok(Ok(kept)) => {
            let what = match kind {
                Kind::Batch(signal) => signal.as_str(),
                Kind::Recording => "recording",
                Kind::Unknown => "unknown",
            };
            tracing::debug!(what, kept = ?kept, "upload of an agent received");
            answer::done()
        }
        // Sent again it would be no better, and an error would only hold up the agent.
        Ok(Err(Failed::Unreadable(why))) => {
            if let Some(times) = collector.unreadable.due() {
                tracing::warn!(why, times, "an upload of an agent cannot be read and is not kept");
            }
            answer::done()
        }
        Ok(Err(e)) => {
            if let Some(times) = collector.failed.due() {
                tracing::error!(error = %e, times, "an upload of an agent cannot be kept now");
            }
            later()
        }
        Err(_) => {
            if let Some(times) = collector.failed.due() {
                let error = "it took too long";
                tracing::error!(error, times, "an upload of an agent cannot be kept now");
            }
            later()
        }
    }
}

async fn recording(app: &App, headers: &HeaderMap, body: axum::body::Body) -> Result<Kept, Failed> {
    let to = To {
        store: app.store(),
        files: app.files(),
        received_at: app.now(),
        most: app.collector().max_recording,
    };
    let kept = upload::keep(to, headers, body).await?;
    if kept == Kept::Now {
        tracing::info!("recording of an agent received");
    }
    Ok(kept)
}

async fn batch(
    app: &App,
    signal: Signal,
    headers: &HeaderMap,
    body: axum::body::Body,
) -> Result<Kept, Failed> {
    let received_at = app.now();
    let is_json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|kind| kind.to_ascii_lowercase().starts_with("application/json"));
    let most = if is_json { MOST_JSON } else { MOST_BATCH };
    let received = body::receive(headers, body, most).await.map_err(|refused| {
        match refused.status.as_u16() {
            413 => Failed::Unreadable("too large"),
            408 => Failed::BrokeOff,
            _ => Failed::Unreadable("neither plain nor gzip"),
        }
    })?;
    let sha256 = jobs::digest(&received.bytes);
    let mut batch = if is_json {
        if signal != Signal::Logs {
            return Err(Failed::Unreadable("JSON other than log records"));
        }
        let read = body::work_on(received.bytes, |json| Batch::Json(Box::new(json))).await;
        read.map_err(|_| Failed::Unreadable("no JSON object"))?
    } else {
        Batch::protobuf(signal, received.bytes).ok_or(Failed::Unreadable("no protobuf"))?
    };

    let (jobs, batch) = blocking(move || (batch.jobs(), batch)).await?;
    let mut redacted = jobs::redacted(app.store(), jobs.keys()).await?;
    redacted.extend(jobs.iter().filter(|(_, redacted)| **redacted).map(|(ids, _)| ids.clone()));
    let jobs: BTreeSet<_> = jobs.into_keys().collect();
    let parts = blocking(move || {
        let mut batch = batch;
        batch.parts(&jobs, &redacted)
    })
    .await?;
    let kind = signal.as_str();
    let upload = |(ids, part)| Upload { ids, kind, part, sha256: sha256.clone() };
    let uploads = parts.into_iter().map(upload).collect();
    Ok(jobs::keep(app.store(), uploads, None, received_at).await?)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failed> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Failed::Unreadable("it breaks the reader"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_append_to_any_base() {
        for base in ["", "/", "/base", "/a/b/", "/observability", "//"] {
            let at = |path: &str| Kind::of(&format!("{base}/observability/{path}"));
            assert_eq!(at("traces/otlp/v0"), Some(Kind::Batch(Signal::Traces)));
            assert_eq!(at("logs/otlp/v0"), Some(Kind::Batch(Signal::Logs)));
            assert_eq!(at("/metrics/otlp/v0"), Some(Kind::Batch(Signal::Metrics)));
            assert_eq!(at("recordings/v0"), Some(Kind::Recording));
            assert_eq!(at("profiles/otlp/v1"), Some(Kind::Unknown));
        }
        assert_eq!(Kind::of("/api/calls"), None);
        assert_eq!(Kind::of("/"), None);
    }
}
