//! `call-history receive` as a child process.

use std::{net::SocketAddr, path::Path, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use parking_lot::Mutex;
use reqwest::Client;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::{secrets, signal, worker::JWT_SECRET};

const STARTS_WITHIN: Duration = Duration::from_secs(90);
/// Between two looks whether a record has come.
const PAUSE: Duration = Duration::from_millis(100);

/// Takes posts that are signed with [`JWT_SECRET`]. Its database is in a folder that goes with it. What it logs
/// after its start is watched for [`secrets`].
pub struct Receiver {
    pub addr: SocketAddr,
    child: Child,
    client: Client,
    leaks: Arc<Mutex<Vec<String>>>,
    _folder: TempDir,
}

impl Receiver {
    /// # Errors
    /// If it does not start: the address may be taken.
    pub async fn start(binary: &Path, addr: SocketAddr) -> Result<Self> {
        let folder = TempDir::new()?;
        let mut child = Command::new(binary)
            .arg("receive")
            .env_clear()
            .env("CALL_HISTORY_RECEIVE_ADDR", addr.to_string())
            .env("CALL_HISTORY_LOG_FORMAT", "json")
            .env("JWT_SECRET", JWT_SECRET)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", binary.display()))?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let started = timeout(STARTS_WITHIN, async {
            while let Some(line) = lines.next_line().await? {
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                match line["message"].as_str() {
                    Some("receiver started") => {
                        let addr = line["addr"].as_str().context("no address")?;
                        return Ok(addr.parse()?);
                    }
                    Some("the receiver does not start") => bail!("{}", line["error"]),
                    _ => {}
                }
            }
            bail!("it ended")
        });
        let addr = started.await.context("the receiver does not start")??;
        let leaks = Arc::<Mutex<Vec<String>>>::default();
        let leaked = leaks.clone();
        // Read to the end, so that the receiver never waits.
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                leaked.lock().extend(secrets::in_line(&line).map(|s| format!("{s:?} in {line}")));
            }
        });
        let client = Client::builder().no_proxy().build()?;
        Ok(Self { addr, child, client, leaks, _folder: folder })
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// The record of a room's call, once it is there.
    ///
    /// # Errors
    /// If it does not come in time.
    pub async fn record(&self, room: &str, within: Duration) -> Result<Value> {
        let deadline = Instant::now() + within;
        loop {
            let list = self.get(&format!("/api/calls?room_name={room}")).await?;
            if let Some(id) = list["calls"][0]["call_id"].as_str() {
                return self.get(&format!("/api/calls/{id}")).await;
            }
            ensure!(Instant::now() < deadline, "no record of {room} within {within:?}");
            sleep(PAUSE).await;
        }
    }

    async fn get(&self, path: &str) -> Result<Value> {
        Ok(self.client.get(self.url(path)).send().await?.error_for_status()?.json().await?)
    }

    /// Has it end by itself.
    ///
    /// # Errors
    /// If it does not, or not with status 0.
    pub async fn stops(mut self) -> Result<()> {
        let pid = self.child.id().context("it has ended")?;
        signal::send(pid, signal::TERM)?;
        let status = timeout(STARTS_WITHIN, self.child.wait()).await??;
        ensure!(status.success(), "the receiver ended with {status}");
        Ok(())
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let leaks = self.leaks.lock();
        assert!(
            leaks.is_empty() || std::thread::panicking(),
            "the receiver logs a phone number, a spoken word or a secret: {leaks:#?}"
        );
    }
}
