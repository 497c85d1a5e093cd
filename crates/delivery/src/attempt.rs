//! One attempt at one record: reads it, signs and posts it, and puts it where it belongs then.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
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
    /// The disk did not give it; `None`: it did not answer, which is said elsewhere.
    Unreadable {
        why: Option<String>,
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
    /// Seconds by which the time in our token was ahead of the endpoint's, where that may be why it was
    /// refused.
    pub(super) clock_ahead_s: Option<i64>,
}

/// All that one attempt needs.
pub(super) struct Post {
    pub(super) outbox: Outbox,
    pub(super) unsealed: Unsealed,
    pub(super) level: BacklogGauge,
    pub(super) target: Target,
    pub(super) disk: DiskWork,
    /// What this run knows of the records that it has tried and that wait.
    tried: Mutex<HashMap<String, Tried>>,
    /// Ids of records whose file is being read: one that never answers takes one thread, not all.
    reading: Arc<Mutex<HashSet<String>>>,
    /// Seconds by which the endpoint's clock is ahead of ours, where it refused a token for that.
    endpoint_ahead: AtomicI64,
}

/// Held while a record's file is read, however long that takes.
struct Reading {
    id: String,
    all: Arc<Mutex<HashSet<String>>>,
}

impl Reading {
    /// `None` while it is being read.
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
    first: Instant,
    /// An earlier run tried it as well, or may have.
    before: bool,
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
        Self {
            outbox,
            unsealed,
            level,
            target,
            disk,
            tried: Mutex::default(),
            reading: Arc::default(),
            endpoint_ahead: AtomicI64::new(0),
        }
    }

    /// One attempt, and what follows from it on the disk; with the number of attempts so far. `ours`: the
    /// record is of this run.
    pub(super) async fn attempt(&self, id: &str, ours: bool) -> (u32, Attempt) {
        let tried = self.tried.lock().get(id).copied();
        let (mut attempts, attempt) = self.once(id, ours || tried.is_some()).await;
        if let Attempt::Unreadable { .. } = attempt {
            return (attempts.count, attempt);
        }
        let tried = tried.unwrap_or_else(|| Tried {
            first: Instant::now(),
            before: !ours || attempts.count > 0,
        });
        let now = self.now();
        attempts.count = attempts.count.saturating_add(1);
        if attempts.count == 1 || !retry::is_plausible(attempts.first_at, now) {
            attempts.first_at = now;
        }
        attempts.last_at = now;
        let in_run = (!tried.before).then(|| tried.first.elapsed());
        let given_up = retry::is_given_up(attempts.first_at, now, attempts.count, in_run);
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
        let mut all = self.tried.lock();
        if matches!(attempt, Attempt::Failed(_) | Attempt::AskAgain) {
            all.insert(id.to_owned(), tried);
        } else {
            all.remove(id);
        }
        (count, attempt)
    }

    /// The operator wants all to be tried anew: their time begins again.
    pub(super) fn forget_attempts(&self) {
        self.tried.lock().clear();
    }

    /// Unix seconds.
    fn now(&self) -> i64 {
        (self.target.now)().millis().div_euclid(1_000)
    }

    /// One attempt, and what was noted of those before it. `known`: all attempts at it are noted. The last
    /// one of a run that was stopped or killed is not: it may have reached the receiver.
    async fn once(&self, id: &str, known: bool) -> (Attempts, Attempt) {
        let (attempts, body) = match self.unsealed.get(id) {
            Some((body, attempts)) => (attempts, body.to_vec()),
            None => match self.read(id).await {
                Ok(read) => read,
                Err(no) => return no,
            },
        };
        let doubtful = attempts.unclear || !known;
        let attempt = match self.post(id, body).await {
            Attempt::Delivered { status: 409 } if doubtful => Attempt::AskAgain,
            attempt => attempt,
        };
        (attempts, attempt)
    }

    /// The record as it lies on the disk.
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

    async fn post(&self, id: &str, body: Vec<u8>) -> Attempt {
        let t = &self.target;
        let failed =
            |why| Attempt::Failed(Failed { why, status: None, asked: None, clock_ahead_s: None });
        let mut request = (t.client.post(t.endpoint.clone()))
            .header(header::CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", id);
        if let Some(secret) = &t.jwt_secret {
            match Claims::of(id, &body, self.token_time()).sign(secret.expose_secret()) {
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
                let clock_ahead_s = date.filter(|_| unauthorized).and_then(|d| self.learn(d));
                let why = format!("answered {}", status.as_u16());
                Attempt::Failed(Failed { why, status: Some(status), asked, clock_ahead_s })
            }
        }
    }

    /// Unix seconds, by the endpoint's clock as far as it is known: it decides whether a token is valid.
    fn token_time(&self) -> i64 {
        self.now().saturating_add(self.endpoint_ahead.load(Ordering::Relaxed))
    }

    /// The endpoint refused a token, and told its time: how far the token's time was ahead of that, in
    /// seconds, where that may be the reason. The next token is minted by the endpoint's time.
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

    /// Notes an attempt beside its record.
    async fn note(&self, id: &str, attempts: Attempts) {
        if self.unsealed.tried(id, &attempts) {
            return;
        }
        let (outbox, name) = (self.outbox.clone(), id.to_owned());
        // What cannot be noted is tried all the same.
        self.disk.write(move || outbox.record_attempts(&name, &attempts)).await;
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
        if let Some(Err(e)) = self.disk.write(file).await {
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
