//! One attempt at one record: reads, signs, posts and files it.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use flate2::{Compression, write::GzEncoder};
use parking_lot::Mutex;
use record::{Claims, Moment};
use reqwest::{
    Response, StatusCode, Url,
    header::{self, HeaderMap},
};
use secrecy::{ExposeSecret, SecretString};
use store::{
    backlog::BacklogGauge,
    disk::DiskWork,
    outbox::{Attempts, Folder, Outbox, OutboxError},
};

use super::{
    body,
    retry::{self, Verdict},
    unsealed::Unsealed,
};

/// Bytes: compressing or cutting a body of this size takes milliseconds.
const LARGE: usize = 64 * 1024;

/// Reads a clock.
pub type Now = Arc<dyn Fn() -> Moment + Send + Sync>;

/// Adds to an error what an operator can do about it.
pub type Explain = Arc<dyn Fn(String) -> String + Send + Sync>;

/// One attempt, for those who follow what becomes of a record.
pub struct Attempted<'a> {
    /// The record as JSON, before it is compressed.
    pub record: &'a [u8],
    /// From 1 on.
    pub number: u32,
    pub began: SystemTime,
    pub ended: SystemTime,
    /// The endpoint has the record now.
    pub delivered: bool,
    /// The status of the answer; `None`: there was no answer.
    pub status: Option<u16>,
    /// Why the endpoint does not have the record, for people.
    pub error: Option<&'a str>,
}

/// Is called after each attempt, and must not block.
pub type Follow = Arc<dyn Fn(&Attempted<'_>) + Send + Sync>;

/// Where and how records are posted.
#[derive(Clone)]
pub struct Target {
    pub client: reqwest::Client,
    pub endpoint: Url,
    /// Signs requests.
    pub jwt_secret: Option<SecretString>,
    /// Headers of the operator, such as an API key.
    pub headers: HeaderMap,
    /// Bytes of the largest body that the endpoint takes.
    pub max_body: Option<usize>,
    /// Bodies are sent compressed from this size on.
    pub gzip_from: Option<usize>,
    /// For how long delivered records are kept.
    pub keep_sent: Duration,
    /// The endpoint as it may be logged: paths and user names are secrets too.
    pub shown: String,
    /// The clock for signatures, and for the times of attempts.
    pub now: Now,
    /// Adds to an error what it may come from, such as a lack of file descriptors or a proxy, and what to do.
    pub explain: Explain,
    pub follow: Option<Follow>,
}

/// The result of an attempt.
pub(super) enum Attempt {
    Delivered {
        status: u16,
        /// Since the call ended.
        after: Option<Duration>,
    },
    Refused {
        status: u16,
    },
    Failed(Failed),
    /// Answered 409, where the receiver may still be working on the record.
    AskAgain,
    /// The record could not be read; `None`: the disk did not answer, which is reported elsewhere.
    Unreadable {
        why: Option<String>,
    },
    /// Not taken for 72 h.
    GivenUp(Failed),
    /// The record's file is gone: the operator has moved it, or it was sent after it was listed.
    Gone,
}

impl Attempt {
    /// Whether the endpoint has the record now, and its answer's status.
    fn answer(&self) -> (bool, Option<u16>) {
        match self {
            Self::Delivered { status, .. } => (true, Some(*status)),
            Self::Refused { status } => (false, Some(*status)),
            Self::AskAgain => (false, Some(StatusCode::CONFLICT.as_u16())),
            Self::Failed(failed) | Self::GivenUp(failed) => {
                (false, failed.status.map(|s| s.as_u16()))
            }
            Self::Unreadable { .. } | Self::Gone => (false, None),
        }
    }

    /// Why the endpoint does not have the record, if that is known.
    fn error(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Delivered { .. } | Self::Gone => None,
            Self::Failed(failed) | Self::GivenUp(failed) => Some(Cow::Borrowed(&failed.why)),
            Self::Unreadable { why } => why.as_deref().map(Cow::Borrowed),
            Self::Refused { .. } | Self::AskAgain => {
                self.answer().1.map(|status| Cow::Owned(format!("answered {status}")))
            }
        }
    }
}

/// Why the record was not taken this time.
pub(super) struct Failed {
    pub(super) why: String,
    /// `None`: there was no answer.
    status: Option<StatusCode>,
    /// The wait that the endpoint asked for (`Retry-After`).
    pub(super) asked: Option<Duration>,
    /// Seconds by which the time in our token was ahead of the endpoint's clock, if the token may have
    /// been refused because of it.
    pub(super) clock_ahead_s: Option<i64>,
}

/// All that one attempt needs.
pub(super) struct Poster {
    pub(super) outbox: Outbox,
    pub(super) unsealed: Unsealed,
    pub(super) gauge: BacklogGauge,
    pub(super) target: Target,
    pub(super) disk: DiskWork,
    /// Records that this run has tried and that wait for another attempt.
    tried: Mutex<HashMap<String, Tried>>,
    /// Ids of records whose file is being read: a file that never answers blocks one thread, not all.
    reading: Arc<Mutex<HashSet<String>>>,
    /// Seconds by which the endpoint's clock is ahead of ours, as learned from refused tokens.
    endpoint_ahead: AtomicI64,
}

/// Held while a record's file is read, however long that takes.
struct Reading {
    id: String,
    all: Arc<Mutex<HashSet<String>>>,
}

impl Reading {
    /// `None` if the record is being read already.
    fn of(id: &str, all: &Arc<Mutex<HashSet<String>>>) -> Option<Self> {
        let new = all.lock().insert(id.to_owned());
        new.then(|| Self { id: id.to_owned(), all: all.clone() })
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.all.lock().remove(&self.id);
    }
}

/// A record that this run has tried.
#[derive(Clone, Copy)]
struct Tried {
    /// When this run tried it first.
    first: Instant,
    /// An earlier run has tried it too, or may have.
    before: bool,
    /// After the last attempt the receiver may still be working on it. Kept here too: the note on disk may
    /// have failed.
    unclear: bool,
}

/// Tokens are valid for minutes: if clocks differ by this much, a token may be refused because of it.
const CLOCK_OFF: Duration = Duration::from_secs(60);

impl Poster {
    pub(super) fn new(
        outbox: Outbox,
        unsealed: Unsealed,
        gauge: BacklogGauge,
        target: Target,
        disk: DiskWork,
    ) -> Self {
        Self {
            outbox,
            unsealed,
            gauge,
            target,
            disk,
            tried: Mutex::default(),
            reading: Arc::default(),
            endpoint_ahead: AtomicI64::new(0),
        }
    }

    /// Makes one attempt, and files or keeps the record accordingly. Also returns the number of attempts
    /// so far. `ours`: the record is of this run.
    pub(super) async fn attempt(&self, id: &str, ours: bool) -> (u32, Attempt) {
        let tried = self.tried.lock().get(id).copied();
        let (mut attempts, attempt) = self.once(id, tried, ours).await;
        if let Attempt::Unreadable { .. } = attempt {
            return (attempts.count, attempt);
        }
        let unclear = matches!(&attempt, Attempt::Failed(f) if retry::is_unclear(f.status));
        let tried = tried.unwrap_or_else(|| Tried {
            first: Instant::now(),
            before: !ours || attempts.count > 0,
            unclear,
        });
        let tried = Tried { unclear, ..tried };
        let now = self.now();
        attempts.count = attempts.count.saturating_add(1);
        if attempts.count == 1 || !retry::is_plausible(attempts.first_at, now) {
            attempts.first_at = now;
        }
        attempts.last_at = now;
        let in_run = (!tried.before).then(|| tried.first.elapsed());
        let given_up = retry::is_given_up(attempts.first_at, now, attempts.count, in_run);
        let count = attempts.count;
        attempts.unclear = unclear;
        let attempt = match attempt {
            Attempt::Failed(failed) if given_up => Attempt::GivenUp(failed),
            attempt => attempt,
        };
        if let Some(error) = attempt.error() {
            attempts.last_error = error.into_owned();
        }
        match &attempt {
            Attempt::Delivered { .. } => self.file(id, None).await,
            Attempt::Refused { .. } | Attempt::GivenUp(_) => self.file(id, Some(attempts)).await,
            Attempt::AskAgain | Attempt::Failed(_) => self.record_attempts(id, attempts).await,
            Attempt::Unreadable { .. } | Attempt::Gone => {}
        }
        let mut all = self.tried.lock();
        if matches!(attempt, Attempt::Failed(_) | Attempt::AskAgain) {
            all.insert(id.to_owned(), tried);
        } else {
            all.remove(id);
        }
        (count, attempt)
    }

    /// The operator wants all records to be tried anew: the time until they are given up begins again.
    pub(super) fn forget_attempts(&self) {
        self.tried.lock().clear();
    }

    /// Unix seconds.
    fn now(&self) -> i64 {
        (self.target.now)().millis().div_euclid(1_000)
    }

    /// Makes one attempt, and also returns the earlier attempts. `tried`: what this run knows of them.
    async fn once(&self, id: &str, tried: Option<Tried>, ours: bool) -> (Attempts, Attempt) {
        let (attempts, body) = match self.unsealed.get(id) {
            Some((body, attempts)) => (attempts, body.to_vec()),
            None => match self.read(id).await {
                Ok(read) => read,
                Err(unread) => return unread,
            },
        };
        // The last attempt of a run that was stopped or killed was not recorded, and it may have reached the
        // receiver.
        let doubtful = tried.map_or(attempts.unclear || !ours, |t| t.unclear);
        let body = self.fitting(id, body.into()).await;
        let began = SystemTime::now();
        let mut attempt = self.post(id, body.clone()).await;
        // The numbers are worth more than the transcript.
        if let Attempt::Refused { status: 413 } = attempt
            && let Some(small) = work_on(&body, body::without_bulk).await
            && small.len() < body.len()
        {
            tracing::warn!(
                call_id = id,
                bytes = body.len(),
                reduced_to = small.len(),
                "answered 413, the record is too large: sent once more without transcript and \
                 timeline; see CALL_HISTORY_MAX_BODY_KB"
            );
            attempt = self.post(id, small.into()).await;
        }
        let attempt = match attempt {
            Attempt::Delivered { status: 409, .. } if doubtful => Attempt::AskAgain,
            Attempt::Delivered { status, .. } => {
                Attempt::Delivered { status, after: self.since_end(&body) }
            }
            attempt => attempt,
        };
        if let Some(follow) = &self.target.follow {
            let number = attempts.count.saturating_add(1);
            let (delivered, status) = attempt.answer();
            let (ended, error) = (SystemTime::now(), attempt.error());
            let error = error.as_deref();
            follow(&Attempted { record: &body, number, began, ended, delivered, status, error });
        }
        (attempts, attempt)
    }

    /// How long ago the call of a record ended, by our clock.
    fn since_end(&self, body: &[u8]) -> Option<Duration> {
        #[derive(serde::Deserialize)]
        struct End {
            end_time: String,
        }
        let end = serde_json::from_slice::<End>(body).ok()?.end_time;
        let ms = (self.target.now)().since(Moment::parse_rfc3339(&end)?);
        Some(Duration::from_millis(ms.try_into().unwrap_or_default()))
    }

    /// Reads the record and its attempts from the disk.
    async fn read(&self, id: &str) -> Result<(Attempts, Vec<u8>), (Attempts, Attempt)> {
        let unreadable = |why: Option<String>| (Attempts::default(), Attempt::Unreadable { why });
        let Some(reading) = Reading::of(id, &self.reading) else { return Err(unreadable(None)) };
        let outbox = self.outbox.clone();
        let read = self.disk.read(move || {
            let attempts = outbox.attempts(Folder::Pending, &reading.id);
            (attempts, outbox.body(Folder::Pending, &reading.id))
        });
        let Some((attempts, body)) = read.await else { return Err(unreadable(None)) };
        match body {
            Ok(body) => Ok((attempts, body)),
            Err(e) if e.is_gone() => Err((attempts, Attempt::Gone)),
            Err(e) => Err((attempts, Attempt::Unreadable { why: Some(e.to_string()) })),
        }
    }

    /// The record with at most the bytes that the endpoint takes, as they are sent.
    async fn fitting(&self, id: &str, body: Arc<[u8]>) -> Arc<[u8]> {
        let Some(most) = self.target.max_body.filter(|most| body.len() > *most) else {
            return body;
        };
        let zips = self.target.gzip_from.is_some_and(|from| body.len() >= from);
        let cut = work_on(&body, move |body| {
            let fits = zips && gzipped(body).len() <= most;
            if fits { None } else { body::fitting(body, most) }
        });
        let Some(cut) = cut.await else { return body };
        tracing::info!(
            call_id = id,
            bytes = body.len(),
            reduced_to = cut.len(),
            "longer than CALL_HISTORY_MAX_BODY_KB: parts of its details are not sent"
        );
        cut.into()
    }

    async fn post(&self, id: &str, record: Arc<[u8]>) -> Attempt {
        let t = &self.target;
        let failed =
            |why| Attempt::Failed(Failed { why, status: None, asked: None, clock_ahead_s: None });
        // The signature covers the bytes that are sent.
        let (body, encoding) = match t.gzip_from {
            Some(from) if record.len() >= from => (work_on(&record, gzipped).await, Some("gzip")),
            _ => (record.to_vec(), None),
        };
        let mut request = (t.client.post(t.endpoint.clone()))
            .headers(t.headers.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", id);
        if let Some(encoding) = encoding {
            request = request.header(header::CONTENT_ENCODING, encoding);
        }
        if let Some(secret) = &t.jwt_secret {
            match Claims::of(id, &record, &body, self.token_time()).sign(secret.expose_secret()) {
                Ok(token) => request = request.bearer_auth(token),
                Err(e) => return failed(e.to_string()),
            }
        }
        match request.body(body).send().await {
            Ok(answer) => self.answer(&answer),
            Err(e) => failed((t.explain)(causes(&e))),
        }
    }

    fn answer(&self, answer: &Response) -> Attempt {
        let status = answer.status();
        match retry::verdict(status) {
            Verdict::Delivered => Attempt::Delivered { status: status.as_u16(), after: None },
            Verdict::Refused => Attempt::Refused { status: status.as_u16() },
            Verdict::Retry => {
                let header = |name| answer.headers().get(name).and_then(|v| v.to_str().ok());
                let date = header(header::DATE).and_then(|d| httpdate::parse_http_date(d).ok());
                let asked = header(header::RETRY_AFTER).and_then(|v| {
                    // A date in `Retry-After` is by the endpoint's clock.
                    retry::retry_after(v, date.unwrap_or_else(SystemTime::now))
                });
                let unauthorized = status == StatusCode::UNAUTHORIZED;
                let clock_ahead_s = date.filter(|_| unauthorized).and_then(|d| self.learn(d));
                let mut why = format!("answered {}", status.as_u16());
                if status.is_redirection()
                    && let Some(to) = header(header::LOCATION)
                {
                    why = format!("{why}: {}", redirected(&self.target.endpoint, to));
                }
                let why = (self.target.explain)(why);
                Attempt::Failed(Failed { why, status: Some(status), asked, clock_ahead_s })
            }
        }
    }

    /// Unix seconds, by the endpoint's clock as far as it is known: that clock decides whether a token is
    /// valid.
    fn token_time(&self) -> i64 {
        self.now().saturating_add(self.endpoint_ahead.load(Ordering::Relaxed))
    }

    /// The endpoint refused a token: learns the endpoint's time, for the next token. Returns the seconds
    /// by which the refused token was ahead, if that may be the reason.
    fn learn(&self, theirs: SystemTime) -> Option<i64> {
        let theirs = theirs.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let theirs = i64::try_from(theirs.as_secs()).unwrap_or(i64::MAX);
        let ahead = self.token_time() - theirs;
        let off = ahead.unsigned_abs() >= CLOCK_OFF.as_secs();
        off.then(|| {
            self.endpoint_ahead.store(theirs - self.now(), Ordering::Relaxed);
            ahead
        })
    }

    /// Writes the attempts at a record.
    async fn record_attempts(&self, id: &str, attempts: Attempts) {
        if self.unsealed.record_attempts(id, &attempts) {
            return;
        }
        let (outbox, name) = (self.outbox.clone(), id.to_owned());
        // A failure does not stop further attempts.
        self.disk.write(move || outbox.record_attempts(&name, &attempts)).await;
    }

    /// Files a settled record: as sent, or as dead with the attempts in `refused`.
    async fn file(&self, id: &str, refused: Option<Attempts>) {
        if self.unsealed.settle(id, refused.as_ref()) {
            return;
        }
        let (outbox, gauge, name) = (self.outbox.clone(), self.gauge.clone(), id.to_owned());
        let file = move || {
            let size = outbox.about(Folder::Pending, &name).map_or(0, |(_, size)| size);
            match refused {
                None => outbox.sent(&name)?,
                Some(attempts) => {
                    outbox.dead(&name, &attempts)?;
                    gauge.refused();
                }
            }
            gauge.less(size);
            Ok::<(), OutboxError>(())
        };
        if let Some(Err(e)) = self.disk.write(file).await {
            tracing::warn!(call_id = id, error = %e, "record not filed; it may be sent again");
        }
    }
}

/// Works on a body, on a thread for blocking work if that takes milliseconds.
async fn work_on<T: Send + 'static>(
    body: &Arc<[u8]>,
    work: impl FnOnce(&[u8]) -> T + Send + 'static,
) -> T {
    if body.len() < LARGE {
        return work(body);
    }
    let body = body.clone();
    match tokio::task::spawn_blocking(move || work(&body)).await {
        Ok(done) => done,
        Err(e) => match e.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The process ends, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}

fn gzipped(body: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    let _ = gzip.write_all(body);
    gzip.finish().unwrap_or_default()
}

/// Where a redirect points, as far as it may be logged: without query and without secrets of the endpoint's
/// own path.
fn redirected(endpoint: &Url, location: &str) -> String {
    let Ok(to) = endpoint.join(location) else {
        return "a redirect to no URL".into();
    };
    if let Some(small) = small_difference(endpoint, &to) {
        return small.into();
    }
    let secret: HashSet<&str> = endpoint.path_segments().into_iter().flatten().collect();
    let shown = |segment: &str| {
        if !segment.is_empty() && secret.contains(segment) {
            "…".to_owned()
        } else {
            segment.into()
        }
    };
    let path: Vec<String> = to.path_segments().into_iter().flatten().map(shown).collect();
    let port = to.port().map(|p| format!(":{p}")).unwrap_or_default();
    format!(
        "it redirects to {}://{}{port}/{}; redirects are not followed, set CALL_HISTORY_ENDPOINT to \
         where it points",
        to.scheme(),
        to.host_str().unwrap_or_default(),
        path.join("/")
    )
}

/// What differs between the endpoint and where it redirects, where that can be said without the path.
fn small_difference(endpoint: &Url, to: &Url) -> Option<&'static str> {
    let with_path = |path: &str| {
        let mut other = endpoint.clone();
        other.set_path(path);
        other == *to
    };
    if endpoint == to {
        return Some("it redirects to the very address that was asked: the endpoint is at fault");
    }
    if with_path(&format!("{}/", endpoint.path())) {
        return Some(
            "it redirects to the same address with a slash at its end: add it to CALL_HISTORY_ENDPOINT",
        );
    }
    if with_path(endpoint.path().trim_end_matches('/')) {
        return Some(
            "it redirects to the same address without the slash at its end: remove it from CALL_HISTORY_ENDPOINT",
        );
    }
    let mut secure = endpoint.clone();
    let _ = secure.set_scheme("https");
    (secure == *to && endpoint.scheme() == "http")
        .then_some("it redirects to https: let CALL_HISTORY_ENDPOINT begin with https://")
}

/// An error with its causes, without the URL: it may hold a password.
pub(super) fn causes(e: &reqwest::Error) -> String {
    let mut text = if e.is_timeout() { "timed out" } else { "could not be sent" }.to_owned();
    let mut source = std::error::Error::source(e);
    while let Some(s) = source {
        text.push_str(": ");
        text.push_str(&s.to_string());
        source = s.source();
    }
    text
}
