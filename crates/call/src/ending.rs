//! When a call is over, and when it ended (docs/contract.md §1.2).
//!
//! Two different moments: the call *ended* when the last caller left. It is *over* later, when no
//! caller can come back any more and the last words have arrived.

use record::EndBasis;

use super::{
    event::{LeaveReason, Moment},
    parties::{LOST_AFTER_MS, Parties, Party},
};

/// The caller's last words and the agent's last items arrive, and text that is open is closed, up to
/// 2 s after the leave (docs/signals.md §3.6).
pub(crate) const LAST_WORDS_MS: i64 = 2_500;
/// After a time-out the same identity was seen to come back 12 s later (docs/signals.md §3.3).
const TIMEOUT_GRACE_MS: i64 = 20_000;
/// The leave of a participant with quality LOST is reported at most this much later.
const LOST_TO_TIMEOUT_MS: i64 = 15_000;

/// How the call ended for its last caller.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CallEnd {
    /// By our clock.
    pub at: Moment,
    pub basis: EndBasis,
    pub cause: Cause,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cause {
    CallerLeft {
        identity: String,
        reason: LeaveReason,
    },
    /// The room ended, or we lost it, while a caller was in it.
    RoomEnded(LeaveReason),
}

impl CallEnd {
    /// LiveKit's reason for the leave, or for the end of the room.
    pub(crate) fn reason(&self) -> LeaveReason {
        match &self.cause {
            Cause::CallerLeft { reason, .. } | Cause::RoomEnded(reason) => *reason,
        }
    }
}

/// How and when the call ended; `None` if it has not ended.
pub(crate) fn end(parties: &Parties, room_ended: Option<(Moment, LeaveReason)>) -> Option<CallEnd> {
    if parties.caller_present() {
        let (at, reason) = room_ended?;
        return Some(CallEnd { at, basis: EndBasis::Observed, cause: Cause::RoomEnded(reason) });
    }
    // A caller that was never connected (a leg that was not answered) does not end the call of
    // other callers.
    let connected = parties.callers().any(Party::connected);
    let of = parties.callers().filter(|p| !connected || p.connected());
    let (at, basis, last) = of
        .filter_map(|p| {
            let (at, basis) = own_end(p)?;
            Some((at, basis, p))
        })
        .max_by_key(|(at, _, _)| *at)?;
    let reason = last.left.as_ref()?.reason;
    let cause = Cause::CallerLeft { identity: last.identity.clone(), reason };
    Some(CallEnd { at, basis, cause })
}

/// When one caller was gone: at its hang-up, at its loss of connection, or at its reported leave.
fn own_end(p: &Party) -> Option<(Moment, EndBasis)> {
    let left = p.left.as_ref()?;
    Some(match (left.reason, p.lost_at) {
        (LeaveReason::ConnectionTimeout, Some(lost)) => {
            let died = p.last_sign.max(lost.plus(-LOST_AFTER_MS)).min(left.at);
            (died, EndBasis::Estimated)
        }
        _ => (p.hung_up_at.map_or(left.at, |h| h.min(left.at)), EndBasis::Observed),
    })
}

/// When the call will be over if no caller comes back; `None` while a caller is present, or before
/// the first one came.
pub(crate) fn due(parties: &Parties, end_grace_ms: i64) -> Option<Moment> {
    if parties.caller_present() {
        return None;
    }
    let last = last_to_leave(parties)?;
    let left = last.left.as_ref()?;
    let grace = if cannot_return(last) {
        LAST_WORDS_MS
    } else if left.reason == LeaveReason::ConnectionTimeout {
        end_grace_ms.max(TIMEOUT_GRACE_MS)
    } else {
        end_grace_ms.max(LAST_WORDS_MS)
    };
    // An agent's connection was lost before: wait until the server reports whether the agent left.
    let doubt = parties.voice_agents().filter(|a| a.present()).filter_map(|a| a.lost_at).max();
    let due = left.reported_at.plus(grace);
    Some(doubt.map_or(due, |lost| due.max(lost.plus(LOST_TO_TIMEOUT_MS))))
}

fn last_to_leave(parties: &Parties) -> Option<&Party> {
    parties.callers().max_by_key(|p| p.left.as_ref().map(|l| l.reported_at))
}

/// A SIP leg that hung up, or was never answered, does not come back under the same identity.
fn cannot_return(p: &Party) -> bool {
    p.is_sip() && (p.call_status() == Some("hangup") || !p.connected())
}
