//! Deletion on the page.

use receiver::access::Scope;
use record::Moment;
use serde_json::Value;

use crate::{
    agents,
    rig::{NOW, Rig},
    rights::{get, log_in},
    samples,
};

/// A receiver that others can reach, and calls of which two have the same number.
async fn with_calls() -> (Rig, Vec<Value>) {
    let rig = Rig::public().await;
    let ingest = rig.token(&[Scope::Ingest]).await;
    let mut calls: Vec<Value> =
        (0..4).map(|n| samples::call(n, Moment::parse_rfc3339(NOW).unwrap())).collect();
    calls[1]["phone_number"] = calls[0]["phone_number"].clone();
    calls[3]["phone_number"] = "unknown".into();
    for call in &calls {
        rig.keep(call, Some(&ingest)).await;
    }
    (rig, calls)
}

fn form_token(html: &str) -> &str {
    html.split("name=\"form_token\" value=\"").nth(1).unwrap().split('"').next().unwrap()
}

fn of<'a>(call: &'a Value, key: &str) -> &'a str {
    call[key].as_str().unwrap()
}

#[tokio::test]
async fn an_admin_deletes_a_call_and_then_all_of_its_number() {
    let (rig, calls) = with_calls().await;
    let cookie = log_in(&rig, &rig.token(&[Scope::Read, Scope::Admin]).await).await.unwrap();
    let id = of(&calls[0], "call_id");
    let page = format!("/calls/{id}");
    let (_, html) = get(&rig, &page, &cookie).await;
    assert!(html.contains(&format!("href=\"/delete?call_id={id}\"")));
    let (status, ask) = get(&rig, &format!("/delete?call_id={id}"), &cookie).await;
    assert!(status == 200 && ask.contains("What stays"), "{ask}");
    assert_eq!(get(&rig, &page, &cookie).await.0, 200, "asking deletes nothing");
    let fields = format!("call_id={id}&form_token={}", form_token(&ask));
    let done = rig.send("/delete", &fields, &cookie).await;
    assert_eq!(
        (done.status().as_u16(), &done.headers()["location"].to_str().unwrap()),
        (303, &"/deleted?calls=1")
    );
    assert!(get(&rig, "/deleted?calls=1", &cookie).await.1.contains("Deleted: 1 call<"));
    assert_eq!(get(&rig, &page, &cookie).await.0, 404);
    assert_eq!(get(&rig, &format!("/delete?call_id={id}"), &cookie).await.0, 404);

    let number = of(&calls[1], "phone_number").replace('+', "%2B");
    let ask = get(&rig, &format!("/delete?phone_number={number}"), &cookie).await.1;
    assert!(ask.contains("1 call, at"), "{ask}");
    let fields = format!("phone_number={number}&form_token={}", form_token(&ask));
    assert_eq!(rig.send("/delete", &fields, &cookie).await.status(), 303);
    let list = get(&rig, "/calls", &cookie).await.1;
    for (n, call) in calls.iter().enumerate() {
        assert_eq!(list.contains(of(call, "call_id")), n > 1);
    }
    // Nobody's number is everybody's: it cannot be deleted as one.
    let unknown = get(&rig, &format!("/calls/{}", of(&calls[3], "call_id")), &cookie).await.1;
    assert!(unknown.contains("Delete this call") && !unknown.contains("Delete everything"));
}

#[tokio::test]
async fn nobody_else_deletes_and_no_foreign_form_does() {
    let (rig, calls) = with_calls().await;
    let id = of(&calls[0], "call_id");
    let ask = format!("/delete?call_id={id}");
    assert_eq!(rig.get(&ask).await.status(), 303, "a stranger has to log in");
    let reader = log_in(&rig, &rig.token(&[Scope::Read, Scope::Numbers]).await).await.unwrap();
    assert_eq!(get(&rig, &ask, &reader).await.0, 403);
    assert!(!get(&rig, &format!("/calls/{id}"), &reader).await.1.contains("/delete"));
    let admin = log_in(&rig, &rig.token(&[Scope::Read, Scope::Admin]).await).await.unwrap();
    let another = log_in(&rig, &rig.token(&[Scope::Read, Scope::Admin]).await).await.unwrap();
    let token = form_token(&get(&rig, &ask, &admin).await.1).to_owned();
    let cookie = admin.split_once(':').unwrap().1;
    for (fields, with) in [
        (format!("call_id={id}&form_token={token}"), ""),
        (format!("call_id={id}&form_token={token}"), reader.as_str()),
        (format!("call_id={id}&form_token={token}"), &another),
        (format!("call_id={id}&form_token={cookie}"), &admin),
        (format!("call_id={id}&form_token="), &admin),
        (format!("call_id={id}"), &admin),
        (format!("form_token={token}"), &admin),
        (format!("call_id={id}&phone_number=x&form_token={token}"), &admin),
    ] {
        let status = rig.send("/delete", &fields, with).await.status();
        assert!(!status.is_success() && status != 302, "{fields}: {status}");
    }
    let post = rig.client.post(rig.url("/delete")).header("cookie", &admin);
    let post = post
        .header("origin", "https://evil.example")
        .header("content-type", "application/x-www-form-urlencoded");
    let sent = post.body(format!("call_id={id}&form_token={token}")).send().await.unwrap();
    assert_eq!(sent.status(), 403);
    assert_eq!(get(&rig, &format!("/calls/{id}"), &admin).await.0, 200, "it is still there");
}

#[tokio::test]
async fn on_this_machine_it_works_without_a_login() {
    let rig = Rig::new().await;
    let call = samples::call(0, Moment::parse_rfc3339(NOW).unwrap());
    rig.keep(&call, None).await;
    let id = of(&call, "call_id");
    assert_eq!(rig.send("/delete", &format!("call_id={id}&form_token=x"), "").await.status(), 403);
    let ask = rig.page(&format!("/delete?call_id={id}")).await;
    let fields = format!("call_id={id}&form_token={}", form_token(&ask));
    assert_eq!(rig.send("/delete", &fields, "").await.status(), 303);
    assert_eq!(rig.get(&format!("/calls/{id}")).await.status(), 404);
}

#[tokio::test]
async fn a_recording_goes_with_its_call() {
    let rig = Rig::collecting().await;
    let call = agents::recorded("py-1.8.9-sip");
    rig.replay(call).await;
    rig.keep(&call.record(), None).await;
    assert_eq!(rig.recordings(), 1);
    let id = call.call_id();
    let ask = rig.page(&format!("/delete?call_id={id}")).await;
    let fields = format!("call_id={id}&form_token={}", form_token(&ask));
    assert_eq!(rig.send("/delete", &fields, "").await.status(), 303);
    assert_eq!(rig.recordings(), 0);
    assert_eq!(rig.get(&format!("/api/calls/{id}/recordings/0")).await.status(), 404);
}
