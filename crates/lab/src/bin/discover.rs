//! `discover`: how soon a worker joins a call, for each layer of discovery; how a fleet shares calls.
//!
//! Times are the server's: from the caller's join to the observer's, as the server lists them. The dev
//! server delays job offers as long as a real server does. It prints figures and no verdict.
//!
//! ```text
//! cargo build --release -p call-history -p lab --bins
//! target/release/discover [CALLS]
//! ```
#![allow(clippy::print_stdout)] // printing is the purpose of this program

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use lab::{
    endpoint::Endpoint,
    person::Person,
    server::{Ticket, Venue},
    worker::{DISCOVERY, Setup, Worker},
};
use livekit::DisconnectReason;
use livekit_devserver::{Config, WebhookConfig};
use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{Instant, sleep},
};

const NAME: &str = "call-history";
/// From the caller's join to the offer, measured on a real server.
const OFFERED_AFTER: Duration = Duration::from_millis(110);
const SEEN_WITHIN: Duration = Duration::from_secs(15);
const WORKERS: usize = 5;
const ROOMS: usize = 200;

#[tokio::main]
async fn main() -> Result<()> {
    let calls = std::env::args().nth(1).map_or(Ok(200), |n| n.parse())?;
    println!("from the caller's join to the observer's, ms (n = {calls} each)");
    for (layers, dispatched) in [
        ("dispatch", true),
        ("participant", false),
        ("webhook", false),
        ("reconcile", false),
        ("dispatch, reconcile, webhook", true),
        ("dispatch, reconcile, webhook", false),
    ] {
        let mut times = latencies(layers, dispatched, calls).await?;
        times.sort_unstable();
        let at = |share: f64| times[((share * times.len() as f64) as usize).min(times.len() - 1)];
        let token = if dispatched { "named in the token" } else { "not named" };
        println!(
            "  {layers:<30} {token:<19} median {:>5}   p99 {:>5}   max {:>5}",
            at(0.5),
            at(0.99),
            at(1.0)
        );
    }
    for (layers, dispatched) in [("dispatch, reconcile", true), ("dispatch, reconcile", false)] {
        let (shares, twice, took) = shares(layers, dispatched).await?;
        let token = if dispatched { "named in the token" } else { "not named" };
        println!(
            "{ROOMS} calls within a second, {WORKERS} workers, {token}: {shares:?}, all in rooms \
             after {:.1} s, {twice} joins given up to another worker",
            took.as_secs_f64()
        );
    }
    Ok(())
}

fn binary() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("call-history");
    path.exists().then_some(path).context("build call-history first")
}

/// Opens calls one after the other, at varying moments of the reconciler's interval.
async fn latencies(layers: &str, dispatched: bool, calls: usize) -> Result<Vec<i64>> {
    let port = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
    let webhook = WebhookConfig {
        urls: vec![format!("http://127.0.0.1:{port}/webhook")],
        api_key: "devkey".into(),
    };
    let config = Config {
        dispatch_delay: OFFERED_AFTER,
        webhook: layers.contains("webhook").then_some(webhook),
        ..Config::default()
    };
    let (venue, endpoint) = (Venue::dev(config).await?, Endpoint::start().await?);
    let binary = binary()?;
    let setup = Setup::new(&binary, &venue, &endpoint, NAME)
        .with(DISCOVERY, layers)
        .with("CALL_HISTORY_HTTP_ADDR", &format!("127.0.0.1:{port}"));
    let mut worker = Worker::start(setup)?;
    worker
        .logs(if layers == "reconcile" || layers == "webhook" {
            "health page"
        } else {
            "registered worker"
        })
        .await?;
    let mut times = vec![];
    for n in 0..calls {
        let room = format!("room-{n}");
        let caller = call(&venue, &room, dispatched).await?;
        times.push(seen(&venue, &room).await?);
        caller.leaves(DisconnectReason::ClientInitiated).await?;
        venue.rooms().delete_room(&room).await?;
        sleep(Duration::from_millis((n as u64 * 137) % 500)).await;
    }
    worker.stops().await?;
    Ok(times)
}

async fn call(venue: &Venue, room: &str, dispatched: bool) -> Result<Person> {
    let ticket = Ticket {
        room: room.into(),
        identity: "alice".into(),
        kind: "standard",
        agents: if dispatched { vec![NAME.into()] } else { vec![] },
        ..Default::default()
    };
    Person::join(venue, &ticket).await
}

/// Milliseconds from the caller's join to the observer's.
async fn seen(venue: &Venue, room: &str) -> Result<i64> {
    let deadline = Instant::now() + SEEN_WITHIN;
    loop {
        let all = venue.rooms().list_participants(room).await?;
        let of = |us: bool| {
            let mut of = all.iter().filter(|p| p.identity.starts_with("call-history-") == us);
            of.next().map(|p| p.joined_at_ms)
        };
        if let (Some(them), Some(us)) = (of(false), of(true)) {
            return Ok(us - them);
        }
        anyhow::ensure!(Instant::now() < deadline, "{room} is not seen");
        sleep(Duration::from_millis(10)).await;
    }
}

/// The number of rooms of each worker, the number of surplus joins, and the time until all rooms
/// were observed.
async fn shares(layers: &str, dispatched: bool) -> Result<(Vec<usize>, usize, Duration)> {
    let config = Config { dispatch_delay: OFFERED_AFTER, ..Config::default() };
    let (venue, endpoint) = (Venue::dev(config).await?, Endpoint::start().await?);
    let binary = binary()?;
    let mut workers = vec![];
    for _ in 0..WORKERS {
        let setup = Setup::new(&binary, &venue, &endpoint, NAME).with(DISCOVERY, layers);
        workers.push(Worker::registered(setup).await?);
    }
    let began = Instant::now();
    let rooms: Vec<String> = (0..ROOMS).map(|n| format!("room-{n}")).collect();
    let callers = rooms.iter().map(|room| call(&venue, room, dispatched));
    let _callers = try_join_all(callers).await?;
    for room in &rooms {
        seen(&venue, room).await?;
    }
    let took = began.elapsed();
    sleep(Duration::from_secs(3)).await;
    let count = |w: &Worker, m: &str| rooms.iter().map(|r| w.count(m, r)).sum::<usize>();
    let left = "another worker observes the room, left to it";
    let shares = workers.iter().map(|w| count(w, "joined") - count(w, left)).collect();
    let twice = workers.iter().map(|w| count(w, left)).sum();
    let mut ends = JoinSet::new();
    for mut worker in workers {
        ends.spawn(async move {
            worker.signal(9).await?;
            worker.ends(SEEN_WITHIN).await.map(drop)
        });
    }
    while let Some(end) = ends.join_next().await {
        end??;
    }
    Ok((shares, twice, took))
}
