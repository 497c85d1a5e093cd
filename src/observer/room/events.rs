//! What LiveKit's events say about the call: each becomes notices.

use std::{sync::Arc, time::Duration};

use call::{Fact, event::FeedMessage};
use futures_util::StreamExt;
use livekit::{
    participant::ParticipantState,
    prelude::{
        Participant, ParticipantIdentity, RemoteParticipant, RemoteTrackPublication, Room,
        RoomEvent, TrackKind,
    },
};
use tokio::time::Instant;

use super::{Connection, Notice, Unsent};
use crate::observer::{
    chat::Channel,
    ids, participants,
    rtvi::{self, Rtvi},
    sdk::liveness::PROBE_TOPIC,
    session_feed,
    streams::{self, Facts},
};

/// Streams read at the same time: in all, and from one participant. An agent has a few. A participant
/// that opens streams without end uses up only its own share.
pub(super) const MAX_STREAMS: usize = 256;
const MAX_STREAMS_EACH: usize = 16;
/// Bytes of a data packet that are read: one more than the core takes, so that it sees a longer one.
const MAX_PACKET: usize = 64 * 1024 + 1;
/// Bytes of one dialled digit. A name of a key may be longer than one character.
const MAX_DIGIT: usize = 8;
/// If a stream's first chunk takes longer, its sender has given up.
pub(super) const UNSENT_FOR: Duration = Duration::from_secs(30);

impl Connection {
    pub(super) fn read(&mut self, event: RoomEvent) {
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
            RoomEvent::ParticipantPermissionChanged {
                participant: Participant::Remote(p),
                permission: Some(may),
            } => {
                let permissions = participants::permissions(&may);
                self.fact(Fact::Permissions { identity: p.identity().to_string(), permissions });
            }
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
            RoomEvent::SipDTMFReceived { participant: Some(p), digit, .. } => {
                let digit = digit.filter(|d| d.len() <= MAX_DIGIT);
                self.fact(Fact::Dtmf { identity: p.identity().to_string(), digit });
            }
            RoomEvent::ChatMessage { message, participant: Some(p) } => {
                self.typed(p.identity().to_string(), message.message, Channel::Message);
            }
            RoomEvent::TextStreamOpened { reader, topic, participant_identity } => {
                if let Some(reader) = reader.take() {
                    let identity = participant_identity.to_string();
                    self.stream(identity.clone(), streams::text(&topic, identity, reader));
                }
            }
            // The sender is known not to be an agent, so the message is not read. The core only counts it.
            RoomEvent::ByteStreamOpened { topic, participant_identity, .. }
                if topic == session_feed::TOPIC && self.is_not_agent(&participant_identity) =>
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
            // If an agent sends a stream in its caller's name, only the chunks name the real sender
            // (docs/signals.md §5.4).
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

    pub(super) fn unsent(&mut self, stream: String, identity: String) {
        if self.unsent.len() >= MAX_STREAMS {
            self.unsent.retain(|_, u| u.since.elapsed() < UNSENT_FOR);
        }
        if self.unsent.len() < MAX_STREAMS {
            self.unsent.insert(stream, Unsent { identity, since: Instant::now() });
        }
    }

    fn is_not_agent(&self, identity: &ParticipantIdentity) -> bool {
        let all = self.room.as_ref().map(Room::remote_participants).unwrap_or_default();
        all.get(identity).is_some_and(|p| !self.names.is_agent(&participants::joined(p)))
    }

    pub(super) fn typed(&mut self, identity: String, text: String, channel: Channel) {
        if self.chat.is_new(&identity, &text, channel, self.clock.now()) {
            self.fact(Fact::Chat { identity, text, words: None });
        }
    }

    /// Adds a stream to those that are read. Beyond the limits it is dropped, which closes it.
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

    /// A leave that the server sent has state Disconnected. The SDK also reports participants as gone that
    /// it only lost track of itself.
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

    /// The event lists only what changed. The participants hold the current state (docs/signals.md §6.2).
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
            // Only the server's API can send without being a participant, so this is our probe.
            Some(PROBE_TOPIC) if from.is_none() => self.notice(Notice::Echo),
            Some(streams::PUBLISHED) => {
                let text = String::from_utf8_lossy(&payload[..payload.len().min(MAX_PACKET)]);
                let identity = from.map(|p| p.identity().to_string());
                self.fact(Fact::Published { identity, text: text.into_owned() });
            }
            None | Some("") if payload.len() < MAX_PACKET => {
                let Some(identity) = from.map(|p| p.identity().to_string()) else { return };
                match rtvi::decode(payload) {
                    Some(Rtvi::Bot(message)) => self.fact(Fact::Rtvi { identity, message }),
                    Some(Rtvi::Typed(text)) => self.typed(identity, text, Channel::Rtvi),
                    None => {}
                }
            }
            _ => {}
        }
    }
}
