//! Logs: one line for each fact, JSON for machines, readable on a terminal.
//!
//! Never in a log: phone numbers, what was said, metadata, attribute values, secrets. Libraries
//! log below `warn` only when asked to: some of them print what participants send.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::LogFormat;

/// What is shown unless `RUST_LOG` says otherwise.
const DEFAULT_FILTER: &str = "warn,call_history=info,livekit=off,livekit_signaling=off,\
    livekit_data_stream=off,livekit_datatrack=off,libwebrtc=off,str0m=off";

/// Starts logging; to be called once.
pub(crate) fn init(format: Option<LogFormat>) {
    let filter = match std::env::var("RUST_LOG") {
        // A bare level means ours; a full filter is taken as it is.
        Ok(level) if !level.is_empty() && !level.contains(['=', ',']) => {
            EnvFilter::new(format!("{DEFAULT_FILTER},call_history={level}"))
        }
        Ok(filter) if !filter.is_empty() => EnvFilter::new(filter),
        _ => EnvFilter::new(DEFAULT_FILTER),
    };
    let registry = tracing_subscriber::registry().with(filter);
    let terminal = std::io::stdout().is_terminal();
    let format = format.unwrap_or(if terminal { LogFormat::Pretty } else { LogFormat::Json });
    // An error means that a subscriber is there already.
    let _ = match format {
        LogFormat::Json => {
            let json = fmt::layer().json().flatten_event(true).with_current_span(false);
            registry.with(json.with_span_list(false)).try_init()
        }
        LogFormat::Pretty => {
            registry.with(fmt::layer().compact().with_ansi(terminal).with_target(false)).try_init()
        }
    };
}

/// A room's name as it may be logged: SIP rooms often carry the caller's number, of which only the
/// last two digits are shown.
pub(crate) fn masked(name: &str) -> String {
    /// Shorter runs of digits are dates, counters, ids.
    const NUMBER: usize = 7;
    let mut out = String::with_capacity(name.len());
    let mut digits = String::new();
    // Digits, and what stands between the digits of a number as people write it.
    let mut run = String::new();
    for c in name.chars().chain(['\n']) {
        if c.is_ascii_digit() {
            digits.push(c);
            run.push(c);
            continue;
        }
        if !digits.is_empty() && matches!(c, '-' | '.' | ' ' | '(' | ')' | '/') {
            run.push(c);
            continue;
        }
        let rest = run.trim_end_matches(|c: char| !c.is_ascii_digit()).len();
        if digits.len() >= NUMBER && !is_date(&run[..rest]) {
            out.push('…');
            out.push_str(&digits[digits.len() - 2..]);
            out.push_str(&run[rest..]);
        } else {
            out.push_str(&run);
        }
        digits.clear();
        run.clear();
        out.push(c);
    }
    out.pop();
    out
}

/// `2026-11-23`: eight digits, but nobody's number.
fn is_date(text: &str) -> bool {
    let parts: Vec<usize> = text.split('-').map(str::len).collect();
    parts == [4, 2, 2]
}

#[cfg(test)]
mod tests {
    use super::masked;

    #[test]
    fn phone_numbers_in_room_names_are_masked() {
        for (name, shown) in [
            ("twilio-+15551234567-a1", "twilio-+…67-a1"),
            ("room-42", "room-42"),
            ("2026-11-23", "2026-11-23"),
            ("call +1 (555) 123-4567 x", "call +…67 x"),
            ("+1-555-123-4567", "+…67"),
            ("a-12-b-34", "a-12-b-34"),
            ("15551234567", "…67"),
            ("", ""),
        ] {
            assert_eq!(masked(name), shown);
        }
    }
}
