//! How much waits, and a warning before it is too much. Nothing is ever deleted for it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use super::outbox::Backlog;
use crate::health::{Health, Topic};

/// Warned of from this share of the cap on, and no more below the second.
const WARN_AT: f64 = 0.8;
const CALM_AT: f64 = 0.7;

/// From when on an operator wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BacklogLimit {
    pub records: u64,
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Count {
    records: AtomicU64,
    bytes: AtomicU64,
}

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub struct BacklogGauge {
    cap: BacklogLimit,
    health: Health,
    count: Arc<Count>,
}

impl BacklogGauge {
    pub fn new(cap: BacklogLimit, health: Health) -> Self {
        Self { cap, health, count: Arc::default() }
    }

    /// Takes a fresh count. What is sealed or sent while it is made may count wrongly until the next one.
    pub fn set(&self, backlog: Backlog) {
        self.count.records.store(backlog.records, Ordering::Relaxed);
        self.count.bytes.store(backlog.bytes, Ordering::Relaxed);
        self.look();
    }

    pub fn records(&self) -> u64 {
        self.count.records.load(Ordering::Relaxed)
    }

    pub fn more(&self, bytes: usize) {
        self.count.records.fetch_add(1, Ordering::Relaxed);
        self.count.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.look();
    }

    pub fn less(&self, bytes: u64) {
        let down = |n: &AtomicU64, by: u64| {
            // A count made meanwhile may have been without this one.
            let _ = n
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_sub(by)));
        };
        down(&self.count.records, 1);
        down(&self.count.bytes, bytes);
        self.look();
    }

    fn look(&self) {
        let records = self.count.records.load(Ordering::Relaxed);
        let bytes = self.count.bytes.load(Ordering::Relaxed);
        let share = (records as f64 / self.cap.records.max(1) as f64)
            .max(bytes as f64 / self.cap.bytes.max(1) as f64);
        if share >= WARN_AT {
            let what = format!("{records} records, {bytes} bytes wait for the endpoint");
            if self.health.warn(Topic::Backlog, what) {
                tracing::warn!(
                    records,
                    bytes,
                    max_records = self.cap.records,
                    max_bytes = self.cap.bytes,
                    "many records wait for the endpoint; none is deleted, see that it takes them \
                     and that the disk has room"
                );
            }
        } else if share < CALM_AT && self.health.clear(Topic::Backlog) {
            tracing::info!(records, "the backlog is no longer worth a warning");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_warns_early_by_count_or_size_and_calms_down_later() {
        let health = Health::default();
        let level = BacklogGauge::new(BacklogLimit { records: 10, bytes: 1_000 }, health.clone());
        level.set(Backlog { records: 7, bytes: 10 });
        assert_eq!(health.warning(), None);
        level.more(1);
        assert_eq!(
            health.warning().as_deref(),
            Some("backlog: 8 records, 11 bytes wait for the endpoint")
        );
        level.less(1);
        assert!(health.warning().is_some(), "not at once");
        level.less(1);
        assert_eq!(health.warning(), None);
        level.more(900);
        assert!(health.warning().is_some(), "few, but large");
        level.set(Backlog { records: 1, bytes: 1 });
        assert_eq!((level.records(), health.warning()), (1, None), "the operator took them");
    }
}
