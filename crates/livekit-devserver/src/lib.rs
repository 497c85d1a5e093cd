//! A LiveKit server in one process, for demos and tests. **Never for production.**
//!
//! Unmodified clients use it: the Rust and Python SDKs, `livekit-agents` workers, `livekit-client` in a
//! browser. It behaves as livekit-server 1.11 does wherever a client in a room could notice; the README lists
//! what it leaves out.
//!
//! ```no_run
//! # async fn example() -> Result<(), livekit_devserver::StartError> {
//! let server = livekit_devserver::start(livekit_devserver::Config::default()).await?;
//! println!("{} {} {}", server.url(), server.api_key(), server.api_secret());
//! server.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! Tokens are made with `livekit_api::access_token`. A packet goes `net` → `room` → `pc` and back, a
//! request `signal` or `twirp` → `room`, a job `room` → `agents`.

mod agents;
mod clock;
mod config;
mod faults;
mod http;
mod hub;
mod net;
mod outbox;
mod participant;
mod pc;
mod room;
mod server;
mod signal;
mod token;
mod twirp;
mod webhook;

pub use agents::WorkerState;
pub use config::{Config, ConfigError, DEV_KEY, DEV_SECRET, WebhookConfig};
pub use faults::{FaultError, Refuse};
pub use livekit_protocol as proto;
pub use server::{Server, StartError, start};

/// The version that clients and workers see. The server imitates the behaviour of this version.
pub const VERSION: &str = "1.11.0";
/// Clients use negotiated data channels only from 18 on.
const PROTOCOL: i32 = 17;

fn server_info() -> proto::ServerInfo {
    proto::ServerInfo {
        version: VERSION.into(),
        protocol: PROTOCOL,
        agent_protocol: 1,
        node_id: "ND_devserver".into(),
        ..Default::default()
    }
}
