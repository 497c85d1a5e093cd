//! Journals on a disk that fails, and that loses what a power cut may lose.

use std::{path::Path, sync::Arc, time::Duration};

use call::{
    Call, Event, Fact, Moment, RoomFacts, Settings,
    event::{Joined, Kind},
};

use super::{CallJournal, Journals, left_behind, read, write::SYNC_WITHIN};
use crate::{
    disk::{
        Disk, DiskHealth,
        memory::{Fails, MemoryDisk},
    },
    health::Health,
    outbox::Outbox,
};

const DIR: &str = "/data";
const WITHIN: Duration = Duration::from_secs(10);

struct Lab {
    disk: MemoryDisk,
    health: Health,
    journals: Journals,
    call: Call,
}

fn lab() -> Lab {
    syncing(SYNC_WITHIN)
}

fn syncing(within: Duration) -> Lab {
    let (disk, health) = (MemoryDisk::default(), Health::default());
    let dir = Path::new(DIR);
    let disk_health = DiskHealth::new(dir, health.clone());
    let journals =
        Journals::syncing(Arc::new(disk.clone()), disk_health, dir, false, within).unwrap();
    let room = RoomFacts { sid: "RM_1".into(), name: "room".into() };
    Lab { disk, health, journals, call: Call::new(room, Settings::default()) }
}

fn event(n: i64) -> Event {
    let fact = Fact::Chat { identity: "caller".into(), text: format!("word {n}"), words: None };
    Event { at: Moment::from_millis(1_000 + n), fact }
}

fn joins(n: i64) -> Event {
    let fact = Fact::Joined(Joined {
        identity: format!("caller{n}"),
        sid: "PA_1".into(),
        kind: Kind::Standard,
        name: String::new(),
        metadata: String::new(),
        attributes: std::collections::BTreeMap::new(),
        joined_at: Moment::from_millis(1_000),
        permissions: None,
    });
    Event { at: Moment::from_millis(1_000 + n), fact }
}

impl Lab {
    fn begin(&self) -> CallJournal {
        self.journals.begin(&self.call)
    }

    fn path(&self) -> std::path::PathBuf {
        Path::new(DIR).join("live").join(format!("{}.jsonl", self.call.id()))
    }

    fn events(&self, disk: &MemoryDisk) -> Vec<Event> {
        read(&disk.read(&self.path()).unwrap_or_default()).map(|j| j.events).unwrap_or_default()
    }

    fn outbox(&self, disk: &MemoryDisk) -> Outbox {
        let health = DiskHealth::new(Path::new(DIR), Health::default());
        Outbox::open(Arc::new(disk.clone()), health, Path::new(DIR)).unwrap()
    }
}

#[test]
fn flushed_events_survive_any_power_cut_and_of_later_ones_a_prefix() {
    let l = lab();
    let journal = l.begin();
    let all: Vec<Event> = (0..40).map(event).collect();
    all[..30].iter().for_each(|e| journal.append(e));
    l.journals.flush(WITHIN);
    all[30..].iter().for_each(|e| journal.append(e));
    for seed in 0..200 {
        let after = l.events(&l.disk.after_a_power_cut(seed));
        assert!(after.len() >= 30, "only {} are left", after.len());
        assert_eq!(after, all[..after.len()]);
    }
}

/// Waits until `n` events would survive any power cut.
fn survive(l: &Lab, n: usize) {
    let until = std::time::Instant::now() + WITHIN;
    // Unsynced lines may survive by chance: the least of many cuts counts.
    let least = || (0..20).map(|seed| l.events(&l.disk.after_a_power_cut(seed)).len()).min();
    while least() < Some(n) {
        assert!(std::time::Instant::now() < until, "{n} events never came to the disk");
        std::thread::yield_now();
    }
}

#[test]
fn joins_leaves_and_ends_are_on_the_disk_at_once() {
    use call::event::LeaveReason;
    let l = syncing(Duration::from_secs(3600));
    let journal = l.begin();
    journal.append(&joins(1));
    survive(&l, 1);
    let left = Fact::Left {
        identity: "caller1".into(),
        reason: LeaveReason::ClientInitiated,
        attributes: std::collections::BTreeMap::new(),
        since: None,
    };
    journal.append(&Event { at: Moment::from_millis(2), fact: left });
    survive(&l, 2);
    let reason = LeaveReason::RoomClosed;
    journal.append(&Event { at: Moment::from_millis(3), fact: Fact::RoomEnded { reason } });
    survive(&l, 3);
}

#[test]
fn all_other_events_are_on_the_disk_within_the_sync_time() {
    let l = syncing(Duration::from_millis(50));
    let journal = l.begin();
    journal.append(&event(0));
    survive(&l, 1);
}

#[test]
fn when_the_disk_works_again_the_journal_is_whole() {
    let l = lab();
    let journal = l.begin();
    journal.append(&event(0));
    l.journals.flush(WITHIN);
    l.disk.fail(Fails::All);
    (1..20).for_each(|n| journal.append(&event(n)));
    l.journals.flush(WITHIN);
    assert!(l.health.warning().is_some(), "the health page says so");
    assert!(l.events(&l.disk).len() < 20, "a full disk takes what there is room for");
    l.disk.fail(Fails::None);
    journal.append(&event(20));
    l.journals.flush(WITHIN);
    assert_eq!(l.events(&l.disk), (0..=20).map(event).collect::<Vec<_>>());
    assert_eq!(l.health.warning(), None, "back to normal by itself");
}

#[test]
fn whichever_step_fails_no_line_is_lost_or_doubled() {
    for step in 0..12 {
        let l = lab();
        let journal = l.begin();
        l.journals.flush(WITHIN);
        l.disk.fail(Fails::Step(step));
        for n in 0..5 {
            journal.append(&event(n));
            l.journals.flush(WITHIN);
        }
        l.disk.fail(Fails::None);
        journal.append(&event(5));
        l.journals.flush(WITHIN);
        assert_eq!(l.events(&l.disk), (0..=5).map(event).collect::<Vec<_>>(), "step {step}");
    }
}

#[test]
fn the_journal_of_a_call_whose_disk_fails_for_too_long_ends_there() {
    let l = lab();
    let journal = l.begin();
    l.journals.flush(WITHIN);
    l.disk.fail(Fails::All);
    let text = "x".repeat(60_000);
    for n in 0..400 {
        let fact = Fact::Chat { identity: "caller".into(), text: text.clone(), words: None };
        journal.append(&Event { at: Moment::from_millis(n), fact });
    }
    l.journals.flush(WITHIN);
    l.disk.fail(Fails::None);
    journal.append(&event(1));
    l.journals.flush(WITHIN);
    let after = l.events(&l.disk);
    assert!(after.len() < 400, "sixteen megabytes did not fit");
    let times: Vec<i64> = after.iter().map(|e| e.at.since(Moment::default())).collect();
    assert!(times.iter().zip(0..).all(|(t, n)| *t == n), "it has a hole: {times:?}");
}

#[test]
fn a_sealed_record_wins_over_its_journal() {
    let l = lab();
    let journal = l.begin();
    journal.append(&joins(1));
    l.journals.flush(WITHIN);
    drop(journal);
    let outbox = l.outbox(&l.disk);
    let found = left_behind(&l.disk, Path::new(DIR), &outbox).unwrap();
    assert_eq!(found.len(), 1, "the call was on");
    assert!(found[0].call.has_caller());
    outbox.seal(&l.call.id(), b"{}").unwrap();
    assert!(left_behind(&l.disk, Path::new(DIR), &outbox).unwrap().is_empty());
    assert!(!l.disk.exists(&l.path()), "and the journal is gone");
}

#[test]
fn an_unreadable_journal_is_set_aside() {
    let l = lab();
    let path = Path::new(DIR).join("live/x.jsonl");
    l.disk.write_synced(&path, b"{\"journal\":99}\n{}\n").unwrap();
    l.disk.write_synced(&Path::new(DIR).join("live/y.jsonl"), b"{\"crc\":\"00").unwrap();
    let outbox = l.outbox(&l.disk);
    assert!(left_behind(&l.disk, Path::new(DIR), &outbox).unwrap().is_empty());
    assert!(l.disk.exists(&Path::new(DIR).join("live/x.jsonl.broken")));
    assert!(!l.disk.exists(&Path::new(DIR).join("live/y.jsonl")), "nothing had been seen yet");
}

#[test]
fn a_journal_that_the_disk_does_not_read_stays_and_the_next_of_its_call_does_not_replace_it() {
    let l = lab();
    let journal = l.begin();
    journal.append(&joins(1));
    l.journals.flush(WITHIN);
    drop(journal);
    let (outbox, before) = (l.outbox(&l.disk), l.disk.read(&l.path()).unwrap());
    l.disk.fail_reads(u64::MAX);
    assert!(left_behind(&l.disk, Path::new(DIR), &outbox).unwrap().is_empty());
    l.disk.fail_reads(0);
    assert_eq!(l.disk.read(&l.path()).unwrap(), before);
    // The reconciler finds the room again, and the same call begins anew.
    let _again = l.begin();
    l.journals.flush(WITHIN);
    let names: Vec<String> = l.disk.walk(&Path::new(DIR).join("live")).unwrap().collect();
    let aside = names.iter().find(|name| name.ends_with(".broken")).expect("it is set aside");
    assert_eq!(l.disk.read(&Path::new(DIR).join("live").join(aside)).unwrap(), before);
}

/// Replays the journals of `tests/journals` with only the events that the core takes.
#[test]
fn every_journal_gives_the_same_record_without_what_was_not_taken() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/journals");
    let (mut events, mut lines, mut records) = (0, 0, 0);
    for file in std::fs::read_dir(dir).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|e| e != "jsonl") {
            continue;
        }
        let journal = read(&std::fs::read(&path).unwrap()).unwrap();
        let settings = Settings { details: true, transcript: true, ..journal.header.settings };
        let mut call = Call::new(journal.header.room.clone(), settings.clone());
        let mut again = Call::new(journal.header.room, settings);
        for e in journal.events {
            events += 1;
            if let Some(taken) = call.apply(&e).of(e) {
                lines += 1;
                let _ = again.apply(&taken);
            }
        }
        let record = |c: &Call| serde_json::to_string(&c.record()).unwrap();
        assert_eq!(record(&call), record(&again), "{}", path.display());
        records += u32::from(call.record().is_some());
    }
    assert!(records >= 25, "only {records} records");
    assert!(lines < events, "{lines} of {events} events");
}
