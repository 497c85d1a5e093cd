//! Participants that send garbage and forgeries: the call goes on, and its record is right.

use anyhow::Result;
use livekit::{DisconnectReason, prelude::Transcription, prelude::TranscriptionSegment};
use serde_json::json;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_ignored_and_the_call_goes_on() -> Result<()> {
    let mut s = Scene::new().await?;
    let caller = s.web("mallory").await?;
    let mut agent = s.agent().await?;
    let huge = "x".repeat(200_000);
    for topic in ["call-history", "lk.transcription", "lk.agent.session", "lk.chat", ""] {
        for person in [&caller, &agent.person] {
            person.sends_text(topic, "{").await?;
            person.sends_text(topic, "").await?;
            person.packet(topic, vec![0xff, 0xfe, 0x00, 0x80]).await?;
            person.packet(topic, vec![]).await?;
        }
        agent.person.sends_text(topic, &huge).await?;
    }
    let nested = "[".repeat(30_000);
    agent.person.sends_text("call-history", &nested).await?;
    agent.person.set("call.outcomes", "{not json").await?;
    agent.person.set("call.agent_config", &"y".repeat(30_000)).await?;
    agent.person.set("lk.agent.state", "dancing").await?;
    agent.publishes(&json!({"type": "stage", "stage": "still here"})).await?;
    agent.says("hello", WORD).await?;
    // A megabyte was sent in one burst. On a loaded machine what follows may come only seconds later.
    wait::journaled(&s, "still here").await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!(r["outcomes"]["final_stage"], "still here");
    assert_eq!(r["stage_timeline"].as_array().unwrap().len(), 1);
    let log = s.worker.log();
    let reasons: Vec<_> = log
        .iter()
        .filter(|l| l["message"] == "something published in the room was not taken")
        .map(|l| l["reason"].as_str().unwrap())
        .collect();
    let mut once = reasons.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), reasons.len(), "each reason is logged once: {reasons:?}");
    assert!(reasons.contains(&"not JSON") && reasons.contains(&"the sender is not an agent"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_whose_events_stopped_is_joined_again_and_other_rooms_are_not() -> Result<()> {
    let mut s = Scene::breakable().await?;
    // Another call, which must not notice.
    let other = unique("room");
    let bystander = s.web_in(&other, "bob").await?;
    s.worker.logs("joined").await?;
    let caller = s.web_in(&s.room, "alice").await?;
    s.worker.logs_nth("joined", 2, POSTED).await?;
    let mut agent = s.agent().await?;
    agent.says("before it", WORD).await?;
    // livekit 0.10 panics on an invalid track id, in the task that reads the room's events.
    let poison = Transcription {
        participant_identity: "alice".into(),
        track_id: String::new(),
        segments: vec![TranscriptionSegment {
            id: "SG_1".into(),
            text: "x".into(),
            ..Default::default()
        }],
    };
    agent.person.me().publish_transcription(poison).await?;
    s.worker.logs("the room's events have stopped, joining again").await?;
    s.worker.logs("joined again").await?;
    agent.says("after it", WORD).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!(r["metrics"]["total_agent_utterances"], 2);
    assert!(r["outcomes"]["notes"].as_str().unwrap().contains("disconnected from the room"), "{r}");
    bystander.leaves(DisconnectReason::ClientInitiated).await?;
    let posts = s.endpoint.wait(&other, 1, POSTED).await?;
    assert_eq!(posts[0].record()?["outcomes"]["notes"], Value::Null);
    let again = s.worker.log().iter().filter(|l| l["message"] == "joined again").count();
    assert_eq!(again, 1, "only the deaf room is joined again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_cannot_pass_for_an_agent() -> Result<()> {
    let mut s = Scene::new().await?;
    let caller = s.web("mallory").await?;
    let mut agent = s.agent().await?;
    caller.set("lk.agent.state", "speaking").await?;
    caller.set("call.stage", "hacked").await?;
    caller.set("lk.publish_on_behalf", &agent.person.identity).await?;
    caller.sends_text("call-history", r#"{"type":"end","status":"failed"}"#).await?;
    caller.sends_text("lk.transcription", "I never said that").await?;
    agent.says("hello", WORD).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!(r["stage_timeline"], json!([]));
    assert_eq!(r["metrics"]["total_user_utterances"], 0);
    Ok(())
}

/// A caller can send without limit; messages that are never read must not fill the disk.
#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_caller_that_are_not_read_are_not_journaled() -> Result<()> {
    let keep = [("CALL_HISTORY_KEEP_JOURNALS", "true")];
    let mut s = Scene::at(Venue::from_env().await?, &keep).await?;
    let caller = s.web("mallory").await?;
    let agent = s.agent().await?;
    let marked = "not-to-be-stored";
    for topic in ["call-history", "lk.transcription", "lk.agent.session", "lk.chat"] {
        caller.sends_text(topic, marked).await?;
        caller.packet(topic, marked.into()).await?;
    }
    caller.set("own", marked).await?;
    caller.set("call.stage", marked).await?;
    agent.publishes(&json!({"type": "stage", "stage": "after it"})).await?;
    s.worker.logs("something published in the room was not taken").await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?;
    assert_eq!(r["outcomes"]["final_stage"], "after it");
    s.worker.stops().await?;
    let kept =
        s.worker.data.join("journals").join(format!("{}.jsonl", r["call_id"].as_str().unwrap()));
    let journal = std::fs::read_to_string(kept)?;
    assert!(journal.contains("after it") && journal.contains("mallory"), "{journal}");
    assert!(!journal.contains(marked), "{journal}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_opted_out_is_neither_reported_nor_stored() -> Result<()> {
    let keep = [("CALL_HISTORY_KEEP_JOURNALS", "true")];
    let mut s = Scene::at(Venue::from_env().await?, &keep).await?;
    let ticket = Ticket {
        room: s.room.clone(),
        identity: "alice".into(),
        kind: "standard",
        metadata: json!({"opt_out_sensitive_data": true}).to_string(),
        agents: vec![s.name.clone()],
        ..Default::default()
    };
    let caller = Person::join(&s.venue, &ticket).await?;
    s.worker.logs("joined").await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.worker.logs("call ended; opted out of recording, nothing is stored or sent").await?;
    s.worker.stops().await?;
    assert!(s.endpoint.posts().is_empty());
    for folder in ["pending", "sent", "dead", "live", "journals"] {
        assert_eq!(std::fs::read_dir(s.worker.data.join(folder))?.count(), 0);
    }
    Ok(())
}
