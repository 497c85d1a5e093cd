//! Phone legs that no observer could see: a dial that is refused at once lasts for some milliseconds. LiveKit's
//! webhook `participant_left` has all that such a call leaves behind, so it alone makes the record.
//!
//! In: the webhook's leg. Out: at most one record. A leg that an observer of any worker saw is not reported
//! here: it is part of that observer's call.

use std::{sync::Arc, time::Duration};

use call::{
    Call, Event, Fact, Moment, RoomFacts,
    event::{Discovery, Joined, Kind},
};
use delivery::Finished;
use livekit_protocol::{
    ParticipantInfo, Room,
    participant_info::{Kind as LiveKitKind, State},
};
use tokio::time::sleep;

use super::{Observers, participants, recording::live};
use crate::telemetry::masked;

/// The server announces a short leg to an observer up to this much later.
const SEEN_WITHIN: Duration = Duration::from_secs(6);
/// Legs that are looked at in the same time.
const MAX_PENDING: usize = 256;

/// A phone leg that has left, as LiveKit's webhook reports it.
#[derive(Clone, Debug)]
pub(crate) struct MissedLeg {
    pub(crate) room: Room,
    pub(crate) participant: ParticipantInfo,
    /// When it left, by the server's clock.
    pub(crate) left_at: Moment,
}

impl MissedLeg {
    /// `None` for participants that are no phone leg, and for legs that were answered: an observer has seen
    /// those.
    pub(crate) fn of(room: Room, participant: ParticipantInfo, left_at: Moment) -> Option<Self> {
        let status = participant.attributes.get("sip.callStatus").map_or("", String::as_str);
        let unanswered = matches!(status, "dialing" | "ringing");
        let leg = participant.kind() == LiveKitKind::Sip && unanswered;
        leg.then_some(Self { room, participant, left_at })
    }
}

/// Reports the leg, unless an observer saw it.
pub(crate) async fn report(observers: Arc<Observers>, leg: MissedLeg) {
    let sid = leg.participant.sid.clone();
    if sid.is_empty() || !observers.legs.is_new(&sid) {
        return;
    }
    // Each of them waits: without a limit, a flood of webhooks would be kept in memory.
    if observers.legs.clones() > MAX_PENDING {
        tracing::warn!("too many phone legs at once, one that no observer saw is not reported");
        return;
    }
    let _pending = observers.legs.clone();
    // At once: an agent may close the room as soon as its dial has failed.
    let first = Around::read(&observers, &leg.room.name).await;
    sleep(SEEN_WITHIN).await;
    if observers.legs.was_seen(&sid) {
        return;
    }
    let later = Around::read(&observers, &leg.room.name).await;
    let why = match (&first, &later) {
        (Err(e), _) => Err(format!("nothing is known of its room: {e}")),
        (Ok(first), later) => first.allows(&observers, &leg).and_then(|()| match later {
            Ok(later) => later.allows(&observers, &leg),
            // The room is closed by now.
            Err(_) => Ok(()),
        }),
    };
    let around = match (why, first) {
        (Ok(()), Ok(around)) => around,
        (why, _) => {
            // The error is LiveKit's own text.
            let why = masked(&why.err().unwrap_or_default());
            let room = masked(&leg.room.name);
            tracing::info!(room, why, "a short phone leg is not reported");
            return;
        }
    };
    let Some((call, record)) = record(&observers, &leg, &around) else { return };
    tracing::info!(
        call_id = record.call_id,
        room = masked(&leg.room.name),
        status = record.status.as_str(),
        reason = call.known_reason(),
        "call ended; it was too short for an observer, and is reported from LiveKit's webhook"
    );
    let metrics = &observers.metrics;
    metrics.call_started(Discovery::Webhook.as_str());
    metrics.call_ended(record.status.as_str(), call.known_reason());
    live::missed(&observers.events, &call, &record);
    let ended = Moment::parse_rfc3339(&record.end_time).unwrap_or_default();
    let finished = Finished { record: &record, place: None, ended, journal: None };
    observers.delivery.submit(finished).await;
}

/// What is around a leg.
struct Around {
    participants: Vec<ParticipantInfo>,
    /// Metadata of the dispatches to us: it may opt out.
    jobs: Vec<String>,
}

impl Around {
    /// Fails if anything is unknown: an opt-out may be in it.
    async fn read(observers: &Observers, room: &str) -> Result<Self, String> {
        let (participants, dispatches) = tokio::join!(
            observers.api.list_participants(room),
            observers.api.list_dispatches(room)
        );
        let participants = participants.map_err(|e| e.to_string())?;
        let dispatches = dispatches.map_err(|e| e.to_string())?;
        let ours = dispatches.into_iter().filter(|d| observers.badge.is_fleet(&d.agent_name));
        Ok(Self { participants, jobs: ours.map(|d| d.metadata).collect() })
    }

    fn there(&self) -> impl Iterator<Item = Joined> + '_ {
        let there = self.participants.iter().filter(|p| p.state() != State::Disconnected);
        there.map(participants::listed)
    }

    /// An error says why the leg is not a call that nobody reports.
    fn allows(&self, observers: &Observers, leg: &MissedLeg) -> Result<(), String> {
        let (us, left_at) = (observers.badge.worker(), leg.left_at.millis());
        let claims = observers.badge.read(&self.participants).claims;
        if claims.iter().any(|c| c.worker != us && c.since < left_at) {
            return Err("another worker observed the room".into());
        }
        let (names, p) = (&observers.settings.identities, &leg.participant);
        let caller = |j: &Joined| {
            j.sid != p.sid && names.is_caller(j) && j.joined_at.millis() < p.joined_at_ms
        };
        if self.there().any(|j| caller(&j) && connected(&j)) {
            return Err("it was dialled for a caller, whose call goes on".into());
        }
        Ok(())
    }
}

/// Whether a participant that is listed can speak with an agent.
fn connected(j: &Joined) -> bool {
    let status = j.attributes.get("sip.callStatus").map_or("", String::as_str);
    j.kind != Kind::Sip || matches!(status, "active" | "automation")
}

/// The record of a leg, made by the core as any other.
fn record(
    observers: &Observers,
    leg: &MissedLeg,
    around: &Around,
) -> Option<(Call, record::CallHistory)> {
    let (p, room) = (&leg.participant, &leg.room);
    let facts = RoomFacts { sid: room.sid.clone(), name: room.name.clone() };
    let mut call = Call::new(facts, observers.settings.clone());
    call.set_leg(p.sid.clone());
    let joined = participants::listed(p);
    let (from, identity) = (joined.joined_at, joined.identity.clone());
    let to = leg.left_at.max(from);
    let agents = around.there().filter(|j| j.joined_at <= to);
    let mut all = vec![
        (from, Fact::Watching { server_behind_ms: 0, by: Some(Discovery::Webhook) }),
        (from, Fact::RoomMetadata { metadata: room.metadata.clone() }),
    ];
    let jobs = around.jobs.iter().filter(|metadata| !metadata.is_empty());
    all.extend(jobs.map(|metadata| (from, Fact::JobMetadata { metadata: metadata.clone() })));
    // Only agents: other phone legs belong to other calls.
    let names = &observers.settings.identities;
    all.extend(agents.filter(|j| names.is_agent(j)).map(|j| (from, Fact::Joined(j))));
    all.push((from, Fact::Joined(joined)));
    let reason = participants::reason(p.disconnect_reason().into());
    let attributes = p.attributes.clone().into_iter().collect();
    all.push((to, Fact::Left { identity, reason, attributes, since: None }));
    for (at, fact) in all {
        let _ = call.apply(&Event { at, fact });
    }
    if call.opted_out() {
        return None;
    }
    let record = call.record()?;
    Some((call, record))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_phone_legs_that_were_not_answered_are_missed() {
        let leg = |kind: LiveKitKind, status: &str| {
            let attributes = [("sip.callStatus".to_owned(), status.to_owned())].into();
            let p = ParticipantInfo { kind: kind as i32, attributes, ..Default::default() };
            MissedLeg::of(Room::default(), p, Moment::default()).is_some()
        };
        for (kind, status, missed) in [
            (LiveKitKind::Sip, "dialing", true),
            (LiveKitKind::Sip, "ringing", true),
            (LiveKitKind::Sip, "active", false),
            (LiveKitKind::Sip, "automation", false),
            (LiveKitKind::Sip, "hangup", false),
            (LiveKitKind::Sip, "", false),
            (LiveKitKind::Standard, "dialing", false),
            (LiveKitKind::Agent, "dialing", false),
        ] {
            assert_eq!(leg(kind, status), missed, "{kind:?} {status}");
        }
    }
}
