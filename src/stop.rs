//! How the process is asked to stop: first to drain, then to end now.

use tokio_util::sync::CancellationToken;

/// Cheap to clone; all clones are of one process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop {
    drain: CancellationToken,
    now: CancellationToken,
}

impl Stop {
    /// No new calls; those that are on go on to their end.
    pub(crate) fn drain(&self) {
        self.drain.cancel();
    }

    /// What is on is finished as it stands.
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

    /// Returns once the process is to end now.
    pub(crate) async fn ending(&self) {
        self.now.cancelled().await;
    }
}
