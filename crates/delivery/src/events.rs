//! Live events of calls, posted while the calls are on.
//!
//! They are for screens, not for books: nothing is kept on disk, each event is tried for a short while and then
//! given up, and all of it has bounds. Records do not wait for events and have a client of their own.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use metrics::Metrics;
use parking_lot::Mutex;
use record::{CallEvent, Claims};
use reqwest::{StatusCode, header};
use secrecy::ExposeSecret;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::task::TaskTracker;

use super::attempt::{Target, causes};

/// Posts at the same time, of all calls.
const AT_ONCE: usize = 8;
/// Events of one call that may wait.
const QUEUE: usize = 64;
/// Timeout of one attempt.
const WITHIN: Duration = Duration::from_secs(5);
/// Waits between the attempts at one event; after the last one it is given up.
const WAITS: [Duration; 4] = [
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_secs(3),
    Duration::from_secs(6),
];
/// An event that could not be posted within this time is given up: it is no news any more.
const NEWS_FOR: Duration = Duration::from_secs(30);
/// Calls whose room may still send a recording.
const RECENT: usize = 1_000;

/// Takes the events of all calls. Cheap to clone; does nothing if no events are wanted.
#[derive(Clone, Default)]
pub struct Events(Option<Arc<Shared>>);

struct Shared {
    target: Target,
    places: Semaphore,
    tasks: TaskTracker,
    metrics: Metrics,
    /// Events are given up now.
    failing: AtomicBool,
    /// The latest calls by the sid of their room, the oldest first.
    recent: Mutex<VecDeque<(String, CallEvents)>>,
}

/// The events of one call, in order. Cheap to clone.
#[derive(Clone)]
pub struct CallEvents {
    /// Each with the time when it was queued.
    queue: mpsc::Sender<(Instant, CallEvent)>,
    next: Arc<Mutex<u32>>,
    /// Nothing more is posted, also of what waits.
    closed: Arc<AtomicBool>,
    metrics: Metrics,
    /// What is common to all events of the call, as it was known last.
    about: Arc<Mutex<CallEvent>>,
}

impl Events {
    /// Of the target only what concerns requests counts: events are small and not kept.
    pub fn new(target: Target, metrics: Metrics) -> Self {
        Self(Some(Arc::new(Shared {
            target,
            places: Semaphore::new(AT_ONCE),
            tasks: TaskTracker::new(),
            metrics,
            failing: AtomicBool::new(false),
            recent: Mutex::default(),
        })))
    }

    pub fn are_wanted(&self) -> bool {
        self.0.is_some()
    }

    /// Begins the events of a call. `None` if no events are wanted. `about`: call, room and caller; its event and
    /// time do not count. `first`: the number of its first event.
    pub fn begin(&self, about: CallEvent, first: u32) -> Option<CallEvents> {
        let shared = self.0.clone()?;
        let (queue, waiting) = mpsc::channel(QUEUE);
        let events = CallEvents {
            queue,
            next: Arc::new(Mutex::new(first)),
            closed: Arc::default(),
            metrics: shared.metrics.clone(),
            about: Arc::new(Mutex::new(about)),
        };
        let (tasks, closed) = (shared.tasks.clone(), events.closed.clone());
        tasks.spawn(async move { shared.post_all(waiting, &closed).await });
        Some(events)
    }

    /// The call of a room to which recordings of that room belong from now on.
    pub fn remember(&self, room_sid: &str, events: &CallEvents) {
        let Some(shared) = &self.0 else { return };
        let mut recent = shared.recent.lock();
        recent.retain(|(sid, _)| sid != room_sid);
        recent.push_back((room_sid.to_owned(), events.clone()));
        if recent.len() > RECENT {
            recent.pop_front();
        }
    }

    /// Nothing more is posted of the last call of a room.
    pub fn forget(&self, room_sid: &str) {
        let Some(shared) = &self.0 else { return };
        shared.recent.lock().retain(|(sid, events)| {
            let other = sid != room_sid;
            if !other {
                events.close();
            }
            other
        });
    }

    /// The last call of a room, if it is not long ago.
    pub fn of_room(&self, sid: &str) -> Option<CallEvents> {
        let recent = self.0.as_ref()?.recent.lock();
        recent.iter().find(|(of, _)| of == sid).map(|(_, events)| events.clone())
    }

    /// Gives waiting events some time.
    pub async fn flush(&self, within: Duration) {
        if let Some(shared) = &self.0 {
            // Their tasks end when nothing can be added any more.
            shared.recent.lock().clear();
            shared.tasks.close();
            let _ = timeout(within, shared.tasks.wait()).await;
        }
    }
}

impl CallEvents {
    /// Nothing more is posted, also of what waits.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Posts one event. `change` sets what it says.
    pub fn post(&self, change: impl FnOnce(&mut CallEvent)) {
        let mut event = self.about.lock().clone();
        change(&mut event);
        let mut next = self.next.lock();
        event.sequence = *next;
        *next += 1;
        // If too many wait, the endpoint does not take events: the missing number shows it.
        if self.queue.try_send((Instant::now(), event)).is_err() {
            self.metrics.event(false);
        }
    }

    /// What is known of the caller now.
    pub fn update(&self, about: CallEvent) {
        *self.about.lock() = about;
    }
}

/// What came of an attempt.
enum Outcome {
    Taken,
    /// No attempt could change it.
    Refused(String),
    Failed(String),
}

impl Shared {
    async fn post_all(
        &self,
        mut waiting: mpsc::Receiver<(Instant, CallEvent)>,
        closed: &AtomicBool,
    ) {
        while let Some((queued, event)) = waiting.recv().await {
            let Some(taken) = self.post(&event, queued + NEWS_FOR, closed).await else { return };
            self.metrics.event(taken.is_ok());
            match taken {
                Ok(()) if self.failing.swap(false, Ordering::Relaxed) => {
                    tracing::info!(endpoint = self.target.shown, "live events are taken again");
                }
                Ok(()) => {}
                Err(error) if !self.failing.swap(true, Ordering::Relaxed) => tracing::warn!(
                    call_id = event.call_id,
                    error,
                    endpoint = self.target.shown,
                    "live events are not taken, and given up after some seconds; records do not depend \
                     on them"
                ),
                Err(_) => {}
            }
        }
    }

    /// `None` if nothing more is to be posted of the call.
    async fn post(
        &self,
        event: &CallEvent,
        until: Instant,
        closed: &AtomicBool,
    ) -> Option<Result<(), String>> {
        let mut waits = WAITS.iter();
        loop {
            // The semaphore is never closed, so an error means that the time is over.
            let Ok(Ok(place)) = timeout_at(until, self.places.acquire()).await else {
                return Some(Err("too many events wait for an answer".into()));
            };
            // Also between two attempts a caller may opt out.
            if closed.load(Ordering::Relaxed) {
                return None;
            }
            match self.attempt(event).await {
                Outcome::Taken => return Some(Ok(())),
                Outcome::Refused(why) => return Some(Err(why)),
                Outcome::Failed(why) => match waits.next() {
                    Some(wait) if Instant::now() + *wait < until => {
                        drop(place);
                        sleep(*wait).await;
                    }
                    _ => return Some(Err(why)),
                },
            }
        }
    }

    async fn attempt(&self, event: &CallEvent) -> Outcome {
        let t = &self.target;
        // Plain texts and numbers: they always serialize.
        let body = serde_json::to_vec(event).unwrap_or_default();
        let id = format!("{}/{}", event.call_id, event.sequence);
        let mut request = (t.client.post(t.endpoint.clone()))
            .timeout(WITHIN)
            .headers(t.headers.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", &id);
        if let Some(secret) = &t.jwt_secret {
            let now = (t.now)().millis().div_euclid(1_000);
            let mut claims = Claims::of(&id, &body, &body, now);
            claims.timestamp.clone_from(&event.time);
            match claims.sign(secret.expose_secret()) {
                Ok(token) => request = request.bearer_auth(token),
                Err(e) => return Outcome::Refused(e.to_string()),
            }
        }
        match request.body(body).send().await {
            Ok(answer) => {
                let (status, why) =
                    (answer.status(), format!("answered {}", answer.status().as_u16()));
                let later = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
                if status.is_success() || status == StatusCode::CONFLICT {
                    Outcome::Taken
                } else if status.is_redirection()
                    || status.is_client_error() && !later.contains(&status)
                {
                    Outcome::Refused((t.explain)(why))
                } else {
                    Outcome::Failed((t.explain)(why))
                }
            }
            Err(e) => Outcome::Failed((t.explain)(causes(&e))),
        }
    }
}
