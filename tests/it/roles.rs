//! Who is who: bots and supervisors by permission, colleagues that are dialled into a call.

use livekit::DisconnectReason;
use livekit_api::access_token::VideoGrants;
use serde_json::json;

use super::*;

const DETAILS: (&str, &str) = ("CALL_HISTORY_DETAILS", "true");

impl Scene {
    async fn with_details(env: &[(&str, &str)]) -> Result<Self> {
        let env: Vec<_> = env.iter().copied().chain([DETAILS]).collect();
        Self::at(Venue::from_env().await?, &env).await
    }

    /// A participant of kind standard whose token grants that.
    async fn granted(&self, identity: &str, grants: VideoGrants) -> Result<Person> {
        let ticket = Ticket {
            room: self.room.clone(),
            identity: identity.into(),
            kind: "standard",
            grants: Some(grants),
            ..Default::default()
        };
        Person::join(&self.venue, &ticket).await
    }

    /// A colleague is dialled into the room.
    async fn dials(&self, number: &str) -> Result<Person> {
        Person::phone(&self.venue, &self.room, number, "dialing", false, &[]).await
    }
}

fn bot() -> VideoGrants {
    VideoGrants { agent: true, can_update_own_metadata: Some(true), ..Default::default() }
}

fn listener() -> VideoGrants {
    VideoGrants {
        can_publish: Some(false),
        can_publish_data: Some(false),
        can_update_own_metadata: Some(true),
        ..Default::default()
    }
}

/// The participant's role in the record.
fn role<'a>(record: &'a Value, identity: &str) -> &'a Value {
    let all = record["details"]["participants"].as_array().expect("participants");
    &all.iter().find(|p| p["identity"] == identity).expect("the participant")["role"]
}

/// Waits until the observer has seen what was announced in LiveKit's batch of 3 s.
async fn announced() {
    tokio::time::sleep(Duration::from_millis(3_500)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_colleague_who_is_dialled_in_does_not_take_the_call_over() -> Result<()> {
    let mut s = Scene::with_details(&[]).await?;
    let caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    agent.says("hello how can I help", WORD).await?;
    agent.hears("alice", "a human please", WORD).await?;
    let colleague = s.dials("+15550190001").await?;
    colleague.set("sip.callStatus", "ringing").await?;
    colleague.set("sip.callStatus", "active").await?;
    agent.says("here is my colleague", WORD).await?;
    announced().await;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    // The colleague's leg outlives the caller; the call is over all the same.
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!((&r["phone_number"], &r["call_type"]), (&json!("alice"), &json!("inbound")));
    assert_eq!(r["metrics"]["total_user_utterances"], 1);
    assert_eq!(r["metrics"]["total_agent_utterances"], 2);
    assert_eq!(role(&r, "sip_+15550190001"), "third_party");
    let transfer = &r["details"]["transfers"][0];
    assert_eq!(transfer["phone_number"], "+15550190001");
    assert!(transfer["answered_at"].is_string() && transfer["left_at"].is_null(), "{transfer}");
    drop(colleague);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_colleague_whose_phone_rings_in_vain_changes_nothing() -> Result<()> {
    let mut s = Scene::with_details(&[]).await?;
    let caller = s.phone("+15550190002").await?;
    let mut agent = s.agent().await?;
    agent.says("one moment please", WORD).await?;
    let colleague = s.dials("+15550190003").await?;
    colleague.set("sip.callStatus", "ringing").await?;
    announced().await;
    colleague.leaves(DisconnectReason::UserUnavailable).await?;
    agent.says("nobody is there", WORD).await?;
    announced().await;
    caller.hangs_up().await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!((&r["phone_number"], &r["call_type"]), (&json!("+15550190002"), &json!("inbound")));
    let transfer = &r["details"]["transfers"][0];
    assert!(transfer["answered_at"].is_null() && transfer["left_at"].is_string(), "{transfer}");
    assert_eq!(transfer["disconnect_reason"], "USER_UNAVAILABLE");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_stays_the_subject_when_the_agent_hands_over_and_leaves() -> Result<()> {
    let mut s = Scene::with_details(&[("CALL_HISTORY_SILENCE_THRESHOLD", "2")]).await?;
    let caller = s.phone("+15550190004").await?;
    let mut agent = s.agent().await?;
    agent.says("I connect you", WORD).await?;
    let colleague = s.dials("+15550190005").await?;
    colleague.set("sip.callStatus", "active").await?;
    announced().await;
    agent.person.leaves(DisconnectReason::ClientInitiated).await?;
    // They talk, and no level shows it: neither alone nor silent.
    tokio::time::sleep(Duration::from_secs(12)).await;
    colleague.hangs_up().await?;
    caller.hangs_up().await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!(r["phone_number"], "+15550190004");
    assert_eq!(r["outcomes"]["notes"], Value::Null);
    let unheard = &r["details"]["timeline"]["unheard"];
    assert_eq!(unheard.as_array().map(Vec::len), Some(1), "{unheard}");
    // The wait for the colleague's announcement is silence; the talk is not.
    let silences = r["details"]["timeline"]["silences"].as_array().cloned().unwrap_or_default();
    let of = |gap: &Value, key: &str| gap[key].as_str().unwrap_or_default().to_owned();
    let talk = &unheard[0];
    let apart =
        |gap: &Value| of(gap, "to") <= of(talk, "from") || of(gap, "from") >= of(talk, "to");
    assert!(!silences.is_empty() && silences.iter().all(apart), "{}", r["details"]["timeline"]);
    assert_eq!(r["metrics"]["silence_count"], silences.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_is_left_alone_was_abandoned() -> Result<()> {
    let mut s = Scene::with_details(&[]).await?;
    let caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    agent.says("good bye", WORD).await?;
    agent.person.leaves(DisconnectReason::ClientInitiated).await?;
    tokio::time::sleep(Duration::from_secs(20)).await;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("dropped", Some("agent_lost")));
    let notes = r["outcomes"]["notes"].as_str().unwrap_or_default();
    assert!(notes.contains("alone"), "{notes}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipecat_bot_is_the_agent_and_its_messages_make_the_numbers() -> Result<()> {
    // A pause of the machine is no silence.
    let env = [("CALL_HISTORY_TRANSCRIPT", "true"), ("CALL_HISTORY_SILENCE_THRESHOLD", "60")];
    let mut s = Scene::with_details(&env).await?;
    let caller = s.web("alice").await?;
    let pipecat = s.granted("Pipecat Agent-1", bot()).await?;
    // Real bots have a track and are announced at once.
    announced().await;
    let pause = |ms| tokio::time::sleep(Duration::from_millis(ms));
    // A greeting.
    pipecat.rtvi("bot-started-speaking", json!({})).await?;
    pause(300).await;
    pipecat.rtvi("bot-output", json!({"text": "hello and welcome", "spoken": true})).await?;
    pipecat.rtvi("bot-tts-text", json!({"text": "hello and welcome"})).await?;
    pipecat.rtvi("bot-stopped-speaking", json!({})).await?;
    pause(2_000).await;
    // A turn of the caller, who cannot speak for the bot.
    let turn = tokio::time::Instant::now();
    caller.rtvi("bot-started-speaking", json!({})).await?;
    pipecat.rtvi("user-started-speaking", json!({})).await?;
    pause(1_500).await;
    let said = json!({"text": "a table for four", "final": true, "user_id": "alice"});
    pipecat.rtvi("user-transcription", said).await?;
    pipecat.rtvi("user-stopped-speaking", json!({})).await?;
    wait::journaled(&s, "\"kind\":\"user_stopped\"").await?;
    pause(500).await;
    // An answer that the caller cuts off.
    pipecat.rtvi("bot-started-speaking", json!({})).await?;
    let started = r#""identity":"Pipecat Agent-1","message":{"kind":"bot_started""#;
    wait::journaled_times(&s, started, 2).await?;
    let turn = turn.elapsed().as_secs_f64();
    pause(1_500).await;
    pipecat.rtvi("user-started-speaking", json!({})).await?;
    pipecat.rtvi("bot-stopped-speaking", json!({})).await?;
    pause(1_200).await;
    let said = json!({"text": "wait", "final": true, "user_id": "alice"});
    pipecat.rtvi("user-transcription", said).await?;
    pipecat.rtvi("user-stopped-speaking", json!({})).await?;
    caller.rtvi("send-text", json!({"content": "typed words here too"})).await?;
    announced().await;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!(
        (&r["phone_number"], role(&r, "Pipecat Agent-1")),
        (&json!("alice"), &json!("agent"))
    );
    let m = &r["metrics"];
    assert_eq!((&m["total_user_utterances"], &m["longest_user_utterance"]), (&json!(3), &json!(4)));
    assert_eq!(
        (&m["total_agent_utterances"], &m["longest_agent_utterance"]),
        (&json!(2), &json!(3))
    );
    assert_eq!((&m["interruption_count"], &m["silence_count"]), (&json!(1), &json!(0)));
    let answered = m["average_agent_response_time"].as_f64().unwrap();
    assert!((0.3..turn).contains(&answered), "{answered} of {turn} s");
    let evidence = &r["details"]["evidence"];
    assert_eq!(
        (&evidence["agent"]["speech"], &evidence["agent"]["words"]),
        (&json!("rtvi"), &json!("rtvi"))
    );
    let lines = r["details"]["transcript"].as_array().unwrap();
    let line = |text: &str| lines.iter().find(|l| l["text"] == text).expect("the line");
    assert_eq!(line("a table for four")["identity"], "alice");
    assert_eq!(line("typed words here too")["kind"], "typed");
    let log = format!("{:?}", s.worker.log());
    assert!(!log.contains("table for four"), "somebody's words in the log");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_that_was_there_first_and_stays_is_no_caller() -> Result<()> {
    let mut s = Scene::with_details(&[]).await?;
    let _bot = s.granted("Pipecat Agent-2", bot()).await?;
    // The room in which a bot waits is joined ahead, though nobody dispatched us.
    s.worker.logs("joined").await?;
    let began = tokio::time::Instant::now();
    let caller = Person::phone(&s.venue, &s.room, "+15550190006", "active", true, &[]).await?;
    s.worker.logs("call started").await?;
    announced().await;
    caller.hangs_up().await?;
    let lasted = began.elapsed().as_secs_f64();
    let r = s.record().await?;
    // It never made a sound, so nobody served the caller.
    assert_eq!(verdict(&r), ("failed", Some("no_agent")));
    assert_eq!(r["phone_number"], "+15550190006");
    assert_eq!(role(&r, "Pipecat Agent-2"), "agent");
    // The bot stays longer than its caller, who is seen to leave with the next batch.
    let seconds = r["duration_seconds"].as_f64().unwrap();
    assert!(seconds < lasted + 6.0, "{seconds} of {lasted} s");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bot_without_the_grant_is_an_agent_by_its_identity() -> Result<()> {
    let mut s = Scene::with_details(&[("CALL_HISTORY_AGENT_IDENTITIES", "helper-*")]).await?;
    let caller = s.web("alice").await?;
    let ticket = Ticket {
        room: s.room.clone(),
        identity: "helper-1".into(),
        kind: "standard",
        ..Default::default()
    };
    let helper = Person::join(&s.venue, &ticket).await?;
    helper.set("lk.agent.state", "speaking").await?;
    helper.sends_text("call-history", r#"{"type":"stage","stage":"greeting"}"#).await?;
    helper.set("lk.agent.state", "listening").await?;
    announced().await;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!(r["outcomes"]["final_stage"], "greeting");
    assert_eq!(role(&r, "helper-1"), "agent");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn listeners_begin_no_call_and_hold_none_open() -> Result<()> {
    let mut s = Scene::with_details(&[("CALL_HISTORY_LISTENER_IDENTITIES", "boss-*")]).await?;
    let caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    let _supervisor = s.granted("supervisor", listener()).await?;
    let _recorder = s.granted("tape", VideoGrants { recorder: true, ..bot() }).await?;
    let boss = s.web_in(&s.room, "boss-1").await?;
    agent.says("hello", WORD).await?;
    announced().await;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!(r["phone_number"], "alice");
    for (identity, due) in
        [("supervisor", "listener"), ("tape", "none"), ("boss-1", "listener"), ("alice", "caller")]
    {
        assert_eq!(role(&r, identity), due, "{identity}");
    }
    drop(boss);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_who_types_was_a_caller_since_its_join() -> Result<()> {
    let mut s = Scene::with_details(&[]).await?;
    s.venue.rooms().create_room(&s.room, Default::default()).await?;
    s.venue.dispatch(&s.name, &s.room, "").await?;
    let grants = VideoGrants {
        can_publish: Some(false),
        can_publish_data: Some(true),
        can_update_own_metadata: Some(true),
        ..Default::default()
    };
    let chats = s.granted("types", grants).await?;
    s.worker.logs("joined").await?;
    let _agent = s.agent().await?;
    announced().await;
    assert_eq!(s.worker.count("call started", &s.room), 0);
    chats.sends_text("lk.chat", "is anybody there").await?;
    s.worker.logs("call started").await?;
    chats.leaves(DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?;
    assert_eq!(
        (role(&r, "types"), &r["metrics"]["total_user_utterances"]),
        (&json!("caller"), &json!(1))
    );
    assert!(r["duration_seconds"].as_f64().unwrap() > 3.0, "{r}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_without_an_agent_gives_no_record_where_that_is_asked_for() -> Result<()> {
    let mut s = Scene::with_details(&[("CALL_HISTORY_REQUIRE_AGENT", "true")]).await?;
    let caller = s.web("alice").await?;
    s.worker.logs("call started").await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.worker.logs("call ended without an agent, not reported (CALL_HISTORY_REQUIRE_AGENT)").await?;
    s.worker.stops().await?;
    assert!(s.endpoint.posts().is_empty());
    Ok(())
}
