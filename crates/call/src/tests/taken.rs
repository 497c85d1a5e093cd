//! A fact that does not change the record is not journaled: a participant can send without end, and
//! must not fill the disk.

use super::*;
use crate::{event::ToolCall, published::Problem};

/// A web call with a phone leg, an agent and a recorder in it, some seconds old.
fn call() -> Scenario {
    let mut t = Scenario::web_call();
    t.joins(0, "phone", Kind::Sip, &[("sip.phoneNumber", "+15550123499")]);
    t.joins(0, "recorder", Kind::Egress, &[]);
    t.agent_says(1_000, 2_000, "hello");
    t.publishes(2_500, "agent", r#"{"type":"stage","stage":"greeting"}"#);
    t.feed(2_600, FeedMessage::Clock { at: at(2_600) });
    let tool = ToolCall { id: "c1".into(), name: "look".into(), failed: false, at: None };
    t.feed(2_700, FeedMessage::Tools { calls: vec![tool] });
    t.item(2_800, item("i1", By::User, "hi", None));
    t.leaves(2_900, "recorder", LeaveReason::ClientInitiated);
    t.call.take_problems();
    t
}

fn published(identity: Option<&str>, text: &str) -> Fact {
    Fact::Published { identity: identity.map(str::to_owned), text: text.into() }
}

fn metadata(identity: &str, metadata: &str) -> Fact {
    Fact::Metadata { identity: identity.into(), metadata: metadata.into() }
}

fn attributes(identity: &str, changed: &[(&str, &str)]) -> Fact {
    Fact::Attributes { identity: identity.into(), changed: map(changed) }
}

fn chat(identity: &str, text: &str) -> Fact {
    Fact::Chat { identity: identity.into(), text: text.into(), words: None }
}

fn opened(stream: &str, identity: &str, generated: bool) -> Fact {
    Fact::StreamOpened(StreamOpened {
        stream: stream.into(),
        identity: identity.into(),
        segment: None,
        track: None,
        generated,
    })
}

fn feed(identity: &str, message: FeedMessage) -> Fact {
    Fact::Feed { identity: identity.into(), message }
}

#[test]
fn a_fact_that_changes_nothing_is_not_taken() {
    let tool = ToolCall { id: "c1".into(), name: "look".into(), failed: false, at: None };
    let items = vec![item("i1", By::User, "hi", None)];
    let s = || "s".to_owned();
    let who = |identity: &str| identity.to_owned();
    let r#final = true;
    for (fact, problem) in [
        (published(None, "{}"), Some(Problem::UnknownSender)),
        (published(Some(""), "{}"), Some(Problem::UnknownSender)),
        (published(Some("caller"), r#"{"type":"stage","stage":"x"}"#), Some(Problem::NotAnAgent)),
        (published(Some("recorder"), r#"{"type":"end"}"#), Some(Problem::NotAnAgent)),
        (published(Some("nobody"), &"x".repeat(70_000)), Some(Problem::TooLarge)),
        (published(Some("agent"), "{"), Some(Problem::NotJson)),
        (published(Some("agent"), r#"{"type":"dance"}"#), Some(Problem::UnknownType)),
        (published(Some("agent"), r#"{"type":"stage","stage":"greeting"}"#), None),
        (published(Some("agent"), r#"{"type":"outcomes","notes":null}"#), None),
        (opened("s", "caller", false), Some(Problem::NotAnAgent)),
        (Fact::StreamChunk { stream: s(), text: "word".into() }, None),
        (Fact::StreamClosed { stream: s(), is_final: r#final }, None),
        (Fact::StreamSender { stream: s(), identity: who("caller") }, Some(Problem::NotAnAgent)),
        (feed("caller", FeedMessage::Error { fatal: false }), Some(Problem::NotAnAgent)),
        (feed("recorder", FeedMessage::Error { fatal: false }), Some(Problem::NotAnAgent)),
        (feed("agent", FeedMessage::Clock { at: at(2_500) }), None),
        (feed("agent", FeedMessage::Tools { calls: vec![tool] }), None),
        (feed("agent", history(items)), None),
        (Fact::Undecodable { identity: who("caller") }, Some(Problem::Undecodable)),
        (Fact::Dropped, Some(Problem::TooMany)),
        (chat("caller", "  "), None),
        (chat("agent", "typed by the agent"), None),
        (chat("nobody", "hello"), None),
        (metadata("caller", r#"{"prompt":"new"}"#), None),
        (metadata("agent", r#"{"phone_number":"+15550100"}"#), None),
        (metadata("nobody", r#"{"phone_number":"+15550100"}"#), None),
        (Fact::RoomMetadata { metadata: r#"{"prompt":"new"}"#.into() }, None),
        (Fact::JobMetadata { metadata: "no JSON".into() }, None),
        (attributes("nobody", &[("sip.callStatus", "hangup")]), None),
        (Fact::Track { identity: who("nobody"), sid: "TR_1".into() }, None),
        (Fact::Speaking { identity: who("nobody"), speaking: true }, None),
        (Fact::Quality { identity: who("nobody"), lost: true }, None),
        (
            Fact::Left {
                identity: who("recorder"),
                reason: LeaveReason::RoomClosed,
                attributes: map(&[("a", "b")]),
                since: None,
            },
            None,
        ),
    ] {
        let mut t = call();
        let before = state(&mut t.call);
        assert_eq!(t.taken(9_000, fact.clone()), None, "{fact:?}");
        let problems: Vec<_> = t.call.take_problems().into_keys().collect();
        assert_eq!(problems, problem.into_iter().collect::<Vec<_>>(), "{fact:?}");
        assert_eq!(state(&mut t.call), before, "{fact:?}");
    }
}

#[test]
fn too_many_messages_of_unknown_senders_are_not_taken() {
    let mut t = call();
    let message = || published(Some("nobody"), r#"{"type":"end"}"#);
    let taken = (0..1_000).filter(|_| t.taken(3_000, message()).is_some()).count();
    assert!((1..100).contains(&taken), "{taken}");
}

#[test]
fn fields_that_the_core_does_not_read_are_not_journaled() {
    let mut t = call();
    let junk = "x".repeat(60_000);
    let joined = |identity: &str, kind, attributes: &[(&str, &str)], metadata: &str| {
        Fact::Joined(Joined {
            identity: identity.into(),
            sid: format!("PA_{identity}"),
            kind,
            name: junk.clone(),
            metadata: metadata.into(),
            attributes: map(attributes),
            joined_at: at(3_000),
            permissions: None,
        })
    };
    let journaled = |fact| match fact {
        Some(Fact::Joined(j)) => (j.name, j.metadata, j.attributes),
        other => panic!("{other:?}"),
    };
    let own = [("own", junk.as_str()), ("sip.callStatus", "hangup"), ("lk.agent.state", "idle")];
    let said = format!(r#"{{"prompt":"{junk}","phone_number":"+15550100"}}"#);
    let web = journaled(t.taken(3_000, joined("web", Kind::Standard, &own, &said)));
    let none = String::new;
    assert_eq!(web, (none(), r#"{"phone_number":"+15550100"}"#.into(), map(&[])));
    let leg = [("own", junk.as_str()), ("sip.h.x-id", "7"), ("sip.callStatus", "active")];
    let leg = journaled(t.taken(3_000, joined("leg", Kind::Sip, &leg, "")));
    let shown = map(&[("sip.h.x-id", "7"), ("sip.callStatus", "active")]);
    assert_eq!(leg, (none(), none(), shown));
    let agents = [("own", junk.as_str()), ("lk.agent.state", "idle"), ("call.stage", "a")];
    let agent = journaled(t.taken(3_000, joined("agent2", Kind::Agent, &agents, &said)));
    let read = map(&[("lk.agent.state", "idle"), ("call.stage", "a")]);
    assert_eq!(agent, (none(), none(), read));

    let left = Fact::Left {
        identity: "leg".into(),
        reason: LeaveReason::ClientInitiated,
        attributes: map(&[("own", &junk), ("sip.callStatus", "hangup")]),
        since: None,
    };
    let Some(Fact::Left { attributes, .. }) = t.taken(4_000, left) else { panic!("not taken") };
    assert_eq!(attributes, map(&[("sip.callStatus", "hangup")]));
}

#[test]
fn an_attribute_that_the_core_does_not_read_is_only_a_sign_of_life() {
    let mut t = call();
    let junk = "x".repeat(60_000);
    let taken: Vec<_> = (0..1_000)
        .filter_map(|n| {
            let value = format!("{n}{junk}");
            t.taken(3_000 + n, attributes("caller", &[("own", &value), ("sip.x", &value)]))
        })
        .collect();
    assert!((5..=15).contains(&taken.len()), "{}", taken.len());
    assert!(taken.iter().all(|f| *f == attributes("caller", &[])), "{:?}", taken.first());
}

#[test]
fn the_words_of_a_chat_are_counted_and_not_journaled() {
    let mut t = call();
    let fact = t.taken(3_000, chat("caller", "my number is secret"));
    let counted = |words| Fact::Chat { identity: "caller".into(), text: String::new(), words };
    assert_eq!(fact, Some(counted(Some(4))));
    let taken = (0..30_000).filter(|_| t.taken(3_000, chat("caller", "again")).is_some()).count();
    assert!((100..20_000).contains(&taken), "{taken}");
}

#[test]
fn texts_of_chats_have_a_bound_in_bytes_as_they_are_written() {
    let mut t = call();
    t.call.settings.transcript = true;
    let text = "\u{1}".repeat(5_000);
    let all: Vec<Fact> = (0..2_000).filter_map(|_| t.taken(3_000, chat("caller", &text))).collect();
    let bytes: usize = all.iter().map(|fact| serde_json::to_vec(fact).unwrap().len()).sum();
    assert!((500_000..1_500_000).contains(&bytes), "{bytes}");
    assert_eq!(all.len(), 2_000, "the words still count");
}

#[test]
fn metadata_is_read_a_limited_number_of_times_and_an_opt_out_always() {
    let mut t = call();
    let phone = |n: usize| {
        metadata("caller", &format!(r#"{{"phone_number":"{n}","junk":"{}"}}"#, "x".repeat(9_000)))
    };
    let taken: Vec<_> = (0..1_000).filter_map(|n| t.taken(3_000, phone(n))).collect();
    assert!((10..100).contains(&taken.len()), "{}", taken.len());
    assert_eq!(taken.first(), Some(&metadata("caller", r#"{"phone_number":"0"}"#)));
    assert!(!t.call.opted_out());
    let fact = t.taken(4_000, metadata("caller", r#"{"opt_out_sensitive_data":true,"a":1}"#));
    assert_eq!(fact, Some(metadata("caller", r#"{"opt_out_sensitive_data":true}"#)));
    assert!(t.call.opted_out());
}

#[test]
fn text_beyond_the_limit_of_a_segment_is_not_journaled() {
    let mut t = call();
    assert!(t.taken(3_000, opened("s", "agent", false)).is_some());
    let chunk = |text: &str| Fact::StreamChunk { stream: "s".into(), text: text.into() };
    let word = "word ".repeat(2_000);
    let mut written = 0;
    for _ in 0..100 {
        match t.taken(3_000, chunk(&word)) {
            Some(Fact::StreamChunk { text, .. }) => written += text.len(),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(written, 64 * 1024);
    assert_eq!(t.taken(4_000, chunk(&word)), Some(chunk("")), "it is still being spoken");
}

#[test]
fn a_fact_that_is_not_taken_does_not_prolong_the_observed_time() {
    let mut t = Scenario::web_call();
    t.agent_says(1_000, 2_000, "hello");
    t.fact(50_000, Fact::Dropped);
    t.publishes(60_000, "caller", "{");
    t.fact(90_000, Fact::Recovered);
    t.fact(90_000, Fact::RoomEnded { reason: LeaveReason::UnknownReason });
    let notes = t.record().outcomes.notes.unwrap_or_default();
    assert!(notes.contains("disconnected from the room for 88.0 s"), "{notes}");
}
