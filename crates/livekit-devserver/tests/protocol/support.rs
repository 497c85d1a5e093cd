//! Helpers of the tests: servers, tokens, clients.

use std::{collections::HashMap, sync::Arc, time::Duration};

use livekit::{Room, RoomEvent, RoomOptions};
use livekit_api::access_token::{AccessToken, VideoGrants};
use livekit_devserver::{Config, Server};
use tokio::sync::mpsc::UnboundedReceiver;

/// Longer than any step of a test takes. A test that waits this long fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

pub(crate) async fn server() -> Server {
    server_with(|_| {}).await
}

/// A server whose waits are short.
pub(crate) async fn server_with(change: impl FnOnce(&mut Config)) -> Server {
    logs();
    // Clients of the API need a provider of cryptography when the whole workspace is built, because
    // the product then brings TLS. An error means that there is one already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    sockets::install();
    let mut config = Config { batch_interval: Duration::from_millis(300), ..Config::default() };
    change(&mut config);
    livekit_devserver::start(config).await.expect("a server on free ports")
}

/// `RUST_LOG=…` shows the logs.
fn logs() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
}

/// The grants of a client in a room; tests change them.
pub(crate) fn grants(room: &str) -> VideoGrants {
    VideoGrants {
        room_join: true,
        room: room.into(),
        can_update_own_metadata: Some(true),
        ..Default::default()
    }
}

pub(crate) fn token(server: &Server, identity: &str, grants: VideoGrants) -> AccessToken {
    AccessToken::with_api_key(server.api_key(), server.api_secret())
        .with_identity(identity)
        .with_name(identity)
        .with_grants(grants)
}

/// A caller in room "r".
pub(crate) fn caller(server: &Server, identity: &str) -> AccessToken {
    token(server, identity, grants("r"))
}

/// An agent in room "r".
pub(crate) fn agent(server: &Server, identity: &str, hidden: bool) -> AccessToken {
    token(server, identity, VideoGrants { agent: true, hidden, ..grants("r") }).with_kind("agent")
}

/// A client on the Rust SDK.
pub(crate) struct Client {
    pub(crate) room: Arc<Room>,
    events: UnboundedReceiver<RoomEvent>,
}

impl Client {
    pub(crate) async fn join(server: &Server, token: AccessToken) -> Client {
        Client::join_with(server, token, true).await
    }

    pub(crate) async fn join_with(server: &Server, token: AccessToken, single: bool) -> Client {
        let mut options = RoomOptions::default();
        options.single_peer_connection = single;
        options.join_retries = 0;
        let (url, jwt) = (server.url(), token.to_jwt().unwrap());
        let joining = Room::connect(&url, &jwt, options);
        let (room, events) = tokio::time::timeout(PATIENCE, joining)
            .await
            .expect("the join takes too long")
            .expect("the join fails");
        Client { room: Arc::new(room), events }
    }

    /// Waits for the first event for which `pick` returns `Some`.
    pub(crate) async fn wait<T>(
        &mut self,
        what: &str,
        mut pick: impl FnMut(RoomEvent) -> Option<T>,
    ) -> T {
        let mut seen = vec![];
        let wait = async {
            loop {
                let event = self.events.recv().await.expect("the room's events have ended");
                seen.push(format!("{event:?}").chars().take(120).collect::<String>());
                if let Some(t) = pick(event) {
                    return t;
                }
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        waited.unwrap_or_else(|_| panic!("{what} did not come; seen: {seen:#?}"))
    }

    /// Picks from the events that have arrived already.
    pub(crate) fn seen<T>(&mut self, mut pick: impl FnMut(RoomEvent) -> Option<T>) -> Vec<T> {
        let mut all = vec![];
        while let Ok(event) = self.events.try_recv() {
            all.extend(pick(event));
        }
        all
    }

    pub(crate) async fn sees_join(&mut self, identity: &str) {
        self.wait(&format!("{identity}'s arrival"), |e| match e {
            RoomEvent::ParticipantConnected(p) if p.identity().as_str() == identity => Some(()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn sees_leave(&mut self, identity: &str) -> String {
        self.wait(&format!("{identity}'s leaving"), |e| match e {
            RoomEvent::ParticipantDisconnected(p) if p.identity().as_str() == identity => {
                Some(format!("{:?}", p.disconnect_reason()))
            }
            _ => None,
        })
        .await
    }

    pub(crate) async fn sees_own_end(&mut self) -> String {
        self.wait("the end", |e| match e {
            RoomEvent::Disconnected { reason } => Some(format!("{reason:?}")),
            _ => None,
        })
        .await
    }

    pub(crate) async fn send(&self, topic: &str, text: &str, to: &[&str]) {
        let packet = livekit::DataPacket {
            payload: text.as_bytes().to_vec(),
            topic: Some(topic.into()),
            reliable: true,
            destination_identities: to.iter().map(|s| (*s).to_owned().into()).collect(),
        };
        self.room.local_participant().publish_data(packet).await.expect("sending");
    }

    /// The next data packet on a topic: text and sender's identity.
    pub(crate) async fn data(&mut self, topic: &str) -> (String, Option<String>) {
        self.wait(&format!("data on {topic}"), |e| match e {
            RoomEvent::DataReceived { payload, topic: Some(t), participant, .. } if t == topic => {
                let text = String::from_utf8_lossy(&payload).into_owned();
                Some((text, participant.map(|p| p.identity().to_string())))
            }
            _ => None,
        })
        .await
    }

    /// Waits until the server can send data to this client. `other` sends a numbered message, which waits
    /// at the server until then; messages without a number would be lost.
    pub(crate) async fn ready(&mut self, other: &Client) {
        other.send("ready", "", &[]).await;
        self.data("ready").await;
    }

    pub(crate) async fn leave(self) {
        let _ = self.room.close().await;
    }
}

/// Calls `ask` until it returns `Some`.
pub(crate) async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let polling = async {
        loop {
            if let Some(t) = ask().await {
                return t;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, polling)
        .await
        .unwrap_or_else(|_| panic!("{what}: it does not come about"))
}

pub(crate) fn attributes(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}
