//! A worker that dies during calls, and the next worker on its data.

use std::time::Duration;

use anyhow::Result;
use livekit::DisconnectReason;

use super::{
    wait::{eventually, journaled, live},
    *,
};

/// The journal is gone soon after the record is sealed.
async fn no_journal(s: &Scene) -> Result<()> {
    eventually("no journal", POSTED, async || Ok(live(s).is_empty().then_some(()))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_record_covers_a_call_before_and_after_its_worker_was_killed() -> Result<()> {
    let mut s = Scene::new().await?;
    let caller = s.phone("+15550123451").await?;
    let mut agent = s.agent().await?;
    agent.says("before it", WORD).await?;
    agent.hears(&caller.identity, "I said something", WORD).await?;
    journaled(&s, "thinking").await?;
    s.kill().await?;
    s.start_again().await?;
    s.worker.logs("joined again").await?;
    agent.says("and after it", WORD).await?;
    caller.hangs_up().await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!(r["metrics"]["total_agent_utterances"], 2);
    assert_eq!(r["metrics"]["total_user_utterances"], 1);
    let notes = r["outcomes"]["notes"].as_str().unwrap_or("");
    assert!(notes.contains("The worker was restarted during the call."), "{notes}");
    assert!(notes.contains("disconnected from the room for"), "{notes}");
    Ok(())
}

/// The worker was killed between the end of the room and the seal of the record. The caller's leave was never
/// reported, so the caller counts as present until the room's end.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_whose_end_was_seen_before_the_kill_is_one_record_as_it_was_seen() -> Result<()> {
    let mut s = Scene::breakable().await?;
    s.kill().await?;
    let room = unique("room");
    let id = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, b"RM_gone/0").to_string();
    let journal = format!(
        r#"{{"journal":1,"call_id":"{id}","room":{{"sid":"RM_gone","name":"{room}"}},"ordinal":0}}
{{"at":1795500000000,"what":"watching","server_behind_ms":0}}
{{"at":1795500000000,"what":"joined","identity":"alice","sid":"PA_1","kind":"standard","name":"","metadata":"","attributes":{{}},"joined_at":1795500000000}}
{{"at":1795500008000,"what":"room_ended","reason":"ROOM_CLOSED"}}
"#
    );
    std::fs::write(s.worker.data.join("live").join(format!("{id}.jsonl")), journal)?;
    s.start_again().await?;
    let r = s.endpoint.wait(&room, 1, POSTED).await?.remove(0).record()?;
    let seconds = |key: &str| -> Result<i64> {
        Ok(chrono::DateTime::parse_from_rfc3339(r[key].as_str().unwrap_or_default())?.timestamp())
    };
    assert_eq!(seconds("end_time")? - seconds("start_time")?, 8);
    assert_eq!(verdict(&r), ("failed", Some("no_agent")));
    let notes = r["outcomes"]["notes"].as_str().unwrap_or("");
    assert!(!notes.contains("restarted"), "its end was seen: {notes}");
    s.worker.logs_nth("delivered", 1, POSTED).await?;
    // The next run finds nothing that could be another call of that room.
    no_journal(&s).await?;
    s.kill().await?;
    s.start_again().await?;
    s.worker.stops().await?;
    assert_eq!(s.endpoint.about(&room).len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_ended_while_no_worker_ran_is_reported_as_far_as_it_was_seen() -> Result<()> {
    let mut s = Scene::new().await?;
    let caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    agent.says("before it", WORD).await?;
    journaled(&s, "\"kind\":\"item\"").await?;
    s.kill().await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.venue.rooms().delete_room(&s.room).await?;
    s.start_again().await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("dropped", Some("observer_restarted")));
    assert_eq!(r["metrics"]["total_agent_utterances"], 1);
    s.worker.logs("delivered").await?;
    no_journal(&s).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_journal_is_truncated_and_its_call_is_reported() -> Result<()> {
    let mut s = Scene::new().await?;
    let caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    agent.says("before it", WORD).await?;
    journaled(&s, "\"kind\":\"item\"").await?;
    s.kill().await?;
    let journal = s.worker.data.join("live").join(&live(&s)[0]);
    let mut bytes = std::fs::read(&journal)?;
    bytes.extend(b"{\"crc\":\"00000000\",\"at\":1,\"what\":\"bli");
    std::fs::write(&journal, bytes)?;
    s.start_again().await?;
    s.worker.logs("the end of a journal is not whole and is cut off").await?;
    s.worker.logs("joined again").await?;
    agent.says("after it", WORD).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?;
    assert_eq!(r["metrics"]["total_agent_utterances"], 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_workers_cannot_share_a_data_folder() -> Result<()> {
    let s = Scene::new().await?;
    let mut second = s.start_another()?;
    let line = second.logs("the data folder cannot be used").await?;
    let holder =
        format!("another call-history uses it (process {})", s.worker.pid().unwrap_or_default());
    assert!(line["error"].as_str().unwrap().contains(&holder), "{line}");
    assert!(line["advice"].as_str().unwrap().contains("draining"), "{line}");
    assert_eq!(second.ends(POSTED).await?.code(), Some(1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_opts_out_leaves_no_journal() -> Result<()> {
    let mut s = Scene::new().await?;
    let caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    agent.says("hello", WORD).await?;
    assert_eq!(live(&s).len(), 1, "a call that is on has one");
    caller.me().set_metadata("{\"opt_out_sensitive_data\":true}".into()).await?;
    // The opt-out is logged only when the call ends; the file is deleted at once.
    let until = tokio::time::Instant::now() + POSTED;
    while !live(&s).is_empty() {
        assert!(tokio::time::Instant::now() < until, "the journal is still there");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.worker.logs("call ended; opted out of recording, nothing is stored or sent").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_opted_out_before_the_join_never_has_a_journal() -> Result<()> {
    let mut s = Scene::new().await?;
    // A file stands in the place of the journals' folder: to begin a journal is an error, and is logged.
    std::fs::remove_dir(s.worker.data.join("live"))?;
    std::fs::write(s.worker.data.join("live"), "")?;
    let ticket = Ticket {
        room: s.room.clone(),
        identity: "alice".into(),
        kind: "standard",
        metadata: "{\"opt_out_sensitive_data\":true}".into(),
        agents: vec![s.name.clone()],
        ..Default::default()
    };
    let caller = Person::join(&s.venue, &ticket).await?;
    // This line comes after the journal's first lines were written, or failed to be. The errors are read
    // before the call ends: the room's next call gets a journal, because an opt-out is for one call.
    s.worker.logs("call started").await?;
    let errors: Vec<Value> = s.worker.log().into_iter().filter(|l| l["level"] == "ERROR").collect();
    assert_eq!(errors, Vec::<Value>::new(), "a journal was begun");
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.worker.logs("call ended; opted out of recording, nothing is stored or sent").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_journal_gives_the_record_that_was_posted() -> Result<()> {
    let venue = Venue::from_env().await?;
    let keep = [("CALL_HISTORY_KEEP_JOURNALS", "true"), ("CALL_HISTORY_DETAILS", "true")];
    let mut s = Scene::at(venue, &keep).await?;
    let caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    agent.says("hello how can I help", WORD).await?;
    agent.hears(&caller.identity, "I want a table", WORD).await?;
    agent.says("booked", WORD).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.record().await?;
    let posted = s.posts(1).await?[0].body.clone();
    s.worker.stops().await?;
    let id = serde_json::from_slice::<Value>(&posted)?["call_id"].as_str().unwrap().to_owned();
    let journal = s.worker.data.join("journals").join(format!("{id}.jsonl"));
    let out = std::process::Command::new(binary()).arg("replay").arg(journal).output()?;
    assert_eq!(String::from_utf8(out.stdout)?.trim(), String::from_utf8(posted.to_vec())?);
    Ok(())
}
