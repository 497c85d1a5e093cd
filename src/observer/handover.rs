//! What an observer tells other workers, and how it leaves a call to them ([`claim`] says how they
//! find each other).

use std::{sync::Arc, time::Duration};

use call::Call;
use tokio::{sync::oneshot, time::timeout};

use super::{
    claim,
    room::{Connection, Notice},
    watch::Watch,
};

/// For another worker to take a call that we have to leave, and more for each call that is on: they
/// are all handed over at once.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(12);
const HAND_OVER_EACH: Duration = Duration::from_millis(20);
pub(crate) const HAND_OVER_AT_MOST: Duration = Duration::from_secs(30);
/// A room closes 20 s after the last one left it, by LiveKit's defaults; who leaves meanwhile makes
/// that longer.
pub(super) const LINGER: Duration = Duration::from_secs(25);

impl Watch {
    /// Looks for another worker that takes the room.
    pub(super) fn hand_over(&self) -> oneshot::Receiver<bool> {
        let (tell, taken) = oneshot::channel();
        let (shared, room, us) =
            (self.shared.clone(), self.assignment.room.clone(), self.assignment.identity());
        let calls = u32::try_from(Arc::strong_count(&shared.watching)).unwrap_or(u32::MAX);
        let within = HAND_OVER_WITHIN + HAND_OVER_EACH.saturating_mul(calls);
        let within = within.min(HAND_OVER_AT_MOST);
        tokio::spawn(async move {
            let (api, badge) = (&shared.api, &shared.badge);
            // Nobody listens any more only when the room has ended.
            let _ = tell.send(claim::hand_over(api, badge, &room, &us, within).await);
        });
        taken
    }

    /// This observer is none any more, though it is still in the room.
    pub(super) fn resign(&self) {
        let (api, room, us) =
            (self.shared.api.clone(), self.assignment.room.clone(), self.assignment.identity());
        tokio::spawn(async move { claim::resign(&api, &room, &us).await });
    }

    pub(super) async fn wait_for_the_end(&mut self, c: &mut Connection) {
        let end = async { while !matches!(c.next().await.1, Notice::Disconnected(_)) {} };
        tokio::select! {
            _ = timeout(LINGER, end) => {}
            () = self.stop.ending() => {}
        }
    }

    /// For a worker that takes this room over.
    pub(super) fn tell_ordinal(&self) {
        let ordinal = self.call.as_ref().map_or(0, Call::ordinal);
        if ordinal > 0 {
            let (api, room, us) =
                (self.shared.api.clone(), self.assignment.room.clone(), self.assignment.identity());
            tokio::spawn(async move { claim::tell_ordinal(&api, &room, &us, ordinal).await });
        }
    }
}
