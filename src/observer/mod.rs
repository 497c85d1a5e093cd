//! Observes one room: joins it hidden, turns LiveKit's events into events of the call, and hands the
//! finished record to delivery. A room may hold several calls, one after the other. No LiveKit type
//! leaves this folder.
//!
//! In: an [`Assignment`]. Out: records to [`Delivery`]. It publishes no tracks, does not disturb the call
//! and does not revive a closed room. All it sends are history requests to agents
//! (docs/contract.md §8.1).
//!
//! | file | its one idea |
//! |---|---|
//! | [`session`] | the life of one observation: events and deadlines |
//! | [`recording`] | gives a call's events to core and journal, and its record to delivery |
//! | [`joining`] | joining the room, and joining it again |
//! | [`admission`] | whether the room still exists, and the token to join with |
//! | [`room`] | one connection to the room; its part `events`: what LiveKit's events mean |
//! | [`attendance`] | who is in the room, who has left, and who only seems to have left |
//! | [`legs`] | which phone legs were seen |
//! | [`missed`] | phone legs that were too short for an observer |
//! | [`participants`] | LiveKit's participant types as the core's |
//! | [`chat`] | typed texts that come on two channels are one |
//! | [`rtvi`] | the messages of Pipecat bots |
//! | [`streams`] | reading text and byte streams, within limits |
//! | [`ids`] | ids that participants choose, cut to a length |
//! | [`session_feed`] | the agent's session feed, and requests for its history |
//! | [`sdk`] | workarounds for LiveKit's SDK |

mod admission;
mod attendance;
mod chat;
mod ids;
mod joining;
mod legs;
pub(crate) mod missed;
mod participants;
mod recording;
mod room;
mod rtvi;
mod sdk;
mod session;
mod session_feed;
mod streams;
pub(crate) mod trial;

use std::sync::{Arc, atomic::AtomicUsize};

use call::{Settings, event::Discovery};
use delivery::{Delivery, events::Events};
use livekit::webrtc::peer_connection_factory::{PeerConnectionFactory, RtcConfiguration};
use metrics::Metrics;
use store::{health::Health, journal::Journals};
use tokio::sync::{Semaphore, watch as signal};

use self::{
    legs::Legs,
    recording::{ActiveCalls, RecordingServices},
};
use crate::{
    clock::WallClock,
    config::LiveKit,
    fleet::{self, Badge, name::NameWatch},
    net::Api,
};

pub(crate) use recording::LaterJob;
pub(crate) use session::{Ended, Orders, Progress, observe};

/// Joins at the same time. More delay each other, and beyond some hundreds joins fail
/// (measured: 1,000 joins, 20 at a time, all succeed in 11 s).
const JOINS_AT_ONCE: usize = 20;

/// A room to observe.
#[derive(Clone, Debug)]
pub(crate) struct Assignment {
    /// The job's id, or a random id where there is no job. Our identity in the room is made of it.
    pub(crate) id: String,
    pub(crate) room: String,
    /// The room that the job was made for. Another room with the same name is not observed.
    pub(crate) room_sid: Option<String>,
    /// Metadata of the job; it may hold an opt-out.
    pub(crate) metadata: String,
    /// URL to join at.
    pub(crate) url: String,
    /// The job's token. It is used only if the server's API does not answer; else we sign our own.
    pub(crate) token: Option<String>,
    /// How the room was found; the record's details show it.
    pub(crate) by: Discovery,
    /// Position of the call in the room, as far as other workers have shown it in their claims.
    pub(crate) ordinal: u32,
}

impl Assignment {
    /// An assignment that does not come from a job.
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
        fleet::identity(&self.id)
    }
}

/// Makes the key and certificate that all connections of the process share. Otherwise the first call
/// would wait for them. Blocking.
pub(crate) fn make_ready() {
    let factory = PeerConnectionFactory::default();
    match factory.create_peer_connection(RtcConfiguration::default()) {
        Ok(connection) => connection.close(),
        Err(e) => {
            tracing::debug!(error = %e, "no connection could be made ahead of the first call")
        }
    }
}

/// What all sessions of the process share.
pub(crate) struct Observers {
    pub(crate) settings: Settings,
    pub(crate) livekit: LiveKit,
    /// LiveKit's time, as far as it is known.
    pub(crate) wall: WallClock,
    pub(crate) delivery: Delivery,
    pub(crate) journals: Journals,
    pub(crate) badge: Badge,
    pub(crate) name: NameWatch,
    pub(crate) health: Health,
    pub(crate) metrics: Metrics,
    pub(crate) events: Events,
    pub(crate) api: Api,
    /// Limits joins to [`JOINS_AT_ONCE`].
    joins: Arc<Semaphore>,
    /// How many rooms cannot be joined now.
    not_joined: Arc<AtomicUsize>,
    /// Each session holds a clone: the strong count says how many rooms are observed.
    observing: Arc<()>,
    /// Running calls in all rooms. A drain waits for them.
    pub(crate) active_calls: ActiveCalls,
    /// Which phone legs were seen.
    legs: Legs,
    /// Counts panics of the process. After a panic each session checks that its room still delivers.
    panics: signal::Receiver<u64>,
}

impl Observers {
    /// Must be called only once: it also installs the process's panic hook and LiveKit's transport.
    pub(crate) fn new(
        settings: Settings,
        api: Api,
        wall: WallClock,
        (delivery, events): (Delivery, Events),
        journals: Journals,
        badge: Badge,
        health: &Health,
    ) -> Self {
        sdk::websocket::install();
        Self {
            settings,
            livekit: api.livekit().clone(),
            wall,
            delivery,
            journals,
            name: NameWatch::new(badge.fleet(), health.clone()),
            metrics: health.metrics().clone(),
            health: health.clone(),
            not_joined: Arc::default(),
            events,
            badge,
            api,
            joins: Arc::new(Semaphore::new(JOINS_AT_ONCE)),
            observing: Arc::default(),
            active_calls: ActiveCalls::default(),
            legs: Legs::default(),
            panics: sdk::liveness::install_hook(),
        }
    }

    fn recording_services(&self) -> RecordingServices {
        RecordingServices {
            journals: self.journals.clone(),
            delivery: self.delivery.clone(),
            active_calls: self.active_calls.clone(),
            wall: self.wall.clone(),
            name: self.name.clone(),
            metrics: self.metrics.clone(),
            events: self.events.clone(),
        }
    }
}
