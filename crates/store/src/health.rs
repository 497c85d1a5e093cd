//! What the worker says about itself: warnings by topic, which the health page shows and which stop no work, and
//! metrics.

use std::{collections::BTreeMap, sync::Arc};

use metrics::Metrics;
use tokio::sync::watch;

/// What can be wrong. Each topic has one owner in the code, which warns and clears; two owners must not
/// share a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Another program uses our agent name.
    AgentName,
    /// The attempts at records are not written.
    Attempts,
    /// Many records wait for the endpoint.
    Backlog,
    /// The worker cannot take more calls.
    Calls,
    /// This machine's clock and LiveKit's differ.
    Clock,
    /// File descriptors run out.
    Descriptors,
    /// The disk does not answer.
    Disk,
    /// The endpoint does not take records.
    Endpoint,
    /// The endpoint could not be connected to when the worker looked at its start.
    EndpointAway,
    /// A room cannot be joined.
    Joins,
    /// Journals are not written.
    Journal,
    /// LiveKit refuses our credentials.
    Keys,
    /// Some records are only in memory.
    Memory,
    /// The next ordinals of rooms are not written.
    Ordinals,
    /// Records are not sealed.
    Outbox,
    /// The worker cannot register.
    Registration,
    /// Rooms cannot be listed.
    Rooms,
    /// The data folder's disk is full.
    Space,
    /// Sealed records cannot be read.
    Unreadable,
}

impl Topic {
    /// The name on the health page and in the log.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AgentName => "agent_name",
            Self::Attempts => "attempts",
            Self::Backlog => "backlog",
            Self::Calls => "calls",
            Self::Clock => "clock",
            Self::Descriptors => "descriptors",
            Self::Disk => "disk",
            Self::Endpoint => "endpoint",
            Self::EndpointAway => "endpoint_away",
            Self::Joins => "joins",
            Self::Journal => "journal",
            Self::Keys => "keys",
            Self::Memory => "memory",
            Self::Ordinals => "ordinals",
            Self::Outbox => "outbox",
            Self::Registration => "registration",
            Self::Rooms => "rooms",
            Self::Space => "space",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Cheap to clone; all clones share warnings and metrics.
#[derive(Clone, Debug, Default)]
pub struct Health {
    warnings: Arc<watch::Sender<BTreeMap<Topic, String>>>,
    metrics: Metrics,
}

impl Health {
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The topics of all warnings.
    pub fn topics(&self) -> Vec<&'static str> {
        self.warnings.borrow().keys().map(|topic| topic.as_str()).collect()
    }

    /// True if the topic had no warning before: then the caller logs it.
    pub fn warn(&self, topic: Topic, what: String) -> bool {
        self.warnings.send_if_modified(|w| w.insert(topic, what).is_none())
    }

    /// True if the topic had a warning: then the caller logs its end.
    pub fn clear(&self, topic: Topic) -> bool {
        self.warnings.send_if_modified(|w| w.remove(&topic).is_some())
    }

    /// All warnings in one text.
    pub fn warning(&self) -> Option<String> {
        let warnings = self.warnings.borrow();
        let all: Vec<String> =
            warnings.iter().map(|(t, what)| format!("{}: {what}", t.as_str())).collect();
        (!all.is_empty()).then(|| all.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_new_once_and_over_once() {
        let h = Health::default();
        assert_eq!(h.warning(), None);
        assert!(
            h.warn(Topic::Journal, "full".into()) && !h.warn(Topic::Journal, "still full".into())
        );
        assert!(h.warn(Topic::Backlog, "long".into()));
        assert_eq!(h.warning().as_deref(), Some("backlog: long; journal: still full"));
        assert!(h.clear(Topic::Journal) && !h.clear(Topic::Journal));
        assert_eq!(h.clone().warning().as_deref(), Some("backlog: long"));
    }
}
