//! Writing journals: one thread appends for all calls, so that a slow disk never holds an observer
//! up, and what comes in together is synced together.
//!
//! When the disk fails, lines wait in memory, a bounded number of bytes for each call, and are
//! written once it works again. The journal of a call whose lines did not fit is given up: it ends
//! there, costs nothing from then on, and the call lives on in memory alone. So does one that grows
//! beyond all measure. Either way the call is observed and reported.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
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

/// What is not synced at once is synced within this time.
pub(super) const SYNC_WITHIN: Duration = Duration::from_millis(500);
/// Between attempts on a disk that fails.
const RETRY: Duration = Duration::from_secs(1);
/// Bytes that wait for a failing disk, for each call.
const MAX_WAITING: usize = 16 * 1024 * 1024;
/// Bytes of one journal: a ten-hour call has some twenty million. What is longer was made so.
const MAX_JOURNAL: u64 = 64 * 1024 * 1024;
/// Bytes on their way to the thread, of all calls: a disk that hangs holds it up.
const MAX_ON_THE_WAY: usize = 64 * 1024 * 1024;

/// A disk that takes longer for one write hangs.
const HANGS_AFTER: Duration = Duration::from_secs(5);

enum Order {
    Begin {
        id: u64,
        path: PathBuf,
        line: Vec<u8>,
        append_at: Option<u64>,
        given_up: Arc<AtomicBool>,
    },
    Append {
        id: u64,
        line: Vec<u8>,
        now: bool,
    },
    GiveUp {
        id: u64,
        why: Why,
    },
    End {
        id: u64,
        keep: Option<PathBuf>,
    },
    Flush(mpsc::Sender<()>),
    /// Tells when what came before it is written, or could not be.
    Mark(oneshot::Sender<()>),
}

/// Why a journal was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Why {
    DiskFails,
    TooLong,
}

impl Why {
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
    orders: mpsc::Sender<Order>,
    next: Arc<AtomicU64>,
    /// Bytes on their way.
    on_the_way: Arc<AtomicUsize>,
    at_disk: AtDisk,
}

/// Since when the thread waits for the disk, seen from outside: it cannot say so itself.
#[derive(Clone)]
struct AtDisk {
    since: Arc<Mutex<Option<Instant>>>,
    health: DiskHealth,
}

impl AtDisk {
    fn new(health: DiskHealth) -> Self {
        Self { since: Arc::default(), health }
    }

    fn begins(&self) {
        *self.since.lock() = Some(Instant::now());
    }

    fn is_back(&self) {
        *self.since.lock() = None;
        self.health.answers(Topic::Journal);
    }

    /// Looked at by whoever has something to write.
    fn look(&self) {
        if self.since.lock().is_some_and(|since| since.elapsed() >= HANGS_AFTER) {
            self.health.hangs(Topic::Journal);
        }
    }
}

impl Journals {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the folders cannot be made, or there is no thread to be had.
    pub fn start(
        disk: Arc<dyn Disk>,
        health: DiskHealth,
        data_dir: &Path,
        keep: bool,
    ) -> io::Result<Self> {
        Self::syncing(disk, health, data_dir, keep, SYNC_WITHIN)
    }

    /// `within`: what is not synced at once is, within this time.
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
        let (orders, inbox) = mpsc::channel();
        let on_the_way = Arc::<AtomicUsize>::default();
        let taken = on_the_way.clone();
        let at_disk = AtDisk::new(health.clone());
        let writer = Writer {
            disk,
            health,
            dir: dir.clone(),
            files: HashMap::new(),
            unended: vec![],
            taken,
            within,
            at_disk: at_disk.clone(),
        };
        thread::Builder::new().name("journal".into()).spawn(move || writer.run(&inbox))?;
        Ok(Self { dir, keep, orders, next: Arc::default(), on_the_way, at_disk })
    }

    /// A new journal for a call.
    pub fn begin(&self, call: &Call) -> CallJournal {
        let journal = self.handle(call);
        let line = line(&Header::of(call));
        journal.order(Order::Begin {
            id: journal.id,
            path: journal.path.clone(),
            line,
            append_at: None,
            given_up: journal.given_up.clone(),
        });
        journal
    }

    /// Goes on in a journal that an earlier run left, after its first `whole` bytes.
    pub fn go_on(&self, call: &Call, whole: usize) -> CallJournal {
        let journal = self.handle(call);
        journal.order(Order::Begin {
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
            orders: self.orders.clone(),
            on_the_way: self.on_the_way.clone(),
            at_disk: self.at_disk.clone(),
            given_up: Arc::default(),
        }
    }

    /// Waits until what was ordered so far is written, without holding anything up, for at most
    /// `within`.
    pub async fn written(&self, within: Duration) {
        let (done, wait) = oneshot::channel();
        if self.orders.send(Order::Mark(done)).is_ok() {
            // A disk that hangs is not waited for.
            let _ = timeout(within, wait).await;
        }
    }

    /// Waits until all that was ordered so far is done, for at most `within`.
    pub fn flush(&self, within: Duration) {
        let (done, wait) = mpsc::channel();
        if self.orders.send(Order::Flush(done)).is_ok() {
            // A disk that hangs is not waited for.
            let _ = wait.recv_timeout(within);
        }
    }
}

/// The journal of one call. Dropped without an end, it stays for the next start.
pub struct CallJournal {
    id: u64,
    path: PathBuf,
    kept: Option<PathBuf>,
    orders: mpsc::Sender<Order>,
    on_the_way: Arc<AtomicUsize>,
    at_disk: AtDisk,
    /// Nothing more is written to it; the thread sets it too.
    given_up: Arc<AtomicBool>,
}

impl CallJournal {
    pub fn append(&self, event: &Event) {
        if self.given_up.load(Ordering::Relaxed) {
            return;
        }
        self.at_disk.look();
        let line = line(event);
        let before = self.on_the_way.fetch_add(line.len(), Ordering::Relaxed);
        if before > MAX_ON_THE_WAY {
            self.on_the_way.fetch_sub(line.len(), Ordering::Relaxed);
            self.given_up.store(true, Ordering::Relaxed);
            return self.order(Order::GiveUp { id: self.id, why: Why::DiskFails });
        }
        self.order(Order::Append { id: self.id, line, now: is_important(event) });
    }

    /// The record is sealed: the journal has done its work.
    pub fn end(self) {
        self.order(Order::End { id: self.id, keep: self.kept.clone() });
    }

    /// Nothing of this call is to be stored.
    pub fn forget(self) {
        self.order(Order::End { id: self.id, keep: None });
    }

    fn order(&self, order: Order) {
        // The thread only ends after all handles are gone.
        let _ = self.orders.send(order);
    }
}

struct Writing {
    path: PathBuf,
    file: Option<Box<dyn DiskFile>>,
    /// Bytes of it that are whole.
    len: u64,
    /// Lines that are not in the file yet.
    waiting: Vec<u8>,
    /// Lines in it that are not synced yet.
    unsynced: Vec<u8>,
    /// Not synced since.
    dirty_since: Option<Instant>,
    sync_now: bool,
    /// Nothing more is written; shared with the [`CallJournal`], which stops making lines.
    given_up: Arc<AtomicBool>,
    /// No byte of it is written yet: what stands in its place is somebody else's.
    new: bool,
}

impl Writing {
    fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }
}

/// A journal whose call is over, and where it goes if it is kept.
struct Ended {
    path: PathBuf,
    keep: Option<PathBuf>,
}

struct Writer {
    disk: Arc<dyn Disk>,
    health: DiskHealth,
    dir: PathBuf,
    files: HashMap<u64, Writing>,
    /// Journals that could not be taken away yet.
    unended: Vec<Ended>,
    /// What comes in is no more on its way.
    taken: Arc<AtomicUsize>,
    /// What is not synced at once is, within this time.
    within: Duration,
    at_disk: AtDisk,
}

impl Writer {
    fn run(mut self, inbox: &mpsc::Receiver<Order>) {
        let mut retry_at: Option<Instant> = None;
        loop {
            let mut flushed: Vec<mpsc::Sender<()>> = vec![];
            let mut marked: Vec<oneshot::Sender<()>> = vec![];
            match inbox.recv_timeout(self.wait(retry_at)) {
                Ok(first) => {
                    // The end of a journal is work on the disk, too.
                    self.at_disk.begins();
                    self.take(first, &mut flushed, &mut marked);
                    // What came in meanwhile is written and synced together with it.
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
                self.at_disk.begins();
                retry_at = (!self.write_all(!flushed.is_empty())).then(|| now + RETRY);
            }
            self.at_disk.is_back();
            for done in flushed {
                // Who asked may have stopped waiting.
                let _ = done.send(());
            }
            for done in marked {
                let _ = done.send(());
            }
        }
    }

    /// Until something is due.
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
        order: Order,
        flushed: &mut Vec<mpsc::Sender<()>>,
        marked: &mut Vec<oneshot::Sender<()>>,
    ) {
        match order {
            Order::Begin { id, path, line, append_at, given_up } => {
                self.files.insert(
                    id,
                    Writing {
                        path,
                        file: None,
                        len: append_at.unwrap_or(0),
                        waiting: line,
                        unsynced: vec![],
                        dirty_since: None,
                        sync_now: true,
                        given_up,
                        new: append_at.is_none(),
                    },
                );
            }
            Order::Append { id, line, now } => {
                self.taken.fetch_sub(line.len(), Ordering::Relaxed);
                let Some(f) = self.files.get_mut(&id).filter(|f| !f.is_given_up()) else { return };
                if f.len + (f.waiting.len() + line.len()) as u64 > MAX_JOURNAL {
                    return self.give_up(id, Why::TooLong);
                }
                if f.waiting.len() + line.len() > MAX_WAITING {
                    return self.give_up(id, Why::DiskFails);
                }
                f.waiting.extend(line);
                f.sync_now |= now;
            }
            Order::GiveUp { id, why } => self.give_up(id, why),
            Order::End { id, keep } => {
                let Some(mut f) = self.files.remove(&id) else { return };
                let keep = keep.filter(|_| !f.is_given_up());
                if keep.is_some() {
                    let _ = self.write(&mut f, true);
                }
                let ended = Ended { path: f.path, keep };
                if let Err(e) = self.end(&ended) {
                    self.health.failed(Topic::Journal, &e);
                    self.unended.push(ended);
                }
            }
            Order::Flush(done) => flushed.push(done),
            Order::Mark(done) => marked.push(done),
        }
    }

    /// Takes a journal away whose call is over.
    fn end(&self, ended: &Ended) -> io::Result<()> {
        let done = match &ended.keep {
            Some(to) => self.disk.rename(&ended.path, to),
            None => self.disk.remove(&ended.path),
        };
        match done {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// A journal with a hole would tell another call than there was; one that stops tells less.
    fn give_up(&mut self, id: u64, why: Why) {
        let Some(f) = self.files.get_mut(&id) else { return };
        f.given_up.store(true, Ordering::Relaxed);
        // What is not synced yet is left to the system; nothing is due any more.
        (f.waiting, f.unsynced) = (vec![], vec![]);
        (f.file, f.dirty_since, f.sync_now) = (None, None, false);
        tracing::warn!(
            path = %f.path.display(),
            why = why.as_str(),
            "a journal is given up: from here on its call is kept in memory alone"
        );
    }

    /// A journal that stands where a new one is to begin is of the same call, and could not be read at
    /// the start: a person may still want it.
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

    /// False if something could not be written.
    fn write_all(&mut self, sync_all: bool) -> bool {
        let now = Instant::now();
        let mut files = std::mem::take(&mut self.files);
        let (mut failed, mut worked) = (false, false);
        for f in files.values_mut().filter(|f| !f.is_given_up()) {
            let due = f.dirty_since.is_some_and(|t| now.duration_since(t) >= self.within);
            let sync = sync_all || f.sync_now || due;
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
        self.files = files;
        // One that stays would be replayed at the next start: a call that opted out, or one that was sent
        // without ever being sealed.
        for ended in std::mem::take(&mut self.unended) {
            match self.end(&ended) {
                Ok(()) => worked = true,
                Err(e) => {
                    failed = true;
                    self.health.failed(Topic::Journal, &e);
                    self.unended.push(ended);
                }
            }
        }
        if worked && !failed {
            self.health.worked(Topic::Journal);
        } else if !failed && self.files.values().all(|f| f.is_given_up() || f.waiting.is_empty()) {
            // The calls whose lines waited have ended.
            self.health.not_needed(Topic::Journal);
        }
        !failed
    }

    fn write(&self, f: &mut Writing, sync: bool) -> io::Result<()> {
        if f.file.is_none() {
            if f.new {
                self.move_aside(&f.path)?;
            }
            // After a failure, too: half a line may be in it.
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
                // What was not synced may be gone, and a second sync would not tell: written again.
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
mod tests {
    use super::*;
    use crate::{
        disk::memory::{Fails, MemoryDisk},
        health::Health,
    };

    fn writer(disk: &MemoryDisk) -> Writer {
        let dir = PathBuf::from("/data/live");
        disk.create_dir(&dir).unwrap();
        Writer {
            disk: Arc::new(disk.clone()),
            health: DiskHealth::new(&dir, Health::default()),
            dir,
            files: HashMap::new(),
            unended: vec![],
            taken: Arc::default(),
            within: SYNC_WITHIN,
            at_disk: AtDisk::new(DiskHealth::new(Path::new("/data"), Health::default())),
        }
    }

    fn begin(w: &mut Writer, id: u64) -> Arc<AtomicBool> {
        let (path, given_up) = (w.dir.join(format!("{id}.jsonl")), Arc::<AtomicBool>::default());
        let order = Order::Begin {
            id,
            path,
            line: b"header\n".to_vec(),
            append_at: None,
            given_up: given_up.clone(),
        };
        take(w, order);
        assert!(w.write_all(false));
        given_up
    }

    fn take(w: &mut Writer, order: Order) {
        w.take(order, &mut vec![], &mut vec![]);
    }

    fn append(w: &mut Writer, id: u64, bytes: usize) {
        let line = vec![b'x'; bytes];
        w.taken.fetch_add(bytes, Ordering::Relaxed);
        take(w, Order::Append { id, line, now: false });
    }

    /// Nothing is due for longer than any call would notice, and nothing is held.
    fn costs_nothing(w: &mut Writer, id: u64) {
        assert_eq!(w.wait(None), RETRY, "the thread has something to do at once");
        let f = &w.files[&id];
        assert_eq!((f.waiting.capacity(), f.unsynced.capacity()), (0, 0));
        assert!(f.file.is_none());
        append(w, id, 100);
        assert!(w.files[&id].waiting.is_empty());
        assert_eq!(w.wait(None), RETRY);
    }

    #[test]
    fn a_journal_that_is_too_long_is_given_up_and_costs_nothing() {
        let disk = MemoryDisk::default();
        let mut w = writer(&disk);
        let given_up = begin(&mut w, 1);
        for _ in 0..=(MAX_JOURNAL / 8_000_000) {
            append(&mut w, 1, 8_000_000);
            assert!(w.write_all(false));
        }
        assert!(given_up.load(Ordering::Relaxed), "who makes the lines must know it");
        costs_nothing(&mut w, 1);
    }

    #[test]
    fn a_journal_whose_disk_fails_is_given_up_and_others_go_on() {
        let disk = MemoryDisk::default();
        let mut w = writer(&disk);
        let (first, second) = (begin(&mut w, 1), begin(&mut w, 2));
        disk.fail(Fails::All);
        append(&mut w, 1, MAX_WAITING);
        append(&mut w, 1, 1);
        append(&mut w, 2, 10);
        assert!(!w.write_all(true));
        disk.fail(Fails::None);
        assert!(w.write_all(true));
        assert!(first.load(Ordering::Relaxed) && !second.load(Ordering::Relaxed));
        assert_eq!(disk.read(&w.dir.join("2.jsonl")).unwrap().len(), "header\n".len() + 10);
        costs_nothing(&mut w, 1);
    }

    #[test]
    fn a_disk_that_nobody_waits_for_is_not_warned_of() {
        let disk = MemoryDisk::default();
        let mut w = writer(&disk);
        begin(&mut w, 1);
        disk.fail(Fails::All);
        append(&mut w, 1, 10);
        assert!(!w.write_all(true));
        assert!(w.health.is_warned_of(Topic::Journal));
        disk.fail(Fails::None);
        take(&mut w, Order::End { id: 1, keep: None });
        assert!(w.write_all(true));
        assert!(!w.health.is_warned_of(Topic::Journal), "its call is over");
    }

    #[test]
    fn a_journal_that_cannot_be_taken_away_is_taken_away_later() {
        let disk = MemoryDisk::default();
        let mut w = writer(&disk);
        begin(&mut w, 1);
        disk.fail(Fails::All);
        take(&mut w, Order::End { id: 1, keep: None });
        assert!(!w.write_all(false) && w.health.is_warned_of(Topic::Journal));
        assert!(disk.exists(&w.dir.join("1.jsonl")));
        disk.fail(Fails::None);
        assert!(w.write_all(false));
        assert!(!disk.exists(&w.dir.join("1.jsonl")), "the next start would replay it");
        assert!(!w.health.is_warned_of(Topic::Journal));
    }

    #[test]
    fn what_stands_where_a_new_journal_begins_is_moved_aside() {
        // Also if any step of it fails at first.
        for step in 0..6 {
            let disk = MemoryDisk::default();
            let mut w = writer(&disk);
            let path = w.dir.join("1.jsonl");
            disk.write_synced(&path, b"evidence").unwrap();
            disk.fail(Fails::Step(step));
            let (path, line) = (path.clone(), b"header\n".to_vec());
            let new = path.clone();
            let given_up = Arc::default();
            take(&mut w, Order::Begin { id: 1, path, line, append_at: None, given_up });
            w.write_all(false);
            disk.fail(Fails::None);
            assert!(w.write_all(true));
            assert_eq!(disk.read(&new).unwrap(), b"header\n", "step {step}");
            let aside: Vec<String> =
                disk.walk(&w.dir).unwrap().filter(|n| n.ends_with(".broken")).collect();
            let kept = disk.read(&w.dir.join(&aside[0])).unwrap();
            assert_eq!((aside.len(), kept.as_slice()), (1, &b"evidence"[..]), "step {step}");
        }
    }
}
