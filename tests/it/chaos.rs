//! Deliberate faults: kills at random moments, and an endpoint that misbehaves in every way.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use anyhow::Result;
use lab::endpoint::Answer;
use livekit::DisconnectReason;
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    time::sleep,
};

use super::*;

/// Rounds of SIGKILL; in each some calls end and others begin.
const ROUNDS: usize = 200;
/// Calls at the same time.
const AT_ONCE: usize = 4;

/// The log lines of all workers in turn, each with the number of its round.
#[derive(Default)]
struct Logs(Vec<(usize, Value)>);

impl Logs {
    fn add(&mut self, round: usize, log: Vec<Value>) {
        self.0.retain(|(r, _)| *r != round);
        self.0.extend(log.into_iter().map(|l| (round, l)));
    }

    /// Rooms in which any worker saw a call begin.
    fn started(&self) -> BTreeSet<String> {
        let of = self.0.iter().filter(|(_, l)| l["message"] == "call started");
        of.filter_map(|(_, l)| l["room"].as_str().map(str::to_owned)).collect()
    }

    fn about(&self, rooms: &[String]) -> String {
        let of = |l: &Value| l["room"].as_str().is_some_and(|r| rooms.iter().any(|x| x == r));
        let calls: BTreeSet<String> = (self.0.iter().filter(|(_, l)| of(l)))
            .filter_map(|(_, l)| l["call_id"].as_str().map(str::to_owned))
            .collect();
        let also = |l: &Value| l["call_id"].as_str().is_some_and(|c| calls.contains(c));
        let lines = self.0.iter().filter(|(_, l)| of(l) || also(l));
        lines.map(|(round, l)| format!("worker {round}: {l}\n")).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_that_was_seen_is_lost_to_kills_at_random_moments() -> Result<()> {
    let _alone = alone().await;
    let seed = rand::random();
    let mut dice = StdRng::seed_from_u64(seed);
    let mut s = Scene::new().await?;
    let mut logs = Logs::default();
    let mut calls: Vec<(Person, VoiceAgent)> = vec![];
    for round in 0..ROUNDS {
        if dice.random_ratio(1, 2) {
            s.worker.logs("registered worker").await?;
        }
        while calls.len() < AT_ONCE {
            // A room of its own; the token dispatches the worker that is registered.
            let room = unique("room");
            let caller = s.web_in(&room, "alice").await?;
            calls.push((caller, VoiceAgent::join(&s.venue, &room, true).await?));
        }
        // The endpoint is down now and then.
        if dice.random_ratio(1, 4) {
            s.endpoint.answers(std::iter::repeat_n(Answer::Status(500), dice.random_range(1..4)));
        }
        let n = dice.random_range(0..calls.len());
        if dice.random_ratio(1, 2) {
            let (caller, _agent) = calls.swap_remove(n);
            caller.leaves(DisconnectReason::ClientInitiated).await?;
        } else {
            calls[n].1.says("still here", Duration::from_millis(5)).await?;
        }
        sleep(Duration::from_millis(dice.random_range(0..250))).await;
        s.kill().await?;
        logs.add(round, s.worker.log());
        s.worker = s.start_another()?;
    }
    s.worker.logs_nth("registered worker", 1, POSTED).await?;
    s.endpoint.is_well();
    for (caller, _agent) in calls {
        caller.leaves(DisconnectReason::ClientInitiated).await?;
    }
    // A record that was refused several times waits for minutes.
    outbox::outbox(&s, &["retry", "--all"]).await?;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(90);
    let (seen, missing) = loop {
        logs.add(ROUNDS, s.worker.log());
        let seen = logs.started();
        let posted: BTreeSet<String> = (s.endpoint.posts().iter())
            .filter(|p| p.status == 200)
            .filter_map(|p| Some(p.record().ok()?["room_name"].as_str()?.to_owned()))
            .collect();
        let missing: Vec<String> = seen.difference(&posted).cloned().collect();
        if missing.is_empty() || tokio::time::Instant::now() > deadline {
            break (seen, missing);
        }
        sleep(Duration::from_millis(200)).await;
    };
    assert!(seen.len() >= ROUNDS / 10, "only {} calls were seen, seed {seed}", seen.len());
    assert!(
        missing.is_empty(),
        "{missing:?} of {} are lost, seed {seed}\n{}",
        seen.len(),
        logs.about(&missing)
    );
    // Each call has one id, and a record that was accepted twice has the same bytes.
    let mut bodies: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut rooms: BTreeMap<String, String> = BTreeMap::new();
    for p in s.endpoint.posts().iter().filter(|p| p.status == 200) {
        let (record, id) = (p.record()?, p.header("idempotency-key").to_owned());
        let room = record["room_name"].as_str().unwrap_or_default().to_owned();
        let known = rooms.entry(room.clone()).or_insert_with(|| id.clone());
        assert_eq!(
            *known,
            id,
            "two ids for the call in {room}, seed {seed}\n{}",
            logs.about(std::slice::from_ref(&room))
        );
        let body = bodies.entry(id.clone()).or_insert_with(|| p.body.to_vec());
        assert_eq!(*body, p.body, "two bodies of {id}, seed {seed}");
    }
    Ok(())
}

/// What happens to a connection to the endpoint.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// The port is closed.
    Refused,
    /// Accepted and dropped at once.
    Dropped,
    /// The request is read and not answered.
    Hangs,
    /// The answer breaks off within its first line.
    Cut,
    /// The answer is not HTTP.
    Nonsense,
    Answers(&'static str),
}

/// Serves one connection; returns the request, if it was read.
async fn serve(listener: &TcpListener, fate: Fate) -> Result<Option<Vec<u8>>> {
    let (mut socket, _) = listener.accept().await?;
    if matches!(fate, Fate::Dropped) {
        return Ok(None);
    }
    let mut request = vec![];
    let mut buffer = [0u8; 16 * 1024];
    while !whole(&request) {
        match socket.read(&mut buffer).await? {
            0 => return Ok(None),
            n => request.extend(&buffer[..n]),
        }
    }
    match fate {
        Fate::Hangs => sleep(Duration::from_secs(11)).await,
        Fate::Cut => socket.write_all(b"HTTP/1.1 20").await?,
        Fate::Nonsense => socket.write_all(b"hello, who is there?\r\n\r\n").await?,
        Fate::Answers(text) => socket.write_all(text.as_bytes()).await?,
        Fate::Refused | Fate::Dropped => {}
    }
    Ok(Some(request))
}

fn whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|l| {
        let (name, value) = l.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    length.is_some_and(|n| body.len() >= n)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_arrives_unchanged_whatever_the_endpoint_does() -> Result<()> {
    let venue = Venue::dev(lab::server::quick()).await?;
    let addr: SocketAddr = free_addr().await?.parse()?;
    let url = format!("http://{addr}/calls");
    let mut s = Scene::at(venue, &[("CALL_HISTORY_ENDPOINT", &url)]).await?;
    let caller = s.web("alice").await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.worker.logs("not delivered, will be tried again").await?;
    let mut bodies = vec![];
    // Closed for one fate only: an attempt that meets no port by chance doubles the wait until the next.
    let mut open = None;
    for fate in [
        Fate::Dropped,
        Fate::Cut,
        Fate::Nonsense,
        Fate::Refused,
        Fate::Answers(
            "HTTP/1.1 307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
        ),
        Fate::Answers("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n"),
        Fate::Hangs,
        Fate::Answers("HTTP/1.1 204 No Content\r\n\r\n"),
    ] {
        if matches!(fate, Fate::Refused) {
            open = None;
            sleep(Duration::from_millis(1_200)).await;
            continue;
        }
        let listener = match open.take() {
            Some(listener) => listener,
            None => listen(addr).await?,
        };
        // The worker's timeout is 10 s, and its waits double to 64 s in so many attempts, or to 128 s with one more. A
        // connection without a request is a look at whether the endpoint is there.
        let served = async {
            loop {
                let request = serve(&listener, fate).await?;
                if request.is_some() || matches!(fate, Fate::Dropped) {
                    return anyhow::Ok(request);
                }
            }
        };
        let served = tokio::time::timeout(Duration::from_secs(300), served).await;
        open = Some(listener);
        if let Some(request) =
            served.map_err(|_| anyhow::anyhow!("no attempt meets {fate:?}"))??
        {
            let text = String::from_utf8_lossy(&request).into_owned();
            bodies.push(text.split_once("\r\n\r\n").map(|(_, b)| b.to_owned()).unwrap_or_default());
        }
    }
    s.worker.logs("delivered").await?;
    assert!(bodies.len() >= 5 && bodies.windows(2).all(|w| w[0] == w[1]), "{bodies:#?}");
    Ok(())
}

/// Retries, because a port that was just closed may be free only after a moment.
async fn listen(addr: SocketAddr) -> Result<TcpListener> {
    for _ in 0..200 {
        if let Ok(listener) = TcpListener::bind(addr).await {
            return Ok(listener);
        }
        sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("{addr} cannot be had again")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_with_wrong_tls_never_receives_a_record() -> Result<()> {
    let venue = Venue::from_env().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("https://{}/calls", listener.local_addr()?);
    let mut s = Scene::at(venue, &[("CALL_HISTORY_ENDPOINT", &url)]).await?;
    let caller = s.web("alice").await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    // The looks at whether it is there, and the posts. It ends if a record comes.
    let refuses = tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let mut hello = [0u8; 4096];
            let n = socket.read(&mut hello).await.unwrap_or_default();
            let _ = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            if String::from_utf8_lossy(&hello[..n]).contains("call_id") {
                return;
            }
        }
    });
    let line = s.worker.logs("not delivered, will be tried again").await?;
    assert!(line["error"].as_str().unwrap().contains("could not be sent"), "{line}");
    let pending = std::fs::read_dir(s.worker.data.join("pending"))?.flatten();
    let records = pending.filter(|e| e.path().extension().is_some_and(|e| e == "json")).count();
    assert_eq!(records, 1, "it is kept");
    assert!(!refuses.is_finished(), "a record was sent");
    refuses.abort();
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_comes_and_goes_gets_every_record_and_other_calls_go_on() -> Result<()> {
    let mut dice = StdRng::seed_from_u64(7);
    let mut s = Scene::new().await?;
    let mut rooms = vec![];
    for n in 0..12 {
        let answers: Vec<Answer> = (0..dice.random_range(0..4))
            .map(|_| match dice.random_range(0..3) {
                0 => Answer::Status(500),
                1 => Answer::Status(429),
                _ => Answer::After(Duration::from_millis(dice.random_range(0..300))),
            })
            .collect();
        s.endpoint.answers(answers);
        let room = unique("room");
        let caller = s.web_in(&room, "alice").await?;
        s.worker.logs_nth("joined", n + 1, POSTED).await?;
        caller.leaves(DisconnectReason::ClientInitiated).await?;
        rooms.push(room);
    }
    for room in rooms {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        loop {
            let taken = s.endpoint.about(&room).iter().filter(|p| p.status == 200).count();
            if taken == 1 {
                break;
            }
            assert!(taken < 2, "{room} was taken twice");
            assert!(tokio::time::Instant::now() < deadline, "{room} never arrived");
            sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}
