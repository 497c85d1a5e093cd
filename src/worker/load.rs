//! How busy the worker is: calls, and memory.
//!
//! LiveKit gives no job to a worker that reports a load of 0.7 or more. Among the others it chooses at
//! random, weighted by their free load. So we scale our work to less than 0.7 and report FULL separately.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// The highest load that is reported.
const MOST_LOAD: f32 = 0.69;
/// From this share of memory on the worker takes no more calls: running calls still need more memory.
const SHORT_AT: f32 = 0.9;
/// Files that hold a container's memory limit, for both versions of control groups.
const LIMITS: [&str; 2] =
    ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
/// Reading memory takes time, so a sample is used for this long.
const SAMPLED_EVERY: Duration = Duration::from_millis(500);
/// Control groups also write "no limit" as a very large number: from this one on.
const NO_LIMIT: u64 = 1 << 60;

/// Measures which share of the available memory is in use.
#[derive(Debug)]
pub(super) struct Memory {
    /// Bytes; `None` where there is no limit.
    limit: Option<u64>,
    /// The last sample and its time.
    sample: Mutex<Option<(Instant, f32)>>,
}

impl Memory {
    /// `limit`: the configured limit in bytes; without one, the container's limit counts.
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self { limit: memory_limit(limit), sample: Mutex::default() }
    }

    /// The share in use; 0 if there is no limit.
    pub(super) fn used(&self) -> f32 {
        let Some(limit) = self.limit else { return 0.0 };
        let mut sample = self.sample.lock();
        match *sample {
            Some((at, used)) if at.elapsed() < SAMPLED_EVERY => used,
            _ => {
                let used = resident().map_or(0.0, |bytes| bytes as f32 / limit as f32);
                *sample = Some((Instant::now(), used));
                used
            }
        }
    }

    /// Whether too little memory is left for more calls.
    pub(super) fn short(&self) -> bool {
        self.used() >= SHORT_AT
    }
}

/// The load to report: from the share of calls or of memory, whichever is higher.
pub(super) fn load(active: usize, max: usize, memory: f32) -> f32 {
    let calls = active as f32 / max.max(1) as f32;
    MOST_LOAD * calls.max(memory / SHORT_AT).clamp(0.0, 1.0)
}

/// Bytes that this process may use: the configured limit, else the container's; `None` where there is neither.
pub(crate) fn memory_limit(configured: Option<u64>) -> Option<u64> {
    configured.or_else(|| LIMITS.iter().find_map(|p| read_limit(Path::new(p))))
}

fn read_limit(path: &Path) -> Option<u64> {
    let bytes = fs::read_to_string(path).ok()?.trim().parse().ok()?;
    (1..NO_LIMIT).contains(&bytes).then_some(bytes)
}

/// Resident memory of this process in bytes; `None` if the system does not report it.
pub(crate) fn resident() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_stays_below_what_livekit_takes_for_full() {
        for (active, max, memory, due) in [
            (0, 100, 0.0, 0.0),
            (50, 100, 0.0, 0.345),
            (100, 100, 0.0, 0.69),
            (150, 100, 0.0, 0.69),
            (0, 100, 0.45, 0.345),
            (10, 100, 0.9, 0.69),
            (1, 100, 7.0, 0.69),
        ] {
            assert!((load(active, max, memory) - due).abs() < 0.001, "{active} {max} {memory}");
        }
    }

    #[test]
    fn memory_is_short_only_where_there_is_a_limit() {
        assert!(resident().is_some_and(|bytes| bytes > 100_000), "not reported by the system");
        assert!(Memory::new(Some(1)).short());
        assert!(!Memory::new(Some(1 << 50)).short());
        let unlimited = Memory { limit: None, sample: Mutex::default() };
        assert!(unlimited.used() == 0.0 && !unlimited.short());
    }

    #[test]
    fn limits_are_read_as_control_groups_write_them() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("memory.max");
        for (text, due) in [
            ("536870912\n", Some(536_870_912)),
            ("max\n", None),
            ("9223372036854771712\n", None),
            ("0", None),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(read_limit(&path), due, "{text}");
        }
        assert_eq!(read_limit(&dir.path().join("none")), None);
    }
}
