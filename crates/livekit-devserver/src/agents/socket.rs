//! `/agent`: the websocket of one worker.
//!
//! In: `WorkerMessage`s, protobuf or JSON. Out: `ServerMessage`s in the form the worker last used. Any
//! mistake closes the socket without a message (docs/worker-protocol.md §1.2). Must never time out a
//! registered worker: the real server does not, and jobs that it gives to a dead worker are lost.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    extract::{
        Query, State,
        ws::{Message, WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use futures_util::{SinkExt, StreamExt};
use livekit_protocol::{self as lk, server_message::Message as Out, worker_message::Message as In};
use prost::Message as _;

use super::pool::{PoolKey, Worker};
use crate::{
    clock::{id, wall_ms},
    hub::Hub,
    outbox::{self, Inbox, Outbox},
    server_info,
    signal::bearer,
    token,
};

/// How long a worker may take to register.
const REGISTER_WITHIN: Duration = Duration::from_secs(10);
/// Interval of our websocket pings.
const PING: Duration = Duration::from_secs(10);
/// Longest message of a worker, bytes.
const MAX_MESSAGE: usize = 2 << 20;
/// Longest name of a deployment, bytes.
const MAX_DEPLOYMENT: usize = 64;

pub(crate) async fn agent(
    State(hub): State<Arc<Hub>>,
    Query(params): Query<HashMap<String, String>>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    let Ok(upgrade) = upgrade else { return StatusCode::NOT_FOUND.into_response() };
    let jwt = bearer(&headers).or(params.get("access_token").map(String::as_str)).unwrap_or("");
    match token::verify(jwt, &hub.config.keys) {
        Ok(claims) if claims.video.agent => {
            upgrade.max_message_size(MAX_MESSAGE).on_upgrade(move |ws| serve(hub, ws, claims.iss))
        }
        Ok(_) => (StatusCode::UNAUTHORIZED, "permissions denied").into_response(),
        Err(_) if jwt.is_empty() => {
            (StatusCode::UNAUTHORIZED, "permissions denied").into_response()
        }
        Err(error) => (StatusCode::UNAUTHORIZED, error.to_string()).into_response(),
    }
}

async fn serve(hub: Arc<Hub>, ws: WebSocket, api_key: String) {
    let (mut sink, mut source) = ws.split();
    let (out, inbox) = outbox::channel(outbox::QUEUE);
    let Inbox { mut rx, mut cut } = inbox;
    let (json, speaks_json) = tokio::sync::watch::channel(false);
    let write = async {
        let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING, PING);
        loop {
            let frame = tokio::select! {
                message = rx.recv() => match message {
                    Some(message) => frame(message, *speaks_json.borrow()),
                    None => break,
                },
                _ = ping.tick() => Message::Ping(Default::default()),
            };
            if sink.send(frame).await.is_err() {
                break;
            }
        }
    };
    let mut conversation = Conversation { hub: hub.clone(), out, api_key, worker: None };
    let read = async {
        let register_by = tokio::time::Instant::now() + REGISTER_WITHIN;
        loop {
            let next = source.next();
            let got = if conversation.worker.is_some() {
                next.await
            } else {
                tokio::time::timeout_at(register_by, next).await.ok().flatten()
            };
            let Some(Ok(message)) = got else { break };
            let message = match message {
                Message::Binary(bytes) => {
                    json.send_replace(false);
                    lk::WorkerMessage::decode(&bytes[..]).ok()
                }
                Message::Text(text) => {
                    json.send_replace(true);
                    serde_json::from_str(&text).ok()
                }
                Message::Close(_) => break,
                Message::Ping(_) | Message::Pong(_) => continue,
            };
            let Some(message) = message.and_then(|m: lk::WorkerMessage| m.message) else { break };
            if conversation.handle(message).is_none() {
                break;
            }
        }
    };
    tokio::select! {
        () = write => {}
        () = read => {}
        () = cut.happened() => {}
    }
    if let Some(worker) = conversation.worker {
        tracing::info!(worker, "worker gone");
        hub.workers.remove(&worker);
    }
    let _ = sink.close().await;
}

fn frame(message: Out, json: bool) -> Message {
    let message = lk::ServerMessage { message: Some(message) };
    match serde_json::to_string(&message) {
        Ok(text) if json => Message::Text(text.into()),
        _ => Message::Binary(message.encode_to_vec().into()),
    }
}

struct Conversation {
    hub: Arc<Hub>,
    out: Outbox<Out>,
    api_key: String,
    /// The worker's id, once registered.
    worker: Option<String>,
}

impl Conversation {
    /// `None` closes the socket.
    fn handle(&mut self, message: In) -> Option<()> {
        match (message, self.worker.clone()) {
            (In::Ping(ping), _) => {
                self.out.send(Out::Pong(lk::WorkerPong {
                    last_timestamp: ping.timestamp,
                    timestamp: wall_ms(),
                }));
            }
            (In::Register(request), None) => self.register(request)?,
            (_, None) | (In::Register(_), Some(_)) => return None,
            (In::Availability(answer), Some(worker)) => {
                // If the answer is too late, `offer_job` no longer waits for it.
                let waiting =
                    self.hub.workers.with(&worker, |w| w.offered.remove(&answer.job_id)).flatten();
                if let Some(waiting) = waiting {
                    let _ = waiting.send(answer);
                }
            }
            (In::UpdateWorker(update), Some(worker)) => {
                self.hub.workers.with(&worker, |w| {
                    // An absent load means 0, but an absent status means no change.
                    w.load = update.load;
                    if let Some(status) = update.status {
                        w.available = status == lk::WorkerStatus::WsAvailable as i32;
                    }
                });
            }
            (In::UpdateJob(update), Some(worker)) => {
                if update.status >= lk::JobStatus::JsSuccess as i32 {
                    self.hub.workers.with(&worker, |w| w.jobs.remove(&update.job_id));
                }
            }
            (In::SimulateJob(_) | In::MigrateJob(_), Some(_)) => {}
        }
        Some(())
    }

    fn register(&mut self, request: lk::RegisterWorkerRequest) -> Option<()> {
        lk::JobType::try_from(request.r#type).ok()?;
        if !valid_deployment(&request.deployment) {
            return None;
        }
        let worker = id("AW");
        tracing::info!(
            worker,
            agent_name = request.agent_name,
            kind = request.r#type,
            "worker registers"
        );
        self.hub.workers.add(Worker {
            id: worker.clone(),
            api_key: self.api_key.clone(),
            out: self.out.clone(),
            pool: PoolKey {
                agent_name: request.agent_name,
                deployment: request.deployment,
                kind: request.r#type,
                namespace: request.namespace.unwrap_or_default(),
            },
            permissions: request.allowed_permissions,
            load: 0.0,
            available: true,
            offered: HashMap::new(),
            jobs: Default::default(),
        });
        self.out.send(Out::Register(lk::RegisterWorkerResponse {
            worker_id: worker.clone(),
            server_info: Some(server_info()),
            ..Default::default()
        }));
        self.worker = Some(worker);
        Some(())
    }
}

/// At most 64 bytes, no underscore, no white space or control characters (docs/worker-protocol.md §2.3).
fn valid_deployment(name: &str) -> bool {
    name.len() <= MAX_DEPLOYMENT
        && !name.chars().any(|c| c == '_' || c.is_whitespace() || c.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deployments_have_plain_names() {
        assert!(
            valid_deployment("") && valid_deployment("blue-2") && valid_deployment(&"x".repeat(64))
        );
        for bad in ["a_b", "a b", "a\tb", "a\u{7}b", &"x".repeat(65)] {
            assert!(!valid_deployment(bad), "{bad:?}");
        }
    }
}
