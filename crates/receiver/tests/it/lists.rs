//! Queries, pages, exports.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::rig::{Engine, Rig, detailed, on_both, record};

/// Five calls that differ in all that is asked for below.
async fn five(engine: Engine) -> Rig {
    let rig = Rig::new(engine).await;
    let mut a = detailed("a", "2026-11-01T10:00:00.000Z", &[0.5, 1.0, 1.5]);
    a["details"]["transcript"] = json!([
        {"by": "user", "text": "A Table for TWO, please"},
        {"by": "agent", "text": "日本語でどうぞ"},
    ]);
    let mut b = detailed("b", "2026-11-02T10:00:00.000Z", &[2.0, 3.0]);
    b["status"] = "failed".into();
    b["termination_reason"] = "agent_error".into();
    b["phone_number"] = "+4930123".into();
    b["details"]["observation"]["gaps"] =
        json!([{"from": "2026-11-02T10:00:00.000Z", "to": "2026-11-02T10:00:01.000Z"}]);
    b["outcomes"]["notes"] = "100 % of a_b\\c \"quoted\"".into();
    let mut c = record("c");
    c["start_time"] = "2026-11-03T10:00:00.000Z".into();
    c["status"] = "dropped".into();
    c["agent_config"]["business_type"] = Value::Null;
    c["outcomes"]["successful"] = Value::Null;
    c["metrics"]["silence_count"] = 0.into();
    let mut d = record("d");
    d["start_time"] = "2026-11-03T10:00:00.000Z".into();
    d["end_time"] = Value::Null;
    d["call_type"] = "outbound".into();
    d["agent_config"]["business_type"] = "Hotel".into();
    d["outcomes"]["successful"] = false.into();
    d["room_name"] = "räume/Über".into();
    let mut e = record("e");
    e["start_time"] = "2026-11-05T23:30:00.000+02:00".into();
    e["duration_seconds"] = 12.into();
    for record in [&a, &b, &c, &d, &e] {
        rig.keep(record).await;
    }
    rig
}

async fn queries_find_what_they_say(engine: Engine) {
    let rig = five(engine).await;
    for (query, expected) in [
        ("", "e d c b a"),
        ("status=failed,dropped", "c b"),
        ("status.ne=completed", "c b"),
        ("call_id.in=a,e,nobody", "e a"),
        ("call_id=a,e", ""),
        ("phone_number.sw=%2B4930", "b"),
        ("phone_number.sw=%2B", "e d c b a"),
        ("phone_number=%2B15551234567", "e d c a"),
        ("room_name.sw=r%C3%A4", "d"),
        ("room_name.co=%C3%9Cber", "d"),
        ("room_name.co=%C3%BCber", ""),
        ("room_name.co=%25", ""),
        ("business_type.present=false", "c"),
        ("business_type.present=true", "e d b a"),
        ("business_type.ne=restaurant", "d c"),
        ("business_type=hotel", ""),
        ("successful=true", "e b a"),
        ("successful=false", "d"),
        ("successful.ne=true", "d c"),
        ("start_time.ge=2026-11-03", "e d c"),
        ("start_time.gt=2026-11-03T10:00:00Z", "e"),
        ("start_time.lt=2026-11-02T10:00:00.001Z", "b a"),
        // The plus sign arrives as a blank.
        ("start_time.le=2026-11-03T12:00:00+02:00", "d c b a"),
        ("start_time=2026-11-05T21:30:00Z", "e"),
        ("end_time.present=false", "d"),
        ("duration_seconds.lt=12.5", "e"),
        ("silence_count=0", "c"),
        ("silence_count.in=0,3", "e d c b a"),
        ("silence_count.ge=1.5", "e d b a"),
        ("agent_response.p95.gt=1.5", "b"),
        ("agent_response.p95.ge=1.5", "b a"),
        ("agent_response.count=3", "a"),
        ("complete=true", "a"),
        ("complete.ne=true", "e d c b"),
        ("gaps.gt=0", "b"),
        ("ended_by=caller&status=failed", "b"),
        ("received_at.ge=2026-11-01", "e d c b a"),
        ("q=table", "a"),
        ("q=TABLE%20two", "a"),
        ("q=%22table%20for%20two%22", "a"),
        ("q=%22table%20two%22", ""),
        ("q=table&q=agent_error", ""),
        ("q=%E6%97%A5%E6%9C%AC%E8%AA%9E", "a"),
        ("q=%E6%97%A5%E6%9C%AC", "a"),
        ("q=%E6%97%A5", "a"),
        ("q=agent_error", "b"),
        ("q=a_b", "b"),
        ("q=0%20%25", "b"),
        ("q=%25", "b"),
        ("q=_b", "b"),
        ("q=b%5Cc", "b"),
        ("q=b%5Cd", ""),
        ("q=_b%5Cc", "b"),
        ("q=%C3%9CBER", "d"),
        ("q=15551234567&status=dropped", "c"),
    ] {
        assert_eq!(rig.ids(query).await.join(" "), expected, "{query}");
    }
}

async fn a_wrong_query_says_what_would_be_right(engine: Engine) {
    let rig = five(engine).await;
    for (query, path, part) in [
        ("colour=red", "colour", "known are limit, cursor, include_total, q, call_id, start_time"),
        ("status=fine", "status", "must be one of completed, failed, dropped"),
        ("status.gt=failed", "status.gt", "status can be compared by eq, ne, in, present"),
        ("status.like=f", "status.like", "can be compared by"),
        ("start_time.ge=yesterday", "start_time.ge", "must be a time like"),
        ("duration_seconds.gt=NaN", "duration_seconds.gt", "must be a number"),
        ("silence_count.in=1,x", "silence_count.in", "must be a number"),
        ("successful=yes", "successful", "must be true or false"),
        ("successful.in=true", "successful.in", "can be compared by eq, ne, present"),
        ("limit=0", "limit", "from 1 to 500"),
        ("limit=501", "limit", "from 1 to 500"),
        ("cursor=x", "cursor", "next_cursor"),
        ("include_total=1", "include_total", "true or false"),
        ("q=%20", "q", "must have a word"),
        ("agent_response=1", "agent_response", "unknown"),
    ] {
        let (status, said) = rig.get(&format!("/api/calls?{query}")).await;
        assert_eq!(status, 400, "{query}: {said}");
        let mistake = &said["errors"][0];
        assert_eq!(mistake["path"], path);
        assert!(mistake["problem"].as_str().unwrap().contains(part), "{query}: {said}");
    }
    let (_, said) = rig.get("/api/calls?a=1&b=2&limit=x").await;
    assert_eq!(said["errors"].as_array().unwrap().len(), 3);
}

async fn a_call_of_a_list_has_all_fields(engine: Engine) {
    let rig = five(engine).await;
    let (_, list) = rig.get("/api/calls?call_id=b").await;
    let call = &list["calls"][0];
    assert_eq!(call["start_time"], "2026-11-02T10:00:00.000Z");
    assert_eq!(call["duration_seconds"], 342.123);
    assert_eq!(call["successful"], true);
    assert_eq!(call["complete"], false);
    assert_eq!(call["gaps"], 1);
    assert_eq!(call["agent_response.p50"], 2.0);
    assert_eq!(call["user_response.p50"], Value::Null);
    assert_eq!(call.as_object().unwrap().len(), receiver::fields::FIELDS.len());
    assert_eq!(rig.get("/api/calls/nobody").await.0, 404);
}

async fn each_number_is_shown_with_its_moments(engine: Engine) {
    let rig = five(engine).await;
    let (status, shown) = rig.get("/api/calls/b/explained").await;
    assert_eq!((status, &shown["call_id"]), (200, &json!("b")), "{shown}");
    let p95 = &shown["numbers"]["details.latency.agent_response.p95"];
    assert_eq!(p95["value"], 3.0, "{shown}");
    assert_eq!(p95["note"], "the record has no timeline");
    assert_eq!(rig.get("/api/calls/nobody/explained").await.0, 404);
}

/// Calls that arrive between two pages neither move nor repeat the others; some begin at the same time.
async fn pages_are_stable_while_calls_arrive(engine: Engine) {
    let rig = Rig::new(engine).await;
    let at = |id: &str, minute: u32| {
        let mut record = record(id);
        record["start_time"] = format!("2026-11-01T10:{minute:02}:00.000Z").into();
        record
    };
    for n in 0..25_u32 {
        rig.keep(&at(&format!("old-{n:02}"), n / 3)).await;
    }
    let all = rig.ids("").await;
    let (mut seen, mut cursor, mut page) = (vec![], String::new(), 0);
    loop {
        let path = format!("/api/calls?limit=4&call_id.sw=old&include_total=true{cursor}");
        let (_, list) = rig.get(&path).await;
        assert_eq!(list["total"], 25);
        let ids = list["calls"].as_array().unwrap().iter();
        seen.extend(ids.map(|c| c["call_id"].as_str().unwrap().to_owned()));
        // One that is the newest, and one in the middle of what was seen.
        rig.keep(&at(&format!("new-{page}"), 59)).await;
        rig.keep(&at(&format!("between-{page}"), 4)).await;
        page += 1;
        match list["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(seen, all);
    assert_eq!(page, 7);
}

/// More calls than are looked through before the index is asked. A word is in all of them, in the oldest one, in none.
async fn words_are_found_among_very_many_calls(engine: Engine) {
    let rig = Rig::new(engine).await;
    let mut posts = tokio::task::JoinSet::new();
    for n in 0..2_100_u32 {
        let mut record = record(&format!("{n:04}"));
        record["start_time"] =
            format!("2026-11-01T{:02}:{:02}:{:02}.000Z", n / 3_600, n / 60 % 60, n % 60).into();
        let word = if n == 3 { "the oldest rare word" } else { "a common word" };
        record["outcomes"]["notes"] = word.into();
        posts.spawn(rig.post(record.to_string()).send());
        if posts.len() > 30 {
            assert_eq!(posts.join_next().await.unwrap().unwrap().unwrap().status(), 200);
        }
    }
    posts.join_all().await;
    assert_eq!(rig.ids("q=rare").await, ["0003"]);
    assert_eq!(rig.ids("q=rare%20common").await, [""; 0]);
    assert_eq!(rig.ids("q=no").await, [""; 0]);
    let (mut seen, mut cursor) = (vec![], String::new());
    loop {
        let (_, list) = rig.get(&format!("/api/calls?limit=500&q=word%20common{cursor}")).await;
        let ids = list["calls"].as_array().unwrap().iter();
        seen.extend(ids.map(|c| c["call_id"].as_str().unwrap().to_owned()));
        match list["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let expected: Vec<String> =
        (0..2_100).rev().filter(|n| *n != 3).map(|n| format!("{n:04}")).collect();
    assert_eq!(seen, expected);
}

async fn exports_have_all_calls_of_a_query(engine: Engine) {
    let rig = five(engine).await;
    let mut pretty = record("pretty");
    pretty["room_name"] = "=HYPERLINK(\"http://x\")".into();
    pretty["agent_config"]["business_type"] = "a,b\n\"c\"".into();
    let response = rig.post(format!("{pretty:#}\r\n")).send().await.unwrap();
    assert_eq!(response.status(), 200);

    let lines = rig.text("/api/calls.jsonl?status=completed").await;
    let records: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let ids: Vec<&str> = records.iter().map(|r| r["call_id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["e", "d", "a", "pretty"]);
    assert_eq!(records[3], pretty);

    let table = rig.text("/api/calls.csv?status=completed").await;
    let mut rows = csv::Reader::from_reader(table.as_bytes());
    let names: Vec<String> = rows.headers().unwrap().iter().map(str::to_owned).collect();
    assert!(names.iter().map(String::as_str).eq(receiver::fields::FIELDS.iter().map(|f| f.name)));
    let rows: Vec<csv::StringRecord> = rows.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 4);
    let cell = |row: usize, name: &str| &rows[row][names.iter().position(|n| n == name).unwrap()];
    assert_eq!(cell(0, "phone_number"), "+15551234567");
    assert_eq!(cell(2, "agent_response.p95"), "1.5");
    assert_eq!(cell(0, "agent_response.p95"), "");
    assert_eq!(cell(3, "room_name"), "'=HYPERLINK(\"http://x\")");
    assert_eq!(cell(3, "business_type"), "a,b\n\"c\"");
    assert_eq!(rig.get("/api/calls.csv?limit=1").await.0, 400, "an export has no limit");
}

async fn an_export_has_no_limit_of_rows(engine: Engine) {
    let rig = Rig::new(engine).await;
    let mut posts = tokio::task::JoinSet::new();
    for n in 0..1_203 {
        let mut record = record(&format!("{n:04}"));
        record["start_time"] = format!("2026-11-01T10:00:{:02}.000Z", n % 7).into();
        posts.spawn(rig.post(record.to_string()).send());
        if posts.len() > 30 {
            assert_eq!(posts.join_next().await.unwrap().unwrap().unwrap().status(), 200);
        }
    }
    posts.join_all().await;
    let lines = rig.text("/api/calls.jsonl").await;
    let mut ids = String::new();
    for line in lines.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        writeln!(ids, "{}", record["call_id"].as_str().unwrap()).unwrap();
    }
    let mut sorted: Vec<&str> = ids.lines().collect();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!((ids.lines().count(), sorted.len()), (1_203, 1_203));
    assert_eq!(rig.text("/api/calls.csv").await.lines().count(), 1_204);
}

on_both! {
    each_number_is_shown_with_its_moments,
    words_are_found_among_very_many_calls,
    queries_find_what_they_say,
    a_wrong_query_says_what_would_be_right,
    a_call_of_a_list_has_all_fields,
    pages_are_stable_while_calls_arrive,
    exports_have_all_calls_of_a_query,
    an_export_has_no_limit_of_rows,
}
