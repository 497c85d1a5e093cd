//! The two stages of stopping the process: drain, then end now.

use tokio_util::sync::CancellationToken;

/// Cheap to clone; all clones share one state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    drain: CancellationToken,
    now: CancellationToken,
}

impl Stop {
    /// Takes no new calls; running calls go on until they end.
    pub(crate) fn drain(&self) {
        self.drain.cancel();
    }

    /// Also ends running calls: they are handed over or reported as they stand.
    pub(crate) fn now(&self) {
        self.drain.cancel();
        self.now.cancel();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    pub(crate) fn is_now(&self) -> bool {
        self.now.is_cancelled()
    }

    /// Returns once the process drains.
    pub(crate) async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Returns once the process must end now.
    pub(crate) async fn ending(&self) {
        self.now.cancelled().await;
    }
}
