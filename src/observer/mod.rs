//! One call after the other in one room: joins hidden, turns what LiveKit says into call events,
//! hands the finished record over. All LiveKit types end in this folder.
//!
//! In: a [`Assignment`]. Out: records to [`Delivery`]. It never publishes, never disturbs and never
//! revives a closed room; the only thing it sends are history requests to agents (docs/contract.md §8.1).
//!
//! | file | its one idea |
//! |---|---|
//! | [`session`] | the life of one observation: events and deadlines |
//! | [`recording`] | what a call takes: core, journal, record |
//! | [`joining`] | into the room, and into it again |
//! | [`admission`] | whether the room is still there, and the token to join with |
//! | [`room`] | one connection to the room, and what its events mean |
//! | [`attendance`] | who is there, who is really gone, and who only seems so |
//! | [`participants`] | LiveKit's words for participants in ours |
//! | [`streams`] | reading text and byte streams, with bounds |
//! | [`ids`] | ids that participants choose, cut to a length |
//! | [`session_feed`] | the agent's own feed, and asking for its history |
//! | [`sdk`] | what works around LiveKit's SDK |

mod admission;
mod attendance;
mod ids;
mod joining;
mod participants;
mod recording;
mod room;
mod sdk;
mod session;
mod session_feed;
mod streams;

use std::{sync::Arc, time::Duration};

use call::{Settings, event::Discovery};
use delivery::Delivery;
use livekit::webrtc::peer_connection_factory::{PeerConnectionFactory, RtcConfiguration};
use livekit_api::services::{agent_dispatch::AgentDispatchClient, room::RoomClient};
use secrecy::ExposeSecret;
use store::journal::Journals;
use tokio::sync::{Semaphore, watch as signal};

use self::recording::{CallsOn, Tools};
use crate::{clock::WallClock, config::LiveKit, fleet::Badge};

pub(crate) use session::{Ended, Orders, Progress, observe};

/// Joins at the same time: more make each other late, and beyond some hundreds fail
/// (measured: 1,000 joins, 20 at a time, all succeed in 11 s).
const JOINS_AT_ONCE: usize = 20;

/// How the identity of an observer begins.
const IDENTITY: &str = "call-history-";

/// For one question to the server.
const API_WITHIN: Duration = Duration::from_secs(5);

/// One room to observe.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    /// The job's id, or one of our own; names us in the room.
    pub(crate) id: String,
    pub(crate) room: String,
    /// The room the job was made for; another one of that name is not ours.
    pub(crate) room_sid: Option<String>,
    /// Metadata of the job.
    pub(crate) metadata: String,
    /// URL to join at.
    pub(crate) url: String,
    /// The job's, for servers that answer no questions; we sign our own.
    pub(crate) token: Option<String>,
    /// How we learned of the room.
    pub(crate) by: Discovery,
    /// Which call of the room it is, as far as other workers have told.
    pub(crate) ordinal: u32,
}

impl Assignment {
    /// One that no job gave us.
    pub(crate) fn own(room: String, room_sid: Option<String>, url: String, by: Discovery) -> Self {
        Self {
            id: uuid::Uuid::new_v4().simple().to_string(),
            room,
            room_sid,
            metadata: String::new(),
            url,
            token: None,
            by,
            ordinal: 0,
        }
    }

    /// Our identity in the room.
    pub(crate) fn identity(&self) -> String {
        identity(&self.id)
    }
}

/// The identity that goes with a job.
pub(crate) fn identity(job_id: &str) -> String {
    format!("{IDENTITY}{job_id}")
}

/// Whether somebody in a room is an observer of any worker.
pub(crate) fn is_identity(identity: &str) -> bool {
    identity.starts_with(IDENTITY)
}

/// Makes what the first connection of a process would make: the key and certificate of all its
/// connections take 30 ms, and most of a second on a busy machine. Blocking.
pub(crate) fn make_ready() {
    let factory = PeerConnectionFactory::default();
    match factory.create_peer_connection(RtcConfiguration::default()) {
        Ok(connection) => connection.close(),
        Err(e) => {
            tracing::debug!(error = %e, "no connection could be made ahead of the first call")
        }
    }
}

/// What all observers share.
pub(crate) struct Observers {
    pub(crate) settings: Settings,
    pub(crate) livekit: LiveKit,
    /// The server's time.
    pub(crate) wall: WallClock,
    pub(crate) delivery: Delivery,
    pub(crate) journals: Journals,
    pub(crate) badge: Badge,
    pub(crate) api: Arc<RoomClient>,
    pub(crate) dispatches: AgentDispatchClient,
    joins: Arc<Semaphore>,
    /// Held by everybody who observes a room, so that they can be counted.
    watching: Arc<()>,
    /// Calls that are on, in all rooms.
    calls_on: CallsOn,
    panics: signal::Receiver<u64>,
}

impl Observers {
    /// To be made once: it also installs the process's panic hook and LiveKit's transport.
    pub(crate) fn new(
        settings: Settings,
        livekit: LiveKit,
        wall: WallClock,
        delivery: Delivery,
        journals: Journals,
        badge: Badge,
    ) -> Self {
        sdk::websocket::install();
        let secret = livekit.api_secret.expose_secret();
        let api = RoomClient::with_api_key(&livekit.http_url(), &livekit.api_key, secret)
            .with_failover(false)
            .with_request_timeout(API_WITHIN);
        let dispatches =
            AgentDispatchClient::with_api_key(&livekit.http_url(), &livekit.api_key, secret)
                .with_failover(false)
                .with_request_timeout(API_WITHIN);
        Self {
            settings,
            livekit,
            wall,
            delivery,
            journals,
            badge,
            api: Arc::new(api),
            dispatches,
            joins: Arc::new(Semaphore::new(JOINS_AT_ONCE)),
            watching: Arc::default(),
            calls_on: CallsOn::default(),
            panics: sdk::liveness::install_hook(),
        }
    }

    fn recording_tools(&self) -> Tools {
        Tools {
            journals: self.journals.clone(),
            delivery: self.delivery.clone(),
            calls_on: self.calls_on.clone(),
            wall: self.wall.clone(),
        }
    }
}
