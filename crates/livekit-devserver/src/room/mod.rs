//! A room is one task that owns everything in it: participants, their connections, tracks, subscriptions,
//! timers.
//!
//! In: [`Cmd`]s, one after the other. Out: signal messages, packets, jobs, webhooks. A room needs no lock
//! inside; forwarding a packet is a method call. Must never wait: work that takes time belongs to another
//! task, which comes back with a `Cmd`.

mod data;
mod membership;
mod meter;
mod publish;
pub(crate) mod quality;
mod speakers;
mod subscribe;
#[cfg(test)]
mod tests;
mod timers;
pub(crate) mod track;
pub(crate) mod updates;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use livekit_protocol::{self as lk, participant_info::State};
use str0m::net::Protocol;
use tokio::sync::mpsc;

use crate::{
    agents::RunningJob,
    clock::{id, now, wall_ms},
    hub::Hub,
    net::PcId,
    participant::Participant,
    pc::PcEvent,
};

/// A command for a room's task.
pub(crate) enum Cmd {
    /// A packet for a connection of one of its participants.
    Packet { pc: PcId, proto: Protocol, from: SocketAddr, data: Vec<u8> },
    /// A client's message, with the number of the websocket it came by.
    Signal { key: u64, conn: u64, message: Box<lk::signal_request::Message> },
    /// A websocket ended.
    SignalClosed { key: u64, conn: u64 },
    /// Anything else.
    Do(Box<dyn FnOnce(&mut Room) + Send>),
}

pub(crate) type RoomSender = mpsc::Sender<Cmd>;

/// Commands that may wait for a room. Beyond this, websockets wait and packets are dropped.
const QUEUE: usize = 4096;
/// Commands handled between two calls of [`Room::pump`].
const BURST: usize = 256;

pub(crate) struct Room {
    pub(crate) hub: Arc<Hub>,
    pub(crate) tx: RoomSender,
    pub(crate) info: lk::Room,
    pub(crate) participants: BTreeMap<u64, Participant>,
    pub(crate) dispatches: Vec<lk::AgentDispatch>,
    /// Jobs whose agents are, or will be, in the room.
    pub(crate) jobs: Vec<RunningJob>,
    empty_timeout: Duration,
    departure_timeout: Duration,
    next_key: u64,
    /// Changed participants without a track, by identity; the next batch announces them.
    batch: BTreeMap<String, lk::ParticipantInfo>,
    /// A participant that is not an agent has joined; from then on `departure_timeout` counts.
    first_joined: bool,
    /// The last departure of any participant, agents included.
    last_left: Option<Instant>,
    created: Instant,
    timers: timers::Timers,
    /// The counts in the last `RoomUpdate`: participants, publishers.
    sent_counts: (u32, u32),
    closed: bool,
}

/// Starts a room's task, which first asks for agents.
pub(crate) fn spawn(hub: Arc<Hub>, name: &str, config: lk::RoomConfiguration) -> RoomSender {
    let (tx, rx) = mpsc::channel(QUEUE);
    let room = Room::new(hub, name, &config, tx.clone());
    tokio::spawn(room.run(rx, config.agents));
    tx
}

impl Room {
    fn new(hub: Arc<Hub>, name: &str, config: &lk::RoomConfiguration, tx: RoomSender) -> Room {
        let seconds = |given: u32, default| match given {
            0 => default,
            n => Duration::from_secs(n.into()),
        };
        let whole = |d: Duration| u32::try_from(d.as_millis().div_ceil(1000)).unwrap_or(u32::MAX);
        let empty_timeout = seconds(config.empty_timeout, hub.config.empty_timeout);
        let departure_timeout = seconds(config.departure_timeout, hub.config.departure_timeout);
        let ms = wall_ms();
        let now = now();
        Room {
            info: lk::Room {
                sid: id("RM"),
                name: name.into(),
                empty_timeout: whole(empty_timeout),
                departure_timeout: whole(departure_timeout),
                max_participants: config.max_participants,
                creation_time: ms / 1000,
                creation_time_ms: ms,
                metadata: config.metadata.clone(),
                enabled_codecs: vec![lk::Codec {
                    mime: "audio/opus".into(),
                    fmtp_line: String::new(),
                }],
                ..Default::default()
            },
            tx,
            participants: BTreeMap::new(),
            dispatches: vec![],
            jobs: vec![],
            empty_timeout,
            departure_timeout,
            next_key: 1,
            batch: BTreeMap::new(),
            first_joined: false,
            last_left: None,
            created: now,
            timers: timers::Timers::new(now, &hub.config),
            sent_counts: (0, 0),
            closed: false,
            hub,
        }
    }

    async fn run(mut self, mut rx: mpsc::Receiver<Cmd>, agents: Vec<lk::RoomAgentDispatch>) {
        tracing::info!(room = self.info.name, sid = self.info.sid, "room opened");
        self.hub.webhooks.room(&self.info, "room_started");
        // Naming any agent removes the implicit unnamed one (docs/worker-protocol.md §3.1).
        let agents =
            if agents.is_empty() { vec![lk::RoomAgentDispatch::default()] } else { agents };
        for agent in agents {
            self.dispatch(agent);
        }
        while !self.closed {
            let deadline = self.pump();
            tokio::select! {
                cmd = rx.recv() => if let Some(cmd) = cmd { self.handle(cmd) },
                () = tokio::time::sleep_until(deadline.into()) => {}
            }
            for _ in 0..BURST {
                let Ok(cmd) = rx.try_recv() else { break };
                self.handle(cmd);
            }
        }
    }

    fn handle(&mut self, cmd: Cmd) {
        match cmd {
            Cmd::Packet { pc, proto, from, data } => {
                let net = self.hub.net.clone();
                if let Some(pc) =
                    self.participants.get_mut(&pc.key).and_then(|p| p.pc(pc.subscriber))
                {
                    pc.input(proto, from, &data, &net);
                }
            }
            Cmd::Signal { key, conn, message } => {
                if self.participants.get(&key).is_some_and(|p| p.conn == conn) {
                    self.signal(key, *message);
                }
            }
            Cmd::SignalClosed { key, conn } => {
                if self.participants.get(&key).is_some_and(|p| p.conn == conn) {
                    self.signal_closed(key);
                }
            }
            Cmd::Do(f) => f(self),
        }
    }

    /// Drives all connections until nothing is left to do. Returns when the next call is due.
    fn pump(&mut self) -> Instant {
        let net = self.hub.net.clone();
        loop {
            let now = now();
            let mut events = vec![];
            for (key, p) in &mut self.participants {
                for subscriber in [false, true] {
                    let Some(pc) = p.pc(subscriber) else { continue };
                    if pc.started() && (pc.dirty || pc.deadline <= now) {
                        events.extend(
                            pc.advance(&net).into_iter().map(|event| (*key, subscriber, event)),
                        );
                    }
                }
            }
            if events.is_empty() && !self.participants.values().any(Participant::dirty) {
                break;
            }
            for (key, subscriber, event) in events {
                self.event(key, subscriber, event);
            }
        }
        let next = self.run_timers(now());
        let connections = self.participants.values().filter_map(Participant::deadline).min();
        connections.map_or(next, |c| c.min(next))
    }

    fn event(&mut self, key: u64, subscriber: bool, event: PcEvent) {
        match event {
            PcEvent::Connected => self.connected(key, subscriber),
            PcEvent::Closed => {} // `Pc::dead` is set; `Participant::given_up` reads it
            PcEvent::ChannelOpen(label) => self.channel_open(key, subscriber, &label),
            PcEvent::Data(label, data) => self.data(key, &label, &data),
            PcEvent::Rtp(packet) => self.rtp(key, &packet),
        }
    }

    /// ACTIVE when the primary connection (subscriber, or the only one) is up.
    fn connected(&mut self, key: u64, subscriber: bool) {
        let Some(p) = self.participants.get_mut(&key) else { return };
        if subscriber != p.subscriber.is_some() || p.active() {
            return;
        }
        p.info.state = State::Active as i32;
        p.info.version += 1;
        let info = p.info.clone();
        self.hub.webhooks.participant(&self.info, &info, "participant_joined");
        self.announce(key, updates::Urgency::Batched);
    }

    pub(crate) fn by_identity(&self, identity: &str) -> Option<u64> {
        self.participants.values().find(|p| p.info.identity == identity).map(|p| p.key)
    }

    /// The participant that publishes this track.
    fn owner_of(&self, sid: &str) -> Option<&Participant> {
        self.participants.values().find(|p| p.tracks.iter().any(|t| t.info.sid == sid))
    }

    /// Agents and recorders are not counted; hidden guests are.
    fn count(&mut self) {
        self.info.num_participants =
            self.participants.values().filter(|p| !p.dependent()).count() as u32;
        self.info.num_publishers =
            self.participants.values().filter(|p| p.info.is_publisher).count() as u32;
    }

    /// Sids of all tracks with their owner's sid.
    fn all_tracks(&self) -> HashMap<String, String> {
        let of = |p: &Participant| {
            p.tracks.iter().map(|t| (t.info.sid.clone(), p.info.sid.clone())).collect::<Vec<_>>()
        };
        self.participants.values().flat_map(of).collect()
    }
}
