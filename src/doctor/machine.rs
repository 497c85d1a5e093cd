//! This machine: data folder, files, memory, cores.

use std::{path::Path, time::Duration, time::Instant};

use store::disk::{Disk, Lock};

use super::Check;
use crate::{config::Config, descriptors, worker};

/// Every record waits for this, so a slower disk is worth a warning.
const SLOW_DISK: Duration = Duration::from_millis(250);
/// Bytes: thousands of records and journals.
const LITTLE_SPACE: u64 = 500_000_000;
/// Bytes of one talking call, measured with a hundred, and rounded up.
const CALL_BYTES: u64 = 500_000;
/// Bytes of the program without calls.
const IDLE_BYTES: u64 = 25_000_000;

/// Whether the data folder takes a file, how fast, and how much more fits in.
pub(super) fn data_folder(disk: &dyn Disk, dir: &Path) -> Check {
    const NAME: &str = "data_folder";
    let shown = dir.display();
    let path = dir.join(format!("doctor-{}", uuid::Uuid::new_v4()));
    let began = Instant::now();
    let written = disk
        .create_dir(dir)
        .and_then(|()| disk.write_synced(&path, b"doctor"))
        .and_then(|()| disk.sync_dir(dir));
    let took = began.elapsed();
    let removed = disk.remove(&path);
    if let Err(e) = written.and(removed) {
        return Check::failed(
            NAME,
            format!("{shown} cannot be written: {e}{}", owner(dir)),
            "check CALL_HISTORY_DATA_DIR: the folder's owner, its space, a read-only mount",
        );
    }
    let free = free(dir);
    let space =
        free.map_or_else(String::new, |bytes| format!(", {} MB are free", bytes / 1_000_000));
    let found = format!("{shown} stores a file in {} ms{space}", took.as_millis());
    if took > SLOW_DISK {
        Check::warning(NAME, found, "use a local disk: every record is stored before it is posted")
    } else if free.is_some_and(|bytes| bytes < LITTLE_SPACE) {
        Check::warning(
            NAME,
            found,
            "make room: records wait here while the endpoint is away, and journals while calls run",
        )
    } else {
        Check::ok(NAME, found)
    }
}

/// Bytes that this user may still write there.
fn free(dir: &Path) -> Option<u64> {
    let about = rustix::fs::statvfs(dir).ok()?;
    Some(about.f_bavail.saturating_mul(about.f_frsize))
}

/// Whose the folder is, if it is not ours.
#[cfg(unix)]
fn owner(dir: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let us = rustix::process::geteuid().as_raw();
    match std::fs::metadata(dir) {
        Ok(about) if about.uid() != us => {
            format!(" (it belongs to user {}, this is user {us})", about.uid())
        }
        _ => String::new(),
    }
}

/// Whether a worker uses the folder now: each needs one of its own. Leaves no lock behind that was not there: it
/// would belong to the user of this command.
pub(super) fn other_worker(dir: &Path) -> Check {
    const NAME: &str = "folder_lock";
    let path = dir.join("lock");
    let was_there = path.exists();
    let taken = Lock::take(dir);
    if !was_there {
        let _ = std::fs::remove_file(&path);
    }
    match taken {
        Ok(_) => Check::ok(NAME, "no worker uses the data folder now"),
        Err(e) if e.contains(Lock::IN_USE) => Check::ok(
            NAME,
            "a worker uses the data folder now; a second one with the same folder would not start",
        ),
        Err(e) => Check::failed(
            NAME,
            format!("the folder cannot be locked: {e}{}", owner(&path)),
            "let the folder and the file `lock` in it belong to the user of the worker",
        ),
    }
}

pub(super) fn files(max_calls: usize) -> Check {
    const NAME: &str = "files";
    let (limit, needed) = descriptors::limit_and_need(max_calls);
    match limit {
        Some(limit) if limit < needed => Check::warning(
            NAME,
            format!("{limit} files may be open; {max_calls} calls need {needed}"),
            descriptors::ADVICE,
        ),
        Some(limit) => Check::ok(NAME, format!("{limit} files may be open; {needed} are needed")),
        None => Check::ok(NAME, "the system does not report how many files may be open"),
    }
}

pub(super) fn memory(config: &Config) -> Check {
    const NAME: &str = "memory";
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let needed = IDLE_BYTES + config.max_calls as u64 * CALL_BYTES;
    let mb = |bytes: u64| bytes / 1_000_000;
    match worker::memory_limit(config.max_memory) {
        Some(limit) if limit < needed => Check::warning(
            NAME,
            format!(
                "the limit is {} MB, with {cores} cores; {} calls may need {} MB",
                mb(limit),
                config.max_calls,
                mb(needed)
            ),
            "raise the limit or lower CALL_HISTORY_MAX_CALLS; near the limit the worker takes no more calls",
        ),
        Some(limit) => {
            Check::ok(NAME, format!("the limit is {} MB, with {cores} cores", mb(limit)))
        }
        None => Check::ok(NAME, format!("no limit of memory is set; {cores} cores")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use store::disk::{RealDisk, memory::MemoryDisk};

    #[test]
    fn a_folder_that_takes_no_file_fails_and_nothing_is_left_in_one_that_does() {
        let (disk, dir) = (MemoryDisk::default(), Path::new("/data"));
        assert_ne!(data_folder(&disk, dir).state, State::Failed);
        assert_eq!(disk.walk(dir).unwrap().count(), 0);
        let file = std::env::current_exe().unwrap();
        let check = data_folder(&RealDisk, &file.join("below-a-file"));
        assert_eq!(check.state, State::Failed);
        assert!(check.advice.is_some());
    }
}
