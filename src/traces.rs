//! Traces for OpenTelemetry: a span for each call, and one for each attempt to deliver its record (docs/traces.md).
//! Only in builds with the feature `otlp`.

use std::time::Duration;

use delivery::Follow;
use tokio::{task::JoinHandle, time::timeout};

#[cfg(feature = "otlp")]
mod otlp;

/// What follows the attempts, and sends spans.
#[derive(Default)]
pub(crate) struct Traces {
    follow: Option<Follow>,
    /// Ends when nothing follows any more and all spans are sent.
    sending: Option<JoinHandle<()>>,
}

impl Traces {
    /// Follows nothing if the build has no traces, or the environment names no collector.
    pub(crate) fn start() -> Self {
        #[cfg(feature = "otlp")]
        if let Some((follow, sending)) = otlp::start() {
            return Self { follow: Some(follow), sending: Some(sending) };
        }
        Self::default()
    }

    pub(crate) fn follow(&self) -> Option<Follow> {
        self.follow.clone()
    }

    /// Gives the last spans time to be sent. Call it when delivery has ended.
    pub(crate) async fn flush(self, within: Duration) {
        drop(self.follow);
        if let Some(sending) = self.sending {
            // Spans that no collector takes in time are lost, as the documentation says.
            let _ = timeout(within, sending).await;
        }
    }
}
