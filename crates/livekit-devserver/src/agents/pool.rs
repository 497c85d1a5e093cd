//! Which worker can take a job.
//!
//! In: registrations, loads, answers. Out: one worker of a pool, drawn at random with its free capacity as
//! weight. A pool is (agent name, namespace, job type, deployment). Must never offer a job to a pool whose
//! workers all report a load of 0.7 or more, or FULL (docs/worker-protocol.md §5.2).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use livekit_protocol::{self as lk, server_message::Message as Out};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::oneshot;

use crate::outbox::Outbox;

/// A pool gets offers only if one of its workers is below this load.
const TARGET_LOAD: f32 = 0.7;

/// Which workers a job may go to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PoolKey {
    pub(crate) agent_name: String,
    pub(crate) deployment: String,
    pub(crate) kind: i32,
    pub(crate) namespace: String,
}

/// One registered worker.
pub(super) struct Worker {
    pub(super) id: String,
    /// The API key of its own token; the key's secret signs its job tokens.
    pub(super) api_key: String,
    pub(super) out: Outbox<Out>,
    pub(super) pool: PoolKey,
    pub(super) permissions: Option<lk::ParticipantPermission>,
    pub(super) load: f32,
    pub(super) available: bool,
    /// Offers that it has not answered, by job.
    pub(super) offered: HashMap<String, oneshot::Sender<lk::AvailabilityResponse>>,
    /// Jobs that it has taken and not finished.
    pub(super) jobs: BTreeSet<String>,
}

/// A worker as tests see it.
#[derive(Debug, Clone, PartialEq)]
pub struct WorkerState {
    /// `AW_…`
    pub id: String,
    /// The agent name of its registration; may be empty.
    pub agent_name: String,
    /// The load it last reported, 0..1.
    pub load: f32,
    /// Number of jobs that it has taken and not finished.
    pub jobs: usize,
}

/// All registered workers.
#[derive(Default)]
pub(crate) struct Workers(Mutex<BTreeMap<String, Worker>>);

impl Workers {
    fn locked(&self) -> MutexGuard<'_, BTreeMap<String, Worker>> {
        self.0.lock()
    }

    pub(super) fn add(&self, worker: Worker) {
        self.locked().insert(worker.id.clone(), worker);
    }

    pub(super) fn remove(&self, id: &str) {
        self.locked().remove(id);
    }

    /// Runs `f` on one worker, if it is still registered.
    pub(super) fn with<T>(&self, id: &str, f: impl FnOnce(&mut Worker) -> T) -> Option<T> {
        self.locked().get_mut(id).map(f)
    }

    pub(crate) fn list(&self) -> Vec<WorkerState> {
        let state = |w: &Worker| WorkerState {
            id: w.id.clone(),
            agent_name: w.pool.agent_name.clone(),
            load: w.load,
            jobs: w.jobs.len(),
        };
        self.locked().values().map(state).collect()
    }

    /// The pools that a dispatch reaches: one for each namespace (docs/worker-protocol.md §2.3).
    pub(super) fn pools(&self, agent_name: &str, deployment: &str, kind: i32) -> BTreeSet<PoolKey> {
        let workers = self.locked();
        let keys = workers.values().map(|w| &w.pool);
        keys.filter(|k| k.agent_name == agent_name && k.deployment == deployment && k.kind == kind)
            .cloned()
            .collect()
    }

    /// A worker of the pool that is not in `tried`.
    pub(super) fn choose(&self, pool: &PoolKey, tried: &BTreeSet<String>) -> Option<String> {
        let workers = self.locked();
        let open: Vec<(&str, f32)> = workers
            .values()
            .filter(|w| w.pool == *pool && w.available && !tried.contains(&w.id))
            .map(|w| (w.id.as_str(), w.load))
            .collect();
        draw(&open, tried.is_empty(), rand::random()).map(str::to_owned)
    }
}

/// Draws a worker with the weight 1 − load. The target load counts for the pool as a whole, and only before
/// the first offer: an overloaded worker can be drawn if another worker of the pool has capacity. `at` is
/// in 0..1.
fn draw<'a>(workers: &[(&'a str, f32)], first: bool, at: f32) -> Option<&'a str> {
    if first && !workers.iter().any(|(_, load)| *load < TARGET_LOAD) {
        return None;
    }
    let weight = |load: f32| (1.0 - load).max(0.0);
    let mut at = at * workers.iter().map(|(_, load)| weight(*load)).sum::<f32>();
    for (id, load) in workers {
        at -= weight(*load);
        if at < 0.0 {
            return Some(id);
        }
    }
    workers.iter().rev().find(|(_, load)| weight(*load) > 0.0).map(|(id, _)| *id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_worker_at_seven_tenths_gets_nothing() {
        assert_eq!(draw(&[("a", 0.7)], true, 0.5), None);
        assert_eq!(draw(&[("a", 0.69)], true, 0.5), Some("a"));
        assert_eq!(draw(&[], true, 0.5), None);
    }

    #[test]
    fn a_busy_worker_can_be_drawn_where_a_sibling_has_room() {
        let workers = [("busy", 0.8), ("idle", 0.0)];
        assert_eq!(draw(&workers, true, 0.1), Some("busy"));
        assert_eq!(draw(&workers, true, 0.5), Some("idle"));
        assert_eq!(draw(&workers, true, 1.0), Some("idle"));
    }

    #[test]
    fn jobs_spread_by_what_is_left() {
        let workers = [("a", 0.5), ("b", 0.0)];
        let share =
            (0..3000).filter(|i| draw(&workers, true, *i as f32 / 3000.0) == Some("a")).count();
        assert!((990..=1010).contains(&share), "{share}");
    }

    #[test]
    fn after_a_refusal_only_capacity_counts() {
        assert_eq!(draw(&[("busy", 0.9)], false, 0.5), Some("busy"));
        assert_eq!(draw(&[("full", 1.0)], false, 0.5), None);
    }
}
