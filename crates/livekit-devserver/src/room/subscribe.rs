//! Subscribing, and our side of the negotiation that carries it.
//!
//! In: requests for tracks. Dual mode: we offer on the subscriber connection; one offer is out at a time,
//! later changes wait for its answer. Single mode: we ask the client to offer more sections.

use livekit_protocol::{self as lk, signal_response::Message as Out};

use super::Room;

/// Our tracks' stream id in descriptions; SDKs split it at the bar.
fn stream_id(owner: &str, sid: &str) -> String {
    format!("{owner}|{sid}")
}

impl Room {
    pub(crate) fn subscribe_all(&mut self, key: u64) {
        let others = self.participants.values().filter(|p| p.key != key);
        let sids: Vec<String> =
            others.flat_map(|p| &p.tracks).map(|t| t.info.sid.clone()).collect();
        for sid in sids {
            self.subscribe(key, &sid);
        }
    }

    pub(crate) fn subscribe(&mut self, key: u64, sid: &str) {
        let net = self.hub.net.clone();
        let Some(owner) = self.owner_of(sid).filter(|o| o.key != key) else { return };
        let stream = stream_id(&owner.info.sid, sid);
        let level = owner.tracks.iter().fold(0f32, |l, t| l.max(t.level));
        let speaker = lk::SpeakerInfo { sid: owner.info.sid.clone(), level, active: level > 0.0 };
        let Some(p) = self.participants.get_mut(&key) else { return };
        if !p.permission().can_subscribe || !p.wants.insert(sid.into()) {
            return;
        }
        if p.subscriber.is_some() {
            p.down().add_track(&stream, sid, true, &net);
            self.offer(key);
        } else {
            self.need_sections(key);
        }
        if speaker.active
            && let Some(p) = self.participants.get(&key)
        {
            p.say(Out::SpeakersChanged(lk::SpeakersChanged { speakers: vec![speaker] }));
        }
        self.notify_publisher(key, sid);
    }

    pub(crate) fn unsubscribe(&mut self, key: u64, sid: &str) {
        if let Some(owner) = self.owner_of(sid).map(|o| o.info.sid.clone()) {
            self.end_subscription(key, sid, &owner);
        }
    }

    /// `owner` is the sid of the publisher, which may be gone already.
    fn end_subscription(&mut self, key: u64, sid: &str, owner: &str) {
        let Some(p) = self.participants.get_mut(&key) else { return };
        if !p.wants.remove(sid) {
            return;
        }
        p.disabled.remove(sid);
        let silent = lk::SpeakerInfo { sid: owner.into(), level: 0.0, active: false };
        p.say(Out::SpeakersChanged(lk::SpeakersChanged { speakers: vec![silent] }));
        if p.down().remove_track(sid) {
            if p.subscriber.is_some() {
                self.offer(key);
            } else {
                self.need_sections(key);
            }
        }
    }

    /// Ends all subscriptions to a track.
    pub(super) fn unsubscribe_all(&mut self, sid: &str, owner: &str) {
        let keys: Vec<u64> =
            self.participants.values().filter(|p| p.wants.contains(sid)).map(|p| p.key).collect();
        for key in keys {
            self.end_subscription(key, sid, owner);
        }
    }

    /// Ends all subscriptions of a participant.
    pub(crate) fn unsubscribe_from_all(&mut self, key: u64) {
        let Some(p) = self.participants.get(&key) else { return };
        for sid in p.wants.clone() {
            self.unsubscribe(key, &sid);
        }
    }

    /// Sends `TrackSubscribed` to the publisher; an agent waits for it before it speaks. Hidden subscribers
    /// do not count (docs/signals.md §2.2).
    fn notify_publisher(&mut self, key: u64, sid: &str) {
        if self.participants.get(&key).is_none_or(|p| p.hidden()) {
            return;
        }
        let owns =
            |p: &&mut crate::participant::Participant| p.tracks.iter().any(|t| t.info.sid == sid);
        let Some(owner) = self.participants.values_mut().find(owns) else { return };
        if owner.notified.insert(sid.into()) {
            owner.say(Out::TrackSubscribed(lk::TrackSubscribed { track_sid: sid.into() }));
        }
    }

    /// Our offer on the subscriber connection.
    pub(crate) fn offer(&mut self, key: u64) {
        let net = self.hub.net.clone();
        let Some(p) = self.participants.get_mut(&key) else { return };
        let Some(subscriber) = &mut p.subscriber else { return };
        if subscriber.offering.out {
            subscriber.offering.again = true;
            return;
        }
        let sdp = subscriber.offer(&net);
        let (id, mid_to_track_id) = (subscriber.offering.id, subscriber.mid_to_track());
        p.say(Out::Offer(lk::SessionDescription {
            r#type: "offer".into(),
            sdp,
            id,
            mid_to_track_id,
        }));
        self.listen(&self.participants[&key]);
    }

    pub(crate) fn subscriber_answer(&mut self, key: u64, answer: &lk::SessionDescription) {
        let net = self.hub.net.clone();
        let Some(p) = self.participants.get_mut(&key) else { return };
        let Some(subscriber) = &mut p.subscriber else { return };
        if !subscriber.offering.out || (answer.id != 0 && answer.id != subscriber.offering.id) {
            return tracing::debug!(identity = p.info.identity, "answer to an older offer");
        }
        if let Err(error) = subscriber.accept(&answer.sdp, &net) {
            tracing::warn!(identity = p.info.identity, %error, "answer refused");
        }
        if subscriber.offering.again {
            self.offer(key);
        }
    }

    /// Single mode: asks the client to offer sections for the tracks we want to send. The client offers even
    /// when none is missing, and the offer frees the sections of ended subscriptions.
    fn need_sections(&mut self, key: u64) {
        let Some(p) = self.participants.get(&key) else { return };
        let missing = p.wants.iter().filter(|sid| !p.publisher.sends(sid)).count() as u32;
        let need = lk::MediaSectionsRequirement { num_audios: missing, num_videos: 0 };
        p.say(Out::MediaSectionsRequirement(need));
    }

    /// Puts subscribed tracks into free sections. Returns the new answer if there were any.
    pub(super) fn fill(&mut self, key: u64) -> Option<String> {
        let net = self.hub.net.clone();
        let tracks = self.all_tracks();
        let p = self.participants.get_mut(&key)?;
        let mut any = false;
        for (sid, owner) in tracks {
            if p.wants.contains(&sid) && !p.publisher.sends(&sid) {
                any |= p.publisher.add_track(&stream_id(&owner, &sid), &sid, false, &net);
            }
        }
        any.then(|| p.publisher.answer_again(&net))
    }
}
