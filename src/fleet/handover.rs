//! Leaving a room to another worker: the claim is given up, and a successor is waited for.

use std::time::Duration;

use livekit_api::services::room::{RoomClient, UpdateParticipantOptions};
use tokio::time::{Instant, sleep};

use super::claim::{Badge, LEAVING, call_attribute};

/// For another worker to take a call that we have to leave, and more for each call that is on: they
/// are all handed over at once.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(12);
const HAND_OVER_EACH: Duration = Duration::from_millis(20);
pub(crate) const HAND_OVER_AT_MOST: Duration = Duration::from_secs(30);
/// Between one look for a successor and the next, spread as all calls are handed over at once.
const LOOK_EVERY: Duration = Duration::from_millis(1_000);
/// A change of our claim is tried so often.
const TRIES: u32 = 3;

/// For how long a successor is waited for, where so many rooms are handed over at once.
pub(crate) fn patience(rooms: usize) -> Duration {
    let rooms = u32::try_from(rooms).unwrap_or(u32::MAX);
    (HAND_OVER_WITHIN + HAND_OVER_EACH.saturating_mul(rooms)).min(HAND_OVER_AT_MOST)
}

/// Shows the other workers which call of the room it is by now.
pub(crate) async fn show_ordinal(api: &RoomClient, room: &str, us: &str, ordinal: u32) {
    set(api, room, us, call_attribute(ordinal)).await;
}

/// Gives the claim up, though the observer stays in the room for a while.
pub(crate) async fn resign(api: &RoomClient, room: &str, us: &str) {
    set(api, room, us, [(LEAVING.to_owned(), "true".to_owned())]).await;
}

/// Gives the room up: waits until an observer of another worker is there to stay. False if none came
/// in time.
pub(crate) async fn hand_over(
    api: &RoomClient,
    badge: &Badge,
    room: &str,
    us: &str,
    within: Duration,
) -> bool {
    let until = Instant::now() + within;
    resign(api, room, us).await;
    // Seen twice: one that had not heard of our leaving may itself have left meanwhile.
    let mut before = String::new();
    while Instant::now() < until {
        sleep(LOOK_EVERY.mul_f64(rand::random_range(0.7..1.3))).await;
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
    api: &RoomClient,
    room: &str,
    us: &str,
    attributes: impl IntoIterator<Item = (String, String)>,
) {
    let attributes = attributes.into_iter().collect();
    let options = UpdateParticipantOptions { attributes, ..Default::default() };
    for _ in 0..TRIES {
        match api.update_participant(room, us, options.clone()).await {
            Ok(_) => return,
            Err(e) => tracing::debug!(error = %e, "our claim could not be changed"),
        }
        sleep(LOOK_EVERY.mul_f64(rand::random())).await;
    }
}
