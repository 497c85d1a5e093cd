//! A journal, moved to another time and number, and the record that it gives.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use serde_json::{Value, json};
use store::journal::{read, replay_to_end};

use super::{DAY, Plan};

/// Phone numbers of callers in the journals.
const NUMBERS: [&str; 4] = ["+15550100567", "+15550100101", "+15550100102", "+15550110001"];

pub(super) fn record(plan: &Plan) -> Result<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/journals");
    let path = folder.join(format!("{}.jsonl", plan.journal));
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    let lines = text.lines().filter(|line| !line.starts_with("//") && !line.trim().is_empty());
    let lines: Vec<Value> = lines.map(serde_json::from_str).collect::<Result<_, _>>()?;
    let mut lines = answered(lines);
    let origin = lines.get(1).and_then(|event| event["at"].as_i64()).context("no event")?;
    for line in &mut lines {
        change(line, origin, plan);
    }
    let header = lines.first_mut().context("no header")?;
    header["room"] =
        json!({"sid": format!("RM_sample{}", plan.n), "name": format!("sample-{}", plan.n)});
    let settings = json!({"details": true, "transcript": plan.transcript});
    if let (Some(all), Value::Object(more)) = (header["settings"].as_object_mut(), settings) {
        all.extend(more);
    }
    let moved: Vec<String> = lines.iter().map(Value::to_string).collect();
    let journal =
        read(moved.join("\n").as_bytes()).map_err(|e| anyhow!("{}: {e}", plan.journal))?;
    let (call, _) = replay_to_end(&journal);
    let record = call.record().with_context(|| format!("{} gives no record", plan.journal))?;
    Ok(serde_json::to_value(record)?)
}

/// The recorded phone calls were answered before they were seen, so that their start is an estimate. Here each rings for
/// a moment first, as phones do.
fn answered(lines: Vec<Value>) -> Vec<Value> {
    const RINGS: i64 = 90;
    let mut all = vec![];
    for mut line in lines {
        let at = line["at"].as_i64().unwrap_or_default();
        let status = line.pointer_mut("/attributes/sip.callStatus");
        match status.filter(|status| *status == "active") {
            Some(status) => {
                *status = "ringing".into();
                let identity = line["identity"].clone();
                let changed = json!({"sip.callStatus": "active"});
                all.push(line);
                all.push(json!({"at": at + RINGS, "what": "attributes", "identity": identity, "changed": changed}));
            }
            None => all.push(line),
        }
    }
    all.sort_by_key(|line| line["at"].as_i64().unwrap_or_default());
    all
}

/// Times move, durations that the agent measured are stretched as everything else, and the caller has another number.
fn change(json: &mut Value, origin: i64, plan: &Plan) {
    match json {
        Value::Object(all) => {
            for (key, value) in all.iter_mut() {
                match (key.as_str(), value.as_f64()) {
                    ("e2e_latency" | "audio_seconds", Some(seconds)) => {
                        *value = json!((seconds * plan.pace * 1_000.0).round() / 1_000.0);
                    }
                    _ => change(value, origin, plan),
                }
            }
        }
        Value::Array(all) => all.iter_mut().for_each(|one| change(one, origin, plan)),
        Value::String(text) => {
            for number in NUMBERS {
                *text = text.replace(number, &plan.number);
            }
            *text = text.replace("web-user", &format!("web-{}", plan.n % 23));
        }
        Value::Number(number) => {
            // Nothing else in a journal is near to the time of its call.
            if let Some(at) = number.as_i64().filter(|at| (at - origin).abs() < DAY) {
                #[allow(clippy::cast_possible_truncation)]
                let since = ((at - origin) as f64 * plan.pace).round() as i64;
                *json = json!(plan.start + since);
            }
        }
        _ => {}
    }
}
