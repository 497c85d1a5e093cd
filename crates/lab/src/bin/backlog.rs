//! `backlog`: what the worker needs after an outage, measured from outside.
//!
//! Fills a data folder with waiting records and starts the worker on it. Prints how long the worker
//! takes to register, how much memory it needs, and how fast it delivers the records: to an endpoint
//! that answers at once, and to one that answers in 100 ms. It prints figures and no verdict. Linux only.
//!
//! ```text
//! cargo build --release -p call-history -p lab --bins
//! target/release/backlog [RECORDS]        default 100000
//! ```
#![allow(clippy::print_stdout)]

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use axum::{Router, extract::State, http::StatusCode, routing::post};
use lab::{
    endpoint::Endpoint,
    server::{Venue, quick},
    worker::{Setup, Worker},
};
use tokio::{
    net::TcpListener,
    time::{Instant, sleep},
};

/// Time limit; long enough for a slow machine.
const WITHIN: Duration = Duration::from_secs(20 * 60);
/// Bytes of filler, so that a record is as large as one with a few stages.
const NOTES: usize = 600;

#[tokio::main]
async fn main() -> Result<()> {
    let records = match std::env::args().nth(1) {
        Some(n) => n.parse().context("RECORDS must be a number")?,
        None => 100_000,
    };
    println!("records   answer    registered    memory at first    at most    drained");
    drain(records, Duration::ZERO).await?;
    drain((records / 30).max(1), Duration::from_millis(100)).await
}

async fn drain(records: usize, answer_in: Duration) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let data = dir.path().join("data");
    fill(&data, records)?;
    let venue = Venue::dev(quick()).await?;
    let received = Arc::new(AtomicUsize::new(0));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/calls", listener.local_addr()?);
    let app =
        Router::new().route("/calls", post(receive)).with_state((received.clone(), answer_in));
    let serving = tokio::spawn(async move {
        // Ends with the measurement.
        let _ = axum::serve(listener, app).await;
    });
    // `Setup` needs an endpoint, but the worker gets the URL above.
    let unused = Endpoint::start().await?;
    let binary = std::env::current_exe()?.with_file_name("call-history");
    let mut setup = Setup::new(&binary, &venue, &unused, "backlog")
        .with("CALL_HISTORY_ENDPOINT", &url)
        .with("RUST_LOG", "warn,call_history::worker=info");
    setup.data = Some(data);
    let began = Instant::now();
    let mut worker = Worker::registered(setup).await?;
    let registered = began.elapsed();
    let first = memory(&worker, "VmRSS")?;
    while received.load(Ordering::Relaxed) < records {
        if began.elapsed() > WITHIN {
            bail!("{} of {records} after {WITHIN:?}", received.load(Ordering::Relaxed));
        }
        sleep(Duration::from_millis(20)).await;
    }
    let took = began.elapsed();
    let most = memory(&worker, "VmHWM")?;
    worker.stops().await?;
    serving.abort();
    println!(
        "{records:>7}   {:>4} ms   {:>7} ms    {first:>8.1} MB        {most:>5.1} MB    {:.0} records/s",
        answer_in.as_millis(),
        registered.as_millis(),
        records as f64 / took.as_secs_f64(),
    );
    Ok(())
}

async fn receive(
    State((received, answer_in)): State<(Arc<AtomicUsize>, Duration)>,
    _body: axum::body::Bytes,
) -> StatusCode {
    if !answer_in.is_zero() {
        sleep(answer_in).await;
    }
    received.fetch_add(1, Ordering::Relaxed);
    StatusCode::OK
}

fn fill(data: &Path, records: usize) -> Result<()> {
    let pending = data.join("pending");
    fs::create_dir_all(&pending)?;
    let notes = "x".repeat(NOTES);
    for n in 0..records {
        let id = uuid::Uuid::from_u128(n as u128);
        let record = format!(
            "{{\"call_id\":\"{id}\",\"phone_number\":\"unknown\",\"end_time\":\"2026-01-01T00:00:00.000Z\",\"notes\":\"{notes}\"}}"
        );
        fs::write(pending.join(format!("{id}.json")), record)?;
    }
    Ok(())
}

/// A figure of `/proc/PID/status`, in megabytes.
fn memory(worker: &Worker, of: &str) -> Result<f64> {
    let pid = worker.pid().context("the worker is gone")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|l| l.starts_with(of)).context("no such figure")?;
    let kib: f64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib / 1024.0)
}
