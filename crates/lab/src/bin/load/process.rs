//! The resources of a process, as the kernel reports them in `/proc`.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use tokio::time::Instant;

/// Clock ticks a second in `/proc/PID/stat` (`USER_HZ`): 100 on every Linux that is in use.
const TICKS: u32 = 100;

/// The resources of a process at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    at: Instant,
    /// CPU time since the start, user and kernel.
    cpu: Duration,
    /// Resident memory; shared pages count in full.
    pub(crate) rss_kb: f64,
    /// Resident memory; shared pages count in proportion.
    pub(crate) pss_kb: f64,
    /// The peak of the resident memory.
    pub(crate) peak_kb: f64,
    pub(crate) fds: f64,
    pub(crate) threads: f64,
}

impl Usage {
    /// # Errors
    /// If the process is gone or belongs to another user.
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let dir = PathBuf::from(format!("/proc/{pid}"));
        let read = |file: &str| {
            fs::read_to_string(dir.join(file)).with_context(|| format!("/proc/{pid}/{file}"))
        };
        let (memory, status, stat) = (read("smaps_rollup")?, read("status")?, read("stat")?);
        // The process name before the bracket may hold any characters, spaces and brackets included.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<u32>().ok());
        let ticks = ticks(11).zip(ticks(12)).map(|(user, kernel)| user + kernel);
        Ok(Self {
            at: Instant::now(),
            cpu: Duration::from_secs(1) * ticks.context("no CPU time in stat")? / TICKS,
            rss_kb: field(&memory, "Rss")?,
            pss_kb: field(&memory, "Pss")?,
            peak_kb: field(&status, "VmHWM")?,
            fds: fs::read_dir(dir.join("fd"))?.count() as f64,
            threads: field(&status, "Threads")?,
        })
    }

    /// CPU since an earlier measurement, in per cent of one core.
    pub(crate) fn cpu_percent_since(&self, earlier: &Self) -> f64 {
        let cpu = self.cpu.saturating_sub(earlier.cpu).as_secs_f64();
        100.0 * cpu / (self.at - earlier.at).as_secs_f64()
    }
}

/// The CPU time of all cores since the start of the system, in ticks.
pub(crate) struct Machine {
    idle: u64,
    all: u64,
}

impl Machine {
    /// # Errors
    /// If there is no `/proc/stat`.
    pub(crate) fn now() -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat")?;
        let ticks: Vec<u64> = (stat.lines().next().unwrap_or_default().split_whitespace())
            .filter_map(|word| word.parse().ok())
            // The last two are guest time, which is already in user time.
            .take(8)
            .collect();
        // Idle, and waiting for a disk.
        Ok(Self { idle: ticks.iter().skip(3).take(2).sum(), all: ticks.iter().sum() })
    }

    pub(crate) fn busy_percent_since(&self, earlier: &Self) -> f64 {
        // The kernel may correct the time of waiting downwards.
        let (idle, all) =
            (self.idle.saturating_sub(earlier.idle), self.all.saturating_sub(earlier.all));
        100.0 - 100.0 * idle as f64 / all.max(1) as f64
    }
}

/// The number in a line like `Rss:   1234 kB`.
fn field(text: &str, name: &str) -> Result<f64> {
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|l| l.split_whitespace().next()?.parse().ok());
    number.with_context(|| format!("no {name} in /proc"))
}
