//! A child process that reports by lines of JSON on its stdout. Each line gets the time at which it was
//! read. The process is killed when this is dropped.

use std::{fs::OpenOptions, io::Write, path::Path, process::Stdio, time::Duration};

use anyhow::{Context, Result, bail};
use lab::signal;
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, Command},
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

const ENDS_WITHIN: Duration = Duration::from_secs(15);
/// With calls on: they are handed over, their records are posted, and the endpoint may fail meanwhile.
const ENDS_WITH_CALLS_WITHIN: Duration = Duration::from_secs(90);

pub(crate) struct Program {
    child: Child,
    orders: Option<ChildStdin>,
    lines: mpsc::UnboundedReceiver<(Instant, Value)>,
    pub(crate) pid: u32,
}

impl Program {
    /// Starts the command. Its stderr goes to ours.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(crate) fn start(command: Command) -> Result<Self> {
        Self::start_with_log(command, None)
    }

    /// As [`Program::start`]; appends its lines to a file.
    ///
    /// # Errors
    /// If it cannot be started, or there is no such file.
    pub(crate) fn start_with_log(mut command: Command, log: Option<&Path>) -> Result<Self> {
        let open = |path| OpenOptions::new().create(true).append(true).open(path);
        let mut log = log.map(open).transpose().context("the log's file")?;
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {:?}", command.as_std().get_program()))?;
        let pid = child.id().context("ended at once")?;
        let out = child.stdout.take().context("no output")?;
        let orders = child.stdin.take();
        let (tx, lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut out = BufReader::new(out).lines();
            while let Ok(Some(line)) = out.next_line().await {
                if let Some(log) = &mut log {
                    let _ = writeln!(log, "{line}");
                }
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                // Read on even if the receiver is gone: a full pipe would stop the program.
                let _ = tx.send((Instant::now(), line));
            }
        });
        Ok(Self { child, orders, lines, pid })
    }

    /// Waits for the first line for which `what` returns `Some`. Earlier lines are dropped.
    ///
    /// # Errors
    /// If no such line arrives in time.
    pub(crate) async fn wait_for<T>(
        &mut self,
        within: Duration,
        mut what: impl FnMut(Instant, &Value) -> Option<T>,
    ) -> Result<T> {
        let deadline = Instant::now() + within;
        loop {
            match timeout_at(deadline, self.lines.recv()).await {
                Ok(Some((at, line))) => {
                    if let Some(found) = what(at, &line) {
                        return Ok(found);
                    }
                }
                Ok(None) => bail!("a child process ended"),
                Err(_) => bail!("a child process did not say in {within:?} what was waited for"),
            }
        }
    }

    /// # Errors
    /// If the process has ended.
    pub(crate) async fn order(&mut self, order: &Value) -> Result<()> {
        let orders = self.orders.as_mut().context("it takes no orders")?;
        orders.write_all(format!("{order}\n").as_bytes()).await.context("it is gone")
    }

    /// # Errors
    /// If it cannot be killed.
    pub(crate) async fn kills(mut self) -> Result<()> {
        self.child.kill().await.context("it cannot be killed")
    }

    /// Sends SIGTERM twice, so that it does not wait for running calls, and waits for its end.
    ///
    /// # Errors
    /// If it does not end.
    pub(crate) async fn stops_now(mut self) -> Result<()> {
        signal::send(self.pid, signal::TERM)?;
        let draining =
            |_, line: &Value| line["message"].as_str()?.starts_with("draining").then_some(());
        self.wait_for(ENDS_WITHIN, draining).await?;
        signal::send(self.pid, signal::TERM)?;
        let ended = timeout(ENDS_WITH_CALLS_WITHIN, self.child.wait());
        ended.await.context("it does not end")??;
        Ok(())
    }

    /// Sends SIGTERM and waits for its end.
    ///
    /// # Errors
    /// If it does not end.
    pub(crate) async fn stops(mut self) -> Result<()> {
        signal::send(self.pid, signal::TERM)?;
        timeout(ENDS_WITHIN, self.child.wait()).await.context("it does not end")??;
        Ok(())
    }
}
