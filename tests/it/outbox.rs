//! The operator's outbox commands, with and without a running worker.

use std::time::Duration;

use anyhow::Result;
use lab::endpoint::Answer;
use livekit::DisconnectReason;
use tokio::process::Command;

use super::*;

/// Runs an outbox command; returns exit code, standard output and standard error.
pub(super) async fn outbox(s: &Scene, args: &[&str]) -> Result<(i32, String, String)> {
    let out = Command::new(binary())
        .arg("outbox")
        .args(args)
        .env_clear()
        .env("CALL_HISTORY_DATA_DIR", s.data.path().join("data"))
        .current_dir(s.data.path())
        .output()
        .await?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((out.status.code().unwrap_or(-1), text(out.stdout), text(out.stderr)))
}

/// Holds one call to its end.
async fn call(s: &mut Scene) -> Result<()> {
    let caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    agent.says("hello", WORD).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.worker.logs("call ended").await?;
    Ok(())
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|l| serde_json::from_str(l).expect("a JSON object a line")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_record_is_found_shown_and_sent_again_while_the_worker_runs() -> Result<()> {
    let mut s = Scene::new().await?;
    s.endpoint.answers([Answer::Status(422)]);
    call(&mut s).await?;
    s.worker.logs("refused: the endpoint will not take this record; it is kept in dead/").await?;
    let dead = lines(&outbox(&s, &["dead", "--json"]).await?.1);
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0]["room_name"], s.room);
    assert_eq!(dead[0]["attempts"]["last_error"], "answered 422");
    let id = dead[0]["call_id"].as_str().unwrap().to_owned();
    let (code, table, _) = outbox(&s, &["dead"]).await?;
    assert_eq!(code, 0);
    for word in ["CALL", "LAST ERROR", &id, "answered 422", &s.room] {
        assert!(table.contains(word), "{word} is not in:\n{table}");
    }
    let (_, shown, _) = outbox(&s, &["show", &id]).await?;
    assert!(shown.contains("(dead)") && shown.contains("tried 1 times"), "{shown}");
    let all: Value = serde_json::from_str(&outbox(&s, &["show", &id, "--json"]).await?.1)?;
    assert_eq!((&all["folder"], &all["record"]["call_id"]), (&"dead".into(), &Value::from(&*id)));
    let (code, said, _) = outbox(&s, &["retry", &id]).await?;
    assert!(code == 0 && said.contains("will be tried"), "{said}");
    let posts = s.posts(2).await?;
    assert_eq!(posts[0].body, posts[1].body, "exactly as it was sealed");
    s.worker.logs("delivered").await?;
    assert!(outbox(&s, &["dead", "--json"]).await?.1.is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_outbox_commands_work_when_no_worker_runs() -> Result<()> {
    let mut s = Scene::new().await?;
    s.endpoint.answers(std::iter::repeat_n(Answer::Status(503), 3));
    call(&mut s).await?;
    s.worker.logs_nth("not delivered, will be tried again", 2, POSTED).await?;
    s.kill().await?;
    let waiting = lines(&outbox(&s, &["list", "--json"]).await?.1);
    assert_eq!(waiting.len(), 1);
    assert!(waiting[0]["attempts"]["count"].as_u64().unwrap() >= 1, "{waiting:?}");
    let (_, exported, _) = outbox(&s, &["export", "--format", "jsonl"]).await?;
    let sealed = s.endpoint.posts()[0].body.clone();
    assert_eq!(exported.trim_end().as_bytes(), &sealed[..], "what is posted, byte for byte");
    let (code, said, _) = outbox(&s, &["retry", "--all"]).await?;
    assert!(code == 0 && said.contains("1 records will be tried now"), "{said}");
    s.start_again().await?;
    s.worker.logs("delivered").await?;
    s.worker.stops().await?;
    assert!(outbox(&s, &["list"]).await?.1.starts_with("none"));
    let sent = lines(&outbox(&s, &["list", "--folder", "sent", "--json"]).await?.1);
    assert_eq!(sent.len(), 1);
    let (_, kept, _) = outbox(&s, &["purge", "--sent", "--older-than", "1h"]).await?;
    assert_eq!(kept.trim(), "0 delivered records deleted");
    let (_, gone, _) = outbox(&s, &["purge", "--sent", "--older-than", "0s", "--json"]).await?;
    assert_eq!(gone.trim(), "{\"deleted\":1}");
    Ok(())
}

#[tokio::test]
async fn missing_records_and_arguments_are_named_in_the_error() -> Result<()> {
    let dir = tempfile::tempdir()?;
    for (args, code, what) in [
        (&["show", "no-such-call"][..], 1, "there is no record no-such-call"),
        (&["retry", "../../etc/passwd"][..], 1, "there is no record"),
        (&["retry"][..], 2, "required"),
        (&["purge", "--older-than", "1h"][..], 2, "--sent"),
        (&["list"][..], 0, ""),
        (&["purge", "--sent", "--older-than", "1h"][..], 0, ""),
        (&["list", "--json"][..], 0, ""),
    ] {
        let mut c = Command::new(binary());
        c.arg("outbox").args(args).env_clear().current_dir(dir.path());
        let out = c.output().await?;
        assert_eq!(out.status.code(), Some(code), "{args:?}");
        let err = String::from_utf8_lossy(&out.stderr);
        assert!(err.contains(what), "{args:?}: {err}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_that_grows_is_warned_of_early_and_nothing_is_deleted() -> Result<()> {
    let cap = [("CALL_HISTORY_MAX_BACKLOG", "2")];
    let mut s = Scene::at(Venue::from_env().await?, &cap).await?;
    s.endpoint.answers(std::iter::repeat_n(Answer::Status(500), 50));
    call(&mut s).await?;
    s.room = unique("room");
    let caller = s.web_in(&s.room.clone(), "bob").await?;
    s.worker.logs_nth("joined", 2, POSTED).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.worker
        .logs("many records wait for the endpoint; none is deleted, see that it takes them and that the disk has room")
        .await?;
    let health = s.worker.health().await?;
    let page = reqwest::get(format!("http://{health}/")).await?.text().await?;
    assert!(page.starts_with("warning: backlog: 2 records"), "{page}");
    assert_eq!(lines(&outbox(&s, &["list", "--json"]).await?.1).len(), 2);
    s.worker.stops().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_disk_is_survived_in_memory_and_logged() -> Result<()> {
    let mut s = Scene::new().await?;
    let caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    agent.says("hello", WORD).await?;
    // Writing fails, because files stand in the places of the folders.
    for folder in ["pending", "live"] {
        let path = s.worker.data.join(folder);
        std::fs::rename(&path, s.worker.data.join(format!("{folder}.away")))?;
        std::fs::write(&path, "")?;
    }
    s.endpoint.answers([Answer::Status(500)]);
    agent.says("still here", WORD).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.worker
        .logs("the disk fails: calls are observed and reported from memory until it works again; a crash meanwhile loses them")
        .await?;
    let posts = s.posts(2).await?;
    assert_eq!(posts[1].record()?["metrics"]["total_agent_utterances"], 2);
    let health = s.worker.health().await?;
    let page = reqwest::get(format!("http://{health}/")).await?.text().await?;
    assert!(page.contains("the disk fails"), "{page}");
    for folder in ["pending", "live"] {
        let path = s.worker.data.join(folder);
        std::fs::remove_file(&path)?;
        std::fs::rename(s.worker.data.join(format!("{folder}.away")), &path)?;
    }
    // At the next call the disk works again.
    let first = std::mem::replace(&mut s.room, unique("room"));
    let caller = s.web_in(&s.room.clone(), "bob").await?;
    s.worker.logs_nth("joined", 2, POSTED).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.record().await?;
    s.worker.logs_nth("delivered", 2, POSTED).await?;
    assert_eq!(s.endpoint.about(&first).len(), 2);
    let deadline = tokio::time::Instant::now() + POSTED;
    loop {
        let page = reqwest::get(format!("http://{health}/")).await?.text().await?;
        if page == "OK" {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{page}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}
