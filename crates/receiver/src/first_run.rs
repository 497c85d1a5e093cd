//! The first login on a receiver that others can reach: a link in the log, which sets the password.
//!
//! The link holds for an hour, once, and only as long as nobody can log in otherwise. It lives in memory: a restart makes
//! a new one.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use parking_lot::Mutex;
use rand::RngCore;
use record::Moment;
use sha2::{Digest, Sha256};

/// Milliseconds.
const LIFE: i64 = 60 * 60 * 1_000;

/// What is kept of the link: not the link itself.
struct Open {
    hash: [u8; 32],
    until: Moment,
}

#[derive(Default)]
pub(crate) struct FirstRun(Mutex<Option<Open>>);

impl FirstRun {
    /// Makes the link, and returns its path. One before it is void.
    pub(crate) fn open(&self, now: Moment) -> String {
        let mut random = [0; 32];
        rand::rng().fill_bytes(&mut random);
        let key = BASE64.encode(random);
        *self.0.lock() = Some(Open { hash: hash(&key), until: now.plus(LIFE) });
        format!("/first-run?key={key}")
    }

    /// Whether this is the key of the link, and the link still holds.
    pub(crate) fn holds(&self, key: &str, now: Moment) -> bool {
        // Hashes are compared: how far they agree says nothing of the key.
        self.0.lock().as_ref().is_some_and(|open| open.hash == hash(key) && now < open.until)
    }

    /// The link was used.
    pub(crate) fn close(&self) {
        *self.0.lock() = None;
    }
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_holds_for_an_hour_until_it_is_used_or_another_is_made() {
        let first_run = FirstRun::default();
        let at = Moment::from_millis;
        assert!(!first_run.holds("", at(0)));
        let key = |path: String| path.rsplit_once('=').unwrap().1.to_owned();
        let first = key(first_run.open(at(0)));
        assert!(first_run.holds(&first, at(LIFE - 1)) && !first_run.holds(&first, at(LIFE)));
        let second = key(first_run.open(at(0)));
        assert!(!first_run.holds(&first, at(0)) && first_run.holds(&second, at(0)));
        first_run.close();
        assert!(!first_run.holds(&second, at(0)));
    }
}
