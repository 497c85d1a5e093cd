//! Data channels of one connection.
//!
//! In: channels opening and closing, messages to send. Out: messages, written when SCTP has room. We write
//! on the channels we opened and only read those of the client; in a single connection both sets share
//! labels and differ by id. Reliable messages wait, up to a bound; lossy messages beyond a short queue are
//! dropped.

use std::collections::{HashMap, VecDeque};

use str0m::{
    Rtc,
    channel::{ChannelConfig, ChannelId, Reliability},
};

pub(crate) const RELIABLE: &str = "_reliable";
pub(crate) const LOSSY: &str = "_lossy";
const DATA_TRACK: &str = "_data_track";

/// The channels that a LiveKit client expects us to open in band.
const OURS: [&str; 3] = [RELIABLE, LOSSY, DATA_TRACK];
/// Lossy messages that may wait. One is too few: they are written only when the room drives the connection.
const LOSSY_QUEUE: usize = 64;
/// Bytes of reliable messages that may wait for one client. A client that takes less is as good as gone.
const RELIABLE_BYTES: usize = 16 << 20;

#[derive(Default)]
struct Queue {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
}

#[derive(Default)]
pub(crate) struct Channels {
    labels: HashMap<ChannelId, String>,
    ours: HashMap<String, ChannelId>,
    open: HashMap<String, Queue>,
}

impl Channels {
    /// Opens what we send on, once SCTP has started.
    pub(crate) fn create(&mut self, rtc: &mut Rtc) {
        for label in OURS {
            let lossy = label != RELIABLE;
            let reliability = if lossy {
                Reliability::MaxRetransmits { retransmits: 0 }
            } else {
                Reliability::Reliable
            };
            let id = rtc.direct_api().create_data_channel(ChannelConfig {
                label: label.into(),
                ordered: !lossy,
                reliability,
                negotiated: None,
                protocol: String::new(),
            });
            self.labels.insert(id, label.into());
            self.ours.insert(label.into(), id);
        }
    }

    /// Returns the label if this is a channel of ours, which can be written from now on.
    pub(crate) fn opened(&mut self, id: ChannelId, label: String) -> Option<String> {
        let label = self.labels.entry(id).or_insert(label).clone();
        if self.ours.get(&label) != Some(&id) {
            return None;
        }
        self.open.entry(label.clone()).or_default();
        Some(label)
    }

    pub(crate) fn closed(&mut self, id: ChannelId) {
        if let Some(label) = self.labels.remove(&id)
            && self.ours.get(&label) == Some(&id)
        {
            self.open.remove(&label);
        }
    }

    pub(crate) fn label(&self, id: ChannelId) -> Option<&str> {
        self.labels.get(&id).map(String::as_str)
    }

    pub(crate) fn can_send(&self, label: &str) -> bool {
        self.open.contains_key(label)
    }

    /// Queues a message; false when the channel is not open.
    pub(crate) fn send(&mut self, label: &str, data: &[u8]) -> bool {
        let Some(queue) = self.open.get_mut(label) else { return false };
        let full = if label == RELIABLE {
            queue.bytes + data.len() > RELIABLE_BYTES
        } else {
            queue.messages.len() >= LOSSY_QUEUE
        };
        if full && label == RELIABLE {
            tracing::warn!(bytes = data.len(), "message lost: the client does not take its data");
        }
        if !full {
            queue.bytes += data.len();
            queue.messages.push_back(data.to_vec());
        }
        true
    }

    /// Writes as many messages as SCTP takes now; true when any was written.
    pub(crate) fn flush(&mut self, rtc: &mut Rtc) -> bool {
        let mut any = false;
        for (label, queue) in &mut self.open {
            let Some(id) = self.ours.get(label) else { continue };
            while let Some(message) = queue.messages.front() {
                let Some(mut channel) = rtc.channel(*id) else { break };
                match channel.write(true, message) {
                    Ok(true) => any = true,
                    Ok(false) => break,
                    Err(error) => tracing::warn!(%error, "message lost"),
                }
                queue.bytes -= message.len();
                queue.messages.pop_front();
            }
        }
        any
    }
}
