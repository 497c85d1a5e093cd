//! Explains each number of a record in lines for people: the turns, gaps and interruptions that it
//! was made from. Times are seconds from the call's start.

use std::fmt::{self, Display, Write};

use record::CallHistory;

use super::{
    event::Moment,
    metrics::{Measured, Response},
    turns::Utterance,
};

pub fn text(record: &CallHistory, m: &Measured) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = explain(&mut text, record, m);
    text
}

fn explain(out: &mut String, r: &CallHistory, m: &Measured) -> fmt::Result {
    let start = Moment::parse_rfc3339(&r.start_time).unwrap_or_default();
    let at = |t: Moment| Seconds(t.since(start));
    let n = &r.metrics;
    writeln!(out, "call {} in room {}", r.call_id, r.room_name)?;
    writeln!(out, "  {} to {}, {:.3} s", r.start_time, r.end_time, r.duration_seconds)?;
    let reason = r.termination_reason.as_deref().unwrap_or("a normal end");
    writeln!(out, "  {}: {reason}", r.status.as_str())?;
    writeln!(
        out,
        "  evidence: caller's speech from {}, words from {}; agent's speech from {}, words from {}",
        name(&m.user.tier),
        name(&m.user_words),
        name(&m.agent.tier),
        name(&m.agent_words),
    )?;
    let sides = [
        ("user", n.total_user_utterances, n.longest_user_utterance, &m.user_utterances),
        ("agent", n.total_agent_utterances, n.longest_agent_utterance, &m.agent_utterances),
    ];
    for (side, total, longest, utterances) in sides {
        writeln!(out, "total_{side}_utterances = {total}, longest_{side}_utterance = {longest}")?;
        for u in utterances {
            utterance(out, u, m, &at)?;
        }
    }
    for (side, mean, responses) in [
        ("user", n.average_user_response_time, &m.user_responses),
        ("agent", n.average_agent_response_time, &m.agent_responses),
    ] {
        writeln!(out, "average_{side}_response_time = {mean:.3}, of {}", responses.len())?;
        for r in responses {
            response(out, r, &at)?;
        }
    }
    writeln!(out, "silence_count = {}", n.silence_count)?;
    for s in &m.silences {
        writeln!(out, "  {} to {}  {} s", at(s.start), at(s.end), Seconds(s.ms()))?;
    }
    writeln!(out, "interruption_count = {}", n.interruption_count)?;
    for t in &m.interruptions {
        writeln!(out, "  {}  the agent was cut off", at(*t))?;
    }
    for s in &r.stage_timeline {
        let t = Moment::parse_rfc3339(&s.timestamp).unwrap_or_default();
        writeln!(out, "stage {}  {}", at(t), s.stage)?;
    }
    if let Some(notes) = &r.outcomes.notes {
        writeln!(out, "notes: {notes}")?;
    }
    Ok(())
}

fn utterance(
    out: &mut String,
    u: &Utterance,
    m: &Measured,
    at: &impl Fn(Moment) -> Seconds,
) -> fmt::Result {
    /// Signals of the same end are at most this far apart.
    const SAME_MS: u64 = 700;
    match u.spoken {
        Some(i) => write!(out, "  {} to {}", at(i.start), at(i.end))?,
        None => write!(out, "  heard of at {}", at(u.known_at))?,
    }
    write!(out, "  {} word{}", u.words, if u.words == 1 { "" } else { "s" })?;
    let end = u.spoken.map_or(u.known_at, |i| i.end);
    let of_agent = m.agent_utterances.iter().any(|a| std::ptr::eq(a, u));
    let cut = |t: &Moment| t.since(end).unsigned_abs() <= SAME_MS;
    if of_agent && m.interruptions.iter().any(cut) {
        write!(out, ", cut off by the caller")?;
    } else if u.interrupted {
        write!(out, ", which the agent calls interrupted; not by the caller, so not counted")?;
    }
    writeln!(out)
}

fn response(out: &mut String, r: &Response, at: &impl Fn(Moment) -> Seconds) -> fmt::Result {
    match r.between {
        Some((from, to)) => write!(out, "  {} to {}", at(from), at(to))?,
        None => write!(out, "  (not seen)")?,
    }
    match r.between {
        Some((from, to)) if r.reported => writeln!(
            out,
            "  {:.3} s, as the agent reports it (seen: {} s)",
            r.seconds,
            Seconds(to.since(from))
        ),
        _ if r.reported => writeln!(out, "  {:.3} s, as the agent reports it", r.seconds),
        _ => writeln!(out, "  {:.3} s", r.seconds),
    }
}

/// Milliseconds, shown as seconds.
struct Seconds(i64);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, ms) = (self.0 / 1000, (self.0 % 1000).abs());
        let sign = if self.0 < 0 && whole == 0 { "-" } else { "" };
        write!(f, "{sign}{whole}.{ms:03}")
    }
}

/// The name that a value has in the record.
fn name(of: &impl serde::Serialize) -> String {
    let value = serde_json::to_value(of).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}
