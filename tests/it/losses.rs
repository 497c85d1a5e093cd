//! Faults that once lost calls or overloaded the worker: an assignment that never came, a flood from
//! a caller, a full disk, repeated call ids.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};
use lab::{endpoint::Answer, faults::Faults};
use livekit::{DisconnectReason, prelude::RoomEvent};
use livekit_devserver::Config;
use tokio::time::{Instant, sleep};

use super::{
    outbox::outbox,
    wait::{bytes, eventually, names, page_says, put_waiting},
    *,
};

const LEFT: DisconnectReason = DisconnectReason::ClientInitiated;

// ---- jobs ------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_assignment_was_lost_is_found_by_the_reconciler() -> Result<()> {
    let mut s = Scene::breakable().await?;
    s.venue.breakable()?.lose_assignments(1)?;
    let caller = s.web_in(&s.room, "alice").await?;
    s.worker.logs_nth("registered worker", 2, POSTED).await?;
    let joined = s.worker.logs("joined").await?;
    assert_eq!(joined["by"], "reconciler");
    // The job is given up with its connection: its time is not waited for.
    s.worker.logs("the connection broke before the job was assigned").await?;
    caller.leaves(LEFT).await?;
    s.record().await?;
    Ok(())
}

// ---- floods ----------------------------------------------------------------------------------

/// The number of messages in a flood, and the bytes of each. A control character takes six bytes in
/// JSON.
const MESSAGES: usize = 300;
const MESSAGE: usize = 55_000;

/// A caller sends a flood of messages that are never read. The call goes on as without the flood, with
/// a journal of at most `most` bytes.
async fn a_flood_does_no_harm(
    topic: &str,
    as_texts: bool,
    env: &[(&str, &str)],
    most: u64,
) -> Result<()> {
    let _alone = alone().await;
    let mut s = Scene::at(Venue::dev(lab::server::quick()).await?, env).await?;
    let caller = s.web("mallory").await?;
    let mut agent = s.agent().await?;
    agent.says("before it", WORD).await?;
    let junk = "\u{1}".repeat(MESSAGE);
    let flood = async {
        for _ in 0..MESSAGES {
            if as_texts {
                caller.sends_text(topic, &junk).await?;
            } else {
                caller.packet(topic, junk.clone().into_bytes()).await?;
            }
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(2 * POSTED, flood).await.context("the flood is not taken")??;
    // The agent receives the same messages as the worker, at about the same time.
    for n in 0..MESSAGES {
        let seen = agent.person.sees(|e| match e {
            RoomEvent::DataReceived { topic: Some(t), .. } if !as_texts => {
                (t == topic).then_some(())
            }
            RoomEvent::TextStreamOpened { topic: t, .. } if as_texts => (t == topic).then_some(()),
            _ => None,
        });
        seen.await.with_context(|| format!("only {n} of the flood arrived"))?;
    }
    // Wait until the worker has handled the flood and is idle.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let before = s.worker.cpu_time()?;
        sleep(Duration::from_secs(4)).await;
        let used = s.worker.cpu_time()?.saturating_sub(before);
        if used < Duration::from_secs(1) {
            break;
        }
        assert!(Instant::now() < deadline, "busy with nothing: {used:?} of 4 s");
    }
    let size = bytes(&s.worker, "live")?;
    assert!(size <= most, "the journal has {size} bytes");
    agent.says("and after it", WORD).await?;
    caller.leaves(LEFT).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!(r["metrics"]["total_agent_utterances"], 2);
    let log = s.worker.log();
    let given_up = |l: &&Value| l["message"].as_str().is_some_and(|m| m.contains("memory alone"));
    assert_eq!(log.iter().find(given_up), None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_packets_from_a_caller_is_not_kept() -> Result<()> {
    a_flood_does_no_harm("call-history", false, &[], 200_000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_chat_from_a_caller_does_not_end_its_journal() -> Result<()> {
    a_flood_does_no_harm("lk.chat", true, &[], 200_000).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_chat_is_bounded_where_a_transcript_is_asked_for_too() -> Result<()> {
    let env = [("CALL_HISTORY_DETAILS", "true"), ("CALL_HISTORY_TRANSCRIPT", "true")];
    a_flood_does_no_harm("lk.chat", true, &env, 2_000_000).await
}

// ---- a full disk -----------------------------------------------------------------------------

/// The number of calls that end while the disk is full.
const UNSEALED: usize = 5;

/// Writes journals of unfinished calls, as an earlier worker leaves them, of rooms that are closed.
fn leave_journals_behind(data: &std::path::Path, n: usize) -> Result<()> {
    let live = data.join("live");
    std::fs::create_dir_all(&live)?;
    for _ in 0..n {
        let sid = format!("RM_{}", uuid::Uuid::new_v4().simple());
        let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, format!("{sid}/0").as_bytes());
        let journal = format!(
            r#"{{"journal":1,"call_id":"{id}","room":{{"sid":"{sid}","name":"gone-{sid}"}},"ordinal":0}}
{{"at":1795500000000,"what":"watching","server_behind_ms":0}}
{{"at":1795500000000,"what":"joined","identity":"alice","sid":"PA_1","kind":"standard","name":"","metadata":"","attributes":{{}},"joined_at":1795500000000}}
"#
        );
        std::fs::write(live.join(format!("{id}.jsonl")), journal)?;
    }
    Ok(())
}

/// Starts [`UNSEALED`] calls, fills the disk, and ends them. Returns the ids of the calls.
async fn end_calls_on_a_full_disk(s: &mut Scene, faults: &Faults) -> Result<BTreeSet<String>> {
    let mut callers = vec![];
    for n in 0..UNSEALED {
        let room = unique(&s.name);
        callers.push((s.web_in(&room, &format!("caller-{n}")).await?, room));
    }
    s.worker.logs_nth("call started", UNSEALED, POSTED).await?;
    faults.full(true)?;
    let mut rooms = BTreeSet::new();
    for (caller, room) in callers {
        caller.leaves(LEFT).await?;
        rooms.insert(room);
    }
    eventually("the ends of the calls", 2 * POSTED, async || {
        let ended = s.worker.log().into_iter().filter(|l| {
            l["message"] == "call ended" && l["room"].as_str().is_some_and(|r| rooms.contains(r))
        });
        let ids: BTreeSet<String> =
            ended.filter_map(|l| Some(l["call_id"].as_str()?.to_owned())).collect();
        Ok((ids.len() == UNSEALED).then_some(ids))
    })
    .await
}

async fn page_says_records_are_in_memory(s: &mut Scene) -> Result<()> {
    page_says(&mut s.worker, &format!(": {UNSEALED} records ("), POSTED).await?;
    Ok(())
}

/// Calls end while the disk is full, the endpoint is down, and more records wait than the sender holds.
async fn records_that_a_full_disk_did_not_take_are_sent(while_it_is_full: bool) -> Result<()> {
    let faults = Faults::new()?;
    let mut env = faults.env();
    env.extend([("CALL_HISTORY_END_GRACE", "2.5"), ("CALL_HISTORY_MAX_CALLS", "2000")]);
    let mut s = Scene::at(Venue::dev(lab::server::quick()).await?, &env).await?;
    s.kill().await?;
    s.endpoint.answers(std::iter::repeat_n(Answer::Status(503), 10_000));
    // More than the sender holds in memory: 1,500 from the disk, and 500 of this run.
    let data = s.worker.data.clone();
    put_waiting(&data, 2_050, None)?;
    leave_journals_behind(&data, 550)?;
    s.start_again().await?;
    no_journal_is_left(&s).await?;
    let ids = end_calls_on_a_full_disk(&mut s, &faults).await?;
    page_says_records_are_in_memory(&mut s).await?;
    if !while_it_is_full {
        faults.full(false)?;
    }
    s.endpoint.is_well();
    // A look at the endpoint may have just failed, and the next one be minutes away.
    eventually("all of them are delivered", Duration::from_secs(330), async || {
        let posts = s.endpoint.posts();
        let taken: BTreeSet<&str> =
            posts.iter().filter(|p| p.status == 200).map(|p| p.header("idempotency-key")).collect();
        Ok(ids.iter().all(|id| taken.contains(id.as_str())).then_some(()))
    })
    .await?;
    faults.full(false)?;
    no_journal_is_left(&s).await
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_a_full_disk_did_not_take_are_sent_once_it_has_space() -> Result<()> {
    records_that_a_full_disk_did_not_take_are_sent(false).await
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_a_full_disk_did_not_take_are_sent_from_memory() -> Result<()> {
    records_that_a_full_disk_did_not_take_are_sent(true).await
}

async fn no_journal_is_left(s: &Scene) -> Result<()> {
    eventually("every journal is done with", 2 * POSTED, async || {
        Ok(names(&s.worker, "live")?.is_empty().then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn records_lost_with_a_worker_on_a_full_disk_are_logged() -> Result<()> {
    let faults = Faults::new()?;
    let mut env = faults.env();
    env.push(("CALL_HISTORY_END_GRACE", "2.5"));
    let mut s = Scene::at(Venue::dev(lab::server::quick()).await?, &env).await?;
    s.endpoint.answers(std::iter::repeat_n(Answer::Status(503), 10_000));
    end_calls_on_a_full_disk(&mut s, &faults).await?;
    page_says_records_are_in_memory(&mut s).await?;
    s.worker.signal(15).await?;
    let lost = "records that could not be sealed on disk are lost";
    let line = s.worker.logs_nth(lost, 1, 2 * POSTED).await?;
    assert_eq!((&line["level"], &line["records"]), (&"ERROR".into(), &UNSEALED.into()));
    assert!(s.worker.ends(POSTED).await?.success());
    Ok(())
}

// ---- ids -------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn call_ids_do_not_repeat_in_a_room_that_outlives_its_records_and_its_worker() -> Result<()> {
    let config = Config { departure_timeout: Duration::from_secs(300), ..Config::default() };
    let env = [("CALL_HISTORY_KEEP_SENT", "0"), ("CALL_HISTORY_END_GRACE", "2.5")];
    let mut s = Scene::at(Venue::dev(config).await?, &env).await?;
    let mut agent = None;
    for calls in 1..=6 {
        if calls == 4 {
            s.worker.signal(15).await?;
            // The worker may wait a while for the room to close.
            assert!(s.worker.ends(2 * POSTED).await?.success());
            let (code, said, _) = outbox(&s, &["purge", "--sent", "--older-than", "0s"]).await?;
            assert_eq!(code, 0, "{said}");
            s.start_again().await?;
        }
        let caller = s.web_in(&s.room, &format!("caller-{calls}")).await?;
        if agent.is_none() {
            agent = Some(s.agent().await?);
        }
        let of_this_worker = if calls < 4 { calls } else { calls - 3 };
        s.worker.logs_nth("call started", of_this_worker, POSTED).await?;
        caller.leaves(LEFT).await?;
        s.posts(calls).await?;
    }
    let posts = s.endpoint.posts();
    let keys: BTreeSet<&str> = posts.iter().map(|p| p.header("idempotency-key")).collect();
    assert_eq!((posts.len(), keys.len()), (6, 6), "{keys:?}");
    Ok(())
}
