//! Converts LiveKit's participant types to the core's.

use std::collections::BTreeMap;

use call::{
    Moment,
    event::{Joined, Kind, LeaveReason, Permissions},
};
use livekit::{
    participant::{ConnectionQuality, ParticipantKind},
    prelude::{DisconnectReason, RemoteParticipant},
};
use livekit_protocol::{ParticipantInfo, ParticipantPermission, participant_info};

pub(super) fn joined(p: &RemoteParticipant) -> Joined {
    Joined {
        identity: p.identity().to_string(),
        sid: p.sid().to_string(),
        kind: kind(p.kind()),
        name: p.name(),
        metadata: p.metadata(),
        attributes: attributes(p),
        joined_at: Moment::from_millis(p.joined_at()),
        permissions: p.permission().as_ref().map(permissions),
    }
}

// LiveKit calls `agent` and `recorder` deprecated in favour of the kind, but tokens without a kind still
// have them: those of Pipecat, of older SDKs, of people's own bots.
#[allow(deprecated)]
pub(super) fn permissions(may: &ParticipantPermission) -> Permissions {
    Permissions {
        agent: may.agent,
        recorder: may.recorder,
        hidden: may.hidden,
        publish: may.can_publish,
        publish_data: may.can_publish_data,
    }
}

/// A participant of the server's own list.
pub(super) fn listed(p: &ParticipantInfo) -> Joined {
    let joined_at =
        if p.joined_at_ms > 0 { p.joined_at_ms } else { p.joined_at.saturating_mul(1000) };
    Joined {
        identity: p.identity.clone(),
        sid: p.sid.clone(),
        kind: match p.kind() {
            participant_info::Kind::Standard => Kind::Standard,
            participant_info::Kind::Sip => Kind::Sip,
            participant_info::Kind::Connector => Kind::Connector,
            participant_info::Kind::Agent => Kind::Agent,
            participant_info::Kind::Ingress => Kind::Ingress,
            participant_info::Kind::Egress => Kind::Egress,
            participant_info::Kind::Bridge => Kind::Bridge,
        },
        name: p.name.clone(),
        metadata: p.metadata.clone(),
        attributes: p.attributes.clone().into_iter().collect(),
        joined_at: Moment::from_millis(joined_at),
        permissions: p.permission.as_ref().map(permissions),
    }
}

pub(super) fn attributes(p: &RemoteParticipant) -> BTreeMap<String, String> {
    p.attributes().into_iter().collect()
}

fn kind(k: ParticipantKind) -> Kind {
    match k {
        ParticipantKind::Standard => Kind::Standard,
        ParticipantKind::Sip => Kind::Sip,
        ParticipantKind::Connector => Kind::Connector,
        ParticipantKind::Agent => Kind::Agent,
        ParticipantKind::Ingress => Kind::Ingress,
        ParticipantKind::Egress => Kind::Egress,
        ParticipantKind::Bridge => Kind::Bridge,
    }
}

pub(super) fn lost(q: ConnectionQuality) -> bool {
    q == ConnectionQuality::Lost
}

pub(super) fn reason(r: DisconnectReason) -> LeaveReason {
    use LeaveReason as L;
    match r {
        DisconnectReason::UnknownReason => L::UnknownReason,
        DisconnectReason::ClientInitiated => L::ClientInitiated,
        DisconnectReason::DuplicateIdentity => L::DuplicateIdentity,
        DisconnectReason::ServerShutdown => L::ServerShutdown,
        DisconnectReason::ParticipantRemoved => L::ParticipantRemoved,
        DisconnectReason::RoomDeleted => L::RoomDeleted,
        DisconnectReason::StateMismatch => L::StateMismatch,
        DisconnectReason::JoinFailure => L::JoinFailure,
        DisconnectReason::Migration => L::Migration,
        DisconnectReason::SignalClose => L::SignalClose,
        DisconnectReason::RoomClosed => L::RoomClosed,
        DisconnectReason::UserUnavailable => L::UserUnavailable,
        DisconnectReason::UserRejected => L::UserRejected,
        DisconnectReason::SipTrunkFailure => L::SipTrunkFailure,
        DisconnectReason::ConnectionTimeout => L::ConnectionTimeout,
        DisconnectReason::MediaFailure => L::MediaFailure,
        DisconnectReason::AgentError => L::AgentError,
    }
}
