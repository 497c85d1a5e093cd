//! Connections as networks and gateways make them: addresses that are dead, IPv6 alone, HTTP/2, connections
//! that break or never end.

use anyhow::Result;
use axum::http::Version;
use lab::{
    faults::Faults,
    gateway::{Authority, DeadAddress, Fault, FaultyFront, Http2Front, TlsFront, self_signed},
};

use super::*;

/// A worker whose endpoint is behind a front with these faults of its posts. The first connection is the worker's look
/// at its start.
async fn behind(faults: &[Fault], env: &[(&str, &str)]) -> Result<(Scene, FaultyFront)> {
    let endpoint = Endpoint::start().await?;
    let faults: Vec<Fault> = std::iter::once(Fault::None).chain(faults.iter().copied()).collect();
    let front = FaultyFront::start("127.0.0.1:0", endpoint.addr, &faults).await?;
    let url = format!("http://{}/calls", front.addr);
    let mut all = vec![("CALL_HISTORY_ENDPOINT", url.as_str())];
    all.extend_from_slice(env);
    let scene = Scene::with_endpoint(Venue::from_env().await?, endpoint, &all, &[]).await?;
    let looked = async || Ok((front.connections() > 0).then_some(()));
    wait::eventually("the look at the endpoint", POSTED, looked).await?;
    Ok((scene, front))
}

/// The worker's call number `n`, in a room of its own.
async fn call(s: &mut Scene, n: usize) -> Result<()> {
    s.room = unique("room");
    let caller = s.phone("+15550123480").await?;
    s.worker.logs_nth("call started", n, POSTED).await?;
    caller.hangs_up().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_reset_is_an_attempt_that_failed() -> Result<()> {
    let (mut s, _front) = behind(&[Fault::Resets], &[]).await?;
    call(&mut s, 1).await?;
    let line = s.worker.logs_nth("not delivered, will be tried again", 1, POSTED).await?;
    assert!(line["error"].as_str().unwrap().contains("reset"), "{line}");
    assert_eq!(s.posts(1).await?.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_that_the_other_side_closed_is_not_used_again() -> Result<()> {
    let (mut s, front) = behind(&[Fault::ClosesSoon], &[]).await?;
    call(&mut s, 1).await?;
    s.worker.logs_nth("delivered", 1, POSTED).await?;
    // Longer than the front keeps it.
    tokio::time::sleep(Duration::from_secs(1)).await;
    call(&mut s, 2).await?;
    assert_eq!(s.posts(1).await?.len(), 1);
    s.worker.logs_nth("delivered", 2, POSTED).await?;
    assert_eq!(s.worker.count("not delivered, will be tried again", &s.room), 0);
    assert_eq!(front.connections(), 1 + 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_never_ends_delivers_and_one_that_never_begins_times_out() -> Result<()> {
    let faults = [Fault::EndlessBody, Fault::EndlessHead, Fault::Silent];
    let (mut s, front) = behind(&faults, &[("CALL_HISTORY_ENDPOINT_TIMEOUT", "1")]).await?;
    call(&mut s, 1).await?;
    s.worker.logs_nth("delivered", 1, POSTED).await?;
    call(&mut s, 2).await?;
    for n in [1, 2] {
        let line = s.worker.logs_nth("not delivered, will be tried again", n, POSTED).await?;
        assert!(line["error"].as_str().unwrap().contains("timed out"), "{line}");
    }
    assert_eq!(s.posts(1).await?.len(), 1);
    assert!(front.connections() > 4, "a connection with an unread answer is not used again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_speaks_only_http_2_takes_records() -> Result<()> {
    let (authority, endpoint) = (Authority::new()?, Endpoint::start().await?);
    let front = Http2Front::start(&authority.issues("localhost")?, &endpoint).await?;
    let url = format!("https://localhost:{}/calls", front.addr.port());
    let ca = authority.pem();
    let env = [("CALL_HISTORY_ENDPOINT", &*url), ("CALL_HISTORY_ENDPOINT_CA", &ca)];
    let mut s = Scene::with_endpoint(Venue::from_env().await?, endpoint, &env, &[]).await?;
    for n in [1, 2] {
        call(&mut s, n).await?;
        let post = s.posts(1).await?.remove(0);
        assert_eq!(post.version, Version::HTTP_2);
        post.check_signature(lab::worker::JWT_SECRET)?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn livekit_and_the_endpoint_may_have_ipv6_only() -> Result<()> {
    let (venue, endpoint) = (Venue::from_env().await?, Endpoint::start().await?);
    let records = FaultyFront::start("[::1]:0", endpoint.addr, &[]).await?;
    let livekit = FaultyFront::start("[::1]:0", venue.addr()?, &[]).await?;
    let (livekit_url, url) =
        (format!("ws://{}", livekit.addr), format!("http://{}/calls", records.addr));
    let env = [("LIVEKIT_URL", &*livekit_url), ("CALL_HISTORY_ENDPOINT", &*url)];
    let mut s = Scene::with_endpoint(venue, endpoint, &env, &[]).await?;
    call(&mut s, 1).await?;
    assert_eq!(s.posts(1).await?.len(), 1);
    assert!(livekit.connections() >= 3 && records.connections() == 1 + 1, "a look and a post");
    Ok(())
}

/// The first of two IPv4 addresses is dead. Requests to LiveKit have 5 s, websockets more.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_address_of_the_same_family_leaves_time_for_the_other() -> Result<()> {
    let (venue, endpoint) = (Venue::from_env().await?, Endpoint::start().await?);
    let port = venue.addr()?.port();
    let _dead = DeadAddress::at("127.0.0.77", port).await?;
    let faults = Faults::new()?.with_host("several.test", &["127.0.0.77", "127.0.0.1"]);
    let livekit_url = format!("ws://several.test:{port}");
    let mut env = faults.env();
    env.push(("LIVEKIT_URL", &*livekit_url));
    let mut s = Scene::with_endpoint(venue, endpoint, &env, &[]).await?;
    call(&mut s, 1).await?;
    assert_eq!(s.posts(1).await?.len(), 1);
    let log = format!("{:?}", s.worker.log());
    assert!(!log.contains("cannot be listed") && !log.contains("could not join"), "{log}");
    Ok(())
}

/// Both names have a dead address first: connects to it hang.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_address_among_several_delays_calls_and_records_by_little() -> Result<()> {
    // The port must be free on both addresses.
    let (venue, dead) = loop {
        let venue = Venue::from_env().await?;
        if let Ok(dead) = DeadAddress::at("::1", venue.addr()?.port()).await {
            break (venue, dead);
        }
    };
    let (endpoint, also_dead) = loop {
        let endpoint = Endpoint::start().await?;
        if let Ok(dead) = DeadAddress::at("::1", endpoint.addr.port()).await {
            break (endpoint, dead);
        }
    };
    let faults = Faults::new()?.with_host("several.test", &["::1", "127.0.0.1"]);
    let livekit_url = format!("ws://several.test:{}", dead.addr.port());
    let url = format!("http://several.test:{}/calls", also_dead.addr.port());
    let mut env = faults.env();
    env.extend([("LIVEKIT_URL", &*livekit_url), ("CALL_HISTORY_ENDPOINT", &*url)]);
    let mut s = Scene::with_endpoint(venue, endpoint, &env, &[]).await?;
    call(&mut s, 1).await?;
    assert_eq!(s.posts(1).await?.len(), 1);
    let log = format!("{:?}", s.worker.log());
    assert!(!log.contains("not delivered") && !log.contains("not registered"), "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn livekit_may_have_a_certificate_of_a_private_authority() -> Result<()> {
    let (authority, own) = (Authority::new()?, self_signed("localhost")?);
    let dir = tempfile::tempdir()?;
    let trusted = dir.path().join("trusted.pem");
    for (identity, trust) in
        [(authority.issues("localhost")?, authority.pem()), (own.clone(), own.cert)]
    {
        let (venue, endpoint) = (Venue::from_env().await?, Endpoint::start().await?);
        let front = TlsFront::start(&identity, None, venue.addr()?).await?;
        let url = format!("wss://localhost:{}", front.addr.port());
        let mut env = vec![("LIVEKIT_URL", &*url)];
        let setup_of = |env: &[(&str, &str)]| {
            let env: Vec<_> = env.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
            setup(&venue, &endpoint, &unique("worker"), &env, &[], &dir.path().join("data"))
        };
        let mut worker = Worker::start(setup_of(&env))?;
        let line = worker
            .logs("not registered with LiveKit, will be tried again; calls that are on go on")
            .await?;
        let said = line["error"].as_str().unwrap();
        assert!(said.contains("SSL_CERT_FILE") && !said.contains("ENDPOINT"), "{said}");
        worker.stops().await?;

        std::fs::write(&trusted, trust)?;
        env.push(("SSL_CERT_FILE", trusted.to_str().unwrap()));
        let mut s = Scene::with_endpoint(venue, endpoint, &env, &[]).await?;
        call(&mut s, 1).await?;
        assert_eq!(s.posts(1).await?.len(), 1);
    }
    Ok(())
}
