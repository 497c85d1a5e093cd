//! The known rooms of the server, and when each is checked next.
//!
//! A room is either scheduled or being checked, never both. A request to check a room that is being
//! checked causes another check right after it.

use std::{
    collections::{BTreeSet, HashMap, HashSet, hash_map::Entry},
    time::Duration,
};

use call::event::Discovery;
use tokio::time::Instant;

use super::decide::RoomMemory;

/// Limit for the memory of a worker. Rooms beyond it are not observed, except through jobs.
const MOST_ROOMS: usize = 100_000;

pub(super) struct KnownRoom {
    pub(super) name: String,
    pub(super) memory: RoomMemory,
    /// How the room was found.
    pub(super) by: Discovery,
    /// Courtesy to other workers: the room is not checked before this time, even if a webhook asks for it.
    pub(super) not_before: Option<Instant>,
    /// The other worker that observes the room; empty if there is none.
    pub(super) holder: String,
    /// Consecutive checks that failed.
    pub(super) unanswered: u32,
    /// When the room is checked next; `None` while it is being checked.
    due: Option<Instant>,
    /// A check was requested while the room was being checked.
    again: bool,
    /// Humans in the room by the server's count, which lags by up to 5 s.
    count: u32,
    /// When the room was found, to compare it with the time of a list.
    added: Instant,
}

#[derive(Default)]
pub(super) struct KnownRooms {
    /// By sid.
    rooms: HashMap<String, KnownRoom>,
    /// Rooms to check, by time.
    schedule: BTreeSet<(Instant, String)>,
}

impl KnownRooms {
    pub(super) fn len(&self) -> usize {
        self.rooms.len()
    }

    pub(super) fn get_mut(&mut self, sid: &str) -> Option<&mut KnownRoom> {
        self.rooms.get_mut(sid)
    }

    /// When the next check is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.schedule.first().map(|(at, _)| *at)
    }

    /// Takes the room that is due first. From now on it is being checked.
    pub(super) fn take_next(&mut self) -> Option<(String, &KnownRoom)> {
        let (_, sid) = self.schedule.pop_first()?;
        let known = self.rooms.get_mut(&sid)?;
        known.due = None;
        Some((sid, known))
    }

    /// Schedules a check as soon as possible; adds the room if it is new.
    pub(super) fn check_now(&mut self, name: String, sid: &str, by: Discovery) {
        let full = self.rooms.len() >= MOST_ROOMS;
        match self.rooms.entry(sid.to_owned()) {
            Entry::Vacant(_) if full => return,
            Entry::Vacant(v) => {
                v.insert(KnownRoom {
                    name,
                    memory: RoomMemory::default(),
                    by,
                    not_before: None,
                    holder: String::new(),
                    unanswered: 0,
                    due: None,
                    again: false,
                    count: 0,
                    added: Instant::now(),
                });
            }
            Entry::Occupied(mut o) if o.get().due.is_none() => {
                o.get_mut().again = true;
                return;
            }
            Entry::Occupied(_) => {}
        }
        self.check_after(sid, Duration::ZERO);
    }

    /// After a check: whether another was requested meanwhile. Resets the request.
    pub(super) fn take_again(&mut self, sid: &str) -> bool {
        self.rooms.get_mut(sid).is_some_and(|k| std::mem::take(&mut k.again))
    }

    pub(super) fn check_after(&mut self, sid: &str, wait: Duration) {
        let Some(k) = self.rooms.get_mut(sid) else { return };
        if let Some(due) = k.due {
            self.schedule.remove(&(due, sid.to_owned()));
        }
        let at = Instant::now() + wait;
        let at = k.not_before.map_or(at, |t| t.max(at));
        k.due = Some(at);
        self.schedule.insert((at, sid.to_owned()));
    }

    pub(super) fn forget(&mut self, sid: &str) {
        if let Some(due) = self.rooms.remove(sid).and_then(|k| k.due) {
            self.schedule.remove(&(due, sid.to_owned()));
        }
    }

    /// Removes rooms that are not in the server's list. `began`: when the list was requested; rooms found
    /// since then stay.
    pub(super) fn retain_listed(&mut self, there: &HashSet<&str>, began: Instant) {
        let schedule = &mut self.schedule;
        self.rooms.retain(|sid, k| {
            let keep = there.contains(sid.as_str()) || k.due.is_none() || k.added > began;
            if !keep && let Some(due) = k.due {
                schedule.remove(&(due, sid.clone()));
            }
            keep
        });
    }

    /// Notes the server's count of humans in a room. True if it has grown, so that a caller may have joined.
    pub(super) fn counted(&mut self, sid: &str, humans: u32) -> bool {
        let count = self.rooms.get_mut(sid).map(|k| std::mem::replace(&mut k.count, humans));
        count.is_none_or(|before| humans > before)
    }

    /// Schedules all rooms that a worker observes for a check now.
    pub(super) fn check_rooms_of(&mut self, worker: &str) {
        let of = self.rooms.iter().filter(|(_, k)| k.holder == worker && k.due.is_some());
        let of: Vec<String> = of.map(|(sid, _)| sid.clone()).collect();
        of.iter().for_each(|sid| self.check_after(sid, Duration::ZERO));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn known(sids: &[&str]) -> KnownRooms {
        let mut k = KnownRooms::default();
        for sid in sids {
            k.check_now(format!("room-{sid}"), sid, Discovery::Reconciler);
        }
        k
    }

    fn next(k: &mut KnownRooms) -> Option<String> {
        k.take_next().map(|(sid, _)| sid)
    }

    #[tokio::test(start_paused = true)]
    async fn each_room_is_taken_once_in_the_order_of_the_times() {
        let mut k = known(&["a", "b"]);
        k.check_after("a", SECOND);
        k.check_after("b", 2 * SECOND);
        k.check_after("a", 3 * SECOND);
        assert_eq!(k.next(), Some(Instant::now() + 2 * SECOND));
        assert_eq!((next(&mut k), next(&mut k)), (Some("b".into()), Some("a".into())));
        assert_eq!((next(&mut k), k.next()), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_during_a_check_causes_another_check() {
        let mut k = known(&["a"]);
        assert!(next(&mut k).is_some());
        k.check_now("room-a".into(), "a", Discovery::Webhook);
        assert_eq!(k.next(), None, "it is being checked");
        assert!(k.take_again("a") && !k.take_again("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_does_not_shorten_the_courtesy_to_other_workers() {
        let mut k = known(&["a"]);
        let later = Instant::now() + SECOND;
        k.get_mut("a").unwrap().not_before = Some(later);
        k.check_now("room-a".into(), "a", Discovery::Webhook);
        assert_eq!(k.next(), Some(later));
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_that_is_not_listed_is_removed_unless_it_is_newer_than_the_list() {
        let mut k = known(&["listed", "gone"]);
        tokio::time::advance(SECOND).await;
        let began = Instant::now();
        tokio::time::advance(SECOND).await;
        k.check_now("room-new".into(), "new", Discovery::Webhook);
        k.retain_listed(&HashSet::from(["listed"]), began);
        let mut left = vec![next(&mut k).unwrap(), next(&mut k).unwrap()];
        left.sort();
        assert_eq!((left, next(&mut k)), (vec!["listed".into(), "new".into()], None));
        k.forget("new");
        assert_eq!(k.len(), 1);
    }

    #[test]
    fn a_growing_count_of_humans_is_noticed() {
        let mut k = known(&["a"]);
        assert!(k.counted("unknown", 0));
        assert!(!k.counted("a", 0) && k.counted("a", 1) && !k.counted("a", 1));
        assert!(!k.counted("a", 0) && k.counted("a", 1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_rooms_of_a_leaving_worker_are_checked_first() {
        let mut k = known(&["a", "b", "c"]);
        for (sid, holder) in [("a", "x"), ("b", "y"), ("c", "x")] {
            k.get_mut(sid).unwrap().holder = holder.into();
            k.check_after(sid, SECOND);
        }
        k.check_rooms_of("x");
        assert_eq!(k.next(), Some(Instant::now()));
        assert_eq!((next(&mut k), next(&mut k)), (Some("a".into()), Some("c".into())));
        assert_eq!(next(&mut k).as_deref(), Some("b"));
    }
}
