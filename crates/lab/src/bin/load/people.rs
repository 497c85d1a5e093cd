//! Callers and voice agents, in a child process that `load` controls.
//!
//! In: [`Order`]s, one JSON line each, on stdin. Out: a line for each call that is open (or could
//! not be opened), for each scripted call, and for each count that was asked for. The process ends when
//! its stdin ends, so it never outlives its parent. `make benchmark` controls the same processes.

use std::{
    collections::HashMap,
    io::{BufRead, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use lab::{agent::VoiceAgent, person::Person, server::Venue};
use livekit_api::services::room::RoomClient;
use livekit_protocol::participant_info::State;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};

use crate::scripted::{self, Story};

/// Twelve chunks a second, and utterances of three seconds, so that the state changes twice in
/// three seconds. The Python worker of the comparison was measured with the same load.
const CHUNK_EVERY: Duration = Duration::from_micros(83_000);
const CHUNKS: u64 = 36;
const ACTIVE_WITHIN: Duration = Duration::from_secs(15);
/// An observer may need a new process for each of many calls at once.
const OBSERVED_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(100);

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Opens a call in each of these rooms, `at_once` at a time. An agent of this name, if given, is
    /// dispatched with the room.
    Open {
        rooms: Vec<String>,
        at_once: usize,
        agent_name: Option<String>,
    },
    /// Ends the tasks of rooms that were deleted.
    Forget {
        rooms: Vec<String>,
    },
    Talk {
        on: bool,
    },
    /// Holds a scripted call in each of these rooms, all at once. An agent of this name is dispatched with
    /// the room, and observes the call.
    Hold {
        calls: Vec<(String, Story)>,
        agent_name: String,
    },
    /// Asks how many chunks were sent so far.
    Count,
}

pub(crate) struct People {
    pub(crate) venue: Venue,
    pub(crate) api: RoomClient,
    talk: watch::Sender<bool>,
    chunks: AtomicU64,
}

/// # Errors
/// If there is no server, or an order cannot be read.
pub(crate) async fn run() -> Result<()> {
    let venue = Venue::from_env().await?;
    let people = Arc::new(People {
        api: venue.rooms(),
        venue,
        talk: watch::Sender::new(false),
        chunks: AtomicU64::new(0),
    });
    let mut calls = HashMap::<String, JoinHandle<()>>::new();
    let mut orders = orders();
    while let Some(line) = orders.recv().await {
        match serde_json::from_str(&line)? {
            Order::Open { rooms, at_once, agent_name } => {
                let free = Arc::new(Semaphore::new(at_once));
                for room in rooms {
                    let call = call(people.clone(), room.clone(), free.clone(), agent_name.clone());
                    calls.insert(room, tokio::spawn(call));
                }
            }
            Order::Forget { rooms } => {
                let gone = rooms.iter().filter_map(|room| calls.remove(room));
                gone.for_each(|call| call.abort());
            }
            Order::Hold { calls: scripts, agent_name } => {
                for (room, story) in scripts {
                    let call = hold(people.clone(), room.clone(), story, agent_name.clone());
                    calls.insert(room, tokio::spawn(call));
                }
            }
            Order::Talk { on } => drop(people.talk.send_replace(on)),
            Order::Count => print(&json!({"chunks": people.chunks.load(Ordering::Relaxed)})),
        }
    }
    Ok(())
}

/// Stdin's lines, read by a thread: tokio's own reader would keep the process from ending.
fn orders() -> mpsc::UnboundedReceiver<String> {
    let (lines, orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                break;
            }
        }
    });
    orders
}

pub(crate) fn print(line: &Value) {
    // Fails only when the parent has ended; then stdin ends, too.
    let _ = writeln!(std::io::stdout(), "{line}");
}

async fn call(people: Arc<People>, room: String, free: Arc<Semaphore>, agent_name: Option<String>) {
    let opened = {
        // The semaphore is never closed, so this is always a permit.
        let _permit = free.acquire().await;
        open(&people, &room, agent_name.as_deref()).await
    };
    let (_caller, agent) = match opened {
        Ok(both) => both,
        Err(e) => return print(&json!({"open": room, "error": format!("{e:#}")})),
    };
    print(&json!({"open": room}));
    // Ends with the room.
    let _ = talk(&people, agent).await;
}

/// Joins both and waits until the server lists them as active. Under too much load, the SDK can report a
/// join although the server has already removed the participant.
async fn open(
    people: &People,
    room: &str,
    agent_name: Option<&str>,
) -> Result<(Person, VoiceAgent)> {
    let number = phone_number(room);
    let agents: Vec<&str> = agent_name.into_iter().collect();
    let venue = &people.venue;
    let caller = Person::phone(venue, room, &number, "active", true, &agents).await?;
    let agent = VoiceAgent::join(venue, room, true).await?;
    people.are_in(room, 2, ACTIVE_WITHIN).await.context("the server does not let them in")?;
    Ok((caller, agent))
}

impl People {
    /// Waits until so many participants are active in a room.
    async fn are_in(&self, room: &str, number: usize, within: Duration) -> Result<()> {
        let active = async {
            loop {
                let there = self.api.list_participants(room).await?;
                if there.iter().filter(|p| p.state() == State::Active).count() >= number {
                    return Ok(());
                }
                sleep(LOOK_EVERY).await;
            }
        };
        timeout(within, active).await?
    }

    /// Waits until a caller, a voice agent and an observer are in a room.
    ///
    /// # Errors
    /// If one of them does not come.
    pub(crate) async fn are_observed(&self, room: &str) -> Result<()> {
        self.are_in(room, 3, OBSERVED_WITHIN).await.context("no observer came")
    }
}

async fn hold(people: Arc<People>, room: String, story: Story, agent_name: String) {
    if let Err(e) = scripted::call(&people, &room, story, &agent_name).await {
        print(&json!({"held": room, "error": format!("{e:#}")}));
    }
}

/// A caller's phone number, made from the number at the end of the room's name.
pub(crate) fn phone_number(room: &str) -> String {
    let number: u32 = room.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(0);
    format!("+1555{number:07}")
}

/// Says one utterance after the other while `talk` is on.
async fn talk(people: &People, mut agent: VoiceAgent) -> Result<()> {
    let text = "word ".repeat(CHUNKS as usize);
    let own: u32 = agent.person.identity.bytes().map(u32::from).sum();
    let mut on = people.talk.subscribe();
    loop {
        on.wait_for(|on| *on).await?;
        // The agents begin at different times.
        sleep(Duration::from_millis(u64::from(own * 37 % 3000))).await;
        while *on.borrow() {
            agent.says(text.trim_end(), CHUNK_EVERY).await?;
            people.chunks.fetch_add(CHUNKS, Ordering::Relaxed);
        }
    }
}
