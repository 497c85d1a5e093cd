//! Who is who: callers, third parties, listeners, bots. And when a call of phones begins and ends.

use record::{CallType, Status, TimeBasis, people::ParticipantRole};

use super::*;
use crate::{
    event::{Permissions, RtviMessage},
    roles::{Identities, Patterns},
};

pub(super) const SPEAKS: Permissions =
    Permissions { agent: false, recorder: false, hidden: false, publish: true, publish_data: true };
pub(super) const BOT: Permissions = Permissions { agent: true, ..SPEAKS };
const READS: Permissions = Permissions { publish: false, ..SPEAKS };
const MUTE: Permissions = Permissions { publish: false, publish_data: false, ..SPEAKS };
const INBOUND: (&str, &str) = ("sip.ruleID", "SDR_1");

pub(super) fn detailed(settings: Settings) -> Scenario {
    let room = RoomFacts { sid: "RM_1".into(), name: "room".into() };
    let settings = Settings { details: true, ..settings };
    let mut t = Scenario { call: Call::new(room, settings), events: vec![], streams: 0 };
    t.fact(0, Fact::Watching { server_behind_ms: 0, by: None });
    t
}

impl Scenario {
    pub(super) fn granted(&mut self, ms: i64, who: &str, permissions: Permissions) -> &mut Self {
        self.fact(
            ms,
            Fact::Joined(Joined {
                identity: who.into(),
                sid: format!("PA_{who}"),
                kind: Kind::Standard,
                name: String::new(),
                metadata: String::new(),
                attributes: BTreeMap::new(),
                joined_at: at(ms),
                permissions: Some(permissions),
            }),
        )
    }

    pub(super) fn dialled(&mut self, ms: i64, who: &str, status: &str) -> &mut Self {
        let id = format!("SCL_{who}");
        self.joins(ms, who, Kind::Sip, &[("sip.callStatus", status), ("sip.callID", &id)])
    }

    pub(super) fn sounds(&mut self, ms: i64, who: &str) -> &mut Self {
        self.fact(ms, Fact::Speaking { identity: who.into(), speaking: true });
        self.fact(ms + 1_000, Fact::Speaking { identity: who.into(), speaking: false })
    }

    pub(super) fn rtvi(&mut self, ms: i64, message: RtviMessage) -> &mut Self {
        self.fact(ms, Fact::Rtvi { identity: "bot".into(), message })
    }

    fn role(&self, who: &str) -> ParticipantRole {
        let all = self.record().details.expect("details").participants;
        all.iter().find(|p| p.identity == who).expect("the participant").role
    }
}

pub(super) fn verdict(r: &CallHistory) -> (Status, Option<&str>) {
    (r.status, r.termination_reason.as_deref())
}

#[test]
fn the_subject_is_the_caller_that_was_connected_first() {
    // Joins in seconds: the web caller, the phone, the phone's answer. Who is the subject?
    for (web, phone, answer, inbound, subject) in [
        (Some(0), Some(5), Some(8), false, "web"),
        (Some(0), Some(5), None, false, "web"),
        (Some(5), Some(0), Some(3), false, "sip"),
        (Some(5), Some(0), Some(8), false, "sip"),
        (Some(5), Some(0), None, false, "web"),
        (Some(0), Some(5), Some(6), true, "web"),
        (Some(5), Some(0), Some(1), true, "sip"),
        (None, Some(0), Some(3), false, "sip"),
        (Some(0), None, None, false, "web"),
    ] {
        let mut t = detailed(Settings::default());
        t.joins(0, "agent", Kind::Agent, &[("lk.agent.state", "listening")]);
        let mut all: Vec<(i64, u8)> = vec![];
        all.extend(web.map(|s| (s, 0)));
        all.extend(phone.map(|s| (s, 1)));
        all.extend(answer.map(|s| (s, 2)));
        all.sort_unstable();
        for (s, what) in all {
            let ms = s * 1_000;
            match what {
                0 => t.joins(ms, "web", Kind::Standard, &[]),
                1 if inbound => {
                    t.joins(ms, "sip", Kind::Sip, &[INBOUND, ("sip.callStatus", "ringing")])
                }
                1 => t.dialled(ms, "sip", "dialing"),
                _ => t.sets(ms, "sip", &[("sip.callStatus", "active")]),
            };
        }
        t.leaves(20_000, "web", LeaveReason::ClientInitiated);
        t.leaves(21_000, "sip", LeaveReason::ParticipantRemoved);
        let r = t.record();
        let case = format!("web {web:?}, phone {phone:?}, answer {answer:?}, inbound {inbound}");
        let is_sip = r.details.as_ref().unwrap().sip.is_some();
        assert_eq!(if is_sip { "sip" } else { "web" }, subject, "{case}");
        let outbound = is_sip && !inbound;
        assert_eq!(r.call_type == CallType::Outbound, outbound, "{case}");
    }
}

#[test]
fn a_third_party_holds_nothing_open_and_stays_one_in_the_next_call() {
    let mut t = detailed(Settings::default());
    t.joins(0, "web", Kind::Standard, &[]);
    t.dialled(5_000, "colleague", "dialing");
    t.sets(7_000, "colleague", &[("sip.callStatus", "active")]);
    assert_eq!(t.phase(8_000), Phase::Live);
    t.leaves(10_000, "web", LeaveReason::ClientInitiated);
    assert_eq!(t.phase(19_999), Phase::Ending(at(20_000)));
    assert_eq!(t.phase(20_000), Phase::Over);
    let r = t.record();
    assert_eq!(r.duration_seconds, 10.0);
    let transfers = r.details.unwrap().transfers;
    assert_eq!(transfers.len(), 1);
    assert!(transfers[0].answered_at.is_some() && transfers[0].left_at.is_none());
    let (next, _) = t.call.next(at(20_000), 0);
    assert!(!next.has_caller());
    assert_eq!(next.phase(at(30_000)), Phase::Waiting);
}

#[test]
fn those_present_may_be_reported_in_any_order() {
    for web_first in [true, false] {
        let mut t = detailed(Settings::default());
        let join = |t: &mut Scenario, who: &str, kind, attributes: &[(&str, &str)], joined: i64| {
            t.fact(
                10_000,
                Fact::Joined(Joined {
                    identity: who.into(),
                    sid: format!("PA_{who}"),
                    kind,
                    name: String::new(),
                    metadata: String::new(),
                    attributes: map(attributes),
                    joined_at: at(joined),
                    permissions: None,
                }),
            );
        };
        let leg = [("sip.callStatus", "active")];
        if web_first {
            join(&mut t, "web", Kind::Standard, &[], 1_000);
            join(&mut t, "leg", Kind::Sip, &leg, 5_000);
        } else {
            join(&mut t, "leg", Kind::Sip, &leg, 5_000);
            join(&mut t, "web", Kind::Standard, &[], 1_000);
        }
        t.leaves(20_000, "web", LeaveReason::ClientInitiated);
        assert_eq!(t.role("leg"), ParticipantRole::ThirdParty, "web first: {web_first}");
    }
}

#[test]
fn permissions_that_change_in_mid_call_lose_nothing() {
    let mut t = detailed(Settings::default());
    t.granted(0, "alice", SPEAKS).granted(0, "boss", MUTE);
    t.joins(0, "agent", Kind::Agent, &[("lk.agent.state", "listening")]);
    // Muted by the operator: still the caller.
    t.fact(3_000, Fact::Permissions { identity: "alice".into(), permissions: MUTE });
    assert!(t.call.caller_present());
    // May speak from now on: a caller, who holds the call open.
    t.fact(5_000, Fact::Permissions { identity: "boss".into(), permissions: SPEAKS });
    t.leaves(6_000, "alice", LeaveReason::ClientInitiated);
    assert_eq!(t.phase(60_000), Phase::Live);
    t.leaves(61_000, "boss", LeaveReason::ClientInitiated);
    assert_eq!(t.record().phone_number, "alice");
    // A repeat changes nothing.
    let again = Fact::Permissions { identity: "boss".into(), permissions: SPEAKS };
    assert_eq!(t.taken(62_000, again), None);
    let unknown = Fact::Permissions { identity: "nobody".into(), permissions: SPEAKS };
    assert_eq!(t.taken(62_000, unknown), None);
}

#[test]
fn listeners_and_recorders_are_no_callers_until_they_type() {
    let chat = |t: &mut Scenario, who: &str| {
        let text = "hello there".to_owned();
        t.fact(2_000, Fact::Chat { identity: who.into(), text, words: None });
    };
    for (permissions, types, caller) in [
        (SPEAKS, false, true),
        (READS, false, false),
        (READS, true, true),
        (MUTE, false, false),
        (MUTE, true, false),
        (Permissions { recorder: true, ..SPEAKS }, true, false),
        (BOT, true, false),
    ] {
        let mut t = detailed(Settings::default());
        t.granted(0, "someone", permissions);
        if types {
            chat(&mut t, "someone");
        }
        assert_eq!(t.call.has_caller(), caller, "{permissions:?} types: {types}");
    }
    let identities = Identities {
        listeners: Patterns::parse("boss-*").unwrap(),
        agents: Patterns::parse("bot-?").unwrap(),
    };
    let mut t = detailed(Settings { identities, ..Settings::default() });
    t.granted(0, "boss-1", SPEAKS).granted(0, "bot-1", SPEAKS);
    chat(&mut t, "boss-1");
    assert!(!t.call.has_caller() && t.call.has_agent());
    t.granted(1_000, "bot-12", SPEAKS);
    assert!(t.call.has_caller(), "not the pattern");
}

#[test]
fn an_agent_or_another_person_comes_to_the_caller_also_where_no_record_is_due() {
    for (second, joined) in
        [(None, false), (Some(SPEAKS), true), (Some(BOT), true), (Some(MUTE), false)]
    {
        let mut t = detailed(Settings { require_agent: true, ..Settings::default() });
        t.granted(1_000, "alice", SPEAKS);
        if let Some(permissions) = second {
            t.granted(2_000, "someone", permissions);
        }
        t.leaves(7_000, "alice", LeaveReason::ClientInitiated);
        t.fact(8_000, Fact::RoomEnded { reason: LeaveReason::RoomClosed });
        assert_eq!(t.call.caller_was_joined(), joined, "{second:?}");
        if !joined {
            assert_eq!(t.call.lasted_ms(), Some(6_000), "{second:?}");
        }
    }
}

#[test]
fn an_agent_of_which_only_the_sound_is_known_serves_its_caller() {
    for (permissions, sound, due) in [
        (BOT, true, (Status::Completed, None)),
        (BOT, false, (Status::Failed, Some("no_agent"))),
        (SPEAKS, true, (Status::Failed, Some("no_agent"))),
    ] {
        let mut t = detailed(Settings::default());
        t.granted(0, "alice", SPEAKS).granted(0, "bot", permissions);
        if sound {
            t.fact(1_000, Fact::Speaking { identity: "bot".into(), speaking: true });
            t.fact(3_000, Fact::Speaking { identity: "bot".into(), speaking: false });
        }
        t.leaves(8_000, "bot", LeaveReason::ClientInitiated);
        t.leaves(9_000, "alice", LeaveReason::ClientInitiated);
        let r = t.record();
        assert_eq!(verdict(&r), due, "{permissions:?} {sound}");
        if due.0 == Status::Completed {
            assert_eq!(r.metrics.total_agent_utterances, 1);
            assert_eq!(r.metrics.longest_agent_utterance, 0);
        }
    }
}

#[test]
fn an_avatar_needs_an_agent_and_a_token_of_one() {
    for (permissions, named, due) in [
        (BOT, "agent", ParticipantRole::Avatar),
        (BOT, "unseen", ParticipantRole::Avatar),
        (BOT, "caller", ParticipantRole::Agent),
        (SPEAKS, "agent", ParticipantRole::Caller),
    ] {
        let mut t = Scenario::web_call();
        t.call = detailed(Settings::default()).call;
        for e in t.events.clone() {
            let _ = t.call.apply(&e);
        }
        t.granted(1_000, "face", permissions);
        t.sets(1_100, "face", &[("lk.publish_on_behalf", named)]);
        t.leaves(5_000, "face", LeaveReason::ClientInitiated);
        t.ends(9_000);
        assert_eq!(t.role("face"), due, "{permissions:?} {named}");
    }
}

#[test]
fn a_leg_of_another_call_ends_the_running_one() {
    let leg = |who: &str, call_id: &str, kind| {
        Fact::Joined(Joined {
            identity: who.into(),
            sid: format!("PA_{who}_{call_id}"),
            kind,
            name: String::new(),
            metadata: String::new(),
            attributes: map(&[("sip.callID", call_id), ("sip.callStatus", "dialing")]),
            joined_at: at(9_000),
            permissions: None,
        })
    };
    let phone = |answered: bool, left: Option<LeaveReason>| {
        let mut t = Scenario::new();
        t.joins(0, "sip", Kind::Sip, &[("sip.callID", "1"), ("sip.callStatus", "dialing")]);
        if answered {
            t.sets(1_000, "sip", &[("sip.callStatus", "active")]);
        }
        if let Some(reason) = left {
            t.leaves(8_000, "sip", reason);
        }
        t
    };
    let gone = Some(LeaveReason::ClientInitiated);
    for (t, fact, over) in [
        (phone(true, gone), leg("sip", "2", Kind::Sip), true),
        (phone(true, gone), leg("sip", "1", Kind::Sip), false),
        (phone(true, None), leg("sip", "2", Kind::Sip), true),
        (phone(false, gone), leg("other", "2", Kind::Sip), true),
        (phone(false, None), leg("other", "2", Kind::Sip), false),
        // Answered and not hung up: it may still come back.
        (phone(true, gone), leg("other", "2", Kind::Sip), false),
        (phone(false, gone), leg("web", "2", Kind::Standard), false),
    ] {
        assert_eq!(t.call.is_over_by(&fact), over, "{fact:?}\n{:?}", t.events);
    }
    let mut hung_up = phone(true, None);
    hung_up.sets(7_900, "sip", &[("sip.callStatus", "hangup")]);
    hung_up.leaves(8_000, "sip", LeaveReason::ClientInitiated);
    assert!(hung_up.call.is_over_by(&leg("other", "2", Kind::Sip)));
    let mut web = Scenario::web_call();
    assert!(!web.call.is_over_by(&leg("other", "2", Kind::Sip)), "a third party");
    web.leaves(8_000, "caller", LeaveReason::ClientInitiated);
    assert!(!web.call.is_over_by(&leg("other", "2", Kind::Sip)), "the caller may come back");
}

#[test]
fn the_start_of_a_phone_that_was_answered_before_we_came_is_estimated() {
    let start = |inbound: bool, agent: Option<i64>, said: Option<i64>| {
        let room = RoomFacts { sid: "RM_1".into(), name: "room".into() };
        let settings = Settings { details: true, ..Settings::default() };
        let mut t = Scenario { call: Call::new(room, settings), events: vec![], streams: 0 };
        // We come after three seconds.
        t.fact(3_000, Fact::Watching { server_behind_ms: 0, by: None });
        let present = |t: &mut Scenario, who: &str, kind, attributes: &[(&str, &str)], joined| {
            t.fact(
                3_000,
                Fact::Joined(Joined {
                    identity: who.into(),
                    sid: format!("PA_{who}"),
                    kind,
                    name: String::new(),
                    metadata: String::new(),
                    attributes: map(attributes),
                    joined_at: at(joined),
                    permissions: None,
                }),
            );
        };
        let active = ("sip.callStatus", "active");
        let attributes: &[(&str, &str)] = if inbound { &[active, INBOUND] } else { &[active] };
        present(&mut t, "caller", Kind::Sip, attributes, 0);
        if let Some(joined) = agent {
            present(&mut t, "agent", Kind::Agent, &[("lk.agent.state", "listening")], joined);
        }
        if let Some(ms) = said {
            t.stream("caller", ms, ms + 500, "hello", true);
        }
        t.leaves(20_000, "caller", LeaveReason::RoomDeleted);
        let r = t.record();
        let basis = r.details.unwrap().observation.start_time_basis;
        let start = Moment::parse_rfc3339(&r.start_time).unwrap();
        (start.since(at(0)) as f64 / 1000.0, basis)
    };
    let estimated = |s: f64| (s, TimeBasis::Estimated);
    assert_eq!(start(true, Some(900), None), estimated(0.9), "the agent's join");
    assert_eq!(start(true, Some(6_000), None), estimated(3.0), "not after we came");
    assert_eq!(start(true, None, None), estimated(0.0), "the ring");
    assert_eq!(start(false, Some(0), None), estimated(0.0), "nothing shows it");
    assert_eq!(start(false, Some(0), Some(9_000)), estimated(3.0), "not after we came");
}

#[test]
fn rtvi_makes_all_numbers_of_a_pipecat_call() {
    use RtviMessage as M;
    let mut t = detailed(Settings { transcript: true, ..Settings::default() });
    t.granted(0, "alice", SPEAKS).granted(0, "bot", BOT);
    let text = |s: &str| M::BotText { text: s.into() };
    let said = |s: &str| M::UserText { text: s.into(), user: Some("alice".into()) };
    t.rtvi(1_000, M::BotStarted)
        .rtvi(1_800, M::BotSpoken { words: 3 })
        .rtvi(1_810, text("hello and welcome"));
    // Reported a second early.
    t.rtvi(1_900, M::BotStopped);
    t.rtvi(4_300, M::UserStarted).rtvi(6_500, said("a table for four")).rtvi(6_900, M::UserStopped);
    t.rtvi(7_500, M::BotStarted);
    // Cut off.
    t.rtvi(9_300, M::UserStarted).rtvi(9_301, M::BotStopped);
    t.rtvi(10_200, said("wait")).rtvi(10_900, M::UserStopped);
    t.rtvi(11_500, M::BotStarted).rtvi(12_300, M::BotSpoken { words: 2 });
    t.rtvi(12_301, text("all right")).rtvi(12_400, M::BotStopped);
    t.leaves(22_000, "alice", LeaveReason::ClientInitiated);
    let r = t.record();
    let m = &r.metrics;
    assert_eq!((m.total_user_utterances, m.longest_user_utterance), (2, 4));
    assert_eq!((m.total_agent_utterances, m.longest_agent_utterance), (3, 3));
    assert_eq!((m.interruption_count, m.silence_count), (1, 1));
    // 6.0 → 7.5 and 10.0 → 11.5; 2.9 → 4.0.
    assert_eq!(m.average_agent_response_time, 1.5);
    assert_eq!(m.average_user_response_time, 1.1);
    assert_eq!(verdict(&r), (Status::Completed, None));
    let d = r.details.unwrap();
    assert_eq!((d.evidence.user.speech, d.evidence.agent.speech), (Tier::Rtvi, Tier::Rtvi));
    let lines: Vec<String> = d.transcript.unwrap().into_iter().map(|l| l.text).collect();
    assert_eq!(lines, ["hello and welcome", "a table for four", "wait", "all right"]);
}

#[test]
fn rtvi_of_callers_and_of_hostile_bots_changes_nothing() {
    use RtviMessage as M;
    let mut t = detailed(Settings::default());
    t.granted(0, "alice", SPEAKS).granted(0, "bot", BOT);
    let from = |who: &str, message| Fact::Rtvi { identity: who.into(), message };
    assert_eq!(t.taken(1_000, from("alice", M::BotStarted)), None);
    // Ends without beginnings, texts without turns, a turn of any length.
    for message in
        [M::BotStopped, M::UserStopped, M::BotSpoken { words: 1 }, M::BotText { text: "x".into() }]
    {
        assert_eq!(t.taken(1_000, from("bot", message.clone())), None, "{message:?}");
    }
    t.rtvi(1_000, M::BotStarted);
    let long = M::BotText { text: "x ".repeat(30_000) };
    let taken = (0..10).filter(|_| t.taken(2_000, from("bot", long.clone())).is_some()).count();
    assert_eq!(taken, 1, "64 KiB of one turn");
    for n in 0..60_000 {
        t.fact(3_000 + n, from("bot", M::UserStarted));
        t.fact(3_000 + n, from("bot", M::UserStopped));
    }
    t.leaves(70_000, "alice", LeaveReason::ClientInitiated);
    assert_eq!(t.record().metrics.total_user_utterances, 0, "turns without words");
}

#[test]
fn words_of_two_callers_are_never_one_utterance() {
    let mut t = detailed(Settings { transcript: true, ..Settings::default() });
    t.joins(0, "caller", Kind::Standard, &[]).joins(0, "second", Kind::Standard, &[]);
    t.joins(0, "agent", Kind::Agent, &[("lk.agent.state", "listening")]);
    t.agent_says(500, 1_500, "hello you two");
    for (ms, who, text) in [
        (4_000, "caller", "we want a table"),
        (4_900, "second", "by the window"),
        (5_800, "caller", "for four"),
        (6_600, "caller", "please"),
    ] {
        t.streams += 1;
        let stream = format!("stream{}", t.streams);
        let opened = StreamOpened {
            stream: stream.clone(),
            identity: who.into(),
            segment: Some(format!("SG_{ms}")),
            track: None,
            generated: true,
        };
        t.fact(ms, Fact::StreamOpened(opened));
        t.chunk(ms, &stream, text).close(ms + 700, &stream, true);
    }
    t.leaves(9_000, "second", LeaveReason::ClientInitiated);
    let r = t.ends(10_000);
    assert_eq!((r.metrics.total_user_utterances, r.metrics.longest_user_utterance), (3, 4));
    let lines = r.details.unwrap().transcript.unwrap();
    let who: Vec<_> = lines.iter().filter_map(|l| l.identity.as_deref()).collect();
    assert_eq!(who, ["agent", "caller", "second", "caller"]);
}

#[test]
fn each_side_is_counted_by_its_own_signals() {
    // A speech-to-speech model that transcribes only the agent; the feed tells when the caller spoke.
    let mut t = detailed(Settings::default());
    t.joins(0, "caller", Kind::Standard, &[]);
    t.joins(0, "agent", Kind::Agent, &[("lk.agent.state", "listening")]);
    t.feed_agent(1_000, AgentState::Speaking).feed_agent(2_000, AgentState::Listening);
    t.item(2_000, item("a1", By::Agent, "hello there", Some((1_000, 2_000))));
    t.feed_user(3_000, UserState::Speaking).feed_user(4_500, UserState::Listening);
    t.feed_agent(5_300, AgentState::Speaking).feed_agent(6_500, AgentState::Listening);
    t.item(6_500, item("a2", By::Agent, "it is booked", Some((5_300, 6_500))));
    let r = t.ends(8_000);
    assert_eq!((r.metrics.total_user_utterances, r.metrics.longest_user_utterance), (1, 0));
    assert_eq!(r.metrics.total_agent_utterances, 2);
    assert_eq!(r.metrics.average_agent_response_time, 0.8);
    assert_eq!(r.metrics.average_user_response_time, 1.0);
}

#[test]
fn a_cough_that_no_recognition_understood_is_no_utterance() {
    // The voice detector of an ordinary agent reports it; the recognition gives no words.
    let mut t = Scenario::web_call();
    t.agent_says(500, 1_500, "hello");
    t.feed_user(3_000, UserState::Speaking).feed_user(3_300, UserState::Listening);
    let r = t.ends(8_000);
    assert_eq!(r.metrics.total_user_utterances, 0);
}

#[test]
fn a_state_that_is_told_once_does_not_spoil_the_turns() {
    // The user state says "speaking" at the start and never anything else.
    let mut t = Scenario::web_call();
    t.feed_user(500, UserState::Speaking);
    for n in 0..4 {
        let from = 2_000 + n * 8_000;
        t.caller_says(from, from + 1_500, "a table please");
        t.item(from + 2_300, item(&format!("u{n}"), By::User, "a table please", None));
        t.agent_says(from + 2_500, from + 4_000, "which day");
    }
    let r = t.ends(36_000);
    assert_eq!(r.metrics.total_user_utterances, 4);
    // Between the agent's end and the caller's next turn lie 4 s.
    let (user, agent) =
        (r.metrics.average_user_response_time, r.metrics.average_agent_response_time);
    assert!((user - 4.0).abs() < 0.3, "{user}");
    assert!((agent - 1.0).abs() < 0.3, "{agent}");
}

#[test]
fn with_push_to_talk_speech_ends_with_its_words() {
    let mut t = Scenario::web_call();
    t.agent_says(500, 1_500, "hello");
    t.feed_user(2_000, UserState::Speaking);
    t.caller_says(2_200, 3_500, "a table please");
    // The button is released seven seconds later.
    t.feed_user(10_500, UserState::Listening);
    t.item(10_700, item("u1", By::User, "a table please", None));
    t.agent_says(11_500, 12_500, "which day");
    let r = t.ends(14_000);
    assert!((r.metrics.average_agent_response_time - 8.0).abs() < 0.3, "{:?}", r.metrics);
    assert_eq!(r.metrics.silence_count, 1, "the caller waits while it holds the button");
}

#[test]
fn a_turn_that_the_items_leave_out_counts_if_it_was_transcribed() {
    let turn = |t: &mut Scenario, from: i64, id: Option<&str>| {
        t.feed_user(from, UserState::Speaking).feed_user(from + 1_000, UserState::Listening);
        t.caller_says(from, from + 1_000, "to the billing please");
        if let Some(id) = id {
            let spoken = Some((from, from + 1_000));
            t.item(from + 1_700, item(id, By::User, "to the billing please", spoken));
        }
        t.feed_agent(from + 2_000, AgentState::Speaking);
        t.feed_agent(from + 3_000, AgentState::Listening);
        let spoken = Some((from + 2_000, from + 3_000));
        t.item(from + 3_000, item(&format!("a{from}"), By::Agent, "of course", spoken));
    };
    for (second, due) in [(Some("u2"), 3), (None, 3)] {
        let mut t = Scenario::web_call();
        turn(&mut t, 1_000, Some("u1"));
        turn(&mut t, 7_000, second);
        turn(&mut t, 13_000, Some("u3"));
        assert_eq!(t.ends(20_000).metrics.total_user_utterances, due, "{second:?}");
    }
}

#[test]
fn a_session_that_fails_for_good_fails_the_call_unless_the_agent_speaks_again() {
    for (fatal, again, due) in [
        (true, false, (Status::Failed, Some("agent_error"))),
        (true, true, (Status::Completed, None)),
        (false, false, (Status::Completed, None)),
    ] {
        let mut t = Scenario::web_call();
        t.agent_says(500, 1_500, "hello");
        t.feed(3_000, FeedMessage::Error { fatal });
        if again {
            t.agent_says(4_000, 5_000, "I am back");
        }
        assert_eq!(verdict(&t.ends(9_000)), due, "fatal {fatal}, again {again}");
    }
}

#[test]
fn a_caller_who_is_alone_for_long_was_left_by_the_agent() {
    use LeaveReason as L;
    // The agent's leave, a colleague's connection, the caller's leave; in seconds.
    for (reason, colleague, leaves, due) in [
        (L::ClientInitiated, None, 15, (Status::Dropped, Some("agent_lost"))),
        (L::ParticipantRemoved, None, 15, (Status::Dropped, Some("agent_lost"))),
        (L::ClientInitiated, None, 14, (Status::Completed, None)),
        (L::ClientInitiated, Some(3), 60, (Status::Completed, None)),
        // It rings in vain.
        (L::ClientInitiated, Some(99), 60, (Status::Dropped, Some("agent_lost"))),
    ] {
        let mut t = Scenario::web_call();
        t.agent_says(500, 1_500, "one moment");
        t.dialled(2_000, "colleague", "dialing");
        if let Some(s) = colleague.filter(|s| *s < 99) {
            t.sets(s * 1_000, "colleague", &[("sip.callStatus", "active")]);
        }
        t.leaves(5_000, "agent", reason);
        let r = t.ends(leaves * 1_000);
        assert_eq!(verdict(&r), due, "{reason:?} {colleague:?} {leaves}");
        let noted = r.outcomes.notes.as_deref().is_some_and(|n| n.contains("alone"));
        assert_eq!(noted, due.0 == Status::Dropped, "{:?}", r.outcomes.notes);
    }
}

#[test]
fn a_dead_phone_is_a_lost_connection_that_ended_before_its_hang_up() {
    use LeaveReason as L;
    // (seconds of the hang-up, of the leave, reason) → end, verdict
    for (hangup, leave, reason, end, due) in [
        (Some(30), 62, L::ClientInitiated, 15.0, (Status::Dropped, Some("connection_lost"))),
        (Some(30), 30, L::ClientInitiated, 30.0, (Status::Completed, None)),
        (Some(30), 35, L::ClientInitiated, 30.0, (Status::Completed, None)),
        (None, 30, L::ClientInitiated, 8.0, (Status::Dropped, Some("connection_lost"))),
        (None, 30, L::ConnectionTimeout, 9.0, (Status::Dropped, Some("connection_lost"))),
        (None, 60, L::ClientInitiated, 13.0, (Status::Dropped, Some("connection_lost"))),
        (None, 30, L::MediaFailure, 8.0, (Status::Dropped, Some("connection_lost"))),
        (None, 30, L::RoomDeleted, 30.0, (Status::Completed, None)),
    ] {
        let mut t = Scenario::new();
        t.joins(0, "caller", Kind::Sip, &[INBOUND, ("sip.callStatus", "ringing")]);
        t.joins(0, "agent", Kind::Agent, &[("lk.agent.state", "listening")]);
        t.sets(0, "caller", &[("sip.callStatus", "active")]);
        // The last words of the caller arrive at 8 s.
        t.stream("caller", 7_000, 8_000, "hello", true);
        t.chunk(8_000, "none", "");
        t.fact(8_000, Fact::Dtmf { identity: "caller".into(), digit: None });
        if let Some(s) = hangup {
            t.sets(s * 1_000, "caller", &[("sip.callStatus", "hangup")]);
        }
        t.leaves(leave * 1_000, "caller", reason);
        let r = t.record();
        let case = format!("{hangup:?} {leave} {reason:?}");
        assert_eq!(verdict(&r), due, "{case}");
        assert_eq!(r.duration_seconds, end, "{case}");
    }
}

#[test]
fn a_room_that_closes_as_its_leg_leaves_is_a_normal_end() {
    for (closed_after, due) in [(200, Status::Completed), (5_000, Status::Dropped)] {
        let mut t = Scenario::new();
        t.joins(0, "caller", Kind::Sip, &[INBOUND, ("sip.callStatus", "ringing")]);
        t.joins(0, "agent", Kind::Agent, &[("lk.agent.state", "listening")]);
        t.sets(0, "caller", &[("sip.callStatus", "active")]);
        t.leaves(9_000, "caller", LeaveReason::ClientInitiated);
        t.fact(9_000 + closed_after, Fact::RoomEnded { reason: LeaveReason::RoomDeleted });
        assert_eq!(t.record().status, due, "{closed_after}");
    }
}

#[test]
fn a_trunk_that_reports_the_answer_again_after_ringing_does_not_move_the_start() {
    let mut t = Scenario::new();
    t.joins(0, "agent", Kind::Agent, &[("lk.agent.state", "listening")]);
    t.dialled(0, "caller", "dialing");
    for (ms, status) in [
        (1_000, "ringing"),
        (2_000, "active"),
        (2_100, "ringing"),
        (2_200, "active"),
        (9_000, "hangup"),
    ] {
        t.sets(ms, "caller", &[("sip.callStatus", status)]);
    }
    t.leaves(9_050, "caller", LeaveReason::ClientInitiated);
    let r = t.record();
    assert_eq!((verdict(&r), r.duration_seconds), ((Status::Completed, None), 7.0));
}

#[test]
fn an_answer_that_races_the_ringing_timeout_is_an_answer() {
    // The bridge gives up and reports the answer in the same moment.
    let mut t = Scenario::new();
    t.joins(0, "agent", Kind::Agent, &[("lk.agent.state", "listening")]);
    t.dialled(0, "caller", "dialing");
    t.sets(1_000, "caller", &[("sip.callStatus", "ringing")]);
    let attributes = map(&[("sip.callStatus", "active")]);
    let reason = LeaveReason::UserUnavailable;
    t.fact(9_000, Fact::Left { identity: "caller".into(), reason, attributes, since: None });
    let r = t.record();
    assert_eq!((r.status, r.duration_seconds), (Status::Failed, 0.0));
    assert_eq!(r.termination_reason.as_deref(), Some("no_answer"));
}

#[test]
fn hidden_numbers_are_taken_from_metadata() {
    for (number, metadata, due) in [
        ("+15550100", r#"{"phone_number":"+15550199"}"#, "+15550100"),
        ("anonymous", r#"{"phone_number":"+15550199"}"#, "+15550199"),
        ("Restricted", r#"{"phone_number":"+15550199"}"#, "+15550199"),
        ("", r#"{"phone_number":"+15550199"}"#, "+15550199"),
        ("anonymous", "", "anonymous"),
        ("", "", "unknown"),
    ] {
        let mut t = Scenario::new();
        t.fact(0, Fact::RoomMetadata { metadata: metadata.into() });
        t.joins(0, "sip", Kind::Sip, &[INBOUND, ("sip.phoneNumber", number)]);
        t.leaves(9_000, "sip", LeaveReason::ParticipantRemoved);
        assert_eq!(t.record().phone_number, due, "{number} {metadata}");
    }
}
