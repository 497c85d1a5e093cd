//! Many calls at the same moment: whether the worker observes all of them, and how soon.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use livekit_protocol::CreateAgentDispatchRequest;
use serde_json::Value;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    bench::{AGENT_NAME, Bench, OPEN_AT_ONCE, has_message, rooms},
    report::{Burst, Spread},
};

/// The wait ends when the worker has logged nothing about the missing rooms for this long.
const QUIET_FOR: Duration = Duration::from_secs(15);

impl Bench {
    /// All participants of all calls join at the same time.
    ///
    /// # Errors
    /// If a child process has ended.
    pub(crate) async fn open_at_once(&mut self) -> Result<Burst> {
        let rooms = rooms("opened", self.args.burst);
        let began = Instant::now();
        self.crowd.open(&rooms, rooms.len().max(1), Some(AGENT_NAME)).await?;
        let opened = self.crowd.opened(&rooms).await?;
        let failed = opened.failed.len();
        let (last, open) = (opened.last, opened.rooms.into_iter().map(|(_, room)| room));
        let mut burst = self.watch(began, open.collect(), rooms).await?;
        burst.not_opened = failed;
        burst.opened_s = Some((last - began).as_secs_f64());
        Ok(burst)
    }

    /// The participants are in their rooms; then the worker is dispatched to all rooms at the same time.
    ///
    /// # Errors
    /// If a call cannot be opened, or the server refuses a dispatch.
    pub(crate) async fn dispatch_at_once(&mut self) -> Result<Burst> {
        let rooms = rooms("dispatched", self.args.burst);
        self.crowd.open(&rooms, OPEN_AT_ONCE, None).await?;
        self.crowd.opened(&rooms).await?.all()?;
        let api = Arc::new(self.venue.dispatches());
        let mut dispatches = JoinSet::new();
        let began = Instant::now();
        for room in rooms.clone() {
            let (api, agent_name) = (api.clone(), AGENT_NAME.to_owned());
            let request = CreateAgentDispatchRequest { room, agent_name, ..Default::default() };
            dispatches.spawn(async move { api.create_dispatch(request).await });
        }
        while let Some(done) = dispatches.join_next().await {
            done?.context("dispatching")?;
        }
        self.watch(began, rooms.iter().cloned().collect(), rooms).await
    }

    /// Waits until the worker has joined the open rooms and logged their calls. Then deletes all
    /// rooms.
    async fn watch(
        &mut self,
        began: Instant,
        open: BTreeSet<String>,
        all: Vec<String>,
    ) -> Result<Burst> {
        let (mut joins, mut started) = (BTreeMap::new(), BTreeSet::new());
        let mut joined = began;
        while !open.iter().all(|room| joins.contains_key(room) && started.contains(room)) {
            let line = |at, line: &Value| {
                let room = line["room"].as_str().filter(|room| open.contains(*room))?.to_owned();
                let took =
                    has_message(line, "joined").then(|| line["took_ms"].as_f64().unwrap_or(0.0));
                (took.is_some() || has_message(line, "call started")).then_some((at, room, took))
            };
            match self.worker()?.wait_for(QUIET_FOR, line).await {
                Ok((at, room, Some(took))) => {
                    joined = at;
                    joins.insert(room, took);
                }
                Ok((_, room, None)) => drop(started.insert(room)),
                Err(_) => break, // the report lists the missing rooms
            }
        }
        let mut not_started = vec![];
        for room in open.difference(&started) {
            not_started.push(self.who_is_in(room, joins.contains_key(room)).await);
        }
        let peak_mb = self.peak_mb()?;
        self.opened.extend(open.iter().cloned());
        let (posted, reported) = self.end_calls(&all).await?;
        Ok(Burst {
            calls: open.len(),
            not_opened: 0,
            opened_s: None,
            joined_s: (joined - began).as_secs_f64(),
            join_ms: Spread::of(joins.into_values().collect()),
            not_started,
            peak_mb,
            posted_s: posted.as_secs_f64(),
            reported,
        })
    }

    /// A room and its participants, for the report.
    async fn who_is_in(&self, room: &str, joined: bool) -> String {
        let who = match self.venue.rooms().list_participants(room).await {
            Ok(people) => {
                let one = |p: &livekit_protocol::ParticipantInfo| {
                    format!("{} ({})", p.identity, p.state().as_str_name())
                };
                people.iter().map(one).collect::<Vec<_>>().join(", ")
            }
            Err(e) => e.to_string(),
        };
        format!("{room}, joined: {joined}, there: {who}")
    }
}
