//! One registered connection: messages in and out, until it breaks.
//!
//! The server has no timeout for a silent worker and keeps giving it jobs. So we detect a dead connection
//! ourselves: we ping, and every received message counts as a sign of life (docs/worker-protocol.md §1.3).

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
    net::{self, Socket, explain},
};

const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const REGISTERED_WITHIN: Duration = Duration::from_secs(10);
const SEND_WITHIN: Duration = Duration::from_secs(5);
const PING_EVERY: Duration = Duration::from_secs(10);
/// The server pings every 10 s. If nothing comes for this long, the connection is dead.
const SILENT_FOR: Duration = Duration::from_secs(25);
/// The token is checked only when the connection is opened.
const TOKEN_TTL: Duration = Duration::from_secs(600);

/// What a registration is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Jobs for rooms, under our agent name.
    Dispatch,
    /// Jobs for callers' joins, without a name. Unnamed voice agents usually take jobs for rooms, which are
    /// another pool (docs/worker-protocol.md §2.4).
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
    /// The credentials are wrong: a quick retry is useless.
    Refused(String),
    Lost(String),
    /// The worker is done.
    Stopped,
}

fn lost(e: impl ToString) -> Broken {
    Broken::Lost(e.to_string())
}

pub(super) struct Registered {
    socket: Socket,
    pub(super) worker_id: String,
    pub(super) server_version: String,
    /// When the server was last heard; see [`SILENT_FOR`].
    heard: Instant,
    ping: Interval,
    /// The error of a failed send; the next [`Self::receive`] returns it.
    failed: Option<String>,
}

/// Connects and registers.
///
/// # Errors
/// [`Broken::Refused`] for wrong credentials, [`Broken::Lost`] for everything else.
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
        WsError::Http(r) if r.status().is_server_error() => {
            lost(format!("the server answered {}", r.status()))
        }
        WsError::Http(r) => lost(format!("{}: it answered {}", explain::NO_LIVEKIT, r.status())),
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
    // LiveKit's first message is the answer; with any other message it is not a LiveKit server.
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

/// Registers as hidden, without media, with data only for history requests (docs/contract.md §8.1,
/// docs/worker-protocol.md §2.2). A permission that is not set is denied.
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
    /// If the message cannot be sent, the next [`Self::receive`] returns the error.
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
                            // A kind that this version does not know decodes without content.
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
