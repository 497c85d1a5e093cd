//! `GET /live`, `GET /ready` and `call-history probe`, which asks for them.

use std::time::Duration;

use anyhow::Result;
use livekit::DisconnectReason;
use tokio::process::Command;

use super::{wait::eventually, *};

/// What the port answers: status and text.
async fn answer(worker: &mut Worker, path: &str) -> Result<(u16, String)> {
    let addr = worker.health().await?;
    let answer = reqwest::get(format!("http://{addr}/{path}")).await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// Runs `call-history probe` with a port's address.
async fn probe(addr: &str, args: &[&str]) -> Result<(Option<i32>, String)> {
    let mut command = Command::new(binary());
    command.arg("probe").args(args).env_clear().env("CALL_HISTORY_HTTP_ADDR", addr);
    // A proxy must not be asked about this machine.
    command.env("HTTP_PROXY", "http://127.0.0.1:1");
    let out = command.output().await?;
    Ok((out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned()))
}

/// It has a limit of its own, which a machine that stands still passes.
async fn is_well(addr: &str, args: &[&str]) -> Result<()> {
    eventually("the probe is well", POSTED, async || {
        Ok((probe(addr, args).await? == (Some(0), String::new())).then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_ready_once_it_is_registered_and_until_it_drains() -> Result<()> {
    let mut s = Scene::new().await?;
    assert_eq!(answer(&mut s.worker, "live").await?, (200, "OK".into()));
    assert_eq!(answer(&mut s.worker, "ready").await?, (200, "OK".into()));
    let addr = s.worker.health().await?;
    for args in [&[][..], &["--ready"]] {
        is_well(&addr, args).await?;
    }
    let caller = s.web("alice").await?;
    s.worker.signal(15).await?;
    eventually("draining", POSTED, async || {
        Ok((answer(&mut s.worker, "ready").await? == (503, "draining".into())).then_some(()))
    })
    .await?;
    assert_eq!(answer(&mut s.worker, "live").await?.0, 200);
    is_well(&addr, &[]).await?;
    let (code, said) = probe(&addr, &["--ready"]).await?;
    assert_eq!(code, Some(1));
    assert!(said.contains("not ready: 503") && said.contains("draining"), "{said}");
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.worker.ends(Duration::from_secs(60)).await?;
    let (code, said) = probe(&addr, &[]).await?;
    assert!(code == Some(1) && said.contains("no worker answers at"), "{said}");
    Ok(())
}

/// A second worker and `doctor` say who has the address.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_a_worker_has_is_said_to_be_a_workers_also_while_it_drains() -> Result<()> {
    let mut s = Scene::new().await?;
    let addr = s.worker.health().await?;
    let caller = s.web("alice").await?;
    for (drains, advice, found) in [
        (false, "another worker has this address", "is used by a worker; a second worker"),
        (
            true,
            "a worker that is draining has this address",
            "is used by a worker that is draining",
        ),
    ] {
        if drains {
            s.worker.signal(15).await?;
            eventually("draining", POSTED, async || {
                Ok((answer(&mut s.worker, "ready").await?.0 == 503).then_some(()))
            })
            .await?;
        }
        let setup = Setup::new(binary(), &s.venue, &s.endpoint, &s.name);
        let mut second = Worker::start(setup.with("CALL_HISTORY_HTTP_ADDR", &addr))?;
        assert_eq!(second.ends(POSTED).await?.code(), Some(1));
        let log = second.log();
        let line = log.last().expect("a line");
        assert!(line["advice"].as_str().is_some_and(|a| a.contains(advice)), "{line}");
        // Its folder is another one, so that only the address shows the worker.
        let checks = doctor::checks(&s, &[("CALL_HISTORY_HTTP_ADDR", &addr)])?;
        let port = checks.iter().find(|c| c["name"] == "http_port").expect("the port");
        assert_eq!(port["state"], "warning", "{port}");
        assert!(port["found"].as_str().is_some_and(|f| f.contains(found)), "{port}");
    }
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    Ok(())
}

/// As the receiver does, it has a path /ready.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_is_ready_too_is_not_taken_for_a_worker() -> Result<()> {
    let s = Scene::new().await?;
    let other = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let addr = other.local_addr()?.to_string();
    let app = axum::Router::new().fallback(async || "OK");
    let served = tokio::spawn(async move { axum::serve(other, app).await });
    let setup = Setup::new(binary(), &s.venue, &s.endpoint, &s.name);
    let mut second = Worker::start(setup.with("CALL_HISTORY_HTTP_ADDR", &addr))?;
    assert_eq!(second.ends(POSTED).await?.code(), Some(1));
    let log = second.log();
    let line = log.last().expect("a line");
    assert_eq!(line["advice"], "stop the program that has this address");
    let checks = doctor::checks(&s, &[("CALL_HISTORY_HTTP_ADDR", &addr)])?;
    let port = checks.iter().find(|c| c["name"] == "http_port").expect("the port");
    assert_eq!(port["state"], "failed", "{port}");
    served.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_livekit_a_worker_lives_and_is_not_ready() -> Result<()> {
    for layers in ["dispatch,reconcile,webhook", "reconcile", "participant"] {
        let venue = Venue::dev(lab::server::quick()).await?;
        let endpoint = Endpoint::start().await?;
        let setup = Setup::new(binary(), &venue, &endpoint, "w");
        let setup = setup.with("LIVEKIT_URL", "ws://127.0.0.1:1");
        let mut worker = Worker::start(setup.with("CALL_HISTORY_DISCOVERY", layers))?;
        assert_eq!(answer(&mut worker, "live").await?.0, 200);
        let away = (503, "not connected to LiveKit".into());
        assert_eq!(answer(&mut worker, "ready").await?, away, "{layers}");
        worker.stops().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_is_ready_again_when_livekit_is_back() -> Result<()> {
    let mut s = Scene::breakable().await?;
    s.venue.breakable()?.restart(Duration::from_secs(2)).await?;
    s.worker.logs_nth("registered worker", 2, POSTED).await?;
    eventually("ready", POSTED, async || {
        Ok((answer(&mut s.worker, "ready").await?.0 == 200).then_some(()))
    })
    .await
}

#[tokio::test]
async fn a_probe_without_a_port_says_so() -> Result<()> {
    assert_eq!(probe("off", &[]).await?.0, Some(0), "a container must not seem ill for ever");
    let (code, said) = probe("off", &["--ready"]).await?;
    assert!(code == Some(1) && said.contains("CALL_HISTORY_HTTP_ADDR is off"), "{said}");
    let (code, said) = probe("nowhere", &[]).await?;
    assert!(code == Some(1) && said.contains("must be an address"), "{said}");
    Ok(())
}
