//! The setup of the measurements, and the measurements of the worker at rest and at work.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use lab::{endpoint::Endpoint, server::Venue, worker::Setup};
use tempfile::TempDir;
use tokio::{
    process::Command,
    time::{Instant, sleep},
};

use crate::{
    args::Args,
    crowd::Crowd,
    process::{Machine, Usage},
    program::Program,
    report::{Idle, Load, Spread, millis},
};

pub(crate) const AGENT_NAME: &str = "call-history-load";
pub(crate) const LOGS_WITHIN: Duration = Duration::from_secs(30);
/// Calls that are opened at the same time, except in the bursts.
pub(crate) const OPEN_AT_ONCE: usize = 10;
/// The worker's data folder.
const DATA: &str = "data";
/// How long an idle process is measured. A longer time would show no more: it does almost nothing.
const IDLE_FOR: Duration = Duration::from_secs(10);

pub(crate) struct Bench {
    pub(crate) args: Args,
    pub(crate) venue: Venue,
    pub(crate) endpoint: Endpoint,
    pub(crate) crowd: Crowd,
    /// Rooms of all calls so far.
    pub(crate) opened: Vec<String>,
    binary: PathBuf,
    /// The dev server; `None` when `LIVEKIT_URL` names another server.
    server: Option<Program>,
    worker: Option<Program>,
    /// The worker's HTTP port.
    http: String,
    /// In place of the server's address, for the worker.
    through: Option<SocketAddr>,
    dir: TempDir,
}

impl Bench {
    /// Starts everything but the worker.
    ///
    /// # Errors
    /// If something is not built or does not start.
    pub(crate) async fn start(args: Args) -> Result<Self> {
        let binary = match &args.worker {
            Some(path) => path.canonicalize()?,
            None => beside("call-history")?,
        };
        let (server, venue) = match std::env::var("LIVEKIT_URL") {
            Ok(url) if !url.is_empty() => (None, Venue::from_env().await?),
            _ => {
                // Installs the cryptography provider, as `Venue`'s constructors do.
                let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
                let (server, venue) = dev_server().await?;
                (Some(server), venue)
            }
        };
        let crowd = Crowd::start(&venue, args.burst.max(args.calls + 1))?;
        let (endpoint, dir) = (Endpoint::start().await?, TempDir::new()?);
        let opened = vec![];
        let (worker, http, through) = (None, String::new(), None);
        Ok(Self {
            args,
            venue,
            endpoint,
            crowd,
            opened,
            binary,
            server,
            worker,
            http,
            through,
            dir,
        })
    }

    pub(crate) fn server(&self) -> String {
        let url = &self.venue.url;
        if self.server.is_some() { format!("dev server {url}") } else { url.clone() }
    }

    pub(crate) fn binary_mb(&self) -> Result<f64> {
        Ok(self.binary.metadata()?.len() as f64 / 1e6)
    }

    fn spawn_worker(&self, data: &str) -> Result<Program> {
        // All rooms of this run, so that it finds those that no dispatch led it to.
        let setup = Setup::new(&self.binary, &self.venue, &self.endpoint, AGENT_NAME)
            .with("CALL_HISTORY_ROOMS", &format!("load-{}-*", run()));
        let mut command = Command::new(&self.binary);
        command
            .env_clear()
            // As in the image and the systemd unit.
            .env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0")
            .envs(setup.env)
            .env("CALL_HISTORY_DATA_DIR", self.dir.path().join(data))
            .envs(self.args.env.iter().cloned())
            .envs(self.through.map(|addr| ("LIVEKIT_URL", format!("ws://{addr}"))))
            .current_dir(self.dir.path());
        Program::start_with_log(command, self.args.log.as_deref())
    }

    pub(crate) fn worker(&mut self) -> Result<&mut Program> {
        self.worker.as_mut().context("the worker is not started")
    }

    /// The host and port of a server without TLS.
    ///
    /// # Errors
    /// If it has TLS.
    pub(crate) fn host(&self) -> Result<String> {
        let host = self.venue.url.strip_prefix("ws://").context("the server's URL is no ws://")?;
        Ok(host.trim_end_matches('/').to_owned())
    }

    /// From now on a worker that is started reaches the server at this address.
    pub(crate) const fn goes_through(&mut self, addr: SocketAddr) {
        self.through = Some(addr);
    }

    /// The worker's data folder.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join(DATA)
    }

    pub(crate) fn usage(&self) -> Result<Usage> {
        Usage::of(self.worker.as_ref().context("the worker is not started")?.pid)
    }

    /// The address of the worker's HTTP port.
    pub(crate) fn http(&self) -> &str {
        &self.http
    }

    pub(crate) fn peak_mb(&self) -> Result<f64> {
        Ok(self.usage()?.peak_kb / 1024.0)
    }

    fn server_usage(&self) -> Option<Usage> {
        Usage::of(self.server.as_ref()?.pid).ok()
    }

    // ---- at rest -----------------------------------------------------------------------------

    /// The time from the start of the process to its log line "registered worker", several times.
    ///
    /// # Errors
    /// If it does not register.
    pub(crate) async fn cold_starts(&self) -> Result<Spread> {
        let mut took = vec![];
        for i in 0..self.args.starts {
            let began = Instant::now();
            let mut worker = self.spawn_worker(&format!("start-{i}"))?;
            let (at, _) = registered(&mut worker).await?;
            took.push(millis(at - began));
            worker.stops().await?;
        }
        Ok(Spread::of(took))
    }

    pub(crate) async fn start_worker(&mut self) -> Result<()> {
        let mut worker = self.spawn_worker(DATA)?;
        self.http = registered(&mut worker).await?.1;
        self.worker = Some(worker);
        Ok(())
    }

    /// Ends the worker while calls are on, and starts it again with its data.
    ///
    /// # Errors
    /// If it does not register.
    pub(crate) async fn restart_worker(&mut self, is_killed: bool) -> Result<()> {
        let worker = self.worker.take().context("the worker is not started")?;
        if is_killed {
            worker.kills().await?;
        } else {
            worker.stops_now().await?;
        }
        self.start_worker().await
    }

    /// Measures the worker without calls.
    ///
    /// # Errors
    /// If the worker is gone.
    pub(crate) async fn idle(&mut self) -> Result<Idle> {
        sleep(self.args.settle).await;
        let before = self.usage()?;
        sleep(IDLE_FOR.min(self.args.seconds)).await;
        let now = self.usage()?;
        Ok(Idle {
            rss_mb: now.rss_kb / 1024.0,
            pss_mb: now.pss_kb / 1024.0,
            peak_mb: now.peak_kb / 1024.0,
            cpu_percent: now.cpu_percent_since(&before),
            fds: now.fds,
            threads: now.threads,
        })
    }

    // ---- at work -----------------------------------------------------------------------------

    /// Opens calls that stay on. Returns their rooms, and how long the worker's joins took, in ms.
    ///
    /// # Errors
    /// If a call cannot be opened, or is not observed.
    pub(crate) async fn open_calls(
        &mut self,
        what: &str,
        n: usize,
    ) -> Result<(Vec<String>, Spread)> {
        let rooms = rooms(what, n);
        self.crowd.open(&rooms, OPEN_AT_ONCE, Some(AGENT_NAME)).await?;
        self.crowd.opened(&rooms).await?.all()?;
        let (mut joins, mut started) = (vec![], 0);
        while started < n {
            let line = |_, line: &serde_json::Value| {
                let joined = has_message(line, "joined");
                (joined || has_message(line, "call started"))
                    .then(|| joined.then(|| line["took_ms"].as_f64().unwrap_or_default()))
            };
            match self
                .worker()?
                .wait_for(LOGS_WITHIN, line)
                .await
                .context("calls are not observed")?
            {
                Some(took) => joins.push(took),
                None => started += 1,
            }
        }
        self.opened.extend(rooms.clone());
        Ok((rooms, Spread::of(joins)))
    }

    pub(crate) async fn talk(&mut self, on: bool) -> Result<()> {
        self.crowd.talk(on).await
    }

    /// Measures the worker with the `calls` that are on.
    ///
    /// # Errors
    /// If a child process has ended.
    pub(crate) async fn load(&mut self, calls: usize, idle: &Idle) -> Result<Load> {
        sleep(self.args.settle).await;
        let (before, server_before, machine) =
            (self.usage()?, self.server_usage(), Machine::now()?);
        let (chunks_before, began) = (self.crowd.chunks().await?, Instant::now());
        sleep(self.args.seconds).await;
        let (now, server_now) = (self.usage()?, self.server_usage());
        let chunks = self.crowd.chunks().await? - chunks_before;
        let each = calls as f64;
        Ok(Load {
            calls,
            machine_percent: Machine::now()?.busy_percent_since(&machine),
            chunks_per_call_and_second: chunks as f64 / each / began.elapsed().as_secs_f64(),
            rss_mb: now.rss_kb / 1024.0,
            pss_mb: now.pss_kb / 1024.0,
            rss_kb_per_call: (now.rss_kb - idle.rss_mb * 1024.0) / each,
            pss_kb_per_call: (now.pss_kb - idle.pss_mb * 1024.0) / each,
            cpu_percent_per_call: (now.cpu_percent_since(&before) - idle.cpu_percent) / each,
            fds_per_call: (now.fds - idle.fds) / each,
            threads_per_call: (now.threads - idle.threads) / each,
            server_cpu_percent: server_now.zip(server_before).map(|(n, b)| n.cpu_percent_since(&b)),
        })
    }

    /// Ends the child processes one after the other.
    ///
    /// # Errors
    /// If a process does not end; it is then killed.
    pub(crate) async fn stop(mut self) -> Result<()> {
        if let Some(worker) = self.worker.take() {
            worker.stops().await.context("the worker")?;
        }
        drop(self.crowd);
        match self.server.take() {
            Some(server) => server.stops().await.context("the dev server"),
            None => Ok(()),
        }
    }
}

/// Names of rooms; each ends in a number, from which a caller's phone number is made.
pub(crate) fn rooms(what: &str, n: usize) -> Vec<String> {
    let run = run();
    (0..n).map(|i| format!("load-{run}-{what}-{i}")).collect()
}

/// Different in each run: a foreign server may still hold the rooms of the last run.
fn run() -> u32 {
    std::process::id() % 100_000
}

/// Whether a line of the worker's log has this message.
pub(crate) fn has_message(line: &serde_json::Value, message: &str) -> bool {
    line["message"] == message
}

/// The moment at which the worker is registered, and the address of its HTTP port.
async fn registered(worker: &mut Program) -> Result<(Instant, String)> {
    let mut http = String::new();
    let line = |at, line: &serde_json::Value| {
        if has_message(line, "health page") {
            line["addr"].as_str().unwrap_or_default().clone_into(&mut http);
        }
        has_message(line, "registered worker").then_some(at)
    };
    let at = worker.wait_for(LOGS_WITHIN, line).await.context("the worker does not register")?;
    Ok((at, http))
}

async fn dev_server() -> Result<(Program, Venue)> {
    let mut command = Command::new(beside("livekit-devserver")?);
    command.args(["--port", "0", "--departure-timeout", "3"]).env("RUST_LOG", "error");
    let mut server = Program::start(command)?;
    let ready = |_, line: &serde_json::Value| {
        let word = |key: &str| Some(line[key].as_str()?.to_owned());
        let (url, api_key, api_secret) = (word("url")?, word("api_key")?, word("api_secret")?);
        Some(Venue { url, api_key, api_secret, dev: None })
    };
    let venue = server.wait_for(LOGS_WITHIN, ready).await.context("the dev server")?;
    Ok((server, venue))
}

/// The path of a program that is built into the same folder as this one.
fn beside(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if !path.exists() {
        bail!("{} is not built; see the head of this program's source", path.display());
    }
    Ok(path)
}
