//! Workers, pools, jobs, dispatches (docs/worker-protocol.md).

use livekit_api::{access_token::AccessToken, services::agent_dispatch::AgentDispatchClient};
use livekit_devserver::{
    Server,
    proto::{self as lk, server_message::Message as Out, worker_message::Message as In},
};

use crate::{
    raw::{Worker, registration, websocket, worker_token},
    support::{Client, caller, server, until},
};

pub(crate) fn dispatches(server: &Server) -> AgentDispatchClient {
    AgentDispatchClient::with_api_key(&server.http_url(), server.api_key(), server.api_secret())
}

pub(crate) async fn dispatch(server: &Server, agent_name: &str, room: &str) -> lk::AgentDispatch {
    let request = lk::CreateAgentDispatchRequest {
        agent_name: agent_name.into(),
        room: room.into(),
        metadata: "md".into(),
        ..Default::default()
    };
    dispatches(server).create_dispatch(request).await.unwrap()
}

/// A caller whose token asks for agents of these names.
pub(crate) fn with_agents(server: &Server, identity: &str, names: &[&str]) -> AccessToken {
    let agent =
        |name: &&str| lk::RoomAgentDispatch { agent_name: (*name).into(), ..Default::default() };
    let config =
        lk::RoomConfiguration { agents: names.iter().map(agent).collect(), ..Default::default() };
    caller(server, identity).with_room_config(config)
}

pub(crate) fn status(load: f32, status: Option<lk::WorkerStatus>) -> In {
    In::UpdateWorker(lk::UpdateWorkerStatus {
        status: status.map(|s| s as i32),
        load,
        ..Default::default()
    })
}

/// Waits until the server has read all earlier messages of the worker.
pub(crate) async fn settled(worker: &mut Worker) {
    worker.send(In::Ping(lk::WorkerPing { timestamp: 5 })).await;
    worker
        .wait("a pong", |m| matches!(m, Out::Pong(p) if p.last_timestamp == 5).then_some(()))
        .await;
}

/// Checks that this worker gets no offer. A later dispatch to a worker named `proof` shows that offers had
/// the time to arrive.
pub(crate) async fn nothing_offered(server: &Server, worker: &mut Worker) {
    let mut proof = Worker::register(server, registration("proof")).await;
    dispatch(server, "proof", "r").await;
    proof.offer().await;
    worker.send(In::Ping(lk::WorkerPing { timestamp: 77 })).await;
    loop {
        match worker.next().await.expect("the connection has ended") {
            Out::Pong(pong) if pong.last_timestamp == 77 => return,
            Out::Availability(offer) => panic!("offered: {offer:?}"),
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_worker_needs_a_token_with_the_agent_grant() {
    let server = server().await;
    let url = format!("{}/agent", server.url());
    assert_eq!(websocket(&url, "").await.unwrap_err().0, 401);
    let jwt = caller(&server, "x").to_jwt().unwrap();
    assert_eq!(websocket(&url, &jwt).await.unwrap_err().0, 401);
    assert!(websocket(&url, &worker_token(&server)).await.is_ok());
    let (status, ..) =
        crate::raw::post(&server, "/agent", &worker_token(&server), "text/plain", b"").await;
    assert_ne!(status, 200, "not a websocket");
}

#[tokio::test]
async fn any_mistake_of_a_worker_closes_its_socket() {
    let server = server().await;
    let bad_type = lk::RegisterWorkerRequest { r#type: 9, ..registration("x") };
    let bad_deployment =
        lk::RegisterWorkerRequest { deployment: "a_b".into(), ..registration("x") };
    let early = vec![
        In::Availability(lk::AvailabilityResponse::default()),
        status(0.0, None),
        In::Register(bad_type),
        In::Register(bad_deployment),
    ];
    for message in early {
        let mut worker = Worker::connect(&server).await;
        worker.send(message).await;
        worker.closed().await;
    }
    for bytes in [vec![0xff; 10], vec![]] {
        let mut worker = Worker::register(&server, registration("x")).await;
        worker.send_raw(bytes).await;
        worker.closed().await;
    }
    let mut worker = Worker::register(&server, registration("x")).await;
    worker.send(In::Register(registration("x"))).await;
    worker.closed().await;
    until("all workers are removed", async || server.workers().is_empty().then_some(())).await;
}

#[tokio::test]
async fn a_worker_may_ping_before_it_registers_and_may_speak_json() {
    let server = server().await;
    let mut worker = Worker::connect(&server).await;
    worker.send(In::Ping(lk::WorkerPing { timestamp: 3 })).await;
    worker
        .wait("a pong", |m| matches!(m, Out::Pong(p) if p.last_timestamp == 3).then_some(()))
        .await;
    worker.speak_json();
    worker.send(In::Register(registration("json"))).await;
    let registered = worker.wait("the registration", |m| match m {
        Out::Register(r) => Some(r),
        _ => None,
    });
    let registered = registered.await;
    assert!(registered.worker_id.starts_with("AW_"));
    assert_eq!(registered.server_info.unwrap().version, livekit_devserver::VERSION);
    assert_eq!(server.workers()[0].agent_name, "json");
}

#[tokio::test]
async fn a_named_agent_is_called_by_the_rooms_configuration_and_joins_hidden() {
    let server = server().await;
    let permissions = lk::ParticipantPermission {
        can_subscribe: true,
        hidden: true,
        can_publish_data: true,
        ..Default::default()
    };
    let request =
        lk::RegisterWorkerRequest { allowed_permissions: Some(permissions), ..registration("bot") };
    let mut worker = Worker::register(&server, request).await;
    let alice = Client::join(&server, with_agents(&server, "alice", &["", "bot"])).await;
    let job = worker.offer().await;
    assert_eq!((job.r#type(), job.agent_name.as_str()), (lk::JobType::JtRoom, "bot"));
    assert_eq!(job.participant, None);
    assert_eq!(job.room.as_ref().unwrap().sid, alice.room.sid().await.to_string());
    let state = job.state.as_ref().unwrap();
    assert_eq!(
        (state.status(), state.worker_id.starts_with("AW_")),
        (lk::JobStatus::JsRunning, true)
    );
    worker.accept(&job, "observer").await;
    let assignment = worker.assignment().await;
    assert_eq!((assignment.job.unwrap().id, assignment.url), (job.id, None));
    let observer =
        livekit::Room::connect(&server.url(), &assignment.token, livekit::RoomOptions::default())
            .await;
    let (observer, _events) = observer.unwrap();
    let local = observer.local_participant();
    assert_eq!(local.kind(), livekit::participant::ParticipantKind::Agent);
    assert_eq!(local.attributes()["lk.agent_name"], "bot");
    assert_eq!(local.attributes()["mine"], "yes");
    let permission = local.permission().unwrap();
    assert!(permission.hidden && !permission.can_publish && permission.can_publish_data);
    let listed = dispatches(&server).list_dispatch("r").await.unwrap();
    let mut names: Vec<(String, usize)> =
        listed.into_iter().map(|d| (d.agent_name, d.state.unwrap().jobs.len())).collect();
    names.sort();
    assert_eq!(names, [(String::new(), 0), ("bot".into(), 1)]);
}

#[tokio::test]
async fn naming_an_agent_leaves_the_unnamed_one_out() {
    let server = server().await;
    let mut unnamed = Worker::register(&server, registration("")).await;
    let mut bot = Worker::register(&server, registration("bot")).await;
    let _alice = Client::join(&server, with_agents(&server, "alice", &["bot"])).await;
    bot.offer().await;
    nothing_offered(&server, &mut unnamed).await;
    dispatch(&server, "bot", "other").await;
    let job = unnamed.offer().await;
    assert_eq!(
        job.room.unwrap().name,
        "other",
        "a room made by a dispatch has the implicit one, too"
    );
}

#[tokio::test]
async fn each_kind_and_namespace_is_a_pool_of_its_own() {
    let server = server().await;
    let register = async |kind: lk::JobType, namespace: Option<&str>| {
        let request = lk::RegisterWorkerRequest {
            r#type: kind as i32,
            namespace: namespace.map(Into::into),
            ..registration("bot")
        };
        Worker::register(&server, request).await
    };
    let mut room = register(lk::JobType::JtRoom, None).await;
    let mut green = register(lk::JobType::JtRoom, Some("green")).await;
    let mut participant = register(lk::JobType::JtParticipant, None).await;
    let mut publisher = register(lk::JobType::JtPublisher, None).await;
    let _alice = Client::join(&server, with_agents(&server, "alice", &["bot"])).await;
    #[allow(deprecated)]
    let namespace = |job: &lk::Job| job.namespace.clone();
    let (a, b) = (room.offer().await, green.offer().await);
    assert_eq!((namespace(&a).as_str(), namespace(&b).as_str()), ("", "green"));
    assert_ne!(a.id, b.id);
    let job = participant.offer().await;
    let who = job.participant.unwrap();
    assert_eq!(
        (who.identity.as_str(), who.state()),
        ("alice", lk::participant_info::State::Joined)
    );
    let _agent = Client::join(&server, crate::support::agent(&server, "agent", false)).await;
    nothing_offered(&server, &mut participant).await;
    nothing_offered(&server, &mut publisher).await;
}

#[tokio::test]
async fn a_deployment_must_be_named_by_the_dispatch() {
    let server = server().await;
    let blue = lk::RegisterWorkerRequest { deployment: "blue".into(), ..registration("bot") };
    let mut worker = Worker::register(&server, blue).await;
    dispatch(&server, "bot", "r").await;
    nothing_offered(&server, &mut worker).await;
    let request = lk::CreateAgentDispatchRequest {
        agent_name: "bot".into(),
        room: "r".into(),
        deployment: "blue".into(),
        ..Default::default()
    };
    dispatches(&server).create_dispatch(request).await.unwrap();
    assert_eq!(worker.offer().await.deployment, "blue");
}

#[tokio::test]
async fn a_loaded_or_full_worker_gets_nothing() {
    let server = server().await;
    let mut worker = Worker::register(&server, registration("bot")).await;
    worker.send(status(0.7, None)).await;
    settled(&mut worker).await;
    dispatch(&server, "bot", "r").await;
    nothing_offered(&server, &mut worker).await;
    worker.send(status(0.0, Some(lk::WorkerStatus::WsFull))).await;
    settled(&mut worker).await;
    dispatch(&server, "bot", "r").await;
    nothing_offered(&server, &mut worker).await;
    worker.send(status(0.69, Some(lk::WorkerStatus::WsAvailable))).await;
    settled(&mut worker).await;
    dispatch(&server, "bot", "r").await;
    worker.offer().await;
}

#[tokio::test]
async fn a_worker_that_registers_later_gets_no_earlier_job() {
    let server = server().await;
    dispatch(&server, "bot", "r").await;
    let mut worker = Worker::register(&server, registration("bot")).await;
    nothing_offered(&server, &mut worker).await;
}
