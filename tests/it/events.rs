//! Live events: what is posted while a call is on, in which order, and that records do not depend on it.

use std::{process::Command, sync::LazyLock, time::Duration};

use anyhow::{Context, Result};
use base64::{Engine, engine::general_purpose::STANDARD};
use lab::{endpoint::Answer, worker::JWT_SECRET};
use livekit::DisconnectReason;
use livekit_api::access_token::AccessToken;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::*;

const SCHEMA: &str = include_str!("../../docs/schema/call-event.schema.json");

static VALIDATOR: LazyLock<jsonschema::Validator> = LazyLock::new(|| {
    let schema: Value = serde_json::from_str(SCHEMA).expect("the schema is JSON");
    let options = jsonschema::draft202012::options().should_validate_formats(true);
    options.build(&schema).expect("the schema is one")
});

/// A scene whose worker posts events to an endpoint of their own.
async fn scene(venue: Venue, env: &[(&str, &str)]) -> Result<(Scene, Endpoint)> {
    let events = Endpoint::start().await?;
    let url = events.url.clone();
    let mut all = vec![("CALL_HISTORY_EVENTS_ENDPOINT", url.as_str())];
    all.extend_from_slice(env);
    Ok((Scene::at(venue, &all).await?, events))
}

/// The first `n` events about a room, each checked for form and signature.
async fn events(endpoint: &mut Endpoint, room: &str, n: usize) -> Result<Vec<Value>> {
    let posts = endpoint.wait(room, n, POSTED).await?;
    let mut all = vec![];
    for post in posts {
        let event = post.record()?;
        let wrong: Vec<String> =
            VALIDATOR.iter_errors(&event).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert!(wrong.is_empty(), "{wrong:?}: {event}");
        let id = format!("{}/{}", event["call_id"].as_str().unwrap_or(""), event["sequence"]);
        assert_eq!(post.header("idempotency-key"), id);
        let token = post.header("authorization").strip_prefix("Bearer ").context("no token")?;
        let claims = record::Claims::verify(token, JWT_SECRET)?;
        assert!(claims.bind(&post.body), "the token is for another body");
        assert_eq!((claims.jti.as_str(), &claims.timestamp), (id.as_str(), &text(&event, "time")));
        all.push(event);
    }
    Ok(all)
}

fn text(event: &Value, key: &str) -> String {
    event[key].as_str().unwrap_or_default().to_owned()
}

fn kinds(events: &[Value]) -> Vec<String> {
    events.iter().map(|e| text(e, "event")).collect()
}

fn assert_in_order(events: &[Value], first: u64) {
    let numbers: Vec<u64> = events.iter().filter_map(|e| e["sequence"].as_u64()).collect();
    let due: Vec<u64> = (first..first + events.len() as u64).collect();
    assert_eq!(numbers, due, "{events:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_posted_from_its_start_to_its_end_in_order() -> Result<()> {
    let (mut s, mut posted) = scene(Venue::from_env().await?, &[]).await?;
    let caller = s.phone("+15550123490").await?;
    let agent = s.agent().await?;
    for stage in ["greeting", "ordering"] {
        agent.publishes(&json!({"type": "stage", "stage": stage})).await?;
    }
    let until_now = events(&mut posted, &s.room, 4).await?;
    assert_eq!(kinds(&until_now), ["call.started", "call.answered", "call.stage", "call.stage"]);
    caller.hangs_up().await?;
    let r = s.record().await?;
    let all = events(&mut posted, &s.room, 5).await?;
    assert_in_order(&all, 1);
    let ended = &all[4];
    assert_eq!(text(ended, "event"), "call.ended");
    for key in ["call_id", "phone_number", "call_type", "room_name", "status", "duration_seconds"] {
        assert_eq!(ended[key], r[key], "{key}");
    }
    assert_eq!(ended["time"], r["end_time"]);
    // The record may know later signs of the answer.
    let at = |t: String| chrono::DateTime::parse_from_rfc3339(&t);
    let early = at(text(&r, "start_time"))? - at(text(&all[1], "time"))?;
    assert!(early.abs() < chrono::TimeDelta::seconds(1), "{early}");
    let stages: Vec<Value> = r["stage_timeline"].as_array().cloned().unwrap_or_default();
    for (event, stage) in all[2..4].iter().zip(&stages) {
        assert_eq!((&event["stage"], &event["time"]), (&stage["stage"], &stage["timestamp"]));
    }
    assert_eq!(posted.about(&s.room).len(), 5);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_is_never_answered_is_missed() -> Result<()> {
    let (mut s, mut posted) = scene(Venue::from_env().await?, &[]).await?;
    let (venue, room, name) = (&s.venue, s.room.clone(), s.name.clone());
    let leg = Person::phone(venue, &room, "+15550123489", "ringing", false, &[&name]).await?;
    s.worker.logs("call started").await?;
    leg.leaves(DisconnectReason::UserRejected).await?;
    let r = s.record().await?;
    let all = events(&mut posted, &room, 2).await?;
    assert_eq!(kinds(&all), ["call.started", "call.missed"]);
    assert_in_order(&all, 1);
    assert_eq!(all[1]["termination_reason"], r["termination_reason"]);
    assert_eq!((&all[1]["status"], &all[1]["call_type"]), (&"failed".into(), &"outbound".into()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_fail_are_tried_again_in_order_and_records_do_not_wait() -> Result<()> {
    let (mut s, mut posted) = scene(Venue::from_env().await?, &[]).await?;
    posted.answers([Answer::Status(500), Answer::Status(503)]);
    let caller = s.web("alice").await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.record().await?;
    let posts = events(&mut posted, &s.room, 5).await?;
    let due = ["call.started", "call.started", "call.started", "call.answered", "call.ended"];
    assert_eq!(kinds(&posts), due);

    // An endpoint that hangs costs events, and nothing else.
    posted.answers(std::iter::repeat_n(Answer::After(Duration::from_secs(60)), 100));
    s.room = unique("room");
    let caller = s.web_in(&s.room, "bob").await?;
    s.worker.logs_nth("call started", 2, POSTED).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.worker.logs_nth("delivered", 2, POSTED).await?;
    let message = "live events are not taken, and given up after some seconds; records do not depend \
                   on them";
    let line = s.worker.logs_nth(message, 1, 2 * POSTED).await?;
    assert!(line["error"].to_string().contains("timed out"), "{line}");
    s.worker.stops().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_run_goes_on_with_the_numbers() -> Result<()> {
    let (mut s, mut posted) = scene(Venue::from_env().await?, &[]).await?;
    let caller = s.web("alice").await?;
    let agent = s.agent().await?;
    agent.publishes(&json!({"type": "stage", "stage": "greeting"})).await?;
    let before = events(&mut posted, &s.room, 3).await?;
    // The journal has the stage too.
    tokio::time::sleep(Duration::from_secs(1)).await;
    s.kill().await?;
    s.start_again().await?;
    s.worker.logs("joined again").await?;
    agent.publishes(&json!({"type": "stage", "stage": "ordering"})).await?;
    events(&mut posted, &s.room, 4).await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    let all = events(&mut posted, &s.room, 5).await?;
    assert_eq!(kinds(&all[3..]), ["call.stage", "call.ended"]);
    let numbers: Vec<u64> = all.iter().filter_map(|e| e["sequence"].as_u64()).collect();
    assert!(numbers.is_sorted() && numbers[..3] == [1, 2, 3] && numbers[3] > 1_000, "{numbers:?}");
    assert_eq!(numbers[4], numbers[3] + 1);
    assert_eq!(all[4]["call_id"], before[0]["call_id"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_posted_of_who_opted_out_nor_of_rooms_without_a_wanted_agent() -> Result<()> {
    let required = [("CALL_HISTORY_REQUIRE_AGENT", "true")];
    let (mut s, mut posted) = scene(Venue::from_env().await?, &required).await?;
    let rooms = s.venue.rooms();
    rooms.create_room(&s.room, Default::default()).await?;
    s.venue.dispatch(&s.name, &s.room, r#"{"opt_out_sensitive_data": true}"#).await?;
    s.worker.logs("joined").await?;
    let caller = s.web_in(&s.room, "alice").await?;
    let _agent = s.agent().await?;
    s.worker.logs("call started").await?;
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.worker.logs("call ended; opted out of recording, nothing is stored or sent").await?;
    assert!(posted.posts().is_empty(), "opted out");

    // A meeting, until an agent comes.
    s.room = unique("room");
    let caller = s.web_in(&s.room, "alice").await?;
    s.worker.logs_nth("call started", 2, POSTED).await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(posted.posts().is_empty(), "no agent");
    let _agent = s.agent().await?;
    let all = events(&mut posted, &s.room, 2).await?;
    assert_eq!(kinds(&all), ["call.started", "call.answered"]);
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    events(&mut posted, &s.room, 3).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_is_posted_when_livekit_has_finished_it() -> Result<()> {
    let (mut s, mut posted) = scene(Venue::dev(lab::server::quick()).await?, &[]).await?;
    let caller = s.web("alice").await?;
    let sid = s.venue.rooms().list_rooms(vec![s.room.clone()]).await?[0].sid.clone();
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    events(&mut posted, &s.room, 3).await?;
    let url = format!("http://{}/webhook", s.worker.health().await?);
    let post = async |room_id: &str, secret: &str| {
        let body = json!({"event": "egress_ended", "egressInfo": {
            "egressId": "EG_one", "roomId": room_id, "roomName": s.room, "status": "EGRESS_COMPLETE",
            "fileResults": [{"filename": "calls/one.mp4", "location": "s3://calls/one.mp4",
                             "duration": "12500000000", "size": "4096"}],
        }});
        let body = body.to_string();
        let sha256 = STANDARD.encode(Sha256::digest(body.as_bytes()));
        let token = AccessToken::with_api_key("devkey", secret).with_sha256(&sha256).to_jwt()?;
        let request = reqwest::Client::new().post(&url).header("authorization", token).body(body);
        anyhow::Ok(request.send().await?.status())
    };
    assert_eq!(post(&sid, "another-secret-another-secret-xx").await?, 401);
    assert_eq!(post("RM_of_nobody", &s.venue.api_secret).await?, 200);
    assert_eq!(post(&sid, &s.venue.api_secret).await?, 200);
    let all = events(&mut posted, &s.room, 4).await?;
    assert_eq!(text(&all[3], "event"), "call.recording");
    assert_in_order(&all, 1);
    let due = json!({"egress_id": "EG_one", "error": null, "files": [{
        "filename": "calls/one.mp4", "location": "s3://calls/one.mp4", "duration_seconds": 12.5,
        "bytes": 4096,
    }]});
    assert_eq!(all[3]["recording"], due);
    assert_eq!(posted.about(&s.room).len(), 4, "one recording of this room");

    // Who opts out while the call is on has no recording either.
    let room = unique("room");
    let caller = s.web_in(&room, "bob").await?;
    events(&mut posted, &room, 2).await?;
    let sid = s.venue.rooms().list_rooms(vec![room.clone()]).await?[0].sid.clone();
    s.venue.rooms().update_room_metadata(&room, r#"{"opt_out_sensitive_data": true}"#).await?;
    s.worker
        .logs("opted out of recording by metadata: nothing of this call is stored or sent")
        .await?;
    assert_eq!(post(&sid, &s.venue.api_secret).await?, 200);
    caller.leaves(DisconnectReason::ClientInitiated).await?;
    s.worker.logs("call ended; opted out of recording, nothing is stored or sent").await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(posted.about(&room).len(), 2, "{:#?}", posted.about(&room).len());
    Ok(())
}

#[test]
fn the_published_schema_of_events_is_that_of_the_binary() -> Result<()> {
    let out = Command::new(binary()).args(["schema", "--events"]).env_clear().output()?;
    assert!(out.status.success());
    let made = String::from_utf8(out.stdout)?;
    assert!(
        made == SCHEMA,
        "docs/schema is not what `call-history schema --events` prints: make schema"
    );
    Ok(())
}
