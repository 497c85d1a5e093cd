//! A call in a list, with its values as they are written.

use super::{
    links,
    reader::Reader,
    shape::Shape,
    text::{self, NOTHING},
    zone::Zone,
};
use crate::{calls::Listed, fields::FIELDS, store::Value};

/// Values of a call by the names of their fields.
pub(super) struct Values<'a>(pub(super) &'a [Value]);

impl Values<'_> {
    fn of(&self, name: &str) -> Option<&Value> {
        let at = FIELDS.iter().position(|field| field.name == name)?;
        self.0.get(at)
    }

    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.of(name)? {
            Value::Text(text) => text.as_deref().filter(|text| !text.is_empty()),
            _ => None,
        }
    }

    pub(super) fn int(&self, name: &str) -> Option<i64> {
        match self.of(name)? {
            Value::Int(n) => *n,
            _ => None,
        }
    }

    pub(super) fn real(&self, name: &str) -> Option<f64> {
        match self.of(name)? {
            Value::Real(n) => *n,
            #[allow(clippy::cast_precision_loss)]
            Value::Int(n) => n.map(|n| n as f64),
            _ => None,
        }
    }
}

pub(super) struct Row {
    pub(super) href: String,
    pub(super) time: String,
    pub(super) instant: String,
    pub(super) number: String,
    pub(super) direction: String,
    pub(super) duration: String,
    pub(super) status: String,
    pub(super) tone: &'static str,
    pub(super) reason: Option<String>,
    pub(super) ended_by: Option<String>,
    pub(super) business: Option<String>,
    pub(super) stage: Option<String>,
    pub(super) p50: String,
    pub(super) p95: String,
    pub(super) interruptions: String,
    pub(super) silences: String,
    pub(super) seen: &'static str,
    pub(super) seen_tone: &'static str,
    pub(super) shape: Option<Shape>,
    /// The shape in words.
    pub(super) talk: String,
}

/// Calls of one day.
pub(super) struct Day {
    pub(super) name: String,
    pub(super) rows: Vec<Row>,
}

impl Row {
    pub(super) fn new(call: &Listed, shape: Option<Shape>, reader: &Reader) -> Self {
        let values = Values(call.values());
        let start = values.int("start_time").unwrap_or_default();
        let status = values.text("status").unwrap_or("unknown");
        let seconds = |name| values.real(name).map_or(NOTHING.into(), text::seconds);
        let count = |name| values.int(name).map_or(NOTHING.into(), text::count);
        let owned = |name| values.text(name).map(text::words);
        let (seen, seen_tone) = match (values.int("complete"), values.int("gaps")) {
            (Some(0), Some(1..)) => ("with gaps", "warn"),
            (Some(0), _) => ("in part", "warn"),
            (Some(_), _) => ("whole", "dim"),
            (None, _) => (NOTHING, "dim"),
        };
        Self {
            href: links::of_call(values.text("call_id").unwrap_or_default()),
            time: reader.zone.time(start),
            instant: record::Moment::from_millis(start).to_rfc3339(),
            number: text::number(values.text("phone_number").unwrap_or("unknown"), reader.numbers),
            direction: values.text("call_type").unwrap_or(NOTHING).into(),
            duration: values.real("duration_seconds").map_or(NOTHING.into(), text::duration),
            status: text::words(status),
            tone: tone(status),
            reason: owned("termination_reason"),
            ended_by: values.text("ended_by").map(ended_by),
            business: owned("business_type"),
            stage: owned("final_stage"),
            p50: seconds("agent_response.p50"),
            p95: seconds("agent_response.p95"),
            interruptions: count("interruption_count"),
            silences: count("silence_count"),
            seen,
            seen_tone,
            shape,
            talk: talk(&values),
        }
    }
}

fn talk(values: &Values<'_>) -> String {
    let side = |name, field| {
        let seconds = values.real(field)?;
        Some(format!("{name} {}", text::duration(seconds)))
    };
    let sides = [side("caller spoke", "user_seconds"), side("agent spoke", "agent_seconds")];
    let sides: Vec<String> = sides.into_iter().flatten().collect();
    if sides.is_empty() { "who spoke when".into() } else { sides.join(", ") }
}

/// A class of the style sheet.
pub(super) fn tone(status: &str) -> &'static str {
    match status {
        "completed" => "ok",
        "failed" | "dropped" => "bad",
        _ => "dim",
    }
}

/// The same where failed and dropped calls are told apart.
pub(super) fn tone_of_end(status: &str) -> &'static str {
    if status == "dropped" { "warn" } else { tone(status) }
}

/// `details.ended_by` in a few words.
pub(super) fn ended_by(who: &str) -> String {
    match who {
        "caller" => "ended by the caller".into(),
        "agent" => "ended by the agent".into(),
        "room" => "the room was closed".into(),
        "network" => "a connection broke".into(),
        "worker" => "the worker stopped".into(),
        "unknown" => "not known who ended it".into(),
        other => text::words(other),
    }
}

/// The same list by days. Rows are in the order of their start.
pub(super) fn by_day(rows: Vec<(i64, Row)>, zone: Zone) -> Vec<Day> {
    let mut days: Vec<Day> = vec![];
    for (start, row) in rows {
        let name = zone.long_day(start);
        match days.last_mut() {
            Some(day) if day.name == name => day.rows.push(row),
            _ => days.push(Day { name, rows: vec![row] }),
        }
    }
    days
}
