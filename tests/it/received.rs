//! The worker's own delivery against the real receiver: kills, two receivers at once, a full disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Stdio,
};

use anyhow::{Context, Result, bail, ensure};
use lab::worker::JWT_SECRET;
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::{Instant, sleep, timeout},
};

use super::*;

/// Starts a Postgres of its own, which the tests of the receiver need too.
#[path = "../../crates/receiver/tests/it/postgres.rs"]
#[allow(dead_code)]
mod postgres;

/// No test waits longer for one event. It is far more than any of them takes.
const GENEROUS: Duration = Duration::from_secs(240);
const POSTS: usize = 2_000;

/// A receiver as a process. Killed and started again it has the same address and database.
struct Receiver {
    child: Child,
    addr: String,
    env: Vec<(String, String)>,
    folder: std::path::PathBuf,
}

impl Receiver {
    async fn start(folder: &Path, db: Option<&str>) -> Result<Self> {
        let mut env = vec![("JWT_SECRET".to_owned(), JWT_SECRET.to_owned())];
        if let Some(db) = db {
            env.push(("CALL_HISTORY_RECEIVE_DB".into(), db.into()));
        }
        let (child, addr) = started(folder, &env, "127.0.0.1:0").await?;
        Ok(Self { child, addr, env, folder: folder.into() })
    }

    /// SIGKILL.
    async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    async fn start_again(&mut self) -> Result<()> {
        (self.child, _) = started(&self.folder, &self.env, &self.addr).await?;
        Ok(())
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    async fn total(&self) -> Result<usize> {
        total(&self.addr).await
    }

    /// All records by their ids, as they are kept.
    async fn records(&self) -> Result<BTreeMap<String, String>> {
        let lines = client()?.get(self.url("/api/calls.jsonl")).send().await?.text().await?;
        let mut all = BTreeMap::new();
        for line in lines.lines() {
            let record: Value = serde_json::from_str(line)?;
            let id = record["call_id"].as_str().context("no id")?.to_owned();
            ensure!(all.insert(id, line.to_owned()).is_none(), "kept twice: {line}");
        }
        Ok(all)
    }
}

fn client() -> Result<reqwest::Client> {
    // An error means that another test was first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Ok(reqwest::Client::builder().no_proxy().timeout(GENEROUS).build()?)
}

async fn total(addr: &str) -> Result<usize> {
    let url = format!("http://{addr}/api/calls?limit=1&include_total=true");
    let list: Value = client()?.get(url).send().await?.json().await?;
    Ok(usize::try_from(list["total"].as_u64().context("no total")?)?)
}

async fn started(folder: &Path, env: &[(String, String)], addr: &str) -> Result<(Child, String)> {
    let mut command = Command::new(binary());
    command.arg("receive");
    let mut child = spawned(command, folder, env, addr)?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let addr = says_where(&mut lines).await?;
    // What it logs further is read, so that it never waits.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok((child, addr))
}

fn spawned(
    mut command: Command,
    folder: &Path,
    env: &[(String, String)],
    addr: &str,
) -> Result<Child> {
    Ok(command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("CALL_HISTORY_RECEIVE_ADDR", addr)
        .env("CALL_HISTORY_LOG_FORMAT", "json")
        .envs(env.iter().cloned())
        .current_dir(folder)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?)
}

/// Waits until it has started, and returns its address.
async fn says_where(lines: &mut Lines<BufReader<ChildStdout>>) -> Result<String> {
    timeout(GENEROUS, async {
        let mut log = vec![];
        while let Some(line) = lines.next_line().await? {
            let parsed: Value = serde_json::from_str(&line)?;
            if parsed["message"] == "receiver started" {
                return Ok(parsed["addr"].as_str().unwrap_or_default().to_owned());
            }
            log.push(line);
        }
        bail!("it ended: {log:#?}")
    })
    .await?
}

/// A record of the user's document with an id, and with notes that tell records of one id apart.
fn record(n: usize, notes: &str) -> (String, String) {
    let mut record: Value =
        serde_json::from_str(include_str!("../../docs/schema/example.json")).unwrap();
    let id = uuid::Uuid::from_u128(n as u128).to_string();
    record["call_id"] = id.clone().into();
    record["outcomes"]["notes"] = notes.into();
    (id, record.to_string())
}

/// An outbox that an outage has filled.
fn fill(
    data: &Path,
    records: impl IntoIterator<Item = (String, String)>,
) -> Result<BTreeMap<String, String>> {
    let pending = data.join("pending");
    fs::create_dir_all(&pending)?;
    let all: BTreeMap<String, String> = records.into_iter().collect();
    for (id, record) in &all {
        fs::write(pending.join(format!("{id}.json")), record)?;
    }
    Ok(all)
}

fn ids(data: &Path, folder: &str) -> BTreeSet<String> {
    let files = fs::read_dir(data.join(folder)).into_iter().flatten().filter_map(Result::ok);
    let names = files.filter_map(|file| file.file_name().into_string().ok());
    names.filter_map(|name| Some(name.strip_suffix(".json")?.to_owned())).collect()
}

async fn worker(venue: &Venue, data: &Path, url: &str) -> Result<(Worker, Endpoint)> {
    // A setup wants an endpoint; the worker gets the receiver's address.
    let unused = Endpoint::start().await?;
    let mut setup =
        Setup::new(binary(), venue, &unused, &unique("worker")).with("CALL_HISTORY_ENDPOINT", url);
    setup.data = Some(data.into());
    Ok((Worker::registered(setup).await?, unused))
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + GENEROUS;
    while !is_so().await? {
        ensure!(Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}

/// The worker drains a backlog of 2,000 records. The receiver is killed (SIGKILL) four times in the middle of it.
async fn kills_lose_and_double_nothing(db: Option<&str>) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let data = folder.path().join("worker");
    let sealed = fill(&data, (0..POSTS).map(|n| record(n, "as sealed")))?;
    let mut receiver = Receiver::start(folder.path(), db).await?;
    let venue = Venue::dev(lab::server::quick()).await?;
    let (mut worker, _unused) = worker(&venue, &data, &receiver.url("/call-history")).await?;
    for kill in 1..=4 {
        until("records arrive", async || Ok(receiver.total().await? >= kill * POSTS / 10)).await?;
        receiver.kill().await?;
        ensure!(!ids(&data, "pending").is_empty(), "kill {kill} came after the last record");
        receiver.start_again().await?;
    }
    until("all are delivered", async || Ok(ids(&data, "sent").len() == POSTS)).await?;
    assert_eq!(receiver.records().await?, sealed, "each once, byte for byte");
    assert!(ids(&data, "pending").is_empty() && ids(&data, "dead").is_empty());
    worker.stops().await
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_a_receiver_with_sqlite_lose_and_double_nothing() -> Result<()> {
    kills_lose_and_double_nothing(None).await
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_of_a_receiver_with_postgres_lose_and_double_nothing() -> Result<()> {
    kills_lose_and_double_nothing(Some(&postgres::database().await)).await
}

/// Two workers post to two receivers of one Postgres: records that only one has, the same records, and different records
/// of one id.
#[tokio::test(flavor = "multi_thread")]
async fn two_receivers_of_one_postgres_keep_each_record_once() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let db = postgres::database().await;
    let one = Receiver::start(folder.path(), Some(&db)).await?;
    let other = Receiver::start(folder.path(), Some(&db)).await?;
    let (data, data_of_other) = (folder.path().join("one"), folder.path().join("other"));
    let sealed = fill(
        &data,
        (0..800).map(|n| record(n, "same")).chain((1_200..1_300).map(|n| record(n, "of one"))),
    )?;
    let sealed_by_other = fill(
        &data_of_other,
        (400..1_200)
            .map(|n| record(n, "same"))
            .chain((1_200..1_300).map(|n| record(n, "of another"))),
    )?;
    let venue = Venue::dev(lab::server::quick()).await?;
    let urls = (one.url("/call-history"), other.url("/call-history"));
    let (first, second) =
        tokio::join!(worker(&venue, &data, &urls.0), worker(&venue, &data_of_other, &urls.1));
    let ((mut first, _a), (mut second, _b)) = (first?, second?);
    until("all are delivered", async || {
        Ok(ids(&data, "sent").len() == 900 && ids(&data_of_other, "sent").len() == 900)
    })
    .await?;
    let kept = one.records().await?;
    assert_eq!(kept, other.records().await?);
    assert_eq!(kept.len(), 1_300);
    for (id, record) in &kept {
        let of = [sealed.get(id), sealed_by_other.get(id)];
        assert!(of.contains(&Some(record)), "{record}");
    }
    first.stops().await?;
    second.stops().await
}

/// The receiver's data folder is on a disk of 3 MB. Once it is full, posts are answered 503; the receiver is killed, the
/// disk becomes larger, and all that was answered 200 is there.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_that_was_answered() -> Result<()> {
    const SCRIPT: &str = r#"mount -t tmpfs -o size=3m tmpfs "$1" && cd "$1" && "$0" receive
        mount -o remount,size=300m "$1" && exec "$0" receive"#;
    let disk = tempfile::tempdir()?;
    // A mount and processes of its own, which end with it. Who is not root becomes root of a namespace.
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child"]);
    if fs::metadata("/proc/self").map(|m| std::os::unix::fs::MetadataExt::uid(&m))? != 0 {
        command.arg("--map-root-user");
    }
    command.args(["sh", "-c", SCRIPT]).arg(binary()).arg(disk.path());
    let mut shell = spawned(command, disk.path(), &[], "127.0.0.1:0")?;
    let mut lines = BufReader::new(shell.stdout.take().context("no output")?).lines();
    let addr = says_where(&mut lines).await?;
    let client = client()?;
    let post = async |addr: &str, body: &str| -> Result<u16> {
        let url = format!("http://{addr}/call-history");
        Ok(client.post(url).body(body.to_owned()).send().await?.status().as_u16())
    };

    let (mut kept, mut refused) = (BTreeMap::new(), vec![]);
    for n in 0.. {
        let (id, body) = record(n, &format!("{n} ").repeat(2_000));
        match post(&addr, &body).await? {
            200 => drop(kept.insert(id, body)),
            503 => refused.push(body),
            other => bail!("answered {other}"),
        }
        if refused.len() == 20 {
            break;
        }
        ensure!(n < 10_000, "the disk is never full");
    }
    assert!(kept.len() > 20, "{}", kept.len());
    assert_eq!(total(&addr).await?, kept.len(), "what is kept can be read");

    let shell_pid = shell.id().context("it has ended")?;
    let receiver = the_receiver_of(shell_pid)?;
    ensure!(Command::new("kill").args(["-KILL", &receiver]).status().await?.success());
    let addr = says_where(&mut lines).await?;
    for (id, body) in &kept {
        let got = client.get(format!("http://{addr}/api/calls/{id}")).send().await?;
        assert_eq!((got.status().as_u16(), &got.text().await?), (200, body));
    }
    assert_eq!(total(&addr).await?, kept.len());
    for body in refused {
        assert_eq!(post(&addr, &body).await?, 200);
    }
    Ok(())
}

/// The process that runs `call-history` under another one.
fn the_receiver_of(pid: u32) -> Result<String> {
    // The folder of the build may be a symbolic link.
    let binary = binary().canonicalize()?;
    let mut next = vec![pid.to_string()];
    while let Some(pid) = next.pop() {
        if fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == binary) {
            return Ok(pid);
        }
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
        next.extend(children.split_whitespace().map(str::to_owned));
    }
    bail!("it does not run")
}
