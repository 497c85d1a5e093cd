//! What a call's events cost from LiveKit's data packets and signals to the facts of a call. `make counts` runs it under
//! callgrind, which counts our part by [`counted_part`], and the SDK's by the names of its functions that take a packet
//! or a signal; `crates/store/benches/counts.py` lists them. It is a test since the module is private, and its build
//! exists already.
//!
//! Server, caller and agent are in a process of their own: they use the same SDK, and must not be counted.

// `make counts` reads what it prints, and the other process what this one does.
#![allow(clippy::print_stdout)]

use std::{alloc::System, hint::black_box, pin::pin, process::Stdio, time::Duration};

use anyhow::{Context, Result};
use call::{event::Discovery, roles::Identities};
use lab::{
    agent::VoiceAgent,
    person::Person,
    server::{Ticket, Venue, quick},
};
use livekit_api::access_token::VideoGrants;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use store::health::Health;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use super::{Connection, Notice, Opening};
use crate::clock::{Clock, WallClock};

#[global_allocator]
static MEMORY: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TURNS: usize = 20;
/// Of the caller's part seven transcripts (opened, a text, closed), three messages of the feed; of the agent's part one
/// transcript in four texts and a message of the feed; and three states of the agent, each by attribute and by feed.
const FACTS: usize = 7 * 3 + 3 + 6 + 1 + 3 * 2;
const LATEST: Duration = Duration::from_secs(60);
/// The identity of the observer.
const US: &str = "us";

#[inline(never)]
fn counted_part<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "make counts runs it"]
async fn events_of_a_call() -> Result<()> {
    let mut people = People::start().await?;
    let mut connection = people.observed().await?;
    let region = Region::new(MEMORY);
    for _ in 0..TURNS {
        people.talk().await?;
        read(&mut connection, FACTS).await?;
    }
    let made = region.change();
    println!("allocations: {}", made.allocations + made.reallocations);
    Ok(())
}

/// Reads so many facts.
async fn read(connection: &mut Connection, facts: usize) -> Result<()> {
    let mut found = 0;
    while found < facts {
        let mut next = pin!(connection.next());
        let counted = std::future::poll_fn(|cx| counted_part(|| next.as_mut().poll(cx)));
        let (_, notice) = timeout(LATEST, counted).await.context("facts are missing")?;
        found += usize::from(matches!(notice, Notice::Fact(_)));
    }
    Ok(())
}

/// What the other process prints before the server's address and our token.
const READY: &str = "ready: ";
/// And after each turn.
const TALKED: &str = "talked";

/// The other process. It ends when this one does, with its input.
struct People {
    _process: Child,
    asks: ChildStdin,
    says: Lines<BufReader<ChildStdout>>,
}

impl People {
    async fn start() -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .args([
                "--exact",
                "observer::room::counted::people_of_a_call",
                "--ignored",
                "--nocapture",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let asks = process.stdin.take().context("no input")?;
        let says = BufReader::new(process.stdout.take().context("no output")?).lines();
        Ok(Self { _process: process, asks, says })
    }

    async fn said(&mut self, prefix: &str) -> Result<String> {
        let line = async {
            while let Some(line) = self.says.next_line().await? {
                // The harness begins the line with the test's name.
                if let Some((_, rest)) = line.split_once(prefix) {
                    return Ok(rest.to_owned());
                }
            }
            anyhow::bail!("the other process has ended")
        };
        timeout(LATEST, line).await.context("the other process is silent")?
    }

    async fn talk(&mut self) -> Result<()> {
        self.asks.write_all(b"talk\n").await?;
        self.said(TALKED).await.map(drop)
    }

    /// Joins the call, and reads who is there.
    async fn observed(&mut self) -> Result<Connection> {
        lab::server::init();
        let ready = self.said(READY).await?;
        let (url, token) = ready.split_once(' ').context("no token")?;
        let wall = WallClock::new(Health::default());
        let opening = Opening {
            url,
            token,
            identity: US,
            by: Discovery::Dispatch,
            clock: Clock::start(&wall),
            wall: &wall,
            names: Identities::default(),
            first: true,
        };
        let opened = Connection::open(opening).await.map_err(anyhow::Error::msg);
        let mut connection = opened.context("the observer's join")?;
        connection.known();
        Ok(connection)
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "events_of_a_call runs it"]
async fn people_of_a_call() -> Result<()> {
    let venue = Venue::dev(quick()).await?;
    let room = "counted".to_owned();
    let mut agent = VoiceAgent::join(&venue, &room, true).await?;
    let caller = Ticket { room: room.clone(), identity: "caller".into(), ..Default::default() };
    let _caller = Person::join(&venue, &caller).await?;
    let hidden = VideoGrants {
        hidden: true,
        can_publish: Some(false),
        can_subscribe: Some(true),
        ..Default::default()
    };
    let us = Ticket { room, identity: US.into(), grants: Some(hidden), ..Default::default() };
    println!("{READY}{} {}", venue.url, venue.token(&us)?);
    let mut asked = std::io::stdin().lines();
    while tokio::task::block_in_place(|| asked.next()).transpose()?.is_some() {
        agent.hears("caller", "a table for four please", Duration::ZERO).await?;
        agent.says("Yes, with pleasure, when?", Duration::ZERO).await?;
        println!("{TALKED}");
    }
    Ok(())
}
