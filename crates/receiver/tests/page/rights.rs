//! Who sees the page, and who sees numbers.

use receiver::access::Scope;
use record::Moment;
use reqwest::header;

use crate::{
    rig::{NOW, Rig},
    samples,
};

pub(crate) async fn log_in(rig: &Rig, token: &str) -> Option<String> {
    let response = rig.send("/login", &format!("secret={token}&to=/calls?status=failed"), "").await;
    let cookie = response.headers().get(header::SET_COOKIE)?.to_str().unwrap().to_owned();
    assert_eq!(response.headers()[header::LOCATION], "/calls?status=failed");
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains(token));
    Some(cookie.split(';').next().unwrap().to_owned())
}

pub(crate) async fn get(rig: &Rig, path: &str, cookie: &str) -> (u16, String) {
    let response =
        rig.client.get(rig.url(path)).header(header::COOKIE, cookie).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

pub(crate) async fn with_a_call() -> (Rig, String, String) {
    let rig = Rig::public().await;
    let ingest = rig.token(&[Scope::Ingest]).await;
    let call = samples::call(3, Moment::parse_rfc3339(NOW).unwrap());
    rig.keep(&call, Some(&ingest)).await;
    let text = |key: &str| call[key].as_str().unwrap().to_owned();
    (rig, text("call_id"), text("phone_number"))
}

#[tokio::test]
async fn nobody_reads_without_a_login() {
    let (rig, id, number) = with_a_call().await;
    for path in
        ["/calls", "/now", "/now/stream", "/numbers", "/integration", &format!("/calls/{id}")]
    {
        let response = rig.get(path).await;
        assert_eq!(response.status(), 303, "{path}");
        assert!(
            response.headers()["location"].to_str().unwrap().starts_with("/login?to="),
            "{path}"
        );
        assert!(!response.text().await.unwrap().contains(&number));
    }
    assert!(log_in(&rig, "chr_guessed").await.is_none());
    let ingest = rig.token(&[Scope::Ingest]).await;
    assert!(log_in(&rig, &ingest).await.is_none(), "it may not read");
    for forged in ["call_history=x", "call_history=x:y.z.w", "call_history=", "other=1"] {
        assert_eq!(get(&rig, "/calls", forged).await.0, 303, "{forged}");
    }
}

#[tokio::test]
async fn numbers_are_masked_unless_the_reader_may_see_them() {
    let (rig, id, number) = with_a_call().await;
    let reader = rig.token(&[Scope::Read]).await;
    let cookie = log_in(&rig, &reader).await.unwrap();
    let paths = ["/calls", "/numbers", "/integration", &format!("/calls/{id}")];
    for path in paths {
        let (status, html) = get(&rig, path, &cookie).await;
        assert_eq!(status, 200, "{path}");
        assert!(!html.contains(&number[1..]), "{path} shows {number}");
    }
    assert!(get(&rig, "/calls", &cookie).await.1.contains("15•••"));
    for path in ["/api/calls", "/api/calls.csv", &format!("/api/calls/{id}")] {
        assert_eq!(get(&rig, path, &cookie).await.0, 401, "{path} shows numbers whole");
    }
    for scopes in [[Scope::Read, Scope::Numbers], [Scope::Read, Scope::Admin]] {
        let cookie = log_in(&rig, &rig.token(&scopes).await).await.unwrap();
        assert!(get(&rig, "/calls", &cookie).await.1.contains(&number));
        assert_eq!(get(&rig, "/api/calls.csv", &cookie).await.0, 200);
        let delete = rig.client.delete(rig.url(&format!("/api/calls/{id}")));
        let deleted = delete.header(header::COOKIE, &cookie).send().await.unwrap();
        assert_eq!(deleted.status(), 401, "a cookie reads, and does nothing else");
    }
}

#[tokio::test]
async fn a_session_ends_with_its_token() {
    let (rig, ..) = with_a_call().await;
    let admin = rig.token(&[Scope::Admin]).await;
    let reader = rig.token(&[Scope::Read]).await;
    let cookie = log_in(&rig, &reader).await.unwrap();
    assert_eq!(get(&rig, "/calls", &cookie).await.0, 200);
    let id = cookie.split(['=', ':']).nth(1).unwrap();
    let delete = rig.client.delete(rig.url(&format!("/api/tokens/{id}"))).bearer_auth(&admin);
    assert_eq!(delete.send().await.unwrap().status(), 204);
    assert_eq!(get(&rig, "/calls", &cookie).await.0, 303);
    let out = rig.client.post(rig.url("/logout")).send().await.unwrap();
    assert!(out.headers()[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
}

#[tokio::test]
async fn a_form_of_another_site_logs_nobody_in_or_out() {
    let (rig, ..) = with_a_call().await;
    for path in ["/login", "/logout"] {
        let post = rig.client.post(rig.url(path)).header(header::ORIGIN, "https://evil.example");
        let post =
            post.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded").body("secret=x");
        let response = post.send().await.unwrap();
        assert_eq!(response.status(), 403, "{path}");
        assert!(response.headers().get(header::SET_COOKIE).is_none());
    }
}

#[tokio::test]
async fn who_sees_numbers_masked_cannot_find_them_out() {
    let (rig, _, number) = with_a_call().await;
    let cookie = log_in(&rig, &rig.token(&[Scope::Read]).await).await.unwrap();
    let escaped = number.replace('+', "%2B");
    for query in [
        format!("phone_number={escaped}"),
        "phone_number.sw=%2B1".into(),
        "room_name.co=call".into(),
        "q=555".into(),
    ] {
        for path in ["/calls", "/numbers"] {
            let (status, html) = get(&rig, &format!("{path}?{query}"), &cookie).await;
            assert_eq!(status, 400, "{path}?{query}");
            assert!(html.contains("numbers are masked for you"), "{path}?{query}");
        }
    }
    let (status, _) = get(&rig, "/numbers?versus.phone_number.sw=%2B1", &cookie).await;
    assert_eq!(status, 400);
    assert!(!get(&rig, "/calls", &cookie).await.1.contains("phone_number"), "there is no field");
    let cookie = log_in(&rig, &rig.token(&[Scope::Read, Scope::Numbers]).await).await.unwrap();
    let (status, html) = get(&rig, &format!("/calls?phone_number={escaped}"), &cookie).await;
    assert!(status == 200 && html.contains(&number));
}

#[tokio::test]
async fn in_a_demo_anybody_looks_and_nobody_changes_anything() {
    let rig = Rig::demo().await;
    let ingest = rig.token(&[Scope::Ingest, Scope::Read, Scope::Admin]).await;
    let call = samples::call(3, Moment::parse_rfc3339(NOW).unwrap());
    rig.keep(&call, Some(&ingest)).await;
    let (id, number) = (call["call_id"].as_str().unwrap(), call["phone_number"].as_str().unwrap());
    for path in
        ["/calls", "/now", "/numbers", "/integration", "/zone", &format!("/calls/{id}?raw=1")]
    {
        let html = rig.page(path).await;
        assert!(!html.contains(&number[1..]), "{path} shows {number}");
        assert!(path == "/now" || html.contains("This is a demo"), "{path}");
    }
    for path in ["/api/calls", "/api/calls.csv", "/api/calls.jsonl", "/api/stats", "/api/live"] {
        assert_eq!(rig.get(path).await.status(), 401, "{path} is closed");
    }
    assert_eq!(rig.get(&format!("/api/calls/{id}")).await.status(), 401);
    assert_eq!(rig.get(&format!("/delete?call_id={id}")).await.status(), 403);
    assert_eq!(rig.get("/login").await.headers()["location"], "/calls");
    for (path, fields) in [
        ("/login", format!("secret={ingest}")),
        ("/logout", String::new()),
        ("/delete", format!("call_id={id}&form_token=")),
        ("/first-run", "key=&password=long+enough+for+it&again=long+enough+for+it".into()),
    ] {
        assert_eq!(rig.send(path, &fields, "").await.status(), 403, "{path}");
    }
    // A proxy on this machine may pass on what strangers post.
    let post = rig.client.post(rig.url("/call-history")).body(call.to_string());
    assert_eq!(post.send().await.unwrap().status(), 401);
}
