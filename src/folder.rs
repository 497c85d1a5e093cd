//! What an operator must know of the data folder: whose it is, and whether its disk has room.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::io::Errno;
use store::{
    disk::Lock,
    health::{Health, Topic},
};
use tokio::time::{MissedTickBehavior, interval};

/// Bytes: a few journals and records. With less, calls can be lost in a crash.
const FULL: u64 = 2_000_000;
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Bytes that this user may still write there; `None` if the system does not say.
pub(crate) fn free(dir: &Path) -> Option<u64> {
    let about = rustix::fs::statvfs(dir).ok()?;
    Some(about.f_bavail.saturating_mul(about.f_frsize))
}

/// Whose a folder or file is and who we are, if that differs: in brackets, for the end of an error.
pub(crate) fn owner(path: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let us = rustix::process::geteuid().as_raw();
    match std::fs::metadata(path) {
        Ok(about) if about.uid() != us => {
            format!(" (it belongs to user {}, this is user {us})", about.uid())
        }
        Ok(_) => String::new(),
        // It is not there, or a folder above it is closed to us.
        Err(_) => format!(" (this is user {us})"),
    }
}

/// What to do if the folder cannot be used.
pub(crate) fn advice(error: &str) -> &'static str {
    if error.contains(Lock::IN_USE) {
        "stop the other worker, which may still be draining, or give this one a folder of its own with CALL_HISTORY_DATA_DIR"
    } else if error.contains(&words(Errno::ACCESS)) {
        "let it belong to the user of the worker, who must also be able to enter all folders above it; or set \
         CALL_HISTORY_DATA_DIR"
    } else if [Errno::NOSPC, Errno::DQUOT].iter().any(|e| error.contains(&words(*e))) {
        "make room on its disk"
    } else if error.contains(&words(Errno::ROFS)) {
        "mount it so that it can be written, or set CALL_HISTORY_DATA_DIR"
    } else {
        "make it writable or set CALL_HISTORY_DATA_DIR"
    }
}

/// The system's words for an error.
fn words(error: Errno) -> String {
    std::io::Error::from_raw_os_error(error.raw_os_error()).to_string()
}

/// Warns while the folder's disk is as good as full.
pub(crate) async fn watch_space(dir: PathBuf, health: Health) {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut full = false;
    loop {
        look.tick().await;
        let of = dir.clone();
        // A disk that hangs holds up a thread for blocking work, and this task.
        let Ok(Some(free)) = tokio::task::spawn_blocking(move || free(&of)).await else { continue };
        let kb = free / 1_000;
        match (full, free < FULL) {
            (false, true) => {
                tracing::error!(
                    free_kb = kb,
                    "the disk of the data folder is full: calls can be lost in a crash; make room"
                );
                health.warn(
                    Topic::Space,
                    format!("{kb} kB are free on the data folder's disk: make room"),
                );
            }
            (true, false) => {
                tracing::info!(free_kb = kb, "the disk of the data folder has room again");
                health.clear(Topic::Space);
            }
            _ => continue,
        }
        full = !full;
    }
}
