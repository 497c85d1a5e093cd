//! Posts sealed records: at most 16 at once, each until it is taken or refused.
//!
//! One task owns the schedule; every attempt is a task of its own. While the endpoint is down one
//! record probes for all, so that a backlog does not hammer a receiver that is getting up.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Url, header};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    outbox::Outbox,
    retry::{self, GIVE_UP_AFTER, Verdict},
    token::{self, Subject},
};
use crate::{
    call::CallHistory,
    config::{Secret, loggable},
};

/// Requests at the same time.
const IN_FLIGHT: usize = 16;

/// Bodies that could not be sealed: they live only here until they are sent.
type Unsealed = Arc<Mutex<HashMap<String, Vec<u8>>>>;

/// Hands records over. Cheap to clone; when the last one is gone and all is sent, the sender ends.
#[derive(Clone)]
pub(crate) struct Delivery {
    outbox: Outbox,
    unsealed: Unsealed,
    queue: mpsc::UnboundedSender<String>,
}

impl Delivery {
    /// Seals the record and queues it. Returns when it is safe on disk, or, if the disk fails,
    /// when it is queued in memory; true if it is on disk.
    pub(crate) async fn submit(&self, record: &CallHistory) -> bool {
        let id = record.call_id.clone();
        // Plain numbers, texts and lists: nothing in it can fail to become JSON.
        let body = serde_json::to_vec(record).unwrap_or_default();
        let (outbox, name, copy) = (self.outbox.clone(), id.clone(), body.clone());
        let sealed = tokio::task::spawn_blocking(move || outbox.seal(&name, &copy)).await;
        let problem = match sealed {
            Ok(Ok(())) => None,
            Ok(Err(e)) => Some(e.to_string()),
            Err(e) => Some(e.to_string()),
        };
        let sealed = problem.is_none();
        if let Some(error) = problem {
            tracing::error!(
                call_id = id,
                error,
                "record not sealed on disk, kept in memory until it is sent; free or repair the data folder"
            );
            lock(&self.unsealed).insert(id.clone(), body);
        }
        // The sender only ends after all of these are gone.
        let _ = self.queue.send(id);
        sealed
    }
}

impl Delivery {
    /// Whether a record with this id was sealed before.
    pub(crate) async fn knows(&self, id: &str) -> bool {
        let (outbox, id) = (self.outbox.clone(), id.to_owned());
        // A question that cannot be asked has no answer.
        tokio::task::spawn_blocking(move || outbox.knows(&id)).await.unwrap_or(false)
    }

    /// Tells, also when this handle is gone, how many records are only in memory.
    pub(crate) fn watch_unsealed(&self) -> impl Fn() -> usize + use<> {
        let unsealed = self.unsealed.clone();
        move || lock(&unsealed).len()
    }
}

fn lock(unsealed: &Unsealed) -> std::sync::MutexGuard<'_, HashMap<String, Vec<u8>>> {
    unsealed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the sender with what an earlier run left behind. The task ends when all [`Delivery`]
/// handles are gone and nothing is due any more, or is aborted: then the rest stays sealed.
pub(crate) fn start(
    outbox: Outbox,
    client: reqwest::Client,
    endpoint: Url,
    jwt_secret: Option<Secret>,
) -> (Delivery, tokio::task::JoinHandle<()>) {
    let (queue, inbox) = mpsc::unbounded_channel();
    let unsealed = Unsealed::default();
    let delivery = Delivery { outbox: outbox.clone(), unsealed: unsealed.clone(), queue };
    let post = Arc::new(Post { outbox, unsealed, client, endpoint, jwt_secret });
    (delivery, tokio::spawn(Sender::new(post).run(inbox)))
}

/// A record that waits for its next attempt.
#[derive(Debug)]
struct Waiting {
    id: String,
    /// Attempts so far.
    attempts: u32,
    first: Instant,
}

struct Sender {
    post: Arc<Post>,
    /// By due time; the number keeps equal times apart and new ones first.
    schedule: BTreeMap<(Instant, u64), Waiting>,
    next: u64,
    running: JoinSet<(Waiting, Attempt)>,
    /// The last attempt did not reach a healthy endpoint.
    down: bool,
}

/// How an attempt went.
enum Attempt {
    Delivered {
        status: u16,
    },
    Refused {
        status: u16,
    },
    Failed {
        why: String,
        asked: Option<Duration>,
    },
    /// The record's file is not there any more: the operator took it.
    Gone {
        why: String,
    },
}

impl Sender {
    fn new(post: Arc<Post>) -> Self {
        Self {
            post,
            schedule: BTreeMap::new(),
            next: u64::MAX,
            running: JoinSet::new(),
            down: false,
        }
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<String>) {
        self.take_over().await;
        let mut open = true;
        while open || !self.schedule.is_empty() || !self.running.is_empty() {
            self.launch();
            let due = self.schedule.keys().next().map(|(at, _)| *at).filter(|_| self.may_launch());
            tokio::select! {
                id = inbox.recv(), if open => match id {
                    Some(id) => {
                        let now = Instant::now();
                        self.plan(now, Waiting { id, attempts: 0, first: now });
                    }
                    None => open = false,
                },
                Some(done) = self.running.join_next() => match done {
                    Ok((waiting, attempt)) => self.settle(waiting, attempt).await,
                    Err(e) => tracing::error!(error = %e, "an attempt to send broke; its record stays in pending/"),
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
            }
        }
    }

    /// What an earlier run sealed and did not get delivered.
    async fn take_over(&mut self) {
        let outbox = self.post.outbox.clone();
        match tokio::task::spawn_blocking(move || outbox.pending()).await {
            Ok(Ok(ids)) => {
                if !ids.is_empty() {
                    tracing::info!(records = ids.len(), "undelivered records of an earlier run");
                }
                let now = Instant::now();
                for id in ids {
                    self.plan(now, Waiting { id, attempts: 0, first: now });
                }
            }
            Ok(Err(e)) => {
                tracing::error!(error = %e, "undelivered records of an earlier run are not sent")
            }
            Err(e) => {
                tracing::error!(error = %e, "undelivered records of an earlier run are not sent")
            }
        }
    }

    fn plan(&mut self, due: Instant, waiting: Waiting) {
        self.next -= 1;
        self.schedule.insert((due, self.next), waiting);
    }

    fn may_launch(&self) -> bool {
        self.running.len() < if self.down { 1 } else { IN_FLIGHT }
    }

    fn launch(&mut self) {
        while self.may_launch() {
            let now = Instant::now();
            let Some(entry) = self.schedule.first_entry().filter(|e| e.key().0 <= now) else {
                break;
            };
            let waiting = entry.remove();
            let post = self.post.clone();
            self.running.spawn(async move {
                let attempt = post.once(&waiting.id).await;
                (waiting, attempt)
            });
        }
    }

    async fn settle(&mut self, mut waiting: Waiting, attempt: Attempt) {
        waiting.attempts += 1;
        let attempts = waiting.attempts;
        let endpoint = loggable(&self.post.endpoint);
        match attempt {
            Attempt::Delivered { status } => {
                self.down = false;
                tracing::info!(call_id = waiting.id, status, attempts, "delivered");
                self.post.file(&waiting.id, true).await;
            }
            Attempt::Refused { status } => {
                self.down = false;
                tracing::error!(
                    call_id = waiting.id,
                    status,
                    endpoint,
                    "refused: the endpoint will not take this record; it is kept in dead/"
                );
                self.post.file(&waiting.id, false).await;
            }
            Attempt::Gone { why } => {
                tracing::warn!(call_id = waiting.id, error = why, "record is gone, not sent");
            }
            Attempt::Failed { why, .. } if waiting.first.elapsed() >= GIVE_UP_AFTER => {
                tracing::error!(
                    call_id = waiting.id,
                    attempts,
                    error = why,
                    endpoint,
                    "given up after 72 h; the record is kept in dead/"
                );
                self.post.file(&waiting.id, false).await;
            }
            Attempt::Failed { why, asked } => {
                self.down = true;
                let wait = retry::wait(attempts, asked, rand::random());
                tracing::warn!(
                    call_id = waiting.id,
                    attempts,
                    error = why,
                    endpoint,
                    retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                    "not delivered, will be tried again"
                );
                self.plan(Instant::now() + wait, waiting);
            }
        }
    }
}

/// All that one attempt needs.
struct Post {
    outbox: Outbox,
    unsealed: Unsealed,
    client: reqwest::Client,
    endpoint: Url,
    jwt_secret: Option<Secret>,
}

impl Post {
    async fn once(&self, id: &str) -> Attempt {
        let unsealed = lock(&self.unsealed).get(id).cloned();
        let body = match unsealed {
            Some(body) => {
                // The disk may be well again.
                let (outbox, name, copy) = (self.outbox.clone(), id.to_owned(), body.clone());
                let sealed = tokio::task::spawn_blocking(move || outbox.seal(&name, &copy)).await;
                if let Ok(Ok(())) = sealed {
                    tracing::info!(call_id = id, "record sealed on disk after all");
                    lock(&self.unsealed).remove(id);
                }
                body
            }
            None => {
                let (outbox, name) = (self.outbox.clone(), id.to_owned());
                match tokio::task::spawn_blocking(move || outbox.body(&name)).await {
                    Ok(Ok(body)) => body,
                    Ok(Err(e)) if e.is_gone() => return Attempt::Gone { why: e.to_string() },
                    Ok(Err(e)) => return Attempt::Failed { why: e.to_string(), asked: None },
                    Err(e) => return Attempt::Failed { why: e.to_string(), asked: None },
                }
            }
        };
        let mut request = self
            .client
            .post(self.endpoint.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", id);
        if let Some(secret) = &self.jwt_secret {
            let subject: Subject = serde_json::from_slice(&body).unwrap_or_default();
            let now = chrono::Utc::now().timestamp();
            match token::mint(secret, id, &subject, &body, now) {
                Ok(token) => request = request.bearer_auth(token),
                Err(e) => return Attempt::Failed { why: e.to_string(), asked: None },
            }
        }
        match request.body(body).send().await {
            Ok(answer) => read(answer).await,
            Err(e) => Attempt::Failed { why: causes(&e), asked: None },
        }
    }

    async fn file(&self, id: &str, delivered: bool) {
        let unsealed = lock(&self.unsealed).remove(id);
        if unsealed.is_some() && delivered {
            return;
        }
        let (outbox, name) = (self.outbox.clone(), id.to_owned());
        let file = move || {
            if let Some(body) = unsealed {
                outbox.seal(&name, &body)?;
            }
            if delivered { outbox.sent(&name) } else { outbox.dead(&name) }
        };
        if let Ok(Err(e)) = tokio::task::spawn_blocking(file).await {
            tracing::warn!(call_id = id, error = %e, "record not filed; it may be sent again");
        }
    }
}

async fn read(answer: reqwest::Response) -> Attempt {
    let status = answer.status();
    match retry::verdict(status) {
        Verdict::Delivered => Attempt::Delivered { status: status.as_u16() },
        Verdict::Refused => Attempt::Refused { status: status.as_u16() },
        Verdict::Retry => {
            let asked = answer.headers().get(header::RETRY_AFTER);
            let asked =
                asked.and_then(|v| retry::retry_after(v.to_str().ok()?, chrono::Utc::now()));
            Attempt::Failed { why: format!("answered {}", status.as_u16()), asked }
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
