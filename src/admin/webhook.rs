//! `POST /webhook`: LiveKit reports new rooms and participants, so that a room is checked sooner than the
//! reconciler's list would cause it.
//!
//! In: LiveKit's signed events. Out: requests to check a room: the content of a webhook is not relied on, but
//! read from the server again. A lost webhook costs a second. One exception: a phone leg that was refused at
//! once is nowhere but in the webhook of its leave. The port may be open to
//! strangers: a request without a token for a webhook is refused before any of its body is read.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::to_bytes,
    extract::{Request, State},
    http::{StatusCode, header::AUTHORIZATION},
    routing::post,
};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use call::Moment;
use delivery::events::Events;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use livekit_protocol::{EgressInfo, WebhookEvent};
use parking_lot::Mutex;
use record::{Egress, EgressFile, EventKind};
use secrecy::ExposeSecret;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::{
    sync::{Semaphore, mpsc},
    time::timeout,
};

use crate::{
    clock::WallClock,
    config::LiveKit,
    observer::missed::MissedLeg,
    telemetry::{LogThrottle, masked},
    worker::ReconcileRequest,
};

/// Limit for a body in bytes: the metadata of a room and of a participant may have 512 KiB each.
const MAX_BODY: usize = 2 * 1024 * 1024;
/// Seconds by which clocks may differ.
const LEEWAY: i64 = 60;
/// Files of one egress that an event names.
const MAX_FILES: usize = 32;
const READ_WITHIN: Duration = Duration::from_secs(5);
/// Bodies read at the same time; LiveKit sends ten.
const AT_ONCE: usize = 32;

#[derive(Clone)]
pub(crate) struct Webhook {
    key: DecodingKey,
    validation: Validation,
    requests: mpsc::Sender<ReconcileRequest>,
    places: Arc<Semaphore>,
    refused: Arc<Mutex<LogThrottle>>,
    wall: WallClock,
    events: Events,
}

/// The claims of a webhook's token.
#[derive(Deserialize)]
struct Claims {
    /// Unix seconds.
    #[serde(default)]
    nbf: i64,
    exp: i64,
    /// Of the body, as base64. A participant's token is signed with the same key, but has none.
    #[serde(default)]
    sha256: String,
}

impl Webhook {
    /// Events must be signed with this server's key.
    pub(crate) fn new(
        livekit: &LiveKit,
        requests: mpsc::Sender<ReconcileRequest>,
        wall: WallClock,
        events: Events,
    ) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.set_issuer(&[&livekit.api_key]);
        validation.set_required_spec_claims(&["exp", "iss"]);
        // Times are checked by the server's clock, not by this machine's.
        validation.validate_exp = false;
        Self {
            key: DecodingKey::from_secret(livekit.api_secret.expose_secret().as_bytes()),
            validation,
            requests,
            places: Arc::new(Semaphore::new(AT_ONCE)),
            refused: Arc::default(),
            wall,
            events,
        }
    }

    /// `POST /webhook`.
    pub(crate) fn route(self) -> Router {
        Router::new().route("/webhook", post(receive)).with_state(self)
    }

    async fn take(&self, request: Request) -> StatusCode {
        let Ok(_place) = self.places.try_acquire() else { return StatusCode::TOO_MANY_REQUESTS };
        let token = request.headers().get(AUTHORIZATION).and_then(|v| v.to_str().ok());
        let token = token.unwrap_or_default().to_owned();
        let token = token.strip_prefix("Bearer ").unwrap_or(&token);
        let claims = match self.verified(token) {
            Ok(claims) => claims,
            Err(e) => return self.refuse(&e),
        };
        let body = match timeout(READ_WITHIN, to_bytes(request.into_body(), MAX_BODY)).await {
            Err(_) => return StatusCode::REQUEST_TIMEOUT,
            Ok(Err(_)) => return StatusCode::PAYLOAD_TOO_LARGE,
            Ok(Ok(body)) => body,
        };
        if claims.sha256 != BASE64.encode(Sha256::digest(&body)) {
            return self.refuse("the token is for another body");
        }
        let event: WebhookEvent = match serde_json::from_slice(&body) {
            Ok(event) => event,
            // It is signed with the right key but cannot be decoded: a retry would not help.
            Err(e) => {
                tracing::debug!(error = %e, "a webhook that is not understood");
                return StatusCode::BAD_REQUEST;
            }
        };
        if let Some(egress) = event.egress_info.as_ref().filter(|_| event.event == "egress_ended") {
            self.recorded(egress);
        }
        let left = missed_leg(&event, || self.wall.now());
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

    /// Posts a live event about a recording of a call that this worker observed.
    fn recorded(&self, egress: &EgressInfo) {
        let Some(events) = self.events.of_room(&egress.room_id) else { return };
        let files = egress.file_results.iter().take(MAX_FILES).map(|f| EgressFile {
            filename: f.filename.clone(),
            location: f.location.clone(),
            duration_seconds: (f.duration > 0).then(|| f.duration as f64 / 1e9),
            bytes: f.size.try_into().unwrap_or(0),
        });
        let recording = Egress {
            egress_id: egress.egress_id.clone(),
            error: Some(egress.error.clone()).filter(|e| !e.is_empty()),
            files: files.collect(),
        };
        events.post(|e| {
            (e.event, e.time) = (EventKind::Recording, self.wall.now().to_rfc3339());
            e.recording = Some(recording);
        });
    }

    /// The claims of a token that is a webhook's, signed with our key, and valid now.
    fn verified(&self, token: &str) -> Result<Claims, String> {
        let token = jsonwebtoken::decode::<Claims>(token, &self.key, &self.validation);
        let claims = token.map_err(|e| e.to_string())?.claims;
        let now = self.wall.now().millis().div_euclid(1_000);
        if claims.sha256.is_empty() {
            Err("no webhook's token".into())
        } else if claims.exp.saturating_add(LEEWAY) < now {
            Err("the token has expired".into())
        } else if claims.nbf.saturating_sub(LEEWAY) > now {
            Err("the token is not valid yet".into())
        } else {
            Ok(claims)
        }
    }

    fn refuse(&self, error: &str) -> StatusCode {
        let due = self.refused.lock().due();
        if let Some(times) = due {
            tracing::warn!(
                error,
                times,
                clock_ahead_s = self.wall.wrong_by(),
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

async fn receive(State(webhook): State<Webhook>, request: Request) -> StatusCode {
    webhook.take(request).await
}
