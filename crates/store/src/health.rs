//! What is worth a warning but does not stop the work, by topic. The health page shows it.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::watch;

/// Cheap to clone; all clones tell the same.
#[derive(Clone, Debug, Default)]
pub struct Health {
    warnings: Arc<watch::Sender<BTreeMap<&'static str, String>>>,
}

impl Health {
    /// True if it is new: then it is worth a line in the log.
    pub fn warn(&self, topic: &'static str, what: String) -> bool {
        self.warnings.send_if_modified(|w| w.insert(topic, what).is_none())
    }

    /// True if it was warned of: then its end is worth a line.
    pub fn clear(&self, topic: &'static str) -> bool {
        self.warnings.send_if_modified(|w| w.remove(topic).is_some())
    }

    /// All that is warned of, in one text.
    pub fn warning(&self) -> Option<String> {
        let warnings = self.warnings.borrow();
        let all: Vec<String> = warnings.iter().map(|(t, what)| format!("{t}: {what}")).collect();
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
        assert!(h.warn("journal", "full".into()) && !h.warn("journal", "still full".into()));
        assert!(h.warn("backlog", "long".into()));
        assert_eq!(h.warning().as_deref(), Some("backlog: long; journal: still full"));
        assert!(h.clear("journal") && !h.clear("journal"));
        assert_eq!(h.clone().warning().as_deref(), Some("backlog: long"));
    }
}
