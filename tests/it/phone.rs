//! Real phone calls over LiveKit's SIP bridge, recorded in `tests/phone/` with what the phones did. The
//! first line of each file says what is right.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use serde_json::Value;

use super::*;

/// Observed times are right to this; seconds.
const OBSERVED: f64 = 0.3;
/// Estimated times: an answer that nobody saw, a phone that died.
const ESTIMATED: f64 = 2.5;

/// What the room does not show, so that the visible answer has to do: the name, and the fields.
const NOT_VISIBLE: &[(&str, &[&str])] = &[
    // As after a hang-up of the phone.
    ("in_rtp_stops", &["status", "termination_reason", "ended_by", "end"]),
    // The end is that of the phone's BYE, 15 s after its last sound.
    ("out_rtp_stops", &["end"]),
    ("in_transfer_bye", &["ended_by"]),
    ("in_transfer_ok", &["ended_by"]),
    ("out_transfer", &["ended_by"]),
    ("out_max_duration", &["ended_by"]),
];

#[test]
fn real_phone_calls_are_right() -> Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/phone");
    let mut paths: Vec<_> = fs::read_dir(dir)?.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
    paths.sort();
    let (mut wrong, mut right) = (vec![], 0);
    for path in &paths {
        let name = path.file_stem().and_then(|n| n.to_str()).context("a name")?;
        let text = fs::read_to_string(path)?;
        let first =
            text.lines().next().and_then(|l| l.strip_prefix("// ")).context("a first line")?;
        let due: Value = serde_json::from_str(first)?;
        let out =
            Command::new(binary()).args(["replay", "--details"]).arg(path).env_clear().output()?;
        let Ok(found) = serde_json::from_slice::<Value>(&out.stdout) else {
            wrong.push(format!("{name}: no record: {}", String::from_utf8_lossy(&out.stderr)));
            continue;
        };
        schema::check(&found);
        let before = wrong.len();
        compare(name, &found, &due, &mut wrong)?;
        right += usize::from(wrong.len() == before);
    }
    assert!(wrong.is_empty(), "{right} of {} right:\n{}", paths.len(), wrong.join("\n"));
    assert!(paths.len() >= 56, "only {} calls", paths.len());
    Ok(())
}

fn compare(name: &str, found: &Value, due: &Value, wrong: &mut Vec<String>) -> Result<()> {
    let hidden: &[&str] = NOT_VISIBLE.iter().find(|(n, _)| *n == name).map_or(&[], |(_, f)| f);
    let observation = &found["details"]["observation"];
    for (field, found) in [
        ("status", &found["status"]),
        ("termination_reason", &found["termination_reason"]),
        ("call_type", &found["call_type"]),
        ("ended_by", &found["details"]["ended_by"]),
    ] {
        if *found != due[field] && !hidden.contains(&field) {
            wrong.push(format!("{name}: {field} is {found}, right is {}", due[field]));
        }
    }
    for (field, found, basis, due) in [
        ("start", &found["start_time"], &observation["start_time_basis"], &due["answered"]),
        ("end", &found["end_time"], &observation["end_time_basis"], &due["ended"]),
    ] {
        let Some(due) = due.as_f64().filter(|_| !hidden.contains(&field)) else { continue };
        let at = chrono::DateTime::parse_from_rfc3339(found.as_str().context("a time")?)?;
        let off = at.timestamp_micros() as f64 / 1e6 - due;
        let within = if basis == "observed" { OBSERVED } else { ESTIMATED };
        if off.abs() > within {
            wrong.push(format!("{name}: {field} is {off:+.2} s off ({basis})"));
        }
    }
    Ok(())
}
