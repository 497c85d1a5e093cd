//! The records on disk.
//!
//! ```text
//! DATA_DIR/pending/<call_id>.json       sealed, not yet taken by the endpoint
//! DATA_DIR/pending/<call_id>.attempts   the number of attempts, and the last error
//! DATA_DIR/sent/<call_id>.json          taken by the endpoint
//! DATA_DIR/dead/<call_id>.json          dead letters: refused, or given up after 72 h
//! DATA_DIR/dead/<call_id>.attempts      as above
//! ```
//!
//! Each record is a file of its own and holds exactly the bytes that are posted, so `ls`, `cat`,
//! `jq` and `mv` are the operator's tools. A record is *sealed* when a power cut cannot lose it:
//! written beside its place, fsync, renamed into `pending/`, fsync of the folder. A file under its
//! final name is therefore always complete. A file of attempts may be lost: then a record is tried for
//! longer, never for less.
//!
//! The backlog is never held in memory: a folder is walked, however many records it holds.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use call::Moment;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    disk::{Disk, DiskHealth, Names},
    health::Topic,
};

#[derive(Debug, Error)]
#[error("{action} {path}: {source}")]
pub struct OutboxError {
    action: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl OutboxError {
    /// There is no such file (any more).
    pub fn is_gone(&self) -> bool {
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

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Folder {
    Pending,
    Sent,
    Dead,
}

impl Folder {
    pub const ALL: [Self; 3] = [Self::Pending, Self::Sent, Self::Dead];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sent => "sent",
            Self::Dead => "dead",
        }
    }
}

/// The attempts at a record so far, and the error of the last one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempts {
    pub count: u32,
    /// Seconds since the epoch.
    pub first_at: i64,
    pub last_at: i64,
    pub last_error: String,
    /// The last attempt had no answer, or a gateway's: the receiver may still be working on the record.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unclear: bool,
}

/// How much waits for the endpoint, and how much it refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    pub records: u64,
    pub bytes: u64,
    /// When the record was sealed that has waited longest.
    pub oldest: Option<SystemTime>,
    pub dead: u64,
}

/// Blocking: call it where blocking is allowed.
#[derive(Clone)]
pub struct Outbox {
    dir: PathBuf,
    disk: Arc<dyn Disk>,
    health: DiskHealth,
}

impl Outbox {
    /// Creates the folders and checks that they are writable.
    ///
    /// # Errors
    /// If a folder cannot be created or written to.
    pub fn open(disk: Arc<dyn Disk>, health: DiskHealth, dir: &Path) -> Result<Self, OutboxError> {
        let outbox = Self::at(disk, health, dir);
        for folder in Folder::ALL {
            let path = outbox.folder(folder);
            outbox.disk.create_dir(&path).context("cannot create", &path)?;
        }
        let probe = outbox.folder(Folder::Pending).join(".probe");
        outbox.disk.write_synced(&probe, b"").context("cannot write to", &probe)?;
        outbox.disk.remove(&probe).context("cannot remove", &probe)?;
        outbox.sweep();
        Ok(outbox)
    }

    /// An outbox whose folders may exist or not: for looking at it.
    pub fn at(disk: Arc<dyn Disk>, health: DiskHealth, dir: &Path) -> Self {
        Self { dir: dir.to_owned(), disk, health }
    }

    fn folder(&self, folder: Folder) -> PathBuf {
        self.dir.join(folder.name())
    }

    pub fn path(&self, folder: Folder, id: &str) -> PathBuf {
        self.folder(folder).join(format!("{id}.json"))
    }

    fn attempts_path(&self, folder: Folder, id: &str) -> PathBuf {
        self.folder(folder).join(format!("{id}.attempts"))
    }

    /// Puts a record where a crash or a power cut cannot lose it.
    ///
    /// # Errors
    /// If any step fails; then there is no file under the final name, or a complete one.
    pub fn seal(&self, id: &str, body: &[u8]) -> Result<(), OutboxError> {
        let pending = self.folder(Folder::Pending);
        let unique = uuid::Uuid::new_v4().simple();
        let began = Instant::now();
        let tmp = pending.join(format!(".{unique}.tmp"));
        let path = self.path(Folder::Pending, id);
        let sealed = (self.disk.write_synced(&tmp, body).context("cannot write", &tmp))
            .and_then(|()| self.disk.rename(&tmp, &path).context("cannot rename to", &path))
            .and_then(|()| self.disk.sync_dir(&pending).context("cannot sync", &pending));
        match &sealed {
            Ok(()) => {
                self.health.metrics().sealed(began.elapsed());
                self.health.worked(Topic::Outbox);
                // Perhaps no attempt has to be written for days.
                self.health.not_needed(Topic::Attempts);
            }
            Err(e) => {
                self.health.failed(Topic::Outbox, &e.source);
                // An incomplete file is useless, and takes room on a full disk.
                let _ = self.disk.remove(&tmp);
            }
        }
        sealed
    }

    /// Whether a record with this id was ever sealed here, and is still kept.
    pub fn knows(&self, id: &str) -> bool {
        self.find(id).is_some()
    }

    /// When the call of a record ended; `None` if there is no such record, the epoch if the record
    /// cannot be read.
    pub fn end_of(&self, id: &str) -> Option<Moment> {
        let read = |folder| {
            let body = self.body(folder, id).ok()?;
            let record: serde_json::Value = serde_json::from_slice(&body).ok()?;
            Moment::parse_rfc3339(record["end_time"].as_str()?)
        };
        // The sender may move the file between the two steps: then it is in its new folder.
        let end = read(self.find(id)?).or_else(|| read(self.find(id)?));
        Some(end.unwrap_or_default())
    }

    /// Where a record is.
    pub fn find(&self, id: &str) -> Option<Folder> {
        Folder::ALL.into_iter().find(|folder| self.disk.exists(&self.path(*folder, id)))
    }

    /// The sealed bytes.
    ///
    /// # Errors
    /// If the file is gone ([`OutboxError::is_gone`]) or cannot be read.
    pub fn body(&self, folder: Folder, id: &str) -> Result<Vec<u8>, OutboxError> {
        let path = self.path(folder, id);
        self.disk.read(&path).context("cannot read", &path)
    }

    /// The attempts at a record; the default if there were none or their file is lost.
    pub fn attempts(&self, folder: Folder, id: &str) -> Attempts {
        let text = self.disk.read(&self.attempts_path(folder, id)).ok();
        text.and_then(|t| serde_json::from_slice(&t).ok()).unwrap_or_default()
    }

    /// Writes the attempts at a pending record. A failure is reported, and does not stop the sending.
    pub fn record_attempts(&self, id: &str, attempts: &Attempts) {
        // Numbers and a text: they always serialize.
        let text = serde_json::to_vec(attempts).unwrap_or_default();
        match self.disk.write(&self.attempts_path(Folder::Pending, id), &text) {
            Ok(()) => self.health.worked(Topic::Attempts),
            Err(e) => self.health.failed(Topic::Attempts, &e),
        }
    }

    /// Files a record that the endpoint has taken.
    ///
    /// # Errors
    /// If the file cannot be moved; the record will be sent again after a restart.
    pub fn sent(&self, id: &str) -> Result<(), OutboxError> {
        self.move_to(Folder::Pending, Folder::Sent, id)?;
        // The time for which it is kept begins now, not when it was sealed.
        let _ = self.disk.touch(&self.path(Folder::Sent, id));
        // The attempts are not needed any more.
        let _ = self.disk.remove(&self.attempts_path(Folder::Pending, id));
        Ok(())
    }

    /// Files a record that the endpoint will never take.
    ///
    /// # Errors
    /// If the file cannot be moved; the record will be tried again after a restart.
    pub fn dead(&self, id: &str, attempts: &Attempts) -> Result<(), OutboxError> {
        self.record_attempts(id, attempts);
        self.move_to(Folder::Pending, Folder::Dead, id)?;
        let _ = self.disk.rename(
            &self.attempts_path(Folder::Pending, id),
            &self.attempts_path(Folder::Dead, id),
        );
        Ok(())
    }

    /// Makes a dead or sent record pending again, and forgets its attempts.
    ///
    /// # Errors
    /// If the file cannot be moved.
    pub fn revive(&self, from: Folder, id: &str) -> Result<(), OutboxError> {
        if from != Folder::Pending {
            self.move_to(from, Folder::Pending, id)?;
        }
        for folder in [from, Folder::Pending] {
            // The time until it is given up begins anew.
            let _ = self.disk.remove(&self.attempts_path(folder, id));
        }
        Ok(())
    }

    fn move_to(&self, from: Folder, to: Folder, id: &str) -> Result<(), OutboxError> {
        let path = self.path(to, id);
        self.disk.rename(&self.path(from, id), &path).context("cannot move to", &path)
    }

    /// Deletes a record and its attempts.
    ///
    /// # Errors
    /// If the record cannot be deleted.
    pub fn delete(&self, folder: Folder, id: &str) -> Result<(), OutboxError> {
        let path = self.path(folder, id);
        self.disk.remove(&path).context("cannot delete", &path)?;
        let _ = self.disk.remove(&self.attempts_path(folder, id));
        Ok(())
    }

    /// Walks a folder's records, in no order.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn walk(&self, folder: Folder) -> Result<Ids, OutboxError> {
        let dir = self.folder(folder);
        Ok(Ids(self.disk.walk(&dir).context("cannot list", &dir)?))
    }

    /// When a record was sealed (of a sent one: delivered), and its size in bytes.
    pub fn about(&self, folder: Folder, id: &str) -> Option<(SystemTime, u64)> {
        self.disk.about(&self.path(folder, id))
    }

    /// Counts the pending and the dead records.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn backlog(&self) -> Result<Backlog, OutboxError> {
        let mut sum = Backlog::default();
        for id in self.walk(Folder::Pending)? {
            sum.records += 1;
            if let Some((sealed, bytes)) = self.about(Folder::Pending, &id) {
                sum.bytes += bytes;
                sum.oldest = Some(sum.oldest.map_or(sealed, |oldest| oldest.min(sealed)));
            }
        }
        sum.dead = self.walk(Folder::Dead)?.count() as u64;
        Ok(sum)
    }

    /// Deletes sent records that are older, and returns how many: the endpoint has them.
    ///
    /// # Errors
    /// If the folder cannot be read.
    pub fn purge_sent(&self, older_than: Duration) -> Result<u64, OutboxError> {
        let now = SystemTime::now();
        let mut deleted = 0;
        for id in self.walk(Folder::Sent)? {
            let age = (self.about(Folder::Sent, &id))
                .and_then(|(changed, _)| now.duration_since(changed).ok());
            if age.is_some_and(|age| age >= older_than) && self.delete(Folder::Sent, &id).is_ok() {
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    /// Removes files that a crash left incomplete; only while nothing is being sealed.
    fn sweep(&self) {
        let pending = self.folder(Folder::Pending);
        let names = self.disk.walk(&pending).into_iter().flatten();
        for name in names.filter(|n| n.starts_with('.') && n.ends_with(".tmp")) {
            let _ = self.disk.remove(&pending.join(name));
        }
    }

    /// Asks a running worker to look at the outbox anew: the operator has changed it.
    pub fn request_reload(&self) -> io::Result<()> {
        self.disk.write(&self.reload_request(), b"")
    }

    /// Whether [`Self::request_reload`] was called since the last check.
    pub fn reload_was_requested(&self) -> bool {
        let request = self.reload_request();
        self.disk.exists(&request) && self.disk.remove(&request).is_ok()
    }

    fn reload_request(&self) -> PathBuf {
        self.dir.join(".look")
    }
}

/// Ids of a folder's records.
pub struct Ids(Names);

impl Iterator for Ids {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        self.0.by_ref().find_map(|name| {
            let id = name.strip_suffix(".json")?;
            (!id.starts_with('.')).then(|| id.to_owned())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{disk::RealDisk, health::Health};

    fn open(dir: &Path) -> Outbox {
        Outbox::open(Arc::new(RealDisk), DiskHealth::new(dir, Health::default()), dir).unwrap()
    }

    fn pending(outbox: &Outbox) -> Vec<String> {
        let mut ids: Vec<String> = outbox.walk(Folder::Pending).unwrap().collect();
        ids.sort();
        ids
    }

    #[test]
    fn a_sealed_record_is_listed_read_and_filed() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = open(dir.path());
        outbox.seal("a", b"{}").unwrap();
        outbox.seal("b", b"[]").unwrap();
        fs::write(dir.path().join("pending/.c.tmp"), "half").unwrap();
        assert_eq!(pending(&outbox), ["a", "b"], "what was never renamed is no record");
        let backlog = outbox.backlog().unwrap();
        assert_eq!((backlog.records, backlog.bytes, backlog.dead), (2, 4, 0));
        assert!(backlog.oldest.is_some());
        assert_eq!(outbox.body(Folder::Pending, "b").unwrap(), b"[]");
        outbox.sent("a").unwrap();
        let attempts = Attempts { count: 3, last_error: "no".into(), ..Attempts::default() };
        outbox.dead("b", &attempts).unwrap();
        assert!(pending(&outbox).is_empty());
        assert_eq!((outbox.find("a"), outbox.find("b")), (Some(Folder::Sent), Some(Folder::Dead)));
        assert_eq!(outbox.attempts(Folder::Dead, "b"), attempts);
        let e = outbox.body(Folder::Pending, "a").unwrap_err();
        assert!(e.is_gone() && e.to_string().contains("pending/a.json"), "{e}");
        outbox.revive(Folder::Dead, "b").unwrap();
        assert_eq!(pending(&outbox), ["b"]);
        assert_eq!(outbox.attempts(Folder::Pending, "b"), Attempts::default());
        open(dir.path());
        assert!(!dir.path().join("pending/.c.tmp").exists());
    }

    #[test]
    fn sent_records_are_kept_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = open(dir.path());
        outbox.seal("a", b"{}").unwrap();
        outbox.sent("a").unwrap();
        assert_eq!(outbox.purge_sent(Duration::from_secs(60)).unwrap(), 0);
        assert_eq!(outbox.purge_sent(Duration::ZERO).unwrap(), 1);
        assert_eq!(outbox.find("a"), None);
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

    #[test]
    fn a_ring_of_the_operator_is_seen_once() {
        let dir = tempfile::tempdir().unwrap();
        let outbox = open(dir.path());
        assert!(!outbox.reload_was_requested());
        outbox.request_reload().unwrap();
        assert!(outbox.reload_was_requested() && !outbox.reload_was_requested());
    }
}
