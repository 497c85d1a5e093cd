//! Webhooks: posts signed events of rooms.
//!
//! In: events, from rooms. Out: `POST`s of `WebhookEvent` JSON with `Authorization: <jwt>`, whose `sha256`
//! claim is the body's. One queue and one sender per address, so that events keep their order. Must never
//! hold up a room: a full queue drops the event, as the real server does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{Method, Request, header},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use livekit_protocol as lk;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::{
    clock::wall_ms,
    config::Config,
    token::{self, Claims},
};

/// Events that may wait for one receiver.
const QUEUE: usize = 100;
/// Pauses before the second, third and fourth attempt.
const RETRIES: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(500), Duration::from_secs(2)];
/// Time limit of one attempt.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Validity of the signature, seconds.
const TOKEN_TTL: u64 = 300;

/// The queues of all receivers; empty without a configuration.
#[derive(Default)]
pub(crate) struct Webhooks {
    queues: Vec<mpsc::Sender<String>>,
    /// Events that are neither delivered nor given up; a shutdown waits for them.
    pending: Arc<AtomicUsize>,
}

impl Webhooks {
    /// Starts one sender task for each receiver.
    pub(crate) fn start(config: &Config) -> Webhooks {
        let Some(hook) = &config.webhook else { return Webhooks::default() };
        let secret = config.keys.get(&hook.api_key).cloned().unwrap_or_default();
        let pending = Arc::new(AtomicUsize::new(0));
        let start = |url: &String| {
            let (tx, rx) = mpsc::channel(QUEUE);
            let to = Receiver {
                url: url.clone(),
                api_key: hook.api_key.clone(),
                secret: secret.clone(),
            };
            tokio::spawn(deliver(to, rx, pending.clone()));
            tx
        };
        Webhooks { queues: hook.urls.iter().map(start).collect(), pending: pending.clone() }
    }

    /// Whether no event waits to be delivered.
    pub(crate) fn idle(&self) -> bool {
        self.pending.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn room(&self, room: &lk::Room, event: &str) {
        self.send(lk::WebhookEvent {
            event: event.into(),
            room: Some(room.clone()),
            ..Default::default()
        });
    }

    pub(crate) fn participant(&self, room: &lk::Room, who: &lk::ParticipantInfo, event: &str) {
        self.send(lk::WebhookEvent {
            event: event.into(),
            room: Some(room.clone()),
            participant: Some(who.clone()),
            ..Default::default()
        });
    }

    pub(crate) fn track(
        &self,
        room: &lk::Room,
        who: &lk::ParticipantInfo,
        track: &lk::TrackInfo,
        event: &str,
    ) {
        // The real server sends no more of room and participant in this event.
        let room =
            lk::Room { sid: room.sid.clone(), name: room.name.clone(), ..Default::default() };
        let who = lk::ParticipantInfo {
            sid: who.sid.clone(),
            identity: who.identity.clone(),
            ..Default::default()
        };
        self.send(lk::WebhookEvent {
            event: event.into(),
            room: Some(room),
            participant: Some(who),
            track: Some(track.clone()),
            ..Default::default()
        });
    }

    fn send(&self, mut event: lk::WebhookEvent) {
        if self.queues.is_empty() {
            return;
        }
        event.id = format!("EV_{}", uuid::Uuid::new_v4().simple());
        event.created_at = wall_ms() / 1000;
        let Ok(body) = serde_json::to_string(&event) else { return };
        for queue in &self.queues {
            self.pending.fetch_add(1, Ordering::Relaxed);
            if queue.try_send(body.clone()).is_err() {
                self.pending.fetch_sub(1, Ordering::Relaxed);
                tracing::warn!(event = event.event, "webhook dropped: the receiver is too slow");
            }
        }
    }
}

/// The signature of a body.
fn sign(body: &str, api_key: &str, secret: &str) -> String {
    let now = wall_ms() as u64 / 1000;
    let claims = Claims {
        iss: api_key.into(),
        nbf: now,
        exp: now + TOKEN_TTL,
        sha256: STANDARD.encode(Sha256::digest(body)),
        ..Default::default()
    };
    token::sign(&claims, secret)
}

/// An address, and the key that signs its posts.
struct Receiver {
    url: String,
    api_key: String,
    secret: String,
}

async fn deliver(to: Receiver, mut queue: mpsc::Receiver<String>, pending: Arc<AtomicUsize>) {
    let client: Client<HttpConnector, Body> = Client::builder(TokioExecutor::new()).build_http();
    while let Some(body) = queue.recv().await {
        let mut pauses = RETRIES.iter();
        loop {
            match attempt(&client, &to.url, &body, &sign(&body, &to.api_key, &to.secret)).await {
                Ok(()) => break,
                Err(error) => match pauses.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => {
                        tracing::warn!(error, "webhook given up");
                        break;
                    }
                },
            }
        }
        pending.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn attempt(
    client: &Client<HttpConnector, Body>,
    url: &str,
    body: &str,
    jwt: &str,
) -> Result<(), String> {
    let request = Request::builder()
        .method(Method::POST)
        .uri(url)
        .header(header::CONTENT_TYPE, "application/webhook+json")
        .header(header::AUTHORIZATION, jwt)
        .header(header::USER_AGENT, concat!("livekit-devserver/", env!("CARGO_PKG_VERSION")))
        .body(Body::from(body.to_owned()))
        .map_err(|e| e.to_string())?;
    match tokio::time::timeout(TIMEOUT, client.request(request)).await {
        Ok(Ok(response)) if response.status().is_success() => Ok(()),
        Ok(Ok(response)) => Err(format!("status {}", response.status())),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("timeout".into()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::{DEV_KEY, DEV_SECRET};

    #[test]
    fn the_sdks_own_receiver_accepts_a_webhook_and_notices_a_change() {
        use livekit_api::{access_token::TokenVerifier, webhooks::WebhookReceiver};
        let receiver = WebhookReceiver::new(TokenVerifier::with_api_key(DEV_KEY, DEV_SECRET));
        let body = r#"{"event":"room_started","room":{"name":"r"},"id":"EV_1","createdAt":"7"}"#;
        let jwt = sign(body, DEV_KEY, DEV_SECRET);
        let event = receiver.receive(body, &jwt).unwrap();
        assert_eq!((event.event.as_str(), event.created_at), ("room_started", 7));
        assert!(receiver.receive(&body.replace('7', "8"), &jwt).is_err());
        assert!(
            receiver.receive(body, &sign(body, DEV_KEY, &DEV_SECRET.replace('d', "x"))).is_err()
        );
    }
}
