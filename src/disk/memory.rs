//! A disk in memory for tests: every step can be made to fail, and it tells what a power cut could
//! leave of it. What was not synced may be lost, in part or whole, and names that were changed
//! without a sync of their folder may be changed or not, each by itself. A folder whose parent was
//! not synced may be lost with all that is in it.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::{Mutex, MutexGuard};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{Disk, DiskFile, Names};

#[derive(Clone, Default)]
pub(crate) struct MemoryDisk(Arc<Mutex<State>>);

#[derive(Clone, Default)]
struct State {
    /// Those that were made, and whether a power cut leaves them.
    folders: BTreeMap<PathBuf, bool>,
    names: BTreeMap<PathBuf, u64>,
    files: BTreeMap<u64, Content>,
    next: u64,
    /// Names as they are sure to be found after a power cut.
    sure: BTreeMap<PathBuf, u64>,
    /// Changes of names since, in order.
    unsure: Vec<Change>,
    /// Steps taken so far.
    steps: u64,
    /// Which of them fail.
    fails: Fails,
    /// So many reads fail from now on.
    reads_fail: u64,
}

#[derive(Clone, Debug, Default)]
struct Content {
    all: Vec<u8>,
    /// So many bytes are synced.
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
pub(crate) enum Fails {
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

    pub(crate) fn fail(&self, fails: Fails) {
        let mut s = self.state();
        s.steps = 0;
        s.fails = fails;
    }

    pub(crate) fn fail_reads(&self, times: u64) {
        self.state().reads_fail = times;
    }

    /// Nothing is done for as long as this is held; who comes meanwhile waits.
    pub(crate) fn hang(&self) -> impl Drop + '_ {
        self.state()
    }

    /// Steps since it was last told what to fail.
    pub(crate) fn steps(&self) -> u64 {
        self.state().steps
    }

    /// What a power cut now could leave.
    pub(crate) fn after_a_power_cut(&self, seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut s = self.state().clone();
        let mut names = s.sure.clone();
        for change in &s.unsure {
            if dice.random() {
                apply(&mut names, change);
            }
        }
        let lost: Vec<PathBuf> = s
            .folders
            .iter()
            .filter(|(_, sure)| !**sure && dice.random())
            .map(|(p, _)| p.clone())
            .collect();
        names.retain(|path, _| !lost.iter().any(|folder| path.starts_with(folder)));
        s.folders.retain(|path, _| !lost.iter().any(|folder| path.starts_with(folder)));
        s.folders.values_mut().for_each(|sure| *sure = true);
        for c in s.files.values_mut() {
            let kept = dice.random_range(c.synced..=c.all.len());
            c.all.truncate(kept);
            c.synced = kept;
        }
        s.sure.clone_from(&names);
        s.names = names;
        s.unsure.clear();
        (s.steps, s.fails, s.reads_fail) = (0, Fails::None, 0);
        Self(Arc::new(Mutex::new(s)))
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
        self.unsure.push(change);
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

/// Always there: `/`, and the folder that relative paths begin in.
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
        // Names of other folders become sure as well, as with one journal for all.
        let names = s.names.clone();
        s.sure = names;
        s.unsure.clear();
        // But no folders: a test is to find a sync that is missing.
        for (folder, sure) in &mut s.folders {
            *sure |= folder.parent() == Some(path)
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
