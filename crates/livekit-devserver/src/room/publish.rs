//! Publishing: a client's offers, its tracks, their sound.
//!
//! In: offers, track requests, mutes, RTP. Out: answers, published tracks, forwarded RTP. `AddTrack`
//! reserves a track; the first packet publishes it (a muted track: the offer). Must never forward a track
//! that was not announced.

use std::time::Duration;

use livekit_protocol::{self as lk, signal_response::Message as Out};
use str0m::rtp::RtpPacket;

use super::{Room, track::Track, updates::Urgency};
use crate::{clock::now, pc::Incoming};

impl Room {
    /// An offer for the client's publisher connection, or in single mode for its only connection.
    pub(crate) fn publisher_offer(&mut self, key: u64, offer: &lk::SessionDescription) {
        let net = self.hub.net.clone();
        let Some(p) = self.participants.get_mut(&key) else { return };
        let answer = match p.publisher.answer(&offer.sdp, &net) {
            Ok(answer) => answer,
            Err(error) => {
                return tracing::warn!(identity = p.info.identity, %error, "offer refused");
            }
        };
        let incoming = p.publisher.incoming();
        let gone: Vec<String> = p
            .tracks
            .iter()
            .filter(|t| !incoming.iter().any(|i| i.mid == t.info.mid))
            .map(|t| t.info.sid.clone())
            .collect();
        let muted: Vec<Incoming> = incoming
            .into_iter()
            .filter(|i| p.pending.iter().any(|(cid, track)| *cid == i.cid && track.muted))
            .collect();
        let single = p.subscriber.is_none();
        // Single mode: our tracks go into sections that this offer has added.
        let answer = if single { self.fill(key).unwrap_or(answer) } else { answer };
        let Some(p) = self.participants.get(&key) else { return };
        p.say(Out::Answer(lk::SessionDescription {
            r#type: "answer".into(),
            sdp: answer,
            id: offer.id,
            mid_to_track_id: if single { p.publisher.mid_to_track() } else { Default::default() },
        }));
        self.listen(p);
        for sid in gone {
            self.unpublish(key, &sid);
        }
        for incoming in muted {
            self.publish(key, &incoming.mid);
        }
    }

    /// Reserves a track, or sends the reason why not.
    pub(crate) fn request_track(&mut self, key: u64, request: lk::AddTrackRequest) {
        let Some(p) = self.participants.get_mut(&key) else { return };
        if p.may_publish(&request) {
            let cid = request.cid.clone();
            let track = p.add_track(request);
            p.say(Out::TrackPublished(lk::TrackPublishedResponse { cid, track: Some(track) }));
            return;
        }
        let message = if request.r#type == lk::TrackType::Audio as i32 {
            "does not have permission to publish"
        } else {
            "this server takes audio tracks only"
        };
        tracing::warn!(identity = p.info.identity, "track refused: {message}");
        p.say(Out::RequestResponse(lk::RequestResponse {
            reason: lk::request_response::Reason::NotAllowed as i32,
            message: message.into(),
            request: Some(lk::request_response::Request::AddTrack(request)),
            ..Default::default()
        }));
    }

    /// Publishes the track of a section: its first packet has arrived, or the track is muted.
    fn publish(&mut self, key: u64, mid: &str) {
        let Some(p) = self.participants.get_mut(&key) else { return };
        let Some(incoming) = p.publisher.incoming().into_iter().find(|i| i.mid == mid) else {
            return;
        };
        let named = p.pending.iter().position(|(cid, _)| *cid == incoming.cid);
        let Some(i) = named.or((p.pending.len() == 1).then_some(0)) else { return };
        let (_, mut info) = p.pending.remove(i);
        info.mid = mid.into();
        let sid = info.sid.clone();
        p.tracks.push(Track::new(info.clone()));
        p.info.is_publisher = true;
        let launch = !std::mem::replace(&mut p.publisher_launched, true) && !p.dependent();
        tracing::info!(room = self.info.name, identity = p.info.identity, track = sid, "publishes");
        self.tracks_changed(key);
        self.count();
        let subscribers: Vec<u64> = self
            .participants
            .values()
            .filter(|o| o.key != key && o.auto_subscribe)
            .map(|o| o.key)
            .collect();
        for subscriber in subscribers {
            self.subscribe(subscriber, &sid);
        }
        let Some(p) = self.participants.get(&key) else { return };
        self.hub.webhooks.track(&self.info, &p.info, &info, "track_published");
        if launch {
            self.launch_for(lk::JobType::JtPublisher, &p.info);
        }
    }

    pub(crate) fn unpublish(&mut self, key: u64, sid: &str) {
        let Some(p) = self.participants.get_mut(&key) else { return };
        let Some(i) = p.tracks.iter().position(|t| t.info.sid == sid) else { return };
        let track = p.tracks.remove(i);
        p.say(Out::TrackUnpublished(lk::TrackUnpublishedResponse { track_sid: sid.into() }));
        let owner = p.info.sid.clone();
        self.hub.webhooks.track(&self.info, &p.info, &track.info, "track_unpublished");
        self.tracks_changed(key);
        self.count();
        self.unsubscribe_all(sid, &owner);
    }

    fn tracks_changed(&mut self, key: u64) {
        let Some(p) = self.participants.get_mut(&key) else { return };
        p.info.tracks = p.tracks.iter().map(|t| t.info.clone()).collect();
        p.info.version += 1;
        self.announce(key, Urgency::AtOnce);
    }

    /// False when there is no such track.
    pub(crate) fn mute(&mut self, key: u64, sid: &str, muted: bool) -> bool {
        let Some(p) = self.participants.get_mut(&key) else { return false };
        for (_, track) in p.pending.iter_mut().filter(|(_, t)| t.sid == sid) {
            track.muted = muted;
        }
        let Some(track) = p.tracks.iter_mut().find(|t| t.info.sid == sid) else { return false };
        if std::mem::replace(&mut track.info.muted, muted) != muted {
            self.tracks_changed(key);
        }
        true
    }

    /// A packet of a client's track.
    pub(super) fn rtp(&mut self, key: u64, packet: &RtpPacket) {
        let Some(p) = self.participants.get_mut(&key) else { return };
        let Some(mid) = p.publisher.mid_of(packet) else { return };
        let Some(track) = p.tracks.iter_mut().find(|t| t.info.mid == mid) else {
            return self.publish(key, &mid);
        };
        if let Some(level) = packet.header.ext_vals.audio_level {
            // str0m counts levels downwards from 0.
            let level = level.unsigned_abs().min(127);
            let sent = Duration::from_secs_f64(packet.time.as_seconds().max(0.0));
            track.meter.observe(level, sent, packet.timestamp);
        }
        if track.info.muted {
            return;
        }
        let sid = track.info.sid.clone();
        let now = now();
        for other in self.participants.values_mut() {
            if other.key != key && other.wants.contains(&sid) && !other.disabled.contains(&sid) {
                other.down().forward(&sid, packet, now);
            }
        }
    }
}
