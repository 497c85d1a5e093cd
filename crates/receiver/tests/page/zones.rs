//! Time zones, and two filters beside each other.

use serde_json::{Value, json};

use crate::rig::Rig;

fn call(id: &str, start: &str, business: &str) -> Value {
    let mut call: Value =
        serde_json::from_str(include_str!("../../../../docs/schema/example.json")).unwrap();
    call["call_id"] = id.into();
    call["start_time"] = start.into();
    call["end_time"] = start.into();
    call["agent_config"]["business_type"] = business.into();
    call
}

/// Two calls around a midnight of Berlin, one around one of UTC.
async fn with_calls() -> Rig {
    let rig = Rig::new().await;
    for call in [
        call("before", "2026-11-24T22:59:59.000Z", "clinic"),
        call("after", "2026-11-24T23:00:01.000Z", "clinic"),
        call("later", "2026-11-25T00:30:00.000Z", "hotel"),
    ] {
        rig.keep(&call, None).await;
    }
    rig
}

fn has(html: &str, id: &str) -> bool {
    html.contains(&format!("href=\"/calls/{id}\""))
}

#[tokio::test]
async fn times_are_shown_and_days_are_meant_in_the_readers_zone() {
    let rig = with_calls().await;
    let utc = rig.page("/calls?start_time.ge=2026-11-25").await;
    assert!(!has(&utc, "after") && has(&utc, "later") && utc.contains(">00:30:00<"));
    let address = "/calls?start_time.ge=2026-11-25&tz=Europe/Berlin";
    let response = rig.get(address).await;
    let cookie = response.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("call_history_zone=Europe/Berlin; Path=/"), "{cookie}");
    let berlin = response.text().await.unwrap();
    assert!(!has(&berlin, "before") && has(&berlin, "after") && has(&berlin, "later"));
    assert!(berlin.contains(">00:00:01<") && berlin.contains(">01:30:00<"));
    assert!(berlin.contains("Wednesday, 25 November 2026") && !berlin.contains("Tuesday"));
    // Exports know no zone: they get instants. The other links hold the zone.
    assert!(berlin.contains("/api/calls.csv?start_time.ge=2026-11-24T23:00:00.000Z\""), "{berlin}");
    assert!(berlin.contains("/numbers?start_time.ge=2026-11-25&#38;tz=Europe%2FBerlin\""));
    let kept = rig.client.get(rig.url("/calls/after"));
    let kept = kept.header("cookie", cookie.split(';').next().unwrap()).send().await.unwrap();
    assert!(kept.headers().get("set-cookie").is_none());
    let kept = kept.text().await.unwrap();
    assert!(kept.contains("25 Nov 2026, 00:00:01 Europe/Berlin"), "{kept}");
}

#[tokio::test]
async fn a_zone_is_chosen_without_a_script() {
    let rig = with_calls().await;
    let from = rig.client.get(rig.url("/zone")).header("referer", rig.url("/calls?q=a&tz=UTC"));
    let html = from.send().await.unwrap().text().await.unwrap();
    assert!(
        html.contains("<option>Asia/Kolkata</option>")
            && html.contains("<option selected>UTC</option>")
    );
    assert!(html.contains("name=\"to\" value=\"/calls?q=a&#38;tz=UTC\""));
    let chosen = rig.get("/zone?tz=Asia%2FKolkata&to=%2Fcalls%3Fq%3Da%26tz%3DUTC").await;
    assert_eq!(chosen.headers()["location"], "/calls?q=a&tz=Asia%2FKolkata");
    assert!(chosen.headers()["set-cookie"].to_str().unwrap().contains("zone=Asia/Kolkata"));
    assert_eq!(rig.get("/zone?tz=Nowhere").await.status(), 400);
    let elsewhere = rig.get("/zone?tz=UTC&to=https://evil.example").await;
    assert_eq!(elsewhere.headers()["location"], "/calls");
}

#[tokio::test]
async fn figures_count_the_days_of_the_zone() {
    let rig = with_calls().await;
    let query = "/numbers?start_time.ge=2026-11-24&start_time.lt=2026-11-26";
    let utc = rig.page(query).await;
    assert!(utc.contains("24 Nov: 2 completed") && utc.contains("25 Nov: 1 completed"), "{utc}");
    let berlin = rig.page(&format!("{query}&tz=Europe/Berlin")).await;
    assert!(berlin.contains("24 Nov: 1 completed") && berlin.contains("25 Nov: 2 completed"));
    // Columns lead to the calls of their day, in this zone.
    let href = "/calls?tz=Europe%2FBerlin&#38;start_time.ge=2026-11-25&#38;start_time.lt=2026-11-26&#38;status=completed";
    assert!(berlin.contains(href), "{berlin}");
    let list = rig.page(&href.replace("&#38;", "&")).await;
    assert!(has(&list, "after") && has(&list, "later") && !has(&list, "before"));
    // An hour of the week leads to its calls.
    let hour = berlin.split("Wed 0:00 to 1:00, 1 call").next().unwrap();
    let href = hour.rsplit("<a href=\"").next().unwrap().split('"').next().unwrap();
    let list = rig.page(&href.replace("&#38;", "&")).await;
    assert!(has(&list, "after") && !has(&list, "later"), "{href}");
}

#[tokio::test]
async fn two_filters_stand_side_by_side() {
    let rig = with_calls().await;
    let time = "start_time.ge=2026-11-24&start_time.lt=2026-11-26";
    let html =
        rig.page(&format!("/numbers?business_type=clinic&{time}&versus.business_type=hotel")).await;
    for part in
        ["business type clinic", "business type hotel", "−1<", "Swap them", "id=\"hours-b\""]
    {
        assert!(html.contains(part), "{part}: {html}");
    }
    // Both are drawn to the same scale: the axes are the same.
    let axes: Vec<&str> = html
        .split("<g aria-hidden=\"true\"><path class=\"grid\"")
        .skip(1)
        .map(|rest| rest.split("</g>").next().unwrap())
        .collect();
    assert_eq!(axes.len(), 6);
    assert_eq!((axes[0], axes[2], axes[4]), (axes[1], axes[3], axes[5]));
    let all = rig.page(&format!("/numbers?business_type=clinic&{time}&versus=all")).await;
    assert!(all.contains("all calls") && all.contains("+1<"), "{all}");
    let one = rig.page(&format!("/numbers?business_type=clinic&{time}")).await;
    let ways: Vec<&str> =
        one.split("href=\"").filter(|rest| rest.contains(">Compare with")).collect();
    assert!(!one.contains("Side by side") && ways.len() >= 2, "{one}");
    let before = one
        .split("\">Compare with the time before")
        .next()
        .unwrap()
        .rsplit("href=\"")
        .next()
        .unwrap();
    let html = rig.page(&before.replace("&#38;", "&")).await;
    assert!(html.contains("22 Nov 2026 to 23 Nov 2026"), "{html}");
    // What is wrong in the other filter stands at its field.
    let wrong = rig.get("/numbers?versus.start_time.ge=soon&versus.colour=red").await;
    assert_eq!(wrong.status(), 400);
    let html = wrong.text().await.unwrap();
    assert!(
        html.contains("id=\"problem-versus.start_time.ge\"")
            && html.contains("versus.colour: unknown")
    );
    assert_eq!(json!(html.matches("This filter cannot be read").count()), json!(1));
}
