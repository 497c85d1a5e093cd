//! Statistics, the same on both engines.

use std::time::Duration;

use receiver::{days, store::Sql};
use serde_json::{Value, json};

use crate::rig::{Engine, Rig, detailed, on_both, record};

/// 300 calls of four days, with plain numbers that a formula gives.
async fn many(engine: Engine) -> Rig {
    let rig = Rig::new(engine).await;
    let mut posts = tokio::task::JoinSet::new();
    for n in 0..300_u32 {
        // From Friday 23:00 UTC on, one each 15 minutes.
        let minutes = n * 15;
        let (day, hour, minute) =
            (27 + (23 * 60 + minutes) / 1_440, (23 * 60 + minutes) / 60 % 24, minutes % 60);
        let start = if day <= 30 {
            format!("2026-11-{day}T{hour:02}:{minute:02}:00.000Z")
        } else {
            format!("2026-12-{:02}T{hour:02}:{minute:02}:00.000Z", day - 30)
        };
        let agent: Vec<f64> = (1..=n % 5).map(|k| 0.1 * f64::from(k * (n % 13) + 1)).collect();
        let mut call = detailed(&format!("{n:03}"), &start, &agent);
        call["status"] = ["completed", "failed", "dropped"][n as usize % 3].into();
        call["agent_config"]["business_type"] =
            [json!("hotel"), json!("shop"), Value::Null][n as usize % 7 % 3].clone();
        call["duration_seconds"] = (0.1 * f64::from(n)).into();
        call["outcomes"]["successful"] =
            [json!(true), json!(false), Value::Null][n as usize % 4 % 3].clone();
        posts.spawn(rig.post(call.to_string()).send());
        if posts.len() > 20 {
            posts.join_next().await.unwrap().unwrap().unwrap();
        }
    }
    posts.join_all().await;
    rig
}

const QUERIES: [&str; 9] = [
    "",
    "by=day&of=count,agent_response.p50,agent_response.p95,user_response.p95&tz=Europe/Berlin",
    "by=day,business_type&of=count,successful.avg,duration_seconds.sum,duration_seconds.max&tz=America/St_Johns",
    "by=hour&of=count&tz=Asia/Kathmandu",
    "by=hour&of=count&tz=Australia/Lord_Howe",
    "by=weekday,status&of=count,agent_response.p90,agent_response.p95.avg",
    "by=week&of=count&status=failed,dropped",
    "by=month,successful&of=count,silence_count.min",
    "by=ended_by&of=agent_response.p99,duration_seconds.avg&duration_seconds.lt=10",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_engines_give_the_same_figures() {
    let (sqlite, postgres) = tokio::join!(many(Engine::Sqlite), many(Engine::Postgres));
    for query in QUERIES {
        let path = format!("/api/stats?{query}");
        let (one, other) = tokio::join!(sqlite.get(&path), postgres.get(&path));
        assert_eq!(one.0, 200, "{one:?}");
        assert!(one.1["groups"].as_array().is_some_and(|g| !g.is_empty()), "{one:?}");
        assert_eq!(one, other, "{query}");
    }
}

/// Of the same calls with the sums of days and without them, also when calls come and go afterwards.
async fn sums_of_days_change_no_figure(engine: Engine) {
    let rig = many(engine).await;
    let store = receiver::store::open(&rig.home.place).await.unwrap();
    let now = record::Moment::parse_rfc3339("2026-12-01T02:00:00.000Z").unwrap();
    let all = async || {
        let mut answers = vec![];
        for query in QUERIES.iter().chain(&OF_DAYS) {
            let (status, answer) = rig.get(&format!("/api/stats?{query}")).await;
            assert_eq!(status, 200, "{answer}");
            answers.push((query, answer));
        }
        answers
    };
    let summed = async || {
        let sql = Sql::new(store.dialect(), "SELECT day FROM summed_days");
        store.read(sql).await.unwrap().len()
    };
    let before = all().await;
    assert_eq!(summed().await, 0);
    assert_eq!(days::sum_up(&*store, now, Duration::ZERO).await.unwrap(), 4);
    assert_eq!(days::sum_up(&*store, now, Duration::ZERO).await.unwrap(), 0, "they are there");
    assert_eq!(summed().await, 4, "the last day is not over");
    assert_eq!(all().await, before);

    // A call that comes late, and one that goes.
    let late = detailed("late", "2026-11-28T12:00:00.000Z", &[9.0]);
    rig.keep(&late).await;
    assert_eq!(summed().await, 3);
    let with_late = all().await;
    assert_ne!(with_late, before);
    assert_eq!(days::sum_up(&*store, now, Duration::ZERO).await.unwrap(), 1);
    assert_eq!(all().await, with_late);
    assert_eq!(rig.delete("/api/calls/late").await.0, 200);
    assert_eq!(summed().await, 3, "its words are in no sum any more");
    let rows = Sql::new(store.dialect(), "SELECT start_time FROM day_sums");
    let rows = store.read(rows).await.unwrap();
    assert!(!rows.iter().any(|row| row.int(0) == Some(1_795_824_000_000)));
    // Those that answer by sums count deleted calls, the others do not.
    let gone = all().await;
    for ((query, with), (_, gone)) in with_late.iter().zip(&gone) {
        if gone["deleted_included"] == true {
            assert_eq!(with, gone, "{query}");
        }
    }
    assert_eq!(days::sum_up(&*store, now, Duration::ZERO).await.unwrap(), 1);
    assert_eq!(all().await, gone);
}

/// Questions that the sums of days answer.
const OF_DAYS: [&str; 6] = [
    "by=day&of=count,agent_response.p50,agent_response.p95,user_response.p95,duration_seconds.sum",
    "by=month,business_type&of=count,successful.avg,duration_seconds.max,agent_response.p99",
    "by=month&of=agent_response.p95&tz=Europe/Berlin",
    "by=weekday,status&of=count,silence_count.avg",
    "of=count,duration_seconds.min&start_time.ge=2026-11-28T07:30:00Z&start_time.lt=2026-11-30T23:59:59Z",
    "by=status&of=count&business_type=hotel",
];

async fn figures_are_what_they_say(engine: Engine) {
    let rig = many(engine).await;
    let groups = |(status, answer): (u16, Value)| {
        assert_eq!(status, 200, "{answer}");
        answer["groups"].clone()
    };
    assert_eq!(groups(rig.get("/api/stats").await), json!([{"count": 300}]));
    // 23:00 UTC on a Friday is Saturday in Berlin.
    let days = groups(rig.get("/api/stats?by=day,weekday&tz=Europe/Berlin").await);
    let first = json!({"day": "2026-11-28", "weekday": "6", "count": 96});
    assert_eq!((&days[0], days.as_array().unwrap().len()), (&first, 4));
    let utc = groups(rig.get("/api/stats?by=day").await);
    assert_eq!(utc[0], json!({"day": "2026-11-27", "count": 4}));
    let weeks = groups(rig.get("/api/stats?by=week,month&tz=UTC").await);
    assert_eq!(weeks[0], json!({"week": "2026-W48", "month": "2026-11", "count": 196}));

    // All responses of all calls, one by one.
    let mut all: Vec<f64> = (0..300_u32)
        .flat_map(|n| (1..=n % 5).map(move |k| 0.1 * f64::from(k * (n % 13) + 1)))
        .collect();
    all.sort_by(f64::total_cmp);
    for (name, part) in [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)] {
        let found = groups(rig.get(&format!("/api/stats?of=agent_response.{name}")).await);
        let found = found[0][format!("agent_response.{name}")].as_f64().unwrap();
        let exact = all[(all.len() as f64 * part).ceil() as usize - 1];
        assert!((found - exact).abs() <= exact * 0.0101 + 0.001, "{name}: {found} for {exact}");
    }
    let sum = groups(
        rig.get("/api/stats?of=duration_seconds.sum,duration_seconds.avg,duration_seconds.min")
            .await,
    );
    assert_eq!(sum[0]["duration_seconds.sum"], 4_485.0);
    assert_eq!(sum[0]["duration_seconds.avg"], 14.95);
    assert_eq!(sum[0]["duration_seconds.min"], 0.0);
    let successful =
        groups(rig.get("/api/stats?of=count,successful.avg&successful.present=true").await);
    // true, false, null, true: two of three.
    assert_eq!(successful, json!([{"count": 225, "successful.avg": 0.666_667}]));
    let none = groups(rig.get("/api/stats?of=count,agent_response.p95&business_type=bank").await);
    assert_eq!(none, json!([]));
}

async fn a_wrong_question_says_what_would_be_right(engine: Engine) {
    let rig = Rig::new(engine).await;
    rig.keep(&record("one")).await;
    for (query, path, part) in [
        ("by=colour", "by", "known are day, week, month, hour, weekday, phone_number"),
        ("by=call_id", "by", "unknown"),
        ("by=duration_seconds", "by", "unknown"),
        ("of=count.sum", "of", "known are count"),
        ("of=agent_response.p96", "of", "unknown"),
        ("of=status.sum", "of", "unknown"),
        ("tz=Berlin", "tz", "Europe/Berlin"),
        ("limit=3", "limit", "known are by, of, tz, q"),
        ("by=day,week,month,hour,weekday", "by", "4 names or fewer"),
    ] {
        let (status, said) = rig.get(&format!("/api/stats?{query}")).await;
        let mistake = &said["errors"][0];
        assert_eq!((status, mistake["path"].as_str()), (400, Some(path)), "{query}: {said}");
        assert!(mistake["problem"].as_str().unwrap().contains(part), "{query}: {said}");
    }
}

on_both! {
    sums_of_days_change_no_figure,
    figures_are_what_they_say,
    a_wrong_question_says_what_would_be_right,
}
