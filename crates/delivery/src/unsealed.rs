//! Records that are not on the disk yet: each for the moment of its sealing, and for longer where the
//! disk fails or hangs. They are sent from here meanwhile, and sealed when the disk allows.
//!
//! In: a finished record with the journal that could give it again. Out: a sealed file, and the end of
//! that journal. Bounded in bytes: what does not fit is not sent, but its journal stays for the next
//! start.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use store::{
    backlog::BacklogGauge,
    health::{Health, Topic},
    journal::CallJournal,
    ordinals::Ordinals,
    outbox::{Attempts, Outbox, OutboxError},
};

/// Bytes of records that are only in memory: some ten thousand without details.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What became of a record while it was only here.
#[derive(Clone, Debug, Default)]
enum Fate {
    /// To be sent, and sealed.
    #[default]
    Waiting,
    /// The endpoint has it.
    Sent,
    /// The endpoint will never take it: to be sealed into `dead/`.
    Dead(Attempts),
}

struct Kept {
    body: Arc<[u8]>,
    journal: Option<CallJournal>,
    attempts: Attempts,
    fate: Fate,
    /// It is at the disk now; that decides.
    sealing: bool,
    /// It was tried and could not be sealed.
    failed: bool,
}

/// Cheap to clone; all clones hold the same records.
#[derive(Clone)]
pub(super) struct Unsealed {
    outbox: Outbox,
    ordinals: Ordinals,
    level: BacklogGauge,
    health: Health,
    records: Arc<Mutex<Records>>,
    sealing_all: Arc<Mutex<()>>,
}

#[derive(Default)]
struct Records {
    by_id: BTreeMap<String, Kept>,
    bytes: usize,
    /// Records for which there was no place.
    lost: usize,
}

impl Records {
    fn remove(&mut self, id: &str) -> Option<Kept> {
        let kept = self.by_id.remove(id)?;
        self.bytes -= kept.body.len();
        Some(kept)
    }

    fn stuck(&self) -> impl Iterator<Item = &Kept> {
        self.by_id.values().filter(|k| k.failed)
    }
}

impl Unsealed {
    pub(super) fn new(
        outbox: Outbox,
        ordinals: Ordinals,
        level: BacklogGauge,
        health: Health,
    ) -> Self {
        Self {
            outbox,
            ordinals,
            level,
            health,
            records: Arc::default(),
            sealing_all: Arc::default(),
        }
    }

    /// Takes a record in, to be sealed next.
    pub(super) fn add(&self, id: &str, body: Arc<[u8]>, journal: Option<CallJournal>) {
        let kept = Kept {
            body,
            journal,
            attempts: Attempts::default(),
            fate: Fate::Waiting,
            sealing: false,
            failed: false,
        };
        let mut records = self.records.lock();
        records.remove(id);
        records.bytes += kept.body.len();
        records.by_id.insert(id.to_owned(), kept);
    }

    /// Seals a record, and does with it what became of it meanwhile. Blocking. Whether it is off our
    /// hands.
    pub(super) fn seal(&self, id: &str) -> Result<(), OutboxError> {
        let body = {
            let mut records = self.records.lock();
            let kept = records.by_id.get_mut(id).filter(|k| !k.sealing);
            // It is gone, or somebody else is at it.
            let Some(kept) = kept else { return Ok(()) };
            kept.sealing = true;
            kept.body.clone()
        };
        let sealed = self.outbox.seal(id, &body);
        if sealed.is_ok() {
            // (What cannot be written now is later: see [`Self::seal_all`].)
            self.ordinals.write();
        }
        let done = {
            let mut records = self.records.lock();
            if let Err(e) = sealed {
                if let Some(kept) = records.by_id.get_mut(id) {
                    kept.sealing = false;
                    kept.failed = true;
                }
                drop(records);
                self.report();
                return Err(e);
            }
            records.remove(id)
        };
        // The record is safe: its journal has done its work.
        let Some(Kept { journal, fate, failed, attempts, .. }) = done else { return Ok(()) };
        if let Some(journal) = journal {
            journal.end();
        }
        let filed = match fate {
            Fate::Waiting => {
                self.level.more(body.len());
                if attempts.count > 0 {
                    self.outbox.record_attempts(id, &attempts);
                }
                Ok(())
            }
            Fate::Sent => self.outbox.sent(id),
            Fate::Dead(attempts) => self.outbox.dead(id, &attempts),
        };
        if let Err(e) = filed {
            tracing::warn!(call_id = id, error = %e, "record not filed; it may be sent again");
        }
        if failed {
            tracing::debug!(call_id = id, "record sealed on disk after all");
            self.report();
        }
        Ok(())
    }

    /// The disk did not answer: the record stays here for longer. False if there is no place for it.
    pub(super) fn keep(&self, id: &str) -> bool {
        let fits = {
            let mut records = self.records.lock();
            // One that is at the disk may still get there; only a few are.
            let sealing = records.by_id.get(id).is_none_or(|k| k.sealing);
            let fits = sealing || records.bytes <= MAX_BYTES;
            if fits {
                if let Some(kept) = records.by_id.get_mut(id) {
                    kept.failed = true;
                }
            } else if records.remove(id).is_some() {
                // (Dropped without an end its journal stays.)
                records.lost += 1;
            }
            fits
        };
        self.report();
        fits
    }

    /// Something waits for the disk.
    pub(super) fn has_work(&self) -> bool {
        self.ordinals.has_unwritten() || self.records.lock().stuck().next().is_some()
    }

    /// Seals what waits for the disk, until it fails again. Blocking.
    pub(super) fn seal_all(&self) {
        // One at a time: a slow disk is not asked faster.
        let Some(_only) = self.sealing_all.try_lock() else { return };
        self.ordinals.write();
        let waiting: Vec<String> = {
            let records = self.records.lock();
            let of = records.by_id.iter().filter(|(_, k)| k.failed && !k.sealing);
            of.map(|(id, _)| id.clone()).collect()
        };
        for id in waiting {
            if self.seal(&id).is_err() {
                return;
            }
        }
    }

    /// A record that is to be sent from here, and what came of its attempts so far.
    pub(super) fn get(&self, id: &str) -> Option<(Arc<[u8]>, Attempts)> {
        let records = self.records.lock();
        let kept = records.by_id.get(id).filter(|k| matches!(k.fate, Fate::Waiting))?;
        Some((kept.body.clone(), kept.attempts.clone()))
    }

    /// Notes an attempt at a record; false if it is not here.
    pub(super) fn tried(&self, id: &str, attempts: &Attempts) -> bool {
        let mut records = self.records.lock();
        let kept = records.by_id.get_mut(id);
        kept.is_some_and(|k| {
            k.attempts = attempts.clone();
            true
        })
    }

    /// The endpoint has a record, or (with what came of its attempts) will never take it. False if it is
    /// not here.
    pub(super) fn settle(&self, id: &str, refused: Option<&Attempts>) -> bool {
        let sent = {
            let mut records = self.records.lock();
            let Some(kept) = records.by_id.get_mut(id) else { return false };
            kept.fate = refused.map_or(Fate::Sent, |attempts| Fate::Dead(attempts.clone()));
            // What is refused is still to be kept; what is at the disk is filed when it comes back.
            if refused.is_none() && !kept.sealing { records.remove(id) } else { None }
        };
        if let Some(kept) = sent {
            if let Some(journal) = kept.journal {
                journal.end();
            }
            self.report();
        }
        true
    }

    /// How many records are only in memory, and their bytes.
    pub(super) fn held(&self) -> (usize, usize) {
        let records = self.records.lock();
        (records.stuck().count(), records.stuck().map(|k| k.body.len()).sum())
    }

    /// Records that a process which ends now would lose.
    pub(super) fn unsafe_records(&self) -> usize {
        let records = self.records.lock();
        records.by_id.values().filter(|k| !matches!(k.fate, Fate::Sent)).count()
    }

    /// Shows on the health page what is only here. The log has it from the disk already.
    fn report(&self) {
        let ((count, bytes), lost) = (self.held(), self.records.lock().lost);
        if count == 0 && lost == 0 {
            self.health.clear(Topic::Memory);
            return;
        }
        let mut what = format!("{count} records ({bytes} bytes) are only in memory");
        if lost > 0 {
            what.push_str(&format!("; {lost} found no place, a restart may have their journals"));
        }
        self.health.warn(Topic::Memory, what);
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, thread, time::Duration};

    use call::{Call, RoomFacts, Settings};
    use store::{
        BacklogLimit,
        disk::{
            Disk, DiskHealth,
            memory::{Fails, MemoryDisk},
        },
        journal::Journals,
        outbox::Folder,
    };

    use super::*;

    const DIR: &str = "/data";
    const WITHIN: Duration = Duration::from_secs(10);
    /// So many of the large records have a place, and no more.
    const PLACES: usize = 8;

    struct Lab {
        disk: MemoryDisk,
        health: Health,
        outbox: Outbox,
        level: BacklogGauge,
        journals: Journals,
        unsealed: Unsealed,
    }

    fn lab() -> Lab {
        let (disk, health, dir) = (MemoryDisk::default(), Health::default(), Path::new(DIR));
        let all: Arc<dyn Disk> = Arc::new(disk.clone());
        let of_disk = || DiskHealth::new(dir, health.clone());
        let outbox = Outbox::open(all.clone(), of_disk(), dir).unwrap();
        let ordinals = Ordinals::open(all.clone(), of_disk(), dir).unwrap();
        let journals = Journals::start(all, of_disk(), dir, false).unwrap();
        let level =
            BacklogGauge::new(BacklogLimit { records: 1_000, bytes: 1 << 30 }, health.clone());
        let unsealed = Unsealed::new(outbox.clone(), ordinals, level.clone(), health.clone());
        Lab { disk, health, outbox, level, journals, unsealed }
    }

    /// Of the call in the room of this name.
    fn call(room: &str) -> Call {
        let facts = RoomFacts { sid: room.into(), name: room.into() };
        Call::new(facts, Settings::default())
    }

    fn tried(count: u32) -> Attempts {
        Attempts { count, first_at: 5, last_at: 9, last_error: "no".into(), unclear: false }
    }

    impl Lab {
        fn journal(&self, room: &str) -> CallJournal {
            let journal = self.journals.begin(&call(room));
            self.journals.flush(WITHIN);
            journal
        }

        fn is_journaled(&self, room: &str) -> bool {
            self.journals.flush(WITHIN);
            let name = format!("{}.jsonl", call(room).id());
            self.disk.exists(&Path::new(DIR).join("live").join(name))
        }

        /// Takes a record in that the disk does not take; whether there is a place for it.
        fn ends(&self, id: &str, body: &Arc<[u8]>, journal: CallJournal) -> bool {
            self.unsealed.add(id, body.clone(), Some(journal));
            assert!(self.unsealed.seal(id).is_err(), "the disk fails");
            self.unsealed.keep(id)
        }
    }

    #[test]
    fn what_finds_no_place_is_counted_and_its_journal_stays() {
        let l = lab();
        let ids: Vec<String> = (0..=PLACES).map(|n| format!("id{n}")).collect();
        let mut journals: Vec<CallJournal> = ids.iter().map(|id| l.journal(id)).collect();
        l.disk.fail(Fails::All);
        let large: Arc<[u8]> = vec![b'x'; MAX_BYTES / PLACES].into();
        for id in &ids[..PLACES] {
            assert!(l.ends(id, &large, journals.remove(0)), "{id} has a place");
        }
        let lost = ids[PLACES].as_str();
        assert!(!l.ends(lost, &large, journals.remove(0)), "there is none left");
        assert_eq!(l.unsealed.held(), (PLACES, MAX_BYTES));
        assert_eq!(l.unsealed.unsafe_records(), PLACES);
        assert!(l.unsealed.get(lost).is_none() && !l.unsealed.settle(lost, None), "it is gone");
        let page = l.health.warning().unwrap();
        let told =
            format!("{PLACES} records ({MAX_BYTES} bytes) are only in memory; 1 found no place");
        assert!(page.contains(&told), "{page}");
        // Where one was sent there is a place again.
        assert!(l.unsealed.settle("id0", None));
        let journal = l.journal("late");
        assert!(l.ends("late", &large, journal));
        l.disk.fail(Fails::None);
        l.unsealed.seal_all();
        for id in ids[1..PLACES].iter().map(String::as_str).chain(["late"]) {
            assert_eq!(l.outbox.find(id), Some(Folder::Pending), "{id}");
            assert!(!l.is_journaled(id), "{id} is sealed");
        }
        assert_eq!((l.unsealed.held(), l.unsealed.unsafe_records()), ((0, 0), 0));
        assert!(l.outbox.find(lost).is_none() && l.is_journaled(lost));
        let page = l.health.warning().unwrap();
        assert!(
            page.contains("1 found no place"),
            "that is not over with the disk's trouble: {page}"
        );
    }

    #[test]
    fn what_became_of_a_record_meanwhile_is_done_once_it_is_sealed() {
        let l = lab();
        let body: Arc<[u8]> = b"{}".as_slice().into();
        let ids = ["waits", "refused", "sent", "sent at the disk", "refused at the disk"];
        let journals = ids.map(|id| l.journal(id));
        l.disk.fail(Fails::All);
        for (id, journal) in ids.iter().zip(journals) {
            assert!(l.ends(id, &body, journal));
        }
        assert!(l.unsealed.tried("waits", &tried(2)));
        assert_eq!(l.unsealed.get("waits"), Some((body.clone(), tried(2))));
        assert!(l.unsealed.settle("refused", Some(&tried(3))));
        assert!(l.unsealed.get("refused").is_none(), "not to be sent any more");
        l.disk.fail(Fails::None);
        assert!(l.unsealed.settle("sent", None));
        assert_eq!(l.unsealed.unsafe_records(), 4, "all but the one that was sent");
        for (id, refused) in [("sent at the disk", None), ("refused at the disk", Some(tried(4)))] {
            let hangs = l.disk.hang();
            let unsealed = l.unsealed.clone();
            let at_the_disk = thread::spawn(move || unsealed.seal(id));
            while !l.unsealed.records.lock().by_id[id].sealing {
                thread::yield_now();
            }
            assert!(l.unsealed.settle(id, refused.as_ref()));
            drop(hangs);
            at_the_disk.join().unwrap().unwrap();
        }
        l.unsealed.seal_all();
        let found = ids.map(|id| l.outbox.find(id));
        let (pending, sent, dead) = (Some(Folder::Pending), Some(Folder::Sent), Some(Folder::Dead));
        // One that was sent in time never comes to the disk.
        assert_eq!(found, [pending, dead, None, sent, dead]);
        assert_eq!(l.outbox.attempts(Folder::Dead, "refused"), tried(3));
        assert_eq!(l.outbox.attempts(Folder::Dead, "refused at the disk"), tried(4));
        assert_eq!((l.unsealed.unsafe_records(), l.level.records()), (0, 1));
        assert!(!ids.iter().any(|id| l.is_journaled(id)), "none is needed any more");
        assert_eq!(l.health.warning(), None);
    }
}
