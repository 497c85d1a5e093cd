//! What arrives right now, for screens: server-sent events.
//!
//! Nothing waits for a screen: one that is too slow misses some, and learns how many.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    http::{HeaderName, HeaderValue, StatusCode},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast};
use tokio_util::sync::CancellationToken;

use crate::answer::Refused;

/// Arrivals that a screen may be behind.
const BEHIND: usize = 1_000;
const SCREENS: usize = 100;
/// Proxies end connections that are silent for a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Clone, Debug)]
struct Arrival {
    /// `call` or `event`.
    kind: &'static str,
    json: Arc<str>,
}

pub struct Live {
    to: broadcast::Sender<Arrival>,
    screens: Arc<Semaphore>,
    /// The receiver stops: streams end.
    stopping: CancellationToken,
}

impl Live {
    pub fn new(stopping: CancellationToken) -> Self {
        let to = broadcast::Sender::new(BEHIND);
        Self { to, screens: Arc::new(Semaphore::new(SCREENS)), stopping }
    }

    /// Shows an arrival. `json` is made only if somebody looks.
    pub fn show(&self, kind: &'static str, json: impl FnOnce() -> String) {
        if self.to.receiver_count() > 0 {
            // An error means that the last one has just gone.
            let _ = self.to.send(Arrival { kind, json: json().into() });
        }
    }

    /// # Errors
    /// If too many look already.
    pub fn watch(&self) -> Result<Response, Refused> {
        self.watched(|arrival| one_line(&arrival.json))
    }

    /// Only that something arrives, and nothing of it: for pages that then ask for what their reader may see.
    ///
    /// # Errors
    /// If too many look already.
    pub fn watch_kinds(&self) -> Result<Response, Refused> {
        self.watched(|_| "1".into())
    }

    fn watched(&self, data: fn(&Arrival) -> String) -> Result<Response, Refused> {
        let Ok(place) = self.screens.clone().try_acquire_owned() else {
            let problem = format!("{SCREENS} others are looking");
            return Err(Refused::new(StatusCode::TOO_MANY_REQUESTS, problem));
        };
        let arrivals = arrivals(self.to.subscribe(), place, data);
        let arrivals = arrivals.take_until(self.stopping.clone().cancelled_owned());
        let sse = Sse::new(arrivals).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
        let mut response = sse.into_response();
        // nginx would collect them.
        let name = HeaderName::from_static("x-accel-buffering");
        response.headers_mut().insert(name, HeaderValue::from_static("no"));
        Ok(response)
    }
}

fn arrivals(
    from: broadcast::Receiver<Arrival>,
    place: OwnedSemaphorePermit,
    data: fn(&Arrival) -> String,
) -> impl Stream<Item = Result<Event, Infallible>> {
    // The first comment makes clients see at once that the stream is open.
    let open = stream::once(async { Ok(Event::default().comment("open")) });
    open.chain(stream::unfold((from, place), move |(mut from, place)| async move {
        let event = match from.recv().await {
            // One line: JSON has no line breaks outside of texts, and none inside.
            Ok(arrival) => Event::default().event(arrival.kind).data(data(&arrival)),
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                Event::default().event("missed").data(missed.to_string())
            }
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        Some((Ok(event), (from, place)))
    }))
}

/// JSON on one line: a line break in it is white space between its parts.
pub(crate) fn one_line(json: &str) -> String {
    json.replace(['\r', '\n'], " ")
}
