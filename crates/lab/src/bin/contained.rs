//! Holds a call with a worker that runs as a container, and says what is not as promised:
//!
//! ```text
//! contained COMMAND...
//! ```
//!
//! COMMAND is the program in its container, with the host's network and the environment of this process: followed by
//! `start` it runs the worker in the foreground, by `probe` the image's health check. The worker must become ready and
//! healthy, record a call, drain on SIGTERM while it stays healthy, and end with status 0.

use std::{process::Stdio, time::Duration};

use anyhow::{Context, Result, ensure};
use lab::{
    agent::VoiceAgent, endpoint::Endpoint, person::Person, server::Venue, worker::JWT_SECRET,
};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

const WITHIN: Duration = Duration::from_secs(60);
const NAME: &str = "contained";

#[tokio::main]
async fn main() -> Result<()> {
    let command: Vec<String> = std::env::args().skip(1).collect();
    let (program, arguments) = command.split_first().context("no command")?;
    let venue = Venue::dev(lab::server::quick()).await?;
    let mut endpoint = Endpoint::start().await?;
    let port = tokio::net::TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
    let addr = format!("127.0.0.1:{port}");
    let run = |command: &str| {
        let mut run = Command::new(program);
        run.args(arguments)
            .arg(command)
            .env("LIVEKIT_URL", &venue.url)
            .env("LIVEKIT_API_KEY", &venue.api_key)
            .env("LIVEKIT_API_SECRET", &venue.api_secret)
            .env("CALL_HISTORY_ENDPOINT", &endpoint.url)
            .env("CALL_HISTORY_AGENT_NAME", NAME)
            .env("CALL_HISTORY_HTTP_ADDR", &addr)
            .env("JWT_SECRET", JWT_SECRET)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        run
    };
    let (mut worker, mut probe) = (run("start"), run("probe"));
    let mut worker = worker.spawn().with_context(|| format!("starting {program}"))?;
    answers(&mut worker, &addr, "ready", 200).await?;
    ensure!(probe.status().await?.success(), "it is not healthy");
    say("ready and healthy");

    let caller = Person::phone(&venue, "room", "+15550123411", "active", true, &[NAME]).await?;
    let mut agent = VoiceAgent::join(&venue, "room", true).await?;
    agent.says("welcome to the container", Duration::from_millis(50)).await?;
    let pid = worker.id().context("it has ended")?;
    // The call is still on: the worker drains, lives, and takes no more calls.
    lab::signal::send(pid, lab::signal::TERM)?;
    answers(&mut worker, &addr, "ready", 503).await?;
    ensure!(probe.status().await?.success(), "it is not healthy while it drains");
    say("drains");
    caller.hangs_up().await?;
    let posts = endpoint.wait("room", 1, WITHIN).await?;
    posts[0].check_signature(JWT_SECRET)?;
    let record = posts[0].record()?;
    ensure!(record["metrics"]["total_agent_utterances"] == 1, "a wrong record: {record}");
    say("a record was delivered");
    let status = timeout(WITHIN, worker.wait()).await.context("it does not end")??;
    ensure!(status.success(), "it ended with {status}");
    say("ended");
    Ok(())
}

/// Waits until the worker's port answers with this status.
async fn answers(worker: &mut Child, addr: &str, path: &str, due: u16) -> Result<()> {
    let until = Instant::now() + WITHIN;
    loop {
        let answer = reqwest::get(format!("http://{addr}/{path}")).await;
        if answer.is_ok_and(|a| a.status() == due) {
            return Ok(());
        }
        if let Some(status) = worker.try_wait()? {
            anyhow::bail!("the worker has ended with {status}");
        }
        ensure!(Instant::now() < until, "/{path} does not answer {due}");
        sleep(Duration::from_millis(100)).await;
    }
}

#[allow(clippy::print_stdout)]
fn say(what: &str) {
    println!("{what}");
}
