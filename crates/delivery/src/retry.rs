//! What an answer of the endpoint means, and how long to wait (docs/contract.md §7.3).

use std::time::{Duration, SystemTime};

use reqwest::StatusCode;

/// First wait, doubled each time.
const FIRST: Duration = Duration::from_secs(1);
/// Longest wait, unless the endpoint asks for a longer one.
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// An endpoint may ask for longer waits, up to this one.
pub(super) const LONGEST_ASKED: Duration = Duration::from_secs(60 * 60);
/// A record that was not taken for this long goes to `dead/`.
const GIVE_UP_AFTER: Duration = Duration::from_secs(72 * 60 * 60);
/// Wait after a 409 that may mean that the receiver is still working on the record.
pub(super) const ASK_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// 2025-01-01: no record is older. A clock that shows an earlier time was not set yet.
const FIRST_PLAUSIBLE: i64 = 1_735_689_600;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Delivered,
    /// The receiver will never take this body.
    Refused,
    Retry,
}

pub(super) fn verdict(status: StatusCode) -> Verdict {
    match status.as_u16() {
        // 409: the receiver already has this idempotency key.
        200..=299 | 409 => Verdict::Delivered,
        400 | 413 | 415 | 422 => Verdict::Refused,
        _ => Verdict::Retry,
    }
}

/// How long to wait after the `attempts`-th failure (from 1). `dice` is uniform in 0..1: full
/// jitter, so that many records do not come back at the same time.
pub(super) fn wait(attempts: u32, asked: Option<Duration>, dice: f64) -> Duration {
    let most = FIRST.saturating_mul(2u32.saturating_pow(attempts.saturating_sub(1).min(16)));
    let wait = most.min(LONGEST).mul_f64(dice.clamp(0.0, 1.0));
    asked.map_or(wait, |a| wait.max(a.min(LONGEST_ASKED)))
}

/// `Retry-After` in seconds or as an HTTP date. `now`: by the endpoint's clock.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    // A date in the past asks for no wait.
    Some(date.duration_since(now).unwrap_or_default())
}

/// Whether the receiver may still be working on the record after this answer (`None`: no answer). A 409
/// right after it then says that the record *is being* taken, and not that it *was*.
pub(super) fn is_unclear(status: Option<StatusCode>) -> bool {
    status.is_none_or(|s| matches!(s.as_u16(), 408 | 500 | 502..=504 | 520..=524))
}

/// Whether a record has waited for long enough. `first_at` and `now`: Unix seconds of its first attempt
/// and of this one, the `attempts`-th; `in_run`: time since the first attempt, where that was made by
/// this very process.
///
/// The system's time may be wrong, and may be set while records wait. The wait within this process is
/// measured without it. Of a wait that an earlier process recorded, no more counts than this number of
/// attempts can have taken. So a record may be tried for longer, never for less.
pub(super) fn is_given_up(
    first_at: i64,
    now: i64,
    attempts: u32,
    in_run: Option<Duration>,
) -> bool {
    let recorded = u64::try_from(now.saturating_sub(first_at)).unwrap_or(0);
    let waited = match in_run {
        Some(waited) => waited,
        None if !is_plausible(first_at, now) => Duration::ZERO,
        None => Duration::from_secs(recorded).min(LONGEST.saturating_mul(attempts)),
    };
    waited >= GIVE_UP_AFTER
}

/// Whether a recorded time can be true. `now`: Unix seconds.
pub(super) fn is_plausible(at: i64, now: i64) -> bool {
    (FIRST_PLAUSIBLE..=now).contains(&at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_mean_what_the_contract_says() {
        for (status, expected) in [
            (200, Verdict::Delivered),
            (204, Verdict::Delivered),
            (409, Verdict::Delivered),
            (400, Verdict::Refused),
            (413, Verdict::Refused),
            (415, Verdict::Refused),
            (422, Verdict::Refused),
            (301, Verdict::Retry),
            (401, Verdict::Retry),
            (403, Verdict::Retry),
            (404, Verdict::Retry),
            (408, Verdict::Retry),
            (425, Verdict::Retry),
            (429, Verdict::Retry),
            (500, Verdict::Retry),
            (503, Verdict::Retry),
        ] {
            assert_eq!(verdict(StatusCode::from_u16(status).unwrap()), expected, "{status}");
        }
    }

    #[test]
    fn waits_double_up_to_five_minutes_with_full_jitter() {
        let s = Duration::from_secs;
        assert_eq!(wait(1, None, 1.0), s(1));
        assert_eq!(wait(2, None, 1.0), s(2));
        assert_eq!(wait(5, None, 0.5), s(8));
        assert_eq!(wait(1000, None, 1.0), s(300));
        assert_eq!(wait(9, None, 0.0), s(0));
        assert_eq!(wait(1, Some(s(30)), 1.0), s(30));
        assert_eq!(wait(1, Some(s(7200)), 1.0), s(3600), "a longer wait is not granted");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        let date = "Sun, 06 Nov 1994 08:50:37 GMT";
        assert_eq!(retry_after(date, now), Some(Duration::from_secs(60)));
        let rfc_850 = "Sunday, 06-Nov-94 08:50:37 GMT";
        assert_eq!(retry_after(rfc_850, now), Some(Duration::from_secs(60)));
        let passed = "Tue, 06 Nov 1990 08:50:37 GMT";
        assert_eq!(retry_after(passed, now), Some(Duration::ZERO));
        for nonsense in ["soon", "", "-5", "Sun, 06 Nov 1990", "1.5"] {
            assert_eq!(retry_after(nonsense, now), None, "{nonsense}");
        }
    }

    #[test]
    fn a_409_is_doubted_only_after_an_unclear_answer() {
        for (status, unclear) in [
            (Some(520), true),
            (Some(524), true),
            (Some(525), false),
            (None, true),
            (Some(408), true),
            (Some(500), true),
            (Some(502), true),
            (Some(503), true),
            (Some(504), true),
            (Some(429), false),
            (Some(401), false),
            (Some(404), false),
            (Some(409), false),
            (Some(302), false),
            (Some(501), false),
        ] {
            let status = status.map(|s| StatusCode::from_u16(s).unwrap());
            assert_eq!(is_unclear(status), unclear, "{status:?}");
        }
    }

    #[test]
    fn a_record_is_given_up_after_72_hours_whatever_the_clock_did() {
        const HOUR: i64 = 3600;
        let now = 1_795_000_000;
        // Three days of five minutes.
        const MANY: u32 = 864;
        for (first_at, attempts, in_run, given_up) in [
            (now - 72 * HOUR, MANY, None, true),
            (now - 72 * HOUR + 1, MANY, None, false),
            (now - 1000 * HOUR, MANY, None, true),
            // The clock was set ten days ahead: so few attempts cannot take 72 h.
            (now - 240 * HOUR, 12, None, false),
            (now - 240 * HOUR, MANY - 1, None, false),
            // The host booted in 1970, and its clock was set later.
            (30, MANY, None, false),
            // The clock was ahead, and was set back.
            (now + 500 * HOUR, MANY, None, false),
            // Within this process only the time that really passed counts.
            (30, MANY, Some(20), false),
            (now - 100 * HOUR, MANY, Some(20), false),
            (now, 3, Some(72 * 3600), true),
        ] {
            let in_run = in_run.map(Duration::from_secs);
            let is = is_given_up(first_at, now, attempts, in_run);
            assert_eq!(is, given_up, "{first_at} {attempts} {in_run:?}");
        }
    }
}
