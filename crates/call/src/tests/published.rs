//! What agents publish, and which senders are believed (docs/contract.md §6).

use record::Status;

use super::*;
use crate::published::Problem;

#[test]
fn only_agents_are_believed() {
    let mut t = Scenario::web_call();
    t.publishes(1, "caller", r#"{"type":"stage","stage":"hacked"}"#);
    t.fact(2, Fact::Published { identity: None, text: r#"{"type":"stage","stage":"x"}"#.into() });
    t.sets(3, "caller", &[("call.stage", "hacked"), ("lk.agent.state", "speaking")]);
    t.publishes(4, "agent", r#"{"type":"stage","stage":"greeting"}"#);
    let problems = t.call.take_problems();
    assert_eq!(problems.get(&Problem::NotAnAgent), Some(&1));
    assert_eq!(problems.get(&Problem::UnknownSender), Some(&1));
    let r = t.ends(5_000);
    let stages: Vec<_> = r.stage_timeline.iter().map(|s| s.stage.as_str()).collect();
    assert_eq!(stages, ["greeting"]);
    assert_eq!(r.status, Status::Completed, "a caller stays a caller, whatever it calls itself");
}

#[test]
fn a_message_is_held_until_its_sender_is_known() {
    let mut t = Scenario::new();
    t.joins(0, "caller", Kind::Standard, &[]);
    t.publishes(1_000, "agent", r#"{"type":"stage","stage":"early"}"#);
    t.publishes(1_000, "mallory", r#"{"type":"stage","stage":"forged"}"#);
    t.joins(1_020, "mallory", Kind::Ingress, &[]);
    t.joins(1_030, "agent", Kind::Agent, &[]);
    let r = t.ends(5_000);
    assert_eq!(r.stage_timeline.len(), 1);
    assert_eq!(r.stage_timeline[0].timestamp, at(1_000).to_rfc3339());

    let mut t = Scenario::new();
    t.publishes(0, "agent", r#"{"type":"stage","stage":"stale"}"#);
    t.joins(5_001, "agent", Kind::Agent, &[]);
    assert_eq!(t.call.take_problems().get(&Problem::UnknownSender), Some(&1));
}

#[test]
fn the_agents_own_report_of_the_end_takes_precedence() {
    for (text, status, reason) in [
        (r#"{"type":"end"}"#, Status::Completed, None),
        (
            r#"{"type":"end","termination_reason":"transferred"}"#,
            Status::Completed,
            Some("transferred"),
        ),
        (
            r#"{"type":"end","status":"failed","termination_reason":"spam"}"#,
            Status::Failed,
            Some("spam"),
        ),
    ] {
        let mut t = Scenario::web_call();
        t.publishes(4_000, "agent", text);
        t.leaves(5_000, "caller", LeaveReason::ConnectionTimeout);
        let r = t.record();
        assert_eq!((r.status, r.termination_reason.as_deref()), (status, reason), "{text}");
    }
    let mut t = Scenario::web_call();
    t.sets(4_000, "agent", &[("call.termination_reason", "voicemail")]);
    let r = t.ends(5_000);
    assert_eq!(r.termination_reason.as_deref(), Some("voicemail"));
}

#[test]
fn attributes_that_were_set_before_the_observer_joined_are_read() {
    let mut t = Scenario::new();
    t.joins(0, "caller", Kind::Standard, &[]);
    t.joins(
        0,
        "agent",
        Kind::Agent,
        &[
            ("call.stage", "order"),
            ("call.agent_config", r#"{"stt_config_key":"whisper"}"#),
            ("call.outcomes", r#"{"completion_rate":0.5,"fields_collected":["name"]}"#),
        ],
    );
    t.sets(1_000, "agent", &[("call.stage", "payment")]);
    let r = t.ends(5_000);
    assert_eq!(
        r.stage_timeline.iter().map(|s| s.stage.as_str()).collect::<Vec<_>>(),
        ["order", "payment"]
    );
    assert_eq!(r.outcomes.final_stage.as_deref(), Some("payment"));
    assert_eq!(r.outcomes.completion_rate, 0.5);
    assert_eq!(r.agent_config.stt_config_key.as_deref(), Some("whisper"));
    assert_eq!(r.agent_config.tts_config_key.as_deref(), Some("unknown"));
}

#[test]
fn the_payload_has_the_seeds_keys_in_the_seeds_order() {
    let mut t = Scenario::web_call();
    t.publishes(1_000, "agent", r#"{"type":"stage","stage":"greeting"}"#);
    let json = serde_json::to_string(&t.ends(5_123)).unwrap();
    let order = [
        "call_id",
        "phone_number",
        "room_name",
        "call_type",
        "start_time",
        "end_time",
        "duration_seconds",
        "status",
        "termination_reason",
        "agent_config",
        "stt_config_key",
        "llm_config_key",
        "tts_config_key",
        "business_type",
        "language",
        "metrics",
        "total_user_utterances",
        "total_agent_utterances",
        "longest_user_utterance",
        "longest_agent_utterance",
        "average_user_response_time",
        "average_agent_response_time",
        "silence_count",
        "interruption_count",
        "outcomes",
        "completion_rate",
        "fields_collected",
        "final_stage",
        "successful",
        "notes",
        "stage_timeline",
        "stage",
        "timestamp",
    ];
    let places: Vec<_> = order.iter().map(|k| json.find(&format!("\"{k}\":")).expect(k)).collect();
    assert!(places.is_sorted(), "{json}");
    assert_eq!(json.matches("\":").count(), order.len(), "{json}");
    assert!(json.contains(r#""duration_seconds":5.123,"status":"completed""#), "{json}");
    assert!(json.contains(r#""end_time":"2023-11-14T22:13:25.123Z""#), "{json}");
}
