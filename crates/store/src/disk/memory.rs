//! A disk in memory for tests: every step can be made to fail, and power cuts are simulated. A power
//! cut loses a random part of the bytes that were not synced. Of the names that were changed without a
//! sync of their folder each may be changed or not. A folder whose parent was not synced may be lost
//! with all that is in it.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Disk, DiskFile, Names};

#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<State>>, Arc<Gate>);

/// Closed while the disk hangs.
#[derive(Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

/// The disk hangs as long as this lives.
pub struct Hung(Arc<Gate>);

impl Drop for Hung {
    fn drop(&mut self) {
        *self.0.closed.lock() = false;
        self.0.opened.notify_all();
    }
}

#[derive(Clone, Default)]
struct State {
    /// The folders that were created, and whether they survive a power cut.
    folders: BTreeMap<PathBuf, bool>,
    names: BTreeMap<PathBuf, u64>,
    files: BTreeMap<u64, Content>,
    next: u64,
    /// The names that survive a power cut.
    durable: BTreeMap<PathBuf, u64>,
    /// Changes of names since the last sync, in order.
    unsynced_changes: Vec<Change>,
    /// Steps taken so far.
    steps: u64,
    /// Which steps fail.
    fails: Fails,
    /// How many of the next reads fail.
    reads_fail: u64,
}

#[derive(Clone, Debug, Default)]
struct Content {
    all: Vec<u8>,
    /// How many bytes are synced.
    synced: usize,
}

#[derive(Clone, Debug)]
enum Change {
    Made(PathBuf, u64),
    Renamed(PathBuf, PathBuf),
    Removed(PathBuf),
}

/// Which steps fail.
#[derive(Clone, Copy, Debug, Default)]
pub enum Fails {
    #[default]
    None,
    /// The step with this number, from 0.
    Step(u64),
    All,
}

impl MemoryDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }

    pub fn fail(&self, fails: Fails) {
        let mut s = self.state();
        s.steps = 0;
        s.fails = fails;
    }

    /// From now on [`Disk::write_synced`] waits until the returned value is dropped.
    #[must_use]
    pub fn hang(&self) -> Hung {
        *self.1.closed.lock() = true;
        Hung(self.1.clone())
    }

    pub fn fail_reads(&self, times: u64) {
        self.state().reads_fail = times;
    }

    /// Steps since the last [`Self::fail`].
    pub fn steps(&self) -> u64 {
        self.state().steps
    }

    /// A disk that a power cut could leave now; `seed` decides which.
    pub fn after_a_power_cut(&self, seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut s = self.state().clone();
        let mut names = s.durable.clone();
        for change in &s.unsynced_changes {
            if dice.random() {
                apply(&mut names, change);
            }
        }
        let lost: Vec<PathBuf> = s
            .folders
            .iter()
            .filter(|(_, durable)| !**durable && dice.random())
            .map(|(p, _)| p.clone())
            .collect();
        names.retain(|path, _| !lost.iter().any(|folder| path.starts_with(folder)));
        s.folders.retain(|path, _| !lost.iter().any(|folder| path.starts_with(folder)));
        s.folders.values_mut().for_each(|durable| *durable = true);
        for c in s.files.values_mut() {
            let kept = dice.random_range(c.synced..=c.all.len());
            c.all.truncate(kept);
            c.synced = kept;
        }
        s.durable.clone_from(&names);
        s.names = names;
        s.unsynced_changes.clear();
        (s.steps, s.fails, s.reads_fail) = (0, Fails::None, 0);
        Self(Arc::new(Mutex::new(s)), Arc::default())
    }
}

fn apply(names: &mut BTreeMap<PathBuf, u64>, change: &Change) {
    match change {
        Change::Made(path, id) => {
            names.insert(path.clone(), *id);
        }
        Change::Renamed(from, to) => {
            if let Some(id) = names.remove(from) {
                names.insert(to.clone(), id);
            }
        }
        Change::Removed(path) => {
            names.remove(path);
        }
    }
}

impl State {
    fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        let fails = match self.fails {
            Fails::None => false,
            Fails::Step(n) => n + 1 == self.steps,
            Fails::All => true,
        };
        if fails {
            Err(io::Error::new(io::ErrorKind::StorageFull, "no room (a test)"))
        } else {
            Ok(())
        }
    }

    fn change(&mut self, change: Change) {
        apply(&mut self.names, &change);
        self.unsynced_changes.push(change);
    }

    fn open(&mut self, path: &Path) -> u64 {
        if let Some(id) = self.names.get(path) {
            return *id;
        }
        let id = self.next;
        self.next += 1;
        self.files.insert(id, Content::default());
        self.change(Change::Made(path.to_owned(), id));
        id
    }

    fn content(&mut self, id: u64) -> &mut Content {
        self.files.entry(id).or_default()
    }
}

/// Folders that always exist: `/`, and the one in which relative paths begin.
fn is_root(path: &Path) -> bool {
    path.parent().is_none() || path == Path::new(".")
}

fn missing() -> io::Error {
    io::Error::from(io::ErrorKind::NotFound)
}

impl Disk for MemoryDisk {
    fn make_dir(&self, path: &Path) -> io::Result<bool> {
        let mut s = self.state();
        s.step()?;
        if is_root(path) || s.folders.contains_key(path) {
            return Ok(false);
        }
        let parent = path.parent().unwrap_or(path);
        if !is_root(parent) && !s.folders.contains_key(parent) {
            return Err(missing());
        }
        s.folders.insert(path.to_owned(), false);
        Ok(true)
    }

    fn write_synced(&self, path: &Path, body: &[u8]) -> io::Result<()> {
        let mut closed = self.1.closed.lock();
        while *closed {
            self.1.opened.wait(&mut closed);
        }
        drop(closed);
        self.write(path, body)?;
        let mut s = self.state();
        s.step()?;
        let id = s.open(path);
        s.content(id).synced = body.len();
        Ok(())
    }

    fn write(&self, path: &Path, body: &[u8]) -> io::Result<()> {
        let mut s = self.state();
        s.step()?;
        let id = s.open(path);
        let full = s.step();
        // A disk that is full takes what there is room for.
        let taken = if full.is_ok() { body.len() } else { body.len() / 2 };
        *s.content(id) = Content { all: body[..taken].to_vec(), synced: 0 };
        full
    }

    fn open_at(&self, path: &Path, len: u64) -> io::Result<Box<dyn DiskFile>> {
        let mut s = self.state();
        s.step()?;
        let id = s.open(path);
        let c = s.content(id);
        c.all.resize(usize::try_from(len).unwrap_or(0), 0);
        c.synced = c.synced.min(c.all.len());
        Ok(Box::new(Opened { disk: self.clone(), id }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut s = self.state();
        if s.reads_fail > 0 {
            s.reads_fail -= 1;
            return Err(io::Error::other("cannot be read (a test)"));
        }
        let id = s.names.get(path).ok_or_else(missing)?;
        Ok(s.files.get(id).map(|c| c.all.clone()).unwrap_or_default())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut s = self.state();
        s.step()?;
        if !s.names.contains_key(from) {
            return Err(missing());
        }
        s.change(Change::Renamed(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut s = self.state();
        s.step()?;
        if !s.names.contains_key(path) {
            return Err(missing());
        }
        s.change(Change::Removed(path.to_owned()));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut s = self.state();
        s.step()?;
        // Names in other folders become durable as well, as on a file system with one journal.
        let names = s.names.clone();
        s.durable = names;
        s.unsynced_changes.clear();
        // Folders do not: so a test finds a missing sync.
        for (folder, durable) in &mut s.folders {
            *durable |= folder.parent() == Some(path)
                || is_root(path) && folder.parent().is_none_or(is_root);
        }
        Ok(())
    }

    fn walk(&self, path: &Path) -> io::Result<Names> {
        let s = self.state();
        if !s.folders.contains_key(path) {
            return Err(missing());
        }
        let inside = s.names.keys().filter(|p| p.parent() == Some(path));
        let names = inside.filter_map(|p| Some(p.file_name()?.to_str()?.to_owned()));
        Ok(Box::new(names.collect::<Vec<_>>().into_iter()))
    }

    fn exists(&self, path: &Path) -> bool {
        self.state().names.contains_key(path)
    }

    fn touch(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn about(&self, path: &Path) -> Option<(SystemTime, u64)> {
        let size = self.read(path).ok()?.len() as u64;
        Some((SystemTime::UNIX_EPOCH + Duration::from_secs(1), size))
    }
}

struct Opened {
    disk: MemoryDisk,
    id: u64,
}

impl DiskFile for Opened {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut s = self.disk.state();
        let full = s.step();
        let taken = if full.is_ok() { bytes.len() } else { bytes.len() / 2 };
        s.content(self.id).all.extend(&bytes[..taken]);
        full
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut s = self.disk.state();
        s.step()?;
        let c = s.content(self.id);
        c.synced = c.all.len();
        Ok(())
    }
}
