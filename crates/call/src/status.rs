//! Status and reason of a call (docs/contract.md §5): the first rule that applies, from the top.

use record::{CallType, EndedBy, Status};

use super::{
    ending::{self, CallEnd, Cause},
    event::{Answerer, LeaveReason, Moment},
    parties::Parties,
    party::{Party, Stay},
};

/// An agent counts as vanished if it was gone at least this long before the caller left.
const VANISHED_BEFORE_MS: i64 = 2_000;
/// A caller who waits alone for this long after the agent has left was abandoned.
pub(crate) const ALONE_MS: i64 = 10_000;

/// Every `termination_reason` that the worker itself gives. An agent may publish others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Outbound: busy, declined.
    Rejected,
    /// Outbound: it rang, but was not answered.
    NoAnswer,
    /// Outbound: nobody was reached: a wrong number, or the network failed before it rang.
    NotConnected,
    /// Inbound: the caller gave up while it rang.
    Abandoned,
    /// No voice agent was there while the caller was connected.
    NoAgent,
    /// The agent's session failed for good, or the agent reported an error and left before the
    /// caller.
    AgentError,
    /// The agent vanished, or left the caller alone for long, and no other agent took over.
    AgentLost,
    /// The caller's connection broke.
    ConnectionLost,
    /// The LiveKit server shut down.
    ServerShutdown,
    /// The caller could not join.
    JoinFailure,
    /// The SIP trunk failed.
    SipTrunkFailure,
    /// The caller's media connection failed.
    MediaFailure,
    /// A machine took the call, by the agent's answering machine detection.
    Voicemail,
    /// The worker lost the room while a caller was in it.
    ObserverDisconnected,
    /// The worker was restarted during the call, and the call was over when it came back.
    ObserverRestarted,
    /// The caller left, and the reason is not known.
    Unknown,
}

impl Reason {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Rejected => "rejected",
            Self::NoAnswer => "no_answer",
            Self::NotConnected => "not_connected",
            Self::Abandoned => "abandoned",
            Self::NoAgent => "no_agent",
            Self::AgentError => "agent_error",
            Self::AgentLost => "agent_lost",
            Self::ConnectionLost => "connection_lost",
            Self::ServerShutdown => "server_shutdown",
            Self::JoinFailure => "join_failure",
            Self::SipTrunkFailure => "sip_trunk_failure",
            Self::MediaFailure => "media_failure",
            Self::Voicemail => "voicemail",
            Self::ObserverDisconnected => "observer_disconnected",
            Self::ObserverRestarted => "observer_restarted",
            Self::Unknown => "unknown",
        }
    }
}

pub(crate) type Verdict = (Status, Option<Reason>);

/// The observations that a verdict is made from.
pub(crate) struct VerdictInput<'a> {
    pub parties: &'a Parties,
    pub caller: &'a Party,
    pub call_type: CallType,
    /// When the caller was connected.
    pub start: Moment,
    pub end: &'a CallEnd,
    pub room_ended: Option<(Moment, LeaveReason)>,
    /// An agent spoke after the start. It may not be among the participants: hidden agents are not
    /// listed.
    pub agent_heard: bool,
    /// The agent's session failed for good, and the agent did not speak again.
    pub agent_failed: bool,
    pub answered_by: Option<Answerer>,
    /// The worker was restarted, and the call ended before it was back.
    pub end_unseen: bool,
}

impl VerdictInput<'_> {
    /// The voice agents that were there while the caller was connected.
    fn serving_agents(&self) -> impl Iterator<Item = &Party> {
        let there = |a: &&Party| a.stays().any(|s| s.overlaps(self.start, self.end.at));
        self.parties.voice_agents().filter(there)
    }

    /// Their stays up to the end of the call.
    fn service(&self) -> Vec<Stay> {
        let stays = self.serving_agents().flat_map(Party::stays);
        stays.filter(|s| s.overlaps(self.start, self.end.at)).collect()
    }

    /// How long the caller was alone at the end: no agent and no other connected human was there. `None`
    /// if somebody stayed, or no agent ever came.
    pub(crate) fn alone_ms(&self) -> Option<i64> {
        let caller = match &self.end.cause {
            Cause::CallerLeft { identity, .. } => identity,
            Cause::RoomEnded(_) => &self.caller.identity,
        };
        let service = self.service();
        service.first()?;
        let others = self.parties.callers().chain(self.parties.third_parties());
        let others = others.filter(|p| p.identity != *caller).flat_map(Party::stays);
        let humans = others.filter(|s| s.connected.is_some_and(|at| at < self.end.at));
        let mut last = self.start;
        for stay in service.into_iter().chain(humans) {
            last = last.max(stay.gone.filter(|gone| *gone < self.end.at)?);
        }
        Some(self.end.at.since(last))
    }
}

/// Rules 2 to 7. Rule 1 (the agent published an end) is checked in [`super::build`].
pub(crate) fn judge(s: &VerdictInput) -> Verdict {
    if !s.parties.callers().any(Party::connected) {
        return never_connected(s.caller, s.call_type, s.end);
    }
    if !s.agent_heard && s.serving_agents().next().is_none() {
        return (Status::Failed, Some(Reason::NoAgent));
    }
    if s.agent_failed {
        return (Status::Failed, Some(Reason::AgentError));
    }
    if let Some(verdict) = agent_left(s).or_else(|| agent_vanished(s)) {
        return verdict;
    }
    let verdict = match &s.end.cause {
        Cause::CallerLeft { identity, reason } => {
            let left = s.parties.get(identity).unwrap_or(s.caller);
            caller_left(left, *reason, s.room_ended)
        }
        // The room was closed while the caller was in it: many agents hang up this way.
        Cause::RoomEnded(LeaveReason::RoomDeleted | LeaveReason::RoomClosed) => {
            (Status::Completed, None)
        }
        Cause::RoomEnded(LeaveReason::UnknownReason) if s.end_unseen => {
            (Status::Dropped, Some(Reason::ObserverRestarted))
        }
        Cause::RoomEnded(_) => (Status::Dropped, Some(Reason::ObserverDisconnected)),
    };
    match (verdict, s.answered_by) {
        ((Status::Completed, None), Some(Answerer::MachineVm)) => {
            (Status::Completed, Some(Reason::Voicemail))
        }
        (verdict, _) => verdict,
    }
}

/// Who ended the call by the observations; [`super::build`] adds what the agent published.
pub(crate) fn ended_by(s: &VerdictInput) -> EndedBy {
    use LeaveReason as L;
    match &s.end.cause {
        Cause::RoomEnded(L::RoomDeleted | L::RoomClosed) => EndedBy::Room,
        Cause::RoomEnded(L::ServerShutdown | L::SignalClose | L::MediaFailure) => EndedBy::Network,
        Cause::RoomEnded(_) => EndedBy::Worker,
        Cause::CallerLeft { identity, reason } => {
            let left = s.parties.get(identity).unwrap_or(s.caller);
            if !left.connected() {
                return unanswered_ended_by(left, *reason);
            }
            match caller_left(left, *reason, s.room_ended).1 {
                None if matches!(reason, L::ClientInitiated | L::UnknownReason) => EndedBy::Caller,
                None => EndedBy::Room,
                Some(Reason::Rejected | Reason::NoAnswer) => EndedBy::Caller,
                Some(Reason::AgentError) => EndedBy::Agent,
                Some(Reason::Unknown) => EndedBy::Unknown,
                Some(
                    Reason::NotConnected
                    | Reason::Abandoned
                    | Reason::NoAgent
                    | Reason::AgentLost
                    | Reason::ConnectionLost
                    | Reason::ServerShutdown
                    | Reason::JoinFailure
                    | Reason::SipTrunkFailure
                    | Reason::MediaFailure
                    | Reason::Voicemail
                    | Reason::ObserverDisconnected
                    | Reason::ObserverRestarted,
                ) => EndedBy::Network,
            }
        }
    }
}

/// Who ended a call that was never answered. What ends a dial before it rings is the network.
fn unanswered_ended_by(p: &Party, reason: LeaveReason) -> EndedBy {
    use LeaveReason as L;
    let rang = p.leg.rang_at.is_some();
    match reason {
        L::RoomDeleted | L::RoomClosed | L::ParticipantRemoved => EndedBy::Room,
        L::UserRejected | L::UserUnavailable if rang || !p.is_sip() => EndedBy::Caller,
        _ if p.hung_up() => EndedBy::Caller,
        // Caller, bridge or network: nothing in the room shows which.
        L::ClientInitiated if p.is_sip() && !p.is_dialled() => EndedBy::Unknown,
        _ => EndedBy::Network,
    }
}

/// No caller was ever connected (docs/contract.md §5.2).
fn never_connected(caller: &Party, call_type: CallType, end: &CallEnd) -> Verdict {
    use LeaveReason as L;
    let rang = caller.leg.rang_at.is_some();
    // Several may have been dialled at the same time: the reason is that of the leg that is reported.
    let own = caller.left.as_ref().map_or(end.reason(), |l| l.reason);
    let why = match (call_type, own) {
        (CallType::Outbound, L::UserRejected) => Reason::Rejected,
        (
            CallType::Outbound,
            L::UserUnavailable | L::RoomDeleted | L::RoomClosed | L::ParticipantRemoved,
        ) if rang => Reason::NoAnswer,
        (CallType::Outbound, L::SipTrunkFailure) => Reason::SipTrunkFailure,
        (CallType::Outbound, _) => Reason::NotConnected,
        (CallType::Inbound, _) if caller.hung_up() => Reason::Abandoned,
        (CallType::Inbound, _) if caller.call_status() == Some("ringing") => Reason::NoAgent,
        (CallType::Inbound, _) => Reason::NotConnected,
    };
    (Status::Failed, Some(why))
}

/// The last agent said goodbye, and the caller stayed alone for long (docs/contract.md §5.3).
fn agent_left(s: &VerdictInput) -> Option<Verdict> {
    let last = s.service().into_iter().max_by_key(|stay| stay.gone)?;
    let goodbye =
        matches!(last.left?.1, LeaveReason::ClientInitiated | LeaveReason::ParticipantRemoved);
    let long = s.alone_ms().is_some_and(|ms| ms >= ALONE_MS);
    (goodbye && long).then_some((Status::Dropped, Some(Reason::AgentLost)))
}

/// An agent broke off before the end, and no other one took over (docs/contract.md §5.3).
fn agent_vanished(s: &VerdictInput) -> Option<Verdict> {
    let vanished = |stay: &Stay| -> Option<(Moment, Reason)> {
        let reason = match stay.left.map(|(_, reason)| reason) {
            Some(LeaveReason::AgentError) => Reason::AgentError,
            Some(
                LeaveReason::ConnectionTimeout
                | LeaveReason::SignalClose
                | LeaveReason::StateMismatch,
            ) => Reason::AgentLost,
            // The server has not reported the leave yet, but the agent's connection is lost.
            None => Reason::AgentLost,
            Some(_) => return None,
        };
        Some((stay.gone?, reason))
    };
    let service = s.service();
    let early = |(at, _): &(Moment, Reason)| s.end.at.since(*at) >= VANISHED_BEFORE_MS;
    let (at, reason) =
        service.iter().filter_map(vanished).filter(early).max_by_key(|(at, _)| *at)?;
    if service.iter().any(|stay| stay.gone.is_none_or(|gone| gone > at)) {
        return None;
    }
    let failed = reason == Reason::AgentError;
    Some((if failed { Status::Failed } else { Status::Dropped }, Some(reason)))
}

/// How the last caller left (docs/contract.md §5.4).
fn caller_left(
    p: &Party,
    reason: LeaveReason,
    room_ended: Option<(Moment, LeaveReason)>,
) -> Verdict {
    use LeaveReason as L;
    let dropped = |r| (Status::Dropped, Some(r));
    let failed = |r| (Status::Failed, Some(r));
    if p.is_sip() && ending::lost_its_phone(p, room_ended) {
        return dropped(Reason::ConnectionLost);
    }
    match reason {
        L::ClientInitiated | L::ParticipantRemoved | L::RoomDeleted | L::RoomClosed => {
            (Status::Completed, None)
        }
        L::ServerShutdown => dropped(Reason::ServerShutdown),
        L::StateMismatch
        | L::SignalClose
        | L::ConnectionTimeout
        | L::DuplicateIdentity
        | L::Migration => dropped(Reason::ConnectionLost),
        L::MediaFailure => dropped(Reason::MediaFailure),
        L::JoinFailure => failed(Reason::JoinFailure),
        L::UserUnavailable => failed(Reason::NoAnswer),
        L::UserRejected => failed(Reason::Rejected),
        L::SipTrunkFailure => failed(Reason::SipTrunkFailure),
        L::AgentError => failed(Reason::AgentError),
        L::UnknownReason if p.hung_up() => (Status::Completed, None),
        L::UnknownReason => dropped(Reason::Unknown),
    }
}
