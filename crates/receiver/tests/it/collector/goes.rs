//! What is never kept, and what goes.

use std::io::Read;

use flate2::read::GzDecoder;
use receiver::{
    Receiver,
    store::{self, Sql},
};
use record::Moment;
use serde_json::json;

use super::{
    agents::{Recorded, Request, on, recorded},
    poster::collecting,
};
use crate::rig::{Engine, GENEROUS, Rig, on_both};

/// All that the database has of uploads, unpacked, as one text.
async fn all_of(rig: &Rig) -> String {
    let store = store::open(&rig.home.place).await.unwrap();
    let mut all = String::new();
    for sql in
        ["SELECT facts, body FROM agent_uploads", "SELECT room_name, phone_number FROM agent_jobs"]
    {
        for row in store.read(Sql::new(store.dialect(), sql)).await.unwrap() {
            all.push_str(row.text(0).unwrap_or_default());
            all.push_str(row.text(1).unwrap_or_default());
            let mut body = vec![];
            let packed = row.bytes(1).unwrap_or_default();
            if !packed.is_empty() {
                GzDecoder::new(packed).read_to_end(&mut body).unwrap();
            }
            all.push_str(&String::from_utf8_lossy(&body));
        }
    }
    all
}

const WORDS: [&str; 6] = [
    "hello I want to ask",
    "welcome to the lab",
    "which order number",
    "was polite",
    "order state told",
    "A17",
];

async fn words_of_a_redacted_job_are_nowhere(engine: Engine) {
    let rig = collecting(engine).await;
    let call = recorded("py-1.8.9-redaction");
    rig.replay(call).await;
    rig.keep(&call.record()).await;
    assert_eq!(rig.files(), []);
    let all = all_of(&rig).await;
    assert!(all.contains("user_turn"), "the rest is there");
    for words in WORDS {
        assert!(!all.contains(words), "{words}");
    }
    let job = &rig.uploads(&call.call_id()).await["jobs"][0];
    assert_eq!((&job["redacted"], &job["items"]), (&json!(true), &json!([])));
    assert_eq!(job["evaluations"][0], json!({"name": "politeness", "verdict": "pass"}));
    assert_eq!(job["outcome"], json!({"outcome": "success"}));
    assert_eq!(job["turns"][1]["wait"].as_f64().map(|wait| (wait * 1_000.0).round()), Some(975.0));

    // The same words are there of a job that is not redacted: the look finds them.
    rig.replay(recorded("py-1.8.9-named")).await;
    let all = all_of(&rig).await;
    assert!(WORDS.iter().all(|words| all.contains(words)));
}

/// Neither the header nor the sound says so, only the spans before it.
async fn redaction_holds_for_all_that_comes_later(engine: Engine) {
    let rig = collecting(engine).await;
    let call = recorded("py-1.8.9-redaction");
    for request in call.requests().iter().filter(|request| request.path.contains("traces")) {
        assert_eq!(rig.upload(request).send().await.unwrap().status(), 200);
    }
    let header = super::bad::header_of(call.room_id, call.job_id, 1_795_694_578, false);
    let mut body = vec![];
    for (name, bytes) in [
        ("audio", &b"OggS sound"[..]),
        ("header", &*header),
        (
            "chat_history",
            &br#"{"items":[{"type":"message","content":["which order number"]}]}"#[..],
        ),
    ] {
        body.extend(
            format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n").bytes(),
        );
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"--b--\r\n");
    let request = Request {
        path: "/observability/recordings/v0".into(),
        content_type: "multipart/form-data; boundary=b".into(),
        content_encoding: None,
        body,
    };
    assert_eq!(rig.upload(&request).send().await.unwrap().status(), 200);
    assert_eq!(rig.files(), []);
    assert!(!all_of(&rig).await.contains("which order number"));
}

async fn uploads_go_with_their_call_and_do_not_come_back(engine: Engine) {
    let rig = collecting(engine).await;
    let (call, other) = (recorded("py-1.8.9-named"), recorded("node-1.9.0-named"));
    for call in [call, other] {
        rig.keep(&call.record()).await;
        rig.replay(call).await;
    }
    assert_eq!(rig.files().len(), 2);
    let path = format!("/api/calls/{}", call.call_id());
    assert_eq!(rig.delete(&path).await, (200, json!({"deleted": 1})));
    assert_eq!(rig.get(&format!("{path}/uploads")).await.0, 404);
    assert_eq!(rig.get(&format!("{path}/recordings/0")).await.0, 404);
    assert_eq!(rig.files().len(), 1);
    assert!(!all_of(&rig).await.contains(call.job_id));
    // What the agent still sends.
    rig.replay(call).await;
    assert_eq!(rig.files().len(), 1);
    assert!(!all_of(&rig).await.contains(call.job_id));
    assert_eq!(rig.uploads(&other.call_id()).await["recordings"].as_array().unwrap().len(), 1);
}

/// Its record was deleted before the agent sent anything.
async fn uploads_of_a_deleted_call_are_not_taken(engine: Engine) {
    let rig = collecting(engine).await;
    let mut call = recorded("py-1.8.9-sip").record();
    call["phone_number"] = "+15550100".into();
    rig.keep(&call).await;
    assert_eq!(rig.delete("/api/numbers/%2B15550100").await, (200, json!({"deleted": 1})));
    rig.replay(recorded("py-1.8.9-sip")).await;
    assert_eq!((rig.files(), all_of(&rig).await), (vec![], String::new()));
}

/// There never was a record: the agent itself says who called.
async fn uploads_go_with_a_number_without_any_record(engine: Engine) {
    let rig = collecting(engine).await;
    let call: &Recorded = recorded("py-1.8.9-sip");
    rig.replay(call).await;
    rig.replay(recorded("py-1.8.9-crash")).await;
    assert_eq!(rig.delete("/api/numbers/%2B15550100").await, (200, json!({"deleted": 1})));
    assert_eq!(rig.files(), []);
    let all = all_of(&rig).await;
    assert!(!all.contains(call.job_id) && !all.contains("15550100"));
    assert!(all.contains(recorded("py-1.8.9-crash").job_id), "others stay");
}

/// Recordings after ten days, calls after thirty, uploads without a call too.
async fn recordings_have_a_retention_of_their_own(engine: Engine) {
    let rig = collecting(engine).await;
    let (call, lone) = (recorded("py-1.8.9-named"), recorded("node-1.9.0-named"));
    let mut record = call.record();
    let today = Moment::from_millis(chrono::Utc::now().timestamp_millis());
    record["start_time"] = today.to_rfc3339().into();
    record["end_time"] = today.plus(22_000).to_rfc3339().into();
    rig.keep(&record).await;
    rig.replay(call).await;
    rig.replay(lone).await;
    let Rig { receiver, client, home } = rig;
    receiver.stop().await;

    let day = 24 * 60 * 60 * 1_000;
    let mut settings = home.settings();
    on(&mut settings);
    (settings.recordings_days, settings.retention_days) = (Some(10), Some(30));
    let later = |days: i64| {
        let mut settings = settings.clone();
        settings.now = std::sync::Arc::new(move || today.plus(days * day));
        settings
    };
    // The loop looks once when it starts.
    let rig = Rig { receiver: Receiver::start(later(11)).await.unwrap(), client, home };
    until(|| rig.files().is_empty()).await;
    let uploads = rig.uploads(&call.call_id()).await;
    assert_eq!(
        (uploads["recordings"].clone(), uploads["jobs"].as_array().unwrap().len()),
        (json!([]), 1)
    );
    let all = all_of(&rig).await;
    assert!(all.contains(call.job_id) && all.contains(lone.job_id));

    rig.receiver.stop().await;
    let rig = Rig { receiver: Receiver::start(later(31)).await.unwrap(), ..rig };
    let deadline = tokio::time::Instant::now() + GENEROUS;
    while !all_of(&rig).await.is_empty() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn until(done: impl Fn() -> bool) {
    let deadline = tokio::time::Instant::now() + GENEROUS;
    while !done() {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

on_both! {
    words_of_a_redacted_job_are_nowhere,
    redaction_holds_for_all_that_comes_later,
    uploads_go_with_their_call_and_do_not_come_back,
    uploads_of_a_deleted_call_are_not_taken,
    uploads_go_with_a_number_without_any_record,
    recordings_have_a_retention_of_their_own,
}
