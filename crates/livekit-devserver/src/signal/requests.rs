//! A client's requests over its websocket.
//!
//! In: one request of one participant. Out: calls of the room's methods. Unknown requests are ignored.

use livekit_protocol::{
    self as lk, DisconnectReason as Why, leave_request::Action, signal_request::Message as In,
    signal_response::Message as Out, simulate_scenario::Scenario,
};

use crate::{clock::wall_ms, room::Room};

/// All sids that a subscription message names.
fn named(track_sids: Vec<String>, participant_tracks: Vec<lk::ParticipantTracks>) -> Vec<String> {
    track_sids
        .into_iter()
        .chain(participant_tracks.into_iter().flat_map(|t| t.track_sids))
        .collect()
}

impl Room {
    pub(crate) fn signal(&mut self, key: u64, message: In) {
        let Some(p) = self.participants.get_mut(&key) else { return };
        match message {
            In::Offer(offer) => self.publisher_offer(key, &offer),
            In::Answer(answer) => self.subscriber_answer(key, &answer),
            In::AddTrack(request) => self.request_track(key, request),
            In::Mute(m) => drop(self.mute(key, &m.sid, m.muted)),
            In::Subscription(s) => {
                self.set_subscriptions(key, s.subscribe, named(s.track_sids, s.participant_tracks));
            }
            In::TrackSetting(t) if t.disabled => p.disabled.extend(t.track_sids),
            In::TrackSetting(t) => p.disabled.retain(|sid| !t.track_sids.contains(sid)),
            In::Leave(leave) => self.remove(key, accepted_reason(leave.reason)),
            In::Ping(_) => p.say(Out::Pong(wall_ms())),
            In::PingReq(ping) => {
                p.say(Out::PongResp(lk::Pong {
                    last_ping_timestamp: ping.timestamp,
                    timestamp: wall_ms(),
                }));
            }
            In::UpdateMetadata(update) => self.update_own(key, update),
            In::SyncState(state) => self.sync(key, state),
            In::Simulate(scenario) => self.simulate(key, &scenario),
            // We are ICE-lite and need no candidates of the client.
            In::Trickle(_) => {}
            other => tracing::trace!(identity = p.info.identity, ?other, "not handled"),
        }
    }

    fn set_subscriptions(&mut self, key: u64, subscribe: bool, sids: Vec<String>) {
        for sid in sids {
            if subscribe {
                self.subscribe(key, &sid);
            } else {
                self.unsubscribe(key, &sid);
            }
        }
    }

    /// After a resume or a restart, the client sends its own list of subscriptions.
    fn sync(&mut self, key: u64, state: lk::SyncState) {
        let Some(s) = state.subscription else { return };
        self.set_subscriptions(key, s.subscribe, named(s.track_sids, s.participant_tracks));
        if let Some(p) = self.participants.get_mut(&key) {
            p.disabled.extend(state.track_sids_disabled);
        }
    }

    /// What the SDKs' `simulate_scenario` asks for, as far as an observer would notice.
    fn simulate(&mut self, key: u64, simulate: &lk::SimulateScenario) {
        let Some(p) = self.participants.get_mut(&key) else { return };
        tracing::info!(identity = p.info.identity, scenario = ?simulate.scenario, "simulates");
        match simulate.scenario {
            Some(Scenario::NodeFailure(_)) => self.forget(key, Why::ServerShutdown),
            Some(Scenario::ServerLeave(_)) => p.leave(Why::ServerShutdown, Action::Disconnect),
            Some(Scenario::LeaveRequestFullReconnect(_)) => {
                p.leave(Why::ClientInitiated, Action::Reconnect);
                self.remove(key, Why::ClientInitiated);
            }
            Some(
                Scenario::DisconnectSignalOnResume(_)
                | Scenario::DisconnectSignalOnResumeNoMessages(_),
            ) => {
                p.cut();
            }
            Some(Scenario::Migration(_)) => {
                p.leave(Why::Migration, Action::Resume);
                p.out = None;
            }
            _ => {}
        }
    }
}

/// The reason for leaving that a client may give; any other becomes `ClientInitiated` (docs/signals.md §3.1).
fn accepted_reason(reason: i32) -> Why {
    match Why::try_from(reason) {
        Ok(why @ (Why::UserUnavailable | Why::UserRejected | Why::AgentError)) => why,
        _ => Why::ClientInitiated,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_three_reasons_of_a_client_are_accepted() {
        let kept: Vec<i32> = (0..20).filter(|r| accepted_reason(*r) as i32 == *r).collect();
        let expected =
            [Why::ClientInitiated, Why::UserUnavailable, Why::UserRejected, Why::AgentError]
                .map(|w| w as i32);
        assert_eq!(kept, expected);
    }
}
