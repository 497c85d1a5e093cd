//! The `call-history` binary as a child process. Its environment holds only the variables of its
//! [`Setup`]; its log is read line by line.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use parking_lot::Mutex;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::watch,
    time::{Instant, timeout},
};

use crate::{endpoint::Endpoint, secrets, server::Venue};

/// The setting with the layers by which a worker finds its calls.
pub const DISCOVERY: &str = "CALL_HISTORY_DISCOVERY";
pub const JWT_SECRET: &str = "lab-secret-lab-secret-lab-secret";
/// Clock ticks a second in `/proc/PID/stat` (`USER_HZ`): 100 on every Linux that is in use.
const TICKS: u32 = 100;
/// Time limit for what a worker does at once on a quiet machine: only a worker that never does it takes longer.
const WITHIN: Duration = Duration::from_secs(90);

pub struct Worker {
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
    count: watch::Receiver<usize>,
    /// Lines with something that must not be logged.
    leaks: Arc<Mutex<Vec<String>>>,
    pub data: PathBuf,
    dir: TempDir,
}

/// How to start a worker.
pub struct Setup<'a> {
    pub binary: &'a Path,
    pub args: &'a [&'a str],
    pub env: Vec<(String, String)>,
    /// A data folder to use again; a new one if `None`.
    pub data: Option<PathBuf>,
    /// Files in its working directory: path and content.
    pub files: Vec<(String, String)>,
    /// The limit on its file descriptors; that of this process if `None`.
    pub descriptors: Option<u64>,
}

impl<'a> Setup<'a> {
    /// A setup for a venue and an endpoint, under the agent name `name`.
    pub fn new(binary: &'a Path, venue: &Venue, endpoint: &Endpoint, name: &str) -> Self {
        Self::to(binary, venue, &endpoint.url, name)
    }

    /// The same with the URL of any endpoint.
    pub fn to(binary: &'a Path, venue: &Venue, endpoint: &str, name: &str) -> Self {
        let env = [
            ("LIVEKIT_URL", venue.url.as_str()),
            ("LIVEKIT_API_KEY", &venue.api_key),
            ("LIVEKIT_API_SECRET", &venue.api_secret),
            ("CALL_HISTORY_ENDPOINT", endpoint),
            ("CALL_HISTORY_AGENT_NAME", name),
            ("CALL_HISTORY_HTTP_ADDR", "127.0.0.1:0"),
            ("CALL_HISTORY_LOG_FORMAT", "json"),
            ("JWT_SECRET", JWT_SECRET),
        ];
        secrets::keep(JWT_SECRET);
        secrets::keep(&venue.api_secret);
        let env = env.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        let setup = Self { binary, args: &[], env, data: None, files: vec![], descriptors: None };
        // A foreign server may hold rooms of other tests.
        if venue.dev.is_some() {
            setup
        } else {
            setup.with("CALL_HISTORY_ROOMS", &format!("{name}*"))
        }
    }

    #[must_use]
    pub fn with(mut self, key: &str, value: &str) -> Self {
        self.env.retain(|(k, _)| k != key);
        self.env.push((key.to_owned(), value.to_owned()));
        self
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let leaks = self.leaks.lock();
        assert!(
            leaks.is_empty() || std::thread::panicking(),
            "a phone number, a spoken word or a secret is logged: {leaks:#?}"
        );
    }
}

impl Worker {
    /// # Errors
    /// If it cannot be started.
    pub fn start(setup: Setup) -> Result<Self> {
        let dir = TempDir::new()?;
        let data = setup.data.unwrap_or_else(|| dir.path().join("data"));
        for (path, content) in &setup.files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap_or(dir.path()))?;
            std::fs::write(path, content)?;
        }
        let mut command = match setup.descriptors {
            None => Command::new(setup.binary),
            // Both limits: the worker raises the soft one.
            Some(n) => {
                let mut shell = Command::new("/bin/sh");
                shell.args(["-c", &format!("ulimit -n {n} && exec \"$0\" \"$@\"")]);
                shell.arg(setup.binary);
                shell
            }
        };
        let mut child = command
            .args(setup.args)
            .env_clear()
            .envs(setup.env)
            .env("CALL_HISTORY_DATA_DIR", &data)
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", setup.binary.display()))?;
        let out = child.stdout.take().context("no output")?;
        let lines = Arc::<Mutex<Vec<Value>>>::default();
        let (counter, count) = watch::channel(0);
        let log = lines.clone();
        let leaks = Arc::<Mutex<Vec<String>>>::default();
        let leaked = leaks.clone();
        tokio::spawn(async move {
            let mut out = BufReader::new(out).lines();
            while let Ok(Some(line)) = out.next_line().await {
                if let Some(secret) = secrets::in_line(&line) {
                    leaked.lock().push(format!("{secret:?} in {line}"));
                }
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                log.lock().push(line);
                counter.send_modify(|n| *n += 1);
            }
        });
        Ok(Self { child, lines, count, leaks, data, dir })
    }

    /// Starts a worker and waits until it is registered.
    ///
    /// # Errors
    /// If it does not register in time.
    pub async fn registered(setup: Setup<'_>) -> Result<Self> {
        let mut worker = Self::start(setup)?;
        worker.logs("registered worker").await?;
        Ok(worker)
    }

    pub fn log(&self) -> Vec<Value> {
        self.lines.lock().clone()
    }

    /// Waits for a log line with this message.
    ///
    /// # Errors
    /// If the line does not appear within 90 s.
    pub async fn logs(&mut self, message: &str) -> Result<Value> {
        self.logs_nth(message, 1, WITHIN).await
    }

    /// Waits for the `n`-th log line with this message.
    ///
    /// # Errors
    /// If the line does not appear in time.
    pub async fn logs_nth(&mut self, message: &str, n: usize, within: Duration) -> Result<Value> {
        let deadline = Instant::now() + within;
        loop {
            self.count.mark_unchanged();
            let log = self.log();
            let found = log.iter().filter(|l| l["message"] == message).nth(n - 1);
            if let Some(line) = found {
                return Ok(line.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match timeout(left, self.count.changed()).await {
                Ok(Ok(())) => {}
                _ => bail!("\"{message}\" is not logged {n} times within {within:?}: {log:#?}"),
            }
        }
    }

    /// How often this message was logged about a room.
    pub fn count(&self, message: &str, room: &str) -> usize {
        self.log().iter().filter(|l| l["message"] == message && l["room"] == room).count()
    }

    /// The address of its health page.
    ///
    /// # Errors
    /// If it logs no address.
    pub async fn health(&mut self) -> Result<String> {
        let line = self.logs("health page").await?;
        Ok(line["addr"].as_str().context("no address")?.to_owned())
    }

    /// Its working directory.
    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// CPU time that it has used so far, user and kernel.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn cpu_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid().unwrap_or(0)))?;
        // The process name before the bracket may hold any characters, spaces and brackets included.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks = |n: usize| fields.get(n).and_then(|f| f.parse::<u32>().ok());
        let ticks = ticks(11).zip(ticks(12)).map(|(user, kernel)| user + kernel);
        Ok(Duration::from_secs(1) * ticks.context("no CPU time in stat")? / TICKS)
    }

    /// The names of its threads.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn threads(&self) -> Result<Vec<String>> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid().unwrap_or(0)))?;
        // A thread may end before its name is read.
        let names =
            tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
        Ok(names.map(|name| name.trim_end().to_owned()).collect())
    }

    /// Sends a signal by its number.
    ///
    /// # Errors
    /// If the process is gone.
    pub async fn signal(&self, number: i32) -> Result<()> {
        let pid = self.pid().context("already ended")?;
        crate::signal::send(pid, number)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it does not end in time.
    pub async fn ends(&mut self, within: Duration) -> Result<ExitStatus> {
        let status = timeout(within, self.child.wait());
        Ok(status.await.with_context(|| format!("still there: {:#?}", self.log()))??)
    }

    /// Sends SIGTERM twice and waits for its end: the worker does not wait for running calls.
    ///
    /// # Errors
    /// If it does not end with status 0 in 90 s.
    pub async fn stops_now(&mut self) -> Result<()> {
        self.signal(15).await?;
        // Two signals at once may arrive as one, so wait for the effect of the first.
        self.logs(
            "draining worker: no new calls, those that are on go on; signal again to stop now",
        )
        .await?;
        self.signal(15).await?;
        let status = self.ends(WITHIN).await?;
        if !status.success() {
            bail!("ended with {status}");
        }
        Ok(())
    }

    /// Sends SIGTERM and waits for its end.
    ///
    /// # Errors
    /// If it does not end with status 0 in 90 s.
    pub async fn stops(&mut self) -> Result<()> {
        self.signal(15).await?;
        let status = self.ends(WITHIN).await?;
        if !status.success() {
            bail!("ended with {status}");
        }
        Ok(())
    }
}
