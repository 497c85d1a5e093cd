//! One call with agents of other frameworks and versions, recorded in `tests/frameworks/`: a greeting, a
//! question, an answer that the caller cuts off, another answer, six seconds of silence, a goodbye. The first
//! line of each file says what the caller sent and heard.
//!
//! The recordings hold no levels of sound. In two of them the bot comes more than five seconds after the
//! caller: that is a second silence. The phone of `pipecat-sip` leaves without a hang-up: a lost connection.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result};
use serde_json::Value;

use super::*;

#[test]
fn calls_with_other_frameworks_and_versions_are_right() -> Result<()> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frameworks");
    let mut paths: Vec<_> = fs::read_dir(dir)?.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
    paths.sort();
    let mut wrong = vec![];
    for path in &paths {
        let name = path.file_stem().and_then(|n| n.to_str()).context("a name")?;
        let text = fs::read_to_string(path)?;
        let first =
            text.lines().next().and_then(|l| l.strip_prefix("// ")).context("a first line")?;
        let due: Value = serde_json::from_str(first)?;
        let out = Command::new(binary()).arg("replay").arg(path).env_clear().output()?;
        let found: Value = serde_json::from_slice(&out.stdout)
            .with_context(|| format!("{name}: {}", String::from_utf8_lossy(&out.stderr)))?;
        schema::check(&found);
        for (field, due) in due.as_object().context("an object")? {
            let found = found.get(field).unwrap_or(&found["metrics"][field]);
            if found != due {
                wrong.push(format!("{name}: {field} is {found}, right is {due}"));
            }
        }
    }
    assert!(wrong.is_empty(), "of {} calls:\n{}", paths.len(), wrong.join("\n"));
    assert_eq!(paths.len(), 7);
    Ok(())
}
