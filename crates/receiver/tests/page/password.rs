//! Logging in by a password, and setting the first one.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use receiver::{
    access::Scope,
    password,
    store::{self, Place, Sql},
};
use record::Moment;
use reqwest::header;

use crate::{
    rig::{NOW, Rig},
    rights::{get, log_in, with_a_call},
};

const PASSWORD: &str = "correct horse battery";

async fn set(rig: &Rig, password: &str) {
    let store = store::open(&rig.place).await.unwrap();
    password::set(&*store, password, Moment::MIN).await.unwrap();
}

fn form(password: &str) -> String {
    password.replace(' ', "+")
}

#[tokio::test]
async fn the_password_opens_everything_until_it_changes() {
    let (rig, id, number) = with_a_call().await;
    assert!(log_in(&rig, &form(PASSWORD)).await.is_none(), "there is none yet");
    set(&rig, PASSWORD).await;
    for wrong in ["correct+horse+batter", "Correct+horse+battery", "", &"long".repeat(1_000)] {
        assert!(log_in(&rig, wrong).await.is_none(), "{wrong}");
    }
    // Blanks come from copying.
    let cookie = log_in(&rig, &format!("+{}+", form(PASSWORD))).await.unwrap();
    let (status, html) = get(&rig, "/calls", &cookie).await;
    assert!(status == 200 && html.contains(&number), "it shows numbers");
    assert_eq!(get(&rig, "/api/calls.csv", &cookie).await.0, 200);
    assert_eq!(get(&rig, &format!("/delete?call_id={id}"), &cookie).await.0, 200);
    set(&rig, "another long password").await;
    assert_eq!(get(&rig, "/calls", &cookie).await.0, 303, "the session has ended");
    assert!(log_in(&rig, &form(PASSWORD)).await.is_none());
    assert!(log_in(&rig, "another+long+password").await.is_some());
    let store = store::open(&rig.place).await.unwrap();
    assert!(password::remove(&*store).await.unwrap());
    assert!(log_in(&rig, "another+long+password").await.is_none());
}

#[tokio::test]
async fn the_password_is_kept_as_a_hash() {
    for place in [None, Some(Place::postgres(crate::postgres::database().await))] {
        let rig = Rig::with("0.0.0.0:0", place, |_| {}).await;
        set(&rig, PASSWORD).await;
        let store = store::open(&rig.place).await.unwrap();
        let sql = Sql::new(store.dialect(), "SELECT hash FROM password");
        let rows = format!("{:?}", store.read(sql).await.unwrap());
        assert!(rows.contains("$argon2id$v=19$") && !rows.contains("horse"), "{rows}");
        assert!(log_in(&rig, &form(PASSWORD)).await.is_some());
        for weak in ["eleven char", &"x".repeat(password::LONGEST + 1)] {
            assert!(password::set(&*store, weak, Moment::MIN).await.is_err());
        }
        assert!(!password::set_first(&*store, "it comes too late", Moment::MIN).await.unwrap());
    }
}

#[tokio::test]
async fn a_password_closes_the_open_door_for_readers_and_not_for_the_worker() {
    let rig = Rig::new().await;
    assert_eq!(rig.get("/calls").await.status(), 200);
    set(&rig, PASSWORD).await;
    assert_eq!(rig.get("/calls").await.status(), 303);
    assert_eq!(rig.get("/api/calls").await.status(), 401);
    let call = crate::samples::call(1, Moment::parse_rfc3339(NOW).unwrap());
    rig.keep(&call, None).await;
}

#[tokio::test]
async fn the_link_of_the_log_sets_the_first_password_once() {
    let rig = Rig::public().await;
    let link = rig.receiver.first_run().unwrap().to_owned();
    let key = link.split_once("key=").unwrap().1;
    assert!(rig.page(&link).await.contains("Choose the password"));
    assert!(rig.page("/login").await.contains("There is no password yet"));
    for guessed in ["/first-run", "/first-run?key=", "/first-run?key=guessed"] {
        assert_eq!(rig.get(guessed).await.status(), 403, "{guessed}");
    }
    let send = async |key: &str, one: &str, two: &str| {
        rig.send("/first-run", &format!("key={key}&password={one}&again={two}"), "").await
    };
    assert_eq!(send("guessed", &form(PASSWORD), &form(PASSWORD)).await.status(), 403);
    assert_eq!(send(key, &form(PASSWORD), "another+long+one").await.status(), 400);
    assert_eq!(send(key, "short", "short").await.status(), 400);
    let set = send(key, &form(PASSWORD), &form(PASSWORD)).await;
    assert_eq!(set.status(), 303);
    let cookie = set.headers()[header::SET_COOKIE].to_str().unwrap();
    assert_eq!(get(&rig, "/calls", cookie.split(';').next().unwrap()).await.0, 200);
    assert_eq!(rig.get(&link).await.status(), 403, "it was used");
    assert_eq!(send(key, "a+stranger+comes", "a+stranger+comes").await.status(), 403);
    assert!(log_in(&rig, &form(PASSWORD)).await.is_some());
}

#[tokio::test]
async fn there_is_a_link_only_where_it_is_needed_and_only_for_an_hour() {
    assert!(Rig::new().await.receiver.first_run().is_none(), "this machine needs none");
    let (clock, start) = (Arc::new(AtomicI64::new(0)), Moment::parse_rfc3339(NOW).unwrap());
    let shared = clock.clone();
    let rig = Rig::with("0.0.0.0:0", None, |settings| {
        settings.now = Arc::new(move || start.plus(shared.load(Ordering::Relaxed)));
    });
    let rig = rig.await;
    let link = rig.receiver.first_run().unwrap().to_owned();
    assert_eq!(rig.get(&link).await.status(), 200);
    clock.store(60 * 60 * 1_000, Ordering::Relaxed);
    assert_eq!(rig.get(&link).await.status(), 403);
    // A token that reads made meanwhile is as good as a password.
    clock.store(0, Ordering::Relaxed);
    rig.token(&[Scope::Ingest]).await;
    rig.token(&[Scope::Read]).await;
    let key = link.split_once("key=").unwrap().1;
    let fields = format!("key={key}&password={0}&again={0}", form(PASSWORD));
    assert_eq!(rig.send("/first-run", &fields, "").await.status(), 403);
    let again = Rig::with("0.0.0.0:0", Some(rig.place.clone()), |_| {}).await;
    assert!(again.receiver.first_run().is_none());
}

#[tokio::test]
async fn guesses_are_limited_and_the_right_one_starts_anew() {
    let rig = Rig::public().await;
    set(&rig, PASSWORD).await;
    let status = async |secret: &str| {
        rig.send("/login", &format!("secret={secret}"), "").await.status().as_u16()
    };
    for _ in 0..9 {
        assert_eq!(status("guess").await, 401);
    }
    assert_eq!(status(&form(PASSWORD)).await, 303, "slips are forgiven");
    for _ in 0..10 {
        assert_eq!(status("chr_guess").await, 401);
    }
    let refused = rig.send("/login", &format!("secret={}", form(PASSWORD)), "").await;
    assert_eq!(refused.status(), 429, "even the right one waits");
    let seconds: i64 = refused.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=901).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn a_cookie_is_secure_behind_tls_and_no_forgery_opens_anything() {
    let rig = Rig::public().await;
    set(&rig, PASSWORD).await;
    let login = rig.client.post(rig.url("/login")).header("x-forwarded-proto", "https");
    let login = login.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    let login =
        login.header(header::ORIGIN, "https://calls.example").header(header::HOST, "calls.example");
    let entered = login.body(format!("secret={}", form(PASSWORD))).send().await.unwrap();
    let cookie = entered.headers()[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.ends_with("; HttpOnly; SameSite=Strict; Secure"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    assert_eq!(get(&rig, "/calls", cookie).await.0, 200);
    let other = Rig::public().await;
    set(&other, PASSWORD).await;
    let foreign = log_in(&other, &form(PASSWORD)).await.unwrap();
    for forged in
        [foreign.as_str(), "call_history=owner:", "call_history=owner:a.b.c", "call_history=owner"]
    {
        assert_eq!(get(&rig, "/calls", forged).await.0, 303, "{forged}");
    }
}
