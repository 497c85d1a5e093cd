//! Writing journals: one thread appends for all calls, so that a slow disk never delays an observer,
//! and lines that arrive together are synced together.
//!
//! When the disk fails, lines wait in memory, up to a limit for each call, and are written once the
//! disk works again. A journal is given up if its waiting lines exceed that limit, or if it becomes too
//! long: it ends there and costs nothing from then on. Its call is still observed and reported, from
//! memory alone.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use call::{Call, Event};
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::timeout};

use super::{Header, is_important, line};
use crate::{
    disk::{Disk, DiskFile, DiskHealth},
    health::Topic,
};

/// Events that are not synced at once are synced within this time.
pub(super) const SYNC_WITHIN: Duration = Duration::from_millis(500);
/// Time between attempts while the disk fails.
const RETRY: Duration = Duration::from_secs(1);
/// Bytes per call that may wait for a failing disk.
const MAX_WAITING: usize = 16 * 1024 * 1024;
/// Bytes of one journal. A ten-hour call has some twenty million, so more than this is abuse.
const MAX_JOURNAL: u64 = 64 * 1024 * 1024;
/// Bytes of all calls that may wait: in the queue to the thread, which grows while the disk hangs, and for
/// a failing disk.
const MAX_QUEUED: usize = 64 * 1024 * 1024;

/// A disk that needs longer for one write counts as hanging.
const HANGS_AFTER: Duration = Duration::from_secs(5);

/// What the thread is asked to do.
enum Command {
    Begin {
        id: u64,
        path: PathBuf,
        line: Vec<u8>,
        append_at: Option<u64>,
        given_up: Arc<OnceLock<GiveUpReason>>,
    },
    Append {
        id: u64,
        line: Vec<u8>,
        now: bool,
    },
    /// Nothing more comes; the file stays.
    Close {
        id: u64,
    },
    GiveUp {
        id: u64,
        reason: GiveUpReason,
    },
    End {
        id: u64,
        keep: Option<PathBuf>,
    },
    /// Writes and syncs everything, then answers.
    Flush(mpsc::Sender<()>),
    /// Answers once all earlier lines are written, or could not be.
    Mark(oneshot::Sender<()>),
}

/// Why a journal was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GiveUpReason {
    DiskFails,
    TooLong,
}

impl GiveUpReason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::DiskFails => "the disk has failed for too long",
            Self::TooLong => "the journal is too long",
        }
    }
}

/// All journals of a worker. Cheap to clone; the thread ends with the last handle.
#[derive(Clone)]
pub struct Journals {
    dir: PathBuf,
    /// Where the journals of ended calls go, if they are kept.
    keep: Option<PathBuf>,
    commands: mpsc::Sender<Command>,
    next: Arc<AtomicU64>,
    /// Bytes in the queue to the thread; at most [`MAX_QUEUED`].
    queued: Arc<AtomicUsize>,
    stall: StallDetector,
}

/// Since when the thread waits for the disk. Observers check it, as a thread that waits cannot report.
#[derive(Clone)]
struct StallDetector {
    since: Arc<Mutex<Option<Instant>>>,
    health: DiskHealth,
}

impl StallDetector {
    fn new(health: DiskHealth) -> Self {
        Self { since: Arc::default(), health }
    }

    fn work_begins(&self) {
        *self.since.lock() = Some(Instant::now());
    }

    fn work_ends(&self) {
        *self.since.lock() = None;
        self.health.answers(Topic::Journal);
    }

    /// Called at every append.
    fn check(&self) {
        if self.since.lock().is_some_and(|since| since.elapsed() >= HANGS_AFTER) {
            self.health.hangs(Topic::Journal);
        }
    }
}

impl Journals {
    /// Starts the thread.
    ///
    /// # Errors
    /// If a folder or the thread cannot be created.
    pub fn start(
        disk: Arc<dyn Disk>,
        health: DiskHealth,
        data_dir: &Path,
        keep: bool,
    ) -> io::Result<Self> {
        Self::syncing(disk, health, data_dir, keep, SYNC_WITHIN)
    }

    /// `within`: used instead of [`SYNC_WITHIN`].
    pub(super) fn syncing(
        disk: Arc<dyn Disk>,
        health: DiskHealth,
        data_dir: &Path,
        keep: bool,
        within: Duration,
    ) -> io::Result<Self> {
        let dir = data_dir.join("live");
        disk.create_dir(&dir)?;
        let keep = keep.then(|| data_dir.join("journals"));
        if let Some(keep) = &keep {
            disk.create_dir(keep)?;
        }
        let (commands, inbox) = mpsc::channel();
        let queued = Arc::<AtomicUsize>::default();
        let queued_for_writer = queued.clone();
        let stall = StallDetector::new(health.clone());
        let writer = Writer {
            disk,
            health,
            dir: dir.clone(),
            files: HashMap::new(),
            to_remove: vec![],
            queued: queued_for_writer,
            within,
            stall: stall.clone(),
        };
        thread::Builder::new().name("journal".into()).spawn(move || writer.run(&inbox))?;
        Ok(Self { dir, keep, commands, next: Arc::default(), queued, stall })
    }

    /// A new journal for a call.
    pub fn begin(&self, call: &Call) -> CallJournal {
        let journal = self.handle(call);
        let line = line(&Header::of(call));
        journal.send(Command::Begin {
            id: journal.id,
            path: journal.path.clone(),
            line,
            append_at: None,
            given_up: journal.given_up.clone(),
        });
        journal
    }

    /// Continues a journal that an earlier run left, after its first `whole` bytes.
    pub fn go_on(&self, call: &Call, whole: usize) -> CallJournal {
        let journal = self.handle(call);
        journal.send(Command::Begin {
            id: journal.id,
            path: journal.path.clone(),
            line: vec![],
            append_at: Some(whole as u64),
            given_up: journal.given_up.clone(),
        });
        journal
    }

    fn handle(&self, call: &Call) -> CallJournal {
        let name = format!("{}.jsonl", call.id());
        CallJournal {
            id: self.next.fetch_add(1, Ordering::Relaxed),
            path: self.dir.join(&name),
            kept: self.keep.as_ref().map(|dir| dir.join(&name)),
            commands: self.commands.clone(),
            queued: self.queued.clone(),
            stall: self.stall.clone(),
            given_up: Arc::default(),
        }
    }

    /// Waits until all earlier lines are written, for at most `within`. Does not block the thread of
    /// the caller, and forces no sync.
    pub async fn written(&self, within: Duration) {
        let (done, wait) = oneshot::channel();
        if self.commands.send(Command::Mark(done)).is_ok() {
            // After a timeout the disk hangs, and is not waited for any longer.
            let _ = timeout(within, wait).await;
        }
    }

    /// Has all earlier lines written and synced; waits for that for at most `within`. Blocking.
    pub fn flush(&self, within: Duration) {
        let (done, wait) = mpsc::channel();
        if self.commands.send(Command::Flush(done)).is_ok() {
            // After a timeout the disk hangs, and is not waited for any longer.
            let _ = wait.recv_timeout(within);
        }
    }
}

/// The journal of one call. If it is dropped without [`Self::end`], its file is synced and closed, and stays
/// for the next start.
pub struct CallJournal {
    id: u64,
    path: PathBuf,
    kept: Option<PathBuf>,
    commands: mpsc::Sender<Command>,
    queued: Arc<AtomicUsize>,
    stall: StallDetector,
    /// Nothing more is appended; the thread sets this too.
    given_up: Arc<OnceLock<GiveUpReason>>,
}

impl CallJournal {
    pub fn append(&self, event: &Event) {
        if self.given_up.get().is_some() {
            return;
        }
        self.stall.check();
        let line = line(event);
        let before = self.queued.fetch_add(line.len(), Ordering::Relaxed);
        if before > MAX_QUEUED {
            self.queued.fetch_sub(line.len(), Ordering::Relaxed);
            let _ = self.given_up.set(GiveUpReason::DiskFails);
            return self.send(Command::GiveUp { id: self.id, reason: GiveUpReason::DiskFails });
        }
        self.send(Command::Append { id: self.id, line, now: is_important(event) });
    }

    /// The record is sealed: the journal is not needed any more.
    pub fn end(self) {
        self.send(Command::End { id: self.id, keep: self.kept.clone() });
    }

    /// Removes the journal, even where the journals of ended calls are kept.
    pub fn forget(self) {
        self.send(Command::End { id: self.id, keep: None });
    }

    fn send(&self, command: Command) {
        // This cannot fail: the thread only ends after all handles are gone.
        let _ = self.commands.send(command);
    }
}

impl Drop for CallJournal {
    fn drop(&mut self) {
        // Without effect on a journal that has ended.
        self.send(Command::Close { id: self.id });
    }
}

/// A journal as the thread writes it.
struct OpenJournal {
    path: PathBuf,
    file: Option<Box<dyn DiskFile>>,
    /// Bytes of the file that are complete lines.
    len: u64,
    /// Lines that are not written to the file yet.
    waiting: Vec<u8>,
    /// Lines that are written but not synced: written again if a sync fails.
    unsynced: Vec<u8>,
    /// Since when the file has unsynced lines.
    dirty_since: Option<Instant>,
    /// An important event waits: the next write syncs.
    sync_now: bool,
    /// Nothing more is written; shared with the [`CallJournal`], which then makes no more lines.
    given_up: Arc<OnceLock<GiveUpReason>>,
    /// Nothing is written yet: a file of this name would be of an earlier run.
    new: bool,
    /// Nothing more comes. It is forgotten once all its lines are synced.
    closed: bool,
}

impl OpenJournal {
    fn is_given_up(&self) -> bool {
        self.given_up.get().is_some()
    }

    /// Nothing of it is to be written or synced.
    fn is_done(&self) -> bool {
        self.is_given_up() || (self.waiting.is_empty() && self.dirty_since.is_none())
    }
}

/// A journal whose call is over, and where it goes if it is kept.
struct EndedJournal {
    path: PathBuf,
    keep: Option<PathBuf>,
}

struct Writer {
    disk: Arc<dyn Disk>,
    health: DiskHealth,
    dir: PathBuf,
    files: HashMap<u64, OpenJournal>,
    /// Journals of ended calls that could not be removed or moved yet.
    to_remove: Vec<EndedJournal>,
    /// Shared with [`Journals`]; the thread subtracts what it takes from the queue.
    queued: Arc<AtomicUsize>,
    /// See [`SYNC_WITHIN`].
    within: Duration,
    stall: StallDetector,
}

impl Writer {
    fn run(mut self, inbox: &mpsc::Receiver<Command>) {
        let mut retry_at: Option<Instant> = None;
        loop {
            let mut flushed: Vec<mpsc::Sender<()>> = vec![];
            let mut marked: Vec<oneshot::Sender<()>> = vec![];
            match inbox.recv_timeout(self.wait(retry_at)) {
                Ok(first) => {
                    // A command may use the disk itself: the end of a journal does.
                    self.stall.work_begins();
                    self.take(first, &mut flushed, &mut marked);
                    // All commands that have arrived meanwhile are written and synced together.
                    while let Ok(next) = inbox.try_recv() {
                        self.take(next, &mut flushed, &mut marked);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.write_all(true);
                    return;
                }
            }
            let now = Instant::now();
            if retry_at.is_none_or(|t| t <= now) || !flushed.is_empty() {
                self.stall.work_begins();
                retry_at = (!self.write_all(!flushed.is_empty())).then(|| now + RETRY);
            }
            self.stall.work_ends();
            for done in flushed {
                // The caller may have stopped waiting.
                let _ = done.send(());
            }
            for done in marked {
                let _ = done.send(());
            }
        }
    }

    /// How long to wait until something is due.
    fn wait(&self, retry_at: Option<Instant>) -> Duration {
        if let Some(at) = retry_at {
            return at.saturating_duration_since(Instant::now());
        }
        let oldest = self.files.values().filter_map(|f| f.dirty_since).min();
        oldest
            .map_or(RETRY, |since| (since + self.within).saturating_duration_since(Instant::now()))
    }

    fn take(
        &mut self,
        command: Command,
        flushed: &mut Vec<mpsc::Sender<()>>,
        marked: &mut Vec<oneshot::Sender<()>>,
    ) {
        match command {
            Command::Begin { id, path, line, append_at, given_up } => {
                // A file of that name that could not be removed is written over, and must not be removed
                // any more.
                let before = self.to_remove.len();
                self.to_remove.retain(|ended| ended.path != path);
                let new = append_at.is_none() && before == self.to_remove.len();
                self.files.insert(
                    id,
                    OpenJournal {
                        path,
                        file: None,
                        len: append_at.unwrap_or(0),
                        waiting: line,
                        unsynced: vec![],
                        dirty_since: None,
                        sync_now: true,
                        given_up,
                        new,
                        closed: false,
                    },
                );
            }
            Command::Append { id, line, now } => {
                self.queued.fetch_sub(line.len(), Ordering::Relaxed);
                let Some(f) = self.files.get_mut(&id).filter(|f| !f.is_given_up()) else { return };
                if f.len + (f.waiting.len() + line.len()) as u64 > MAX_JOURNAL {
                    return self.give_up(id, GiveUpReason::TooLong);
                }
                if f.waiting.len() + line.len() > MAX_WAITING {
                    return self.give_up(id, GiveUpReason::DiskFails);
                }
                f.waiting.extend(line);
                f.sync_now |= now;
            }
            Command::GiveUp { id, reason } => self.give_up(id, reason),
            Command::Close { id } => {
                let Some(f) = self.files.get_mut(&id) else { return };
                f.closed = true;
            }
            Command::End { id, keep } => {
                let Some(mut f) = self.files.remove(&id) else { return };
                let keep = keep.filter(|_| !f.is_given_up());
                if keep.is_some() {
                    let _ = self.write(&mut f, true);
                }
                let ended = EndedJournal { path: f.path, keep };
                if let Err(e) = self.end(&ended) {
                    self.health.failed(Topic::Journal, &e);
                    self.to_remove.push(ended);
                }
            }
            Command::Flush(done) => flushed.push(done),
            Command::Mark(done) => marked.push(done),
        }
    }

    /// Removes the journal of an ended call, or moves it to the kept ones.
    fn end(&self, ended: &EndedJournal) -> io::Result<()> {
        let done = match &ended.keep {
            Some(to) => self.disk.rename(&ended.path, to),
            None => self.disk.remove(&ended.path),
        };
        match done {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// Gives up the journals with the most lines that wait for the disk, until the rest is few enough.
    fn bound_waiting(&mut self) {
        let mut total: usize = self.files.values().map(|f| f.waiting.len()).sum();
        while total > MAX_QUEUED {
            let longest = self.files.iter().max_by_key(|(_, f)| f.waiting.len());
            let Some((id, bytes)) = longest.map(|(id, f)| (*id, f.waiting.len())) else { return };
            total -= bytes;
            self.give_up(id, GiveUpReason::DiskFails);
        }
    }

    /// A journal with a hole would give a wrong record; a journal that stops gives an incomplete one.
    fn give_up(&mut self, id: u64, reason: GiveUpReason) {
        let Some(f) = self.files.get_mut(&id) else { return };
        let _ = f.given_up.set(reason);
        // The system may still write unsynced lines; for this thread nothing is due any more.
        (f.waiting, f.unsynced) = (vec![], vec![]);
        (f.file, f.dirty_since, f.sync_now) = (None, None, false);
        tracing::warn!(
            path = %f.path.display(),
            why = reason.as_str(),
            "a journal is given up: from here on its call is kept in memory alone"
        );
    }

    /// Before a new journal is begun: a file of its name is of the same call and could not be read at
    /// the start. It is kept, as a person may still want it.
    fn move_aside(&self, path: &Path) -> io::Result<()> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".{}.broken", uuid::Uuid::new_v4().simple()));
        match self.disk.rename(path, Path::new(&aside)) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            moved => moved?,
        }
        tracing::error!(
            path = %path.display(), aside = %Path::new(&aside).display(),
            "an earlier journal of this call could not be read, set aside as .broken"
        );
        Ok(())
    }

    /// Writes and syncs what is due; false if something could not be written.
    fn write_all(&mut self, sync_all: bool) -> bool {
        let now = Instant::now();
        let mut files = std::mem::take(&mut self.files);
        let (mut failed, mut worked) = (false, false);
        for f in files.values_mut().filter(|f| !f.is_given_up()) {
            let due = f.dirty_since.is_some_and(|t| now.duration_since(t) >= self.within);
            let sync = sync_all || f.sync_now || f.closed || due;
            if f.waiting.is_empty() && !(sync && f.dirty_since.is_some()) {
                continue;
            }
            match self.write(f, sync) {
                Ok(()) => worked = true,
                Err(e) => {
                    failed = true;
                    self.health.failed(Topic::Journal, &e);
                }
            }
        }
        files.retain(|_, f| !(f.closed && f.is_done()));
        self.files = files;
        if failed {
            self.bound_waiting();
        }
        // A file that stays would be replayed at the next start, though its call opted out or its record
        // was sent without being sealed.
        for ended in std::mem::take(&mut self.to_remove) {
            match self.end(&ended) {
                Ok(()) => worked = true,
                Err(e) => {
                    failed = true;
                    self.health.failed(Topic::Journal, &e);
                    self.to_remove.push(ended);
                }
            }
        }
        if worked {
            self.health.metrics().journal_written(now.elapsed());
        }
        if worked && !failed {
            self.health.worked(Topic::Journal);
        } else if !failed && self.files.values().all(|f| f.is_given_up() || f.waiting.is_empty()) {
            // The calls whose lines waited for the disk have ended.
            self.health.not_needed(Topic::Journal);
        }
        !failed
    }

    fn write(&self, f: &mut OpenJournal, sync: bool) -> io::Result<()> {
        if f.file.is_none() {
            if f.new {
                self.move_aside(&f.path)?;
            }
            // Also after a failure, when the file may end with half a line: it is cut off at `len`.
            let file = self.disk.open_at(&f.path, f.len)?;
            f.new = false;
            self.disk.sync_dir(&self.dir)?;
            f.file = Some(file);
        }
        let Some(file) = &mut f.file else { return Ok(()) };
        if !f.waiting.is_empty() {
            if let Err(e) = file.append(&f.waiting) {
                f.file = None;
                return Err(e);
            }
            f.len += f.waiting.len() as u64;
            f.unsynced.append(&mut f.waiting);
            f.waiting.shrink_to(4096);
            f.dirty_since.get_or_insert_with(Instant::now);
        }
        if sync && f.dirty_since.is_some() {
            if let Err(e) = file.sync() {
                // Unsynced lines may be lost, and a second sync would not report it: they are written again.
                f.file = None;
                f.len -= f.unsynced.len() as u64;
                f.unsynced.append(&mut f.waiting);
                std::mem::swap(&mut f.unsynced, &mut f.waiting);
                return Err(e);
            }
            f.unsynced.clear();
            f.unsynced.shrink_to(4096);
            f.dirty_since = None;
            f.sync_now = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
