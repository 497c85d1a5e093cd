//! The rooms that the server has, as far as we know of them, and when each is looked at next.
//!
//! A room is either due at some time or being looked at, never both; who asks for a look at one that
//! is being looked at gets another right after it.

use std::{
    collections::{BTreeSet, HashMap, HashSet, hash_map::Entry},
    time::Duration,
};

use call::event::Discovery;
use tokio::time::Instant;

use super::decide::RoomMemory;

/// Beyond it rooms are not looked for.
const MOST_ROOMS: usize = 100_000;

pub(super) struct Known {
    pub(super) name: String,
    pub(super) notes: RoomMemory,
    /// How we learned of it.
    pub(super) by: Discovery,
    /// Others are let go first until then, whoever asks for a look.
    pub(super) not_before: Option<Instant>,
    /// The worker that observes it; empty if none does.
    pub(super) holder: String,
    /// Questions about it in a row that were not answered.
    pub(super) unanswered: u32,
    /// When it is looked at next; `None` while it is being looked at.
    due: Option<Instant>,
    /// Asked for again while it was being looked at.
    again: bool,
    /// Humans in it, by the server's count, which lags by up to 5 s.
    count: u32,
    /// When we learned of it.
    added: Instant,
}

#[derive(Default)]
pub(super) struct KnownRooms {
    /// By sid.
    rooms: HashMap<String, Known>,
    /// By time: rooms to be looked at.
    schedule: BTreeSet<(Instant, String)>,
}

impl KnownRooms {
    pub(super) fn len(&self) -> usize {
        self.rooms.len()
    }

    pub(super) fn get_mut(&mut self, sid: &str) -> Option<&mut Known> {
        self.rooms.get_mut(sid)
    }

    /// When the next look is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.schedule.first().map(|(at, _)| *at)
    }

    /// The room that is due first: from now on it is being looked at.
    pub(super) fn take_next(&mut self) -> Option<(String, &Known)> {
        let (_, sid) = self.schedule.pop_first()?;
        let known = self.rooms.get_mut(&sid)?;
        known.due = None;
        Some((sid, known))
    }

    /// As soon as may be.
    pub(super) fn look_now(&mut self, name: String, sid: &str, by: Discovery) {
        let full = self.rooms.len() >= MOST_ROOMS;
        match self.rooms.entry(sid.to_owned()) {
            Entry::Vacant(_) if full => return,
            Entry::Vacant(v) => {
                v.insert(Known {
                    name,
                    notes: RoomMemory::default(),
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
        self.look_in(sid, Duration::ZERO);
    }

    /// A look is over: whether another was asked for meanwhile.
    pub(super) fn again(&mut self, sid: &str) -> bool {
        self.rooms.get_mut(sid).is_some_and(|k| std::mem::take(&mut k.again))
    }

    pub(super) fn look_in(&mut self, sid: &str, wait: Duration) {
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

    /// The server's list, as it was asked for at `began`: what is not in it is gone, unless we
    /// learned of it since.
    pub(super) fn keep(&mut self, there: &HashSet<&str>, began: Instant) {
        let schedule = &mut self.schedule;
        self.rooms.retain(|sid, k| {
            let keep = there.contains(sid.as_str()) || k.due.is_none() || k.added > began;
            if !keep && let Some(due) = k.due {
                schedule.remove(&(due, sid.clone()));
            }
            keep
        });
    }

    /// Takes the server's count of humans in a room; whether somebody seems to have come.
    pub(super) fn counted(&mut self, sid: &str, humans: u32) -> bool {
        let count = self.rooms.get_mut(sid).map(|k| std::mem::replace(&mut k.count, humans));
        count.is_none_or(|before| humans > before)
    }

    /// All rooms that a worker observes are looked at now.
    pub(super) fn hurry(&mut self, worker: &str) {
        let of = self.rooms.iter().filter(|(_, k)| k.holder == worker && k.due.is_some());
        let of: Vec<String> = of.map(|(sid, _)| sid.clone()).collect();
        of.iter().for_each(|sid| self.look_in(sid, Duration::ZERO));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn known(sids: &[&str]) -> KnownRooms {
        let mut k = KnownRooms::default();
        for sid in sids {
            k.look_now(format!("room-{sid}"), sid, Discovery::Reconciler);
        }
        k
    }

    fn next(k: &mut KnownRooms) -> Option<String> {
        k.take_next().map(|(sid, _)| sid)
    }

    #[tokio::test(start_paused = true)]
    async fn rooms_come_in_the_order_of_their_times_each_once() {
        let mut k = known(&["a", "b"]);
        k.look_in("a", SECOND);
        k.look_in("b", 2 * SECOND);
        k.look_in("a", 3 * SECOND);
        assert_eq!(k.next(), Some(Instant::now() + 2 * SECOND));
        assert_eq!((next(&mut k), next(&mut k)), (Some("b".into()), Some("a".into())));
        assert_eq!((next(&mut k), k.next()), (None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_during_a_look_gets_another_after_it() {
        let mut k = known(&["a"]);
        assert!(next(&mut k).is_some());
        k.look_now("room-a".into(), "a", Discovery::Webhook);
        assert_eq!(k.next(), None, "it is being looked at");
        assert!(k.again("a") && !k.again("a"));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_hurries_us_before_others_could_go_first() {
        let mut k = known(&["a"]);
        let later = Instant::now() + SECOND;
        k.get_mut("a").unwrap().not_before = Some(later);
        k.look_now("room-a".into(), "a", Discovery::Webhook);
        assert_eq!(k.next(), Some(later));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_listed_is_forgotten_unless_it_is_newer_than_the_list() {
        let mut k = known(&["listed", "gone"]);
        tokio::time::advance(SECOND).await;
        let began = Instant::now();
        tokio::time::advance(SECOND).await;
        k.look_now("room-new".into(), "new", Discovery::Webhook);
        k.keep(&HashSet::from(["listed"]), began);
        let mut left = vec![next(&mut k).unwrap(), next(&mut k).unwrap()];
        left.sort();
        assert_eq!((left, next(&mut k)), (vec!["listed".into(), "new".into()], None));
        k.forget("new");
        assert_eq!(k.len(), 1);
    }

    #[test]
    fn a_growing_count_is_worth_a_look() {
        let mut k = known(&["a"]);
        assert!(k.counted("unknown", 0));
        assert!(!k.counted("a", 0) && k.counted("a", 1) && !k.counted("a", 1));
        assert!(!k.counted("a", 0) && k.counted("a", 1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_rooms_of_a_worker_that_leaves_come_first() {
        let mut k = known(&["a", "b", "c"]);
        for (sid, holder) in [("a", "x"), ("b", "y"), ("c", "x")] {
            k.get_mut(sid).unwrap().holder = holder.into();
            k.look_in(sid, SECOND);
        }
        k.hurry("x");
        assert_eq!(k.next(), Some(Instant::now()));
        assert_eq!((next(&mut k), next(&mut k)), (Some("a".into()), Some("c".into())));
        assert_eq!(next(&mut k).as_deref(), Some("b"));
    }
}
