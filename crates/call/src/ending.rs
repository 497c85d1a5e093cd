//! When a call is over, and when it ended (docs/contract.md §1.2).
//!
//! Two different moments: the call *ended* when the last caller left. It is *over* later, when no
//! caller can come back any more and the last words have arrived.

use record::TimeBasis;

use super::{
    event::{LeaveReason, Moment},
    parties::Parties,
    party::{LOST_AFTER_MS, Left, Party},
};

/// The caller's last words and the agent's last items arrive, and text that is open is closed, up to
/// 2 s after the leave (docs/signals.md §3.6); half a second more for the way here. A phone that hung up does not
/// come back, so its call is over then.
pub(crate) const LAST_WORDS_MS: i64 = 2_500;
/// After a time-out the same identity was seen to come back 12 s later (docs/signals.md §3.3).
const TIMEOUT_GRACE_MS: i64 = 20_000;
/// The bridge reports a hang-up and leaves within 0.2 s. If it takes longer than this, the phone did not
/// confirm the end: it was dead (docs/signals.md §4.5).
const UNCONFIRMED_AFTER_MS: i64 = 5_000;
/// A leg that leaves this close before the end of its room left with the room.
const WITH_ROOM_MS: i64 = 1_000;
/// The server announces the leave of a leg that lived for milliseconds in a batch, some 2.1 s later.
const BATCH_MS: std::ops::RangeInclusive<i64> = 1_800..=3_000;
/// The bridge leaves at most this long after the last sound of a phone that is dead.
const DEAD_PHONE_MS: i64 = 47_000;
/// The bridge gives up a phone that has sent nothing for this long.
const MEDIA_TIMEOUT_MS: i64 = 15_000;
/// The leave of a participant with quality LOST is reported at most this much later.
const LOST_TO_TIMEOUT_MS: i64 = 15_000;

/// How the call ended for its last caller.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CallEnd {
    /// By our clock.
    pub at: Moment,
    pub basis: TimeBasis,
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
        return Some(CallEnd { at, basis: TimeBasis::Observed, cause: Cause::RoomEnded(reason) });
    }
    // A caller that was never connected (a leg that was not answered) does not end the call of
    // other callers.
    let connected = parties.callers().any(Party::connected);
    let of = parties.callers().filter(|p| !connected || p.connected());
    let (at, basis, last) = of
        .filter_map(|p| {
            let (at, basis) = own_end(p, parties, room_ended)?;
            Some((at, basis, p))
        })
        .max_by_key(|(at, _, _)| *at)?;
    let reason = last.left.as_ref()?.reason;
    let cause = Cause::CallerLeft { identity: last.identity.clone(), reason };
    Some(CallEnd { at, basis, cause })
}

/// When one caller was gone: at its hang-up, at its loss of connection, or at its reported leave.
fn own_end(
    p: &Party,
    parties: &Parties,
    room_ended: Option<(Moment, LeaveReason)>,
) -> Option<(Moment, TimeBasis)> {
    let left = p.left.as_ref()?;
    let hung_up_at = p.leg.hung_up_at;
    if p.is_sip() && p.connected() && lost_its_phone(p, room_ended) {
        let died = match hung_up_at {
            Some(hung_up) => {
                let died = hung_up.plus(-MEDIA_TIMEOUT_MS).max(p.joined_at);
                p.last_heard().map_or(died, |heard| died.max(heard)).min(hung_up)
            }
            None => phone_died(p, left, parties),
        };
        return Some((died.min(left.at), TimeBasis::Estimated));
    }
    // A dial that is refused at once: the leg lives for milliseconds.
    let rang = p.leg.rang_at.is_some() || p.connected();
    if p.is_dialled() && !rang && BATCH_MS.contains(&left.at.since(p.joined_at)) {
        return Some((p.joined_at, TimeBasis::Estimated));
    }
    Some(match (left.reason, p.lost_at) {
        (LeaveReason::ConnectionTimeout, Some(lost)) => {
            let died = p.last_sign.max(lost.plus(-LOST_AFTER_MS)).min(left.at);
            (died, TimeBasis::Estimated)
        }
        // A leg that rings gives no sign of life.
        (LeaveReason::ConnectionTimeout, None) if p.is_sip() => {
            (p.gone_at().unwrap_or(left.at), TimeBasis::Estimated)
        }
        _ => (hung_up_at.map_or(left.at, |h| h.min(left.at)), TimeBasis::Observed),
    })
}

/// When an answered phone was lost without a hang-up.
fn phone_died(p: &Party, left: &Left, parties: &Parties) -> Moment {
    if left.reason == LeaveReason::ConnectionTimeout {
        // The bridge died; the server noticed.
        let noticed = p.gone_at().unwrap_or(left.at);
        return p.last_heard().map_or(noticed, |heard| noticed.max(heard));
    }
    // Nobody heard a caller who was alone: its silence shows nothing.
    let heard_to_the_end =
        parties.voice_agents().any(|a| a.gone_at().is_none_or(|gone| gone >= left.at));
    match p.last_heard().filter(|_| heard_to_the_end) {
        Some(heard) => heard.max(left.at.plus(-DEAD_PHONE_MS)),
        None => left.at,
    }
}

/// Whether an answered phone leg lost its connection (docs/contract.md §5.4).
pub(crate) fn lost_its_phone(p: &Party, room_ended: Option<(Moment, LeaveReason)>) -> bool {
    use LeaveReason as L;
    let Some(left) = &p.left else { return false };
    let unconfirmed = p.leg.hung_up_at.is_some_and(|h| left.at.since(h) > UNCONFIRMED_AFTER_MS);
    let hung_up = p.hung_up();
    match left.reason {
        L::ConnectionTimeout | L::SignalClose | L::MediaFailure => true,
        // The room may be closed just when the bridge leaves by itself.
        L::ClientInitiated if !hung_up && p.call_status().is_some() => {
            let closed = |(at, reason): (Moment, L)| {
                matches!(reason, L::RoomDeleted | L::RoomClosed)
                    && at.since(left.reported_at) <= WITH_ROOM_MS
            };
            !room_ended.is_some_and(closed)
        }
        _ => unconfirmed,
    }
}

/// When the call will be over if no caller comes back; `None` while a caller is present, or before
/// the first one came.
pub(crate) fn due(parties: &Parties, end_grace_ms: i64) -> Option<Moment> {
    if parties.caller_present() {
        return None;
    }
    let due = parties.callers().filter_map(|p| own_due(p, end_grace_ms)).max()?;
    // An agent's connection was lost before: wait until the server reports whether the agent left.
    let doubt = parties.voice_agents().filter(|a| a.present()).filter_map(|a| a.lost_at).max();
    Some(doubt.map_or(due, |lost| due.max(lost.plus(LOST_TO_TIMEOUT_MS))))
}

/// Until when one caller that has left may come back.
fn own_due(p: &Party, end_grace_ms: i64) -> Option<Moment> {
    let left = p.left.as_ref()?;
    let grace = if cannot_return(p) {
        LAST_WORDS_MS
    } else if left.reason == LeaveReason::ConnectionTimeout {
        end_grace_ms.max(TIMEOUT_GRACE_MS)
    } else {
        end_grace_ms.max(LAST_WORDS_MS)
    };
    Some(left.reported_at.plus(grace))
}

/// A SIP leg that hung up, or was never answered, does not come back under the same identity.
fn cannot_return(p: &Party) -> bool {
    p.is_sip() && (p.hung_up() || !p.connected())
}
