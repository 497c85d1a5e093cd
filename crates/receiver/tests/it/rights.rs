//! Tokens and scopes.

use receiver::access::{self, Scope};
use record::Moment;
use reqwest::{Method, StatusCode, header};
use serde_json::json;

use crate::rig::{Engine, Rig, answer, on_both, record};

/// Listens on all addresses; the tests come by loopback.
async fn public(engine: Engine) -> Rig {
    Rig::with(engine, |s| s.addr = "0.0.0.0:0".parse().unwrap()).await
}

async fn token(rig: &Rig, scopes: &[Scope]) -> String {
    let store = receiver::store::open(&rig.home.place).await.unwrap();
    access::create(&*store, "test", scopes, Moment::from_millis(0)).await.unwrap().1
}

/// Each route with the scope that it asks for.
const ROUTES: [(&str, &str, Scope); 14] = [
    ("POST", "/call-history", Scope::Ingest),
    ("POST", "/call-events", Scope::Ingest),
    ("GET", "/api/calls", Scope::Read),
    ("GET", "/api/calls/x", Scope::Read),
    ("GET", "/api/calls/x/events", Scope::Read),
    ("GET", "/api/calls/x/explained", Scope::Read),
    ("GET", "/api/calls.csv", Scope::Read),
    ("GET", "/api/calls.jsonl", Scope::Read),
    ("GET", "/api/stats", Scope::Read),
    ("GET", "/api/live", Scope::Read),
    ("DELETE", "/api/calls/x", Scope::Admin),
    ("DELETE", "/api/numbers/x", Scope::Admin),
    ("GET", "/api/tokens", Scope::Admin),
    ("POST", "/api/tokens", Scope::Admin),
];

async fn status(rig: &Rig, method: &str, path: &str, token: Option<&str>) -> StatusCode {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = rig.client.request(method, rig.url(path)).body("{}");
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    request.send().await.unwrap().status()
}

async fn beyond_loopback_every_route_needs_a_token_of_its_scope(engine: Engine) {
    let rig = public(engine).await;
    let mut tokens = vec![];
    for scope in Scope::ALL {
        tokens.push((scope, token(&rig, &[scope]).await));
    }
    for (method, path, needed) in ROUTES {
        assert_eq!(status(&rig, method, path, None).await, 401, "{method} {path}");
        for wrong in ["chr_guessed", "guessed", ""] {
            assert_eq!(status(&rig, method, path, Some(wrong)).await, 401, "{method} {path}");
        }
        for (scope, token) in &tokens {
            let status = status(&rig, method, path, Some(token)).await;
            let opened = status != 401 && status != 403;
            assert_eq!(opened, *scope == needed, "{method} {path} with {scope}: {status}");
            assert!(opened || status == 403, "{method} {path} with {scope}: {status}");
        }
    }
    for open in ["/live", "/ready", "/openapi.json"] {
        assert_eq!(status(&rig, "GET", open, None).await, 200, "{open}");
    }
}

async fn on_loopback_all_is_open_until_there_is_a_token(engine: Engine) {
    let rig = Rig::new(engine).await;
    for (method, path, _) in ROUTES {
        let status = status(&rig, method, path, None).await;
        assert!(status != 401 && status != 403, "{method} {path}: {status}");
    }
    let made = rig.client.post(rig.url("/api/tokens"));
    let made = made.body(r#"{"name": "page", "scopes": ["read", "admin"]}"#).send().await.unwrap();
    let (code, made) = answer(made).await;
    assert_eq!(code, 201, "{made}");
    let secret = made["token"].as_str().unwrap();
    for (method, path, needed) in ROUTES {
        let closed = status(&rig, method, path, None).await == 401;
        // A token for readers does not stop the worker.
        assert_eq!(closed, needed != Scope::Ingest, "{method} {path}");
    }
    token(&rig, &[Scope::Ingest]).await;
    assert_eq!(status(&rig, "POST", "/call-history", None).await, 401);

    let listed = rig.client.get(rig.url("/api/tokens")).bearer_auth(secret).send().await.unwrap();
    let listed = answer(listed).await.1;
    assert_eq!(listed["tokens"].as_array().unwrap().len(), 2);
    let page = listed["tokens"].as_array().unwrap().iter().find(|t| t["name"] == "page").unwrap();
    assert_eq!(page["scopes"], json!(["read", "admin"]));
    assert!(!listed.to_string().contains(secret));
    let path = format!("/api/tokens/{}", page["id"].as_str().unwrap());
    assert_eq!(status(&rig, "DELETE", &path, Some(secret)).await, 204);
    assert_eq!(status(&rig, "GET", "/api/calls", Some(secret)).await, 401, "it is deleted");
}

async fn a_page_of_another_site_cannot_use_the_open_door(engine: Engine) {
    let rig = Rig::new(engine).await;
    let to = |name: header::HeaderName, value: &str| {
        let (post, value) = (rig.post(record("one").to_string()), value.to_owned());
        async move { post.header(name, value).send().await.unwrap().status() }
    };
    assert_eq!(to(header::ORIGIN, "https://evil.example").await, 403);
    assert_eq!(to(header::HOST, "evil.example").await, 403);
    assert_eq!(rig.ids("").await, [""; 0]);
    assert_eq!(to(header::HOST, "localhost:8082").await, 200);
}

async fn a_token_is_not_in_the_database(engine: Engine) {
    let rig = public(engine).await;
    let secret = token(&rig, &[Scope::Read]).await;
    let store = receiver::store::open(&rig.home.place).await.unwrap();
    let sql =
        receiver::store::Sql::new(store.dialect(), "SELECT id, hash, name, scopes FROM tokens");
    let rows = format!("{:?}", store.read(sql).await.unwrap());
    let bytes = format!("{:?}", secret.as_bytes());
    let traces = [&secret[4..], bytes.trim_matches(['[', ']'])];
    assert!(rows.contains("read") && traces.iter().all(|t| !rows.contains(t)), "{rows}");
}

on_both! {
    beyond_loopback_every_route_needs_a_token_of_its_scope,
    on_loopback_all_is_open_until_there_is_a_token,
    a_page_of_another_site_cannot_use_the_open_door,
    a_token_is_not_in_the_database,
}
