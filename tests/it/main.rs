//! Black box: the real binary against a LiveKit server, real clients, a real endpoint.
//!
//! Tests that break the server use the dev server; the others run against any LiveKit server when
//! `LIVEKIT_URL`, `LIVEKIT_API_KEY` and `LIVEKIT_API_SECRET` are set.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod calls;
mod command_line;
mod delivery;
mod hostile;
mod server_trouble;
mod stopping;

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

/// For a record to be posted after all that may delay it.
const POSTED: Duration = Duration::from_secs(30);
const WORD: Duration = Duration::from_millis(60);

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_call-history"))
}

/// Server, endpoint and a registered worker of its own name.
struct Scene {
    venue: Venue,
    endpoint: Endpoint,
    worker: Worker,
    name: String,
    room: String,
}

impl Scene {
    async fn new() -> Result<Self> {
        Self::at(Venue::from_env().await?, &[]).await
    }

    /// On a dev server that may be broken.
    async fn breakable() -> Result<Self> {
        Self::at(Venue::dev(lab::server::quick()).await?, &[]).await
    }

    async fn at(venue: Venue, env: &[(&str, &str)]) -> Result<Self> {
        let endpoint = Endpoint::start().await?;
        let name = unique("worker");
        let mut setup = Setup::new(binary(), &venue, &endpoint, &name);
        for (key, value) in env {
            setup = setup.with(key, value);
        }
        let worker = Worker::registered(setup).await?;
        Ok(Self { venue, endpoint, worker, name, room: unique("room") })
    }

    /// A phone caller whose token dispatches the worker, connected and observed.
    async fn phone(&mut self, number: &str) -> Result<Person> {
        let (venue, room) = (&self.venue, self.room.as_str());
        let caller = Person::phone(venue, room, number, "active", true, &[&self.name]).await?;
        self.worker.logs("joined").await?;
        Ok(caller)
    }

    /// A web caller whose token dispatches the worker, connected and observed.
    async fn web(&mut self, identity: &str) -> Result<Person> {
        let caller = self.web_in(&self.room, identity).await?;
        self.worker.logs("joined").await?;
        Ok(caller)
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

    /// The one record of this room.
    async fn record(&mut self) -> Result<Value> {
        let posts = self.posts(1).await?;
        assert_eq!(posts.len(), 1, "posted more than once");
        posts[0].record()
    }

    /// Requests about this room; the worker's log if they do not come.
    async fn posts(&mut self, n: usize) -> Result<Vec<Post>> {
        let posts = self.endpoint.wait(&self.room, n, 2 * POSTED).await;
        posts.with_context(|| {
            let lines: Vec<String> = self.worker.log().iter().map(Value::to_string).collect();
            lines.join("\n")
        })
    }
}

fn unique(what: &str) -> String {
    format!("{what}-{}", &uuid::Uuid::new_v4().simple().to_string()[..10])
}

fn verdict(record: &Value) -> (&str, Option<&str>) {
    (record["status"].as_str().unwrap_or(""), record["termination_reason"].as_str())
}
