//! The ordinal of the next call in each room, remembered for as long as the room may be used again.
//!
//! ```text
//! DATA_DIR/rooms/<room sid>.json     {"next":3,"ended":1795403704725}
//! ```
//!
//! A call's id is made of the sid of its room and its ordinal in the room. Records are deleted after a
//! while, and a claim in the room ends with the worker: neither shows a restarted worker how many calls
//! the room has had. To the endpoint two calls with one id would be the same call.
//!
//! A room is forgotten once the server has not listed it for a while; where rooms are not listed, a long
//! time after its last call. What could not be written is written when the disk works again.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use call::Moment;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    disk::{Disk, DiskHealth, DiskWork, read_patiently},
    health::Topic,
};

/// A room that is missing in the list for this long is forgotten. A server that was away for a moment
/// lists its rooms again sooner.
const UNLISTED_FOR: Duration = Duration::from_secs(10 * 60);
/// Where rooms are not listed, a room is forgotten after this time without a call: its ordinals begin
/// anew.
const UNSEEN_FOR_MS: i64 = 7 * 24 * 3600 * 1000;
/// Most rooms remembered; if there are more, the room whose last call ended first is forgotten.
const MOST_ROOMS: usize = 100_000;

/// What is remembered of the calls of a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// The ordinal of its next call.
    pub next: u32,
    /// When the last one ended.
    pub ended: Moment,
}

#[derive(Debug)]
struct Remembered {
    past: Past,
    /// Since when the server does not list the room.
    unlisted: Option<Instant>,
}

#[derive(Debug, Default)]
struct Rooms {
    /// By [`key`].
    by_key: BTreeMap<String, Remembered>,
    /// Keys of the rooms that are not written since they changed.
    unwritten: BTreeSet<String>,
}

/// Cheap to clone; all clones share the rooms.
#[derive(Clone)]
pub struct Ordinals {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    health: DiskHealth,
    rooms: Arc<Mutex<Rooms>>,
    /// Held while files are written: of two writes of a room the later one must stay.
    writing: Arc<Mutex<()>>,
}

impl Ordinals {
    /// Reads what an earlier run remembered. A file that cannot be read is skipped with a warning: the
    /// room's records show the ordinal too, as long as they are kept.
    ///
    /// # Errors
    /// If the folder cannot be created or listed.
    pub fn open(disk: Arc<dyn Disk>, health: DiskHealth, data_dir: &Path) -> io::Result<Self> {
        let dir = data_dir.join("rooms");
        disk.create_dir(&dir)?;
        let mut rooms = Rooms::default();
        for name in disk.walk(&dir)?.take(2 * MOST_ROOMS) {
            let path = dir.join(&name);
            let Some(key) = name.strip_suffix(".json") else {
                // An incomplete file of a run that died.
                let _ = disk.remove(&path);
                continue;
            };
            let read = read_patiently(&*disk, &path).map_err(|e| e.to_string());
            let past: Result<Past, String> =
                read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|e| e.to_string()));
            match past {
                Ok(past) => {
                    if let Some(key) = rooms.remember(key, past) {
                        let _ = disk.remove(&dir.join(format!("{key}.json")));
                    }
                }
                Err(e) => tracing::warn!(
                    path = %path.display(), error = e,
                    "how many calls a room has had cannot be read"
                ),
            }
        }
        rooms.unwritten.clear();
        let (rooms, writing) = (Arc::new(Mutex::new(rooms)), Arc::default());
        Ok(Self { dir, disk, health, rooms, writing })
    }

    /// What is remembered of a room.
    pub fn past(&self, sid: &str) -> Option<Past> {
        self.rooms.lock().by_key.get(&key(sid)).map(|r| r.past)
    }

    /// A call of the room has ended and is reported. Kept in memory until [`Self::write`].
    pub fn ended(&self, sid: &str, ordinal: u32, ended: Moment) {
        let past = Past { next: ordinal.saturating_add(1), ended };
        let mut rooms = self.rooms.lock();
        // If another room is forgotten for this one, its file is removed at the next start.
        rooms.remember(&key(sid), past);
    }

    /// Whether something is only in memory.
    pub fn has_unwritten(&self) -> bool {
        !self.rooms.lock().unwritten.is_empty()
    }

    /// Writes what is not written yet, until the disk fails. Blocking.
    pub fn write(&self) {
        let _writing = self.writing.lock();
        loop {
            let next = {
                let rooms = self.rooms.lock();
                let key = rooms.unwritten.first().cloned();
                key.and_then(|key| Some((rooms.by_key.get(&key)?.past, key)))
            };
            let Some((past, key)) = next else { return };
            match self.write_one(&key, past) {
                Ok(()) => self.health.worked(Topic::Ordinals),
                Err(e) => return self.health.failed(Topic::Ordinals, &e),
            }
            let mut rooms = self.rooms.lock();
            if rooms.by_key.get(&key).is_none_or(|r| r.past == past) {
                rooms.unwritten.remove(&key);
            }
        }
    }

    fn write_one(&self, key: &str, past: Past) -> io::Result<()> {
        let tmp = self.dir.join(format!("{key}.tmp"));
        // Two numbers always serialize.
        let text = serde_json::to_vec(&past).unwrap_or_default();
        self.disk.write_synced(&tmp, &text)?;
        self.disk.rename(&tmp, &self.path(key))?;
        self.disk.sync_dir(&self.dir)
    }

    /// Takes the server's list of rooms, by sid; forgets rooms that it has not listed for a while.
    pub fn listed(&self, there: &HashSet<&str>, work: &DiskWork) {
        let hashed: HashSet<String> =
            there.iter().map(|sid| key(sid)).filter(|key| !there.contains(key.as_str())).collect();
        self.forget(work, |key, room| {
            if there.contains(key) || hashed.contains(key) {
                room.unlisted = None;
                return false;
            }
            room.unlisted.get_or_insert_with(Instant::now).elapsed() >= UNLISTED_FOR
        });
    }

    /// Where rooms are not listed: forgets rooms that had no call for a long time.
    pub fn not_listed(&self, now: Moment, work: &DiskWork) {
        self.forget(work, |_, room| now.since(room.past.ended) > UNSEEN_FOR_MS);
    }

    fn forget(&self, work: &DiskWork, mut gone: impl FnMut(&str, &mut Remembered) -> bool) {
        let mut forgotten = BTreeSet::new();
        let mut rooms = self.rooms.lock();
        rooms.by_key.retain(|key, room| {
            let gone = gone(key, room);
            if gone {
                forgotten.insert(key.clone());
            }
            !gone
        });
        rooms.unwritten.retain(|key| !forgotten.contains(key));
        drop(rooms);
        if !forgotten.is_empty() {
            let all = self.clone();
            work.start(move || {
                let _writing = all.writing.lock();
                for key in
                    forgotten.iter().filter(|key| !all.rooms.lock().by_key.contains_key(*key))
                {
                    let _ = all.disk.remove(&all.path(key));
                }
            });
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.dir.join(format!("{key}.json"))
    }
}

impl Rooms {
    /// Remembers a room. Returns the key of another room if that had to be forgotten for it.
    fn remember(&mut self, key: &str, past: Past) -> Option<String> {
        let mut forgotten = None;
        if self.by_key.len() >= MOST_ROOMS && !self.by_key.contains_key(key) {
            let oldest = self.by_key.iter().min_by_key(|(_, r)| r.past.ended);
            forgotten = oldest.map(|(key, _)| key.clone());
            if let Some(key) = &forgotten {
                self.by_key.remove(key);
                self.unwritten.remove(key);
            }
        }
        let room = self.by_key.entry(key.to_owned());
        let room = room.or_insert(Remembered { past, unlisted: None });
        // Calls may be reported out of order: the later one counts.
        room.past.next = room.past.next.max(past.next);
        room.past.ended = room.past.ended.max(past.ended);
        self.unwritten.insert(key.to_owned());
        forgotten
    }
}

/// The sid as the name of a file. LiveKit's sids are letters, digits and `_`; for others it is a hash.
fn key(sid: &str) -> String {
    let plain = sid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    if plain && !sid.is_empty() && sid.len() <= 64 {
        return sid.to_owned();
    }
    uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_OID, sid.as_bytes()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        disk::memory::{Fails, MemoryDisk},
        health::Health,
    };

    fn at(disk: &MemoryDisk) -> Ordinals {
        let dir = Path::new("/data");
        let health = DiskHealth::new(dir, Health::default());
        Ordinals::open(Arc::new(disk.clone()), health, dir).unwrap()
    }

    fn call(o: &Ordinals, sid: &str, ordinal: u32, ended: i64) {
        o.ended(sid, ordinal, Moment::from_millis(ended));
        o.write();
    }

    fn work(disk: &MemoryDisk) -> DiskWork {
        let dir = Path::new("/data");
        DiskWork::new(Arc::new(disk.clone()), DiskHealth::new(dir, Health::default()), dir)
    }

    #[test]
    fn the_next_ordinal_is_known_after_a_power_cut() {
        let disk = MemoryDisk::default();
        let o = at(&disk);
        assert_eq!(o.past("RM_1"), None);
        call(&o, "RM_1", 0, 5);
        call(&o, "RM_1", 1, 9);
        call(&o, "../../etc/x y", 4, 1);
        for seed in 0..40 {
            let after = at(&disk.after_a_power_cut(seed));
            let ended = Moment::from_millis(9);
            assert_eq!(after.past("RM_1"), Some(Past { next: 2, ended }));
            assert_eq!(after.past("../../etc/x y").map(|p| p.next), Some(5));
            assert_eq!(after.past("RM_2"), None);
        }
    }

    #[test]
    fn what_could_not_be_written_is_written_when_the_disk_works_again() {
        for step in 0..4 {
            let disk = MemoryDisk::default();
            let o = at(&disk);
            call(&o, "RM_1", 0, 5);
            disk.fail(Fails::Step(step));
            call(&o, "RM_1", 1, 9);
            disk.fail(Fails::None);
            assert_eq!(o.past("RM_1").unwrap().next, 2, "in memory it counts");
            for seed in 0..20 {
                let next = at(&disk.after_a_power_cut(seed)).past("RM_1").unwrap().next;
                assert!((1..=2).contains(&next), "step {step}");
            }
            assert!(o.has_unwritten(), "step {step}");
            o.write();
            assert!(!o.has_unwritten());
            let next = at(&disk.after_a_power_cut(1)).past("RM_1").unwrap().next;
            assert_eq!(next, 2, "step {step}");
        }
    }

    #[test]
    fn an_earlier_call_that_is_reported_late_does_not_lower_the_ordinal() {
        let disk = MemoryDisk::default();
        let o = at(&disk);
        call(&o, "RM_1", 3, 50);
        call(&o, "RM_1", 2, 40);
        assert_eq!(o.past("RM_1"), Some(Past { next: 4, ended: Moment::from_millis(50) }));
    }

    #[tokio::test]
    async fn where_rooms_are_not_listed_a_room_is_forgotten_after_a_week() {
        let disk = MemoryDisk::default();
        call(&at(&disk), "RM_1", 0, 1_000);
        let o = at(&disk);
        let later = Moment::from_millis(UNSEEN_FOR_MS);
        o.not_listed(later, &work(&disk));
        assert!(o.past("RM_1").is_some());
        o.not_listed(later.plus(2_000), &work(&disk));
        assert!(o.past("RM_1").is_none(), "rooms are not listed, and the last call was a week ago");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_room_is_remembered_for_a_while_after_it_was_listed_last() {
        let disk = MemoryDisk::default();
        let (o, work) = (at(&disk), work(&disk));
        for sid in ["RM_1", "an odd sid"] {
            call(&o, sid, 0, 5);
        }
        let age = |o: &Ordinals| {
            let long_ago = Instant::now().checked_sub(UNLISTED_FOR);
            o.rooms.lock().by_key.values_mut().for_each(|r| r.unlisted = long_ago);
        };
        o.listed(&HashSet::new(), &work);
        assert!(o.past("RM_1").is_some());
        age(&o);
        o.listed(&HashSet::from(["RM_1", "an odd sid"]), &work);
        assert!(o.past("RM_1").is_some() && o.past("an odd sid").is_some(), "there again");
        o.listed(&HashSet::new(), &work);
        assert!(o.past("RM_1").is_some(), "and for a while after that");
        age(&o);
        o.listed(&HashSet::new(), &work);
        assert!(o.past("RM_1").is_none() && o.past("an odd sid").is_none());
        while at(&disk).past("RM_1").is_some() {
            tokio::task::yield_now().await;
        }
    }
}
