//! How often one reader may ask: requests of the API, and wrong tokens.
//!
//! Two budgets, both for a minute. One is of requests, for each token and for each address. The other is of tokens that
//! are not known, for each address. A reader without budget is answered 429 with the seconds to wait.
//!
//! **A worker is never locked out.** A post that may be made is always taken, whatever else came from its address: only
//! its own wrong signatures are answered 429 in place of 401. The worker sends both again.
//!
//! Where they are asked: `limited_api` and `limited_posts` in [`crate::server`]. Requests of this machine have no address to limit, unless a proxy on it says for whom it asks.

use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    time::{Duration, Instant},
};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use parking_lot::Mutex;

use crate::{access, answer::Refused, throttle::Throttle};

const MINUTE: Duration = Duration::from_secs(60);
/// Readers that are remembered; bounds memory.
const READERS: usize = 20_000;

static LIMITED: Throttle = Throttle::new();

/// Requests a minute; 0: as many as one likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Of the API, by one token and by one address.
    pub requests: u32,
    /// With a token that is not known, from one address.
    pub failures: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self { requests: 600, failures: 30 }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Reader {
    Address(IpAddr),
    /// The hash of what was given as a token.
    Token(Vec<u8>),
}

pub(crate) struct Limits {
    requests: Budget<Reader>,
    failures: Budget<IpAddr>,
}

impl Limits {
    pub(crate) fn new(rates: Rates) -> Self {
        Self { requests: Budget::new(rates.requests), failures: Budget::new(rates.failures) }
    }

    /// Whether a request of the API may be looked at.
    pub(crate) fn may_ask(
        &self,
        from: Option<IpAddr>,
        token: Option<&str>,
    ) -> Result<(), TooOften> {
        let now = Instant::now();
        if let Some(address) = from {
            let wrong = "too many tokens that are not known came from this address";
            self.failures.look(&address, now).map_err(|wait| TooOften { why: wrong, wait })?;
        }
        let many = "too many requests in a minute";
        let address = from.map(Reader::Address);
        let token = token.map(|token| Reader::Token(access::hash(token)));
        for reader in address.into_iter().chain(token) {
            self.requests.take(reader, now).map_err(|wait| TooOften { why: many, wait })?;
        }
        Ok(())
    }

    /// A request was answered 401.
    pub(crate) fn failed(&self, from: Option<IpAddr>) -> Result<(), TooOften> {
        let Some(address) = from else { return Ok(()) };
        let why = "too many wrong signatures or tokens came from this address";
        self.failures.take(address, Instant::now()).map_err(|wait| TooOften { why, wait })
    }
}

/// Why a reader has to wait, and how long.
pub(crate) struct TooOften {
    /// One of our own texts.
    why: &'static str,
    wait: Duration,
}

impl IntoResponse for TooOften {
    fn into_response(self) -> Response {
        if let Some(times) = LIMITED.due() {
            tracing::warn!(why = self.why, times, "requests are limited");
        }
        let seconds = self.wait.as_secs() + 1;
        let mut response = Refused::new(StatusCode::TOO_MANY_REQUESTS, self.why).into_response();
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        response
    }
}

/// A budget that fills up evenly within a minute, for each of many readers (the generic cell rate algorithm). Of each
/// only one instant is kept: when the budget is full again.
struct Budget<K> {
    /// How long one takes; `None`: no limit.
    one: Option<Duration>,
    full_at: Mutex<HashMap<K, Instant>>,
}

impl<K: Eq + Hash> Budget<K> {
    fn new(a_minute: u32) -> Self {
        Self { one: MINUTE.checked_div(a_minute), full_at: Mutex::default() }
    }

    /// Takes one.
    ///
    /// # Errors
    /// There is none: after this time there is.
    fn take(&self, reader: K, now: Instant) -> Result<(), Duration> {
        let Some(one) = self.one else { return Ok(()) };
        let mut all = self.full_at.lock();
        if all.len() >= READERS {
            all.retain(|_, full_at| *full_at > now);
        }
        if all.len() >= READERS {
            // Somebody has very many addresses. All begin anew: the number of connections limits them together.
            all.clear();
        }
        let full_at = all.entry(reader).or_insert(now);
        let next = (*full_at).max(now) + one;
        Self::fits(next, now)?;
        *full_at = next;
        Ok(())
    }

    /// Whether [`Self::take`] would succeed.
    fn look(&self, reader: &K, now: Instant) -> Result<(), Duration> {
        let Some(one) = self.one else { return Ok(()) };
        match self.full_at.lock().get(reader) {
            None => Ok(()),
            Some(full_at) => Self::fits((*full_at).max(now) + one, now),
        }
    }

    fn fits(full_at: Instant, now: Instant) -> Result<(), Duration> {
        let too_long = full_at.saturating_duration_since(now).saturating_sub(MINUTE);
        if too_long.is_zero() { Ok(()) } else { Err(too_long) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_of_a_minute_and_fills_up_evenly() {
        let (budget, begin) = (Budget::new(4), Instant::now());
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        for _ in 0..4 {
            assert_eq!(budget.take("one", at(0)), Ok(()));
        }
        assert_eq!(budget.take("one", at(0)), Err(Duration::from_secs(15)));
        assert_eq!(budget.look(&"one", at(5)), Err(Duration::from_secs(10)));
        assert_eq!(budget.take("another", at(5)), Ok(()));
        assert_eq!(budget.look(&"one", at(15)), Ok(()), "to look takes nothing");
        assert_eq!(budget.take("one", at(15)), Ok(()));
        assert_eq!(budget.take("one", at(15)), Err(Duration::from_secs(15)));
        let unlimited = Budget::new(0);
        assert!((0..10_000).all(|_| unlimited.take("one", at(0)).is_ok()));
    }

    #[test]
    fn the_number_of_readers_is_bounded() {
        let (budget, now) = (Budget::new(1), Instant::now());
        for n in 0..2 * READERS + 5 {
            let _ = budget.take(n, now);
        }
        assert!(budget.full_at.lock().len() <= READERS);
    }
}
