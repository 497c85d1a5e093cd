//! What an answer of the endpoint means, and how long to wait (contract §4).

use std::time::Duration;

use reqwest::StatusCode;

/// First wait, doubled each time.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(5 * 60);
/// A receiver may ask for more patience than that, up to this.
const LONGEST_ASKED: Duration = Duration::from_secs(60 * 60);
/// A record that was not taken for this long goes to `dead/`.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(72 * 60 * 60);

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

/// `Retry-After` in seconds or as an HTTP date.
pub(super) fn retry_after(value: &str, now: chrono::DateTime<chrono::Utc>) -> Option<Duration> {
    let value = value.trim();
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = chrono::DateTime::parse_from_rfc2822(value).ok()?;
    Some((date.with_timezone(&chrono::Utc) - now).to_std().unwrap_or_default())
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
        assert_eq!(wait(1, Some(s(7200)), 1.0), s(3600), "more patience is not given");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = chrono::DateTime::from_timestamp(784_111_777, 0).unwrap();
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        let date = "Sun, 06 Nov 1994 08:50:37 GMT";
        assert_eq!(retry_after(date, now), Some(Duration::from_secs(60)));
        assert_eq!(retry_after("Sun, 06 Nov 1990 08:50:37 GMT", now), None);
        assert_eq!(retry_after("soon", now), None);
    }
}
