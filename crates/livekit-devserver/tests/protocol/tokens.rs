//! Which tokens are accepted.

use livekit_api::access_token::{AccessToken, VideoGrants};
use livekit_devserver::{Config, Server};

use crate::{
    raw::{post, twirp, websocket},
    support::{caller, grants, server, server_with, token},
};

/// Status and text of a refused join.
async fn refused(server: &Server, jwt: &str) -> (u16, String) {
    websocket(&format!("{}/rtc?protocol=16", server.url()), jwt).await.expect_err("let in")
}

fn signed(server: &Server, claims: serde_json::Value) -> String {
    let mut claims = claims;
    claims["iss"] = server.api_key().into();
    claims["sub"] = "me".into();
    claims["video"] = serde_json::json!({ "roomJoin": true, "room": "r" });
    let key = jsonwebtoken::EncodingKey::from_secret(server.api_secret().as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn a_join_needs_a_token_that_is_good_now() {
    let server = server().await;
    let status = async |jwt: String| refused(&server, &jwt).await.0;
    assert_eq!(status(String::new()).await, 401);
    assert_eq!(status("abc".into()).await, 401);
    assert_eq!(status(signed(&server, serde_json::json!({ "exp": now() - 61 }))).await, 401);
    assert_eq!(status(signed(&server, serde_json::json!({}))).await, 401, "it must expire");
    assert_eq!(
        status(signed(&server, serde_json::json!({ "exp": now() + 999, "nbf": now() + 99 }))).await,
        401
    );
    let foreign = AccessToken::with_api_key("other", server.api_secret()).with_identity("me");
    let (code, text) = refused(&server, &foreign.with_grants(grants("r")).to_jwt().unwrap()).await;
    assert_eq!((code, text.as_str()), (401, "invalid API key: other"));
    let good = signed(&server, serde_json::json!({ "exp": now() - 50 }));
    assert!(
        websocket(&format!("{}/rtc", server.url()), &good).await.is_ok(),
        "clocks may differ by a minute"
    );
}

#[tokio::test]
async fn a_join_needs_the_grant_a_room_and_an_identity() {
    let server = server().await;
    let status = async |identity: &str, grants: VideoGrants| {
        // The builder refuses to join without an identity; the server has to as well.
        let mut jwt = token(&server, "x", grants).to_jwt().unwrap();
        if identity.is_empty() {
            let claims = serde_json::json!({
                "iss": server.api_key(), "exp": now() + 60, "video": { "roomJoin": true, "room": "r" },
            });
            let key = jsonwebtoken::EncodingKey::from_secret(server.api_secret().as_bytes());
            jwt = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
        }
        refused(&server, &jwt).await.0
    };
    assert_eq!(status("x", VideoGrants { room_join: false, ..grants("r") }).await, 401);
    assert_eq!(status("", grants("r")).await, 400);
    let long = token(&server, &"i".repeat(257), grants("r")).to_jwt().unwrap();
    assert_eq!(refused(&server, &long).await.0, 400);
    assert_eq!(server.rooms(), Vec::<String>::new(), "no room was made for any of them");
}

#[tokio::test]
async fn validation_says_why_a_join_would_fail() {
    let server = server().await;
    let get = async |jwt: &str| {
        let url = format!("{}/rtc/validate", server.url());
        websocket(&url, jwt).await.expect_err("this is no websocket")
    };
    assert_eq!(get(&caller(&server, "me").to_jwt().unwrap()).await, (200, "success".into()));
    assert_eq!(get("abc").await, (401, "invalid authorization token".into()));
}

#[tokio::test]
async fn without_auto_create_a_join_makes_no_room() {
    let server = server_with(|c| c.auto_create = false).await;
    let jwt = caller(&server, "me").to_jwt().unwrap();
    assert_eq!(refused(&server, &jwt).await.0, 404);
    let admin = token(&server, "", VideoGrants { room_create: true, ..Default::default() })
        .to_jwt()
        .unwrap();
    twirp(&server, "RoomService/CreateRoom", &admin, serde_json::json!({ "name": "r" })).await;
    assert!(websocket(&format!("{}/rtc", server.url()), &jwt).await.is_ok());
}

#[tokio::test]
async fn apis_need_their_grants() {
    let server = server().await;
    let none = token(&server, "", VideoGrants::default()).to_jwt().unwrap();
    for method in ["RoomService/ListRooms", "RoomService/CreateRoom", "RoomService/DeleteRoom"] {
        let body = serde_json::json!({ "name": "r", "room": "r" });
        let (status, error) = twirp(&server, method, &none, body).await;
        let without_names = serde_json::json!({});
        let (status, error) = match status {
            400 => twirp(&server, method, &none, without_names).await,
            _ => (status, error),
        };
        assert_eq!((status, error["code"].as_str()), (401, Some("unauthenticated")), "{method}");
    }
    let elsewhere = VideoGrants { room_admin: true, room: "other".into(), ..Default::default() };
    let elsewhere = token(&server, "", elsewhere).to_jwt().unwrap();
    let room = serde_json::json!({ "room": "r" });
    let (status, _) = twirp(&server, "RoomService/ListParticipants", &elsewhere, room).await;
    assert_eq!(status, 401);
    let (status, ..) =
        post(&server, "/twirp/livekit.RoomService/ListRooms", "", "application/json", b"{}").await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn several_servers_live_in_one_process_and_know_their_own_keys() {
    let a = server().await;
    let secret = "another-secret-another-secret-another".to_owned();
    let b = livekit_devserver::start(Config {
        keys: [("k2".to_owned(), secret)].into(),
        ..Config::default()
    });
    let b = b.await.unwrap();
    assert_ne!(a.url(), b.url());
    let jwt = caller(&a, "me").to_jwt().unwrap();
    assert!(websocket(&format!("{}/rtc", a.url()), &jwt).await.is_ok());
    assert_eq!(refused(&b, &jwt).await, (401, "invalid API key: devkey".into()));
}
