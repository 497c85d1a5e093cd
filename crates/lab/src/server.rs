//! The server of the calls: the dev server, or the LiveKit server that `LIVEKIT_URL` names.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result};
use livekit_api::{
    access_token::{AccessToken, VideoGrants},
    services::{agent_dispatch::AgentDispatchClient, room::RoomClient},
};
use livekit_devserver::{Config, Server};
use livekit_protocol::{CreateAgentDispatchRequest, RoomAgentDispatch, RoomConfiguration};

/// A server and its API key.
pub struct Venue {
    pub url: String,
    pub api_key: String,
    pub api_secret: String,
    /// The dev server; `None` for a foreign server. Tests cause faults through it.
    pub dev: Option<Server>,
}

impl Venue {
    /// The server of `LIVEKIT_URL`, `LIVEKIT_API_KEY` and `LIVEKIT_API_SECRET` if they are set,
    /// else a new dev server.
    ///
    /// # Errors
    /// If the dev server does not start.
    pub async fn from_env() -> Result<Self> {
        Self::from_env_or(quick()).await
    }

    /// The same, with these settings of the dev server.
    ///
    /// # Errors
    /// As [`Self::from_env`].
    pub async fn from_env_or(config: Config) -> Result<Self> {
        init();
        let var = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
        if let (Some(url), Some(api_key), Some(api_secret)) =
            (var("LIVEKIT_URL"), var("LIVEKIT_API_KEY"), var("LIVEKIT_API_SECRET"))
        {
            return Ok(Self { url, api_key, api_secret, dev: None });
        }
        Self::dev(config).await
    }

    /// # Errors
    /// If the dev server does not start.
    pub async fn dev(config: Config) -> Result<Self> {
        init();
        let dev = livekit_devserver::start(config).await?;
        Ok(Self {
            url: dev.url(),
            api_key: dev.api_key().to_owned(),
            api_secret: dev.api_secret().to_owned(),
            dev: Some(dev),
        })
    }

    /// The dev server, to cause faults.
    ///
    /// # Errors
    /// If the venue is a foreign server, which tests must not break.
    pub fn breakable(&self) -> Result<&Server> {
        self.dev.as_ref().context("this needs the dev server")
    }

    /// # Errors
    /// If the URL has a name in place of an address.
    pub fn addr(&self) -> Result<SocketAddr> {
        Ok(self.url.trim_start_matches("ws://").trim_end_matches('/').parse()?)
    }

    pub fn rooms(&self) -> RoomClient {
        RoomClient::with_api_key(&self.http_url(), &self.api_key, &self.api_secret)
    }

    pub fn dispatches(&self) -> AgentDispatchClient {
        AgentDispatchClient::with_api_key(&self.http_url(), &self.api_key, &self.api_secret)
    }

    /// Dispatches a worker to a room by the API.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn dispatch(&self, agent_name: &str, room: &str, metadata: &str) -> Result<()> {
        let request = CreateAgentDispatchRequest {
            agent_name: agent_name.into(),
            room: room.into(),
            metadata: metadata.into(),
            ..Default::default()
        };
        self.dispatches().create_dispatch(request).await?;
        Ok(())
    }

    pub fn http_url(&self) -> String {
        self.url.replacen("ws", "http", 1)
    }

    /// A token to join with. The ticket's agents are dispatched if the join creates the room. Naming
    /// an agent removes the implicit unnamed one, so the token names that one, too.
    ///
    /// # Errors
    /// If it cannot be signed.
    pub fn token(&self, ticket: &Ticket) -> Result<String> {
        let mut token = AccessToken::with_api_key(&self.api_key, &self.api_secret)
            .with_identity(&ticket.identity)
            .with_name(&ticket.identity)
            .with_kind(ticket.kind)
            .with_metadata(&ticket.metadata)
            .with_attributes(ticket.attributes.iter().map(|(k, v)| (k.as_str(), v.as_str())))
            .with_ttl(Duration::from_secs(3600))
            .with_grants(VideoGrants {
                room_join: true,
                room: ticket.room.clone(),
                ..ticket.grants.clone().unwrap_or(VideoGrants {
                    agent: ticket.kind == "agent",
                    can_update_own_metadata: Some(true),
                    ..Default::default()
                })
            });
        if !ticket.agents.is_empty() {
            let named = ticket
                .agents
                .iter()
                .map(|name| RoomAgentDispatch { agent_name: name.clone(), ..Default::default() });
            let agents = [RoomAgentDispatch::default()].into_iter().chain(named).collect();
            token = token.with_room_config(RoomConfiguration { agents, ..Default::default() });
        }
        Ok(token.to_jwt()?)
    }
}

/// What each program here does first: TLS needs a provider of cryptography, and the SDK sockets.
pub fn init() {
    // An error means that a provider is installed already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    sockets::install();
}

/// A loopback address that nothing else here has. A port of 127.0.0.1 that was free may be taken by a connection of another
/// test before it is used; one of this address stays free.
pub fn own_host() -> String {
    let id = uuid::Uuid::new_v4().into_bytes();
    format!("127.{}.{}.{}", 1 + id[0] % 254, id[1], 1 + id[2] % 254)
}

/// Timers short enough for tests; all other settings are the real server's.
pub fn quick() -> Config {
    Config { departure_timeout: Duration::from_secs(3), ..Config::default() }
}

/// The content of a token.
#[derive(Clone, Debug, Default)]
pub struct Ticket {
    pub room: String,
    pub identity: String,
    /// `standard`, `sip` or `agent`.
    pub kind: &'static str,
    pub metadata: String,
    pub attributes: Vec<(String, String)>,
    /// Names of agents to dispatch with the room.
    pub agents: Vec<String>,
    /// What the token grants, where that is not the usual. Room and join are added.
    pub grants: Option<VideoGrants>,
}
