//! `call-history receive`, by itself and beside a worker that posts to it.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use lab::worker::JWT_SECRET;
use livekit::DisconnectReason;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use super::*;

const GENEROUS: Duration = Duration::from_secs(60);

/// A receiver as a process.
struct Receiver {
    child: Child,
    addr: String,
    folder: tempfile::TempDir,
}

impl Receiver {
    async fn start(env: &[(&str, &str)]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut child = Command::new(binary())
            .arg("receive")
            .env_clear()
            .env("CALL_HISTORY_RECEIVE_ADDR", "127.0.0.1:0")
            .env("CALL_HISTORY_LOG_FORMAT", "json")
            .envs(env.iter().copied())
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let started = timeout(GENEROUS, async {
            while let Some(line) = lines.next_line().await? {
                let line: Value = serde_json::from_str(&line)?;
                if line["message"] == "receiver started" {
                    return Ok(line["addr"].as_str().unwrap_or_default().to_owned());
                }
            }
            anyhow::bail!("it ended")
        });
        let addr = started.await??;
        // What it logs further is read, so that it never waits.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, addr, folder })
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        Ok(client.get(self.url(path)).send().await?.error_for_status()?.json().await?)
    }

    /// Asks again until the answer is as it should be.
    async fn until(&self, path: &str, right: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + GENEROUS;
        loop {
            let answer = self.get(path).await?;
            if right(&answer) {
                return Ok(answer);
            }
            ensure!(Instant::now() < deadline, "{path}: {answer}");
            sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_posts_its_calls_and_live_events_to_the_receiver() -> Result<()> {
    let receiver = Receiver::start(&[("JWT_SECRET", JWT_SECRET)]).await?;
    let env = [
        ("CALL_HISTORY_ENDPOINT", receiver.url("/call-history")),
        ("CALL_HISTORY_EVENTS_ENDPOINT", receiver.url("/call-events")),
        ("CALL_HISTORY_DETAILS", "true".into()),
        ("CALL_HISTORY_ENDPOINT_GZIP", "true".into()),
    ];
    let env: Vec<(&str, &str)> = env.iter().map(|(k, v)| (*k, v.as_str())).collect();
    let mut s = Scene::at(Venue::from_env().await?, &env).await?;
    let caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    agent.says("good morning", WORD).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;

    let path = format!("/api/calls?room_name={}", s.room);
    let list = receiver.until(&path, |list| list["calls"][0].is_object()).await?;
    let call = &list["calls"][0];
    assert_eq!((&call["status"], &call["ended_by"]), (&"completed".into(), &"caller".into()));
    let id = call["call_id"].as_str().unwrap();
    let record = receiver.get(&format!("/api/calls/{id}")).await?;
    schema::check(&record);
    assert_eq!(record["room_name"], s.room);
    let explained = receiver.get(&format!("/api/calls/{id}/explained")).await?;
    let numbers = explained["numbers"].as_object().context("no numbers")?;
    let wrong: Vec<_> = numbers.iter().filter(|(_, number)| number["agrees"] == false).collect();
    assert!(numbers.len() > 10 && wrong.is_empty(), "{wrong:#?}");
    let path = format!("/api/calls/{id}/events");
    let is_over = |answer: &Value| {
        let events = answer["events"].as_array();
        events.and_then(|e| e.last()).is_some_and(|last| last["event"] == "call.ended")
    };
    let events = receiver.until(&path, is_over).await?;
    assert_eq!(events["events"][0]["event"], "call.started");
    assert!(s.endpoint.posts().is_empty(), "nothing was posted elsewhere");
    s.worker.signal(15).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_receiver_needs_no_setting_makes_tokens_and_ends_when_it_is_told_to() -> Result<()> {
    let mut receiver = Receiver::start(&[]).await?;
    assert_eq!(receiver.get("/api/calls").await?["calls"], serde_json::json!([]));
    assert!(receiver.folder.path().join("data/receiver/receiver.sqlite").exists());
    let made = Command::new(binary())
        .args(["receive", "token", "page", "--scopes", "read,admin"])
        .env_clear()
        .current_dir(receiver.folder.path())
        .output()
        .await?;
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let token = String::from_utf8(made.stdout)?;
    let client = reqwest::Client::builder().no_proxy().build()?;
    let get = || client.get(receiver.url("/api/tokens"));
    assert_eq!(get().send().await?.status(), 401, "it is closed from now on");
    let listed: Value = get().bearer_auth(token.trim()).send().await?.json().await?;
    assert_eq!(listed["tokens"][0]["name"], "page");
    let pid = receiver.child.id().context("it has ended")?;
    let ended = Command::new("kill").args(["-TERM", &pid.to_string()]).status().await?;
    assert!(ended.success());
    let status = timeout(GENEROUS, receiver.child.wait()).await??;
    assert_eq!(status.code(), Some(0));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_of_the_page_is_set_changed_and_removed_by_a_command() -> Result<()> {
    let receiver = Receiver::start(&[]).await?;
    let command = async |args: &[&str], input: &str| {
        let mut child = Command::new(binary())
            .args(["receive", "password"])
            .args(args)
            .env_clear()
            .current_dir(receiver.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut stdin = child.stdin.take().context("no input")?;
        stdin.write_all(input.as_bytes()).await?;
        drop(stdin);
        let out = child.wait_with_output().await?;
        let said = [out.stdout, out.stderr].concat();
        anyhow::Ok((out.status.code(), String::from_utf8(said)?))
    };
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let client = client.build()?;
    let log_in = async |password: &str| {
        let form = format!("secret={}", password.replace(' ', "+"));
        let post = client.post(receiver.url("/login")).body(form);
        let post = post.header("content-type", "application/x-www-form-urlencoded");
        anyhow::Ok(post.send().await?.status().as_u16())
    };
    let page =
        async || anyhow::Ok(client.get(receiver.url("/calls")).send().await?.status().as_u16());
    let (code, said) = command(&[], "too short\n").await?;
    assert!(code == Some(1) && said.contains("12 characters or more"), "{said}");
    assert_eq!((page().await?, log_in("too short").await?), (200, 401));
    let (code, said) = command(&[], "a long enough password\n").await?;
    assert!(code == Some(0) && !said.contains("long enough"), "{said}");
    assert_eq!((page().await?, log_in("a long enough password").await?), (303, 303));
    assert_eq!(command(&[], "quite another password\n").await?.0, Some(0));
    assert_eq!(log_in("a long enough password").await?, 401);
    assert_eq!(log_in("quite another password").await?, 303);
    assert_eq!(command(&["--remove"], "").await?.0, Some(0));
    assert_eq!((page().await?, log_in("quite another password").await?), (200, 401));
    Ok(())
}

#[tokio::test]
async fn wrong_settings_of_the_receiver_are_named_together() -> Result<()> {
    let out = Command::new(binary())
        .arg("receive")
        .env_clear()
        .envs([
            ("CALL_HISTORY_RECEIVE_ADDR", "everywhere"),
            ("CALL_HISTORY_RECEIVE_DB", "mysql://hush-hush@db"),
            ("CALL_HISTORY_RECEIVE_DATADIR", "x"),
        ])
        .output()
        .await?;
    assert_eq!(out.status.code(), Some(78));
    let said = String::from_utf8_lossy(&out.stderr);
    for word in ["RECEIVE_ADDR", "RECEIVE_DB", "did you mean CALL_HISTORY_RECEIVE_DATA_DIR?"] {
        assert!(said.contains(word), "{said}");
    }
    assert!(!said.contains("hush-hush"));
    Ok(())
}
