//! `call-history doctor`: each check, with what to do.

use std::process::{Command, Output};

use anyhow::Result;
use lab::{
    endpoint::Answer,
    gateway::{Authority, TlsFront},
    proxy::{HttpProxy, Policy},
};
use livekit::DisconnectReason;
use livekit_devserver::{Config, WebhookConfig};
use serde_json::Value;

use super::{names::Rival, *};

/// What the doctor finds with the scene's settings and those in `env`.
pub(super) fn checks(s: &Scene, env: &[(&str, &str)]) -> Result<Vec<Value>> {
    Ok(doctor(s, env)?.1)
}

/// The same with what it prints, and its exit status.
fn doctor(s: &Scene, env: &[(&str, &str)]) -> Result<(Output, Vec<Value>)> {
    doctor_with(s, env, &[])
}

fn doctor_with(s: &Scene, env: &[(&str, &str)], args: &[&str]) -> Result<(Output, Vec<Value>)> {
    let out = output(s, env, &[&["--json"], args].concat())?;
    let checks = serde_json::from_slice(&out.stdout)
        .map_err(|e| anyhow::anyhow!("{e}: {}", String::from_utf8_lossy(&out.stderr)))?;
    Ok((out, checks))
}

fn output(s: &Scene, env: &[(&str, &str)], args: &[&str]) -> Result<Output> {
    let mut command = Command::new(binary());
    command.arg("doctor").args(args).env_clear().current_dir(s.data.path());
    command
        .env("LIVEKIT_URL", &s.venue.url)
        .env("LIVEKIT_API_KEY", &s.venue.api_key)
        .env("LIVEKIT_API_SECRET", &s.venue.api_secret)
        .env("CALL_HISTORY_ENDPOINT", &s.endpoint.url)
        .env("CALL_HISTORY_AGENT_NAME", &s.name)
        .env("CALL_HISTORY_DATA_DIR", s.data.path().join("doctor"))
        .env("CALL_HISTORY_HTTP_ADDR", "off")
        // So few that any machine has the files and the memory for them.
        .env("CALL_HISTORY_MAX_CALLS", "10")
        .env("CALL_HISTORY_LOG_FORMAT", "json");
    for (key, value) in env {
        command.env(key, value);
    }
    Ok(command.output()?)
}

/// The state of a check, and the advice.
fn state<'a>(checks: &'a [Value], name: &str) -> (&'a str, &'a str) {
    let check = checks.iter().find(|c| c["name"] == name).expect("the check");
    (check["state"].as_str().unwrap_or(""), check["advice"].as_str().unwrap_or(""))
}

/// What it finds, once all checks that are expected to be well are: they have limits of their own, which a machine that stands
/// still passes.
async fn well(s: &Scene, env: &[(&str, &str)], due: &[&str]) -> Result<(Output, Vec<Value>)> {
    let until = tokio::time::Instant::now() + POSTED;
    loop {
        let (out, checks) = doctor(s, env)?;
        if due.iter().all(|name| state(&checks, name) == ("ok", ""))
            || tokio::time::Instant::now() > until
        {
            return Ok((out, checks));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_installation_passes_every_check() -> Result<()> {
    let addr = free_addr().await?;
    let urls = vec![format!("http://{addr}/webhook")];
    let webhook = Some(WebhookConfig { urls, api_key: "devkey".into() });
    let venue = Venue::dev(Config { webhook, ..lab::server::quick() }).await?;
    let s = Scene::at(venue, &[]).await?;
    let due = [
        "settings",
        "livekit",
        "clock",
        "keys",
        "registration",
        "media",
        "webhooks",
        "discovery",
        "endpoint",
        "http_port",
        "folder_lock",
        "files",
        "memory",
    ];
    let (out, checks) = well(&s, &[("CALL_HISTORY_HTTP_ADDR", &addr)], &due).await?;
    assert!(out.status.success(), "{checks:#?}");
    for name in due {
        assert_eq!(state(&checks, name), ("ok", ""), "{name}: {checks:#?}");
    }
    let (name, why) = state(&checks, "agent_name");
    assert_eq!(name, "skipped", "no room has a job of ours: {checks:#?}");
    assert_eq!(why, "");
    // A busy machine may have a slow disk, which is worth a warning.
    assert_ne!(state(&checks, "data_folder").0, "failed", "{checks:#?}");
    // It leaves nothing: no room, no call, no post.
    assert!(s.venue.rooms().list_rooms(vec![]).await?.is_empty());
    assert!(s.endpoint.posts().is_empty());
    assert_eq!(s.worker.log().iter().filter(|l| l["message"] == "joined").count(), 0);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn blocked_udp_is_seen_and_so_is_a_webhook_that_does_not_come() -> Result<()> {
    let mut s = Scene::breakable().await?;
    s.venue.breakable()?.lose_packets(1.0, 1.0)?;
    let addr = free_addr().await?;
    let (out, checks) = well(&s, &[("CALL_HISTORY_HTTP_ADDR", &addr)], &["registration"]).await?;
    assert!(out.status.success(), "calls work over TCP too: {checks:#?}");
    let media = checks.iter().find(|c| c["name"] == "media").expect("the check");
    assert_eq!(media["state"], "warning", "{checks:#?}");
    assert!(media["found"].to_string().contains("over TCP only"), "{media}");
    assert!(media["advice"].to_string().contains("rtc.udp_port"), "{media}");
    let (found, advice) = state(&checks, "webhooks");
    assert!(found == "warning" && advice.contains("webhook.urls"), "{advice}");
    // The port of a worker that runs.
    let addr = s.worker.health().await?;
    let (_, checks) = doctor(&s, &[("CALL_HISTORY_HTTP_ADDR", &addr)])?;
    assert_eq!(state(&checks, "webhooks").0, "skipped", "{checks:#?}");
    // That worker has another data folder, but it answers as a worker.
    let (found, advice) = state(&checks, "http_port");
    assert!(found == "warning" && advice.contains("CALL_HISTORY_HTTP_ADDR"), "{checks:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_is_sent_on_request_and_says_that_it_is_one() -> Result<()> {
    let s = Scene::new().await?;
    let secret = [("JWT_SECRET", lab::worker::JWT_SECRET)];
    let (out, checks) = doctor_with(&s, &secret, &["--send-sample"])?;
    assert!(out.status.success(), "{checks:#?}");
    assert_eq!(state(&checks, "sample").0, "ok", "{checks:#?}");
    let posts = s.endpoint.posts();
    assert_eq!(posts.len(), 1);
    let record = posts[0].record()?;
    schema::check(&record);
    assert!(record["outcomes"]["notes"].to_string().contains("doctor --send-sample"), "{record}");
    assert!(posts[0].header("authorization").starts_with("Bearer "));
    for (status, advice) in [(401, "JWT_SECRET"), (422, "answered 422")] {
        s.endpoint.answers([Answer::Status(status)]);
        let (out, checks) = doctor_with(&s, &secret, &["--send-sample"])?;
        assert!(!out.status.success());
        let sample = checks.iter().find(|c| c["name"] == "sample").expect("the check");
        assert!(sample["found"].to_string().contains(advice), "{sample}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_named_with_what_to_do() -> Result<()> {
    let s = Scene::new().await?;
    let nobody = "http://127.0.0.1:1/";
    let endpoint = s.endpoint.url.clone();
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let taken = other.local_addr()?.to_string();
    for (setting, value, check, due, advice) in [
        (
            "LIVEKIT_API_SECRET",
            "wrong-secret-wrong-secret-wrong-1",
            "keys",
            "failed",
            "LIVEKIT_API_KEY",
        ),
        ("LIVEKIT_URL", "ws://127.0.0.1:1", "livekit", "failed", "LIVEKIT_URL"),
        // Something else than LiveKit is the one cause: what needs LiveKit is not looked at.
        ("LIVEKIT_URL", endpoint.as_str(), "livekit", "failed", "LIVEKIT_URL"),
        ("LIVEKIT_URL", endpoint.as_str(), "server", "skipped", ""),
        ("CALL_HISTORY_DISCOVERY", "dispatch", "discovery", "warning", "reconcile"),
        ("CALL_HISTORY_HTTP_ADDR", taken.as_str(), "http_port", "failed", "CALL_HISTORY_HTTP_ADDR"),
        ("CALL_HISTORY_HTTP_ADDR", "off", "http_port", "skipped", ""),
        ("CALL_HISTORY_ENDPOINT", nobody, "endpoint", "failed", "wait"),
        ("CALL_HISTORY_EVENTS_ENDPOINT", nobody, "events", "failed", "given up"),
        ("CALL_HISTORY_MAX_CALLS", "many", "settings", "failed", "call-history config"),
        ("CALL_HISTORY_DATA_DIR", "/dev/null/x", "data_folder", "failed", "CALL_HISTORY_DATA_DIR"),
    ] {
        let (out, checks) = doctor(&s, &[(setting, value)])?;
        let (found, said) = state(&checks, check);
        assert_eq!(found, due, "{setting}={value}: {checks:#?}");
        assert!(said.contains(advice), "{setting}={value}: {said}");
        assert_eq!(out.status.success(), !checks.iter().any(|c| c["state"] == "failed"));
        let printed = String::from_utf8_lossy(&out.stdout).into_owned();
        assert!(!printed.contains("wrong-secret"), "a secret");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn people_get_a_line_for_each_check_and_what_to_do_below_it() -> Result<()> {
    let s = Scene::new().await?;
    let folder = s.data.path().join("data");
    let env = [
        ("CALL_HISTORY_ENDPOINT", "http://127.0.0.1:1/"),
        // The running worker's.
        ("CALL_HISTORY_DATA_DIR", folder.to_str().expect("a path")),
    ];
    let out = output(&s, &env, &[])?;
    let text = String::from_utf8(out.stdout)?;
    assert_eq!(out.status.code(), Some(1), "{text}");
    let lines: Vec<&str> = text.lines().collect();
    let at = |begin: &str| lines.iter().position(|l| l.starts_with(begin));
    assert_eq!(at("ok       settings "), Some(0), "{text}");
    let failed = at("FAILED   endpoint ").expect("the endpoint");
    assert_eq!(lines[failed + 1].trim(), "→ records wait in the data folder until it can");
    let lock = at("ok       folder_lock").expect("the folder's lock");
    assert!(lines[lock].contains("a running worker uses the data folder"), "{text}");
    assert!(!text.contains('\u{1b}') && !text.contains('\r'), "not a terminal: {text:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_program_of_our_name_is_seen_and_how_to_avoid_it_is_said() -> Result<()> {
    let mut s = Scene::breakable().await?;
    s.worker.stops().await?;
    let rival = Rival::register(&s.venue, &s.name, true).await?;
    let caller = s.web_in(&s.room, "alice").await?;
    wait::eventually("the rival takes the job", POSTED, async || {
        Ok((rival.taken() > 0).then_some(()))
    })
    .await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (out, checks) = doctor(&s, &[])?;
    assert!(!out.status.success());
    let (found, advice) = state(&checks, "agent_name");
    assert_eq!(found, "failed", "{checks:#?}");
    assert!(advice.contains("CALL_HISTORY_AGENT_NAME"), "{advice}");
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    Ok(())
}

/// Where the jobs of a voice agent of our name come to us, nothing shows but rooms without an agent.
#[tokio::test(flavor = "multi_thread")]
async fn a_room_with_a_job_of_ours_and_no_agent_is_named() -> Result<()> {
    let mut s = Scene::breakable().await?;
    let room = s.room.clone();
    let caller = s.web("alice").await?;
    let agent_name = async |due: &str| {
        wait::eventually(due, POSTED, async || {
            let checks = checks(&s, &[])?;
            let check = checks.into_iter().find(|c| c["name"] == "agent_name");
            let of_room = |c: &Value| due == "ok" || c["found"].to_string().contains(&room);
            Ok(check.filter(|c| c["state"] == due && of_room(c)))
        })
        .await
    };
    let check = agent_name("warning").await?;
    assert!(check["advice"].to_string().contains("CALL_HISTORY_AGENT_NAME"), "{check}");
    let agent = VoiceAgent::join(&s.venue, &room, true).await?;
    let check = agent_name("ok").await?;
    assert!(check["found"].to_string().contains("1 open room looked at"), "{check}");
    drop(agent);
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    Ok(())
}

/// Whether records could be sent is tried with the endpoint's own settings: certificates and proxy.
#[tokio::test(flavor = "multi_thread")]
async fn the_endpoint_is_tried_with_its_certificates_and_through_its_proxy() -> Result<()> {
    let s = Scene::new().await?;
    let authority = Authority::new()?;
    let front = TlsFront::start(&authority.issues("localhost")?, None, s.endpoint.addr).await?;
    let url = format!("https://localhost:{}/calls", front.addr.port());
    let ca = authority.pem();
    let (endpoint, trust) = (("CALL_HISTORY_ENDPOINT", &*url), ("CALL_HISTORY_ENDPOINT_CA", &*ca));
    let checked = |env: &[(&str, &str)]| -> Result<(String, String)> {
        let (_, checks) = doctor(&s, env)?;
        let check = checks.iter().find(|c| c["name"] == "endpoint").expect("the check");
        let text = |key: &str| check[key].as_str().unwrap_or_default().to_owned();
        Ok((text("state"), text("found")))
    };
    let (state, found) = checked(&[endpoint])?;
    assert!(state == "failed" && found.contains("CALL_HISTORY_ENDPOINT_CA"), "{found}");
    let (state, found) = checked(&[endpoint, trust])?;
    assert_eq!(state, "ok", "{found}");
    assert!(found.contains("valid until") && found.contains("issued by"), "{found}");
    // A name that only a proxy could resolve.
    let refusing = HttpProxy::start(Policy::Refuses).await?;
    let proxy = format!("http://{}", refusing.addr);
    for (scheme, variable, due) in
        [("https", "HTTPS_PROXY", "failed"), ("http", "HTTP_PROXY", "ok")]
    {
        let elsewhere = format!("{scheme}://elsewhere.test/calls");
        let (state, found) = checked(&[("CALL_HISTORY_ENDPOINT", &elsewhere), (variable, &proxy)])?;
        assert_eq!(state, due, "{found}");
        assert!(found.contains(&format!("the proxy {proxy}")), "{found}");
    }
    assert!(s.endpoint.posts().is_empty(), "nothing is sent");
    Ok(())
}
