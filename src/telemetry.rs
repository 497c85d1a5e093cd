//! Logs: one line for each fact, as JSON or readable on a terminal.
//!
//! Logs must not hold phone numbers, spoken text, metadata, attribute values or secrets. Libraries log
//! below `warn` only if `RUST_LOG` asks for it: some of them print what participants send.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use tracing_subscriber::{
    EnvFilter, Registry, fmt, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

use crate::config::{Config, DotEnv, LogFormat, LogLevel, Source};

/// Our own crates, whose lines are shown from the set level on.
const OURS: [&str; 5] = ["call_history", "call", "store", "delivery", "receiver"];
/// The levels of other crates, unless `RUST_LOG` sets them.
const OTHERS: &str = "warn,livekit=off,livekit_signaling=off,livekit_data_stream=off,\
    livekit_datatrack=off,libwebrtc=off,str0m=off,os_info=off";

/// Changes the level of a log that was started.
pub(crate) struct Level {
    filter: reload::Handle<EnvFilter, Registry>,
    now: LogLevel,
    dot_env: DotEnv,
}

/// Starts logging. Call it once.
pub(crate) fn init(format: Option<LogFormat>, level: LogLevel, dot_env: DotEnv) -> Level {
    let (filter, handle) = reload::Layer::new(filter(level));
    let registry = tracing_subscriber::registry().with(filter);
    let terminal = std::io::stdout().is_terminal();
    let colours = terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let format = format.unwrap_or(if terminal { LogFormat::Pretty } else { LogFormat::Json });
    // An error means that a subscriber is already set.
    let _ = match format {
        LogFormat::Json => {
            let json = fmt::layer().json().flatten_event(true).with_current_span(false);
            registry.with(json.with_span_list(false)).try_init()
        }
        LogFormat::Pretty => {
            registry.with(fmt::layer().compact().with_ansi(colours).with_target(false)).try_init()
        }
    };
    Level { filter: handle, now: level, dot_env }
}

impl Level {
    /// Reads the level anew: from `.env` and `config/`, as the environment of a process does not change.
    pub(crate) fn reload(&mut self) {
        let level = match Config::log_level(Source::from_process(&self.dot_env)) {
            Ok(level) => level,
            Err(e) => {
                tracing::warn!(error = e, "the log level is not changed");
                return;
            }
        };
        let before = std::mem::replace(&mut self.now, level);
        // It fails only if the subscriber is gone.
        let _ = self.filter.reload(filter(level));
        if std::env::var("RUST_LOG").is_ok_and(|f| !f.is_empty()) {
            tracing::warn!("RUST_LOG is set: the log level cannot be changed without a restart");
        } else {
            tracing::info!(%before, %level, "the log level was read again");
        }
    }
}

/// `RUST_LOG`, which may be a full filter or a level for our own crates, or the set level.
fn filter(level: LogLevel) -> EnvFilter {
    match std::env::var("RUST_LOG") {
        Ok(level) if !level.is_empty() && !level.contains(['=', ',']) => {
            EnvFilter::new(ours_at(&level))
        }
        Ok(filter) if !filter.is_empty() => EnvFilter::new(filter),
        _ => EnvFilter::new(ours_at(&level.to_string())),
    }
}

fn ours_at(level: &str) -> String {
    let ours = OURS.map(|name| format!("{name}={level}"));
    format!("{OTHERS},{}", ours.join(","))
}

/// Time between two log lines of one [`LogThrottle`].
const LOG_EVERY: Duration = Duration::from_secs(60);

/// Errors that get a line of their own within that time. Others are only counted: whoever is at the other end chooses the
/// text of an error, and could fill the log with new ones.
const MOST_ERRORS: usize = 8;

/// Limits log lines about a fault that repeats: one line a minute for each error, with the number of faults.
#[derive(Debug, Default)]
pub(crate) struct LogThrottle {
    /// The errors of the last minute, and when each was logged. One fault may show as several errors in turn,
    /// such as a connection that is closed or reset.
    logged: Vec<(Instant, String)>,
    times: u64,
}

impl LogThrottle {
    /// Counts a fault. Returns the number of faults since the last line if the next line is due.
    pub(crate) fn due(&mut self) -> Option<u64> {
        self.due_for("")
    }

    /// The same; a line is also due if no line of the last minute is about this error.
    pub(crate) fn due_for(&mut self, error: &str) -> Option<u64> {
        self.times += 1;
        self.logged.retain(|(at, _)| at.elapsed() < LOG_EVERY);
        if self.logged.len() >= MOST_ERRORS || self.logged.iter().any(|(_, e)| e == error) {
            return None;
        }
        self.logged.push((Instant::now(), error.to_owned()));
        Some(std::mem::take(&mut self.times))
    }
}

/// A room's name for logs. SIP rooms often have the caller's number in their name; only its last two digits
/// are shown.
///
/// A run of enough digits counts as a number, in any script, with anything but letters between the digits.
/// This also masks ids with as many digits, which is better than to miss a number.
pub(crate) fn masked(name: &str) -> String {
    /// Shorter runs of digits are dates, counters, ids.
    const NUMBER: usize = 7;
    let mut out = String::with_capacity(name.len());
    let mut digits: Vec<char> = vec![];
    // The current digits, with the characters between them.
    let mut run = String::new();
    for c in name.chars().chain(['x']) {
        if c.is_numeric() {
            digits.push(c);
            run.push(c);
            continue;
        }
        if !digits.is_empty() && !c.is_alphabetic() {
            run.push(c);
            continue;
        }
        let rest = run.trim_end_matches(|c: char| !c.is_numeric()).len();
        if digits.len() >= NUMBER && !is_date(&run[..rest]) {
            out.push('…');
            out.extend(&digits[digits.len() - 2..]);
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

/// `2026-11-23`, `2026_11_23`: eight digits, but not a phone number.
fn is_date(text: &str) -> bool {
    ['-', '_'].into_iter().any(|between| {
        let parts: Vec<&str> = text.split(between).collect();
        let lengths: Vec<usize> = parts.iter().map(|p| p.len()).collect();
        let numbers: Vec<u32> = parts.iter().filter_map(|p| p.parse().ok()).collect();
        let &[year, month, day] = &numbers[..] else { return false };
        lengths == [4, 2, 2]
            && (1900..2200).contains(&year)
            && (1..=12).contains(&month)
            && (1..=31).contains(&day)
    })
}

#[cfg(test)]
mod tests {
    use super::{LogThrottle, MOST_ERRORS, masked};

    #[test]
    fn a_fault_that_repeats_is_logged_once_and_another_at_once() {
        let mut faults = LogThrottle::default();
        assert_eq!(faults.due_for("refused"), Some(1));
        assert_eq!((faults.due_for("refused"), faults.due_for("refused")), (None, None));
        assert_eq!(faults.due_for("unknown name"), Some(3));
        assert_eq!((faults.due_for("unknown name"), faults.due_for("refused")), (None, None));
        let lines = (0..100).filter_map(|n| faults.due_for(&n.to_string())).count();
        assert_eq!(lines, MOST_ERRORS - 2, "errors without end give no lines without end");
    }

    #[test]
    fn phone_numbers_in_room_names_are_masked() {
        for (name, shown) in [
            ("twilio-+15551234567-a1", "twilio-+…67-a1"),
            ("room-42", "room-42"),
            ("call +1 (555) 123-4567 x", "call +…67 x"),
            ("+1-555-123-4567", "+…67"),
            ("a-12-b-34", "a-12-b-34"),
            ("15551234567", "…67"),
            ("", ""),
            // Different characters between the digits.
            ("call_1_555_123_4567", "call_…67"),
            ("call_+1_(555)_123.4567_b", "call_+…67_b"),
            ("1.555.123.4567", "…67"),
            ("0155/51 23-45", "…45"),
            ("1+555+123+4567", "…67"),
            ("1,555:123;4567", "…67"),
            ("1\u{2011}555\u{2013}123\u{a0}4567", "…67"),
            ("1\u{200b}555\u{2060}1234567", "…67"),
            ("1%20555%20123%204567", "…67"),
            ("%2B15551234567", "%2B…67"),
            ("sip:15551234567@10.0.0.1:5060", "sip:…60"),
            ("sip:15551234567@example.com", "sip:…67@example.com"),
            ("1️⃣5️⃣5️⃣5️⃣1️⃣2️⃣3️⃣", "…23\u{fe0f}\u{20e3}"),
            ("room 15551234567 ", "room …67 "),
            // Digits of other scripts.
            ("call-１５５５１２３４５６７", "call-…６７"),
            ("call-١٥٥٥١٢٣٤٥٦٧", "call-…٦٧"),
            ("१५५५-१२३-४५६७", "…६७"),
            // Letters end a number; each part may still be a number.
            ("555x1234567", "555x…67"),
            ("1234567ext12", "…67ext12"),
            ("123456a123456", "123456a123456"),
            // Ids with as many digits.
            ("ac329949-ee7c-5bfc-a27b-8c5f9e4ec98c", "ac329949-ee7c-5bfc-a27b-8c5f9e4ec98c"),
            ("de305d54-7512-4313-9a54", "de305d…39a54"),
            // Dates, and numbers that only look like dates.
            ("2026-11-23", "2026-11-23"),
            ("2026_11_23", "2026_11_23"),
            ("call-2026-11-23T07:24:20", "call-2026-11-23T07:24:20"),
            ("5551-23-45", "…45"),
            ("5551_23_45", "…45"),
            ("2026-13-23", "…23"),
            ("2026-11-32", "…32"),
            ("2026-00-10", "…10"),
            ("1899-12-31", "…31"),
            ("2200-01-01", "…01"),
            ("2026-11_23", "…23"),
            ("2026.11.23", "…23"),
            ("20261123", "…23"),
            ("2026-11-23-15551234567", "…67"),
            ("2026-1-123", "…23"),
            ("026-11-23", "…23"),
        ] {
            assert_eq!(masked(name), shown, "{name}");
        }
    }
}
