//! One attempt at one record: reads it, signs and posts it, and puts it where it belongs then.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use record::{Claims, Moment};
use reqwest::{Response, StatusCode, Url, header};
use secrecy::{ExposeSecret, SecretString};
use store::{
    backlog::BacklogGauge,
    disk::DiskWork,
    outbox::{Attempts, Folder, Outbox, OutboxError},
};

use super::{
    retry::{self, Verdict},
    unsealed::Unsealed,
};

/// Reads a clock.
pub type Now = Arc<dyn Fn() -> Moment + Send + Sync>;

/// Where and how records are posted.
pub struct Target {
    pub client: reqwest::Client,
    pub endpoint: Url,
    /// Signs requests.
    pub jwt_secret: Option<SecretString>,
    /// For how long delivered records are kept.
    pub keep_sent: Duration,
    /// The endpoint as it may be logged: paths and user names are secrets too.
    pub shown: String,
    /// The time now, for signatures and for what is noted.
    pub now: Now,
    /// Adds what the system lacks, such as file descriptors, to the words of a library.
    pub explain: fn(String) -> String,
}

/// How an attempt went.
pub(super) enum Attempt {
    Delivered {
        status: u16,
    },
    Refused {
        status: u16,
    },
    Failed(Failed),
    /// 409, where the receiver may still be at work on the record.
    AskAgain,
    /// The disk did not give it.
    Unreadable {
        why: String,
    },
    /// Not taken for 72 h.
    GivenUp(Failed),
    /// The record's file is not there any more: the operator took it, or it was sent since it was
    /// listed.
    Gone,
}

/// The record was not taken, this time.
pub(super) struct Failed {
    pub(super) why: String,
    /// `None`: there was no answer.
    status: Option<StatusCode>,
    /// The patience that the endpoint asked for.
    pub(super) asked: Option<Duration>,
    /// Seconds that the endpoint's clock is behind the time in our token, where that is refused.
    pub(super) clock_ahead_s: Option<i64>,
}

/// All that one attempt needs.
pub(super) struct Post {
    pub(super) outbox: Outbox,
    pub(super) unsealed: Unsealed,
    pub(super) level: BacklogGauge,
    pub(super) target: Target,
    pub(super) disk: DiskWork,
    /// When records were tried first that no earlier run has tried; of those that are held.
    first_tried: Mutex<HashMap<String, Instant>>,
}

/// Tokens live for minutes: an endpoint that refuses one may do so for its clock.
const CLOCK_OFF: Duration = Duration::from_secs(60);

impl Post {
    pub(super) fn new(
        outbox: Outbox,
        unsealed: Unsealed,
        level: BacklogGauge,
        target: Target,
        disk: DiskWork,
    ) -> Self {
        Self { outbox, unsealed, level, target, disk, first_tried: Mutex::default() }
    }

    /// One attempt, and what follows from it on the disk; with the number of attempts so far.
    pub(super) async fn attempt(&self, id: &str) -> (u32, Attempt) {
        let (mut attempts, attempt) = self.once(id).await;
        let now = self.now();
        let in_run = {
            let mut first_tried = self.first_tried.lock();
            if attempts.count == 0 {
                first_tried.entry(id.to_owned()).or_insert_with(Instant::now);
            }
            first_tried.get(id).map(Instant::elapsed)
        };
        attempts.count = attempts.count.saturating_add(1);
        if attempts.count == 1 || !retry::is_plausible(attempts.first_at, now) {
            attempts.first_at = now;
        }
        attempts.last_at = now;
        let given_up = retry::is_given_up(attempts.first_at, now, in_run);
        let count = attempts.count;
        attempts.unclear = matches!(&attempt, Attempt::Failed(f) if retry::is_unclear(f.status));
        let attempt = match attempt {
            Attempt::Failed(failed) if given_up => {
                attempts.last_error.clone_from(&failed.why);
                self.file(id, Some(attempts)).await;
                Attempt::GivenUp(failed)
            }
            Attempt::Delivered { .. } => {
                self.file(id, None).await;
                attempt
            }
            Attempt::Refused { status } => {
                attempts.last_error = format!("answered {status}");
                self.file(id, Some(attempts)).await;
                attempt
            }
            Attempt::AskAgain => {
                attempts.last_error = "answered 409".into();
                self.note(id, attempts).await;
                attempt
            }
            Attempt::Failed(ref failed) => {
                attempts.last_error.clone_from(&failed.why);
                self.note(id, attempts).await;
                attempt
            }
            other => other,
        };
        let waits =
            matches!(attempt, Attempt::Failed(_) | Attempt::AskAgain | Attempt::Unreadable { .. });
        if !waits {
            self.first_tried.lock().remove(id);
        }
        (count, attempt)
    }

    /// Unix seconds.
    fn now(&self) -> i64 {
        (self.target.now)().millis().div_euclid(1_000)
    }

    /// One attempt, and what was noted of those before it.
    async fn once(&self, id: &str) -> (Attempts, Attempt) {
        let (attempts, body) = match self.unsealed.get(id) {
            Some((body, attempts)) => (attempts, body.to_vec()),
            None => match self.read(id).await {
                Ok(read) => read,
                Err(no) => return no,
            },
        };
        let doubtful = attempts.unclear;
        let attempt = match self.post(id, body).await {
            Attempt::Delivered { status: 409 } if doubtful => Attempt::AskAgain,
            attempt => attempt,
        };
        (attempts, attempt)
    }

    /// The record as it lies on the disk.
    async fn read(&self, id: &str) -> Result<(Attempts, Vec<u8>), (Attempts, Attempt)> {
        let (outbox, name) = (self.outbox.clone(), id.to_owned());
        let read = self.disk.run(move || {
            (outbox.attempts(Folder::Pending, &name), outbox.body(Folder::Pending, &name))
        });
        let (attempts, body) = read.await.ok_or_else(|| {
            let why = "the disk hangs".to_owned();
            (Attempts::default(), Attempt::Unreadable { why })
        })?;
        match body {
            Ok(body) => Ok((attempts, body)),
            Err(e) if e.is_gone() => Err((attempts, Attempt::Gone)),
            Err(e) => Err((attempts, Attempt::Unreadable { why: e.to_string() })),
        }
    }

    async fn post(&self, id: &str, body: Vec<u8>) -> Attempt {
        let t = &self.target;
        let failed =
            |why| Attempt::Failed(Failed { why, status: None, asked: None, clock_ahead_s: None });
        let mut request = (t.client.post(t.endpoint.clone()))
            .header(header::CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", id);
        if let Some(secret) = &t.jwt_secret {
            match Claims::of(id, &body, self.now()).sign(secret.expose_secret()) {
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
            Verdict::Delivered => Attempt::Delivered { status: status.as_u16() },
            Verdict::Refused => Attempt::Refused { status: status.as_u16() },
            Verdict::Retry => {
                let header = |name| answer.headers().get(name).and_then(|v| v.to_str().ok());
                let date = header(header::DATE).and_then(|d| httpdate::parse_http_date(d).ok());
                let asked = header(header::RETRY_AFTER).and_then(|v| {
                    // A date is meant by the clock of who wrote it.
                    retry::retry_after(v, date.unwrap_or_else(SystemTime::now))
                });
                let unauthorized = status == StatusCode::UNAUTHORIZED;
                let clock_ahead_s = date.filter(|_| unauthorized).and_then(|d| self.ahead_of(d));
                let why = format!("answered {}", status.as_u16());
                Attempt::Failed(Failed { why, status: Some(status), asked, clock_ahead_s })
            }
        }
    }

    /// How far the time in our tokens is ahead of the endpoint's, in seconds, where that matters.
    fn ahead_of(&self, theirs: SystemTime) -> Option<i64> {
        let theirs = theirs.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let ahead = self.now() - i64::try_from(theirs.as_secs()).unwrap_or(i64::MAX);
        (ahead.unsigned_abs() >= CLOCK_OFF.as_secs()).then_some(ahead)
    }

    /// Notes an attempt beside its record.
    async fn note(&self, id: &str, attempts: Attempts) {
        if self.unsealed.tried(id, &attempts) {
            return;
        }
        let (outbox, name) = (self.outbox.clone(), id.to_owned());
        // What cannot be noted is tried all the same.
        self.disk.run(move || outbox.note_attempts(&name, &attempts)).await;
    }

    /// Puts a record that is done with where it belongs; `refused`: with what was noted of it.
    async fn file(&self, id: &str, refused: Option<Attempts>) {
        if self.unsealed.settle(id, refused.as_ref()) {
            return;
        }
        let (outbox, level, name) = (self.outbox.clone(), self.level.clone(), id.to_owned());
        let file = move || {
            let size = outbox.about(Folder::Pending, &name).map_or(0, |(_, size)| size);
            match refused {
                None => outbox.sent(&name)?,
                Some(attempts) => outbox.dead(&name, &attempts)?,
            }
            level.less(size);
            Ok::<(), OutboxError>(())
        };
        if let Some(Err(e)) = self.disk.run(file).await {
            tracing::warn!(call_id = id, error = %e, "record not filed; it may be sent again");
        }
    }
}

/// An error with its causes, without the URL: it may hold a password.
fn causes(e: &reqwest::Error) -> String {
    let mut text = if e.is_timeout() { "timed out" } else { "could not be sent" }.to_owned();
    let mut source = std::error::Error::source(e);
    while let Some(s) = source {
        text.push_str(": ");
        text.push_str(&s.to_string());
        source = s.source();
    }
    text
}
