//! The one place in which work on the disk waits for the disk: bounded, and quick to say no.
//!
//! A disk that hangs keeps its threads for as long as it hangs. The runtime has 512 of them, and resolves
//! names on the same ones: work without a bound would in the end stop posts and joins too. So only a few
//! are at the disk at a time, and while it hangs nobody waits behind them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{sync::Semaphore, task::spawn_blocking, time::timeout};

use super::DiskHealth;

/// Threads at the disk at the same time.
const AT_ONCE: usize = 8;
/// A disk that takes longer hangs.
const WITHIN: Duration = Duration::from_secs(5);
/// While it hangs, one piece of work in this time goes to see.
const TRY_EVERY: Duration = Duration::from_secs(10);
const TOPIC: &str = "disk";

/// Cheap to clone; all clones share the places.
#[derive(Clone)]
pub struct DiskWork {
    places: Arc<Semaphore>,
    /// Since when the disk hangs, as far as known: the last time that work was sent to see.
    hangs: Arc<Mutex<Option<Instant>>>,
    health: DiskHealth,
}

impl DiskWork {
    pub fn new(health: DiskHealth) -> Self {
        Self { places: Arc::new(Semaphore::new(AT_ONCE)), hangs: Arc::default(), health }
    }

    /// Does work that blocks; `None` if the disk hangs, or the work broke. Work that hangs is not undone:
    /// it may still be done later.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        if !self.may_try() {
            return None;
        }
        let places = self.places.clone();
        let Ok(Ok(place)) = timeout(WITHIN, places.acquire_owned()).await else {
            self.hung();
            return None;
        };
        let all = self.clone();
        let task = spawn_blocking(move || {
            let done = work();
            drop(place);
            all.done();
            done
        });
        match timeout(WITHIN, task).await {
            Ok(done) => done.ok(),
            Err(_) => {
                self.hung();
                None
            }
        }
    }

    /// Work that may take long and that nobody waits for. It is left out while the disk hangs.
    pub fn start(&self, work: impl FnOnce() + Send + 'static) {
        let Ok(place) = self.places.clone().try_acquire_owned() else { return };
        if self.hangs.lock().is_some() {
            return;
        }
        drop(spawn_blocking(move || {
            work();
            drop(place);
        }));
    }

    fn may_try(&self) -> bool {
        let mut hangs = self.hangs.lock();
        match *hangs {
            Some(tried) if tried.elapsed() < TRY_EVERY => false,
            Some(_) if self.places.available_permits() == 0 => false,
            Some(_) => {
                *hangs = Some(Instant::now());
                true
            }
            None => true,
        }
    }

    fn hung(&self) {
        self.hangs.lock().get_or_insert_with(Instant::now);
        self.health.hangs(TOPIC, WITHIN);
    }

    /// The disk has answered, be it with an error.
    fn done(&self) {
        if self.hangs.lock().take().is_some() {
            self.health.worked(TOPIC);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, sync::mpsc};

    use super::*;
    use crate::health::Health;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_disk_that_hangs_takes_few_threads_and_keeps_nobody_waiting() {
        let health = Health::default();
        let work = DiskWork::new(DiskHealth::new(Path::new("/data"), health.clone()));
        assert_eq!(work.run(|| 7).await, Some(7));
        let (well, hangs) = mpsc::channel::<()>();
        let hangs = Arc::new(Mutex::new(hangs));
        let stuck = |work: &DiskWork| {
            let (work, hangs) = (work.clone(), hangs.clone());
            tokio::spawn(async move { work.run(move || hangs.lock().recv().is_ok()).await })
        };
        let all: Vec<_> = (0..200).map(|_| stuck(&work)).collect();
        for one in all {
            assert_eq!(one.await.unwrap(), None, "the disk hangs");
        }
        assert!(health.warning().unwrap().starts_with("disk: the disk hangs"), "told");
        assert_eq!(work.places.available_permits(), 0, "only the first few are at the disk");
        let began = Instant::now();
        for _ in 0..1_000 {
            assert_eq!(work.run(|| 7).await, None);
        }
        assert!(began.elapsed() < WITHIN, "each of a thousand waited");
        drop(well);
        while health.warning().is_some() {
            tokio::task::yield_now().await;
        }
        assert_eq!(work.run(|| 7).await, Some(7), "well again");
    }

    #[tokio::test]
    async fn work_that_breaks_is_no_disk_that_hangs() {
        let health = Health::default();
        let work = DiskWork::new(DiskHealth::new(Path::new("/data"), health.clone()));
        assert_eq!(work.run(|| -> u8 { panic!("on purpose") }).await, None);
        assert_eq!((health.warning(), work.run(|| 1).await), (None, Some(1)));
    }
}
