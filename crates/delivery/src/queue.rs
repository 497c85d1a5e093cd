//! Which record is tried next, and when. Pure: time and dice are parameters.
//!
//! * While the endpoint answers, up to [`IN_FLIGHT`] are on their way: one of the new and one of the
//!   backlog in turn, so that neither waits for the other. The newest of the new goes first.
//! * Of the first records of a run one goes ahead, as the endpoint may be down.
//! * A failure means that the endpoint may be down. From then on one record at a time probes for
//!   all, each time another one, after a wait that doubles; the first that is taken opens the way
//!   for all. A record that failed three times, or for which the endpoint asked for patience, waits by
//!   itself.
//! * A new record has its first attempt within [`FIRST_WITHIN`] of its end, whatever the probes wait
//!   for: who ends a call wants to see it. Only a `Retry-After` that still runs delays it.
//! * Only so many ids are held; what does not fit stays on disk and is found when there is room. So
//!   memory does not depend on the backlog. A record that is not on the disk is always held.

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
const FIRST_WITHIN: Duration = Duration::from_secs(5);
/// From this attempt on a record waits by itself, also when the endpoint takes others.
const OWN_FAULT_FROM: u32 = 3;
/// Until a file that cannot be read is tried again.
const UNREADABLE_FOR: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Ended in this run and not tried yet, each with when it must be at the latest; the newest last.
    new: VecDeque<(Instant, String)>,
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
#[derive(Clone, Debug)]
struct Down {
    /// Probes that failed.
    failures: u32,
    /// When the next probe goes.
    probe_at: Instant,
    /// The record that probes now.
    probe: Option<String>,
    /// The endpoint asked for patience until then.
    asked_until: Option<Instant>,
}

impl Down {
    /// Nothing goes before; `None` if nothing was asked for, or it is over.
    fn patience(&self, now: Instant) -> Option<Instant> {
        self.asked_until.filter(|until| now < *until)
    }
}

/// An attempt that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    /// Attempts at this record, with this one.
    pub(super) attempts: u32,
    /// The patience that the endpoint asked for.
    pub(super) asked: Option<Duration>,
    /// Uniform in 0..1.
    pub(super) dice: f64,
}

impl Queue {
    /// Nothing is known of the endpoint yet: one record goes first.
    pub(super) fn new(more_on_disk: bool, now: Instant) -> Self {
        let down = Down { failures: 0, probe_at: now, probe: None, asked_until: None };
        Self { more_on_disk, down: Some(down), ..Self::default() }
    }

    /// A record was sealed.
    pub(super) fn sealed(&mut self, id: String, now: Instant) {
        if self.held.len() >= WINDOW {
            self.more_on_disk = true;
            self.missed = true;
            // An old one is found on the disk again as well.
            let Some(old) = self.backlog.pop_back() else { return };
            self.held.remove(&old);
        }
        self.add_new(id, now);
    }

    /// A record could not be sealed: nobody finds it on the disk, so it is held in any case.
    pub(super) fn unsealed(&mut self, id: String, now: Instant) {
        self.add_new(id, now);
    }

    fn add_new(&mut self, id: String, now: Instant) {
        if self.held.insert(id.clone()) {
            self.new.push_back((now + FIRST_WITHIN, id));
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
        self.down.as_ref().is_some_and(|d| d.failures > 0)
    }

    /// When something is due, if nothing happens before.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.held.len() == self.on_their_way || self.on_their_way >= IN_FLIGHT {
            return None;
        }
        let Some(down) = &self.down else {
            return self.waiting.keys().next().map(|(at, _)| *at);
        };
        let probe = down.probe.is_none().then(|| self.probe_due(down)).flatten();
        let first = self.new.front().map(|(due, _)| *due);
        let due = probe.into_iter().chain(first).min()?;
        Some(down.asked_until.map_or(due, |until| until.max(due)))
    }

    /// When a record is there that may probe.
    fn probe_due(&self, down: &Down) -> Option<Instant> {
        let any = !self.new.is_empty()
            || !self.backlog.is_empty()
            || self.waiting.values().any(|w| w.with_all);
        let own = self.waiting.keys().next().map(|(at, _)| down.probe_at.max(*at));
        if any { Some(down.probe_at) } else { own }
    }

    /// The next record to be tried, if one is due.
    pub(super) fn next(&mut self, now: Instant) -> Option<String> {
        if self.on_their_way >= IN_FLIGHT {
            return None;
        }
        let id =
            if self.down.is_some() { self.next_while_down(now) } else { self.next_of_all(now) };
        let id = id?;
        self.on_their_way += 1;
        Some(id)
    }

    fn next_while_down(&mut self, now: Instant) -> Option<String> {
        let down = self.down.as_mut()?;
        if down.patience(now).is_some() {
            return None;
        }
        if down.probe.is_none() && now >= down.probe_at {
            // Another one than last time, if there is any: it might be the record's fault. One that
            // waits by itself does so now, too.
            let may = |((at, _), w): (&(Instant, u64), &Waiting)| w.with_all || *at <= now;
            let waiting = self.waiting.iter().find(|entry| may(*entry)).map(|(key, _)| *key);
            let id = (self.new.pop_back().map(|(_, id)| id))
                .or_else(|| self.backlog.pop_front())
                .or_else(|| self.waiting.remove(&waiting?).map(|w| w.id));
            if let Some(id) = id {
                down.probe = Some(id.clone());
                return Some(id);
            }
        }
        self.new.front().filter(|(due, _)| *due <= now)?;
        self.new.pop_front().map(|(_, id)| id)
    }

    fn next_of_all(&mut self, now: Instant) -> Option<String> {
        self.turn_of_backlog = !self.turn_of_backlog;
        let due = |q: &mut Self| {
            let first = q.waiting.first_entry().filter(|e| e.key().0 <= now)?;
            Some(first.remove().id)
        };
        let old = |q: &mut Self| due(q).or_else(|| q.backlog.pop_front());
        let new = |q: &mut Self| q.new.pop_back().map(|(_, id)| id);
        if self.turn_of_backlog {
            old(self).or_else(|| new(self))
        } else {
            new(self).or_else(|| old(self))
        }
    }

    /// Taken or refused, or its file is gone: the record is done with. `answered`: by the endpoint, so
    /// that it is up.
    pub(super) fn done(&mut self, id: &str, answered: bool) {
        self.back(id);
        self.held.remove(id);
        if answered {
            self.up();
        }
    }

    /// It was not taken for too long: done with, though the endpoint failed.
    pub(super) fn given_up(&mut self, id: &str, failure: Failure, now: Instant) {
        self.failure(id, failure, now);
        self.held.remove(id);
    }

    /// The endpoint answered, and is to be asked about this record once more.
    pub(super) fn ask_again(&mut self, id: String, wait: Duration, now: Instant) {
        self.back(&id);
        self.up();
        self.wait(now + wait, Waiting { id, with_all: false });
    }

    /// Its file cannot be read now; nothing is said of the endpoint.
    pub(super) fn unreadable(&mut self, id: String, now: Instant) {
        self.back(&id);
        self.wait(now + UNREADABLE_FOR, Waiting { id, with_all: false });
    }

    /// Not taken this time; how long it waits.
    pub(super) fn failed(&mut self, id: String, failure: Failure, now: Instant) -> Duration {
        self.failure(&id, failure, now);
        let Failure { attempts, asked, dice } = failure;
        let wait = retry::wait(attempts, asked, dice);
        let with_all = asked.is_none() && attempts < OWN_FAULT_FROM;
        self.wait(now + wait, Waiting { id, with_all });
        wait
    }

    /// What a failed attempt says of the endpoint.
    fn failure(&mut self, id: &str, Failure { asked, dice, .. }: Failure, now: Instant) {
        // Only a probe tells something new of an endpoint that is down: not those that were on their way
        // when it went down, and no first attempts.
        let probed = self.back(id);
        let before = self.down.take();
        let failures = match &before {
            Some(down) if !probed => down.failures.max(1),
            Some(down) => down.failures.saturating_add(1),
            None => 1,
        };
        let asked_until = asked.map(|wait| now + wait.min(retry::LONGEST_ASKED));
        let still_asked = before.as_ref().and_then(|d| d.patience(now));
        let next = now + retry::wait(failures, None, dice);
        let probe_at = match &before {
            Some(down) if !probed => down.probe_at,
            _ => next,
        };
        let probe = before.and_then(|d| d.probe);
        let asked_until = asked_until.max(still_asked);
        self.down = Some(Down { failures, probe_at, probe, asked_until });
    }

    fn wait(&mut self, until: Instant, waiting: Waiting) {
        self.waiting.insert((until, self.next), waiting);
        self.next += 1;
    }

    /// A record is back from its way; whether it was the probe.
    fn back(&mut self, id: &str) -> bool {
        self.on_their_way = self.on_their_way.saturating_sub(1);
        let Some(down) = &mut self.down else { return false };
        down.probe.take_if(|probe| probe == id).is_some()
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

    /// The queue of an endpoint that has answered.
    fn answering(more_on_disk: bool) -> Queue {
        Queue { down: None, ..Queue::new(more_on_disk, Instant::now()) }
    }

    fn failure(attempts: u32, asked: Option<u64>) -> Failure {
        Failure { attempts, asked: asked.map(Duration::from_secs), dice: 1.0 }
    }

    fn drain(q: &mut Queue, now: Instant) -> Vec<String> {
        std::iter::from_fn(|| q.next(now)).collect()
    }

    #[test]
    fn new_records_and_the_backlog_go_in_turn_and_the_newest_first() {
        let now = Instant::now();
        let mut q = answering(true);
        q.found(ids(4), true);
        for id in ["a", "b", "c"] {
            q.sealed(id.into(), now);
        }
        assert_eq!(drain(&mut q, now), ["old0", "c", "old1", "b", "old2", "a", "old3"]);
        assert!(!q.is_empty(), "they are on their way");
    }

    #[test]
    fn of_the_first_records_of_a_run_one_goes_ahead() {
        let now = Instant::now();
        let mut q = Queue::new(true, now);
        q.found(ids(300), true);
        assert!(!q.is_down(), "nothing is known");
        assert_eq!(drain(&mut q, now), ["old0"]);
        q.done("old0", true);
        assert_eq!(drain(&mut q, now).len(), IN_FLIGHT);
        let mut q = Queue::new(true, now);
        q.found(ids(300), true);
        q.next(now);
        q.given_up("old0", failure(900, Some(60)), now);
        assert!(q.is_down());
        assert_eq!(q.due(), Some(now + Duration::from_secs(60)));
        assert_eq!(drain(&mut q, now + Duration::from_secs(60)), ["old1"]);
    }

    #[test]
    fn only_so_many_are_on_their_way() {
        let now = Instant::now();
        let mut q = answering(true);
        q.found(ids(100), true);
        assert_eq!(drain(&mut q, now).len(), IN_FLIGHT);
        q.done("old0", true);
        assert_eq!(drain(&mut q, now).len(), 1);
    }

    #[test]
    fn while_the_endpoint_is_down_one_record_after_the_other_probes_for_all() {
        let mut now = Instant::now();
        let mut q = answering(true);
        q.found(ids(5), true);
        let first = q.next(now).unwrap();
        let wait = q.failed(first, failure(1, None), now);
        assert_eq!((wait, q.next(now)), (Duration::from_secs(1), None));
        now += wait;
        let second = q.next(now).unwrap();
        assert_eq!(second, "old1", "another one");
        assert_eq!(q.next(now), None, "one at a time");
        q.failed(second, failure(1, None), now);
        assert_eq!(q.due(), Some(now + Duration::from_secs(2)), "the probes' wait doubles");
        now += Duration::from_secs(2);
        let third = q.next(now).unwrap();
        q.done(&third, true);
        assert_eq!(drain(&mut q, now).len(), 4, "all at once, those that had failed too");
    }

    #[test]
    fn those_that_were_on_their_way_when_it_went_down_are_no_probes() {
        let now = Instant::now();
        let mut q = answering(true);
        q.found(ids(16), true);
        for id in drain(&mut q, now) {
            q.failed(id, failure(1, None), now);
        }
        // The last one was alone on its way, as a probe is.
        assert!(q.due().unwrap() <= now + Duration::from_secs(2));
    }

    #[test]
    fn a_record_that_only_the_endpoint_dislikes_holds_nobody_up() {
        let mut now = Instant::now();
        let mut q = answering(true);
        q.found(vec!["poison".into()], true);
        let poison = q.next(now).unwrap();
        q.failed(poison, failure(1, None), now);
        for n in 0..20 {
            // (Its own patience is five minutes at most.)
            q.sealed(format!("good{n}"), now);
            now += Duration::from_secs(400);
            let id = q.next(now).unwrap();
            if id == "poison" {
                q.failed(id, failure(2, None), now);
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
        let mut q = answering(true);
        q.found(ids(1), true);
        let id = q.next(now).unwrap();
        q.failed(id, failure(7, None), now);
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
        let mut q = answering(true);
        q.found(ids(1), true);
        for n in 1..12 {
            let id = q.next(now).unwrap();
            q.failed(id, failure(n, None), now);
            now = q.due().unwrap();
        }
        let id = q.next(now).unwrap();
        q.failed(id, failure(12, None), now);
        assert_eq!(q.due(), Some(now + Duration::from_secs(300)));
        q.sealed("new".into(), now);
        assert_eq!(q.due(), Some(now + FIRST_WITHIN));
    }

    #[test]
    fn every_new_record_is_tried_soon_also_while_a_probe_hangs() {
        let mut now = Instant::now();
        let mut q = answering(true);
        q.found(ids(2), true);
        let first = q.next(now).unwrap();
        q.failed(first, failure(1, None), now);
        now += Duration::from_secs(1);
        let probe = q.next(now).unwrap();
        // No answer comes for half a minute.
        for id in ["a", "b", "c"] {
            q.sealed(id.into(), now);
        }
        assert_eq!((q.next(now), q.due()), (None, Some(now + FIRST_WITHIN)));
        now += FIRST_WITHIN;
        assert_eq!(drain(&mut q, now), ["a", "b", "c"]);
        // Their failures say nothing that the probe would not.
        for id in ["a", "b"] {
            q.failed(id.into(), failure(1, None), now);
        }
        assert_eq!(q.down.as_ref().map(|d| d.failures), Some(1));
        q.done("c", true);
        assert!(!q.is_down(), "one was taken");
        q.failed(probe, failure(1, None), now);
    }

    #[test]
    fn patience_that_was_asked_for_once_ends_with_its_time() {
        let mut now = Instant::now();
        let mut q = answering(true);
        q.found(ids(1), true);
        let id = q.next(now).unwrap();
        q.failed(id, failure(1, Some(1)), now);
        // Then connections are refused for long.
        for n in 2..12 {
            now = q.due().unwrap();
            let id = q.next(now).unwrap();
            q.failed(id, failure(n, None), now);
        }
        q.sealed("new".into(), now);
        assert_eq!(q.due(), Some(now + FIRST_WITHIN), "nobody asks for patience any more");
        now += FIRST_WITHIN;
        assert_eq!(q.next(now).as_deref(), Some("new"));
        // Asked for again, a newer record waits as well, and no longer than that.
        q.failed("new".into(), failure(1, Some(60)), now);
        q.sealed("newer".into(), now);
        assert_eq!(
            (q.next(now + FIRST_WITHIN), q.due()),
            (None, Some(now + Duration::from_secs(60)))
        );
        now += Duration::from_secs(60);
        assert_eq!(q.next(now).as_deref(), Some("newer"));
    }

    #[test]
    fn a_new_record_goes_at_once_where_the_patience_is_over() {
        let now = Instant::now();
        let mut q = answering(true);
        q.found(ids(1), true);
        let id = q.next(now).unwrap();
        // A date that has passed.
        q.failed(id, failure(5, Some(0)), now);
        q.sealed("new".into(), now);
        assert_eq!(q.due(), Some(now + Duration::from_secs(1)), "the first probe");
        assert_eq!(q.next(now + Duration::from_secs(1)).as_deref(), Some("new"));
    }

    #[test]
    fn what_is_given_up_is_a_failure_of_the_endpoint_like_any_other() {
        let mut now = Instant::now();
        let mut q = answering(true);
        q.found(ids(300), true);
        let first = drain(&mut q, now);
        assert_eq!(first.len(), IN_FLIGHT);
        for id in &first {
            q.given_up(id, failure(400, Some(60)), now);
        }
        assert_eq!((q.next(now), q.due()), (None, Some(now + Duration::from_secs(60))));
        now += Duration::from_secs(60);
        assert_eq!(drain(&mut q, now).len(), 1, "one probes");
        assert_eq!(q.held.len(), 300 - IN_FLIGHT);
    }

    #[test]
    fn what_is_not_on_the_disk_is_held_however_many_wait() {
        let now = Instant::now();
        let mut q = answering(true);
        for n in 0..3_000 {
            q.sealed(format!("sealed{n}"), now);
        }
        for n in 0..5 {
            q.unsealed(format!("memory{n}"), now);
        }
        assert_eq!(q.held.len(), WINDOW + 5);
        assert_eq!(q.next(now).as_deref(), Some("memory4"));
        assert_eq!(q.wants(), 0);
    }

    #[test]
    fn a_record_that_is_asked_about_again_waits_by_itself() {
        let now = Instant::now();
        let mut q = answering(true);
        q.found(ids(2), true);
        let id = q.next(now).unwrap();
        q.failed(id, failure(1, None), now);
        let later = now + Duration::from_secs(1);
        let id = q.next(later).unwrap();
        q.ask_again(id, Duration::from_secs(60), later);
        assert!(!q.is_down(), "it answered");
        assert_eq!(drain(&mut q, later).len(), 1, "the other one");
        q.done("old0", true);
        assert_eq!(q.due(), Some(later + Duration::from_secs(60)));
    }

    #[test]
    fn what_waits_by_itself_is_no_probe_before_its_time() {
        let now = Instant::now();
        // Nothing is known of the endpoint, and the only record cannot be read.
        let mut q = Queue::new(true, now);
        q.found(ids(1), true);
        let id = q.next(now).unwrap();
        q.unreadable(id, now);
        assert_eq!((q.next(now), q.due()), (None, Some(now + UNREADABLE_FOR)));
        let later = now + UNREADABLE_FOR;
        let id = q.next(later).unwrap();
        // It is asked about once more, and another one fails meanwhile.
        q.ask_again(id, Duration::from_secs(60), later);
        q.sealed("other".into(), later);
        assert_eq!(q.next(later).as_deref(), Some("other"));
        q.failed("other".into(), failure(1, None), later);
        for wait in [1, 3, 7] {
            let at = later + Duration::from_secs(wait);
            assert_eq!(q.next(at).as_deref(), Some("other"), "after {wait} s");
            q.failed("other".into(), failure(1, None), at);
        }
        let at = later + Duration::from_secs(60);
        assert_eq!(q.next(at).as_deref(), Some("other"), "whoever has waited longest");
        q.failed("other".into(), failure(1, None), at);
        let at = q.due().unwrap();
        assert_eq!(q.next(at).as_deref(), Some("old0"), "its minute is over");
    }

    #[test]
    fn what_did_not_fit_is_looked_for_again() {
        let now = Instant::now();
        let mut q = answering(true);
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
        let mut q = answering(true);
        q.found(ids(1), true);
        let id = q.next(now).unwrap();
        q.failed(id, failure(1, Some(40)), now);
        assert_eq!(q.due(), Some(now + Duration::from_secs(40)));
    }

    #[test]
    fn memory_does_not_depend_on_the_backlog() {
        let mut q = answering(false);
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
            answers in prop::collection::vec(0u8..4, 0..400),
            dice in 0.0f64..1.0,
        ) {
            let mut now = Instant::now();
            let mut q = answering(true);
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
                        Some(1) => {
                            q.failed(id, Failure { attempts: 3, asked: None, dice }, now);
                        }
                        Some(2) => q.ask_again(id, Duration::from_secs(60), now),
                        _ => { disk.remove(&id); q.done(&id, true); }
                    },
                    None => now = q.due().unwrap_or(now + Duration::from_secs(1)),
                }
            }
            prop_assert!(disk.is_empty(), "{} were never sent", disk.len());
        }
    }
}
