//! What an operator must know of the data folder: whose it is, and whether its disk has room.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::io::Errno;
use store::{
    disk::LockError,
    health::{Health, Topic},
    outbox::OutboxError,
};
use thiserror::Error;
use tokio::time::{MissedTickBehavior, interval};

/// Bytes: a few journals and records. With less, calls can be lost in a crash.
const FULL: u64 = 2_000_000;
/// Bytes: so much that a call or two do not fill the disk again.
const ROOM_AGAIN: u64 = 2 * FULL;
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Bytes that this user may still write there; `None` if the system does not say.
pub(crate) fn free(dir: &Path) -> Option<u64> {
    let about = rustix::fs::statvfs(dir).ok()?;
    Some(about.f_bavail.saturating_mul(about.f_frsize))
}

/// Who may do what with a folder or file, and who we are, if it is not ours: in brackets, for the end of an error. Of a
/// path that is not there, or lies in a folder that is closed to us, the nearest folder above that can be looked at.
pub(crate) fn owner(path: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let us = rustix::process::geteuid().as_raw();
    let seen = path.ancestors().find_map(|path| Some((path, std::fs::metadata(path).ok()?)));
    match seen {
        Some((seen, about)) if about.uid() != us => {
            let which = if seen == path { "it".to_owned() } else { seen.display().to_string() };
            let (owner, mode) = (about.uid(), about.mode() & 0o777);
            format!(" ({which} belongs to user {owner}, mode {mode:o}; this is user {us})")
        }
        _ => String::new(),
    }
}

/// Why the data folder cannot be used.
#[derive(Debug, Error)]
pub(crate) enum Unusable {
    #[error("{0}")]
    Lock(#[from] LockError),
    #[error("{0}")]
    Outbox(#[from] OutboxError),
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
}

/// What to do if the folder cannot be used: by the first cause that says something.
pub(crate) fn advice(error: &(dyn Error + 'static)) -> &'static str {
    const DEFAULT: &str = "make it writable or set CALL_HISTORY_DATA_DIR";
    let mut cause = Some(error);
    while let Some(e) = cause {
        if matches!(e.downcast_ref(), Some(LockError::InUse { .. })) {
            return "stop the other worker, which may still be draining, or give this one a folder of its own with \
                    CALL_HISTORY_DATA_DIR";
        }
        let system = e.downcast_ref().and_then(Errno::from_io_error);
        match system {
            Some(Errno::ACCESS) => {
                return "let it belong to the user of the worker, who must also be able to enter all folders above it; \
                        or set CALL_HISTORY_DATA_DIR";
            }
            Some(Errno::NOSPC | Errno::DQUOT) => return "make room on its disk",
            Some(Errno::ROFS) => {
                return "mount it so that it can be written, or set CALL_HISTORY_DATA_DIR";
            }
            _ => cause = e.source(),
        }
    }
    DEFAULT
}

/// Whether the disk's state changes with this many free bytes: to full (`true`), or to room again. Between the two
/// bounds it stays as it was, so that a disk at a bound does not warn every few seconds.
fn changes(full: bool, free: u64) -> Option<bool> {
    match full {
        false if free < FULL => Some(true),
        true if free >= ROOM_AGAIN => Some(false),
        _ => None,
    }
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
        match changes(full, free) {
            Some(true) => {
                tracing::error!(
                    free_kb = kb,
                    "the disk of the data folder is full: calls can be lost in a crash; make room"
                );
                health.warn(
                    Topic::Space,
                    format!("{kb} kB are free on the data folder's disk: make room"),
                );
                full = true;
            }
            Some(false) => {
                tracing::info!(free_kb = kb, "the disk of the data folder has room again");
                health.clear(Topic::Space);
                full = false;
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_at_its_bound_does_not_warn_again_and_again() {
        let mut full = false;
        let seen: Vec<_> = [
            9_000_000, 2_000_000, 1_999_999, 2_000_001, 1_500_000, 3_999_999, 4_000_000, 2_500_000,
        ]
        .into_iter()
        .map(|free| {
            let change = changes(full, free);
            full = change.unwrap_or(full);
            change
        })
        .collect();
        assert_eq!(seen, [None, None, Some(true), None, None, None, Some(false), None]);
    }

    #[test]
    fn advice_follows_the_cause_however_deep_it_lies() {
        let io = |errno: Errno| io::Error::from(errno);
        let used = Unusable::from(LockError::InUse { process: Some(7) });
        assert_eq!(
            used.to_string(),
            "another call-history uses it (process 7); each needs a folder of its own"
        );
        for (error, expected) in [
            (used, "stop the other worker"),
            (LockError::from(io(Errno::ACCESS)).into(), "let it belong"),
            (
                Unusable::Io { what: "no journals".to_owned(), source: io(Errno::NOSPC) },
                "make room",
            ),
            (
                Unusable::Io { what: "no journals".to_owned(), source: io(Errno::DQUOT) },
                "make room",
            ),
            (
                Unusable::Io { what: "cannot create /x".to_owned(), source: io(Errno::ROFS) },
                "mount it",
            ),
            (
                Unusable::Io { what: "cannot create /x".to_owned(), source: io(Errno::IO) },
                "make it writable",
            ),
        ] {
            let advice = advice(&error);
            assert!(advice.starts_with(expected), "{error}: {advice}");
        }
    }
}
