//! A job from its offer to its end (docs/worker-protocol.md §4).

use std::time::{Duration, Instant};

use livekit_api::access_token::VideoGrants;
use livekit_devserver::proto::{
    self as lk, server_message::Message as Out, worker_message::Message as In,
};

use crate::{
    agents::{dispatch, dispatches, nothing_offered, settled, status, with_agents},
    raw::{Signal, Worker, registration, twirp, websocket},
    support::{Client, PATIENCE, caller, server, server_with, token, until},
};

#[tokio::test]
async fn a_refused_job_goes_to_the_next_worker_and_is_lost_when_all_refuse() {
    let server = server().await;
    let mut a = Worker::register(&server, registration("bot")).await;
    let mut b = Worker::register(&server, registration("bot")).await;
    dispatch(&server, "bot", "r").await;
    let refuse =
        |job: &lk::Job| lk::AvailabilityResponse { job_id: job.id.clone(), ..Default::default() };
    let (first_is_a, job) = tokio::select! {
        job = a.offer() => (true, job),
        job = b.offer() => (false, job),
    };
    let (first, second) = if first_is_a { (&mut a, &mut b) } else { (&mut b, &mut a) };
    first.answer(refuse(&job)).await;
    let again = tokio::time::timeout(PATIENCE, second.offer()).await.unwrap();
    assert_eq!(again.id, job.id);
    second.answer(refuse(&again)).await;
    settled(second).await;
    nothing_offered(&server, first).await;
}

#[tokio::test]
async fn an_answer_that_ends_a_job_is_final() {
    let server = server().await;
    let mut a = Worker::register(&server, registration("bot")).await;
    let mut b = Worker::register(&server, registration("bot")).await;
    dispatch(&server, "bot", "r").await;
    let (first_is_a, job) = tokio::select! {
        job = a.offer() => (true, job),
        job = b.offer() => (false, job),
    };
    let (first, second) = if first_is_a { (&mut a, &mut b) } else { (&mut b, &mut a) };
    let end = lk::AvailabilityResponse {
        job_id: job.id,
        available: true,
        terminate: true,
        ..Default::default()
    };
    first.answer(end).await;
    settled(first).await;
    nothing_offered(&server, second).await;
    nothing_offered(&server, first).await;
}

#[tokio::test]
async fn an_answer_after_three_seconds_is_too_late_and_no_other_worker_gets_the_offer() {
    let server = server().await;
    let mut slow = Worker::register(&server, registration("bot")).await;
    let mut other = Worker::register(&server, registration("bot")).await;
    other.send(status(0.95, None)).await;
    settled(&mut other).await;
    dispatch(&server, "bot", "r").await;
    // The other worker is seldom drawn because of its load. After a refusal it would get the offer.
    let (job, slow, other) = tokio::select! {
        job = slow.offer() => (job, &mut slow, &mut other),
        job = other.offer() => (job, &mut other, &mut slow),
    };
    tokio::time::sleep(Duration::from_millis(3100)).await;
    slow.accept(&job, "late").await;
    slow.send(In::Ping(lk::WorkerPing { timestamp: 9 })).await;
    loop {
        match slow.next().await.unwrap() {
            Out::Pong(_) => break,
            Out::Assignment(_) => panic!("assigned"),
            _ => {}
        }
    }
    nothing_offered(&server, other).await;
}

#[tokio::test]
async fn a_deleted_room_terminates_its_jobs() {
    let server = server().await;
    let mut worker = Worker::register(&server, registration("bot")).await;
    let mut alice = Client::join(&server, with_agents(&server, "alice", &["bot"])).await;
    let job = worker.take("bot").await.job.unwrap();
    let grants = VideoGrants { room_create: true, ..Default::default() };
    let jwt = token(&server, "", grants).to_jwt().unwrap();
    twirp(&server, "RoomService/DeleteRoom", &jwt, serde_json::json!({ "room": "r" })).await;
    assert_eq!(worker.termination().await, job.id);
    assert_eq!(alice.sees_own_end().await, "RoomDeleted");
}

#[tokio::test]
async fn a_job_whose_participant_is_merely_replaced_is_terminated() {
    let server = server().await;
    let mut worker = Worker::register(&server, registration("bot")).await;
    let _alice = Client::join(&server, with_agents(&server, "alice", &["bot"])).await;
    let assignment = worker.take("bot").await;
    let open = async || {
        let url = format!("{}/rtc?protocol=16", server.url());
        websocket(&url, &assignment.token).await.unwrap()
    };
    let _first = open().await;
    until("the agent is in", async || (server.participants("r").await.len() == 2).then_some(()))
        .await;
    let _second = open().await;
    assert_eq!(worker.termination().await, assignment.job.unwrap().id);
    assert_eq!(server.participants("r").await.len(), 2, "the new session is fine");
}

#[tokio::test]
async fn a_finished_job_is_not_terminated() {
    let server = server().await;
    let mut worker = Worker::register(&server, registration("bot")).await;
    let alice = Client::join(&server, with_agents(&server, "alice", &["bot"])).await;
    let first = worker.take("bot").await.job.unwrap();
    dispatch(&server, "bot", "r").await;
    let second = worker.take("bot-2").await.job.unwrap();
    assert_eq!(server.workers()[0].jobs, 2);
    let done = lk::UpdateJobStatus {
        job_id: first.id,
        status: lk::JobStatus::JsSuccess as i32,
        ..Default::default()
    };
    worker.send(In::UpdateJob(done)).await;
    settled(&mut worker).await;
    assert_eq!(server.workers()[0].jobs, 1);
    let jwt = token(&server, "", VideoGrants { room_create: true, ..Default::default() })
        .to_jwt()
        .unwrap();
    twirp(&server, "RoomService/DeleteRoom", &jwt, serde_json::json!({ "room": "r" })).await;
    assert_eq!(worker.termination().await, second.id, "the first job gets no termination");
    drop(alice);
}

#[tokio::test]
async fn a_deleted_dispatch_terminates_at_once_and_removes_three_seconds_later() {
    let server = server().await;
    let mut worker = Worker::register(&server, registration("bot")).await;
    let _alice = Client::join(&server, caller(&server, "alice")).await;
    let made = dispatch(&server, "bot", "r").await;
    let assignment = worker.take("bot").await;
    let joined =
        livekit::Room::connect(&server.url(), &assignment.token, livekit::RoomOptions::default())
            .await;
    let (_room, mut events) = joined.unwrap();
    let start = Instant::now();
    dispatches(&server).delete_dispatch(made.id, "r").await.unwrap();
    assert_eq!(worker.termination().await, assignment.job.unwrap().id);
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
    let end = async {
        loop {
            if let Some(livekit::RoomEvent::Disconnected { reason }) = events.recv().await {
                return format!("{reason:?}");
            }
        }
    };
    assert_eq!(tokio::time::timeout(PATIENCE, end).await.unwrap(), "ParticipantRemoved");
    assert!((2900..4500).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
    let left = dispatches(&server).list_dispatch("r").await.unwrap();
    assert!(left.iter().all(|d| d.agent_name != "bot"));
}

#[tokio::test]
async fn the_death_of_a_worker_changes_nothing_in_the_room() {
    let server = server().await;
    let mut worker = Worker::register(&server, registration("bot")).await;
    let _alice = Client::join(&server, with_agents(&server, "alice", &["bot"])).await;
    worker.take("bot").await;
    worker.close().await;
    until("the worker is removed", async || server.workers().is_empty().then_some(())).await;
    let mut next = Worker::register(&server, registration("bot")).await;
    nothing_offered(&server, &mut next).await;
    let listed = dispatches(&server).list_dispatch("r").await.unwrap();
    let bot = listed.into_iter().find(|d| d.agent_name == "bot").unwrap();
    assert_eq!(
        bot.state.unwrap().jobs[0].state.as_ref().unwrap().status(),
        lk::JobStatus::JsRunning
    );
}

#[tokio::test]
async fn offers_can_be_delayed_as_on_the_real_server() {
    let server = server_with(|c| c.dispatch_delay = Duration::from_millis(200)).await;
    let mut worker = Worker::register(&server, registration("bot")).await;
    let start = Instant::now();
    let mut alice = Signal::dual(&server, &with_agents(&server, "alice", &["bot"])).await;
    alice.joined().await;
    worker.offer().await;
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn an_assignment_can_be_lost_with_the_connection() {
    let server = server().await;
    let mut worker = Worker::register(&server, registration("bot")).await;
    server.lose_assignments(1).unwrap();
    dispatch(&server, "bot", "r").await;
    let job = worker.offer().await;
    worker.accept(&job, "agent").await;
    // The connection ends without any other message.
    assert_eq!(tokio::time::timeout(PATIENCE, worker.next()).await.unwrap(), None);
    until("the worker is removed", async || server.workers().is_empty().then_some(())).await;
    // The next job is assigned as usual.
    let mut again = Worker::register(&server, registration("bot")).await;
    dispatch(&server, "bot", "r").await;
    assert_eq!(again.take("agent").await.job.unwrap().room.unwrap().name, "r");
}
