//! Growth: a worker with more and more calls, until this machine is full.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;
use tokio::time::sleep;

use crate::{
    args::Args,
    bench::Bench,
    report::{Endings, Idle, Load, Spread},
};

/// Calls that are on at once, one step after the other. The last step has as many as `--calls` says.
const SIZES: [usize; 3] = [100, 200, 400];
/// More calls than this do not talk.
const TALK: usize = 400;
/// Per cent of this machine from which server and callers are too slow to say anything about the worker.
const FULL: f64 = 90.0;
/// Rooms that end while the others go on.
const ENDS: usize = 20;
/// A worker takes no more jobs at 70 % of its most calls.
const MAX_CALLS: &str = "2000";
const HTTP_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize)]
pub(crate) struct Scaled {
    pub(crate) server: String,
    pub(crate) idle: Idle,
    pub(crate) steps: Vec<Step>,
    /// Why there is no further step, if the machine could not hold all.
    pub(crate) ended_at: Option<String>,
    pub(crate) opened: usize,
    pub(crate) reported: usize,
    /// From the first deletion of all quiet calls' rooms to the last record.
    pub(crate) reported_s: f64,
}

/// So many calls at once. Figures of a call are what it adds to the worker without calls.
#[derive(Debug, Serialize)]
pub(crate) struct Step {
    pub(crate) calls: usize,
    /// Joins of the quiet calls that this step has added.
    pub(crate) joins: Spread,
    pub(crate) quiet: Load,
    pub(crate) talking: Option<Load>,
    /// Rooms that ended while all others talked, or were quiet if there are too many to talk or the machine was full.
    pub(crate) ends: Endings,
    pub(crate) disk: Disk,
}

/// Writes of journals since the start of the worker: of the one whose calls talk, if they do.
#[derive(Debug, Serialize)]
pub(crate) struct Disk {
    pub(crate) writes: u64,
    /// The bounds of a histogram, in seconds, and the writes that took no longer.
    within: Vec<(f64, u64)>,
}

impl Disk {
    /// The least bound that all writes have kept.
    pub(crate) fn most(&self) -> String {
        let all = self.within.iter().find(|(_, n)| *n == self.writes);
        all.map_or("more".into(), |(bound, _)| format!("{:.0} ms", bound * 1e3))
    }
}

/// A worker with more and more quiet calls, and after it another one with more and more that talk: a call that has talked
/// takes more than one that was always quiet.
///
/// # Errors
/// If something does not start, or a hundred calls or fewer could not be held.
pub(crate) async fn run(args: Args) -> Result<Scaled> {
    let most = args.calls;
    let env = [args.env, vec![("CALL_HISTORY_MAX_CALLS".into(), MAX_CALLS.into())]].concat();
    let calls = most + 1;
    let mut bench = Bench::start(Args { calls, burst: 0, deletions: ENDS, env, ..args }).await?;
    bench.start_worker().await?;
    let idle = bench.idle().await?;
    let (mut steps, mut rooms, mut ended_at) = (vec![], vec![], None);
    for calls in SIZES.into_iter().filter(|calls| *calls < most).chain([most]) {
        match bench.quiet_step(calls, &mut rooms, &idle).await {
            Ok(step) => steps.push(step),
            Err(e) => {
                ended_at = Some(format!("{calls} calls could not be held: {e:#}"));
                break;
            }
        }
    }
    let took = bench.end_calls(&rooms).await.unwrap_or_default().0;
    bench.restart_worker(false).await?;
    let (idle_of_talk, mut rooms) = (bench.idle().await?, vec![]);
    for step in steps.iter_mut().filter(|s| s.calls <= TALK) {
        match bench.talking_step(step.calls, &mut rooms, &idle_of_talk).await {
            Ok(talking) => (step.talking, step.ends, step.disk) = talking,
            Err(e) => {
                ended_at = Some(format!("{} talking calls could not be held: {e:#}", step.calls));
                break;
            }
        }
    }
    let _ = bench.end_calls(&rooms).await;
    let (opened, reported, _) = bench.tally();
    let (server, reported_s) = (bench.server(), took.as_secs_f64());
    // Where the machine was too full, calls may still be on: their processes are killed.
    let _ = bench.stop().await;
    if let Some(why) = ended_at.as_ref().filter(|_| most <= SIZES[0]) {
        bail!("so few calls fill no machine: {why}");
    }
    Ok(Scaled { server, idle, steps, ended_at, opened, reported, reported_s })
}

impl Bench {
    /// Opens calls until there are so many.
    async fn open_to(
        &mut self,
        calls: usize,
        what: &str,
        rooms: &mut Vec<String>,
    ) -> Result<Spread> {
        let (more, joins) =
            self.open_calls(&format!("{what}-{calls}"), calls - rooms.len()).await?;
        rooms.extend(more);
        Ok(joins)
    }

    async fn quiet_step(
        &mut self,
        calls: usize,
        rooms: &mut Vec<String>,
        idle: &Idle,
    ) -> Result<Step> {
        let joins = self.open_to(calls, "quiet", rooms).await?;
        let quiet = self.load(calls, idle).await?;
        let ends = self.deletions(&format!("among-{calls}-quiet")).await?;
        Ok(Step { calls, joins, quiet, talking: None, ends, disk: self.disk().await? })
    }

    async fn talking_step(
        &mut self,
        calls: usize,
        rooms: &mut Vec<String>,
        idle: &Idle,
    ) -> Result<(Option<Load>, Endings, Disk)> {
        self.open_to(calls, "talking", rooms).await?;
        self.talk(true).await?;
        let talking = self.load(calls, idle).await?;
        if talking.machine_percent > FULL {
            self.talk(false).await?;
            sleep(self.args.settle).await;
        }
        let ends = self.deletions(&format!("among-{calls}-talking")).await?;
        self.talk(false).await?;
        Ok((Some(talking), ends, self.disk().await?))
    }

    async fn disk(&self) -> Result<Disk> {
        let client = reqwest::Client::builder().timeout(HTTP_WITHIN).build()?;
        let page =
            client.get(format!("http://{}/metrics", self.http())).send().await?.text().await?;
        let of = |name: &str| {
            let name = format!("call_history_journal_write_seconds_{name}");
            page.lines().filter_map(move |line| line.strip_prefix(&name).map(str::to_owned))
        };
        let writes = of("count ").next().and_then(|n| n.parse().ok()).context("no such metric")?;
        let bound = |line: String| {
            let (bound, n) = line.strip_prefix("{le=\"")?.split_once("\"} ")?;
            let bound: f64 = bound.parse().ok()?;
            bound.is_finite().then_some((bound, n.parse().ok()?))
        };
        Ok(Disk { writes, within: of("bucket").filter_map(bound).collect() })
    }
}
