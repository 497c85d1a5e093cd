//! Delivery as a whole, on a disk in memory and with an endpoint of its own.

use std::{
    collections::VecDeque,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use call::{
    Call, Event, Fact, RoomFacts, Settings,
    event::{Joined, Kind, LeaveReason},
};
use parking_lot::Mutex;
use record::{CallHistory, Moment};
use store::{
    backlog::{BacklogGauge, BacklogLimit},
    disk::{
        Disk, DiskHealth, DiskWork,
        memory::{Fails, MemoryDisk},
    },
    health::Health,
    ordinals::Ordinals,
    outbox::{Attempts, Folder, Outbox},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    Delivery, Finished, Store, Target,
    attempt::{Attempt, Poster},
    start,
    unsealed::Unsealed,
};

const DIR: &str = "/data";
/// Time limit for what is done in the background.
const SOON: Duration = Duration::from_secs(30);

struct Lab {
    disk: MemoryDisk,
    health: Health,
    gauge: BacklogGauge,
    /// Unix seconds of the clock that is injected.
    now: Arc<AtomicI64>,
    answers: Arc<Mutex<VecDeque<u16>>>,
    target: Target,
    task: JoinHandle<()>,
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// `answers`: of the endpoint, in their order; then it answers 500.
async fn lab(answers: &[u16]) -> Lab {
    // Fails if another test has done it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let answers = Arc::new(Mutex::new(VecDeque::from(answers.to_vec())));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let of_task = answers.clone();
    let task = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            // The records of these tests fit into one packet of the loopback.
            let mut request = vec![0; 64 * 1024];
            let _ = stream.read(&mut request).await;
            let status = of_task.lock().pop_front().unwrap_or(500);
            let answer =
                format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    let (health, now) = (Health::default(), Arc::new(AtomicI64::new(1_800_000_000)));
    let clock = now.clone();
    let target = Target {
        client: reqwest::Client::builder().timeout(SOON).build().unwrap(),
        endpoint,
        shown: "the endpoint".into(),
        jwt_secret: None,
        headers: Default::default(),
        max_body: None,
        gzip_from: None,
        keep_sent: SOON,
        now: Arc::new(move || Moment::from_millis(clock.load(Ordering::SeqCst) * 1_000)),
        explain: Arc::new(|e| e),
        follow: None,
    };
    let gauge = BacklogGauge::new(BacklogLimit { records: 99, bytes: 1 << 30 }, health.clone());
    Lab { disk: MemoryDisk::default(), health, gauge, now, answers, target, task }
}

impl Lab {
    fn store(&self) -> Store {
        let (all, dir): (Arc<dyn Disk>, _) = (Arc::new(self.disk.clone()), Path::new(DIR));
        let of_disk = || DiskHealth::new(dir, self.health.clone());
        Store {
            outbox: Outbox::open(all.clone(), of_disk(), dir).unwrap(),
            ordinals: Ordinals::open(all.clone(), of_disk(), dir).unwrap(),
            disk: DiskWork::new(all, of_disk(), dir),
        }
    }

    /// What a run of the program starts with.
    fn poster(&self) -> Poster {
        let Store { outbox, ordinals, disk } = self.store();
        let unsealed =
            Unsealed::new(outbox.clone(), ordinals, self.gauge.clone(), self.health.clone());
        Poster::new(outbox, unsealed, self.gauge.clone(), self.target.clone(), disk)
    }

    fn starts(&self) -> (Delivery, Outbox) {
        let store = self.store();
        let outbox = store.outbox.clone();
        let gauge = self.gauge.clone();
        let (delivery, _sender) = start(store, self.target.clone(), gauge, self.health.clone());
        (delivery, outbox)
    }

    fn sets_clock(&self, seconds: i64) {
        self.now.store(seconds, Ordering::SeqCst);
    }
}

fn record(ordinal: u32) -> CallHistory {
    let facts = RoomFacts { sid: "RM_1".into(), name: "room".into() };
    let mut call = Call::new(facts, Settings::default());
    let watching = Fact::Watching { server_behind_ms: 0, by: None };
    let joined = Fact::Joined(Joined {
        identity: "alice".into(),
        sid: "PA_1".into(),
        kind: Kind::Standard,
        name: String::new(),
        metadata: String::new(),
        attributes: Default::default(),
        joined_at: Moment::from_millis(1),
        permissions: None,
    });
    let left = Fact::Left {
        identity: "alice".into(),
        reason: LeaveReason::ClientInitiated,
        attributes: Default::default(),
        since: None,
    };
    for fact in [watching, joined, left] {
        let _ = call.apply(&Event { at: Moment::from_millis(1), fact });
    }
    CallHistory { call_id: format!("call-{ordinal}"), ..call.record().unwrap() }
}

async fn submit(delivery: &Delivery, ordinal: u32) -> String {
    let record = record(ordinal);
    let (place, ended) = (Some(("RM_1", ordinal)), Moment::from_millis(1));
    delivery.submit(Finished { record: &record, place, ended, journal: None }).await;
    record.call_id
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        sleep(Duration::from_millis(20)).await;
    }
}

fn kind(attempt: &Attempt) -> &'static str {
    match attempt {
        Attempt::Delivered { .. } => "delivered",
        Attempt::AskAgain => "ask again",
        Attempt::Failed(_) => "failed",
        Attempt::GivenUp(_) => "given up",
        _ => "other",
    }
}

#[tokio::test]
async fn a_conflict_is_doubted_although_the_note_of_the_failure_before_could_not_be_written() {
    let lab = lab(&[503, 409, 409]).await;
    let poster = lab.poster();
    poster.outbox.seal("a", b"{}").unwrap();
    lab.disk.fail(Fails::All);
    for expected in ["failed", "ask again", "delivered"] {
        assert_eq!(kind(&poster.attempt("a", true).await.1), expected);
    }
}

#[tokio::test]
async fn a_conflict_for_a_record_of_a_run_that_was_stopped_is_doubted_once() {
    let lab = lab(&[409, 409]).await;
    lab.store().outbox.seal("a", b"{}").unwrap();
    let poster = lab.poster();
    for expected in ["ask again", "delivered"] {
        assert_eq!(kind(&poster.attempt("a", false).await.1), expected);
    }
    assert_eq!(poster.outbox.find("a"), Some(Folder::Sent));
}

#[tokio::test]
async fn a_record_is_given_up_after_72_hours_of_the_injected_clock_and_not_after_a_wrong_one() {
    let lab = lab(&[]).await;
    lab.store().outbox.seal("a", b"{}").unwrap();
    // The machine has just started and does not know the time yet.
    lab.sets_clock(60);
    assert_eq!(kind(&lab.poster().attempt("a", true).await.1), "failed");
    let now = 1_800_000_000;
    lab.sets_clock(now);
    assert_eq!(kind(&lab.poster().attempt("a", false).await.1), "failed");
    let outbox = lab.store().outbox;
    let attempts = outbox.attempts(Folder::Pending, "a");
    assert_eq!((attempts.count, attempts.first_at), (2, now));
    // As after three days of attempts.
    outbox.record_attempts("a", &Attempts { count: 900, ..attempts });
    lab.sets_clock(now + 72 * 3600 - 1);
    assert_eq!(kind(&lab.poster().attempt("a", false).await.1), "failed");
    lab.sets_clock(now + 72 * 3600);
    assert_eq!(kind(&lab.poster().attempt("a", false).await.1), "given up");
    assert_eq!(outbox.find("a"), Some(Folder::Dead));
}

#[tokio::test]
async fn a_call_whose_record_is_only_in_memory_has_its_place_in_the_room() {
    let lab = lab(&[]).await;
    let (delivery, outbox) = lab.starts();
    lab.disk.fail(Fails::All);
    let first = submit(&delivery, 0).await;
    assert_eq!(delivery.past("RM_1").map(|p| p.next), Some(1));
    let second = submit(&delivery, 1).await;
    assert_ne!(first, second);
    assert_eq!(delivery.leftovers().unsealed.unsafe_records(), 2);
    lab.disk.fail(Fails::None);
    // The endpoint takes nothing, so they must reach the disk by themselves.
    eventually("they are sealed", || {
        [&first, &second].iter().all(|id| outbox.find(id) == Some(Folder::Pending))
    })
    .await;
    assert_eq!(delivery.leftovers().save().await, 0);
}

#[tokio::test(start_paused = true)]
async fn the_backlog_is_counted_anew_now_and_then() {
    let lab = lab(&[]).await;
    let outbox = lab.store().outbox;
    for id in ["a", "b"] {
        outbox.seal(id, b"{}").unwrap();
    }
    let (_delivery, _) = lab.starts();
    eventually("counted at the start", || lab.gauge.records() == 2).await;
    // By hand: the worker is not notified.
    outbox.delete(Folder::Pending, "a").unwrap();
    tokio::time::advance(Duration::from_secs(601)).await;
    eventually("counted anew", || lab.gauge.records() == 1).await;
    lab.answers.lock().clear();
}
