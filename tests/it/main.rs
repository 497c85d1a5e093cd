//! Black-box tests: the real binary, a LiveKit server, real clients and a real endpoint.
//!
//! Tests that break the server use the dev server; the others run against any LiveKit server when
//! `LIVEKIT_URL`, `LIVEKIT_API_KEY` and `LIVEKIT_API_SECRET` are set.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod calls;
mod chaos;
mod clock;
mod command_line;
mod commands;
mod connection;
mod delivery;
mod details;
mod dials;
mod discovery;
mod doctor;
mod documents;
mod events;
mod fleet;
mod frameworks;
mod gateways;
mod health;
mod hostile;
mod logs;
mod losses;
mod metrics;
mod names;
mod networks;
mod outbox;
mod phone;
mod port;
mod probes;
mod proxies;
#[cfg(feature = "receiver")]
mod received;
#[cfg(feature = "receiver")]
mod receiver;
mod recovery;
mod replay;
mod roles;
mod said;
mod schema;
mod server_trouble;
mod settings;
mod stopping;
mod stress;
mod wait;
mod walls;

use std::{path::Path, time::Duration};

use anyhow::{Context, Result};
use lab::{
    agent::VoiceAgent,
    endpoint::{Endpoint, Post},
    person::Person,
    server::{Ticket, Venue},
    worker::{Setup, Worker},
};
use serde_json::Value;

/// Time limit for a record to be posted, with all that may delay it. No limit of a wait is an expectation: on a loaded
/// machine everything may stand still for half a minute.
const POSTED: Duration = Duration::from_secs(90);
/// How long an agent or a caller of these tests takes for a word.
const WORD: Duration = Duration::from_millis(60);

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_call-history"))
}

/// A server, an endpoint and a registered worker with an agent name of its own.
struct Scene {
    venue: Venue,
    endpoint: Endpoint,
    worker: Worker,
    name: String,
    room: String,
    env: Vec<(String, String)>,
    files: Vec<(String, String)>,
    /// The data folder. It outlives the worker, so that the next worker can continue with it.
    data: tempfile::TempDir,
}

impl Scene {
    async fn new() -> Result<Self> {
        Self::at(Venue::from_env().await?, &[]).await
    }

    /// With an endpoint that may go and come back at its address.
    async fn with_movable_endpoint(venue: Venue) -> Result<Self> {
        let endpoint = Endpoint::at(&free_addr().await?).await?;
        Self::with_endpoint(venue, endpoint, &[], &[]).await
    }

    /// On a dev server, which the test may break.
    async fn breakable() -> Result<Self> {
        Self::at(Venue::dev(lab::server::quick()).await?, &[]).await
    }

    async fn at(venue: Venue, env: &[(&str, &str)]) -> Result<Self> {
        Self::with_files(venue, env, &[]).await
    }

    /// `files`: paths and contents, in the worker's working directory.
    async fn with_files(
        venue: Venue,
        env: &[(&str, &str)],
        files: &[(&str, &str)],
    ) -> Result<Self> {
        Self::with_endpoint(venue, Endpoint::start().await?, env, files).await
    }

    /// `env` may name what stands before the endpoint.
    async fn with_endpoint(
        venue: Venue,
        endpoint: Endpoint,
        env: &[(&str, &str)],
        files: &[(&str, &str)],
    ) -> Result<Self> {
        let owned = |all: &[(&str, &str)]| -> Vec<(String, String)> {
            all.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let (env, files) = (owned(env), owned(files));
        let (data, name) = (tempfile::tempdir()?, unique("worker"));
        let setup = setup(&venue, &endpoint, &name, &env, &files, &data.path().join("data"));
        let worker = Worker::registered(setup).await?;
        let room = unique(&name);
        Ok(Self { venue, endpoint, worker, name, room, env, files, data })
    }

    /// Starts another worker with the same settings and data; does not wait for its registration.
    fn start_another(&self) -> Result<Worker> {
        let data = self.data.path().join("data");
        Worker::start(setup(&self.venue, &self.endpoint, &self.name, &self.env, &self.files, &data))
    }

    /// Kills the worker with SIGKILL; what it held in memory is lost.
    async fn kill(&mut self) -> Result<()> {
        self.worker.signal(9).await?;
        self.worker.ends(POSTED).await?;
        Ok(())
    }

    /// Starts another worker, which continues with what the last one left.
    async fn start_again(&mut self) -> Result<()> {
        self.worker = self.start_another()?;
        self.worker.logs("registered worker").await?;
        Ok(())
    }

    /// A phone caller whose token dispatches the worker, connected and observed.
    async fn phone(&mut self, number: &str) -> Result<Person> {
        let (venue, room) = (&self.venue, self.room.as_str());
        let caller = Person::phone(venue, room, number, "active", true, &[&self.name]).await?;
        self.observed().await?;
        Ok(caller)
    }

    /// A web caller whose token dispatches the worker, connected and observed.
    async fn web(&mut self, identity: &str) -> Result<Person> {
        let caller = self.web_in(&self.room, identity).await?;
        self.observed().await?;
        Ok(caller)
    }

    /// Waits until the worker has joined this room.
    async fn observed(&self) -> Result<()> {
        wait::eventually("our join", POSTED, async || {
            Ok((self.worker.count("joined", &self.room) > 0).then_some(()))
        })
        .await
    }

    async fn web_in(&self, room: &str, identity: &str) -> Result<Person> {
        let ticket = Ticket {
            room: room.into(),
            identity: identity.into(),
            kind: "standard",
            agents: vec![self.name.clone()],
            ..Default::default()
        };
        Person::join(&self.venue, &ticket).await
    }

    async fn agent(&self) -> Result<VoiceAgent> {
        VoiceAgent::join(&self.venue, &self.room, true).await
    }

    /// The only record of this room.
    async fn record(&mut self) -> Result<Value> {
        let posts = self.posts(1).await?;
        assert_eq!(posts.len(), 1, "posted more than once");
        posts[0].record()
    }

    /// The first `n` requests about this room; an error holds the worker's log.
    async fn posts(&mut self, n: usize) -> Result<Vec<Post>> {
        let posts = self.endpoint.wait(&self.room, n, 2 * POSTED).await;
        let posts = posts.with_context(|| {
            let lines: Vec<String> = self.worker.log().iter().map(Value::to_string).collect();
            lines.join("\n")
        })?;
        for post in &posts {
            schema::check(&post.record()?);
        }
        Ok(posts)
    }
}

fn setup(
    venue: &Venue,
    endpoint: &Endpoint,
    name: &str,
    env: &[(String, String)],
    files: &[(String, String)],
    data: &Path,
) -> Setup<'static> {
    let mut setup = Setup::new(binary(), venue, endpoint, name);
    for (key, value) in env {
        setup = setup.with(key, value);
    }
    setup.files = files.to_vec();
    setup.data = Some(data.to_owned());
    setup
}

/// Held by a test that loads the machine by itself, so that no two of them run at once: together they would be the load
/// that their servers and callers do not bear.
async fn alone() -> tokio::sync::MutexGuard<'static, ()> {
    static HEAVY: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());
    HEAVY.lock().await
}

/// An address that is free, for a server that must be known before it starts.
async fn free_addr() -> Result<String> {
    let listener = tokio::net::TcpListener::bind(format!("{}:0", lab::server::own_host())).await?;
    Ok(listener.local_addr()?.to_string())
}

/// Letters only: the log masks long runs of digits, because they may be a phone number.
fn unique(what: &str) -> String {
    let id = uuid::Uuid::new_v4().into_bytes();
    let letters: String = id.iter().map(|b| char::from(b'a' + b % 26)).collect();
    format!("{what}-{}", &letters[..10])
}

fn verdict(record: &Value) -> (&str, Option<&str>) {
    (record["status"].as_str().unwrap_or(""), record["termination_reason"].as_str())
}
