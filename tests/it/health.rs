//! `GET /` says in words what is wrong, for as long as it is wrong.

use anyhow::Result;
use lab::endpoint::Answer;
use livekit::DisconnectReason;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::{
    outbox::outbox,
    wait::{page, page_says},
    *,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_endpoint_is_shown_with_its_backlog_and_last_error() -> Result<()> {
    let mut s = Scene::new().await?;
    s.endpoint.answers(std::iter::repeat_n(Answer::Status(500), 1_000));
    let caller = s.web("alice").await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let said = page_says(&mut s.worker, "endpoint: not taking records since 2", 2 * POSTED).await?;
    assert!(said.contains("; 1 wait; last error: answered 500"), "{said}");
    let health = s.worker.health().await?;
    let status = reqwest::get(format!("http://{health}/")).await?.status();
    assert_eq!(status, 200, "a restart mends no endpoint");
    s.endpoint.is_well();
    assert_eq!(outbox(&s, &["retry", "--all"]).await?.0, 0);
    s.worker.logs_nth("delivered", 1, 2 * POSTED).await?;
    wait::is_page(&mut s.worker, "OK").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_waiting_records_is_right_while_no_attempt_is_due() -> Result<()> {
    let mut s = Scene::new().await?;
    s.endpoint.answers(std::iter::repeat_n(Answer::With(503, "retry-after", "3600".into()), 1_000));
    for n in 1..=3 {
        s.room = unique("room");
        let caller = s.web("alice").await?;
        s.worker.logs_nth("call started", n, POSTED).await?;
        caller.leaves(DisconnectReason::ClientInitiated).await?;
        s.worker.logs_nth("call ended", n, POSTED).await?;
    }
    page_says(&mut s.worker, "; 3 wait; last error: answered 503", POSTED).await?;
    assert_eq!(s.endpoint.posts().len(), 1, "the endpoint asked for an hour");
    Ok(())
}

/// Answers every request as a small web server does that is no LiveKit.
async fn foreign_server() -> Result<std::net::SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let addr = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut to, _)) = listener.accept().await {
            let mut request = [0; 4096];
            // A client that is gone needs no answer.
            let _ = to.read(&mut request).await;
            let _ = to.write_all(b"HTTP/1.0 501 Unsupported method\r\n\r\n").await;
        }
    });
    Ok(addr)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_from_the_start_is_shown_before_the_first_call() -> Result<()> {
    let (venue, endpoint) = (Venue::dev(lab::server::quick()).await?, Endpoint::start().await?);
    // Nobody listens there now.
    let late = free_addr().await?;
    let setup = Setup::new(binary(), &venue, &endpoint, "w")
        .with("LIVEKIT_URL", &format!("ws://{}", foreign_server().await?))
        .with("CALL_HISTORY_ENDPOINT", &format!("http://{late}/calls"));
    let mut worker = Worker::start(setup)?;
    let line = worker
        .logs("not registered with LiveKit, will be tried again; calls that are on go on")
        .await?;
    const ADVICE: &str = "this is no LiveKit server: check host, port and path in LIVEKIT_URL";
    assert!(line["error"].as_str().unwrap().contains(ADVICE), "{line}");
    page_says(&mut worker, "endpoint_away: it cannot be connected to: ", POSTED).await?;
    // The page has it from a line that may come later than the endpoint's.
    let said = page_says(&mut worker, "registration: ", POSTED).await?;
    assert!(said.contains(ADVICE), "{said}");
    let _listener = tokio::net::TcpListener::bind(late).await?;
    worker.logs("the endpoint can be connected to now").await?;
    assert!(!page(&mut worker).await?.contains("endpoint_away"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_keys_are_shown_whichever_layer_meets_them() -> Result<()> {
    for layers in ["reconcile", "dispatch", "participant"] {
        let venue = Venue::dev(lab::server::quick()).await?;
        let endpoint = Endpoint::start().await?;
        let setup = Setup::new(binary(), &venue, &endpoint, "w")
            .with("LIVEKIT_API_SECRET", "wrong")
            .with("CALL_HISTORY_DISCOVERY", layers);
        let mut worker = Worker::start(setup)?;
        page_says(&mut worker, "keys: LiveKit refuses the API key or secret", POSTED).await?;
        let health = worker.health().await?;
        let status = reqwest::get(format!("http://{health}/")).await?.status();
        assert_eq!(status, 200, "{layers}: LiveKit was not away for long");
        worker.stops().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_keys_are_still_shown_after_livekit_was_away_for_long() -> Result<()> {
    let venue = Venue::dev(lab::server::quick()).await?;
    let endpoint = Endpoint::start().await?;
    let setup = Setup::new(binary(), &venue, &endpoint, "w").with("LIVEKIT_API_SECRET", "wrong");
    let mut worker = Worker::start(setup)?;
    page_says(&mut worker, "keys: LiveKit refuses the API key or secret", POSTED).await?;
    let said = page_says(&mut worker, "not connected to LiveKit", POSTED).await?;
    assert!(said.contains("warning: keys: LiveKit refuses"), "{said}");
    worker.stops().await
}
