//! Hands a room over to another worker: gives up the claim and waits for a successor.

use std::{collections::HashMap, time::Duration};

use tokio::time::{Instant, sleep};

use super::claim::{Badge, LEAVING, call_attribute};
use crate::net::Api;

/// How long we wait for another worker to take a call over: a base, an addition for each running call (all
/// are handed over at once), and a limit.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(12);
const HAND_OVER_EACH: Duration = Duration::from_millis(20);
pub(crate) const HAND_OVER_AT_MOST: Duration = Duration::from_secs(30);
/// Time between checks for a successor. It is randomized, as all calls are handed over at once.
const CHECK_EVERY: Duration = Duration::from_millis(1_000);
/// Attempts to change our claim.
const TRIES: u32 = 3;

/// How long we wait for a successor if so many rooms are handed over at once.
pub(crate) fn successor_timeout(rooms: usize) -> Duration {
    let rooms = u32::try_from(rooms).unwrap_or(u32::MAX);
    (HAND_OVER_WITHIN + HAND_OVER_EACH.saturating_mul(rooms)).min(HAND_OVER_AT_MOST)
}

/// Shows the ordinal of the current call to other workers.
pub(crate) async fn show_ordinal(api: &Api, room: &str, us: &str, ordinal: u32) {
    set(api, room, us, call_attribute(ordinal)).await;
}

/// Gives up the claim; the observer stays connected.
pub(crate) async fn release_claim(api: &Api, room: &str, us: &str) {
    set(api, room, us, [(LEAVING.to_owned(), "true".to_owned())]).await;
}

/// Gives up the claim and waits for a successor. False if no other worker took the room in time.
pub(crate) async fn hand_over(
    api: &Api,
    badge: &Badge,
    room: &str,
    us: &str,
    within: Duration,
) -> bool {
    let until = Instant::now() + within;
    release_claim(api, room, us).await;
    // A successor must be seen twice in a row: a worker that had not seen that we leave may have
    // withdrawn for us meanwhile.
    let mut before = String::new();
    while Instant::now() < until {
        sleep(CHECK_EVERY.mul_f64(rand::random_range(0.7..1.3))).await;
        let Ok(participants) = api.list_participants(room).await else { continue };
        let occupancy = badge.read(&participants);
        let next = occupancy.holder(badge.worker()).filter(|c| c.active);
        let next = next.map(|c| c.identity.clone()).unwrap_or_default();
        if !next.is_empty() && next == before {
            return true;
        }
        before = next;
    }
    false
}

async fn set(
    api: &Api,
    room: &str,
    us: &str,
    attributes: impl IntoIterator<Item = (String, String)>,
) {
    let attributes: HashMap<String, String> = attributes.into_iter().collect();
    for _ in 0..TRIES {
        match api.set_attributes(room, us, attributes.clone()).await {
            Ok(_) => return,
            Err(e) => tracing::debug!(error = %e, "our claim could not be changed"),
        }
        sleep(CHECK_EVERY.mul_f64(rand::random())).await;
    }
}
