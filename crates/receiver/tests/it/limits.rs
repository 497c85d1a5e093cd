//! How often one reader may ask, and that no worker is locked out.

use receiver::{
    access::{self, Scope},
    limits::Rates,
};
use record::{Claims, Moment};
use reqwest::{Response, header};

use crate::rig::{Engine, Rig, answer, on_both, record};

const SECRET: &str = "a secret of some length, as it should be";

async fn limited(engine: Engine, requests: u32, failures: u32) -> Rig {
    Rig::with(engine, |s| {
        s.addr = "0.0.0.0:0".parse().unwrap();
        s.rates = Rates { requests, failures };
    })
    .await
}

async fn token(rig: &Rig, scopes: &[Scope]) -> String {
    let store = receiver::store::open(&rig.home.place).await.unwrap();
    access::create(&*store, "test", scopes, Moment::from_millis(0)).await.unwrap().1
}

/// As a proxy of this machine asks for somebody.
async fn get(rig: &Rig, token: &str, from: &str) -> Response {
    let request = rig.client.get(rig.url("/api/calls")).bearer_auth(token);
    request.header("x-forwarded-for", from).send().await.unwrap()
}

fn is_limited(response: &Response) -> bool {
    let wait = response.headers().get(header::RETRY_AFTER);
    let wait = wait.and_then(|wait| wait.to_str().ok()?.parse::<u64>().ok());
    response.status() == 429 && wait.is_some_and(|seconds| (1..=61).contains(&seconds))
}

async fn each_token_and_each_address_has_a_budget(engine: Engine) {
    let rig = limited(engine, 2, 0).await;
    let (one, other) = (token(&rig, &[Scope::Read]).await, token(&rig, &[Scope::Read]).await);
    for n in 1..=2 {
        assert_eq!(get(&rig, &one, &format!("192.0.2.{n}")).await.status(), 200);
    }
    assert!(is_limited(&get(&rig, &one, "192.0.2.6").await), "the token has no budget left");
    for _ in 0..2 {
        assert_eq!(get(&rig, &other, "192.0.2.7").await.status(), 200);
    }
    let third = token(&rig, &[Scope::Read]).await;
    let response = get(&rig, &third, "192.0.2.7").await;
    assert!(is_limited(&response), "the address has no budget left");
    let (_, said) = answer(response).await;
    assert_eq!(said["errors"][0]["problem"], "too many requests in a minute");
    // Health and posts are no requests of the API.
    assert_eq!(rig.get("/ready").await.0, 200);
}

async fn wrong_tokens_close_the_api_to_their_address_only(engine: Engine) {
    let rig = limited(engine, 0, 2).await;
    let right = token(&rig, &[Scope::Read]).await;
    for _ in 0..2 {
        assert_eq!(get(&rig, "chr_guessed", "192.0.2.1").await.status(), 401);
    }
    assert!(is_limited(&get(&rig, "chr_guessed", "192.0.2.1").await));
    assert!(is_limited(&get(&rig, &right, "192.0.2.1").await), "nothing more is tried");
    assert_eq!(get(&rig, &right, "192.0.2.2").await.status(), 200);
    // One network of IPv6 is one reader.
    for n in 1..=2 {
        assert_eq!(get(&rig, "chr_guessed", &format!("2001:db8::{n}")).await.status(), 401);
    }
    assert!(is_limited(&get(&rig, "chr_guessed", "2001:db8::9").await));
}

/// Three hundred posts of an address that also posts wrong ones: all that may be made are taken, the others wait.
async fn no_worker_is_locked_out(engine: Engine) {
    let rig = Rig::with(engine, |s| {
        s.jwt_secret = Some(SECRET.to_owned().into());
        s.rates = Rates { requests: 2, failures: 3 };
    })
    .await;
    let now = chrono::Utc::now().timestamp();
    let mut statuses = std::collections::BTreeMap::new();
    for n in 0..300 {
        let id = format!("call-{n}");
        let body = record(&id).to_string();
        let secret = if n % 10 == 0 { "another secret, just as long as it" } else { SECRET };
        let token = Claims::of(&id, body.as_bytes(), body.as_bytes(), now).sign(secret).unwrap();
        let post = rig.post(body).bearer_auth(token).header("x-forwarded-for", "192.0.2.1");
        let response = post.send().await.unwrap();
        if response.status() == 429 {
            assert!(is_limited(&response));
        }
        *statuses.entry(response.status().as_u16()).or_insert(0) += 1;
    }
    assert_eq!(statuses.get(&200), Some(&270), "{statuses:?}");
    let wrong = statuses.get(&401).unwrap() + statuses.get(&429).unwrap();
    assert_eq!(wrong, 30, "{statuses:?}");
}

on_both! {
    each_token_and_each_address_has_a_budget,
    wrong_tokens_close_the_api_to_their_address_only,
    no_worker_is_locked_out,
}
