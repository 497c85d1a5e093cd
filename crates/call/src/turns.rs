//! Utterances: what each side said in one go, with its times and words (docs/contract.md §4.4).
//!
//! The agent's own items of the conversation come first. Transcripts fill what the items do not
//! cover: we or the agent joined late, or the room ended before the last item.

use std::collections::BTreeMap;

use record::{Tier, WordSource};

use super::{
    event::{By, Components, Moment},
    evidence::VoiceActivity,
    feed::{AgentView, FeedItem},
    interval::{Interval, Latest},
    keyed::Typed,
    rtvi::Turn,
    speech::Segment,
};

/// Segments of one side closer than this, with no speech of the other side between them, are one
/// utterance. This is LiveKit's longest endpointing delay.
const JOIN_WITHIN_MS: i64 = 3_000;
/// Speech without any words counts from this length on, and only if its side was never transcribed. What a
/// speech-to-speech model took for a turn counts at any length.
const MIN_WORDLESS_MS: i64 = 500;
/// A segment that ends this long before the first item belongs to no item. (An agent's first item
/// may have only the time of its report, and some reports are late.)
const BEFORE_ITEMS_MS: i64 = 3_000;
/// A turn that ended this long before the next item began is not part of that item.
const BEFORE_ITEM_MS: i64 = 1_500;
/// The report of a typed turn comes at most this long after its text.
const TYPED_WITHIN_MS: i64 = 3_000;
/// A speech-to-speech model gives the words of a turn and its item at the same time, on two channels.
const TOGETHER_MS: i64 = 500;
/// A turn of RTVI and the interval of its sound begin and end at most this far apart.
const SAME_TURN_MS: i64 = 700;

#[derive(Clone, Debug, Default)]
pub struct Utterance {
    /// The participant that spoke or typed, where it is known.
    pub who: Option<String>,
    /// It was typed, so it has no length.
    pub typed: bool,
    /// When it was spoken; `None` if no signal shows it.
    pub spoken: Option<Interval>,
    pub words: u32,
    /// Only where a transcript is asked for.
    pub text: Option<Box<str>>,
    /// The agent reported that it was cut off.
    pub interrupted: bool,
    /// The response time that the agent measured, in seconds.
    pub e2e_latency: Option<f64>,
    pub components: Components,
    /// By our clock: when it was reported.
    pub known_at: Moment,
    /// By our clock: where it belongs in the conversation if `spoken` is not known.
    pub placed_at: Moment,
}

impl Utterance {
    /// When it began, as well as that is known.
    pub fn began(&self) -> Moment {
        self.spoken.map_or(self.placed_at, |i| i.start)
    }
}

/// What the observer has of one side, cut to the time of the call.
pub(crate) struct SideInput<'a> {
    pub view: &'a AgentView,
    pub segments: &'a [Segment],
    pub rtvi: &'a [&'a Turn],
    /// Of callers only.
    pub typed: &'a [Typed],
    /// There are words of this side, if perhaps not of this call.
    pub transcribed: bool,
    pub user: &'a VoiceActivity,
    pub agent: &'a VoiceActivity,
    /// The end of the call.
    pub until: Moment,
}

/// What the callers said.
pub(crate) fn user(side: &SideInput) -> (Vec<Utterance>, WordSource) {
    let SideInput { view, segments, user, agent, .. } = *side;
    let items: Vec<&FeedItem> = view.items.iter().filter(|i| i.by == By::User).collect();
    let mut out: Vec<Utterance> = vec![];
    let mut before = Moment::MIN;
    let covered = Covered::of_user(view, &items, segments, agent);
    out.extend(utterances_of_caller(segments.iter().filter(|s| covered.is_before(s)), user, agent));
    for item in &items {
        if let Some(typed) = as_typed(item, side.typed) {
            out.push(Utterance { known_at: item.arrived, ..Utterance::from_typed(typed) });
            continue;
        }
        let spoken = match user.tier {
            Tier::Items if item.stopped_at.is_some() => of_item(user, item),
            _ => {
                let until = item.created_at.unwrap_or(item.arrived);
                let chain = last_chain(user, agent, before, until);
                // The caller may go on before the item is made: that is the next turn. Some agents report
                // the end of an earlier noise.
                chain.map(|chain| match item.stopped_at {
                    Some(stopped) => last_chain(user, agent, chain.start, stopped).unwrap_or(chain),
                    None => chain,
                })
            }
        };
        before = spoken.map_or(before, |s| s.end);
        out.push(Utterance { spoken, ..Utterance::from_item(item) });
    }
    let between = segments.iter().filter(|s| covered.is_left_out(s, &items));
    out.extend(utterances_of_caller(between, user, agent));
    // Segments after the last item have no item of their own: the room ended before it was
    // reported.
    out.extend(utterances_of_caller(segments.iter().filter(|s| covered.is_after(s)), user, agent));
    let mut words = words_from(&items, &out);
    if let Some(last) = items.iter().map(|i| i.arrived).max() {
        out.extend(last_turn_of_model(side, last, &out));
    }
    if out.is_empty() {
        (out, words) = of_rtvi(side, user, Turn::of_user);
    }
    if out.is_empty() && !side.transcribed {
        // What a model of the agent took for a turn needs no second proof.
        let model = user.tier == Tier::Feed && view.hears_by_itself();
        (out, words) = by_sound(user, agent, if model { 0 } else { MIN_WORDLESS_MS });
    }
    // If there is a feed, typed words come as items too.
    if items.is_empty() {
        out.extend(side.typed.iter().map(Utterance::from_typed));
        if words == WordSource::None && !out.is_empty() {
            words = WordSource::Typed;
        }
    }
    (out, words)
}

/// What the agent said.
pub(crate) fn agent(side: &SideInput) -> (Vec<Utterance>, WordSource) {
    let SideInput { view, segments, user, agent, .. } = *side;
    let items: Vec<&FeedItem> = view.items.iter().filter(|i| i.by == By::Agent).collect();
    let covered = Covered::of_agent(view, &items);
    let mut out = utterances_of_agent(segments.iter().filter(|s| covered.is_before(s)), agent);
    for item in &items {
        let start = item.started_at.or(item.created_at).unwrap_or(item.arrived);
        let who = view.sessions.get(item.session).map(|s| s.identity.clone());
        let u = Utterance {
            who,
            spoken: at_or_before(agent, start, item.arrived),
            ..Utterance::from_item(item)
        };
        // An interrupted item may hold the whole text although only the beginning was spoken.
        let streamed = matching(segments, item).filter(|s| item.interrupted && s.words > 0);
        out.push(match streamed {
            Some(s) if s.words < u.words => {
                Utterance { words: s.words, text: s.text.clone().or(u.text.clone()), ..u }
            }
            _ => u,
        });
    }
    out.extend(utterances_of_agent(segments.iter().filter(|s| covered.is_after(s)), agent));
    let words = words_from(&items, &out);
    if !out.is_empty() {
        return (out, words);
    }
    match of_rtvi(side, agent, Turn::of_bot) {
        (out, words) if !out.is_empty() => (out, words),
        _ if side.transcribed => (out, words),
        _ => by_sound(agent, user, MIN_WORDLESS_MS),
    }
}

/// What the caller said after the last item, where the agent's model hears the caller itself: it gives no words of a
/// turn in which the caller hangs up.
fn last_turn_of_model(side: &SideInput, last: Moment, known: &[Utterance]) -> Option<Utterance> {
    let SideInput { view, user, .. } = *side;
    if user.tier != Tier::Feed || !view.hears_by_itself() {
        return None;
    }
    let spoken = *user.from(last).last()?;
    let is_known = known.iter().filter_map(|u| u.spoken).any(|s| s.end > spoken.start);
    (spoken.ms() >= MIN_WORDLESS_MS && !is_known).then(|| Utterance {
        spoken: Some(spoken),
        known_at: spoken.end,
        placed_at: spoken.start,
        ..Utterance::default()
    })
}

/// The turns that a Pipecat bot reported, if any of them has words.
fn of_rtvi(
    side: &SideInput,
    activity: &VoiceActivity,
    spoken: impl Fn(&Turn, Moment) -> Interval,
) -> (Vec<Utterance>, WordSource) {
    if side.rtvi.iter().all(|t| t.words == 0 && !t.cut) {
        return (vec![], WordSource::None);
    }
    let utterance = |turn: &&Turn| {
        let reported = spoken(turn, side.until);
        let (from, to) = (reported.start.plus(-SAME_TURN_MS), reported.end.plus(SAME_TURN_MS));
        let heard = activity.before(to).iter().rev().take_while(|i| i.end > from);
        let heard = heard
            .copied()
            .reduce(|a, b| Interval { start: a.start.min(b.start), end: a.end.max(b.end) });
        Utterance {
            who: turn.by.clone(),
            spoken: Some(heard.unwrap_or(reported)),
            words: turn.words,
            text: turn.text.clone(),
            interrupted: turn.cut,
            known_at: turn.known_at,
            placed_at: reported.start,
            ..Utterance::default()
        }
    };
    (side.rtvi.iter().map(utterance).collect(), WordSource::Rtvi)
}

/// Utterances from sound alone, for a side without any words: chains of intervals with short pauses and
/// no speech of the other side between them.
fn by_sound(
    activity: &VoiceActivity,
    other: &VoiceActivity,
    least_ms: i64,
) -> (Vec<Utterance>, WordSource) {
    let mut chains: Vec<Interval> = vec![];
    for i in &activity.intervals {
        match chains.last_mut() {
            Some(last) if joins(other, last.end, i.start) => last.end = i.end,
            _ => chains.push(*i),
        }
    }
    let long = |i: &Interval| i.ms() >= least_ms;
    let out: Vec<Utterance> = (chains.into_iter().filter(long))
        .map(|i| Utterance {
            spoken: Some(i),
            known_at: i.end,
            placed_at: i.start,
            ..Utterance::default()
        })
        .collect();
    let words = if out.is_empty() { WordSource::None } else { WordSource::Sound };
    (out, words)
}

/// The typed text that an item reports: the item of a typed turn has no times of speech.
fn as_typed<'a>(item: &FeedItem, typed: &'a [Typed]) -> Option<&'a Typed> {
    if item.started_at.is_some() || item.stopped_at.is_some() {
        return None;
    }
    let sent = |t: &&Typed| {
        t.words == item.words && (0..=TYPED_WITHIN_MS).contains(&item.arrived.since(t.at))
    };
    typed.iter().rev().find(sent)
}

fn words_from(items: &[&FeedItem], out: &[Utterance]) -> WordSource {
    match (items.is_empty(), out.is_empty()) {
        (false, _) => WordSource::Items,
        (true, false) => WordSource::Transcripts,
        (true, true) => WordSource::None,
    }
}

/// The part of the call that the agents' items cover.
struct Covered<'a> {
    /// The beginning of this part, some time before the first item; `None` without items.
    since: Option<Moment>,
    /// The words of each session's own agent are covered until its last item.
    agents: BTreeMap<&'a str, Option<Moment>>,
    /// The words of all other participants are covered until the last item of this side.
    until: Option<Moment>,
    /// When each item arrived, and its number of words; by time.
    reports: Vec<(Moment, u32)>,
    /// When the items arrived, in their order.
    arrived: Latest,
}

impl<'a> Covered<'a> {
    fn by(view: &'a AgentView, items: &[&FeedItem], since: Option<Moment>) -> Self {
        let mut agents: BTreeMap<&str, Option<Moment>> =
            view.sessions.iter().map(|s| (s.identity.as_str(), None)).collect();
        for i in items {
            let session = view.sessions.get(i.session).map(|s| s.identity.as_str());
            if let Some(until) = session.and_then(|s| agents.get_mut(s)) {
                *until = (*until).max(Some(i.arrived));
            }
        }
        let mut reports: Vec<_> = items.iter().map(|i| (i.arrived, i.words)).collect();
        reports.sort_unstable();
        let arrived = Latest::of(items.iter().map(|i| i.arrived));
        Self { since, agents, until: items.iter().map(|i| i.arrived).max(), reports, arrived }
    }

    fn of_agent(view: &'a AgentView, items: &[&FeedItem]) -> Self {
        let since = view.items.iter().map(|i| i.order().min(i.arrived)).min();
        Self::by(view, items, since.map(|t| t.plus(-BEFORE_ITEMS_MS)))
    }

    fn of_user(
        view: &'a AgentView,
        items: &[&FeedItem],
        segments: &[Segment],
        agent: &VoiceActivity,
    ) -> Self {
        let first = view.items.iter().min_by_key(|i| i.order().min(i.arrived));
        let since = first.map(|i| match i.started_at {
            // A caller's item without a time is the last turn that was transcribed before its
            // report.
            None if i.by == By::User => chain_before(segments, agent, i.arrived),
            _ => i.order().min(i.arrived).plus(-BEFORE_ITEMS_MS),
        });
        Self::by(view, items, since)
    }

    fn is_before(&self, s: &Segment) -> bool {
        self.since.is_some_and(|since| s.end() < since)
    }

    /// After the covered part. If this side has no items, all segments that are not before the
    /// covered part count as after it.
    fn is_after(&self, s: &Segment) -> bool {
        let until = self.agents.get(s.identity.as_str()).copied().unwrap_or(self.until);
        !self.is_before(s)
            && until.is_none_or(|until| s.first_at > until)
            && !self.has_item_of_same_moment(s)
    }

    /// Whether an item with as many words came together with the segment, a little before or after it.
    fn has_item_of_same_moment(&self, s: &Segment) -> bool {
        let from = self.reports.partition_point(|(at, _)| *at < s.first_at.plus(-TOGETHER_MS));
        (self.reports[from..].iter())
            .take_while(|(arrived, _)| *arrived <= s.first_at.plus(TOGETHER_MS))
            .any(|(_, words)| *words == s.words)
    }

    /// Within the covered part, but in no item: a hand-off between agents can leave a turn out. Only
    /// an item that says when it began shows that.
    fn is_left_out(&self, s: &Segment, items: &[&FeedItem]) -> bool {
        if self.is_before(s) || self.is_after(s) || self.has_item_of_same_moment(s) {
            return false;
        }
        // The last report of a segment may come after its item.
        let next = self.arrived.first_from(s.first_at).and_then(|place| items.get(place));
        let began = next.and_then(|i| i.started_at);
        began.is_some_and(|began| began.since(s.end()) > BEFORE_ITEM_MS)
    }
}

/// When the caller's last chain of segments began, as far as it was known at `by`.
fn chain_before(segments: &[Segment], agent: &VoiceActivity, by: Moment) -> Moment {
    let known = segments.partition_point(|s| s.first_at <= by);
    let mut began = by;
    for s in segments[..known].iter().rev() {
        if began != by && !joins(agent, s.end(), began) {
            break;
        }
        began = s.first_at;
    }
    began
}

impl Utterance {
    fn from_item(item: &FeedItem) -> Self {
        Self {
            words: item.words,
            text: item.text.clone(),
            interrupted: item.interrupted,
            e2e_latency: item.e2e_latency,
            components: item.components,
            known_at: item.arrived,
            placed_at: item.order(),
            ..Self::default()
        }
    }

    /// A typed turn ends when it is sent.
    fn from_typed(t: &Typed) -> Self {
        Self {
            who: Some(t.by.clone()),
            typed: true,
            spoken: Some(Interval { start: t.at, end: t.at }),
            words: t.words,
            text: t.text.clone(),
            known_at: t.at,
            placed_at: t.at,
            ..Self::default()
        }
    }

    fn from_segment(s: &Segment, activity: &VoiceActivity) -> Self {
        Self {
            who: Some(s.who.clone()).filter(|who| !who.is_empty()),
            spoken: at_or_before(activity, s.first_at, s.end()),
            words: s.words,
            text: s.text.clone(),
            known_at: s.end(),
            placed_at: s.first_at,
            ..Self::default()
        }
    }

    fn append(&mut self, words: u32, text: Option<&str>) {
        self.words = self.words.saturating_add(words);
        if let (Some(mine), Some(more)) = (&self.text, text) {
            self.text = Some(format!("{mine} {more}").into());
        }
    }
}

/// The agent's segments as utterances. Segments in one interval of speech are one utterance; a
/// paused utterance goes on in its segment.
fn utterances_of_agent<'a>(
    segments: impl Iterator<Item = &'a Segment>,
    agent: &VoiceActivity,
) -> Vec<Utterance> {
    let mut out: Vec<Utterance> = vec![];
    let each = matches!(agent.tier, Tier::Transcripts | Tier::None);
    for s in segments {
        let u = Utterance::from_segment(s, agent);
        match out.last_mut() {
            Some(last) if !each && u.spoken.is_some() && last.spoken == u.spoken => {
                last.append(u.words, u.text.as_deref());
                last.known_at = u.known_at;
            }
            _ => out.push(u),
        }
    }
    out
}

/// The interval of speech at `from`, or else the next one up to `to`, or else the last one before.
fn at_or_before(activity: &VoiceActivity, from: Moment, to: Moment) -> Option<Interval> {
    let begun = activity.before(from.plus(1));
    let running = begun.last().filter(|i| i.end > from);
    let next = activity.from(from.plus(1)).first().filter(|i| i.start <= to);
    running.or(next).or(begun.last()).copied()
}

/// The interval of speech that belongs to the item.
fn of_item(user: &VoiceActivity, item: &FeedItem) -> Option<Interval> {
    let end = item.stopped_at?;
    // The item's end is reliable. The interval ends before it, because the signal's delay was
    // subtracted.
    user.before(end).last().copied()
}

/// The streamed text of an item: the segment whose beginning is closest to that of the item.
fn matching<'a>(segments: &'a [Segment], item: &FeedItem) -> Option<&'a Segment> {
    const NEAR_MS: i64 = 1_500;
    let start = item.started_at.or(item.created_at)?;
    let from = segments.partition_point(|s| s.first_at < start.plus(-NEAR_MS));
    (segments[from..].iter())
        .take_while(|s| s.first_at <= start.plus(NEAR_MS))
        .min_by_key(|s| s.first_at.since(start).unsigned_abs())
}

/// The caller's last chain of speech that began before `until`: intervals with short pauses and no
/// agent speech between them. Noise before them belongs to another chain.
fn last_chain(
    user: &VoiceActivity,
    agent: &VoiceActivity,
    after: Moment,
    until: Moment,
) -> Option<Interval> {
    let mut chain: Option<Interval> = None;
    for i in user.before(until).iter().rev().take_while(|i| i.start >= after) {
        match &mut chain {
            None => chain = Some(*i),
            Some(c) if joins(agent, i.end, c.start) => c.start = i.start,
            Some(_) => break,
        }
    }
    chain
}

fn joins(agent: &VoiceActivity, end: Moment, start: Moment) -> bool {
    start.since(end) <= JOIN_WITHIN_MS && !agent.any_between(end, start)
}

/// The callers' segments as utterances: consecutive segments of one caller that [`joins`] connects are
/// one utterance.
fn utterances_of_caller<'a>(
    segments: impl Iterator<Item = &'a Segment>,
    user: &VoiceActivity,
    agent: &VoiceActivity,
) -> Vec<Utterance> {
    let mut out: Vec<Utterance> = vec![];
    let mut last_end: Option<Moment> = None;
    for s in segments {
        let next = Utterance::from_segment(s, user);
        let end = s.end();
        match (last_end, out.last_mut()) {
            (Some(e), Some(u)) if u.who == next.who && joins(agent, e, s.first_at) => {
                u.append(next.words, next.text.as_deref());
                u.known_at = end;
                if let (Some(i), Some(n)) = (&mut u.spoken, next.spoken) {
                    i.end = i.end.max(n.end);
                }
            }
            _ => out.push(next),
        }
        last_end = Some(end);
    }
    out
}
