//! Phone legs that are dialled, refused, given up, redialled: what the SIP bridge shows of them.

use livekit::DisconnectReason;
use livekit_api::services::room::CreateRoomOptions;
use livekit_devserver::Config;
use livekit_protocol::ParticipantInfo;
use serde_json::json;

use super::*;

impl Scene {
    /// A room with a waiting agent, which nobody dispatched us to, and our observer in it.
    async fn outbound() -> Result<(Self, VoiceAgent)> {
        let env = [("CALL_HISTORY_DETAILS", "true")];
        // As LiveKit has it: the next leg may come late.
        let config = Config { departure_timeout: Duration::from_secs(20), ..lab::server::quick() };
        let mut s = Self::at(Venue::from_env_or(config).await?, &env).await?;
        let agent = s.agent().await?;
        s.worker.logs("joined").await?;
        Ok((s, agent))
    }

    async fn dialled(&self, number: &str, status: &str) -> Result<Person> {
        Person::phone(&self.venue, &self.room, number, status, false, &[]).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_that_never_rings_reached_nobody() -> Result<()> {
    let (mut s, _agent) = Scene::outbound().await?;
    let leg = s.dialled("+15550190101", "dialing").await?;
    s.worker.logs("call started").await?;
    leg.leaves(DisconnectReason::UserUnavailable).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("failed", Some("not_connected")));
    assert_eq!((&r["phone_number"], &r["call_type"]), (&json!("+15550190101"), &json!("outbound")));
    assert_eq!(r["details"]["ended_by"], "network");
    assert_eq!(r["details"]["observation"]["discovered_by"], "reconciler");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_that_is_given_up_while_it_rings_was_not_answered() -> Result<()> {
    let (mut s, _agent) = Scene::outbound().await?;
    let leg = s.dialled("+15550190102", "dialing").await?;
    leg.set("sip.callStatus", "ringing").await?;
    s.worker.logs("call started").await?;
    s.venue.rooms().delete_room(&s.room).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("failed", Some("no_answer")));
    assert_eq!(r["details"]["ended_by"], "room");
    assert!(r["details"]["phone"]["rang_at"].is_string());
    assert!(r["details"]["phone"]["answered_at"].is_null());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leg_that_is_removed_while_it_rings_was_not_answered() -> Result<()> {
    let (mut s, _agent) = Scene::outbound().await?;
    let leg = s.dialled("+15550190103", "dialing").await?;
    leg.set("sip.callStatus", "ringing").await?;
    s.worker.logs("call started").await?;
    s.venue.rooms().remove_participant(&s.room, &leg.identity).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("failed", Some("no_answer")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leg_that_sends_digits_after_the_answer_is_answered() -> Result<()> {
    let (mut s, mut agent) = Scene::outbound().await?;
    let leg = s.dialled("+15550190104", "dialing").await?;
    leg.set("sip.callStatus", "ringing").await?;
    leg.set("sip.callStatus", "automation").await?;
    s.worker.logs("call started").await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    leg.set("sip.callStatus", "active").await?;
    agent.says("hello", WORD).await?;
    leg.hangs_up().await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("completed", None));
    assert!(r["duration_seconds"].as_f64().unwrap() > 2.0, "{r}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_left_before_the_answer_served_nobody() -> Result<()> {
    let (mut s, agent) = Scene::outbound().await?;
    let leg = s.dialled("+15550190105", "dialing").await?;
    leg.set("sip.callStatus", "ringing").await?;
    s.worker.logs("call started").await?;
    agent.person.leaves(DisconnectReason::ClientInitiated).await?;
    // The leave of an agent without a track is announced in LiveKit's batch of 3 s.
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    leg.set("sip.callStatus", "active").await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    leg.hangs_up().await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("failed", Some("no_agent")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_calls_again_makes_another_call() -> Result<()> {
    let (mut s, mut agent) = Scene::outbound().await?;
    let first = s.dialled("+15550190106", "active").await?;
    s.worker.logs("call started").await?;
    agent.says("hello", WORD).await?;
    first.leaves(DisconnectReason::ClientInitiated).await?;
    // The same identity, with another id of the bridge, long before the grace is over.
    let second = s.dialled("+15550190106", "active").await?;
    agent.says("hello again", WORD).await?;
    s.worker.logs_nth("call started", 2, POSTED).await?;
    second.hangs_up().await?;
    let posts = s.posts(2).await?;
    let records: Vec<Value> = posts.iter().map(|p| p.record()).collect::<Result<_>>()?;
    assert_ne!(records[0]["call_id"], records[1]["call_id"]);
    let of = |r: &Value| r["details"]["phone"]["call_id"].clone();
    assert_ne!(of(&records[0]), of(&records[1]));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dial_after_one_that_failed_is_another_call_at_once() -> Result<()> {
    let (mut s, mut agent) = Scene::outbound().await?;
    let first = s.dialled("+15550190107", "dialing").await?;
    first.set("sip.callStatus", "ringing").await?;
    s.worker.logs("call started").await?;
    first.leaves(DisconnectReason::UserRejected).await?;
    let second = s.dialled("+15550190108", "active").await?;
    agent.says("hello", WORD).await?;
    s.worker.logs_nth("call started", 2, POSTED).await?;
    second.hangs_up().await?;
    let posts = s.posts(2).await?;
    let records: Vec<Value> = posts.iter().map(|p| p.record()).collect::<Result<_>>()?;
    let of = |number: &str| records.iter().find(|r| r["phone_number"] == number).expect("a record");
    assert_eq!(verdict(of("+15550190107")), ("failed", Some("rejected")));
    assert_eq!(verdict(of("+15550190108")), ("completed", None));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_room_in_which_only_an_agent_waits_gives_no_record_and_is_not_held_open() -> Result<()> {
    let mut s = Scene::new().await?;
    // Long enough for a list of rooms, which is not asked for more often than every 10 s.
    let options = CreateRoomOptions { empty_timeout: 30, ..Default::default() };
    s.venue.rooms().create_room(&s.room, options).await?;
    let _agent = s.agent().await?;
    s.worker.logs("joined").await?;
    // The server closes a room to which only agents came, and our observer is one of these.
    let gone = "room ended without a caller, nothing to report";
    s.worker.logs_nth(gone, 1, 2 * POSTED).await?;
    assert!(s.endpoint.posts().is_empty());
    Ok(())
}

/// A dial that ends before any observer can come. The worker is stopped meanwhile: it needs 50 ms to join, and on a
/// loaded machine the leg may stay for longer than that.
async fn refused(s: &Scene, number: &str, status: &str, reason: DisconnectReason) -> Result<()> {
    s.worker.signal(19).await?;
    let leg = Person::phone(&s.venue, &s.room, number, status, false, &[]).await?;
    let identity = leg.identity.clone();
    leg.leaves(reason).await?;
    let rooms = s.venue.rooms();
    let is_there = |all: Vec<ParticipantInfo>| all.iter().any(|p| p.identity == identity);
    while rooms.list_participants(&s.room).await.is_ok_and(is_there) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    s.worker.signal(18).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leg_that_nobody_could_see_is_reported_from_its_webhook_and_once() -> Result<()> {
    let mut s = discovery::with_webhooks("dispatch, webhook").await?;
    refused(&s, "+15550190109", "dialing", DisconnectReason::UserRejected).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("failed", Some("rejected")));
    assert_eq!((&r["phone_number"], &r["call_type"]), (&json!("+15550190109"), &json!("outbound")));
    assert_eq!(r["details"]["observation"]["discovered_by"], "webhook");
    // Without the six seconds for which the worker waits for an observer of the leg.
    assert!(r["duration_seconds"].as_f64().unwrap() < 5.0, "{r}");
    let log = format!("{:?}", s.worker.log());
    assert!(!log.contains("15550190109"), "a phone number in the log");
    // The next dial in the room, which an observer sees, is a record of its own, and the only other one.
    let mut agent = s.agent().await?;
    s.worker.logs("joined").await?;
    let leg = s.dialled("+15550190110", "active").await?;
    s.worker.logs("call started").await?;
    agent.says("hello", WORD).await?;
    leg.hangs_up().await?;
    let posts = s.posts(2).await?;
    let second = posts[1].record()?;
    assert_eq!(
        (verdict(&second), &second["phone_number"]),
        (("completed", None), &json!("+15550190110"))
    );
    assert_ne!(second["call_id"], r["call_id"]);
    s.worker.stops().await?;
    assert_eq!(s.endpoint.posts().len(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leg_that_an_observer_saw_is_not_reported_again_from_its_webhook() -> Result<()> {
    let mut s = discovery::with_webhooks("dispatch, reconcile, webhook").await?;
    let _agent = s.agent().await?;
    s.worker.logs("joined").await?;
    let leg = s.dialled("+15550190111", "dialing").await?;
    s.worker.logs("call started").await?;
    leg.leaves(DisconnectReason::UserUnavailable).await?;
    let r = s.record().await?;
    assert_eq!(verdict(&r), ("failed", Some("not_connected")));
    // Longer than a webhook's leg waits for an observer.
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(s.endpoint.posts().len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_leg_is_not_reported_against_a_dispatchs_opt_out_nor_if_it_was_dialled_for_a_caller()
-> Result<()> {
    let mut s = discovery::with_webhooks("participant, webhook").await?;
    // Nobody takes this job: without "dispatch" we are not registered by our name.
    let metadata = r#"{"opt_out_sensitive_data":true}"#;
    s.venue.dispatch(&s.name, &s.room, metadata).await?;
    refused(&s, "+15550190112", "dialing", DisconnectReason::UserRejected).await?;
    // Another room without an opt-out, as a mark: when its leg is reported, the first one would be too.
    let (opted_out, marked) = (s.room.clone(), unique("mark"));
    s.room = marked;
    refused(&s, "+15550190113", "dialing", DisconnectReason::UserRejected).await?;
    s.posts(1).await?;
    assert!(s.endpoint.about(&opted_out).is_empty());

    // A transfer that failed at once belongs to the caller's call.
    s.room = unique("transfer");
    let room = s.room.clone();
    let caller = s.web_in(&room, "alice").await?;
    refused(&s, "+15550190114", "dialing", DisconnectReason::UserRejected).await?;
    // Longer than a webhook's leg waits for an observer.
    tokio::time::sleep(Duration::from_secs(8)).await;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let posts = s.posts(1).await?;
    assert_eq!((posts.len(), &posts[0].record()?["phone_number"]), (1, &json!("alice")));
    Ok(())
}
