//! What one SIGTERM and two SIGTERMs do.

use std::time::Duration;

use anyhow::{Context, Result};
use livekit::DisconnectReason;
use livekit_devserver::Config;
use tokio::time::Instant;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn after_one_sigterm_the_worker_observes_its_calls_to_the_end() -> Result<()> {
    let mut s = Scene::new().await?;
    let caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    s.worker.signal(15).await?;
    s.worker
        .logs("draining worker: no new calls, those that are on go on; signal again to stop now")
        .await?;
    // The worker takes no new call any more.
    let _other = s.web_in(&unique("room"), "bob").await?;
    agent.says("still recorded", WORD).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!(r["metrics"]["total_agent_utterances"], 1);
    assert!(s.worker.ends(POSTED).await?.success());
    let joined = s.worker.log().iter().filter(|l| l["message"] == "joined").count();
    assert_eq!(joined, 1);
    Ok(())
}

/// A call in which the agent has spoken once.
async fn greeted(s: &mut Scene) -> Result<(Person, VoiceAgent)> {
    let caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    agent.says("hello", WORD).await?;
    Ok((caller, agent))
}

/// Stops the worker with two signals; it reports the call of [`greeted`] unfinished.
async fn stops_and_reports_the_call_unfinished(s: &mut Scene) -> Result<()> {
    s.worker.stops_now().await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("dropped", Some("observer_disconnected")));
    assert_eq!(r["metrics"]["total_agent_utterances"], 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn after_two_sigterms_the_worker_reports_unfinished_calls_and_exits() -> Result<()> {
    let mut s = Scene::new().await?;
    let _call = greeted(&mut s).await?;
    stops_and_reports_the_call_unfinished(&mut s).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_not_left_to_the_workers_own_dead_observer() -> Result<()> {
    let mut s = Scene::new().await?;
    let _call = greeted(&mut s).await?;
    // By then the agent's words are on disk.
    tokio::time::sleep(Duration::from_millis(700)).await;
    s.kill().await?;
    s.start_again().await?;
    s.worker.logs("joined again").await?;
    // The server lists the dead observer for another 20 s.
    stops_and_reports_the_call_unfinished(&mut s).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_ends_at_its_timeout() -> Result<()> {
    let venue = Venue::from_env().await?;
    let mut s = Scene::at(venue, &[("CALL_HISTORY_DRAIN_TIMEOUT", "1")]).await?;
    let _caller = s.web("alice").await?;
    let _agent = s.agent().await?;
    s.worker.stops().await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("dropped", Some("observer_disconnected")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_worker_stops_at_once() -> Result<()> {
    let mut s = Scene::new().await?;
    s.worker.stops().await?;
    s.worker.logs("stopped").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn many_calls_are_left_in_an_orderly_way() -> Result<()> {
    let mut s = Scene::new().await?;
    let mut callers = vec![];
    for n in 0..20 {
        callers.push(s.web_in(&unique("room"), &format!("caller-{n}")).await?);
    }
    s.worker.logs_nth("call started", callers.len(), POSTED).await?;
    s.worker.stops_now().await?;
    let errors = |l: &&Value| l["level"] == "ERROR";
    assert_eq!(s.worker.log().iter().filter(errors).collect::<Vec<_>>(), Vec::<&Value>::new());
    assert_eq!(s.endpoint.posts().len(), callers.len());
    Ok(())
}

/// Longer than a room outlives its last caller with LiveKit's defaults.
const LONG_EMPTY: Duration = Duration::from_secs(27);

/// A server whose rooms stay open for 300 s after the last caller has left.
async fn with_standing_rooms() -> Result<Scene> {
    let config = Config { departure_timeout: Duration::from_secs(300), ..lab::server::quick() };
    Scene::at(Venue::dev(config).await?, &[]).await
}

/// Sends SIGTERM; the worker must exit long before the room closes.
async fn stops_soon(s: &mut Scene) -> Result<()> {
    s.worker.signal(15).await?;
    let status = s.worker.ends(POSTED).await.context("a room holds it up")?;
    assert!(status.success(), "{status}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standing_room_whose_call_is_long_over_does_not_delay_the_exit() -> Result<()> {
    let mut s = with_standing_rooms().await?;
    let caller = s.web("alice").await?;
    let _agent = s.agent().await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let left = Instant::now();
    s.record().await?;
    tokio::time::sleep_until(left + LONG_EMPTY).await;
    stops_soon(&mut s).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standing_room_without_a_call_does_not_delay_the_exit() -> Result<()> {
    let mut s = with_standing_rooms().await?;
    s.venue.rooms().create_room(&s.room, Default::default()).await?;
    let _agent = s.agent().await?;
    s.venue.dispatch(&s.name, &s.room, "").await?;
    s.worker.logs("joined").await?;
    // A callee that is being dialled would have joined by then.
    tokio::time::sleep(LONG_EMPTY).await;
    stops_soon(&mut s).await
}
