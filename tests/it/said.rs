//! What was said, typed, dialled; what metadata says of a call.

use livekit::DisconnectReason;
use livekit_protocol::agent::agent_session_event::{self as feed, Event};
use serde_json::json;

use super::*;

const DETAILS: (&str, &str) = ("CALL_HISTORY_DETAILS", "true");
const TRANSCRIPT: (&str, &str) = ("CALL_HISTORY_TRANSCRIPT", "true");

async fn scene(env: &[(&str, &str)]) -> Result<Scene> {
    Scene::at(Venue::from_env().await?, env).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_fails_for_good_fails_the_call() -> Result<()> {
    for (message, due) in [
        (
            "type='llm_error' error=APIError('down') recoverable=False",
            ("failed", Some("agent_error")),
        ),
        ("type='llm_error' error=APIError('down') recoverable=True", ("completed", None)),
    ] {
        let mut s = scene(&[DETAILS]).await?;
        let caller = s.web("alice").await?;
        let mut agent = s.agent().await?;
        agent.says("hello", WORD).await?;
        agent.hears("alice", "a table please", WORD).await?;
        agent.tells_event(Event::Error(feed::Error { message: message.into() })).await?;
        wait::journaled(&s, "\"kind\":\"error\"").await?;
        caller.leaves(DisconnectReason::ClientInitiated).await?;
        let r = s.record().await?;
        assert_eq!(verdict(&r), due, "{message}");
        assert_eq!(r["details"]["errors"], 1);
        let log = format!("{:?}", s.worker.log());
        assert!(!log.contains("APIError"), "an error's text in the log");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_speaks_again_after_an_error_has_recovered() -> Result<()> {
    let mut s = scene(&[DETAILS]).await?;
    let caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    let message = "recoverable=False".to_owned();
    agent.tells_event(Event::Error(feed::Error { message })).await?;
    // Its speech is later than the error's arrival.
    wait::journaled(&s, "\"kind\":\"error\"").await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    agent.says("I am back", WORD).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    assert_eq!(verdict(&s.record().await?), ("completed", None));
    Ok(())
}

/// An agent begins to speak, in a journal.
const SPEAKING: &str = "\"lk.agent.state\":\"speaking\"";

#[tokio::test(flavor = "multi_thread")]
async fn a_text_on_two_channels_is_one_turn_with_an_answer_time() -> Result<()> {
    let mut s = scene(&[DETAILS, TRANSCRIPT]).await?;
    let caller = s.web("alice").await?;
    let mut agent = VoiceAgent::join(&s.venue, &s.room, false).await?;
    agent.says("hello how can I help", WORD).await?;
    wait::journaled(&s, SPEAKING).await?;
    let turn = tokio::time::Instant::now();
    caller.sends_text("lk.chat", "two tickets").await?;
    caller.me().send_chat_message("two tickets".into(), None, None).await?;
    wait::journaled(&s, "\"what\":\"chat\"").await?;
    tokio::time::sleep(Duration::from_millis(900)).await;
    agent.says("here they are", WORD).await?;
    wait::journaled_times(&s, SPEAKING, 2).await?;
    let turn = turn.elapsed().as_secs_f64();
    caller.dials("42#").await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?;
    let m = &r["metrics"];
    assert_eq!((&m["total_user_utterances"], &m["longest_user_utterance"]), (&json!(1), &json!(2)));
    let answered = m["average_agent_response_time"].as_f64().unwrap();
    assert!((0.8..turn).contains(&answered), "{answered} of {turn} s");
    let lines = r["details"]["transcript"].as_array().unwrap();
    let kinds: Vec<_> = lines.iter().map(|l| (l["kind"].as_str(), l["text"].as_str())).collect();
    assert_eq!(kinds[1], (Some("typed"), Some("two tickets")), "{kinds:?}");
    assert_eq!(kinds[3], (Some("dialled"), Some("42#")), "{kinds:?}");
    assert_eq!(r["details"]["timeline"]["keyed"].as_array().map(Vec::len), Some(4));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn digits_and_texts_stay_out_of_records_without_a_transcript() -> Result<()> {
    let mut s = scene(&[DETAILS, ("CALL_HISTORY_KEEP_JOURNALS", "true")]).await?;
    let caller = s.web("alice").await?;
    let _agent = s.agent().await?;
    caller.sends_text("lk.chat", "my secret text").await?;
    caller.dials("7391").await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?.to_string();
    s.worker.logs("delivered").await?;
    let journals = s.data.path().join("data/journals");
    let mut kept = String::new();
    for entry in std::fs::read_dir(journals)? {
        kept.push_str(&std::fs::read_to_string(entry?.path())?);
    }
    for text in [&r, &kept] {
        assert!(!text.contains("secret text"), "typed text");
        assert!(!text.contains("\"digit\""), "dialled digits");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_the_dispatch_names_number_and_direction_of_a_hidden_caller() -> Result<()> {
    let keys = ("CALL_HISTORY_METADATA_KEYS", "customer_id,campaign_id");
    let mut s = scene(&[DETAILS, keys]).await?;
    s.venue.rooms().create_room(&s.room, Default::default()).await?;
    let metadata = json!({
        "phone_number": "+15550190201", "call_type": "Outbound", "customer_id": 7, "prompt": "p",
    });
    s.venue.dispatch(&s.name, &s.room, &metadata.to_string()).await?;
    s.worker.logs("joined").await?;
    let mut agent = s.agent().await?;
    let caller = Person::phone(&s.venue, &s.room, "anonymous", "active", true, &[]).await?;
    s.worker.logs("call started").await?;
    agent.says("hello", WORD).await?;
    caller.hangs_up().await?;
    let r = s.record().await?;
    assert_eq!((&r["phone_number"], &r["call_type"]), (&json!("+15550190201"), &json!("outbound")));
    assert_eq!(r["details"]["metadata"], json!({"customer_id": 7}));
    assert_eq!(r["details"]["phone"]["number"], Value::Null);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opt_out_fails_closed() -> Result<()> {
    for metadata in [
        r#"{"opt_out_sensitive_data":"true"}"#,
        r#""{\"opt_out_sensitive_data\":1}""#,
        "opt_out_sensitive_data",
    ] {
        let mut s = scene(&[("CALL_HISTORY_KEEP_JOURNALS", "true")]).await?;
        s.venue.rooms().create_room(&s.room, Default::default()).await?;
        s.venue.dispatch(&s.name, &s.room, metadata).await?;
        s.worker.logs("joined").await?;
        let caller = s.web_in(&s.room, "alice").await?;
        s.worker.logs("call started").await?;
        caller.leaves(DisconnectReason::ClientInitiated).await?;
        s.worker.logs("call ended; opted out of recording, nothing is stored or sent").await?;
        let warned = |l: &Value| {
            l["message"].as_str().is_some_and(|m| m.starts_with("opted out of recording"))
        };
        assert_eq!(s.worker.log().iter().filter(|l| warned(l)).count(), 1, "{metadata}");
        s.worker.stops().await?;
        assert!(s.endpoint.posts().is_empty(), "{metadata}");
    }
    Ok(())
}
