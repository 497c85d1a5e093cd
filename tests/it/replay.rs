//! Replay: each journal in `tests/journals/` gives the record beside it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, Result};
use serde_json::Value;

use super::*;

fn journals() -> Result<Vec<PathBuf>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journals");
    let all = fs::read_dir(dir)?.map(|e| Ok(e?.path())).collect::<Result<Vec<_>>>()?;
    let mut all: Vec<_> =
        all.into_iter().filter(|p| p.extension().is_some_and(|e| e == "jsonl")).collect();
    all.sort();
    Ok(all)
}

fn replay(args: &[&str], path: &Path) -> Result<Output> {
    Ok(Command::new(binary()).arg("replay").args(args).arg(path).env_clear().output()?)
}

#[test]
fn every_journal_gives_the_record_beside_it() -> Result<()> {
    let (mut wrong, mut replayed) = (vec![], 0);
    for path in journals()? {
        let name = path.file_stem().and_then(|n| n.to_str()).context("a name")?;
        let out = replay(&[], &path)?;
        if name.ends_with(".none") {
            assert_eq!(out.status.code(), Some(1), "{name} gives a record");
            continue;
        }
        let due = path.with_extension("expected.json");
        let due: Value = serde_json::from_slice(&fs::read(due).with_context(|| name.to_owned())?)?;
        if !out.status.success() {
            wrong.push(format!("{name}: {}", String::from_utf8_lossy(&out.stderr)));
            continue;
        }
        let found: Value = serde_json::from_slice(&out.stdout)?;
        schema::check(&found);
        replayed += 1;
        differences("", &found, &due, &mut |what| wrong.push(format!("{name}: {what}")));
    }
    assert!(replayed >= 25, "only {replayed} journals");
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

fn differences(path: &str, found: &Value, due: &Value, note: &mut impl FnMut(String)) {
    match (found, due) {
        (Value::Object(f), Value::Object(d)) => {
            for key in f.keys().chain(d.keys().filter(|k| !f.contains_key(*k))) {
                let null = Value::Null;
                let (f, d) = (f.get(key).unwrap_or(&null), d.get(key).unwrap_or(&null));
                differences(&format!("{path}/{key}"), f, d, note);
            }
        }
        _ if found != due => note(format!("{path}: found {found}, due {due}")),
        _ => {}
    }
}

#[test]
fn the_same_journal_gives_the_same_bytes() -> Result<()> {
    for path in journals()?.iter().take(5) {
        assert_eq!(replay(&["--details"], path)?.stdout, replay(&["--details"], path)?.stdout);
    }
    Ok(())
}

#[test]
fn an_explanation_names_the_moments_of_every_number() -> Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journals");
    let out = replay(&["--explain"], &dir.join("caller-cuts-the-agent-off.jsonl"))?;
    let text = String::from_utf8(out.stdout)?;
    for line in ["silence_count = ", "interruption_count = 1", "the agent was cut off", " words"] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
    Ok(())
}

/// The moments that an explanation lists add up to the number that it explains.
#[test]
fn every_explanation_adds_up() -> Result<()> {
    for path in journals()?.iter().filter(|p| !p.to_string_lossy().contains(".none.")) {
        let record: Value = serde_json::from_slice(&replay(&[], path)?.stdout)?;
        let text = String::from_utf8(replay(&["--explain"], path)?.stdout)?;
        let metrics = &record["metrics"];
        let mut listed = std::collections::BTreeMap::<&str, Vec<&str>>::new();
        let mut of = "";
        for line in text.lines() {
            match line.strip_prefix("  ") {
                Some(moment) => listed.entry(of).or_default().push(moment),
                None => of = line.split([' ', ',']).next().unwrap_or_default(),
            }
        }
        let moments = |of| listed.get(of).cloned().unwrap_or_default();
        for count in [
            "total_user_utterances",
            "total_agent_utterances",
            "silence_count",
            "interruption_count",
        ] {
            assert_eq!(metrics[count], moments(count).len(), "{path:?}: {count}\n{text}");
        }
        let cut =
            moments("total_agent_utterances").iter().filter(|u| u.contains("cut off")).count();
        assert_eq!(metrics["interruption_count"], cut, "{path:?}\n{text}");
        for mean in ["average_user_response_time", "average_agent_response_time"] {
            let seconds: Vec<f64> = (moments(mean).iter())
                .filter_map(|a| a.split(" s").next()?.split_whitespace().last()?.parse().ok())
                .collect();
            let sum: f64 = seconds.iter().sum();
            let due = if seconds.is_empty() { 0.0 } else { sum / seconds.len() as f64 };
            let found = metrics[mean].as_f64().unwrap_or(-1.0);
            assert!((found - due).abs() < 0.002, "{path:?}: {mean} {found}, {due}\n{text}");
        }
    }
    Ok(())
}

#[test]
fn a_truncated_journal_is_replayed_as_far_as_it_goes() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("torn.jsonl");
    let journal = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/journals/recorded-python-agent-phone-call-of-three-turns.jsonl");
    let whole = fs::read(journal)?;
    fs::write(&path, &whole[..whole.len() / 2])?;
    let out = replay(&[], &path)?;
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("cut off at line") && said.contains("had not ended"), "{said}");
    let record: Value = serde_json::from_slice(&out.stdout)?;
    assert_eq!(verdict(&record), ("dropped", Some("observer_restarted")));
    schema::check(&record);
    Ok(())
}

#[test]
fn a_file_that_is_not_a_journal_fails_with_the_reason() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("x.jsonl");
    for (text, why) in [("", "empty"), ("hello\n", "no header"), ("{\"journal\":9}\n", "header")] {
        fs::write(&path, text)?;
        let out = replay(&[], &path)?;
        assert_eq!(out.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&out.stderr).contains(why), "{text}");
    }
    let out = replay(&[], Path::new("/nowhere"))?;
    assert_eq!((out.status.code(), out.stdout.is_empty()), (Some(1), true));
    Ok(())
}
