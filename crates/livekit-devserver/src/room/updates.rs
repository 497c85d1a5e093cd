//! Updates about participants and about the room.
//!
//! In: changes of participants and of the room. Out: `ParticipantUpdate` and `RoomUpdate`. Publishers and
//! changed attributes are announced at once, other changes in batches (docs/signals.md §2.4). A hidden
//! participant is announced to itself only.

use livekit_protocol::{self as lk, signal_response::Message as Out};

use super::Room;
use crate::participant::Participant;

/// When a participant's change is announced. A publisher's changes are always announced at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    AtOnce,
    Batched,
}

impl Room {
    pub(crate) fn announce(&mut self, key: u64, urgency: Urgency) {
        let Some(p) = self.participants.get(&key) else { return };
        let info = p.info.clone();
        if p.hidden() {
            p.say(update(vec![info]));
        } else if urgency == Urgency::AtOnce || info.is_publisher {
            self.batch.remove(&info.identity);
            self.send_to_all(vec![info]);
        } else {
            p.say(update(vec![info.clone()]));
            self.batch.insert(info.identity.clone(), info);
        }
    }

    /// Announces that a participant has left. In the batch this overwrites a queued arrival: the others then
    /// never see that the participant was here.
    pub(super) fn announce_departure(&mut self, info: lk::ParticipantInfo, published: bool) {
        if published {
            self.batch.remove(&info.identity);
            self.send_to_all(vec![info]);
        } else {
            self.batch.insert(info.identity.clone(), info);
        }
    }

    pub(super) fn flush_batch(&mut self) {
        let batch: Vec<_> = std::mem::take(&mut self.batch).into_values().collect();
        self.send_to_all(batch);
    }

    fn send_to_all(&self, participants: Vec<lk::ParticipantInfo>) {
        if participants.is_empty() {
            return;
        }
        for p in self.participants.values() {
            p.say(update(participants.clone()));
        }
    }

    /// The participants that a new client may see.
    pub(super) fn visible(&self) -> Vec<lk::ParticipantInfo> {
        self.participants.values().filter(|p| !p.hidden()).map(|p| p.info.clone()).collect()
    }

    pub(crate) fn set_metadata(&mut self, metadata: String) {
        self.info.metadata = metadata;
        self.send_room_update();
    }

    pub(super) fn send_changed_counts(&mut self) {
        if self.sent_counts != (self.info.num_participants, self.info.num_publishers) {
            self.send_room_update();
        }
    }

    fn send_room_update(&mut self) {
        self.sent_counts = (self.info.num_participants, self.info.num_publishers);
        for p in self.participants.values() {
            p.say(Out::RoomUpdate(lk::RoomUpdate { room: Some(self.shown_to(p)) }));
        }
    }

    /// The room as this participant sees it.
    pub(super) fn shown_to(&self, p: &Participant) -> lk::Room {
        let mut room = self.info.clone();
        if !p.knows_sid {
            room.sid.clear();
        }
        room
    }
}

pub(super) fn update(participants: Vec<lk::ParticipantInfo>) -> Out {
    Out::Update(lk::ParticipantUpdate { participants })
}
