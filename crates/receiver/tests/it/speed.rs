//! A measurement, not a test: `cargo test -p receiver --test it speed -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use receiver::store::Sql;
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

/// Calls of the measurement of questions.
const CALLS: i64 = 1_000_000;
const NUMBERS: &str = "WITH RECURSIVE numbers (i) AS (\
    SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM numbers WHERE i < 1000000) ";

/// Questions over a million calls of three years, each asked seven times.
#[allow(clippy::print_stderr)]
async fn questions(engine: Engine) {
    let rig = Rig::new(engine).await;
    let store = receiver::store::open(&rig.home.place).await.unwrap();
    let dialect = store.dialect();
    let responses = receiver::histogram::Histogram::of([0.4, 0.6, 0.7, 0.9, 1.1, 1.3, 2.2, 0.5]);
    let mut calls = Sql::new(
        dialect,
        "INSERT INTO calls (call_id, received_at, kept_from, sha256, bytes, \
        phone_number, room_name, call_type, start_time, end_time, duration_seconds, status, business_type, \
        final_stage, successful, completion_rate, silence_count, interruption_count, agent_response_p50, \
        agent_response_p95, agent_responses) ",
    );
    calls.push(NUMBERS);
    calls
        .push("SELECT 'call-' || CAST(i AS TEXT), 1764000000000, 1764000000000, ")
        .bind(vec![0_u8; 32]);
    calls.push(", 2000, '+1555' || CAST(i * 7919 % 100000 AS TEXT), 'room-' || CAST(i AS TEXT), 'inbound', \
        1669000000000 + i * 94608, 1669000000000 + i * 94608 + 60000, i % 600, \
        CASE WHEN i % 10 = 0 THEN 'failed' WHEN i % 25 = 1 THEN 'dropped' ELSE 'completed' END, \
        CASE i % 3 WHEN 0 THEN 'restaurant' WHEN 1 THEN 'clinic' ELSE 'support' END, 'closing', i % 2, \
        0.5, i % 5, i % 4, 0.5 + (i % 100) * 0.01, 1.0 + (i % 1000) * 0.002, ");
    calls.bind(responses.to_bytes()).push(" FROM numbers");
    let mut bodies = Sql::new(
        dialect,
        "INSERT INTO bodies (n, search_text, body) SELECT n, phone_number || \
        ' ' || room_name || ' i would like a table for ' || CAST(n % 50 AS TEXT) || ' people please', ",
    );
    bodies.bind(b"{}".to_vec()).push(" FROM calls");
    let begin = Instant::now();
    let mut transaction = store.begin().await.unwrap();
    transaction.execute(calls).await.unwrap();
    transaction.execute(bodies).await.unwrap();
    transaction.commit().await.unwrap();
    eprintln!("{engine:?}: {CALLS} calls made in {:?}", begin.elapsed());
    for path in [
        "/api/calls",
        "/api/calls?include_total=true",
        "/api/calls?status=failed,dropped",
        "/api/calls?phone_number.sw=%2B155512",
        "/api/calls?phone_number=%2B155512345",
        "/api/calls?agent_response.p95.gt=2.99",
        "/api/calls?start_time.lt=2023-06-01&status=dropped",
        "/api/calls?q=room-123456",
        "/api/calls?q=table%20people",
        "/api/calls?q=nothing-like-it",
        "/api/stats?by=day&of=count&start_time.ge=2025-10-01",
        "/api/stats?by=month,business_type&of=count,successful.avg",
        "/api/stats?by=month&of=count,agent_response.p95",
    ] {
        let mut times = vec![];
        for _ in 0..7 {
            let begin = Instant::now();
            let (status, answer) = rig.get(path).await;
            assert_eq!(status, 200, "{answer}");
            times.push(begin.elapsed());
        }
        times.sort();
        eprintln!("{engine:?}: {path}: median {:?}, most {:?}", times[3], times[6]);
    }
}

mod measured {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "a measurement"]
    async fn questions_sqlite() {
        super::questions(crate::rig::Engine::Sqlite).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    #[ignore = "a measurement"]
    async fn questions_postgres() {
        super::questions(crate::rig::Engine::Postgres).await;
    }

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
