//! Joining and leaving.
//!
//! In: clients that join, resume, leave or are removed; the room's own end. Out: join responses, goodbyes,
//! and updates for the others. Every way out of a room goes through [`Room::take_out`], so that tracks,
//! jobs and packet routes never outlive their participant.

use std::time::Duration;

use livekit_protocol::{
    self as lk, DisconnectReason as Why, leave_request::Action, participant_info::State,
    signal_response::Message as Out,
};

use super::{Room, updates::Urgency, updates::update};
use crate::{
    clock::now,
    net::PcId,
    outbox::Outbox,
    participant::{Join, Participant},
    pc::Pc,
    server_info,
};

/// Time between a goodbye and the end of the media connections.
const GOODBYE_FIRST: Duration = Duration::from_millis(250);

/// A participant's key and the number of its websocket.
pub(crate) type Entered = (u64, u64);

impl Room {
    /// Lets a client in, or gives the reason why not. The caller sends the reason to the client.
    pub(crate) fn join(&mut self, join: Join) -> Result<Entered, Why> {
        if self.closed {
            return Err(Why::RoomClosed);
        }
        let old = self.by_identity(&join.claims.sub);
        if let Some(old) = old {
            // Not announced: clients conclude from the new sid that the old session is gone.
            self.take_out(old, Why::DuplicateIdentity, true);
        }
        let key = self.next_key;
        self.next_key += 1;
        let offer = join.offer.clone();
        let mut p = Participant::new(key, join, self.hub.config.capabilities);
        self.count();
        let max = self.info.max_participants;
        if max > 0 && !p.dependent() && self.info.num_participants >= max {
            return Err(Why::JoinFailure);
        }
        if !p.dependent() {
            self.first_joined = true;
            self.last_left = None;
        }
        self.listen(&p);
        self.info.num_participants += u32::from(!p.dependent());
        p.knows_sid = !self.hub.hides_sid();
        tracing::info!(
            room = self.info.name,
            identity = p.info.identity,
            sid = p.info.sid,
            dual = p.subscriber.is_some(),
            "joins"
        );
        p.say(self.join_response(&p));
        p.info.state = State::Joined as i32;
        p.info.version = 1;
        if !p.dependent() {
            self.launch_for(lk::JobType::JtParticipant, &p.info);
        }
        let (conn, auto) = (p.conn, p.auto_subscribe);
        self.participants.insert(key, p);
        if old.is_some() {
            self.announce(key, Urgency::AtOnce);
        }
        if let Some(offer) = offer {
            self.publisher_offer(key, &offer);
        }
        if auto {
            self.subscribe_all(key);
        }
        self.offer(key);
        self.refresh_token(key);
        Ok((key, conn))
    }

    fn join_response(&self, p: &Participant) -> Out {
        Out::Join(lk::JoinResponse {
            room: Some(self.shown_to(p)),
            participant: Some(p.info.clone()),
            other_participants: self.visible(),
            server_version: crate::VERSION.into(),
            subscriber_primary: p.subscriber.is_some(),
            ping_timeout: 15,
            ping_interval: 5,
            server_info: Some(server_info()),
            sif_trailer: b"no-e2ee".to_vec(),
            enabled_publish_codecs: self.info.enabled_codecs.clone(),
            client_configuration: Some(lk::ClientConfiguration::default()),
            // Without it a client waits 150 ms before each negotiation of its publisher.
            fast_publish: p.permission().can_publish,
            ..Default::default()
        })
    }

    pub(crate) fn listen(&self, p: &Participant) {
        let net = &self.hub.net;
        net.listen(p.publisher.ufrag(), &self.tx, PcId { key: p.key, subscriber: false });
        if let Some(subscriber) = &p.subscriber {
            net.listen(subscriber.ufrag(), &self.tx, PcId { key: p.key, subscriber: true });
        }
    }

    /// Gives a new websocket to a participant that is still in the room.
    pub(crate) fn resume(&mut self, sid: &str, out: Outbox<Out>) -> Option<Entered> {
        let key = self.participants.values().find(|p| p.info.sid == sid)?.key;
        let (others, room) = (self.visible(), self.shown_to(self.participants.get(&key)?));
        let p = self.participants.get_mut(&key)?;
        tracing::info!(room = self.info.name, identity = p.info.identity, "resumes");
        p.conn += 1;
        p.out = Some(out);
        let conn = p.conn;
        p.say(Out::Reconnect(lk::ReconnectResponse {
            server_info: Some(server_info()),
            client_configuration: Some(lk::ClientConfiguration::default()),
            last_message_seq: p.last_sequence,
            ..Default::default()
        }));
        p.say(update(others));
        p.say(Out::RoomUpdate(lk::RoomUpdate { room: Some(room) }));
        if let Some(subscriber) = &mut p.subscriber {
            subscriber.renew_credentials();
            subscriber.offering.out = false;
        }
        self.listen(&self.participants[&key]);
        self.offer(key);
        Some((key, conn))
    }

    /// The websocket ended. A participant whose media connection is up stays and may resume.
    pub(super) fn signal_closed(&mut self, key: u64) {
        let Some(p) = self.participants.get_mut(&key) else { return };
        tracing::debug!(
            room = self.info.name,
            identity = p.info.identity,
            "signal connection gone"
        );
        p.out = None;
        if !p.active() {
            self.remove(key, Why::SignalClose);
        }
    }

    /// Removes a participant, and notifies it and the others.
    pub(crate) fn remove(&mut self, key: u64, why: Why) {
        let Some((info, published)) = self.take_out(key, why, true) else { return };
        if !info.permission.as_ref().is_some_and(|p| p.hidden) {
            self.announce_departure(info, published);
        }
    }

    /// Forgets a participant as a failing node would. The participant gets no goodbye and its connections are
    /// not closed; the others receive the reason.
    pub(crate) fn forget(&mut self, key: u64, why: Why) {
        let Some((info, published)) = self.take_out(key, why, false) else { return };
        if !info.permission.as_ref().is_some_and(|p| p.hidden) {
            self.announce_departure(info, published);
        }
    }

    /// Removes a participant. Returns its final state for the others, and whether it published.
    fn take_out(
        &mut self,
        key: u64,
        why: Why,
        goodbye: bool,
    ) -> Option<(lk::ParticipantInfo, bool)> {
        let mut p = self.participants.remove(&key)?;
        tracing::info!(room = self.info.name, identity = p.info.identity, reason = ?why, "leaves");
        let was_active = p.active();
        if goodbye {
            if why != Why::ClientInitiated {
                p.leave(why, Action::Disconnect);
            }
            p.out = None;
            self.close_connections(&mut p);
        } else {
            p.cut();
        }
        self.hub.net.forget(&self.tx, key);
        for track in &p.tracks {
            self.hub.webhooks.track(&self.info, &p.info, &track.info, "track_unpublished");
        }
        p.info.state = State::Disconnected as i32;
        p.info.disconnect_reason = why as i32;
        p.info.version += 1;
        p.info.tracks.clear();
        self.count();
        self.last_left = Some(now());
        for track in &p.tracks {
            self.unsubscribe_all(&track.info.sid, &p.info.sid);
        }
        self.terminate_jobs_of(&p.info.identity);
        let event = if was_active { "participant_left" } else { "participant_connection_aborted" };
        self.hub.webhooks.participant(&self.info, &p.info, event);
        let published = p.info.is_publisher;
        Some((p.info, published))
    }

    /// Closes the media connections after the websocket has had time to carry the goodbye. A client that
    /// loses its media connection first tries to reconnect, and would open the room again.
    fn close_connections(&self, p: &mut Participant) {
        let publisher = std::mem::replace(&mut p.publisher, Pc::new(false));
        let connections: Vec<Pc> = std::iter::once(publisher).chain(p.subscriber.take()).collect();
        let net = self.hub.net.clone();
        tokio::spawn(async move {
            tokio::time::sleep(GOODBYE_FIRST).await;
            for mut connection in connections {
                connection.close(&net);
            }
        });
    }

    /// Ends the room, with a goodbye to each participant.
    pub(crate) fn close(&mut self, why: Why) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        tracing::info!(room = self.info.name, reason = ?why, "room closed");
        self.hub.drop_room(&self.info.name, &self.tx);
        for job in std::mem::take(&mut self.jobs) {
            job.terminate();
        }
        let keys: Vec<u64> = self.participants.keys().copied().collect();
        // `take_out` announces nothing: each participant sees the room's end, not the others' departures.
        for key in keys {
            self.take_out(key, why, true);
        }
        self.hub.webhooks.room(&self.info, "room_finished");
    }
}
