//! What core, journal and outbox cost, counted: instructions and allocations do not depend on what else the machine does.
//!
//! `make counts` runs it under callgrind, and compares with the figures in `counts.json`. Without an argument it prints the
//! allocations of all tasks; with the name of a task it does this one once, in [`counted_part`], where callgrind counts.

// A bench prints for a person, and may panic.
#![allow(clippy::print_stdout, clippy::expect_used)]

#[path = "shared/conversation.rs"]
mod conversation;

use std::{alloc::System, collections::BTreeMap, hint::black_box, path::Path, sync::Arc};

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use store::{DiskHealth, Health, Journals, Outbox, RealDisk, journal};

#[global_allocator]
static MEMORY: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The segments of the long calls: a turn has one of the caller and one of the agent. The core keeps at most 40,000 of
/// a call, and 20,000 items of the conversation.
const LONG: [(&str, u64); 4] = [
    ("record of 1,000 segments", 500),
    ("record of 10,000 segments", 5_000),
    ("record of 20,000 segments", 10_000),
    ("record of 100,000 segments", 50_000),
];
const TEN_MINUTES: u64 = 100;

/// Returns the allocations that its measured part has made.
type Task = Box<dyn Fn() -> Option<usize>>;

/// What is counted. The name is found in the output of callgrind.
#[inline(never)]
fn counted_part<T>(work: impl FnOnce() -> T) -> T {
    black_box(work())
}

/// Does a task. Returns the allocations that the measured part has made, where they do not depend on another thread.
fn count<T>(work: impl FnOnce() -> T) -> Option<usize> {
    let region = Region::new(MEMORY);
    let done = counted_part(work);
    let made = region.change();
    drop(done);
    Some(made.allocations + made.reallocations)
}

fn read_journal() -> Option<usize> {
    let text = conversation::journal(TEN_MINUTES);
    count(|| journal::read(text.as_bytes()).expect("a journal"))
}

fn core() -> Option<usize> {
    let read = journal::read(conversation::journal(TEN_MINUTES).as_bytes()).expect("a journal");
    count(|| journal::replay_to_end(&read))
}

fn record(turns: u64) -> Option<usize> {
    let read = journal::read(conversation::journal(turns).as_bytes()).expect("a journal");
    let (call, _) = journal::replay_to_end(&read);
    count(|| serde_json::to_vec(&call.record().expect("a record")).expect("JSON"))
}

fn append() -> Option<usize> {
    let read = journal::read(conversation::journal(TEN_MINUTES).as_bytes()).expect("a journal");
    let (call, _) = journal::replay_to_end(&read);
    let dir = tempfile::tempdir().expect("a folder");
    let journals = Journals::start(Arc::new(RealDisk), health(dir.path()), dir.path(), false);
    let line = journals.expect("journals").begin(&call);
    count(|| read.events.iter().for_each(|event| line.append(event)));
    // The thread of journals allocates too, as often as it is woken.
    None
}

fn seal() -> Option<usize> {
    let dir = tempfile::tempdir().expect("a folder");
    let outbox = Outbox::open(Arc::new(RealDisk), health(dir.path()), dir.path());
    let outbox = outbox.expect("an outbox");
    let body = vec![b'x'; 30_000];
    count(|| (0..100).for_each(|n| outbox.seal(&format!("{n}"), &body).expect("sealed")))
}

fn health(dir: &Path) -> DiskHealth {
    DiskHealth::new(dir, Health::default())
}

fn main() {
    let mut tasks: Vec<(&str, Task)> = vec![
        ("journal of ten minutes read", Box::new(read_journal)),
        ("events of ten minutes applied", Box::new(core)),
        ("events of ten minutes appended to the journal", Box::new(append)),
        ("a hundred records sealed", Box::new(seal)),
    ];
    for (name, turns) in LONG {
        tasks.push((name, Box::new(move || record(turns))));
    }
    // Cargo passes options of its own.
    match std::env::args().skip(1).find(|word| !word.starts_with('-')) {
        Some(wanted) => {
            let task = tasks.iter().find(|(name, _)| *name == wanted);
            task.expect("the name of a task").1();
        }
        None => {
            let all: BTreeMap<&str, Option<usize>> =
                tasks.iter().map(|(name, task)| (*name, task())).collect();
            println!("{}", serde_json::to_string(&all).expect("JSON"));
        }
    }
}
