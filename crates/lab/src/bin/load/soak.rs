//! A soak: calls that begin and end for a long time, while the network, the endpoint and the worker fail now and then.
//!
//! It looks for what grows, and for calls that are lost or reported twice. Unlike the other measurements it has a
//! verdict: see [`Soaked::faults`].

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    time::Duration,
};

use anyhow::{Context, Result};
use lab::{endpoint::Answer, relay::Relay};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::{
    args::Args,
    bench::{Bench, OPEN_AT_ONCE, rooms},
    process::Usage,
};

/// Every ten seconds a wave of calls begins, and one ends.
const WAVE: Duration = Duration::from_secs(10);
/// Waves for which a call lasts.
const LASTS: usize = 3;
/// Waves between two cuts of all the worker's connections to the server.
const CUT_EVERY: usize = 7;
/// Waves between two failures of the endpoint, and the answers that fail then.
const ENDPOINT_FAILS_EVERY: usize = 13;
const FAILING_ANSWERS: usize = 15;
/// How long the last records may take: an attempt that fails is repeated within a minute.
const POSTED_WITHIN: Duration = Duration::from_secs(240);
/// After the last call, so that what is given back late is given back.
const REST: Duration = Duration::from_secs(60);
/// MB by which memory may be larger in the last quarter of the time than in the third, and after the last call than before the first.
const MAY_GROW: f64 = 2.0;
const MAY_KEEP: f64 = 20.0;

/// The worker and its data folder at one moment.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Sample {
    pub(crate) seconds: u64,
    pub(crate) calls_so_far: usize,
    pub(crate) rss_mb: f64,
    pub(crate) fds: f64,
    pub(crate) threads: f64,
    pub(crate) folder_files: usize,
    pub(crate) folder_kb: f64,
}

#[derive(Debug, Serialize)]
pub(crate) struct Soaked {
    pub(crate) server: String,
    pub(crate) calls: usize,
    /// Rooms without a record.
    pub(crate) lost: Vec<String>,
    /// Rooms with more than one call that was answered 200. (The same one may be posted again after a kill.)
    pub(crate) twice: Vec<String>,
    pub(crate) attempts_that_failed: usize,
    /// Connections of the worker to the server that were cut.
    pub(crate) cuts: usize,
    /// The worker was killed, and later stopped, while calls were on.
    pub(crate) restarts: usize,
    /// Before the first call, with each wave, and a minute after the last call.
    pub(crate) samples: Vec<Sample>,
}

impl Soaked {
    /// What is wrong, in sentences.
    pub(crate) fn faults(&self) -> Vec<String> {
        let mut faults = vec![];
        for (what, rooms) in [("lost", &self.lost), ("reported twice", &self.twice)] {
            if let Some(one) = rooms.first() {
                faults.push(format!("{} calls were {what}, such as that of {one}", rooms.len()));
            }
        }
        let (Some(fresh), Some(rest)) = (self.samples.first(), self.samples.last()) else {
            return faults;
        };
        // A room's ordinal is forgotten ten minutes after the room is gone.
        let is_forgotten = |s: &&Sample| s.seconds + 11 * 60 < rest.seconds;
        let forgotten = self.samples.iter().rev().find(is_forgotten).map_or(0, |s| s.calls_so_far);
        if rest.folder_files > fresh.folder_files + rest.calls_so_far - forgotten {
            let (files, before) = (rest.folder_files, fresh.folder_files);
            faults.push(format!("the data folder has {files} files, and had {before}"));
        }
        // Some are opened with the first call, and stay.
        if rest.fds > fresh.fds + 25.0 {
            faults.push(format!("{} files are open, and were {}", rest.fds, fresh.fds));
        }
        if rest.threads > fresh.threads + 12.0 {
            faults.push(format!("{} threads are there, and were {}", rest.threads, fresh.threads));
        }
        let (early, late) = self.memory();
        if late > early + MAY_GROW {
            faults.push(format!("memory grows: {early:.1} MB, and later {late:.1} MB"));
        }
        if rest.rss_mb > fresh.rss_mb + MAY_KEEP {
            let (kept, before) = (rest.rss_mb, fresh.rss_mb);
            faults.push(format!("{kept:.1} MB are not given back, and {before:.1} MB were enough"));
        }
        if self.attempts_that_failed == 0 || self.cuts == 0 {
            faults.push("the faults did not happen".into());
        }
        faults
    }

    /// The median of RSS in the third and in the last quarter of the time, both after the last restart, in MB.
    pub(crate) fn memory(&self) -> (f64, f64) {
        // The last sample is of the rest after the calls.
        let n = self.samples.len();
        let since = self.samples.get(n / 2..n.saturating_sub(1)).unwrap_or_default();
        let (early, late) = since.split_at(since.len() / 2);
        (median(early), median(late))
    }
}

fn median(samples: &[Sample]) -> f64 {
    let mut all: Vec<f64> = samples.iter().map(|s| s.rss_mb).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or_default()
}

/// `minutes` of `calls` calls a minute.
///
/// # Errors
/// If something does not start, or the server refuses calls.
pub(crate) async fn run(args: Args, minutes: u64, calls: usize) -> Result<Soaked> {
    let waves = usize::try_from(minutes * 60 / WAVE.as_secs())?;
    let each = calls.div_ceil(6);
    let mut bench = Bench::start(Args { calls: each * (LASTS + 1), burst: 0, ..args }).await?;
    let relay = Relay::start(bench.host()?).await?;
    bench.goes_through(relay.addr);
    bench.start_worker().await?;
    let api = bench.venue.rooms();
    bench.crowd.talk(true).await?;

    let (mut samples, mut cuts, mut restarts) = (vec![bench.sample(0, 0)?], 0, 0);
    let all = rooms("soak", waves * each);
    let began = Instant::now();
    let mut ticks = interval(WAVE);
    // A restart takes longer than a wave.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for wave in 0..waves + LASTS {
        ticks.tick().await;
        if wave % CUT_EVERY == CUT_EVERY - 1 {
            cuts += relay.cut();
        }
        if wave % ENDPOINT_FAILS_EVERY == ENDPOINT_FAILS_EVERY - 1 {
            bench.endpoint.answers((0..FAILING_ANSWERS).map(|_| Answer::Status(503)));
        }
        // The rest of the time belongs to one process, whose memory can be compared.
        if wave == waves / 6 || wave == waves / 3 {
            bench.restart_worker(wave == waves / 6).await?;
            restarts += 1;
        }
        if let Some(end) = wave.checked_sub(LASTS) {
            let over = &all[end * each..(end + 1) * each];
            for room in over {
                api.delete_room(room).await.context("ending a call")?;
            }
            bench.crowd.forget(over).await?;
        }
        if wave < waves {
            let new = &all[wave * each..(wave + 1) * each];
            bench.crowd.open(new, OPEN_AT_ONCE, Some(crate::bench::AGENT_NAME)).await?;
            bench.crowd.opened(new).await?.all()?;
        }
        samples.push(bench.sample(began.elapsed().as_secs(), (wave + 1).min(waves) * each)?);
    }
    let deadline = Instant::now() + POSTED_WITHIN;
    while bench.reported().len() < all.len() && Instant::now() < deadline {
        sleep(Duration::from_millis(500)).await;
    }
    sleep(REST).await;
    samples.push(bench.sample(began.elapsed().as_secs(), all.len())?);
    let reported = bench.reported();
    let lost = all.iter().filter(|room| !reported.contains_key(*room)).cloned().collect();
    let twice = reported
        .iter()
        .filter(|(_, calls)| calls.len() > 1)
        .map(|(room, _)| room.clone())
        .collect();
    let attempts_that_failed = bench.endpoint.posts().iter().filter(|p| p.status != 200).count();
    let server = bench.server();
    bench.stop().await?;
    let calls = all.len();
    Ok(Soaked { server, calls, lost, twice, attempts_that_failed, cuts, restarts, samples })
}

impl Bench {
    fn sample(&self, seconds: u64, calls_so_far: usize) -> Result<Sample> {
        let usage: Usage = self.usage()?;
        let (folder_files, bytes) = files(&self.data())?;
        Ok(Sample {
            seconds,
            calls_so_far,
            rss_mb: usage.rss_kb / 1024.0,
            fds: usage.fds,
            threads: usage.threads,
            folder_files,
            folder_kb: bytes as f64 / 1024.0,
        })
    }

    /// The calls of each room whose record was answered 200.
    fn reported(&self) -> HashMap<String, HashSet<String>> {
        let mut all = HashMap::<String, HashSet<String>>::new();
        for post in self.endpoint.posts().iter().filter(|post| post.status == 200) {
            let record = post.record().unwrap_or_default();
            let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
            all.entry(text("room_name")).or_default().insert(text("call_id"));
        }
        all
    }
}

/// The number and the size of all files in a folder, but for records that were delivered: they stay for a day.
fn files(folder: &Path) -> Result<(usize, u64)> {
    let (mut number, mut bytes) = (0, 0);
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.ends_with("sent") {
            continue;
        }
        // A file may go while this looks.
        let Ok(meta) = path.symlink_metadata() else { continue };
        let (n, size) = if meta.is_dir() { files(&path)? } else { (1, meta.len()) };
        (number, bytes) = (number + n, bytes + size);
    }
    Ok((number, bytes))
}
