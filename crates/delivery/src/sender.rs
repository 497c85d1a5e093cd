//! Posts sealed records, each until it is taken or refused; [`super::queue`] says which and when.
//!
//! One task owns the queue; every attempt is a task of its own. Undelivered records are never deleted
//! here; delivered ones are, after a while.

use std::{collections::HashSet, sync::Arc, time::Duration};

use metrics::Outcome;
use record::{CallHistory, Moment};
use store::{
    backlog::BacklogGauge,
    disk::DiskWork,
    health::{Health, Topic},
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
    attempt::{Attempt, Failed, Poster, Target},
    queue::{Failure, Queue},
    retry,
    unsealed::Unsealed,
};

/// How often the sender checks whether the operator changed the outbox, and tries to seal what is only in memory.
const CHECK_EVERY: Duration = Duration::from_secs(1);
/// How often old delivered records are deleted, and the backlog is counted.
const TIDY_EVERY: Duration = Duration::from_secs(10 * 60);
/// Most ids of this run that are remembered. For any other id a first 409 is doubted.
const MOST_OURS: usize = 100_000;
/// Wait after the folder could not be listed.
const LIST_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// What reaches the sender.
enum Message {
    /// A record is on the disk.
    Sealed(String),
    /// A record is only in memory.
    Unsealed(String),
    /// The operator has changed something.
    ReloadRequested,
    /// The ids found in `pending/`, and the rest of the walk; or the error, which is `None` if the disk
    /// did not answer.
    Found(Result<(Vec<String>, Option<Ids>), Option<String>>),
}

/// A call whose record is handed over.
pub struct Finished<'a> {
    pub record: &'a CallHistory,
    /// Sid of the call's room, and the ordinal of the call in it. `None` for a call that takes no place
    /// among the calls of its room.
    pub place: Option<(&'a str, u32)>,
    pub ended: Moment,
    /// Not needed any more once the record is sealed.
    pub journal: Option<CallJournal>,
}

/// Takes finished records. Cheap to clone; the sender ends when all clones are dropped and all is sent.
#[derive(Clone)]
pub struct Delivery {
    outbox: Outbox,
    ordinals: Ordinals,
    unsealed: Unsealed,
    disk: DiskWork,
    queue: mpsc::UnboundedSender<Message>,
}

impl Delivery {
    /// Seals the record and queues it. Returns when the record is safe on disk; if the disk fails or
    /// hangs, when it is queued in memory.
    pub async fn submit(&self, call: Finished<'_>) {
        let id = call.record.call_id.clone();
        // Plain numbers, texts and lists: they always serialize.
        let body = serde_json::to_vec(call.record).unwrap_or_default();
        if let Some((room, ordinal)) = call.place {
            self.ordinals.ended(room, ordinal, call.ended);
        }
        self.unsealed.add(&id, body.into(), call.journal);
        let (unsealed, name) = (self.unsealed.clone(), id.clone());
        let sealed = matches!(self.disk.write(move || unsealed.seal(&name)).await, Some(Ok(())));
        let submitted = if sealed {
            Message::Sealed(id)
        } else if self.unsealed.keep(&id) {
            Message::Unsealed(id)
        } else {
            tracing::error!(
                call_id = id,
                "record lost: the disk does not take it, and there is no more memory for it; its \
                 journal is looked for at the next start"
            );
            return;
        };
        // This cannot fail: the sender only ends after all handles are dropped.
        let _ = self.queue.send(submitted);
    }

    /// What is remembered of the calls of a room.
    pub fn past(&self, sid: &str) -> Option<Past> {
        self.ordinals.past(sid)
    }

    /// Rooms are not listed; see [`Ordinals::not_listed`].
    pub fn not_listed(&self, now: Moment) {
        self.ordinals.not_listed(now, &self.disk);
    }

    /// The server's list of rooms, by sid; see [`Ordinals::listed`].
    pub fn listed(&self, there: &HashSet<&str>) {
        self.ordinals.listed(there, &self.disk);
    }

    /// When the call of an earlier record ended; `None` if no such record is kept.
    pub async fn end_of(&self, id: &str) -> Option<Moment> {
        let (outbox, id) = (self.outbox.clone(), id.to_owned());
        // Also `None` if the disk does not answer.
        self.disk.read(move || outbox.end_of(&id)).await.flatten()
    }

    /// The records that a process must save before it ends. They do not keep the sender running.
    pub fn leftovers(&self) -> Leftovers {
        Leftovers { unsealed: self.unsealed.clone(), disk: self.disk.clone() }
    }
}

/// Records that are only in memory.
pub struct Leftovers {
    pub(crate) unsealed: Unsealed,
    disk: DiskWork,
}

impl Leftovers {
    /// Tries once more to seal them; returns how many records are lost.
    pub async fn save(self) -> usize {
        if self.unsealed.has_work() {
            let unsealed = self.unsealed.clone();
            self.disk.write(move || unsealed.seal_all()).await;
        }
        self.unsealed.unsafe_records()
    }
}

/// The parts of the data folder that delivery uses.
pub struct Store {
    pub outbox: Outbox,
    pub ordinals: Ordinals,
    pub disk: DiskWork,
}

/// Starts the sender with what an earlier run left behind. The task ends when all [`Delivery`]
/// handles are dropped and nothing is left to send. If it is aborted, the rest stays sealed.
pub fn start(
    store: Store,
    target: Target,
    gauge: BacklogGauge,
    health: Health,
) -> (Delivery, JoinHandle<()>) {
    let Store { outbox, ordinals, disk } = store;
    let (queue, inbox) = mpsc::unbounded_channel();
    let unsealed = Unsealed::new(outbox.clone(), ordinals.clone(), gauge.clone(), health.clone());
    let delivery = Delivery {
        outbox: outbox.clone(),
        ordinals,
        unsealed: unsealed.clone(),
        disk: disk.clone(),
        queue,
    };
    let post = Arc::new(Poster::new(outbox, unsealed, gauge, target, disk));
    let sender = Sender::new(post, health, delivery.queue.downgrade());
    (delivery, tokio::spawn(sender.run(inbox)))
}

struct Sender {
    post: Arc<Poster>,
    health: Health,
    queue: Queue,
    /// An unfinished walk through `pending/`.
    walk: Option<Ids>,
    /// The running attempts, by the record's id.
    running: JoinMap<String, (u32, Attempt, Duration)>,
    /// Set if the folder could not be listed: when to try again.
    list_at: Option<Instant>,
    /// `pending/` is being listed.
    listing: bool,
    /// Since when the endpoint fails and its last error, as shown on the health page.
    failing: Option<(Moment, String)>,
    /// Ids that were submitted in this run and are not settled yet; see [`Poster::attempt`].
    ours: HashSet<String>,
    /// Records whose files cannot be read.
    unreadable: HashSet<String>,
    /// For background work to report back. Weak, so that it does not keep the sender running.
    back: mpsc::WeakUnboundedSender<Message>,
}

impl Sender {
    fn new(post: Arc<Poster>, health: Health, back: mpsc::WeakUnboundedSender<Message>) -> Self {
        Self {
            post,
            health,
            queue: Queue::new(true, Instant::now()),
            walk: None,
            running: JoinMap::new(),
            list_at: None,
            listing: false,
            failing: None,
            ours: HashSet::new(),
            unreadable: HashSet::new(),
            back,
        }
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        let mut check = interval(CHECK_EVERY);
        check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut tidy = interval(TIDY_EVERY);
        let mut first = true;
        let mut open = true;
        while open || !self.queue.is_empty() || self.post.unsealed.unsafe_records() > 0 {
            self.refill();
            self.launch();
            let due = self.queue.due();
            tokio::select! {
                message = inbox.recv(), if open => match message {
                    Some(message) => self.take(message),
                    None => {
                        open = false;
                        // No listing can report back any more: the rest of the disk waits for the next start.
                        self.queue.found(vec![], true);
                        self.queue.found(vec![], true);
                    }
                },
                Some((id, done)) = self.running.join_next() => match done {
                    Ok((attempts, attempt, took)) => {
                        self.count(&attempt, took);
                        self.settle(id, attempts, attempt);
                    }
                    Err(e) => {
                        tracing::error!(error = %e, "sending failed by an error in the program; the record is kept and tried again");
                        self.queue.unreadable(id, Instant::now());
                    }
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                _ = check.tick() => self.check(),
                _ = tidy.tick() => self.tidy(std::mem::take(&mut first)),
            }
        }
    }

    fn take(&mut self, message: Message) {
        let now = Instant::now();
        match message {
            Message::Sealed(id) => {
                self.remember(&id);
                self.queue.sealed(id, now);
            }
            Message::Unsealed(id) => {
                self.remember(&id);
                self.queue.unsealed(id, now);
            }
            Message::ReloadRequested => {
                tracing::info!("reading the outbox anew, as requested");
                self.walk = None;
                self.post.forget_attempts();
                self.queue.retry_all();
            }
            Message::Found(Ok((ids, walk))) => {
                self.listing = false;
                self.queue.found(ids, walk.is_none());
                self.walk = walk;
                self.list_at = None;
            }
            Message::Found(Err(error)) => {
                self.listing = false;
                // A disk that does not answer is reported by [`DiskWork`].
                if let Some(error) = error.filter(|_| self.list_at.is_none()) {
                    tracing::error!(
                        error,
                        "undelivered records cannot be listed; tried again until they can"
                    );
                }
                self.list_at = Some(now + LIST_AGAIN_AFTER);
            }
        }
    }

    fn remember(&mut self, id: &str) {
        if self.ours.len() < MOST_OURS {
            self.ours.insert(id.to_owned());
        }
    }

    /// Lists more of `pending/` if the queue has room. Does not wait for the disk.
    fn refill(&mut self) {
        let wants = self.queue.wants();
        if wants == 0 || self.listing || self.list_at.is_some_and(|at| Instant::now() < at) {
            return;
        }
        self.listing = true;
        let (outbox, walk) = (self.post.outbox.clone(), self.walk.take());
        let (disk, back) = (self.post.disk.clone(), self.back.clone());
        tokio::spawn(async move {
            let found = disk.read(move || {
                let mut walk = match walk {
                    Some(walk) => walk,
                    None => outbox.walk(Folder::Pending)?,
                };
                let ids: Vec<String> = walk.by_ref().take(wants).collect();
                let all = ids.len() < wants;
                Ok::<_, OutboxError>((ids, (!all).then_some(walk)))
            });
            let found = match found.await {
                Some(found) => found.map_err(|e| Some(e.to_string())),
                None => Err(None),
            };
            if let Some(back) = back.upgrade() {
                let _ = back.send(Message::Found(found));
            }
        });
    }

    /// Checks whether the operator changed the outbox, and seals what is only in memory. Does not wait for the disk.
    fn check(&self) {
        // More records may wait than at the last attempt.
        self.show_failing();
        let (outbox, back) = (self.post.outbox.clone(), self.back.clone());
        let unsealed = self.post.unsealed.clone();
        self.post.disk.start(move || {
            if outbox.reload_was_requested()
                && let Some(back) = back.upgrade()
            {
                let _ = back.send(Message::ReloadRequested);
            }
            if unsealed.has_work() {
                unsealed.seal_all();
            }
        });
    }

    /// Deletes delivered records that were kept long enough. Counts the backlog anew, as operators
    /// change it too. `first`: what waits was left by an earlier run.
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
                    post.gauge.set(backlog);
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
            let (post, name, ours) = (self.post.clone(), id.clone(), self.ours.contains(&id));
            self.running.spawn(id, async move {
                let began = Instant::now();
                let (attempts, attempt) = post.attempt(&name, ours).await;
                (attempts, attempt, began.elapsed())
            });
        }
    }

    fn count(&self, attempt: &Attempt, took: Duration) {
        let metrics = self.health.metrics();
        let outcome = match attempt {
            Attempt::Delivered { after, .. } => {
                if let Some(after) = after {
                    metrics.delivered(*after);
                }
                Outcome::Delivered
            }
            Attempt::Refused { .. } => Outcome::Refused,
            Attempt::GivenUp(_) => Outcome::GivenUp,
            Attempt::Failed(_) | Attempt::AskAgain => Outcome::Failed,
            // Nothing was posted.
            Attempt::Unreadable { .. } | Attempt::Gone => return,
        };
        metrics.attempted(outcome, took);
    }

    /// Reports the result of an attempt to the queue, in the log, and on the health page.
    fn settle(&mut self, id: String, attempts: u32, attempt: Attempt) {
        let endpoint = self.post.target.shown.clone();
        let now = Instant::now();
        if !matches!(attempt, Attempt::Unreadable { .. }) {
            self.unreadable.remove(&id);
        }
        if !matches!(attempt, Attempt::Failed(_) | Attempt::AskAgain | Attempt::Unreadable { .. }) {
            self.ours.remove(&id);
        }
        match attempt {
            Attempt::Delivered { status, .. } => {
                tracing::info!(call_id = id, status, attempts, "delivered");
                self.queue.done(&id, true, now);
            }
            Attempt::Refused { status } => {
                tracing::error!(
                    call_id = id,
                    status,
                    endpoint,
                    "refused: the endpoint will not take this record; it is kept in dead/"
                );
                self.queue.done(&id, true, now);
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
                if let Some(error) = why
                    && self.unreadable.insert(id.clone())
                {
                    tracing::warn!(call_id = id, error, "record cannot be read, tried again later");
                }
                self.queue.unreadable(id, now);
                return self.show();
            }
            Attempt::Gone => {
                tracing::debug!(call_id = id, "record is not there any more, not sent");
                self.queue.done(&id, false, now);
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
                if self.queue.is_down() {
                    self.fails(&why);
                }
            }
            Attempt::Failed(Failed { why, asked, clock_ahead_s, .. }) => {
                let was_down = self.queue.is_down();
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
                // Else the endpoint takes other records.
                if self.queue.is_down() {
                    if !was_down {
                        tracing::info!(
                            endpoint,
                            "one record at a time probes until the endpoint answers"
                        );
                    }
                    self.fails(&why);
                }
            }
        }
        self.show();
    }

    /// Updates the warnings about endpoint and unreadable records on the health page.
    fn show(&mut self) {
        // If the operator has removed the records that failed, there is nothing to warn of.
        let well = !self.queue.is_down() || self.queue.is_empty();
        if well && self.failing.take().is_some() {
            let (endpoint, waiting) = (&self.post.target.shown, self.post.gauge.records());
            tracing::info!(endpoint, waiting, "the endpoint takes records again");
            self.health.clear(Topic::Endpoint);
        }
        match self.unreadable.len() {
            0 => drop(self.health.clear(Topic::Unreadable)),
            n => drop(self.health.warn(Topic::Unreadable, format!("{n} records cannot be read"))),
        }
    }

    /// The endpoint fails.
    fn fails(&mut self, why: &str) {
        let since =
            self.failing.take().map_or_else(|| (self.post.target.now)(), |(since, _)| since);
        self.failing = Some((since, why.to_owned()));
        self.show_failing();
    }

    /// Shows since when the endpoint fails, how many records wait, and why.
    fn show_failing(&self) {
        let Some((since, why)) = &self.failing else { return };
        let waiting = self.post.gauge.records() + self.post.unsealed.held().0 as u64;
        let what = format!("not taking records since {since}; {waiting} wait; last error: {why}");
        self.health.warn(Topic::Endpoint, what);
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
