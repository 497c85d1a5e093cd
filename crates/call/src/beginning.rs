//! When a call began: when its caller was connected (docs/contract.md §3.2).

use record::{TimeBasis, people::ParticipantRole};

use super::{
    event::{By, Moment},
    feed::AgentView,
    parties::Parties,
    party::Party,
    speech::Segment,
};

/// The start, by our clock. `watching_since`: when we came; a leg that was answered by then was
/// connected earlier.
pub(crate) fn start(
    caller: &Party,
    parties: &Parties,
    view: &AgentView,
    user_segments: &[Segment],
    watching_since: Option<Moment>,
) -> (Moment, TimeBasis) {
    let answered_before = caller.is_sip() && caller.leg.active.is_some_and(|(_, before)| before);
    if !answered_before {
        return (caller.connected_at().unwrap_or(caller.joined_at), TimeBasis::Observed);
    }
    let came = watching_since.unwrap_or(caller.joined_at).max(caller.joined_at);
    let estimate = if caller.is_dialled() {
        first_sign(caller, view, user_segments).map_or(caller.joined_at, |sign| sign.min(came))
    } else {
        // The bridge answers an inbound leg when it hears another participant.
        let agents = parties.iter().filter(|p| parties.role(p) == ParticipantRole::Agent);
        let first = agents.map(|p| p.joined_at).min();
        first.map_or(caller.joined_at, |joined| joined.min(came))
    };
    (estimate.max(caller.joined_at), TimeBasis::Estimated)
}

/// The caller's earliest sound, text or turn.
fn first_sign(caller: &Party, view: &AgentView, user_segments: &[Segment]) -> Option<Moment> {
    let sound = caller.speaking.iter().find(|(_, on)| *on).map(|(at, _)| *at);
    let text = user_segments.iter().map(|s| s.first_at).min();
    let turn = (view.items.iter().filter(|i| i.by == By::User))
        .map(|i| i.started_at.or(i.created_at).unwrap_or(i.arrived))
        .min();
    [sound, text, turn].into_iter().flatten().min()
}
