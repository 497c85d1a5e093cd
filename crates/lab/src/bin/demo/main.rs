//! `make demo`: one call from the first ring to its page, on this machine alone.
//!
//! Starts a dev server, a receiver and the worker, and holds a call of some twenty seconds between a phone caller and a
//! voice agent. Then prints the record that was posted and the words that were said. Exit status 0 only if the record is
//! right. `--stay` (`make demo-page`) has a week of sample calls beside it, and keeps the receiver's pages open.

mod check;
mod script;
mod show;

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use lab::{
    receiver::Receiver,
    samples,
    server::Venue,
    worker::{JWT_SECRET, Setup, Worker},
};
use show::Show;

const AGENT_NAME: &str = "call-history";
const POSTED_WITHIN: Duration = Duration::from_secs(30);
/// Where a receiver listens by default. Another port is taken if this one is in use.
const USUAL: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8082);
const SAMPLES: u32 = 160;

#[tokio::main]
async fn main() -> ExitCode {
    let stay = std::env::args().any(|arg| arg == "--stay");
    match run(stay).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            show::failed(&e);
            ExitCode::FAILURE
        }
    }
}

async fn run(stay: bool) -> Result<()> {
    let mut show = Show::start();
    let binary = worker_binary()?;
    let venue = Venue::dev(lab::server::quick()).await?;
    show.fact(&format!("LiveKit dev server   {}", venue.url));
    let receiver = receiver(&binary).await?;
    show.fact(&format!("call-history receive {}", receiver.url("/calls")));
    if stay {
        let now = chrono::Utc::now().timestamp_millis();
        let records = samples::week(now, SAMPLES)?;
        samples::post(&receiver.url("/call-history"), &records, JWT_SECRET).await?;
        show.open(&receiver.url("/calls"), SAMPLES);
    }
    let setup = Setup::to(&binary, &venue, &receiver.url("/call-history"), AGENT_NAME)
        .with("CALL_HISTORY_EVENTS_ENDPOINT", &receiver.url("/call-events"))
        .with("CALL_HISTORY_DETAILS", "true")
        .with("CALL_HISTORY_TRANSCRIPT", "true");
    let mut worker = Worker::registered(setup).await?;
    show.fact("call-history         registered, waiting for calls");

    let said = script::call(&venue, &mut worker, AGENT_NAME, &mut show).await?;
    show.fact("the caller has hung up; the record is due in 2.5 s, when nobody can come back");

    let record = receiver.record(script::ROOM, POSTED_WITHIN).await?;
    show.fact("posted; the receiver has checked its signature and keeps it");
    show.record(&record, &said);
    let right = check::record(&record, &said);
    if !stay {
        right?;
    } else if let Err(e) = right {
        // The pages are there all the same.
        show::failed(&e);
    }
    worker.stops().await.context("the worker did not stop cleanly")?;
    let page = receiver.url(&format!("/calls/{}", record["call_id"].as_str().unwrap_or_default()));
    if stay {
        show.stays(&page);
        tokio::signal::ctrl_c().await?;
    }
    receiver.stops().await.context("the receiver did not stop cleanly")?;
    show.done(&page, stay);
    Ok(())
}

async fn receiver(binary: &Path) -> Result<Receiver> {
    match Receiver::start(binary, USUAL).await {
        Ok(receiver) => Ok(receiver),
        Err(_) => Receiver::start(binary, SocketAddr::new(USUAL.ip(), 0)).await,
    }
}

/// The worker's binary, which is built into the same folder as this program.
fn worker_binary() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("call-history");
    if !path.exists() {
        anyhow::bail!("{} is not built; run `make demo`", path.display());
    }
    Ok(path)
}
