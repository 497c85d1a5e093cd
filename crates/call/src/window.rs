//! Cuts the observations to the time between the start and the end of the call. The dial tone
//! before the answer does not belong to the call, nor does what an agent says after the caller has
//! gone.

use record::Tier;

use super::{
    ending::LAST_WORDS_MS,
    event::{By, Moment},
    evidence::VoiceActivity,
    feed::{AgentView, FeedItem},
    interval::Interval,
    roles::Side,
    rtvi::Turn,
    speech::Segment,
};

/// The agent's times are converted to our clock by an estimate; this much error is allowed.
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

    pub(crate) fn turns<'a>(&self, mut all: Vec<&'a Turn>) -> Vec<&'a Turn> {
        all.retain(|t| t.known_at > self.start && t.start < self.end);
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

    /// Keeps the state that held at the start, and the changes from there to the end.
    fn trim_states<T>(&self, all: &mut Vec<(Moment, T)>) {
        all.truncate(all.partition_point(|(t, _)| *t < self.end));
        let before = all.partition_point(|(t, _)| *t <= self.start);
        all.drain(..before.saturating_sub(1));
    }

    fn contains(&self, item: &FeedItem) -> bool {
        let over = item.stopped_at.or(item.created_at).unwrap_or(item.arrived);
        let began = match item.by {
            // A caller does not speak after the leave, so an item without a start was said before
            // it.
            By::User => item.started_at,
            By::Agent => Some(item.started_at.or(item.created_at).unwrap_or(item.arrived)),
        };
        let late = match item.by {
            By::User => ESTIMATE_MS,
            // Without a start, the item's time is that of its end or of its report, which are
            // later.
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
