//! A measurement, not a test: `cargo test -p receiver --test it speed -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::rig::{Engine, Rig, client, detailed};

const SENDERS: u32 = 16;
const FOR: Duration = Duration::from_secs(8);

/// Durable posts a second from so many senders at once.
#[allow(clippy::print_stderr)]
async fn posts_a_second(engine: Engine) {
    let rig = Rig::new(engine).await;
    let mut senders = JoinSet::new();
    let begin = Instant::now();
    for sender in 0..SENDERS {
        let url = rig.url("/call-history");
        senders.spawn(async move {
            let client = client();
            let mut record = detailed("", "2026-11-01T10:00:00.000Z", &[0.5, 0.7, 0.9, 1.1, 2.5]);
            let mut posted = 0_u32;
            while begin.elapsed() < FOR {
                record["call_id"] = format!("{sender}-{posted}").into();
                let answer = client.post(&url).body(record.to_string()).send().await.unwrap();
                assert_eq!(answer.status(), 200);
                posted += 1;
            }
            posted
        });
    }
    let posted: u32 = senders.join_all().await.into_iter().sum();
    let rate = f64::from(posted) / begin.elapsed().as_secs_f64();
    eprintln!("{engine:?}: {rate:.0} posts a second, {SENDERS} senders");
}

mod measured {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "a measurement"]
    async fn sqlite() {
        super::posts_a_second(crate::rig::Engine::Sqlite).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "a measurement"]
    async fn postgres() {
        super::posts_a_second(crate::rig::Engine::Postgres).await;
    }
}
