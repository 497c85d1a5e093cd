//! A LiveKit server that stops, restarts without its rooms, or freezes.

use std::time::Duration;

use anyhow::Result;
use livekit::DisconnectReason;
use livekit_devserver::{Config, Refuse};

use super::*;

async fn observer(s: &Scene) -> String {
    let all = s.venue.breakable().unwrap().participants(&s.room).await;
    all.into_iter().find(|p| p.identity.starts_with("call-history-")).unwrap().identity
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_livekit_gave_up_on_is_joined_again() -> Result<()> {
    let mut s = Scene::breakable().await?;
    let caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    agent.says("before it", WORD).await?;
    let us = observer(&s).await;
    // The SDK gives up after about 11 s of refused connections.
    let refuse = Refuse::For(Duration::from_secs(60));
    s.venue.breakable()?.cut_signal(&s.room, &us, refuse).await?;
    let patience = Duration::from_secs(100);
    s.worker.logs_nth("connection to the room lost, coming back", 1, patience).await?;
    s.worker.logs_nth("joined again", 1, patience).await?;
    agent.says("after it", WORD).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!(r["metrics"]["total_agent_utterances"], 2, "one record over both connections");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_restart_of_our_connection_is_not_taken_for_a_leave() -> Result<()> {
    let mut s = Scene::breakable().await?;
    let caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    let us = observer(&s).await;
    let reason = livekit_devserver::proto::DisconnectReason::UnknownReason;
    s.venue.breakable()?.drop_participant(&s.room, &us, reason).await?;
    // Our observer is back as soon as the server lists it again.
    let back = async {
        loop {
            let all = s.venue.breakable().unwrap().participants(&s.room).await;
            if all.iter().any(|p| p.identity == us) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(POSTED, back).await?;
    agent.says("are you still there", WORD).await?;
    tokio::time::sleep(Duration::from_secs(6)).await; // longer than the observer delays a leave
    assert!(s.endpoint.posts().is_empty(), "the call goes on");
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!(r["metrics"]["total_agent_utterances"], 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_restarts_loses_its_rooms_but_no_record() -> Result<()> {
    let mut s = Scene::breakable().await?;
    let _caller = s.phone("+15550123420").await?;
    let mut agent = s.agent().await?;
    agent.says("and then it went dark", WORD).await?;
    drop(agent);
    s.venue.breakable()?.restart(Duration::from_secs(1)).await?;
    s.worker.logs_nth("registered worker", 2, POSTED).await?;
    let posts = s.posts(1).await?;
    let r = posts[0].record()?;
    assert_eq!(r["phone_number"], "+15550123420");
    assert_eq!(r["metrics"]["total_agent_utterances"], 1);
    // The clients are back, too, in a new room of the same name, which is observed as well.
    s.worker.logs_nth("call started", 2, POSTED).await?;
    // And new calls are taken.
    s.room = unique("room");
    let next = s.web_in(&s.room, "bob").await?;
    s.worker.logs_nth("call started", 3, POSTED).await?;
    next.leaves(DisconnectReason::ClientInitiated).await?;
    s.record().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_freezes_for_a_while_changes_nothing() -> Result<()> {
    let mut s = Scene::breakable().await?;
    let caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    agent.says("before it", WORD).await?;
    s.venue.breakable()?.freeze(Duration::from_secs(5)).await?;
    agent.says("after it", WORD).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!(r["metrics"]["total_agent_utterances"], 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_observer_removed_by_the_operator_reports_what_it_saw() -> Result<()> {
    let mut s = Scene::new().await?;
    let _caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    agent.says("hello", WORD).await?;
    let all = s.venue.rooms().list_participants(&s.room).await?;
    let us = all.iter().find(|p| p.identity.starts_with("call-history-")).unwrap();
    s.venue.rooms().remove_participant(&s.room, &us.identity).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("dropped", Some("observer_disconnected")));
    assert_eq!(r["metrics"]["total_agent_utterances"], 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_room_is_joined_again_after_a_freeze_longer_than_the_sdk_waits() -> Result<()> {
    let mut s = Scene::breakable().await?;
    let caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    agent.says("before it", WORD).await?;
    s.venue.breakable()?.freeze(Duration::from_secs(40)).await?;
    // The room still exists, but our SDK has given up meanwhile, as other clients may have.
    s.worker.logs_nth("joined again", 1, Duration::from_secs(60)).await?;
    let mut agent = tokio::time::timeout(Duration::from_secs(60), s.agent()).await??;
    agent.says("after it", WORD).await?;
    drop(caller);
    s.venue.rooms().delete_room(&s.room).await?;
    let r = s.record().await?;
    assert_ne!(r["termination_reason"], "observer_disconnected", "{r:#}");
    assert_eq!(r["metrics"]["total_agent_utterances"], 2, "{r:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_cut_of_some_seconds_does_not_end_the_call() -> Result<()> {
    let mut s = Scene::breakable().await?;
    let caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    agent.says("before it", WORD).await?;
    s.venue.breakable()?.lose_packets(1.0, 1.0)?;
    tokio::time::sleep(Duration::from_secs(6)).await;
    s.venue.breakable()?.lose_packets(0.0, 0.0)?;
    // The agent's SDK sends the lost messages again, and the agent continues when it can.
    tokio::time::timeout(POSTED, agent.says("after it", WORD)).await??;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!(r["metrics"]["total_agent_utterances"], 2, "{r:#}");
    Ok(())
}

/// Without the sid a call has no id, and a later room of the same name looks like the same room.
#[tokio::test(flavor = "multi_thread")]
async fn a_join_without_the_rooms_sid_is_repeated() -> Result<()> {
    let mut s = Scene::breakable().await?;
    // The first join without a sid is the caller's, the second is ours.
    s.venue.breakable()?.hide_sids(2)?;
    let caller = s.web_in(&s.room, "alice").await?;
    let line = s.worker.logs("could not join the room").await?;
    assert_eq!(line["error"], "the server sent no room sid");
    s.worker.logs("joined").await?;
    let mut agent = s.agent().await?;
    agent.says("hello", WORD).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!(r["metrics"]["total_agent_utterances"], 1);
    Ok(())
}

/// A server for closed media ports, which cut off the caller too: it is not removed for that, and its room outlasts one
/// attempt to join, as LiveKit's does.
fn patient() -> Config {
    Config {
        departure_timeout: Duration::from_secs(20),
        silence_limit: Duration::from_secs(300),
        ..lab::server::quick()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_media_ports_are_on_the_page_with_what_to_open() -> Result<()> {
    let mut s = Scene::at(Venue::dev(patient()).await?, &[]).await?;
    s.worker.stops().await?;
    let caller = s.web_in(&s.room, "alice").await?;
    s.venue.breakable()?.close_media_ports(true)?;
    s.start_again().await?;
    let line = s.worker.logs("could not join the room").await?;
    assert!(line["error"].to_string().contains("rtc.udp_port"), "{line}");
    let page = wait::page(&mut s.worker).await?;
    assert!(page.contains("a room cannot be joined") && page.contains("rtc.udp_port"), "{page}");
    s.venue.breakable()?.close_media_ports(false)?;
    s.worker.logs("joined").await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.record().await?;
    Ok(())
}

/// Each attempt that fails ends with a leave, after which LiveKit keeps a room open for a while.
#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_cannot_be_joined_ends_with_its_caller_and_is_named() -> Result<()> {
    let mut s = Scene::at(Venue::dev(patient()).await?, &[]).await?;
    s.worker.stops().await?;
    let caller = s.web_in(&s.room, "alice").await?;
    s.venue.breakable()?.close_media_ports(true)?;
    s.start_again().await?;
    s.worker.logs("could not join the room").await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let left = chrono::Utc::now().timestamp_micros() as f64 / 1e6;
    let line = s.worker.logs("call not observed").await?;
    let error = line["error"].as_str().unwrap_or_default();
    assert!(error.contains("rtc.udp_port") && error.contains("the room has ended"), "{line}");
    // One attempt may have been on when the caller left, and fails some 15 s later; nothing is tried after that.
    let tried = |l: &&Value| l["message"] == "could not join the room";
    let log = s.worker.log();
    let after = log.iter().filter(tried).filter(|l| wait::logged_at(l).is_ok_and(|at| at > left));
    assert!(after.count() <= 1, "{log:#?}");
    let addr = s.worker.health().await?;
    let metrics = reqwest::get(format!("http://{addr}/metrics")).await?.text().await?;
    assert!(metrics.contains("call_history_rooms_not_joined_total 1"), "{metrics}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_cannot_be_joined_is_on_the_page_until_it_is() -> Result<()> {
    let mut s = Scene::breakable().await?;
    s.venue.breakable()?.hide_sids(1_000)?;
    let caller = s.web_in(&s.room, "alice").await?;
    s.worker.logs("could not join the room").await?;
    let page = wait::page(&mut s.worker).await?;
    assert!(page.contains("a room cannot be joined"), "{page}");
    s.venue.breakable()?.hide_sids(0)?;
    s.worker.logs("joined").await?;
    wait::eventually("the page is well", POSTED, async || {
        Ok(wait::is_well(&wait::page(&mut s.worker).await?).then_some(()))
    })
    .await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    Ok(())
}
