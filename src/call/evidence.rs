//! Who spoke when. There are several signals for each side; the best one that a call has is used
//! for that side, alone (CS §6.4). All times here are on our line of time.

use super::{
    event::{AgentState, By, Moment, UserState},
    feed::AgentView,
    parties::{Part, Parties, Party, Side},
    speech::Segment,
};

/// A stretch of speech.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Interval {
    pub(crate) start: Moment,
    pub(crate) end: Moment,
}

impl Interval {
    pub(crate) fn overlaps(&self, start: Moment, end: Moment) -> bool {
        self.start < end && self.end > start
    }
}

/// Which signal told, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    /// States in the agent's session feed.
    Feed,
    /// Times of the conversation's items, asked for at the end.
    Items,
    /// The attribute `lk.agent.state`.
    State,
    /// Active-speaker events.
    Speakers,
    /// Transcripts: late by the speech recognition's delay.
    Transcripts,
    /// Nothing was seen of this side.
    None,
}

/// One side's speech.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) tier: Tier,
    /// In order, not overlapping.
    pub(crate) intervals: Vec<Interval>,
}

pub(crate) fn agent(
    parties: &Parties,
    view: &AgentView,
    segments: &[Segment],
    until: Moment,
) -> Heard {
    let speaking = |s: &AgentState| *s == AgentState::Speaking;
    if view.agent_states.iter().any(|(_, s)| speaking(s)) {
        let marks = view.agent_states.iter().map(|(t, s)| (*t, speaking(s)));
        let mut all = spans(marks, until);
        all.extend(before(view, By::Agent, view.agent_states.first().map(|(t, _)| *t)));
        return heard(Tier::Feed, all);
    }
    let mut states: Vec<Interval> = vec![];
    for agent in parties.iter().filter(|p| parties.part(p) == Part::Agent) {
        let gone = agent.left.as_ref().map_or(until, |l| l.at);
        states.extend(spans(agent.states.iter().map(|(t, s)| (*t, speaking(s))), gone));
    }
    if !states.is_empty() {
        return heard(Tier::State, states);
    }
    if !segments.is_empty() {
        return heard(Tier::Transcripts, segments.iter().map(spoken).collect());
    }
    heard(Tier::Speakers, by_speakers(parties, Side::Agent, until))
}

pub(crate) fn user(
    parties: &Parties,
    view: &AgentView,
    segments: &[Segment],
    until: Moment,
) -> Heard {
    let speaking = |s: &UserState| *s == UserState::Speaking;
    if view.user_states.iter().any(|(_, s)| speaking(s)) {
        let marks = view.user_states.iter().map(|(t, s)| (*t, speaking(s)));
        let mut all = spans(marks, until);
        all.extend(before(view, By::User, view.user_states.first().map(|(t, _)| *t)));
        return heard(Tier::Feed, all);
    }
    let items: Vec<Interval> = (view.items.iter())
        .filter(|i| i.by == By::User)
        .filter_map(|i| Some(Interval { start: i.started_at?, end: i.stopped_at? }))
        .collect();
    // The last turn often has no times; one missing does not spoil the tier.
    if !items.is_empty()
        && items.len() + 1 >= view.items.iter().filter(|i| i.by == By::User).count()
    {
        return heard(Tier::Items, items);
    }
    let speakers = by_speakers(parties, Side::User, until);
    if !speakers.is_empty() {
        return heard(Tier::Speakers, speakers);
    }
    heard(Tier::Transcripts, segments.iter().map(spoken).collect())
}

/// What was said before the feed's states began for us (a late join): told by the items of the
/// history, on the same clock.
fn before(view: &AgentView, by: By, states_since: Option<Moment>) -> Vec<Interval> {
    let Some(since) = states_since else { return vec![] };
    let of = view.items.iter().filter(|i| i.by == by);
    of.filter_map(|i| Some(Interval { start: i.started_at?, end: i.stopped_at? }))
        .filter(|i| i.start < i.end && i.end < since)
        .collect()
}

fn heard(tier: Tier, mut intervals: Vec<Interval>) -> Heard {
    intervals.sort_by_key(|i| (i.start, i.end));
    let mut merged: Vec<Interval> = vec![];
    for i in intervals {
        match merged.last_mut() {
            Some(last) if i.start <= last.end => last.end = last.end.max(i.end),
            _ => merged.push(i),
        }
    }
    let tier = if merged.is_empty() { Tier::None } else { tier };
    Heard { tier, intervals: merged }
}

/// A segment's stretch: from its first text to its end, or its last text if it has none.
fn spoken(s: &Segment) -> Interval {
    Interval { start: s.first_at, end: s.closed_at.unwrap_or(s.last_at).max(s.first_at) }
}

fn by_speakers(parties: &Parties, side: Side, until: Moment) -> Vec<Interval> {
    let of = |p: &&Party| parties.side(&p.identity) == Some(side);
    parties.iter().filter(of).flat_map(|p| spans(p.speaking.iter().copied(), until)).collect()
}

/// Stretches between "on" and "off" marks; one still on lasts until `until`.
fn spans(marks: impl Iterator<Item = (Moment, bool)>, until: Moment) -> Vec<Interval> {
    let mut out = vec![];
    let mut since: Option<Moment> = None;
    for (at, on) in marks {
        match (on, since) {
            (true, None) => since = Some(at),
            (false, Some(start)) => {
                out.push(Interval { start, end: at.max(start) });
                since = None;
            }
            _ => {}
        }
    }
    if let Some(start) = since.filter(|s| *s < until) {
        out.push(Interval { start, end: until });
    }
    out
}
