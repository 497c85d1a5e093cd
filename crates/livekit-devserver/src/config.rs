//! The settings of a server.
//!
//! In: a struct from the embedder, or from `main.rs`'s flags. Out: the same struct, checked. This module
//! reads no file and no environment variable.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

/// Settings of one server. [`Config::default`] is a server on loopback with free ports, the key
/// `devkey`, and the real server's timings; tests shorten the timings that they would have to wait for.
#[derive(Debug, Clone)]
pub struct Config {
    /// Address of all listeners.
    pub bind: IpAddr,
    /// HTTP and websockets; 0 takes a free port.
    pub port: u16,
    /// Media and data over UDP; 0 takes a free port.
    pub udp_port: u16,
    /// Media and data over TCP; 0 takes a free port.
    pub tcp_port: u16,
    /// The address that clients get as ICE candidate. `None`: `bind`, or 127.0.0.1 if `bind` is unspecified.
    pub node_ip: Option<IpAddr>,
    /// Offer UDP candidates. `false` leaves clients only TCP.
    pub udp: bool,
    /// Answer `/rtc/v1` (single peer connection). `false` makes clients fall back to `/rtc`.
    pub single_peer_connection: bool,
    /// API keys and their secrets. [`Server::api_key`](crate::Server::api_key) gives the first.
    pub keys: BTreeMap<String, String>,
    /// A join or a dispatch creates its room if the room does not exist.
    pub auto_create: bool,
    /// How long a room waits for its first participant that is not an agent.
    pub empty_timeout: Duration,
    /// How long a room outlives the last departure once only agents are left.
    pub departure_timeout: Duration,
    /// A participant that sends no packet for this long is removed (`CONNECTION_TIMEOUT`).
    pub silence_limit: Duration,
    /// A client whose media connection is not up after this time is removed (`JOIN_FAILURE`).
    pub join_limit: Duration,
    /// Interval of the batches that announce participants without tracks.
    pub batch_interval: Duration,
    /// How often connection quality is computed.
    pub quality_interval: Duration,
    /// A participant that sends no packet for this long has quality LOST at the next `quality_interval`.
    pub quality_lost_after: Duration,
    /// Changed participant counts are sent (`RoomUpdate`) at most this often.
    pub room_update_interval: Duration,
    /// Delay between a room's request for an agent and the offer to a worker. It is 0.1–0.3 s on the real
    /// server.
    pub dispatch_delay: Duration,
    /// How long after a job is taken the list of dispatches shows who took it.
    pub job_listed_after: Duration,
    /// How old job tokens are when they are issued. Simulates a worker that is slow to join.
    pub job_token_age: Duration,
    /// Pass a client's `capabilities` on to the others, as servers after 1.11 do. Newer SDKs then
    /// compress text streams.
    pub capabilities: bool,
    /// Where to post room events. `None`: they are not posted.
    pub webhook: Option<WebhookConfig>,
}

/// The receivers of room events, and the key that signs the posts.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// `http://` addresses; each gets every event.
    pub urls: Vec<String>,
    /// One of [`Config::keys`]; its secret signs.
    pub api_key: String,
}

/// The key of [`Config::default`].
pub const DEV_KEY: &str = "devkey";
/// The secret of [`Config::default`]. Public, like everything here.
pub const DEV_SECRET: &str = "devserver-secret-devserver-secret";

impl Default for Config {
    fn default() -> Self {
        Config {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            udp_port: 0,
            tcp_port: 0,
            node_ip: None,
            udp: true,
            single_peer_connection: true,
            keys: BTreeMap::from([(DEV_KEY.to_owned(), DEV_SECRET.to_owned())]),
            auto_create: true,
            empty_timeout: Duration::from_secs(300),
            departure_timeout: Duration::from_secs(20),
            silence_limit: Duration::from_secs(21),
            join_limit: Duration::from_secs(60),
            batch_interval: Duration::from_secs(3),
            quality_interval: Duration::from_secs(5),
            quality_lost_after: Duration::from_millis(7500),
            room_update_interval: Duration::from_secs(5),
            dispatch_delay: Duration::ZERO,
            job_listed_after: Duration::ZERO,
            job_token_age: Duration::ZERO,
            capabilities: false,
            webhook: None,
        }
    }
}

/// A setting that cannot work.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// No client could ever join.
    #[error("no API key is configured")]
    NoKeys,
    /// The SDKs' token libraries refuse HS256 with a short secret.
    #[error("the secret of API key {0:?} is shorter than 32 characters")]
    ShortSecret(String),
    /// The webhook's key is not among the keys.
    #[error("webhooks are to be signed with the unknown API key {0:?}")]
    UnknownWebhookKey(String),
    /// Webhooks are posted over plain HTTP only.
    #[error("webhook url {0:?} is not an http:// address")]
    WebhookUrl(String),
}

impl Config {
    /// Checks for settings that cannot work.
    ///
    /// # Errors
    /// The first such setting.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.keys.is_empty() {
            return Err(ConfigError::NoKeys);
        }
        if let Some((key, _)) = self.keys.iter().find(|(_, secret)| secret.len() < 32) {
            return Err(ConfigError::ShortSecret(key.clone()));
        }
        if let Some(hook) = &self.webhook {
            if !self.keys.contains_key(&hook.api_key) {
                return Err(ConfigError::UnknownWebhookKey(hook.api_key.clone()));
            }
            let bad = |url: &&String| {
                !url.starts_with("http://") || url.parse::<axum::http::Uri>().is_err()
            };
            if let Some(url) = hook.urls.iter().find(bad) {
                return Err(ConfigError::WebhookUrl(url.clone()));
            }
        }
        Ok(())
    }

    /// The address that ICE candidates name.
    pub(crate) fn candidate_ip(&self) -> IpAddr {
        match self.node_ip {
            Some(ip) => ip,
            None if self.bind.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            None => self.bind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_configuration_works() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let hook = |url: &str, key: &str| {
            Some(WebhookConfig { urls: vec![url.into()], api_key: key.into() })
        };
        let with = |change: &dyn Fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check()
        };
        assert_eq!(with(&|c| c.keys.clear()), Err(ConfigError::NoKeys));
        let short = with(&|c| drop(c.keys.insert("k".into(), "short".into())));
        assert_eq!(short, Err(ConfigError::ShortSecret("k".into())));
        assert_eq!(
            with(&|c| c.webhook = hook("http://h/", "x")),
            Err(ConfigError::UnknownWebhookKey("x".into()))
        );
        let https = with(&|c| c.webhook = hook("https://h/", DEV_KEY));
        assert_eq!(https, Err(ConfigError::WebhookUrl("https://h/".into())));
        assert_eq!(with(&|c| c.webhook = hook("http://127.0.0.1:1/x?y", DEV_KEY)), Ok(()));
    }
}
