//! Who is told what about whom.
//!
//! In: changes of participants and of the room. Out: updates: at once for publishers and for changed
//! attributes, else in batches (docs/signals.md §2.4). Hidden participants are told of themselves only.

use livekit_protocol::{self as lk, signal_response::Message as Out};

use super::Room;
use crate::participant::Participant;

/// How urgent news of a participant are. Those of a publisher always are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    AtOnce,
    Batched,
}

impl Room {
    pub(crate) fn announce(&mut self, key: u64, when: When) {
        let Some(p) = self.participants.get(&key) else { return };
        let info = p.info.clone();
        if p.hidden() {
            p.say(update(vec![info]));
        } else if when == When::AtOnce || info.is_publisher {
            self.batch.remove(&info.identity);
            self.tell_all(vec![info]);
        } else {
            p.say(update(vec![info.clone()]));
            self.batch.insert(info.identity.clone(), info);
        }
    }

    /// The last news of somebody who is gone. They overwrite a queued arrival: others then never learn
    /// that the participant was here.
    pub(super) fn announce_gone(&mut self, info: lk::ParticipantInfo, published: bool) {
        if published {
            self.batch.remove(&info.identity);
            self.tell_all(vec![info]);
        } else {
            self.batch.insert(info.identity.clone(), info);
        }
    }

    pub(super) fn flush_batch(&mut self) {
        let batch: Vec<_> = std::mem::take(&mut self.batch).into_values().collect();
        self.tell_all(batch);
    }

    fn tell_all(&self, participants: Vec<lk::ParticipantInfo>) {
        if participants.is_empty() {
            return;
        }
        for p in self.participants.values() {
            p.say(update(participants.clone()));
        }
    }

    /// Everybody a newcomer may know of.
    pub(super) fn visible(&self) -> Vec<lk::ParticipantInfo> {
        self.participants.values().filter(|p| !p.hidden()).map(|p| p.info.clone()).collect()
    }

    pub(crate) fn set_metadata(&mut self, metadata: String) {
        self.info.metadata = metadata;
        self.tell_room();
    }

    pub(super) fn tell_changed_counts(&mut self) {
        if self.told_counts != (self.info.num_participants, self.info.num_publishers) {
            self.tell_room();
        }
    }

    fn tell_room(&mut self) {
        self.told_counts = (self.info.num_participants, self.info.num_publishers);
        for p in self.participants.values() {
            p.say(Out::RoomUpdate(lk::RoomUpdate { room: Some(self.shown_to(p)) }));
        }
    }

    /// The room as this participant is told of it.
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
