//! Ordinary calls.

use std::time::Duration;

use anyhow::Result;
use lab::worker::JWT_SECRET;
use livekit::DisconnectReason;
use livekit_devserver::Config;
use serde_json::json;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_call_ends_as_a_signed_record() -> Result<()> {
    let mut s = Scene::new().await?;
    let caller = s.phone("+15550123401").await?;
    let mut agent = s.agent().await?;
    agent.publishes(&json!({"type": "stage", "stage": "greeting"})).await?;
    agent.says("hello how can I help", WORD).await?;
    let turn = tokio::time::Instant::now();
    agent.hears(&caller.identity, "I want a table", WORD).await?;
    agent.says("it is booked", WORD).await?;
    let turn = turn.elapsed().as_secs_f64();
    agent.tells_usage().await?;
    agent.publishes(&json!({"type": "outcomes", "outcomes": {"successful": true}})).await?;
    caller.hangs_up().await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!((&r["phone_number"], &r["call_type"]), (&json!("+15550123401"), &json!("inbound")));
    assert_eq!(r["metrics"]["total_user_utterances"], 1);
    assert_eq!(r["metrics"]["total_agent_utterances"], 2);
    assert_eq!(r["metrics"]["longest_agent_utterance"], 5);
    assert_eq!(r["outcomes"]["final_stage"], "greeting");
    assert_eq!(r["outcomes"]["successful"], true);
    assert_eq!(r["agent_config"]["llm_config_key"], "lab/mind");
    assert_eq!(r["outcomes"]["notes"], Value::Null);
    let answered = r["metrics"]["average_agent_response_time"].as_f64().unwrap();
    // At least the recogniser's delay, and no longer than the turn and its answer took.
    assert!((0.3..turn).contains(&answered), "{answered} of {turn} s");
    s.endpoint.posts()[0].check_signature(JWT_SECRET)?;
    for message in [
        "registered worker",
        "received job request, accepted",
        "joined",
        "call started",
        "call ended",
        "delivered",
    ] {
        s.worker.logs(message).await?;
    }
    let log = format!("{:?}", s.worker.log());
    assert!(!log.contains("15550123401"), "a phone number in the log");
    assert!(!log.contains("booked"), "somebody's words in the log");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_session_feed_is_reported_from_states_and_transcripts() -> Result<()> {
    let mut s = Scene::new().await?;
    let caller = s.web("alice").await?;
    let mut agent = VoiceAgent::join(&s.venue, &s.room, false).await?;
    agent.says("hello how can I help", WORD).await?;
    agent.hears(&caller.identity, "I want a table", WORD).await?;
    agent.says("it is booked", WORD).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!(r["phone_number"], "alice");
    assert_eq!(r["metrics"]["total_user_utterances"], 1);
    assert_eq!(r["metrics"]["total_agent_utterances"], 2);
    assert_eq!(r["agent_config"]["llm_config_key"], Value::Null);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_observer_is_hidden_from_the_other_participants() -> Result<()> {
    let mut s = Scene::new().await?;
    let caller = s.web("alice").await?;
    let agent = s.agent().await?;
    let seen: Vec<_> = caller.room.remote_participants().into_keys().collect();
    assert!(seen.iter().all(|i| i.as_str() == agent.person.identity), "{seen:?}");
    let listed = s.venue.rooms().list_participants(&s.room).await?;
    let us: Vec<_> = listed.iter().filter(|p| p.identity.starts_with("call-history-")).collect();
    assert_eq!(us.len(), 1);
    let may = us[0].permission.clone().unwrap();
    assert!(may.hidden && !may.can_publish && may.can_publish_data && may.can_subscribe);
    assert!(!may.can_update_metadata);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_can_be_dispatched_by_the_api() -> Result<()> {
    let mut s = Scene::new().await?;
    s.venue.rooms().create_room(&s.room, Default::default()).await?;
    let metadata = json!({"agent_config": {"stt_config_key": "from-the-job"}}).to_string();
    s.venue.dispatch(&s.name, &s.room, &metadata).await?;
    s.worker.logs("joined").await?;
    let caller = Person::phone(&s.venue, &s.room, "+15550123402", "ringing", false, &[]).await?;
    // LiveKit announces a leg without a track only after 3 s: one that leaves sooner is never seen.
    s.worker.logs("call started").await?;
    caller.leaves(DisconnectReason::UserUnavailable).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("failed", Some("no_answer")));
    assert_eq!(r["call_type"], "outbound");
    assert_eq!(r["agent_config"]["stt_config_key"], "from-the-job");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_without_a_caller_is_not_reported() -> Result<()> {
    let mut s = Scene::new().await?;
    s.venue.rooms().create_room(&s.room, Default::default()).await?;
    s.venue.dispatch(&s.name, &s.room, "").await?;
    s.worker.logs("joined").await?;
    let mut agent = s.agent().await?;
    agent.says("is anybody there", WORD).await?;
    s.venue.rooms().delete_room(&s.room).await?;
    s.worker.logs("room ended without a caller, nothing to report").await?;
    s.worker.stops().await?;
    assert!(s.endpoint.posts().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_the_agent_deletes_is_reported_at_once() -> Result<()> {
    // The record would come only after this time if it waited for the caller to come back.
    let mut s = Scene::at(Venue::from_env().await?, &[("CALL_HISTORY_END_GRACE", "300")]).await?;
    let _caller = s.phone("+15550123403").await?;
    let mut agent = s.agent().await?;
    agent.says("good bye", WORD).await?;
    s.venue.rooms().delete_room(&s.room).await?;
    let posts = s.endpoint.wait(&s.room, 1, POSTED).await?;
    let r = posts[0].record()?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!(r["metrics"]["total_agent_utterances"], 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_calls_in_one_room_are_two_records() -> Result<()> {
    // The default configuration, because the room must outlive the first call's grace time.
    let config = Config::default();
    let mut s = Scene::at(Venue::dev(config).await?, &[]).await?;
    s.phone("+15550123404").await?.hangs_up().await?;
    s.worker.logs("call ended").await?;
    let second = Person::phone(&s.venue, &s.room, "+15550123405", "active", true, &[]).await?;
    s.worker.logs_nth("call started", 2, POSTED).await?;
    second.hangs_up().await?;
    let posts = s.posts(2).await?;
    let records: Vec<Value> = posts.iter().map(|p| p.record()).collect::<Result<_>>()?;
    assert_eq!(records[0]["phone_number"], "+15550123404");
    assert_eq!(records[1]["phone_number"], "+15550123405");
    assert_ne!(records[0]["call_id"], records[1]["call_id"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_comes_back_is_one_call() -> Result<()> {
    // However long it takes to come back.
    let config = Config { departure_timeout: Duration::from_secs(60), ..lab::server::quick() };
    let grace = [("CALL_HISTORY_END_GRACE", "30")];
    let mut s = Scene::at(Venue::dev(config).await?, &grace).await?;
    let first = s.web("alice").await?;
    let _agent = s.agent().await?;
    first.leaves(DisconnectReason::ClientInitiated).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let again = s.web_in(&s.room, "alice").await?;
    tokio::time::sleep(Duration::from_secs(4)).await; // longer than the batch that announces it
    again.leaves(DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?;
    assert!(r["duration_seconds"].as_f64().unwrap() > 4.0, "{r}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_calls_is_slower_but_loses_no_call() -> Result<()> {
    let _alone = alone().await;
    const CALLS: usize = 60;
    let mut s = Scene::breakable().await?;
    let rooms: Vec<String> = (0..CALLS).map(|_| unique("burst")).collect();
    let mut callers = vec![];
    for room in &rooms {
        callers.push(s.web_in(room, "alice").await?);
    }
    s.worker.logs_nth("call started", CALLS, Duration::from_secs(60)).await?;
    for caller in callers {
        caller.leaves(DisconnectReason::ClientInitiated).await?;
    }
    for room in &rooms {
        let posts = s.endpoint.wait(room, 1, Duration::from_secs(60)).await?;
        assert_eq!(posts.len(), 1, "{room}");
        assert_eq!(verdict(&posts[0].record()?), ("failed", Some("no_agent")));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_at_its_maximum_refuses_calls_until_one_ends() -> Result<()> {
    let venue = Venue::dev(lab::server::quick()).await?;
    let only_jobs = ("CALL_HISTORY_DISCOVERY", "dispatch");
    let mut s = Scene::at(venue, &[("CALL_HISTORY_MAX_CALLS", "1"), only_jobs]).await?;
    let first = s.web("alice").await?;
    worker_is(&s, true).await?;
    // No worker takes this call: the server offers a job once.
    let _second = s.web_in(&unique("room"), "bob").await?;
    first.leaves(DisconnectReason::ClientInitiated).await?;
    s.record().await?;
    worker_is(&s, false).await?;
    let third = unique("room");
    let _caller = s.web_in(&third, "carol").await?;
    s.worker.logs_nth("joined", 2, POSTED).await?;
    let log = s.worker.log();
    let joined: Vec<&Value> =
        log.iter().filter(|l| l["message"] == "joined").map(|l| &l["room"]).collect();
    assert_eq!(joined, [&*s.room, &*third], "the second call was not for this worker");
    Ok(())
}

/// Waits until the worker has reported to the server that it is full, or that it is not.
async fn worker_is(s: &Scene, full: bool) -> Result<()> {
    let deadline = tokio::time::Instant::now() + POSTED;
    loop {
        let workers = s.venue.breakable()?.workers();
        if workers.iter().any(|w| (w.load > 0.6) == full) {
            return Ok(());
        }
        assert!(tokio::time::Instant::now() < deadline, "full: {full}, {workers:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
