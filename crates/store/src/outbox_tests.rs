//! The outbox on a disk that fails at every step, and that loses what a power cut may lose.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use proptest::prelude::*;

use super::outbox::{Attempts, Folder, Outbox};
use crate::{
    disk::{
        DiskHealth,
        memory::{Fails, MemoryDisk},
    },
    health::Health,
};

const DIR: &str = "/data";
/// Power cuts to try at each moment.
const CUTS: u64 = 40;

fn at(disk: &MemoryDisk) -> Outbox {
    let dir = Path::new(DIR);
    Outbox::at(Arc::new(disk.clone()), DiskHealth::new(dir, Health::default()), dir)
}

fn open(disk: &MemoryDisk) -> Outbox {
    let dir = Path::new(DIR);
    let health = DiskHealth::new(dir, Health::default());
    Outbox::open(Arc::new(disk.clone()), health, dir).unwrap()
}

fn opened() -> (MemoryDisk, Outbox) {
    let disk = MemoryDisk::default();
    let outbox = open(&disk);
    (disk, outbox)
}

const BODY: &[u8] = b"{\"call_id\":\"a\"}";

/// Finds the record after a power cut; asserts that it is complete.
fn found(disk: &MemoryDisk, seed: u64) -> Option<Folder> {
    let outbox = at(&disk.after_a_power_cut(seed));
    let folder = outbox.find("a")?;
    assert_eq!(outbox.body(folder, "a").unwrap(), BODY, "half a record under its final name");
    Some(folder)
}

#[test]
fn whichever_step_fails_a_sealed_record_is_whole_and_stays() {
    let (disk, outbox) = opened();
    outbox.seal("a", BODY).unwrap();
    let steps = {
        disk.fail(Fails::None);
        outbox.seal("a", BODY).unwrap();
        disk.steps()
    };
    assert!(steps >= 4, "{steps}: write, sync, rename, sync of the folder");
    for step in 0..steps {
        let (disk, outbox) = opened();
        disk.fail(Fails::Step(step));
        let sealed = outbox.seal("a", BODY);
        assert!(sealed.is_err(), "step {step} is taken for done");
        (0..CUTS).for_each(|seed| {
            found(&disk, seed);
        });
        disk.fail(Fails::None);
        outbox.seal("a", BODY).unwrap();
        for seed in 0..CUTS {
            assert_eq!(found(&disk, seed), Some(Folder::Pending), "step {step}, cut {seed}");
        }
    }
}

#[test]
fn a_power_cut_between_any_two_steps_of_filing_loses_nothing() {
    for dead in [false, true] {
        for step in 0..8 {
            let (disk, outbox) = opened();
            outbox.seal("a", BODY).unwrap();
            disk.fail(Fails::Step(step));
            // Whether it works or not.
            let _ = if dead { outbox.dead("a", &Attempts::default()) } else { outbox.sent("a") };
            for seed in 0..CUTS {
                assert!(found(&disk, seed).is_some(), "dead {dead}, step {step}, cut {seed}");
            }
        }
    }
}

#[test]
fn a_full_disk_is_reported_once_and_so_is_its_end() {
    let disk = MemoryDisk::default();
    let (dir, health) = (Path::new(DIR), Health::default());
    let outbox =
        Outbox::open(Arc::new(disk.clone()), DiskHealth::new(dir, health.clone()), dir).unwrap();
    disk.fail(Fails::All);
    assert!(outbox.seal("a", BODY).is_err() && outbox.seal("b", BODY).is_err());
    assert!(health.warning().unwrap().starts_with("outbox: the disk fails: "));
    disk.fail(Fails::None);
    outbox.seal("a", BODY).unwrap();
    assert_eq!(health.warning(), None);
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Seal,
    Sent,
    Dead,
    Revive,
    Purge,
    PowerCut(u64),
}

fn op() -> impl Strategy<Value = (Op, u8, Option<u64>)> {
    let op = prop_oneof![
        4 => Just(Op::Seal),
        3 => Just(Op::Sent),
        2 => Just(Op::Dead),
        2 => Just(Op::Revive),
        1 => Just(Op::Purge),
        2 => any::<u64>().prop_map(Op::PowerCut),
    ];
    (op, 0u8..4, prop_oneof![3 => Just(None), 1 => (0u64..8).prop_map(Some)])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..Default::default() })]

    /// Against a model: a record that was sealed is there, complete, until it is sent and purged.
    /// Steps fail and the power is cut in between.
    #[test]
    fn the_outbox_behaves_like_its_model(ops in prop::collection::vec(op(), 0..60)) {
        let (mut disk, mut outbox) = opened();
        // The records that must be there; a purge may delete those that were sent.
        let mut model: BTreeMap<String, (Folder, Vec<u8>)> = BTreeMap::new();
        for (n, (op, id, fail)) in ops.into_iter().enumerate() {
            let id = format!("id{id}");
            let body = format!("{{\"n\":{n}}}").into_bytes();
            disk.fail(fail.map_or(Fails::None, Fails::Step));
            let is = |f| model.get(&id).is_some_and(|(folder, _)| *folder == f);
            match op {
                Op::Seal if !model.contains_key(&id) => {
                    if outbox.seal(&id, &body).is_ok() {
                        model.insert(id, (Folder::Pending, body));
                    } else {
                        // The record may be there or not; sealing it again decides.
                        disk.fail(Fails::None);
                        outbox.seal(&id, &body).unwrap();
                        model.insert(id, (Folder::Pending, body));
                    }
                }
                Op::Sent if is(Folder::Pending) && outbox.sent(&id).is_ok() => {
                    model.get_mut(&id).unwrap().0 = Folder::Sent;
                }
                Op::Dead
                    if is(Folder::Pending) && outbox.dead(&id, &Attempts::default()).is_ok() =>
                {
                    model.get_mut(&id).unwrap().0 = Folder::Dead;
                }
                Op::Revive
                    if is(Folder::Dead) && outbox.revive(Folder::Dead, &id).is_ok() =>
                {
                    model.get_mut(&id).unwrap().0 = Folder::Pending;
                }
                Op::Purge => {
                    outbox.purge_sent(Duration::ZERO).unwrap();
                    model.retain(|id, (folder, _)| *folder != Folder::Sent || outbox.find(id).is_some());
                }
                Op::PowerCut(seed) => {
                    disk = disk.after_a_power_cut(seed);
                    outbox = open(&disk);
                    // A move without a sync may be undone: the record is sent again, never lost.
                    for (id, (folder, _)) in &mut model {
                        let now = outbox.find(id);
                        prop_assert!(now.is_some(), "{id} was in {folder:?} and is lost");
                        *folder = now.unwrap();
                    }
                    // A deletion may be undone as well.
                    for id in (0..4).map(|n| format!("id{n}")) {
                        if let Some(folder) = outbox.find(&id) {
                            let body = outbox.body(folder, &id).unwrap();
                            model.entry(id).or_insert((folder, body));
                        }
                    }
                }
                _ => {}
            }
            disk.fail(Fails::None);
            for (id, (folder, body)) in &model {
                prop_assert_eq!(outbox.find(id), Some(*folder));
                prop_assert_eq!(&outbox.body(*folder, id).unwrap(), body);
            }
        }
    }
}
