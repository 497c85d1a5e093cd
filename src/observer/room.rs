//! One connection to a room, and what its events mean.
//!
//! In: `RoomEvent`s of the SDK and the streams they open. Out: [`Notice`]s, with the time they
//! reached us. It subscribes to audio and disables the subscription at once: speaker and quality
//! events come all the same, without any RTP, and the publisher does not notice (docs/signals.md §6.2).

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use call::{
    Fact, Moment,
    event::{Discovery, FeedMessage, LeaveReason},
};
use futures_util::{StreamExt, stream::SelectAll};
use livekit::{
    participant::{ParticipantKind, ParticipantState},
    prelude::{
        LocalParticipant, Participant, ParticipantIdentity, RemoteParticipant,
        RemoteTrackPublication, Room, RoomEvent, RoomOptions, TrackKind,
    },
};
use tokio::{
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};

use super::{
    ids, participants,
    sdk::{gate, liveness::PROBE_TOPIC},
    session_feed,
    streams::{self, Facts},
};
use crate::clock::{Clock, WallClock};

/// Streams that are read at the same time, in all and from one participant: an agent has a few, and
/// one who opens streams without end takes only his own share.
const MAX_STREAMS: usize = 256;
const MAX_STREAMS_EACH: usize = 16;
/// Bytes of a data packet that are looked at.
const MAX_PACKET: usize = 64 * 1024 + 1;
/// None by the SDK itself: before each attempt we look whether the room is still there.
const JOIN_RETRIES: u32 = 0;
const SIGNAL_WITHIN: Duration = Duration::from_secs(10);
/// For the SDK to tell who is there, after it has joined.
const PRESENT_WITHIN: Duration = Duration::from_secs(1);
const LEAVE_WITHIN: Duration = Duration::from_secs(5);
/// Who leaves sooner may stay in a real server's list of the room for as long as it lives (claim).
const STAY_AT_LEAST: Duration = Duration::from_secs(1);
/// For the SDK to have the room's sid, which the server sends with the join.
const SID_WITHIN: Duration = Duration::from_secs(2);
/// A stream whose first chunk takes longer was given up by its sender.
const UNSENT_FOR: Duration = Duration::from_secs(30);

/// What a connection notices.
#[derive(Debug)]
pub(super) enum Notice {
    Fact(Fact),
    /// Gone without the server's word for it.
    SeemsGone {
        identity: String,
        attributes: BTreeMap<String, String>,
    },
    Reconnecting,
    Reconnected,
    /// The SDK came back by name into another room: ours is gone.
    OtherRoom,
    /// Our own packet came: the room is not deaf.
    Echo,
    Disconnected(LeaveReason),
}

pub(super) struct Connection {
    room: Option<Room>,
    events: mpsc::UnboundedReceiver<RoomEvent>,
    streams: SelectAll<Facts>,
    ready: VecDeque<(Moment, Notice)>,
    /// While the SDK reconnects: what it brings is held until it is clear that it is from the same
    /// room.
    held: Option<Vec<(Moment, Notice)>>,
    opened: Instant,
    /// The room's sid, from the first connection.
    sid: String,
    /// Who was last told to be speaking.
    speaking: HashMap<String, bool>,
    /// A token for each participant; its open streams hold copies.
    senders: HashMap<String, Arc<()>>,
    /// Transcript streams without a chunk yet, and in whose name they are sent.
    unsent: HashMap<String, Unsent>,
    clock: Clock,
}

/// In whose name a stream without a chunk is sent, and since when.
struct Unsent {
    identity: String,
    since: Instant,
}

impl Connection {
    /// Joins. Everybody who is there is noticed first. `first`: no moment of `clock` is kept yet, so
    /// it may be set by what the join tells of the server's time.
    ///
    /// # Errors
    /// The SDK's words, without the token; or that the room has no sid, without which its call has no
    /// id.
    pub(super) async fn open(
        url: &str,
        token: &str,
        identity: &str,
        by: Discovery,
        clock: Clock,
        wall: &WallClock,
        first: bool,
    ) -> Result<Self, String> {
        let _joining = gate::open(identity);
        let mut options = RoomOptions::default();
        options.auto_subscribe = false;
        options.join_retries = JOIN_RETRIES;
        options.connect_timeout = SIGNAL_WITHIN;
        options.data_stream = options.data_stream.with_max_payload_byte_length(streams::MAX_FEED);
        let asked = Instant::now();
        let (room, events) =
            Room::connect(url, token, options).await.map_err(|e| without(&e.to_string(), token))?;
        let answered = Instant::now();
        let metadata = room.metadata();
        // The server sends it with the join; the SDK only makes it awaitable.
        let sid = timeout(SID_WITHIN, room.sid()).await.map(|s| s.to_string());
        let sid = sid.ok().filter(|s| !s.is_empty()).ok_or("the server does not tell its sid")?;
        let mut connection = Self {
            room: Some(room),
            events,
            streams: SelectAll::new(),
            ready: VecDeque::new(),
            held: None,
            opened: Instant::now(),
            sid,
            speaking: HashMap::new(),
            senders: HashMap::new(),
            unsent: HashMap::new(),
            clock,
        };
        let mut server_behind_ms = 0;
        if let Some((from, to)) = connection.joined_at() {
            wall.learn_join(from, to, asked, answered);
            if first {
                connection.clock.restart(wall);
            }
            let (asked, answered) =
                (connection.clock.moment(asked), connection.clock.moment(answered));
            server_behind_ms = behind((from, to), (asked, answered));
        }
        connection.fact(Fact::Watching { server_behind_ms, by: Some(by) });
        if !metadata.is_empty() {
            connection.fact(Fact::RoomMetadata { metadata });
        }
        // Those who are there come with the first event.
        let _ = timeout(PRESENT_WITHIN, connection.those_present()).await;
        Ok(connection)
    }

    async fn those_present(&mut self) {
        while let Some(event) = self.events.recv().await {
            let first = matches!(event, RoomEvent::Connected { .. });
            self.read(event);
            if first {
                return;
            }
        }
    }

    /// What is known already: the room and who is in it.
    pub(super) fn known(&mut self) -> Vec<(Moment, Fact)> {
        let mut known = vec![];
        for (at, notice) in std::mem::take(&mut self.ready) {
            match notice {
                Notice::Fact(fact) => known.push((at, fact)),
                other => self.ready.push_back((at, other)),
            }
        }
        known
    }

    /// When the server says that we joined: at the earliest, at the latest.
    fn joined_at(&self) -> Option<(Moment, Moment)> {
        let at = Some(self.us()?.joined_at()).filter(|ms| *ms > 0)?;
        // Older servers tell whole seconds.
        let until = if at % 1_000 == 0 { at + 999 } else { at };
        Some((Moment::from_millis(at), Moment::from_millis(until)))
    }

    /// The room's sid.
    pub(super) fn sid(&self) -> &str {
        &self.sid
    }

    pub(super) fn us(&self) -> Option<LocalParticipant> {
        self.room.as_ref().map(Room::local_participant)
    }

    /// Identities of those the server says are there.
    pub(super) fn present(&self) -> Vec<String> {
        let all = self.room.as_ref().map(Room::remote_participants).unwrap_or_default();
        all.keys().map(ToString::to_string).collect()
    }

    /// The next thing noticed, and when. Safe to cancel.
    pub(super) async fn next(&mut self) -> (Moment, Notice) {
        loop {
            if let Some(noticed) = self.ready.pop_front() {
                return noticed;
            }
            tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => self.read(event),
                    None => {
                        // Nothing will settle what is held.
                        self.ready.extend(self.held.take().into_iter().flatten());
                        self.notice(Notice::Disconnected(LeaveReason::UnknownReason));
                    }
                },
                Some(fact) = self.streams.next(), if !self.streams.is_empty() => self.fact(fact),
            }
        }
    }

    /// What is still in the streams of a room that has ended, for at most `within`.
    pub(super) async fn rest(&mut self, within: Duration) -> Vec<(Moment, Fact)> {
        let mut rest = vec![];
        let read = async {
            while let Some(fact) = self.streams.next().await {
                rest.push((self.clock.now(), fact));
            }
        };
        // Streams that do not end by now never will.
        let _ = timeout(within, read).await;
        rest
    }

    /// Leaves. Goes on in a task of its own where it is not waited for.
    pub(super) fn close(&mut self) -> Option<JoinHandle<()>> {
        let room = self.room.take()?;
        let stay_until = self.opened + STAY_AT_LEAST;
        Some(tokio::spawn(async move {
            sleep_until(stay_until).await;
            // A room whose task has panicked never says that it closed.
            let _ = timeout(LEAVE_WITHIN, room.close()).await;
        }))
    }

    fn fact(&mut self, fact: Fact) {
        self.notice(Notice::Fact(fact));
    }

    fn notice(&mut self, notice: Notice) {
        let noticed = (self.clock.now(), notice);
        match &mut self.held {
            Some(held) => held.push(noticed),
            None => self.ready.push_back(noticed),
        }
    }

    /// The SDK has stopped trying or has come back, into the same room or another of that name.
    fn settled(&mut self, notice: Notice) {
        let sid = self.room.as_ref().and_then(Room::maybe_sid).map(|s| s.to_string());
        let same = sid.is_none_or(|s| s == self.sid);
        if let Some(held) = self.held.take().filter(|_| same) {
            self.ready.extend(held);
        }
        self.notice(if same { notice } else { Notice::OtherRoom });
    }

    fn read(&mut self, event: RoomEvent) {
        match event {
            RoomEvent::Connected { participants_with_tracks } => {
                for (p, tracks) in participants_with_tracks {
                    self.joined(&p);
                    tracks.iter().for_each(|t| self.track(&p, t));
                }
            }
            RoomEvent::ParticipantConnected(p) => self.joined(&p),
            RoomEvent::ParticipantDisconnected(p) => self.left(&p),
            RoomEvent::ParticipantAttributesChanged {
                participant: Participant::Remote(p),
                changed_attributes,
            } => {
                let changed = changed_attributes.into_iter().collect();
                self.fact(Fact::Attributes { identity: p.identity().to_string(), changed });
            }
            RoomEvent::ParticipantMetadataChanged {
                participant: Participant::Remote(p),
                metadata,
                ..
            } => self.fact(Fact::Metadata { identity: p.identity().to_string(), metadata }),
            RoomEvent::RoomMetadataChanged { metadata, .. } => {
                self.fact(Fact::RoomMetadata { metadata });
            }
            RoomEvent::TrackPublished { publication, participant } => {
                self.track(&participant, &publication);
            }
            RoomEvent::TrackSubscribed { publication, .. } => publication.set_enabled(false),
            RoomEvent::ActiveSpeakersChanged { .. } => self.speakers(),
            RoomEvent::ConnectionQualityChanged {
                quality,
                participant: Participant::Remote(p),
            } => {
                let lost = participants::lost(quality);
                self.fact(Fact::Quality { identity: p.identity().to_string(), lost });
            }
            RoomEvent::DataReceived { payload, topic, participant, .. } => {
                self.packet(topic.as_deref(), participant.as_ref(), &payload);
            }
            RoomEvent::TranscriptionReceived { participant: Some(p), segments, .. } => {
                let identity = p.identity().to_string();
                for s in segments {
                    self.fact(Fact::Legacy {
                        identity: identity.clone(),
                        segment: s.id,
                        text: s.text,
                        is_final: s.r#final,
                    });
                }
            }
            RoomEvent::SipDTMFReceived { participant: Some(p), .. } => {
                self.fact(Fact::Dtmf { identity: p.identity().to_string() });
            }
            RoomEvent::ChatMessage { message, participant: Some(p) } => {
                let identity = p.identity().to_string();
                self.fact(Fact::Chat { identity, text: message.message, words: None });
            }
            RoomEvent::TextStreamOpened { reader, topic, participant_identity } => {
                if let Some(reader) = reader.take() {
                    let identity = participant_identity.to_string();
                    self.stream(identity.clone(), streams::text(&topic, identity, reader));
                }
            }
            // Known not to be an agent: what it says of a session is not even read.
            RoomEvent::ByteStreamOpened { topic, participant_identity, .. }
                if topic == session_feed::TOPIC && self.no_agent(&participant_identity) =>
            {
                let message = FeedMessage::Clock { at: self.clock.now() };
                let identity = participant_identity.to_string();
                self.fact(Fact::Feed { identity, message });
            }
            RoomEvent::ByteStreamOpened { reader, topic, participant_identity } => {
                if let Some(reader) = reader.take() {
                    let identity = participant_identity.to_string();
                    self.stream(identity.clone(), streams::bytes(&topic, identity, reader));
                }
            }
            // Of an agent's stream in its caller's name only the chunks tell whose it is (docs/signals.md §5.4).
            #[allow(deprecated)]
            RoomEvent::StreamHeaderReceived { header, participant_identity }
                if header.topic == streams::TRANSCRIPTION =>
            {
                self.unsent(header.stream_id, participant_identity);
            }
            #[allow(deprecated)]
            RoomEvent::StreamChunkReceived { chunk, participant_identity } => {
                let named = self.unsent.remove(&chunk.stream_id);
                if named.is_some_and(|named| named.identity != participant_identity) {
                    let (stream, identity) = (ids::short(&chunk.stream_id), participant_identity);
                    self.fact(Fact::StreamSender { stream, identity });
                }
            }
            #[allow(deprecated)]
            RoomEvent::StreamTrailerReceived { trailer, .. } => {
                self.unsent.remove(&trailer.stream_id);
            }
            RoomEvent::Reconnecting => {
                self.notice(Notice::Reconnecting);
                self.held.get_or_insert_default();
            }
            RoomEvent::Reconnected => self.settled(Notice::Reconnected),
            RoomEvent::Disconnected { reason } => {
                let reason = participants::reason(reason.into());
                self.settled(Notice::Disconnected(reason));
            }
            _ => {}
        }
    }

    fn unsent(&mut self, stream: String, identity: String) {
        if self.unsent.len() >= MAX_STREAMS {
            self.unsent.retain(|_, u| u.since.elapsed() < UNSENT_FOR);
        }
        if self.unsent.len() < MAX_STREAMS {
            self.unsent.insert(stream, Unsent { identity, since: Instant::now() });
        }
    }

    fn no_agent(&self, identity: &ParticipantIdentity) -> bool {
        let all = self.room.as_ref().map(Room::remote_participants).unwrap_or_default();
        all.get(identity).is_some_and(|p| p.kind() != ParticipantKind::Agent)
    }

    /// Beyond the bounds a stream is dropped, which closes it.
    fn stream(&mut self, identity: String, facts: Option<Facts>) {
        let Some(facts) = facts else { return };
        if !self.senders.contains_key(&identity) && self.senders.len() >= MAX_STREAMS {
            self.senders.retain(|_, open| Arc::strong_count(open) > 1);
        }
        let open = self.senders.entry(identity).or_default();
        let all = self.streams.len();
        if all >= MAX_STREAMS || Arc::strong_count(open) > MAX_STREAMS_EACH {
            self.fact(Fact::Dropped);
            return;
        }
        let held = open.clone();
        self.streams.push(Box::pin(facts.inspect(move |_| {
            let _ = &held;
        })));
    }

    fn joined(&mut self, p: &RemoteParticipant) {
        self.fact(Fact::Joined(participants::joined(p)));
    }

    /// A leave that the server told has state Disconnected; the SDK also reports those it lost
    /// sight of itself.
    fn left(&mut self, p: &RemoteParticipant) {
        let identity = p.identity().to_string();
        if self.speaking.remove(&identity) == Some(true) {
            self.fact(Fact::Speaking { identity: identity.clone(), speaking: false });
        }
        let attributes = participants::attributes(p);
        if p.state() == ParticipantState::Disconnected {
            let reason = participants::reason(p.disconnect_reason());
            self.fact(Fact::Left { identity, reason, attributes, since: None });
        } else {
            self.notice(Notice::SeemsGone { identity, attributes });
        }
    }

    fn track(&mut self, p: &RemoteParticipant, t: &RemoteTrackPublication) {
        if t.kind() == TrackKind::Audio {
            t.set_subscribed(true);
        }
        let (identity, sid) = (p.identity().to_string(), t.sid().to_string());
        self.fact(Fact::Track { identity, sid });
    }

    /// The event's own list holds only what changed; the truth is on the participants (docs/signals.md §6.2).
    fn speakers(&mut self) {
        let Some(room) = &self.room else { return };
        let mut changed = vec![];
        for p in room.remote_participants().values() {
            let identity = p.identity().to_string();
            let speaking = p.is_speaking();
            if self.speaking.insert(identity.clone(), speaking).unwrap_or(false) != speaking {
                changed.push(Fact::Speaking { identity, speaking });
            }
        }
        changed.into_iter().for_each(|f| self.fact(f));
    }

    fn packet(&mut self, topic: Option<&str>, from: Option<&RemoteParticipant>, payload: &[u8]) {
        match topic {
            // Only the server's API can send without being a participant.
            Some(PROBE_TOPIC) if from.is_none() => self.notice(Notice::Echo),
            Some(streams::PUBLISHED) => {
                let text = String::from_utf8_lossy(&payload[..payload.len().min(MAX_PACKET)]);
                let identity = from.map(|p| p.identity().to_string());
                self.fact(Fact::Published { identity, text: text.into_owned() });
            }
            _ => {}
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

/// How far the server's time of our join is from the interval in which we joined, in milliseconds: what
/// to add to the server's times to have ours. A join that takes long is no difference of clocks.
fn behind(server: (Moment, Moment), ours: (Moment, Moment)) -> i64 {
    ours.0.since(server.1).max(0) + ours.1.since(server.0).min(0)
}

/// An error text may hold the URL with the token in it.
fn without(text: &str, token: &str) -> String {
    text.replace(token, "…")
}

#[cfg(test)]
mod tests {
    use super::*;
    use store::health::Health;

    /// One whose room is not there, with what feeds it.
    fn connection() -> (mpsc::UnboundedSender<RoomEvent>, Connection) {
        let (sdk, events) = mpsc::unbounded_channel();
        let connection = Connection {
            room: None,
            events,
            streams: SelectAll::new(),
            ready: VecDeque::new(),
            held: None,
            opened: Instant::now(),
            sid: "RM_1".into(),
            speaking: HashMap::new(),
            senders: HashMap::new(),
            unsent: HashMap::new(),
            clock: Clock::start(&WallClock::new(Health::default())),
        };
        (sdk, connection)
    }

    /// The SDK's task may break while it reconnects.
    #[tokio::test]
    async fn what_was_held_is_told_when_the_events_end_in_the_middle_of_a_reconnect() {
        let (sdk, mut c) = connection();
        sdk.send(RoomEvent::Reconnecting).unwrap();
        let (old_metadata, metadata) = (String::new(), "new".to_owned());
        sdk.send(RoomEvent::RoomMetadataChanged { old_metadata, metadata }).unwrap();
        drop(sdk);
        let mut told = vec![];
        for _ in 0..3 {
            let next = timeout(Duration::from_millis(100), c.next()).await;
            told.push(next.expect("nothing is told any more").1);
        }
        assert!(
            matches!(
                &told[..],
                [
                    Notice::Reconnecting,
                    Notice::Fact(Fact::RoomMetadata { metadata }),
                    Notice::Disconnected(LeaveReason::UnknownReason),
                ] if metadata == "new"
            ),
            "{told:?}"
        );
    }
}
