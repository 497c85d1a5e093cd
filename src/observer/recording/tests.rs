use std::{path::Path, sync::Arc};

use call::{
    RoomFacts, Settings,
    event::{Joined, Kind},
};
use delivery::events::Events;
use delivery::{Store, Target};
use store::{
    BacklogGauge, BacklogLimit, Disk, DiskHealth, DiskWork, Health, Ordinals, Outbox,
    disk::memory::MemoryDisk, journal::left_behind, outbox::Folder,
};

use super::*;

const DIR: &str = "/data";

struct Lab {
    disk: MemoryDisk,
    outbox: Outbox,
    journals: Journals,
    active_calls: watch::Receiver<usize>,
    recording: Recording,
}

/// A recording on a disk in memory; the endpoint does not answer.
fn lab() -> Lab {
    crate::net::init();
    let (disk, dir, health) = (MemoryDisk::default(), Path::new(DIR), Health::default());
    let all: Arc<dyn Disk> = Arc::new(disk.clone());
    let of_disk = || DiskHealth::new(dir, health.clone());
    let outbox = Outbox::open(all.clone(), of_disk(), dir).unwrap();
    let store = Store {
        outbox: outbox.clone(),
        ordinals: Ordinals::open(all.clone(), of_disk(), dir).unwrap(),
        disk: DiskWork::new(all.clone(), of_disk(), dir),
    };
    let target = Target {
        client: crate::net::http_client(Duration::from_secs(1)).unwrap(),
        endpoint: "http://127.0.0.1:1/".parse().unwrap(),
        shown: "nowhere".into(),
        jwt_secret: None,
        headers: Default::default(),
        max_body: None,
        gzip_from: None,
        keep_sent: Duration::from_secs(60),
        now: Arc::new(Moment::default),
        explain: Arc::new(|e| e),
        follow: None,
    };
    let gauge = BacklogGauge::new(BacklogLimit { records: 9, bytes: 1 << 20 }, health.clone());
    let (delivery, _sender) = delivery::start(store, target, gauge, health.clone());
    let journals = Journals::start(all, of_disk(), dir, false).unwrap();
    let name = NameWatch::new("recorder", health.clone());
    let metrics = health.metrics().clone();
    let (active_calls, wall) = (ActiveCalls::default(), WallClock::new(health));
    let clock = Clock::start(&wall);
    let on = active_calls.subscribe();
    let services = RecordingServices {
        journals: journals.clone(),
        delivery,
        active_calls,
        wall,
        name,
        metrics,
        events: Events::default(),
    };
    let recording = Recording::new(services, "room".into(), clock);
    Lab { disk, outbox, journals, active_calls: on, recording }
}

fn call() -> Call {
    Call::new(RoomFacts { sid: "RM_1".into(), name: "room".into() }, Settings::default())
}

fn watching() -> Fact {
    Fact::Watching { server_behind_ms: 0, by: None }
}

fn joins(at: Moment, metadata: &str) -> Fact {
    Fact::Joined(Joined {
        identity: "alice".into(),
        sid: "PA_1".into(),
        kind: Kind::Standard,
        name: String::new(),
        metadata: metadata.into(),
        attributes: BTreeMap::new(),
        joined_at: at,
        permissions: None,
    })
}

fn leaves() -> Fact {
    Fact::Left {
        identity: "alice".into(),
        reason: LeaveReason::ClientInitiated,
        attributes: BTreeMap::new(),
        since: None,
    }
}

impl Lab {
    fn now(&self) -> Moment {
        self.recording.clock.now()
    }

    /// Names of the journals, after all writes are done.
    fn live(&self) -> Vec<String> {
        self.journals.flush(Duration::from_secs(10));
        let names = self.disk.walk(&Path::new(DIR).join("live")).unwrap();
        names.filter(|n| n.ends_with(".jsonl")).collect()
    }
}

#[tokio::test]
async fn a_call_is_journaled_while_it_runs_and_sealed_when_it_ends() {
    let mut l = lab();
    let (now, first) = (l.now(), call());
    let id = first.id();
    l.recording.begin(first, vec![(now, watching()), (now, joins(now, ""))]);
    l.recording.note_start();
    assert!(l.recording.is_active() && *l.active_calls.borrow() == 1);
    assert_eq!(l.live(), [format!("{id}.jsonl")]);
    // The next run would resume it.
    let left = left_behind(&l.disk, Path::new(DIR), &l.outbox).unwrap();
    assert!(left.len() == 1 && left[0].call.caller_present());
    l.recording.apply(now, leaves());
    l.recording.end_call().await;
    assert_eq!(l.outbox.find(&id), Some(Folder::Pending));
    assert!(!l.recording.is_active() && l.recording.has_ended_any());
    assert_eq!((*l.active_calls.borrow(), l.recording.call().map(Call::ordinal)), (0, Some(1)));
    // The next call's journal holds only what the room carries over to it.
    let next = l.recording.call().unwrap().id();
    assert_eq!(l.live(), [format!("{next}.jsonl")]);
    l.recording.forget_journal();
    assert!(l.live().is_empty());
}

/// A room may live for weeks, and the machine's clock may be wrong at first.
#[tokio::test]
async fn the_next_call_of_a_room_takes_the_servers_time() {
    let mut l = lab();
    let now = l.now();
    l.recording.begin(call(), vec![(now, watching()), (now, joins(now, ""))]);
    l.recording.note_start();
    l.recording.apply(now, leaves());
    // Meanwhile another room has shown that this machine's clock is a minute behind.
    let server = now.plus(60_000);
    let at = tokio::time::Instant::now();
    l.recording.services.wall.learn_join(server, server, at, at);
    l.recording.end_call().await;
    let moved = l.now().since(now);
    assert!((59_000..90_000).contains(&moved), "{moved}");
    assert_eq!(l.recording.call().unwrap().server_behind_ms(), 0);
}

#[tokio::test]
async fn nothing_is_kept_of_a_call_that_opts_out() {
    // From the start, and in the middle.
    for (first, then) in
        [("{\"opt_out_sensitive_data\":true}", ""), ("", "{\"opt_out_sensitive_data\":true}")]
    {
        let mut l = lab();
        let (now, it) = (l.now(), call());
        let id = it.id();
        l.recording.begin(it, vec![(now, watching()), (now, joins(now, first))]);
        l.recording.note_start();
        if !then.is_empty() {
            assert_eq!(l.live().len(), 1);
            let (identity, metadata) = ("alice".to_owned(), then.to_owned());
            l.recording.apply(now, Fact::Metadata { identity, metadata });
        }
        assert!(l.live().is_empty(), "{first}{then}");
        l.recording.apply(now, leaves());
        assert!(l.recording.report().await.is_some_and(|c| c.opted_out()));
        assert_eq!(l.outbox.find(&id), None);
    }
}

#[tokio::test]
async fn a_call_left_to_another_worker_is_not_reported() {
    let mut l = lab();
    let (now, it) = (l.now(), call());
    let id = it.id();
    l.recording.begin(it, vec![(now, watching()), (now, joins(now, ""))]);
    l.recording.note_start();
    l.recording.discard();
    assert!(l.live().is_empty() && !l.recording.is_active());
    l.recording.end_call().await;
    assert_eq!(l.outbox.find(&id), None);
}
