//! Data packets: who may send what to whom, and which packets wait for clients that are still joining.
//!
//! In: packets from a participant's channels, or from the API. Out: the same packets with the sender's true
//! identity, to all participants or to those the packet names. Only an agent may speak for another
//! participant. Must never name a hidden sender.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use livekit_protocol::{
    self as lk, data_packet::Value, data_stream::header::ContentHeader, participant_info::Kind,
};
use prost::Message;

use super::Room;
use crate::{
    clock::now,
    pc::{LOSSY, RELIABLE},
};

/// A message for a client that is still joining waits this long for its channel.
const REPLAY: Duration = Duration::from_secs(2);
/// Bytes that may wait for one such client.
const REPLAY_BYTES: usize = 4 << 20;

impl Room {
    /// Our reliable channel to a client has opened: the waiting messages go first.
    pub(super) fn channel_open(&mut self, key: u64, subscriber: bool, label: &str) {
        let Some(p) = self.participants.get_mut(&key) else { return };
        if label != RELIABLE || subscriber != p.subscriber.is_some() {
            return;
        }
        let now = now();
        for (at, message) in std::mem::take(&mut p.early) {
            if now.saturating_duration_since(at) <= REPLAY {
                p.down().send(label, &message);
            }
        }
    }

    /// A message from a client.
    pub(super) fn data(&mut self, key: u64, label: &str, raw: &[u8]) {
        let lossy = match label {
            LOSSY => true,
            RELIABLE => false,
            _ => return,
        };
        let Some(p) = self.participants.get_mut(&key) else { return };
        if !p.permission().can_publish_data {
            return;
        }
        let Ok(packet) = lk::DataPacket::decode(raw) else {
            return tracing::debug!(identity = p.info.identity, "undecodable data packet");
        };
        if packet.sequence > 0 {
            // After a resume, a client repeats the messages that may not have arrived.
            if packet.sequence <= p.last_sequence {
                return;
            }
            p.last_sequence = packet.sequence;
        }
        let sender = Sender {
            identity: if p.hidden() { String::new() } else { p.info.identity.clone() },
            sid: if p.hidden() { String::new() } else { p.info.sid.clone() },
            own: p.info.identity.clone(),
            agent: p.info.kind == Kind::Agent as i32,
        };
        if let Some(packet) = asserted(packet, &sender) {
            self.deliver(Some(key), &packet, lossy);
        }
    }

    /// Sends a packet to all, or to the destinations it names; never back to the sender.
    pub(crate) fn deliver(&mut self, from: Option<u64>, packet: &lk::DataPacket, lossy: bool) {
        let raw = packet.encode_to_vec();
        let to = &packet.destination_identities;
        let label = if lossy { LOSSY } else { RELIABLE };
        for p in self.participants.values_mut() {
            if Some(p.key) == from || !(to.is_empty() || to.contains(&p.info.identity)) {
                continue;
            }
            // Only messages with a number wait for a client that is still joining. While messages wait,
            // later ones queue behind them.
            let numbered = !lossy && packet.sequence > 0;
            if (!numbered || p.early.is_empty()) && p.down().can_send(label) {
                p.down().send(label, &raw);
            } else if numbered {
                let now = now();
                keep_recent(&mut p.early, now, raw.len());
                p.early.push_back((now, raw.clone()));
            }
        }
    }
}

/// Makes room for a message: drops messages that are too old, and the oldest beyond [`REPLAY_BYTES`].
fn keep_recent(early: &mut VecDeque<(Instant, Vec<u8>)>, now: Instant, coming: usize) {
    let bytes =
        |early: &VecDeque<(Instant, Vec<u8>)>| early.iter().map(|(_, m)| m.len()).sum::<usize>();
    while early.front().is_some_and(|(at, _)| now.saturating_duration_since(*at) > REPLAY)
        || (!early.is_empty() && bytes(early) + coming > REPLAY_BYTES)
    {
        early.pop_front();
    }
}

/// The sender of a packet.
struct Sender {
    /// The identity that others see; empty when hidden.
    identity: String,
    sid: String,
    /// The true identity.
    own: String,
    agent: bool,
}

/// The packet with the sender's true identity, or `None` if it may not be sent.
#[allow(deprecated)] // clients still read and send these fields
fn asserted(mut packet: lk::DataPacket, sender: &Sender) -> Option<lk::DataPacket> {
    // Agents may speak for others in text streams and chat: the identity they give is kept there.
    let named = &packet.participant_identity;
    let for_other = sender.agent && !named.is_empty() && *named != sender.own;
    let mut kept = false;
    match packet.value.as_mut()? {
        Value::User(user) => {
            user.participant_identity.clone_from(&sender.identity);
            user.participant_sid.clone_from(&sender.sid);
            if packet.destination_identities.is_empty() {
                packet.destination_identities.clone_from(&user.destination_identities);
            } else {
                user.destination_identities.clone_from(&packet.destination_identities);
            }
        }
        Value::Transcription(_) if !sender.agent => return None,
        Value::ChatMessage(chat) if for_other => {
            chat.generated = true;
            kept = true;
        }
        Value::StreamHeader(header) if for_other => {
            if let Some(ContentHeader::TextHeader(text)) = &mut header.content_header {
                text.generated = true;
                kept = true;
            }
        }
        Value::Speaker(_) | Value::Metrics(_) => return None,
        _ => {}
    }
    if !kept {
        packet.participant_identity.clone_from(&sender.identity);
    }
    packet.participant_sid.clone_from(&sender.sid);
    Some(packet)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, deprecated)]
mod tests {
    use super::*;

    fn sender(agent: bool, hidden: bool) -> Sender {
        let shown = |s: &str| if hidden { String::new() } else { s.to_owned() };
        Sender { identity: shown("me"), sid: shown("PA_me"), own: "me".into(), agent }
    }

    fn header(text: bool, identity: &str) -> lk::DataPacket {
        use lk::data_stream::{ByteHeader, Header, TextHeader};
        let content = if text {
            ContentHeader::TextHeader(TextHeader::default())
        } else {
            ContentHeader::ByteHeader(ByteHeader::default())
        };
        lk::DataPacket {
            participant_identity: identity.into(),
            value: Some(Value::StreamHeader(Header {
                content_header: Some(content),
                ..Default::default()
            })),
            ..Default::default()
        }
    }

    fn generated(packet: &lk::DataPacket) -> bool {
        let Some(Value::StreamHeader(header)) = &packet.value else { return false };
        matches!(&header.content_header, Some(ContentHeader::TextHeader(t)) if t.generated)
    }

    #[test]
    fn an_agent_may_name_another_in_text_headers_only() {
        let text = asserted(header(true, "caller"), &sender(true, false)).unwrap();
        assert_eq!(text.participant_identity, "caller");
        assert!(generated(&text));
        let bytes = asserted(header(false, "caller"), &sender(true, false)).unwrap();
        assert_eq!(bytes.participant_identity, "me");
        let own = asserted(header(true, "me"), &sender(true, false)).unwrap();
        assert!(!generated(&own));
    }

    #[test]
    fn nobody_else_may_name_another() {
        let text = asserted(header(true, "caller"), &sender(false, false)).unwrap();
        assert_eq!(text.participant_identity, "me");
        assert!(!generated(&text));
    }

    #[test]
    fn hidden_senders_are_blank() {
        let text = asserted(header(true, "me"), &sender(true, true)).unwrap();
        assert_eq!((text.participant_identity.as_str(), text.participant_sid.as_str()), ("", ""));
    }

    #[test]
    fn transcriptions_are_an_agents_privilege() {
        let packet = || lk::DataPacket {
            value: Some(Value::Transcription(lk::Transcription::default())),
            ..Default::default()
        };
        assert!(asserted(packet(), &sender(false, false)).is_none());
        assert!(asserted(packet(), &sender(true, false)).is_some());
    }

    #[test]
    fn old_and_new_destinations_mean_the_same() {
        let user = |old: &[&str], new: &[&str]| {
            let names = |n: &[&str]| n.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
            let value = lk::UserPacket { destination_identities: names(old), ..Default::default() };
            let packet = lk::DataPacket {
                destination_identities: names(new),
                value: Some(Value::User(value)),
                ..Default::default()
            };
            asserted(packet, &sender(false, false)).unwrap().destination_identities
        };
        assert_eq!(user(&["a"], &[]), ["a"]);
        assert_eq!(user(&["a"], &["b"]), ["b"]);
    }

    #[test]
    fn an_empty_packet_goes_nowhere() {
        assert!(asserted(lk::DataPacket::default(), &sender(true, false)).is_none());
    }
}
