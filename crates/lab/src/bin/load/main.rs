//! `load`: the resources that the worker needs, measured from outside.
//!
//! Starts a dev server (or uses the LiveKit server of `LIVEKIT_URL`), an endpoint, the worker, and
//! callers and voice agents on LiveKit's Rust SDK, and reads the worker's memory and CPU from
//! `/proc`. Server, worker and people are processes of their own; the endpoint runs in this process,
//! which otherwise waits. It prints figures and no verdict: they depend on the machine and on other
//! programs that run there. Linux only. All its child processes end with it.
//!
//! ```text
//! cargo build --release -p call-history -p livekit-devserver -p lab --bins
//! target/release/load --help
//! ```

mod args;
mod bench;
mod burst;
mod crowd;
mod ending;
mod people;
mod process;
mod program;
mod report;
mod scale;
mod scripted;
mod show;
mod soak;

use std::{process::ExitCode, time::Duration};

use anyhow::{Context, Result, bail};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};

use args::{Args, Mode};
use bench::Bench;
use report::Report;

/// Time limit. With the defaults the program takes about five minutes.
const WITHIN: Duration = Duration::from_secs(30 * 60);

#[tokio::main]
async fn main() -> ExitCode {
    let done = match args::read(std::env::args().skip(1)) {
        Ok(Mode::Help) => {
            show::text(args::HELP);
            Ok(())
        }
        Ok(Mode::People) => people::run().await,
        Ok(Mode::Load(args)) => load(args).await,
        Ok(Mode::Scale(args)) => scale(args).await,
        Ok(Mode::Soak { args, minutes, rate }) => soak(args, minutes, rate).await,
        Err(e) => Err(e),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            show::failed(&e);
            ExitCode::FAILURE
        }
    }
}

async fn load(args: Args) -> Result<()> {
    let json = args.json;
    let report =
        interruptible(timeout(WITHIN, measure(args))).await?.context("it takes too long")??;
    if json { show::json(&report) } else { show::table(&report) }
}

async fn scale(args: Args) -> Result<()> {
    let json = args.json;
    let scaled =
        interruptible(timeout(WITHIN, scale::run(args))).await?.context("it takes too long")??;
    if json { show::json(&scaled) } else { show::scaled(&scaled) }
}

/// At every end, the child processes are dropped, which kills them.
async fn interruptible<T>(work: impl Future<Output = T>) -> Result<T> {
    let mut term = signal(SignalKind::terminate())?;
    tokio::select! {
        done = work => Ok(done),
        _ = tokio::signal::ctrl_c() => bail!("interrupted"),
        _ = term.recv() => bail!("interrupted"),
    }
}

async fn soak(args: Args, minutes: u64, rate: usize) -> Result<()> {
    let json = args.json;
    let soaked = interruptible(soak::run(args, minutes, rate)).await??;
    if json { show::json(&soaked) } else { show::soak(&soaked) }?;
    let faults = soaked.faults();
    if faults.is_empty() { Ok(()) } else { bail!("{}", faults.join("; ")) }
}

/// All measurements. The order matters: each one relies on those before it.
async fn measure(args: Args) -> Result<Report> {
    let n = args.calls;
    let mut bench = Bench::start(args).await?;
    let cold_start_ms = bench.cold_starts().await?;
    bench.start_worker().await?;
    let idle = bench.idle().await?;
    let (calls, _) = bench.open_calls("stays", n).await?;
    let quiet = bench.load(n, &idle).await?;
    let deleted_among_quiet = bench.deletions("among-quiet").await?;
    bench.talk(true).await?;
    let talking = bench.load(n, &idle).await?;
    let deleted_among_talking = bench.deletions("among-talking").await?;
    bench.talk(false).await?;
    bench.end_calls(&calls).await?;
    let after_calls = bench.idle().await?;
    let deleted_alone = bench.deletions("alone").await?;
    let opened_at_once = bench.open_at_once().await?;
    let dispatched_at_once = bench.dispatch_at_once().await?;
    let after_bursts = bench.idle().await?;
    let (calls_opened, calls_reported, posted_twice) = bench.tally();
    let report = Report {
        server: bench.server(),
        binary_mb: bench.binary_mb()?,
        cold_start_ms,
        idle,
        quiet,
        talking,
        after_calls,
        deleted_alone,
        deleted_among_quiet,
        deleted_among_talking,
        opened_at_once,
        dispatched_at_once,
        after_bursts,
        calls_opened,
        calls_reported,
        posted_twice,
    };
    bench.stop().await?;
    Ok(report)
}
