//! Limits guesses at the login: from each address a few wrong ones in a quarter of an hour.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr},
};

use axum::http::HeaderMap;
use parking_lot::Mutex;
use record::Moment;

use crate::port::Peer;

/// Wrong logins of one address within [`WINDOW`].
const MOST: u32 = 10;
/// Milliseconds.
const WINDOW: i64 = 15 * 60 * 1_000;
/// Addresses that are remembered.
const ADDRESSES: usize = 10_000;

struct Tried {
    times: u32,
    since: Moment,
}

#[derive(Default)]
pub(crate) struct Attempts(Mutex<HashMap<IpAddr, Tried>>);

impl Attempts {
    /// Counts an attempt, before it is looked at: many at the same time are counted too.
    ///
    /// # Errors
    /// There were too many: the seconds after which the next one is looked at.
    pub(super) fn begin(&self, from: IpAddr, now: Moment) -> Result<(), i64> {
        let mut all = self.0.lock();
        if all.len() >= ADDRESSES {
            all.retain(|_, tried| now.since(tried.since) < WINDOW);
        }
        if all.len() >= ADDRESSES {
            // Somebody has very many addresses. The hash of a password is slow, which limits them all together.
            all.clear();
        }
        let tried = all.entry(from).or_insert(Tried { times: 0, since: now });
        if now.since(tried.since) >= WINDOW {
            *tried = Tried { times: 0, since: now };
        }
        if tried.times >= MOST {
            return Err((WINDOW - now.since(tried.since)) / 1_000 + 1);
        }
        tried.times += 1;
        Ok(())
    }

    /// The attempt was right: what was wrong before it was a slip.
    pub(super) fn forgive(&self, from: IpAddr) {
        self.0.lock().remove(&from);
    }
}

/// Who tries. All of this machine count as one.
pub(super) fn address(headers: &HeaderMap, peer: Option<Peer>) -> IpAddr {
    let peer = peer.unwrap_or(Peer(Ipv4Addr::UNSPECIFIED.into()));
    peer.address(headers).unwrap_or(peer.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_some_wrong_logins_an_address_waits_and_others_do_not() {
        let (attempts, at) = (Attempts::default(), Moment::from_millis);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        for _ in 0..MOST {
            assert_eq!(attempts.begin(one, at(0)), Ok(()));
        }
        assert_eq!(attempts.begin(one, at(1_000)), Err(15 * 60));
        assert_eq!(attempts.begin(other, at(1_000)), Ok(()));
        assert_eq!(attempts.begin(one, at(WINDOW)), Ok(()));
        attempts.forgive(one);
        assert_eq!(attempts.0.lock().len(), 1);
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let attempts = Attempts::default();
        for n in 0..2 * ADDRESSES as u32 + 5 {
            let _ = attempts.begin(Ipv4Addr::from_bits(n).into(), Moment::from_millis(0));
        }
        assert!(attempts.0.lock().len() <= ADDRESSES);
    }

    #[test]
    fn only_a_proxy_of_this_machine_is_believed() {
        let of = |peer: &str, passed_on: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", passed_on.parse().unwrap());
            address(&headers, Some(Peer(peer.parse().unwrap()))).to_string()
        };
        assert_eq!(of("127.0.0.1", "203.0.113.9, 198.51.100.7"), "198.51.100.7");
        assert_eq!(of("127.0.0.1", "nonsense"), "127.0.0.1");
        assert_eq!(of("192.0.2.1", "203.0.113.9"), "192.0.2.1");
        assert_eq!(of("2001:db8::1:2:3:4", ""), "2001:db8::");
        assert_eq!(of("::ffff:192.0.2.1", ""), "192.0.2.1");
    }
}
