//! Finds the calls that a dead worker was observing, by the journals that it left behind.

use std::{
    collections::BTreeMap,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use call::{Call, Moment};

use super::{Journal, read, replay::replay};
use crate::{
    disk::{Disk, read_patiently},
    outbox::Outbox,
};

/// A call whose journal was found.
pub struct LeftBehind {
    pub call: Call,
    /// When its last event was taken.
    pub last_at: Moment,
    /// Bytes of intact lines in the journal; new events are appended after them.
    pub whole: usize,
    /// There was a later call in the same room: this one cannot be observed any more.
    pub superseded: bool,
}

/// Reads all journals. A journal is removed if its record is sealed, if its call opted out, or if it
/// holds no events. A journal that cannot be read is set aside, for a person to look at.
///
/// # Errors
/// If the folder cannot be read.
pub fn left_behind(
    disk: &dyn Disk,
    data_dir: &Path,
    outbox: &Outbox,
) -> io::Result<Vec<LeftBehind>> {
    let dir = data_dir.join("live");
    let mut found = vec![];
    let mut names: Vec<String> = disk.walk(&dir)?.collect();
    names.sort();
    for name in names.iter().filter(|n| n.ends_with(".jsonl")) {
        let path = dir.join(name);
        let shown = path.display();
        let bytes = match read_patiently(disk, &path) {
            Ok(bytes) => bytes,
            Err(e) => {
                tracing::error!(path = %shown, error = %e, "a journal cannot be read; its call is not recovered");
                continue;
            }
        };
        let journal = match read(&bytes) {
            Ok(journal) => journal,
            // Not even the first line is complete: no event was taken yet.
            Err(_) if !bytes.contains(&b'\n') => {
                remove(disk, &path);
                continue;
            }
            Err(e) => {
                tracing::error!(path = %shown, error = e, "a journal cannot be read, set aside as .broken");
                set_aside(disk, &path);
                continue;
            }
        };
        if let Some(torn) = &journal.torn {
            tracing::warn!(
                path = %shown, reason = torn, lost_bytes = bytes.len() - journal.whole,
                "the end of a journal is not whole and is cut off"
            );
        }
        let Journal { whole, .. } = journal;
        let last_at = journal.events.iter().map(|e| e.at).max();
        let Ok(call) = catch_unwind(AssertUnwindSafe(|| replay(&journal))) else {
            tracing::error!(path = %shown, "a journal cannot be replayed, set aside as .broken");
            set_aside(disk, &path);
            continue;
        };
        match last_at.filter(|_| !outbox.knows(&call.id()) && !call.opted_out()) {
            Some(last_at) => {
                found.push(LeftBehind { call, last_at, whole, superseded: false });
            }
            None => remove(disk, &path),
        }
    }
    // Only the last call of a room may go on; of the earlier calls only the records are missing.
    let mut last: BTreeMap<String, u32> = BTreeMap::new();
    for l in &found {
        let of_room = last.entry(l.call.room().sid.clone()).or_default();
        *of_room = l.call.ordinal().max(*of_room);
    }
    for l in &mut found {
        l.superseded = last.get(&l.call.room().sid).is_some_and(|n| l.call.ordinal() < *n);
    }
    Ok(found)
}

fn set_aside(disk: &dyn Disk, path: &Path) {
    let mut aside = path.as_os_str().to_owned();
    aside.push(".broken");
    if let Err(e) = disk.rename(path, Path::new(&aside)) {
        tracing::error!(path = %path.display(), error = %e, "a journal that cannot be used cannot be set aside");
    }
}

fn remove(disk: &dyn Disk, path: &Path) {
    if let Err(e) = disk.remove(path) {
        tracing::warn!(path = %path.display(), error = %e, "a journal that is done with cannot be removed");
    }
}
