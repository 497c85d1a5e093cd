//! What goes and what stays.

use receiver::{
    deletion::look,
    store::{self, Sql},
};
use record::Moment;
use serde_json::{Value, json};

use crate::rig::{Engine, Rig, answer, detailed, on_both, record};

fn event(id: &str, number: &str) -> String {
    json!({
        "event": "call.started", "call_id": id, "sequence": 1, "time": "2026-11-23T07:24:31.120Z",
        "room_name": "r", "phone_number": number, "call_type": "inbound",
    })
    .to_string()
}

async fn post_event(rig: &Rig, id: &str, number: &str) -> (u16, Value) {
    let post = rig.client.post(rig.url("/call-events")).body(event(id, number));
    answer(post.send().await.unwrap()).await
}

async fn a_deleted_call_is_gone_and_does_not_come_back(engine: Engine) {
    let rig = Rig::new(engine).await;
    rig.keep(&record("one")).await;
    rig.keep(&record("two")).await;
    assert_eq!(post_event(&rig, "one", "+1").await.0, 200);
    assert_eq!(rig.delete("/api/calls/one").await, (200, json!({"deleted": 1})));
    assert_eq!(rig.delete("/api/calls/one").await.0, 404);
    assert_eq!(rig.get("/api/calls/one").await.0, 404);
    assert_eq!(rig.get("/api/calls/one/events").await.1, json!({"events": []}));
    assert_eq!(rig.ids("").await, ["two"]);
    assert_eq!(rig.ids("q=livekit-room").await, ["two"]);
    // The worker sends it once more: it is content, and nothing is kept.
    let again = answer(rig.post(record("one").to_string()).send().await.unwrap()).await;
    assert_eq!(again, (200, json!({"call_id": "one", "stored": "deleted"})));
    assert_eq!(post_event(&rig, "one", "+1").await.1["stored"], "deleted");
    assert_eq!(rig.ids("").await, ["two"]);
}

async fn nothing_of_a_number_stays_but_sums(engine: Engine) {
    let rig = Rig::new(engine).await;
    // More than one batch.
    let mut posts = tokio::task::JoinSet::new();
    for n in 0..450 {
        let mut call = detailed(&format!("call-{n}"), "2026-11-01T10:00:00.000Z", &[1.0, 2.0]);
        call["phone_number"] = if n < 430 { "+1999888777" } else { "+4930123" }.into();
        call["outcomes"]["final_stage"] = "Ms. Secretname called".into();
        call["details"]["transcript"] = json!([{"by": "user", "text": "my secretword"}]);
        posts.spawn(rig.post(call.to_string()).send());
        if posts.len() > 20 {
            posts.join_next().await.unwrap().unwrap().unwrap();
        }
    }
    posts.join_all().await;
    assert_eq!(post_event(&rig, "without-record", "+1999888777").await.0, 200);
    let path = "/api/stats?by=day,status&of=count,duration_seconds.sum,successful.avg,silence_count.max,\
                agent_response.p50,agent_response.p99&tz=Europe/Berlin";
    let before = rig.get(path).await;
    assert_eq!(before.1["groups"][0]["count"], 450, "{before:?}");

    assert_eq!(rig.delete("/api/numbers/%2B1999888777").await, (200, json!({"deleted": 430})));
    assert_eq!(rig.ids("").await.len(), 20);
    assert_eq!(rig.ids("phone_number.sw=%2B1999").await.len(), 0);
    assert_eq!(rig.ids("q=secretword").await.len(), 20);
    assert_eq!(rig.get("/api/calls/without-record/events").await.1, json!({"events": []}));
    assert_eq!(rig.get(path).await, before, "statistics did not change");
    let hotels = rig.get("/api/stats?business_type=hotel").await.1;
    assert_eq!(hotels["groups"], json!([]), "filters hold for sums of deleted calls too");
    let by_number = rig.get("/api/stats?by=phone_number").await.1;
    assert_eq!(by_number["deleted_included"], false);
    assert_eq!(by_number["groups"], json!([{"phone_number": "+4930123", "count": 20}]));

    assert_eq!(rig.delete("/api/numbers/%2B4930123").await.1, json!({"deleted": 20}));
    assert_eq!(rig.get(path).await, before);
    let store = store::open(&rig.home.place).await.unwrap();
    for (table, columns) in [
        ("deleted_days", "SELECT key, final_stage, aggregate FROM deleted_days"),
        ("deleted_calls", "SELECT id FROM deleted_calls"),
        ("bodies", "SELECT search_text FROM bodies"),
        ("events", "SELECT body FROM events"),
    ] {
        let rows = store.read(Sql::new(store.dialect(), columns)).await.unwrap();
        let rows = format!("{rows:?}").to_lowercase();
        for trace in ["secret", "1999888777", "4930123", "call-"] {
            assert!(!rows.contains(trace), "{trace} is left in {table}");
        }
    }
}

async fn what_is_too_old_goes(engine: Engine) {
    let rig = Rig::new(engine).await;
    let now = Moment::from_millis(chrono::Utc::now().timestamp_millis());
    let day = 24 * 60 * 60 * 1_000;
    for (id, days) in [("old", 31), ("young", 29), ("future", -4_000)] {
        let mut call = record(id);
        call["start_time"] = now.plus(-days * day).to_rfc3339().into();
        rig.keep(&call).await;
    }
    let store = store::open(&rig.home.place).await.unwrap();
    assert_eq!(look(&*store, None, now).await.unwrap(), 0, "without a limit nothing goes");
    assert_eq!(look(&*store, Some(30), now).await.unwrap(), 1);
    assert_eq!(rig.ids("").await, ["future", "young"]);
    // A call whose start is wrong goes by its arrival.
    assert_eq!(look(&*store, Some(30), now.plus(31 * day)).await.unwrap(), 2);
    assert_eq!(rig.get("/api/stats").await.1["groups"][0]["count"], 3);
}

async fn retention_runs_by_itself(engine: Engine) {
    let rig = Rig::new(engine).await;
    rig.keep(&record("of 2023")).await;
    rig.receiver.stop().await;
    let mut settings = rig.home.settings();
    settings.retention_days = Some(30);
    let again = receiver::Receiver::start(settings).await.unwrap();
    let url = crate::rig::url(again.addr(), "/api/calls");
    let deadline = tokio::time::Instant::now() + crate::rig::GENEROUS;
    loop {
        let (_, list) = answer(rig.client.get(&url).send().await.unwrap()).await;
        if list["calls"] == json!([]) {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "{list}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

on_both! {
    a_deleted_call_is_gone_and_does_not_come_back,
    nothing_of_a_number_stays_but_sums,
    what_is_too_old_goes,
    retention_runs_by_itself,
}

/// Rows go with their calls, the index of texts with its rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_index_of_texts_follows_deletions() {
    let rig = Rig::new(Engine::Sqlite).await;
    for n in 0..10 {
        rig.keep(&record(&format!("{n}"))).await;
    }
    for n in 0..9 {
        assert_eq!(rig.delete(&format!("/api/calls/{n}")).await.0, 200);
    }
    let store = store::open(&rig.home.place).await.unwrap();
    let mut transaction = store.begin().await.unwrap();
    // Fails if the index does not agree with the texts.
    let check = "INSERT INTO search (search, rank) VALUES ('integrity-check', 1)";
    transaction.execute(Sql::new(store.dialect(), check)).await.unwrap();
    let found = "SELECT count(*) FROM search WHERE search MATCH 'livekit'";
    let rows = transaction.read(Sql::new(store.dialect(), found)).await.unwrap();
    assert_eq!(rows[0].int(0), Some(1));
}

/// Not even in parts of the file that are free.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_deleted_call_is_left_in_the_file() {
    let rig = Rig::new(Engine::Sqlite).await;
    for n in 0..20 {
        let mut call = detailed(&format!("{n}"), "2026-11-01T10:00:00.000Z", &[1.0]);
        call["phone_number"] = "+1999888777".into();
        call["details"]["transcript"] =
            json!([{"by": "user", "text": "my secretword ".repeat(400)}]);
        rig.keep(&call).await;
    }
    rig.keep(&record("another")).await;
    assert_eq!(rig.delete("/api/numbers/%2B1999888777").await.1["deleted"], 20);
    // The log of writes goes into the file with the last connection.
    rig.receiver.stop().await;
    let store::Place::Sqlite { folder, .. } = &rig.home.place else { panic!("no SQLite") };
    let mut whole = vec![];
    for entry in std::fs::read_dir(folder).unwrap() {
        whole.extend(std::fs::read(entry.unwrap().path()).unwrap());
    }
    let text = String::from_utf8_lossy(&whole);
    assert!(text.contains("livekit-room-name"), "the file is read");
    for trace in ["secretword", "1999888777"] {
        assert!(!text.contains(trace), "{trace} is left");
    }
}
