//! Records that are not on disk yet: each until it is sealed, and for longer if the disk fails or hangs.
//! Meanwhile they are sent from here, and they are sealed once the disk works again.
//!
//! In: a finished record with its journal. Out: a sealed file, and the end of that journal. Bounded in
//! bytes: a record that does not fit is not sent, but its journal stays for the next start.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use store::{
    backlog::BacklogGauge,
    health::{Health, Topic},
    journal::CallJournal,
    ordinals::Ordinals,
    outbox::{Attempts, Outbox, OutboxError},
};

/// Bytes of records that are only in memory.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What happened to a record while it was only in memory.
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

/// A record in memory.
struct UnsealedRecord {
    body: Arc<[u8]>,
    journal: Option<CallJournal>,
    attempts: Attempts,
    fate: Fate,
    /// It is being sealed; the result decides.
    sealing: bool,
    /// Sealing was tried and failed: [`Unsealed::seal_all`] tries again.
    failed: bool,
}

/// Cheap to clone; all clones hold the same records.
#[derive(Clone)]
pub(super) struct Unsealed {
    outbox: Outbox,
    ordinals: Ordinals,
    gauge: BacklogGauge,
    health: Health,
    records: Arc<Mutex<Records>>,
    /// Held by [`Self::seal_all`].
    sealing_all: Arc<Mutex<()>>,
}

#[derive(Default)]
struct Records {
    by_id: BTreeMap<String, UnsealedRecord>,
    bytes: usize,
    /// Records that did not fit and are not held.
    lost: usize,
}

impl Records {
    fn remove(&mut self, id: &str) -> Option<UnsealedRecord> {
        let kept = self.by_id.remove(id)?;
        self.bytes -= kept.body.len();
        Some(kept)
    }

    fn stuck(&self) -> impl Iterator<Item = &UnsealedRecord> {
        self.by_id.values().filter(|k| k.failed)
    }
}

impl Unsealed {
    pub(super) fn new(
        outbox: Outbox,
        ordinals: Ordinals,
        gauge: BacklogGauge,
        health: Health,
    ) -> Self {
        Self {
            outbox,
            ordinals,
            gauge,
            health,
            records: Arc::default(),
            sealing_all: Arc::default(),
        }
    }

    /// Adds a record, to be sealed next.
    pub(super) fn add(&self, id: &str, body: Arc<[u8]>, journal: Option<CallJournal>) {
        let kept = UnsealedRecord {
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

    /// Seals a record, then files it by its fate. Blocking. Fails only if sealing failed: the record then
    /// stays here.
    pub(super) fn seal(&self, id: &str) -> Result<(), OutboxError> {
        let body = {
            let mut records = self.records.lock();
            let kept = records.by_id.get_mut(id).filter(|k| !k.sealing);
            // It was removed, or another thread is sealing it.
            let Some(kept) = kept else { return Ok(()) };
            kept.sealing = true;
            kept.body.clone()
        };
        let sealed = self.outbox.seal(id, &body);
        if sealed.is_ok() {
            // A failed write is repeated later: see [`Self::seal_all`].
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
        // The record is safe: its journal is not needed any more.
        let Some(UnsealedRecord { journal, fate, failed, attempts, .. }) = done else {
            return Ok(());
        };
        if let Some(journal) = journal {
            journal.end();
        }
        let filed = match fate {
            Fate::Waiting => {
                self.gauge.more(body.len());
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

    /// The record could not be sealed: it stays here for longer. False if it does not fit.
    pub(super) fn keep(&self, id: &str) -> bool {
        let fits = {
            let mut records = self.records.lock();
            // A record that is being sealed may still succeed; only a few are sealed at a time.
            let sealing = records.by_id.get(id).is_none_or(|k| k.sealing);
            let fits = sealing || records.bytes <= MAX_BYTES;
            if fits {
                if let Some(kept) = records.by_id.get_mut(id) {
                    kept.failed = true;
                }
            } else if records.remove(id).is_some() {
                // Its journal is dropped without an end: so the file stays.
                records.lost += 1;
            }
            fits
        };
        self.report();
        fits
    }

    /// Whether something waits for the disk.
    pub(super) fn has_work(&self) -> bool {
        self.ordinals.has_unwritten() || self.records.lock().stuck().next().is_some()
    }

    /// Seals what waits for the disk, until it fails again. Blocking.
    pub(super) fn seal_all(&self) {
        // One thread at a time: more would not make a slow disk faster.
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

    /// A record that is to be sent from here, and its attempts so far.
    pub(super) fn get(&self, id: &str) -> Option<(Arc<[u8]>, Attempts)> {
        let records = self.records.lock();
        let kept = records.by_id.get(id).filter(|k| matches!(k.fate, Fate::Waiting))?;
        Some((kept.body.clone(), kept.attempts.clone()))
    }

    /// Keeps the attempts at a record; false if the record is not here.
    pub(super) fn record_attempts(&self, id: &str, attempts: &Attempts) -> bool {
        let mut records = self.records.lock();
        let kept = records.by_id.get_mut(id);
        kept.is_some_and(|k| {
            k.attempts = attempts.clone();
            true
        })
    }

    /// The endpoint has taken a record, or will never take it after these attempts (`refused`). False if
    /// the record is not here.
    pub(super) fn settle(&self, id: &str, refused: Option<&Attempts>) -> bool {
        let sent = {
            let mut records = self.records.lock();
            let Some(kept) = records.by_id.get_mut(id) else { return false };
            kept.fate = refused.map_or(Fate::Sent, |attempts| Fate::Dead(attempts.clone()));
            // A refused record is still to be sealed; a record that is being sealed is filed after that.
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

    /// Records that would be lost if the process ended now.
    pub(super) fn unsafe_records(&self) -> usize {
        let records = self.records.lock();
        records.by_id.values().filter(|k| !matches!(k.fate, Fate::Sent)).count()
    }

    /// Shows on the health page what is only in memory. The log has the cause from the disk already.
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
    /// How many of the large records fit.
    const PLACES: usize = 8;

    struct Lab {
        disk: MemoryDisk,
        health: Health,
        outbox: Outbox,
        gauge: BacklogGauge,
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
        let gauge =
            BacklogGauge::new(BacklogLimit { records: 1_000, bytes: 1 << 30 }, health.clone());
        let unsealed = Unsealed::new(outbox.clone(), ordinals, gauge.clone(), health.clone());
        Lab { disk, health, outbox, gauge, journals, unsealed }
    }

    /// The call in the room of this name.
    fn call(room: &str) -> Call {
        let facts = RoomFacts { sid: room.into(), name: room.into() };
        Call::new(facts, Settings::default())
    }

    fn attempts(count: u32) -> Attempts {
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

        /// Adds a record that the disk does not take; returns whether it fits.
        fn ends(&self, id: &str, body: &Arc<[u8]>, journal: CallJournal) -> bool {
            self.unsealed.add(id, body.clone(), Some(journal));
            assert!(self.unsealed.seal(id).is_err(), "the disk fails");
            self.unsealed.keep(id)
        }
    }

    #[test]
    fn a_record_that_does_not_fit_is_counted_and_its_journal_stays() {
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
        let expected =
            format!("{PLACES} records ({MAX_BYTES} bytes) are only in memory; 1 found no place");
        assert!(page.contains(&expected), "{page}");
        // After a record was sent there is a place again.
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
    fn a_record_is_filed_by_its_fate_once_it_is_sealed() {
        let l = lab();
        let body: Arc<[u8]> = b"{}".as_slice().into();
        let ids = ["waits", "refused", "sent", "sent at the disk", "refused at the disk"];
        let journals = ids.map(|id| l.journal(id));
        l.disk.fail(Fails::All);
        for (id, journal) in ids.iter().zip(journals) {
            assert!(l.ends(id, &body, journal));
        }
        assert!(l.unsealed.record_attempts("waits", &attempts(2)));
        assert_eq!(l.unsealed.get("waits"), Some((body.clone(), attempts(2))));
        assert!(l.unsealed.settle("refused", Some(&attempts(3))));
        assert!(l.unsealed.get("refused").is_none(), "not to be sent any more");
        l.disk.fail(Fails::None);
        assert!(l.unsealed.settle("sent", None));
        assert_eq!(l.unsealed.unsafe_records(), 4, "all but the one that was sent");
        for (id, refused) in
            [("sent at the disk", None), ("refused at the disk", Some(attempts(4)))]
        {
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
        // A record that was sent in time is never sealed.
        assert_eq!(found, [pending, dead, None, sent, dead]);
        assert_eq!(l.outbox.attempts(Folder::Dead, "refused"), attempts(3));
        assert_eq!(l.outbox.attempts(Folder::Dead, "refused at the disk"), attempts(4));
        assert_eq!((l.unsealed.unsafe_records(), l.gauge.records()), (0, 1));
        assert!(!ids.iter().any(|id| l.is_journaled(id)), "none is needed any more");
        assert_eq!(l.health.warning(), None);
    }
}
