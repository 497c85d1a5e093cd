//! The records on disk.
//!
//! ```text
//! DATA_DIR/pending/<call_id>.json   sealed, not yet taken by the endpoint
//! DATA_DIR/sent/<call_id>.json      taken
//! DATA_DIR/dead/<call_id>.json      refused for good
//! ```
//!
//! Each record is a file of its own and holds exactly the bytes that are posted, so `ls`, `cat`,
//! `jq` and `mv` are the operator's tools. A record is *sealed* when a power cut cannot lose it:
//! written beside its place, fsync, renamed into `pending/`, fsync of the folder. A file under its
//! final name is therefore always whole.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use thiserror::Error;

use crate::disk::{Disk, DiskHealth};

#[derive(Debug, Error)]
#[error("{action} {path}: {source}")]
pub(crate) struct OutboxError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl OutboxError {
    /// There is no such file (any more).
    pub(crate) fn is_gone(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

trait Context<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, OutboxError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T, OutboxError> {
        self.map_err(|source| OutboxError { action, path: path.to_owned(), source })
    }
}

/// Blocking: call it where blocking is allowed.
#[derive(Clone)]
pub(crate) struct Outbox {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    health: DiskHealth,
}

impl Outbox {
    /// Makes the folders and checks that they can be written to.
    ///
    /// # Errors
    /// If they cannot.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        health: DiskHealth,
        dir: &Path,
    ) -> Result<Self, OutboxError> {
        let outbox = Self { dir: dir.to_owned(), disk, health };
        for folder in ["pending", "sent", "dead"] {
            let path = dir.join(folder);
            outbox.disk.create_dir(&path).context("cannot create", &path)?;
        }
        let probe = dir.join("pending").join(".probe");
        outbox.disk.write_synced(&probe, b"").context("cannot write to", &probe)?;
        outbox.disk.remove(&probe).context("cannot remove", &probe)?;
        Ok(outbox)
    }

    fn path(&self, folder: &str, id: &str) -> PathBuf {
        self.dir.join(folder).join(format!("{id}.json"))
    }

    /// Puts a record where a crash or a power cut cannot lose it.
    ///
    /// # Errors
    /// If any step fails; then there is no file under the final name, or a whole one.
    pub(crate) fn seal(&self, id: &str, body: &[u8]) -> Result<(), OutboxError> {
        let pending = self.dir.join("pending");
        let unique = uuid::Uuid::new_v4().simple();
        let tmp = pending.join(format!(".{unique}.tmp"));
        let path = self.path("pending", id);
        let sealed = (self.disk.write_synced(&tmp, body).context("cannot write", &tmp))
            .and_then(|()| self.disk.rename(&tmp, &path).context("cannot rename to", &path))
            .and_then(|()| self.disk.sync_dir(&pending).context("cannot sync", &pending));
        match &sealed {
            Ok(()) => self.health.worked("outbox"),
            Err(e) => {
                self.health.failed("outbox", &e.source);
                // Half a file helps nobody; on a full disk it takes the room of a whole one.
                let _ = self.disk.remove(&tmp);
            }
        }
        sealed
    }

    /// Whether a record with this id was ever sealed here, and is still kept.
    pub(crate) fn knows(&self, id: &str) -> bool {
        ["pending", "sent", "dead"].iter().any(|folder| self.disk.exists(&self.path(folder, id)))
    }

    /// The sealed bytes.
    ///
    /// # Errors
    /// If the file is gone ([`OutboxError::is_gone`]) or cannot be read.
    pub(crate) fn body(&self, id: &str) -> Result<Vec<u8>, OutboxError> {
        let path = self.path("pending", id);
        self.disk.read(&path).context("cannot read", &path)
    }

    /// The endpoint has it.
    ///
    /// # Errors
    /// If the file cannot be moved; it will be sent again after a restart.
    pub(crate) fn sent(&self, id: &str) -> Result<(), OutboxError> {
        self.file_under("sent", id)
    }

    /// The endpoint will never take it.
    ///
    /// # Errors
    /// If the file cannot be moved; it will be tried again after a restart.
    pub(crate) fn dead(&self, id: &str) -> Result<(), OutboxError> {
        self.file_under("dead", id)
    }

    fn file_under(&self, folder: &'static str, id: &str) -> Result<(), OutboxError> {
        let to = self.path(folder, id);
        self.disk.rename(&self.path("pending", id), &to).context("cannot move to", &to)
    }

    /// Ids of the records that wait from an earlier run, oldest first.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub(crate) fn pending(&self) -> Result<Vec<String>, OutboxError> {
        let dir = self.dir.join("pending");
        let mut found = vec![];
        for name in self.disk.list(&dir).context("cannot list", &dir)? {
            let id = name.strip_suffix(".json");
            if let Some(id) = id.filter(|id| !id.starts_with('.')) {
                found.push((self.disk.changed(&dir.join(&name)), id.to_owned()));
            }
        }
        found.sort();
        Ok(found.into_iter().map(|(_, id)| id).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::RealDisk;

    fn open(dir: &Path) -> Outbox {
        Outbox::open(Arc::new(RealDisk), DiskHealth::new(dir), dir).unwrap()
    }

    #[test]
    fn a_sealed_record_is_listed_read_and_filed() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = open(dir.path());
        outbox.seal("a", b"{}").unwrap();
        outbox.seal("b", b"[]").unwrap();
        fs::write(dir.path().join("pending/.c.tmp"), "half").unwrap();
        let mut ids = outbox.pending().unwrap();
        ids.sort();
        assert_eq!(ids, ["a", "b"], "what was never renamed is no record");
        assert_eq!(outbox.body("b").unwrap(), b"[]");
        outbox.sent("a").unwrap();
        outbox.dead("b").unwrap();
        assert!(outbox.pending().unwrap().is_empty());
        assert!(dir.path().join("sent/a.json").exists() && dir.path().join("dead/b.json").exists());
        let e = outbox.body("a").unwrap_err().to_string();
        assert!(e.contains("pending/a.json"), "{e}");
    }

    #[test]
    fn only_the_owner_can_read_records() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let outbox = open(&dir.path().join("data"));
        outbox.seal("a", b"{}").unwrap();
        let mode = |p: &str| fs::metadata(dir.path().join(p)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode("data/pending"), 0o700);
        assert_eq!(mode("data/pending/a.json"), 0o600);
    }
}
