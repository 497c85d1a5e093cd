//! The disk as journal and outbox use it: a few operations behind one trait, so that tests can make
//! each of them fail.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
    time::{Duration, Instant, SystemTime},
};

use metrics::Metrics;
use parking_lot::Mutex;
use thiserror::Error;

use crate::health::{Health, Topic};

#[cfg(any(test, feature = "test-disk"))]
pub mod memory;
mod work;

pub use work::DiskWork;

/// The names in a folder; an entry that cannot be read is skipped.
pub type Names = Box<dyn Iterator<Item = String> + Send>;

/// All operations block: call them where blocking is allowed.
pub trait Disk: Send + Sync {
    /// Creates one folder, for the worker's own user only; false if it exists already.
    fn make_dir(&self, path: &Path) -> io::Result<bool>;
    /// Creates a folder and its parents, so that a power cut loses none of them.
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        // A relative path of one name has a parent, too: the working folder.
        let parent =
            path.parent().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
        let made = match (self.make_dir(path), parent) {
            (Err(e), Some(parent)) if e.kind() == io::ErrorKind::NotFound => {
                self.create_dir(parent)?;
                self.make_dir(path)?
            }
            (made, _) => made?,
        };
        // Also if the folder exists: an earlier run may have died before this sync. Then an error does not
        // count, as the parent may belong to another user.
        match parent.map(|parent| self.sync_dir(parent)) {
            // A parent that is writable but not readable cannot be synced.
            Some(Err(e)) if made && e.kind() != io::ErrorKind::PermissionDenied => Err(e),
            _ => Ok(()),
        }
    }
    /// Writes a whole file, and syncs it.
    fn write_synced(&self, path: &Path, body: &[u8]) -> io::Result<()>;
    /// Opens or creates a file to append to it, cut off after `len` bytes.
    fn open_at(&self, path: &Path, len: u64) -> io::Result<Box<dyn DiskFile>>;
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Syncs a folder: only then a rename or a new file in it is durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Writes a file without a sync: a crash may lose it.
    fn write(&self, path: &Path, body: &[u8]) -> io::Result<()>;
    /// The names in a folder, in no order. Files that come or go meanwhile may be missed.
    fn walk(&self, path: &Path) -> io::Result<Names>;
    fn exists(&self, path: &Path) -> bool;
    /// Sets the file's modification time to now.
    fn touch(&self, path: &Path) -> io::Result<()>;
    /// When a file was last written, and its size in bytes.
    fn about(&self, path: &Path) -> Option<(SystemTime, u64)>;
}

/// A file that is appended to.
pub trait DiskFile: Send {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
}

/// The disk of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn make_dir(&self, path: &Path) -> io::Result<bool> {
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        match builder.create(path) {
            Ok(()) => Ok(true),
            // Not only for `AlreadyExists`: where the parent is read-only the error is another one.
            Err(_) if path.is_dir() => Ok(false),
            Err(e) => Err(e),
        }
    }

    fn write_synced(&self, path: &Path, body: &[u8]) -> io::Result<()> {
        let mut file = private().truncate(true).open(path)?;
        file.write_all(body)?;
        file.sync_all()
    }

    fn open_at(&self, path: &Path, len: u64) -> io::Result<Box<dyn DiskFile>> {
        let mut file = private().truncate(false).open(path)?;
        file.set_len(len)?;
        file.seek(SeekFrom::End(0))?;
        Ok(Box::new(file))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        fs::read(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn write(&self, path: &Path, body: &[u8]) -> io::Result<()> {
        private().truncate(true).open(path)?.write_all(body)
    }

    fn walk(&self, path: &Path) -> io::Result<Names> {
        Ok(Box::new(names(fs::read_dir(path)?.map(|e| e.map(|e| e.file_name())))))
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn touch(&self, path: &Path) -> io::Result<()> {
        OpenOptions::new().write(true).open(path)?.set_modified(SystemTime::now())
    }

    fn about(&self, path: &Path) -> Option<(SystemTime, u64)> {
        let about = fs::metadata(path).ok()?;
        Some((about.modified().ok()?, about.len()))
    }
}

/// Skips entries that cannot be read, and names that are not Unicode: the worker makes no such names.
fn names(entries: impl Iterator<Item = io::Result<OsString>>) -> impl Iterator<Item = String> {
    entries.filter_map(|name| name.ok()?.into_string().ok())
}

/// Journals and records hold personal data: only the worker's own user may read them.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

impl DiskFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// How many times a failed read is repeated, and after which wait.
pub const READ_AGAIN: usize = 4;
const READ_AGAIN_AFTER: Duration = Duration::from_millis(50);

const LOCK_WITHIN: Duration = Duration::from_secs(2);
const LOCK_AGAIN: Duration = Duration::from_millis(50);

/// Why a folder was not locked.
#[derive(Debug, Error)]
pub enum LockError {
    /// `process` is the holder's id, where the file names it. An id of another container means nothing here.
    #[error("another call-history uses it{}; each needs a folder of its own", in_brackets(*.process))]
    InUse { process: Option<u32> },
    #[error("it cannot be locked: {0}")]
    Io(#[from] io::Error),
}

fn in_brackets(process: Option<u32>) -> String {
    process.map_or_else(String::new, |id| format!(" (process {id})"))
}

/// One worker for each data folder: two would report each other's calls.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held, not used")] File);

impl Lock {
    /// Waits for a moment if the folder is locked: the system may release the lock of a killed process
    /// only after it has reported the process as gone.
    ///
    /// # Errors
    /// If another process holds the lock, or the file cannot be created.
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let file = private().read(true).open(folder.join("lock"))?;
        let until = Instant::now() + LOCK_WITHIN;
        loop {
            match file.try_lock() {
                Ok(()) => {
                    // For whoever finds it locked. On a full disk the lock holds all the same.
                    let _ = file.set_len(0).and_then(|()| write!(&file, "{}", std::process::id()));
                    return Ok(Self(file));
                }
                Err(TryLockError::WouldBlock) if Instant::now() < until => {
                    thread::sleep(LOCK_AGAIN)
                }
                Err(TryLockError::WouldBlock) => {
                    let mut holder = String::new();
                    // An operator finds the process by it; nothing else depends on it.
                    let _ = (&file).take(20).read_to_string(&mut holder);
                    return Err(LockError::InUse { process: holder.parse().ok() });
                }
                Err(TryLockError::Error(e)) => return Err(e.into()),
            }
        }
    }
}

/// Reads a file; repeats a failed read a few times. Blocking.
///
/// # Errors
/// The error of the last read; a missing file is reported at once.
pub fn read_patiently(disk: &dyn Disk, path: &Path) -> io::Result<Vec<u8>> {
    let mut left = READ_AGAIN;
    loop {
        match disk.read(path) {
            Err(e) if left > 0 && e.kind() != io::ErrorKind::NotFound => {
                left -= 1;
                thread::sleep(READ_AGAIN_AFTER);
            }
            read => return read,
        }
    }
}

/// What is wrong with the disk, by the part of the worker that needs it. Logs one line when a trouble
/// begins and one when it is over. Cheap to clone; all clones are of one disk.
#[derive(Clone, Debug)]
pub struct DiskHealth {
    folder: PathBuf,
    health: Health,
    /// The parts that have waited too long for an answer of the disk.
    hanging: Arc<Mutex<BTreeSet<Topic>>>,
}

impl DiskHealth {
    pub fn new(folder: &Path, health: Health) -> Self {
        Self { folder: folder.to_owned(), health, hanging: Arc::default() }
    }

    pub fn metrics(&self) -> &Metrics {
        self.health.metrics()
    }

    /// The disk answered with an error.
    pub fn failed(&self, what: Topic, error: &io::Error) {
        self.metrics().disk_failed(what.as_str());
        if self.health.warn(what, format!("the disk fails: {error}")) {
            tracing::error!(
                folder = %self.folder.display(), for_the = what.as_str(), error = %error,
                "the disk fails: calls are observed and reported from memory until it works again; \
                 a crash meanwhile loses them"
            );
        }
    }

    /// The disk did what was asked.
    pub fn worked(&self, what: Topic) {
        if self.health.clear(what) {
            tracing::info!(
                folder = %self.folder.display(), for_the = what.as_str(), "the disk works again"
            );
        }
    }

    /// Nothing waits for the disk any more, whether it works or not.
    pub fn not_needed(&self, what: Topic) {
        if self.health.clear(what) {
            tracing::info!(
                folder = %self.folder.display(), for_the = what.as_str(),
                "nothing waits for the disk any more"
            );
        }
    }

    /// The disk does not answer at all. Logged once, for the part that notices it first.
    pub fn hangs(&self, who: Topic) {
        let mut hanging = self.hanging.lock();
        if hanging.insert(who) && hanging.len() == 1 {
            self.health.warn(Topic::Disk, "the disk hangs".into());
            tracing::error!(
                folder = %self.folder.display(), for_the = who.as_str(),
                "the disk hangs: calls are observed and reported from memory until it works again; a \
                 crash meanwhile loses them"
            );
        }
    }

    /// The disk answers again to a part that waited.
    pub fn answers(&self, who: Topic) {
        let mut hanging = self.hanging.lock();
        if hanging.remove(&who) && hanging.is_empty() {
            self.health.clear(Topic::Disk);
            tracing::info!(folder = %self.folder.display(), "the disk works again");
        }
    }

    #[cfg(test)]
    pub fn is_warned_of(&self, what: Topic) -> bool {
        self.health.warning().is_some_and(|all| all.contains(&format!("{}: ", what.as_str())))
    }
}

#[cfg(test)]
mod tests {
    use super::{memory::MemoryDisk, *};

    #[test]
    fn an_entry_that_cannot_be_read_does_not_end_the_walk() {
        use std::os::unix::ffi::OsStringExt;
        let bad = || Err(io::Error::other("a bad sector"));
        let odd = OsString::from_vec(vec![0xff, 0xfe]);
        let entries = [Ok("a".into()), bad(), Ok(odd), Ok("b".into()), bad(), Ok("c".into())];
        assert_eq!(names(entries.into_iter()).collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn a_power_cut_loses_no_folder_that_was_created_and_nothing_in_it() {
        let disk = MemoryDisk::default();
        for dir in ["/var/lib/calls/live", "/var/lib/calls/pending", "data/live"] {
            let dir = Path::new(dir);
            disk.create_dir(dir).unwrap();
            disk.create_dir(dir).unwrap();
            disk.write_synced(&dir.join("a"), b"whole").unwrap();
            disk.sync_dir(dir).unwrap();
            for seed in 0..200 {
                let after = disk.after_a_power_cut(seed);
                let read = after.read(&dir.join("a")).ok();
                assert_eq!(read.as_deref(), Some(&b"whole"[..]), "{}, cut {seed}", dir.display());
            }
        }
    }

    #[test]
    fn a_folder_that_a_dead_run_left_unsynced_is_made_durable() {
        let disk = MemoryDisk::default();
        let dir = Path::new("/data");
        assert!(disk.make_dir(dir).unwrap(), "then the run dies");
        let lost = |seed| disk.after_a_power_cut(seed).walk(dir).is_err();
        assert!((0..40).any(lost), "the disk of the test loses nothing");
        disk.create_dir(dir).unwrap();
        assert!(!(0..40).any(lost));
    }

    #[test]
    fn the_real_disk_creates_folders_and_parents_for_our_user_only() {
        use std::os::unix::fs::PermissionsExt;
        let above = tempfile::tempdir().unwrap();
        let dir = above.path().join("a/b/c");
        RealDisk.create_dir(&dir).unwrap();
        RealDisk.create_dir(&dir).unwrap();
        for made in ["a", "a/b", "a/b/c"] {
            let mode = fs::metadata(above.path().join(made)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{made}");
        }
        fs::write(above.path().join("file"), "").unwrap();
        assert!(RealDisk.create_dir(&above.path().join("file")).is_err());
        assert!(RealDisk.create_dir(&above.path().join("file/d")).is_err());
    }
}
