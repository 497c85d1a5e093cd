//! What the agent's answers waited for, where the agent reports it.

use serde_json::Value as Json;

use super::{
    super::text,
    moments::{Moments, instant},
};
use crate::side::Side;

/// Units of the picture of the slowest answer.
const WIDTH: f64 = 200.0;

/// A part of a wait, drawn.
pub(super) struct Part {
    pub(super) class: &'static str,
    pub(super) x: String,
    pub(super) width: String,
}

pub(super) struct Answer {
    pub(super) href: String,
    pub(super) time: String,
    pub(super) wait: String,
    pub(super) transcript: String,
    pub(super) end_of_turn: String,
    pub(super) first_token: String,
    pub(super) first_sound: String,
    pub(super) parts: Vec<Part>,
    /// Where the measured wait ends in the picture.
    pub(super) end: String,
}

struct Component<'a> {
    by_agent: bool,
    at: f64,
    json: &'a Json,
}

impl Component<'_> {
    fn seconds(&self, key: &str) -> Option<f64> {
        self.json[key].as_f64()
    }
}

/// Answers whose parts are known.
pub(super) fn of(record: &Json, moments: &Moments) -> Vec<Answer> {
    let start = instant(&record["start_time"]).unwrap_or_default();
    let components = record.pointer("/details/latency/components").and_then(Json::as_array);
    let component = |json| {
        let json: &Json = json;
        let at = instant(&json["from"])?.saturating_sub(start) as f64 / 1_000.0;
        Some(Component { by_agent: json["by"] == "agent", at, json })
    };
    let components: Vec<Component<'_>> =
        components.into_iter().flatten().filter_map(component).collect();
    let waits = moments.waits.iter().enumerate();
    let agent = waits.filter(|(_, wait)| wait.by == Side::Agent);
    let mut found = vec![];
    for (at, wait) in agent {
        let Some((from, to)) = wait.span else { continue };
        // The caller's turn that ends where the wait begins, and the agent's that begins where it ends.
        let before = components.iter().filter(|c| !c.by_agent && c.at <= from + 0.05);
        let before = before.max_by(|a, b| a.at.total_cmp(&b.at));
        let after =
            components.iter().filter(|c| c.by_agent && c.at >= from - 0.05 && c.at <= to + 1.0);
        let after = after.min_by(|a, b| (a.at - to).abs().total_cmp(&(b.at - to).abs()));
        if before.is_some() || after.is_some() {
            found.push((at, from, wait.seconds, before, after));
        }
    }
    let longest = found.iter().map(|(_, _, seconds, ..)| *seconds).fold(0.1, f64::max);
    let scale = WIDTH / longest;
    let answer = |(at, from, seconds, before, after): &(
        usize,
        f64,
        f64,
        Option<&Component<'_>>,
        Option<&Component<'_>>,
    )| {
        let user = |key| before.and_then(|c| c.seconds(key));
        let agent = |key| after.and_then(|c| c.seconds(key));
        let (transcript, end_of_turn) = (user("transcription_delay"), user("end_of_turn_delay"));
        let (token, sound) = (agent("llm_first_token"), agent("tts_first_byte"));
        let mut parts = vec![];
        let mut part = |class, from: f64, seconds: Option<f64>| {
            let Some(seconds) = seconds else { return from };
            let (x, end) = ((from * scale).min(WIDTH), ((from + seconds) * scale).min(WIDTH));
            parts.push(Part {
                class,
                x: format!("{x:.1}"),
                width: format!("{:.1}", (end - x).max(0.5)),
            });
            from + seconds
        };
        let turn = part("turn", 0.0, end_of_turn);
        part("words", 0.0, transcript);
        let token_end = part("llm", turn, token);
        part("tts", token_end, sound);
        let written = |value: Option<f64>| value.map_or(text::NOTHING.into(), text::seconds);
        Answer {
            href: format!("#wait-{at}"),
            time: text::moment(*from),
            wait: text::seconds(*seconds),
            transcript: written(transcript),
            end_of_turn: written(end_of_turn),
            first_token: written(token),
            first_sound: written(sound),
            parts,
            end: format!("{:.1}", (seconds * scale).min(WIDTH) - 1.0),
        }
    };
    found.iter().map(answer).collect()
}
