//! The HTTP port: connections that keep it busy, and a worker with too few file descriptors.

use std::time::Duration;

use anyhow::{Result, ensure};
use livekit::DisconnectReason;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::timeout,
};

use super::*;

/// Time limit for the worker to close a connection.
const CLOSED: Duration = Duration::from_secs(240);

/// A connection from a given loopback address: the limits are per address.
async fn connected(from: [u8; 4], to: &str) -> Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((from, 0).into())?;
    Ok(socket.connect(to.parse()?).await?)
}

/// Waits until the worker has closed the connection.
async fn is_closed(stream: &mut TcpStream) {
    let mut rest = [0; 1024];
    while matches!(stream.read(&mut rest).await, Ok(n) if n > 0) {}
}

/// Sends nothing.
async fn silent(mut stream: TcpStream) {
    is_closed(&mut stream).await;
}

/// Sends a byte of a request's head now and then.
async fn dripping(mut stream: TcpStream) {
    let (mut rest, mut drip) = ([0; 1024], tokio::time::interval(Duration::from_millis(300)));
    let mut head = b"GET / HTTP/1.1\r\nx-a: ".iter().chain(std::iter::repeat(&b'a'));
    loop {
        tokio::select! {
            read = stream.read(&mut rest) => if !matches!(read, Ok(n) if n > 0) { return },
            _ = drip.tick() => {
                // The read above notices when the connection is closed.
                let _ = stream.write_all(&[*head.next().unwrap()]).await;
            }
        }
    }
}

/// Sends one request, reads the answer, and then sends nothing more.
async fn idle(mut stream: TcpStream) {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    is_closed(&mut stream).await;
}

/// Sends requests without end, and reads no answer.
async fn greedy(mut stream: TcpStream) {
    while stream.write_all(b"GET /worker HTTP/1.1\r\nhost: x\r\n\r\n").await.is_ok() {}
}

/// A client that opens a connection for each request.
fn client(from: [u8; 4]) -> Result<reqwest::Client> {
    let client = reqwest::Client::builder().local_address(std::net::IpAddr::from(from));
    Ok(client.pool_max_idle_per_host(0).build()?)
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_closed_and_the_page_answers_meanwhile() -> Result<()> {
    let mut s = Scene::new().await?;
    let addr = s.worker.health().await?;
    let mut open = JoinSet::new();
    for _ in 0..60 {
        open.spawn(silent(connected([127, 0, 0, 1], &addr).await?));
        open.spawn(dripping(connected([127, 0, 0, 3], &addr).await?));
        open.spawn(idle(connected([127, 0, 0, 4], &addr).await?));
    }
    for _ in 0..20 {
        open.spawn(greedy(connected([127, 0, 0, 5], &addr).await?));
    }
    let (client, page) = (client([127, 0, 0, 2])?, format!("http://{addr}/"));
    let all_closed = async {
        while !open.is_empty() {
            let answer = client.get(&page).send().await?;
            ensure!(answer.status() == 200, "{}", answer.text().await?);
            // At most one closed connection is counted for each answer of the page.
            if let Ok(Some(closed)) = timeout(Duration::from_millis(100), open.join_next()).await {
                closed?;
            }
        }
        Ok(())
    };
    let done = timeout(CLOSED, all_closed).await;
    ensure!(done.is_ok(), "{} of 200 are still open", open.len());
    done?
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_cannot_take_all_connections_and_this_is_logged_once() -> Result<()> {
    let mut s = Scene::new().await?;
    let addr = s.worker.health().await?;
    let mut open = vec![];
    for _ in 0..100 {
        open.push(connected([127, 0, 0, 1], &addr).await?);
    }
    let mut closed = 0_usize;
    for stream in &mut open[64..] {
        // One that is kept has an answer.
        let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let is_answered = timeout(POSTED, stream.read(&mut [0; 1])).await?.is_ok_and(|n| n > 0);
        closed += usize::from(!is_answered);
    }
    assert_eq!(closed, 36, "beyond 64 each is closed at once");
    let answer = client([127, 0, 0, 2])?.get(format!("http://{addr}/")).send().await?;
    assert_eq!(answer.status(), 200, "others have places");
    let warned = "connections to the port are closed at once: too many are open";
    s.worker.logs(warned).await?;
    assert_eq!(s.worker.log().iter().filter(|l| l["message"] == warned).count(), 1);
    drop(open);
    let freed = async {
        while client([127, 0, 0, 1])?.get(format!("http://{addr}/")).send().await.is_err() {}
        anyhow::Ok(())
    };
    timeout(CLOSED, freed).await??;
    Ok(())
}

/// Requests the health page until `what` accepts its text.
async fn page_says(page: &str, what: impl Fn(&str) -> bool) -> Result<()> {
    while !what(&reqwest::get(page).await?.text().await?) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shortage_of_file_descriptors_is_logged_and_survived() -> Result<()> {
    let venue = Venue::dev(lab::server::quick()).await?;
    let mut endpoint = Endpoint::start().await?;
    let name = unique("worker");
    let setup = Setup::new(binary(), &venue, &endpoint, &name);
    let mut worker = Worker::registered(Setup { descriptors: Some(64), ..setup }).await?;
    let few = worker.logs("too few file descriptors for CALL_HISTORY_MAX_CALLS").await?;
    assert_eq!((few["limit"].as_u64(), few["max_calls"].as_u64()), (Some(64), Some(1000)));
    assert!(few["needed"].as_u64() > Some(1000), "{few}");
    assert!(few["advice"].as_str().unwrap().contains("ulimit -n"), "{few}");

    let join = async |room: &str, identity: &str| {
        let ticket = Ticket {
            room: room.into(),
            identity: identity.into(),
            kind: "standard",
            agents: vec![name.clone()],
            ..Default::default()
        };
        Person::join(&venue, &ticket).await
    };
    let mut callers = vec![];
    for n in 0..30 {
        callers.push(join(&unique("room"), &format!("caller-{n}")).await?);
    }
    let failed = worker.logs("could not join the room").await?;
    let error = failed["error"].as_str().unwrap();
    assert!(error.contains("file descriptors are left") && error.contains("of 64"), "{error}");
    let short = "file descriptors run out: calls may not be joined, the port may not answer";
    assert_eq!(worker.logs(short).await?["level"], "ERROR");

    for caller in callers {
        caller.leaves(DisconnectReason::ClientInitiated).await?;
    }
    let over = "there are file descriptors again";
    worker.logs_nth(over, 1, 2 * POSTED).await?;
    let page = format!("http://{}/", worker.health().await?);
    timeout(2 * POSTED, page_says(&page, |text| !text.contains("descriptors"))).await??;
    let room = unique("room");
    let caller = join(&room, "alice").await?;
    let started = async {
        while worker.count("call started", &room) == 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(2 * POSTED, started).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    endpoint.wait(&room, 1, 2 * POSTED).await?;
    timeout(2 * POSTED, page_says(&page, wait::is_well)).await??;
    Ok(())
}

/// Changes how many file descriptors a running process may have.
async fn allow(pid: u32, descriptors: &str) -> Result<()> {
    let mut command = tokio::process::Command::new("prlimit");
    command.args(["--pid", &pid.to_string(), &format!("--nofile={descriptors}:")]);
    ensure!(command.status().await?.success());
    Ok(())
}

/// Seconds of processor time that a process has used.
fn used(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // Hundredths of a second, in user and in system mode.
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_cannot_take_connections_says_why_and_waits() -> Result<()> {
    let mut s = Scene::new().await?;
    let (pid, addr) = (s.worker.pid().unwrap(), s.worker.health().await?);
    allow(pid, "10").await?;
    let page = tokio::spawn(reqwest::get(format!("http://{addr}/")));
    let short = "file descriptors run out: calls may not be joined, the port may not answer";
    let line = s.worker.logs(short).await?;
    assert_eq!(line["error"], "no file descriptors are left (10 of 10 in use)");
    let before = (used(pid)?, std::time::Instant::now());
    tokio::time::sleep(Duration::from_secs(3)).await;
    let share = (used(pid)? - before.0) / before.1.elapsed().as_secs_f64();
    assert!(share < 0.2, "it spins: {share} of a processor");
    assert!(!page.is_finished());
    allow(pid, "1000").await?;
    assert_eq!(timeout(POSTED, page).await???.status(), 200, "it was taken after all");
    s.worker.logs("there are file descriptors again").await?;
    timeout(POSTED, page_says(&format!("http://{addr}/"), |text| text == "OK")).await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_webhook_that_livekit_sends_is_accepted() -> Result<()> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use livekit_api::access_token::AccessToken;
    use sha2::{Digest, Sha256};

    let mut s = Scene::breakable().await?;
    let url = format!("http://{}/webhook", s.worker.health().await?);
    let event = json!({
        "event": "participant_joined",
        "room": { "name": "ghost", "sid": "RM_ghost", "metadata": "r".repeat(512 * 1024) },
        "participant": { "identity": "alice", "metadata": "p".repeat(512 * 1024) },
    });
    let body = event.to_string();
    let sha256 = STANDARD.encode(Sha256::digest(body.as_bytes()));
    let token =
        AccessToken::with_api_key("devkey", &s.venue.api_secret).with_sha256(&sha256).to_jwt()?;
    let request = reqwest::Client::new().post(url).header("authorization", token).body(body);
    assert_eq!(request.send().await?.status(), 200);
    Ok(())
}
