//! Whatever a room shows: no panic, nothing negative, nothing counted that was not said.

use proptest::prelude::*;

use super::*;
use crate::call::event::{Model, ModelTask, Used};

/// Few names, so that events meet each other.
fn who() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["caller", "agent", "second", "agent-old", "", "\u{1f600}"])
        .prop_map(str::to_owned)
}

/// Mostly times of a call, sometimes any.
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
        1 => any::<i64>().prop_map(|server_behind_ms| Fact::Watching { server_behind_ms }),
        1 => Just(Fact::Blind),
        1 => reason().prop_map(|reason| Fact::RoomEnded { reason }),
        1 => text().prop_map(|metadata| Fact::RoomMetadata { metadata }),
        4 => (who(), kind, attributes(), time(), text()).prop_map(
            |(identity, kind, attributes, joined_at, metadata)| Fact::Joined(Joined {
                sid: "PA_1".into(), name: String::new(), identity, kind, metadata, attributes, joined_at,
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
        1 => (who(), text()).prop_map(|(identity, text)| Fact::Chat { identity, text }),
        1 => who().prop_map(|identity| Fact::Dtmf { identity }),
        6 => (who(), feed()).prop_map(|(identity, message)| Fact::Feed { identity, message }),
        2 => (prop::option::of(who()), text())
            .prop_map(|(identity, text)| Fact::Published { identity, text }),
    ]
}

fn story() -> impl Strategy<Value = Vec<Event>> {
    // Our own clock is sane, and may step back a little.
    let event =
        ((-1_000i64..120_000).prop_map(at), fact()).prop_map(|(at, fact)| Event { at, fact });
    prop::collection::vec(event, 0..120)
}

fn tell(events: &[Event]) -> Call {
    let room = RoomFacts { sid: "RM_1".into(), name: "room".into() };
    let mut call = Call::new(room, Settings::default());
    for e in events {
        call.apply(e);
        call.phase(e.at);
        call.take_problems();
    }
    call
}

fn opened(events: &[Event], count: impl Fn(&Fact) -> usize) -> u32 {
    u32::try_from(events.iter().map(|e| count(&e.fact)).sum::<usize>()).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn no_room_breaks_the_record(events in story()) {
        let call = tell(&events);
        let Some(r) = call.record() else { return Ok(()) };
        prop_assert!(r.duration_seconds >= 0.0);
        let m = &r.metrics;
        prop_assert!(m.average_agent_response_time >= 0.0, "{m:?}");
        prop_assert!(m.average_user_response_time >= 0.0, "{m:?}");
        prop_assert!((0.0..=1.0).contains(&r.outcomes.completion_rate));
        prop_assert!(r.stage_timeline.is_sorted_by_key(|s| &s.timestamp));
        let said = opened(&events, |f| match f {
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
        prop_assert_eq!(json(&tell(&events)), json(&tell(&events)));
    }

    #[test]
    fn events_survive_being_written_down(events in story()) {
        for e in &events {
            let line = serde_json::to_string(e).unwrap();
            let back: Event = serde_json::from_str(&line).unwrap();
            // NaN is not equal to itself, and JSON has none: both become null.
            prop_assert_eq!(serde_json::to_string(&back).unwrap(), line);
        }
    }

    #[test]
    fn the_next_call_starts_empty(events in story()) {
        let (call, _) = tell(&events).next(at(500_000));
        prop_assert!(call.record().is_none());
    }
}
