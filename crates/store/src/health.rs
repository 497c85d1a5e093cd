//! What is worth a warning but does not stop the work, by topic. The health page shows it.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;

/// What can be wrong. Each has one owner in the code, who warns of it and clears it; so no two may
/// share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Topic {
    /// Another program of our agent name.
    AgentName,
    /// Notes of attempts are not written.
    Attempts,
    /// Many records wait.
    Backlog,
    /// No place for more calls.
    Calls,
    /// This machine's clock and LiveKit's differ.
    Clock,
    /// File descriptors run out.
    Descriptors,
    /// The disk does not answer.
    Disk,
    /// The endpoint does not take records.
    Endpoint,
    /// Journals are not written.
    Journal,
    /// LiveKit refuses our credentials.
    Keys,
    /// Records are only in memory.
    Memory,
    /// What is remembered of rooms is not written.
    Ordinals,
    /// Records are not sealed, or cannot be read.
    Outbox,
    /// Rooms cannot be listed.
    Rooms,
    /// Sealed records cannot be read.
    Unreadable,
}

impl Topic {
    /// As the health page and the log name it.
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
            Self::Journal => "journal",
            Self::Keys => "keys",
            Self::Memory => "memory",
            Self::Ordinals => "ordinals",
            Self::Outbox => "outbox",
            Self::Rooms => "rooms",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Cheap to clone; all clones tell the same.
#[derive(Clone, Debug, Default)]
pub struct Health {
    warnings: Arc<watch::Sender<BTreeMap<Topic, String>>>,
}

impl Health {
    /// True if it is new: then it is worth a line in the log.
    pub fn warn(&self, topic: Topic, what: String) -> bool {
        self.warnings.send_if_modified(|w| w.insert(topic, what).is_none())
    }

    /// True if it was warned of: then its end is worth a line.
    pub fn clear(&self, topic: Topic) -> bool {
        self.warnings.send_if_modified(|w| w.remove(&topic).is_some())
    }

    /// All that is warned of, in one text.
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
