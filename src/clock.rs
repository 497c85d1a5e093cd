//! Time. The process has one [`WallClock`]: the system's time, compared with LiveKit's. Each observation has
//! a [`Clock`]: it reads the wall clock once and then follows the monotonic clock. So a step of the system's
//! time during a call does not change its durations.
//!
//! In: the server's time, from the `Date` of its answers and from our own `joined_at`, each with the
//! instants of request and answer. Out: the server's time now, and a warning if the system's time differs
//! from it. This module never waits and sends no requests.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use call::Moment;
use parking_lot::Mutex;
use reqwest::header::{AGE, DATE, HeaderMap};
use store::health::{Health, Topic};
use tokio::time::Instant;

/// A smaller difference may come from reading two clocks one after the other.
const SAME_CLOCK_MS: i64 = 50;
/// We warn from this difference on: signatures and tokens are valid for minutes only, and records show times
/// to people.
const WARN_AT_MS: i64 = 2_000;
/// Dates have whole seconds, and clocks drift by less than this between two of them.
const STEP_MS: i64 = 1_000;
/// The server's time is within this range of an HTTP date: a date has no fractions, and a proxy may have set
/// it a second ago.
const DATE_MS: (i64, i64) = (-1_000, 2_000);

/// Cheap to clone; all clones share one state.
#[derive(Clone, Debug)]
pub(crate) struct WallClock(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    health: Health,
    /// All instants are measured from here.
    anchor: Instant,
    server: Mutex<Learned>,
}

/// The server's time at [`Shared::anchor`] in milliseconds, each as lower and upper bound. `None` until it is
/// known.
#[derive(Clone, Copy, Debug, Default)]
struct Learned {
    /// From joins: LiveKit's own clock, which also sets the times in a record. Preferred to `dates`.
    joins: Option<(i64, i64)>,
    /// From the dates of answers; a proxy may have set them.
    dates: Option<(i64, i64)>,
}

impl WallClock {
    pub(crate) fn new(health: Health) -> Self {
        let server = Mutex::default();
        Self(Arc::new(Shared { health, anchor: Instant::now(), server }))
    }

    /// Learns from a join: it was between `asked` and `answered` by our clock, and between `from` and `to` by
    /// the server's.
    pub(crate) fn learn_join(&self, from: Moment, to: Moment, asked: Instant, answered: Instant) {
        let new = self.interval(from, to, asked, answered);
        let mut server = self.0.server.lock();
        server.joins = Some(narrowed(server.joins, new));
        drop(server);
        self.warn_of_difference();
    }

    /// Learns from the headers of an answer to a request that was sent at `asked`.
    pub(crate) fn learn_answer(&self, headers: &HeaderMap, asked: Instant) {
        if let Some(date) = headers.get(DATE).and_then(|d| d.to_str().ok()) {
            self.learn_date(date, headers.contains_key(AGE), asked, Instant::now());
        }
    }

    /// Learns from the header `Date` of an answer. `cached`: it has the header `Age`, so it comes from a
    /// cache and its date is old.
    pub(crate) fn learn_date(&self, date: &str, cached: bool, asked: Instant, answered: Instant) {
        let Some(date) = httpdate::parse_http_date(date).ok().filter(|_| !cached) else { return };
        let date = moment(date);
        let (from, to) = (date.plus(DATE_MS.0), date.plus(DATE_MS.1));
        let new = self.interval(from, to, asked, answered);
        let mut server = self.0.server.lock();
        if server.dates.is_some_and(|old| is_step(old, new)) {
            // A clock was set, or this machine slept: what joins have shown is no longer true.
            server.joins = None;
        }
        server.dates = Some(narrowed(server.dates, new));
        drop(server);
        self.warn_of_difference();
    }

    fn interval(&self, from: Moment, to: Moment, asked: Instant, answered: Instant) -> (i64, i64) {
        let at_anchor = |t: Moment, seen| t.millis().saturating_sub(self.elapsed(seen));
        (at_anchor(from, answered), at_anchor(to, asked))
    }

    /// The server's time if it is known to differ from the system's, else the system's.
    pub(crate) fn now(&self) -> Moment {
        let ours = moment(SystemTime::now());
        ours.plus(self.ahead_of(ours).unwrap_or(0).saturating_neg())
    }

    /// How far the system's time is ahead of the server's, in milliseconds; negative if it is behind, 0 if no
    /// difference can be measured. `None` until the server's time is known.
    pub(crate) fn ahead(&self) -> Option<i64> {
        self.ahead_of(moment(SystemTime::now()))
    }

    /// The same in seconds, if the difference is large enough for a warning.
    pub(crate) fn wrong_by(&self) -> Option<f64> {
        let ahead = self.ahead().filter(|ms| ms.abs() >= WARN_AT_MS)?;
        Some((ahead as f64 / 100.0).round() / 10.0)
    }

    fn ahead_of(&self, ours: Moment) -> Option<i64> {
        let server = *self.0.server.lock();
        let (lo, hi) = server.joins.or(server.dates)?;
        let ours = ours.millis() - self.elapsed(Instant::now());
        let (least, most) = (ours.saturating_sub(hi), ours.saturating_sub(lo));
        let same = least <= SAME_CLOCK_MS && most >= -SAME_CLOCK_MS;
        Some(if same { 0 } else { least.midpoint(most) })
    }

    fn elapsed(&self, at: Instant) -> i64 {
        elapsed(self.0.anchor, at)
    }

    /// Warns if the clocks differ: logs once when that begins and once when it ends.
    fn warn_of_difference(&self) {
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
                clock_ahead_s = ahead_s,
                advice = "records get LiveKit's time; set the clocks of both machines by NTP",
                "this machine's clock differs from LiveKit's"
            );
        }
    }
}

/// Whether dates have moved by more than clocks drift.
fn is_step(old: (i64, i64), new: (i64, i64)) -> bool {
    new.0.saturating_sub(old.1) > STEP_MS || old.0.saturating_sub(new.1) > STEP_MS
}

/// The intersection of both intervals. If there is none, a clock was set or has drifted since the old one was
/// learned, and the new one counts.
fn narrowed(old: Option<(i64, i64)>, new: (i64, i64)) -> (i64, i64) {
    let both = old.map(|(lo, hi)| (lo.max(new.0), hi.min(new.1)));
    both.filter(|(lo, hi)| lo <= hi).unwrap_or(new)
}

/// The clock of one observation. Cheap to clone; all clones show the same time.
#[derive(Clone, Debug)]
pub(crate) struct Clock(Arc<Mutex<Anchor>>);

#[derive(Clone, Copy, Debug)]
struct Anchor {
    wall: Moment,
    at: Instant,
}

impl Anchor {
    fn moment(&self, at: Instant) -> Moment {
        self.wall.plus(elapsed(self.at, at))
    }
}

impl Clock {
    pub(crate) fn start(wall: &WallClock) -> Self {
        Self::at(wall.now())
    }

    /// A clock that starts no earlier than a moment of an earlier run, whose system time may have been ahead.
    pub(crate) fn start_after(moment: Moment, wall: &WallClock) -> Self {
        Self::at(wall.now().max(moment))
    }

    fn at(wall: Moment) -> Self {
        Self(Arc::new(Mutex::new(Anchor { wall, at: Instant::now() })))
    }

    /// Reads the wall clock again. Call it only while no moment of this clock is in use.
    pub(crate) fn restart(&self, wall: &WallClock) {
        *self.0.lock() = Anchor { wall: wall.now(), at: Instant::now() };
    }

    /// Reads the wall clock again between two calls, as a room may live for weeks. The clock never goes back.
    /// `server_behind_ms`: by how many milliseconds it was ahead of the server's clock. Returns the same for
    /// the time after it: what is left if the server's time is known, else this and the move.
    pub(crate) fn restart_after_call(&self, wall: &WallClock, server_behind_ms: i64) -> i64 {
        let (before, server) = (self.now(), wall.now());
        let now = server.max(before);
        *self.0.lock() = Anchor { wall: now, at: Instant::now() };
        match wall.ahead() {
            Some(_) => now.since(server),
            None => server_behind_ms.saturating_add(now.since(before)),
        }
    }

    pub(crate) fn now(&self) -> Moment {
        self.moment(Instant::now())
    }

    /// The time that this clock shows at an instant, past or future.
    pub(crate) fn moment(&self, at: Instant) -> Moment {
        self.0.lock().moment(at)
    }

    /// When this clock shows `moment`; for a moment before the clock's start, the start.
    pub(crate) fn instant(&self, moment: Moment) -> Instant {
        let anchor = *self.0.lock();
        anchor.at + Duration::from_millis(u64::try_from(moment.since(anchor.wall)).unwrap_or(0))
    }
}

fn moment(time: SystemTime) -> Moment {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    Moment::from_millis(millis(since))
}

/// Milliseconds from one instant to another; negative if that was before.
fn elapsed(from: Instant, to: Instant) -> i64 {
    match to.checked_duration_since(from) {
        Some(after) => millis(after),
        None => -millis(from.duration_since(to)),
    }
}

/// Whole milliseconds.
pub(crate) fn millis(d: Duration) -> i64 {
    i64::try_from(d.as_millis()).unwrap_or(i64::MAX)
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
        wall.learn_join(server, server, asked, Instant::now() + took);
    }

    #[test]
    fn a_slow_answer_is_not_taken_for_a_difference() {
        let health = Health::default();
        let wall = WallClock::new(health.clone());
        assert_eq!(wall.ahead(), None);
        let asked = Instant::now();
        // The server read its clock two seconds after the request.
        let server = system().plus(2_000);
        wall.learn_join(server, server, asked, asked + Duration::from_secs(3));
        assert_eq!((wall.ahead(), wall.wrong_by()), (Some(0), None));
        assert_eq!(health.warning(), None);
        assert!(wall.now().since(system()).abs() < 1_000);
    }

    #[test]
    fn a_difference_is_reported_and_corrected_until_it_is_over() {
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
    fn a_difference_is_warned_of_from_two_seconds_on() {
        for (by, warned) in [(1_900, false), (2_200, true), (-1_900, false), (-2_200, true)] {
            let health = Health::default();
            let wall = WallClock::new(health.clone());
            learn(&wall, by, Duration::from_millis(1));
            assert_eq!(health.warning().is_some(), warned, "{by}");
            assert_eq!(wall.wrong_by().is_some(), warned, "{by}");
        }
    }

    #[test]
    fn joins_make_the_servers_time_more_exact_than_dates() {
        let wall = WallClock::new(Health::default());
        let (asked, ours) = (Instant::now(), system());
        // A date has only seconds, so it gives the server's time to a second or two...
        let date = |ms: i64| httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(ms as u64));
        wall.learn_date(&date(ours.millis() - 10_000), false, asked, asked);
        let ahead = wall.ahead().unwrap();
        assert!((8_000..=12_000).contains(&ahead), "{ahead}");
        // ...and a join gives it to a few milliseconds.
        let server = ours.plus(-9_700);
        wall.learn_join(server, server, asked, asked + Duration::from_millis(10));
        assert!((wall.ahead().unwrap() - 9_700).abs() < 500, "{:?}", wall.ahead());
        wall.learn_date("yesterday", false, asked, asked);
        assert!((wall.ahead().unwrap() - 9_700).abs() < 500);
    }

    #[test]
    fn a_date_counts_less_than_a_join() {
        let wall = WallClock::new(Health::default());
        let (asked, ours) = (Instant::now(), system());
        let answered = Instant::now();
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(60));
        // An answer from a cache has an old date.
        wall.learn_date(&date, true, asked, asked);
        assert_eq!(wall.ahead(), None);
        wall.learn_join(ours, ours, asked, answered + Duration::from_millis(20));
        wall.learn_date(&date, false, asked, asked);
        assert_eq!(wall.ahead(), Some(0));
    }

    #[test]
    fn dates_that_step_correct_what_joins_have_shown() {
        let wall = WallClock::new(Health::default());
        let dated = |behind: i64| {
            let (asked, server) = (Instant::now(), system().plus(-behind).millis() as u64);
            let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_millis(server));
            wall.learn_date(&date, false, asked, Instant::now());
        };
        // A proxy's clock is a minute ahead.
        dated(-60_000);
        learn(&wall, 0, Duration::from_millis(20));
        dated(-60_500);
        assert_eq!(wall.ahead(), Some(0), "joins count more");
        // Then the clocks step, and nobody joins.
        dated(600_000);
        let ahead = wall.ahead().unwrap();
        assert!((598_000..=602_000).contains(&ahead), "{ahead}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_runs_by_itself_and_never_goes_back() {
        let wall = WallClock::new(Health::default());
        let clock = Clock::start(&wall);
        let began = clock.now();
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(clock.now().since(began), 3_600_000);
        let later = began.plus(7_200_000);
        assert_eq!(clock.instant(later), Instant::now() + Duration::from_secs(3600));
        assert_eq!(clock.instant(began.plus(-5)), clock.instant(began));
        // Only tokio's time moved, so the system's time seems to have been set back.
        assert_eq!(clock.restart_after_call(&wall, 7), 7, "the server's time is not known");
        assert!(clock.now().since(began) >= 3_600_000);
        clock.restart(&wall);
        assert!(clock.now().since(began) < 60_000);
        // The server turns out to be 5 s ahead: the next call begins by its time.
        learn(&wall, -5_000, Duration::ZERO);
        let before = clock.now();
        let behind = clock.restart_after_call(&wall, 7);
        let moved = clock.now().since(before);
        assert!(behind == 0 && (4_500..=5_500).contains(&moved), "{behind} {moved}");
        // The server turns out to be 2 s behind that: our clock never goes back, so it stays ahead.
        learn(&wall, -3_000, Duration::ZERO);
        let behind = clock.restart_after_call(&wall, 0);
        assert!((1_500..=2_500).contains(&behind), "{behind}");
        let after = Clock::start_after(later, &wall);
        assert_eq!(after.now(), later);
    }
}
