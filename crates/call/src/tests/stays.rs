//! Participants that come and go: who they are then, and what their stays decide.

use record::{CallType, Status};

use super::{
    people::{BOT, SPEAKS, detailed, verdict},
    *,
};
use crate::event::{Permissions, RtviMessage};

#[test]
fn who_opted_out_as_a_listener_is_not_recorded_as_a_caller() {
    let only_data = Permissions { publish_data: true, ..Permissions::default() };
    let opted_out = r#"{"opt_out_sensitive_data":true}"#;
    for (name, fact) in [
        ("typed", Fact::Chat { identity: "guest".into(), text: "hello".into(), words: None }),
        ("was allowed to", Fact::Permissions { identity: "guest".into(), permissions: SPEAKS }),
    ] {
        let mut t = detailed(Settings::default());
        t.granted(0, "bot", BOT).granted(0, "guest", only_data);
        t.fact(1, Fact::Metadata { identity: "guest".into(), metadata: opted_out.into() });
        assert!(!t.call.opted_out(), "{name}: a listener is nobody's call");
        t.fact(2_000, fact);
        assert!(t.call.opted_out(), "{name}");
    }
}

/// A web caller from 0, a bot, and a leg that is dialled at `dialled` and answered 4 s later.
fn with_colleague(dialled: i64) -> Scenario {
    let mut t = detailed(Settings::default());
    t.granted(0, "alice", SPEAKS).granted(0, "bot", BOT).sounds(1_000, "bot");
    t.dialled(dialled, "colleague", "ringing");
    t.sets(dialled + 4_000, "colleague", &[("sip.callStatus", "active")]);
    t
}

#[test]
fn a_connection_that_was_lost_for_a_while_makes_no_caller_of_a_colleague() {
    let mut t = with_colleague(95_000);
    let quality = |lost| Fact::Quality { identity: "alice".into(), lost };
    t.fact(96_000, quality(true)).fact(103_000, quality(false));
    t.leaves(200_000, "alice", LeaveReason::ClientInitiated);
    let r = t.record();
    assert_eq!((r.phone_number.as_str(), r.duration_seconds), ("alice", 200.0));

    let mut t = with_colleague(95_000);
    t.leaves(114_000, "alice", LeaveReason::ConnectionTimeout);
    assert_eq!(t.record().phone_number, "alice", "the colleague holds no call open");
}

#[test]
fn a_caller_who_comes_back_makes_no_third_party_of_the_one_who_came_meanwhile() {
    let mut t = detailed(Settings::default());
    t.granted(0, "alice", SPEAKS).granted(0, "bot", BOT);
    t.leaves(10_000, "alice", LeaveReason::ClientInitiated);
    t.dialled(12_000, "phone", "ringing").sets(16_000, "phone", &[("sip.callStatus", "active")]);
    t.granted(18_000, "alice", SPEAKS);
    t.leaves(30_000, "alice", LeaveReason::ClientInitiated);
    assert_eq!(t.phase(100_000), Phase::Live, "the phone still speaks");
    t.leaves(300_000, "phone", LeaveReason::ClientInitiated);
    // From the answer of the phone: nobody else was there when it was dialled.
    assert_eq!(t.record().duration_seconds, 284.0);
}

#[test]
fn a_colleague_who_is_dialled_twice_is_two_transfers() {
    let mut t = with_colleague(10_000);
    t.leaves(15_000, "colleague", LeaveReason::ClientInitiated);
    let again = [("sip.callStatus", "ringing"), ("sip.callID", "SCL_2")];
    t.joins(30_000, "colleague", Kind::Sip, &again).leaves(
        60_000,
        "colleague",
        LeaveReason::UserUnavailable,
    );
    t.leaves(90_000, "alice", LeaveReason::ClientInitiated);
    let transfers = t.record().details.unwrap().transfers;
    let all: Vec<_> =
        transfers.iter().map(|t| (t.answered_at.is_some(), t.disconnect_reason)).collect();
    assert_eq!(
        all,
        [(true, Some(LeaveReason::ClientInitiated)), (false, Some(LeaveReason::UserUnavailable))]
    );
}

#[test]
fn an_agent_that_comes_back_too_late_left_the_caller_alone() {
    let mut t = detailed(Settings::default());
    t.granted(0, "alice", SPEAKS).granted(0, "bot", BOT).sounds(1_000, "bot");
    t.leaves(20_000, "bot", LeaveReason::ClientInitiated);
    t.leaves(120_000, "alice", LeaveReason::ClientInitiated);
    t.granted(121_000, "bot", BOT);
    assert_eq!(verdict(&t.record()), (Status::Dropped, Some("agent_lost")));
    // In time, it did not.
    let mut t = detailed(Settings::default());
    t.granted(0, "alice", SPEAKS).granted(0, "bot", BOT).sounds(1_000, "bot");
    t.leaves(20_000, "bot", LeaveReason::ClientInitiated).granted(25_000, "bot", BOT);
    t.leaves(120_000, "alice", LeaveReason::ClientInitiated);
    assert_eq!(verdict(&t.record()), (Status::Completed, None));
}

#[test]
fn an_agent_that_took_over_and_left_in_good_order_saves_the_call() {
    let mut t = detailed(Settings::default());
    t.granted(0, "alice", SPEAKS).granted(0, "bot", BOT).sounds(1_000, "bot");
    t.leaves(20_000, "bot", LeaveReason::ConnectionTimeout);
    t.granted(21_000, "other", BOT).sounds(22_000, "other");
    t.leaves(55_000, "other", LeaveReason::ClientInitiated);
    t.leaves(60_000, "alice", LeaveReason::ClientInitiated);
    assert_eq!(verdict(&t.record()), (Status::Completed, None));
}

#[test]
fn headers_of_a_phone_call_do_not_displace_the_attributes_of_the_bridge() {
    let mut t = detailed(Settings::default());
    let headers = (0..200).map(|n| format!("sip.h.x-{n}"));
    let names: Vec<String> = headers.chain((0..200).map(|n| format!("a{n}"))).collect();
    let mut attributes: Vec<(&str, &str)> = names.iter().map(|n| (n.as_str(), "x")).collect();
    attributes.extend([("sip.phoneNumber", "+15550123470"), ("sip.ruleID", "SDR_1")]);
    attributes.push(("sip.callStatus", "active"));
    t.joins(0, "phone", Kind::Sip, &attributes).granted(0, "bot", BOT);
    t.sounds(1_000, "bot");
    t.leaves(9_000, "phone", LeaveReason::ClientInitiated);
    let r = t.record();
    assert_eq!((r.phone_number.as_str(), r.call_type), ("+15550123470", CallType::Inbound));
}

#[test]
fn many_listeners_do_not_hide_the_caller() {
    let mut t = detailed(Settings::default());
    for n in 0..300 {
        t.granted(n, &format!("viewer-{n}"), Permissions::default());
    }
    t.granted(1_000, "alice", SPEAKS);
    assert!(t.call.has_caller());
}

#[test]
fn rtvi_of_many_sentences_and_of_words_tells_a_cut_from_an_end() {
    use RtviMessage as M;
    let record = |spoken: &[u32], word_by_word: bool| {
        let mut t = detailed(Settings::default());
        t.granted(0, "alice", SPEAKS).granted(0, "bot", BOT);
        t.rtvi(1_000, M::BotStarted);
        for words in [3, 4] {
            t.rtvi(1_001, M::BotOutput { words });
        }
        for words in spoken {
            let each = if word_by_word { 1 } else { *words };
            for _ in 0..words / each {
                t.rtvi(2_000, M::BotSpoken { words: each });
            }
        }
        t.rtvi(5_000, M::UserStarted).rtvi(5_100, M::BotStopped);
        let said = M::UserText { text: "wait a moment".into(), user: Some("alice".into()) };
        t.rtvi(6_000, said).rtvi(6_500, M::UserStopped);
        t.leaves(9_000, "alice", LeaveReason::ClientInitiated);
        t.record().metrics.interruption_count
    };
    for word_by_word in [false, true] {
        assert_eq!(record(&[3, 4], word_by_word), 0, "spoken to the end");
        assert_eq!(record(&[3], word_by_word), 1, "cut off in the second sentence");
        assert_eq!(record(&[], word_by_word), 1, "cut off in the first sentence");
    }
}

#[test]
fn an_error_of_the_agent_after_the_hang_up_changes_nothing() {
    for (at_ms, expected) in
        [(59_000, (Status::Failed, Some("agent_error"))), (60_600, (Status::Completed, None))]
    {
        let mut t = detailed(Settings::default());
        t.granted(0, "alice", SPEAKS);
        t.joins(0, "agent", Kind::Agent, &[("lk.agent.state", "listening")]);
        t.agent_says(1_000, 2_000, "hello");
        let leave = |t: &mut Scenario| _ = t.leaves(60_000, "alice", LeaveReason::ClientInitiated);
        let error = |t: &mut Scenario| {
            _ = t.feed(at_ms, FeedMessage::Error { fatal: true });
        };
        if at_ms < 60_000 {
            error(&mut t);
            leave(&mut t);
            // The end of the session reports another one.
            t.feed(60_600, FeedMessage::Error { fatal: true });
        } else {
            leave(&mut t);
            error(&mut t);
        }
        assert_eq!(verdict(&t.record()), expected, "{at_ms}");
    }
}

#[test]
fn each_caller_that_left_has_its_own_time_to_come_back() {
    let mut t = detailed(Settings::default());
    t.granted(0, "alice", SPEAKS).granted(0, "bot", BOT);
    t.joins(1_000, "phone", Kind::Sip, &[("sip.callStatus", "active"), ("sip.ruleID", "SDR_1")]);
    t.leaves(50_000, "alice", LeaveReason::ConnectionTimeout);
    t.sets(51_000, "phone", &[("sip.callStatus", "hangup")]);
    t.leaves(51_000, "phone", LeaveReason::ClientInitiated);
    assert_eq!(t.phase(55_000), Phase::Ending(at(70_000)), "the web caller may come back");
}

#[test]
fn phones_that_were_dialled_at_once_are_not_mixed() {
    let mut t = detailed(Settings::default());
    t.granted(0, "bot", BOT);
    t.dialled(1_000, "a", "dialing").dialled(1_100, "b", "dialing");
    t.leaves(2_000, "a", LeaveReason::UserRejected);
    t.sets(3_000, "b", &[("sip.callStatus", "ringing")]);
    t.leaves(30_000, "b", LeaveReason::UserUnavailable);
    assert_eq!(verdict(&t.record()), (Status::Failed, Some("rejected")), "number and reason of a");
}

#[test]
fn a_bot_beside_a_helper_with_a_state_is_a_voice_agent() {
    let mut t = detailed(Settings::default());
    t.granted(0, "alice", SPEAKS).granted(0, "bot", BOT);
    t.joins(0, "helper", Kind::Agent, &[("lk.agent.state", "listening")]);
    t.leaves(5_000, "helper", LeaveReason::ClientInitiated);
    t.sounds(10_000, "bot");
    t.leaves(60_000, "alice", LeaveReason::ClientInitiated);
    assert_eq!(verdict(&t.record()), (Status::Completed, None));
}

#[test]
fn digits_are_those_of_callers_colleagues_and_agents() {
    let mut t = detailed(Settings { transcript: true, ..Settings::default() });
    t.granted(0, "alice", SPEAKS).granted(0, "bot", BOT).sounds(0, "bot");
    t.granted(0, "viewer", Permissions::default());
    let digit = |who: &str| Fact::Dtmf { identity: who.into(), digit: Some("5".into()) };
    for who in ["viewer", "nobody"] {
        assert_eq!(t.taken(1_000, digit(who)), None, "{who}");
    }
    t.fact(5_000, digit("bot")).fact(9_000, digit("alice"));
    t.leaves(11_000, "alice", LeaveReason::ClientInitiated);
    let lines = t.record().details.unwrap().transcript.unwrap();
    let by: Vec<By> = lines.iter().map(|l| l.by).collect();
    assert_eq!(by, [By::Agent, By::User]);
}

#[test]
fn an_answer_that_nobody_saw_has_no_observed_time() {
    let mut t = detailed(Settings::default());
    t.dialled(1_000, "phone", "ringing").granted(2_000, "bot", BOT);
    t.fact(3_000, Fact::Blind);
    t.fact(31_000, Fact::Watching { server_behind_ms: 0, by: None });
    let answered = [("sip.callStatus", "active"), ("sip.callID", "SCL_phone")];
    t.joins(31_000, "phone", Kind::Sip, &answered);
    t.sounds(32_000, "bot").leaves(60_000, "phone", LeaveReason::ClientInitiated);
    let r = t.record();
    let basis = r.details.unwrap().observation.start_time_basis;
    assert_eq!(basis, record::TimeBasis::Estimated);
}
