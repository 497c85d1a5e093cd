//! From the sealed record to the endpoint, whatever the endpoint does.

use std::{fs, time::Duration};

use anyhow::Result;
use lab::endpoint::Answer;

use super::*;

async fn call(s: &mut Scene) -> Result<()> {
    s.phone("+15550123410").await?.hangs_up().await
}

fn files(s: &Scene, folder: &str) -> Vec<String> {
    let dir = fs::read_dir(s.worker.data.join(folder)).unwrap();
    let names = dir.map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|n| !n.starts_with('.') && n.ends_with(".json")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_on_disk_before_it_is_sent_and_filed_after() -> Result<()> {
    let mut s = Scene::new().await?;
    s.endpoint.answers([Answer::After(Duration::from_secs(2))]);
    call(&mut s).await?;
    s.worker.logs("call ended").await?;
    let sealed = loop {
        if let Some(file) = files(&s, "pending").first() {
            break file.clone();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let bytes = fs::read(s.worker.data.join("pending").join(&sealed));
    let posts = s.endpoint.wait(&s.room, 1, POSTED).await?;
    assert_eq!(bytes?, posts[0].body, "what is sealed is what is sent");
    assert_eq!(sealed, format!("{}.json", posts[0].header("idempotency-key")));
    assert_eq!(posts[0].header("content-type"), "application/json");
    assert!(posts[0].header("user-agent").starts_with("call-history/"));
    s.worker.logs("delivered").await?;
    s.worker.stops().await?;
    assert!(files(&s, "pending").is_empty());
    assert_eq!(files(&s, "sent"), [sealed]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_endpoint_does_not_take_is_sent_again_unchanged() -> Result<()> {
    let mut s = Scene::new().await?;
    let answers = [500, 302, 401, 404].map(Answer::Status);
    s.endpoint.answers(answers);
    call(&mut s).await?;
    let posts = s.endpoint.wait(&s.room, 5, Duration::from_secs(60)).await?;
    let statuses: Vec<u16> = posts.iter().map(|p| p.status).collect();
    assert_eq!(statuses, [500, 302, 401, 404, 200]);
    for p in &posts {
        assert_eq!(p.body, posts[0].body);
        assert_eq!(p.header("idempotency-key"), posts[0].header("idempotency-key"));
        p.check_signature(lab::worker::JWT_SECRET)?;
    }
    s.worker.logs("delivered").await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_waits_as_long_as_the_endpoint_asks() -> Result<()> {
    let mut s = Scene::new().await?;
    s.endpoint.answers([Answer::With(429, "retry-after", "4".into())]);
    call(&mut s).await?;
    let posts = s.endpoint.wait(&s.room, 2, POSTED).await?;
    assert!(posts[1].at - posts[0].at >= Duration::from_secs(4));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_means_that_the_endpoint_has_the_record() -> Result<()> {
    let mut s = Scene::new().await?;
    s.endpoint.answers([Answer::Status(409)]);
    call(&mut s).await?;
    s.worker.logs("delivered").await?;
    s.worker.stops().await?;
    assert_eq!((s.endpoint.posts().len(), files(&s, "sent").len()), (1, 1));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_refused_for_good_becomes_a_dead_letter() -> Result<()> {
    let mut s = Scene::new().await?;
    s.endpoint.answers([Answer::Status(422)]);
    call(&mut s).await?;
    s.worker.logs("refused: the endpoint will not take this record; it is kept in dead/").await?;
    s.worker.stops().await?;
    assert_eq!((s.endpoint.posts().len(), files(&s, "dead").len()), (1, 1));
    assert!(files(&s, "pending").is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_hangs_delays_no_other_call() -> Result<()> {
    let mut s = Scene::new().await?;
    s.endpoint.answers([Answer::After(Duration::from_secs(60))]);
    call(&mut s).await?;
    s.worker.logs("call ended").await?;
    let first = std::mem::replace(&mut s.room, unique("room"));
    let caller = Person::phone(&s.venue, &s.room, "+1", "active", true, &[&s.name]).await?;
    s.worker.logs_nth("joined", 2, POSTED).await?;
    caller.hangs_up().await?;
    s.endpoint.wait(&s.room, 1, POSTED).await?;
    // The first record is tried again after its timeout of 10 s.
    let posts = s.endpoint.wait(&first, 1, POSTED).await?;
    assert_eq!(posts.len(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_survives_the_worker_that_sealed_it() -> Result<()> {
    let mut s = Scene::with_movable_endpoint(Venue::from_env().await?).await?;
    let taken = s.endpoint.url.trim_start_matches("http://").trim_end_matches("/calls").to_owned();
    drop(std::mem::replace(&mut s.endpoint, Endpoint::start().await?));
    call(&mut s).await?;
    s.worker.logs("not delivered, will be tried again").await?;
    s.worker.signal(9).await?;
    s.worker.ends(POSTED).await?;
    assert_eq!(files(&s, "pending").len(), 1);
    s.endpoint = Endpoint::at(&taken).await?;
    let mut setup = Setup::new(binary(), &s.venue, &s.endpoint, &s.name);
    setup.data = Some(s.worker.data.clone());
    let mut next = Worker::registered(setup).await?;
    let posts = s.endpoint.wait(&s.room, 1, POSTED).await?;
    assert_eq!(posts.len(), 1);
    next.logs("delivered").await?;
    next.stops().await
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_secret_nothing_is_signed() -> Result<()> {
    let mut s = Scene::at(Venue::from_env().await?, &[("JWT_SECRET", "")]).await?;
    call(&mut s).await?;
    let posts = s.endpoint.wait(&s.room, 1, POSTED).await?;
    assert_eq!(posts[0].header("authorization"), "");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_that_cannot_be_written_is_reported_at_the_start() -> Result<()> {
    let venue = Venue::dev(lab::server::quick()).await?;
    let endpoint = Endpoint::start().await?;
    let mut setup = Setup::new(binary(), &venue, &endpoint, "w");
    setup.data = Some("/dev/null/data".into());
    let mut worker = Worker::start(setup)?;
    assert_eq!(worker.ends(POSTED).await?.code(), Some(1));
    let line = worker.logs("the data folder cannot be used").await?;
    assert!(line["error"].as_str().unwrap().contains("/dev/null/data"));
    Ok(())
}
