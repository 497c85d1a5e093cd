//! `make demo`: one call from the first ring to the posted record, on this machine alone.
//!
//! Starts a dev server, an endpoint and the worker on free ports, and holds a call of some twenty
//! seconds between a phone caller and a voice agent. Then prints the posted record and the words that
//! were said. Exit status 0 only if the record is right.

mod check;
mod script;
mod show;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use lab::{
    endpoint::Endpoint,
    server::Venue,
    worker::{JWT_SECRET, Setup, Worker},
};
use show::Show;

const AGENT_NAME: &str = "call-history";
const POSTED_WITHIN: Duration = Duration::from_secs(30);

#[tokio::main]
async fn main() -> ExitCode {
    match run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            show::failed(&e);
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<()> {
    let mut show = Show::start();
    let binary = worker_binary()?;
    let venue = Venue::dev(lab::server::quick()).await?;
    show.fact(&format!("LiveKit dev server   {}", venue.url));
    let mut endpoint = Endpoint::start().await?;
    show.fact(&format!("your endpoint        {}", endpoint.url));
    let setup = Setup::new(&binary, &venue, &endpoint, AGENT_NAME);
    let mut worker = Worker::registered(setup).await?;
    show.fact("call-history         registered, waiting for calls");

    let said = script::call(&venue, &mut worker, AGENT_NAME, &mut show).await?;
    show.fact("the caller has hung up; the record is due in 2.5 s, when nobody can come back");

    let posts = endpoint.wait(script::ROOM, 1, POSTED_WITHIN).await?;
    let record = posts[0].record()?;
    posts[0].check_signature(JWT_SECRET).context("the signature is wrong")?;
    show.fact("posted, signature checked");
    show.record(&record, &said);
    check::record(&record, &said)?;
    worker.stops().await.context("the worker did not stop cleanly")?;
    show.done();
    Ok(())
}

/// The worker's binary, which is built into the same folder as this program.
fn worker_binary() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("call-history");
    if !path.exists() {
        anyhow::bail!("{} is not built; run `make demo`", path.display());
    }
    Ok(path)
}
