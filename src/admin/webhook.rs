//! `POST /webhook`: LiveKit reports new rooms and participants, so that a room is checked sooner than the
//! reconciler's list would cause it.
//!
//! In: LiveKit's signed events. Out: requests to check a room: the content of a webhook is not relied on, but
//! read from the server again. A lost webhook costs a second. One exception: a phone leg that was refused at
//! once is nowhere but in the webhook of its leave. The port may be open to
//! strangers: a request without a token for a webhook is refused before any of its body is read.

use std::{sync::Arc, time::Duration};

use axum::{
    body::to_bytes,
    extract::{Request, State},
    http::{StatusCode, header::AUTHORIZATION},
};
use call::Moment;
use livekit_api::{
    access_token::TokenVerifier,
    webhooks::{WebhookError, WebhookReceiver},
};
use livekit_protocol::WebhookEvent;
use parking_lot::Mutex;
use secrecy::ExposeSecret;
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};

use super::LogThrottle;
use crate::{
    clock::WallClock, config::LiveKit, observer::missed::MissedLeg, telemetry::masked,
    worker::ReconcileRequest,
};

/// Limit for a body in bytes: the metadata of a room and of a participant may have 512 KiB each.
const MAX_BODY: usize = 2 * 1024 * 1024;
const READ_WITHIN: Duration = Duration::from_secs(5);
/// Bodies read at the same time; LiveKit sends ten.
const AT_ONCE: usize = 32;

#[derive(Clone)]
pub(crate) struct Webhook {
    verifier: TokenVerifier,
    receiver: WebhookReceiver,
    requests: mpsc::Sender<ReconcileRequest>,
    places: Arc<Semaphore>,
    refused: Arc<Mutex<LogThrottle>>,
    /// The server's time.
    now: Arc<dyn Fn() -> Moment + Send + Sync>,
}

impl Webhook {
    /// Events must be signed with this server's key.
    pub(crate) fn new(
        livekit: &LiveKit,
        requests: mpsc::Sender<ReconcileRequest>,
        wall: WallClock,
    ) -> Self {
        let verifier =
            TokenVerifier::with_api_key(&livekit.api_key, livekit.api_secret.expose_secret());
        Self {
            receiver: WebhookReceiver::new(verifier.clone()),
            verifier,
            requests,
            places: Arc::new(Semaphore::new(AT_ONCE)),
            refused: Arc::default(),
            now: Arc::new(move || wall.now()),
        }
    }

    async fn take(&self, request: Request) -> StatusCode {
        let Ok(_place) = self.places.try_acquire() else { return StatusCode::TOO_MANY_REQUESTS };
        let token = request.headers().get(AUTHORIZATION).and_then(|v| v.to_str().ok());
        let token = token.unwrap_or_default().to_owned();
        let token = token.strip_prefix("Bearer ").unwrap_or(&token);
        match self.verifier.verify(token) {
            // A participant's token is signed with the same key, but has no hash of a body.
            Ok(claims) if claims.sha256.is_empty() => return self.refuse("no webhook's token"),
            Ok(_) => {}
            Err(e) => return self.refuse(&e.to_string()),
        }
        let body = match timeout(READ_WITHIN, to_bytes(request.into_body(), MAX_BODY)).await {
            Err(_) => return StatusCode::REQUEST_TIMEOUT,
            Ok(Err(_)) => return StatusCode::PAYLOAD_TOO_LARGE,
            Ok(Ok(body)) => body,
        };
        let Ok(body) = std::str::from_utf8(&body) else { return StatusCode::BAD_REQUEST };
        let event = match self.receiver.receive(body, token) {
            Ok(event) => event,
            // It is signed with the right key but cannot be decoded: a retry would not help.
            Err(WebhookError::InvalidData(e)) => {
                tracing::debug!(error = %e, "a webhook that is not understood");
                return StatusCode::BAD_REQUEST;
            }
            Err(e) => return self.refuse(&e.to_string()),
        };
        let left = missed_leg(&event, &*self.now);
        for request in left.into_iter().chain(check_request(event)) {
            // If the queue is full, the next list of all rooms finds the room as soon. A leg that has left
            // is in no list.
            let leg = matches!(request, ReconcileRequest::LegLeft(_));
            if self.requests.try_send(request).is_err() && leg {
                tracing::warn!("too many webhooks at once: a short phone leg is not looked at");
            }
        }
        StatusCode::OK
    }

    fn refuse(&self, error: &str) -> StatusCode {
        let due = self.refused.lock().due();
        if let Some(times) = due {
            tracing::warn!(
                error,
                times,
                "a webhook was refused; LiveKit's webhook.api_key must be LIVEKIT_API_KEY"
            );
        }
        StatusCode::UNAUTHORIZED
    }
}

/// A phone leg that has left before it was answered: perhaps no observer saw it.
fn missed_leg(event: &WebhookEvent, now: impl Fn() -> Moment) -> Option<ReconcileRequest> {
    /// LiveKit sends an event at once, with its time in whole seconds; a retry comes later.
    const AT_ONCE_MS: i64 = 2_000;
    if event.event != "participant_left" {
        return None;
    }
    let (room, participant) = (event.room.clone()?, event.participant.clone()?);
    let created_at = Moment::from_millis(event.created_at.saturating_mul(1000));
    let now = now();
    let at_once = (0..=AT_ONCE_MS).contains(&now.since(created_at));
    let left_at = if at_once { now } else { created_at };
    let leg = MissedLeg::of(room, participant, left_at)?;
    Some(ReconcileRequest::LegLeft(Box::new(leg)))
}

/// The request that an event causes: a caller may have joined, or an observer may have left.
fn check_request(event: WebhookEvent) -> Option<ReconcileRequest> {
    let room = event.room?;
    match event.event.as_str() {
        "room_started" | "participant_joined" | "participant_left" => {
            tracing::debug!(room = masked(&room.name), event = event.event, "webhook");
            Some(ReconcileRequest::Room { name: room.name, sid: room.sid })
        }
        _ => None,
    }
}

pub(super) async fn receive(State(webhook): State<Webhook>, request: Request) -> StatusCode {
    webhook.take(request).await
}
