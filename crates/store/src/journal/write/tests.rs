use super::*;
use crate::{
    disk::memory::{Fails, MemoryDisk},
    health::Health,
};

fn writer(disk: &MemoryDisk) -> Writer {
    let dir = PathBuf::from("/data/live");
    disk.create_dir(&dir).unwrap();
    Writer {
        disk: Arc::new(disk.clone()),
        health: DiskHealth::new(&dir, Health::default()),
        dir,
        files: HashMap::new(),
        to_remove: vec![],
        queued: Arc::default(),
        within: SYNC_WITHIN,
        stall: StallDetector::new(DiskHealth::new(Path::new("/data"), Health::default())),
    }
}

fn begin(w: &mut Writer, id: u64) -> Arc<OnceLock<GiveUpReason>> {
    let (path, given_up) =
        (w.dir.join(format!("{id}.jsonl")), Arc::<OnceLock<GiveUpReason>>::default());
    let command = Command::Begin {
        id,
        path,
        line: b"header\n".to_vec(),
        append_at: None,
        given_up: given_up.clone(),
    };
    take(w, command);
    assert!(w.write_all(false));
    given_up
}

fn take(w: &mut Writer, command: Command) {
    w.take(command, &mut vec![], &mut vec![]);
}

fn append(w: &mut Writer, id: u64, bytes: usize) {
    let line = vec![b'x'; bytes];
    w.queued.fetch_add(bytes, Ordering::Relaxed);
    take(w, Command::Append { id, line, now: false });
}

/// Asserts that a given-up journal needs no work and no memory.
fn costs_nothing(w: &mut Writer, id: u64) {
    assert_eq!(w.wait(None), RETRY, "the thread has something to do at once");
    let f = &w.files[&id];
    assert_eq!((f.waiting.capacity(), f.unsynced.capacity()), (0, 0));
    assert!(f.file.is_none());
    append(w, id, 100);
    assert!(w.files[&id].waiting.is_empty());
    assert_eq!(w.wait(None), RETRY);
}

#[test]
fn a_journal_that_is_too_long_is_given_up_and_costs_nothing() {
    let disk = MemoryDisk::default();
    let mut w = writer(&disk);
    let given_up = begin(&mut w, 1);
    for _ in 0..=(MAX_JOURNAL / 8_000_000) {
        append(&mut w, 1, 8_000_000);
        assert!(w.write_all(false));
    }
    assert_eq!(given_up.get(), Some(&GiveUpReason::TooLong), "the maker of the lines must know it");
    costs_nothing(&mut w, 1);
}

#[test]
fn a_journal_whose_disk_fails_is_given_up_and_others_go_on() {
    let disk = MemoryDisk::default();
    let mut w = writer(&disk);
    let (first, second) = (begin(&mut w, 1), begin(&mut w, 2));
    disk.fail(Fails::All);
    append(&mut w, 1, MAX_WAITING);
    append(&mut w, 1, 1);
    append(&mut w, 2, 10);
    assert!(!w.write_all(true));
    disk.fail(Fails::None);
    assert!(w.write_all(true));
    assert_eq!((first.get(), second.get()), (Some(&GiveUpReason::DiskFails), None));
    assert_eq!(disk.read(&w.dir.join("2.jsonl")).unwrap().len(), "header\n".len() + 10);
    costs_nothing(&mut w, 1);
}

#[test]
fn the_warning_ends_with_the_last_call_that_waits_for_the_disk() {
    let disk = MemoryDisk::default();
    let mut w = writer(&disk);
    begin(&mut w, 1);
    disk.fail(Fails::All);
    append(&mut w, 1, 10);
    assert!(!w.write_all(true));
    assert!(w.health.is_warned_of(Topic::Journal));
    disk.fail(Fails::None);
    take(&mut w, Command::End { id: 1, keep: None });
    assert!(w.write_all(true));
    assert!(!w.health.is_warned_of(Topic::Journal), "its call is over");
}

#[test]
fn a_journal_that_cannot_be_removed_is_removed_later() {
    let disk = MemoryDisk::default();
    let mut w = writer(&disk);
    begin(&mut w, 1);
    disk.fail(Fails::All);
    take(&mut w, Command::End { id: 1, keep: None });
    assert!(!w.write_all(false) && w.health.is_warned_of(Topic::Journal));
    assert!(disk.exists(&w.dir.join("1.jsonl")));
    disk.fail(Fails::None);
    assert!(w.write_all(false));
    assert!(!disk.exists(&w.dir.join("1.jsonl")), "the next start would replay it");
    assert!(!w.health.is_warned_of(Topic::Journal));
}

#[test]
fn a_journal_begun_in_the_place_of_one_that_cannot_be_removed_stays() {
    let disk = MemoryDisk::default();
    let mut w = writer(&disk);
    begin(&mut w, 1);
    append(&mut w, 1, 1_000);
    assert!(w.write_all(true));
    disk.fail(Fails::All);
    take(&mut w, Command::End { id: 1, keep: None });
    // The worker joins the same room again, so its call has the same id.
    let (path, line, given_up) = (w.dir.join("1.jsonl"), b"anew\n".to_vec(), Arc::default());
    take(&mut w, Command::Begin { id: 2, path, line, append_at: None, given_up });
    assert!(!w.write_all(true));
    disk.fail(Fails::None);
    assert!(w.write_all(true));
    assert_eq!(disk.read(&w.dir.join("1.jsonl")).unwrap(), b"anew\n");
    assert_eq!(disk.walk(&w.dir).unwrap().count(), 1, "the old one was to be removed");
}

#[test]
fn all_journals_together_are_bounded_while_the_disk_fails() {
    let disk = MemoryDisk::default();
    let mut w = writer(&disk);
    let calls: Vec<_> = (0..6).map(|id| begin(&mut w, id)).collect();
    disk.fail(Fails::All);
    for id in 0..6 {
        append(&mut w, id, MAX_WAITING - if id == 3 { 0 } else { 1_000 });
    }
    assert!(!w.write_all(true));
    let waiting: usize = w.files.values().map(|f| f.waiting.len()).sum();
    assert!(waiting <= MAX_QUEUED, "{waiting}");
    let given_up = calls.iter().filter(|g| g.get().is_some()).count();
    assert_eq!(given_up, 2, "the others go on");
    assert!(calls[3].get().is_some(), "the longest first");
}

#[test]
fn a_journal_that_is_dropped_is_closed_once_it_is_synced() {
    let disk = MemoryDisk::default();
    let mut w = writer(&disk);
    let given_up = begin(&mut w, 1);
    begin(&mut w, 2);
    disk.fail(Fails::All);
    append(&mut w, 1, 10);
    take(&mut w, Command::Close { id: 1 });
    assert!(!w.write_all(false));
    assert!(w.files.contains_key(&1) && given_up.get().is_none());
    disk.fail(Fails::None);
    assert!(w.write_all(false));
    assert_eq!(w.files.keys().collect::<Vec<_>>(), [&2]);
    let disk = disk.after_a_power_cut(0);
    assert_eq!(disk.read(&w.dir.join("1.jsonl")).unwrap().len(), "header\n".len() + 10);
}

#[test]
fn an_old_file_in_the_place_of_a_new_journal_is_moved_aside() {
    // Also if any step of the move fails at first.
    for step in 0..6 {
        let disk = MemoryDisk::default();
        let mut w = writer(&disk);
        let path = w.dir.join("1.jsonl");
        disk.write_synced(&path, b"evidence").unwrap();
        disk.fail(Fails::Step(step));
        let (path, line) = (path.clone(), b"header\n".to_vec());
        let new = path.clone();
        let given_up = Arc::default();
        take(&mut w, Command::Begin { id: 1, path, line, append_at: None, given_up });
        w.write_all(false);
        disk.fail(Fails::None);
        assert!(w.write_all(true));
        assert_eq!(disk.read(&new).unwrap(), b"header\n", "step {step}");
        let aside: Vec<String> =
            disk.walk(&w.dir).unwrap().filter(|n| n.ends_with(".broken")).collect();
        let kept = disk.read(&w.dir.join(&aside[0])).unwrap();
        assert_eq!((aside.len(), kept.as_slice()), (1, &b"evidence"[..]), "step {step}");
    }
}
