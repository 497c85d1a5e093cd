//! Which call of a room comes next, remembered for as long as the room may come again.
//!
//! ```text
//! DATA_DIR/rooms/<room sid>.json     {"next":3,"ended":1795403704725}
//! ```
//!
//! A call's id is made of its room's sid and its place in the room. Records are kept for a while only, and
//! a claim in the room goes with the worker: so neither can tell a worker that starts again how many calls
//! a room has had. Two calls of one id would be one call to the endpoint.
//!
//! A room is forgotten once the server has not listed it for a while; where rooms are not listed, a long
//! time after its last call.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::{
    call::Moment,
    disk::{Disk, DiskHealth, DiskWork},
};

/// A server that was away for a moment lists what it has again.
const UNLISTED_FOR: Duration = Duration::from_secs(10 * 60);
/// Where nobody lists rooms: a room that lives longer without a call begins anew.
const UNSEEN_FOR_MS: i64 = 7 * 24 * 3600 * 1000;
/// Rooms remembered; of more than that the one whose call ended first is forgotten.
const MOST_ROOMS: usize = 100_000;
const TOPIC: &str = "rooms";

/// What is left of the calls that a room has had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Past {
    /// The ordinal of its next call.
    pub(crate) next: u32,
    /// When the last one ended.
    pub(crate) ended: Moment,
}

#[derive(Debug)]
struct Remembered {
    past: Past,
    /// Since when the server does not list it.
    unlisted: Option<Instant>,
}

/// Cheap to clone; all clones remember together.
#[derive(Clone)]
pub(crate) struct Ordinals {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    health: DiskHealth,
    rooms: Arc<Mutex<BTreeMap<String, Remembered>>>,
}

impl Ordinals {
    /// Reads what an earlier run remembered. A file that cannot be read is passed over with a warning:
    /// the room's records, where they are kept, still tell.
    ///
    /// # Errors
    /// If the folder cannot be made or listed.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        health: DiskHealth,
        data_dir: &Path,
        now: Moment,
    ) -> io::Result<Self> {
        let dir = data_dir.join("rooms");
        disk.create_dir(&dir)?;
        let mut rooms = BTreeMap::new();
        for name in disk.walk(&dir)? {
            let path = dir.join(&name);
            let Some(sid) = name.strip_suffix(".json") else {
                // Half written by a run that died.
                let _ = disk.remove(&path);
                continue;
            };
            let read = disk.read(&path).map_err(|e| e.to_string());
            let past: Result<Past, String> =
                read.and_then(|bytes| serde_json::from_slice(&bytes).map_err(|e| e.to_string()));
            match past {
                Ok(past) if now.since(past.ended) > UNSEEN_FOR_MS => {
                    let _ = disk.remove(&path);
                }
                Ok(past) => {
                    rooms.insert(sid.to_owned(), Remembered { past, unlisted: None });
                }
                Err(e) => tracing::warn!(
                    path = %path.display(), error = e,
                    "how many calls a room has had cannot be read"
                ),
            }
        }
        Ok(Self { dir, disk, health, rooms: Arc::new(Mutex::new(rooms)) })
    }

    pub(crate) fn past(&self, sid: &str) -> Option<Past> {
        self.rooms.lock().get(&key(sid)).map(|r| r.past)
    }

    /// A call of the room has ended and is reported. In memory at once; [`Self::write`] makes it last.
    pub(super) fn ended(&self, sid: &str, ordinal: u32, ended: Moment) {
        let mut rooms = self.rooms.lock();
        if rooms.len() >= MOST_ROOMS && !rooms.contains_key(&key(sid)) {
            let first = rooms.iter().min_by_key(|(_, r)| r.past.ended).map(|(sid, _)| sid.clone());
            first.and_then(|sid| rooms.remove(&sid));
        }
        let past = Past { next: ordinal.saturating_add(1), ended };
        let room = rooms.entry(key(sid)).or_insert(Remembered { past, unlisted: None });
        // Of two that end out of order the later counts.
        room.past.next = room.past.next.max(past.next);
        room.past.ended = room.past.ended.max(past.ended);
    }

    /// Writes what is remembered of a room. Blocking.
    pub(super) fn write(&self, sid: &str) {
        let Some(past) = self.past(sid) else { return };
        let (path, tmp) = (self.path(&key(sid)), self.dir.join(format!("{}.tmp", key(sid))));
        // Two numbers: nothing in it can fail to become JSON.
        let text = serde_json::to_vec(&past).unwrap_or_default();
        let written = (self.disk.write_synced(&tmp, &text))
            .and_then(|()| self.disk.rename(&tmp, &path))
            .and_then(|()| self.disk.sync_dir(&self.dir));
        match written {
            Ok(()) => self.health.worked(TOPIC),
            Err(e) => self.health.failed(TOPIC, &e),
        }
    }

    /// The server's list of rooms, by sid: what it has not listed for a while is forgotten.
    pub(crate) fn listed(&self, there: &HashSet<&str>, work: &DiskWork) {
        let mut gone = vec![];
        self.rooms.lock().retain(|sid, room| {
            if there.contains(sid.as_str()) {
                room.unlisted = None;
                return true;
            }
            let keep = room.unlisted.get_or_insert_with(Instant::now).elapsed() < UNLISTED_FOR;
            if !keep {
                gone.push(sid.clone());
            }
            keep
        });
        if !gone.is_empty() {
            let all = self.clone();
            // What is not removed now is at the next start.
            work.start(move || {
                gone.iter().for_each(|sid| drop(all.disk.remove(&all.path(sid))));
            });
        }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.dir.join(format!("{key}.json"))
    }
}

/// The sid, as it names a file: LiveKit's are letters, digits and `_`. Any other is named by its hash.
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

    fn at(disk: &MemoryDisk, now: i64) -> Ordinals {
        let dir = Path::new("/data");
        let health = DiskHealth::new(dir, Health::default());
        Ordinals::open(Arc::new(disk.clone()), health, dir, Moment::from_millis(now)).unwrap()
    }

    fn call(o: &Ordinals, sid: &str, ordinal: u32, ended: i64) {
        o.ended(sid, ordinal, Moment::from_millis(ended));
        o.write(sid);
    }

    #[test]
    fn what_a_room_had_is_known_after_a_power_cut() {
        let disk = MemoryDisk::default();
        let o = at(&disk, 0);
        assert_eq!(o.past("RM_1"), None);
        call(&o, "RM_1", 0, 5);
        call(&o, "RM_1", 1, 9);
        call(&o, "../../etc/x y", 4, 1);
        for seed in 0..40 {
            let after = at(&disk.after_a_power_cut(seed), 0);
            let ended = Moment::from_millis(9);
            assert_eq!(after.past("RM_1"), Some(Past { next: 2, ended }));
            assert_eq!(after.past("../../etc/x y").map(|p| p.next), Some(5));
            assert_eq!(after.past("RM_2"), None);
        }
    }

    #[test]
    fn a_disk_that_fails_leaves_the_old_or_the_new() {
        for step in 0..4 {
            let disk = MemoryDisk::default();
            let o = at(&disk, 0);
            call(&o, "RM_1", 0, 5);
            disk.fail(Fails::Step(step));
            call(&o, "RM_1", 1, 9);
            disk.fail(Fails::None);
            assert_eq!(o.past("RM_1").unwrap().next, 2, "in memory it counts");
            for seed in 0..20 {
                let next = at(&disk.after_a_power_cut(seed), 0).past("RM_1").unwrap().next;
                assert!((1..=2).contains(&next), "step {step}");
            }
        }
    }

    #[test]
    fn an_earlier_call_that_is_reported_late_takes_nothing_back() {
        let disk = MemoryDisk::default();
        let o = at(&disk, 0);
        call(&o, "RM_1", 3, 50);
        call(&o, "RM_1", 2, 40);
        assert_eq!(o.past("RM_1"), Some(Past { next: 4, ended: Moment::from_millis(50) }));
    }

    #[test]
    fn a_room_that_nobody_saw_for_a_week_is_forgotten_at_the_start() {
        let disk = MemoryDisk::default();
        call(&at(&disk, 0), "RM_1", 0, 1_000);
        assert!(at(&disk, UNSEEN_FOR_MS).past("RM_1").is_some());
        assert!(at(&disk, UNSEEN_FOR_MS + 2_000).past("RM_1").is_none());
        assert!(at(&disk, 0).past("RM_1").is_none(), "its file is gone too");
    }

    #[test]
    fn a_room_is_remembered_for_a_while_after_it_was_listed_last() {
        let o = at(&MemoryDisk::default(), 0);
        call(&o, "RM_1", 0, 5);
        let work = DiskWork::new(DiskHealth::new(Path::new("/data"), Health::default()));
        o.listed(&HashSet::from(["RM_1"]), &work);
        o.listed(&HashSet::new(), &work);
        assert!(o.past("RM_1").is_some());
        let long_ago = Instant::now().checked_sub(UNLISTED_FOR);
        o.rooms.lock().values_mut().for_each(|r| r.unlisted = long_ago);
        o.listed(&HashSet::from(["RM_1"]), &work);
        assert!(o.past("RM_1").is_some(), "it is there again");
        o.listed(&HashSet::new(), &work);
        assert!(o.past("RM_1").is_some(), "and for a while after that");
    }

    #[tokio::test]
    async fn a_room_that_was_not_listed_for_a_while_is_forgotten_with_its_file() {
        let disk = MemoryDisk::default();
        let o = at(&disk, 0);
        call(&o, "RM_1", 0, 5);
        call(&o, "RM_2", 0, 5);
        let work = DiskWork::new(DiskHealth::new(Path::new("/data"), Health::default()));
        o.listed(&HashSet::from(["RM_2"]), &work);
        let long_ago = Instant::now().checked_sub(UNLISTED_FOR).unwrap();
        o.rooms.lock().get_mut("RM_1").unwrap().unlisted.replace(long_ago).unwrap();
        o.listed(&HashSet::from(["RM_2"]), &work);
        assert_eq!(o.past("RM_1"), None);
        assert!(o.past("RM_2").is_some());
        let until = Instant::now() + Duration::from_secs(10);
        while disk.exists(&o.path("RM_1")) {
            assert!(Instant::now() < until, "its file stays");
            tokio::task::yield_now().await;
        }
        assert!(disk.exists(&o.path("RM_2")));
    }
}
