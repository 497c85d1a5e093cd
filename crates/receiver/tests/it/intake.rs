//! What is taken, and what is refused.

use std::io::Write;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use flate2::{Compression, write::GzEncoder};
use record::Claims;
use reqwest::header;
use serde_json::{Value, json};

use crate::rig::{Engine, Rig, answer, on_both, record};

const SECRET: &str = "a secret of some length, as it should be";

fn now() -> i64 {
    chrono::Utc::now().timestamp()
}

async fn signing(engine: Engine) -> Rig {
    Rig::with(engine, |s| s.jwt_secret = Some(SECRET.to_owned().into())).await
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(vec![], Compression::best());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

async fn posted(rig: &Rig, body: impl Into<reqwest::Body>, token: &str) -> (u16, Value) {
    answer(rig.post(body).bearer_auth(token).send().await.unwrap()).await
}

async fn a_signed_record_is_kept_as_it_was_sent(engine: Engine) {
    let rig = signing(engine).await;
    // Spaces, order of keys and unknown fields stay.
    let body = format!("{:#}\n ", {
        let mut record = record("one");
        record["new_field"] = json!({"b": 1, "a": [1.10, 2e3]});
        record
    });
    let token = Claims::of("one", body.as_bytes(), body.as_bytes(), now()).sign(SECRET).unwrap();
    let (status, said) = posted(&rig, body.clone(), &token).await;
    assert_eq!((status, &said), (200, &json!({"call_id": "one", "stored": "now"})));
    assert_eq!(rig.text("/api/calls/one").await, body);
}

/// A token that names an algorithm and has no signature.
fn unsigned(claims: &Claims, algorithm: &str) -> String {
    let part = |json: Value| BASE64.encode(json.to_string());
    format!("{}.{}.", part(json!({"alg": algorithm, "typ": "JWT"})), part(json!(claims)))
}

/// As LiveKit's clients have it: well signed, by another key and about another thing.
fn livekit_token() -> String {
    let claims =
        json!({"iss": "APIkey", "sub": "agent", "exp": now() + 600, "video": {"roomJoin": true}});
    let key =
        jsonwebtoken::EncodingKey::from_secret(b"the secret of a LiveKit server, which is long");
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

async fn only_the_right_token_opens(engine: Engine) {
    let rig = signing(engine).await;
    let body = record("one").to_string();
    let claims = || Claims::of("one", body.as_bytes(), body.as_bytes(), now());
    let signed = |claims: Claims| claims.sign(SECRET).unwrap();
    for (what, token) in [
        ("forged", claims().sign("another secret, just as long").unwrap()),
        ("none", String::new()),
        ("expired", signed(Claims::of("one", body.as_bytes(), body.as_bytes(), now() - 3_600))),
        ("for another caller", signed(Claims { phone_number: "+2".into(), ..claims() })),
        (
            "for another time",
            signed(Claims { timestamp: "2023-09-20T14:30:00.000Z".into(), ..claims() }),
        ),
        ("for another body", signed(Claims { sha256: "x".into(), ..claims() })),
        ("for another call", signed(Claims { jti: "two".into(), ..claims() })),
        ("without a signature", unsigned(&claims(), "none")),
        ("of an algorithm with keys", unsigned(&claims(), "RS256")),
        ("of LiveKit", livekit_token()),
        ("cut off", signed(claims()).split_once('.').unwrap().0.into()),
    ] {
        let (status, said) = posted(&rig, body.clone(), &token).await;
        assert_eq!(status, 401, "{what}: {said}");
        assert!(!said.to_string().contains("+15551234567"), "{what}: {said}");
        assert!(said["errors"][0]["problem"].is_string(), "{what}: {said}");
    }
    let unsigned = rig.post(body.clone()).send().await.unwrap();
    assert_eq!(unsigned.status(), 401);
    assert!(unsigned.headers().contains_key(header::DATE), "the worker learns our clock from it");
    assert_eq!(rig.ids("").await, [""; 0], "nothing of it was kept");
    assert_eq!(posted(&rig, body.clone(), &signed(claims())).await.0, 200);
}

async fn a_sender_that_knows_only_the_document_is_taken(engine: Engine) {
    let rig = signing(engine).await;
    for (id, end) in [("call 7/ä#?", Some("2023-09-20T14:35:42.123Z")), ("no-end", None)] {
        let mut record = record(id);
        match end {
            Some(end) => record["end_time"] = end.into(),
            None => record["end_time"] = Value::Null,
        }
        let timestamp = end.unwrap_or("2023-09-20T14:30:00.000Z");
        // Neither an expiry nor anything of ours.
        let claims = json!({"phone_number": "+15551234567", "timestamp": timestamp, "iat": 1});
        let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
        let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
        let (status, said) = posted(&rig, record.to_string(), &token).await;
        assert_eq!((status, &said["stored"]), (200, &json!("now")), "{said}");
    }
    let path = "/api/calls/call%207%2F%C3%A4%23%3F";
    assert_eq!(rig.get(path).await.1, record("call 7/ä#?"));
}

async fn all_mistakes_are_named(engine: Engine) {
    let rig = Rig::new(engine).await;
    let mut wrong = record("one");
    wrong["metrics"]["silence_count"] = "three".into();
    wrong["status"] = json!(7);
    wrong["outcomes"] = json!([]);
    wrong.as_object_mut().unwrap().remove("call_type");
    let (status, said) = answer(rig.post(wrong.to_string()).send().await.unwrap()).await;
    assert_eq!(status, 422);
    let mut paths: Vec<&str> =
        said["errors"].as_array().unwrap().iter().map(|e| e["path"].as_str().unwrap()).collect();
    paths.sort_unstable();
    assert_eq!(paths, ["/call_type", "/metrics/silence_count", "/outcomes", "/status"]);
    assert_eq!(rig.ids("").await, [""; 0]);
}

async fn what_is_no_json_object_is_refused(engine: Engine) {
    let rig = Rig::new(engine).await;
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_field = format!(r#"{{"call_id":"x","deep":{deep}}}"#);
    for body in ["", "null", "[]", "7", "{", "{\"a\":1}x", "\u{feff}{}", &deep, &deep_field] {
        let (status, said) = answer(rig.post(body.to_owned()).send().await.unwrap()).await;
        let begin: String = body.chars().take(20).collect();
        assert_eq!(status, 400, "{begin}: {said}");
    }
    let latin = answer(rig.post(b"{\"call_id\":\"\xe4\"}".to_vec()).send().await.unwrap()).await;
    assert_eq!(latin.0, 400);
    assert_eq!(rig.get("/ready").await.0, 200);
}

async fn sizes_are_bounded(engine: Engine) {
    let rig = Rig::new(engine).await;
    let large = rig.post(vec![b' '; 100_000_000]).send().await.unwrap();
    assert_eq!(large.status(), 413);
    // Large, and still within the bound.
    let mut long = record("long");
    long["outcomes"]["notes"] = "word ".repeat(3_000_000).into();
    rig.keep(&long).await;
    assert_eq!(rig.get("/api/calls/long").await.1, long);
}

async fn compressed_bodies_are_taken_and_bombs_are_not(engine: Engine) {
    let rig = signing(engine).await;
    let body = record("zipped").to_string();
    let sent = gzipped(body.as_bytes());
    // The signature is over the bytes as they are sent.
    let token = Claims::of("zipped", body.as_bytes(), &sent, now()).sign(SECRET).unwrap();
    let post = |bytes: Vec<u8>, token: &str| {
        let request = rig.post(bytes).bearer_auth(token).header(header::CONTENT_ENCODING, "gzip");
        async { answer(request.send().await.unwrap()).await }
    };
    let (status, said) = post(sent, &token).await;
    assert_eq!(status, 200, "{said}");
    assert_eq!(rig.text("/api/calls/zipped").await, body);

    let unbound = json!({"phone_number": "+1", "timestamp": "x"});
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &unbound, &key).unwrap();
    let bomb = gzipped(&vec![b' '; 300_000_000]);
    assert!(bomb.len() < 1_000_000);
    assert_eq!(post(bomb, &token).await.0, 413);
    // Of many small parts, each of which is allowed.
    let parts = gzipped(&vec![b' '; 1_000_000]).repeat(300);
    assert_eq!(post(parts, &token).await.0, 413);
    assert_eq!(post(b"no gzip".to_vec(), &token).await.0, 400);
    let other = rig.post("{}").bearer_auth(&token).header(header::CONTENT_ENCODING, "br");
    assert_eq!(other.send().await.unwrap().status(), 415);
}

/// All texts of a record, one after the other, get a hostile value.
async fn hostile_texts_are_only_texts(engine: Engine) {
    fn texts(value: &Value, at: String, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                map.iter().for_each(|(k, v)| texts(v, format!("{at}/{k}"), found))
            }
            Value::Array(all) => {
                all.iter().enumerate().for_each(|(n, v)| texts(v, format!("{at}/{n}"), found));
            }
            Value::String(_) | Value::Null => found.push(at),
            _ => {}
        }
    }
    let rig = Rig::new(engine).await;
    let mut model = record("x");
    model["details"] = json!({
        "ended_by": "caller",
        "transcript": [{"by": "user", "text": "hello", "identity": null}],
        "metadata": {"key": "value"},
    });
    let mut paths = vec![];
    texts(&model, String::new(), &mut paths);
    // Closed words, times and whole parts are what they are.
    let fixed =
        ["/call_id", "/call_type", "/status", "/start_time", "/end_time", "/outcomes/successful"];
    paths.retain(|p| !fixed.contains(&p.as_str()) && !p.ends_with("/timestamp"));
    assert!(paths.len() > 12, "{paths:?}");
    let evil = "'); DROP TABLE calls; --\" <script>alert(1)</script> \0 \u{202e}% _ \\ =1+1";
    for (n, path) in paths.iter().enumerate() {
        let mut record = model.clone();
        let id = format!("evil-{n} ' \" <b>");
        record["call_id"] = id.as_str().into();
        *record.pointer_mut(path).unwrap() = evil.into();
        rig.keep(&record).await;
        let escaped =
            id.replace(' ', "%20").replace('"', "%22").replace('<', "%3C").replace('>', "%3E");
        assert_eq!(rig.get(&format!("/api/calls/{escaped}")).await.1, record, "{path}");
        // The script of the page itself has an address.
        let page = rig.text(&format!("/calls/{escaped}")).await;
        assert!(!page.contains("<script>"), "{path}: {page}");
    }
    for address in ["/calls", "/numbers?start_time.ge=2023-01-01", "/integration"] {
        let page = rig.text(address).await;
        assert!(!page.contains("<script>"), "{address}: {page}");
    }
    assert_eq!(rig.ids("").await.len(), paths.len());
    let found = rig.ids("q=DROP%20TABLE%20%22%3Cscript%3E%22").await.len();
    assert_eq!(found, 6, "number, room, reason, stage, notes and a line are searched");
    let room = rig.ids("room_name.co=%3Cscript%3E").await;
    assert_eq!(room.len(), 1);
    let nul = json!({"call_id": "a\0b"});
    let mut record = record("x");
    record["call_id"] = nul["call_id"].clone();
    assert_eq!(answer(rig.post(record.to_string()).send().await.unwrap()).await.0, 422);
}

async fn live_events_are_kept_once_by_their_number(engine: Engine) {
    let rig = signing(engine).await;
    let event = |sequence: u32, stage: &str| {
        json!({
            "event": "call.stage", "call_id": "one", "sequence": sequence,
            "time": "2026-11-23T07:24:31.120Z", "room_name": "r", "phone_number": "+1555",
            "call_type": "inbound", "stage": stage,
        })
        .to_string()
    };
    let post = |id: &'static str, body: String| {
        let mut claims = Claims::of(id, body.as_bytes(), body.as_bytes(), now());
        claims.timestamp = "2026-11-23T07:24:31.120Z".into();
        let request = rig.client.post(rig.url("/call-events")).body(body);
        let request = request.bearer_auth(claims.sign(SECRET).unwrap());
        async { answer(request.send().await.unwrap()).await }
    };
    let (status, said) = post("one/2", event(2, "b")).await;
    assert_eq!((status, &said["stored"]), (200, &json!("now")), "{said}");
    assert_eq!(post("one/2", event(2, "b")).await.1["stored"], "before");
    assert_eq!(post("one/2", event(2, "c")).await.0, 409);
    assert_eq!(post("one/1", event(1, "a")).await.0, 200);
    assert_eq!(post("one/2", event(1, "a")).await.0, 401, "the token is for another event");
    assert_eq!(
        rig.client.post(rig.url("/call-events")).body(event(3, "x")).send().await.unwrap().status(),
        401
    );
    let events = rig.text("/api/calls/one/events").await;
    assert_eq!(events, format!("{{\"events\":[{},{}]}}", event(1, "a"), event(2, "b")));
}

on_both! {
    a_signed_record_is_kept_as_it_was_sent,
    only_the_right_token_opens,
    a_sender_that_knows_only_the_document_is_taken,
    all_mistakes_are_named,
    what_is_no_json_object_is_refused,
    sizes_are_bounded,
    compressed_bodies_are_taken_and_bombs_are_not,
    hostile_texts_are_only_texts,
    live_events_are_kept_once_by_their_number,
}
