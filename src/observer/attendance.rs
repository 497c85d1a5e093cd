//! Who is in the room, who has left, and who only seems to have left.
//!
//! On a full restart of our own connection the SDK reports every participant as gone *before* it
//! reports that it reconnects. A participant that joins again under a new sid is reported as gone in
//! the same moment (docs/signals.md §10.5). The server has not confirmed such leaves, so they are held
//! back until it is clear that the participant does not appear again.

use std::collections::{BTreeMap, BTreeSet};

use call::{Fact, Moment, event::LeaveReason};

/// The server announces participants without a track in batches, every 3 s. So each participant that is
/// still in the room is announced within this time after a reconnect.
const SETTLED_AFTER_MS: i64 = 4_000;

#[derive(Debug, Default)]
pub(super) struct Attendance {
    /// Identities in the room, as the call knows them.
    here: BTreeSet<String>,
    /// Participants that seem to have left: since when, and their last attributes.
    missing: BTreeMap<String, (Moment, BTreeMap<String, String>)>,
    /// The SDK reconnects: until it is done, no leave is settled.
    reconnecting: bool,
    /// No leave is settled before this time.
    not_before: Option<Moment>,
}

impl Attendance {
    /// Starts with the participants that an earlier run saw in the room.
    pub(super) fn resume(&mut self, here: impl IntoIterator<Item = String>) {
        self.here = here.into_iter().collect();
    }

    /// Follows confirmed joins and leaves.
    pub(super) fn note(&mut self, fact: &Fact) {
        match fact {
            Fact::Joined(j) => {
                self.missing.remove(&j.identity);
                self.here.insert(j.identity.clone());
            }
            Fact::Left { identity, .. } => {
                self.here.remove(identity);
            }
            _ => {}
        }
    }

    /// We have joined again and see the participants `there`: all others left while we were away.
    pub(super) fn rejoined(&mut self, there: &[String], lost_at: Moment, now: Moment) {
        let gone: Vec<String> = self.here.iter().filter(|i| !there.contains(i)).cloned().collect();
        for identity in gone {
            self.seems_gone(identity, BTreeMap::new(), lost_at);
        }
        self.reconnected(now);
    }

    /// A leave that the server has not confirmed.
    pub(super) fn seems_gone(
        &mut self,
        identity: String,
        attributes: BTreeMap<String, String>,
        at: Moment,
    ) {
        self.missing.entry(identity).or_insert((at, attributes));
    }

    pub(super) fn reconnecting(&mut self) {
        self.reconnecting = true;
    }

    pub(super) fn reconnected(&mut self, at: Moment) {
        self.reconnecting = false;
        self.not_before = Some(at.plus(SETTLED_AFTER_MS));
    }

    /// When the next leave can be settled.
    pub(super) fn due(&self) -> Option<Moment> {
        if self.reconnecting {
            return None;
        }
        let first = self.missing.values().map(|(at, _)| at.plus(SETTLED_AFTER_MS)).min()?;
        Some(self.not_before.map_or(first, |t| t.max(first)))
    }

    /// Leaves of those that did not come back, at the time they went missing. The reason is unknown.
    pub(super) fn settle(&mut self, now: Moment) -> Vec<Fact> {
        if self.due().is_none_or(|due| now < due) {
            return vec![];
        }
        let over = |at: Moment| now.since(at) >= SETTLED_AFTER_MS;
        let gone: Vec<String> = (self.missing.iter())
            .filter(|(_, (at, _))| over(*at))
            .map(|(identity, _)| identity.clone())
            .collect();
        gone.into_iter()
            .filter_map(|identity| {
                let (at, attributes) = self.missing.remove(&identity)?;
                let reason = LeaveReason::UnknownReason;
                Some(Fact::Left { identity, reason, attributes, since: Some(at) })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use call::event::{Joined, Kind};

    use super::*;

    fn t(ms: i64) -> Moment {
        Moment::from_millis(ms)
    }

    fn joins(identity: &str) -> Fact {
        Fact::Joined(Joined {
            identity: identity.into(),
            sid: "PA_1".into(),
            kind: Kind::Standard,
            name: String::new(),
            metadata: String::new(),
            attributes: BTreeMap::new(),
            joined_at: t(0),
            permissions: None,
        })
    }

    #[test]
    fn a_participant_missing_after_a_rejoin_left_while_we_were_away() {
        let mut p = Attendance::default();
        p.note(&joins("stays"));
        p.note(&joins("goes"));
        p.rejoined(&["stays".into()], t(1_000), t(9_000));
        let gone = p.settle(t(13_000));
        assert!(matches!(&gone[..], [Fact::Left { identity, since, .. }]
            if *since == Some(t(1_000)) && identity == "goes"));
    }

    #[test]
    fn a_participant_that_reappears_has_not_left() {
        let mut p = Attendance::default();
        p.seems_gone("caller".into(), BTreeMap::new(), t(0));
        p.note(&joins("caller"));
        assert_eq!(p.due(), None);
        assert!(p.settle(t(60_000)).is_empty());
    }

    #[test]
    fn no_leave_is_settled_during_a_reconnect() {
        let mut p = Attendance::default();
        p.seems_gone("caller".into(), BTreeMap::new(), t(1_000));
        p.reconnecting();
        assert!(p.settle(t(30_000)).is_empty());
        p.reconnected(t(31_000));
        assert_eq!(p.due(), Some(t(35_000)));
        assert!(p.settle(t(34_999)).is_empty());
        let gone = p.settle(t(35_000));
        assert!(matches!(&gone[..], [Fact::Left { identity, since, .. }]
            if *since == Some(t(1_000)) && identity == "caller"));
    }

    #[test]
    fn an_unconfirmed_leave_counts_after_four_seconds() {
        let mut p = Attendance::default();
        p.seems_gone("caller".into(), BTreeMap::new(), t(1_000));
        assert_eq!(p.due(), Some(t(5_000)));
        assert_eq!(p.settle(t(5_000)).len(), 1);
    }
}
