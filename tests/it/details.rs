//! What an operator can switch on beyond the plain record: details, the transcript, profiles.

use anyhow::Result;
use livekit_protocol::agent::{
    AgentHandoff, AmdCategory, FunctionCall, FunctionCallOutput,
    agent_session_event::{
        AgentFalseInterruption, AmdPrediction, ConversationItemAdded, Error, Event,
        FunctionToolsExecuted,
    },
    chat_context::{ChatItem, chat_item},
};
use serde_json::json;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn details_and_transcript_are_added_when_asked_for() -> Result<()> {
    let venue = Venue::from_env().await?;
    let asked = [("CALL_HISTORY_DETAILS", "true"), ("CALL_HISTORY_TRANSCRIPT", "true")];
    let mut s = Scene::at(venue, &asked).await?;
    let caller = s.phone("+15550123441").await?;
    let mut agent = s.agent().await?;
    agent.says("hello how can I help", WORD).await?;
    let paused = AgentFalseInterruption { resumed: true };
    agent.tells_event(Event::AgentFalseInterruption(paused)).await?;
    agent.hears(&caller.identity, "I want a table", WORD).await?;
    agent.says("for how many", WORD).await?;
    agent.tells_usage().await?;
    let call = |id: &str, name: &str| FunctionCall {
        call_id: id.into(),
        name: name.into(),
        ..Default::default()
    };
    let failed = FunctionCallOutput { call_id: "c2".into(), is_error: true, ..Default::default() };
    agent
        .tells_event(Event::FunctionToolsExecuted(FunctionToolsExecuted {
            function_calls: vec![call("c1", "find_table"), call("c2", "find_table")],
            function_call_outputs: vec![failed],
        }))
        .await?;
    let handoff = AgentHandoff {
        id: "h1".into(),
        old_agent_id: Some("greeter".into()),
        new_agent_id: "waiter".into(),
        created_at: None,
    };
    let item = Some(ChatItem { item: Some(chat_item::Item::AgentHandoff(handoff)) });
    agent.tells_event(Event::ConversationItemAdded(ConversationItemAdded { item })).await?;
    agent.tells_event(Event::Error(Error { message: "a secret failed".into() })).await?;
    let category = AmdCategory::AmdHuman as i32;
    let amd = AmdPrediction { category, ..Default::default() };
    agent.tells_event(Event::AmdPrediction(amd)).await?;
    caller.hangs_up().await?;

    let r = s.record().await?;
    let d = &r["details"];
    assert_eq!(d["ended_by"], "caller");
    assert_eq!(d["disconnect_reason"], "CLIENT_INITIATED");
    assert_eq!(d["sip"]["sip.callStatus"], "hangup");
    assert_eq!(d["evidence"]["user"], json!({"speech": "feed", "words": "items"}));
    assert_eq!(d["evidence"]["agent"], json!({"speech": "feed", "words": "items"}));
    assert_eq!(d["observation"]["recovered"], false);
    assert_eq!(d["observation"]["end_time_basis"], "observed");
    assert_eq!(d["observation"]["gaps"], json!([]));
    let answers = &d["latency"]["agent_response"];
    assert_eq!((&answers["count"], &answers["p50"]), (&json!(1), &answers["max"]));
    assert_eq!(answers["max"], r["metrics"]["average_agent_response_time"]);
    assert_eq!(d["interruptions"]["by_caller"], 0);
    assert_eq!(d["interruptions"]["false_alarms"], 1);
    assert!(d["talk"]["agent_seconds"].as_f64().unwrap() > 0.3, "{d:#}");
    let models: Vec<&Value> = d["usage"].as_array().unwrap().iter().map(|u| &u["model"]).collect();
    assert_eq!(models, ["ear", "mind", "voice"]);
    assert_eq!(d["tools"], json!([{"name": "find_table", "calls": 2, "failures": 1}]));
    assert_eq!(
        (&d["handoffs"][0]["from"], &d["handoffs"][0]["to"]),
        (&json!("greeter"), &json!("waiter"))
    );
    assert_eq!((&d["answered_by"], &d["errors"]), (&json!("human"), &json!(1)));
    assert_eq!(d["agents"].as_array().unwrap().len(), 1);
    assert_eq!(d["agents"][0]["role"], "voice");
    let said: Vec<(&str, &str)> = (d["transcript"].as_array().unwrap().iter())
        .map(|l| (l["by"].as_str().unwrap(), l["text"].as_str().unwrap()))
        .collect();
    assert_eq!(
        said,
        [("agent", "hello how can I help"), ("user", "I want a table"), ("agent", "for how many")],
        "{d:#}"
    );
    let log = format!("{:?}", s.worker.log());
    assert!(!log.contains("secret failed") && !log.contains("table"), "words in the log");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_added_when_it_is_not_asked_for() -> Result<()> {
    let mut s = Scene::new().await?;
    let caller = s.web("alice").await?;
    caller.leaves(livekit::DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?;
    assert!(r.get("details").is_none(), "{r:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_gives_rate_and_success_where_the_agent_publishes_fields_and_stages() -> Result<()>
{
    let venue = Venue::from_env().await?;
    let profile = "stages = [\"a\", \"done\"]\nrequired_fields = [\"name\", \"time\"]\n\
        [success]\nstages = [\"done\"]\ncompletion_rate = 0.5\n";
    let files = [("config/profiles/bakery.toml", profile)];
    let mut s = Scene::with_files(venue, &[], &files).await?;
    let caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    agent.publishes(&json!({"type": "agent_config", "business_type": "Bakery"})).await?;
    agent.publishes(&json!({"type": "stage", "stage": "done"})).await?;
    agent.publishes(&json!({"type": "outcomes", "fields_collected": ["time"]})).await?;
    agent.says("baked", WORD).await?;
    caller.leaves(livekit::DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?;
    assert_eq!(r["outcomes"]["completion_rate"], 0.5);
    assert_eq!(r["outcomes"]["successful"], true);
    Ok(())
}

#[tokio::test]
async fn a_wrong_profile_is_reported_with_file_line_and_reason() -> Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::create_dir_all(dir.path().join("config/profiles"))?;
    let path = dir.path().join("config/profiles/bakery.toml");
    std::fs::write(path, "stages = [\"a\"]\n[success]\nstages = [\"b\"]\n")?;
    let out = tokio::process::Command::new(binary())
        .env_clear()
        .current_dir(dir.path())
        .kill_on_drop(true)
        .output()
        .await?;
    assert_eq!(out.status.code(), Some(78));
    let err = String::from_utf8_lossy(&out.stderr);
    assert!(
        err.contains("config/profiles/bakery.toml:3: success.stages: b is not in stages"),
        "{err}"
    );
    Ok(())
}
