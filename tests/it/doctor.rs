//! `call-history doctor`: each check, with what to do.

use std::process::{Command, Output};

use anyhow::Result;
use lab::{
    gateway::{Authority, TlsFront},
    proxy::{HttpProxy, Policy},
};
use livekit::DisconnectReason;
use serde_json::Value;

use super::{names::Rival, *};

/// Runs the doctor with the scene's settings and those in `env`.
fn doctor(s: &Scene, env: &[(&str, &str)]) -> Result<(Output, Vec<Value>)> {
    let mut command = Command::new(binary());
    command.args(["doctor", "--json"]).env_clear().current_dir(s.data.path());
    command
        .env("LIVEKIT_URL", &s.venue.url)
        .env("LIVEKIT_API_KEY", &s.venue.api_key)
        .env("LIVEKIT_API_SECRET", &s.venue.api_secret)
        .env("CALL_HISTORY_ENDPOINT", &s.endpoint.url)
        .env("CALL_HISTORY_AGENT_NAME", &s.name)
        .env("CALL_HISTORY_DATA_DIR", s.data.path().join("doctor"))
        .env("CALL_HISTORY_LOG_FORMAT", "json");
    for (key, value) in env {
        command.env(key, value);
    }
    let out = command.output()?;
    let checks = serde_json::from_slice(&out.stdout)
        .map_err(|e| anyhow::anyhow!("{e}: {}", String::from_utf8_lossy(&out.stderr)))?;
    Ok((out, checks))
}

/// The state of a check, and the advice.
fn state<'a>(checks: &'a [Value], name: &str) -> (&'a str, &'a str) {
    let check = checks.iter().find(|c| c["name"] == name).expect("the check");
    (check["state"].as_str().unwrap_or(""), check["advice"].as_str().unwrap_or(""))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_installation_passes_every_check() -> Result<()> {
    let s = Scene::new().await?;
    let (out, checks) = doctor(&s, &[])?;
    assert!(out.status.success(), "{checks:#?}");
    for name in ["settings", "livekit", "clock", "keys", "agent_name", "endpoint", "data_folder"] {
        assert_eq!(state(&checks, name), ("ok", ""), "{name}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_named_with_what_to_do() -> Result<()> {
    let s = Scene::new().await?;
    let nobody = "http://127.0.0.1:1/";
    let endpoint = s.endpoint.url.clone();
    for (setting, value, check, due, advice) in [
        (
            "LIVEKIT_API_SECRET",
            "wrong-secret-wrong-secret-wrong-1",
            "keys",
            "failed",
            "LIVEKIT_API_KEY",
        ),
        ("LIVEKIT_URL", "ws://127.0.0.1:1", "livekit", "failed", "LIVEKIT_URL"),
        ("LIVEKIT_URL", endpoint.as_str(), "livekit", "warning", "LIVEKIT_URL"),
        ("CALL_HISTORY_ENDPOINT", nobody, "endpoint", "failed", "CALL_HISTORY_ENDPOINT"),
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
async fn another_program_of_our_name_is_seen_and_how_to_avoid_it_is_said() -> Result<()> {
    let mut s = Scene::new().await?;
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
    assert_eq!(checked(&[endpoint, trust])?.0, "ok");
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
