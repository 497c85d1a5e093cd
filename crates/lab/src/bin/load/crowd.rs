//! The participants of all calls, in several [`people`](crate::people) processes, so that no process
//! is a bottleneck that distorts the measurement.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab::server::Venue;
use serde_json::{Value, json};
use tokio::{process::Command, time::Instant};

use crate::{people::Order, program::Program};

/// Number of calls in each process.
const EACH: usize = 50;
const OPEN_WITHIN: Duration = Duration::from_secs(120);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

pub(crate) struct Crowd {
    members: Vec<Program>,
}

/// The result of opening calls.
pub(crate) struct Opened {
    /// When the last call was open.
    pub(crate) last: Instant,
    /// The open calls, in which caller and agent have joined.
    pub(crate) rooms: Vec<(Instant, String)>,
    /// The errors of the others.
    pub(crate) failed: Vec<String>,
}

impl Opened {
    /// # Errors
    /// If a call could not be opened: then the server or this machine is overloaded.
    pub(crate) fn all(self) -> Result<Instant> {
        match self.failed.first() {
            None => Ok(self.last),
            Some(error) => bail!("a call could not be opened: {error}"),
        }
    }
}

impl Crowd {
    /// Starts enough processes for this many calls at the same time.
    ///
    /// # Errors
    /// If a process cannot be started.
    pub(crate) fn start(venue: &Venue, calls: usize) -> Result<Self> {
        let start = |_| {
            let mut command = Command::new(std::env::current_exe()?);
            command
                .arg("people")
                .env("LIVEKIT_URL", &venue.url)
                .env("LIVEKIT_API_KEY", &venue.api_key)
                .env("LIVEKIT_API_SECRET", &venue.api_secret);
            Program::start(command)
        };
        Ok(Self { members: (0..calls.div_ceil(EACH).max(1)).map(start).collect::<Result<_>>()? })
    }

    async fn order(&mut self, order: &Order) -> Result<()> {
        let order = serde_json::to_value(order)?;
        for m in &mut self.members {
            m.order(&order).await?;
        }
        Ok(())
    }

    /// Begins to open calls, `at_once` at a time.
    ///
    /// # Errors
    /// If a child process has ended.
    pub(crate) async fn open(
        &mut self,
        rooms: &[String],
        at_once: usize,
        agent_name: Option<&str>,
    ) -> Result<()> {
        let n = self.members.len();
        for (i, m) in self.members.iter_mut().enumerate() {
            let rooms: Vec<String> = rooms.iter().skip(i).step_by(n).cloned().collect();
            let agent_name = agent_name.map(str::to_owned);
            let order = Order::Open { rooms, at_once: at_once.div_ceil(n), agent_name };
            m.order(&serde_json::to_value(order)?).await?;
        }
        Ok(())
    }

    /// Waits until each call is open or has failed to open.
    ///
    /// # Errors
    /// If a child process has ended.
    pub(crate) async fn opened(&mut self, rooms: &[String]) -> Result<Opened> {
        let n = self.members.len();
        let mut opened = Opened { last: Instant::now(), rooms: vec![], failed: vec![] };
        for (i, m) in self.members.iter_mut().enumerate() {
            for _ in (i..rooms.len()).step_by(n) {
                let open = |at, line: &Value| {
                    let error = line["error"].as_str().map(str::to_owned);
                    Some((at, line["open"].as_str()?.to_owned(), error))
                };
                let line = m.wait_for(OPEN_WITHIN, open).await.context("opening calls")?;
                match line {
                    (_, _, Some(error)) => opened.failed.push(error),
                    (at, room, None) => opened.rooms.push((at, room)),
                }
            }
        }
        opened.last = opened.rooms.iter().map(|(at, _)| *at).max().unwrap_or(opened.last);
        Ok(opened)
    }

    pub(crate) async fn talk(&mut self, on: bool) -> Result<()> {
        self.order(&Order::Talk { on }).await
    }

    pub(crate) async fn forget(&mut self, rooms: &[String]) -> Result<()> {
        self.order(&Order::Forget { rooms: rooms.to_vec() }).await
    }

    /// Transcript chunks sent so far.
    ///
    /// # Errors
    /// If a child process does not answer.
    pub(crate) async fn chunks(&mut self) -> Result<u64> {
        let mut sum = 0;
        for m in &mut self.members {
            m.order(&json!("Count")).await?;
            sum += m.wait_for(ANSWER_WITHIN, |_, line| line["chunks"].as_u64()).await?;
        }
        Ok(sum)
    }
}
