//! Durable posts a second: signed records from several senders at once. Endpoints take turns, so that what else the machine
//! does concerns all of them.

use std::time::{Duration, Instant};

use record::Claims;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::process::{Kind, Process, SECRET};

const SENDERS: u32 = 16;
const FOR: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;
const KINDS: [Kind; 3] = [Kind::Sqlite, Kind::Postgres, Kind::Express];

pub(crate) async fn measure() {
    let mut all: Vec<(Kind, Vec<f64>, f64, f64)> =
        KINDS.iter().map(|kind| (*kind, vec![], 0.0, 0.0)).collect();
    for _ in 0..ROUNDS {
        for (kind, rates, idle, busy) in &mut all {
            let process = Process::start(*kind).await;
            // The first request is answered: it has started.
            post(&client(), &process.url, "first").await;
            *idle = process.memory("VmRSS");
            rates.push(rate(&process).await);
            *busy = process.memory("VmHWM").max(*busy);
        }
    }
    println!("| endpoint | posts/s (median of {ROUNDS}) | memory idle | at most |");
    println!("|---|---|---|---|");
    for (kind, mut rates, idle, busy) in all {
        rates.sort_by(f64::total_cmp);
        let rate = rates[ROUNDS / 2];
        println!("| {} | {rate:.0} | {idle:.0} MB | {busy:.0} MB |", kind.name());
    }
}

async fn rate(process: &Process) -> f64 {
    let mut senders = JoinSet::new();
    let begin = Instant::now();
    for sender in 0..SENDERS {
        let url = process.url.clone();
        senders.spawn(async move {
            let client = client();
            let mut posted = 0_u32;
            while begin.elapsed() < FOR {
                post(&client, &url, &format!("{sender}-{posted}")).await;
                posted += 1;
            }
            posted
        });
    }
    let posted: u32 = senders.join_all().await.into_iter().sum();
    f64::from(posted) / begin.elapsed().as_secs_f64()
}

async fn post(client: &reqwest::Client, url: &str, id: &str) {
    let body = record(id).to_string();
    let now = chrono::Utc::now().timestamp();
    let token = Claims::of(id, body.as_bytes(), body.as_bytes(), now).sign(SECRET).unwrap();
    let request = client.post(format!("{url}/call-history")).bearer_auth(token);
    let answer = request.header("content-type", "application/json").body(body).send().await;
    assert_eq!(answer.unwrap().status(), 200);
}

pub(crate) fn client() -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

/// Of the user's document, with some answer times.
fn record(id: &str) -> Value {
    let text = include_str!("../../../../docs/schema/example.json");
    let mut record: Value = serde_json::from_str(text).unwrap();
    record["call_id"] = id.into();
    record["details"] = json!({"latency": {"agent_response": {
        "count": 5, "min": 0.5, "p50": 0.9, "p90": 2.5, "p95": 2.5, "p99": 2.5, "max": 2.5,
        "values": [0.5, 0.7, 0.9, 1.1, 2.5],
    }}});
    record
}
