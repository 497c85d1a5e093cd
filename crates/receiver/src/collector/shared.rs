//! What all uploads share: keys, places, and how often the log says what went wrong.

use std::time::Duration;

use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::token::Key;
use crate::throttle::Throttle;

/// Uploads that are worked on at the same time.
const AT_ONCE: usize = 32;
/// An upload waits for a place so long.
const PLACE_WITHIN: Duration = Duration::from_secs(3);

pub(crate) struct Collector {
    /// Empty: agents are asked to upload nothing.
    pub(super) keys: Vec<Key>,
    pub(super) max_recording: u64,
    places: Semaphore,
    pub(super) refused: Throttle,
    pub(super) unreadable: Throttle,
    pub(super) failed: Throttle,
}

impl Collector {
    pub(crate) fn new(keys: Vec<Key>, max_recording: u64) -> Self {
        Self {
            keys,
            max_recording,
            places: Semaphore::new(AT_ONCE),
            refused: Throttle::new(),
            unreadable: Throttle::new(),
            failed: Throttle::new(),
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        !self.keys.is_empty()
    }

    pub(super) async fn place(&self) -> Option<SemaphorePermit<'_>> {
        timeout(PLACE_WITHIN, self.places.acquire()).await.ok()?.ok()
    }
}
