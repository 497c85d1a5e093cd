//! Time. [`WallClock`] is this process's: the system's time, held against LiveKit's. [`Clock`] is one
//! observation's: read once, then carried on by the monotonic clock, so that a step of the system's
//! time in the middle of a call cannot bend its durations.
//!
//! In: the server's time, from the `Date` of its answers and from our own `joined_at`, each with the
//! instants of question and answer. Out: the server's time now, and a warning where the system's time
//! differs from it. It never waits and never asks.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use call::Moment;
use parking_lot::Mutex;
use store::health::{Health, Topic};
use tokio::time::Instant;

/// A difference below it is what reading two clocks one after the other makes.
const SAME_CLOCK_MS: i64 = 50;
/// Warned of from this difference on: signatures and tokens live for minutes, and times are shown to
/// people.
const WARN_AT_MS: i64 = 2_000;
/// An HTTP date has no fractions, and a proxy may have it from a second ago.
const DATE_MS: (i64, i64) = (-1_000, 2_000);

/// Cheap to clone; all clones learn together.
#[derive(Clone, Debug)]
pub(crate) struct WallClock(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    health: Health,
    /// Instants are counted from here.
    anchor: Instant,
    server: Mutex<Learned>,
}

/// The server's time at [`Shared::anchor`], in milliseconds: at least, at most. `None` until it is
/// learned.
#[derive(Clone, Copy, Debug, Default)]
struct Learned {
    /// From joins: LiveKit's own clock, which stamps what is in a record.
    joins: Option<(i64, i64)>,
    /// From the dates of answers, which a proxy may have written.
    dates: Option<(i64, i64)>,
}

impl WallClock {
    pub(crate) fn new(health: Health) -> Self {
        let server = Mutex::default();
        Self(Arc::new(Shared { health, anchor: Instant::now(), server }))
    }

    /// We joined between `asked` and `answered`, and by the server's time between `from` and `to`.
    pub(crate) fn learn_join(&self, from: Moment, to: Moment, asked: Instant, answered: Instant) {
        let new = self.interval(from, to, asked, answered);
        let mut server = self.0.server.lock();
        server.joins = Some(narrowed(server.joins, new));
        drop(server);
        self.look();
    }

    /// Learns from the header `Date` of an answer; `cached`: it has an `Age`, so somebody kept it.
    pub(crate) fn learn_date(&self, date: &str, cached: bool, asked: Instant, answered: Instant) {
        let Some(date) = httpdate::parse_http_date(date).ok().filter(|_| !cached) else { return };
        let date = moment(date);
        let (from, to) = (date.plus(DATE_MS.0), date.plus(DATE_MS.1));
        let new = self.interval(from, to, asked, answered);
        let mut server = self.0.server.lock();
        server.dates = Some(narrowed(server.dates, new));
        drop(server);
        self.look();
    }

    fn interval(&self, from: Moment, to: Moment, asked: Instant, answered: Instant) -> (i64, i64) {
        (from.millis() - self.elapsed(answered), to.millis() - self.elapsed(asked))
    }

    /// The server's time where it is known to differ from the system's, else the system's.
    pub(crate) fn now(&self) -> Moment {
        let ours = moment(SystemTime::now());
        ours.plus(self.ahead_of(ours).unwrap_or(0).saturating_neg())
    }

    /// How far the system's time is ahead of the server's, in milliseconds; negative if it is behind,
    /// 0 where no difference can be told. `None` until the server's time is known.
    pub(crate) fn ahead(&self) -> Option<i64> {
        self.ahead_of(moment(SystemTime::now()))
    }

    /// The same in seconds, where it is worth a word.
    pub(crate) fn wrong_by(&self) -> Option<f64> {
        let ahead = self.ahead().filter(|ms| ms.abs() >= WARN_AT_MS)?;
        Some((ahead as f64 / 100.0).round() / 10.0)
    }

    fn ahead_of(&self, ours: Moment) -> Option<i64> {
        let server = *self.0.server.lock();
        let (lo, hi) = server.joins.or(server.dates)?;
        let ours = ours.millis() - self.elapsed(Instant::now());
        let (least, most) = (ours - hi, ours - lo);
        let same = least <= SAME_CLOCK_MS && most >= -SAME_CLOCK_MS;
        Some(if same { 0 } else { least + (most - least) / 2 })
    }

    fn elapsed(&self, at: Instant) -> i64 {
        let millis = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        match at.checked_duration_since(self.0.anchor) {
            Some(after) => millis(after),
            None => -millis(self.0.anchor.duration_since(at)),
        }
    }

    /// Warns while the clocks differ: once when it begins, once when it is over.
    fn look(&self) {
        let Some(ahead_s) = self.wrong_by() else {
            if self.0.health.clear(Topic::Clock) {
                tracing::info!("this machine's clock agrees with LiveKit's again");
            }
            return;
        };
        let side = if ahead_s > 0.0 { "ahead of" } else { "behind" };
        let what = format!("this machine's clock is {} s {side} LiveKit's", ahead_s.abs());
        if self.0.health.warn(Topic::Clock, what) {
            tracing::warn!(
                ahead_s,
                advice = "records get LiveKit's time; set the clocks of both machines by NTP",
                "this machine's clock differs from LiveKit's"
            );
        }
    }
}

/// Both are true, if they fit together. What does not was learned before a clock was set, or has drifted
/// away: the new one counts.
fn narrowed(old: Option<(i64, i64)>, new: (i64, i64)) -> (i64, i64) {
    let both = old.map(|(lo, hi)| (lo.max(new.0), hi.min(new.1)));
    both.filter(|(lo, hi)| lo <= hi).unwrap_or(new)
}

/// The clock of one observation. Cheap to clone; all clones show the same.
#[derive(Clone, Debug)]
pub(crate) struct Clock(Arc<Mutex<Anchor>>);

#[derive(Clone, Copy, Debug)]
struct Anchor {
    wall: Moment,
    at: Instant,
}

impl Anchor {
    fn moment(&self, at: Instant) -> Moment {
        let millis = |d: Duration| i64::try_from(d.as_millis()).unwrap_or(i64::MAX);
        match at.checked_duration_since(self.at) {
            Some(after) => self.wall.plus(millis(after)),
            None => self.wall.plus(-millis(self.at.duration_since(at))),
        }
    }
}

impl Clock {
    pub(crate) fn start(wall: &WallClock) -> Self {
        Self::at(wall.now())
    }

    /// One that goes on after a moment of an earlier run, whose system's time may have been ahead.
    pub(crate) fn start_after(moment: Moment, wall: &WallClock) -> Self {
        Self::at(wall.now().max(moment))
    }

    fn at(wall: Moment) -> Self {
        Self(Arc::new(Mutex::new(Anchor { wall, at: Instant::now() })))
    }

    /// Reads the wall clock anew; only while no moment of this clock is kept.
    pub(crate) fn restart(&self, wall: &WallClock) {
        *self.0.lock() = Anchor { wall: wall.now(), at: Instant::now() };
    }

    /// The same between two calls: a room may live for weeks. It never goes back. By how much it has
    /// moved, in milliseconds.
    pub(crate) fn restart_after_call(&self, wall: &WallClock) -> i64 {
        let before = self.now();
        let now = wall.now().max(before);
        *self.0.lock() = Anchor { wall: now, at: Instant::now() };
        now.since(before)
    }

    pub(crate) fn now(&self) -> Moment {
        self.moment(Instant::now())
    }

    /// What this clock showed, or will show, at an instant.
    pub(crate) fn moment(&self, at: Instant) -> Moment {
        self.0.lock().moment(at)
    }

    /// When this clock will show `moment`; now, if it already has.
    pub(crate) fn instant(&self, moment: Moment) -> Instant {
        let anchor = *self.0.lock();
        anchor.at + Duration::from_millis(u64::try_from(moment.since(anchor.wall)).unwrap_or(0))
    }
}

fn moment(time: SystemTime) -> Moment {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn system() -> Moment {
        moment(SystemTime::now())
    }

    /// The server's time is `by` behind ours; the answer takes `took`.
    fn learn(wall: &WallClock, by: i64, took: Duration) {
        let asked = Instant::now();
        let server = system().plus(-by);
        wall.learn_join(server, server, asked, asked + took);
    }

    #[test]
    fn a_slow_answer_is_no_difference() {
        let health = Health::default();
        let wall = WallClock::new(health.clone());
        assert_eq!(wall.ahead(), None);
        let asked = Instant::now();
        // It was read on the way back, two seconds after the question.
        let server = system().plus(2_000);
        wall.learn_join(server, server, asked, asked + Duration::from_secs(3));
        assert_eq!((wall.ahead(), wall.wrong_by()), (Some(0), None));
        assert_eq!(health.warning(), None);
        assert!(wall.now().since(system()).abs() < 1_000);
    }

    #[test]
    fn a_difference_is_warned_of_once_and_taken_off_until_it_is_over() {
        for (by, side) in [(55_000, "55 s ahead of"), (-600_000, "600 s behind")] {
            let health = Health::default();
            let wall = WallClock::new(health.clone());
            learn(&wall, by, Duration::from_millis(20));
            let ahead = wall.ahead().unwrap();
            assert!((ahead - by).abs() < 1_000, "{ahead}");
            assert!((wall.now().since(system()) + by).abs() < 1_000);
            let warning = health.warning().unwrap();
            assert!(warning.contains(side), "{warning}");
            learn(&wall, 0, Duration::from_millis(20));
            assert_eq!((wall.ahead(), health.warning()), (Some(0), None));
        }
    }

    #[test]
    fn what_is_learned_again_and_again_grows_exact() {
        let wall = WallClock::new(Health::default());
        let (asked, ours) = (Instant::now(), system());
        // By its seconds alone the server's time is known to a second or two...
        let date = |ms: i64| httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(ms as u64));
        wall.learn_date(&date(ours.millis() - 10_000), false, asked, asked);
        let ahead = wall.ahead().unwrap();
        assert!((8_000..=12_000).contains(&ahead), "{ahead}");
        // ...by a join to a few milliseconds.
        let server = ours.plus(-9_700);
        wall.learn_join(server, server, asked, asked + Duration::from_millis(10));
        assert!((wall.ahead().unwrap() - 9_700).abs() < 500, "{:?}", wall.ahead());
        wall.learn_date("yesterday", false, asked, asked);
        assert!((wall.ahead().unwrap() - 9_700).abs() < 500);
    }

    #[test]
    fn what_a_proxy_says_of_the_time_counts_less_than_a_join() {
        let wall = WallClock::new(Health::default());
        let (asked, ours) = (Instant::now(), system());
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        // One that is kept tells when it was made.
        wall.learn_date(&date, true, asked, asked);
        assert_eq!(wall.ahead(), None);
        wall.learn_join(ours, ours, asked, asked + Duration::from_millis(20));
        wall.learn_date(&date, false, asked, asked);
        assert_eq!(wall.ahead(), Some(0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_goes_on_by_itself_and_never_back() {
        let wall = WallClock::new(Health::default());
        let clock = Clock::start(&wall);
        let began = clock.now();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(clock.now().since(began), 3_600_000);
        let later = began.plus(7_200_000);
        assert_eq!(clock.instant(later), Instant::now() + Duration::from_secs(3600));
        assert_eq!(clock.instant(began.plus(-5)), clock.instant(began));
        // The system's time did not move meanwhile: it seems to have been set back.
        assert_eq!(clock.restart_after_call(&wall), 0);
        assert!(clock.now().since(began) >= 3_600_000);
        clock.restart(&wall);
        assert!(clock.now().since(began) < 60_000);
        let after = Clock::start_after(later, &wall);
        assert_eq!(after.now(), later);
    }
}
