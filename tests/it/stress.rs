//! Many calls while the disk hangs, or while the endpoint is down for days or sends `Retry-After`: no
//! call is lost, and the log stays short.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use lab::{endpoint::Answer, faults::Faults};
use livekit::DisconnectReason;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    wait::{eventually, logged_at, names, page_says, put_waiting, seconds},
    *,
};

const LEFT: DisconnectReason = DisconnectReason::ClientInitiated;
const NOT_DELIVERED: &str = "not delivered, will be tried again";

// ---- the disk --------------------------------------------------------------------------------

/// The number of calls that begin and end while the disk hangs, and how many of them at a time.
const CALLS: usize = 60;
const AT_ONCE: usize = 10;
/// Time limit from the end of a call to its first attempt, whatever the disk does.
const POSTED_FROM_MEMORY: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_found_and_posted_while_the_disk_hangs() -> Result<()> {
    let _alone = alone().await;
    let faults = Faults::new()?;
    let mut env = faults.env();
    env.push(("CALL_HISTORY_END_GRACE", "2.5"));
    let mut s = Scene::at(Venue::dev(lab::server::quick()).await?, &env).await?;
    let threads = s.worker.threads()?.len();
    faults.hang(true)?;
    let mut left: BTreeMap<String, Instant> = BTreeMap::new();
    let mut most = 0;
    for _ in 0..CALLS / AT_ONCE {
        let mut callers = vec![];
        for n in 0..AT_ONCE {
            let room = unique(&s.name);
            callers.push((s.web_in(&room, &format!("caller-{n}")).await?, room));
        }
        s.worker.logs_nth("call started", left.len() + AT_ONCE, 2 * POSTED).await?;
        for (caller, room) in callers {
            caller.leaves(LEFT).await?;
            left.insert(room, Instant::now());
        }
        most = most.max(s.worker.threads()?.len());
    }
    // A call ends when its grace time after the leave is over.
    let grace = Duration::from_millis(2_500);
    let until = Instant::now() + POSTED_FROM_MEMORY + POSTED;
    loop {
        most = most.max(s.worker.threads()?.len());
        let posted = posted(&s).len();
        if posted == CALLS {
            break;
        }
        assert!(Instant::now() < until, "{posted} of {CALLS} calls are posted; {most} threads");
        sleep(Duration::from_millis(200)).await;
    }
    for (room, at) in posted(&s) {
        let took = at - left[&room];
        assert!(took < grace + POSTED_FROM_MEMORY, "{room} was posted after {took:?}");
    }
    page_says(&mut s.worker, "disk", POSTED).await?;
    faults.hang(false)?;
    s.worker.logs_nth("the disk works again", 1, 2 * POSTED).await?;
    // The next call is reported as usual.
    let room = unique(&s.name);
    let caller = s.web_in(&room, "bob").await?;
    s.worker.logs_nth("call started", CALLS + 1, POSTED).await?;
    caller.leaves(LEFT).await?;
    s.endpoint.wait(&room, 1, POSTED).await?;
    eventually("the page is well", POSTED, async || {
        Ok(wait::is_well(&wait::page(&mut s.worker).await?).then_some(()))
    })
    .await?;
    let log = s.worker.log();
    let errors: Vec<&Value> = log.iter().filter(|l| l["level"] == "ERROR").collect();
    assert_eq!(errors.len(), 1, "one line for the disk, none for a record: {errors:#?}");
    assert!(errors[0].to_string().contains("disk"), "{}", errors[0]);
    let again: Vec<&Value> =
        log.iter().filter(|l| l["message"] == "the disk works again").collect();
    assert!(again.len() == 1 && again[0]["level"] == "INFO", "{again:#?}");
    // Each disk operation that hangs may hold a thread; if each call held one, the 512 would run out.
    assert!(most < threads + 64, "{most} threads, {threads} at first");
    Ok(())
}

/// When the first request about each room arrived.
fn posted(s: &Scene) -> BTreeMap<String, Instant> {
    let mut first = BTreeMap::new();
    for post in s.endpoint.posts() {
        if let Ok(Value::String(room)) = post.record().map(|r| r["room_name"].clone()) {
            first.entry(room).or_insert(post.at);
        }
    }
    first
}

// ---- the endpoint ----------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn expired_records_do_not_hammer_the_endpoint() -> Result<()> {
    let mut s = Scene::breakable().await?;
    s.kill().await?;
    let first_at = chrono::Utc::now().timestamp() - 73 * 3600;
    let attempts = json!({
        "count": 900, "first_at": first_at, "last_at": first_at + 72 * 3600,
        "last_error": "answered 503",
    });
    put_waiting(&s.worker.data.clone(), 300, Some(&attempts))?;
    s.endpoint.answers(std::iter::repeat_n(Answer::With(503, "retry-after", "60".into()), 1_000));
    s.start_again().await?;
    let first = eventually("the first attempt", POSTED, async || {
        Ok(s.endpoint.posts().first().map(|p| p.at))
    })
    .await?;
    let dead = async || {
        let dead = names(&s.worker, "dead")?;
        anyhow::Ok(dead.iter().filter(|n| n.ends_with(".json")).count())
    };
    eventually("a record is given up", POSTED, async || Ok((dead().await? > 0).then_some(())))
        .await?;
    tokio::time::sleep_until(first + Duration::from_secs(5)).await;
    let (tried, dead) = (s.endpoint.posts().len(), dead().await?);
    // One record is tried first, and its failure counts for all of them.
    assert!(tried <= 2 && dead == 1, "{tried} attempts in 5 s, {dead} records given up");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_record_is_tried_at_once_though_the_endpoint_asked_for_patience_long_ago()
-> Result<()> {
    let mut s = Scene::with_movable_endpoint(Venue::dev(lab::server::quick()).await?).await?;
    s.endpoint.answers([Answer::With(429, "retry-after", "1".into())]);
    let first = s.web("alice").await?;
    // The second call ends when the endpoint is back.
    let room = unique(&s.name);
    let second = s.web_in(&room, "bob").await?;
    s.worker.logs_nth("call started", 2, POSTED).await?;
    first.leaves(LEFT).await?;
    s.endpoint.wait(&s.room, 1, POSTED).await?;
    let addr = s.endpoint.url.trim_start_matches("http://").trim_end_matches("/calls").to_owned();
    drop(std::mem::replace(&mut s.endpoint, Endpoint::start().await?));
    // Wait until the next attempt is far away. The waits double and are shortened at random.
    let far = |l: &Value| l["message"] == NOT_DELIVERED && l["retry_in_ms"].as_u64() > Some(40_000);
    eventually("an attempt that is far away", Duration::from_secs(300), async || {
        Ok(s.worker.log().last().is_some_and(far).then_some(()))
    })
    .await?;
    s.endpoint = Endpoint::at(&addr).await?;
    second.leaves(LEFT).await?;
    let of_room = |l: &Value| l["message"] == "call ended" && l["room"] == *room;
    let ended = eventually("the end of the call", POSTED, async || {
        Ok(s.worker.log().iter().find(|l| of_room(l)).map(logged_at))
    })
    .await??;
    let posts = s.endpoint.wait(&room, 1, 2 * POSTED).await?;
    let now = chrono::Utc::now().timestamp_micros() as f64 / 1e6;
    let took = now - posts[0].at.elapsed().as_secs_f64() - ended;
    assert!(took < 25.0, "tried {took} s after its end");
    let end_time = posts[0].record()?["end_time"].as_str().context("no end")?.to_owned();
    assert!(seconds(&end_time)? <= ended, "{end_time}");
    Ok(())
}

/// A conflict after an attempt without a definite answer may mean that the endpoint still works on
/// that attempt.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_after_a_failure_is_retried_before_it_is_believed() -> Result<()> {
    let mut s = Scene::breakable().await?;
    s.endpoint.answers([503, 409, 409].map(Answer::Status));
    let caller = s.web("alice").await?;
    caller.leaves(LEFT).await?;
    let posts = s.endpoint.wait(&s.room, 3, Duration::from_secs(150)).await?;
    let statuses: Vec<u16> = posts.iter().map(|p| p.status).collect();
    assert_eq!(statuses, [503, 409, 409]);
    let waited = (posts[2].at - posts[1].at).as_secs_f64();
    assert!((55.0..90.0).contains(&waited), "asked again after {waited} s");
    s.worker.logs("delivered").await?;
    s.worker.stops().await?;
    assert_eq!(s.endpoint.posts().len(), 3);
    let delivered = s.worker.log().iter().filter(|l| l["message"] == "delivered").count();
    assert_eq!(delivered, 1);
    Ok(())
}

/// A folder stands in the place of a record: it is listed, and cannot be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_is_logged_once_and_delays_no_other() -> Result<()> {
    let mut s = Scene::breakable().await?;
    s.kill().await?;
    std::fs::create_dir(s.worker.data.join("pending/not-a-record.json"))?;
    s.start_again().await?;
    s.worker.logs("record cannot be read, tried again later").await?;
    page_says(&mut s.worker, "unreadable: 1 records cannot be read", POSTED).await?;
    let before = s.worker.cpu_time()?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let used = s.worker.cpu_time()?.saturating_sub(before);
    assert!(used < Duration::from_secs(1), "{used:?} of 4 s for nothing");
    // Other records are sent meanwhile.
    let caller = s.web("alice").await?;
    caller.leaves(LEFT).await?;
    s.record().await?;
    let said = "record cannot be read, tried again later";
    let lines = s.worker.log().iter().filter(|l| l["message"] == said).count();
    assert_eq!(lines, 1);
    Ok(())
}
