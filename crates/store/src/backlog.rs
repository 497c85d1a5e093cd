//! Counts the records that wait for the endpoint, and warns before they are too many. No record is
//! ever deleted because of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;

use super::outbox::Backlog;
use crate::health::{Health, Topic};

/// The warning begins at this share of the limit.
const WARN_AT: f64 = 0.8;
/// The warning ends below this share, so that it does not flicker.
const CALM_AT: f64 = 0.7;

/// The size from which the backlog is too large.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BacklogLimit {
    pub records: u64,
    pub bytes: u64,
}

#[derive(Debug, Default)]
struct Count {
    records: AtomicU64,
    bytes: AtomicU64,
    dead: AtomicU64,
    /// See [`Backlog::oldest`]. It may be delivered before the next fresh count, and others still wait: then it is
    /// too old.
    oldest: Mutex<Option<SystemTime>>,
}

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub struct BacklogGauge {
    limit: BacklogLimit,
    health: Health,
    count: Arc<Count>,
}

impl BacklogGauge {
    pub fn new(limit: BacklogLimit, health: Health) -> Self {
        Self { limit, health, count: Arc::default() }
    }

    /// Sets a fresh count. A record that is sealed or sent during the counting may count wrongly until
    /// the next count.
    pub fn set(&self, backlog: Backlog) {
        self.count.records.store(backlog.records, Ordering::Relaxed);
        self.count.bytes.store(backlog.bytes, Ordering::Relaxed);
        self.count.dead.store(backlog.dead, Ordering::Relaxed);
        *self.count.oldest.lock() = backlog.oldest;
        self.warn_or_clear();
    }

    pub fn records(&self) -> u64 {
        self.count.records.load(Ordering::Relaxed)
    }

    pub fn bytes(&self) -> u64 {
        self.count.bytes.load(Ordering::Relaxed)
    }

    /// Records that the endpoint refused.
    pub fn dead(&self) -> u64 {
        self.count.dead.load(Ordering::Relaxed)
    }

    /// For how long the oldest record has waited; 0 if none waits.
    pub fn oldest(&self) -> Duration {
        let oldest = *self.count.oldest.lock();
        oldest.and_then(|at| SystemTime::now().duration_since(at).ok()).unwrap_or_default()
    }

    /// A record is waiting no more because it was refused.
    pub fn refused(&self) {
        self.count.dead.fetch_add(1, Ordering::Relaxed);
    }

    /// A record of this size was sealed.
    pub fn more(&self, bytes: usize) {
        self.count.records.fetch_add(1, Ordering::Relaxed);
        self.count.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.count.oldest.lock().get_or_insert_with(SystemTime::now);
        self.warn_or_clear();
    }

    /// A record of this size was delivered or refused.
    pub fn less(&self, bytes: u64) {
        let down = |n: &AtomicU64, by: u64| {
            // A fresh count made meanwhile may not include this record.
            let _ = n
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| Some(n.saturating_sub(by)));
        };
        down(&self.count.records, 1);
        down(&self.count.bytes, bytes);
        if self.records() == 0 {
            *self.count.oldest.lock() = None;
        }
        self.warn_or_clear();
    }

    fn warn_or_clear(&self) {
        let records = self.count.records.load(Ordering::Relaxed);
        let bytes = self.count.bytes.load(Ordering::Relaxed);
        let share = (records as f64 / self.limit.records.max(1) as f64)
            .max(bytes as f64 / self.limit.bytes.max(1) as f64);
        if share >= WARN_AT {
            let what = format!("{records} records, {bytes} bytes wait for the endpoint");
            if self.health.warn(Topic::Backlog, what) {
                tracing::warn!(
                    records,
                    bytes,
                    max_records = self.limit.records,
                    max_bytes = self.limit.bytes,
                    "many records wait for the endpoint; none is deleted, see that it takes them \
                     and that the disk has room"
                );
            }
        } else if share < CALM_AT && self.health.clear(Topic::Backlog) {
            tracing::info!(records, "few records wait again");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warning_begins_early_by_count_or_size_and_ends_later() {
        let health = Health::default();
        let gauge = BacklogGauge::new(BacklogLimit { records: 10, bytes: 1_000 }, health.clone());
        gauge.set(Backlog { records: 7, bytes: 10, ..Backlog::default() });
        assert_eq!(health.warning(), None);
        gauge.more(1);
        assert_eq!(
            health.warning().as_deref(),
            Some("backlog: 8 records, 11 bytes wait for the endpoint")
        );
        gauge.less(1);
        assert!(health.warning().is_some(), "not at once");
        gauge.less(1);
        assert_eq!(health.warning(), None);
        gauge.more(900);
        assert!(health.warning().is_some(), "few, but large");
        gauge.set(Backlog { records: 1, bytes: 1, ..Backlog::default() });
        assert_eq!((gauge.records(), health.warning()), (1, None), "the operator took them");
    }
}
