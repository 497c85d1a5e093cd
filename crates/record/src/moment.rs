//! Instants of a record.

use std::fmt;

use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch. Each use says whose clock shows them.
///
/// Always within the years 1 to 9999, so that its text has four digits for the year and texts
/// compare as the instants do. Rooms and journals can say any number: beyond these years it
/// becomes the first or the last of them.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(from = "i64", into = "i64")]
pub struct Moment(i64);

impl From<i64> for Moment {
    fn from(ms: i64) -> Self {
        Self::from_millis(ms)
    }
}

impl From<Moment> for i64 {
    fn from(moment: Moment) -> Self {
        moment.0
    }
}

impl Moment {
    /// `0001-01-01T00:00:00.000Z`.
    pub const MIN: Self = Self(-62_135_596_800_000);
    /// `9999-12-31T23:59:59.999Z`.
    pub const MAX: Self = Self(253_402_300_799_999);

    pub const fn from_millis(ms: i64) -> Self {
        if ms < Self::MIN.0 {
            Self::MIN
        } else if ms > Self::MAX.0 {
            Self::MAX
        } else {
            Self(ms)
        }
    }

    /// Milliseconds from `earlier` to `self`; negative if `earlier` is the later one.
    pub const fn since(self, earlier: Moment) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    pub const fn millis(self) -> i64 {
        self.0
    }

    pub const fn plus(self, ms: i64) -> Self {
        Self::from_millis(self.0.saturating_add(ms))
    }

    /// RFC 3339 in UTC with milliseconds and `Z`, as in the payload.
    pub fn to_rfc3339(self) -> String {
        DateTime::from_timestamp_millis(self.0)
            .unwrap_or_default()
            .to_rfc3339_opts(SecondsFormat::Millis, true)
    }

    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        Some(Self::from_millis(DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis()))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_compare_as_instants_do_however_wild_the_number() {
        let wild = [i64::MIN, -8_336_301_228_812_822, -1, 0, 1, 8_336_301_228_812_822, i64::MAX];
        let moments: Vec<Moment> = wild.map(Moment::from_millis).into();
        assert!(moments.is_sorted());
        assert!(moments.iter().map(|m| m.to_rfc3339()).is_sorted());
        assert_eq!(Moment::MIN.to_rfc3339(), "0001-01-01T00:00:00.000Z");
        assert_eq!(Moment::MAX.to_rfc3339(), "9999-12-31T23:59:59.999Z");
        assert_eq!(Moment::MAX.plus(i64::MAX), Moment::MAX);
        assert_eq!(serde_json::from_str::<Moment>("-9223372036854775808").unwrap(), Moment::MIN);
        assert_eq!(serde_json::to_string(&Moment::from_millis(5)).unwrap(), "5");
    }
}
