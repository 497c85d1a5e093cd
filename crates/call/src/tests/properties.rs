//! For any events of a room: no panic, no negative number, and nothing counted that was not said.

use proptest::prelude::*;

use super::*;
use crate::{
    event::{Answerer, Handoff, Model, ModelTask, ToolCall, Used},
    taken::Taken,
};

/// Few names, so that several events are about the same participant.
fn who() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["caller", "agent", "second", "agent-old", "", "\u{1f600}"])
        .prop_map(str::to_owned)
}

/// Mostly times within a call, sometimes any time.
fn time() -> impl Strategy<Value = Moment> {
    prop_oneof![
        20 => (0i64..120_000).prop_map(at),
        1 => any::<i64>().prop_map(Moment::from_millis),
        1 => prop::sample::select(vec![i64::MIN, i64::MAX, 0, -1]).prop_map(Moment::from_millis),
    ]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "",
            " ",
            "hello",
            "one two three ",
            "你好",
            "{\"text\":\"a b\"}"
        ])
        .prop_map(str::to_owned),
        ".{0,40}",
    ]
}

fn reason() -> impl Strategy<Value = LeaveReason> {
    use LeaveReason as L;
    prop::sample::select(vec![
        L::UnknownReason,
        L::ClientInitiated,
        L::RoomDeleted,
        L::SignalClose,
        L::UserRejected,
        L::ConnectionTimeout,
        L::AgentError,
    ])
}

fn attributes() -> impl Strategy<Value = BTreeMap<String, String>> {
    let key = prop::sample::select(vec![
        "lk.agent.state",
        "sip.callStatus",
        "sip.ruleID",
        "call.stage",
        "call.outcomes",
        "lk.publish_on_behalf",
        "other",
    ]);
    let value = prop::sample::select(vec![
        "",
        "speaking",
        "listening",
        "thinking",
        "active",
        "hangup",
        "ringing",
        "{",
        "{}",
        "agent",
    ]);
    let pair = (key, value).prop_map(|(k, v)| (k.to_owned(), v.to_owned()));
    prop::collection::btree_map(pair.clone().prop_map(|p| p.0), pair.prop_map(|p| p.1), 0..4)
}

fn item() -> impl Strategy<Value = Item> {
    let by = prop::sample::select(vec![By::User, By::Agent]);
    let id = prop::sample::select(vec!["i1", "i2", "i3", "i4"]).prop_map(str::to_owned);
    let some = || prop::option::of(time());
    let latency =
        prop::option::of(
            prop_oneof![0.0f64..5.0, Just(f64::NAN), Just(f64::INFINITY), Just(-1.0),],
        );
    (id, by, text(), any::<bool>(), some(), some(), some(), latency).prop_map(
        |(id, by, text, interrupted, created_at, started_at, stopped_at, e2e_latency)| Item {
            id,
            by,
            text,
            interrupted,
            created_at,
            started_at,
            stopped_at,
            e2e_latency,
            components: Default::default(),
        },
    )
}

fn feed() -> impl Strategy<Value = FeedMessage> {
    use AgentState as A;
    let agent = prop::sample::select(vec![A::Listening, A::Thinking, A::Speaking]);
    let user = prop::sample::select(vec![UserState::Speaking, UserState::Listening]);
    let some = || prop::option::of(time());
    prop_oneof![
        (some(), agent).prop_map(|(at, state)| FeedMessage::AgentState { at, state }),
        (some(), user).prop_map(|(at, state)| FeedMessage::UserState { at, state }),
        (some(), item()).prop_map(|(at, item)| FeedMessage::Item { at, item }),
        prop::collection::vec(item(), 0..4).prop_map(history),
        time().prop_map(|at| FeedMessage::Clock { at }),
        text().prop_map(|model| {
            let used = Used { audio_seconds: 1.5, ..Used::default() };
            let model = Model { task: ModelTask::Llm, provider: String::new(), model, used };
            FeedMessage::Usage { models: vec![model] }
        }),
    ]
}

fn fact() -> impl Strategy<Value = Fact> {
    let stream = || prop::sample::select(vec!["s1", "s2", "s3"]).prop_map(str::to_owned);
    let segment = || prop::sample::select(vec!["g1", "g2", "g3"]).prop_map(str::to_owned);
    let kind = prop::sample::select(vec![Kind::Standard, Kind::Sip, Kind::Agent, Kind::Egress]);
    prop_oneof![
        1 => prop_oneof![any::<i64>(), -20_000_000_000_000i64..20_000_000_000_000]
            .prop_map(|server_behind_ms| Fact::Watching { server_behind_ms, by: None }),
        1 => Just(Fact::Blind),
        1 => reason().prop_map(|reason| Fact::RoomEnded { reason }),
        1 => text().prop_map(|metadata| Fact::RoomMetadata { metadata }),
        4 => (who(), kind, attributes(), time(), text()).prop_map(
            |(identity, kind, attributes, joined_at, metadata)| Fact::Joined(Joined {
                sid: "PA_1".into(), name: String::new(), identity, kind, metadata, attributes, joined_at, permissions: None,
            })
        ),
        2 => (who(), reason(), attributes(), prop::option::of(time())).prop_map(
            |(identity, reason, attributes, since)| Fact::Left { identity, reason, attributes, since }
        ),
        4 => (who(), attributes()).prop_map(|(identity, changed)| Fact::Attributes { identity, changed }),
        1 => (who(), text()).prop_map(|(identity, metadata)| Fact::Metadata { identity, metadata }),
        1 => (who(), segment()).prop_map(|(identity, sid)| Fact::Track { identity, sid }),
        2 => (who(), any::<bool>()).prop_map(|(identity, speaking)| Fact::Speaking { identity, speaking }),
        1 => (who(), any::<bool>()).prop_map(|(identity, lost)| Fact::Quality { identity, lost }),
        4 => (stream(), who(), prop::option::of(segment()), prop::option::of(segment()), any::<bool>())
            .prop_map(|(stream, identity, segment, track, generated)| {
                Fact::StreamOpened(StreamOpened { stream, identity, segment, track, generated })
            }),
        6 => (stream(), text()).prop_map(|(stream, text)| Fact::StreamChunk { stream, text }),
        3 => (stream(), any::<bool>())
            .prop_map(|(stream, is_final)| Fact::StreamClosed { stream, is_final }),
        1 => Just(Fact::Dropped),
        1 => who().prop_map(|identity| Fact::Undecodable { identity }),
        2 => (who(), segment(), text(), any::<bool>()).prop_map(|(identity, segment, text, is_final)| {
            Fact::Legacy { identity, segment, text, is_final }
        }),
        1 => (who(), text()).prop_map(|(identity, text)| Fact::Chat { identity, text, words: None }),
        1 => who().prop_map(|identity| Fact::Dtmf { identity, digit: None }),
        6 => (who(), feed()).prop_map(|(identity, message)| Fact::Feed { identity, message }),
        2 => (prop::option::of(who()), text())
            .prop_map(|(identity, text)| Fact::Published { identity, text }),
    ]
}

/// The facts that `fact` does not generate.
fn rare_fact() -> impl Strategy<Value = Fact> {
    let stream = || prop::sample::select(vec!["s1", "s2", "s3", "s4"]).prop_map(str::to_owned);
    let some = || prop::option::of(time());
    let metadata = || {
        prop::sample::select(vec![
            r#"{"prompt":"long","stt_config_key":"a"}"#,
            r#"{"agent_config":{"llm_config_key":"b","x":1},"outcomes":{"completion_rate":0.1}}"#,
            r#"{"outcomes":{"fields_collected":["a"],"notes":"n","successful":false}}"#,
            r#"{"direction":"outbound","phone_number":"+15550100","business_config":{}}"#,
            r#"{"agent_config":{}}"#,
            r#"{"opt_out_sensitive_data":true}"#,
            "{}",
            "no JSON",
        ])
        .prop_map(str::to_owned)
    };
    let published = prop::sample::select(vec![
        r#"{"type":"stage","stage":"a"}"#,
        r#"{"type":"stage","stage":"b"}"#,
        r#"{"type":"outcomes","successful":true}"#,
        r#"{"type":"agent_config","agent_config":{"language":"german"}}"#,
        r#"{"type":"end","end":{"status":"failed"}}"#,
    ]);
    let tool = move || {
        (stream(), any::<bool>(), some()).prop_map(|(id, failed, at)| ToolCall {
            name: "tool".into(),
            id,
            failed,
            at,
        })
    };
    let handoff = move || {
        (stream(), some()).prop_map(|(id, at)| Handoff { id, at, from: None, to: "b".into() })
    };
    let message = prop_oneof![
        tool().prop_map(|t| FeedMessage::Tools { calls: vec![t] }),
        handoff().prop_map(FeedMessage::Handoff),
        (item(), tool(), handoff()).prop_map(|(i, t, h)| FeedMessage::History {
            items: vec![i],
            handoffs: vec![h],
            tools: vec![t]
        }),
        Just(FeedMessage::Answered { by: Answerer::Human }),
        Just(FeedMessage::Error { fatal: false }),
        (some(), any::<bool>())
            .prop_map(|(at, resumed)| FeedMessage::FalseInterruption { at, resumed }),
    ];
    prop_oneof![
        1 => metadata().prop_map(|metadata| Fact::RoomMetadata { metadata }),
        1 => metadata().prop_map(|metadata| Fact::JobMetadata { metadata }),
        2 => (who(), metadata())
            .prop_map(|(identity, metadata)| Fact::Metadata { identity, metadata }),
        2 => (stream(), who())
            .prop_map(|(stream, identity)| Fact::StreamSender { stream, identity }),
        1 => Just(Fact::Recovered),
        3 => (who(), message).prop_map(|(identity, message)| Fact::Feed { identity, message }),
        3 => (who(), published)
            .prop_map(|(identity, text)| Fact::Published { identity: Some(identity), text: text.into() }),
    ]
}

/// Events with repeats, so that many of them change nothing.
fn repetitive_story() -> impl Strategy<Value = Vec<Event>> {
    let event = ((0i64..60_000).prop_map(at), prop_oneof![2 => fact(), 1 => rare_fact()])
        .prop_map(|(at, fact)| Event { at, fact });
    (
        prop::collection::vec(event, 0..60),
        prop::collection::vec(any::<prop::sample::Index>(), 0..60),
    )
        .prop_map(|(events, again)| {
            let repeats: Vec<Event> = (again.iter().filter(|_| !events.is_empty()))
                .map(|i| i.get(&events).clone())
                .collect();
            let mut all: Vec<Event> = events.into_iter().chain(repeats).collect();
            all.sort_by_key(|e| e.at);
            all
        })
}

fn story() -> impl Strategy<Value = Vec<Event>> {
    // The observer's clock is right, but may step back a little.
    let event =
        ((-1_000i64..120_000).prop_map(at), fact()).prop_map(|(at, fact)| Event { at, fact });
    prop::collection::vec(event, 0..120)
}

fn replay(events: &[Event]) -> Call {
    let room = RoomFacts { sid: "RM_1".into(), name: "room".into() };
    let mut call = Call::new(room, Settings::default());
    for e in events {
        let _ = call.apply(e);
        call.phase(e.at);
        call.take_problems();
    }
    call
}

fn sum_over(events: &[Event], count: impl Fn(&Fact) -> usize) -> u32 {
    u32::try_from(events.iter().map(|e| count(&e.fact)).sum::<usize>()).unwrap()
}

/// The parts of a record that later events of the same call can only add to.
fn lasting_parts(r: &CallHistory) -> (String, String, Vec<String>) {
    let stages = r.stage_timeline.iter().map(|s| s.stage.clone()).collect();
    (r.call_id.clone(), r.room_name.clone(), stages)
}

/// Facts of different kinds at the same moment do not depend on each other, except on kind 7.
fn kind(f: &Fact) -> u8 {
    match f {
        Fact::Speaking { .. } => 0,
        Fact::Quality { .. } => 1,
        Fact::Dtmf { .. } => 2,
        Fact::Chat { .. } => 3,
        Fact::Legacy { .. } => 4,
        Fact::StreamOpened(_) | Fact::StreamChunk { .. } | Fact::StreamClosed { .. } => 5,
        Fact::Feed { .. } => 6,
        _ => 7,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    /// Clocks that jump by hours in the middle of a call, in both directions.
    #[test]
    fn clocks_that_jump_make_nothing_negative(
        events in story(),
        jumps in prop::collection::vec((0usize..120, -3_600_000i64..3_600_000), 0..4),
    ) {
        let mut events = events;
        for (from, by) in jumps {
            for e in events.iter_mut().skip(from) {
                e.at = e.at.plus(by);
            }
        }
        let Some(r) = replay(&events).record() else { return Ok(()) };
        prop_assert!(r.duration_seconds >= 0.0);
        prop_assert!(r.metrics.average_agent_response_time >= 0.0);
        prop_assert!(r.metrics.average_user_response_time >= 0.0);
        prop_assert!(r.start_time <= r.end_time);
    }

    #[test]
    fn what_is_reported_twice_is_not_counted_twice(events in story()) {
        // Items have ids: a second report of the same item changes no count.
        let named = |e: &&Event| {
            matches!(&e.fact, Fact::Feed { message: FeedMessage::Item { .. }, .. })
        };
        let last = events.iter().map(|e| e.at).max().unwrap_or(at(0));
        let again = events.iter().filter(named).map(|e| Event { at: last, fact: e.fact.clone() });
        let twice: Vec<Event> = events.iter().cloned().chain(again).collect();
        let count = |c: &Call| {
            c.record().map(|r| (r.metrics.total_user_utterances, r.metrics.total_agent_utterances))
        };
        prop_assert_eq!(count(&replay(&events)), count(&replay(&twice)));
    }

    #[test]
    fn the_record_of_a_prefix_does_not_contradict_the_final_one(events in story(), n in 0usize..120) {
        let prefix = &events[..n.min(events.len())];
        let (Some(early), Some(late)) = (replay(prefix).record(), replay(&events).record()) else {
            return Ok(());
        };
        let ((id, room, stages), (id_late, room_late, stages_late)) = (lasting_parts(&early), lasting_parts(&late));
        prop_assert_eq!((id, room), (id_late, room_late));
        for stage in stages {
            prop_assert!(stages_late.contains(&stage), "{stage} was entered and is gone");
        }
    }

    /// Events of one moment arrive in any order. If they are independent of each other, every order
    /// gives the same record.
    #[test]
    fn permuting_independent_signals_changes_nothing(events in story(), seed in any::<u64>()) {
        let mut by_time: BTreeMap<Moment, Vec<Event>> = BTreeMap::new();
        for mut e in events {
            // So that many events have the same time.
            e.at = at(e.at.since(at(0)) / 5_000 * 5_000);
            by_time.entry(e.at).or_default().push(e);
        }
        let ordered: Vec<Event> = by_time.values().flatten().cloned().collect();
        let order = |k: u8| (u64::from(k) + 1).wrapping_mul(seed | 1).rotate_left(17);
        let permuted: Vec<Event> = by_time
            .into_values()
            .flat_map(|mut same| {
                // Events of one kind keep their order; kind 7, on which the others depend, stays first.
                same.sort_by_key(|e| match kind(&e.fact) { 7 => 0, k => order(k) | 1 });
                same
            })
            .collect();
        let first: Vec<Event> = {
            let mut by_time: BTreeMap<Moment, Vec<Event>> = BTreeMap::new();
            for e in ordered {
                by_time.entry(e.at).or_default().push(e);
            }
            by_time
                .into_values()
                .flat_map(|mut same| {
                    same.sort_by_key(|e| u8::from(kind(&e.fact) != 7));
                    same
                })
                .collect()
        };
        let json = |c: &Call| c.record().map(|r| serde_json::to_string(&r).unwrap());
        prop_assert_eq!(json(&replay(&first)), json(&replay(&permuted)));
    }

    #[test]
    fn the_next_call_is_the_same_after_its_first_event_was_written_and_read(events in story(), more in story()) {
        let earlier = replay(&events);
        let (mut next, event) = earlier.next(at(200_000), 0);
        let line = serde_json::to_string(&event).unwrap();
        let back: Event = serde_json::from_str(&line).unwrap();
        let room = RoomFacts { sid: "RM_1".into(), name: "room".into() };
        let mut again = Call::new(room, Settings::default());
        again.set_ordinal(1);
        let _ = again.apply(&back);
        for e in &more {
            let e = Event { at: e.at.plus(200_000), fact: e.fact.clone() };
            let _ = next.apply(&e);
            let _ = again.apply(&e);
        }
        let json = |c: &Call| c.record().map(|r| serde_json::to_string(&r).unwrap());
        prop_assert_eq!(json(&next), json(&again));
    }
}

/// More segments than a call keeps: its memory stays bounded, and the replay is fast.
#[test]
fn a_hundred_thousand_segments_are_taken() {
    let mut t = Scenario::web_call();
    for n in 0..50_000i64 {
        let ms = n * 2_000;
        t.caller_says(ms, ms + 500, "a word");
        t.agent_says(ms + 900, ms + 1_500, "an answer");
    }
    let m = t.ends(100_000_000).metrics;
    assert!(m.total_user_utterances > 10_000 && m.total_user_utterances <= 50_000, "{m:?}");
    assert_eq!((m.longest_user_utterance, m.longest_agent_utterance), (2, 2));
    assert!((m.average_agent_response_time - 0.4).abs() < 0.000_5, "{m:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_room_breaks_the_record(events in story()) {
        let call = replay(&events);
        let Some(r) = call.record() else { return Ok(()) };
        prop_assert!(r.duration_seconds >= 0.0);
        let m = &r.metrics;
        prop_assert!(m.average_agent_response_time >= 0.0, "{m:?}");
        prop_assert!(m.average_user_response_time >= 0.0, "{m:?}");
        prop_assert!((0.0..=1.0).contains(&r.outcomes.completion_rate));
        prop_assert!(r.stage_timeline.is_sorted_by_key(|s| &s.timestamp));
        let said = sum_over(&events, |f| match f {
            Fact::StreamOpened(_) | Fact::Legacy { .. } | Fact::Chat { .. } => 1,
            Fact::Speaking { .. } => 1,
            Fact::Feed { message: FeedMessage::Item { .. }, .. } => 1,
            Fact::Feed { message: FeedMessage::History { items, .. }, .. } => items.len(),
            Fact::Feed { message: FeedMessage::UserState { .. }, .. } => 1,
            _ => 0,
        });
        prop_assert!(m.total_user_utterances + m.total_agent_utterances <= said, "{m:?} of {said}");
        prop_assert!(m.interruption_count <= m.total_agent_utterances.max(said));
        let json = serde_json::to_string(&r).unwrap();
        prop_assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
    }

    #[test]
    fn the_same_events_give_the_same_bytes(events in story()) {
        let json = |c: &Call| c.record().map(|r| serde_json::to_string(&r).unwrap());
        prop_assert_eq!(json(&replay(&events)), json(&replay(&events)));
    }

    #[test]
    fn an_event_that_is_written_and_read_is_the_same(events in story()) {
        for e in &events {
            let line = serde_json::to_string(e).unwrap();
            let back: Event = serde_json::from_str(&line).unwrap();
            // The texts are compared: NaN is not equal to itself, and serde_json writes it as null.
            prop_assert_eq!(serde_json::to_string(&back).unwrap(), line);
        }
    }

    /// A journal that holds only what was taken gives the same record.
    #[test]
    fn facts_that_were_not_taken_are_not_needed(events in repetitive_story()) {
        let settings = Settings { details: true, transcript: true, ..Settings::default() };
        let room = RoomFacts { sid: "RM_1".into(), name: "room".into() };
        let mut call = Call::new(room.clone(), settings.clone());
        let mut journal = vec![];
        for e in &events {
            let before = state(&mut call);
            match call.apply(e).of(e.clone()) {
                Some(taken) => journal.push(serde_json::to_string(&taken).unwrap()),
                None => prop_assert_eq!(state(&mut call), before, "{:?}", e),
            }
        }
        let mut again = Call::new(room, settings);
        for line in journal {
            let e: Event = serde_json::from_str(&line).unwrap();
            prop_assert!(matches!(again.apply(&e), Taken::Whole), "{line}");
        }
        let json = |c: &Call| c.record().map(|r| serde_json::to_string(&r).unwrap());
        prop_assert_eq!(json(&call), json(&again));
        for ms in [0, 30_000, 65_000, 100_000] {
            prop_assert_eq!(call.phase(at(ms)), again.phase(at(ms)));
        }
        prop_assert_eq!(state(&mut call), state(&mut again));
    }

    #[test]
    fn the_next_call_starts_empty(events in story()) {
        let (call, _) = replay(&events).next(at(500_000), 0);
        prop_assert!(call.record().is_none());
    }
}
