//! Clocks: the clock of the worker's machine may be wrong, and a join may take long.

use std::time::Duration;

use anyhow::{Context, Result};
use lab::{
    endpoint::{Answer, Post},
    faults::Faults,
    worker::JWT_SECRET,
};
use livekit::DisconnectReason;
use livekit_devserver::Config;

use super::{
    wait::{logged_at, page_says, seconds},
    *,
};

const LEFT: DisconnectReason = DisconnectReason::ClientInitiated;
const DIFFERS: &str = "this machine's clock differs from LiveKit's";

/// Of the test, the server or the worker, in seconds: what a measured difference of clocks may be off by.
const A_PAUSE: f64 = 10.0;

/// The test's own clock, in seconds since the epoch.
fn now() -> f64 {
    chrono::Utc::now().timestamp_micros() as f64 / 1e6
}

/// By the server's clock, in seconds since the epoch.
async fn joined_at(s: &Scene, identity: &str) -> Result<f64> {
    let there = s.venue.rooms().list_participants(&s.room).await?;
    let one = there.iter().find(|p| p.identity == identity).context("nobody of this identity")?;
    Ok(one.joined_at_ms as f64 / 1e3)
}

fn time(record: &Value, which: &str) -> Result<f64> {
    seconds(record[which].as_str().with_context(|| format!("no {which}"))?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_join_is_not_taken_for_a_difference_of_clocks() -> Result<()> {
    // Without UDP a join takes 2 s longer.
    let batch_interval = Duration::from_millis(200);
    let config = Config { udp: false, batch_interval, ..lab::server::quick() };
    let mut s = Scene::at(Venue::dev(config).await?, &[]).await?;
    let caller = s.web("alice").await?;
    s.worker.logs("call started").await?;
    let joined_at = joined_at(&s, "alice").await?;
    let leaving_at = now();
    caller.leaves(LEFT).await?;
    let r = s.record().await?;
    let off = time(&r, "start_time")? - joined_at;
    assert!(off.abs() < 0.3, "the record begins {off} s after its caller joined");
    // The start comes from the server, the end from our own clock: a batch after the leave, and before the worker logs it.
    let ends = time(&r, "end_time")?;
    let logged_at = logged_at(&s.worker.logs("call ended").await?)?;
    let may = leaving_at - 0.3..logged_at + 0.3;
    assert!(may.contains(&ends), "the record ends at {ends}, and not in {may:?}");
    assert!(!s.worker.log().iter().any(|l| l["message"] == DIFFERS));
    Ok(())
}

/// A worker whose clock is ahead by `ahead_ms` logs it, and its record is right all the same.
async fn a_wrong_clock_is_logged_and_corrected(ahead_ms: i64) -> Result<()> {
    let faults = Faults::new()?.with_clock_ahead(ahead_ms);
    // The server announces the leave of a caller without a track at the end of a batch.
    let config = Config { batch_interval: Duration::from_millis(200), ..lab::server::quick() };
    let mut s = Scene::at(Venue::dev(config).await?, &faults.env()).await?;
    let caller = s.web_in(&s.room, "alice").await?;
    s.worker.logs("call started").await?;
    let joined_at = joined_at(&s, "alice").await?;
    let mut agent = s.agent().await?;
    agent.says("hello", WORD).await?;
    caller.leaves(LEFT).await?;
    let ended = now();
    let posts = s.posts(1).await?;
    let (r, posted) = (posts[0].record()?, now() - posts[0].at.elapsed().as_secs_f64());
    let (start, end) = (time(&r, "start_time")? - joined_at, time(&r, "end_time")? - ended);
    assert!(start.abs() < 0.3 && end.abs() < A_PAUSE, "off by {start} s and {end} s");
    assert_eq!(verdict(&r), ("completed", None));
    let claims = posts[0].check_signature(JWT_SECRET)?;
    let minted = claims.iat as f64 - posted;
    assert!(minted.abs() < A_PAUSE, "the token is off by {minted} s");
    page_says(&mut s.worker, "clock", POSTED).await?;
    let log = s.worker.log();
    let said: Vec<&Value> = log.iter().filter(|l| l["message"] == DIFFERS).collect();
    assert_eq!(said.len(), 1, "{said:#?}");
    assert_eq!(said[0]["level"], "WARN");
    let ahead = said[0]["clock_ahead_s"].as_f64().context("clock_ahead_s is no number")?;
    let off = ahead - ahead_ms as f64 / 1e3;
    assert!(off.abs() < A_PAUSE, "ahead by {ahead} s, as it says");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ahead_is_logged_and_changes_no_record() -> Result<()> {
    a_wrong_clock_is_logged_and_corrected(55_000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_behind_is_logged_and_changes_no_record() -> Result<()> {
    a_wrong_clock_is_logged_and_corrected(-600_000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_clock_is_not_mentioned() -> Result<()> {
    let mut s = Scene::breakable().await?;
    let caller = s.web("alice").await?;
    caller.leaves(LEFT).await?;
    s.record().await?;
    wait::is_page(&mut s.worker, "OK").await?;
    assert!(!s.worker.log().iter().any(|l| l["message"] == DIFFERS));
    Ok(())
}

/// LiveKit refuses a token that starts more than a minute in the future, and does not give that reason.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_refused_because_of_the_clock_is_logged_as_such() -> Result<()> {
    let faults = Faults::new()?.with_clock_ahead(600_000);
    let venue = Venue::dev(lab::server::quick()).await?;
    let endpoint = Endpoint::start().await?;
    let mut setup = Setup::new(binary(), &venue, &endpoint, "w");
    for (key, value) in faults.env() {
        setup = setup.with(key, value);
    }
    let mut worker = Worker::start(setup)?;
    let refused = "LiveKit refused our token, and this machine's clock differs from LiveKit's: set the \
                   clocks by NTP first, then look at LIVEKIT_API_KEY and LIVEKIT_API_SECRET";
    let line = worker.logs_nth(refused, 1, POSTED).await?;
    assert_eq!(line["level"], "ERROR");
    let ahead = line["clock_ahead_s"].as_f64().with_context(|| format!("no clock in {line}"))?;
    assert!((ahead - 600.0).abs() < A_PAUSE, "{line}");
    worker.stops().await
}

/// A webhook's token is valid by the server's clock, whatever this machine's says.
#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_taken_although_the_clock_is_behind() -> Result<()> {
    let faults = Faults::new()?.with_clock_ahead(-600_000);
    let mut s = discovery::with_webhooks_and("dispatch, webhook", &faults.env()).await?;
    // The server's time is asked for at the start.
    page_says(&mut s.worker, "clock", POSTED).await?;
    let room = s.room.clone();
    let caller = s.undispatched(&room, "alice").await?;
    assert_eq!(s.worker.logs("joined").await?["by"], "webhook");
    caller.leaves(LEFT).await?;
    s.record().await?;
    Ok(())
}

/// Where nothing but requests to the API meets the refusal, it names the clock too.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_refused_because_of_the_clock_is_logged_as_such() -> Result<()> {
    let faults = Faults::new()?.with_clock_ahead(600_000);
    let venue = Venue::dev(lab::server::quick()).await?;
    let endpoint = Endpoint::start().await?;
    let mut setup =
        Setup::new(binary(), &venue, &endpoint, "w").with("CALL_HISTORY_DISCOVERY", "reconcile");
    for (key, value) in faults.env() {
        setup = setup.with(key, value);
    }
    let mut worker = Worker::start(setup)?;
    let refused = "LiveKit refused the API key or secret; set LIVEKIT_API_KEY and LIVEKIT_API_SECRET to a \
                   pair the server knows";
    let line = worker.logs_nth(refused, 1, POSTED).await?;
    let said = line["error"].as_str().unwrap_or_default();
    let ahead = said.split("clock is ").nth(1).and_then(|rest| rest.split(' ').next());
    let ahead = ahead.and_then(|n| n.parse::<f64>().ok()).with_context(|| line.to_string())?;
    assert!((ahead - 600.0).abs() < A_PAUSE, "{line}");
    worker.stops().await
}

/// When the endpoint refuses a token, the worker takes the time from the `Date` header of the answer and
/// signs the next token with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_for_an_endpoint_with_another_clock_uses_the_endpoints_clock() -> Result<()> {
    let mut s = Scene::breakable().await?;
    let theirs = chrono::Utc::now() - chrono::Duration::minutes(10);
    let date = theirs.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    s.endpoint.answers([Answer::With(401, "date", date)]);
    let caller = s.web("alice").await?;
    caller.leaves(LEFT).await?;
    let posts = s.posts(2).await?;
    let line = s.worker.logs("not delivered, will be tried again").await?;
    let ahead = line["clock_ahead_s"].as_f64().with_context(|| format!("no clock in {line}"))?;
    // The date was made before the call.
    assert!((ahead - 600.0).abs() < 120.0, "{line}");
    let issued = |post: &Post| -> Result<i64> {
        let token = post.header("authorization").trim_start_matches("Bearer ").to_owned();
        let claims = token.split('.').nth(1).context("no claims")?;
        let claims =
            base64::Engine::decode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, claims)?;
        serde_json::from_slice::<Value>(&claims)?["iat"].as_i64().context("no iat")
    };
    let moved = issued(&posts[1])? - issued(&posts[0])?;
    assert!((-660..-540).contains(&moved), "the second token is {moved} s from the first");
    Ok(())
}
