//! What a call's events cost from LiveKit's SDK to the facts of a call. `make counts` runs it under callgrind, which
//! finds [`counted_part`] by its name. It is a test since the module is private, and its build exists already.

// `make counts` reads what it prints.
#![allow(clippy::print_stdout)]

use std::{alloc::System, hint::black_box, pin::pin, time::Duration};

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
use tokio::time::{sleep, timeout};

use super::{Connection, Notice, Opening};
use crate::clock::{Clock, WallClock};

#[global_allocator]
static MEMORY: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TURNS: usize = 20;
/// Of the caller's part seven transcripts (opened, a text, closed), three messages of the feed; of the agent's part one
/// transcript in four texts and a message of the feed; and three states of the agent, each by attribute and by feed.
const FACTS: usize = 7 * 3 + 3 + 6 + 1 + 3 * 2;
/// Usually all that was sent has reached the SDK by then, so that nothing is waited for while it is counted.
const ARRIVED: Duration = Duration::from_millis(500);
const LATEST: Duration = Duration::from_secs(60);

#[inline(never)]
fn counted_part<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "make counts runs it"]
async fn events_of_a_call() -> Result<()> {
    let venue = Venue::dev(quick()).await?;
    let (mut agent, mut connection) = people(&venue).await?;
    let mut allocations = 0;
    for _ in 0..TURNS {
        agent.hears("caller", "a table for four please", Duration::ZERO).await?;
        agent.says("Yes, with pleasure, when?", Duration::ZERO).await?;
        sleep(ARRIVED).await;
        allocations += read(&mut connection, FACTS).await?;
    }
    println!("allocations: {allocations}");
    Ok(())
}

/// A caller and its agent, and an observer that has read who is there.
async fn people(venue: &Venue) -> Result<(VoiceAgent, Connection)> {
    let room = "counted".to_owned();
    let agent = VoiceAgent::join(venue, &room, true).await?;
    let caller = Ticket { room: room.clone(), identity: "caller".into(), ..Default::default() };
    // It stays for as long as the process.
    std::mem::forget(Person::join(venue, &caller).await?);
    let hidden = VideoGrants {
        hidden: true,
        can_publish: Some(false),
        can_subscribe: Some(true),
        ..Default::default()
    };
    let us = Ticket { room, identity: "us".into(), grants: Some(hidden), ..Default::default() };
    let (token, wall) = (venue.token(&us)?, WallClock::new(Health::default()));
    let opening = Opening {
        url: &venue.url,
        token: &token,
        identity: &us.identity,
        by: Discovery::Dispatch,
        clock: Clock::start(&wall),
        wall: &wall,
        names: Identities::default(),
        first: true,
    };
    let opened = Connection::open(opening).await.map_err(anyhow::Error::msg);
    let mut connection = opened.context("the observer's join")?;
    // Who is there.
    connection.known();
    Ok((agent, connection))
}

/// Reads so many facts. Returns the number of allocations.
async fn read(connection: &mut Connection, facts: usize) -> Result<usize> {
    let (mut found, mut allocations) = (0, 0);
    while found < facts {
        let mut next = pin!(connection.next());
        let counted = std::future::poll_fn(|cx| {
            let region = Region::new(MEMORY);
            let polled = counted_part(|| next.as_mut().poll(cx));
            let made = region.change();
            if polled.is_ready() {
                allocations += made.allocations + made.reallocations;
            }
            polled
        });
        let (_, notice) = timeout(LATEST, counted).await.context("facts are missing")?;
        found += usize::from(matches!(notice, Notice::Fact(_)));
    }
    Ok(allocations)
}
