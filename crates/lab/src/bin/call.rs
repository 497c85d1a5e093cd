//! `make call`: one scripted call of some ten seconds on the LiveKit server of `LIVEKIT_URL`, `LIVEKIT_API_KEY` and
//! `LIVEKIT_API_SECRET`, from the environment or `.env`, between a phone caller and a voice agent. Whoever observes the server sees it as any other.
#![allow(clippy::print_stdout)]

use std::time::Duration;

use anyhow::{Context, Result};
use lab::{agent::VoiceAgent, person::Person, server::Venue};

const NUMBER: &str = "+15550123456";
const WORD: Duration = Duration::from_millis(250);

/// A worker lists the rooms about once a second, and of a slow server every ten.
const FOUND_WITHIN: Duration = Duration::from_secs(15);

/// Waits until a worker has joined the room, whose identity shows it.
async fn observed(venue: &Venue, room: &str) -> Result<bool> {
    let until = tokio::time::Instant::now() + FOUND_WITHIN;
    while tokio::time::Instant::now() < until {
        let there = venue.rooms().list_participants(room).await?;
        if there.iter().any(|p| p.identity.starts_with("call-history-")) {
            return Ok(true);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    Ok(false)
}

#[tokio::main]
async fn main() -> Result<()> {
    // As the worker reads it: the environment counts first. The file may be missing.
    if let Err(e) = dotenvy::from_path(".env")
        && !e.not_found()
    {
        return Err(e).context(".env cannot be read");
    }
    for name in ["LIVEKIT_URL", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"] {
        let is_set = std::env::var(name).is_ok_and(|value| !value.is_empty());
        anyhow::ensure!(is_set, "{name} is not set, neither in the environment nor in .env");
    }
    let venue = Venue::from_env().await?;
    let room = format!("call-{}", uuid::Uuid::new_v4().simple());
    println!("a phone call in room {room} on {}", venue.url);
    let caller = Person::phone(&venue, &room, NUMBER, "active", true, &[]);
    let caller = caller.await.context(
        "the caller cannot join (`call-history doctor` says whether URL, key and secret are right)",
    )?;
    let mut agent = VoiceAgent::join(&venue, &room, true).await.context("the agent cannot join")?;
    if !observed(&venue, &room).await? {
        println!("no worker of call-history has joined the room within {FOUND_WITHIN:?}");
    }
    for (by_agent, text) in [
        (true, "Luigi's, good evening. How can I help you?"),
        (false, "A table for four, please."),
        (true, "It is booked. Goodbye!"),
    ] {
        // Nobody interrupts.
        tokio::time::sleep(Duration::from_millis(700)).await;
        println!("{}: {text}", if by_agent { "agent " } else { "caller" });
        if by_agent {
            agent.says(text, WORD).await?;
        } else {
            agent.hears(caller.me().identity().as_str(), text, WORD).await?;
        }
    }
    caller.hangs_up().await?;
    println!("the caller has hung up: the record is posted some 5 s after that");
    println!(
        "with the receiver as the endpoint look at http://127.0.0.1:8082, or curl http://127.0.0.1:8082/api/calls"
    );
    agent.person.hangs_up().await
}
