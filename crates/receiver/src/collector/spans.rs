//! From a span to its facts.
//!
//! Names of attributes changed with the versions, and Node gives the delays of a caller's turn in milliseconds.

use serde_json::Value as Json;

use super::{
    facts::{Span, ToolCall},
    otlp::{At, Budget, attributes, json},
    wire::{self, Field},
};

/// Characters of a text that facts keep: the whole stays in the upload.
const LONGEST: usize = 2_000;
const NANOS: u64 = 1_000_000;

pub(super) fn read(at: At<'_>, budget: &mut Budget) -> Span {
    let span = at.record;
    let text = |n| wire::field(span, n).and_then(Field::text).unwrap_or_default();
    let time = |n| millis(wire::field(span, n).and_then(Field::number).unwrap_or_default());
    let mut read = Span {
        id: hex(wire::field(span, 2)),
        parent: hex(wire::field(span, 4)),
        name: cut(text(5)),
        from: time(7),
        to: time(8),
        ..Span::default()
    };
    // Milliseconds in a second, where the agent counts in them.
    let of_node = attributes(at.resource, 1)
        .any(|(key, value)| key == "telemetry.sdk.language" && text_of(value) == Some("nodejs"));
    let unit = if of_node && read.name == "user_turn" { 0.001 } else { 1.0 };
    let mut tool = ToolCall::default();
    for (key, value) in attributes(span, 9) {
        if !budget.take() {
            break;
        }
        // Before 1.7.0 the names had no `pii`.
        let key = key.strip_prefix("lk.pii.").or(key.strip_prefix("lk.")).unwrap_or(key);
        let mut value = || json(value, budget);
        match key {
            "speech_id" => read.speech = string(&value()),
            "e2e_latency" => read.e2e_latency = seconds(&value(), 1.0),
            "transcription_delay" => read.transcription_delay = seconds(&value(), unit),
            "end_of_turn_delay" => read.end_of_turn_delay = seconds(&value(), unit),
            "response.ttft" | "response.ttfb" => read.first = seconds(&value(), 1.0),
            "interrupted" => read.interrupted = value().as_bool(),
            "interruption.source" => read.interruption_source = string(&value()),
            "playout.position" => read.played = seconds(&value(), 1.0),
            "gen_ai.request.model" => read.model = string(&value()),
            "gen_ai.provider.name" => read.provider = string(&value()),
            "close_reason" => read.close_reason = string(&value()),
            "function_tool.name" => tool.name = string(&value()).unwrap_or_default(),
            "function_tool.arguments" => tool.arguments = string(&value()),
            "function_tool.output" => tool.output = string(&value()),
            "function_tool.is_error" => tool.failed = value().as_bool().unwrap_or_default(),
            _ => {}
        }
    }
    if read.name == "function_tool" {
        read.tool = Some(tool);
    }
    read
}

/// The phone number and the name of the room that a span may say.
pub(super) fn about_call(span: &[u8]) -> (Option<&str>, Option<&str>) {
    let (mut number, mut room) = (None, None);
    for (key, value) in attributes(span, 9) {
        match key {
            "lk.pii.sip.phoneNumber" | "lk.sip.phoneNumber" => number = text_of(value),
            "lk.pii.room_name" | "lk.room_name" => room = text_of(value),
            _ => {}
        }
    }
    (number, room)
}

fn text_of(value: &[u8]) -> Option<&str> {
    wire::field(value, 1)?.text()
}

pub(super) fn millis(nanos: u64) -> i64 {
    i64::try_from(nanos / NANOS).unwrap_or_default()
}

fn hex(id: Option<Field<'_>>) -> String {
    let bytes = id.and_then(Field::bytes).unwrap_or_default();
    bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

fn seconds(value: &Json, unit: f64) -> Option<f64> {
    let seconds = value.as_f64()? * unit;
    // Longer than any call: no length of time.
    (0.0..86_400.0).contains(&seconds).then_some(seconds)
}

fn string(value: &Json) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(cut)
}

pub(super) fn cut(text: &str) -> String {
    text.chars().filter(|c| *c != '\0').take(LONGEST).collect()
}
