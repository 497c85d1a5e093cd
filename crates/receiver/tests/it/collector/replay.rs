//! Recorded uploads, posted again: what is made of them, and that they find their call.

use serde_json::{Value, json};

use super::{
    agents::{ALL, Recorded, at, recorded},
    poster::collecting,
};
use crate::rig::{Engine, Rig, on_both, record};

/// What is known of a call is what its agent reported.
fn check(call: &Recorded, uploads: &Value) {
    let name = call.name;
    let schema = &receiver::api::openapi::of()["components"]["schemas"]["Uploads"];
    let problems: Vec<String> = jsonschema::validator_for(schema)
        .unwrap()
        .iter_errors(uploads)
        .map(|e| format!("{}: {e}", e.instance_path()))
        .collect();
    assert_eq!(problems, [""; 0], "{name}");
    let jobs = uploads["jobs"].as_array().unwrap();
    assert_eq!(jobs.len(), 1, "{name}: {uploads}");
    let job = &jobs[0];
    assert_eq!((&job["room_id"], &job["job_id"]), (&call.room_id.into(), &call.job_id.into()));
    let turns = job["turns"].as_array().unwrap();
    let waits: Vec<f64> = turns.iter().filter_map(|turn| turn["wait"].as_f64()).collect();
    assert_eq!(waits.len(), call.waits.len(), "{name}: {turns:?}");
    for (wait, expected) in waits.iter().zip(call.waits) {
        assert!((wait - expected).abs() < 0.002, "{name}: {waits:?}");
    }
    assert_eq!(turns[0]["spoke_at"], at(call.spoke_at), "{name}");
    assert_eq!(turns[0]["wait"], Value::Null, "{name}: the greeting answers nobody");
    // The first answer: the parts of its wait, in seconds whatever the agent counts in.
    let first = turns.iter().find(|turn| turn["wait"].is_f64()).unwrap();
    let part = |kind: &str| {
        let mut parts = first["parts"].as_array().unwrap().iter();
        let part =
            parts.find(|part| part["kind"] == kind).unwrap_or_else(|| panic!("{name}: {kind}"));
        part["to"].as_f64().unwrap() - part["from"].as_f64().unwrap()
    };
    let (transcript, end_of_turn) = (part("transcript"), part("end_of_turn"));
    assert!((0.29..0.36).contains(&transcript), "{name}: {transcript}");
    assert!((0.5..0.81).contains(&end_of_turn), "{name}: {end_of_turn}");
    assert!((0.30..0.31).contains(&part("model")), "{name}");
    assert!((0.15..0.16).contains(&part("voice")), "{name}");

    let sounds = uploads["recordings"].as_array().unwrap();
    let bytes: Vec<u64> = sounds.iter().map(|sound| sound["bytes"].as_u64().unwrap()).collect();
    assert_eq!(bytes, call.sound.into_iter().collect::<Vec<_>>(), "{name}");
}

async fn the_record_may_come_first(engine: Engine) {
    let rig = collecting(engine).await;
    for call in &ALL {
        rig.keep(&call.record()).await;
        assert_eq!(rig.uploads(&call.call_id()).await, json!({"jobs": [], "recordings": []}));
        rig.replay(call).await;
        check(call, &rig.uploads(&call.call_id()).await);
    }
}

async fn the_uploads_may_come_first(engine: Engine) {
    let rig = collecting(engine).await;
    for call in &ALL {
        rig.replay(call).await;
        assert_eq!(rig.get(&format!("/api/calls/{}/uploads", call.call_id())).await.0, 404);
    }
    for call in &ALL {
        rig.keep(&call.record()).await;
    }
    for call in &ALL {
        check(call, &rig.uploads(&call.call_id()).await);
    }
}

/// An agent that lost the answer sends the same once more.
async fn what_is_sent_twice_is_kept_once(engine: Engine) {
    let rig = collecting(engine).await;
    let call = recorded("py-1.8.9-named");
    rig.keep(&call.record()).await;
    rig.replay(call).await;
    let once = rig.uploads(&call.call_id()).await;
    rig.replay(call).await;
    assert_eq!(rig.uploads(&call.call_id()).await, once);
    assert_eq!(rig.files().len(), 1);
}

async fn all_that_an_agent_reports_is_there(engine: Engine) {
    let rig = collecting(engine).await;
    let call = recorded("py-1.8.9-named");
    rig.replay(call).await;
    rig.keep(&call.record()).await;
    let job = &rig.uploads(&call.call_id()).await["jobs"][0];
    assert_eq!(job["report"]["sdk_version"], "1.8.9");
    assert_eq!(job["report"]["agent_name"], "obs-agent");
    assert_eq!(job["report"]["close_reason"], "CR_PARTICIPANT_DISCONNECTED");
    assert_eq!(job["report"]["made_at"], "2026-11-26T12:07:10.523Z");
    assert_eq!(job["report"]["usage"][0]["input_tokens"], 50);
    assert_eq!(job["outcome"], json!({"outcome": "success", "reason": "order state told"}));
    assert_eq!(
        job["evaluations"],
        json!([
            {"name": "politeness", "verdict": "pass", "reasoning": "was polite"},
            {"name": "brevity", "verdict": "fail", "reasoning": "too long"},
        ])
    );
    let tags = json!([
        "language:en",
        "lk.judge.brevity:fail",
        "lk.judge.politeness:pass",
        "lk.success",
        "order:looked_up"
    ]);
    assert_eq!(job["report"]["tags"], tags);
    assert_eq!(job["tags"], json!([{"name": "order:looked_up", "metadata": {"order_id": "A17"}}]));
    let tool = &job["tools"][0];
    assert_eq!((&tool["name"], &tool["failed"]), (&json!("look_up_order"), &json!(false)));
    assert_eq!(tool["arguments"], r#"{"order_id": "A17"}"#);
    assert_eq!(tool["seconds"], 0.258);
    let turn = &job["turns"][2];
    assert_eq!(
        (&turn["interrupted"], &turn["interrupted_by"]),
        (&json!(true), &json!("user_turn"))
    );
    let kinds: Vec<&str> = turn["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["kind"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["transcript", "end_of_turn", "model", "tool", "model", "voice"]);
    let items = job["items"].as_array().unwrap();
    let said: Vec<&str> = items
        .iter()
        .filter(|item| item["role"] == "user")
        .map(|item| item["text"].as_str().unwrap())
        .collect();
    assert_eq!(
        said,
        [
            "hello I want to ask about my order",
            "its number is a seventeen",
            "wait please stop",
            "thank you good bye"
        ]
    );
    assert_eq!(job["spans"]["user_turn"], 4);
    assert_eq!(job["spans"]["agent_session"], 1);
}

/// The record of another sender has another id: the name of the room and the time join it.
async fn a_foreign_record_is_joined_by_room_and_time(engine: Engine) {
    for record_first in [true, false] {
        let rig = collecting(engine).await;
        let call = recorded("py-1.8.9-named");
        let mut foreign = call.record();
        foreign["call_id"] = "of somebody else".into();
        let mut another_day = foreign.clone();
        another_day["call_id"] = "another day".into();
        another_day["start_time"] = at(call.spoke_at - 86_400_000);
        another_day["end_time"] = at(call.spoke_at - 86_300_000);
        if record_first {
            rig.keep(&another_day).await;
            rig.keep(&foreign).await;
            rig.replay(call).await;
        } else {
            rig.replay(call).await;
            rig.keep(&another_day).await;
            rig.keep(&foreign).await;
        }
        check(call, &rig.uploads("of%20somebody%20else").await);
        assert_eq!(rig.uploads("another%20day").await["jobs"], json!([]));
    }
}

/// A record with details names its agents. That counts more than rooms and times.
async fn a_record_that_names_the_job_has_it(engine: Engine) {
    for record_first in [true, false] {
        let rig = collecting(engine).await;
        let call = recorded("node-1.9.0-named");
        let mut named = record("named");
        named["details"] =
            json!({"participants": [{"identity": format!("agent-{}", call.job_id)}]});
        if record_first {
            rig.keep(&named).await;
            rig.replay(call).await;
        } else {
            rig.replay(call).await;
            rig.keep(&named).await;
        }
        check(call, &rig.uploads("named").await);
    }
}

/// Two jobs in one room, as after a hand-over to another agent.
async fn several_jobs_of_a_room_are_all_there(engine: Engine) {
    let rig = collecting(engine).await;
    let call = recorded("node-1.9.0-named");
    for mut request in call.requests() {
        if request.path.contains("logs") {
            let text = String::from_utf8(request.body).unwrap();
            rig.upload(&super::agents::Request { body: text.clone().into(), ..request })
                .send()
                .await
                .unwrap();
            request = super::agents::Request {
                path: "/observability/logs/otlp/v0".into(),
                content_type: "application/json".into(),
                content_encoding: None,
                body: text.replace(call.job_id, "AJ_theSecondJob").into(),
            };
            assert_eq!(rig.upload(&request).send().await.unwrap().status(), 200);
        }
    }
    rig.keep(&call.record()).await;
    let uploads = rig.uploads(&call.call_id()).await;
    let jobs: Vec<&str> =
        uploads["jobs"].as_array().unwrap().iter().map(|j| j["job_id"].as_str().unwrap()).collect();
    assert_eq!(jobs.len(), 2);
    assert!(jobs.contains(&call.job_id) && jobs.contains(&"AJ_theSecondJob"), "{jobs:?}");
}

/// The clock of the agent's host is an hour ahead, and the recording lies where it should all the same.
async fn the_recording_is_laid_by_the_measured_offset(engine: Engine) {
    let rig = collecting(engine).await;
    let call = recorded("py-1.8.9-named");
    rig.replay(call).await;
    rig.keep(&call.record()).await;
    let sound = &rig.uploads(&call.call_id()).await["recordings"][0];
    assert_eq!(sound["clock_offset_seconds"], Value::Null, "nothing to compare with");
    // The call of the record starts a second before the agent speaks; the recording began 1.174 s before that.
    assert_eq!(sound["started_at"], "2026-11-26T12:06:44.243Z");
    assert!((sound["call_starts_at_seconds"].as_f64().unwrap() - 0.174).abs() < 0.002, "{sound}");

    let rig = collecting(engine).await;
    rig.replay(call).await;
    const HOUR: i64 = 3_600_000;
    let turns = [0, 5_256, 10_975, 14_802, 19_001];
    let mut record = call.record();
    record["start_time"] = at(call.spoke_at - 1_000 - HOUR);
    record["end_time"] = at(call.spoke_at + 22_000 - HOUR);
    let speech = turns.map(|turn| {
        let from = call.spoke_at + turn - HOUR;
        json!({"by": "agent", "identity": null, "from": at(from), "to": at(from + 300), "basis": "state"})
    });
    record["details"] = json!({"timeline": {
        "speech": speech, "responses": [], "cut_offs": [], "silences": [], "keyed": [], "unheard": [], "gaps": [],
    }});
    rig.keep(&record).await;
    let sound = &rig.uploads(&call.call_id()).await["recordings"][0];
    assert!((sound["clock_offset_seconds"].as_f64().unwrap() + 3_600.0).abs() < 0.05, "{sound}");
    assert_eq!(sound["clock_offset_moments"], 5, "{sound}");
    assert!((sound["call_starts_at_seconds"].as_f64().unwrap() - 0.174).abs() < 0.05, "{sound}");
}

on_both! {
    the_record_may_come_first,
    the_uploads_may_come_first,
    what_is_sent_twice_is_kept_once,
    all_that_an_agent_reports_is_there,
    a_foreign_record_is_joined_by_room_and_time,
    a_record_that_names_the_job_has_it,
    several_jobs_of_a_room_are_all_there,
    the_recording_is_laid_by_the_measured_offset,
}

/// Any base, doubled slashes, and a body in chunks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_reach_it_however_the_address_is_written() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let rig: Rig = collecting(Engine::Sqlite).await;
    let call = recorded("node-1.9.0-crash");
    rig.keep(&call.record()).await;
    let mut requests = call.requests();
    let traces = requests.iter().position(|request| request.path.contains("traces")).unwrap();
    let chunked = requests.remove(traces);
    for (request, base) in requests.iter_mut().zip(["", "/", "/some/base/"]) {
        request.path = format!("{base}{}", request.path);
        assert_eq!(rig.upload(request).send().await.unwrap().status(), 200);
    }
    let mut stream = tokio::net::TcpStream::connect(rig.receiver.addr()).await.unwrap();
    let head = format!(
        "POST //observability/traces/otlp/v0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/x-protobuf\r\nContent-Encoding: gzip\r\n\
         Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n",
        super::agents::token()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    for chunk in chunked.body.chunks(500) {
        stream.write_all(format!("{:x}\r\n", chunk.len()).as_bytes()).await.unwrap();
        stream.write_all(chunk).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let job = &rig.uploads(&call.call_id()).await["jobs"][0];
    assert_eq!(job["uploads"], json!({"logs": 2, "traces": 2}));
}
