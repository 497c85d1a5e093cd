//! Posts sealed records, each until it is taken or refused; [`super::queue`] says which and when.
//!
//! One task owns the queue; every attempt is a task of its own. What is undelivered is never
//! deleted here; what was delivered is, after a while.

use std::{collections::HashSet, sync::Arc, time::Duration};

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
/// Ids of this run that are remembered as such; of others a 409 is doubted once.
const MOST_OURS: usize = 100_000;
/// After a folder could not be listed.
const LIST_AGAIN_AFTER: Duration = Duration::from_secs(10);

/// What reaches the sender.
enum Message {
    /// A record is on the disk.
    Sealed(String),
    /// A record is only in memory.
    Unsealed(String),
    /// The operator has changed something.
    Rung,
    /// What a look at `pending/` brought, and the rest of the walk; what is wrong, or `None` if the disk
    /// did not answer.
    Found(Result<(Vec<String>, Option<Ids>), Option<String>>),
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
    queue: mpsc::UnboundedSender<Message>,
}

impl Delivery {
    /// Seals the record and queues it. Returns when it is safe on disk, or, if the disk fails or hangs,
    /// when it is queued in memory.
    pub async fn submit(&self, call: Finished<'_>) {
        let id = call.record.call_id.clone();
        // Plain numbers, texts and lists: nothing in it can fail to become JSON.
        let body = serde_json::to_vec(call.record).unwrap_or_default();
        self.ordinals.ended(call.room, call.ordinal, call.ended);
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
        // The sender only ends after all of these are gone.
        let _ = self.queue.send(submitted);
    }

    /// What is remembered of the calls that a room has had.
    pub fn past(&self, sid: &str) -> Option<Past> {
        self.ordinals.past(sid)
    }

    /// Nobody lists rooms.
    pub fn not_listed(&self, now: Moment) {
        self.ordinals.not_listed(now, &self.disk);
    }

    /// The server's list of rooms, by sid.
    pub fn listed(&self, there: &HashSet<&str>) {
        self.ordinals.listed(there, &self.disk);
    }

    /// When the call ended whose record was sealed before; `None` where none was, or is kept any more.
    pub async fn end_of(&self, id: &str) -> Option<Moment> {
        let (outbox, id) = (self.outbox.clone(), id.to_owned());
        // A question that cannot be asked has no answer.
        self.disk.read(move || outbox.end_of(&id)).await.flatten()
    }

    /// What a process that ends has to save. It does not keep the sender going.
    pub fn leftovers(&self) -> Leftovers {
        Leftovers { unsealed: self.unsealed.clone(), disk: self.disk.clone() }
    }
}

/// What is only in memory.
pub struct Leftovers {
    unsealed: Unsealed,
    disk: DiskWork,
}

impl Leftovers {
    /// Tries once more to save it; how many records are lost all the same.
    pub async fn save(self) -> usize {
        if self.unsealed.has_work() {
            let unsealed = self.unsealed.clone();
            self.disk.write(move || unsealed.seal_all()).await;
        }
        self.unsealed.unsafe_records()
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
    let sender = Sender::new(post, health, delivery.queue.downgrade());
    (delivery, tokio::spawn(sender.run(inbox)))
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
    /// `pending/` is being looked at.
    listing: bool,
    /// Since when the endpoint fails, as shown on the health page.
    failing_since: Option<Moment>,
    /// Ids that were handed over in this run and are not done with; see [`Post::attempt`].
    ours: HashSet<String>,
    /// Records whose files cannot be read.
    unreadable: HashSet<String>,
    /// For what is done beside: it does not keep the sender going.
    back: mpsc::WeakUnboundedSender<Message>,
}

impl Sender {
    fn new(post: Arc<Post>, health: Health, back: mpsc::WeakUnboundedSender<Message>) -> Self {
        Self {
            post,
            health,
            queue: Queue::new(true, Instant::now()),
            walk: None,
            running: JoinMap::new(),
            list_at: None,
            listing: false,
            failing_since: None,
            ours: HashSet::new(),
            unreadable: HashSet::new(),
            back,
        }
    }

    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<Message>) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
                        // Nobody is left to bring what more there is on the disk.
                        self.queue.found(vec![], true);
                        self.queue.found(vec![], true);
                    }
                },
                Some((id, done)) = self.running.join_next() => match done {
                    Ok((attempts, attempt)) => self.settle(id, attempts, attempt),
                    Err(e) => {
                        tracing::error!(error = %e, "an attempt to send broke; its record is kept");
                        self.queue.unreadable(id, Instant::now());
                    }
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
                _ = look.tick() => self.look(),
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
            Message::Rung => {
                tracing::info!("told to look at the outbox anew");
                self.walk = None;
                self.post.forget_attempts();
                self.queue.look_again();
            }
            Message::Found(Ok((ids, walk))) => {
                self.listing = false;
                self.queue.found(ids, walk.is_none());
                self.walk = walk;
                self.list_at = None;
            }
            Message::Found(Err(error)) => {
                self.listing = false;
                // (That the disk does not answer is said where it is found.)
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

    /// Takes from the disk what there is room for. Nothing waits for the disk.
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

    /// The operator may have put records back, or want them to be tried now; the disk may take what it
    /// did not. Nothing waits for it.
    fn look(&self) {
        let (outbox, back) = (self.post.outbox.clone(), self.back.clone());
        let unsealed = self.post.unsealed.clone();
        self.post.disk.start(move || {
            if outbox.was_rung()
                && let Some(back) = back.upgrade()
            {
                let _ = back.send(Message::Rung);
            }
            if unsealed.has_work() {
                unsealed.seal_all();
            }
        });
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
            let (post, name, ours) = (self.post.clone(), id.clone(), self.ours.contains(&id));
            self.running.spawn(id, async move { post.attempt(&name, ours).await });
        }
    }

    /// What an attempt means for the queue, for the log, and for the health page.
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
        self.show();
    }

    /// Shows what is wrong with records on the health page, and what is not any more.
    fn show(&mut self) {
        // What failed and was taken away by the operator is nobody's trouble.
        let well = !self.queue.is_down() || self.queue.is_empty();
        if well && self.failing_since.take().is_some() {
            self.health.clear(Topic::Endpoint);
        }
        match self.unreadable.len() {
            0 => drop(self.health.clear(Topic::Unreadable)),
            n => drop(self.health.warn(Topic::Unreadable, format!("{n} records cannot be read"))),
        }
    }

    /// Shows that the endpoint fails: since when, how many wait, and why.
    fn failing(&mut self, why: &str) {
        let since = *self.failing_since.get_or_insert_with(|| (self.post.target.now)());
        let waiting = self.post.level.records() + self.post.unsealed.held().0 as u64;
        let what = format!("not taking records since {since}; {waiting} wait; last error: {why}");
        self.health.warn(Topic::Endpoint, what);
    }
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
