//! The stage timeline, in time order. A repeat of the current stage adds nothing.

use record::{Moment, Stage};

/// Stages kept per call.
pub(crate) const MAX_STAGES: usize = 256;

#[derive(Clone, Debug, Default)]
pub(crate) struct Stages(Vec<(Moment, String)>);

/// The result of entering a published stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    New,
    /// The stage is the current stage already.
    Unchanged,
    /// The call has too many stages already.
    Refused,
}

impl Stages {
    pub(crate) fn enter(&mut self, stage: String, at: Moment) -> Entered {
        // An agent may publish a stage on two channels, or twice: it is entered once.
        if self.0.last().is_some_and(|(_, s)| *s == stage) {
            return Entered::Unchanged;
        }
        if self.0.len() >= MAX_STAGES {
            return Entered::Refused;
        }
        self.0.push((at, stage));
        Entered::New
    }

    pub(crate) fn count(&self) -> usize {
        self.0.len()
    }

    /// In the order of entering.
    pub(crate) fn nth(&self, place: usize) -> Option<(&str, Moment)> {
        self.0.get(place).map(|(at, stage)| (stage.as_str(), *at))
    }

    pub(crate) fn timeline(&self) -> Vec<Stage> {
        let mut sorted: Vec<_> = self.0.iter().collect();
        sorted.sort_by_key(|(at, _)| *at);
        sorted.dedup_by(|b, a| a.1 == b.1);
        sorted
            .into_iter()
            .map(|(at, stage)| Stage { stage: stage.clone(), timestamp: at.to_rfc3339() })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(s: &Stages) -> Vec<String> {
        s.timeline().into_iter().map(|s| s.stage).collect()
    }

    #[test]
    fn the_timeline_is_in_time_order_without_repeats() {
        let mut s = Stages::default();
        let t = Moment::from_millis;
        for (stage, at) in [("greeting", 10), ("greeting", 20), ("order", 40), ("menu", 30)] {
            assert_ne!(s.enter(stage.into(), t(at)), Entered::Refused);
        }
        assert_eq!(names(&s), ["greeting", "menu", "order"]);
        let again = s.enter("greeting".into(), t(50));
        assert_eq!(again, Entered::New, "a stage may come again later");
        assert_eq!(names(&s), ["greeting", "menu", "order", "greeting"]);
        assert_eq!(s.timeline()[0].timestamp, "1970-01-01T00:00:00.010Z");
    }

    #[test]
    fn stages_are_bounded() {
        let mut s = Stages::default();
        for i in 0..MAX_STAGES {
            assert_eq!(s.enter(i.to_string(), Moment::from_millis(0)), Entered::New);
        }
        assert_eq!(s.enter("one more".into(), Moment::from_millis(0)), Entered::Refused);
        assert_eq!(s.timeline().len(), MAX_STAGES);
    }
}
