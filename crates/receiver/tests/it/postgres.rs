//! A Postgres for the tests of this process: in a folder of its own, on a socket in it, without network.
//!
//! It is needed: without it half of the tests would say nothing, so they fail.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
};

/// Where Debian has it.
const BIN: &str = "/usr/lib/postgresql";
const PREFIX: &str = "receiver-postgres-";

static CLUSTER: LazyLock<PathBuf> = LazyLock::new(start);
static NEXT: AtomicU32 = AtomicU32::new(0);

/// The URL of a new, empty database.
pub(crate) async fn database() -> String {
    let folder = tokio::task::spawn_blocking(|| CLUSTER.clone()).await.unwrap();
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let made = tokio::process::Command::new(bin().join("psql"))
        .args(["-h", &folder.display().to_string(), "-U", "postgres", "-qc"])
        .arg(format!("CREATE DATABASE {name}"))
        .output()
        .await
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    format!("postgres://postgres@localhost/{name}?host={}", folder.display())
}

fn bin() -> PathBuf {
    let versions = fs::read_dir(BIN).into_iter().flatten().filter_map(Result::ok);
    let mut bins: Vec<PathBuf> = versions.map(|v| v.path().join("bin")).collect();
    bins.retain(|bin| bin.join("initdb").exists());
    bins.sort();
    bins.pop().unwrap_or_else(|| {
        panic!("these tests need Postgres: no initdb in {BIN}/*/bin (Debian: apt-get install postgresql)")
    })
}

/// As the user `postgres` if we are root: Postgres does not run as root. It ends with this process.
fn command(program: &str) -> Command {
    let path = bin().join(program);
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "INT"]);
    if fs::metadata("/proc/self").unwrap().uid() == 0 {
        command.args(["--reuid", "postgres", "--regid", "postgres", "--clear-groups"]);
    }
    command.arg(path).current_dir("/");
    command
}

fn start() -> PathBuf {
    remove_those_of_the_dead();
    let folder = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
    let made = command("initdb")
        .args(["-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale", "C.UTF-8", "-D"])
        .arg(&folder)
        .output()
        .unwrap();
    assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
    let (ready, is_ready) = mpsc::channel();
    let at = folder.clone();
    // The thread that starts it must not end: with the thread Postgres would end.
    std::thread::spawn(move || {
        let mut server = command("postgres")
            .args(["-c", "listen_addresses=", "-c", "max_connections=400", "-D"])
            .arg(&at)
            .arg("-k")
            .arg(&at)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let log = BufReader::new(server.stderr.take().unwrap());
        for line in log.lines().map_while(Result::ok) {
            if line.contains("ready to accept connections") {
                let _ = ready.send(());
            }
        }
        let _ = server.wait();
    });
    is_ready.recv().expect("Postgres ended before it was ready");
    folder
}

/// Folders of earlier runs.
fn remove_those_of_the_dead() {
    for entry in fs::read_dir(std::env::temp_dir()).unwrap().filter_map(Result::ok) {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(PREFIX);
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Whether a database takes connections; those that it has are cut.
pub(crate) async fn refuse(url: &str, refuse: bool) {
    let name = url.rsplit('/').find(|part| part.starts_with("test_")).unwrap();
    let name = name.split('?').next().unwrap();
    let folder = CLUSTER.display().to_string();
    let sql = format!(
        "ALTER DATABASE {name} ALLOW_CONNECTIONS {}; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'",
        !refuse
    );
    let done = tokio::process::Command::new(bin().join("psql"))
        .args(["-h", &folder, "-U", "postgres", "-qc", &sql])
        .output()
        .await
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
