//! Which record is tried next, and when. Pure: time and dice are parameters.
//!
//! * While the endpoint answers, up to [`IN_FLIGHT`] attempts run. New records and the backlog take
//!   turns, so that neither waits for the other. The newest of the new records goes first.
//! * At the start of a run one record goes ahead, as the endpoint may be down.
//! * A failure means that the endpoint may be down. From then on one record at a time is sent as a
//!   probe, each time another record, after a wait that doubles. Once a probe is taken, all records
//!   may go. A record that failed three times, or for which the endpoint asked for a wait
//!   (`Retry-After`), has a wait of its own.
//! * A new record has its first attempt within [`FIRST_WITHIN`], however long the probes wait, because
//!   the operator wants to see the call soon. Only a `Retry-After` that still runs delays it.
//! * At most [`WINDOW`] ids are held; other records stay on disk and are found when there is room. So
//!   memory does not depend on the backlog. A record that is not on disk is always held.

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
/// Places in the window that are kept for new records.
const FOR_NEW: usize = 500;
/// While the endpoint is down, a new record is tried within this time.
const FIRST_WITHIN: Duration = Duration::from_secs(5);
/// From this attempt on a record has its own wait, also while the endpoint takes others: the record
/// itself may be the cause.
const OWN_FAULT_FROM: u32 = 3;
/// Wait before an unreadable file is read again.
const UNREADABLE_FOR: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Records of this run that were not tried yet, each with the latest time for its first attempt; the
    /// newest last.
    new: VecDeque<(Instant, String)>,
    /// Other records that may go at once: found on disk, or failed before the endpoint came back.
    backlog: VecDeque<String>,
    /// Records with a wait, by the time of their next attempt. The number makes equal times distinct.
    waiting: BTreeMap<(Instant, u64), Waiting>,
    /// The next of these numbers.
    next: u64,
    /// All ids above, and those in flight.
    held: HashSet<String>,
    /// Those of them that could not be sealed. They cannot be found on disk, so they are never dropped.
    unsealed: HashSet<String>,
    in_flight: usize,
    /// There may be records on disk that are not held.
    more_on_disk: bool,
    /// Some sealed records did not fit, and the walk over the disk may have passed them already.
    missed: bool,
    /// Whether the last turn was the backlog's.
    turn_of_backlog: bool,
    /// Set while the endpoint is down, or not known to be up.
    down: Option<Outage>,
}

#[derive(Debug)]
struct Waiting {
    id: String,
    /// It failed because the endpoint was down, most likely: it goes as soon as the endpoint answers.
    endpoint_failed: bool,
}

/// The endpoint does not take records, or it is not known yet whether it does.
#[derive(Clone, Debug)]
struct Outage {
    /// Probes that failed.
    failures: u32,
    /// When the next probe may go.
    probe_at: Instant,
    /// The record that is in flight as a probe.
    probe: Option<String>,
    /// The endpoint asked for a wait until then (`Retry-After`).
    asked_until: Option<Instant>,
}

impl Outage {
    /// Until when the endpoint asked for a wait; `None` if it did not, or if the wait is over.
    fn asked_wait(&self, now: Instant) -> Option<Instant> {
        self.asked_until.filter(|until| now < *until)
    }
}

/// An attempt that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    /// Attempts at this record, including this one.
    pub(super) attempts: u32,
    /// The wait that the endpoint asked for (`Retry-After`).
    pub(super) asked: Option<Duration>,
    /// Uniform in 0..1.
    pub(super) dice: f64,
}

impl Queue {
    /// Nothing is known of the endpoint yet: one record goes ahead.
    pub(super) fn new(more_on_disk: bool, now: Instant) -> Self {
        let down = Outage { failures: 0, probe_at: now, probe: None, asked_until: None };
        Self { more_on_disk, down: Some(down), ..Self::default() }
    }

    /// A record was sealed.
    pub(super) fn sealed(&mut self, id: String, now: Instant) {
        if self.held.len() >= WINDOW {
            self.more_on_disk = true;
            self.missed = true;
            // A record of the backlog makes room: it will be found on disk again.
            let last = self.backlog.iter().rposition(|id| !self.unsealed.contains(id));
            let Some(old) = last.and_then(|i| self.backlog.remove(i)) else { return };
            self.held.remove(&old);
        }
        self.add_new(id, now);
    }

    /// A record could not be sealed. It cannot be found on disk, so it is held in any case.
    pub(super) fn unsealed(&mut self, id: String, now: Instant) {
        self.unsealed.insert(id.clone());
        self.add_new(id, now);
    }

    fn add_new(&mut self, id: String, now: Instant) {
        if self.held.insert(id.clone()) {
            self.new.push_back((now + FIRST_WITHIN, id));
        }
    }

    fn drop_record(&mut self, id: &str) {
        self.held.remove(id);
        self.unsealed.remove(id);
    }

    /// How many records to read from the disk now.
    pub(super) fn wants(&self) -> usize {
        if !self.more_on_disk || self.backlog.len() >= IN_FLIGHT {
            return 0;
        }
        (WINDOW - FOR_NEW).saturating_sub(self.held.len())
    }

    /// Takes the ids that were found on disk; `all`: there are no more.
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

    /// The operator wants all records to be tried now.
    pub(super) fn retry_all(&mut self) {
        self.more_on_disk = true;
        // A listing that runs now may have passed what the operator has moved.
        self.missed = true;
        self.down = None;
        let waiting = std::mem::take(&mut self.waiting);
        self.backlog.extend(waiting.into_values().map(|w| w.id));
    }

    /// Nothing is left to send.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty() && !self.more_on_disk
    }

    /// The endpoint failed last time.
    pub(super) fn is_down(&self) -> bool {
        self.down.as_ref().is_some_and(|d| d.failures > 0)
    }

    /// When the next attempt is due, if nothing else happens before.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.held.len() == self.in_flight || self.in_flight >= IN_FLIGHT {
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

    /// When a record may go as a probe; `None` if there is no record.
    fn probe_due(&self, down: &Outage) -> Option<Instant> {
        let any = !self.new.is_empty()
            || !self.backlog.is_empty()
            || self.waiting.values().any(|w| w.endpoint_failed);
        let own = self.waiting.keys().next().map(|(at, _)| down.probe_at.max(*at));
        if any { Some(down.probe_at) } else { own }
    }

    /// The next record to be tried, if one is due.
    pub(super) fn next(&mut self, now: Instant) -> Option<String> {
        if self.in_flight >= IN_FLIGHT {
            return None;
        }
        let id =
            if self.down.is_some() { self.next_while_down(now) } else { self.next_while_up(now) };
        let id = id?;
        self.in_flight += 1;
        Some(id)
    }

    fn next_while_down(&mut self, now: Instant) -> Option<String> {
        let down = self.down.as_mut()?;
        if down.asked_wait(now).is_some() {
            return None;
        }
        if down.probe.is_none() && now >= down.probe_at {
            // Another record than last time, if there is one: the record itself may be the cause. A
            // record with its own wait keeps it.
            let may = |((at, _), w): (&(Instant, u64), &Waiting)| w.endpoint_failed || *at <= now;
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

    fn next_while_up(&mut self, now: Instant) -> Option<String> {
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

    /// The record was taken or refused, or its file is gone. `answered`: the endpoint answered, so it is
    /// up.
    pub(super) fn done(&mut self, id: &str, answered: bool) {
        self.attempt_ended(id);
        self.drop_record(id);
        if answered {
            self.endpoint_is_up();
        }
    }

    /// The record was not taken for too long: it is dropped from the queue, and the endpoint has failed.
    pub(super) fn given_up(&mut self, id: &str, failure: Failure, now: Instant) {
        self.failure(id, failure, now);
        self.drop_record(id);
    }

    /// The endpoint answered, and is to be asked about this record once more.
    pub(super) fn ask_again(&mut self, id: String, wait: Duration, now: Instant) {
        self.attempt_ended(&id);
        self.endpoint_is_up();
        self.wait(now + wait, Waiting { id, endpoint_failed: false });
    }

    /// The record's file cannot be read now. This shows nothing about the endpoint.
    pub(super) fn unreadable(&mut self, id: String, now: Instant) {
        self.attempt_ended(&id);
        self.wait(now + UNREADABLE_FOR, Waiting { id, endpoint_failed: false });
    }

    /// The record was not taken this time. Returns how long it waits.
    pub(super) fn failed(&mut self, id: String, failure: Failure, now: Instant) -> Duration {
        self.failure(&id, failure, now);
        let Failure { attempts, asked, dice } = failure;
        let wait = retry::wait(attempts, asked, dice);
        let endpoint_failed = asked.is_none() && attempts < OWN_FAULT_FROM;
        self.wait(now + wait, Waiting { id, endpoint_failed });
        wait
    }

    /// Counts a failed attempt against the endpoint.
    fn failure(&mut self, id: &str, Failure { asked, dice, .. }: Failure, now: Instant) {
        // While the endpoint is down only probes count: neither attempts that were in flight when it
        // went down, nor first attempts of new records.
        let probed = self.attempt_ended(id);
        let before = self.down.take();
        let failures = match &before {
            Some(down) if !probed => down.failures.max(1),
            Some(down) => down.failures.saturating_add(1),
            None => 1,
        };
        let asked_until = asked.map(|wait| now + wait.min(retry::LONGEST_ASKED));
        let still_asked = before.as_ref().and_then(|d| d.asked_wait(now));
        let next = now + retry::wait(failures, None, dice);
        let probe_at = match &before {
            Some(down) if !probed => down.probe_at,
            _ => next,
        };
        let probe = before.and_then(|d| d.probe);
        let asked_until = asked_until.max(still_asked);
        self.down = Some(Outage { failures, probe_at, probe, asked_until });
    }

    fn wait(&mut self, until: Instant, waiting: Waiting) {
        self.waiting.insert((until, self.next), waiting);
        self.next += 1;
    }

    /// An attempt has ended. Returns whether it was the probe.
    fn attempt_ended(&mut self, id: &str) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(down) = &mut self.down else { return false };
        down.probe.take_if(|probe| probe == id).is_some()
    }

    /// The endpoint is up: records that failed because of it may go.
    fn endpoint_is_up(&mut self) {
        if self.down.take().is_some() {
            let waiting = std::mem::take(&mut self.waiting);
            for (at, w) in waiting {
                if w.endpoint_failed {
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
        assert!(!q.is_empty(), "they are in flight");
    }

    #[test]
    fn at_the_start_of_a_run_one_record_goes_ahead() {
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
    fn only_so_many_are_in_flight() {
        let now = Instant::now();
        let mut q = answering(true);
        q.found(ids(100), true);
        assert_eq!(drain(&mut q, now).len(), IN_FLIGHT);
        q.done("old0", true);
        assert_eq!(drain(&mut q, now).len(), 1);
    }

    #[test]
    fn while_the_endpoint_is_down_one_record_after_the_other_is_the_probe() {
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
    fn attempts_in_flight_when_the_endpoint_went_down_are_not_probes() {
        let now = Instant::now();
        let mut q = answering(true);
        q.found(ids(16), true);
        for id in drain(&mut q, now) {
            q.failed(id, failure(1, None), now);
        }
        // The last one was alone in flight, as a probe is.
        assert!(q.due().unwrap() <= now + Duration::from_secs(2));
    }

    #[test]
    fn a_record_that_always_fails_does_not_delay_others() {
        let mut now = Instant::now();
        let mut q = answering(true);
        q.found(vec!["poison".into()], true);
        let poison = q.next(now).unwrap();
        q.failed(poison, failure(1, None), now);
        for n in 0..20 {
            // Its own wait is five minutes at most.
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
        // The probe has no answer for half a minute.
        for id in ["a", "b", "c"] {
            q.sealed(id.into(), now);
        }
        assert_eq!((q.next(now), q.due()), (None, Some(now + FIRST_WITHIN)));
        now += FIRST_WITHIN;
        assert_eq!(drain(&mut q, now), ["a", "b", "c"]);
        // Their failures do not count: they are not the probe.
        for id in ["a", "b"] {
            q.failed(id.into(), failure(1, None), now);
        }
        assert_eq!(q.down.as_ref().map(|d| d.failures), Some(1));
        q.done("c", true);
        assert!(!q.is_down(), "one was taken");
        q.failed(probe, failure(1, None), now);
    }

    #[test]
    fn a_retry_after_ends_with_its_time() {
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
        assert_eq!(q.due(), Some(now + FIRST_WITHIN), "the Retry-After is over");
        now += FIRST_WITHIN;
        assert_eq!(q.next(now).as_deref(), Some("new"));
        // After another Retry-After a newer record waits as well, and no longer than that.
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
    fn a_new_record_goes_at_once_where_the_retry_after_is_over() {
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
    fn a_record_that_is_given_up_is_a_failure_of_the_endpoint_like_any_other() {
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
    fn a_record_that_is_not_on_disk_is_held_however_many_wait() {
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
    fn a_record_that_is_not_on_disk_does_not_make_room_for_another() {
        let now = Instant::now();
        let mut q = answering(true);
        q.unsealed("memory".into(), now);
        assert_eq!(q.next(now).as_deref(), Some("memory"));
        q.failed("memory".into(), failure(1, None), now);
        q.found(ids(5), false);
        q.retry_all();
        for n in 0..3_000 {
            q.sealed(format!("sealed{n}"), now);
        }
        assert!(q.holds("memory") && !q.holds("old0"));
    }

    #[test]
    fn what_the_operator_moves_during_a_listing_is_found_by_another() {
        let mut q = answering(true);
        q.retry_all();
        q.found(vec![], true);
        assert!(q.wants() > 0);
        q.found(vec![], true);
        assert_eq!(q.wants(), 0);
    }

    #[test]
    fn a_record_that_is_asked_about_again_has_its_own_wait() {
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
    fn a_record_with_its_own_wait_is_not_a_probe_before_its_time() {
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
        assert_eq!(q.next(at).as_deref(), Some("other"), "the record that has waited longest");
        q.failed("other".into(), failure(1, None), at);
        let at = q.due().unwrap();
        assert_eq!(q.next(at).as_deref(), Some("old0"), "its minute is over");
    }

    #[test]
    fn records_that_did_not_fit_are_listed_again() {
        let now = Instant::now();
        let mut q = answering(true);
        q.found(ids(1_400), false);
        for n in 0..700 {
            q.sealed(format!("new{n}"), now);
        }
        q.found(vec![], true);
        assert!(q.more_on_disk, "the walk may have passed some of the new ones");
        q.found(vec![], true);
        assert!(!q.more_on_disk);
    }

    #[test]
    fn a_retry_after_is_respected() {
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
        /// Whatever the endpoint does, every record is tried until it is settled, each at most once at a
        /// time.
        #[test]
        fn no_record_is_forgotten(
            old in 0usize..60,
            new in 0usize..60,
            answers in prop::collection::vec(0u8..4, 0..400),
            dice in 0.0f64..1.0,
        ) {
            let mut now = Instant::now();
            let mut q = answering(true);
            let mut disk: HashSet<String> = ids(old).into_iter().collect();
            let mut answers = answers.into_iter();
            let mut in_flight: Vec<String> = vec![];
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
                    prop_assert!(!in_flight.contains(&id), "{id} twice in flight");
                    in_flight.push(id);
                }
                prop_assert!(in_flight.len() <= IN_FLIGHT);
                match in_flight.pop() {
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
