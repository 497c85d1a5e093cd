//! The one place in which work on the disk waits for the disk: bounded, and quick to say no.
//!
//! A disk that hangs keeps its threads for as long as it hangs. The runtime has 512 of them, and resolves
//! names on the same ones: work without a bound would in the end stop posts and joins too. So only a few
//! are at the disk at a time, and while it hangs nobody waits behind them.
//!
//! Work that takes too long says that the disk hangs; only a write that is synced says that it is well
//! again. Neither a read from a cache nor one file that never answers decides for all.

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
/// Threads that read at the same time: apart, so that files that cannot be read hold up no seal.
const READS: usize = 4;
/// Threads for what nobody waits for.
const BACKGROUND: usize = 2;
/// Work that takes longer hangs.
const WITHIN: Duration = Duration::from_secs(5);
/// While the disk hangs, a write goes to see so often.
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// Cheap to clone; all clones share the places.
#[derive(Clone)]
pub struct DiskWork(Arc<Shared>);

struct Shared {
    writes: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    background: Arc<Semaphore>,
    disk: Arc<dyn Disk>,
    /// What a probe writes.
    probe: PathBuf,
    health: DiskHealth,
    /// The disk hangs, and when it was probed last.
    hangs: Mutex<Option<Instant>>,
    /// A probe is at the disk.
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

    /// Does work that writes; `None` if the disk hangs or is too slow, or the work broke. Work that was
    /// begun is not undone: it may still be done later.
    pub async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        self.run(&self.0.writes, work).await
    }

    /// The same for work that only reads.
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
        // Many at once are no disk that hangs, though too many for this one.
        let place = timeout(WITHIN, places.clone().acquire_owned()).await.ok()?.ok()?;
        if self.hangs() {
            return None;
        }
        let task = spawn_blocking(move || with(place, work));
        match timeout(WITHIN, task).await {
            Ok(done) => done.ok(),
            Err(_) => {
                self.0.hangs.lock().get_or_insert_with(Instant::now);
                self.0.health.hangs(Topic::Outbox);
                None
            }
        }
    }

    /// Work that may take long and that nobody waits for. False if it was left out: the disk hangs, or
    /// enough of it is going on.
    pub fn start(&self, work: impl FnOnce() + Send + 'static) -> bool {
        if self.hangs() {
            return false;
        }
        let Ok(place) = self.0.background.clone().try_acquire_owned() else { return false };
        drop(spawn_blocking(move || with(place, work)));
        true
    }

    /// Whether the disk hangs. Now and then a write is sent to see.
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

    /// Writes and syncs a file; that it can be is what counts, and a disk that is full answers too.
    fn probe(&self) {
        let _ = self.0.disk.write_synced(&self.0.probe, b"");
        let _ = self.0.disk.remove(&self.0.probe);
        *self.0.hangs.lock() = None;
        self.0.probing.store(false, Ordering::Release);
        self.0.health.answers(Topic::Outbox);
    }
}

fn with<T>(place: OwnedSemaphorePermit, work: impl FnOnce() -> T) -> T {
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
    async fn a_disk_that_hangs_takes_few_threads_and_keeps_nobody_waiting() {
        let health = Health::default();
        let (work, disk) = work(&health);
        assert_eq!(work.write(|| 7).await, Some(7));
        let (well, wait) = stuck();
        // Nothing written comes back either.
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
        assert!(health.warning().unwrap().starts_with("disk: the disk hangs"), "told");
        assert_eq!(work.0.writes.available_permits(), 0, "only the first few are at the disk");
        let began = Instant::now();
        for _ in 0..1_000 {
            assert_eq!(work.write(|| 7).await, None);
            assert_eq!(work.read(|| 7).await, None, "a cache says nothing of the disk");
            assert!(!work.start(|| ()));
        }
        assert!(began.elapsed() < WITHIN, "each of a thousand waited");
        drop((well, hung));
        while work.write(|| 7).await.is_none() {
            tokio::task::yield_now().await;
        }
        assert_eq!(health.warning(), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_file_that_never_answers_is_not_the_disk() {
        let health = Health::default();
        let (work, _disk) = work(&health);
        let (_never, wait) = stuck();
        // Longer than it takes: all places of the readers are gone for good.
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
        assert_eq!(health.warning(), None, "a write that was synced says that it is well");
    }

    #[tokio::test]
    async fn work_that_breaks_is_no_disk_that_hangs() {
        let health = Health::default();
        let (work, _disk) = work(&health);
        assert_eq!(work.write(|| -> u8 { panic!("on purpose") }).await, None);
        assert_eq!((health.warning(), work.write(|| 1).await), (None, Some(1)));
    }
}
