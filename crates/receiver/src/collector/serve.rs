//! What agents sent of a call, for readers: as JSON, and the sound.

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use record::Moment;
use serde_json::{Value as Json_, json};

use super::{
    clock::{self, Offset},
    session::{self, Job, Recording, Session},
    turns::{self, Turn},
};
use crate::{
    access::Scope, answer::Refused, app::App, call::text, calls, page::session as login,
    permission::allowed,
};

/// `GET /api/calls/{id}/uploads`
pub(crate) async fn uploads(
    State(app): State<App>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Json<Json_>, Refused> {
    allowed(&app, &headers, Scope::Read).await?;
    let id = text(&id);
    let body = calls::body(app.store(), &id).await?;
    let body = body.ok_or_else(|| Refused::not_found("no such call"))?;
    let record: Json_ = serde_json::from_slice(&body).unwrap_or_default();
    let session = session::of_call(app.store(), &id).await?;
    let sounds: Vec<Json_> = sounds(&record, &id, &session).iter().map(Sound::json).collect();
    let jobs: Vec<Json_> = session.jobs.iter().map(job).collect();
    Ok(Json(json!({"jobs": jobs, "recordings": sounds})))
}

fn job(job: &Job) -> Json_ {
    let facts = &job.facts;
    let mut spans = serde_json::Map::new();
    for span in &facts.spans {
        let n = spans.get(&span.name).and_then(Json_::as_u64).unwrap_or_default();
        spans.insert(span.name.clone(), (n + 1).into());
    }
    let named = |turn: &Turn| {
        let mut json = json!(turn);
        json["spoke_at"] = time(turn.spoke_at);
        json["spoke_until"] = time(turn.spoke_until);
        json
    };
    let tools = facts.spans.iter().filter_map(|span| {
        let tool = span.tool.as_ref()?;
        let mut json = json!(tool);
        json["at"] = time(span.from);
        json["seconds"] = json!(length(span.from, span.to));
        Some(json)
    });
    let mut json = json!({
        "room_id": job.room_id,
        "job_id": job.job_id,
        "redacted": job.redacted,
        "report": facts.report,
        "outcome": facts.outcome,
        "evaluations": facts.evaluations,
        "tags": facts.tags,
        "turns": turns::of(&facts.spans).iter().map(named).collect::<Vec<_>>(),
        "tools": tools.collect::<Vec<_>>(),
        "items": facts.items,
        "log": facts.lines,
        "spans": spans,
        "uploads": job.uploads,
    });
    // Instants are written as everywhere else in the API.
    instants(&mut json["items"], &["at", "from", "to"]);
    instants(&mut json["log"], &["at"]);
    if let Some(made_at) = facts.report.as_ref().and_then(|report| report.made_at) {
        json["report"]["made_at"] = time(made_at);
    }
    json
}

fn instants(all: &mut Json_, keys: &[&str]) {
    for json in all.as_array_mut().into_iter().flatten() {
        for key in keys {
            if let Some(at) = json.get(key).and_then(Json_::as_i64) {
                json[*key] = time(at);
            }
        }
    }
}

fn time(millis: i64) -> Json_ {
    Moment::from_millis(millis).to_rfc3339().into()
}

#[allow(clippy::cast_precision_loss)]
fn length(from: i64, to: i64) -> f64 {
    (to - from) as f64 / 1_000.0
}

/// A recording, laid beside the call.
pub(crate) struct Sound {
    pub(crate) href: String,
    pub(crate) recording: Recording,
    /// The position in the recording at which the call starts, in seconds. Below 0: the recording began later.
    pub(crate) starts: f64,
    /// `None`: the two clocks could not be compared, and count as the same.
    pub(crate) clock: Option<Offset>,
}

impl Sound {
    fn json(&self) -> Json_ {
        json!({
            "href": self.href,
            "job_id": self.recording.job_id,
            "started_at": time(self.recording.started_at),
            "bytes": self.recording.bytes,
            "content_type": self.recording.content_type,
            "call_starts_at_seconds": self.starts,
            "clock_offset_seconds": self.clock.map(|clock| length(0, clock.millis)),
            "clock_offset_moments": self.clock.map(|clock| clock.of),
        })
    }
}

/// The recordings of a call.
pub(crate) fn sounds(record: &Json_, id: &str, session: &Session) -> Vec<Sound> {
    let start = record["start_time"].as_str().and_then(Moment::parse_rfc3339).unwrap_or_default();
    let sound = |(n, recording): (usize, &Recording)| {
        let job = session.jobs.iter().find(|job| job.job_id == recording.job_id);
        let clock = job.and_then(|job| clock_of(record, job));
        let began = recording.started_at + clock.map_or(0, |clock| clock.millis);
        Sound {
            href: format!("/api/calls/{}/recordings/{n}", crate::page::links::encoded(id)),
            recording: recording.clone(),
            starts: length(began, start.millis()),
            clock,
        }
    };
    session.recordings.iter().enumerate().map(sound).collect()
}

/// How far the clock of a job's host is from ours.
pub(crate) fn clock_of(record: &Json_, job: &Job) -> Option<Offset> {
    let spoke = job.facts.spans.iter().filter(|span| span.name == "agent_speaking");
    let spoke: Vec<i64> = spoke.map(|span| span.from).collect();
    clock::offset(record, &spoke)
}

/// `GET /api/calls/{id}/recordings/{n}`: the sound, or a part of it.
///
/// The page plays it, also for readers that see no phone numbers.
pub(crate) async fn sound(
    State(app): State<App>,
    headers: HeaderMap,
    Path((id, n)): Path<(String, String)>,
) -> Result<Response, Refused> {
    if app.is_demo() || !login::opens_pages(app.store(), &headers).await? {
        allowed(&app, &headers, Scope::Read).await?;
    }
    let no_such = || Refused::not_found("no such recording");
    let recordings = session::recordings(app.store(), &text(&id)).await?;
    let n = n.parse().ok();
    let recording = n.and_then(|n: usize| recordings.into_iter().nth(n)).ok_or_else(no_such)?;
    let unreadable = |e: std::io::Error| {
        if e.kind() == std::io::ErrorKind::NotFound {
            return no_such();
        }
        tracing::error!(error = %e, "a recording cannot be read");
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, "the recording cannot be read")
    };
    let opened = app.files().open(&recording.file).await.map_err(unreadable)?;
    let size = opened.size;
    let tag = format!("\"{}\"", recording.tag);
    let (status, from, length) = match wanted(&headers, &tag, size) {
        Wanted::All => (StatusCode::OK, 0, size),
        Wanted::Part(from, to) => (StatusCode::PARTIAL_CONTENT, from, to - from + 1),
        Wanted::Nothing => {
            let range = [(header::CONTENT_RANGE, format!("bytes */{size}"))];
            return Ok((StatusCode::RANGE_NOT_SATISFIABLE, range).into_response());
        }
    };
    let body = opened.part(from, length).await.map_err(unreadable)?;
    let mut response = (status, body).into_response();
    let to = response.headers_mut();
    let mut set = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            to.insert(name, value);
        }
    };
    set(header::CONTENT_TYPE, &recording.content_type);
    set(header::CONTENT_LENGTH, &length.to_string());
    set(header::ACCEPT_RANGES, "bytes");
    set(header::ETAG, &tag);
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    if status == StatusCode::PARTIAL_CONTENT {
        set(header::CONTENT_RANGE, &format!("bytes {from}-{}/{size}", from + length - 1));
    }
    Ok(response)
}

#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    All,
    /// The first and the last byte.
    Part(u64, u64),
    /// What is asked for is not there.
    Nothing,
}

/// What a request wants (RFC 9110 §14): all of it if it wants several parts, or a part of another version.
fn wanted(headers: &HeaderMap, tag: &str, size: u64) -> Wanted {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if text(header::IF_RANGE).is_some_and(|version| version != tag) {
        return Wanted::All;
    }
    let range = text(header::RANGE).and_then(|range| range.trim().strip_prefix("bytes="));
    let Some((from, to)) = range.and_then(|range| range.trim().split_once('-')) else {
        return Wanted::All;
    };
    let digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if !digits(from) || !digits(to) || from.is_empty() && to.is_empty() {
        return Wanted::All;
    }
    // More digits than a number has: beyond the end.
    let number = |text: &str| text.parse().unwrap_or(u64::MAX);
    let (from, to) = match (from, to) {
        ("", last) => (size.saturating_sub(number(last)), if number(last) == 0 { 0 } else { size }),
        (from, "") => (number(from), size),
        (from, to) if number(to) < number(from) => return Wanted::All,
        (from, to) => (number(from), number(to).saturating_add(1).min(size)),
    };
    if from < to { Wanted::Part(from, to - 1) } else { Wanted::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_http() {
        for (range, expected) in [
            ("", Wanted::All),
            ("bytes=0-", Wanted::Part(0, 99)),
            ("bytes=0-0", Wanted::Part(0, 0)),
            ("bytes=10-19", Wanted::Part(10, 19)),
            ("bytes=90-1000", Wanted::Part(90, 99)),
            ("bytes=-10", Wanted::Part(90, 99)),
            ("bytes=-1000", Wanted::Part(0, 99)),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=100-", Wanted::Nothing),
            ("bytes=99999999999999999999999-", Wanted::Nothing),
            ("bytes=19-10", Wanted::All),
            ("bytes=0-1,5-6", Wanted::All),
            ("bytes=a-b", Wanted::All),
            ("bytes=-", Wanted::All),
            ("lines=0-1", Wanted::All),
        ] {
            let mut headers = HeaderMap::new();
            if !range.is_empty() {
                headers.insert(header::RANGE, range.parse().unwrap());
            }
            assert_eq!(wanted(&headers, "\"a\"", 100), expected, "{range}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, "bytes=1-2".parse().unwrap());
        headers.insert(header::IF_RANGE, "\"b\"".parse().unwrap());
        assert_eq!(wanted(&headers, "\"a\"", 100), Wanted::All);
        headers.insert(header::IF_RANGE, "\"a\"".parse().unwrap());
        assert_eq!(wanted(&headers, "\"a\"", 100), Wanted::Part(1, 2));
        assert_eq!(wanted(&HeaderMap::new(), "", 0), Wanted::All);
    }
}
