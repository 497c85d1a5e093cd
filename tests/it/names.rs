//! The agent name must be ours alone: another program that registers under it takes our jobs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use futures_util::{SinkExt, StreamExt};
use livekit::{DisconnectReason, Room, RoomOptions};
use livekit_api::access_token::{AccessToken, VideoGrants};
use livekit_devserver::Config;
use livekit_protocol::{
    AvailabilityResponse, RegisterWorkerRequest, ServerMessage, WorkerMessage,
    server_message::Message as ToWorker, worker_message::Message as FromWorker,
};
use prost::Message as _;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use super::{wait::eventually, *};

const WARNING: &str = "another program is registered under this agent name";
const NO_AGENT: &str =
    "dispatched calls have no voice agent; it may be down, or registered under this agent name";

/// A foreign worker that registers under our agent name. It accepts every job that it is offered.
pub(super) struct Rival {
    /// The number of jobs that were assigned to it.
    taken: Arc<AtomicUsize>,
    task: JoinHandle<Result<()>>,
}

impl Rival {
    /// Registers the rival. If `joins`, it joins the rooms of its jobs, as a voice agent does.
    pub(super) async fn register(venue: &Venue, name: &str, joins: bool) -> Result<Self> {
        let token = AccessToken::with_api_key(&venue.api_key, &venue.api_secret)
            .with_grants(VideoGrants { agent: true, ..Default::default() })
            .to_jwt()?;
        let mut request = format!("{}/agent", venue.url).into_client_request()?;
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse()?);
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await?;
        let frame = |message: FromWorker| {
            Message::Binary(WorkerMessage { message: Some(message) }.encode_to_vec().into())
        };
        let us = RegisterWorkerRequest {
            agent_name: name.to_owned(),
            version: "1.0".into(),
            ..Default::default()
        };
        socket.send(frame(FromWorker::Register(us))).await?;
        let (registered, is_registered) = tokio::sync::oneshot::channel();
        let (taken, url) = (Arc::<AtomicUsize>::default(), venue.url.clone());
        let count = taken.clone();
        let task = tokio::spawn(async move {
            let mut registered = Some(registered);
            // The rival leaves the rooms when the task ends.
            let mut rooms = vec![];
            while let Some(message) = socket.next().await {
                let Message::Binary(bytes) = message? else { continue };
                match ServerMessage::decode(bytes)?.message {
                    Some(ToWorker::Register(_)) => {
                        let registered = registered.take().context("registered twice")?;
                        let _ = registered.send(());
                    }
                    Some(ToWorker::Availability(offer)) => {
                        let job_id = offer.job.context("an offer without a job")?.id;
                        let answer = AvailabilityResponse {
                            participant_identity: format!("agent-{job_id}"),
                            job_id,
                            available: true,
                            ..Default::default()
                        };
                        socket.send(frame(FromWorker::Availability(answer))).await?;
                    }
                    Some(ToWorker::Assignment(job)) => {
                        count.fetch_add(1, Ordering::Relaxed);
                        if joins {
                            let options = RoomOptions::default();
                            rooms.push(Room::connect(&url, &job.token, options).await?);
                        }
                    }
                    _ => {}
                }
            }
            Ok(())
        });
        let registered = tokio::time::timeout(POSTED, is_registered).await;
        registered.context("the rival is not registered")??;
        Ok(Self { taken, task })
    }

    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Dispatches our name in the scene's room until the rival is given the job: the server picks a worker at random.
    async fn gets_a_job_of(&self, s: &Scene) -> Result<()> {
        let mut dispatches = 0;
        while self.taken() == 0 && dispatches < 50 {
            s.venue.dispatch(&s.name, &s.room, "").await?;
            dispatches += 1;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(self.taken() > 0, "the rival got no job");
        Ok(())
    }
}

impl Drop for Rival {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Starts calls until the rival has taken two of their jobs.
async fn rival_is_warned_of_and_costs_no_call(joins: bool) -> Result<()> {
    let mut s = Scene::breakable().await?;
    let rival = Rival::register(&s.venue, &s.name, joins).await?;
    let mut calls = vec![];
    // The server picks a worker at random; it will not pick the same one fifty times.
    while calls.len() < 4 || (rival.taken() < 2 && calls.len() < 50) {
        let room = unique(&s.name);
        let caller = s.web_in(&room, "alice").await?;
        eventually("the call is observed", POSTED, async || {
            Ok((s.worker.count("call started", &room) == 1).then_some(()))
        })
        .await?;
        calls.push((room, caller));
    }
    assert!(rival.taken() >= 2, "{} jobs of {} calls were the rival's", rival.taken(), calls.len());
    let line = s.worker.logs_nth(WARNING, 1, POSTED).await?;
    assert_eq!((&line["level"], &line["agent_name"]), (&"WARN".into(), &s.name.as_str().into()));
    for (room, caller) in calls {
        caller.leaves(DisconnectReason::ClientInitiated).await?;
        s.room = room;
        s.record().await?;
    }
    let warnings = s.worker.log().iter().filter(|l| l["message"] == WARNING).count();
    assert_eq!(warnings, 1, "once is enough");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voice_agent_of_the_same_name_is_warned_of_and_costs_no_call() -> Result<()> {
    rival_is_warned_of_and_costs_no_call(true).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_of_the_same_name_that_joins_nothing_is_warned_of_and_costs_no_call() -> Result<()>
{
    rival_is_warned_of_and_costs_no_call(false).await
}

/// The room has our observer already when the job is given out.
async fn an_agent_that_joins_after_us_is_warned_of(job_listed_after: Duration) -> Result<()> {
    let config = Config { job_listed_after, ..lab::server::quick() };
    let mut s = Scene::at(Venue::dev(config).await?, &[]).await?;
    let rival = Rival::register(&s.venue, &s.name, true).await?;
    let ticket = Ticket { room: s.room.clone(), identity: "alice".into(), ..Default::default() };
    let caller = Person::join(&s.venue, &ticket).await?;
    s.worker.logs("call started").await?;
    rival.gets_a_job_of(&s).await?;
    s.worker.logs(WARNING).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voice_agent_of_our_name_that_joins_after_us_is_warned_of() -> Result<()> {
    an_agent_that_joins_after_us_is_warned_of(Duration::ZERO).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_voice_agent_of_our_name_is_warned_of_though_its_job_is_listed_late() -> Result<()> {
    an_agent_that_joins_after_us_is_warned_of(Duration::from_secs(3)).await
}

/// Where no dispatches are looked at, only the calls themselves show it: the jobs of a voice agent of our name
/// came to us, so their rooms have no agent.
#[tokio::test(flavor = "multi_thread")]
async fn dispatched_calls_that_never_have_an_agent_are_warned_of() -> Result<()> {
    let by = [("CALL_HISTORY_DISCOVERY", "dispatch")];
    let mut s = Scene::at(Venue::dev(lab::server::quick()).await?, &by).await?;
    let mut calls = vec![];
    for n in 1..=3 {
        let room = unique("room");
        calls.push(s.web_in(&room, "alice").await?);
        s.worker.logs_nth("call started", n, POSTED).await?;
    }
    // In a shorter call the agent may not have come yet.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(!s.worker.log().iter().any(|l| l["message"] == NO_AGENT), "no call has ended");
    for caller in calls {
        caller.leaves(DisconnectReason::ClientInitiated).await?;
    }
    s.worker.logs(NO_AGENT).await?;
    wait::page_says(&mut s.worker, "have no voice agent", POSTED).await?;
    s.room = unique("room");
    let caller = s.web("alice").await?;
    let mut agent = s.agent().await?;
    agent.says("hello", WORD).await?;
    wait::journaled(&s, "hello").await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.record().await?;
    wait::is_page(&mut s.worker, "OK").await
}

/// Both are registered, we see the rooms first, and the server gives us the voice agent's jobs: they are declined,
/// and the rooms stay without an agent.
#[tokio::test(flavor = "multi_thread")]
async fn jobs_for_rooms_that_are_observed_already_count_as_well() -> Result<()> {
    let mut s = Scene::breakable().await?;
    for n in 1..=3 {
        s.room = unique("room");
        let ticket =
            Ticket { room: s.room.clone(), identity: "alice".into(), ..Default::default() };
        let caller = Person::join(&s.venue, &ticket).await?;
        s.worker.logs_nth("call started", n, POSTED).await?;
        s.venue.dispatch(&s.name, &s.room, "").await?;
        s.worker.logs_nth("job for a room that is observed already", n, POSTED).await?;
        // In a shorter call the agent may not have come yet.
        tokio::time::sleep(Duration::from_secs(6)).await;
        assert!(!s.worker.log().iter().any(|l| l["message"] == NO_AGENT), "not yet: {n}");
        caller.leaves(DisconnectReason::ClientInitiated).await?;
        s.record().await?;
    }
    let line = s.worker.logs(NO_AGENT).await?;
    assert_eq!(line["room"], s.room.as_str());
    let page = wait::page_says(&mut s.worker, "have no voice agent", POSTED).await?;
    assert!(page.contains(&s.room), "{page}");
    Ok(())
}

/// It took the job and failed before its join: no participant shows it.
#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_takes_a_job_of_an_observed_room_and_joins_nothing_is_warned_of()
-> Result<()> {
    // As on a real server, the room outlives the call.
    let config = Config { departure_timeout: Duration::from_secs(60), ..Config::default() };
    let grace = [("CALL_HISTORY_END_GRACE", "1")];
    let mut s = Scene::at(Venue::dev(config).await?, &grace).await?;
    let rival = Rival::register(&s.venue, &s.name, false).await?;
    let ticket = Ticket { room: s.room.clone(), identity: "alice".into(), ..Default::default() };
    let caller = Person::join(&s.venue, &ticket).await?;
    s.worker.logs("call started").await?;
    rival.gets_a_job_of(&s).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.record().await?;
    let line = s.worker.logs(WARNING).await?;
    assert_eq!(line["room"], s.room.as_str());
    Ok(())
}

/// Several workers with one name are a fleet, and no reason for a warning.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_worker_of_the_same_fleet_causes_no_warning() -> Result<()> {
    let mut s = Scene::breakable().await?;
    let mut second =
        Worker::registered(Setup::new(binary(), &s.venue, &s.endpoint, &s.name)).await?;
    for n in 0..6 {
        s.room = unique(&s.name);
        let room = s.room.clone();
        let caller = s.web_in(&room, &format!("caller-{n}")).await?;
        eventually("the call is observed", POSTED, async || {
            let by = [&s.worker, &second].map(|w| w.count("call started", &room));
            Ok((by.iter().sum::<usize>() > 0).then_some(()))
        })
        .await?;
        caller.leaves(DisconnectReason::ClientInitiated).await?;
        s.posts(1).await?;
    }
    // A call is handed over to the other worker. That worker lists the dispatches of the room and sees
    // that a worker of the fleet took the job.
    s.room = unique(&s.name);
    let room = s.room.clone();
    let caller = s.web_in(&room, "alice").await?;
    eventually("the call is observed", POSTED, async || {
        if s.worker.count("call started", &room) > 0 {
            std::mem::swap(&mut s.worker, &mut second);
        }
        Ok((second.count("call started", &room) > 0).then_some(()))
    })
    .await?;
    second.stops_now().await?;
    assert_eq!(s.worker.count("joined", &room), 1, "it is taken over");
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.posts(1).await?;
    tokio::time::sleep(Duration::from_secs(3)).await; // the reconciler looks again
    for worker in [&s.worker, &second] {
        assert!(!worker.log().iter().any(|l| l["message"] == WARNING));
    }
    Ok(())
}

/// The only look that is left: the worker does not look for rooms.
#[tokio::test(flavor = "multi_thread")]
async fn a_voice_agent_of_our_name_that_is_there_before_us_is_warned_of() -> Result<()> {
    let venue = Venue::dev(lab::server::quick()).await?;
    let mut s = Scene::at(venue, &[(lab::worker::DISCOVERY, "dispatch")]).await?;
    s.worker.stops().await?;
    let rival = Rival::register(&s.venue, &s.name, true).await?;
    let ticket = Ticket { room: s.room.clone(), identity: "alice".into(), ..Default::default() };
    let caller = Person::join(&s.venue, &ticket).await?;
    s.venue.dispatch(&s.name, &s.room, "").await?;
    eventually("the rival's job", POSTED, async || Ok((rival.taken() > 0).then_some(()))).await?;
    s.start_again().await?;
    // The server picks a worker at random.
    let mut dispatches = 0;
    while s.worker.count("joined", &s.room) == 0 && dispatches < 50 {
        s.venue.dispatch(&s.name, &s.room, "").await?;
        dispatches += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    s.worker.logs(WARNING).await?;
    let page = wait::page_says(&mut s.worker, "CALL_HISTORY_AGENT_NAME", POSTED).await?;
    assert!(page.contains("within the last ten minutes"), "{page}");
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    Ok(())
}
