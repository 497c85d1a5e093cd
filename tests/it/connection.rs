//! The registration, with a server that does whatever a test needs.

use std::{collections::HashSet, time::Duration};

use anyhow::{Result, bail};
use futures_util::{SinkExt, StreamExt};
use livekit_protocol::{
    AvailabilityRequest, Job, JobAssignment, RegisterWorkerResponse, Room as RoomInfo,
    ServerMessage, WorkerMessage, WorkerStatus, agent_http::GoAway,
    server_message::Message as ToWorker, worker_message::Message as FromWorker,
};
use prost::Message as _;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        handshake::server::{ErrorResponse, Request, Response},
        http::StatusCode,
    },
};

use super::{wait::eventually, *};

/// A server that speaks the worker protocol; each test scripts it.
struct Fake {
    listener: TcpListener,
    endpoint: Endpoint,
    url: String,
}

type Socket = WebSocketStream<TcpStream>;

impl Fake {
    async fn new() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("ws://{}", listener.local_addr()?);
        Ok(Self { listener, endpoint: Endpoint::start().await?, url })
    }

    /// Starts a worker of this server, which does not answer API requests.
    fn worker(&self, env: &[(&str, &str)]) -> Result<Worker> {
        let venue = Venue {
            url: self.url.clone(),
            api_key: "devkey".into(),
            api_secret: "secret-secret-secret-secret-secret".into(),
            dev: None,
        };
        let mut setup = Setup::new(binary(), &venue, &self.endpoint, "w");
        for (key, value) in env {
            setup = setup.with(key, value);
        }
        Worker::start(setup)
    }

    /// The next connection to the workers' path.
    async fn socket(&self) -> Result<Socket> {
        let accept = async {
            loop {
                let (stream, _) = self.listener.accept().await?;
                if let Ok(socket) = tokio_tungstenite::accept_hdr_async(stream, only_agents).await {
                    return anyhow::Ok(socket);
                }
            }
        };
        timeout(POSTED, accept).await.context("no connection")?
    }

    /// The next connection, after its registration.
    async fn registered(&self) -> Result<Socket> {
        let mut socket = self.socket().await?;
        let FromWorker::Register(r) = receive(&mut socket).await? else {
            bail!("the first message is no registration")
        };
        assert_eq!((r.agent_name.as_str(), r.r#type), ("w", 0));
        let may = r.allowed_permissions.context("no permissions")?;
        assert!(may.hidden && may.can_subscribe && may.can_publish_data && !may.can_publish);
        let answer = RegisterWorkerResponse { worker_id: "AW_1".into(), ..Default::default() };
        send(&mut socket, ToWorker::Register(answer)).await?;
        Ok(socket)
    }
}

/// Refuses the connections of observers, which come to the same port.
#[allow(clippy::result_large_err)]
fn only_agents(request: &Request, response: Response) -> Result<Response, ErrorResponse> {
    let refusal = || {
        let mut refusal = ErrorResponse::new(None);
        *refusal.status_mut() = StatusCode::NOT_FOUND;
        refusal
    };
    if request.uri().path() == "/agent" { Ok(response) } else { Err(refusal()) }
}

async fn receive(socket: &mut Socket) -> Result<FromWorker> {
    let next = async {
        loop {
            match socket.next().await.context("closed")?? {
                Message::Binary(bytes) => {
                    let message = WorkerMessage::decode(bytes)?.message;
                    return message.context("an empty message");
                }
                Message::Ping(_) | Message::Pong(_) => {}
                other => bail!("{other:?}"),
            }
        }
    };
    timeout(POSTED, next).await.context("nothing comes")?
}

/// The next message, apart from the load, which is reported all the time.
async fn answer(socket: &mut Socket) -> Result<FromWorker> {
    loop {
        match receive(socket).await? {
            FromWorker::UpdateWorker(_) => {}
            other => return Ok(other),
        }
    }
}

async fn send(socket: &mut Socket, message: ToWorker) -> Result<()> {
    let bytes = ServerMessage { message: Some(message) }.encode_to_vec();
    Ok(socket.send(Message::Binary(bytes.into())).await?)
}

fn job(id: &str) -> Job {
    let room =
        RoomInfo { name: format!("room-{id}"), sid: format!("RM_{id}"), ..Default::default() };
    Job { id: id.into(), room: Some(room), ..Default::default() }
}

/// Offers a job; returns whether the worker accepted it.
async fn offer(socket: &mut Socket, id: &str) -> Result<bool> {
    let offer = AvailabilityRequest { job: Some(job(id)), resuming: false };
    send(socket, ToWorker::Availability(offer)).await?;
    let FromWorker::Availability(a) = answer(socket).await? else { bail!("no answer to {id}") };
    assert_eq!(a.job_id, id);
    assert_eq!(a.available, !a.participant_identity.is_empty());
    Ok(a.available)
}

/// The first connection of a process makes its key and certificate, and starts WebRTC's threads. The first
/// call must not wait for that.
#[tokio::test(flavor = "multi_thread")]
async fn what_every_connection_shares_is_made_before_the_first_call() -> Result<()> {
    let s = Scene::new().await?;
    eventually("WebRTC's threads run", POSTED, async || {
        let threads = s.worker.threads()?;
        Ok(threads.iter().any(|name| name == "libwebrtc").then_some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_dies_silently_is_given_up_within_half_a_minute() -> Result<()> {
    let fake = Fake::new().await?;
    let _worker = fake.worker(&[])?;
    // The socket stays open and is never used again: no ping, no pong.
    let _dead = fake.registered().await?;
    let since = Instant::now();
    let _next = fake.registered().await?;
    let waited = since.elapsed();
    assert!((20..44).contains(&waited.as_secs()), "{waited:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_registers_and_closes_is_not_hammered() -> Result<()> {
    let fake = Fake::new().await?;
    let mut worker = fake.worker(&[])?;
    drop(fake.registered().await?);
    let lost = "not registered with LiveKit, will be tried again; calls that are on go on";
    worker.logs(lost).await?;
    let began = Instant::now();
    for _ in 0..4 {
        drop(fake.registered().await?);
    }
    // The first retry is immediate; the next ones wait at least 0.25 s, 0.5 s and 1 s.
    assert!(began.elapsed() > Duration::from_millis(1_500), "{:?}", began.elapsed());
    // The same for a server that closes before it answers.
    for _ in 0..2 {
        drop(fake.socket().await?);
    }
    let _stays = fake.registered().await?;
    worker.logs_nth("registered worker", 6, POSTED).await?;
    // The same fault again and again is one line. A connection that ends may show as closed or as reset.
    let lines: Vec<Value> = worker.log().into_iter().filter(|l| l["message"] == lost).collect();
    let errors: HashSet<String> = lines.iter().map(|l| l["error"].to_string()).collect();
    assert_eq!(lines.len(), errors.len(), "{lines:#?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn on_go_away_the_worker_registers_again_and_migrates_its_jobs() -> Result<()> {
    let fake = Fake::new().await?;
    let _worker = fake.worker(&[])?;
    let mut socket = fake.registered().await?;
    assert!(offer(&mut socket, "AJ_one").await?);
    let given =
        JobAssignment { job: Some(job("AJ_one")), token: "token".into(), ..Default::default() };
    send(&mut socket, ToWorker::Assignment(given)).await?;
    assert!(matches!(answer(&mut socket).await?, FromWorker::UpdateJob(u) if u.job_id == "AJ_one"));
    send(&mut socket, ToWorker::GoAway(GoAway::default())).await?;
    let mut socket = fake.registered().await?;
    let first = receive(&mut socket).await?;
    assert!(matches!(&first, FromWorker::MigrateJob(m) if m.job_ids == ["AJ_one"]), "{first:?}");
    // The same room is not taken twice.
    let offer = AvailabilityRequest { job: Some(job("AJ_one")), resuming: false };
    send(&mut socket, ToWorker::Availability(offer)).await?;
    let again = answer(&mut socket).await?;
    assert!(matches!(&again, FromWorker::Availability(a) if a.terminate && !a.available));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_reserved_for_a_job_that_never_comes_is_freed() -> Result<()> {
    let fake = Fake::new().await?;
    let _worker = fake.worker(&[("CALL_HISTORY_MAX_CALLS", "1")])?;
    let mut socket = fake.registered().await?;
    assert!(offer(&mut socket, "AJ_one").await?);
    assert!(!offer(&mut socket, "AJ_two").await?, "full");
    let full = async {
        loop {
            if let FromWorker::UpdateWorker(u) = receive(&mut socket).await? {
                assert!(u.load.is_finite() && u.load < 0.7);
                if u.status == Some(WorkerStatus::WsAvailable as i32) && u.load < 0.5 {
                    return anyhow::Ok(());
                }
            }
        }
    };
    timeout(POSTED, full).await??;
    assert!(offer(&mut socket, "AJ_three").await?);
    // The assignment that comes too late is refused.
    let late =
        JobAssignment { job: Some(job("AJ_one")), token: "token".into(), ..Default::default() };
    send(&mut socket, ToWorker::Assignment(late)).await?;
    let FromWorker::UpdateJob(u) = answer(&mut socket).await? else { bail!("no word of it") };
    assert_eq!((u.job_id.as_str(), u.error.as_str()), ("AJ_one", "assigned too late"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_messages_from_the_server_are_survived() -> Result<()> {
    let fake = Fake::new().await?;
    let _worker = fake.worker(&[])?;
    let mut socket = fake.registered().await?;
    // An unknown kind of message, a text, and empty jobs.
    socket.send(Message::Binary(vec![0xfa, 0x3f, 0x01, b'x'].into())).await?;
    socket.send(Message::text("hello")).await?;
    send(&mut socket, ToWorker::Availability(AvailabilityRequest::default())).await?;
    let refused = answer(&mut socket).await?;
    assert!(matches!(refused, FromWorker::Availability(a) if !a.available));
    send(&mut socket, ToWorker::Assignment(JobAssignment::default())).await?;
    assert!(offer(&mut socket, "AJ_one").await?, "it goes on");
    // Bytes that are not a message end the connection; the next connection works.
    socket.send(Message::Binary(vec![0xff; 64].into())).await?;
    let mut socket = fake.registered().await?;
    assert!(offer(&mut socket, "AJ_two").await?);
    Ok(())
}
