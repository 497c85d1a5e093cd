//! docs/contract.md §5 row by row: how a call ended, judged by the events of the room.

use record::{CallType, Status};

use super::*;

fn verdict(t: &Scenario) -> (Status, Option<String>) {
    let r = t.record();
    (r.status, r.termination_reason)
}

fn phone(attributes: &[(&str, &str)]) -> Scenario {
    let mut t = Scenario::new();
    t.joins(0, "caller", Kind::Sip, attributes);
    t.joins(0, "agent", Kind::Agent, &[("lk.agent.state", "listening")]);
    t
}

const INBOUND: (&str, &str) = ("sip.ruleID", "SDR_1");

#[test]
fn a_phone_call_ends_as_its_leg_ended() {
    use LeaveReason as L;
    use Status::{Completed, Dropped, Failed};
    // (inbound, last status, reason of the leave) → verdict
    for (inbound, last, reason, status, why) in [
        (true, "hangup", L::ClientInitiated, Completed, None),
        (false, "hangup", L::ClientInitiated, Completed, None),
        (true, "active", L::RoomDeleted, Completed, None),
        (true, "active", L::ParticipantRemoved, Completed, None),
        (false, "active", L::ClientInitiated, Dropped, Some("connection_lost")),
        (true, "active", L::ConnectionTimeout, Dropped, Some("connection_lost")),
        (true, "active", L::SignalClose, Dropped, Some("connection_lost")),
        (true, "active", L::UnknownReason, Dropped, Some("unknown")),
        (true, "hangup", L::UnknownReason, Completed, None),
        (false, "ringing", L::UserRejected, Failed, Some("rejected")),
        (false, "ringing", L::UserUnavailable, Failed, Some("no_answer")),
        (false, "dialing", L::UserUnavailable, Failed, Some("not_connected")),
        (false, "dialing", L::ClientInitiated, Failed, Some("not_connected")),
        (false, "ringing", L::ClientInitiated, Failed, Some("not_connected")),
        (false, "ringing", L::RoomDeleted, Failed, Some("no_answer")),
        (false, "ringing", L::ParticipantRemoved, Failed, Some("no_answer")),
        (false, "dialing", L::RoomDeleted, Failed, Some("not_connected")),
        (false, "dialing", L::SipTrunkFailure, Failed, Some("sip_trunk_failure")),
        (true, "ringing", L::ClientInitiated, Failed, Some("no_agent")),
    ] {
        let first = if inbound { "ringing" } else { "dialing" };
        let mut t = if inbound {
            phone(&[INBOUND, ("sip.callStatus", first)])
        } else {
            phone(&[("sip.callStatus", first)])
        };
        if matches!(last, "active" | "hangup") {
            t.sets(1_000, "caller", &[("sip.callStatus", "active")]);
        }
        t.sets(5_000, "caller", &[("sip.callStatus", last)]);
        t.leaves(5_050, "caller", reason);
        let case = format!("inbound {inbound}, {last}, {reason:?}");
        assert_eq!(verdict(&t), (status, why.map(str::to_owned)), "{case}");
        let expected = if inbound { CallType::Inbound } else { CallType::Outbound };
        assert_eq!(t.record().call_type, expected, "{case}");
    }
}

#[test]
fn a_hang_up_is_read_off_the_leg_that_has_left() {
    let mut t = phone(&[INBOUND, ("sip.callStatus", "active")]);
    let attributes = map(&[("sip.callStatus", "hangup")]);
    let reason = LeaveReason::ClientInitiated;
    t.fact(9_000, Fact::Left { identity: "caller".into(), reason, attributes, since: None });
    assert_eq!(verdict(&t), (Status::Completed, None));
}

#[test]
fn an_inbound_caller_who_gives_up_while_it_rings_abandoned_the_call() {
    let mut t = phone(&[INBOUND, ("sip.callStatus", "ringing")]);
    t.sets(3_000, "caller", &[("sip.callStatus", "hangup")]);
    t.leaves(3_000, "caller", LeaveReason::ClientInitiated);
    assert_eq!(verdict(&t), (Status::Failed, Some("abandoned".into())));
}

#[test]
fn a_web_call_ends_as_its_caller_left() {
    use LeaveReason as L;
    use Status::{Completed, Dropped, Failed};
    for (reason, status, why) in [
        (L::ClientInitiated, Completed, None),
        (L::ParticipantRemoved, Completed, None),
        (L::RoomDeleted, Completed, None),
        (L::RoomClosed, Completed, None),
        (L::ServerShutdown, Dropped, Some("server_shutdown")),
        (L::StateMismatch, Dropped, Some("connection_lost")),
        (L::SignalClose, Dropped, Some("connection_lost")),
        (L::ConnectionTimeout, Dropped, Some("connection_lost")),
        (L::DuplicateIdentity, Dropped, Some("connection_lost")),
        (L::Migration, Dropped, Some("connection_lost")),
        (L::MediaFailure, Dropped, Some("media_failure")),
        (L::UnknownReason, Dropped, Some("unknown")),
        (L::JoinFailure, Failed, Some("join_failure")),
        (L::UserUnavailable, Failed, Some("no_answer")),
        (L::UserRejected, Failed, Some("rejected")),
        (L::SipTrunkFailure, Failed, Some("sip_trunk_failure")),
        (L::AgentError, Failed, Some("agent_error")),
    ] {
        let mut t = Scenario::web_call();
        t.leaves(9_000, "caller", reason);
        assert_eq!(verdict(&t), (status, why.map(str::to_owned)), "{reason:?}");
    }
}

#[test]
fn a_room_that_ends_around_the_caller_ends_the_call() {
    use LeaveReason as L;
    for (reason, status, why) in [
        (L::RoomDeleted, Status::Completed, None),
        (L::RoomClosed, Status::Completed, None),
        (L::ParticipantRemoved, Status::Dropped, Some("observer_disconnected")),
        (L::UnknownReason, Status::Dropped, Some("observer_disconnected")),
        (L::ClientInitiated, Status::Dropped, Some("observer_disconnected")),
    ] {
        let mut t = Scenario::web_call();
        t.fact(9_000, Fact::RoomEnded { reason });
        assert_eq!(verdict(&t), (status, why.map(str::to_owned)), "{reason:?}");
        assert_eq!(t.record().duration_seconds, 9.0);
    }
}

#[test]
fn without_a_voice_agent_the_call_failed() {
    let mut t = Scenario::new();
    t.joins(0, "caller", Kind::Standard, &[]);
    // A recorder is of kind agent as well, but never does what a voice agent does.
    t.joins(0, "recorder", Kind::Agent, &[]);
    t.leaves(9_000, "caller", LeaveReason::ClientInitiated);
    assert_eq!(verdict(&t), (Status::Failed, Some("no_agent".into())));
}

#[test]
fn an_agent_that_vanished_before_the_caller_left_fails_or_drops_the_call() {
    use LeaveReason as L;
    use Status::{Completed, Dropped, Failed};
    for (left, reason, caller, status, why) in [
        (5_000, L::AgentError, 9_000, Failed, Some("agent_error")),
        (5_000, L::SignalClose, 9_000, Dropped, Some("agent_lost")),
        (5_000, L::StateMismatch, 9_000, Dropped, Some("agent_lost")),
        // Reported 21 s after it died.
        (30_000, L::ConnectionTimeout, 31_000, Dropped, Some("agent_lost")),
        (30_000, L::ConnectionTimeout, 10_000, Completed, None),
        // An agent that leaves by itself is not lost.
        (5_000, L::ClientInitiated, 9_000, Completed, None),
        // Too close to the caller's own leave.
        (8_000, L::AgentError, 9_000, Completed, None),
    ] {
        let mut t = Scenario::web_call();
        let case = format!("{reason:?} at {left}, caller at {caller}");
        let mut leaves = [(left, "agent", reason), (caller, "caller", L::ClientInitiated)];
        leaves.sort_by_key(|l| l.0);
        for (ms, who, reason) in leaves {
            t.leaves(ms, who, reason);
        }
        assert_eq!(verdict(&t), (status, why.map(str::to_owned)), "{case}");
    }
}

#[test]
fn an_agent_that_took_over_saves_the_call() {
    let mut t = Scenario::web_call();
    t.leaves(5_000, "agent", LeaveReason::AgentError);
    t.joins(6_000, "agent-2", Kind::Agent, &[("lk.agent.state", "listening")]);
    t.leaves(20_000, "caller", LeaveReason::ClientInitiated);
    assert_eq!(verdict(&t), (Status::Completed, None));
}

#[test]
fn an_agent_whose_connection_was_lost_and_never_came_back_was_lost() {
    let mut t = Scenario::web_call();
    t.fact(12_500, Fact::Quality { identity: "agent".into(), lost: true });
    t.leaves(13_000, "caller", LeaveReason::ClientInitiated);
    assert_eq!(verdict(&t), (Status::Dropped, Some("agent_lost".into())));
    t.fact(14_000, Fact::Quality { identity: "agent".into(), lost: false });
    assert_eq!(verdict(&t), (Status::Completed, None));
}

#[test]
fn the_phone_number_is_taken_from_the_best_source() {
    for (identity, kind, attributes, metadata, room, number) in [
        (
            "sip_+4912345678",
            Kind::Sip,
            &[("sip.phoneNumber", "+15550001111")][..],
            "",
            "r",
            "+15550001111",
        ),
        ("sip_+4912345678", Kind::Sip, &[], "", "r", "+4912345678"),
        ("sip_0a1b2c", Kind::Sip, &[], "", "twilio-+15551234567-x", "+15551234567"),
        ("sip_0a1b2c", Kind::Sip, &[], "", "r", "unknown"),
        ("alice", Kind::Standard, &[], "", "r", "alice"),
        ("alice", Kind::Standard, &[], r#"{"phone_number":"+1555"}"#, "r", "+1555"),
    ] {
        let mut t = Scenario::in_room(room);
        t.fact(
            0,
            Fact::Joined(Joined {
                identity: identity.into(),
                sid: "PA_1".into(),
                kind,
                name: String::new(),
                metadata: metadata.into(),
                attributes: map(attributes),
                joined_at: at(0),
                permissions: None,
            }),
        );
        t.leaves(1_000, identity, LeaveReason::ClientInitiated);
        assert_eq!(t.record().phone_number, number, "{identity} {room}");
    }
}

#[test]
fn an_inbound_call_to_which_no_agent_came_failed() {
    let mut t = Scenario::new();
    t.joins(0, "caller", Kind::Sip, &[INBOUND, ("sip.callStatus", "ringing")]);
    t.leaves(180_000, "caller", LeaveReason::ClientInitiated);
    assert_eq!(verdict(&t), (Status::Failed, Some("no_agent".into())));
}

#[test]
fn a_machine_that_took_the_call_is_named_by_the_agents_detection_alone() {
    use crate::event::Answerer;
    for (by, why) in [
        (Answerer::MachineVm, Some("voicemail")),
        (Answerer::Human, None),
        (Answerer::MachineIvr, None),
        (Answerer::MachineUnavailable, None),
        (Answerer::Uncertain, None),
    ] {
        let mut t = phone(&[("sip.callStatus", "dialing")]);
        t.sets(2_000, "caller", &[("sip.callStatus", "active")]);
        t.feed(3_000, FeedMessage::Answered { by });
        t.sets(9_000, "caller", &[("sip.callStatus", "hangup")]);
        t.leaves(9_000, "caller", LeaveReason::ClientInitiated);
        assert_eq!(verdict(&t), (Status::Completed, why.map(str::to_owned)), "{by:?}");
    }
}

#[test]
fn the_agents_report_of_the_end_takes_precedence() {
    let transferred = r#"{"type":"end","termination_reason":"transferred"}"#;
    for (message, reason, status, why) in [
        (transferred, LeaveReason::ClientInitiated, Status::Completed, Some("transferred")),
        (transferred, LeaveReason::ConnectionTimeout, Status::Completed, Some("transferred")),
        (r#"{"type":"end","status":"failed"}"#, LeaveReason::ClientInitiated, Status::Failed, None),
    ] {
        let mut t = phone(&[INBOUND, ("sip.callStatus", "active")]);
        t.publishes(5_000, "agent", message);
        t.leaves(9_000, "caller", reason);
        assert_eq!(verdict(&t), (status, why.map(str::to_owned)), "{message} {reason:?}");
    }
}

#[test]
fn a_call_that_ended_during_a_restart_of_the_worker_is_dropped_for_that_reason() {
    let mut t = Scenario::web_call();
    t.agent_says(1_000, 3_000, "hello");
    t.fact(60_000, Fact::Recovered);
    t.fact(3_050, Fact::RoomEnded { reason: LeaveReason::UnknownReason });
    assert_eq!(verdict(&t), (Status::Dropped, Some("observer_restarted".into())));
    let notes = t.record().outcomes.notes.unwrap_or_default();
    assert!(notes.contains("The worker was restarted during the call."), "{notes}");
}

#[test]
fn who_ended_the_call_is_independent_of_its_status() {
    use LeaveReason as L;
    use record::EndedBy as By;
    let ended_by = |t: &Scenario| {
        let settings = Settings { details: true, ..Settings::default() };
        let room = RoomFacts { sid: "RM_1".into(), name: "room".into() };
        let mut call = Call::new(room, settings);
        t.events.iter().for_each(|e| drop(call.apply(e)));
        call.record().and_then(|r| r.details).map(|d| d.ended_by)
    };
    for (left, by) in [
        (L::ClientInitiated, By::Caller),
        (L::ParticipantRemoved, By::Room),
        (L::RoomDeleted, By::Room),
        (L::RoomClosed, By::Room),
        (L::ConnectionTimeout, By::Network),
        (L::SignalClose, By::Network),
        (L::ServerShutdown, By::Network),
        (L::MediaFailure, By::Network),
        (L::AgentError, By::Agent),
        (L::UnknownReason, By::Unknown),
    ] {
        let mut t = Scenario::web_call();
        t.leaves(9_000, "caller", left);
        assert_eq!(ended_by(&t), Some(by), "{left:?}");
    }
    for (status, left, by) in [
        ("hangup", L::ClientInitiated, By::Caller),
        ("active", L::ClientInitiated, By::Network),
        ("hangup", L::UnknownReason, By::Caller),
    ] {
        let mut t = phone(&[INBOUND, ("sip.callStatus", "active")]);
        t.sets(9_000, "caller", &[("sip.callStatus", status)]);
        t.leaves(9_000, "caller", left);
        assert_eq!(ended_by(&t), Some(by), "{status} {left:?}");
    }
    for (status, left, by) in [
        ("ringing", L::UserRejected, By::Caller),
        ("ringing", L::UserUnavailable, By::Caller),
        ("dialing", L::UserRejected, By::Network),
        ("dialing", L::UserUnavailable, By::Network),
        ("dialing", L::ClientInitiated, By::Network),
        ("dialing", L::RoomDeleted, By::Room),
    ] {
        let mut t = phone(&[("sip.callStatus", status)]);
        t.leaves(9_000, "caller", left);
        assert_eq!(ended_by(&t), Some(by), "never answered, {status}, {left:?}");
    }
    for (reason, by) in [
        (L::RoomDeleted, By::Room),
        (L::ClientInitiated, By::Worker),
        (L::ParticipantRemoved, By::Worker),
        (L::ServerShutdown, By::Network),
    ] {
        let mut t = Scenario::web_call();
        t.fact(9_000, Fact::RoomEnded { reason });
        assert_eq!(ended_by(&t), Some(by), "the room: {reason:?}");
    }
    let mut t = Scenario::web_call();
    t.publishes(8_000, "agent", r#"{"type":"end"}"#);
    t.leaves(9_000, "caller", L::RoomDeleted);
    assert_eq!(ended_by(&t), Some(By::Agent));
}
