//! Only what lies between start and end belongs to the call: not the dial tone before the answer,
//! nor what an agent goes on saying to somebody who has vanished.

use record::Tier;

use super::{
    event::{By, Moment},
    evidence::{Interval, VoiceActivity},
    feed::{AgentView, FeedItem},
    parties::Side,
    speech::Segment,
};

/// A caller's last words are transcribed up to this long after he has left.
const LAST_WORDS_MS: i64 = 2_500;
/// Agent's times are placed on our line by an estimate; this much of error is allowed for.
const ESTIMATE_MS: i64 = 500;

pub(crate) struct Window {
    pub start: Moment,
    pub end: Moment,
}

impl Window {
    pub(crate) fn segments(&self, side: Side, mut all: Vec<Segment>) -> Vec<Segment> {
        let latest = match side {
            Side::User => self.end.plus(LAST_WORDS_MS),
            Side::Agent => self.end,
        };
        all.retain(|s| s.closed_at.unwrap_or(s.last_at) > self.start && s.first_at <= latest);
        all
    }

    pub(crate) fn view(&self, view: &AgentView) -> AgentView {
        let mut view = view.clone();
        view.items.retain(|i| self.contains(i));
        for s in &mut view.sessions {
            self.trim_states(&mut s.agent_states);
            self.trim_states(&mut s.user_states);
        }
        view
    }

    /// What held at the start, and the changes from there to the end.
    fn trim_states<T>(&self, all: &mut Vec<(Moment, T)>) {
        all.truncate(all.partition_point(|(t, _)| *t < self.end));
        let before = all.partition_point(|(t, _)| *t <= self.start);
        all.drain(..before.saturating_sub(1));
    }

    fn contains(&self, item: &FeedItem) -> bool {
        let over = item.stopped_at.or(item.created_at).unwrap_or(item.arrived);
        let began = match item.by {
            // What arrives after the leave was said before it.
            By::User => item.started_at,
            By::Agent => Some(item.started_at.or(item.created_at).unwrap_or(item.arrived)),
        };
        let late = match item.by {
            By::User => ESTIMATE_MS,
            // Without a start its time is that of its end, or of its report.
            By::Agent if item.started_at.is_none() => LAST_WORDS_MS,
            By::Agent => ESTIMATE_MS,
        };
        over >= self.start.plus(-ESTIMATE_MS) && began.is_none_or(|t| t <= self.end.plus(late))
    }

    pub(crate) fn activity(&self, activity: VoiceActivity) -> VoiceActivity {
        let inside = activity.intervals.into_iter().filter_map(|i| {
            let cut = Interval { start: i.start.max(self.start), end: i.end.min(self.end) };
            (cut.start < cut.end).then_some(cut)
        });
        let intervals: Vec<Interval> = inside.collect();
        let tier = if intervals.is_empty() { Tier::None } else { activity.tier };
        VoiceActivity { tier, intervals }
    }
}
