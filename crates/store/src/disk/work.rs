//! Runs all work that waits for the disk: a bounded number at a time, and none while the disk hangs.
//!
//! A hanging disk blocks the threads that wait for it. The runtime has 512 such threads and also resolves
//! names on them: without a bound, posts and joins would stop in the end too. So only a few threads use
//! the disk at a time, and while it hangs no other work waits behind them.
//!
//! Work that takes too long means that the disk hangs; only a synced write shows that it works again. A
//! read does not: it may come from a cache. And one file that never answers is not the whole disk.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
    time::timeout,
};

use super::{Disk, DiskHealth};
use crate::health::Topic;

/// Threads that write at the same time.
const WRITES: usize = 8;
/// Threads that read at the same time: apart, so that unreadable files do not delay a seal.
const READS: usize = 4;
/// Threads for background work, whose end is not awaited.
const BACKGROUND: usize = 2;
/// Work that takes longer means that the disk hangs.
const WITHIN: Duration = Duration::from_secs(5);
/// How often a write probes a hanging disk.
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// Cheap to clone; all clones share the limits.
#[derive(Clone)]
pub struct DiskWork(Arc<Shared>);

struct Shared {
    writes: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    background: Arc<Semaphore>,
    disk: Arc<dyn Disk>,
    /// The file that a probe writes.
    probe: PathBuf,
    health: DiskHealth,
    /// `Some` while the disk hangs: when it was probed last.
    hangs: Mutex<Option<Instant>>,
    /// A probe is running.
    probing: AtomicBool,
}

impl DiskWork {
    /// `folder`: where a probe may write a file.
    pub fn new(disk: Arc<dyn Disk>, health: DiskHealth, folder: &std::path::Path) -> Self {
        let places = |n| Arc::new(Semaphore::new(n));
        Self(Arc::new(Shared {
            writes: places(WRITES),
            reads: places(READS),
            background: places(BACKGROUND),
            disk,
            probe: folder.join(".probe"),
            health,
            hangs: Mutex::default(),
            probing: AtomicBool::new(false),
        }))
    }

    /// Runs work that writes. `None` if the disk hangs or is too slow, or if the work panicked. Work that
    /// has begun is not cancelled: it may still finish later.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.run(&self.0.writes, work).await
    }

    /// Runs work that only reads; see [`Self::write`].
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.run(&self.0.reads, work).await
    }

    async fn run<T: Send + 'static>(
        &self,
        places: &Arc<Semaphore>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if self.hangs() {
            return None;
        }
        // A long wait for a place does not mean that the disk hangs: there may be too much work.
        let place = timeout(WITHIN, places.clone().acquire_owned()).await.ok()?.ok()?;
        if self.hangs() {
            return None;
        }
        let task = spawn_blocking(move || run_in(place, work));
        match timeout(WITHIN, task).await {
            Ok(done) => done.ok(),
            Err(_) => {
                self.0.hangs.lock().get_or_insert_with(Instant::now);
                self.0.health.hangs(Topic::Outbox);
                None
            }
        }
    }

    /// Starts background work, which may take long. False if it is not started: the disk hangs, or
    /// enough background work is running.
    pub fn start(&self, work: impl FnOnce() + Send + 'static) -> bool {
        if self.hangs() {
            return false;
        }
        let Ok(place) = self.0.background.clone().try_acquire_owned() else { return false };
        drop(spawn_blocking(move || run_in(place, work)));
        true
    }

    /// Whether the disk hangs. Starts a probe if one is due.
    fn hangs(&self) -> bool {
        let mut hangs = self.0.hangs.lock();
        let Some(probed) = *hangs else { return false };
        if probed.elapsed() >= PROBE_EVERY && !self.0.probing.swap(true, Ordering::AcqRel) {
            *hangs = Some(Instant::now());
            let all = self.clone();
            drop(spawn_blocking(move || all.probe()));
        }
        true
    }

    /// Writes and syncs a file. Any answer counts, also an error: a full disk does not hang.
    fn probe(&self) {
        let _ = self.0.disk.write_synced(&self.0.probe, b"");
        let _ = self.0.disk.remove(&self.0.probe);
        *self.0.hangs.lock() = None;
        self.0.probing.store(false, Ordering::Release);
        self.0.health.answers(Topic::Outbox);
    }
}

fn run_in<T>(place: OwnedSemaphorePermit, work: impl FnOnce() -> T) -> T {
    let done = work();
    drop(place);
    done
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::mpsc};

    use super::*;
    use crate::{disk::memory::MemoryDisk, health::Health};

    fn work(health: &Health) -> (DiskWork, MemoryDisk) {
        let (disk, dir) = (MemoryDisk::default(), Path::new("/data"));
        disk.create_dir(dir).unwrap();
        let disk_health = DiskHealth::new(dir, health.clone());
        (DiskWork::new(Arc::new(disk.clone()), disk_health, dir), disk)
    }

    /// Work that waits until its sender is gone.
    fn stuck() -> (mpsc::Sender<()>, impl Fn() -> bool + Clone + Send + 'static) {
        let (well, hangs) = mpsc::channel::<()>();
        let hangs = Arc::new(Mutex::new(hangs));
        (well, move || hangs.lock().recv().is_ok())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_hanging_disk_takes_few_threads_and_delays_no_other_work() {
        let health = Health::default();
        let (work, disk) = work(&health);
        assert_eq!(work.write(|| 7).await, Some(7));
        let (well, wait) = stuck();
        // Probes do not come back either.
        let hung = disk.hang();
        let all: Vec<_> = (0..200)
            .map(|_| {
                let (work, wait) = (work.clone(), wait.clone());
                tokio::spawn(async move { work.write(wait).await })
            })
            .collect();
        for one in all {
            assert_eq!(one.await.unwrap(), None, "the disk hangs");
        }
        assert!(health.warning().unwrap().starts_with("disk: the disk hangs"), "reported");
        assert_eq!(work.0.writes.available_permits(), 0, "only the first few are at the disk");
        let began = Instant::now();
        for _ in 0..1_000 {
            assert_eq!(work.write(|| 7).await, None);
            assert_eq!(work.read(|| 7).await, None, "no read begins either");
            assert!(!work.start(|| ()));
        }
        assert!(began.elapsed() < WITHIN, "some of the thousand waited");
        drop((well, hung));
        while work.write(|| 7).await.is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(health.warning(), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_file_that_never_answers_is_not_a_hanging_disk() {
        let health = Health::default();
        let (work, _disk) = work(&health);
        let (_never, wait) = stuck();
        // All places of the readers stay taken.
        let mut all = vec![];
        for _ in 0..READS {
            let (work, wait) = (work.clone(), wait.clone());
            all.push(tokio::spawn(async move { work.read(wait).await }));
        }
        for one in all {
            assert_eq!(one.await.unwrap(), None);
        }
        while work.write(|| 7).await.is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(health.warning(), None, "a synced write shows that the disk works");
    }

    #[tokio::test]
    async fn work_that_panics_does_not_mean_that_the_disk_hangs() {
        let health = Health::default();
        let (work, _disk) = work(&health);
        assert_eq!(work.write(|| -> u8 { panic!("on purpose") }).await, None);
        assert_eq!((health.warning(), work.write(|| 1).await), (None, Some(1)));
    }
}
