//! Waiting for what can only be seen from outside: files and the health page.

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use tokio::time::{Instant, sleep};

use super::*;

/// The pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Whether a health page warns of nothing but of calls without a voice agent, which most calls of tests are.
pub(super) fn is_well(page: &str) -> bool {
    let only_that =
        |warnings: &str| warnings.split("; ").all(|one| one.contains("have no voice agent"));
    page == "OK" || page.strip_prefix("warning: ").is_some_and(only_that)
}

/// Calls `look` until it returns a value; panics with `what` when the time is over.
pub(super) async fn eventually<T>(
    what: &str,
    within: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let until = Instant::now() + within;
    loop {
        if let Some(found) = look().await? {
            return Ok(found);
        }
        assert!(Instant::now() < until, "{what}: not within {within:?}");
        sleep(LOOK_EVERY).await;
    }
}

/// The names in a folder of the worker's data.
pub(super) fn names(worker: &Worker, folder: &str) -> Result<Vec<String>> {
    let dir = std::fs::read_dir(worker.data.join(folder))?;
    // `flatten` skips files that are moved away meanwhile.
    Ok(dir.flatten().map(|e| e.file_name().to_string_lossy().into_owned()).collect())
}

/// Bytes in a folder of the worker's data.
pub(super) fn bytes(worker: &Worker, folder: &str) -> Result<u64> {
    let dir = std::fs::read_dir(worker.data.join(folder))?.flatten();
    Ok(dir.filter_map(|e| e.metadata().ok()).map(|m| m.len()).sum())
}

/// The health page as probes see it.
pub(super) async fn page(worker: &mut Worker) -> Result<String> {
    let addr = worker.health().await?;
    Ok(reqwest::get(format!("http://{addr}/")).await?.text().await?)
}

/// Waits until the health page is this.
pub(super) async fn is_page(worker: &mut Worker, whole: &str) -> Result<()> {
    eventually(&format!("the page {whole:?}"), POSTED, async || {
        Ok((page(worker).await? == whole).then_some(()))
    })
    .await
}

/// Waits until the health page contains `text`; returns the page.
pub(super) async fn page_says(worker: &mut Worker, text: &str, within: Duration) -> Result<String> {
    let mut last = String::new();
    let until = Instant::now() + within;
    while Instant::now() < until {
        last = page(worker).await?;
        if last.contains(text) {
            return Ok(last);
        }
        sleep(LOOK_EVERY).await;
    }
    panic!("the health page does not say {text:?} within {within:?}, but {last:?}")
}

/// When a line was logged, by the worker's clock, in seconds since the epoch.
pub(super) fn logged_at(line: &Value) -> Result<f64> {
    seconds(line["timestamp"].as_str().context("no timestamp")?)
}

/// Seconds since the epoch.
pub(super) fn seconds(rfc3339: &str) -> Result<f64> {
    let at = chrono::DateTime::parse_from_rfc3339(rfc3339)?;
    Ok(at.timestamp_micros() as f64 / 1e6)
}

/// Puts `n` made-up records into `pending/`: valid JSON, but not of real calls. `attempts` is written
/// as the attempts note of each record.
pub(super) fn put_waiting(data: &Path, n: usize, attempts: Option<&Value>) -> Result<()> {
    let pending = data.join("pending");
    std::fs::create_dir_all(&pending)?;
    for _ in 0..n {
        let id = uuid::Uuid::new_v4().to_string();
        let record = serde_json::json!({
            "call_id": id,
            "room_name": "waiting",
            "phone_number": "",
            "start_time": "2026-01-01T00:00:00.000Z",
            "end_time": "2026-01-01T00:01:00.000Z",
        });
        std::fs::write(pending.join(format!("{id}.json")), record.to_string())?;
        if let Some(attempts) = attempts {
            std::fs::write(pending.join(format!("{id}.attempts")), attempts.to_string())?;
        }
    }
    Ok(())
}

/// The journals of the calls that are on.
pub(super) fn live(s: &Scene) -> Vec<String> {
    names(&s.worker, "live").unwrap_or_default()
}

/// Waits until the journal of the current call contains `text`: then the worker has read what was sent.
pub(super) async fn journaled(s: &Scene, text: &str) -> Result<()> {
    journaled_times(s, text, 1).await
}

/// The same, `n` times.
pub(super) async fn journaled_times(s: &Scene, text: &str, n: usize) -> Result<()> {
    eventually(&format!("{text} in the journal, {n} times"), POSTED, async || {
        let journals = live(s).into_iter().map(|name| s.worker.data.join("live").join(name));
        let mut texts = journals.filter_map(|path| std::fs::read_to_string(path).ok());
        Ok(texts.any(|journal| journal.matches(text).count() >= n).then_some(()))
    })
    .await
}
