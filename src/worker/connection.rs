//! One registered socket: messages in and out, until it breaks.
//!
//! The server never times a worker out that has gone silent, and goes on giving it jobs; so we
//! ping, and count everything that is heard as a sign of life (docs/worker-protocol.md §1.3).

use std::time::Duration;

use call::event::Discovery;
use futures_util::{SinkExt, StreamExt};
use livekit_api::access_token::{AccessToken, VideoGrants};
use livekit_protocol::{
    JobType, ParticipantPermission, RegisterWorkerRequest, ServerMessage, WorkerMessage,
    server_message::Message as FromServer, worker_message::Message as ToServer,
};
use prost::Message as _;
use secrecy::ExposeSecret;
use tokio::time::{Instant, Interval, interval, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{
    Error as WsError, Message,
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{AGE, AUTHORIZATION, DATE},
    },
};

use crate::{
    clock::WallClock,
    config::Config,
    net::{self, Socket},
};

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const REGISTERED_WITHIN: Duration = Duration::from_secs(10);
const SEND_WITHIN: Duration = Duration::from_secs(5);
const PING_EVERY: Duration = Duration::from_secs(10);
/// The server pings every 10 s: nothing for this long means that it is gone.
const SILENT_FOR: Duration = Duration::from_secs(25);
/// A token for the upgrade only; it is not looked at again.
const TOKEN_TTL: Duration = Duration::from_secs(600);

/// What a registration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Jobs for rooms, by our name.
    Dispatch,
    /// Jobs for callers' joins, without a name: another pool than that of unnamed voice agents,
    /// which take jobs for rooms (docs/worker-protocol.md §2.4).
    Participant,
}

impl Role {
    pub(super) const fn job_type(self) -> JobType {
        match self {
            Self::Dispatch => JobType::JtRoom,
            Self::Participant => JobType::JtParticipant,
        }
    }

    pub(super) const fn discovery(self) -> Discovery {
        match self {
            Self::Dispatch => Discovery::Dispatch,
            Self::Participant => Discovery::ParticipantJob,
        }
    }

    pub(super) fn agent_name(self, config: &Config) -> &str {
        match self {
            Self::Dispatch => &config.agent_name,
            Self::Participant => "",
        }
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub(super) enum Broken {
    /// The credentials are wrong: trying again quickly helps nobody.
    Refused(String),
    Lost(String),
    /// We are done.
    Stopped,
}

fn lost(e: impl ToString) -> Broken {
    Broken::Lost(e.to_string())
}

pub(super) struct Registered {
    socket: Socket,
    pub(super) worker_id: String,
    pub(super) server_version: String,
    heard: Instant,
    ping: Interval,
    /// A send failed: the next receive says so.
    failed: Option<String>,
}

/// Connects and registers.
///
/// # Errors
/// [`Broken::Refused`] for wrong credentials, [`Broken::Lost`] for all else.
pub(super) async fn register(
    config: &Config,
    role: Role,
    wall: &WallClock,
) -> Result<Registered, Broken> {
    let livekit = &config.livekit;
    let grants = VideoGrants { agent: true, ..Default::default() };
    let token = AccessToken::with_api_key(&livekit.api_key, livekit.api_secret.expose_secret())
        .with_ttl(TOKEN_TTL)
        .with_grants(grants)
        .to_jwt()
        .map_err(lost)?;
    let mut headers = HeaderMap::new();
    let bearer = HeaderValue::from_str(&format!("Bearer {token}")).map_err(lost)?;
    headers.insert(AUTHORIZATION, bearer);
    let url = format!("{}/agent", livekit.url);
    let asked = Instant::now();
    let socket = net::websocket(&url, headers, CONNECT_WITHIN).await.map_err(|e| match e {
        WsError::Http(r) if r.status() == StatusCode::UNAUTHORIZED => {
            if let Some(date) = r.headers().get(DATE).and_then(|d| d.to_str().ok()) {
                wall.learn_date(date, r.headers().contains_key(AGE), asked, Instant::now());
            }
            Broken::Refused(r.status().to_string())
        }
        WsError::Http(r) => lost(format!("the server answered {}", r.status())),
        e => lost(e),
    })?;
    let mut r = Registered {
        socket,
        worker_id: String::new(),
        server_version: String::new(),
        heard: Instant::now(),
        ping: interval(PING_EVERY),
        failed: None,
    };
    r.send(Some(ToServer::Register(request(config, role)))).await;
    // The answer is the first message; anything else is not a LiveKit server.
    match timeout(REGISTERED_WITHIN, r.receive()).await {
        Ok(Ok(FromServer::Register(answer))) => {
            r.worker_id = answer.worker_id;
            r.server_version = answer.server_info.unwrap_or_default().version;
            Ok(r)
        }
        Ok(Ok(_)) => Err(lost("the server did not answer the registration")),
        Ok(Err(broken)) => Err(broken),
        Err(_) => Err(lost("no answer to the registration")),
    }
}

/// Hidden, no media, data only for history requests (docs/contract.md §8.1, docs/worker-protocol.md §2.2). What is not set is denied.
fn request(config: &Config, role: Role) -> RegisterWorkerRequest {
    RegisterWorkerRequest {
        r#type: role.job_type() as i32,
        agent_name: role.agent_name(config).to_owned(),
        version: env!("CARGO_PKG_VERSION").into(),
        allowed_permissions: Some(permissions()),
        ..Default::default()
    }
}

#[allow(deprecated)] // `agent` is what other workers still set
fn permissions() -> ParticipantPermission {
    ParticipantPermission {
        can_subscribe: true,
        can_publish: false,
        can_publish_data: true,
        can_update_metadata: false,
        hidden: true,
        agent: true,
        ..Default::default()
    }
}

impl Registered {
    /// What cannot be sent is told by the next [`Self::receive`].
    pub(super) async fn send(&mut self, message: Option<ToServer>) {
        let Some(message) = message else { return };
        let bytes = WorkerMessage { message: Some(message) }.encode_to_vec();
        self.put(Message::Binary(bytes.into())).await;
    }

    async fn put(&mut self, message: Message) {
        let sent = timeout(SEND_WITHIN, self.socket.send(message)).await;
        let problem = match sent {
            Ok(Ok(())) => return,
            Ok(Err(e)) => e.to_string(),
            Err(_) => "sending takes too long".into(),
        };
        self.failed.get_or_insert(problem);
    }

    /// The next message. Safe to cancel.
    ///
    /// # Errors
    /// When the connection is closed, broken or silent.
    pub(super) async fn receive(&mut self) -> Result<FromServer, Broken> {
        loop {
            if let Some(why) = self.failed.take() {
                return Err(lost(why));
            }
            tokio::select! {
                message = self.socket.next() => {
                    self.heard = Instant::now();
                    match message {
                        Some(Ok(Message::Binary(bytes))) => match ServerMessage::decode(bytes) {
                            // Kinds that this version does not know have no content: ignored.
                            Ok(ServerMessage { message: None }) => {}
                            Ok(ServerMessage { message: Some(FromServer::GoAway(_)) }) => {
                                return Err(lost("the server asked us to register anew"));
                            }
                            Ok(ServerMessage { message: Some(m) }) => return Ok(m),
                            Err(e) => return Err(lost(e)),
                        },
                        Some(Ok(Message::Close(_))) | None => {
                            return Err(lost("closed by the server"));
                        }
                        Some(Ok(_)) => {} // pings are answered by the socket itself
                        Some(Err(e)) => return Err(lost(e)),
                    }
                }
                _ = self.ping.tick() => self.put(Message::Ping(vec![].into())).await,
                () = sleep_until(self.heard + SILENT_FOR) => {
                    return Err(lost(format!("nothing heard for {SILENT_FOR:?}")));
                }
            }
        }
    }
}
