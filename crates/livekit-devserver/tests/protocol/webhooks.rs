//! Webhooks as a receiver gets them.

use std::sync::Arc;

use axum::{Router, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use livekit_api::{access_token::TokenVerifier, webhooks::WebhookReceiver};
use livekit_devserver::{DEV_KEY, DEV_SECRET, WebhookConfig, proto as lk};
use parking_lot::Mutex;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use crate::{
    raw::Signal,
    support::{Client, PATIENCE, agent, caller, server_with},
};

#[derive(Clone)]
struct Receiver {
    events: UnboundedSender<lk::WebhookEvent>,
    /// The next answers, the last first; after them 200.
    answers: Arc<Mutex<Vec<StatusCode>>>,
}

async fn receive(State(receiver): State<Receiver>, headers: HeaderMap, body: String) -> StatusCode {
    let answer = receiver.answers.lock().pop().unwrap_or(StatusCode::OK);
    if answer.is_success() {
        assert_eq!(headers["content-type"], "application/webhook+json");
        let verify = WebhookReceiver::new(TokenVerifier::with_api_key(DEV_KEY, DEV_SECRET));
        let event = verify.receive(&body, headers["authorization"].to_str().unwrap());
        receiver.events.send(event.expect("a signed event")).unwrap();
    }
    answer
}

/// A receiver's address and the events that it receives.
async fn receiver(answers: Vec<StatusCode>) -> (String, UnboundedReceiver<lk::WebhookEvent>) {
    let (events, received) = mpsc::unbounded_channel();
    let state = Receiver { events, answers: Arc::new(Mutex::new(answers)) };
    let app = Router::new().route("/hook", post(receive)).with_state(state);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, received)
}

async fn next(events: &mut UnboundedReceiver<lk::WebhookEvent>) -> lk::WebhookEvent {
    tokio::time::timeout(PATIENCE, events.recv()).await.expect("no webhook came").unwrap()
}

/// Event and identity.
fn gist(event: &lk::WebhookEvent) -> (&str, &str) {
    (&event.event, event.participant.as_ref().map_or("", |p| &p.identity))
}

#[tokio::test]
async fn a_rooms_events_are_posted_in_order_and_signed() {
    let (url, mut events) = receiver(vec![]).await;
    let server = server_with(|c| {
        c.webhook = Some(WebhookConfig { urls: vec![url], api_key: DEV_KEY.into() })
    })
    .await;
    let alice = Client::join(&server, caller(&server, "alice")).await;
    let first = next(&mut events).await;
    assert_eq!(gist(&first), ("room_started", ""));
    assert_eq!(first.room.as_ref().unwrap().name, "r");
    assert!(first.id.starts_with("EV_") && first.created_at > 1_700_000_000);
    let joined = next(&mut events).await;
    assert_eq!(gist(&joined), ("participant_joined", "alice"));
    assert_ne!(joined.id, first.id);
    let ghost = Client::join(&server, agent(&server, "ghost", true)).await;
    assert_eq!(gist(&next(&mut events).await), ("participant_joined", "ghost"), "hidden ones too");
    ghost.leave().await;
    let left = next(&mut events).await;
    assert_eq!(gist(&left), ("participant_left", "ghost"));
    assert_eq!(
        left.participant.unwrap().disconnect_reason(),
        lk::DisconnectReason::ClientInitiated
    );
    alice.leave().await;
    assert_eq!(gist(&next(&mut events).await), ("participant_left", "alice"));
    server.shutdown().await;
    assert_eq!(gist(&next(&mut events).await), ("room_finished", ""));
}

#[tokio::test]
async fn a_participant_that_never_connected_is_reported_as_aborted() {
    let (url, mut events) = receiver(vec![]).await;
    let server = server_with(|c| {
        c.webhook = Some(WebhookConfig { urls: vec![url], api_key: DEV_KEY.into() })
    })
    .await;
    let mut raw = Signal::dual(&server, &caller(&server, "raw")).await;
    raw.joined().await;
    drop(raw);
    assert_eq!(next(&mut events).await.event, "room_started");
    assert_eq!(gist(&next(&mut events).await), ("participant_connection_aborted", "raw"));
}

#[tokio::test]
async fn an_event_is_posted_again_to_a_receiver_that_fails() {
    let (url, mut events) =
        receiver(vec![StatusCode::BAD_GATEWAY, StatusCode::INTERNAL_SERVER_ERROR]).await;
    let (dead, _) = receiver(vec![StatusCode::NOT_FOUND; 50]).await;
    let urls = vec![dead, url];
    let server =
        server_with(|c| c.webhook = Some(WebhookConfig { urls, api_key: DEV_KEY.into() })).await;
    let _alice = Client::join(&server, caller(&server, "alice")).await;
    assert_eq!(next(&mut events).await.event, "room_started");
    assert_eq!(next(&mut events).await.event, "participant_joined");
}
