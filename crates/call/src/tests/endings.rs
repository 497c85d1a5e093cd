//! When a call is over, and when it ended (docs/contract.md §1.2).

use super::*;

#[test]
fn there_is_no_call_without_a_caller() {
    let mut t = Scenario::new();
    t.joins(0, "agent", Kind::Agent, &[("lk.agent.state", "speaking")]);
    t.joins(0, "egress", Kind::Egress, &[]);
    assert_eq!(t.phase(60_000), Phase::Waiting);
    t.fact(300_000, Fact::RoomEnded { reason: LeaveReason::RoomClosed });
    assert_eq!(t.phase(300_000), Phase::Over);
    assert_eq!(t.call.record(), None);
}

#[test]
fn a_caller_who_comes_back_in_time_never_left() {
    let mut t = Scenario::web_call();
    t.leaves(10_000, "caller", LeaveReason::ClientInitiated);
    assert_eq!(t.phase(19_999), Phase::Ending(at(20_000)));
    t.joins(19_999, "caller", Kind::Standard, &[]);
    assert_eq!(t.phase(60_000), Phase::Live);
    t.leaves(70_000, "caller", LeaveReason::ClientInitiated);
    assert_eq!(t.phase(80_000), Phase::Over);
    assert_eq!(t.record().duration_seconds, 70.0, "from the first join to the last leave");
}

#[test]
fn how_long_a_caller_is_waited_for_depends_on_how_it_left() {
    use LeaveReason as L;
    let sip = [("sip.callStatus", "active")];
    for (kind, attributes, last, reason, grace) in [
        (Kind::Standard, &[][..], None, L::ClientInitiated, 10_000),
        (Kind::Standard, &[], None, L::ConnectionTimeout, 20_000),
        (Kind::Sip, &sip, Some("hangup"), L::ClientInitiated, 2_500),
        (Kind::Sip, &[("sip.callStatus", "dialing")], None, L::UserRejected, 2_500),
        (Kind::Sip, &sip, None, L::ConnectionTimeout, 20_000),
        (Kind::Sip, &sip, None, L::ClientInitiated, 10_000),
    ] {
        let mut t = Scenario::new();
        t.joins(0, "caller", kind, attributes);
        if let Some(status) = last {
            t.sets(5_000, "caller", &[("sip.callStatus", status)]);
        }
        t.leaves(5_000, "caller", reason);
        let due = at(5_000 + grace);
        assert_eq!(t.phase(5_000), Phase::Ending(due), "{kind:?} {last:?} {reason:?}");
        assert_eq!(t.phase(5_000 + grace), Phase::Over);
    }
}

#[test]
fn the_end_of_the_room_ends_the_grace_time() {
    let mut t = Scenario::web_call();
    t.leaves(5_000, "caller", LeaveReason::ClientInitiated);
    t.fact(5_020, Fact::RoomEnded { reason: LeaveReason::RoomDeleted });
    assert_eq!(t.phase(5_020), Phase::Over);
    assert_eq!(t.record().duration_seconds, 5.0);
}

#[test]
fn the_call_goes_on_while_any_caller_is_there() {
    let mut t = Scenario::web_call();
    t.joins(2_000, "second", Kind::Standard, &[]);
    t.leaves(5_000, "caller", LeaveReason::ClientInitiated);
    assert_eq!(t.phase(60_000), Phase::Live);
    t.leaves(61_000, "second", LeaveReason::ClientInitiated);
    assert_eq!(t.phase(71_000), Phase::Over);
    assert_eq!(t.record().duration_seconds, 61.0);
}

#[test]
fn a_vanished_callers_end_is_backdated_to_its_last_sign_of_life() {
    let ended = |t: &Scenario| t.record().duration_seconds;
    // The connection died at 20 s: LOST at 27.5 s, removed by the server at 41 s.
    let mut t = Scenario::web_call();
    t.fact(27_500, Fact::Quality { identity: "caller".into(), lost: true });
    t.leaves(41_000, "caller", LeaveReason::ConnectionTimeout);
    assert_eq!(ended(&t), 20.0);
    // LOST may come 6 s later; speech at 24 s proves that the caller was still there.
    let mut t = Scenario::web_call();
    t.fact(24_000, Fact::Speaking { identity: "caller".into(), speaking: true });
    t.fact(30_000, Fact::Quality { identity: "caller".into(), lost: true });
    t.leaves(45_000, "caller", LeaveReason::ConnectionTimeout);
    assert_eq!(ended(&t), 24.0);
    // The connection recovered in between: the earlier LOST does not count.
    let mut t = Scenario::web_call();
    t.fact(10_000, Fact::Quality { identity: "caller".into(), lost: true });
    t.fact(15_000, Fact::Quality { identity: "caller".into(), lost: false });
    t.leaves(41_000, "caller", LeaveReason::ConnectionTimeout);
    assert_eq!(ended(&t), 41.0, "without such a sign the time of the leave counts");
    // A leave by the client is exact, whatever the quality was.
    let mut t = Scenario::web_call();
    t.fact(10_000, Fact::Quality { identity: "caller".into(), lost: true });
    t.leaves(12_000, "caller", LeaveReason::ClientInitiated);
    assert_eq!(ended(&t), 12.0);
}

#[test]
fn an_answered_leg_counts_from_its_answer() {
    let mut t = Scenario::new();
    t.joins(0, "caller", Kind::Sip, &[("sip.callStatus", "dialing")]);
    t.sets(4_000, "caller", &[("sip.callStatus", "ringing")]);
    t.sets(9_000, "caller", &[("sip.callStatus", "active")]);
    t.leaves(19_000, "caller", LeaveReason::ClientInitiated);
    assert_eq!(t.record().duration_seconds, 10.0);
    // The leg was active when the observer joined: the leg's join counts.
    let mut t = Scenario::new();
    t.joins(0, "caller", Kind::Sip, &[("sip.callStatus", "active")]);
    t.leaves(19_000, "caller", LeaveReason::ClientInitiated);
    assert_eq!(t.record().duration_seconds, 19.0);
}

#[test]
fn a_leg_that_hung_up_ended_then_however_late_its_leave_is_reported() {
    let mut t = Scenario::new();
    t.joins(0, "caller", Kind::Sip, &[("sip.callStatus", "active")]);
    t.sets(10_000, "caller", &[("sip.callStatus", "hangup")]);
    t.leaves(12_900, "caller", LeaveReason::ClientInitiated);
    assert_eq!(t.record().duration_seconds, 10.0);
}

#[test]
fn a_room_can_hold_calls_one_after_another() {
    let mut t = Scenario::web_call();
    t.agent_says(1_000, 2_000, "hello you");
    t.publishes(1_500, "agent", r#"{"type":"stage","stage":"greeting"}"#);
    let first = t.ends(5_000);
    assert_eq!(first.metrics.total_agent_utterances, 1);
    t.call = t.call.next(at(15_000), 0).0;
    assert_eq!(t.phase(15_000), Phase::Waiting);
    t.joins(20_000, "caller", Kind::Standard, &[]);
    t.leaves(26_000, "caller", LeaveReason::ClientInitiated);
    let second = t.record();
    assert_ne!(first.call_id, second.call_id);
    assert_eq!(second.duration_seconds, 6.0);
    assert_eq!(second.metrics.total_agent_utterances, 0);
    assert!(second.stage_timeline.is_empty() && second.outcomes.final_stage.is_none());
    assert_eq!(second.status, record::Status::Completed, "the agent is still there");
}

#[test]
fn the_words_of_an_earlier_call_are_not_counted_again() {
    let mut t = Scenario::web_call();
    t.item(2_000, item("i1", By::Agent, "hello first", Some((1_000, 2_000))));
    t.ends(5_000);
    t.call = t.call.next(at(15_000), 0).0;
    t.joins(20_000, "caller", Kind::Standard, &[]);
    t.leaves(30_000, "caller", LeaveReason::ClientInitiated);
    let items = vec![
        item("i1", By::Agent, "hello first", Some((1_000, 2_000))),
        item("i2", By::Agent, "hello second caller", Some((21_000, 22_000))),
    ];
    t.feed(30_010, history(items));
    let m = t.record().metrics;
    assert_eq!((m.total_agent_utterances, m.longest_agent_utterance), (1, 3));
}

#[test]
fn the_same_call_has_the_same_id_from_any_worker() {
    let (a, b) = (Scenario::web_call().ends(1_000), Scenario::web_call().ends(9_000));
    assert_eq!(a.call_id, b.call_id);
    assert_eq!(uuid::Uuid::parse_str(&a.call_id).unwrap().get_version_num(), 5);
}

#[test]
fn gaps_are_named_in_the_notes() {
    let mut t = Scenario::web_call();
    t.fact(2_000, Fact::Blind);
    t.fact(14_500, Fact::Watching { server_behind_ms: 0, by: None });
    let r = t.ends(20_000);
    let notes = r.outcomes.notes.unwrap();
    assert!(notes.contains("12.5 s"), "{notes}");
    assert_eq!(Scenario::web_call().ends(5_000).outcomes.notes, None);
}

#[test]
fn a_late_join_of_the_observer_is_named_in_the_notes() {
    let mut t = Scenario::new();
    t.joins(-30_000, "caller", Kind::Standard, &[]);
    let notes = t.ends(5_000).outcomes.notes.unwrap();
    assert!(notes.contains("joined 30.0 s after the caller"), "{notes}");
}

#[test]
fn a_last_caller_who_opted_out_leaves_no_record() {
    for place in ["room", "job", "caller", "nobody"] {
        let metadata = r#"{"opt_out_sensitive_data":true}"#.to_owned();
        let mut t = Scenario::web_call();
        match place {
            "room" => t.fact(1, Fact::RoomMetadata { metadata }),
            "job" => t.fact(1, Fact::JobMetadata { metadata }),
            "caller" => t.fact(1, Fact::Metadata { identity: "caller".into(), metadata }),
            _ => t.fact(1, Fact::Metadata { identity: "agent".into(), metadata }),
        };
        assert_eq!(t.call.opted_out(), place != "nobody", "{place}");
    }
}

#[test]
fn the_servers_clock_may_differ() {
    let mut t = Scenario::new();
    t.fact(0, Fact::Watching { server_behind_ms: 30_000, by: None });
    let joined = |identity: &str, kind| {
        Fact::Joined(Joined {
            identity: identity.into(),
            sid: "PA_1".into(),
            kind,
            name: String::new(),
            metadata: String::new(),
            attributes: BTreeMap::new(),
            joined_at: at(-30_000),
            permissions: None,
        })
    };
    t.fact(10, joined("caller", Kind::Standard));
    let r = t.ends(20_000);
    assert_eq!(r.duration_seconds, 20.0);
    assert_eq!(r.outcomes.notes, None, "the observer was not late");
}

#[test]
fn a_leg_that_never_answered_does_not_end_the_call_of_another() {
    let mut t = Scenario::new();
    t.joins(0, "caller", Kind::Sip, &[("sip.callStatus", "active"), ("sip.ruleID", "R")]);
    t.joins(0, "agent", Kind::Agent, &[("lk.agent.state", "listening")]);
    t.joins(40_000, "transfer", Kind::Sip, &[("sip.callStatus", "ringing")]);
    t.sets(50_000, "caller", &[("sip.callStatus", "hangup")]);
    t.leaves(50_050, "caller", LeaveReason::ClientInitiated);
    t.leaves(52_000, "transfer", LeaveReason::UserUnavailable);
    let r = t.record();
    assert_eq!((r.duration_seconds, r.status), (50.0, record::Status::Completed));
}

#[test]
fn a_dead_caller_that_is_listed_again_is_still_dead() {
    let mut t = Scenario::web_call();
    t.fact(27_500, Fact::Quality { identity: "caller".into(), lost: true });
    t.joins(30_000, "caller", Kind::Standard, &[]); // listed again after a reconnect of the observer
    t.leaves(41_000, "caller", LeaveReason::ConnectionTimeout);
    assert_eq!(t.record().duration_seconds, 20.0);
}

#[test]
fn a_caller_who_left_unseen_has_its_grace_time_from_when_this_was_noticed() {
    let mut t = Scenario::web_call();
    t.fact(
        40_000,
        Fact::Left {
            identity: "caller".into(),
            reason: LeaveReason::UnknownReason,
            attributes: BTreeMap::new(),
            since: Some(at(10_000)),
        },
    );
    assert_eq!(t.phase(40_000), Phase::Ending(at(50_000)));
    assert_eq!(t.record().duration_seconds, 10.0);
}

#[test]
fn a_room_that_opted_out_stays_so_for_the_next_call() {
    let mut t = Scenario::web_call();
    let metadata = r#"{"opt_out_sensitive_data":true}"#.to_owned();
    t.fact(1, Fact::RoomMetadata { metadata: metadata.clone() });
    assert!(t.call.next(at(9_000), 0).0.opted_out());
    // One dispatch with an opt-out is enough, whatever the others say.
    let mut t = Scenario::web_call();
    t.fact(1, Fact::JobMetadata { metadata: metadata.clone() });
    t.fact(2, Fact::JobMetadata { metadata: r#"{"language":"german"}"#.into() });
    assert!(t.call.next(at(9_000), 0).0.opted_out());
    let mut t = Scenario::web_call();
    t.fact(1, Fact::Metadata { identity: "caller".into(), metadata });
    assert!(!t.call.next(at(9_000), 0).0.opted_out(), "it was the opt-out of that caller alone");
}
