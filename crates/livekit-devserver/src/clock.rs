//! Time and identifiers.
//!
//! In: nothing. Out: the monotonic clock (tokio's, so that a test can pause it), the wall clock, and
//! ids in the form LiveKit gives them. A room must never call `Instant::now()` itself: a test on
//! paused time would then wait for real seconds.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock that all timers of a room use.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Wall clock in milliseconds since 1970.
pub(crate) fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64)
}

/// Wall clock in nanoseconds since 1970, as job states carry it.
pub(crate) fn wall_ns() -> i64 {
    wall_ms() * 1_000_000
}

/// `RM_…`, `PA_…`, `TR_…`, `AW_…`, `AJ_…`, `AD_…`: the prefix and twelve characters. The alphabet leaves out
/// characters that look alike.
pub(crate) fn id(prefix: &str) -> String {
    const ALPHABET: &[u8] = b"23456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    let pick = |_| ALPHABET[rand::random_range(0..ALPHABET.len())] as char;
    format!("{prefix}_{}", (0..12).map(pick).collect::<String>())
}
