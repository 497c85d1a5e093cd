//! What stands beside the story of a call: how it was seen, what came of it, who took part, which models.

use serde_json::Value as Json;

use super::{
    super::{
        reader::Reader,
        text::{self, NOTHING},
        zone::Zone,
    },
    moments::instant,
};

/// A name and its value.
pub(super) struct Fact {
    pub(super) name: String,
    pub(super) value: String,
    /// A class of the style sheet.
    pub(super) tone: &'static str,
}

/// Facts under a title.
pub(super) struct Card {
    pub(super) title: &'static str,
    pub(super) id: &'static str,
    pub(super) facts: Vec<Fact>,
    /// Below the facts.
    pub(super) note: &'static str,
}

/// Someone in the room.
pub(super) struct Person {
    pub(super) identity: String,
    pub(super) role: String,
    pub(super) number: String,
    pub(super) joined: String,
    pub(super) left: String,
    pub(super) reason: String,
}

pub(super) struct Transfer {
    pub(super) to: String,
    pub(super) dialled: String,
    pub(super) answered: String,
    pub(super) left: String,
}

/// How much of the call was seen, in a few words, and how good that is.
pub(super) fn badge(record: &Json) -> Option<(String, &'static str)> {
    let observation = &record["details"]["observation"];
    let gaps = observation["gaps"].as_array()?;
    let length = record["duration_seconds"].as_f64().unwrap_or_default();
    let missing: f64 = gaps
        .iter()
        .filter_map(|gap| Some(instant(&gap["to"])?.saturating_sub(instant(&gap["from"])?) as f64))
        .sum::<f64>()
        / 1_000.0;
    let late = observation["late_seconds"].as_f64().unwrap_or_default().max(0.0);
    let seen = if length > 0.0 { 1.0 - ((missing + late) / length).clamp(0.0, 1.0) } else { 1.0 };
    let estimated = |key: &str| observation[key] == "estimated";
    if gaps.is_empty()
        && seen > 0.995
        && !estimated("start_time_basis")
        && !estimated("end_time_basis")
    {
        return Some(("100 %".into(), "ok"));
    }
    Some((text::percent(seen), "warn"))
}

pub(super) fn cards(record: &Json) -> Vec<Card> {
    let cards = [evidence(record), outcome(record), agent(record), models(record), tools(record)];
    cards.into_iter().flatten().filter(|card| !card.facts.is_empty()).collect()
}

fn fact(name: &str, value: impl Into<String>) -> Fact {
    Fact { name: name.into(), value: value.into(), tone: "" }
}

fn toned(name: &str, value: impl Into<String>, tone: &'static str) -> Fact {
    Fact { name: name.into(), value: value.into(), tone }
}

fn tier(tier: &str) -> &str {
    match tier {
        "feed" => "session feed",
        "items" => "the agent's items",
        "state" => "the agent's state",
        "rtvi" => "RTVI messages",
        "speakers" => "active speakers",
        "transcripts" => "transcripts",
        "typed" => "typed texts",
        "sound" => "sound only",
        "none" => "no signal",
        other => other,
    }
}

fn evidence(record: &Json) -> Option<Card> {
    let details = &record["details"];
    let (title, id) = ("Where the numbers come from", "evidence");
    if !details.is_object() {
        let note = "This record has no details: which signals its numbers are based on is not known. \
                    CALL_HISTORY_DETAILS=true at the worker adds them.";
        let facts = vec![fact("details", "not sent")];
        return Some(Card { title, id, facts, note });
    }
    let (observation, evidence) = (&details["observation"], &details["evidence"]);
    let mut facts = vec![];
    for (name, side, what) in [
        ("caller's speech", "user", "speech"),
        ("agent's speech", "agent", "speech"),
        ("caller's words", "user", "words"),
        ("agent's words", "agent", "words"),
    ] {
        if let Some(signal) = evidence[side][what].as_str() {
            facts.push(toned(name, tier(signal), if signal == "none" { "warn" } else { "" }));
        }
    }
    for (name, key) in [("start", "start_time_basis"), ("end", "end_time_basis")] {
        if let Some(basis) = observation[key].as_str() {
            facts.push(toned(name, basis, if basis == "observed" { "" } else { "warn" }));
        }
    }
    if let Some(gaps) = observation["gaps"].as_array() {
        let text = if gaps.is_empty() { "none".into() } else { gaps.len().to_string() };
        facts.push(toned("gaps of observation", text, if gaps.is_empty() { "" } else { "warn" }));
    }
    if let Some(late) = observation["late_seconds"].as_f64().filter(|late| *late > 0.0) {
        facts.push(fact("observer came late by", format!("{} s", text::seconds(late))));
    }
    if let Some(turns) = observation["turns_from_history"].as_i64().filter(|n| *n > 0) {
        facts.push(fact("turns reported afterwards", text::count(turns)));
    }
    if let Some(by) = observation["discovered_by"].as_str() {
        facts.push(fact("room known by", text::words(by)));
    }
    if observation["recovered"] == true {
        facts.push(toned("worker", "was restarted in the call", "warn"));
    }
    if details["reduced"] == true {
        facts.push(toned("record", "cut to the endpoint's size", "warn"));
    }
    Some(Card { title, id, facts, note: "" })
}

fn outcome(record: &Json) -> Option<Card> {
    let outcomes = &record["outcomes"];
    let mut facts = vec![];
    facts.push(match outcomes["successful"].as_bool() {
        Some(true) => toned("successful", "yes", "ok"),
        Some(false) => toned("successful", "no", "bad"),
        None => toned("successful", "not reported", "dim"),
    });
    if let Some(rate) = outcomes["completion_rate"].as_f64() {
        facts.push(fact("completion", text::percent(rate)));
    }
    if let Some(stage) = outcomes["final_stage"].as_str() {
        facts.push(fact("last stage", text::words(stage)));
    }
    let fields = outcomes["fields_collected"].as_array().into_iter().flatten();
    let fields: Vec<String> = fields.filter_map(Json::as_str).map(text::words).collect();
    if !fields.is_empty() {
        facts.push(fact("collected", fields.join(", ")));
    }
    if let Some(notes) = outcomes["notes"].as_str() {
        facts.push(fact("notes", notes));
    }
    Some(Card { title: "Outcome", id: "outcome", facts, note: "" })
}

fn agent(record: &Json) -> Option<Card> {
    let config = &record["agent_config"];
    let mut facts = vec![];
    for (name, key) in [
        ("business type", "business_type"),
        ("language", "language"),
        ("speech to text", "stt_config_key"),
        ("language model", "llm_config_key"),
        ("voice", "tts_config_key"),
    ] {
        let value = config[key].as_str().unwrap_or(NOTHING);
        facts.push(fact(name, value));
    }
    let details = &record["details"];
    if let Some(profile) = details["profile"].as_str() {
        facts.push(fact("profile", profile));
    }
    if let Some(by) = details["answered_by"].as_str() {
        facts.push(fact("answered by", text::words(by)));
    }
    if let Some(errors) = details["errors"].as_i64().filter(|n| *n > 0) {
        facts.push(toned("errors of the agent", text::count(errors), "bad"));
    }
    for passed in details["handoffs"].as_array().into_iter().flatten() {
        let from = passed["from"].as_str().unwrap_or("start");
        let to = passed["to"].as_str().unwrap_or(NOTHING);
        facts.push(fact("handed on", format!("{from} → {to}")));
    }
    Some(Card { title: "Agent", id: "agent", facts, note: "" })
}

fn models(record: &Json) -> Option<Card> {
    let usage = record["details"]["usage"].as_array()?;
    let one = |usage: &Json| {
        let of = |key: &str| usage[key].as_str().unwrap_or_default();
        let used = |key: &str, unit: &str| {
            let n = usage[key].as_f64().filter(|n| *n > 0.0)?;
            #[allow(clippy::cast_possible_truncation)]
            Some(format!("{} {unit}", text::count(n.round() as i64)))
        };
        let used: Vec<String> = [
            used("input_tokens", "tokens in"),
            used("output_tokens", "out"),
            used("characters", "characters"),
            used("audio_seconds", "s of sound"),
        ]
        .into_iter()
        .flatten()
        .collect();
        let model = format!("{} {}", of("provider"), of("model"));
        let used = if used.is_empty() { String::new() } else { format!(": {}", used.join(", ")) };
        fact(&of("task").to_uppercase(), format!("{}{used}", model.trim()))
    };
    let facts = usage.iter().map(one).collect();
    Some(Card { title: "Models", id: "models", facts, note: "" })
}

fn tools(record: &Json) -> Option<Card> {
    let tools = record["details"]["tools"].as_array()?;
    let one = |tool: &Json| {
        let calls = tool["calls"].as_u64().unwrap_or_default();
        let failures = tool["failures"].as_u64().unwrap_or_default();
        let failed = if failures > 0 { format!(", {failures} failed") } else { String::new() };
        let name = tool["name"].as_str().unwrap_or(NOTHING);
        let value = format!("{}{failed}", text::counted(calls as usize, "call"));
        toned(name, value, if failures > 0 { "bad" } else { "" })
    };
    let facts = tools.iter().map(one).collect();
    Some(Card { title: "Tools", id: "tools", facts, note: "" })
}

fn clock(json: &Json, zone: Zone) -> String {
    instant(json).map_or(NOTHING.into(), |at| zone.time(at))
}

pub(super) fn people(record: &Json, reader: &Reader) -> Vec<Person> {
    let all = record["details"]["participants"].as_array().into_iter().flatten().take(100);
    let shown =
        |json: &Json| json.as_str().map_or(NOTHING.into(), |t| text::number(t, reader.numbers));
    let one = |person: &Json| Person {
        identity: shown(&person["identity"]),
        role: text::words(person["role"].as_str().unwrap_or(NOTHING)),
        number: shown(&person["phone_number"]),
        joined: clock(&person["joined_at"], reader.zone),
        left: if person["left_at"].is_null() {
            "stayed".into()
        } else {
            clock(&person["left_at"], reader.zone)
        },
        reason: person["disconnect_reason"]
            .as_str()
            .map_or(String::new(), |reason| text::words(reason).to_lowercase()),
    };
    all.map(one).collect()
}

pub(super) fn transfers(record: &Json, reader: &Reader) -> Vec<Transfer> {
    let all = record["details"]["transfers"].as_array().into_iter().flatten().take(100);
    let one = |transfer: &Json| {
        let to = transfer["phone_number"].as_str().or(transfer["identity"].as_str());
        Transfer {
            to: text::number(to.unwrap_or(NOTHING), reader.numbers),
            dialled: clock(&transfer["dialled_at"], reader.zone),
            answered: match transfer["answered_at"].is_null() {
                true => "nobody answered".into(),
                false => clock(&transfer["answered_at"], reader.zone),
            },
            left: clock(&transfer["left_at"], reader.zone),
        }
    };
    all.map(one).collect()
}
