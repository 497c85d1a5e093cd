//! Which rooms this worker observes or is about to observe, and which it must not take.
//!
//! Offers, the reconciler and an earlier run all ask here, from different threads. Each change is one step
//! under one lock: a room that has a place keeps it until its observer has ended.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    connection::Role,
    room::{OurClaim, Refusal},
};
use crate::observer::LaterJob;

/// How long a place is kept for a job. The server sends the assignment right after our answer, or never.
const ASSIGNED_WITHIN: Duration = Duration::from_millis(7_500);
/// After another worker was seen in a room, offers for the room are refused for this long.
const SEEN_ELSEWHERE: Duration = Duration::from_secs(30);
/// How long a barred room is not joined again; longer than any call.
const BARRED_FOR: Duration = Duration::from_secs(24 * 3600);
/// A join usually takes much less. A slower one no longer counts as busy joining.
const JOINED_WITHIN: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Places(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// Places for accepted offers, by job id.
    reserved: HashMap<String, Reserved>,
    /// Running observers, by the assignment's id.
    running: HashMap<String, Running>,
    /// Rooms in which another worker was seen, by sid, with the time.
    elsewhere: HashMap<String, Instant>,
    /// Rooms that we must not join again, by sid: since when, and for which callers. `Some`: only those that
    /// joined before this time, in milliseconds; `None`: all.
    barred: HashMap<String, (Instant, Option<i64>)>,
    /// Ordinals of the current call in rooms with several calls, by sid, with the time they were noted.
    ordinals: HashMap<String, (Instant, u32)>,
}

/// A place that is kept for a job until its assignment comes.
struct Reserved {
    until: Instant,
    sid: String,
    /// The registration that was offered the job. The assignment comes on the same connection, or never.
    role: Role,
    /// Later jobs for the same room, for the observer.
    later_jobs: Vec<LaterJob>,
}

/// A running observer.
pub(super) struct Running {
    pub(super) sid: String,
    pub(super) identity: String,
    /// When we took the room because it had no observer; `None` for jobs and resumed calls.
    pub(super) taken: Option<Instant>,
    /// When the observer last joined; `None` until then.
    pub(super) joined: Option<Instant>,
    pub(super) withdraw: watch::Sender<bool>,
    /// Sends later jobs for the same room to the observer.
    pub(super) later_jobs: mpsc::UnboundedSender<LaterJob>,
}

impl Inner {
    fn active(&self) -> usize {
        self.running.len() + self.reserved().count()
    }

    /// Places that have not expired.
    fn reserved(&self) -> impl Iterator<Item = &Reserved> {
        let now = Instant::now();
        self.reserved.values().filter(move |r| r.until > now)
    }

    fn expire(&mut self) {
        let now = Instant::now();
        self.reserved.retain(|_, r| r.until > now);
        self.elsewhere.retain(|_, seen| seen.elapsed() < SEEN_ELSEWHERE);
        self.barred.retain(|_, (since, _)| since.elapsed() < BARRED_FOR);
        self.ordinals.retain(|_, (noted, _)| noted.elapsed() < BARRED_FOR);
    }

    fn observes(&self, sid: &str) -> bool {
        let reserved = self.reserved().map(|r| &r.sid);
        !sid.is_empty() && self.running.values().map(|r| &r.sid).chain(reserved).any(|s| s == sid)
    }

    /// Whether the room may have a place; `admits` is asked with the number of taken places.
    fn check(
        &self,
        sid: &str,
        admits: impl FnOnce(usize) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        if self.observes(sid) { Err(Refusal::Observed) } else { admits(self.active()) }
    }
}

impl Places {
    // ---- state ------------------------------------------------------------------------------

    /// How many places are taken.
    pub(super) fn active(&self) -> usize {
        self.0.lock().active()
    }

    /// How many rooms we are joining that another worker could take as well. A slow join does not count, so
    /// that it does not delay others.
    pub(super) fn joining(&self) -> usize {
        let joining = |r: &&Running| {
            r.joined.is_none() && r.taken.is_some_and(|at| at.elapsed() < JOINED_WITHIN)
        };
        self.0.lock().running.values().filter(joining).count()
    }

    /// Our claim to a room that we observe, or are about to.
    pub(super) fn our_claim(&self, sid: &str) -> Option<OurClaim> {
        let inner = self.0.lock();
        match inner.running.values().find(|r| r.sid == sid) {
            Some(r) => Some(OurClaim {
                identity: r.identity.clone(),
                joined: r.joined.map(|at| at.elapsed()).unwrap_or_default(),
            }),
            None => inner.observes(sid).then(OurClaim::default),
        }
    }

    /// When the next reserved place expires.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.0.lock().reserved().map(|r| r.until).min()
    }

    // ---- taking -----------------------------------------------------------------------------

    /// Keeps a place for a job that was offered to a registration.
    pub(super) fn reserve(
        &self,
        job_id: &str,
        sid: &str,
        role: Role,
        admits: impl FnOnce(usize) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut inner = self.0.lock();
        inner.expire();
        if inner.elsewhere.contains_key(sid) {
            return Err(Refusal::Observed);
        }
        inner.check(sid, admits)?;
        let until = Instant::now() + ASSIGNED_WITHIN;
        let reserved = Reserved { until, sid: sid.into(), role, later_jobs: vec![] };
        inner.reserved.insert(job_id.into(), reserved);
        Ok(())
    }

    /// Removes the places of jobs that were offered to a registration. Returns the jobs' ids.
    pub(super) fn release(&self, role: Role) -> Vec<String> {
        let mut inner = self.0.lock();
        let of = inner.reserved.extract_if(|_, r| r.role == role);
        of.map(|(job_id, _)| job_id).collect()
    }

    /// Takes a place for a room that has no observer.
    pub(super) fn take(
        &self,
        id: &str,
        observer: Running,
        admits: impl FnOnce(usize) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut inner = self.0.lock();
        inner.expire();
        if inner.barred.contains_key(&observer.sid) {
            return Err(Refusal::Barred);
        }
        inner.check(&observer.sid, admits)?;
        inner.running.insert(id.into(), observer);
        Ok(())
    }

    /// Turns a job's reserved place into that of its observer, in one step: otherwise the reconciler could
    /// take the room in between. Returns the ordinal noted for the room and later jobs;
    /// `None` if there is no place for the job, or it has expired.
    pub(super) fn assign(
        &self,
        job_id: &str,
        observer: Running,
    ) -> Option<(Option<u32>, Vec<LaterJob>)> {
        let mut inner = self.0.lock();
        inner.expire();
        let reserved = inner.reserved.remove(job_id)?;
        let ordinal = inner.ordinals.get(&observer.sid).map(|(_, n)| *n);
        inner.running.insert(job_id.into(), observer);
        Some((ordinal, reserved.later_jobs))
    }

    /// Takes a place in any case, for a call of an earlier run.
    pub(super) fn resume(&self, id: &str, observer: Running) {
        self.0.lock().running.insert(id.into(), observer);
    }

    /// The observer has joined.
    pub(super) fn joined(&self, id: &str) {
        if let Some(r) = self.0.lock().running.get_mut(id) {
            r.joined = Some(Instant::now());
            // A request to withdraw applied to the connection before.
            r.withdraw.send_replace(false);
        }
    }

    /// The observer has ended. `barred`: for which callers the room must not be joined again.
    pub(super) fn ended(&self, id: &str, barred: Option<Option<i64>>) {
        let mut inner = self.0.lock();
        if let Some(running) = inner.running.remove(id)
            && let Some(until) = barred
        {
            inner.barred.insert(running.sid, (Instant::now(), until));
        }
    }

    // ---- rooms ------------------------------------------------------------------------------

    /// Notes that another worker observes the room.
    pub(super) fn seen_elsewhere(&self, sid: &str) {
        let mut inner = self.0.lock();
        // A worker that takes no rooms itself would otherwise never remove old entries.
        inner.expire();
        inner.elsewhere.insert(sid.into(), Instant::now());
    }

    /// Notes that no other worker observes the room any more.
    pub(super) fn seen_free(&self, sid: &str) {
        self.0.lock().elsewhere.remove(sid);
    }

    /// `since`: when the first of the present callers joined. If that is after the reported call ended, their
    /// call is a new one, and the room is no longer barred.
    pub(super) fn note_callers(&self, sid: &str, since: Option<i64>) {
        let mut inner = self.0.lock();
        let reported_until = inner.barred.get(sid).and_then(|(_, until)| *until);
        if reported_until.is_some_and(|until| since.is_none_or(|since| since > until)) {
            inner.barred.remove(sid);
        }
    }

    /// Notes the ordinal of a room's current call.
    pub(super) fn note_ordinal(&self, sid: &str, ordinal: u32) {
        if ordinal > 0 {
            self.0.lock().ordinals.insert(sid.into(), (Instant::now(), ordinal));
        }
    }

    /// Passes a later job to the observer of its room, also to one that is about to start. False if we do not
    /// observe the room.
    pub(super) fn pass_on(&self, sid: &str, job: LaterJob) -> bool {
        let mut inner = self.0.lock();
        if let Some(running) = inner.running.values().find(|r| r.sid == sid) {
            return running.later_jobs.send(job).is_ok();
        }
        let now = Instant::now();
        let mut reserved = inner.reserved.values_mut().filter(|r| r.until > now);
        reserved.find(|r| r.sid == sid).is_some_and(|r| {
            r.later_jobs.push(job);
            true
        })
    }

    /// Asks the room's observers to leave; a resumed call that has just ended may be beside the running one.
    /// False if there is none.
    pub(super) fn withdraw(&self, sid: &str) -> bool {
        let inner = self.0.lock();
        let mut any = false;
        for r in inner.running.values().filter(|r| r.sid == sid) {
            r.withdraw.send_replace(true);
            any = true;
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

    use super::*;

    fn observer(sid: &str) -> Running {
        Running {
            sid: sid.into(),
            identity: "observer".into(),
            taken: None,
            joined: None,
            withdraw: watch::Sender::new(false),
            later_jobs: mpsc::unbounded_channel().0,
        }
    }

    fn reserved(job_id: &str, sid: &str) -> Places {
        let places = Places::default();
        places.reserve(job_id, sid, Role::Dispatch, |_| Ok(())).unwrap();
        places
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_whose_job_is_never_assigned_hides_its_room_for_some_seconds_only() {
        let places = reserved("AJ_1", "RM_1");
        assert!(places.our_claim("RM_1").is_some() && places.our_claim("RM_2").is_none());
        assert!(places.our_claim("").is_none());
        assert_eq!(places.active(), 1);
        // Nobody offers another job, so nothing removes the place.
        tokio::time::advance(ASSIGNED_WITHIN).await;
        assert!(places.our_claim("RM_1").is_none(), "the reconciler must find it");
        assert_eq!(places.active(), 0);
        assert!(places.assign("AJ_1", observer("RM_1")).is_none(), "it has expired");
    }

    #[tokio::test(start_paused = true)]
    async fn rooms_seen_elsewhere_are_forgotten() {
        let places = Places::default();
        for n in 0..100 {
            places.seen_elsewhere(&format!("RM_{n}"));
            tokio::time::advance(SEEN_ELSEWHERE / 10).await;
        }
        assert!(places.0.lock().elsewhere.len() <= 10);
    }

    /// The reconciler asks while jobs are assigned: it never sees their rooms free.
    #[test]
    fn a_reserved_place_becomes_an_observers_without_a_moment_between() {
        for n in 0..3_000 {
            let jobs: Vec<String> = (0..30).map(|job| format!("{n}-{job}")).collect();
            let places = Places::default();
            for job in &jobs {
                places.reserve(job, job, Role::Dispatch, |_| Ok(())).unwrap();
            }
            let assigned = AtomicBool::new(false);
            std::thread::scope(|threads| {
                threads.spawn(|| {
                    for job in &jobs {
                        assert!(places.assign(job, observer(job)).is_some());
                    }
                    assigned.store(true, SeqCst);
                });
                while !assigned.load(SeqCst) {
                    for job in &jobs {
                        let taken = places.take("reconciler", observer(job), |_| Ok(()));
                        assert_eq!(taken, Err(Refusal::Observed), "two observers in one room");
                    }
                }
            });
        }
    }
}
