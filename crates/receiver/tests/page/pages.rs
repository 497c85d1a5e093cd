//! What the pages show.

use record::Moment;
use serde_json::json;

use crate::{
    agents,
    rig::{NOW, Rig},
    samples,
};

fn example() -> serde_json::Value {
    serde_json::from_str(include_str!("../../../../docs/schema/example.json")).unwrap()
}

/// The same call and one with everything.
async fn full(rig: &Rig) -> Vec<serde_json::Value> {
    let now = Moment::parse_rfc3339(NOW).unwrap();
    let mut all: Vec<_> = (0..40).map(|n| samples::call(n, now)).collect();
    all.push(example());
    for record in &all {
        rig.keep(record, None).await;
    }
    all
}

#[tokio::test]
async fn every_page_is_there_and_says_what_browsers_may_do() {
    let rig = Rig::new().await;
    let all = full(&rig).await;
    let mut paths: Vec<String> = [
        "/calls",
        "/calls?status=failed&q=table",
        "/calls?limit=5",
        "/numbers",
        "/integration",
        "/login",
    ]
    .map(str::to_owned)
    .into();
    paths.extend(all.iter().map(|call| format!("/calls/{}", call["call_id"].as_str().unwrap())));
    for path in &paths {
        let response = rig.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        let headers = response.headers().clone();
        let policy = headers["content-security-policy"].to_str().unwrap();
        for part in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
        ] {
            assert!(policy.contains(part), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(headers["cache-control"], "no-store");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        let html = response.text().await.unwrap();
        assert!(html.starts_with("<!doctype html>"), "{path}");
        for foreign in ["http://", "https://", "\"//", " style=", "<style", " onclick"] {
            let html = html.replace("http://HOST:8082", "");
            assert!(!html.contains(foreign), "{path} holds {foreign}");
        }
        assert_eq!(html.matches("<script").count(), 1, "{path}");
    }
    let home = rig.get("/").await;
    assert_eq!(
        (home.status().as_u16(), home.headers()["location"].to_str().unwrap()),
        (303, "/calls")
    );
}

#[tokio::test]
async fn assets_may_be_kept_for_ever_under_their_name() {
    let rig = Rig::new().await;
    let html = rig.page("/calls").await;
    for (before, kind) in [
        ("stylesheet\" href=\"", "text/css"),
        ("script src=\"", "text/javascript"),
        ("rel=\"icon\" href=\"", "image/svg+xml"),
    ] {
        let path = html.split(before).nth(1).unwrap().split('"').next().unwrap();
        let response = rig.get(path).await;
        assert_eq!(response.status(), 200, "{path}");
        assert!(response.headers()["content-type"].to_str().unwrap().starts_with(kind));
        assert!(response.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    }
    assert_eq!(rig.get("/assets/page-000000000000.css").await.status(), 404);
}

#[tokio::test]
async fn whatever_a_record_holds_is_text() {
    let rig = Rig::new().await;
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>";
    let mut call = samples::call(3, Moment::parse_rfc3339(NOW).unwrap());
    call["call_id"] = "evil&<b>".into();
    call["phone_number"] = evil.into();
    call["room_name"] = evil.into();
    call["termination_reason"] = evil.into();
    call["outcomes"]["notes"] = evil.into();
    call["outcomes"]["final_stage"] = evil.into();
    call["agent_config"]["business_type"] = evil.into();
    call["stage_timeline"][0]["stage"] = evil.into();
    if let Some(line) = call["details"].get_mut("transcript").and_then(|t| t.get_mut(0)) {
        line["text"] = evil.into();
    }
    if let Some(person) = call["details"].get_mut("participants").and_then(|t| t.get_mut(0)) {
        person["identity"] = evil.into();
    }
    rig.keep(&call, None).await;
    let address = format!(
        "/calls?business_type={}",
        "%3Cscript%3Ealert(1)%3C/script%3E%22'%3E%3Cimg%20src=x%20onerror=alert(2)%3E"
    );
    for path in ["/calls", "/calls/evil%26%3Cb%3E", "/numbers", &address, "/calls?%3Cscript%3E=1"] {
        let response = rig.get(path).await;
        let html = response.text().await.unwrap();
        assert!(!html.contains("<script>") && !html.contains("<img"), "{path}");
        assert!(html.contains("&#60;script&#62;"), "{path} shows it as text");
    }
}

#[tokio::test]
async fn filters_are_those_of_the_api() {
    let rig = Rig::new().await;
    let all = full(&rig).await;
    for query in [
        "status=failed",
        "status=failed,dropped",
        "call_type=outbound",
        "business_type=clinic",
        "agent_response.p95.gt=1.5",
        "q=gluten",
        "interruption_count.ge=1",
        "complete=false",
        "room_name.sw=call-",
    ] {
        let api = rig.get(&format!("/api/calls?limit=500&{query}")).await.text().await.unwrap();
        let api: serde_json::Value = serde_json::from_str(&api).unwrap();
        let html = rig.page(&format!("/calls?limit=500&{query}")).await;
        let wanted = api["calls"].as_array().unwrap();
        assert!(wanted.len() < all.len(), "{query} leaves some out");
        for call in &all {
            let id = call["call_id"].as_str().unwrap();
            let found = wanted.iter().any(|wanted| wanted["call_id"] == id);
            assert_eq!(html.contains(&format!("href=\"/calls/{id}\"")), found, "{query}: {id}");
        }
    }
    let empty = rig.get("/calls?status=&q=&business_type=clinic").await;
    assert_eq!(empty.headers()["location"], "/calls?business_type=clinic");
    let wrong = rig.get("/calls?status=lost&colour=red").await;
    assert_eq!(wrong.status(), 400);
    let html = wrong.text().await.unwrap();
    assert!(html.contains("must be one of completed") && html.contains("colour=red"));
    assert!(rig.page("/calls?business_type=bank").await.contains("No call matches"));
}

#[tokio::test]
async fn pages_go_there_and_back() {
    let rig = Rig::new().await;
    full(&rig).await;
    let links = |html: &str| -> Vec<String> {
        let links = html.split("href=\"/calls/").skip(1);
        links.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
    };
    let next = |html: &str, rel: &str| -> Option<String> {
        let tag = html.split("<a ").find(|tag| tag.contains(&format!("rel=\"{rel}\"")))?;
        Some(tag.split("href=\"").nth(1)?.split('"').next()?.replace("&#38;", "&"))
    };
    let first = rig.page("/calls?limit=7").await;
    assert_eq!((links(&first).len(), next(&first, "prev")), (7, None));
    let second = rig.page(&format!("{}&limit=7", next(&first, "next").unwrap())).await;
    assert!(links(&second).iter().all(|id| !links(&first).contains(id)));
    let back = rig.page(&format!("{}&limit=7", next(&second, "prev").unwrap())).await;
    assert_eq!(links(&back), links(&first));
}

#[tokio::test]
async fn a_call_links_numbers_to_moments_and_moments_to_words() {
    let rig = Rig::new().await;
    let all = full(&rig).await;
    for call in &all {
        let html = rig.page(&format!("/calls/{}", call["call_id"].as_str().unwrap())).await;
        let hrefs = html.split("href=\"#").skip(1).map(|rest| rest.split('"').next().unwrap());
        for href in hrefs.filter(|href| !href.is_empty()) {
            assert!(
                html.contains(&format!("id=\"{href}\"")),
                "nothing is at #{href}: {}",
                call["call_id"]
            );
        }
        let ids: Vec<&str> =
            html.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        let mut unique = ids.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), ids.len(), "{}", call["call_id"]);
    }
    let html = rig.page("/calls/unique-id-for-the-call").await;
    assert!(html.contains("the record has no details") && html.contains("information gathering"));
    assert_eq!(rig.get("/calls/nothing").await.status(), 404);
}

#[tokio::test]
async fn calls_that_are_on_are_on_top_until_their_record_comes() {
    let rig = Rig::new().await;
    assert!(rig.page("/calls").await.contains("No calls yet"));
    for event in samples::running(Moment::parse_rfc3339(NOW).unwrap()) {
        let post = rig.client.post(rig.url("/call-events")).body(event.to_string());
        assert_eq!(post.send().await.unwrap().status(), 200);
    }
    let html = rig.page("/now").await;
    assert!(
        html.contains("+15550104444")
            && html.contains("+15550107777")
            && html.contains("information gathering"),
        "{html}"
    );
    let mut call = example();
    call["call_id"] = json!("running-4");
    rig.keep(&call, None).await;
    let html = rig.page("/now").await;
    assert!(!html.contains("+15550104444") && html.contains("+15550107777"));
}

#[tokio::test]
async fn both_engines_show_the_same() {
    let (sqlite, postgres) = tokio::join!(Rig::new(), Rig::on_postgres());
    let all = full(&sqlite).await;
    full(&postgres).await;
    for event in samples::running(Moment::parse_rfc3339(NOW).unwrap()) {
        for rig in [&sqlite, &postgres] {
            let post = rig.client.post(rig.url("/call-events")).body(event.to_string());
            assert_eq!(post.send().await.unwrap().status(), 200);
        }
    }
    let mut paths: Vec<String> = [
        "/calls",
        "/calls?q=gluten",
        "/calls?limit=7",
        "/now",
        "/numbers",
        "/numbers?start_time.ge=2020-01-01",
    ]
    .map(str::to_owned)
    .into();
    paths.extend(all.iter().map(|call| format!("/calls/{}", call["call_id"].as_str().unwrap())));
    for path in paths {
        assert_eq!(sqlite.page(&path).await, postgres.page(&path).await, "{path}");
    }
    assert!(postgres.page("/integration").await.contains("Postgres"));
}

/// What an agent uploaded stands on the page of its call, for readers who see no numbers too.
#[tokio::test]
async fn a_recording_can_be_heard_on_the_page_of_its_call() {
    let rig = Rig::collecting().await;
    let call = agents::recorded("py-1.8.9-named");
    rig.replay(call).await;
    let mut record = call.record();
    record["details"] = json!({});
    rig.keep(&record, None).await;
    let page = rig.page(&format!("/calls/{}", call.call_id())).await;
    let sound = format!("/api/calls/{}/recordings/0", call.call_id());
    for part in [
        "<audio controls",
        &format!("src=\"{sound}\" type=\"audio/ogg\""),
        "data-starts=\"0.174\"",
        "could not be compared with ours",
        "look_up_order",
        "was polite",
        "order state told",
        "participant disconnected",
        "the caller cut it off",
    ] {
        assert!(page.contains(part), "{part} is not on the page");
    }
    let policy = rig.get("/calls").await.headers()["content-security-policy"].clone();
    assert!(policy.to_str().unwrap().contains("media-src 'self'"));
    assert_eq!(rig.get(&sound).await.status(), 200);
}
