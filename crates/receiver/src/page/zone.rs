//! The time zone of a reader: from the address (`tz=`), else from a cookie, else UTC.
//!
//! Times are shown in it, and days in filters are days of it. Addresses hold it wherever it is not UTC, so that a link
//! shows the same calls to everybody; the cookie keeps it from page to page.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, Uri, header},
    middleware::Next,
    response::Response,
};
use chrono::{
    DateTime, Datelike, LocalResult, NaiveDate, NaiveTime, TimeDelta, TimeZone, Timelike,
};
use chrono_tz::Tz;
use record::Moment;

use super::{headers, links::Pairs};
use crate::fields::{self, Kind};

/// The parameter, as in `/api/stats`.
pub(super) const NAME: &str = "tz";
const COOKIE: &str = "call_history_zone";
/// Seconds that the cookie lives.
const LIFE: u32 = 365 * 24 * 60 * 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Zone(Tz);

impl Zone {
    pub(super) const UTC: Self = Self(Tz::UTC);

    pub(super) fn parse(name: &str) -> Option<Self> {
        name.parse().ok().map(Self)
    }

    /// Of a request.
    pub(super) fn of(uri: &Uri, headers: &HeaderMap) -> Self {
        let given = in_address(uri).or_else(|| Self::parse(headers::cookie(headers, COOKIE)?));
        given.unwrap_or(Self::UTC)
    }

    /// `Europe/Berlin`
    pub(super) fn name(self) -> &'static str {
        self.0.name()
    }

    /// `Berlin`: for the head of a table.
    pub(super) fn short(self) -> String {
        let name = self.name();
        name.rsplit('/').next().unwrap_or(name).replace('_', " ")
    }

    /// `19:02:11`
    pub(super) fn time(self, millis: i64) -> String {
        self.local(millis).format("%H:%M:%S").to_string()
    }

    /// `24 Nov 2026`
    pub(super) fn day(self, millis: i64) -> String {
        self.local(millis).format("%-d %b %Y").to_string()
    }

    /// `Tuesday, 24 November 2026`
    pub(super) fn long_day(self, millis: i64) -> String {
        self.local(millis).format("%A, %-d %B %Y").to_string()
    }

    /// `24 Nov 2026, 19:02:11`
    pub(super) fn day_and_time(self, millis: i64) -> String {
        self.local(millis).format("%-d %b %Y, %H:%M:%S").to_string()
    }

    pub(super) fn date(self, millis: i64) -> NaiveDate {
        self.local(millis).date_naive()
    }

    /// The day of the week from Monday, and the hour.
    pub(super) fn hour_of_week(self, millis: i64) -> (usize, usize) {
        let local = self.local(millis);
        (local.weekday().num_days_from_monday() as usize, local.hour() as usize)
    }

    /// The first instant of a day, in milliseconds. Where clocks are set forward at midnight the day begins later.
    pub(super) fn begin(self, day: NaiveDate) -> i64 {
        let midnight = day.and_time(NaiveTime::MIN);
        for minutes in (0..=24 * 60).step_by(15) {
            match self.0.from_local_datetime(&(midnight + TimeDelta::minutes(minutes))) {
                LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => {
                    return at.timestamp_millis();
                }
                LocalResult::None => {}
            }
        }
        // A day that a zone left out, as Samoa did in 2011: it begins with the next.
        midnight.and_utc().timestamp_millis()
    }

    /// A query with this zone, unless it is UTC: for links.
    pub(super) fn in_query(self, mut pairs: Pairs) -> Pairs {
        pairs.retain(|(name, _)| name != NAME);
        if self != Self::UTC {
            pairs.push((NAME.into(), self.name().into()));
        }
        pairs
    }

    /// A query as the API understands it: days are instants, and there is no zone.
    pub(super) fn for_api(self, pairs: &[(String, String)]) -> Pairs {
        let rest = pairs.iter().filter(|(name, _)| name != NAME);
        rest.map(|(name, value)| (name.clone(), self.instant(name, value))).collect()
    }

    fn instant(self, name: &str, value: &str) -> String {
        let day = NaiveDate::parse_from_str(value, "%Y-%m-%d").ok();
        match day.filter(|_| self != Self::UTC && value.len() == 10 && is_time(name)) {
            Some(day) => Moment::from_millis(self.begin(day)).to_rfc3339(),
            None => value.to_owned(),
        }
    }

    /// The value of `Set-Cookie` that keeps it.
    pub(super) fn cookie(self) -> String {
        format!("{COOKIE}={}; Path=/; Max-Age={LIFE}; HttpOnly; SameSite=Lax", self.name())
    }

    fn local(self, millis: i64) -> DateTime<Tz> {
        DateTime::from_timestamp_millis(millis).unwrap_or_default().with_timezone(&self.0)
    }
}

/// Names of all zones by their region, in alphabetical order; those without a region first.
pub(super) fn regions() -> Vec<(&'static str, Vec<&'static str>)> {
    let mut all: Vec<(&str, Vec<&str>)> = vec![("", vec![])];
    let mut names: Vec<&str> = chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name()).collect();
    names.sort_unstable();
    for name in names {
        let region = name.split_once('/').map_or("", |(region, _)| region);
        match all.iter_mut().find(|(known, _)| *known == region) {
            Some((_, names)) => names.push(name),
            None => all.push((region, vec![name])),
        }
    }
    all
}

fn is_time(name: &str) -> bool {
    let field = fields::find(name).or_else(|| fields::find(name.rsplit_once('.')?.0));
    field.is_some_and(|field| field.kind == Kind::Time)
}

fn in_address(uri: &Uri) -> Option<Zone> {
    let values = uri.query()?.split('&').filter_map(|pair| pair.strip_prefix("tz="));
    // Names have letters, digits and `/_+-`; forms escape some of them.
    let name = |value: &str| value.replace("%2F", "/").replace("%2f", "/").replace("%2B", "+");
    values.map(name).find_map(|name| Zone::parse(&name))
}

/// A zone that an address names is kept for the pages after it.
pub(super) async fn keep(request: Request, next: Next) -> Response {
    let given = in_address(request.uri());
    let kept = headers::cookie(request.headers(), COOKIE).and_then(Zone::parse);
    let mut response = next.run(request).await;
    if let Some(zone) = given.filter(|zone| *zone != kept.unwrap_or(Zone::UTC))
        && let Ok(cookie) = HeaderValue::from_str(&zone.cookie())
    {
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> Zone {
        Zone::parse(name).unwrap()
    }

    #[test]
    fn a_day_begins_when_its_zone_says() {
        let begin = |name: &str, day: &str| {
            let day = NaiveDate::parse_from_str(day, "%Y-%m-%d").unwrap();
            Moment::from_millis(zone(name).begin(day)).to_rfc3339()
        };
        for (name, day, at) in [
            ("UTC", "2026-11-27", "2026-11-27T00:00:00.000Z"),
            ("Europe/Berlin", "2026-11-27", "2026-11-26T23:00:00.000Z"),
            ("America/New_York", "2026-07-01", "2026-07-01T04:00:00.000Z"),
            ("Asia/Kathmandu", "2026-11-27", "2026-11-26T18:15:00.000Z"),
            // Clocks go from 23:59:59 to 01:00.
            ("America/Santiago", "2026-09-06", "2026-09-06T04:00:00.000Z"),
            // Midnight comes twice: the first one counts.
            ("America/Havana", "2026-11-01", "2026-11-01T04:00:00.000Z"),
        ] {
            assert_eq!(begin(name, day), at, "{name}");
        }
    }

    #[test]
    fn days_of_a_query_become_instants_and_nothing_else_changes() {
        let pairs = |all: &[(&str, &str)]| -> Pairs {
            all.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
        };
        let query = pairs(&[
            ("start_time.ge", "2026-11-27"),
            ("start_time.lt", "2026-11-27T05:00:00Z"),
            ("q", "2026-11-27"),
            ("tz", "Europe/Berlin"),
        ]);
        let of = |name: &str| zone(name).for_api(&query);
        let mut expected = query.clone();
        expected.pop();
        assert_eq!(of("UTC"), expected);
        expected[0].1 = "2026-11-26T23:00:00.000Z".into();
        assert_eq!(of("Europe/Berlin"), expected);
        assert_eq!(zone("Europe/Berlin").in_query(expected.clone()).last(), query.last());
        assert_eq!(Zone::UTC.in_query(query).len(), 3);
    }

    #[test]
    fn an_address_names_its_zone() {
        let of = |uri: &str| in_address(&uri.parse().unwrap()).map(Zone::name);
        assert_eq!(of("/calls?q=a&tz=Europe%2FBerlin"), Some("Europe/Berlin"));
        assert_eq!(of("/calls?tz=Etc/GMT%2B3"), Some("Etc/GMT+3"));
        for none in ["/calls", "/calls?tz=", "/calls?tz=Nowhere", "/calls?ztz=UTC"] {
            assert_eq!(of(none), None, "{none}");
        }
    }
}
