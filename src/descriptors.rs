//! File descriptors: each call, each connection to the port and each record on its way takes some.
//!
//! Libraries name a shortage of them in words of their own, or not at all ("internal webrtc
//! failure"). So it is looked for here, now and then and where something failed, and named.

use std::{
    fs::{self, File},
    io,
    time::Duration,
};

use store::health::{Health, Topic};
use tokio::time::{MissedTickBehavior, interval};

/// What a call takes, measured: a websocket, a journal, one kept connection for requests to
/// LiveKit; and a UDP socket for each address of this host.
const PER_CALL: u64 = 3;
/// What all else may take: the port's connections, records on their way, what is always open.
const BESIDE_CALLS: u64 = 320;
/// With fewer left, the next join or request is likely to fail.
const HARDLY_ANY: usize = 8;
const LOOK_EVERY: Duration = Duration::from_secs(5);
const ADVICE: &str = "raise the limit of open files (ulimit -n, systemd LimitNOFILE=, \
    docker --ulimit nofile=) or lower CALL_HISTORY_MAX_CALLS";

/// Whose descriptors are all in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shortage {
    Process,
    System,
}

impl Shortage {
    fn of(error: &io::Error) -> Option<Self> {
        // EMFILE and ENFILE; they have these numbers on every Unix.
        match error.raw_os_error() {
            Some(24) => Some(Self::Process),
            Some(23) => Some(Self::System),
            _ => None,
        }
    }

    fn text(self) -> String {
        match (self, in_use(), limit()) {
            (Self::System, ..) => "no file descriptors are left on this system".into(),
            (Self::Process, Some(used), Some(limit)) => {
                let left = if used < limit { "hardly any" } else { "no" };
                format!("{left} file descriptors are left ({used} of {limit} in use)")
            }
            (Self::Process, ..) => "no file descriptors are left".into(),
        }
    }
}

/// Whether `n` more can be had, found out by having them for a moment.
fn shortage(n: usize) -> Option<Shortage> {
    let mut held = Vec::with_capacity(n);
    for _ in 0..n {
        match File::open("/dev/null") {
            Ok(file) => held.push(file),
            Err(e) => return Shortage::of(&e),
        }
    }
    None
}

/// How many this process may have; `None` where that is not told.
pub(crate) fn limit() -> Option<u64> {
    rlimit::Resource::NOFILE.get_soft().ok()
}

/// How many it has; `None` where that is not told.
fn in_use() -> Option<u64> {
    match fs::read_dir("/proc/self/fd") {
        // Reading the folder takes one.
        Ok(all) => Some((all.count() as u64).saturating_sub(1)),
        Err(e) if Shortage::of(&e) == Some(Shortage::Process) => limit(),
        Err(_) => None,
    }
}

/// An error of something that needs descriptors; if they are short, that is said first.
pub(crate) fn explain(error: String) -> String {
    match shortage(HARDLY_ANY) {
        Some(short) => format!("{}: {error}", short.text()),
        None => error,
    }
}

/// How many so many calls need, on a host with so many addresses.
fn needed(calls: usize, addresses: usize) -> u64 {
    (calls as u64).saturating_mul(PER_CALL + addresses.max(1) as u64).saturating_add(BESIDE_CALLS)
}

/// Warns if the calls that are allowed need more than there are. To be called once the limit was
/// raised.
pub(crate) fn warn_if_few(max_calls: usize) {
    let addresses = if_addrs::get_if_addrs().unwrap_or_default();
    let addresses = addresses.iter().filter(|a| !a.is_loopback() && !a.is_link_local()).count();
    let needed = needed(max_calls, addresses);
    if let Some(limit) = limit().filter(|limit| *limit < needed) {
        tracing::warn!(
            limit,
            needed,
            max_calls,
            advice = ADVICE,
            "too few file descriptors for CALL_HISTORY_MAX_CALLS"
        );
    }
}

/// Looks now and then, for as long as it is polled: the log and the health page say when they run
/// out, and when that is over.
pub(crate) async fn watch(health: Health) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Some(short) = shortage(HARDLY_ANY) {
            say(&health, &short.text());
        } else if shortage(2 * HARDLY_ANY).is_none() && health.clear(Topic::Descriptors) {
            tracing::info!("there are file descriptors again");
        }
    }
}

/// Whether an error is a shortage of them; then it is said. [`watch`] says when it is over.
pub(crate) fn are_missing(error: &io::Error, health: &Health) -> bool {
    let short = Shortage::of(error);
    if let Some(short) = short {
        say(health, &short.text());
    }
    short.is_some()
}

fn say(health: &Health, short: &str) {
    if health.warn(Topic::Descriptors, short.to_owned()) {
        tracing::error!(
            error = short,
            advice = ADVICE,
            "file descriptors run out: calls may not be joined, the port may not answer"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_is_no_shortage_is_left_as_it_is() {
        assert_eq!(explain("refused".into()), "refused");
        assert!(!are_missing(&io::ErrorKind::ConnectionAborted.into(), &Health::default()));
    }

    #[test]
    fn a_shortage_is_on_the_health_page_until_it_is_over() {
        let health = Health::default();
        assert!(are_missing(&io::Error::from_raw_os_error(24), &health));
        let warning = health.warning().unwrap();
        assert!(warning.contains("file descriptors are left ("), "{warning}");
        assert!(are_missing(&io::Error::from_raw_os_error(23), &health));
        assert!(health.warning().unwrap().ends_with("on this system"));
    }

    #[test]
    fn more_calls_and_more_addresses_need_more() {
        assert_eq!(needed(1000, 1), 4_320);
        assert_eq!(needed(1000, 0), 4_320, "a host has at least one");
        assert_eq!(needed(1000, 12), 15_320);
    }
}
