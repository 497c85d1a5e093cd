//! A record is kept once, whatever happens: many at once, kills, a full disk, a database that is away.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use receiver::{Receiver, store::Place};
use reqwest::header;
use secrecy::ExposeSecret;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    sync::Notify,
    task::JoinSet,
};

use crate::rig::{Engine, Home, Rig, answer, client, on_both, record, url};

async fn the_same_bytes_are_kept_once_and_others_do_not_replace_them(engine: Engine) {
    let rig = Rig::new(engine).await;
    let body = record("one").to_string();
    let post = |body: String| async { answer(rig.post(body).send().await.unwrap()).await };
    assert_eq!(post(body.clone()).await, (200, json!({"call_id": "one", "stored": "now"})));
    assert_eq!(post(body.clone()).await, (200, json!({"call_id": "one", "stored": "before"})));
    // The same record, but not the same bytes.
    assert_eq!(post(format!("{body} ")).await.0, 409);
    assert_eq!(rig.text("/api/calls/one").await, body);
    assert_eq!(rig.ids("").await, ["one"]);
}

/// 50 posts of each of two bodies at the same time: one of all is the first.
async fn of_fifty_at_once_one_is_the_first(engine: Engine) {
    let rig = Rig::new(engine).await;
    let mut other = record("one");
    other["outcomes"]["notes"] = "another".into();
    let bodies = [record("one").to_string(), other.to_string()];
    let mut posts = JoinSet::new();
    for n in 0..100 {
        let request = rig.post(bodies[n % 2].clone());
        posts.spawn(async move { (n % 2, answer(request.send().await.unwrap()).await) });
    }
    let answers = posts.join_all().await;
    let with = |body: usize, stored: &str| {
        answers.iter().filter(|(b, (_, said))| *b == body && said["stored"] == stored).count()
    };
    let first = if with(0, "now") == 1 { 0 } else { 1 };
    assert_eq!((with(first, "now"), with(first, "before")), (1, 49), "{answers:?}");
    let refused = answers.iter().filter(|(b, (status, _))| *b != first && *status == 409).count();
    assert_eq!(refused, 50, "{answers:?}");
    assert_eq!(rig.text("/api/calls/one").await, bodies[first]);
}

/// A receiver as a process.
struct Process {
    child: Child,
    addr: SocketAddr,
}

impl Process {
    async fn start(place: &Place) -> Self {
        let place = match place {
            Place::Sqlite { folder, .. } => folder.display().to_string(),
            Place::Postgres { url } => url.expose_secret().to_owned(),
        };
        let mut child = Command::new(env!("CARGO_BIN_EXE_receiver-under-test"))
            .arg(place)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let addr = lines.next_line().await.unwrap().expect("it did not start");
        Self { child, addr: addr.parse().unwrap() }
    }
}

/// Posts from eight senders go on until the receiver is killed (SIGKILL) in the middle of them; five times. What was
/// answered 200 is there afterwards, and can be sent again.
async fn nothing_that_was_answered_is_lost_by_a_kill(engine: Engine) {
    let home = Home::new(engine).await;
    let mut kept: BTreeSet<String> = BTreeSet::new();
    for round in 0..5 {
        let mut process = Process::start(&home.place).await;
        let addr = process.addr;
        let (count, enough) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let mut senders = JoinSet::new();
        for sender in 0..8 {
            let (count, enough) = (count.clone(), enough.clone());
            senders.spawn(async move {
                let client = client();
                let mut answered = vec![];
                for n in 0.. {
                    let id = format!("{round}-{sender}-{n}");
                    let post = client.post(url(addr, "/call-history"));
                    match post.body(record(&id).to_string()).send().await {
                        Ok(response) if response.status() == 200 => answered.push(id),
                        Ok(response) => panic!("{}", response.status()),
                        Err(_) => break,
                    }
                    if count.fetch_add(1, Ordering::Relaxed) == 100 {
                        enough.notify_one();
                    }
                }
                answered
            });
        }
        enough.notified().await;
        process.child.kill().await.unwrap();
        kept.extend(senders.join_all().await.into_iter().flatten());
    }
    assert!(kept.len() >= 500);
    let mut settings = home.settings();
    settings.max_body = 1_000_000;
    let receiver = Receiver::start(settings).await.unwrap();
    let client = client();
    for id in &kept {
        let got = client.get(url(receiver.addr(), &format!("/api/calls/{id}"))).send().await;
        assert_eq!(answer(got.unwrap()).await, (200, record(id)));
    }
    let list = client.get(url(receiver.addr(), "/api/calls?limit=1&include_total=true")).send();
    let total = answer(list.await.unwrap()).await.1["total"].as_u64().unwrap() as usize;
    // One post of each sender and round may be on disk without an answer.
    assert!((kept.len()..=kept.len() + 40).contains(&total), "{total} of {}", kept.len());
    let again = client.post(url(receiver.addr(), "/call-history"));
    let first = kept.first().unwrap();
    let again = again.body(record(first).to_string()).send().await.unwrap();
    assert_eq!(answer(again).await.1["stored"], "before");
    receiver.stop().await;
}

async fn two_receivers_start_at_once_on_one_database(engine: Engine) {
    let home = Home::new(engine).await;
    let mut starts = JoinSet::new();
    for _ in 0..4 {
        let settings = home.settings();
        starts.spawn(async move { Receiver::start(settings).await.unwrap() });
    }
    let receivers = starts.join_all().await;
    let mut posts = JoinSet::new();
    for n in 0..80 {
        let addr = receivers[n % 4].addr();
        let body = record(&format!("call-{}", n / 4)).to_string();
        posts.spawn(async move {
            answer(client().post(url(addr, "/call-history")).body(body).send().await.unwrap()).await
        });
    }
    let answers = posts.join_all().await;
    assert!(answers.iter().all(|(status, _)| *status == 200), "{answers:?}");
    let now = answers.iter().filter(|(_, said)| said["stored"] == "now").count();
    assert_eq!(now, 20, "each call is kept by one of the four");
}

/// A post whose body is not here yet when the receiver stops ends as if nothing was.
async fn a_post_that_goes_on_is_ended_before_the_receiver_stops(engine: Engine) {
    let rig = Rig::new(engine).await;
    let addr = rig.receiver.addr();
    let body = record("one").to_string();
    let mut post = TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "POST /call-history HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\
         Expect: 100-continue\r\n\r\n",
        body.len()
    );
    post.write_all(head.as_bytes()).await.unwrap();
    // The answer says that the body is being read.
    let mut said = [0; 25];
    post.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"HTTP/1.1 100 Continue\r\n\r\n");
    let stopping = tokio::spawn(rig.receiver.stop());
    // The port is closed to others.
    while TcpStream::connect(addr).await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert!(!stopping.is_finished());
    post.write_all(body.as_bytes()).await.unwrap();
    let mut said = String::new();
    post.read_to_string(&mut said).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 200") && said.ends_with(r#""stored":"now"}"#), "{said}");
    stopping.await.unwrap();
    let again = Receiver::start(rig.home.settings()).await.unwrap();
    let got = client().get(url(again.addr(), "/api/calls/one")).send().await.unwrap();
    assert_eq!(answer(got).await, (200, record("one")));
}

on_both! {
    a_post_that_goes_on_is_ended_before_the_receiver_stops,
    the_same_bytes_are_kept_once_and_others_do_not_replace_them,
    of_fifty_at_once_one_is_the_first,
    nothing_that_was_answered_is_lost_by_a_kill,
    two_receivers_start_at_once_on_one_database,
}

/// The file may not grow any more: posts are answered 503 with a time to come again; what was kept stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_answers_503_and_loses_nothing() {
    let full = |s: &mut receiver::Settings| {
        let Place::Sqlite { max_pages, .. } = &mut s.place else { panic!("no SQLite") };
        *max_pages = Some(300);
    };
    let rig = Rig::with(Engine::Sqlite, full).await;
    let mut kept = vec![];
    let refused = loop {
        let id = format!("call-{}", kept.len());
        let mut record = record(&id);
        record["outcomes"]["notes"] = "some words ".repeat(500).into();
        let response = rig.post(record.to_string()).send().await.unwrap();
        if response.status() != 200 {
            break response;
        }
        kept.push((id, record));
        assert!(kept.len() < 10_000, "the disk is never full");
    };
    assert!(kept.len() > 10);
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "5");
    for (id, record) in &kept {
        assert_eq!(rig.get(&format!("/api/calls/{id}")).await, (200, record.clone()));
    }
    // There is room again.
    rig.receiver.stop().await;
    let again = Receiver::start(rig.home.settings()).await.unwrap();
    let post = client().post(url(again.addr(), "/call-history")).body(record("after").to_string());
    assert_eq!(answer(post.send().await.unwrap()).await.1["stored"], "now");
}

/// Its connections are cut in the middle, as by a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_that_cuts_connections_is_found_again() {
    let rig = Rig::new(Engine::Postgres).await;
    rig.keep(&record("before")).await;
    let Place::Postgres { url } = &rig.home.place else { panic!("no Postgres") };
    crate::postgres::refuse(url.expose_secret(), true).await;
    let refused = rig.post(record("during").to_string()).send().await.unwrap();
    assert_eq!(refused.status(), 503);
    assert_eq!(refused.headers()[header::RETRY_AFTER], "5");
    assert_eq!(rig.get("/ready").await.0, 503);
    assert_eq!(rig.text("/live").await, "OK", "a restart would not help");
    crate::postgres::refuse(url.expose_secret(), false).await;
    rig.keep(&record("during")).await;
    assert_eq!(rig.get("/ready").await.0, 200);
    assert_eq!(rig.ids("").await, ["during", "before"]);
}
