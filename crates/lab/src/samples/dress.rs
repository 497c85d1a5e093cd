//! What a business adds to a call: its type, stages and outcome. Invented.

use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

use super::Plan;

struct Business {
    name: &'static str,
    model: &'static str,
    stages: [&'static str; 3],
    fields: [&'static str; 3],
}

const BUSINESSES: [(u32, Business); 4] = [
    (
        5,
        Business {
            name: "restaurant",
            model: "openai-gpt4",
            stages: ["greeting", "information_gathering", "confirmation"],
            fields: ["party_size", "time", "name"],
        },
    ),
    (
        3,
        Business {
            name: "clinic",
            model: "anthropic-sonnet",
            stages: ["greeting", "identification", "rescheduling"],
            fields: ["date_of_birth", "appointment", "new_time"],
        },
    ),
    (
        2,
        Business {
            name: "hotel",
            model: "openai-gpt4",
            stages: ["greeting", "offer", "booking"],
            fields: ["arrival", "departure", "name"],
        },
    ),
    (
        2,
        Business {
            name: "delivery",
            model: "openai-gpt4",
            stages: ["greeting", "lookup", "resolution"],
            fields: ["parcel", "address", "new_time"],
        },
    ),
];

pub(super) fn dress(record: &mut Value, plan: &Plan, chance: &mut StdRng) {
    let business = BUSINESSES.choose_weighted(chance, |(weight, _)| *weight).map(|(_, b)| b);
    let business = business.unwrap_or(&BUSINESSES[0].1);
    record["agent_config"] = json!({
        "stt_config_key": "deepgram", "llm_config_key": business.model, "tts_config_key": "elevenlabs",
        "business_type": business.name, "language": "english",
    });
    let speech = record["details"]["timeline"]["speech"].as_array();
    let turns: Vec<Value> = speech
        .into_iter()
        .flatten()
        .filter(|span| span["by"] == "agent")
        .map(|span| span["from"].clone())
        .collect();
    let completed = record["status"] == "completed";
    // How far the call came: all stages, or only some.
    let far = if completed && chance.random_bool(0.86) { 3 } else { chance.random_range(1..3) };
    let far = far.min(turns.len());
    let stages: Vec<Value> = (0..far)
        .map(|n| json!({"stage": business.stages[n], "timestamp": turns[n * turns.len() / far]}))
        .collect();
    let note = format!("A sample, made from tests/journals/{}.jsonl.", plan.journal);
    let notes = record["outcomes"]["notes"].as_str();
    let rate = [0.0, 0.333, 0.667, 1.0][far];
    record["outcomes"] = json!({
        "completion_rate": rate,
        "fields_collected": business.fields[..far],
        "final_stage": far.checked_sub(1).map(|last| business.stages[last]),
        "successful": if turns.is_empty() { Value::Null } else { json!(completed && far == 3) },
        "notes": notes.map_or_else(|| note.clone(), |notes| format!("{note} {notes}")),
    });
    record["stage_timeline"] = stages.into();
}
