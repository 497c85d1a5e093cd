//! What must not be taken, and what must not break the receiver.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use receiver::store::Place;
use reqwest::{StatusCode, header};
use serde_json::{Value, json};

use super::{
    agents::{KEY, Request, SECRET, on, recorded, signed, token},
    poster::collecting,
};
use crate::rig::{Engine, Rig, on_both};

const PATHS: [&str; 4] = [
    "/observability/traces/otlp/v0",
    "/observability/logs/otlp/v0",
    "/observability/metrics/otlp/v0",
    "/observability/recordings/v0",
];

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = GzEncoder::new(vec![], Compression::best());
    gzip.write_all(bytes).unwrap();
    gzip.finish().unwrap()
}

async fn jobs(rig: &Rig) -> i64 {
    let store = receiver::store::open(&rig.home.place).await.unwrap();
    let sql = receiver::store::Sql::new(store.dialect(), "SELECT count(*) FROM agent_jobs");
    store.read(sql).await.unwrap()[0].int(0).unwrap()
}

async fn without_a_key_agents_are_told_to_upload_nothing(engine: Engine) {
    let rig = Rig::new(engine).await;
    for path in PATHS {
        let answer = rig.client.post(rig.url(path)).bearer_auth(token()).body("x").send();
        let answer = answer.await.unwrap();
        assert_eq!(answer.status(), 401);
        assert_eq!(answer.text().await.unwrap(), "data recording is disabled");
    }
}

async fn only_our_agents_may_upload(engine: Engine) {
    let rig = collecting(engine).await;
    let call = recorded("py-1.8.9-crash");
    let now = chrono::Utc::now().timestamp();
    let claims = |change: Value| {
        let mut claims =
            json!({"iss": KEY, "nbf": now, "exp": now + 600, "observability": {"write": true}});
        for (key, value) in change.as_object().unwrap() {
            claims[key] = value.clone();
        }
        claims
    };
    let ours = |change| signed(&claims(change), SECRET);
    let requests = call.requests();
    for (what, token) in [
        ("forged", signed(&claims(json!({})), "another secret, just as long")),
        ("expired", ours(json!({"exp": now - 600}))),
        ("of tomorrow", ours(json!({"nbf": now + 86_400}))),
        ("of another key", ours(json!({"iss": "foreign"}))),
        ("without the grant", ours(json!({"observability": {"write": false}}))),
        ("for a room", ours(json!({"observability": null, "video": {"roomJoin": true}}))),
        ("none", String::new()),
        ("no JWT", "chr_abc".into()),
    ] {
        for request in &requests {
            let answer = rig.upload(request).header(header::AUTHORIZATION, "").build().unwrap();
            let mut answer = answer;
            let value = format!("Bearer {token}").parse().unwrap();
            answer.headers_mut().insert(header::AUTHORIZATION, value);
            let answer = rig.client.execute(answer).await.unwrap();
            assert_eq!(answer.status(), 401, "{what}");
            let said = answer.text().await.unwrap();
            assert!(!said.contains("disabled"), "{what}: the agent would stop for good");
        }
    }
    assert_eq!(jobs(&rig).await, 0);
}

/// An error would only hold up the agent: sent again it would be no better.
async fn what_cannot_be_read_is_answered_200_and_not_kept(engine: Engine) {
    let rig = collecting(engine).await;
    let nested = |byte: u8, levels: usize| {
        (0..levels).fold(vec![], |inner: Vec<u8>, _| {
            let mut outer = vec![byte];
            prost::encoding::encode_varint(inner.len() as u64, &mut outer);
            outer.extend(inner);
            outer
        })
    };
    let deep_json = format!("{}{}", "[".repeat(50_000), "]".repeat(50_000));
    let cut = gzipped(&[7; 10_000])[..20].to_vec();
    let (protobuf, as_json) = ("application/x-protobuf", "application/json");
    let form = "multipart/form-data; boundary=b";
    let cases: Vec<(&str, Vec<u8>, Option<&str>)> = vec![
        (protobuf, vec![], None),
        (protobuf, b"no protobuf at all".to_vec(), None),
        (protobuf, vec![0xff; 10_000], None),
        (protobuf, nested(0x0a, 2_000), None),
        // Thousands of resources without anything.
        (protobuf, [0x0a, 0x00].repeat(500_000), None),
        (protobuf, b"no gzip".to_vec(), Some("gzip")),
        (protobuf, cut, Some("gzip")),
        (protobuf, gzipped(&vec![0; 200_000_000]), Some("gzip")),
        (protobuf, b"x".to_vec(), Some("br")),
        (as_json, b"{".to_vec(), None),
        (as_json, b"[]".to_vec(), None),
        (as_json, deep_json.into_bytes(), None),
        (
            as_json,
            br#"{"resourceLogs": [1, {"scopeLogs": [[], {"logRecords": 7}]}]}"#.to_vec(),
            None,
        ),
        (form, vec![], None),
        (
            form,
            b"--b\r\nContent-Disposition: form-data; name=\"header\"\r\n\r\nno header\r\n--b--\r\n"
                .to_vec(),
            None,
        ),
        (
            form,
            b"--b\r\nContent-Disposition: form-data; name=\"audio\"\r\n\r\nsound\r\n--b--\r\n"
                .to_vec(),
            None,
        ),
        (form, b"--b\r\nContent-Dis".to_vec(), None),
        ("multipart/form-data", b"x".to_vec(), None),
    ];
    for (content_type, body, encoding) in &cases {
        for path in PATHS.iter().chain(&["/observability/profiles/v9"]) {
            let request = Request {
                path: (*path).into(),
                content_type: (*content_type).into(),
                content_encoding: encoding.map(str::to_owned),
                body: body.clone(),
            };
            let answer = rig.upload(&request).send().await.unwrap();
            let begin = String::from_utf8_lossy(&body[..body.len().min(20)]).into_owned();
            assert_eq!(answer.status(), 200, "{path} {content_type}: {begin}");
        }
    }
    assert_eq!(jobs(&rig).await, 0);
    assert_eq!(rig.files(), []);
    assert_eq!(rig.get("/ready").await.0, 200);
}

/// Parts of a recording, in an order.
pub(super) fn form(parts: &[(&str, &[u8])]) -> Request {
    let mut body = vec![];
    for (name, bytes) in parts {
        let head = format!(
            "--b\r\nContent-Disposition: form-data; name=\"{name}\"; filename=\"../../{name}.ogg\"\r\n\
             Content-Type: audio/ogg\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--b--\r\n");
    Request {
        path: "/observability/recordings/v0".into(),
        content_type: "multipart/form-data; boundary=b".into(),
        content_encoding: None,
        body,
    }
}

/// `livekit.MetricsRecordingHeader` with room, start, job and redaction.
pub(super) fn header_of(room: &str, job: &str, seconds: u64, redacted: bool) -> Vec<u8> {
    use prost::encoding::{WireType, encode_key, encode_varint};
    let mut bytes = vec![];
    let mut add = |number, part: &[u8]| {
        encode_key(number, WireType::LengthDelimited, &mut bytes);
        encode_varint(part.len() as u64, &mut bytes);
        bytes.extend_from_slice(part);
    };
    add(1, room.as_bytes());
    let mut time = vec![];
    encode_key(1, WireType::Varint, &mut time);
    encode_varint(seconds, &mut time);
    add(4, &time);
    add(8, job.as_bytes());
    add(99, b"of a newer version");
    if redacted {
        bytes.extend_from_slice(&[0x50, 1]);
    }
    bytes
}

async fn parts_come_in_any_order_and_names_lead_nowhere(engine: Engine) {
    let rig = collecting(engine).await;
    let outside = rig.home.folder.path().to_owned();
    for (n, (room, job)) in
        [("RM_a", "AJ_a"), ("../../../etc", "../.."), ("/etc/passwd", "a\0b"), ("%2e%2e", "")]
            .into_iter()
            .enumerate()
    {
        let header = header_of(room, job, 1_700_000_000, false);
        let (header, sound) = (("header", &*header), ("audio", &b"OggS sound"[..]));
        let chat = ("chat_history", &br#"{"items": []}"#[..]);
        let orders = [[header, chat, sound], [sound, header, chat], [chat, sound, header]];
        for parts in orders {
            let answer = rig.upload(&form(&parts)).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{room}");
        }
        assert_eq!(rig.files().len(), n + 1, "{room}: sent three times, kept once");
    }
    for (path, bytes) in rig.files() {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let is_ours = path.parent().unwrap().parent().unwrap() == rig.home.recordings();
        assert!(is_ours && name.len() == 40 && name.ends_with(".ogg"), "{}", path.display());
        assert_eq!(bytes, 10);
    }
    // The database's folder and that of recordings: nothing else was written beside them.
    let beside = std::fs::read_dir(outside).unwrap().count();
    assert!(beside <= 2, "{beside}");
}

async fn sound_beyond_the_limit_is_not_kept_and_the_rest_is(engine: Engine) {
    let rig = Rig::with(engine, |settings| {
        on(settings);
        settings.max_recording = 1_000_000;
    })
    .await;
    for (job, size, files) in [("AJ_small", 1_000_000, 1), ("AJ_large", 1_000_001, 1)] {
        let header = header_of("RM_a", job, 1_700_000_000, false);
        let request = form(&[("header", &header), ("audio", &vec![b'x'; size])]);
        assert_eq!(rig.upload(&request).send().await.unwrap().status(), 200);
        assert_eq!(rig.files().len(), files, "{job}");
    }
    assert_eq!(jobs(&rig).await, 2);
}

on_both! {
    without_a_key_agents_are_told_to_upload_nothing,
    only_our_agents_may_upload,
    what_cannot_be_read_is_answered_200_and_not_kept,
    parts_come_in_any_order_and_names_lead_nowhere,
    sound_beyond_the_limit_is_not_kept_and_the_rest_is,
}

/// A database that is full: what was answered 200 is there, the rest is to be sent again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_said_and_nothing_that_was_taken_is_lost() {
    let rig = Rig::with(Engine::Sqlite, |settings| {
        on(settings);
        let Place::Sqlite { max_pages, .. } = &mut settings.place else { panic!("no SQLite") };
        *max_pages = Some(160);
    })
    .await;
    let traces = recorded("py-1.8.9-named").requests();
    let traces = traces.iter().find(|request| request.path.contains("traces")).unwrap();
    let mut raw = vec![];
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*traces.body), &mut raw).unwrap();
    let mut taken = 0;
    let full = loop {
        // Something that cannot be compressed, under a number of its own that is not known.
        raw.extend_from_slice(&[0x7a, 64]);
        raw.extend(
            (0..64).map(|n| u8::try_from((n * 37 + taken * 101 + n * n * taken) % 256).unwrap()),
        );
        let request = Request {
            path: traces.path.clone(),
            content_type: traces.content_type.clone(),
            content_encoding: None,
            body: raw.clone(),
        };
        let answer = rig.upload(&request).send().await.unwrap();
        if answer.status() != StatusCode::OK {
            break answer;
        }
        taken += 1;
        assert!(taken < 10_000, "it is never full");
    };
    assert_eq!(full.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(full.headers().contains_key(header::RETRY_AFTER));
    let header = header_of("RM_other", "AJ_other", 1_700_000_000, false);
    let request =
        form(&[("header", &header), ("audio", b"OggS"), ("chat_history", &vec![b'x'; 500_000])]);
    let answer = rig.upload(&request).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let said = answer.bytes().await.unwrap();
    let is_retry =
        said.windows(39).any(|w| w == b"type.googleapis.com/google.rpc.RetryInfo"[..39].as_ref());
    assert!(is_retry, "only then it is sent again");
    assert_eq!(rig.files(), [], "no file without a row");

    rig.receiver.stop().await;
    let store = receiver::store::open(&rig.home.place).await.unwrap();
    let sql = receiver::store::Sql::new(store.dialect(), "SELECT count(*) FROM agent_uploads");
    assert_eq!(store.read(sql).await.unwrap()[0].int(0), Some(i64::from(taken)));
}

/// The folder of recordings cannot be written.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_that_cannot_be_written_is_to_be_sent_again() {
    let rig = collecting(Engine::Sqlite).await;
    let folder = rig.home.recordings();
    std::fs::write(&folder, "a file where the folder should be").unwrap();
    let header = header_of("RM_a", "AJ_a", 1_700_000_000, false);
    let request = form(&[("header", &header), ("audio", &vec![b'x'; 3_000_000])]);
    let answer = rig.upload(&request).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers()[header::CONTENT_TYPE], "application/x-protobuf");
    std::fs::remove_file(&folder).unwrap();
    assert_eq!(rig.upload(&request).send().await.unwrap().status(), 200);
    assert_eq!(rig.files().len(), 1);
}
