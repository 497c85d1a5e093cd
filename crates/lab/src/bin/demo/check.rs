//! Checks the record against the script.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::script::{FIELDS, NUMBER, ROOM, STAGES, Said, Who};

pub(crate) fn record(r: &Value, said: &[Said]) -> Result<()> {
    let count = |who| said.iter().filter(|s| s.who == who).count();
    let longest = |who| {
        let words = said.iter().filter(|s| s.who == who);
        words.map(|s| s.text.split_whitespace().count()).max().unwrap_or(0)
    };
    let stages: Vec<&Value> =
        r["stage_timeline"].as_array().map_or(vec![], |s| s.iter().map(|s| &s["stage"]).collect());
    let mut wrong = vec![];
    for (what, found, due) in [
        ("phone_number", &r["phone_number"], json!(NUMBER)),
        ("room_name", &r["room_name"], json!(ROOM)),
        ("call_type", &r["call_type"], json!("inbound")),
        ("status", &r["status"], json!("completed")),
        ("termination_reason", &r["termination_reason"], Value::Null),
        ("agent_config.business_type", &r["agent_config"]["business_type"], json!("restaurant")),
        ("user utterances", &r["metrics"]["total_user_utterances"], json!(count(Who::Caller))),
        ("agent utterances", &r["metrics"]["total_agent_utterances"], json!(count(Who::Agent))),
        ("longest of user", &r["metrics"]["longest_user_utterance"], json!(longest(Who::Caller))),
        ("longest of agent", &r["metrics"]["longest_agent_utterance"], json!(longest(Who::Agent))),
        ("silences", &r["metrics"]["silence_count"], json!(0)),
        ("interruptions", &r["metrics"]["interruption_count"], json!(0)),
        ("fields", &r["outcomes"]["fields_collected"], json!(FIELDS)),
        ("completion_rate", &r["outcomes"]["completion_rate"], json!(1.0)),
        ("final_stage", &r["outcomes"]["final_stage"], json!("confirmation")),
        ("successful", &r["outcomes"]["successful"], json!(true)),
        ("stages", &json!(stages), json!(STAGES)),
    ] {
        if *found != due {
            wrong.push(format!("{what} is {found}, not {due}"));
        }
    }
    let spoken = match (said.first(), said.last()) {
        (Some(a), Some(b)) => (b.to - a.from).as_secs_f64(),
        _ => 0.0,
    };
    let duration = r["duration_seconds"].as_f64().unwrap_or(-1.0);
    if !(spoken..spoken + 3.0).contains(&duration) {
        wrong.push(format!("duration_seconds is {duration}, the talk took {spoken:.3}"));
    }
    if wrong.is_empty() { Ok(()) } else { bail!("the record is not right: {}", wrong.join("; ")) }
}
