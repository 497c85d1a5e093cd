//! A scripted call, and the truth about it: what a record of the call must say.
//!
//! Prints `{"talking": ROOM}` when the talk begins, and `{"held": ROOM, "truth": {…}}` when the call is over.

use std::time::Duration;

use anyhow::Result;
use lab::{agent::VoiceAgent, person::Person};
use livekit::DisconnectReason;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::sleep;

use crate::people::{People, phone_number, print};

const WORD: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(700);
/// Over the five seconds from which a gap counts as a silence.
const SILENCE: Duration = Duration::from_millis(5800);
const RINGS: Duration = Duration::from_millis(1500);
/// A voice agent outlives its caller for a moment; an observer may ask it for its history.
const AGENT_STAYS: Duration = Duration::from_secs(4);

/// How a call ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Story {
    /// The phone hangs up.
    HungUp,
    /// The voice agent ends the call by deleting the room.
    Deleted,
    /// An outbound call that the callee declines.
    Rejected,
}

/// What happened. All times are Unix seconds.
#[derive(Debug, Serialize)]
struct Truth {
    phone_number: String,
    call_type: &'static str,
    started: f64,
    ended: f64,
    status: &'static str,
    termination_reason: Option<&'static str>,
    lines: Vec<Line>,
    stages: Vec<(&'static str, f64)>,
    /// How late the server may announce the end: it collects departures of people without a track.
    announced_within: f64,
    /// Gaps of five seconds or more.
    silences: usize,
    fields: &'static [&'static str],
}

#[derive(Debug, Serialize)]
struct Line {
    by_agent: bool,
    words: usize,
    from: f64,
    to: f64,
}

/// Whether the agent speaks, the words, the stage that begins before them, and the pause before them.
const LINES: [(bool, &str, Option<&str>, Duration); 7] = [
    (true, "Luigi's, good evening. How can I help you?", Some("greeting"), PAUSE),
    (false, "I'd like a table for tomorrow night.", None, PAUSE),
    (true, "Gladly. For how many, and at what time?", Some("information_gathering"), PAUSE),
    (false, "For four, at half past seven.", None, SILENCE),
    (true, "Four at half past seven. Your name, please?", Some("confirmation"), PAUSE),
    (false, "Mary Poppins.", None, PAUSE),
    (true, "Thank you, it is booked. Goodbye!", None, PAUSE),
];
const FIELDS: [&str; 3] = ["party_size", "time", "name"];

/// Holds a call that is observed by an agent of this name.
///
/// # Errors
/// If somebody cannot join, or the call cannot be held.
pub(crate) async fn call(
    people: &People,
    room: &str,
    story: Story,
    agent_name: &str,
) -> Result<()> {
    let (venue, number) = (&people.venue, phone_number(room));
    let inbound = story != Story::Rejected;
    let status = if inbound { "ringing" } else { "dialing" };
    let joins = now();
    let caller = Person::phone(venue, room, &number, status, inbound, &[agent_name]).await?;
    let mut agent = VoiceAgent::join(venue, room, true).await?;
    people.are_observed(room).await?;
    print(&json!({"talking": room}));
    let mut truth = Truth {
        phone_number: number,
        call_type: if inbound { "inbound" } else { "outbound" },
        started: joins,
        ended: 0.0,
        status: "completed",
        termination_reason: None,
        lines: vec![],
        stages: vec![],
        announced_within: if inbound { 0.0 } else { 3.0 },
        silences: 0,
        fields: &[],
    };
    if story == Story::Rejected {
        caller.set("sip.callStatus", "ringing").await?;
        sleep(RINGS).await;
        (truth.status, truth.termination_reason) = ("failed", Some("rejected"));
        truth.ended = now();
        caller.leaves(DisconnectReason::UserRejected).await?;
    } else {
        truth.started = now();
        caller.set("sip.callStatus", "active").await?;
        talk(&mut agent, &caller.identity, &mut truth).await?;
        truth.ended = now();
        if story == Story::HungUp {
            caller.hangs_up().await?;
        } else {
            people.api.delete_room(room).await?;
        }
    }
    print(&json!({"held": room, "truth": truth}));
    sleep(AGENT_STAYS).await;
    // Fails if the room is gone.
    let _ = agent.person.leaves(DisconnectReason::ClientInitiated).await;
    Ok(())
}

async fn talk(agent: &mut VoiceAgent, caller: &str, truth: &mut Truth) -> Result<()> {
    let config = json!({
        "type": "agent_config", "stt_config_key": "deepgram", "llm_config_key": "openai-gpt4",
        "tts_config_key": "elevenlabs", "business_type": "restaurant", "language": "english",
    });
    agent.publishes(&config).await?;
    for (by_agent, text, stage, pause) in LINES {
        sleep(pause).await;
        truth.silences += usize::from(pause == SILENCE);
        if let Some(stage) = stage {
            truth.stages.push((stage, now()));
            agent.publishes(&json!({"type": "stage", "stage": stage})).await?;
        }
        let from = now();
        let to = if by_agent {
            agent.says(text, WORD).await?;
            now()
        } else {
            agent.hears(caller, text, WORD).await?;
            agent.caller_stopped().unwrap_or_else(now)
        };
        let words = text.split_whitespace().count();
        truth.lines.push(Line { by_agent, words, from, to });
    }
    let outcomes = json!({
        "type": "outcomes", "completion_rate": 1.0, "fields_collected": FIELDS, "successful": true,
    });
    agent.publishes(&outcomes).await?;
    truth.fields = &FIELDS;
    // What is sent in the moment of the end may be lost with the room.
    sleep(PAUSE).await;
    Ok(())
}

/// Unix seconds.
fn now() -> f64 {
    chrono::Utc::now().timestamp_micros() as f64 / 1e6
}
