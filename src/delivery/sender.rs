//! Posts sealed records, each until it is taken or refused; [`super::queue`] says which and when.
//!
//! One task owns the queue; every attempt is a task of its own. What is undelivered is never
//! deleted here; what was delivered is, after a while.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use reqwest::{Url, header};
use tokio::{
    sync::mpsc,
    task::{JoinSet, spawn_blocking},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use super::{
    backlog::Level,
    outbox::{Attempts, Folder, Ids, Outbox},
    queue::Queue,
    retry::{self, GIVE_UP_AFTER, Verdict},
    token::{self, Subject},
};
use crate::{
    call::{CallHistory, Moment},
    config::{Secret, loggable},
    descriptors,
    journal::CallJournal,
};

/// How often it is looked whether the operator has rung.
const BELL_EVERY: Duration = Duration::from_secs(1);
/// How often delivered records that were kept long enough are looked for.
const PURGE_EVERY: Duration = Duration::from_secs(10 * 60);

/// A disk that takes longer hangs, and is not waited for.
const DISK_WITHIN: Duration = Duration::from_secs(5);
/// After a folder could not be listed.
const LIST_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// What could not be sealed lives only here until it is sent, with the journal that can tell it again.
type Unsealed = Arc<Mutex<InMemory>>;
type InMemory = HashMap<String, (Vec<u8>, Option<CallJournal>)>;

/// Work on the disk, apart from the runtime; `None` if it hangs or broke.
async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    timeout(DISK_WITHIN, spawn_blocking(work)).await.ok()?.ok()
}

/// Where and how records are posted.
pub(crate) struct Target {
    pub(crate) client: reqwest::Client,
    pub(crate) endpoint: Url,
    pub(crate) jwt_secret: Option<Secret>,
    /// For how long delivered records are kept.
    pub(crate) keep_sent: Duration,
}

/// Hands records over. Cheap to clone; when the last one is gone and all is sent, the sender ends.
#[derive(Clone)]
pub(crate) struct Delivery {
    outbox: Outbox,
    unsealed: Unsealed,
    level: Level,
    queue: mpsc::UnboundedSender<String>,
}

impl Delivery {
    /// Seals the record and queues it; with it sealed its journal has done its work. Returns when it
    /// is safe on disk, or, if the disk fails or hangs, when it is queued in memory.
    pub(crate) async fn submit(&self, record: &CallHistory, journal: Option<CallJournal>) {
        let id = record.call_id.clone();
        // Plain numbers, texts and lists: nothing in it can fail to become JSON.
        let body = serde_json::to_vec(record).unwrap_or_default();
        let size = body.len();
        let (outbox, name, copy) = (self.outbox.clone(), id.clone(), body.clone());
        let problem = match on_disk(move || outbox.seal(&name, &copy)).await {
            Some(Ok(())) => None,
            Some(Err(e)) => Some(e.to_string()),
            None => Some("the disk hangs".to_owned()),
        };
        match problem {
            None => {
                self.level.more(size);
                if let Some(journal) = journal {
                    journal.end();
                }
            }
            Some(error) => {
                tracing::error!(
                    call_id = id,
                    error,
                    "record not sealed on disk, kept in memory until it is sent; free or repair the data folder"
                );
                lock(&self.unsealed).insert(id.clone(), (body, journal));
            }
        }
        // The sender only ends after all of these are gone.
        let _ = self.queue.send(id);
    }

    /// When the call ended whose record was sealed before; `None` where none was.
    pub(crate) async fn end_of(&self, id: &str) -> Option<Moment> {
        let (outbox, id) = (self.outbox.clone(), id.to_owned());
        // A question that cannot be asked has no answer.
        on_disk(move || outbox.end_of(&id)).await.flatten()
    }

    /// Tells, also when this handle is gone, how many records are only in memory.
    pub(crate) fn watch_unsealed(&self) -> impl Fn() -> usize + use<> {
        let unsealed = self.unsealed.clone();
        move || lock(&unsealed).len()
    }
}

fn lock(unsealed: &Unsealed) -> std::sync::MutexGuard<'_, InMemory> {
    unsealed.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts the sender with what an earlier run left behind. The task ends when all [`Delivery`]
/// handles are gone and nothing is due any more, or is aborted: then the rest stays sealed.
pub(crate) fn start(
    outbox: Outbox,
    target: Target,
    level: Level,
) -> (Delivery, tokio::task::JoinHandle<()>) {
    let (queue, inbox) = mpsc::unbounded_channel();
    let unsealed = Unsealed::default();
    let delivery = Delivery {
        outbox: outbox.clone(),
        unsealed: unsealed.clone(),
        level: level.clone(),
        queue,
    };
    let post = Arc::new(Post { outbox, unsealed, level, target });
    (delivery, tokio::spawn(Sender::new(post).run(inbox)))
}

struct Sender {
    post: Arc<Post>,
    queue: Queue,
    /// A walk through `pending/` that has not come to its end.
    walk: Option<Ids>,
    running: JoinSet<(u32, Attempt)>,
    /// Which record each attempt is about.
    about: HashMap<tokio::task::Id, String>,
    /// The folder could not be listed; not again before this.
    list_at: Option<Instant>,
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
    /// The disk did not give it.
    Unreadable {
        why: String,
    },
    /// Not taken for 72 h.
    GivenUp {
        why: String,
    },
    /// The record's file is not there any more: the operator took it, or it was sent since it was
    /// listed.
    Gone,
}

impl Sender {
    fn new(post: Arc<Post>) -> Self {
        Self {
            post,
            queue: Queue::new(true),
            walk: None,
            running: JoinSet::new(),
            about: HashMap::new(),
            list_at: None,
        }
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<String>) {
        let outbox = self.post.outbox.clone();
        // Nothing waits for it.
        drop(spawn_blocking(move || outbox.sweep()));
        self.count();
        let mut bell = interval(BELL_EVERY);
        bell.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut purge = interval(PURGE_EVERY);
        let mut open = true;
        while open || !self.queue.is_empty() {
            self.refill().await;
            self.launch();
            let due = self.queue.due();
            tokio::select! {
                id = inbox.recv(), if open => match id {
                    Some(id) => self.queue.sealed(id, Instant::now()),
                    None => open = false,
                },
                Some(done) = self.running.join_next_with_id() => match done {
                    Ok((task, (attempts, attempt))) => {
                        if let Some(id) = self.about.remove(&task) {
                            self.settle(id, attempts, attempt);
                        }
                    }
                    Err(e) => {
                        tracing::error!(error = %e, "an attempt to send broke; its record stays in pending/");
                        if let Some(id) = self.about.remove(&e.id()) {
                            self.queue.unreadable(id, Instant::now());
                        }
                    }
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                _ = bell.tick() => self.listen().await,
                _ = purge.tick() => self.purge(),
            }
        }
    }

    /// Counts what an earlier run left, in the background: there may be many.
    fn count(&self) {
        let post = self.post.clone();
        drop(spawn_blocking(move || match post.outbox.backlog() {
            Ok(backlog) => {
                if backlog.records > 0 {
                    tracing::info!(
                        records = backlog.records,
                        "undelivered records of an earlier run"
                    );
                }
                post.level.add(backlog);
            }
            Err(e) => tracing::error!(error = %e, "undelivered records cannot be counted"),
        }));
    }

    /// Takes from the disk what there is room for.
    async fn refill(&mut self) {
        let wants = self.queue.wants();
        if wants == 0 || self.list_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let (outbox, walk) = (self.post.outbox.clone(), self.walk.take());
        let found = on_disk(move || {
            let mut walk = match walk {
                Some(walk) => walk,
                None => outbox.walk(Folder::Pending)?,
            };
            let ids: Vec<String> = walk.by_ref().take(wants).collect();
            let all = ids.len() < wants;
            Ok::<_, super::outbox::OutboxError>((ids, (!all).then_some(walk)))
        });
        let error = match found.await {
            Some(Ok((ids, walk))) => {
                self.queue.found(ids, walk.is_none());
                self.walk = walk;
                self.list_at = None;
                return;
            }
            Some(Err(e)) => e.to_string(),
            None => "the disk hangs".to_owned(),
        };
        if self.list_at.is_none() {
            tracing::error!(
                error,
                "undelivered records cannot be listed; tried again until they can"
            );
        }
        self.list_at = Some(Instant::now() + LIST_AGAIN_AFTER);
    }

    /// The operator may have put records back, or want them to be tried now.
    async fn listen(&mut self) {
        let outbox = self.post.outbox.clone();
        if on_disk(move || outbox.was_rung()).await.unwrap_or(false) {
            tracing::info!("told to look at the outbox anew");
            self.walk = None;
            self.queue.look_again();
        }
    }

    fn purge(&self) {
        let post = self.post.clone();
        drop(spawn_blocking(move || match post.outbox.purge_sent(post.target.keep_sent) {
            Ok(0) => {}
            Ok(records) => tracing::debug!(records, "delivered records were kept long enough"),
            Err(e) => tracing::warn!(error = %e, "delivered records cannot be looked through"),
        }));
    }

    fn launch(&mut self) {
        while let Some(id) = self.queue.next(Instant::now()) {
            let post = self.post.clone();
            let name = id.clone();
            let task = self.running.spawn(async move { post.attempt(&name).await });
            self.about.insert(task.id(), id);
        }
    }

    /// What an attempt means for the queue, and for the log.
    fn settle(&mut self, id: String, attempts: u32, attempt: Attempt) {
        let endpoint = loggable(&self.post.target.endpoint);
        match attempt {
            Attempt::Delivered { status } => {
                tracing::info!(call_id = id, status, attempts, "delivered");
                self.queue.done(&id, true);
            }
            Attempt::Refused { status } => {
                tracing::error!(
                    call_id = id,
                    status,
                    endpoint,
                    "refused: the endpoint will not take this record; it is kept in dead/"
                );
                self.queue.done(&id, true);
            }
            Attempt::Unreadable { why } => {
                tracing::warn!(
                    call_id = id,
                    error = why,
                    "record cannot be read, tried again later"
                );
                self.queue.unreadable(id, Instant::now());
            }
            Attempt::Gone => {
                tracing::debug!(call_id = id, "record is not there any more, not sent");
                self.queue.done(&id, false);
            }
            Attempt::GivenUp { why } => {
                tracing::error!(
                    call_id = id,
                    attempts,
                    error = why,
                    endpoint,
                    "given up after 72 h; the record is kept in dead/"
                );
                self.queue.done(&id, false);
            }
            Attempt::Failed { why, asked } => {
                let first = !self.queue.is_down();
                let (now, dice) = (Instant::now(), rand::random());
                let wait = self.queue.failed(id.clone(), attempts, asked, now, dice);
                tracing::warn!(
                    call_id = id,
                    attempts,
                    error = why,
                    endpoint,
                    retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                    "not delivered, will be tried again"
                );
                if first {
                    tracing::info!(
                        endpoint,
                        "one record at a time probes until the endpoint answers"
                    );
                }
            }
        }
    }
}

/// All that one attempt needs.
struct Post {
    outbox: Outbox,
    unsealed: Unsealed,
    level: Level,
    target: Target,
}

impl Post {
    /// One attempt, and what follows from it on the disk; with the number of attempts so far.
    async fn attempt(&self, id: &str) -> (u32, Attempt) {
        let (mut attempts, attempt) = self.once(id).await;
        let now = chrono::Utc::now().timestamp();
        attempts.count = attempts.count.saturating_add(1);
        if attempts.count == 1 {
            attempts.first_at = now;
        }
        attempts.last_at = now;
        let count = attempts.count;
        let given_up = now - attempts.first_at >= GIVE_UP_AFTER.as_secs().cast_signed();
        let attempt = match attempt {
            Attempt::Delivered { .. } => {
                self.file(id, None).await;
                attempt
            }
            Attempt::Refused { status } => {
                attempts.last_error = format!("answered {status}");
                self.file(id, Some(attempts)).await;
                attempt
            }
            Attempt::Failed { why, .. } if given_up => {
                attempts.last_error.clone_from(&why);
                self.file(id, Some(attempts)).await;
                Attempt::GivenUp { why }
            }
            Attempt::Failed { ref why, .. } => {
                attempts.last_error.clone_from(why);
                self.tell(id, attempts).await;
                attempt
            }
            other => other,
        };
        (count, attempt)
    }

    /// One attempt, and what was told of those before it.
    async fn once(&self, id: &str) -> (Attempts, Attempt) {
        let unsealed = lock(&self.unsealed).get(id).map(|(body, _)| body.clone());
        let (outbox, name) = (self.outbox.clone(), id.to_owned());
        let kept = unsealed.clone();
        let read = on_disk(move || {
            let attempts = outbox.attempts(Folder::Pending, &name);
            let body = match kept {
                // The disk may be well again.
                Some(body) => outbox.seal(&name, &body).map(|()| body),
                None => outbox.body(Folder::Pending, &name),
            };
            (attempts, body)
        });
        let failed = |why: String| Attempt::Failed { why, asked: None };
        let (attempts, body) = match (read.await, unsealed) {
            (Some((attempts, Ok(body))), unsealed) => {
                if unsealed.is_some() {
                    tracing::info!(call_id = id, "record sealed on disk after all");
                    self.out_of_memory(id);
                    self.level.more(body.len());
                }
                (attempts, body)
            }
            (Some((attempts, Err(_))), Some(body)) => (attempts, body),
            (None, Some(body)) => (Attempts::default(), body),
            (Some((attempts, Err(e))), None) if e.is_gone() => {
                return (attempts, Attempt::Gone);
            }
            (Some((attempts, Err(e))), None) => {
                return (attempts, Attempt::Unreadable { why: e.to_string() });
            }
            (None, None) => {
                let why = "the disk hangs".to_owned();
                return (Attempts::default(), Attempt::Unreadable { why });
            }
        };
        let attempt = self.post(id, body).await.unwrap_or_else(failed);
        (attempts, attempt)
    }

    async fn post(&self, id: &str, body: Vec<u8>) -> Result<Attempt, String> {
        let t = &self.target;
        let mut request = (t.client.post(t.endpoint.clone()))
            .header(header::CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", id);
        if let Some(secret) = &t.jwt_secret {
            let subject: Subject = serde_json::from_slice(&body).unwrap_or_default();
            let now = chrono::Utc::now().timestamp();
            let token = token::mint(secret, id, &subject, &body, now).map_err(|e| e.to_string())?;
            request = request.bearer_auth(token);
        }
        match request.body(body).send().await {
            Ok(answer) => Ok(read(answer).await),
            Err(e) => Err(causes(&e)),
        }
    }

    async fn tell(&self, id: &str, attempts: Attempts) {
        if lock(&self.unsealed).contains_key(id) {
            return;
        }
        let (outbox, name) = (self.outbox.clone(), id.to_owned());
        // What cannot be told is tried all the same.
        on_disk(move || outbox.tell(&name, &attempts)).await;
    }

    /// It need not be kept in memory any more, nor be told again from its journal.
    fn out_of_memory(&self, id: &str) -> Option<Vec<u8>> {
        let (body, journal) = lock(&self.unsealed).remove(id)?;
        if let Some(journal) = journal {
            journal.end();
        }
        Some(body)
    }

    /// Puts a record that is done with where it belongs; `refused`: with what was told of it.
    async fn file(&self, id: &str, refused: Option<Attempts>) {
        let unsealed = self.out_of_memory(id);
        if unsealed.is_some() && refused.is_none() {
            return;
        }
        let (outbox, level, name) = (self.outbox.clone(), self.level.clone(), id.to_owned());
        let file = move || {
            if let Some(body) = unsealed {
                outbox.seal(&name, &body)?;
                level.more(body.len());
            }
            let size = outbox.about(Folder::Pending, &name).map_or(0, |(_, size)| size);
            match refused {
                None => outbox.sent(&name)?,
                Some(attempts) => outbox.dead(&name, &attempts)?,
            }
            level.less(size);
            Ok::<(), super::outbox::OutboxError>(())
        };
        if let Some(Err(e)) = on_disk(file).await {
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
    descriptors::explain(text)
}
