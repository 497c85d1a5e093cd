//! `POST /webhook`: LiveKit tells of rooms and participants as they come, so that a room is looked
//! at sooner than the reconciler would.
//!
//! In: LiveKit's signed events. Out: requests to look at a room, never more: what a webhook says is
//! asked of the server again. One that is lost costs a second.

use axum::{
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
};
use livekit_api::{
    access_token::TokenVerifier,
    webhooks::{WebhookError, WebhookReceiver},
};
use livekit_protocol::WebhookEvent;
use tokio::sync::mpsc;

use crate::{config::LiveKit, telemetry::masked, worker::Ask};

/// Bytes: a room's and a participant's metadata are 512 KiB each.
pub(super) const MAX_BODY: usize = 2 * 1024 * 1024;

#[derive(Clone)]
pub(crate) struct Webhook {
    receiver: WebhookReceiver,
    asks: mpsc::Sender<Ask>,
}

impl Webhook {
    /// Events must be signed with this server's key.
    pub(crate) fn new(livekit: &LiveKit, asks: mpsc::Sender<Ask>) -> Self {
        let verifier = TokenVerifier::with_api_key(&livekit.api_key, livekit.api_secret.expose());
        Self { receiver: WebhookReceiver::new(verifier), asks }
    }

    fn take(&self, headers: &HeaderMap, body: &[u8]) -> StatusCode {
        let token = headers.get(AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let token = token.strip_prefix("Bearer ").unwrap_or(token);
        let Ok(body) = std::str::from_utf8(body) else { return StatusCode::BAD_REQUEST };
        let event = match self.receiver.receive(body, token) {
            Ok(event) => event,
            // Signed by the right key, and not understood: nothing that would be better next time.
            Err(WebhookError::InvalidData(e)) => {
                tracing::debug!(error = %e, "a webhook that is not understood");
                return StatusCode::BAD_REQUEST;
            }
            Err(e) => {
                tracing::warn!(
                    error = %e,
                    "a webhook was refused; LiveKit's webhook.api_key must be LIVEKIT_API_KEY"
                );
                return StatusCode::UNAUTHORIZED;
            }
        };
        if let Some(ask) = ask(event) {
            // With so many waiting the list of all rooms is as quick.
            let _ = self.asks.try_send(ask);
        }
        StatusCode::OK
    }
}

/// Somebody came who may need us, or one of ours left.
fn ask(event: WebhookEvent) -> Option<Ask> {
    let room = event.room?;
    match event.event.as_str() {
        "room_started" | "participant_joined" | "participant_left" => {
            tracing::debug!(room = masked(&room.name), event = event.event, "webhook");
            Some(Ask::Room { name: room.name, sid: room.sid })
        }
        _ => None,
    }
}

pub(super) async fn receive(
    State(webhook): State<Webhook>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    webhook.take(&headers, &body)
}
