//! All the people in the calls: several [`people`](crate::people) processes, so that none of them
//! is what is measured.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use lab::server::Venue;
use serde_json::{Value, json};
use tokio::{process::Command, time::Instant};

use crate::{people::Order, program::Program};

/// Calls for each process.
const EACH: usize = 50;
const OPEN_WITHIN: Duration = Duration::from_secs(120);
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

pub(crate) struct Crowd {
    members: Vec<Program>,
}

/// How the opening of calls went.
pub(crate) struct Opened {
    /// When the last one was open.
    pub(crate) last: Instant,
    /// Those in which the caller and the agent are.
    pub(crate) rooms: Vec<(Instant, String)>,
    /// Why others are not.
    pub(crate) failed: Vec<String>,
}

impl Opened {
    /// # Errors
    /// If one could not be opened: then the server or this machine has too much to do.
    pub(crate) fn all(self) -> Result<Instant> {
        match self.failed.first() {
            None => Ok(self.last),
            Some(error) => bail!("a call could not be opened: {error}"),
        }
    }
}

impl Crowd {
    /// For so many calls at the same time.
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

    /// Begins to open calls, so many at a time.
    ///
    /// # Errors
    /// If somebody is gone.
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

    /// Waits until all of them are open, or cannot be.
    ///
    /// # Errors
    /// If somebody is gone.
    pub(crate) async fn opened(&mut self, rooms: &[String]) -> Result<Opened> {
        let n = self.members.len();
        let mut opened = Opened { last: Instant::now(), rooms: vec![], failed: vec![] };
        for (i, m) in self.members.iter_mut().enumerate() {
            for _ in (i..rooms.len()).step_by(n) {
                let open = |at, line: &Value| {
                    let error = line["error"].as_str().map(str::to_owned);
                    Some((at, line["open"].as_str()?.to_owned(), error))
                };
                let told = m.tells(OPEN_WITHIN, open).await.context("opening calls")?;
                match told {
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
    /// If somebody does not answer.
    pub(crate) async fn chunks(&mut self) -> Result<u64> {
        let mut sum = 0;
        for m in &mut self.members {
            m.order(&json!("Count")).await?;
            sum += m.tells(ANSWER_WITHIN, |_, line| line["chunks"].as_u64()).await?;
        }
        Ok(sum)
    }
}
