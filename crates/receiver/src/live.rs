//! What arrives right now, for screens: server-sent events.
//!
//! Nothing waits for a screen: one that is too slow misses some, and learns how many. One that was cut off and comes
//! again says what it has seen last (`Last-Event-ID`, as browsers do by themselves), and gets what came meanwhile: the
//! last arrivals are remembered.

mod ring;

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, StreamExt, stream};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use self::ring::{Arrival, Ring, Since};
use crate::answer::Refused;

/// Arrivals that a screen may be behind.
const BEHIND: usize = 1_000;
const SCREENS: usize = 100;
/// Proxies end connections that are silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

pub struct Live {
    to: broadcast::Sender<Arrival>,
    /// Locked while an arrival is sent and while a screen begins to listen: it misses none in between.
    last: Mutex<Ring>,
    screens: Arc<Semaphore>,
    /// The receiver stops: streams end.
    stopping: CancellationToken,
}

impl Live {
    pub fn new(stopping: CancellationToken) -> Self {
        let to = broadcast::Sender::new(BEHIND);
        let last = Mutex::new(Ring::new(BEHIND));
        Self { to, last, screens: Arc::new(Semaphore::new(SCREENS)), stopping }
    }

    /// Shows an arrival.
    pub fn show(&self, kind: &'static str, json: String) {
        let mut last = self.last.lock();
        let arrival = Arrival { number: last.next(), kind, json: json.into() };
        last.push(arrival.clone());
        // An error means that nobody looks.
        let _ = self.to.send(arrival);
    }

    /// Forgets what arrived: something was deleted, and nobody may get it any more.
    pub fn forget(&self) {
        self.last.lock().clear();
    }

    /// # Errors
    /// If too many look already.
    pub fn watch(&self, headers: &HeaderMap) -> Result<Response, Refused> {
        let place = self.place()?;
        let seen = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok());
        let (from, since, process) = {
            let last = self.last.lock();
            let since = seen.map_or(Since::Here(vec![]), |id| last.since(id));
            (self.to.subscribe(), since, last.process())
        };
        let before = match since {
            Since::Here(arrivals) => {
                let event = move |arrival| whole(process, &arrival);
                arrivals.into_iter().map(event).collect::<Vec<_>>()
            }
            // Unknown is how many, if they came to an earlier process.
            Since::Missed(number) => vec![missed(number)],
        };
        let arrivals = arrivals(from, place, move |arrival| whole(process, arrival));
        Ok(self.answer(stream::iter(before).map(Ok), arrivals))
    }

    /// Only that something arrives, and nothing of it: for pages that then ask for what their reader may see.
    ///
    /// # Errors
    /// If too many look already.
    pub fn watch_kinds(&self) -> Result<Response, Refused> {
        let place = self.place()?;
        let kind = |arrival: &Arrival| Event::default().event(arrival.kind).data("1");
        Ok(self.answer(stream::empty(), arrivals(self.to.subscribe(), place, kind)))
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, Refused> {
        self.screens.clone().try_acquire_owned().map_err(|_| {
            let problem = format!("{SCREENS} others are looking");
            Refused::new(StatusCode::TOO_MANY_REQUESTS, problem)
        })
    }

    fn answer(
        &self,
        before: impl Stream<Item = Result<Event, Infallible>> + Send + 'static,
        arrivals: impl Stream<Item = Result<Event, Infallible>> + Send + 'static,
    ) -> Response {
        // The first comment makes clients see at once that the stream is open.
        let open = stream::once(async { Ok(Event::default().comment("open")) });
        let all = open.chain(before).chain(arrivals);
        let all = all.take_until(self.stopping.clone().cancelled_owned());
        let sse = Sse::new(all).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
        let mut response = sse.into_response();
        // nginx would collect them.
        let name = HeaderName::from_static("x-accel-buffering");
        response.headers_mut().insert(name, HeaderValue::from_static("no"));
        response
    }
}

/// From now on. `shown`: what a screen sees of an arrival.
fn arrivals(
    from: broadcast::Receiver<Arrival>,
    place: OwnedSemaphorePermit,
    shown: impl Fn(&Arrival) -> Event + Send + 'static,
) -> impl Stream<Item = Result<Event, Infallible>> + Send {
    stream::unfold((from, place, shown), |(mut from, place, shown)| async move {
        let event = match from.recv().await {
            Ok(arrival) => shown(&arrival),
            Err(broadcast::error::RecvError::Lagged(number)) => missed(Some(number)),
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        Some((Ok(event), (from, place, shown)))
    })
}

fn whole(process: u64, arrival: &Arrival) -> Event {
    let id = ring::id(process, arrival.number);
    Event::default().id(id).event(arrival.kind).data(one_line(&arrival.json))
}

fn missed(number: Option<u64>) -> Event {
    Event::default().event("missed").data(number.map_or("null".into(), |n| n.to_string()))
}

/// JSON on one line: a line break in it is white space between its parts.
pub(crate) fn one_line(json: &str) -> String {
    json.replace(['\r', '\n'], " ")
}
