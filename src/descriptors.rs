//! File descriptors: each call, each connection to the port and each record being posted needs some.
//!
//! Libraries report a lack of descriptors in different words, or not at all ("internal webrtc failure").
//! So this module checks for it, at intervals and after failures, and reports it.

use std::{
    fs::{self, File},
    io,
    time::Duration,
};

use store::health::{Health, Topic};
use tokio::time::{MissedTickBehavior, interval};

/// Descriptors of a call, measured: a websocket, a journal, and one kept connection for requests to LiveKit.
/// A UDP socket for each address of this host is added.
const PER_CALL: u64 = 3;
/// Descriptors of everything else: the port's connections, records being posted, files that are always open.
const BESIDE_CALLS: u64 = 320;
/// If fewer are free, the next join or request is likely to fail.
const HARDLY_ANY: usize = 8;
const CHECK_EVERY: Duration = Duration::from_secs(5);
pub(crate) const ADVICE: &str = "raise the limit of open files (ulimit -n, systemd LimitNOFILE=, \
    docker --ulimit nofile=) or lower CALL_HISTORY_MAX_CALLS";

/// Which limit is reached.
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

/// Checks for `n` free descriptors by opening that many for a moment.
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

/// How many descriptors this process may have; `None` if the system does not report it.
pub(crate) fn limit() -> Option<u64> {
    rlimit::Resource::NOFILE.get_soft().ok()
}

/// How many descriptors it has open; `None` if the system does not report it.
pub(crate) fn in_use() -> Option<u64> {
    match fs::read_dir("/proc/self/fd") {
        // Reading the folder needs one itself.
        Ok(all) => Some((all.count() as u64).saturating_sub(1)),
        Err(e) if Shortage::of(&e) == Some(Shortage::Process) => limit(),
        Err(_) => None,
    }
}

/// Puts a lack of descriptors, if there is one, in front of an error that it may have caused.
pub(crate) fn explain(error: String) -> String {
    match shortage(HARDLY_ANY) {
        Some(short) => format!("{}: {error}", short.text()),
        None => error,
    }
}

/// How many descriptors the calls need on a host with this many addresses.
fn needed(calls: usize, addresses: usize) -> u64 {
    (calls as u64).saturating_mul(PER_CALL + addresses.max(1) as u64).saturating_add(BESIDE_CALLS)
}

/// Warns if the allowed calls need more descriptors than the limit. Call it after the limit was raised.
pub(crate) fn warn_if_few(max_calls: usize) {
    let (limit, needed) = limit_and_need(max_calls);
    if let Some(limit) = limit.filter(|limit| *limit < needed) {
        tracing::warn!(
            limit,
            needed,
            max_calls,
            advice = ADVICE,
            "too few file descriptors for CALL_HISTORY_MAX_CALLS"
        );
    }
}

/// How many descriptors the process may have, and how many that number of calls needs.
pub(crate) fn limit_and_need(max_calls: usize) -> (Option<u64>, u64) {
    let addresses = if_addrs::get_if_addrs().unwrap_or_default();
    let addresses = addresses.iter().filter(|a| !a.is_loopback() && !a.is_link_local()).count();
    (limit(), needed(max_calls, addresses))
}

/// Checks at intervals, as long as it is polled. The log and the health page report when descriptors run out
/// and when that is over.
pub(crate) async fn watch(health: Health) {
    let mut tick = interval(CHECK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Some(short) = shortage(HARDLY_ANY) {
            warn(&health, &short.text());
        } else if shortage(2 * HARDLY_ANY).is_none() && health.clear(Topic::Descriptors) {
            tracing::info!("there are file descriptors again");
        }
    }
}

/// Whether an error is a lack of descriptors, which is then reported. [`watch`] reports when it is over.
pub(crate) fn report_shortage(error: &io::Error, health: &Health) -> bool {
    let short = Shortage::of(error);
    if let Some(short) = short {
        warn(health, &short.text());
    }
    short.is_some()
}

fn warn(health: &Health, short: &str) {
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
    fn an_error_that_is_not_a_shortage_is_unchanged() {
        assert_eq!(explain("refused".into()), "refused");
        assert!(!report_shortage(&io::ErrorKind::ConnectionAborted.into(), &Health::default()));
    }

    #[test]
    fn a_shortage_is_on_the_health_page_until_it_is_over() {
        let health = Health::default();
        assert!(report_shortage(&io::Error::from_raw_os_error(24), &health));
        let warning = health.warning().unwrap();
        assert!(warning.contains("file descriptors are left ("), "{warning}");
        assert!(report_shortage(&io::Error::from_raw_os_error(23), &health));
        assert!(health.warning().unwrap().ends_with("on this system"));
    }

    #[test]
    fn more_calls_and_more_addresses_need_more() {
        assert_eq!(needed(1000, 1), 4_320);
        assert_eq!(needed(1000, 0), 4_320, "a host has at least one");
        assert_eq!(needed(1000, 12), 15_320);
    }
}
