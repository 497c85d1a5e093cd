//! Which record is tried next, and when. Pure: time and dice are parameters.
//!
//! * While the endpoint answers, up to [`IN_FLIGHT`] attempts run, [`OLD_IN_FLIGHT`] of them for the backlog.
//!   New records and the backlog take turns, so that neither waits for the other. The newest of the new records goes first.
//! * At the start of a run one record goes ahead, as the endpoint may be down.
//! * A failure means that the endpoint may be down, unless the endpoint took another record since that
//!   attempt began, or since the same record failed before: then the record is at fault, and waits alone.
//! * From the first failure of the endpoint on one record at a time is sent as a
//!   probe, each time another record, after a wait that doubles. Once a probe is taken, all records
//!   may go. A record that failed three times, or for which the endpoint asked for a wait
//!   (`Retry-After`), has a wait of its own.
//! * A new record has its first attempt within [`FIRST_WITHIN`], however long the probes wait, because
//!   the operator wants to see the call soon. Only a `Retry-After` that still runs delays it.
//! * At most [`WINDOW`] ids are held; other records stay on disk and are found when there is room. So
//!   memory does not depend on the backlog. A record that is not on disk is always held.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::retry;

/// Requests at the same time.
pub(super) const IN_FLIGHT: usize = 16;
/// Attempts of the backlog that run at once. The other places are for new records: an endpoint that begins to
/// hang while a backlog is sent must not hold them up.
pub(super) const OLD_IN_FLIGHT: usize = 12;
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
    /// Those of the backlog among them.
    old: HashSet<String>,
    /// There may be records on disk that are not held.
    more_on_disk: bool,
    /// Some sealed records did not fit, and the walk over the disk may have passed them already.
    missed: bool,
    /// Whether the last turn was the backlog's.
    turn_of_backlog: bool,
    /// Set while the endpoint is down, or not known to be up.
    down: Option<Outage>,
    /// When the endpoint last took or refused a record.
    answered_at: Option<Instant>,
    /// When the running attempt at a record began; after a failure, when it failed.
    since: HashMap<String, Instant>,
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
        self.since.remove(id);
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
            let next = self.waiting.keys().next().map(|(at, _)| *at);
            return next.filter(|_| self.old.len() < OLD_IN_FLIGHT);
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
        // Of a record that failed before, the time of that failure stays.
        self.since.entry(id.clone()).or_insert(now);
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
        let old = |q: &mut Self| {
            let place = q.old.len() < OLD_IN_FLIGHT;
            let id = if place { due(q).or_else(|| q.backlog.pop_front()) } else { None };
            q.old.extend(id.clone());
            id
        };
        let new = |q: &mut Self| q.new.pop_back().map(|(_, id)| id);
        if self.turn_of_backlog {
            old(self).or_else(|| new(self))
        } else {
            new(self).or_else(|| old(self))
        }
    }

    /// The record was taken or refused, or its file is gone. `answered`: the endpoint answered, so it is
    /// up.
    pub(super) fn done(&mut self, id: &str, answered: bool, now: Instant) {
        self.attempt_ended(id);
        self.drop_record(id);
        if answered {
            self.answered_at = Some(now);
            self.endpoint_is_up();
        }
    }

    /// The record was not taken for too long: it is dropped from the queue. The endpoint has failed too, unless
    /// it takes others.
    pub(super) fn given_up(&mut self, id: &str, failure: Failure, now: Instant) {
        if failure.asked.is_none() && self.is_own_fault(id) {
            self.attempt_ended(id);
        } else {
            self.failure(id, failure, now);
        }
        self.drop_record(id);
    }

    /// The endpoint answered, and is to be asked about this record once more.
    pub(super) fn ask_again(&mut self, id: String, wait: Duration, now: Instant) {
        self.attempt_ended(&id);
        self.since.remove(&id);
        self.answered_at = Some(now);
        self.endpoint_is_up();
        self.wait(now + wait, Waiting { id, endpoint_failed: false });
    }

    /// The record's file cannot be read now. This shows nothing about the endpoint.
    pub(super) fn unreadable(&mut self, id: String, now: Instant) {
        self.attempt_ended(&id);
        self.since.remove(&id);
        self.wait(now + UNREADABLE_FOR, Waiting { id, endpoint_failed: false });
    }

    /// The record was not taken this time. Returns how long it waits.
    pub(super) fn failed(&mut self, id: String, failure: Failure, now: Instant) -> Duration {
        let Failure { attempts, asked, dice } = failure;
        // A `Retry-After` is the endpoint's own word.
        let own_fault = asked.is_none() && self.is_own_fault(&id);
        self.since.insert(id.clone(), now);
        if own_fault {
            self.attempt_ended(&id);
        } else {
            self.failure(&id, failure, now);
        }
        let wait = retry::wait(attempts, asked, dice);
        let endpoint_failed = asked.is_none() && !own_fault && attempts < OWN_FAULT_FROM;
        self.wait(now + wait, Waiting { id, endpoint_failed });
        wait
    }

    /// Whether the endpoint took another record since this attempt began, or since this record failed
    /// before.
    fn is_own_fault(&self, id: &str) -> bool {
        let since = self.since.get(id);
        self.down.is_none() && self.answered_at.zip(since).is_some_and(|(at, since)| at >= *since)
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
        self.old.remove(id);
        let Some(down) = &mut self.down else { return false };
        down.probe.take_if(|probe| probe == id).is_some()
    }

    /// The endpoint is up: records that failed because of it may go. If it failed more than once, it was the
    /// endpoint's fault, and says nothing about the records.
    fn endpoint_is_up(&mut self) {
        if let Some(outage) = self.down.take() {
            let waiting = std::mem::take(&mut self.waiting);
            for (at, w) in waiting {
                if w.endpoint_failed {
                    if outage.failures > 1 {
                        self.since.remove(&w.id);
                    }
                    self.backlog.push_back(w.id);
                } else {
                    self.waiting.insert(at, w);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
