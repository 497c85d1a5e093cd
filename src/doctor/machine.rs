//! This machine: data folder, files, memory, cores.

use std::{
    io::ErrorKind,
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use store::disk::{Disk, Lock, LockError};
use tokio::net::TcpListener;

use super::{Check, WITHIN};
use crate::{
    config::{Config, Layers},
    descriptors,
    folder::{self, free, owner},
    probe::Listener,
    worker,
};

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
        let advice = folder::advice(&e);
        return Check::failed(
            NAME,
            format!("{shown} cannot be written: {e}{}", owner(dir)),
            advice,
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

pub(super) fn disk_hangs(dir: &Path) -> Check {
    Check::failed(
        "data_folder",
        format!("{} has stored nothing within {} s", dir.display(), WITHIN.as_secs()),
        "look at the disk, or at the server that it is mounted from; calls are observed all the same, and their records \
         posted from memory",
    )
}

/// Whether a worker uses the folder now: each needs one of its own. Leaves no lock behind that was not there: it
/// would belong to the user of this command. Also returns whether a worker uses it.
pub(super) fn other_worker(dir: &Path) -> (Check, bool) {
    const NAME: &str = "folder_lock";
    let path = dir.join("lock");
    let was_there = path.exists();
    let taken = Lock::take(dir);
    if !was_there {
        let _ = std::fs::remove_file(&path);
    }
    match taken {
        Ok(_) => (Check::ok(NAME, "no worker uses the data folder now"), false),
        Err(LockError::InUse { process }) => {
            let holder = process
                .map_or_else(|| "its process is unknown".to_owned(), |id| format!("process {id}"));
            let found = format!(
                "a running worker uses the data folder ({holder}); a second one with the same folder does not start"
            );
            (Check::ok(NAME, found), true)
        }
        Err(LockError::Io(e)) => {
            let found = format!("the folder cannot be locked: {e}{}", owner(&path));
            let advice =
                "let the folder and the file `lock` in it belong to the user of the worker";
            (Check::failed(NAME, found, advice), false)
        }
    }
}

/// Whether the worker's HTTP port is free, or the worker's own.
pub(super) async fn http_port(addr: Option<SocketAddr>, worker_runs: bool) -> Check {
    const NAME: &str = "http_port";
    let Some(addr) = addr else { return Check::skipped(NAME, "CALL_HISTORY_HTTP_ADDR is off") };
    match TcpListener::bind(addr).await {
        Ok(_) => Check::ok(NAME, format!("{addr} is free")),
        Err(e) if e.kind() == ErrorKind::AddrInUse => {
            let who = match Listener::at(addr).await {
                Listener::Worker => "a worker",
                Listener::DrainingWorker => {
                    "a worker that is draining: it ends once its calls have ended"
                }
                Listener::Other => {
                    return Check::failed(
                        NAME,
                        format!("{addr} is used by another program; the worker will not start"),
                        "stop the program that has it, or set CALL_HISTORY_HTTP_ADDR to another address or to off",
                    );
                }
            };
            let found = format!("{addr} is used by {who}");
            if worker_runs {
                Check::ok(NAME, found)
            } else {
                Check::warning(
                    NAME,
                    format!("{found}; a second worker with these settings will not start"),
                    "a second worker needs an address of its own: set CALL_HISTORY_HTTP_ADDR, or stop the other worker first",
                )
            }
        }
        Err(e) => Check::failed(
            NAME,
            format!("{addr} cannot be used: {e}; the worker will not start"),
            "set CALL_HISTORY_HTTP_ADDR to an address of this machine with a port above 1023, or to off",
        ),
    }
}

/// Whether calls are found that nobody dispatches us to.
pub(super) fn layers(layers: Layers) -> Check {
    const NAME: &str = "discovery";
    let found = format!("calls are found by {layers}");
    if layers.reconcile {
        Check::ok(NAME, found)
    } else {
        Check::warning(
            NAME,
            found,
            "calls that none of these reports are not seen: add reconcile to CALL_HISTORY_DISCOVERY unless that is \
             meant",
        )
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
