//! The script of the call.

use std::time::Duration;

use anyhow::Result;
use lab::{agent::VoiceAgent, person::Person, server::Venue, worker::Worker};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::show::Show;

pub(crate) const ROOM: &str = "demo-restaurant";
pub(crate) const NUMBER: &str = "+15550123456";

const WORD: Duration = Duration::from_millis(280);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Caller,
    Agent,
}

/// One line of the script, with the time at which it was said.
#[derive(Clone, Debug)]
pub(crate) struct Said {
    pub(crate) who: Who,
    pub(crate) text: &'static str,
    pub(crate) from: Instant,
    pub(crate) to: Instant,
}

/// The speaker, the words, and the stage that the agent enters before them.
const LINES: &[(Who, &str, Option<&str>)] = &[
    (Who::Agent, "Luigi's, good evening. How can I help you?", Some("greeting")),
    (Who::Caller, "I'd like a table for tomorrow night.", None),
    (Who::Agent, "Gladly. For how many, and at what time?", Some("information_gathering")),
    (Who::Caller, "For four, at half past seven.", None),
    (Who::Agent, "Four at half past seven. Your name, please?", Some("confirmation")),
    (Who::Caller, "Mary Poppins.", None),
    (Who::Agent, "Thank you, it is booked. Goodbye!", None),
];

pub(crate) const STAGES: [&str; 3] = ["greeting", "information_gathering", "confirmation"];
pub(crate) const FIELDS: [&str; 3] = ["party_size", "time", "name"];

/// Holds the call; returns what was said.
pub(crate) async fn call(
    venue: &Venue,
    worker: &mut Worker,
    agent_name: &str,
    show: &mut Show,
) -> Result<Vec<Said>> {
    let caller = Person::phone(venue, ROOM, NUMBER, "ringing", true, &[agent_name]).await?;
    show.fact("a phone rings in room demo-restaurant");
    let mut agent = VoiceAgent::join(venue, ROOM, true).await?;
    worker.logs("joined").await?;
    show.fact("call-history         watches, hidden");
    caller.set("sip.callStatus", "active").await?;
    agent
        .publishes(&json!({
            "type": "agent_config", "stt_config_key": "deepgram", "llm_config_key": "openai-gpt4",
            "tts_config_key": "elevenlabs", "business_type": "restaurant", "language": "english",
        }))
        .await?;
    let mut said = vec![];
    for (who, text, stage) in LINES {
        sleep(Duration::from_millis(700)).await;
        if let Some(stage) = stage {
            agent.publishes(&json!({"type": "stage", "stage": stage})).await?;
        }
        let from = Instant::now();
        match who {
            Who::Agent => agent.says(text, WORD).await?,
            Who::Caller => agent.hears(&caller.identity, text, WORD).await?,
        }
        show.said(*who, text);
        said.push(Said { who: *who, text, from, to: Instant::now() });
    }
    agent
        .publishes(&json!({
            "type": "outcomes", "completion_rate": 1.0, "fields_collected": FIELDS,
            "successful": true,
        }))
        .await?;
    caller.hangs_up().await?;
    Ok(said)
}
