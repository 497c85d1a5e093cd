//! An endpoint as a process: the receiver of this repository, or the example in Express.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use receiver::store::Place;
use secrecy::ExposeSecret;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

pub(crate) const SECRET: &str = "a secret of some length, as it should be";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
    Express,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "receiver, SQLite",
            Self::Postgres => "receiver, Postgres",
            Self::Express => "minimal Express endpoint, files",
        }
    }
}

pub(crate) struct Process {
    child: Child,
    pub(crate) url: String,
    /// `None`: it has no database that we know.
    pub(crate) place: Option<Place>,
    /// Removed with it.
    _folder: TempDir,
}

impl Process {
    /// With an empty database.
    pub(crate) async fn start(kind: Kind) -> Self {
        let folder = TempDir::new().unwrap();
        let (mut command, place) = match kind {
            Kind::Express => (express(folder.path()), None),
            Kind::Sqlite => {
                let place = Place::folder(folder.path().join("data"));
                (of_receiver(folder.path(), &place), Some(place))
            }
            Kind::Postgres => {
                let place = Place::postgres(crate::postgres::database().await);
                (of_receiver(folder.path(), &place), Some(place))
            }
        };
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = loop {
            let line = lines.next_line().await.unwrap().expect("it ended");
            // Both say where they listen.
            if let Some((_, rest)) = line.split_once("127.0.0.1:") {
                let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
                break format!("http://127.0.0.1:{port}");
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { child, url, place, _folder: folder }
    }

    /// A figure of `/proc/PID/status`, in megabytes: `VmRSS` now, `VmHWM` at most.
    pub(crate) fn memory(&self, of: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap()));
        let status = status.unwrap();
        let line = status.lines().find(|line| line.starts_with(of)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

/// The receiver alone, without the worker and its log: so the measurement is built in minutes.
fn of_receiver(folder: &Path, place: &Place) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_receiver-under-test"));
    match place {
        Place::Sqlite { folder, .. } => command.arg(folder),
        Place::Postgres { url } => command.arg(url.expose_secret()),
    };
    command.env_clear().env("JWT_SECRET", SECRET).current_dir(folder);
    command
}

fn express(folder: &Path) -> Command {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/receivers/express");
    assert!(example.join("node_modules").exists(), "run `npm ci` in {}", example.display());
    let mut command = Command::new("node");
    command.arg(PathBuf::from("server.js")).current_dir(example);
    command.env("JWT_SECRET", SECRET).env("PORT", "0").env("DATA_DIR", folder);
    command.env("NODE_ENV", "production");
    command
}
