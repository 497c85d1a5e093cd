//! Posts sealed records, each until it is taken or refused; [`super::queue`] says which and when.
//!
//! One task owns the queue; every attempt is a task of its own. What is undelivered is never
//! deleted here; what was delivered is, after a while.

use std::{sync::Arc, time::Duration};

use record::{CallHistory, Moment};
use store::{
    backlog::BacklogGauge,
    disk::DiskWork,
    health::Health,
    journal::CallJournal,
    ordinals::{Ordinals, Past},
    outbox::{Folder, Ids, Outbox, OutboxError},
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval, sleep_until},
};
use tokio_util::task::JoinMap;

use super::{
    attempt::{Attempt, Failed, Post, Target},
    queue::{Failure, Queue},
    retry,
    unsealed::Unsealed,
};

/// How often it is looked whether the operator has rung, and whether the disk takes again what it did
/// not.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often delivered records that were kept long enough are looked for, and what waits is counted.
const TIDY_EVERY: Duration = Duration::from_secs(10 * 60);
/// After a folder could not be listed.
const LIST_AGAIN_AFTER: Duration = Duration::from_secs(10);
const TOPIC: &str = "endpoint";

/// A record that is to be sent.
enum Submitted {
    Sealed(String),
    /// Only in memory.
    Unsealed(String),
}

/// A call whose record is handed over.
pub struct Finished<'a> {
    pub record: &'a CallHistory,
    /// Sid of its room, and its place in it.
    pub room: &'a str,
    pub ordinal: u32,
    pub ended: Moment,
    /// Has done its work once the record is sealed.
    pub journal: Option<CallJournal>,
}

/// Hands records over. Cheap to clone; when the last one is gone and all is sent, the sender ends.
#[derive(Clone)]
pub struct Delivery {
    outbox: Outbox,
    ordinals: Ordinals,
    unsealed: Unsealed,
    disk: DiskWork,
    queue: mpsc::UnboundedSender<Submitted>,
}

impl Delivery {
    /// Seals the record and queues it. Returns when it is safe on disk, or, if the disk fails or hangs,
    /// when it is queued in memory.
    pub async fn submit(&self, call: Finished<'_>) {
        let id = call.record.call_id.clone();
        // Plain numbers, texts and lists: nothing in it can fail to become JSON.
        let body = serde_json::to_vec(call.record).unwrap_or_default();
        self.ordinals.ended(call.room, call.ordinal, call.ended);
        self.unsealed.add(&id, body.into(), call.room, call.journal);
        let (unsealed, name) = (self.unsealed.clone(), id.clone());
        let sealed = matches!(self.disk.run(move || unsealed.seal(&name)).await, Some(Ok(())));
        let submitted = if sealed {
            Submitted::Sealed(id)
        } else if self.unsealed.keep(&id) {
            Submitted::Unsealed(id)
        } else {
            tracing::error!(
                call_id = id,
                "record lost: the disk does not take it, and there is no more memory for it; its \
                 journal is looked for at the next start"
            );
            return;
        };
        // The sender only ends after all of these are gone.
        let _ = self.queue.send(submitted);
    }

    /// What is remembered of the calls that a room has had.
    pub fn past(&self, sid: &str) -> Option<Past> {
        self.ordinals.past(sid)
    }

    /// The server's list of rooms, by sid.
    pub fn listed(&self, there: &std::collections::HashSet<&str>) {
        self.ordinals.listed(there, &self.disk);
    }

    /// When the call ended whose record was sealed before; `None` where none was, or is kept any more.
    pub async fn end_of(&self, id: &str) -> Option<Moment> {
        let (outbox, id) = (self.outbox.clone(), id.to_owned());
        // A question that cannot be asked has no answer.
        self.disk.run(move || outbox.end_of(&id)).await.flatten()
    }

    /// Tells, also when this handle is gone, how many records would be lost if the process ended now.
    pub fn watch_unsealed(&self) -> impl Fn() -> usize + use<> {
        let unsealed = self.unsealed.clone();
        move || unsealed.unsafe_records()
    }
}

/// What delivery works with, besides the endpoint.
pub struct Store {
    pub outbox: Outbox,
    pub ordinals: Ordinals,
    pub disk: DiskWork,
}

/// Starts the sender with what an earlier run left behind. The task ends when all [`Delivery`]
/// handles are gone and nothing is due any more, or is aborted: then the rest stays sealed.
pub fn start(
    store: Store,
    target: Target,
    level: BacklogGauge,
    health: Health,
) -> (Delivery, JoinHandle<()>) {
    let Store { outbox, ordinals, disk } = store;
    let (queue, inbox) = mpsc::unbounded_channel();
    let unsealed = Unsealed::new(outbox.clone(), ordinals.clone(), level.clone(), health.clone());
    let delivery = Delivery {
        outbox: outbox.clone(),
        ordinals,
        unsealed: unsealed.clone(),
        disk: disk.clone(),
        queue,
    };
    let post = Arc::new(Post::new(outbox, unsealed, level, target, disk));
    (delivery, tokio::spawn(Sender::new(post, health).run(inbox)))
}

struct Sender {
    post: Arc<Post>,
    health: Health,
    queue: Queue,
    /// A walk through `pending/` that has not come to its end.
    walk: Option<Ids>,
    /// By the record's id.
    running: JoinMap<String, (u32, Attempt)>,
    /// The folder could not be listed; not again before this.
    list_at: Option<Instant>,
    /// Since when the endpoint fails, as shown on the health page.
    failing_since: Option<Moment>,
}

impl Sender {
    fn new(post: Arc<Post>, health: Health) -> Self {
        Self {
            post,
            health,
            queue: Queue::new(true, Instant::now()),
            walk: None,
            running: JoinMap::new(),
            list_at: None,
            failing_since: None,
        }
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Submitted>) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tidy = interval(TIDY_EVERY);
        let mut first = true;
        let mut open = true;
        while open || !self.queue.is_empty() || self.post.unsealed.unsafe_records() > 0 {
            self.refill().await;
            self.launch();
            let due = self.queue.due();
            tokio::select! {
                submitted = inbox.recv(), if open => match submitted {
                    Some(Submitted::Sealed(id)) => self.queue.sealed(id, Instant::now()),
                    Some(Submitted::Unsealed(id)) => self.queue.unsealed(id, Instant::now()),
                    None => open = false,
                },
                Some((id, done)) = self.running.join_next() => match done {
                    Ok((attempts, attempt)) => self.settle(id, attempts, attempt),
                    Err(e) => {
                        tracing::error!(error = %e, "an attempt to send broke; its record is kept");
                        self.queue.unreadable(id, Instant::now());
                    }
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                _ = look.tick() => self.look().await,
                _ = tidy.tick() => self.tidy(std::mem::take(&mut first)),
            }
        }
    }

    /// Takes from the disk what there is room for.
    async fn refill(&mut self) {
        let wants = self.queue.wants();
        if wants == 0 || self.list_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let (outbox, walk) = (self.post.outbox.clone(), self.walk.take());
        let found = self.post.disk.run(move || {
            let mut walk = match walk {
                Some(walk) => walk,
                None => outbox.walk(Folder::Pending)?,
            };
            let ids: Vec<String> = walk.by_ref().take(wants).collect();
            let all = ids.len() < wants;
            Ok::<_, OutboxError>((ids, (!all).then_some(walk)))
        });
        let error = match found.await {
            Some(Ok((ids, walk))) => {
                self.queue.found(ids, walk.is_none());
                self.walk = walk;
                self.list_at = None;
                return;
            }
            Some(Err(e)) => Some(e.to_string()),
            // That is said where it is found.
            None => None,
        };
        if let Some(error) = error.filter(|_| self.list_at.is_none()) {
            tracing::error!(
                error,
                "undelivered records cannot be listed; tried again until they can"
            );
        }
        self.list_at = Some(Instant::now() + LIST_AGAIN_AFTER);
    }

    /// The operator may have put records back, or want them to be tried now; the disk may be well again.
    async fn look(&mut self) {
        let outbox = self.post.outbox.clone();
        if self.post.disk.run(move || outbox.was_rung()).await.unwrap_or(false) {
            tracing::info!("told to look at the outbox anew");
            self.walk = None;
            self.queue.look_again();
        }
        if self.post.unsealed.held().0 > 0 {
            let unsealed = self.post.unsealed.clone();
            self.post.disk.start(move || unsealed.seal_all());
        }
    }

    /// Deletes what was delivered and kept long enough; counts what waits, which operators change too.
    /// `first`: it was left by an earlier run.
    fn tidy(&self, first: bool) {
        let post = self.post.clone();
        self.post.disk.start(move || {
            match post.outbox.backlog() {
                Ok(backlog) => {
                    if first && backlog.records > 0 {
                        tracing::info!(
                            records = backlog.records,
                            "undelivered records of an earlier run"
                        );
                    }
                    post.level.set(backlog);
                }
                Err(e) => tracing::error!(error = %e, "undelivered records cannot be counted"),
            }
            match post.outbox.purge_sent(post.target.keep_sent) {
                Ok(0) => {}
                Ok(records) => tracing::debug!(records, "delivered records were kept long enough"),
                Err(e) => {
                    tracing::warn!(error = %e, "delivered records cannot be looked through");
                }
            }
        });
    }

    fn launch(&mut self) {
        while let Some(id) = self.queue.next(Instant::now()) {
            let (post, name) = (self.post.clone(), id.clone());
            self.running.spawn(id, async move { post.attempt(&name).await });
        }
    }

    /// What an attempt means for the queue, for the log, and for the health page.
    fn settle(&mut self, id: String, attempts: u32, attempt: Attempt) {
        let endpoint = self.post.target.shown.clone();
        let now = Instant::now();
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
            Attempt::AskAgain => {
                tracing::warn!(
                    call_id = id,
                    attempts,
                    endpoint,
                    retry_in_ms = millis(retry::ASK_AGAIN_AFTER),
                    "not delivered for sure: answered 409 right after an attempt without an answer; \
                     asked once more"
                );
                self.queue.ask_again(id, retry::ASK_AGAIN_AFTER, now);
            }
            Attempt::Unreadable { why } => {
                tracing::debug!(
                    call_id = id,
                    error = why,
                    "record cannot be read, tried again later"
                );
                self.queue.unreadable(id, now);
            }
            Attempt::Gone => {
                tracing::debug!(call_id = id, "record is not there any more, not sent");
                self.queue.done(&id, false);
            }
            Attempt::GivenUp(Failed { why, asked, .. }) => {
                tracing::error!(
                    call_id = id,
                    attempts,
                    error = why,
                    endpoint,
                    "given up after 72 h; the record is kept in dead/"
                );
                let failure = Failure { attempts, asked, dice: rand::random() };
                self.queue.given_up(&id, failure, now);
                self.failing(&why);
            }
            Attempt::Failed(Failed { why, asked, clock_ahead_s, .. }) => {
                let first = !self.queue.is_down();
                let failure = Failure { attempts, asked, dice: rand::random() };
                let wait = self.queue.failed(id.clone(), failure, now);
                tracing::warn!(
                    call_id = id,
                    attempts,
                    error = why,
                    endpoint,
                    clock_ahead_s,
                    retry_in_ms = millis(wait),
                    "not delivered, will be tried again"
                );
                if first {
                    tracing::info!(
                        endpoint,
                        "one record at a time probes until the endpoint answers"
                    );
                }
                self.failing(&why);
            }
        }
        if !self.queue.is_down() && self.failing_since.take().is_some() {
            self.health.clear(TOPIC);
        }
    }

    /// Shows that the endpoint fails: since when, how many wait, and why.
    fn failing(&mut self, why: &str) {
        let since = *self.failing_since.get_or_insert_with(|| (self.post.target.now)());
        let waiting = self.post.level.records() + self.post.unsealed.held().0 as u64;
        let what = format!("not taking records since {since}; {waiting} wait; last error: {why}");
        self.health.warn(TOPIC, what);
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
