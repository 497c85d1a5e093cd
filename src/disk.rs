//! The disk as journal and outbox use it: few operations, each of which may fail, behind one trait
//! so that tests can make each of them fail.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use tokio::sync::watch;

/// Blocking: call it where blocking is allowed.
pub(crate) trait Disk: Send + Sync {
    /// Makes a folder for the worker's own user, and those above it.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Writes a new file as a whole, and syncs it.
    fn write_synced(&self, path: &Path, body: &[u8]) -> io::Result<()>;
    /// Opens or makes a file, cut off after `len` bytes, to append to it.
    fn open_at(&self, path: &Path, len: u64) -> io::Result<Box<dyn DiskFile>>;
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// A rename or a new file is only durable once its folder is.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a folder, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    fn exists(&self, path: &Path) -> bool;
    /// When a file was last written to, if that is known.
    fn changed(&self, path: &Path) -> Option<SystemTime>;
}

/// A file that is appended to.
pub(crate) trait DiskFile: Send {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    fn sync(&mut self) -> io::Result<()>;
}

/// The real one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RealDisk;

impl Disk for RealDisk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(path)
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

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let names = fs::read_dir(path)?.map(|e| Ok(e?.file_name().into_string().ok()));
        names.filter_map(Result::transpose).collect()
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn changed(&self, path: &Path) -> Option<SystemTime> {
        fs::metadata(path).and_then(|m| m.modified()).ok()
    }
}

/// Journals and records hold personal data: only the worker's own user may look.
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

/// One worker for each data folder: two would tell each other's calls.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not used")] File);

impl Lock {
    /// # Errors
    /// If another process has it, or the file cannot be made.
    pub(crate) fn take(folder: &Path) -> Result<Self, String> {
        let file = private().open(folder.join("lock")).map_err(|e| e.to_string())?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => {
                Err("another call-history uses it; each needs a folder of its own".into())
            }
            Err(TryLockError::Error(e)) => Err(format!("it cannot be locked: {e}")),
        }
    }
}

/// What is wrong with the disk, by who found it. One line in the log when it begins, one when it
/// is over.
#[derive(Clone, Debug)]
pub(crate) struct DiskHealth {
    folder: PathBuf,
    troubles: Arc<watch::Sender<BTreeMap<&'static str, String>>>,
}

impl DiskHealth {
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), troubles: Arc::new(watch::Sender::default()) }
    }

    pub(crate) fn failed(&self, who: &'static str, error: &io::Error) {
        let first = self.troubles.send_if_modified(|t| {
            if t.contains_key(who) {
                return false;
            }
            t.insert(who, error.to_string());
            true
        });
        if first {
            tracing::error!(
                folder = %self.folder.display(), for_the = who, error = %error,
                "the disk fails: calls are observed and reported from memory until it works again; \
                 a crash meanwhile loses them"
            );
        }
    }

    pub(crate) fn worked(&self, who: &'static str) {
        let over = self.troubles.send_if_modified(|t| t.remove(who).is_some());
        if over {
            tracing::info!(folder = %self.folder.display(), for_the = who, "the disk works again");
        }
    }

    /// The first thing that is wrong.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.troubles.borrow().iter().next().map(|(who, error)| format!("{who}: {error}"))
    }
}
