//! Lists, searches and figures over a million generated calls of three years.

use std::time::{Duration, Instant};

use receiver::{
    days,
    histogram::Histogram,
    store::{self, Sql, Store},
};
use record::Moment;

use crate::process::{Kind, Process};

const NUMBERS: &str = "WITH RECURSIVE numbers (i) AS (\
    SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM numbers WHERE i < 1000000) ";
const TIMES: usize = 21;
/// The calls end before it.
const NOW: &str = "2025-12-31T00:00:00.000Z";

const QUESTIONS: [&str; 18] = [
    "/api/calls",
    "/api/calls?include_total=true",
    "/api/calls?status=failed,dropped",
    "/api/calls?phone_number.sw=%2B155512",
    "/api/calls?phone_number=%2B155512345",
    "/api/calls?agent_response.p95.gt=2.99",
    "/api/calls?start_time.lt=2023-06-01&status=dropped",
    "/api/calls?q=room-123456",
    "/api/calls?q=table%20people",
    "/api/calls?q=table%20people&status=dropped",
    "/api/calls?q=nothing-like-it",
    "/api/stats?by=day&of=count&start_time.ge=2025-10-01",
    "/api/stats?by=month,business_type&of=count,successful.avg",
    "/api/stats?of=count,agent_response.p50,agent_response.p95",
    "/api/stats?by=month&of=count,agent_response.p95",
    "/api/stats?by=month&of=count,agent_response.p95&tz=Europe/Berlin",
    "/api/stats?by=day&of=count,agent_response.p95&tz=Europe/Berlin&start_time.ge=2025-10-01",
    // By a field that the sums of days do not have: all calls are read.
    "/api/stats?by=successful&of=count,agent_response.p95",
];

pub(crate) async fn measure() {
    let (sqlite, postgres) = (of(Kind::Sqlite).await, of(Kind::Postgres).await);
    println!("\n| question, over 1,000,000 calls | SQLite p50 | p95 | Postgres p50 | p95 |");
    println!("|---|---|---|---|---|");
    for (n, path) in QUESTIONS.iter().enumerate() {
        let of = |times: &[(Duration, Duration)]| {
            format!("{} | {}", shown(times[n].0), shown(times[n].1))
        };
        println!("| `{path}` | {} | {} |", of(&sqlite), of(&postgres));
    }
}

fn shown(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1_000.0;
    if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
}

/// Of each question the median and the 95th percentile.
async fn of(kind: Kind) -> Vec<(Duration, Duration)> {
    let process = Process::start(kind).await;
    let store = store::open(process.place.as_ref().unwrap()).await.unwrap();
    let begin = Instant::now();
    fill(&*store).await;
    let filled = begin.elapsed();
    let begin = Instant::now();
    // The receiver does it by itself too.
    let now = Moment::parse_rfc3339(NOW).unwrap();
    days::sum_up(&*store, now, Duration::ZERO).await.unwrap();
    println!(
        "{}: a million calls made in {filled:.0?}, days summed up in {:.1?}",
        kind.name(),
        begin.elapsed()
    );
    let client = crate::posts::client();
    let mut all = vec![];
    for path in QUESTIONS {
        let mut times = vec![];
        for _ in 0..TIMES {
            let begin = Instant::now();
            let answer = client.get(format!("{}{path}", process.url)).send().await.unwrap();
            let status = answer.status();
            let text = answer.text().await.unwrap();
            assert_eq!(status, 200, "{path}: {text}");
            times.push(begin.elapsed());
        }
        times.sort();
        all.push((times[TIMES / 2], times[TIMES * 95 / 100]));
    }
    println!("{}: {:.0} MB at most", kind.name(), process.memory("VmHWM"));
    all
}

async fn fill(store: &dyn Store) {
    let dialect = store.dialect();
    let responses = Histogram::of([0.4, 0.6, 0.7, 0.9, 1.1, 1.3, 2.2, 0.5]);
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
    let mut transaction = store.begin().await.unwrap();
    transaction.execute(calls).await.unwrap();
    transaction.execute(bodies).await.unwrap();
    transaction.commit().await.unwrap();
    if dialect == receiver::store::Dialect::Postgres {
        // As its own daemon does some minutes later.
        let mut transaction = store.begin().await.unwrap();
        transaction.execute(Sql::new(dialect, "ANALYZE")).await.unwrap();
        transaction.commit().await.unwrap();
    }
}
