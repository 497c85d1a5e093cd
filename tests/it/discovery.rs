//! How the worker discovers calls: by dispatch, reconciler, webhook and participant job.
//!
//! Except for dispatches, the callers' tokens do not name the worker.

use std::time::Duration;

use anyhow::Result;
use livekit::DisconnectReason;
use livekit_api::access_token::{AccessToken, VideoGrants};
use livekit_devserver::{Config, WebhookConfig};
use livekit_protocol::{RoomAgentDispatch, RoomConfiguration};
use reqwest::StatusCode;

use super::*;

const BY: &str = "CALL_HISTORY_DISCOVERY";
/// Logged when a call is beyond the worker's limits.
const FULL: &str = "no place for more calls, some are not observed; raise \
                    CALL_HISTORY_MAX_CALLS or the memory, or start another worker";

const OBSERVED: &str = "job for a room that is observed already";
const OPTED_OUT: &str = "call ended; opted out of recording, nothing is stored or sent";
/// Metadata of dispatches.
const OPT_OUT: &str = r#"{"opt_out_sensitive_data": true}"#;
const CLINIC: &str = r#"{"business_config": {"business_type": "clinic"}}"#;

impl Scene {
    /// A web caller whose token has no dispatch.
    pub(super) async fn undispatched(&self, room: &str, identity: &str) -> Result<Person> {
        let ticket = Ticket {
            room: room.into(),
            identity: identity.into(),
            kind: "standard",
            ..Default::default()
        };
        Person::join(&self.venue, &ticket).await
    }

    /// A web caller whose token dispatches the worker once for each string of `metadata`.
    async fn dispatching(&self, room: &str, metadata: &[&str]) -> Result<livekit::Room> {
        let agents = metadata.iter().map(|metadata| RoomAgentDispatch {
            agent_name: self.name.clone(),
            metadata: (*metadata).to_owned(),
            ..Default::default()
        });
        let config = RoomConfiguration { agents: agents.collect(), ..Default::default() };
        let token = AccessToken::with_api_key(&self.venue.api_key, &self.venue.api_secret)
            .with_identity("alice")
            .with_room_config(config)
            .with_grants(VideoGrants {
                room_join: true,
                room: room.to_owned(),
                ..Default::default()
            })
            .to_jwt()?;
        let options = livekit::RoomOptions::default();
        Ok(livekit::Room::connect(&self.venue.url, &token, options).await?.0)
    }

    /// Makes every new journal fail from now on: a file stands in the place of their folder.
    fn without_journals(&self) -> Result<()> {
        std::fs::remove_dir(self.worker.data.join("live"))?;
        Ok(std::fs::write(self.worker.data.join("live"), "")?)
    }

    /// That many calls have started, and none of them has a journal.
    async fn no_journal_is_begun(&mut self, calls: usize) -> Result<()> {
        // This line comes after the journal's first lines were written, or failed to be.
        self.worker.logs_nth("call started", calls, POSTED).await?;
        let log = self.worker.log();
        let errors: Vec<&Value> = log.iter().filter(|l| l["level"] == "ERROR").collect();
        assert!(errors.is_empty(), "a journal was begun: {errors:#?}");
        Ok(())
    }

    /// That many calls end, and no record of them exists.
    async fn no_call_is_reported(&mut self, calls: usize) -> Result<()> {
        self.worker.logs_nth(OPTED_OUT, calls, POSTED).await?;
        self.worker.stops().await?;
        assert_eq!(self.endpoint.posts().len(), 0);
        for folder in ["pending", "sent", "dead"] {
            assert_eq!(std::fs::read_dir(self.worker.data.join(folder))?.count(), 0);
        }
        Ok(())
    }

    /// The worker is dispatched to the room by the API.
    async fn dispatch(&self, metadata: &str) -> Result<()> {
        self.venue.dispatch(&self.name, &self.room, metadata).await
    }

    /// How the worker discovered a room, from its log.
    async fn discovered_by(&mut self, room: &str) -> Result<String> {
        let deadline = tokio::time::Instant::now() + POSTED;
        loop {
            let log = self.worker.log();
            let of = |l: &&Value| l["message"] == "joined" && l["room"] == room;
            if let Some(line) = log.iter().find(of) {
                return Ok(line["by"].as_str().unwrap_or_default().to_owned());
            }
            assert!(tokio::time::Instant::now() < deadline, "{room} is not joined: {log:#?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Empty rooms are closed after 4 s.
fn short() -> Config {
    Config { empty_timeout: Duration::from_secs(4), ..lab::server::quick() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_a_dispatch_is_found() -> Result<()> {
    let mut s = Scene::at(Venue::from_env().await?, &[(BY, "dispatch, reconcile")]).await?;
    let room = s.room.clone();
    let caller = s.undispatched(&room, "alice").await?;
    assert_eq!(s.discovered_by(&room).await?, "reconciler");
    let mut agent = s.agent().await?;
    agent.says("hello there", WORD).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert_eq!(r["metrics"]["total_agent_utterances"], 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dispatched_room_is_joined_through_the_dispatch_and_only_once() -> Result<()> {
    // At least as slow as on a real server.
    let config = Config { dispatch_delay: Duration::from_millis(300), ..lab::server::quick() };
    let mut s = Scene::at(Venue::dev(config).await?, &[]).await?;
    let room = s.room.clone();
    let caller = s.web_in(&room, "alice").await?;
    assert_eq!(s.discovered_by(&room).await?, "dispatch");
    // A second dispatch for a room that is observed needs no second observer.
    s.dispatch("").await?;
    s.worker.logs(OBSERVED).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.record().await?;
    assert_eq!(s.worker.count("joined", &room), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_is_not_joined_while_nobody_is_in_it_and_never_made_again() -> Result<()> {
    let mut s = Scene::at(Venue::dev(short()).await?, &[]).await?;
    let room = s.room.clone();
    s.venue.rooms().create_room(&room, Default::default()).await?;
    // That the room closes is the proof: the reconciler looked several times and did not join it.
    let gone = async {
        while !s.venue.rooms().list_rooms(vec![room.clone()]).await?.is_empty() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(POSTED, gone).await??;
    assert_eq!(s.worker.count("joined", &room), 0);
    // Nor is a room made again that closes while the worker looks at it. If it closes in the moment of
    // our join, an empty room of its name exists until a second after we have left it.
    for n in 0..10 {
        let room = unique(&s.name);
        let caller = s.undispatched(&room, "alice").await?;
        tokio::time::sleep(Duration::from_millis(120 * n)).await;
        s.venue.rooms().delete_room(&room).await?;
        drop(caller);
    }
    let last = s.undispatched(&room, "bob").await?;
    s.discovered_by(&room).await?;
    wait::eventually("no other room is left", POSTED, async || {
        let mut others = s.venue.rooms().list_rooms(vec![]).await?;
        others.retain(|r| r.name != room);
        for r in &others {
            assert_eq!((r.empty_timeout, r.departure_timeout), (1, 1), "made again: {r:?}");
        }
        Ok(others.is_empty().then_some(()))
    })
    .await?;
    last.leaves(DisconnectReason::ClientInitiated).await?;
    Ok(())
}

/// An agent may greet, and be answered, within the second for which a loaded machine keeps a worker from joining.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_said_in_the_second_before_the_join_is_in_the_record() -> Result<()> {
    let mut s = Scene::at(Venue::from_env().await?, &[]).await?;
    s.worker.signal(19).await?;
    let caller = s.web_in(&s.room.clone(), "alice").await?;
    let mut agent = s.agent().await?;
    agent.says("what can I do for you", Duration::from_millis(5)).await?;
    agent.hears(&caller.identity, "a table please", Duration::from_millis(5)).await?;
    s.worker.signal(18).await?;
    s.worker.logs("call started").await?;
    agent.says("it is yours", Duration::from_millis(5)).await?;
    wait::journaled(&s, "\"kind\":\"history\"").await?;
    wait::journaled(&s, "\"kind\":\"item\"").await?;
    // Both leave at once, so that nobody is there to be asked at the end.
    let (left, quit) = tokio::join!(
        agent.person.leaves(DisconnectReason::ClientInitiated),
        caller.leaves(DisconnectReason::ClientInitiated)
    );
    left.and(quit)?;
    let r = s.record().await?;
    assert_eq!(r["metrics"]["total_agent_utterances"], 2, "{r:#}");
    assert_eq!(r["metrics"]["total_user_utterances"], 1, "{r:#}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_began_before_the_worker_started_are_reported_whole() -> Result<()> {
    let _alone = alone().await;
    let mut s = Scene::at(
        Venue::from_env().await?,
        &[(BY, "dispatch, reconcile"), ("CALL_HISTORY_DETAILS", "true")],
    )
    .await?;
    s.worker.stops().await?;
    let mut calls = vec![];
    for n in 0..20 {
        let room = unique(&s.name);
        let caller = s.undispatched(&room, &format!("caller-{n}")).await?;
        let mut agent = VoiceAgent::join(&s.venue, &room, true).await?;
        agent.says("what can I do for you", Duration::from_millis(5)).await?;
        agent.hears(&caller.identity, "a table please", Duration::from_millis(5)).await?;
        calls.push((room, caller, agent));
    }
    s.start_again().await?;
    for (room, ..) in &calls {
        assert_eq!(s.discovered_by(room).await?, "reconciler");
    }
    let mut rooms = vec![];
    for (room, caller, mut agent) in calls {
        agent.says("it is yours", Duration::from_millis(5)).await?;
        caller.leaves(DisconnectReason::ClientInitiated).await?;
        rooms.push(room);
    }
    for room in rooms {
        s.room = room;
        let r = s.record().await?;
        assert_eq!(verdict(&r), ("completed", None));
        assert_eq!(r["metrics"]["total_agent_utterances"], 2, "{r:#}");
        assert_eq!(r["metrics"]["total_user_utterances"], 1, "{r:#}");
        assert_eq!(r["metrics"]["longest_agent_utterance"], 6);
        let seen = &r["details"]["observation"];
        assert_eq!(seen["discovered_by"], "reconciler");
        assert_eq!(seen["turns_from_history"], 2, "{seen:#}");
        assert!(seen["late_seconds"].as_f64().unwrap() > 0.0);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_of_a_dispatch_that_no_worker_took_is_used() -> Result<()> {
    let mut s = Scene::at(Venue::from_env().await?, &[(BY, "dispatch, reconcile")]).await?;
    s.worker.stops().await?;
    let room = s.room.clone();
    let caller = s.dispatching(&room, &[CLINIC]).await?;
    s.start_again().await?;
    assert_eq!(s.discovered_by(&room).await?, "reconciler");
    caller.close().await?;
    assert_eq!(s.record().await?["agent_config"]["business_type"], "clinic");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_name_that_is_used_again_at_once_is_another_call() -> Result<()> {
    let mut s = Scene::at(Venue::from_env().await?, &[(BY, "dispatch, reconcile")]).await?;
    let room = s.room.clone();
    let mut ids = std::collections::BTreeSet::new();
    for n in 1..=3 {
        let caller = s.undispatched(&room, "alice").await?;
        s.worker.logs_nth("call started", n, POSTED).await?;
        s.venue.rooms().delete_room(&room).await?;
        drop(caller);
        let posts = s.posts(n).await?;
        ids.insert(posts[n - 1].header("idempotency-key").to_owned());
    }
    assert_eq!(ids.len(), 3, "{ids:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_beyond_the_maximum_is_logged_and_observed_once_a_place_is_free() -> Result<()> {
    let mut s = Scene::at(
        Venue::from_env().await?,
        &[(BY, "dispatch, reconcile"), ("CALL_HISTORY_MAX_CALLS", "1")],
    )
    .await?;
    let first = s.web("alice").await?;
    let second = unique(&s.name);
    let waiting = s.undispatched(&second, "bob").await?;
    s.worker.logs(FULL).await?;
    let page = format!("http://{}/", s.worker.health().await?);
    let text = reqwest::get(&page).await?.text().await?;
    assert!(text.contains("no place for more calls"), "{text}");
    first.leaves(DisconnectReason::ClientInitiated).await?;
    assert_eq!(s.discovered_by(&second).await?, "reconciler");
    s.record().await?;
    s.room = second;
    waiting.leaves(DisconnectReason::ClientInitiated).await?;
    s.record().await?;
    wait::is_page(&mut s.worker, "OK").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_short_of_memory_takes_no_more_calls() -> Result<()> {
    let venue = Venue::dev(lab::server::quick()).await?;
    let mut s = Scene::at(venue, &[("CALL_HISTORY_MAX_MEMORY_MB", "1")]).await?;
    let _caller = s.web_in(&s.room, "alice").await?;
    // The server knows that the worker is full and offers no job; the reconciler logs it.
    s.worker.logs(FULL).await?;
    let workers = s.venue.breakable()?.workers();
    assert!((0.68..0.7).contains(&workers[0].load), "{workers:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_reported_unfinished_is_not_reported_again_but_the_next_call_is() -> Result<()> {
    let config = Config { departure_timeout: Duration::from_secs(10), ..Config::default() };
    let mut s = Scene::at(Venue::dev(config).await?, &[]).await?;
    let room = s.room.clone();
    let first = s.web("alice").await?;
    s.worker.stops_now().await?;
    s.posts(1).await?;
    // The room still exists, and the caller is still in it.
    s.start_again().await?;
    let reported = "the call was reported before, as far as it was seen; it is not reported twice";
    s.worker.logs(reported).await?;
    first.leaves(DisconnectReason::ClientInitiated).await?;
    let second = s.undispatched(&room, "bob").await?;
    s.worker.logs("call started").await?;
    second.leaves(DisconnectReason::ClientInitiated).await?;
    let posts = s.posts(2).await?;
    let ids: Vec<&str> = posts.iter().map(|p| p.header("idempotency-key")).collect();
    assert!(posts.len() == 2 && ids[0] != ids[1], "{ids:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opt_out_in_a_dispatch_that_no_worker_took_is_respected() -> Result<()> {
    let mut s = Scene::at(Venue::from_env().await?, &[(BY, "dispatch, reconcile")]).await?;
    s.worker.stops().await?;
    let room = s.room.clone();
    let caller = s.undispatched(&room, "alice").await?;
    s.dispatch(OPT_OUT).await?;
    s.start_again().await?;
    assert_eq!(s.discovered_by(&room).await?, "reconciler");
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.worker.logs(OPTED_OUT).await?;
    assert!(s.endpoint.about(&room).is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opt_out_in_a_dispatch_after_our_join_is_respected() -> Result<()> {
    let mut s = Scene::at(Venue::from_env().await?, &[(BY, "dispatch, reconcile")]).await?;
    let room = s.room.clone();
    let caller = s.undispatched(&room, "alice").await?;
    s.worker.logs("call started").await?;
    s.dispatch(OPT_OUT).await?;
    s.worker.logs(OBSERVED).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.worker.logs(OPTED_OUT).await?;
    assert!(s.endpoint.about(&room).is_empty());
    Ok(())
}

/// The server offers all jobs before it assigns the first: the worker has reserved a place then, and
/// has not joined the room.
#[tokio::test(flavor = "multi_thread")]
async fn an_opt_out_in_one_of_several_dispatches_at_once_is_respected() -> Result<()> {
    let mut s = Scene::breakable().await?;
    s.without_journals()?;
    const JOBS: usize = 4;
    let mut callers = vec![];
    for opts_out in 0..JOBS {
        let mut said = [CLINIC; JOBS];
        said[opts_out] = OPT_OUT;
        let room = unique(&s.name);
        callers.push(s.dispatching(&room, &said).await?);
        s.discovered_by(&room).await?;
        assert_eq!(s.worker.count(OBSERVED, &room), JOBS - 1, "all were heard before the join");
    }
    s.no_journal_is_begun(JOBS).await?;
    for caller in callers {
        caller.close().await?;
    }
    s.no_call_is_reported(JOBS).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opt_out_in_a_dispatch_during_our_join_is_respected() -> Result<()> {
    let venue = Venue::dev(lab::server::quick()).await?;
    let mut s = Scene::at(venue, &[(BY, "dispatch")]).await?;
    s.without_journals()?;
    let room = s.room.clone();
    let caller = s.undispatched(&room, "alice").await?;
    // A join without the room's sid is repeated: ours lasts until both dispatches have come.
    s.venue.breakable()?.hide_sids(u32::MAX)?;
    s.dispatch("").await?;
    wait::eventually("our job is assigned", POSTED, async || {
        let all = s.venue.dispatches().list_dispatch(&room).await?;
        let jobs = all.iter().filter_map(|d| d.state.as_ref()).map(|s| s.jobs.len());
        Ok((jobs.sum::<usize>() == 1).then_some(()))
    })
    .await?;
    s.dispatch(OPT_OUT).await?;
    s.dispatch(CLINIC).await?;
    s.worker.logs_nth(OBSERVED, 2, POSTED).await?;
    assert_eq!(s.worker.count("joined", &room), 0, "it is still joining");
    s.venue.breakable()?.hide_sids(0)?;
    s.no_journal_is_begun(1).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.no_call_is_reported(1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn only_rooms_with_wanted_names_are_looked_for() -> Result<()> {
    let venue = Venue::dev(lab::server::quick()).await?;
    let all = "dispatch, reconcile, participant";
    let mut s = Scene::at(venue, &[(BY, all), ("CALL_HISTORY_ROOMS", "call-*, table-?")]).await?;
    let meeting = s.undispatched("meeting-1", "alice").await?;
    let called = s.undispatched("call-1", "bob").await?;
    s.discovered_by("call-1").await?;
    let table = s.undispatched("table-7", "carol").await?;
    s.discovered_by("table-7").await?;
    // A dispatch by name counts for any room.
    let named = s.web_in("meeting-2", "dave").await?;
    assert_eq!(s.discovered_by("meeting-2").await?, "dispatch");
    assert_eq!(s.worker.count("joined", "meeting-1"), 0);
    drop((meeting, called, table, named));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_that_are_switched_off_do_nothing() -> Result<()> {
    let venue = Venue::dev(lab::server::quick()).await?;
    let mut s = Scene::at(venue, &[(BY, "dispatch")]).await?;
    let room = s.room.clone();
    let _unseen = s.undispatched(&room, "alice").await?;
    let page = format!("http://{}", s.worker.health().await?);
    let client = reqwest::Client::new();
    let answer = client.post(format!("{page}/webhook")).body("{}").send().await?;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
    // Longer than the reconciler would take.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(s.worker.count("joined", &room), 0);
    // Without `dispatch` the worker does not register.
    let mut other =
        Worker::start(Setup::new(binary(), &s.venue, &s.endpoint, "other").with(BY, "reconcile"))?;
    let deadline = tokio::time::Instant::now() + POSTED;
    while other.count("joined", &room) == 0 {
        assert!(tokio::time::Instant::now() < deadline, "{:#?}", other.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(s.venue.breakable()?.workers().len(), 1);
    other.stops().await.or(Ok(()))
}

#[tokio::test(flavor = "multi_thread")]
async fn participant_jobs_bring_one_observer_to_a_room() -> Result<()> {
    let venue = Venue::dev(lab::server::quick()).await?;
    let mut s = Scene::at(venue, &[(BY, "participant")]).await?;
    let room = s.room.clone();
    let caller = s.undispatched(&room, "alice").await?;
    assert_eq!(s.discovered_by(&room).await?, "participant_job");
    // Every join is offered as a job; one observer is enough.
    let second = s.undispatched(&room, "bob").await?;
    s.worker.logs(OBSERVED).await?;
    second.leaves(DisconnectReason::ClientInitiated).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.record().await?;
    assert_eq!(s.worker.count("joined", &room), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_whose_token_has_expired_is_joined_with_our_own_token() -> Result<()> {
    let config = Config { job_token_age: Duration::from_secs(2 * 3600), ..lab::server::quick() };
    let mut s = Scene::at(Venue::dev(config).await?, &[]).await?;
    let caller = s.web("alice").await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.record().await?;
    assert_eq!(s.worker.count("joined", &s.room), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_that_is_deleted_while_we_are_dispatched_to_it_stays_deleted() -> Result<()> {
    let config = Config { dispatch_delay: Duration::from_millis(100), ..lab::server::quick() };
    let mut s = Scene::at(Venue::dev(config).await?, &[]).await?;
    // The deletion comes before the offer, in the middle of the join, or after it.
    for n in 0..20 {
        let room = unique(&s.name);
        let caller = s.web_in(&room, "alice").await?;
        tokio::time::sleep(Duration::from_millis(60 + 5 * n)).await;
        s.venue.rooms().delete_room(&room).await?;
        drop(caller);
    }
    // The next call is observed as usual, and no other room exists.
    let room = s.room.clone();
    let caller = s.web_in(&room, "bob").await?;
    s.discovered_by(&room).await?;
    let gone = async {
        while s.venue.rooms().list_rooms(vec![]).await?.len() > 1 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(POSTED, gone).await??;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.record().await?;
    Ok(())
}

// ---- webhooks --------------------------------------------------------------------------------

pub(super) async fn with_webhooks(discovery: &str) -> Result<Scene> {
    with_webhooks_and(discovery, &[]).await
}

pub(super) async fn with_webhooks_and(discovery: &str, more: &[(&str, &str)]) -> Result<Scene> {
    let addr = free_addr().await?;
    let webhook =
        WebhookConfig { urls: vec![format!("http://{addr}/webhook")], api_key: "devkey".into() };
    let config = Config { webhook: Some(webhook), ..lab::server::quick() };
    let mut env = vec![
        (BY, discovery),
        ("CALL_HISTORY_HTTP_ADDR", addr.as_str()),
        ("CALL_HISTORY_DETAILS", "true"),
    ];
    env.extend_from_slice(more);
    Scene::at(Venue::dev(config).await?, &env).await
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_alone_bring_the_worker_to_every_call() -> Result<()> {
    let mut s = with_webhooks("dispatch, webhook").await?;
    let room = s.room.clone();
    let caller = s.undispatched(&room, "alice").await?;
    assert_eq!(s.discovered_by(&room).await?, "webhook");
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.record().await?;
    assert_eq!(s.worker.count("joined", &room), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_livekit_did_not_sign_is_refused_and_has_no_effect() -> Result<()> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use sha2::{Digest, Sha256};

    let mut s =
        Scene::at(Venue::dev(lab::server::quick()).await?, &[(BY, "dispatch, webhook")]).await?;
    let room = s.room.clone();
    let _caller = s.undispatched(&room, "alice").await?;
    let sid = s.venue.rooms().list_rooms(vec![room.clone()]).await?[0].sid.clone();
    let url = format!("http://{}/webhook", s.worker.health().await?);
    let body = serde_json::json!({
        "event": "participant_joined", "room": { "name": room, "sid": sid }, "new_field": 1,
    })
    .to_string();
    let sign = |secret: &str, body: &str| {
        let sha256 = STANDARD.encode(Sha256::digest(body.as_bytes()));
        AccessToken::with_api_key("devkey", secret).with_sha256(&sha256).to_jwt()
    };
    let client = reqwest::Client::builder().pool_max_idle_per_host(0).build()?;
    let post = async |token: &str, body: String| {
        let request = client.post(&url).header("authorization", token).body(body);
        anyhow::Ok(request.send().await?.status())
    };
    let foreign = sign("another-secret-another-secret-xx", &body)?;
    let right = sign(&s.venue.api_secret, &body)?;
    assert_eq!(post("", body.clone()).await?, StatusCode::UNAUTHORIZED);
    assert_eq!(post("garbage", body.clone()).await?, StatusCode::UNAUTHORIZED);
    assert_eq!(post(&foreign, body.clone()).await?, StatusCode::UNAUTHORIZED);
    let changed = body.replace("joined", "left");
    assert_eq!(post(&right, changed).await?, StatusCode::UNAUTHORIZED, "for another body");
    let nonsense = "not json";
    let signed = sign(&s.venue.api_secret, nonsense)?;
    assert_eq!(post(&signed, nonsense.into()).await?, StatusCode::BAD_REQUEST);
    let large = "x".repeat(3 * 1024 * 1024);
    // Refused at once, or the connection is closed under it.
    let answer = post(&right, large).await;
    assert!(answer.is_err() || answer.is_ok_and(|s| s == StatusCode::PAYLOAD_TOO_LARGE));
    assert_eq!(s.worker.count("joined", &room), 0);
    assert_eq!(post(&right, body.clone()).await?, StatusCode::OK);
    assert_eq!(s.discovered_by(&room).await?, "webhook");
    // A webhook is only a hint: it does not make the worker create a room that does not exist.
    let ghost = body.replace(&room, "ghost").replace(&sid, "RM_ghost");
    assert_eq!(post(&sign(&s.venue.api_secret, &ghost)?, ghost).await?, StatusCode::OK);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(s.venue.rooms().list_rooms(vec![]).await?.len(), 1);
    Ok(())
}
