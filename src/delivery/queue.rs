//! Which record is tried next, and when. Pure: time and dice are parameters.
//!
//! * While the endpoint answers, up to [`IN_FLIGHT`] are on their way: one of the new and one of the
//!   backlog in turn, so that neither waits for the other. The newest of the new goes first.
//! * A failure means that the endpoint may be down. From then on one record at a time probes for
//!   all, each time another one, after a wait that doubles; the first that is taken opens the way
//!   for all. A record that failed three times, or for which the endpoint asked for patience, waits by
//!   itself.
//! * Only so many ids are held; what does not fit stays on disk and is found when there is room. So
//!   memory does not depend on the backlog.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::retry;

/// Requests at the same time.
pub(super) const IN_FLIGHT: usize = 16;
/// Ids held in memory.
const WINDOW: usize = 2_000;
/// Places in it that are kept for new records.
const FOR_NEW: usize = 500;
/// While the endpoint is down, a new record is tried within this time.
const NEW_PROBES_WITHIN: Duration = Duration::from_secs(5);
/// From this attempt on a record waits by itself, also when the endpoint takes others.
const OWN_FAULT_FROM: u32 = 3;
/// Until a file that cannot be read is tried again.
const UNREADABLE_FOR: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Sealed in this run and not tried yet; the newest last.
    new: Vec<String>,
    /// From the disk.
    backlog: VecDeque<String>,
    /// Failed: by the time of the next attempt. The number keeps equal times apart.
    waiting: BTreeMap<(Instant, u64), Waiting>,
    next: u64,
    /// All ids above, and those on their way.
    held: HashSet<String>,
    on_their_way: usize,
    /// There may be records on disk that are not held.
    more_on_disk: bool,
    /// Some were sealed that did not fit, maybe behind where the disk is being walked.
    missed: bool,
    /// Takes from the backlog next.
    turn_of_backlog: bool,
    down: Option<Down>,
}

#[derive(Debug)]
struct Waiting {
    id: String,
    /// It failed with the endpoint, most likely, and not by itself: it goes when that answers.
    with_all: bool,
}

/// The endpoint does not answer as it should.
#[derive(Clone, Copy, Debug)]
struct Down {
    /// Probes that failed.
    failures: u32,
    probe_at: Instant,
    /// The endpoint asked for that much patience.
    asked: bool,
}

impl Queue {
    pub(super) fn new(more_on_disk: bool) -> Self {
        Self { more_on_disk, ..Self::default() }
    }

    /// A record was sealed. It is not kept waiting for long, even by an endpoint that was down for
    /// long.
    pub(super) fn sealed(&mut self, id: String, now: Instant) {
        if let Some(down) = self.down.as_mut().filter(|d| !d.asked) {
            down.probe_at = down.probe_at.min(now + NEW_PROBES_WITHIN);
        }
        if self.held.len() >= WINDOW {
            self.more_on_disk = true;
            self.missed = true;
        } else if self.held.insert(id.clone()) {
            self.new.push(id);
        }
    }

    /// How many of the backlog to look for now.
    pub(super) fn wants(&self) -> usize {
        if !self.more_on_disk || self.backlog.len() >= IN_FLIGHT {
            return 0;
        }
        (WINDOW - FOR_NEW).saturating_sub(self.held.len())
    }

    /// What was found on disk; `all`: there is no more.
    pub(super) fn found(&mut self, ids: Vec<String>, all: bool) {
        self.more_on_disk = !all || std::mem::take(&mut self.missed);
        for id in ids {
            if self.held.insert(id.clone()) {
                self.backlog.push_back(id);
            }
        }
    }

    #[cfg(test)]
    fn holds(&self, id: &str) -> bool {
        self.held.contains(id)
    }

    /// The operator wants all to be tried now.
    pub(super) fn look_again(&mut self) {
        self.more_on_disk = true;
        self.down = None;
        let waiting = std::mem::take(&mut self.waiting);
        self.backlog.extend(waiting.into_values().map(|w| w.id));
    }

    /// Nothing is to be sent any more.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && !self.more_on_disk
    }

    /// The endpoint did not answer last time.
    pub(super) fn is_down(&self) -> bool {
        self.down.is_some()
    }

    /// When something is due, if nothing happens before.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.held.len() == self.on_their_way {
            return None;
        }
        match self.down {
            Some(_) if self.on_their_way > 0 => None,
            Some(down) => Some(down.probe_at),
            None if self.on_their_way >= IN_FLIGHT => None,
            None => self.waiting.keys().next().map(|(at, _)| *at),
        }
    }

    /// The next record to be tried, if one is due.
    pub(super) fn next(&mut self, now: Instant) -> Option<String> {
        let id = match self.down {
            Some(down) if self.on_their_way > 0 || now < down.probe_at => return None,
            // Another one than last time, if there is any: it might be the record's fault.
            Some(_) => self
                .new
                .pop()
                .or_else(|| self.backlog.pop_front())
                .or_else(|| self.waiting.pop_first().map(|(_, w)| w.id)),
            None if self.on_their_way >= IN_FLIGHT => return None,
            None => self.next_of_all(now),
        }?;
        self.on_their_way += 1;
        Some(id)
    }

    fn next_of_all(&mut self, now: Instant) -> Option<String> {
        self.turn_of_backlog = !self.turn_of_backlog;
        let due = |q: &mut Self| {
            let first = q.waiting.first_entry().filter(|e| e.key().0 <= now)?;
            Some(first.remove().id)
        };
        let old = |q: &mut Self| due(q).or_else(|| q.backlog.pop_front());
        if self.turn_of_backlog {
            old(self).or_else(|| self.new.pop())
        } else {
            self.new.pop().or_else(|| old(self))
        }
    }

    /// Taken or refused, or its file is gone: the endpoint answers, and the record is done with.
    pub(super) fn done(&mut self, id: &str, answered: bool) {
        self.on_their_way = self.on_their_way.saturating_sub(1);
        self.held.remove(id);
        if answered {
            self.up();
        }
    }

    /// Its file cannot be read now; nothing is said of the endpoint.
    pub(super) fn unreadable(&mut self, id: String, now: Instant) {
        self.on_their_way = self.on_their_way.saturating_sub(1);
        self.wait(now + UNREADABLE_FOR, Waiting { id, with_all: false });
    }

    fn wait(&mut self, until: Instant, waiting: Waiting) {
        self.waiting.insert((until, self.next), waiting);
        self.next += 1;
    }

    /// Not taken this time. `attempts`: of this record, with this one. `dice`: uniform in 0..1.
    pub(super) fn failed(
        &mut self,
        id: String,
        attempts: u32,
        asked: Option<Duration>,
        now: Instant,
        dice: f64,
    ) -> Duration {
        let was_probe = self.on_their_way == 1;
        self.on_their_way = self.on_their_way.saturating_sub(1);
        let failures = match self.down {
            // Those that were on their way when it went down tell nothing new.
            Some(down) if !was_probe => down.failures,
            Some(down) => down.failures.saturating_add(1),
            None => 1,
        };
        let probe_at = now + retry::wait(failures, asked, dice);
        let probe_at = self.down.map_or(probe_at, |d| d.probe_at.max(probe_at));
        let asked_of_all = asked.is_some() || self.down.is_some_and(|d| d.asked);
        self.down = Some(Down { failures, probe_at, asked: asked_of_all });
        let wait = retry::wait(attempts, asked, dice);
        let with_all = asked.is_none() && attempts < OWN_FAULT_FROM;
        self.wait(now + wait, Waiting { id, with_all });
        wait
    }

    fn up(&mut self) {
        if self.down.take().is_some() {
            let waiting = std::mem::take(&mut self.waiting);
            for (at, w) in waiting {
                if w.with_all {
                    self.backlog.push_back(w.id);
                } else {
                    self.waiting.insert(at, w);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("old{i}")).collect()
    }

    fn drain(q: &mut Queue, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| q.next(now)).collect()
    }

    #[test]
    fn new_records_and_the_backlog_go_in_turn_and_the_newest_first() {
        let now = Instant::now();
        let mut q = Queue::new(true);
        q.found(ids(4), true);
        for id in ["a", "b", "c"] {
            q.sealed(id.into(), now);
        }
        assert_eq!(drain(&mut q, now), ["old0", "c", "old1", "b", "old2", "a", "old3"]);
        assert!(!q.is_empty(), "they are on their way");
    }

    #[test]
    fn only_so_many_are_on_their_way() {
        let now = Instant::now();
        let mut q = Queue::new(true);
        q.found(ids(100), true);
        assert_eq!(drain(&mut q, now).len(), IN_FLIGHT);
        q.done("old0", true);
        assert_eq!(drain(&mut q, now).len(), 1);
    }

    #[test]
    fn while_the_endpoint_is_down_one_record_after_the_other_probes_for_all() {
        let mut now = Instant::now();
        let mut q = Queue::new(true);
        q.found(ids(5), true);
        let first = q.next(now).unwrap();
        let wait = q.failed(first, 1, None, now, 1.0);
        assert_eq!((wait, q.next(now)), (Duration::from_secs(1), None));
        now += wait;
        let second = q.next(now).unwrap();
        assert_eq!(second, "old1", "another one");
        assert_eq!(q.next(now), None, "one at a time");
        q.failed(second, 1, None, now, 1.0);
        assert_eq!(q.due(), Some(now + Duration::from_secs(2)), "the probes' wait doubles");
        now += Duration::from_secs(2);
        let third = q.next(now).unwrap();
        q.done(&third, true);
        assert_eq!(drain(&mut q, now).len(), 4, "all at once, those that had failed too");
    }

    #[test]
    fn those_that_were_on_their_way_when_it_went_down_are_no_probes() {
        let now = Instant::now();
        let mut q = Queue::new(true);
        q.found(ids(16), true);
        for id in drain(&mut q, now) {
            q.failed(id, 1, None, now, 1.0);
        }
        // The last one was alone on its way, as a probe is.
        assert!(q.due().unwrap() <= now + Duration::from_secs(2));
    }

    #[test]
    fn a_record_that_only_the_endpoint_dislikes_holds_nobody_up() {
        let mut now = Instant::now();
        let mut q = Queue::new(true);
        q.found(vec!["poison".into()], true);
        let poison = q.next(now).unwrap();
        q.failed(poison, 1, None, now, 1.0);
        for n in 0..20 {
            // (Its own patience is five minutes at most.)
            q.sealed(format!("good{n}"), now);
            now += Duration::from_secs(400);
            let id = q.next(now).unwrap();
            if id == "poison" {
                q.failed(id, 2, None, now, 1.0);
                now += Duration::from_secs(400);
                let id = q.next(now).unwrap();
                assert_ne!(id, "poison", "the next probe is another one");
                q.done(&id, true);
            } else {
                q.done(&id, true);
            }
        }
    }

    #[test]
    fn a_record_that_failed_often_is_not_tried_whenever_another_is_taken() {
        let mut now = Instant::now();
        let mut q = Queue::new(true);
        q.found(ids(1), true);
        let id = q.next(now).unwrap();
        q.failed(id, 7, None, now, 1.0);
        q.sealed("good".into(), now);
        now += Duration::from_secs(1);
        assert_eq!(q.next(now).as_deref(), Some("good"));
        q.done("good", true);
        assert_eq!(q.next(now), None, "it has its own minute to wait");
        assert_eq!(q.due(), Some(now + Duration::from_secs(63)));
    }

    #[test]
    fn a_new_record_is_tried_soon_however_long_the_endpoint_was_down() {
        let mut now = Instant::now();
        let mut q = Queue::new(true);
        q.found(ids(1), true);
        for n in 1..12 {
            let id = q.next(now).unwrap();
            q.failed(id, n, None, now, 1.0);
            now = q.due().unwrap();
        }
        let id = q.next(now).unwrap();
        q.failed(id, 12, None, now, 1.0);
        assert_eq!(q.due(), Some(now + Duration::from_secs(300)));
        q.sealed("new".into(), now);
        assert_eq!(q.due(), Some(now + NEW_PROBES_WITHIN));
    }

    #[test]
    fn what_did_not_fit_is_looked_for_again() {
        let now = Instant::now();
        let mut q = Queue::new(true);
        q.found(ids(1_400), false);
        for n in 0..700 {
            q.sealed(format!("new{n}"), now);
        }
        q.found(vec![], true);
        assert!(q.more_on_disk, "some of the new ones were behind the walk");
        q.found(vec![], true);
        assert!(!q.more_on_disk);
    }

    #[test]
    fn patience_that_is_asked_for_is_given() {
        let now = Instant::now();
        let mut q = Queue::new(true);
        q.found(ids(1), true);
        let id = q.next(now).unwrap();
        q.failed(id, 1, Some(Duration::from_secs(40)), now, 0.5);
        assert_eq!(q.due(), Some(now + Duration::from_secs(40)));
    }

    #[test]
    fn memory_does_not_depend_on_the_backlog() {
        let mut q = Queue::new(false);
        for n in 0..100_000 {
            q.sealed(format!("id{n}"), Instant::now());
        }
        assert_eq!(q.held.len(), WINDOW);
        assert!(q.more_on_disk && !q.is_empty());
    }

    proptest! {
        /// Whatever the endpoint does, every record is tried until it is done with, each at most
        /// once at a time.
        #[test]
        fn nothing_is_forgotten(
            old in 0usize..60,
            new in 0usize..60,
            answers in prop::collection::vec(0u8..3, 0..400),
            dice in 0.0f64..1.0,
        ) {
            let mut now = Instant::now();
            let mut q = Queue::new(true);
            let mut disk: HashSet<String> = ids(old).into_iter().collect();
            let mut answers = answers.into_iter();
            let mut on_way: Vec<String> = vec![];
            for n in 0..new {
                let id = format!("new{n}");
                disk.insert(id.clone());
                q.sealed(id, now);
            }
            for _ in 0..5_000 {
                if disk.is_empty() {
                    break;
                }
                let wants = q.wants();
                if wants > 0 {
                    let found: Vec<_> = disk.iter().filter(|id| !q.holds(id)).cloned().collect();
                    let all = found.len() <= wants;
                    q.found(found.into_iter().take(wants).collect(), all);
                }
                while let Some(id) = q.next(now) {
                    prop_assert!(!on_way.contains(&id), "{id} twice on its way");
                    on_way.push(id);
                }
                prop_assert!(on_way.len() <= IN_FLIGHT);
                match on_way.pop() {
                    Some(id) => match answers.next() {
                        Some(1) => { q.failed(id, 3, None, now, dice); }
                        _ => { disk.remove(&id); q.done(&id, true); }
                    },
                    None => now = q.due().unwrap_or(now + Duration::from_secs(1)),
                }
            }
            prop_assert!(disk.is_empty(), "{} were never sent", disk.len());
        }
    }
}
